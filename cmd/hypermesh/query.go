package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/sdk"
)

func queryCommand() *cli.Command {
	rpc := &cli.StringSliceFlag{Name: "rpc", Value: cli.NewStringSlice("http://127.0.0.1:7180"), Usage: "`URL` of a node", EnvVars: []string{"HYPERMESH_RPC"}}
	return &cli.Command{
		Name:  "query",
		Usage: "ask a node",
		Subcommands: []*cli.Command{
			{
				Name: "supply", Usage: "HYPER minted, burned, and where the rest is",
				Description: "With --verify the node recomputes every sum from its whole state and compares.\nExample: hypermesh query supply --verify --json",
				Flags:       []cli.Flag{rpc, configFlag(), &cli.BoolFlag{Name: "verify", Usage: "recompute from the state, and fail if a sum differs"}, jsonFlag()},
				Action:      querySupply,
			},
			{
				Name: "account", Usage: "an account's balance and nonce", ArgsUsage: "ADDRESS",
				Description: "Example: hypermesh query account hyper1… --config net.json",
				Flags:       []cli.Flag{rpc, configFlag(), jsonFlag()},
				Action:      queryAccount,
			},
			queryReputationCommand(rpc),
			queryCheckpointCommand(rpc),
		},
	}
}

// queryClient asks the nodes of --rpc, those that a description lists, or one on
// this machine.
func queryClient(c *cli.Context) (*sdk.Client, error) {
	client, _, err := queryVerifying(c)
	return client, err
}

// queryVerifying is queryClient that verifies from --genesis, if that is given.
func queryVerifying(c *cli.Context) (client *sdk.Client, verifies bool, err error) {
	config := sdk.Config{Nodes: c.StringSlice("rpc")}
	if path := c.String("config"); path != "" && !c.IsSet("rpc") {
		d, err := readDescription(path)
		if err != nil {
			return nil, false, err
		}
		config.Nodes = d.RPC
	}
	if path := c.String("genesis"); path != "" {
		if config.Genesis, err = node.ReadGenesisFile(path); err != nil {
			return nil, false, err
		}
	}
	client, err = sdk.New(config)
	return client, config.Genesis != nil, err
}

func querySupply(c *cli.Context) error {
	client, err := queryClient(c)
	if err != nil {
		return err
	}
	s, err := client.Supply(c.Context, c.Bool("verify"))
	if err != nil {
		return err
	}
	if c.Bool("json") {
		if err := printJSON(c, s); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(c.App.Writer, "height    %d\nminted    %s\nburned    %s\ntotal     %s\n", s.Height, s.Minted, s.Burned, s.Total)
		if p := s.Parts; p != nil {
			fmt.Fprintf(c.App.Writer, "balances  %s\nescrow    %s\nbonds     %s\nstakes    %s\nunbonding %s\nrewards   %s\nmaturing  %s\ndeposits  %s\nsum       %s\n",
				p.Balances, p.Escrow, p.Bonds, p.Stakes, p.Unbonding, p.Rewards, p.Maturing, p.Deposits, p.Sum)
		}
	}
	if p := s.Parts; p != nil && p.Sum != s.Total {
		return errors.New("the state holds another sum than was minted and not burned")
	}
	return nil
}

func queryAccount(c *cli.Context) error {
	if c.NArg() != 1 {
		return usagef(c, "want one ADDRESS, got %d arguments", c.NArg())
	}
	address, err := chain.ParseAddress(c.Args().First())
	if err != nil {
		return usagef(c, "ADDRESS: %v", err)
	}
	client, err := queryClient(c)
	if err != nil {
		return err
	}
	a, err := client.Account(c.Context, address)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c, a)
	}
	fmt.Fprintf(c.App.Writer, "address    %s\nbalance    %s\nspendable  %s\nnonce      %d\nheight     %d\n", a.Address, a.Balance, a.Spendable, a.Nonce, a.Height)
	return nil
}
