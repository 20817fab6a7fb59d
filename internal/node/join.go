package node

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/rpc"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/statesync"
	"github.com/hypermesh/hypermesh/internal/store"
	"github.com/hypermesh/hypermesh/internal/transport"
)

// Join brings a node without blocks to the chain, if the config names a
// checkpoint (consensus.md §4, "Joining"): it fetches the state before a block that
// peers offer to begin with, executes that block, and leaves the rest to catch-up. A node that has blocks only has its checkpoint compared with them, or
// with those to come (application.commit). Call
// it between Open and New; if it fails, the dependencies are closed.
func (d *Deps) Join(ctx context.Context, config Config) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	if config.Checkpoint == "" {
		return nil
	}
	checkpoint, err := light.ParseCheckpoint(config.Checkpoint)
	if err != nil {
		return err
	}
	if _, some := d.Store.Latest(); some {
		return d.compare(checkpoint)
	}
	if err := checkpoint.Check(d.Genesis, chain.TimeMs(time.Now().UnixMilli())); err != nil {
		return err
	}
	peers, err := d.joinPeers(config)
	if err != nil {
		return err
	}
	mesh, err := transport.NewMesh(d.Endpoint, statesync.JoinerMesh(peers))
	if err != nil {
		return fmt.Errorf("making the mesh to join by: %w", err)
	}
	sink := &importSink{store: d.Store, began: time.Now()}
	return d.answering(ctx, config, sink.standing, func() error { return d.join(ctx, checkpoint, mesh, sink) })
}

// answering has the HTTP API say why there is nothing yet, while do runs.
func (d *Deps) answering(ctx context.Context, config Config, why func() string, do func() error) error {
	if config.HTTP == "" {
		return do()
	}
	server, err := rpc.ListenWaiting(config.rpc(), why, d.Log)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	err = do()
	stop()
	return errors.Join(err, <-ended)
}

// join fetches the state over the mesh, and adopts it.
func (d *Deps) join(ctx context.Context, checkpoint light.Checkpoint, mesh *transport.Mesh, sink *importSink) error {
	var wg sync.WaitGroup
	connected, disconnect := context.WithCancel(ctx)
	var errMesh error
	wg.Go(func() { errMesh = mesh.Run(connected) })
	result, err := statesync.Join(ctx, statesync.Config{
		Genesis: d.Genesis, Checkpoint: checkpoint, Network: joinNetwork{mesh}, Sink: sink, Log: d.Log,
	})
	disconnect()
	wg.Wait()
	if err := errors.Join(err, errMesh); err != nil {
		return fmt.Errorf("joining from checkpoint %d: %w", checkpoint.Height, err)
	}
	return d.adopt(result, sink)
}

// compare refuses a checkpoint that is of another history than this node's.
func (d *Deps) compare(c light.Checkpoint) error {
	if c.ChainID != d.Genesis.ChainID {
		return c.Check(d.Genesis, c.TimeMs)
	}
	end, ok, err := d.Store.EpochEnd(uint64(c.Epoch))
	if err != nil || !ok {
		return err // it is ahead of this node, or from before it joined
	}
	_, header, err := endOf(end)
	if err != nil {
		return err
	}
	if digest := header.Digest(); digest != c.Digest {
		return fmt.Errorf("node: epoch %d ended with block %s here, the checkpoint names %s: this home and the checkpoint are of two histories", c.Epoch, digest.Short(), c.Digest.Short())
	}
	return nil
}

// joinPeers returns the config's peers and genesis' validators with the sentries that
// they advertise, without this node; behind sentries, these alone.
func (d *Deps) joinPeers(config Config) ([]transport.NodeAddr, error) {
	known := map[crypto.PublicKey]bool{d.Endpoint.ID(): true}
	var peers []transport.NodeAddr
	add := func(a transport.NodeAddr) {
		if !known[a.ID] {
			known[a.ID] = true
			peers = append(peers, a)
		}
	}
	named, err := config.neighbours()
	if err != nil {
		return nil, err
	}
	for _, a := range named.all() {
		add(a)
	}
	if named.hidden() {
		return peers, nil
	}
	var sentries []transport.NodeAddr
	for _, v := range d.Genesis.Validators {
		named := advertised(v.NodeKey, v.Endpoint)
		add(named[0])
		sentries = append(sentries, named[1:]...)
	}
	for _, a := range sentries { // as network.peers
		add(a)
	}
	return peers, nil
}

// joinNetwork is a mesh as package statesync sees it.
type joinNetwork struct{ *transport.Mesh }

// Peers returns the keys of the connected peers.
func (n joinNetwork) Peers() []crypto.PublicKey {
	var out []crypto.PublicKey
	for _, p := range n.Stats() {
		if p.Connected {
			out = append(out, p.ID)
		}
	}
	return out
}

// importSink keeps what is fetched in the store.
type importSink struct {
	store *store.Store
	into  *store.Import
	began time.Time

	height  atomic.Uint64 // of the state; 0: not chosen yet
	fetched atomic.Uint64 // leaves, in this life
}

// standing says how far joining has come.
func (s *importSink) standing() string {
	since := time.Since(s.began).Round(time.Second)
	if s.height.Load() == 0 {
		return fmt.Sprintf("joining from a checkpoint for %s: looking for peers who have the state", since)
	}
	return fmt.Sprintf("joining from a checkpoint for %s: %d entries fetched of the state at height %d", since, s.fetched.Load(), s.height.Load())
}

// Begin begins with the state before a block, or goes on with it.
func (s *importSink) Begin(first light.Header) (progress []byte, err error) {
	goal := first.Digest()
	s.height.Store(uint64(first.Height() - 1))
	s.into, progress, err = s.store.Import(goal[:], uint64(first.Height()-1))
	return progress, err
}

// Put keeps all leaves of a range together with the progress.
func (s *importSink) Put(r state.Range, leaves []state.Entry, progress []byte) error {
	s.fetched.Add(uint64(len(leaves)))
	return s.into.Put(r, leaves, progress)
}

// Committee returns the committee of an epoch, as the fetched state says.
func (s *importSink) Committee(epoch consensus.Epoch) (committee *consensus.Committee, ok bool, err error) {
	defer recoverFault(&err)
	if err := s.into.Flush(); err != nil {
		return nil, false, err
	}
	committee, _, ok = staking.CommitteeOf(s.store.State(), epoch)
	return committee, ok, nil
}

// adopt makes the tree of the fetched state, executes the first block on it and
// commits that block as the store's first.
func (d *Deps) adopt(r statesync.Result, sink *importSink) error {
	header, err := r.Block.Header().Header()
	if err != nil {
		return err
	}
	for _, end := range r.Ends {
		ended, err := end.Closing.Header()
		if err != nil {
			return err
		}
		if ended.Height == header.Height {
			break // it is stored with the block
		}
		if err := sink.into.PutEpoch(store.EpochEnd{Epoch: ended.Epoch, Height: ended.Height, Record: end.Transition}); err != nil {
			return err
		}
	}
	before := store.Tip{Height: header.Height - 1, Digest: header.Parent, StateRoot: header.StateRoot}
	tree, err := sink.into.Finish(before, d.Genesis.Digest())
	if err != nil {
		return err
	}
	first, err := d.executeFirst(r.Raw, r.Certificate, tree)
	if err != nil {
		return fmt.Errorf("executing block %d, which the joiner begins with: %w", header.Height, err)
	}
	if err := d.Store.Commit(first); err != nil {
		return err
	}
	d.Fresh = false // epoch 1 is over, and what its log would say is of no use
	d.live()
	d.Log.Info("joined the chain", "height", header.Height, "epoch", header.Epoch, "took", time.Since(sink.began))
	return nil
}

// executeFirst executes a block on the imported state.
func (d *Deps) executeFirst(raw, certificate []byte, before *state.Tree) (store.Finalized, error) {
	block, err := chain.DecodeBlock(raw, nil)
	if err != nil {
		return store.Finalized{}, err
	}
	h := block.Header()
	extras, err := staking.DecodeExtras(&block.Block().Body)
	if err != nil {
		return store.Finalized{}, err
	}
	txs := chain.VerifyTxs(block.Txs(), runtime.GOMAXPROCS(0))
	parent := d.Store.State()
	outcome, err := d.executor().Apply(parent, h, extras, txs)
	if err != nil {
		return store.Finalized{}, err
	}
	tree, err := before.Next(uint64(h.Height), outcome.Changes, runtime.GOMAXPROCS(0))
	if err != nil {
		return store.Finalized{}, err
	}
	closing, err := closingOf(h, certificate, before, newLayer(parent, outcome.Changes))
	if err != nil {
		return store.Finalized{}, err
	}
	receipts, _ := outcome.Receipts.EncodeAndRoot()
	return store.Finalized{
		Height: h.Height, Digest: block.Digest(), Header: h.Encode(), Block: raw, Certificate: certificate, Receipts: receipts,
		Changes: outcome.Changes, Tree: tree, Txs: txIDs(block), Orders: orders(block), Closing: closing,
	}, nil
}
