package main

import "github.com/urfave/cli/v2"

// commands lists the commands in the order in which help shows them.
func commands() []*cli.Command {
	return []*cli.Command{
		demoCommand(),
		devnetCommand(),
		jobCommand(),
		blobCommand(),
		walletCommand(),
		leaseCommand(),
		channelCommand(),
		claimCommand(),
		stakeCommand(),
		contractCommand(),
		queryCommand(),
		auditCommand(),
		nodeCommand(),
		stateCommand(),
		nexusCommand(),
		agentCommand(),
		relayCommand(),
		explorerCommand(),
		genesisCommand(),
		zkCommand(),
		benchCommand(),
		compileCommand(),
	}
}
