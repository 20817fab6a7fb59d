package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// Kill ends a server as SIGKILL would: nobody is told, nothing is handed over.
// Run must be under way, and returns.
func (s *Server) Kill(ctx context.Context) error {
	stopping := s.consensus.stop()
	err := errors.Join(s.endpoint.Close(), s.consensus.acks.cutPipes())
	if stopped := stopping.Error(); stopped != nil {
		return stopped
	}
	return err
}

// Await waits for an answer of raft as batches do.
func (s *Server) Await(f raft.Future) error { return s.consensus.await(f) }

// HoldAnswers holds back what other servers answer to raft's beats until release is
// called; held counts the answers that are.
func (s *Server) HoldAnswers() (held func() int, release func()) {
	a, let := s.consensus.acks, make(chan struct{})
	var n atomic.Int64
	a.mu.Lock()
	defer a.mu.Unlock()
	own := a.exchange
	a.exchange = func(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
		err := own(id, target, args, resp)
		n.Add(1)
		<-let
		return err
	}
	return func() int { return int(n.Load()) }, sync.OnceFunc(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.exchange = own
		close(let)
	})
}

// Asked returns how often it was asked whether this server leads.
func (s *Server) Asked() uint64 {
	s.consensus.acks.mu.Lock()
	defer s.consensus.acks.mu.Unlock()
	return s.consensus.acks.asked
}

// ReadIndex asks a leader what is newest.
func (s *Server) ReadIndex(ctx context.Context) (uint64, error) { return s.ownIndex(ctx) }

// Append has the leader's raft decide an entry.
func (s *Server) Append(entry []byte) error { return s.consensus.raft.Apply(entry, 0).Error() }

// KnowsOver asks a leader whether there is nothing to say of a node's part in an order.
func (s *Server) KnowsOver(ctx context.Context, order crypto.Digest, node crypto.PublicKey) (bool, error) {
	r := s.current.Load()
	if r == nil {
		return false, errNoLeader
	}
	_, over, err := r.over(ctx, assignment{order: order, node: node})
	return over, err
}

// Prompt has another server stand for election, whomever it follows.
func (s *Server) Prompt(other *Server) error {
	c := s.consensus
	head := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(c.self), Addr: []byte(c.self)}
	to := other.consensus.self
	return c.acks.TimeoutNow(to, raft.ServerAddress(to), &raft.TimeoutNowRequest{RPCHeader: head}, &raft.TimeoutNowResponse{})
}

// FillPipe sends into a pipeline to another server, whose answers nobody takes, until
// it is closed. full is closed once so much was sent that it waits.
func (s *Server) FillPipe(other *Server) (full <-chan struct{}, ended <-chan error, err error) {
	to := other.consensus.self
	p, err := s.consensus.acks.AppendEntriesPipeline(to, raft.ServerAddress(to))
	if err != nil {
		return nil, nil, err
	}
	waits, done := make(chan struct{}), make(chan error, 1)
	head := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(s.consensus.self), Addr: []byte(s.consensus.self)}
	go func() {
		for n := 0; ; n++ {
			if n == 1 { // one is being handed over: the next waits
				close(waits)
			}
			if _, err := p.AppendEntries(&raft.AppendEntriesRequest{RPCHeader: head}, &raft.AppendEntriesResponse{}); err != nil {
				done <- err
				return
			}
		}
	}()
	return waits, done, nil
}

// Voters lets tests see who has confirmed what.
type Voters struct{ a acks }

// NewVoters returns the answers of nobody.
func NewVoters() *Voters {
	return &Voters{acks{answered: map[raft.ServerID]uint64{}, more: make(chan struct{})}}
}

// Note takes an answer of a server to what it was sent after a question, in a term.
func (v *Voters) Note(id raft.ServerID, term, question uint64) { v.a.note(id, term, question) }

// Confirmed reports whether a majority confirmed server "a" since a question.
func (v *Voters) Confirmed(term, question uint64, voters ...raft.ServerID) bool {
	ok, _ := v.a.confirmed("a", voters, term, question)
	return ok
}

// Gated puts a gate before raft's beats; close shuts it.
func Gated(take func(raft.RPC)) (through func(raft.RPC), shut func()) {
	g := &gate{}
	return g.before(take), g.close
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

// Hold has the state machine wait in the next entry until release is called; busy is
// closed when it does.
func (s *Server) Hold() (busy <-chan struct{}, release func()) {
	there, let := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s.replica.mu.Lock()
	defer s.replica.mu.Unlock()
	s.replica.machine = func(state *scheduler.State, e scheduler.Entry) ([]scheduler.Effect, []error) {
		once.Do(func() { close(there) })
		<-let
		return state.Apply(e)
	}
	return there, func() { close(let) }
}

// StopRaft stops raft, and CloseRaft stops it and closes its files.
func (s *Server) StopRaft() error { return s.consensus.stop().Error() }

// RaftState returns what raft is.
func (s *Server) RaftState() raft.RaftState { return s.consensus.raft.State() }

// CloseRaft is what ends a server's part in raft.
func (s *Server) CloseRaft() error { return s.consensus.close(s.endpoint.Close) }

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

// Lent returns how many blobs are kept until a job names them.
func (s *Server) Lent() int {
	s.pins.mu.Lock()
	defer s.pins.mu.Unlock()
	return len(s.pins.lent)
}

// Unfinished is whose uploads broke off.
type Unfinished struct{ *unfinished }

// NewUnfinished returns those of nobody.
func NewUnfinished(drop func(crypto.Digest)) Unfinished { return Unfinished{newUnfinished(drop)} }

// Add notes that an address brought some of a blob.
func (u Unfinished) Add(from string, id crypto.Digest) { u.add(from, id) }

// Ended notes that a blob is whole.
func (u Unfinished) Ended(id crypto.Digest) { u.ended(id) }

// UploaderOf tells apart who uploads.
func UploaderOf(remote string) string { return uploaderOf(&http.Request{RemoteAddr: remote}) }

// URLOf is urlOf for an address as text.
func URLOf(cfg *Config, listens string) string {
	return urlOf(cfg, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(listens)))
}

// Refused reports whether what a panel judges was asked for, and was not had.
func (s *Server) Refused(panel crypto.Digest) bool {
	s.docket.mu.Lock()
	defer s.docket.mu.Unlock()
	h := s.docket.panels[panel]
	return h != nil && h.judge == nil && !h.fetches.IsZero()
}

// Lends reports whether a server keeps a blob for a while.
func (s *Server) Lends(id crypto.Digest) bool {
	s.pins.mu.Lock()
	defer s.pins.mu.Unlock()
	return s.pins.lent[id] != nil
}

// Lacks reports whether a server says that what a panel judges could not be had from its cluster.
func (s *Server) Lacks(panel crypto.Digest) bool {
	s.docket.mu.Lock()
	defer s.docket.mu.Unlock()
	h := s.docket.panels[panel]
	return h != nil && h.lacking
}

// Keeps ends all lending, as time does, and reports whether a server keeps a blob all the same.
func (s *Server) Keeps(id crypto.Digest) bool {
	s.pins.mu.Lock()
	for e := s.pins.line.Front(); e != nil; e = s.pins.line.Front() {
		s.pins.giveBack(e)
	}
	s.pins.mu.Unlock()
	if err := s.keepOnce(); err != nil {
		panic(err)
	}
	s.pins.mu.Lock()
	defer s.pins.mu.Unlock()
	return s.pins.held[id]
}

// BeforePanels is the height after which panels are looked for.
func BeforePanels(ctx context.Context, c Chain) (chain.Height, error) {
	return c.(*sdkChain).beforePanels(ctx)
}

// OutwardClient is what asks endpoints of other clusters.
func OutwardClient(local bool) *http.Client { return outwardClient(local) }

// MaxPanels bounds the panels that a server looks after at a time.
const MaxPanels = maxPanels

// Drawn has a server hear of a panel.
func (s *Server) Drawn(panel crypto.Digest, jurors ...crypto.PublicKey) {
	s.docket.drawn(panel, 0, jurors, s.sitsHere)
}

// Hears reports whether a server remembers a panel.
func (s *Server) Hears(panel crypto.Digest) bool {
	s.docket.mu.Lock()
	defer s.docket.mu.Unlock()
	return s.docket.panels[panel] != nil
}

// HearsChallenge reports whether a server remembers a challenge of a node.
func (s *Server) HearsChallenge(node crypto.PublicKey) bool {
	s.challenges.mu.Lock()
	defer s.challenges.mu.Unlock()
	return s.challenges.known[node] != nil
}

// ListSingly has what peers miss listed for so long that it is listed one by one.
func (s *Server) ListSingly(node crypto.PublicKey) {
	s.challenges.mu.Lock()
	defer s.challenges.mu.Unlock()
	s.challenges.known[node].listed = time.Now().Add(-postTogether)
}

// MaxChallenges bounds the challenges that a server looks after at a time.
const MaxChallenges = maxChallenges

// Challenged has the server hear of a challenge.
func (s *Server) Challenged(node crypto.PublicKey, peers ...crypto.PublicKey) {
	s.challenged(node, 0, peers)
}

// HandTo hands a message of another cluster to another server, and returns why that does not take it; nil: it does.
func (s *Server) HandTo(ctx context.Context, other *Server, m job.Message) *api.Problem {
	_, err := s.handTo(ctx, other.self, job.EncodeMessage(m))
	problem, _ := errors.AsType[*api.Problem](err)
	return problem
}

// ForLeader reports whether a request is sent on to the leader.
func (s *Server) ForLeader(r *http.Request) bool { return s.isForLeader(r) }

// CheckDone says why a signed end of an order is none, by a verifier of proofs.
func (s *Server) CheckDone(proofs zk.Verifier, policy chain.Policy, d *job.Done) error {
	r := &reign{Server: &Server{verifier: s.verifier, proofs: proofs}}
	return r.checkDone(policy, d)
}

// Reported reports whether the leader keeps a peer's report of an epoch.
func (s *Server) Reported(e *chain.ServiceEpoch, peer crypto.PublicKey) bool {
	r := s.current.Load()
	if r == nil {
		return false
	}
	r.services.mu.Lock()
	defer r.services.mu.Unlock()
	w := r.services.known[e.Lease.Order]
	if w == nil {
		return false
	}
	_, ok := w.reports[epochOf{e.Terms, e.Epoch}][peer]
	return ok
}

// RecordOf is what the state has of the chain's record of a node; nil: nothing.
func (s *Server) RecordOf(node crypto.PublicKey) (c *scheduler.Capacity) {
	s.replica.view(func(state *scheduler.State) {
		if n, ok := state.Node(node); ok {
			c = n.Record
		}
	})
	return c
}

// Measured has what the chain has of a node be read anew.
func (s *Server) Measured(node crypto.PublicKey) { s.noteMeasured(node, 0) }

// Leased has what leases keep of a node be as if it had been read a while ago.
func (s *Server) Leased(node crypto.PublicKey) {
	s.ownersMu.Lock()
	defer s.ownersMu.Unlock()
	known := s.owners[node]
	known.at = known.at.Add(-leasedValid)
	s.owners[node] = known
}

// LookHome has the leader look whether the chain knows that an agent is at home here, as it does of each where hardware is
// challenged; false: it is not the leader.
func (s *Server) LookHome(ctx context.Context, node crypto.PublicKey) bool {
	from := s.sessions.get(node)
	if from == nil || s.current.Load() == nil {
		return false
	}
	h := s.homes.of(node)
	s.homes.mu.Lock()
	h.next = time.Time{}
	s.homes.mu.Unlock()
	s.lookHome(ctx, from, h)
	return true
}

// Vouched reports whether a challenged node's home at another cluster has answered.
func (s *Server) Vouched(node crypto.PublicKey) bool {
	s.challenges.mu.Lock()
	defer s.challenges.mu.Unlock()
	c := s.challenges.known[node]
	return c != nil && c.vouched
}

// AskedHome reports whether an agent is asked where it is at home, or has said it.
func (s *Server) AskedHome(node crypto.PublicKey) bool {
	h := s.homes.of(node)
	s.homes.mu.Lock()
	defer s.homes.mu.Unlock()
	return h.asked || h.said != nil
}
