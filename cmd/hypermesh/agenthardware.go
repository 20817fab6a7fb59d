package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/nexus/agent"
)

func agentHardwareCommand() *cli.Command {
	return &cli.Command{
		Name: "hardware", Usage: "do what a challenge of this machine's hardware asks for, and say what it could declare",
		Description: "Takes the cores and the memory that config.toml sells, or that are named, for as long as a challenge may: some seconds, or a minute for\n" +
			"much memory. Run it while the agent has nothing to do. The exit code is 1 if less shows up than was asked for.\n" +
			"Example: hypermesh agent hardware --millicores 8000 --memory 16384",
		Flags: []cli.Flag{
			agentHomeFlag(), jsonFlag(),
			&cli.Uint64Flag{Name: "millicores", Usage: "`N` thousandths of a core to show; left out: millicores of config.toml"},
			&cli.Uint64Flag{Name: "memory", Usage: "`MIB` of memory to fill, all together; left out: memory_mib of config.toml"},
		},
		Action: agentHardware,
	}
}

func agentHardware(c *cli.Context) error {
	config, err := agentConfig(c)
	if err != nil {
		return err
	}
	genesis, err := node.ReadGenesisFile(config.GenesisPath())
	if err != nil {
		return err
	}
	millicores, memory := config.Millicores, config.MemoryMiB
	if c.IsSet("millicores") {
		millicores = c.Uint64("millicores")
	}
	if c.IsSet("memory") {
		memory = c.Uint64("memory")
	}
	got, err := agent.Benchmark(c.Context, &genesis.Params, millicores, memory)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		err = printJSON(c, got)
	} else {
		w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
		fmt.Fprintf(w, "asked for\t%d cores at a time, each with %s\n", got.Lanes, agent.BytesText(got.LaneBytes))
		fmt.Fprintf(w, "shown\t%d within %d ms, of %d that may be taken; there was memory for %d\n", got.InTime, got.SlowestMs, got.LimitMs, got.Fitting)
		fmt.Fprintf(w, "declare\t%d millicores and %d MiB, at most\n", got.Millicores, got.MemoryMiB)
		err = w.Flush()
	}
	if err == nil && got.InTime < got.Lanes {
		err = fmt.Errorf("%d of %d cores showed up: whoever declares as much is cut to that, and loses a part of its bond", got.InTime, got.Lanes)
	}
	return err
}
