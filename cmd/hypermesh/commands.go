package main

import "github.com/urfave/cli/v2"

// commands lists the commands in the order in which help shows them.
func commands() []*cli.Command {
	return []*cli.Command{
		benchCommand(),
		devnetCommand(),
		genesisCommand(),
		jobCommand(),
		nodeCommand(),
		walletCommand(),
	}
}
