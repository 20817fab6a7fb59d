package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk/api"
)

func queryReputationCommand(rpc cli.Flag) *cli.Command {
	return &cli.Command{
		Name: "reputation", Usage: "what settlements say of a node, or of an account", ArgsUsage: "ADDRESS|NODE",
		Description: "Scores go from 0 to 1; 0.5 is of whoever is not known. Facts count half after 32 days. With --genesis the facts are proven, and the scores made of them here;\n" +
			"which nodes and clusters an account has the node that is asked says.\nExample: hypermesh query reputation hyper1… --genesis genesis.json",
		Flags:  []cli.Flag{rpc, configFlag(), &cli.StringFlag{Name: "genesis", Usage: "genesis `FILE` to verify from"}, jsonFlag()},
		Action: queryReputation,
	}
}

func queryReputation(c *cli.Context) error {
	if c.NArg() != 1 {
		return usagef(c, "want one ADDRESS or NODE, got %d arguments", c.NArg())
	}
	of := c.Args().First()
	if _, err := crypto.ParsePublicKey(of); err != nil {
		if _, err := chain.ParseAddress(of); err != nil {
			return usagef(c, "%.100q is neither an address nor a node id", of)
		}
	}
	client, verified, err := queryVerifying(c)
	if err != nil {
		return err
	}
	ask := client.Reputation
	if verified {
		ask = client.VerifiedReputation
	}
	r, err := ask(c.Context, of)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c, r)
	}
	printReputation(c.App.Writer, &r)
	return nil
}

func printReputation(w io.Writer, r *api.Reputation) {
	fmt.Fprintf(w, "height     %d\n", r.Height)
	say := func(who string, f *api.Facts) {
		if f == nil {
			fmt.Fprintf(w, "%-10s nothing is known\n", who)
			return
		}
		fmt.Fprintf(w, "%-10s score %s: %s completed, %s failed, %s late, %s disputed, %s slashed; credit %s, debt %s\n", who, millionths(f.Score),
			millionths(f.Completed), millionths(f.Failed), millionths(f.Late), millionths(f.Disputed), millionths(f.Slashed), f.Credit, f.Debt)
	}
	say("provider", r.Provider)
	say("consumer", r.Consumer)
	for i := range r.Nodes {
		say("node "+r.Nodes[i].Node.Short(), &r.Nodes[i].Facts)
	}
	for i := range r.Clusters {
		say("at cluster "+r.Clusters[i].Cluster.Short(), &r.Clusters[i].Facts)
	}
	if r.More {
		fmt.Fprintln(w, "there are more nodes or clusters than these, and they are not counted")
	}
}

// millionths writes parts of a million with three digits after the point.
func millionths(n api.Uint64) string { return fmt.Sprintf("%d.%03d", n/1_000_000, n%1_000_000/1_000) }
