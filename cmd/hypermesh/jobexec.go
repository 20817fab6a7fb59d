package main

import (
	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk"
)

func jobExecCommand() *cli.Command {
	return &cli.Command{
		Name: "exec", Usage: "run a command in a job's container, with this terminal's input and output", ArgsUsage: "JOB -- COMMAND [ARGS]",
		Description: "The command runs within the container's limits, beside what the job runs. Standard input is handed on until it ends, both outputs come back, and\n" +
			"the exit code is the command's; 1 also says that there is none, with a message. Ctrl-C kills the command, with all that it started, and not the job.\n" +
			"Only the job's consumer may do this, and the servers between see nothing of it. There is no terminal at the command's side.\n\n" +
			"Example: hypermesh job exec 5f3a… --config net.json -- /bin/ls -l /out\n" +
			"Example: hypermesh job exec 5f3a… --config net.json -- /bin/sh -c 'cat > /tmp/new' < new",
		Flags:  networkFlags(),
		Action: jobExec,
	}
}

func jobExec(c *cli.Context) error {
	if c.NArg() < 2 {
		return usagef(c, "want a JOB and a COMMAND, got %d arguments", c.NArg())
	}
	id, err := crypto.ParseDigest(c.Args().First())
	if err != nil {
		return usagef(c, "JOB: %v", err)
	}
	t, err := openTarget(c)
	if err != nil {
		return err
	}
	code, err := t.client.Exec(c.Context, sdk.Exec{
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
