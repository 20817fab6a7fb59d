package server

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
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

	mu      sync.RWMutex
	state   *scheduler.State
	applied uint64       // index of the newest entry carried out
	effects *effectQueue // of the reign; nil while another server leads
	news    news
}

func newReplica(config scheduler.Config, log *slog.Logger) *replica {
	return &replica{config: config, log: log, state: scheduler.New(config), news: newNews()}
}

var _ raft.ConfigurationStore = (*replica)(nil)

// StoreConfiguration takes a configuration of raft that is decided.
func (r *replica) StoreConfiguration(index uint64, c raft.Configuration) { r.members(index, c) }

// Apply carries out one entry; its answer is an error, or one for each of its
// commands, which may be nil. Effects go to the leader's queue in the order of
// the log.
func (r *replica) Apply(l *raft.Log) any {
	entry, err := scheduler.DecodeEntry(l.Data)
	if err != nil {
		r.log.Error("server: an entry of the log does not decode", "index", l.Index, "error", err)
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	effects, errs := r.state.Apply(entry)
	if r.effects != nil {
		r.effects.push(effects)
	}
	r.applied = l.Index
	r.news.tell(r.applied, r.state.Touched(), effects)
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

// Snapshot encodes the state, after the index of the newest entry in it.
func (r *replica) Snapshot() (raft.FSMSnapshot, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return encodedState(append(binary.BigEndian.AppendUint64(nil, r.applied), r.state.Encode()...)), nil
}

// Restore puts a snapshot in the state's place.
func (r *replica) Restore(from io.ReadCloser) error {
	raw, err := io.ReadAll(io.LimitReader(from, maxSnapshotBytes+1))
	if err != nil {
		return fmt.Errorf("server: reading a snapshot: %w", err)
	}
	if len(raw) > maxSnapshotBytes {
		return fmt.Errorf("server: snapshot is larger than %d bytes", maxSnapshotBytes)
	}
	if len(raw) < 8 {
		return fmt.Errorf("server: snapshot of %d bytes", len(raw))
	}
	applied := binary.BigEndian.Uint64(raw)
	state, err := scheduler.Restore(r.config, raw[8:])
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state, r.applied = state, applied
	r.news.tellAll(applied)
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
