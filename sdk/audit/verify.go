package audit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Trust is what an auditor believes beforehand.
type Trust struct {
	Genesis *chain.Genesis
	// Checkpoint is a closing block before the export's first one; nil: genesis.
	Checkpoint *light.Checkpoint
	// Now says whether the checkpoint is too old; of no use without one.
	Now chain.TimeMs
}

// maxLine bounds a line of a records file.
const maxLine = 4 << 10

// auditor verifies one export.
type auditor struct {
	trust    Trust
	proof    *proofReader
	lines    *bufio.Reader
	request  Request
	verifier *light.Verifier // nil: the checkpoint's epoch is still to come
	empty    crypto.Digest
	summary  Summary

	last    light.Header   // the last one that was served; zero: none
	pending []light.Header // whose receipts are to follow

	take func(at row, part *chain.ReceiptsPart) error // of an item that is proven
}

// Verify returns what an export holds if its proof shows every record of it to be
// the chain's, and, if Complete, that none is missing.
func Verify(ctx context.Context, trust Trust, records, proof io.Reader) (Summary, error) {
	a := &auditor{trust: trust, lines: bufio.NewReaderSize(records, maxLine), empty: emptyRoot()}
	var err error
	if a.proof, err = newProofReader(proof); err != nil {
		return Summary{}, err
	}
	a.take = a.rows
	if err := a.begin(); err != nil {
		return Summary{}, err
	}
	if err := a.fixed(a.request.Format.opening()); err != nil {
		return Summary{}, err
	}
	for {
		if err := context.Cause(ctx); err != nil {
			return Summary{}, err
		}
		kind, raw, err := a.proof.next()
		if err != nil {
			return Summary{}, err
		}
		if kind == frameEnd {
			return a.summary, a.end(raw)
		}
		if err := a.frame(kind, raw); err != nil {
			return Summary{}, err
		}
	}
}

// begin reads the start.
func (a *auditor) begin() error {
	kind, raw, err := a.proof.next()
	if err != nil {
		return err
	}
	var s start
	if kind != frameStart {
		return fmt.Errorf("%w begins with a frame of kind %d", ErrProof, kind)
	}
	if err := decodeFrame(raw, &s, "start"); err != nil {
		return err
	}
	genesis := a.trust.Genesis
	digest := genesis.Digest()
	switch {
	case s.Version != Version:
		return fmt.Errorf("%w is of version %d, this program reads %d", ErrProof, s.Version, Version)
	case s.ChainID != genesis.ChainID, s.Genesis != digest:
		return fmt.Errorf("%w: the export is of chain %.40q with genesis %s, the genesis file of %q with %s", ErrOtherChain,
			string(s.ChainID), s.Genesis.Short(), string(genesis.ChainID), digest.Short())
	}
	if err := s.Request.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrProof, err)
	}
	if c := a.trust.Checkpoint; c != nil {
		if err := c.Check(genesis, a.trust.Now); err != nil {
			return err
		}
	} else if a.verifier, err = light.New(genesis); err != nil {
		return err
	}
	a.request, a.summary = s.Request, summaryOf(&s)
	return nil
}

func (a *auditor) frame(kind byte, raw []byte) error {
	if len(a.pending) > 0 && kind != frameReceipts && kind != frameItems {
		return fmt.Errorf("%w leaves out the receipts of block %d", ErrProof, a.pending[0].Height()-1)
	}
	switch kind {
	case frameEpoch:
		return a.step(raw)
	case frameHeaders:
		return a.headers(raw)
	case frameReceipts:
		return a.receipts(raw)
	case frameItems:
		return a.items(raw)
	}
	return fmt.Errorf("%w has a frame of kind %d in the middle", ErrProof, kind)
}

// step follows the end of an epoch.
func (a *auditor) step(raw []byte) error {
	t, err := light.DecodeTransition(raw)
	if err != nil {
		return err
	}
	if a.verifier != nil {
		if a.verifier, _, err = a.verifier.Step(t, a.trust.Now); err != nil {
			return fmt.Errorf("the end of an epoch: %w", err)
		}
		return nil
	}
	epoch, err := t.Epoch()
	if err != nil {
		return err
	}
	switch c := a.trust.Checkpoint; {
	case epoch > c.Epoch:
		return fmt.Errorf("%w begins after the checkpoint's epoch %d", ErrProof, c.Epoch)
	case epoch == c.Epoch:
		a.verifier, _, err = light.At(a.trust.Genesis, *c, t, a.trust.Now)
	}
	return err
}

// headers verifies a run, and that it goes on where the last one ended.
func (a *auditor) headers(raw []byte) error {
	var run headers
	if err := decodeFrame(raw, &run, "headers"); err != nil {
		return err
	}
	if len(run.Serve) == 0 || len(run.Serve) > 1 && !a.request.Complete {
		return fmt.Errorf("%w has a run of %d headers", ErrProof, len(run.Serve))
	}
	if a.verifier == nil {
		return fmt.Errorf("%w has blocks before the checkpoint's, which closed epoch %d: take an earlier checkpoint, or genesis", ErrProof, a.trust.Checkpoint.Epoch)
	}
	path := append(run.Serve[1:len(run.Serve):len(run.Serve)], run.Path...)
	verified, err := a.verifier.VerifyPath(light.Evidence{Header: run.Serve[0], Path: path, Certificate: run.Certificate})
	if err != nil {
		return err
	}
	for _, h := range verified[:len(run.Serve)] {
		if err := a.serve(h); err != nil {
			return err
		}
	}
	return nil
}

// serve takes the next header, which commits to the receipts of the block before.
func (a *auditor) serve(header light.Header) error {
	h, err := header.Header()
	if err != nil {
		return err
	}
	block := h.Height - 1
	switch {
	case block < a.request.From || block > a.request.To:
		return fmt.Errorf("%w shows block %d, which is not among %d to %d", ErrProof, block, a.request.From, a.request.To)
	case block+1 <= a.last.Height():
		return fmt.Errorf("%w: the proof goes back from block %d to %d", ErrOrder, a.last.Height()-1, block)
	case !a.request.Complete:
	case a.last.Height() == 0 && block != a.request.From, a.last.Height() > 0 && block != a.last.Height():
		return fmt.Errorf("%w: the proof has no block before %d, and is to be complete", ErrOrder, block)
	case a.last.Height() > 0 && h.Parent != a.last.Digest():
		return fmt.Errorf("%w: block %d does not follow block %d", ErrProof, h.Height, block)
	}
	a.last, a.summary.Epoch = header, consensus.Epoch(h.Epoch)
	a.summary.Blocks++
	if !a.request.Complete || h.ReceiptRoot != a.empty {
		a.pending = append(a.pending, header)
	}
	return nil
}

// pop returns the header that commits to the receipts that come.
func (a *auditor) pop() (light.Header, chain.Header, error) {
	if len(a.pending) == 0 {
		return light.Header{}, chain.Header{}, fmt.Errorf("%w has receipts of no block", ErrProof)
	}
	header := a.pending[0]
	a.pending = a.pending[1:]
	h, err := header.Header()
	return header, h, err
}

// receipts verifies the whole of a block's.
func (a *auditor) receipts(raw []byte) error {
	header, h, err := a.pop()
	if err != nil {
		return err
	}
	if !a.request.Complete {
		return fmt.Errorf("%w has whole receipts and is not to be complete", ErrProof)
	}
	verified, err := header.VerifyReceipts(raw)
	if err != nil {
		return fmt.Errorf("%w: block %d: %w", ErrProof, h.Height-1, err)
	}
	all := verified.All()
	parts := partsOf(&all)
	for i := range parts {
		if err := a.rows(row{height: h.Height - 1, block: h.Parent, item: i}, &parts[i]); err != nil {
			return err
		}
		a.summary.Batches += batchesOf(&parts[i], &a.request.Filter)
	}
	return nil
}

// items verifies some of a block's receipts by their paths.
func (a *auditor) items(raw []byte) error {
	_, h, err := a.pop()
	if err != nil {
		return err
	}
	var some items
	if err := decodeFrame(raw, &some, "receipts"); err != nil {
		return err
	}
	if a.request.Complete || len(some.Items) == 0 {
		return fmt.Errorf("%w has %d of %d receipts of block %d", ErrProof, len(some.Items), some.Count, h.Height-1)
	}
	for i := range some.Items {
		item := &some.Items[i]
		if i > 0 && item.Index <= some.Items[i-1].Index {
			return fmt.Errorf("%w: the proof goes back from receipt %d to %d of block %d", ErrOrder, some.Items[i-1].Index, item.Index, h.Height-1)
		}
		part, digest, err := chain.DecodeReceiptsPart(item.Bytes, item.Index, some.Count)
		if err != nil {
			return fmt.Errorf("%w: receipt %d of block %d: %w", ErrProof, item.Index, h.Height-1, err)
		}
		root, err := chain.ListRootOf(crypto.DomainReceiptRoot, some.Count, item.Index, digest, item.Path)
		if err != nil {
			return fmt.Errorf("%w: receipt %d of block %d: %w", ErrProof, item.Index, h.Height-1, err)
		}
		if root != h.ReceiptRoot {
			return fmt.Errorf("%w: receipt %d of block %d leads to root %s, block %d says %s", ErrProof, item.Index, h.Height-1, root.Short(), h.Height, h.ReceiptRoot.Short())
		}
		if err := a.take(row{height: h.Height - 1, block: h.Parent, item: int(item.Index)}, &part); err != nil {
			return err
		}
	}
	return nil
}

// rows compares the records of an item with the file's.
func (a *auditor) rows(at row, part *chain.ReceiptsPart) error {
	return rowsOf(at, part, &a.request.Filter, func(r *row) error {
		a.summary.Records++
		got, err := a.line()
		if err != nil {
			return fmt.Errorf("at record %d: %w", a.summary.Records, err)
		}
		if got == a.request.Format.lineOf(r, a.summary.Records == 1) {
			return nil
		}
		for _, text := range a.request.Format.closing() {
			if got == text {
				return fmt.Errorf("%w: the records end before record %d, of block %d", ErrTruncated, a.summary.Records, r.height)
			}
		}
		return a.request.Format.difference(a.summary.Records, got, r)
	})
}

// line returns the records' next line.
func (a *auditor) line() (string, error) {
	raw, err := a.lines.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", fmt.Errorf("%w: a line has more than %d bytes", ErrRecord, maxLine)
	}
	if err != nil {
		return "", ended("records", err)
	}
	return string(bytes.TrimSuffix(raw, []byte("\n"))), nil
}

// fixed reads a line that every such file has.
func (a *auditor) fixed(want string) error {
	got, err := a.line()
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%w: the file has %.80q where %.40q is expected", ErrRecord, got, want)
	}
	return nil
}

// end reads the end of both files.
func (a *auditor) end(raw []byte) error {
	var e ending
	if err := decodeFrame(raw, &e, "end"); err != nil {
		return err
	}
	switch {
	case len(a.pending) > 0:
		return fmt.Errorf("%w leaves out the receipts of block %d", ErrProof, a.pending[0].Height()-1)
	case a.request.Complete && a.last.Height() != a.request.To+1:
		return fmt.Errorf("%w: the proof ends before block %d", ErrTruncated, a.request.To)
	case e.Rows != a.summary.Records:
		return fmt.Errorf("%w is of %d records, and says that it is of %d", ErrProof, a.summary.Records, e.Rows)
	case !bytes.Equal(e.Sum, a.proof.seen):
		return fmt.Errorf("%w was changed: its checksum is another", ErrProof)
	}
	for _, text := range a.request.Format.closing() {
		if err := a.fixed(text); err != nil {
			return err
		}
	}
	if rest, err := a.lines.ReadByte(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: the file goes on after the last record, with %q", ErrOrder, rest)
	}
	return a.proof.end()
}
