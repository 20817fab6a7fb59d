package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/nexus/agent"
)

// agentMeterCommand registers a node's metering key.
func agentMeterCommand() *cli.Command {
	return &cli.Command{
		Name: "meter", Usage: "make the node's metering key, and register it, so that a relay of its owner may settle privately",
		Description: "The agent signs the usage of its jobs with it from then on. The node's owner signs and pays. A key that was registered before is\n" +
			"replaced: what it signed and is not settled the agent signs anew. No two nodes may have one key.\n" +
			"Example: hypermesh agent meter --key-file owner.key --genesis genesis.json --rpc https://node.example:7180",
		Flags: append(append([]cli.Flag{agentHomeFlag()}, accountFlags()...), chainFlags()...),
		Action: func(c *cli.Context) error {
			home := c.String("home")
			if err := agentHomeThere(c); err != nil {
				return err
			}
			key, err := node.ReadKey(filepath.Join(home, agent.NodeKeyFile))
			if err != nil {
				return err
			}
			path := filepath.Join(home, agent.MeterKeyFile)
			if _, err := makeKey(path); err != nil { // a seed as any other
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return fmt.Errorf("reading the metering key: %w", err)
			}
			secret, err := zk.ParseMeterSecret(string(text))
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			return sendMessage(c, filepath.Join(home, agent.GenesisFile), func(s *sender) (chain.Msg, error) {
				sig := secret.Possess(string(s.genesis.ChainID), key.Public())
				return chain.RegisterMeter{Node: key.Public(), Key: chain.MeterKey(secret.Public()), Possession: chain.MeterProof{
					X: chain.FieldBytes(sig.X), Y: chain.FieldBytes(sig.Y), S: chain.FieldBytes(sig.S),
				}}, nil
			})
		},
	}
}
