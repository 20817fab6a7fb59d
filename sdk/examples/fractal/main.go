// Command fractal renders a piece of the Mandelbrot set to a PNG: an example of
// a program that HyperMesh runs.
//
// It reads the picture's description from /in/params.txt and writes
// /out/fractal.png. Nothing in it knows about HyperMesh; it is an ordinary Go
// program, compiled with GOOS=wasip1 GOARCH=wasm. On a desk it takes the two
// paths as arguments:
//
//	go run ./sdk/examples/fractal params.txt fractal.png
//
// Exit codes: 0 when the picture is written, 1 when a file cannot be read or
// written, 2 when the parameters (or arguments) are wrong. Reasons go to stderr.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"image/png"
	"io"
	"os"
)

const (
	exitFile  = 1
	exitUsage = 2
)

func main() {
	in, out := "/in/params.txt", "/out/fractal.png"
	switch len(os.Args) {
	case 1:
	case 3:
		in, out = os.Args[1], os.Args[2]
	default:
		fail(exitUsage, errors.New("want no arguments, or PARAMS and OUTPUT"))
	}
	text, err := readAtMost(in, maxParamBytes)
	if err != nil {
		fail(exitFile, err)
	}
	p, err := parse(text)
	if err != nil {
		fail(exitUsage, fmt.Errorf("%s: %w", in, err))
	}
	fmt.Printf("rendering %d×%d at (%v, %v), zoom %v, up to %d iterations\n",
		p.width, p.height, p.centerX, p.centerY, p.zoom, p.iterations)
	if err := write(p, out); err != nil {
		fail(exitFile, err)
	}
	fmt.Println("wrote", out)
}

func fail(code int, err error) {
	fmt.Fprintln(os.Stderr, "fractal:", err)
	os.Exit(code)
}

// readAtMost reads a file of at most limit bytes; of a longer one, one byte
// more, which parse refuses.
func readAtMost(path string, limit int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	return string(text), errors.Join(err, f.Close())
}

func write(p params, path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 64<<10)
	encoder := png.Encoder{CompressionLevel: png.BestSpeed}
	return errors.Join(encoder.Encode(w, render(p)), w.Flush(), f.Close())
}
