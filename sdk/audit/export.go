package audit

import (
	"context"
	"fmt"
	"io"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// Source is a node that is asked; *sdk.Client is one.
type Source interface {
	Block(ctx context.Context, height chain.Height, detail string) (api.Block, error)
	EpochEnd(ctx context.Context, epoch uint64) (api.EpochEnd, error)
}

// Chain names the chain that is exported.
type Chain struct {
	ID      chain.ChainID
	Genesis crypto.Digest
	// Checkpoint is the epoch whose closing block a verifier is to begin at; 0: at genesis,
	// and then at any checkpoint before the first block.
	Checkpoint consensus.Epoch
}

// Files is where an export is written.
type Files struct{ Records, Proof io.Writer }

// maxHeldBytes bounds the receipts that wait for a run of headers to end.
const maxHeldBytes = 16 << 20

// exporter writes one export.
type exporter struct {
	ctx     context.Context
	from    Source
	proof   *proofWriter
	records *recordsWriter
	request *Request
	empty   crypto.Digest
	summary Summary

	shown consensus.Epoch // whose end was shown last; 0: none

	// The run that is being collected:
	run     headers
	epoch   uint64
	pending [][]byte // receipts, for after it
	held    int
}

// Export writes the records of a range, and their proof. What the source says is
// not verified: Verify what was written. It reads every block of the range and the
// one after it.
func Export(ctx context.Context, from Source, of Chain, request Request, into Files) (Summary, error) {
	if err := request.Check(); err != nil {
		return Summary{}, err
	}
	to, err := newProofWriter(into.Proof)
	if err != nil {
		return Summary{}, fmt.Errorf("audit: writing the proof: %w", err)
	}
	first := start{Version: Version, ChainID: of.ID, Genesis: of.Genesis, Request: request}
	e := &exporter{
		ctx: ctx, from: from, proof: to, records: &recordsWriter{to: into.Records, format: request.Format},
		request: &request, empty: emptyRoot(), summary: summaryOf(&first),
	}
	if of.Checkpoint > 0 {
		e.shown = of.Checkpoint - 1
	}
	if err := e.proof.frame(frameStart, first); err != nil {
		return Summary{}, fmt.Errorf("audit: writing the proof: %w", err)
	}
	if err := e.records.begin(); err != nil {
		return Summary{}, fmt.Errorf("audit: writing the records: %w", err)
	}
	if err := e.blocks(); err != nil {
		return Summary{}, fmt.Errorf("audit: exporting: %w", err)
	}
	e.summary.Records = e.records.rows
	return e.summary, nil
}

// blocks writes all after the start.
func (e *exporter) blocks() error {
	var before api.Block
	for height := e.request.From; height <= e.request.To+1; height++ {
		block, err := e.from.Block(e.ctx, height, api.BlockEncoded)
		if err != nil {
			return fmt.Errorf("block %d: %w", height, err)
		}
		if block.Header.Height != height {
			return fmt.Errorf("block %d was asked for, the node shows %d", height, block.Header.Height)
		}
		if height > e.request.From {
			if err := e.child(&before, &block); err != nil {
				return fmt.Errorf("block %d: %w", height-1, err)
			}
		}
		before = block
	}
	if err := e.flush(); err != nil {
		return err
	}
	if err := e.records.end(); err != nil {
		return err
	}
	return e.proof.frame(frameEnd, ending{Rows: e.records.rows, Sum: e.proof.sum.Sum(nil)})
}

// child takes a block whose receipts its child commits to.
func (e *exporter) child(block, child *api.Block) error {
	receipts, err := chain.DecodeBlockReceipts(block.RawReceipts)
	if err != nil {
		return fmt.Errorf("its receipts: %w", err)
	}
	var shown []int // items with records
	at := row{height: block.Header.Height, block: child.Header.Parent}
	parts := partsOf(&receipts)
	for i := range parts {
		at.item = i
		rows := e.records.rows
		if err := rowsOf(at, &parts[i], &e.request.Filter, e.records.row); err != nil {
			return err
		}
		if e.records.rows > rows {
			shown = append(shown, i)
		}
		if e.request.Complete {
			e.summary.Batches += batchesOf(&parts[i], &e.request.Filter)
		}
	}
	if e.request.Complete {
		return e.collect(block, child)
	}
	if len(shown) == 0 {
		return nil
	}
	h := api.HeaderFromJSON(child.Header)
	e.run = headers{Serve: [][]byte{h.Encode()}, Path: child.Certificate.Path, Certificate: child.Certificate.Bytes}
	e.epoch = h.Epoch
	if err := e.flush(); err != nil {
		return err
	}
	return e.some(&receipts, shown)
}

// some writes items of a block's receipts with their paths.
func (e *exporter) some(receipts *chain.BlockReceipts, shown []int) error {
	parts, digests := receipts.Items()
	frame := items{Count: uint64(len(parts))}
	for _, i := range shown {
		frame.Items = append(frame.Items, item{Index: uint64(i), Bytes: parts[i], Path: chain.ListPath(digests, i)})
	}
	e.summary.Blocks++
	return e.proof.frame(frameItems, frame)
}

// collect adds a header, and the receipts that it commits to, to the run.
func (e *exporter) collect(block, child *api.Block) error {
	h := api.HeaderFromJSON(child.Header)
	path := child.Certificate.Path
	if len(e.run.Serve) > 0 && (h.Epoch != e.epoch || len(e.run.Serve)+len(path) > light.MaxPath || e.held > maxHeldBytes) {
		if err := e.flush(); err != nil {
			return err
		}
	}
	e.run.Serve = append(e.run.Serve, h.Encode())
	e.run.Path, e.run.Certificate, e.epoch = path, child.Certificate.Bytes, h.Epoch
	if h.ReceiptRoot != e.empty {
		e.pending, e.held = append(e.pending, block.RawReceipts), e.held+len(block.RawReceipts)
	}
	e.summary.Blocks++
	return nil
}

// flush writes the run and what waits for it.
func (e *exporter) flush() error {
	if len(e.run.Serve) == 0 {
		return nil
	}
	if err := e.follow(consensus.Epoch(e.epoch)); err != nil {
		return err
	}
	if err := e.proof.frame(frameHeaders, e.run); err != nil {
		return err
	}
	for _, raw := range e.pending {
		if err := e.proof.frame(frameReceipts, raw); err != nil {
			return err
		}
	}
	e.run, e.pending, e.held = headers{}, nil, 0
	return nil
}

// follow writes the ends of the epochs before one.
func (e *exporter) follow(epoch consensus.Epoch) error {
	for e.shown+1 < epoch {
		end, err := e.from.EpochEnd(e.ctx, uint64(e.shown+1))
		if err != nil {
			return fmt.Errorf("the end of epoch %d: %w", e.shown+1, err)
		}
		t := sdk.TransitionOf(end)
		if err := e.proof.frame(frameEpoch, codec.Marshal(t)); err != nil {
			return err
		}
		e.shown++
	}
	e.summary.Epoch = epoch
	return nil
}
