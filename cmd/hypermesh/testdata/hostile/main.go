// Command hostile is a program that misbehaves as its first argument says. It
// is compiled to WASI and run as a job by the end-to-end tests.
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 2 {
		os.Exit(64)
	}
	switch os.Args[1] {
	case "loop":
		for n := 0; ; n++ {
			sink = byte(n)
		}
	case "memory":
		for {
			held = append(held, make([]byte, 1<<20))
			held[len(held)-1][0] = 1
		}
	case "output":
		f := must(os.Create("/out/endless"))
		for {
			must(f.Write(block[:]))
		}
	case "files":
		for n := 0; ; n++ {
			must(os.Create(fmt.Sprintf("/out/%d", n))).Close()
		}
	case "log":
		for {
			must(os.Stdout.Write(block[:]))
		}
	case "exit":
		must(0, os.WriteFile("/out/partial", []byte("what there was\n"), 0o644))
		os.Exit(3)
	case "input":
		must(os.ReadFile("/in/absent"))
	case "stack":
		fmt.Fprintln(os.Stderr, deep(1))
	case "fill":
		big := make([]byte, 64<<20)
		for range 64 {
			clear(big)
		}
		sink = big[len(big)-1]
	case "escape":
		escape()
	}
}

var (
	block [64 << 10]byte
	held  [][]byte
	sink  byte
)

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return value
}

func deep(n int) int {
	var frame [1 << 10]byte
	frame[n%len(frame)] = byte(n)
	return deep(n+1) + int(frame[n%len(frame)])
}

// escape tries every way out of the sandbox that a path offers, and fails if
// one is open.
func escape() {
	for _, path := range []string{"/etc/passwd", "/in/../../etc/passwd", "/out/../in/../../etc/passwd", "/proc/self/environ", "/"} {
		if data, err := os.ReadFile(path); err == nil {
			fmt.Fprintf(os.Stderr, "%s is readable: %d bytes\n", path, len(data))
			os.Exit(9)
		}
	}
	if os.Symlink("/etc/passwd", "/out/link") == nil || os.Link("/in", "/out/hard") == nil {
		os.Exit(10)
	}
	must(0, os.WriteFile("/out/kept", nil, 0o644))
}
