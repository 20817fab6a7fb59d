package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/statesync"
	"github.com/hypermesh/hypermesh/internal/store"
)

// Home is a node's home while the node does not run: what operators look at.
type Home struct {
	Genesis *chain.Genesis
	Store   *store.Store
	home    string
}

// OpenHome opens the home of a node that does not run; a read-only one is left as
// it is. It is store.ErrLocked while the node runs.
func OpenHome(home string, readOnly bool, log *slog.Logger) (*Home, error) {
	genesis, err := ReadGenesisFile(filepath.Join(home, GenesisFile))
	if err != nil {
		return nil, err
	}
	if !readOnly {
		if err := os.MkdirAll(filepath.Join(home, dataDir), 0o755); err != nil {
			return nil, fmt.Errorf("making the data directory: %w", err)
		}
	}
	st, err := store.Open(chainDir(home), store.Options{ReadOnly: readOnly, Logger: log})
	if err != nil {
		return nil, err
	}
	h := &Home{Genesis: genesis, Store: st, home: home}
	if _, some := st.Latest(); some {
		if first, ok, err := st.Tip(0); err != nil || !ok || first.Digest != genesis.Digest() {
			return nil, errors.Join(errors.New("node: the data directory belongs to another genesis"), err, st.Close())
		}
	}
	return h, nil
}

func chainDir(home string) string { return filepath.Join(home, dataDir, "chain") }

// Disk returns how many bytes the node's data take: by the name of each file or
// directory in the data directory, and all of it. The chain's is the database, with
// state, blocks, receipts and indexes; the rest is the logs of consensus.
func (h *Home) Disk() (parts map[string]uint64, all uint64, err error) {
	parts = map[string]uint64{}
	data := filepath.Join(h.home, dataDir)
	err = filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != data {
			return nil // it went meanwhile
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		below, err := filepath.Rel(data, path)
		part, _, _ := strings.Cut(below, string(filepath.Separator))
		parts[part] += uint64(info.Size())
		all += uint64(info.Size())
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("measuring %s: %w", data, err)
	}
	return parts, all, nil
}

// Close closes the store.
func (h *Home) Close() error { return h.Store.Close() }

// VerifyReport is what VerifyHome found. Faults is empty if all is well.
type VerifyReport struct {
	Files     int               `json:"files"`
	Bytes     uint64            `json:"bytes"`
	Closed    bool              `json:"closed_in_order"`
	Height    chain.Height      `json:"height"`
	StateRoot crypto.Digest     `json:"state_root"` // recomputed
	Keys      uint64            `json:"keys"`
	Nodes     uint64            `json:"tree_nodes"`
	Supply    *execution.Supply `json:"supply,omitempty"`
	First     chain.Height      `json:"first_block"` // 0: none is stored
	Blocks    uint64            `json:"blocks"`
	Verified  uint64            `json:"certificates_verified"` // with every signature
	Point     chain.Height      `json:"point"`                 // before which the state was checked, for who joins there; 0: there is none
	Faults    []string          `json:"faults"`
}

func (r *VerifyReport) fault(err error) { r.Faults = append(r.Faults, err.Error()) }

// VerifyHome reads all that the node in a home has stored: every file against its
// checksums; the latest state, whose root and supply it recomputes; the tree; the
// blocks with their links, receipts, indexes and certificates. It changes nothing.
func VerifyHome(ctx context.Context, home string, log *slog.Logger) (r VerifyReport, err error) {
	r.Faults = []string{}
	files, err := store.CheckFiles(ctx, chainDir(home))
	if err != nil {
		return r, err
	}
	r.Files, r.Bytes, r.Closed = files.Files, files.Bytes, files.Sealed
	for _, fault := range files.Faults {
		r.fault(fault)
	}
	h, err := OpenHome(home, true, log)
	if errors.Is(err, store.ErrDamaged) || err != nil && len(r.Faults) > 0 {
		if len(r.Faults) == 0 {
			r.fault(err)
		}
		return r, nil
	}
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	if _, some := h.Store.Latest(); !some {
		return r, errors.New("node: there is no block to verify")
	}
	if err := h.verifyState(ctx, &r); err != nil {
		r.fault(err)
	}
	if err := h.verifyBlocks(ctx, &r); err != nil {
		r.fault(err)
	}
	if err := h.verifyPoint(ctx, &r); err != nil {
		r.fault(err)
	}
	return r, ctx.Err()
}

func (h *Home) verifyState(ctx context.Context, r *VerifyReport) error {
	c, err := h.Store.CheckState(ctx)
	r.Height, r.StateRoot, r.Keys, r.Nodes = c.Tip.Height, c.Root, c.Keys, c.Tree.Nodes
	if err != nil {
		return fmt.Errorf("the state: %w", err)
	}
	if c.Differences > 0 {
		r.fault(fmt.Errorf("the flat state and the tree differ about %d keys, the first is %x", c.Differences, c.First.Key))
	}
	if c.Root != c.Tip.StateRoot {
		r.fault(fmt.Errorf("the state has the root %s, block %d was stored with %s", c.Root, c.Tip.Height, c.Tip.StateRoot))
	}
	supply, err := execution.Recompute(h.Store.State())
	if err != nil {
		return fmt.Errorf("the supply: %w", err)
	}
	r.Supply = &supply
	return nil
}

// verifyPoint reads the state before the last point, which is what a joiner is given.
func (h *Home) verifyPoint(ctx context.Context, r *VerifyReport) error {
	points, err := h.Store.Points(1)
	if err != nil || len(points) == 0 {
		return err
	}
	r.Point = points[0]
	tree, err := h.Store.OpenTree(r.Point - 1)
	if err != nil {
		return fmt.Errorf("the state before block %d: %w", r.Point, err)
	}
	var size state.TreeSize
	for _, err := range tree.Checked(&size) {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return fmt.Errorf("the state before block %d: %w", r.Point, err)
		}
	}
	return nil
}

// verifyBlocks checks the blocks from the first that is stored. It stops at the
// first fault, since what follows from a broken link says nothing.
func (h *Home) verifyBlocks(ctx context.Context, r *VerifyReport) error {
	first, some, err := h.Store.FirstBlock()
	if err != nil || !some {
		return err
	}
	r.First = first
	for height := first; height <= r.Height; height++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := h.verifyBlock(height, r); err != nil {
			return fmt.Errorf("block %d: %w", height, err)
		}
		r.Blocks++
	}
	return nil
}

// signedBlocks is of how many of the last blocks the certificates' signatures are
// verified.
const signedBlocks = 256

func (h *Home) verifyBlock(height chain.Height, r *VerifyReport) error {
	tip, ok, errTip := h.Store.Tip(height)
	header, errHeader := storedHeader(h.Store, height)
	raw, okBlock, errBlock := h.Store.Block(height)
	if err := errors.Join(errTip, errHeader, errBlock); err != nil || !ok || !okBlock {
		return errors.Join(errors.New("it is not stored whole"), err)
	}
	block, err := chain.DecodeBlock(raw, nil)
	if err != nil {
		return err
	}
	named, ok, err := h.Store.HeightOf(tip.Digest)
	switch {
	case err != nil:
		return err
	case block.Digest() != tip.Digest || header.Digest() != tip.Digest || header.Height != height || header.ChainID != h.Genesis.ChainID:
		return fmt.Errorf("its header is %s, of height %d, it was stored as %s", header.Digest(), header.Height, tip.Digest)
	case !ok || named != height:
		return fmt.Errorf("the index of digests leads to block %d", named)
	}
	if before, ok, err := h.Store.Tip(height - 1); err != nil {
		return err
	} else if ok && header.Parent != before.Digest {
		return fmt.Errorf("its parent is %s, block %d is %s", header.Parent, height-1, before.Digest)
	} else if ok && header.StateRoot != before.StateRoot {
		return fmt.Errorf("it says that the state before it is %s, stored is %s", header.StateRoot, before.StateRoot)
	}
	if _, ok, err := h.Store.Block(height - 1); err != nil {
		return err
	} else if receipts, err := storedReceiptRoot(h.Store, height-1); err != nil {
		return err
	} else if (ok || height == 1) && receipts != header.ReceiptRoot {
		return fmt.Errorf("it says that the receipts before it are %s, stored are %s", header.ReceiptRoot, receipts)
	}
	for i, id := range txIDs(block) {
		if at, ok, err := h.Store.TxPosition(id); err != nil || !ok || at != (store.Position{Height: height, Index: uint32(i)}) {
			return errors.Join(fmt.Errorf("the index of transactions leads for %s to %v", id, at), err)
		}
	}
	return h.verifyCertificate(&header, r)
}

func (h *Home) verifyCertificate(header *chain.Header, r *VerifyReport) (err error) {
	defer recoverFault(&err)
	raw, ok, err := h.Store.Certificate(header.Height)
	if err != nil || !ok {
		return errors.Join(errors.New("it has no certificate"), err)
	}
	c, err := consensus.DecodeCertificate(raw)
	if err != nil {
		return fmt.Errorf("its certificate: %w", err)
	}
	proven, known, err := h.Store.HeightOf(c.Statement.Proposal.Digest)
	if err != nil || !known || proven < header.Height || c.Statement.Kind != consensus.KindFinalize || c.Statement.Round().Epoch != consensus.Epoch(header.Epoch) {
		return errors.Join(fmt.Errorf("its certificate does not finalize it: it is of %v", c.Statement), err)
	}
	if header.Height+signedBlocks <= r.Height && !header.Closing {
		return nil
	}
	committee, _, ok := staking.CommitteeOf(h.Store.State(), consensus.Epoch(header.Epoch))
	if !ok || committee.Digest() != header.Committee {
		return nil // of an epoch that the state has forgotten
	}
	if err := c.Verify(committee, string(h.Genesis.ChainID)); err != nil {
		return fmt.Errorf("its certificate: %w", err)
	}
	r.Verified++
	return nil
}

// ErrNotThere says that a home does not have the state that was asked for.
var ErrNotThere = errors.New("node: this state is not kept")

// Export returns what an export's header says of the state after a block, and the
// state. Height 0 is the one before the last point, from which a home can begin.
func (h *Home) Export(height chain.Height) (x statesync.ExportHeader, tree *state.Tree, err error) {
	if height == 0 {
		offers, err := newSyncSource(h.Store).Offers()
		if err != nil {
			return x, nil, err
		}
		if len(offers) == 0 {
			return x, nil, fmt.Errorf("%w: no epoch has ended here yet, after which a home could begin; a height names any other", ErrNotThere)
		}
		height = offers[0] - 1
	}
	tip, ok, err := h.Store.Tip(height)
	if err != nil || !ok {
		return x, nil, errors.Join(fmt.Errorf("%w: block %d is not stored", ErrNotThere, height), err)
	}
	if tree, err = h.Store.OpenTree(height); err != nil {
		return x, nil, fmt.Errorf("%w: after block %d: %w", ErrNotThere, height, err)
	}
	x = statesync.ExportHeader{ChainID: h.Genesis.ChainID, Genesis: h.Genesis.Digest(), Height: height, Block: tip.Digest, Root: tip.StateRoot}
	proof, _, ok, err := finality(h.Store, height+1)
	if err != nil || !ok {
		return x, tree, err
	}
	header, err := chain.DecodeHeader(proof.Header)
	if err != nil {
		return x, nil, fmt.Errorf("header of block %d: %w", height+1, err)
	}
	x.Next, x.Path, x.Certificate = proof.Header, proof.Path, proof.Certificate
	epoch := header.Epoch - 1 // whose end proves who finalized the block
	if header.Closing {
		epoch = header.Epoch
	}
	end, ok, err := h.Store.EpochEnd(epoch)
	if err != nil || !ok {
		return x, tree, err
	}
	if first, ok, err := h.Store.Block(height + 1); err != nil || !ok {
		return x, tree, err
	} else if header.Closing {
		transition, _, err := endOf(end)
		if err != nil {
			return x, nil, err
		}
		x.First, x.Path, x.Certificate = first, nil, transition.Certificate
	} else {
		x.First = first
	}
	x.Transition = end.Record
	return x, tree, nil
}

// ImportHome makes an empty home that of a node which begins with the first block
// of an export: it brings in the state, executes the block and stores it. The file
// is held against the checkpoint, if there is one; without one, whoever gave the
// file is trusted for the end of an epoch that it names.
func ImportHome(ctx context.Context, home string, r io.Reader, checkpoint string, log *slog.Logger) (sum statesync.ExportSum, tip store.Tip, err error) {
	h, err := OpenHome(home, false, log)
	if err != nil {
		return sum, tip, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	if _, some := h.Store.Latest(); some {
		return sum, tip, fmt.Errorf("importing into %s: %w", home, store.ErrNotEmpty)
	}
	x, err := statesync.OpenExport(r)
	if err != nil {
		return sum, tip, err
	}
	closing, first, err := h.trusted(&x.Header, checkpoint)
	if err != nil {
		return sum, tip, err
	}
	block, err := first.VerifyBlock(x.Header.First)
	if err != nil {
		return sum, tip, err
	}
	goal := first.Digest()
	into, _, err := h.Store.Import(goal[:], uint64(x.Header.Height))
	if err != nil {
		return sum, tip, err
	}
	for chunk, err := range x.Chunks() {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return sum, tip, err
		}
		if err := into.Put(chunk.Range, chunk.Leaves, nil); err != nil {
			return sum, tip, err
		}
	}
	deps := Deps{Genesis: h.Genesis, Store: h.Store, Log: log}
	if deps.Verifier, err = openVerifier(home, h.Genesis); err != nil {
		return sum, tip, err
	}
	if err := into.Flush(); err != nil {
		return sum, tip, err
	}
	if err := h.certified(closing, x.Header.Transition); err != nil {
		return sum, tip, err
	}
	result := statesync.Result{
		Ends: []statesync.End{{Closing: closing, Transition: x.Header.Transition}}, Block: block, Raw: x.Header.First, Certificate: x.Header.Certificate,
	}
	err = deps.adopt(result, &importSink{store: h.Store, into: into})
	tip, _ = h.Store.Latest()
	return x.Sum(), tip, err
}

// trusted returns the end of an epoch that an export's header shows, and the block to
// begin with, if they are of this chain and of the checkpoint.
func (h *Home) trusted(x *statesync.ExportHeader, checkpoint string) (closing, first light.Header, err error) {
	switch {
	case x.ChainID != h.Genesis.ChainID || x.Genesis != h.Genesis.Digest():
		return closing, first, fmt.Errorf("node: the export is of chain %q, genesis %s; this home is of %q, %s", x.ChainID, x.Genesis.Short(), h.Genesis.ChainID, h.Genesis.Digest().Short())
	case !x.Begins():
		return closing, first, fmt.Errorf("%w: the export is of the state after block %d, and block %d was not final, or of the first epoch: no home can begin there", ErrNotThere, x.Height, x.Height+1)
	}
	transition, err := light.DecodeTransition(x.Transition)
	if err != nil {
		return closing, first, err
	}
	header, err := chain.DecodeHeader(transition.Header)
	if err != nil {
		return closing, first, err
	}
	named := light.Checkpoint{
		ChainID: header.ChainID, Epoch: consensus.Epoch(header.Epoch), Height: header.Height, TimeMs: header.TimeMs,
		Digest: header.Digest(), NextCommittee: header.NextCommittee,
	}
	if checkpoint != "" {
		if named, err = light.ParseCheckpoint(checkpoint); err != nil {
			return closing, first, err
		}
	}
	verifier, closing, err := light.At(h.Genesis, named, transition, chain.TimeMs(time.Now().UnixMilli()))
	if err != nil || closing.Height() == x.Height+1 {
		return closing, closing, err
	}
	first, err = verifier.VerifyHeader(light.Evidence{Header: x.Next, Path: x.Path, Certificate: x.Certificate})
	return closing, first, err
}

// certified checks the certificate of the end of an epoch by the committee that the
// imported state names.
func (h *Home) certified(closing light.Header, encoded []byte) (err error) {
	defer recoverFault(&err)
	header, err := closing.Header()
	if err != nil {
		return err
	}
	transition, err := light.DecodeTransition(encoded)
	if err != nil {
		return err
	}
	committee, _, ok := staking.CommitteeOf(h.Store.State(), consensus.Epoch(header.Epoch))
	if !ok {
		return fmt.Errorf("node: the imported state does not know the committee of epoch %d", header.Epoch)
	}
	return closing.VerifyCertificate(committee, transition.Certificate)
}

// States are states to compare: homes or exports.
type States struct {
	Name   string
	Header statesync.ExportHeader
	Leaves iter.Seq2[state.Entry, error]
	close  func() error
	home   *Home
}

// Close closes the file or the home.
func (s *States) Close() error { return s.close() }

// OpenStates opens a home or an export to compare.
func OpenStates(path string, log *slog.Logger) (*States, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		h, err := OpenHome(path, true, log)
		if err != nil {
			return nil, err
		}
		return &States{Name: path, close: h.Close, home: h}, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	x, err := statesync.OpenExport(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &States{Name: path, Header: x.Header, Leaves: x.Leaves(), close: f.Close}, nil
}

// at chooses the state after a block. An export has one.
func (s *States) at(height chain.Height) error {
	if s.home == nil {
		if s.Header.Height != height {
			return fmt.Errorf("%w: %s has the state after block %d, not %d", ErrNotThere, s.Name, s.Header.Height, height)
		}
		return nil
	}
	header, tree, err := s.home.Export(height)
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	s.Header = header
	var size state.TreeSize
	s.Leaves = tree.Checked(&size)
	return nil
}

// Choose takes of two the states after one block: the named height, or else that of
// an export, or else the last one that both homes have.
func Choose(a, b *States, height chain.Height) error {
	for _, s := range []*States{a, b} {
		if height == 0 && s.home == nil {
			height = s.Header.Height
		}
	}
	if height == 0 {
		height = chain.Height(1<<63 - 1)
		for _, s := range []*States{a, b} {
			tip, _ := s.home.Store.Latest()
			height = min(height, tip.Height)
		}
	}
	return errors.Join(a.at(height), b.at(height))
}

// IndexOf returns what a block is indexed under, for pruning.
func IndexOf(raw []byte) ([]crypto.Digest, []store.OrderEntry, error) {
	block, err := chain.DecodeBlock(raw, nil)
	if err != nil {
		return nil, nil, err
	}
	return txIDs(block), orders(block), nil
}
