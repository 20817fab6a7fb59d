package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/bridge/relay"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/sdk/audit"
)

func auditOpenCommand(checkpoint cli.Flag) *cli.Command {
	return &cli.Command{
		Name: "open", Usage: "show one usage record of a privately settled batch", ArgsUsage: "RECORDS",
		Description: "RECORDS is what a private relay keeps of one node's work under one order (audit fetch gets it). Writes one record, its path to the root\n" +
			"that the chain has, and what proves that; audit verify checks it without a node. No other record is shown.\n" +
			"Example: hypermesh audit open job.usage --sequence 2 --out record.opening --rpc https://node.example:7180 --genesis genesis.json",
		Flags: []cli.Flag{
			&cli.Uint64Flag{Name: "sequence", Usage: "of the record, `N`", Required: true},
			&cli.StringFlag{Name: "out", Usage: "`FILE` of the opening", Required: true},
			&cli.StringSliceFlag{Name: "rpc", Value: cli.NewStringSlice("http://127.0.0.1:7180"), Usage: "`URL` of a node", EnvVars: []string{"HYPERMESH_RPC"}},
			&cli.StringFlag{Name: "genesis", Usage: "the chain's genesis `FILE`, to verify what was written", Required: true},
			checkpoint, jsonFlag(),
		},
		Action: auditOpen,
	}
}

func auditOpen(c *cli.Context) error {
	if c.NArg() != 1 {
		return usagef(c, "want one RECORDS, got %d arguments", c.NArg())
	}
	checkpoint, err := auditCheckpoint(c)
	if err != nil {
		return err
	}
	kept, err := readKept(c.Args().First())
	if err != nil {
		return err
	}
	disclosure, err := discloseRecord(kept, c.Uint64("sequence"))
	if err != nil {
		return err
	}
	client, err := queryClient(c)
	if err != nil {
		return err
	}
	said, err := client.Settlements(c.Context, disclosure.Order)
	if err != nil {
		return err
	}
	var height chain.Height
	for i := range said.Batches {
		if said.Batches[i].Batch.Root == kept.Batch.Summary.Root {
			height = said.Batches[i].Height
		}
	}
	if height == 0 {
		return fmt.Errorf("the node knows of no settled batch with root %s", crypto.Digest(kept.Batch.Summary.Root))
	}
	status, err := client.Status(c.Context)
	if err != nil {
		return err
	}
	of := audit.Chain{ID: status.ChainID, Genesis: status.GenesisDigest}
	if checkpoint != nil {
		of.Checkpoint = checkpoint.Epoch
	}
	var opening bytes.Buffer
	if err := audit.WriteOpening(c.Context, client, audit.Settled{Chain: of, Height: height}, disclosure, &opening); err != nil {
		return err
	}
	opened, err := verifyOpening(c, &opening, checkpoint)
	if err != nil {
		return fmt.Errorf("what the node says does not verify: %w", err)
	}
	if err := os.WriteFile(c.String("out"), opening.Bytes(), 0o644); err != nil {
		return err
	}
	return printOpened(c, &opened)
}

func readKept(path string) (relay.Kept, error) {
	f, err := os.Open(path)
	if err != nil {
		return relay.Kept{}, err
	}
	data, err := io.ReadAll(io.LimitReader(f, relay.MaxKeptBytes+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return relay.Kept{}, err
	}
	return relay.DecodeKept(data)
}

// discloseRecord opens the record with a sequence.
func discloseRecord(kept relay.Kept, sequence uint64) (audit.Disclosure, error) {
	d := audit.Disclosure{Order: kept.File.Order, Node: kept.Batch.Summary.Node}
	_, size, ok := zk.Kernel(kept.Batch.Kernel).Of()
	if !ok {
		return d, fmt.Errorf("the records are for kernel %.32q, which there is not", kept.Batch.Kernel)
	}
	work, err := zk.NewUsageWork(size, kept.File)
	if err != nil {
		return d, err
	}
	for i, signed := range kept.File.Records {
		if signed.Record.Sequence == sequence {
			d.Opening, err = work.Open(i)
			return d, err
		}
	}
	return d, fmt.Errorf("there is no record with sequence %d among %d", sequence, len(kept.File.Records))
}

// isOpening reports whether a file is an opening, and not an export.
func isOpening(path string) (yes bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	head := make([]byte, 64)
	n, err := io.ReadFull(f, head)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return audit.IsOpening(head[:n]), err
}

// verifyOpeningFile checks an opening and prints what it shows.
func verifyOpeningFile(c *cli.Context, path string, checkpoint *light.Checkpoint) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	opened, err := verifyOpening(c, bufio.NewReader(f), checkpoint)
	if err != nil {
		return err
	}
	return printOpened(c, &opened)
}

func verifyOpening(c *cli.Context, opening io.Reader, checkpoint *light.Checkpoint) (audit.Opened, error) {
	genesis, err := node.ReadGenesisFile(c.String("genesis"))
	if err != nil {
		return audit.Opened{}, err
	}
	trust := audit.Trust{Genesis: genesis, Checkpoint: checkpoint, Now: chain.TimeMs(time.Now().UnixMilli())}
	if buffer, ok := opening.(*bytes.Buffer); ok {
		opening = bytes.NewReader(buffer.Bytes()) // it is written afterwards
	}
	return audit.VerifyOpening(c.Context, trust, opening)
}

func printOpened(c *cli.Context, o *audit.Opened) error {
	if c.Bool("json") {
		return printJSON(c, o)
	}
	fmt.Fprintf(c.App.Writer, "chain     %s\nblock     %d\norder     %s\nnode      %s\nconsumer  %s\nprovider  %s\nrecord    %d, one of %d\nused      %d of %s for %d ms, up to %s\nverified  the record is under the root that the chain has\n",
		o.ChainID, o.Height, o.Order, o.Node, o.Consumer, o.Provider, o.Sequence, o.Records, o.Amount, o.Resource, o.Duration, leaseTime(o.Ended))
	return nil
}

func auditFetchCommand() *cli.Command {
	return &cli.Command{
		Name: "fetch", Usage: "get the usage records of a node's work under an order from a private relay",
		Description: "The key is a party's: the consumer's, the cluster's or the node's. The relay gives the records to nobody else.\n" +
			"Example: hypermesh audit fetch --relay http://127.0.0.1:7480 --order ID --node KEY --key-file consumer.key --genesis genesis.json --out job.usage",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "relay", Usage: "`URL` of the relay", Value: "http://127.0.0.1:7480"},
			&cli.StringFlag{Name: "order", Usage: "`ID` of the order", Required: true},
			&cli.StringFlag{Name: "node", Usage: "the node's `KEY`", Required: true},
			&cli.StringFlag{Name: "key-file", Usage: "`FILE` of a party's key, 64 hexadecimal digits", Required: true},
			&cli.StringFlag{Name: "genesis", Usage: "the chain's genesis `FILE`", Required: true},
			&cli.StringFlag{Name: "out", Usage: "`FILE` of the records", Required: true},
		},
		Action: auditFetch,
	}
}

func auditFetch(c *cli.Context) error {
	order, err := crypto.ParseDigest(c.String("order"))
	if err != nil {
		return usagef(c, "--order: %v", err)
	}
	of, err := crypto.ParsePublicKey(c.String("node"))
	if err != nil {
		return usagef(c, "--node: %v", err)
	}
	key, err := node.ReadKey(c.String("key-file"))
	if err != nil {
		return err
	}
	genesis, err := node.ReadGenesisFile(c.String("genesis"))
	if err != nil {
		return err
	}
	at := time.Now().UnixMilli()
	signature := key.Sign(crypto.DomainUsageFetch, relay.FetchPayload(genesis.ChainID, order, of, chain.TimeMs(at)))
	where, err := url.JoinPath(c.String("relay"), "v1", "usage", order.String(), of.String())
	if err != nil {
		return usagef(c, "--relay: %v", err)
	}
	where += "?" + url.Values{"key": {key.Public().String()}, "at": {strconv.FormatInt(at, 10)}, "signature": {signature.String()}}.Encode()
	request, err := http.NewRequestWithContext(c.Context, http.MethodGet, where, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, relay.MaxKeptBytes+1))
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the relay says: %s", strings.TrimSpace(string(data)))
	}
	kept, err := relay.DecodeKept(data)
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.String("out"), data, 0o600); err != nil {
		return err
	}
	fmt.Fprintf(c.App.ErrWriter, "%d records in %s\n", len(kept.File.Records), c.String("out"))
	return nil
}
