package server

import (
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"slices"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// maxSnapshotBytes bounds what a restarting server reads back.
const maxSnapshotBytes = 4 << 30

// replica is the scheduler's state as raft builds it on this server.
type replica struct {
	config  scheduler.Config
	log     *slog.Logger
	members func(index uint64, c raft.Configuration) // is told of the cluster's servers
	machine func(*scheduler.State, scheduler.Entry) ([]scheduler.Effect, []error)

	// From what the state is built again; set before the first entry.
	dir       string // raft's
	entries   raft.LogStore
	snapshots raft.SnapshotStore
	suspects  suspects

	mu      sync.RWMutex
	state   *scheduler.State
	applied uint64       // index of the newest entry carried out
	saved   uint64       // of the newest entry of a snapshot of it
	aside   asides       // commands that could not be carried out
	effects *effectQueue // of the reign; nil while another server leads
	news    news
	board   *board
}

func newReplica(config scheduler.Config, log *slog.Logger) *replica {
	return &replica{
		config: config, log: log, state: scheduler.New(config), news: newNews(), machine: (*scheduler.State).Apply, suspects: suspects{seed: maphash.MakeSeed()}, board: newBoard(),
	}
}

var _ raft.ConfigurationStore = (*replica)(nil)

// StoreConfiguration takes a configuration of raft that is decided.
func (r *replica) StoreConfiguration(index uint64, c raft.Configuration) { r.members(index, c) }

// Apply carries out one entry; its answer is an error, or one for each of its
// commands, which may be nil. Effects go to the leader's queue in the order of
// the log.
func (r *replica) Apply(l *raft.Log) any {
	entry, err := scheduler.ReadEntry(l.Data)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.log.Error("server: an entry of the log does not decode", "index", l.Index, "error", err)
		r.applied = l.Index
		r.news.tell(l.Index, nil, nil) // who waits for it has all that there is to hear
		return err
	}
	effects, errs := r.carryOut(l, entry)
	if r.effects != nil {
		r.effects.push(effects)
	}
	r.applied = l.Index
	r.news.tell(r.applied, r.state.Touched(), effects)
	r.board.note(r.state, &entry, effects)
	return errs
}

// view shows the state, which f must not keep or change.
func (r *replica) view(f func(*scheduler.State)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	f(r.state)
}

// lead has the effects of every later entry put into the queue, after those of
// what is still to be done.
func (r *replica) lead(queue *effectQueue) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.effects = queue
	queue.push(r.state.Pending())
}

func (r *replica) follow() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.effects = nil
}

// Snapshot encodes the state. One that is not sound is none to begin from: the
// log is kept, and a server that begins anew builds it from that.
func (r *replica) Snapshot() (out raft.FSMSnapshot, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("server: the state at entry %d is not sound: %v", r.applied, v)
			r.log.Error("server: no snapshot can be taken, and the log grows: report it, the program is wrong", "index", r.applied, "reason", v)
		}
	}()
	raw := encodedState(r.save())
	r.saved = r.applied
	return raw, nil
}

// Restore puts a snapshot in the state's place.
func (r *replica) Restore(from io.ReadCloser) error {
	s, err := readSaved(r.config, from)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state, r.applied, r.saved = s.state, s.applied, s.applied
	kept := slices.DeleteFunc(r.aside.List, func(a aside) bool { return a.Index <= s.applied })
	if r.aside.List = append(s.aside.List, kept...); len(r.aside.List) > 0 {
		if err := r.aside.write(r.dir); err != nil {
			return fmt.Errorf("server: noting which commands were put aside: %w", err)
		}
	}
	r.news.tellAll(r.applied)
	r.board.begin(r.state)
	return nil
}

// encodedState is a snapshot.
type encodedState []byte

// Persist implements raft.FSMSnapshot.
func (e encodedState) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(e); err != nil {
		return fmt.Errorf("server: writing a snapshot: %w (%w)", err, sink.Cancel())
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (encodedState) Release() {}

// effectQueue is what the leader has still to do. It holds no more than the
// state's pending work and the effects of entries in flight.
type effectQueue struct {
	mu    sync.Mutex
	list  []scheduler.Effect
	ready chan struct{} // has a token while the list is not empty
}

func newEffectQueue() *effectQueue { return &effectQueue{ready: make(chan struct{}, 1)} }

func (q *effectQueue) push(effects []scheduler.Effect) {
	if len(effects) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.list = append(q.list, effects...)
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

func (q *effectQueue) take() []scheduler.Effect {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := q.list
	q.list = nil
	return out
}
