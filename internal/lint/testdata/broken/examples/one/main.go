// Command one is a program that imports what it may not.
package main

import (
	"example.org/broken/high"
	_ "example.org/broken/utils"
)

func main() { _ = high.Up }
