package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/devnet"
)

func devnetCommand() *cli.Command {
	return &cli.Command{
		Name:  "devnet",
		Usage: "a local network of real processes",
		Subcommands: []*cli.Command{{
			Name:  "up",
			Usage: "start the network and keep it running until Ctrl-C",
			Description: "Starts validators, Nexus servers, agents, a relay and an explorer, each a process of its own, with ten funded accounts and a faucet.\n" +
				"State survives a stop and a start.\n\nExample: hypermesh devnet up --validators 4 --config-out net.json",
			Flags: []cli.Flag{
				&cli.IntFlag{Name: "validators", Value: 4, Usage: "`N` validators (1 to 32)"},
				&cli.IntFlag{Name: "servers", Value: 3, Usage: "`N` Nexus servers (0, 1, 3 or 5)"},
				&cli.IntFlag{Name: "agents", Value: 3, Usage: "`N` provider agents (0 to 64)"},
				&cli.StringSliceFlag{Name: "kernel", Usage: "zk `KERNEL` that agents prove beside matmul-32; may be given several times; a network that is there keeps its own"},
				&cli.StringSliceFlag{Name: "ceremony", Usage: "`DIR` of a sealed ceremony whose kernel there is, in place of matmul-32; may be given several times; a network that is there keeps its own"},
				&cli.DurationFlag{Name: "epoch", Value: devnet.DefaultEpoch, Usage: "`DURATION` of an epoch, after which the committee may change (1s to 24h); a network that is there keeps its own"},
				&cli.DurationFlag{Name: "hardware-every", Usage: "`DURATION` from one challenge of nodes' hardware to the next, on average; 0: there are none; a network that is there keeps its own"},
				&cli.DurationFlag{Name: "claim-window", Usage: "`DURATION` after an order's deadline in which its claims are taken (1s to 59m, half an hour by default); a network that is there keeps its own"},
				&cli.StringFlag{Name: "dir", Value: defaultDevnetDir(), Usage: "`DIR` of the network's state"},
				&cli.StringFlag{Name: "keys", Value: devnet.DefaultKeysDir(), Usage: "`DIR` of proving keys, made once"},
				&cli.StringFlag{Name: "config-out", Usage: "write the network's description (JSON) to `FILE` once everything is healthy"},
				&cli.BoolFlag{Name: "reset", Usage: "throw away the network in the directory first"},
				&cli.BoolFlag{Name: "no-restart", Usage: "leave a process that died dead"},
				&cli.BoolFlag{Name: "no-explorer", Usage: "do without the explorer"},
				&cli.StringFlag{Name: "log-level", Value: "warn", Usage: "of the supervisor: debug, info, warn or error"},
			},
			Action: devnetUp,
		}},
	}
}

func defaultDevnetDir() string {
	home, err := os.UserHomeDir()
	if err != nil {
		home = os.TempDir()
	}
	return filepath.Join(home, ".hypermesh", "devnet")
}

// devnetOptions reads the options that devnet up and demo share.
func devnetOptions(c *cli.Context) (devnet.Options, error) {
	binary, err := os.Executable()
	if err != nil {
		return devnet.Options{}, fmt.Errorf("finding this program: %w", err)
	}
	agents := c.Int("agents")
	if c.Int("servers") == 0 && !c.IsSet("agents") {
		agents = 0 // agents need a cluster
	}
	return devnet.Options{
		Dir: c.String("dir"), KeysDir: c.String("keys"), Binary: binary, Validators: c.Int("validators"), Servers: c.Int("servers"),
		Agents: agents, Kernels: c.StringSlice("kernel"), Ceremonies: c.StringSlice("ceremony"), Epoch: c.Duration("epoch"), HardwareEvery: c.Duration("hardware-every"), ClaimWindow: c.Duration("claim-window"), NoExplorer: c.Bool("no-explorer"), NoRestart: c.Bool("no-restart"), Progress: devnet.PlainProgress(c.App.ErrWriter),
	}, nil
}

func devnetUp(c *cli.Context) error {
	log, err := newLogger(c, c.String("log-level"))
	if err != nil {
		return err
	}
	options, err := devnetOptions(c)
	if err != nil {
		return err
	}
	if err := options.Check(); err != nil {
		return usagef(c, "%v", err)
	}
	if c.Bool("reset") {
		if err := devnet.Reset(options.Dir); err != nil {
			return err
		}
	}
	network, err := devnet.Up(c.Context, options, log)
	if err != nil {
		return err
	}
	if out := c.String("config-out"); out != "" {
		if err := network.WriteTo(out, log); err != nil {
			return err
		}
	}
	printNetwork(c, network.Description())
	<-c.Context.Done()
	fmt.Fprintln(c.App.ErrWriter, "stopping …")
	return network.Down()
}

// printNetwork shows a person what is there.
func printNetwork(c *cli.Context, d devnet.Description) {
	w := c.App.Writer
	fmt.Fprintf(w, "\n  chain     %s\n", d.ChainID)
	for _, url := range d.RPC {
		fmt.Fprintf(w, "  node      %s\n", url)
	}
	for _, url := range d.Nexus {
		fmt.Fprintf(w, "  nexus     %s\n", url)
	}
	if d.Explorer != "" {
		fmt.Fprintf(w, "  explorer  %s\n", d.Explorer)
	}
	fmt.Fprintf(w, "  faucet    POST %s\n\n  Accounts (their keys are worth nothing):\n\n", d.Faucet)
	for _, a := range d.Accounts {
		fmt.Fprintf(w, "  %-10s  %s  %s\n              private key %s\n", a.Name, a.Address, a.Balance, a.PrivateKey)
	}
	fmt.Fprintln(w, "\n  Ctrl-C stops the network; its state stays.")
}
