// Package light verifies the chain with certificates and proofs alone.
//
// A Verifier trusts a genesis or a checkpoint and nothing else. It turns what any
// server says into types that only it can make: a Header that a quorum finalized,
// a Value that a finalized state has, a Block and Receipts that a finalized header
// commits to. Code that takes these types cannot be handed something unchecked.
//
// A certificate finalizes a block and, by descent, all its ancestors. A server
// may therefore show a header with the certificate of a descendant and the path
// of headers that leads to it, at most MaxPath of them and all of one epoch.
//
// The committee changes with the epoch (consensus.md §4, "Light client"). The
// header of an epoch's closing block names the next epoch's committee, so a
// Transition (that header, its certificate, the next committee's members) leads
// from one epoch to the next: Step. Genesis names the committees of epochs 1 and
// 2; a Checkpoint names a closing block, and with it the committee after it.
//
// Invariants:
//
//  1. A Header, Value, Block or Receipts that is not its zero value was
//     verified; the zero values answer every question with ErrUnverified or
//     nothing.
//  2. A header's state and receipt roots are of its parent's execution: a Value
//     says of which height it is, and Receipts are the parent's.
//  3. Every input is bounded before it is looked at.
//  4. A certificate is believed only of the committee of its own epoch, and a
//     committee only if a header that was verified, a checkpoint or genesis
//     commits to it.
//
// Failure modes: an error that matches ErrRefused and names what did not hold.
// A Verifier is immutable (Step returns another); everything is pure and safe for
// concurrent use.
//
// It does not fetch anything, reads no clock, and does not judge whether a header
// is recent. Whoever trusts genesis trusts it whatever its age: the defence
// against a history that stake long withdrawn has signed is a Checkpoint, whose
// age is checked, and so is that of the last epoch's end that was followed from
// it: what idled for longer than stake takes to unbond is to be begun anew from a
// newer checkpoint (Check, ErrExpired).
package light

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// FirstEpoch is the first of the two epochs whose committees genesis names.
const FirstEpoch consensus.Epoch = 1

// KeptEpochs is of how many epochs a Verifier keeps the committees: the last ones.
const KeptEpochs = 256

// MaxPath bounds the headers between one and the descendant whose certificate
// finalizes it.
const MaxPath = 256

var (
	// ErrRefused is matched by every error that says that something was not
	// shown.
	ErrRefused = errors.New("light: refused")
	// ErrAhead says that something is of an epoch that was not followed yet. It
	// matches ErrRefused.
	ErrAhead = fmt.Errorf("%w: ahead of what was followed", ErrRefused)
	// ErrExpired says that the epochs were not followed for longer than the unbonding
	// period. It matches ErrRefused.
	ErrExpired = fmt.Errorf("%w: what is trusted has expired", ErrRefused)
	// ErrUnverified says that a zero value was used as if it had been verified.
	ErrUnverified = fmt.Errorf("%w: a zero value, which nobody verified", ErrRefused)
)

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrRefused, fmt.Errorf(format, args...))
}

// GenesisCommittee returns the committee of epoch 1 or 2: the validators of
// genesis by ascending consensus key, each with its stake in whole HYPER as its
// voting and leader weight.
func GenesisCommittee(g *chain.Genesis, epoch consensus.Epoch) (*consensus.Committee, error) {
	members := make([]consensus.Validator, len(g.Validators))
	for i, v := range g.Validators {
		weight := v.Stake.Nano() / chain.NanoPerHyper
		members[i] = consensus.Validator{Key: v.ConsensusKey, Weight: weight, LeaderWeight: weight}
	}
	slices.SortFunc(members, func(a, b consensus.Validator) int { return a.Key.Compare(b.Key) })
	committee, err := consensus.NewCommittee(epoch, members)
	if err != nil {
		return nil, fmt.Errorf("light: genesis: %w", err)
	}
	return committee, nil
}

// Verifier checks what servers say of one chain, as far as it knows the epochs'
// committees.
type Verifier struct {
	chainID    chain.ChainID
	genesis    crypto.Digest
	committees []*consensus.Committee // of consecutive epochs, at most KeptEpochs

	// Of one that began at a checkpoint: when the block was made that named the
	// newest committee, and for how many milliseconds that one's stake can be
	// slashed at least; 0: for ever.
	named chain.TimeMs
	lasts uint64
}

// New returns a verifier that trusts a genesis, which it checks. It knows the
// committees of epochs 1 and 2.
func New(g *chain.Genesis) (*Verifier, error) {
	if err := g.Check(); err != nil {
		return nil, err
	}
	v := &Verifier{chainID: g.ChainID, genesis: g.Digest()}
	for epoch := FirstEpoch; epoch <= FirstEpoch+1; epoch++ {
		committee, err := GenesisCommittee(g, epoch)
		if err != nil {
			return nil, err
		}
		v.committees = append(v.committees, committee)
	}
	return v, nil
}

// Check returns ErrExpired if the verifier began at a checkpoint and at the time
// now has learned of no committee for longer than stake takes to unbond. Whoever
// uses a verifier for longer than a moment asks this before each use.
func (v *Verifier) Check(now chain.TimeMs) error {
	if v.lasts == 0 || now <= v.named || uint64(now-v.named) <= v.lasts {
		return nil
	}
	age, limit := time.Duration(now-v.named)*time.Millisecond, time.Duration(v.lasts)*time.Millisecond
	return fmt.Errorf("%w: the last committee that is known, of epoch %d, was named %s ago, and stake unbonds in %s: its members could since have signed another history with nothing at stake; begin again from a newer checkpoint of somebody you trust",
		ErrExpired, v.Newest(), age.Round(time.Second), limit)
}

// ChainID returns the chain's name.
func (v *Verifier) ChainID() chain.ChainID { return v.chainID }

// Genesis returns the digest of the chain's genesis.
func (v *Verifier) Genesis() crypto.Digest { return v.genesis }

// Oldest returns the first epoch whose committee is known.
func (v *Verifier) Oldest() consensus.Epoch { return v.committees[0].Epoch() }

// Newest returns the last epoch whose committee is known.
func (v *Verifier) Newest() consensus.Epoch { return v.committees[len(v.committees)-1].Epoch() }

// Committee returns the committee of an epoch, whose certificates are believed,
// and false if it is not known.
func (v *Verifier) Committee(epoch consensus.Epoch) (*consensus.Committee, bool) {
	if epoch < v.Oldest() || epoch > v.Newest() {
		return nil, false
	}
	return v.committees[epoch-v.Oldest()], true
}

// MaxEvidenceBytes holds the encoding of any Evidence.
const MaxEvidenceBytes = (MaxPath+1)*(chain.MaxHeaderBytes+8) + consensus.MaxCertificateBytes + 64

// Evidence is what a server shows to prove a header final: canonical bytes.
type Evidence struct {
	Header      []byte
	Path        [][]byte // from the header's child to the certified one; empty: Header is certified itself
	Certificate []byte
}

// VerifyHeader returns the header if the evidence shows that a quorum finalized
// it.
func (v *Verifier) VerifyHeader(e Evidence) (Header, error) {
	headers, err := v.VerifyPath(e)
	if err != nil {
		return Header{}, err
	}
	return headers[0], nil
}

// VerifyPath is VerifyHeader that returns the headers of the path too: one
// certificate shows them all.
func (v *Verifier) VerifyPath(e Evidence) ([]Header, error) {
	if len(e.Path) > MaxPath {
		return nil, refuse("path of %d headers, limit %d", len(e.Path), MaxPath)
	}
	first, err := v.decode(e.Header)
	if err != nil {
		return nil, err
	}
	if first.Height == 1 && first.Parent != v.genesis {
		return nil, refuse("block 1 follows %s, not genesis %s", first.Parent.Short(), v.genesis.Short())
	}
	digest := first.Digest()
	last, top := first, digest
	headers := make([]Header, 1, 1+len(e.Path))
	headers[0] = Header{h: &first, digest: digest}
	for i, raw := range e.Path {
		next, err := v.decode(raw)
		switch {
		case err != nil:
			return nil, fmt.Errorf("path header %d: %w", i, err)
		case next.Epoch != first.Epoch:
			return nil, refuse("path header %d is of epoch %d, block %d of epoch %d: no path leads through another epoch", i, next.Epoch, first.Height, first.Epoch)
		case next.Parent != top || next.Height != last.Height+1:
			return nil, refuse("path header %d is no child of block %d", i, last.Height)
		case last.Closing:
			return nil, refuse("path header %d follows block %d, which closes epoch %d", i, last.Height, last.Epoch)
		}
		last, top = next, next.Digest()
		headers = append(headers, Header{h: &next, digest: top})
	}
	if err := v.verifyCertificate(e.Certificate, &last, top); err != nil {
		return nil, err
	}
	return headers, nil
}

// decode reads a header and checks what every header of the chain has.
func (v *Verifier) decode(raw []byte) (chain.Header, error) {
	h, err := chain.DecodeHeader(raw)
	switch {
	case err != nil:
		return h, refuse("%w", err)
	case h.Version != chain.BlockVersion:
		return h, refuse("header version %d, want %d", h.Version, chain.BlockVersion)
	case h.ChainID != v.chainID:
		return h, refuse("header of chain %.40q, want %q", string(h.ChainID), string(v.chainID))
	case h.Height == 0:
		return h, refuse("header of height 0: genesis has none")
	}
	epoch := consensus.Epoch(h.Epoch)
	committee, known := v.Committee(epoch)
	next, followed := v.Committee(epoch + 1)
	switch {
	case !known && epoch > v.Newest():
		return h, fmt.Errorf("%w: header of epoch %d, the last known committee is of epoch %d", ErrAhead, epoch, v.Newest())
	case !known:
		return h, refuse("header of epoch %d, the first known committee is of epoch %d", epoch, v.Oldest())
	case h.Committee != committee.Digest():
		return h, refuse("header names committee %s, that of epoch %d is %s", h.Committee.Short(), epoch, committee.Digest().Short())
	case h.Closing && followed && h.NextCommittee != next.Digest():
		return h, refuse("header names next committee %s, that of epoch %d is %s", h.NextCommittee.Short(), epoch+1, next.Digest().Short())
	}
	return h, nil
}

// verifyCertificate checks that a quorum of the header's own epoch finalized it.
func (v *Verifier) verifyCertificate(raw []byte, h *chain.Header, digest crypto.Digest) error {
	committee, ok := v.Committee(consensus.Epoch(h.Epoch))
	if !ok {
		panic("light: a header without a known committee was decoded")
	}
	return verifyCertificate(committee, raw, h, digest)
}

// verifyCertificate checks that a quorum of a committee finalized a header. The
// certificate's view may be above that of a closing header, whose digest is
// proposed again in later views.
func verifyCertificate(committee *consensus.Committee, raw []byte, h *chain.Header, digest crypto.Digest) error {
	cert, err := consensus.DecodeCertificate(raw)
	if err != nil {
		return refuse("%w", err)
	}
	s := cert.Statement
	switch {
	case s.Kind != consensus.KindFinalize:
		return refuse("the certificate is of kind %s, want finalize", s.Kind)
	case s.Proposal.Digest != digest:
		return refuse("the certificate finalizes %s, not block %d (%s)", s.Proposal.Digest.Short(), h.Height, digest.Short())
	case uint64(s.View()) < h.View, uint64(s.View()) > h.View && !h.Closing:
		return refuse("the certificate is of view %d, the block of view %d", s.View(), h.View)
	}
	if err := cert.Verify(committee, string(h.ChainID)); err != nil {
		return refuse("%w", err)
	}
	return nil
}

// Header is a header that a quorum finalized.
type Header struct {
	h      *chain.Header
	digest crypto.Digest
}

// Header returns a copy of the header, and ErrUnverified for the zero value.
func (h Header) Header() (chain.Header, error) {
	if h.h == nil {
		return chain.Header{}, ErrUnverified
	}
	return *h.h, nil
}

// VerifyCertificate returns nil if the bytes are a certificate of this very block
// by the committee that the header names. It is for whoever trusts the header for
// another reason (see At) and means to show it to others.
func (h Header) VerifyCertificate(committee *consensus.Committee, raw []byte) error {
	switch {
	case h.h == nil:
		return ErrUnverified
	case committee.Epoch() != consensus.Epoch(h.h.Epoch) || committee.Digest() != h.h.Committee:
		return refuse("committee %s of epoch %d, block %d names %s of epoch %d", committee.Digest().Short(), committee.Epoch(), h.h.Height, h.h.Committee.Short(), h.h.Epoch)
	}
	return verifyCertificate(committee, raw, h.h, h.digest)
}

// Height returns the block's height; 0 for the zero value.
func (h Header) Height() chain.Height {
	if h.h == nil {
		return 0
	}
	return h.h.Height
}

// TimeMs returns the block's time; 0 for the zero value.
func (h Header) TimeMs() chain.TimeMs {
	if h.h == nil {
		return 0
	}
	return h.h.TimeMs
}

// Digest returns the block's digest; zero for the zero value.
func (h Header) Digest() crypto.Digest { return h.digest }

// Value is what a finalized state says of a key.
type Value struct {
	key, value []byte
	present    bool
	header     Header
}

// VerifyValue returns the value if the proof shows that the state whose root
// the header carries has it under the key (present), or has none (not present,
// and no value).
func (h Header) VerifyValue(key, value []byte, present bool, proof []byte) (Value, error) {
	if h.h == nil {
		return Value{}, ErrUnverified
	}
	p, err := state.DecodeProof(proof)
	if err != nil {
		return Value{}, refuse("%w", err)
	}
	if !present && len(value) == 0 {
		value = nil
	}
	if err := p.Verify(h.h.StateRoot, key, value, present); err != nil {
		return Value{}, refuse("key %x at height %d: %w", key, h.h.Height-1, err)
	}
	return Value{key: slices.Clone(key), value: slices.Clone(value), present: present, header: h}, nil
}

// Get returns the value, and false if the state has none under the key.
func (v Value) Get() ([]byte, bool) { return slices.Clone(v.value), v.present }

// Key returns the key.
func (v Value) Key() []byte { return slices.Clone(v.key) }

// Header returns the header whose state root it was proven against.
func (v Value) Header() Header { return v.header }

// Height returns the height after which the state has the value: one below the
// header's.
func (v Value) Height() chain.Height {
	if v.header.h == nil {
		return 0
	}
	return v.header.h.Height - 1
}

// Block is a finalized block. Its transactions' signatures are not looked at:
// a quorum did.
type Block struct {
	header Header
	block  *chain.DecodedBlock
}

// VerifyBlock returns the block if its canonical bytes are those that the header
// commits to.
func (h Header) VerifyBlock(raw []byte) (Block, error) {
	if h.h == nil {
		return Block{}, ErrUnverified
	}
	decoded, err := chain.DecodeBlock(raw, nil)
	if err != nil {
		return Block{}, refuse("%w", err)
	}
	if decoded.Digest() != h.digest {
		return Block{}, refuse("the bytes are of block %s, not %s", decoded.Digest().Short(), h.digest.Short())
	}
	return Block{header: h, block: decoded}, nil
}

// Header returns the block's header.
func (b Block) Header() Header { return b.header }

// Txs returns the block's transactions; treat them as read-only.
func (b Block) Txs() []chain.DecodedTx {
	if b.block == nil {
		return nil
	}
	return b.block.Txs()
}

// Receipts is what the execution of a finalized block made.
type Receipts struct {
	height   chain.Height
	digest   crypto.Digest
	receipts chain.BlockReceipts
}

// VerifyReceipts returns the receipts of the header's parent if their canonical
// bytes are those that the header commits to. The receipts of genesis, which
// block 1 commits to, are of height 0.
func (h Header) VerifyReceipts(raw []byte) (Receipts, error) {
	if h.h == nil {
		return Receipts{}, ErrUnverified
	}
	if len(raw) > MaxReceiptsBytes {
		return Receipts{}, refuse("receipts of %d bytes, limit %d", len(raw), MaxReceiptsBytes)
	}
	receipts, err := chain.DecodeBlockReceipts(raw)
	if err != nil {
		return Receipts{}, refuse("receipts: %w", err)
	}
	if root := receipts.Root(); root != h.h.ReceiptRoot {
		return Receipts{}, refuse("the receipts' root is %s, block %d says %s", root.Short(), h.h.Height, h.h.ReceiptRoot.Short())
	}
	return Receipts{height: h.h.Height - 1, digest: h.h.Parent, receipts: receipts}, nil
}

// MaxReceiptsBytes bounds the encoded receipts of one block.
const MaxReceiptsBytes = 32 << 20

// Height returns the height of the block that made the receipts.
func (r Receipts) Height() chain.Height { return r.height }

// Block returns the digest of the block that made the receipts; zero for the
// zero value.
func (r Receipts) Block() crypto.Digest { return r.digest }

// Tx returns the receipt of a transaction, and false if the block has none of
// that id.
func (r Receipts) Tx(id chain.TxID) (chain.Receipt, bool) {
	for i := range r.receipts.Txs {
		if r.receipts.Txs[i].TxID == id {
			return r.receipts.Txs[i], true
		}
	}
	return chain.Receipt{}, false
}

// All returns every receipt and event; treat them as read-only.
func (r Receipts) All() chain.BlockReceipts { return r.receipts }
