// Command hypersim runs seeded simulations: what the network's parts do when
// links, disks and validators fail, repeated exactly by a seed.
//
// Data goes to standard output, messages to standard error. The exit code is 0
// if the command did what was asked and found nothing wrong, 1 if it found
// something or failed, and 2 if it was asked wrongly.
//
// A simulation is one goroutine; the command runs as many side by side as there
// are processors, and what it reports does not depend on how many, but for the
// speed.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/urfave/cli/v2"
)

const (
	programName = "hypersim"
	exitFailed  = 1
	exitUsage   = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run runs one command line and returns its exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	err := newApp(stdout, stderr).RunContext(ctx, args)
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "%s: %v\n", programName, err)
	if wrong, ok := errors.AsType[*usageError](err); ok {
		fmt.Fprintf(stderr, "Try: %s %s--help\n", programName, wrong.command)
		return exitUsage
	}
	return exitFailed
}

// usageError says that a command was asked wrongly.
type usageError struct {
	command string // with a trailing space, or empty
	err     error
}

func (e *usageError) Error() string { return e.err.Error() }

func (e *usageError) Unwrap() error { return e.err }

// usagef returns the error of a command line that cannot be carried out.
func usagef(command, format string, args ...any) error {
	return &usageError{command: command, err: fmt.Errorf(format, args...)}
}

func newApp(stdout, stderr io.Writer) *cli.App {
	app := &cli.App{
		Name:                 programName,
		Usage:                "run seeded simulations of HyperMesh",
		Version:              version(),
		Writer:               stdout,
		ErrWriter:            stderr,
		EnableBashCompletion: true,
		Suggest:              true,
		ExitErrHandler:       func(*cli.Context, error) {}, // run prints and chooses the code
		OnUsageError:         func(_ *cli.Context, err error, _ bool) error { return usagef("", "%v", err) },
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usagef("", "%q is no command", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
		Commands: []*cli.Command{consensusCommand(), nexusCommand(), marketCommand()},
	}
	for _, command := range app.Commands {
		command.OnUsageError = func(c *cli.Context, err error, _ bool) error {
			return usagef(c.Command.Name+" ", "%v", err)
		}
	}
	return app
}

// version names the build, as the Go toolchain recorded it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "devel"
	}
	return info.Main.Version
}

// printJSON writes one indented JSON value.
func printJSON(c *cli.Context, v any) error {
	enc := json.NewEncoder(c.App.Writer)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
