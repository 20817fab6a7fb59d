package server

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/go-hclog"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// Kill ends a server as SIGKILL would: nobody is told, nothing is handed over.
// Run must be under way, and returns.
func (s *Server) Kill(ctx context.Context) error {
	err := s.endpoint.Close()
	if stopped := s.consensus.raft.Shutdown().Error(); stopped != nil {
		return stopped
	}
	return err
}

// Outlive has the reign be of the term before, as that of a leader is who lost the
// leadership, leads again, and has not noticed either.
func (s *Server) Outlive() {
	old := s.current.Load()
	s.current.Store(&reign{Server: s, ctx: old.ctx, term: old.term - 1, pokes: old.pokes})
}

// Log is raft's log on the disk.
type Log struct {
	*wal.WAL
	meta *metadb.BoltMetaDB
}

// OpenLog opens raft's log in a directory.
func OpenLog(dir string) (*Log, error) {
	meta := &metadb.BoltMetaDB{}
	log, err := openLog(dir, meta, hclog.NewNullLogger())
	if err != nil {
		return nil, errors.Join(err, meta.Close())
	}
	return &Log{log, meta}, nil
}

// Close closes the log and what it knows of its files.
func (l *Log) Close() error { return errors.Join(l.WAL.Close(), l.meta.Close()) }

// SnapshotNow has raft take a snapshot.
func (s *Server) SnapshotNow() error { return s.consensus.raft.Snapshot().Error() }

// NewSDKChain returns the chain of the given nodes.
func NewSDKChain(nodes []string, genesis *chain.Genesis, cluster crypto.PrivateKey) (Chain, error) {
	return newSDKChain(nodes, identity{genesis: genesis, cluster: cluster})
}

// Batcher lets tests see how commands are batched.
type Batcher struct{ b *batcher }

// NewBatcher returns a batcher whose entries carry takes: it returns the error of
// each command.
func NewBatcher(ctx context.Context, carry func(commands [][]byte) []error) (b *Batcher, ended <-chan struct{}) {
	b = &Batcher{newBatcher(func(_ context.Context, commands [][]byte) func() []outcome {
		return func() []outcome {
			out := make([]outcome, len(commands))
			for i, err := range carry(commands) {
				out[i].err = err
			}
			return out
		}
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.b.run(ctx)
	}()
	return b, done
}

// Own queues a command of the leader's, For one of a client's; both return what
// waits for its outcome.
func (b *Batcher) Own(raw []byte) (wait func() error) {
	done := b.b.queueOwn(raw)
	return func() error { return (<-done).err }
}

// For queues a command of a client's.
func (b *Batcher) For(who chain.Address, raw []byte) (wait func() error) {
	done := b.b.queueFor(who, raw)
	return func() error { return (<-done).err }
}

// The bounds of what waits, and of an entry.
const (
	MaxWaiting    = maxWaiting
	MaxWaitingOf  = maxWaitingOf
	MaxBatchBytes = maxBatchBytes
)

// LogIndex returns the index of the newest entry that is carried out.
func (s *Server) LogIndex() uint64 { return s.consensus.raft.AppliedIndex() }

// Stall keeps a server from carrying out entries until release is called. It
// goes on taking them, and the leader's beats.
func (s *Server) Stall() (release func()) {
	s.replica.mu.Lock()
	return s.replica.mu.Unlock
}

// Break has the state machine panic, its state half changed, at an entry with a
// command that breaks picks.
func (s *Server) Break(breaks func(scheduler.Command) bool) {
	s.replica.mu.Lock()
	defer s.replica.mu.Unlock()
	s.replica.machine = func(state *scheduler.State, e scheduler.Entry) ([]scheduler.Effect, []error) {
		effects, errs := state.Apply(e)
		for _, c := range e.Commands {
			if breaks(c) {
				panic("the test has it break")
			}
		}
		return effects, errs
	}
}

// State returns the encoded state, and the index of the newest entry in it.
func (s *Server) State() ([]byte, uint64) {
	s.replica.mu.RLock()
	defer s.replica.mu.RUnlock()
	return s.replica.state.Encode(), s.replica.applied
}

// PutAside returns how many commands are put aside.
func (s *Server) PutAside() int {
	list, _ := s.replica.asides()
	return len(list.List)
}

// LoseBlob removes a blob from a server's store, wanted or not.
func (s *Server) LoseBlob(id crypto.Digest) error {
	return errors.Join(s.blobs.Unpin(id), s.blobs.Remove(id), s.blobs.Pin(id))
}

// Bounds of the auctions that open together.
const (
	RoundSize = roundSize
	RoundPace = roundPace
	Burst     = burst
	MaxHeldUp = maxHeldUp
)

// Auctioneer lets tests see when auctions open.
type Auctioneer struct{ a auctioneer }

// NewAuctioneer has n auctions wait since a time.
func NewAuctioneer(n int, since time.Time) *Auctioneer {
	a := &Auctioneer{}
	for range n {
		a.a.waiting = append(a.a.waiting, opening{since: since})
	}
	return a
}

// Next returns how many may open now, and when to look again.
func (a *Auctioneer) Next(now time.Time, admitting int64) (int, time.Duration) {
	return a.a.next(now, admitting)
}

// Open opens a round of n; each call of answer has one of them answered.
func (a *Auctioneer) Open(n int, at time.Time) (answer func()) {
	r := &round{began: at, left: n, ready: make(chan struct{}, 1)}
	a.a.waiting, a.a.rounds, a.a.last = a.a.waiting[n:], append(a.a.rounds, r), at
	return func() { r.answered(nil) }
}

// KeepDones has a session that nobody looks at take n Dones, of whose assignments
// over says whether they have ended.
func KeepDones(n int, over func(i int) bool) error {
	ids := map[crypto.Digest]int{}
	s := &session{dones: map[crypto.Digest]job.Done{}, refusals: map[crypto.Digest]string{}}
	ss := &sessions{poke: func(*session) {}, ended: func(_ crypto.PublicKey, order crypto.Digest) bool { return over(ids[order]) }}
	for i := range n {
		m := job.Done{Receipt: chain.UsageReceipt{Order: crypto.Digest{byte(i), byte(i >> 8), byte(i >> 16)}}}
		ids[m.Receipt.Order] = i
		if err := ss.take(s, m); err != nil {
			return err
		}
	}
	return nil
}
