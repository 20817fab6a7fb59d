package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

func jobLogsCommand() *cli.Command {
	return &cli.Command{
		Name: "logs", Usage: "print what a job's programs write", ArgsUsage: "JOB",
		Description: "Standard output goes to standard output, standard error to standard error, each byte once. Servers keep the newest 512 KiB of a job; of what they do\n" +
			"not have any more, a message on standard error says how much it is. With --follow it goes on until the job has ended, also while servers\n" +
			"come and go; Ctrl-C ends the following and not the job.\n\n" +
			"Example: hypermesh job logs 5f3a… --config net.json --follow",
		Flags: []cli.Flag{
			requiredConfig(),
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on until the job has ended"},
		},
		Action: jobLogs,
	}
}

// requiredConfig is the network's description, for commands that need no account.
func requiredConfig() cli.Flag {
	config := configFlag()
	config.Required = true
	return config
}

func jobLogs(c *cli.Context) error {
	id, err := parseJobID(c)
	if err != nil {
		return err
	}
	t, err := openNetwork(c.String("config"))
	if err != nil {
		return err
	}
	for piece, err := range t.client.Logs(c.Context, id, c.Bool("follow")) {
		if c.Context.Err() != nil {
			return &exitCode{exitInterrupted}
		}
		if err != nil {
			return err
		}
		to, name := c.App.Writer, "standard output"
		if piece.Stderr {
			to, name = c.App.ErrWriter, "standard error"
		}
		if piece.Missed > 0 {
			fmt.Fprintf(c.App.ErrWriter, "hypermesh: %d bytes of %s of node %s are not kept any more\n", piece.Missed, name, piece.Node.Short())
		}
		if _, err := to.Write(piece.Data); err != nil {
			return fmt.Errorf("writing the log: %w", err)
		}
	}
	return nil
}
