package audit

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// An opening is one file: the frames that prove the receipt of a settled batch, as those of
// an export's block do, then one usage record with its path to the batch's root. It shows
// that record and no other.

// openingMagic is what an opening begins with.
const openingMagic = "hypermesh audit opening\n"

// IsOpening reports whether a file that begins so is an opening.
func IsOpening(head []byte) bool { return bytes.HasPrefix(head, []byte(openingMagic)) }

// Settled is where a batch was settled.
type Settled struct {
	Chain
	Height chain.Height
}

// Disclosure is a record of a batch that somebody shows.
type Disclosure struct {
	_       struct{} `cbor:",toarray"`
	Order   crypto.Digest
	Node    crypto.PublicKey
	Opening zk.UsageOpening
}

// Opened is what an opening shows.
type Opened struct {
	ChainID  chain.ChainID    `json:"chain_id"`
	Genesis  crypto.Digest    `json:"genesis"`
	Height   chain.Height     `json:"height"` // of the block that settled the batch
	TxID     crypto.Digest    `json:"tx_id"`
	Order    crypto.Digest    `json:"order"`
	Node     crypto.PublicKey `json:"node_id"`
	Consumer chain.Address    `json:"consumer"`
	Provider chain.Address    `json:"provider"`
	Meter    chain.MeterKey   `json:"meter"`
	Root     chain.FieldBytes `json:"root"`
	Records  uint16           `json:"records"` // in the batch
	Sequence chain.Number     `json:"sequence"`
	Resource chain.Resource   `json:"resource"`
	Amount   uint64           `json:"amount"`
	Duration uint64           `json:"duration_ms"`
	Ended    chain.TimeMs     `json:"ended_ms"`
}

// WriteOpening writes the opening of a record of a batch. What the source says is not
// verified: VerifyOpening of what was written.
func WriteOpening(ctx context.Context, from Source, of Settled, d Disclosure, to io.Writer) error {
	request := Request{From: of.Height, To: of.Height, Format: CSV}
	if err := request.Check(); err != nil {
		return err
	}
	w, err := newFrames(to, openingMagic)
	if err != nil {
		return fmt.Errorf("audit: writing the opening: %w", err)
	}
	e := &exporter{ctx: ctx, from: from, proof: w, request: &request, empty: emptyRoot()}
	if of.Checkpoint > 0 {
		e.shown = of.Checkpoint - 1
	}
	if err := w.frame(frameStart, start{Version: Version, ChainID: of.ID, Genesis: of.Genesis, Request: request}); err != nil {
		return fmt.Errorf("audit: writing the opening: %w", err)
	}
	if err := e.receipt(&d); err != nil {
		return fmt.Errorf("audit: opening: %w", err)
	}
	if err := w.frame(frameOpening, codec.Marshal(d)); err != nil {
		return fmt.Errorf("audit: writing the opening: %w", err)
	}
	return w.frame(frameEnd, ending{Rows: 1, Sum: w.sum.Sum(nil)})
}

// receipt writes the header and the receipt that a disclosure's batch is in.
func (e *exporter) receipt(d *Disclosure) error {
	block, err := e.from.Block(e.ctx, e.request.From, api.BlockEncoded)
	if err != nil {
		return fmt.Errorf("block %d: %w", e.request.From, err)
	}
	child, err := e.from.Block(e.ctx, e.request.From+1, api.BlockEncoded)
	if err != nil {
		return fmt.Errorf("block %d: %w", e.request.From+1, err)
	}
	receipts, err := chain.DecodeBlockReceipts(block.RawReceipts)
	if err != nil {
		return fmt.Errorf("receipts of block %d: %w", e.request.From, err)
	}
	h := api.HeaderFromJSON(child.Header)
	parts := partsOf(&receipts)
	for i := range parts {
		if _, ok := settledIn(&parts[i], d); !ok {
			continue
		}
		e.run = headers{Serve: [][]byte{h.Encode()}, Path: child.Certificate.Path, Certificate: child.Certificate.Bytes}
		e.epoch = h.Epoch
		if err := e.flush(); err != nil {
			return err
		}
		return e.some(&receipts, []int{i})
	}
	return fmt.Errorf("block %d settled no such batch of order %s on node %s", e.request.From, d.Order.Short(), d.Node.Short())
}

// settledIn returns the event of the batch that a record is of: that of its order and node
// whose range has its sequence.
func settledIn(part *chain.ReceiptsPart, d *Disclosure) (chain.BatchSettled, bool) {
	sequence := chain.Number(d.Opening.Signed.Record.Sequence)
	for _, event := range part.Events {
		if e, ok := event.(chain.BatchSettled); ok && e.Order == d.Order && e.Node == d.Node && sequence > e.After && sequence <= e.Last {
			return e, true
		}
	}
	return chain.BatchSettled{}, false
}

// VerifyOpening returns what an opening shows, if the chain settled the batch and the record
// is one of those that it was proven for.
func VerifyOpening(ctx context.Context, trust Trust, file io.Reader) (Opened, error) {
	a := &auditor{trust: trust, empty: emptyRoot()}
	var err error
	if a.proof, err = newFrameReader(file, openingMagic); err != nil {
		return Opened{}, err
	}
	var at row
	var shown *chain.ReceiptsPart
	a.take = func(r row, part *chain.ReceiptsPart) error {
		if shown != nil {
			return fmt.Errorf("%w has more than one receipt", ErrProof)
		}
		at, shown = r, part
		return nil
	}
	if err := a.begin(); err != nil {
		return Opened{}, err
	}
	if r := &a.request; r.From != r.To || r.Complete || r.Filter != (Filter{}) {
		return Opened{}, fmt.Errorf("%w is of blocks %d to %d, an opening of one", ErrProof, r.From, r.To)
	}
	var opened *Opened
	for {
		if err := context.Cause(ctx); err != nil {
			return Opened{}, err
		}
		kind, raw, err := a.proof.next()
		switch {
		case err != nil:
			return Opened{}, err
		case kind == frameEnd && opened == nil:
			return Opened{}, fmt.Errorf("%w: the opening ends before its record", ErrTruncated)
		case kind == frameEnd:
			return *opened, a.endOpening(raw)
		case kind == frameOpening && (shown == nil || opened != nil):
			return Opened{}, fmt.Errorf("%w has a record without a receipt, or two", ErrProof)
		case kind == frameOpening:
			if opened, err = a.open(raw, at, shown); err != nil {
				return Opened{}, err
			}
		default:
			if err := a.frame(kind, raw); err != nil {
				return Opened{}, err
			}
		}
	}
}

// open checks a record against the receipt that was proven.
func (a *auditor) open(raw []byte, at row, shown *chain.ReceiptsPart) (*Opened, error) {
	var d Disclosure
	if err := decodeFrame(raw, &d, "the record"); err != nil {
		return nil, err
	}
	e, ok := settledIn(shown, &d)
	if !ok {
		return nil, fmt.Errorf("%w: the receipt settles no batch of order %s on node %s with sequence %d", ErrRecord, d.Order.Short(), d.Node.Short(), d.Opening.Signed.Record.Sequence)
	}
	if err := d.Opening.Check(d.Order, zk.MeterKey(e.Meter), zk.Field(e.Root)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	r := d.Opening.Signed.Record
	out := &Opened{
		ChainID: a.summary.ChainID, Genesis: a.summary.Genesis, Height: at.height, Order: e.Order, Node: e.Node, Consumer: e.Consumer,
		Provider: e.Provider, Meter: e.Meter, Root: e.Root, Records: e.Count, Sequence: chain.Number(r.Sequence),
		Resource: chain.CPU + chain.Resource(r.Resource), Amount: r.Amount, Duration: r.DurationMs, Ended: chain.TimeMs(r.EndedMs),
	}
	if shown.Receipt != nil {
		out.TxID = shown.Receipt.TxID
	}
	return out, nil
}

// endOpening reads the end of an opening.
func (a *auditor) endOpening(raw []byte) error {
	var e ending
	if err := decodeFrame(raw, &e, "end"); err != nil {
		return err
	}
	if e.Rows != 1 || !bytes.Equal(e.Sum, a.proof.seen) {
		return fmt.Errorf("%w was changed: its checksum is another", ErrProof)
	}
	return a.proof.end()
}
