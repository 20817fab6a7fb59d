package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk"
)

func jobExecCommand() *cli.Command {
	return &cli.Command{
		Name: "exec", Usage: "run a command in a job's container, with this terminal's input and output", ArgsUsage: "JOB -- COMMAND [ARGS]",
		Description: "The command runs within the container's limits, beside what the job runs. Standard input is handed on until it ends, both outputs come back, and\n" +
			"the exit code is the command's; 1 also says that there is none, with a message. Ctrl-C kills the command, with all that it started, and not the job.\n" +
			"Only the job's consumer may do this, and the servers between see nothing of it.\n" +
			"With --tty the command has a terminal, of this one's size and type: Ctrl-C is typed into it then, like everything else. Without that, there is\n" +
			"none at the command's side.\n\n" +
			"Example: hypermesh job exec --tty 5f3a… --config net.json -- /bin/sh\n" +
			"Example: hypermesh job exec 5f3a… --config net.json -- /bin/ls -l /out\n" +
			"Example: hypermesh job exec 5f3a… --config net.json -- /bin/sh -c 'cat > /tmp/new' < new",
		Flags:  append(networkFlags(), &cli.BoolFlag{Name: "tty", Aliases: []string{"t"}, Usage: "run the command in a terminal, as this one; standard input and output have to be one"}),
		Action: jobExec,
	}
}

func jobExec(c *cli.Context) error {
	if c.NArg() < 2 {
		return usagef(c, "want a JOB and a COMMAND, got %d arguments", c.NArg())
	}
	id, err := crypto.ParseDigest(c.Args().First())
	if err != nil {
		return wrongJobID(c, err)
	}
	if err := terminalForExec(c); err != nil {
		return err
	}
	t, err := openTarget(c)
	if err != nil {
		return err
	}
	code, err := runExec(c, t.client, sdk.Exec{
		Job: id, ChainID: t.genesis.ChainID, Consumer: t.account, Command: c.Args().Tail(), Stdin: c.App.Reader, Stdout: c.App.Writer, Stderr: c.App.ErrWriter,
	})
	switch {
	case c.Context.Err() != nil:
		return &exitCode{exitInterrupted}
	case err != nil:
		return err
	case code != 0:
		return &exitCode{code}
	}
	return nil
}

// terminalForExec refuses --tty where there is no terminal.
func terminalForExec(c *cli.Context) error {
	if !c.Bool("tty") {
		return nil
	}
	for _, f := range []struct {
		name string
		file *os.File
	}{{"input", os.Stdin}, {"output", os.Stdout}} {
		if !term.IsTerminal(int(f.file.Fd())) {
			return usagef(c, "--tty: standard %s is no terminal; leave --tty out, and input and output are handed on as they are", f.name)
		}
	}
	return nil
}

// runExec runs a command, with --tty in a terminal as this one. The terminal is
// raw from when the node has answered until there is an end, whatever it is.
func runExec(c *cli.Context, client *sdk.Client, e sdk.Exec) (code int, err error) {
	if !c.Bool("tty") {
		return client.Exec(c.Context, e)
	}
	in, out := int(os.Stdin.Fd()), int(os.Stdout.Fd())
	columns, rows, err := term.GetSize(out)
	if err != nil {
		return 0, fmt.Errorf("the terminal's size: %w", err)
	}
	var before *term.State
	defer func() {
		if before != nil {
			err = errors.Join(err, term.Restore(in, before))
		}
	}()
	resized := make(chan [2]uint16, 1)
	e.Terminal = &sdk.ExecTerminal{
		Type: cmp.Or(os.Getenv("TERM"), "dumb"), Columns: side(columns), Rows: side(rows), Resized: resized,
		Begin: func() (err error) {
			if before, err = term.MakeRaw(in); err != nil {
				err = fmt.Errorf("the terminal: %w", err)
			}
			return err
		},
	}
	changes, ended := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(changes, unix.SIGWINCH)
	defer signal.Stop(changes)
	defer close(ended)
	go func() {
		for {
			select {
			case <-changes:
			case <-ended:
				return
			}
			columns, rows, err := term.GetSize(out)
			if err != nil {
				continue // it has gone, which the command's input tells
			}
			select {
			case resized <- [2]uint16{side(columns), side(rows)}:
			case <-ended:
				return
			}
		}
	}()
	return client.Exec(c.Context, e)
}

// side is one of a terminal's, which may say that it has none.
func side(n int) uint16 { return uint16(min(max(n, 1), 10_000)) }
