package main

import (
	"fmt"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/nexus/agent"
)

// agentDeclareCommand declares anew what a registered node has: more than before, or again what a
// challenge found missing.
func agentDeclareCommand() *cli.Command {
	return &cli.Command{
		Name: "declare", Usage: "declare on the chain what the node has now, as config.toml says",
		Description: "The node's owner signs and pays. Who declares more, also what a challenge found missing, is challenged soon after: the node has to\n" +
			"show it, or loses a part of its bond. Nothing is declared while a challenge is open.\n" +
			"Example: hypermesh agent declare --key-file owner.key --genesis genesis.json --rpc https://node.example:7180",
		Flags: append(append([]cli.Flag{agentHomeFlag()}, accountFlags()...), chainFlags()...),
		Action: func(c *cli.Context) error {
			if err := agentHomeThere(c); err != nil {
				return err
			}
			config := agent.DefaultConfig()
			config.Home = c.String("home")
			if err := readConfig(c, &config); err != nil {
				return fmt.Errorf("the agent's config: %w", err)
			}
			key, err := node.ReadKey(filepath.Join(config.Home, agent.NodeKeyFile))
			if err != nil {
				return err
			}
			return sendMessage(c, filepath.Join(config.Home, agent.GenesisFile), func(*sender) (chain.Msg, error) {
				return chain.DeclareHardware{Node: key.Public(), Millicores: config.Millicores, MemoryMiB: config.MemoryMiB}, nil
			})
		},
	}
}
