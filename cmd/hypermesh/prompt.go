package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

// errInterrupted ends a question that Ctrl-C, or a supervisor's SIGTERM, came for.
var errInterrupted = errors.New("interrupted: nothing more was done, and the same command begins again where it was")

// errBrokenOff ends what a signal came for while a command waited for others.
var errBrokenOff = errors.New("interrupted")

// askTerminal waits for what a person types. Signals end the command's context and
// nothing else, so a read of the terminal would go on: it is left behind then, for
// the process to end with, and the terminal is made as it was.
func askTerminal(c *cli.Context, read func() (string, error)) (string, error) {
	before, err := term.GetState(int(os.Stdin.Fd()))
	if err != nil {
		return "", fmt.Errorf("the terminal: %w", err)
	}
	type reply struct {
		text string
		err  error
	}
	replies := make(chan reply, 1)
	go func() {
		text, err := read()
		replies <- reply{text, err}
	}()
	select {
	case r := <-replies:
		return r.text, r.err
	case <-c.Context.Done():
		fmt.Fprintln(c.App.ErrWriter)
		return "", errors.Join(errInterrupted, term.Restore(int(os.Stdin.Fd()), before))
	}
}
