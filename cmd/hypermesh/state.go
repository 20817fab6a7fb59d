package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/statesync"
)

func stateCommand() *cli.Command {
	height := &cli.Uint64Flag{Name: "height", Usage: "the block after which the state is"}
	return &cli.Command{
		Name: "state", Usage: "carry a stopped node's state in a file, and compare states",
		Subcommands: []*cli.Command{
			{
				Name: "export", Usage: "write a state with its proofs to a file", ArgsUsage: "FILE",
				Description: "Without --height it is the last state from which an import can begin. One state makes one file.\n" +
					"Example: hypermesh state export --home /var/lib/hypermesh/node state.hms",
				Flags: []cli.Flag{homeFlag(), height, jsonFlag()}, Action: stateExport,
			},
			{
				Name: "import", Usage: "begin a node's home from an exported state", ArgsUsage: "FILE",
				Description: "The home has genesis.json and keys, and no data. Every part of the file is checked against the root that its block proves.\n" +
					"Example: hypermesh state import --home /var/lib/hypermesh/node --checkpoint CHAIN:EPOCH:… state.hms",
				Flags:  []cli.Flag{homeFlag(), &cli.StringFlag{Name: "checkpoint", Usage: "the end of an epoch that the file has to show, as query checkpoint prints it; without it, whoever gave the file is trusted"}, jsonFlag()},
				Action: stateImport,
			},
			{
				Name: "diff", Usage: "the keys about which two states differ", ArgsUsage: "A B",
				Description: "A and B are exported files, or homes of stopped nodes. Fails if they differ, naming the first key by its position in the tree.\n" +
					"Example: hypermesh state diff state.hms /var/lib/hypermesh/node",
				Flags: []cli.Flag{height, &cli.IntFlag{Name: "limit", Value: 10, Usage: "how many keys to list"}, jsonFlag()}, Action: stateDiff,
			},
		},
	}
}

// exportResult is what state export and import print as JSON.
type exportResult struct {
	File   string       `json:"file"`
	Height chain.Height `json:"height"`
	Root   string       `json:"root"`
	Keys   uint64       `json:"keys"`
	Chunks uint64       `json:"chunks"`
	Bytes  uint64       `json:"bytes"`
	Digest string       `json:"digest"`
	Begins bool         `json:"begins"` // a home can begin from it
}

func (r *exportResult) of(sum statesync.ExportSum) {
	r.Keys, r.Chunks, r.Bytes, r.Digest = sum.Leaves, sum.Chunks, sum.Bytes, sum.Digest.String()
}

func (r *exportResult) print(c *cli.Context) error {
	if c.Bool("json") {
		return printJSON(c, r)
	}
	fmt.Fprintf(c.App.Writer, "state after block %d, root %s\nkeys %d, chunks %d, bytes %d, digest %s\n", r.Height, r.Root, r.Keys, r.Chunks, r.Bytes, r.Digest)
	return nil
}

func stateExport(c *cli.Context) error {
	if c.NArg() != 1 {
		return usagef(c, "want one FILE, got %d arguments", c.NArg())
	}
	out := exportResult{File: c.Args().First()}
	err := withHome(c, true, func(h *node.Home) error {
		header, tree, err := h.Export(chain.Height(c.Uint64("height")))
		if err != nil {
			return err
		}
		out.Height, out.Root, out.Begins = header.Height, header.Root.String(), header.Begins()
		return writeWhole(out.File, func(f *os.File) error {
			sum, err := statesync.WriteExport(interruptible{c.Context, f}, header, tree)
			out.of(sum)
			return err
		})
	})
	if err != nil {
		return err
	}
	return out.print(c)
}

// interruptible is a writer that refuses once a context has ended.
type interruptible struct {
	ctx context.Context
	w   io.Writer
}

func (i interruptible) Write(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	return i.w.Write(p)
}

// writeWhole writes a new file, durably and as a whole: if it fails there is none.
func writeWhole(path string, write func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

func stateImport(c *cli.Context) error {
	if c.NArg() != 1 {
		return usagef(c, "want one FILE, got %d arguments", c.NArg())
	}
	out := exportResult{File: c.Args().First(), Begins: true}
	f, err := os.Open(out.File)
	if err != nil {
		return err
	}
	sum, tip, err := node.ImportHome(c.Context, c.String("home"), f, c.String("checkpoint"), slog.New(slog.DiscardHandler))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	out.of(sum)
	out.Height, out.Root = tip.Height, tip.StateRoot.String()
	return out.print(c)
}

// diffResult is what state diff prints as JSON.
type diffResult struct {
	Height      chain.Height `json:"height"`
	RootA       string       `json:"root_a"`
	RootB       string       `json:"root_b"`
	Differences uint64       `json:"differences"`
	Keys        []diffKey    `json:"keys"` // the first ones, by position in the tree
}

// diffKey is one key that differs; a value that is not there is nil.
type diffKey struct {
	Position string  `json:"position"`
	Key      string  `json:"key"`
	A        *string `json:"a"`
	B        *string `json:"b"`
}

func stateDiff(c *cli.Context) (err error) {
	if c.NArg() != 2 {
		return usagef(c, "want two states, A and B, got %d arguments", c.NArg())
	}
	var states [2]*node.States
	for i := range states {
		if states[i], err = node.OpenStates(c.Args().Get(i), slog.New(slog.DiscardHandler)); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, states[i].Close()) }()
	}
	a, b := states[0], states[1]
	if err := node.Choose(a, b, chain.Height(c.Uint64("height"))); err != nil {
		return err
	}
	out := diffResult{Height: a.Header.Height, RootA: a.Header.Root.String(), RootB: b.Header.Root.String(), Keys: []diffKey{}}
	for d, err := range state.Diff(untilDone(c.Context, a.Leaves), b.Leaves) {
		if err != nil {
			return err
		}
		if out.Differences++; len(out.Keys) < c.Int("limit") {
			out.Keys = append(out.Keys, diffKey{d.Position.String(), hex.EncodeToString(d.Key), hexValue(d.A), hexValue(d.B)})
		}
	}
	if c.Bool("json") {
		err = printJSON(c, out)
	} else {
		out.print(c)
	}
	if out.Differences > 0 {
		return errors.Join(err, fmt.Errorf("the states after block %d differ about %d keys, the first is %s", out.Height, out.Differences, out.Keys[0].Key))
	}
	return err
}

// untilDone yields what a state does, and the context's error once that has ended.
func untilDone(ctx context.Context, leaves iter.Seq2[state.Entry, error]) iter.Seq2[state.Entry, error] {
	return func(yield func(state.Entry, error) bool) {
		for e, err := range leaves {
			if !yield(e, errors.Join(err, ctx.Err())) {
				return
			}
		}
	}
}

func hexValue(value []byte) *string {
	if value == nil {
		return nil
	}
	text := hex.EncodeToString(value)
	return &text
}

func (r *diffResult) print(c *cli.Context) {
	w := c.App.Writer
	fmt.Fprintf(w, "height %d\nroot A %s\nroot B %s\n", r.Height, r.RootA, r.RootB)
	text := func(v *string) string {
		if v == nil {
			return "not there"
		}
		return *v
	}
	for _, k := range r.Keys {
		fmt.Fprintf(w, "key    %s\n  A    %s\n  B    %s\n", k.Key, text(k.A), text(k.B))
	}
}
