package main

import (
	"os"
	"runtime"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/nexus/executor"
)

const compileName = "compile-module"

// compileCommand is what agents start for every module that they have not
// compiled yet, in order to be able to kill it.
func compileCommand() *cli.Command {
	return &cli.Command{
		Name: compileName, Hidden: true, Usage: "compile one module for an agent, from standard input to standard output",
		Description: "Example: hypermesh compile-module < request > answer",
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usagef(c, "want no arguments, got %d", c.NArg())
			}
			return executor.ServeCompiler(os.Stdin, c.App.Writer)
		},
	}
}

// compilerCommand starts this very program as a compiler, also after its file
// was replaced, and nothing if the system cannot say where it is.
func compilerCommand() []string {
	if runtime.GOOS == "linux" {
		return []string{"/proc/self/exe", compileName}
	}
	self, err := os.Executable()
	if err != nil {
		return nil
	}
	return []string{self, compileName}
}
