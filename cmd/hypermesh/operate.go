package main

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/internal/store"
)

// operateCommands look after the data of a node that does not run.
func operateCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name: "verify", Usage: "read everything that a stopped node has stored, and check it",
			Description: "Checks every file, recomputes the state's root and the supply, and follows the chain of blocks. Changes nothing; fails if\n" +
				"anything is wrong, naming the file, key or block.\nExample: hypermesh node verify --home /var/lib/hypermesh/node",
			Flags: []cli.Flag{homeFlag(), jsonFlag()}, Action: nodeVerify,
		},
		{
			Name: "stat", Usage: "what a stopped node's data takes, and what it keeps",
			Description: "Example: hypermesh node stat --home /var/lib/hypermesh/node",
			Flags:       []cli.Flag{homeFlag(), &cli.BoolFlag{Name: "live", Usage: "measure the latest state too, which reads all of it"}, jsonFlag()},
			Action:      nodeStat,
		},
		{
			Name: "prune", Usage: "delete what a stopped node need not keep of the past",
			Description: "Keeps what retention = \"pruned\" keeps.\nExample: hypermesh node prune --home /var/lib/hypermesh/node --keep-versions 1000",
			Flags:       append([]cli.Flag{homeFlag(), jsonFlag()}, configFlags("node", node.DefaultConfig(), "keep-versions")...),
			Action:      nodePrune,
		},
		{
			Name: "compact", Usage: "rewrite a stopped node's tables without what was deleted",
			Description: "Needs as much room again while it runs.\nExample: hypermesh node compact --home /var/lib/hypermesh/node",
			Flags:       []cli.Flag{homeFlag(), jsonFlag()}, Action: nodeCompact,
		},
	}
}

func nodeVerify(c *cli.Context) error {
	report, err := node.VerifyHome(c.Context, c.String("home"), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if c.Bool("json") {
		err = printJSON(c, report)
	} else {
		printVerify(c, &report)
	}
	if n := len(report.Faults); n > 0 {
		return errors.Join(err, fmt.Errorf("faults: %d, the first: %s", n, report.Faults[0]))
	}
	return err
}

func printVerify(c *cli.Context, r *node.VerifyReport) {
	w := c.App.Writer
	fmt.Fprintf(w, "files         %d, %d bytes\n", r.Files, r.Bytes)
	if !r.Closed {
		fmt.Fprintln(w, "              not closed in order, so there is no seal: that the end of the database's log is as it was written cannot be known. A crash cuts it off,\n"+
			"              and damage there looks the same: the node then lacks its last blocks, and fetches them again. Every table was checked")
	}
	if r.Height > 0 {
		fmt.Fprintf(w, "height        %d\nstate root    %s, of %d keys\n", r.Height, r.StateRoot, r.Keys)
	}
	if r.Supply != nil {
		fmt.Fprintf(w, "supply        %s, minted %s, burned %s\n", r.Supply.Total, r.Supply.Minted, r.Supply.Burned)
	}
	if r.First > 0 {
		fmt.Fprintf(w, "blocks        %d from %d on, the signatures of %d certificates\n", r.Blocks, r.First, r.Verified)
	}
	if r.Point > 0 {
		fmt.Fprintf(w, "point         the state before block %d, with which others may begin\n", r.Point)
	}
	for _, fault := range r.Faults {
		fmt.Fprintf(w, "fault         %s\n", fault)
	}
}

// withHome does something with the home of a node that does not run.
func withHome(c *cli.Context, readOnly bool, do func(*node.Home) error) error {
	h, err := node.OpenHome(c.String("home"), readOnly, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return errors.Join(do(h), h.Close())
}

// statResult is what node stat prints as JSON.
type statResult struct {
	Height     uint64            `json:"height"`
	StateRoot  string            `json:"state_root"`
	FirstBlock uint64            `json:"first_block"`
	Versions   uint64            `json:"first_version"`
	TreeMark   uint64            `json:"tree_version"`
	Disk       uint64            `json:"disk_bytes"`
	Log        uint64            `json:"log_bytes"`
	Debt       uint64            `json:"compaction_debt_bytes"`
	Live       uint64            `json:"live_state_bytes,omitempty"`
	Ratio      float64           `json:"disk_to_live,omitempty"` // of everything in the data directory
	Files      map[string]uint64 `json:"data_bytes"`             // by what is in the data directory
	All        uint64            `json:"all_data_bytes"`
	Tables     map[string]uint64 `json:"tables"`
}

func nodeStat(c *cli.Context) error {
	return withHome(c, true, func(h *node.Home) error {
		s, err := h.Store.Stat()
		if err != nil {
			return err
		}
		tip, _ := h.Store.Latest()
		out := statResult{
			Height: uint64(tip.Height), StateRoot: tip.StateRoot.String(), FirstBlock: uint64(s.FirstBlock), Versions: s.Pruned, TreeMark: s.TreeMark,
			Disk: s.DiskBytes, Log: s.LogBytes, Debt: s.Debt, Tables: s.Tables,
		}
		if out.Files, out.All, err = h.Disk(); err != nil {
			return err
		}
		if c.Bool("live") {
			if out.Live, err = h.Store.Live(c.Context); err != nil {
				return err
			}
			out.Ratio = float64(out.All) / float64(max(out.Live, 1))
		}
		if c.Bool("json") {
			return printJSON(c, out)
		}
		w := c.App.Writer
		fmt.Fprintf(w, "height             %d\nstate root         %s\nfirst block        %d\nfirst version      %d\n", out.Height, out.StateRoot, out.FirstBlock, out.Versions)
		fmt.Fprintf(w, "disk               %d bytes, of which %d are the log; %d are to be compacted\n", out.Disk, out.Log, out.Debt)
		fmt.Fprintf(w, "data directory     %d bytes\n", out.All)
		for _, name := range slices.Sorted(maps.Keys(out.Files)) {
			fmt.Fprintf(w, "  %-17s %d bytes\n", name, out.Files[name])
		}
		if out.Live > 0 {
			fmt.Fprintf(w, "live state         %d bytes; the data directory is %.2f times that\n", out.Live, out.Ratio)
		}
		fmt.Fprintln(w, "of the database's tables, about")
		for _, name := range slices.Sorted(maps.Keys(out.Tables)) {
			fmt.Fprintf(w, "  %-17s %d bytes\n", name, out.Tables[name])
		}
		return nil
	})
}

func nodePrune(c *cli.Context) error {
	config := node.DefaultConfig()
	if err := readConfig(c, &config); err != nil {
		return err
	}
	config.Retention = node.RetentionPruned
	return withHome(c, false, func(h *node.Home) error {
		options := config.Prune()
		options.NodesPerSecond = 0
		done, err := h.Store.Prune(c.Context, options)
		if err != nil {
			return err
		}
		return printPruned(c, done)
	})
}

func printPruned(c *cli.Context, done store.Pruned) error {
	if c.Bool("json") {
		return printJSON(c, struct {
			Versions uint64 `json:"versions"`
			Nodes    uint64 `json:"nodes"`
			Blocks   uint64 `json:"blocks"`
		}{done.Versions, done.Nodes, done.Blocks})
	}
	fmt.Fprintf(c.App.Writer, "deleted %d nodes of %d versions, and %d blocks\n", done.Nodes, done.Versions, done.Blocks)
	return nil
}

func nodeCompact(c *cli.Context) error {
	before, err := diskBytes(c)
	if err != nil {
		return err
	}
	if err := withHome(c, false, func(h *node.Home) error { return h.Store.Compact(c.Context) }); err != nil {
		return err
	}
	after, err := diskBytes(c)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c, map[string]uint64{"disk_bytes_before": before, "disk_bytes": after})
	}
	fmt.Fprintf(c.App.Writer, "%d bytes, before %d\n", after, before)
	return nil
}

// diskBytes returns what the database of a node that does not run takes: only
// once it is closed are the files gone that a compaction replaced.
func diskBytes(c *cli.Context) (n uint64, err error) {
	err = withHome(c, true, func(h *node.Home) error {
		s, err := h.Store.Stat()
		n = s.DiskBytes
		return err
	})
	return n, err
}
