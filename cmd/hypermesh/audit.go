package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/audit"
)

// proofSuffix is what the proof's file has after the name of the records'.
const proofSuffix = ".proof"

func auditCommand() *cli.Command {
	checkpoint := &cli.StringFlag{Name: "checkpoint", Usage: "`CHECKPOINT` before the first block, that is trusted in place of the epochs from genesis on"}
	return &cli.Command{
		Name:  "audit",
		Usage: "export resource records, open single usage records, and verify either without a node",
		Subcommands: []*cli.Command{
			{
				Name: "export", Usage: "write records to a file, and their proof beside it",
				Description: "Writes the records of a range of blocks to FILE and what proves them to FILE" + proofSuffix + ". Without a filter the proof is complete: it shows\n" +
					"that no record was left out. With one it has what shows the records themselves, unless --complete asks for all receipts.\n" +
					"With --genesis what was written is verified; without, the node is believed until somebody does.\n" +
					"Example: hypermesh audit export --from 1 --to 5000 --format csv --out records.csv --rpc https://node.example:7180",
				Flags: []cli.Flag{
					&cli.Uint64Flag{Name: "from", Usage: "first `HEIGHT`", Value: 1},
					&cli.Uint64Flag{Name: "to", Usage: "last `HEIGHT`; 0: the last one that can be proven", Value: 0},
					&cli.StringFlag{Name: "node", Usage: "only records of this `KEY`'s node"},
					&cli.StringFlag{Name: "consumer", Usage: "only records that this `ADDRESS` paid"},
					&cli.StringFlag{Name: "provider", Usage: "only records that this `ADDRESS` was paid for"},
					&cli.StringFlag{Name: "resource", Usage: "only records of a `RESOURCE`: CPU, Memory, Storage, Network or GPU"},
					&cli.StringFlag{Name: "since", Usage: "only records of this `TIME` or later, as 2026-01-02T15:04:05Z"},
					&cli.StringFlag{Name: "until", Usage: "only records before this `TIME`"},
					&cli.BoolFlag{Name: "complete", Usage: "prove that no record that the filter lets through was left out"},
					&cli.StringFlag{Name: "format", Usage: "csv or json", Value: string(audit.CSV)},
					&cli.StringFlag{Name: "out", Usage: "`FILE` of the records", Required: true},
					&cli.StringSliceFlag{Name: "rpc", Value: cli.NewStringSlice("http://127.0.0.1:7180"), Usage: "`URL` of a node", EnvVars: []string{"HYPERMESH_RPC"}},
					&cli.StringFlag{Name: "genesis", Usage: "the chain's genesis `FILE`, to verify what was written"},
					checkpoint, jsonFlag(),
				},
				Action: auditExport,
			},
			{
				Name: "verify", Usage: "check an export, or what audit open wrote, against genesis alone", ArgsUsage: "FILE",
				Description: "Reads FILE and FILE" + proofSuffix + ", asks nobody, and fails if a record is not the chain's, or is left out of a complete export.\n" +
					"Example: hypermesh audit verify records.csv --genesis genesis.json",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "genesis", Usage: "the chain's genesis `FILE`, which says what to trust", Required: true},
					checkpoint, jsonFlag(),
				},
				Action: auditVerify,
			},
			auditFetchCommand(),
			auditOpenCommand(checkpoint),
		},
	}
}

// auditRequest reads what is to be exported.
func auditRequest(c *cli.Context) (r audit.Request, err error) {
	r = audit.Request{From: chain.Height(c.Uint64("from")), To: chain.Height(c.Uint64("to")), Format: audit.Format(c.String("format"))}
	f := &r.Filter
	for _, read := range []struct {
		name  string
		parse func(text string) error
	}{
		{"node", func(text string) (err error) { f.Node, err = crypto.ParsePublicKey(text); return err }},
		{"consumer", func(text string) (err error) { f.Consumer, err = chain.ParseAddress(text); return err }},
		{"provider", func(text string) (err error) { f.Provider, err = chain.ParseAddress(text); return err }},
		{"resource", func(text string) error { return f.Resource.UnmarshalText([]byte(text)) }},
		{"since", func(text string) (err error) { f.Since, err = parseMoment(text); return err }},
		{"until", func(text string) (err error) { f.Until, err = parseMoment(text); return err }},
	} {
		if text := c.String(read.name); text != "" {
			if err := read.parse(text); err != nil {
				return r, usagef(c, "--%s: %v", read.name, err)
			}
		}
	}
	r.Complete = c.Bool("complete") || f.String() == ""
	return r, nil
}

// parseMoment reads milliseconds since 1970 or RFC 3339.
func parseMoment(text string) (chain.TimeMs, error) {
	if ms, err := strconv.ParseUint(text, 10, 63); err == nil {
		return chain.TimeMs(ms), nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || at.UnixMilli() <= 0 {
		return 0, fmt.Errorf("%.40q is neither milliseconds since 1970 nor a time as 2026-01-02T15:04:05Z", text)
	}
	return chain.TimeMs(at.UnixMilli()), nil
}

func auditCheckpoint(c *cli.Context) (*light.Checkpoint, error) {
	if c.String("checkpoint") == "" {
		return nil, nil
	}
	checkpoint, err := light.ParseCheckpoint(c.String("checkpoint"))
	if err != nil {
		return nil, usagef(c, "--checkpoint: %v", err)
	}
	return &checkpoint, nil
}

func auditExport(c *cli.Context) error {
	request, err := auditRequest(c)
	if err != nil {
		return err
	}
	checkpoint, err := auditCheckpoint(c)
	if err != nil {
		return err
	}
	client, err := queryClient(c)
	if err != nil {
		return err
	}
	status, err := client.Status(c.Context)
	if err != nil {
		return err
	}
	if request.To == 0 && status.Height > 0 {
		request.To = status.Height - 1
	}
	if err := request.Check(); err != nil {
		return usagef(c, "%v", err)
	}
	if request.To >= status.Height {
		return usagef(c, "--to is %d: block %d, which commits to its receipts, is not final: the node is at %d", request.To, request.To+1, status.Height)
	}
	of := audit.Chain{ID: status.ChainID, Genesis: status.GenesisDigest}
	if checkpoint != nil {
		of.Checkpoint = checkpoint.Epoch
	}
	summary, err := writeExport(c, client, of, request)
	if err != nil {
		return err
	}
	if c.String("genesis") != "" {
		if summary, err = verifyFiles(c, c.String("out"), checkpoint); err != nil {
			return fmt.Errorf("what the node says does not verify: %w", err)
		}
	}
	return printAudit(c, summary, c.String("genesis") != "")
}

// writeExport writes both files, under other names until they are whole.
func writeExport(c *cli.Context, client *sdk.Client, of audit.Chain, request audit.Request) (summary audit.Summary, err error) {
	names := [2]string{c.String("out"), c.String("out") + proofSuffix}
	var files [2]*os.File
	var to [2]*bufio.Writer
	for i, name := range names {
		if files[i], err = os.OpenFile(name+".part", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644); err != nil {
			return summary, err
		}
		defer func() {
			if closeErr := files[i].Close(); closeErr != nil && !errors.Is(closeErr, os.ErrClosed) {
				err = errors.Join(err, closeErr)
			}
			if err != nil {
				err = errors.Join(err, removeIfThere(name+".part"))
			}
		}()
		to[i] = bufio.NewWriterSize(files[i], 1<<16)
	}
	if summary, err = audit.Export(c.Context, client, of, request, audit.Files{Records: to[0], Proof: to[1]}); err != nil {
		return summary, err
	}
	for i, name := range names {
		if err := errors.Join(to[i].Flush(), files[i].Sync(), files[i].Close()); err != nil {
			return summary, err
		}
		if err := os.Rename(name+".part", name); err != nil {
			return summary, err
		}
	}
	return summary, nil
}

func removeIfThere(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func auditVerify(c *cli.Context) error {
	if c.NArg() != 1 {
		return usagef(c, "want one FILE, got %d arguments", c.NArg())
	}
	checkpoint, err := auditCheckpoint(c)
	if err != nil {
		return err
	}
	opening, err := isOpening(c.Args().First())
	if err != nil && !errors.Is(err, os.ErrNotExist) { // what is missing is named below, after what is to be trusted
		return err
	}
	if opening {
		return verifyOpeningFile(c, c.Args().First(), checkpoint)
	}
	summary, err := verifyFiles(c, c.Args().First(), checkpoint)
	if err != nil {
		return err
	}
	return printAudit(c, summary, true)
}

// verifyFiles checks an export.
func verifyFiles(c *cli.Context, name string, checkpoint *light.Checkpoint) (summary audit.Summary, err error) {
	genesis, err := node.ReadGenesisFile(c.String("genesis"))
	if err != nil {
		return summary, err
	}
	var from [2]io.Reader
	for i, name := range []string{name, name + proofSuffix} {
		file, err := os.Open(name)
		if err != nil {
			return summary, err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		from[i] = bufio.NewReaderSize(file, 1<<16)
	}
	trust := audit.Trust{Genesis: genesis, Checkpoint: checkpoint, Now: chain.TimeMs(time.Now().UnixMilli())}
	return audit.Verify(c.Context, trust, from[0], from[1])
}

// auditResult is an export, in JSON.
type auditResult struct {
	audit.Summary
	Verified bool `json:"verified"`
}

func printAudit(c *cli.Context, s audit.Summary, verified bool) error {
	if c.Bool("json") {
		return printJSON(c, auditResult{Summary: s, Verified: verified})
	}
	said := "not verified: give --genesis"
	if verified {
		said = "every record is the chain's"
		if s.Complete {
			said += ", and none is left out"
		}
	}
	filter := s.Filter
	if filter == "" {
		filter = "none"
	}
	completeness := "no: records may be left out"
	if s.Complete {
		completeness = "yes"
	}
	fmt.Fprintf(c.App.Writer, "chain     %s\nblocks    %d to %d\nfilter    %s\ncomplete  %s\nrecords   %d\nverified  %s\n",
		s.ChainID, s.From, s.To, filter, completeness, s.Records, said)
	if s.Batches > 0 {
		fmt.Fprintf(c.App.Writer, "private   %d batches were settled, whose records the chain does not have\n", s.Batches)
	}
	return nil
}
