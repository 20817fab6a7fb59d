package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/devnet"
	"github.com/hypermesh/hypermesh/internal/node"
)

func genesisCommand() *cli.Command {
	file := &cli.StringFlag{Name: "genesis", Usage: "genesis `FILE`", Value: node.GenesisFile}
	holder := func(name, what string) cli.Flag {
		return &cli.StringFlag{Name: name, Usage: "`ADDRESS` that holds the " + what, Required: true}
	}
	return &cli.Command{
		Name:  "genesis",
		Usage: "make and check the first state of a chain",
		Subcommands: []*cli.Command{
			{
				Name:        "init",
				Usage:       "write a genesis with its distribution and no validators yet",
				Description: "Example: hypermesh genesis init --chain-id hypermesh-1 --community hyper1… --team hyper1… --foundation hyper1… --validators hyper1… --sale hyper1…",
				Flags: []cli.Flag{
					file, &cli.StringFlag{Name: "chain-id", Usage: "`NAME` of the chain", Required: true},
					holder("community", "community's 40 %"), holder("team", "team's 20 %, vesting"), holder("foundation", "foundation's 25 %"),
					holder("validators", "validators' 10 %, from which stakes are taken"), holder("sale", "public sale's 5 %"),
					&cli.BoolFlag{Name: "devnet", Usage: "a throw-away chain: short delays, a faucet may run"},
					&cli.StringSliceFlag{Name: "insecure-kernel", Usage: "make proving keys of a zk `KERNEL` here (devnet only), such as matmul-32"},
					&cli.StringSliceFlag{Name: "ceremony", Usage: "verify the sealed ceremony in `DIR` and pin its kernel's keys; may be given several times"},
					&cli.StringFlag{Name: "keys", Usage: "`DIR` of proving keys", Value: devnet.DefaultKeysDir()},
					&cli.DurationFlag{Name: "hardware-every", Usage: "`TIME` from one challenge of nodes' hardware to the next, on average; 0: there are none"},
					&cli.DurationFlag{Name: "claim-window", Usage: "`TIME` after an order's deadline in which its claims are taken, below the withdrawal delay; 0: six hours, half an hour on a devnet"},
				},
				Action: genesisInit,
			},
			{
				Name:        "add-validator",
				Usage:       "add a member of the first committee",
				Description: "Example: hypermesh genesis add-validator --name north --consensus-key 5a… --node-key 91… --owner hyper1… --stake 25000000 --endpoint 203.0.113.7:7100",
				Flags: []cli.Flag{
					file, &cli.StringFlag{Name: "name", Required: true, Usage: "`NAME` for people"},
					&cli.StringFlag{Name: "consensus-key", Required: true, Usage: "`KEY` that votes"},
					&cli.StringFlag{Name: "node-key", Required: true, Usage: "`KEY` of the node's transport"},
					&cli.StringFlag{Name: "owner", Required: true, Usage: "`ADDRESS` that receives tips"},
					&cli.Uint64Flag{Name: "stake", Required: true, Usage: "stake in whole `HYPER`"},
					&cli.StringFlag{Name: "endpoint", Required: true, Usage: "advertised `HOST:PORT` of the transport, or NODEID@HOST:PORT of a sentry"},
				},
				Action: genesisAddValidator,
			},
			{
				Name:        "check",
				Usage:       "recompute the distribution and explain it",
				Description: "Example: hypermesh genesis check --genesis genesis.json",
				Flags:       []cli.Flag{file, jsonFlag()},
				Action:      genesisCheck,
			},
		},
	}
}

func genesisInit(c *cli.Context) error {
	var to chain.Holders
	for name, field := range map[string]*chain.Address{
		"community": &to.Community, "team": &to.Team, "foundation": &to.Foundation, "validators": &to.Validators, "sale": &to.Sale,
	} {
		address, err := chain.ParseAddress(c.String(name))
		if err != nil {
			return usagef(c, "--%s: %v", name, err)
		}
		*field = address
	}
	params := chain.DefaultParams()
	if c.Bool("devnet") {
		params = devnet.Params(devnet.DefaultEpoch)
	}
	params.HardwareEveryMs = uint64(c.Duration("hardware-every").Milliseconds())
	if err := params.Check(); err != nil {
		return usagef(c, "--hardware-every: %v", err)
	}
	if window := c.Duration("claim-window"); window != 0 {
		params.ClaimWindowMs = uint64(max(window.Milliseconds(), 0))
		if err := params.Check(); err != nil || window < time.Second {
			return usagef(c, "--claim-window is %v, want 1s or more, below the withdrawal delay of %v", window, time.Duration(params.WithdrawalDelayMs)*time.Millisecond)
		}
	}
	g := chain.NewGenesis(chain.ChainID(c.String("chain-id")), chain.TimeMs(time.Now().UnixMilli()), params, to)
	g.Devnet = c.Bool("devnet")
	if err := g.ChainID.Check(); err != nil {
		return usagef(c, "--chain-id: %v", err)
	}
	home, progress := filepath.Dir(c.String("genesis")), devnet.PlainProgress(c.App.ErrWriter)
	if _, err := devnet.AddCeremonies(g, home, "", c.StringSlice("ceremony"), progress); err != nil {
		return err
	}
	if kernels := c.StringSlice("insecure-kernel"); len(kernels) > 0 {
		if !g.Devnet {
			return usagef(c, "--insecure-kernel needs --devnet: other chains take their keys from a ceremony")
		}
		if err := devnet.AddKernels(g, home, c.String("keys"), kernels, progress); err != nil {
			return err
		}
	}
	return writeGenesis(c.String("genesis"), g, os.O_EXCL)
}

// writeGenesis writes the file, whole or not at all.
func writeGenesis(path string, g *chain.Genesis, flag int) error {
	data, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		return err
	}
	if flag == os.O_EXCL {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err != nil {
			return fmt.Errorf("writing genesis: %w", err)
		}
		_, err = f.Write(append(data, '\n'))
		return errors.Join(err, f.Close())
	}
	temporary := path + ".new"
	if err := os.WriteFile(temporary, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing genesis: %w", err)
	}
	return os.Rename(temporary, path)
}

// readDraft reads a genesis that may still lack validators.
func readDraft(path string) (*chain.Genesis, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading genesis: %w", err)
	}
	var g chain.Genesis
	if err := json.Unmarshal(data, &g); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &g, nil
}

func genesisAddValidator(c *cli.Context) error {
	g, err := readDraft(c.String("genesis"))
	if err != nil {
		return err
	}
	v := chain.GenesisValidator{Name: c.String("name"), Endpoint: c.String("endpoint")}
	if v.ConsensusKey, err = crypto.ParsePublicKey(c.String("consensus-key")); err != nil {
		return usagef(c, "--consensus-key: %v", err)
	}
	if v.NodeKey, err = crypto.ParsePublicKey(c.String("node-key")); err != nil {
		return usagef(c, "--node-key: %v", err)
	}
	if v.Owner, err = chain.ParseAddress(c.String("owner")); err != nil {
		return usagef(c, "--owner: %v", err)
	}
	if c.Uint64("stake") > chain.TotalSupply.Nano()/chain.NanoPerHyper {
		return usagef(c, "--stake: %d HYPER is above the total supply", c.Uint64("stake"))
	}
	v.Stake = chain.Hyper(c.Uint64("stake"))
	if err := g.AddValidator(v); err != nil {
		return err
	}
	return writeGenesis(c.String("genesis"), g, 0)
}

func genesisCheck(c *cli.Context) error {
	g, err := node.ReadGenesisFile(c.String("genesis"))
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c, map[string]any{"chain_id": g.ChainID, "digest": g.Digest(), "validators": len(g.Validators), "distribution": g.Explain()})
	}
	fmt.Fprintf(c.App.Writer, "chain       %s\ngenesis     %s\nvalidators  %d\n\n", g.ChainID, g.Digest(), len(g.Validators))
	w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "bucket\tshare\tamount\taccounts\t")
	for _, line := range g.Explain() {
		fmt.Fprintf(w, "%s\t%d %%\t%s\t%d\t\n", line.Bucket, line.Percent, line.Got, line.Accounts)
	}
	fmt.Fprintf(w, "total\t100 %%\t%s\t\t\n", chain.TotalSupply)
	return w.Flush()
}
