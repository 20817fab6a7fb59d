// Command tick writes the time, in milliseconds, a few times a second and for ever.
package main

import (
	"fmt"
	"time"
)

func main() {
	for ; ; time.Sleep(200 * time.Millisecond) {
		fmt.Println(time.Now().UnixMilli())
	}
}
