//go:build !wasip1

// Command iris trains the small classifier that the zk kernel mlp-8 runs: four
// measurements of a flower in, its species out.
//
// It reads Fisher's measurements of 150 irises, trains on the rows that are not
// every third, says how many of the others it gets right, and writes the model
// as the kernel takes it: whole numbers, line by line.
//
//	go run ./sdk/examples/iris sdk/examples/iris/iris.csv model.csv
//
// iris.csv is Table I of R. A. Fisher, "The use of multiple measurements in
// taxonomic problems", Annals of Eugenics 7 (1936) 179–188, measured by
// E. Anderson: facts, in the public domain. A sample for the kernel is a row's
// four numbers times ten, as whole millimetres.
//
// The first line of the model is its salt. Here it is zero, for everybody may
// know this model; one that is to stay secret needs 64 random hexadecimal
// digits below the order of the BN254 scalar field.
//
// Exit codes: 0 when the model is written, 1 when a file cannot be read or
// written, 2 when the data (or arguments) are wrong. Reasons go to stderr.
package main

import (
	"errors"
	"fmt"
	"os"
)

const (
	exitFile  = 1
	exitUsage = 2
)

func main() {
	if len(os.Args) != 3 {
		fail(exitUsage, errors.New("want DATA and MODEL"))
	}
	data, err := os.ReadFile(os.Args[1])
	if err != nil {
		fail(exitFile, err)
	}
	flowers, err := parse(data)
	if err != nil {
		fail(exitUsage, fmt.Errorf("%s: %w", os.Args[1], err))
	}
	learn, hold := split(flowers)
	m := quantize(train(learn))
	fmt.Printf("%d of %d right in training, %d of %d others\n", m.right(learn), len(learn), m.right(hold), len(hold))
	if err := os.WriteFile(os.Args[2], m.text(), 0o644); err != nil {
		fail(exitFile, err)
	}
}

func fail(code int, err error) {
	fmt.Fprintln(os.Stderr, "iris:", err)
	os.Exit(code)
}
