package server

import (
	"context"
	"sync"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// news wakes those who wait for a change of the state, and nobody else: an entry
// that changes one job must not wake a thousand who watch others.
type news struct {
	mu      sync.Mutex
	applied uint64                   // index of the newest entry that is carried out
	entries map[uint64]chan struct{} // closed once the entry of an index is
	jobs    map[crypto.Digest]*watch
	outbox  chan struct{} // closed, and another put in its place, when it has more
	feeds   map[*feed]bool
}

// watch is those who wait for the next change of a job.
type watch struct {
	changed chan struct{}
	n       int
}

func newNews() news {
	return news{entries: map[uint64]chan struct{}{}, jobs: map[crypto.Digest]*watch{}, outbox: make(chan struct{}), feeds: map[*feed]bool{}}
}

// tell wakes who waits for what an entry did.
func (n *news) tell(index uint64, touched []*scheduler.Job, effects []scheduler.Effect) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.reach(index)
	for _, j := range touched {
		if w := n.jobs[j.ID()]; w != nil {
			close(w.changed)
			delete(n.jobs, j.ID())
		}
		for f := range n.feeds {
			f.put(j)
		}
	}
	for _, e := range effects {
		if _, posted := e.(scheduler.Post); posted {
			n.posted()
			break
		}
	}
}

// reach wakes who waits for entries up to an index.
func (n *news) reach(index uint64) {
	n.applied = index
	for at, done := range n.entries { // few: one for each round of readers
		if at <= index {
			close(done)
			delete(n.entries, at)
		}
	}
}

// newest returns the index of the newest entry that is carried out.
func (n *news) newest() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.applied
}

// awaitEntry waits until this server has carried out the entry of an index.
func (n *news) awaitEntry(ctx context.Context, index uint64) error {
	n.mu.Lock()
	if n.applied >= index {
		n.mu.Unlock()
		return nil
	}
	done := n.entries[index]
	if done == nil {
		done = make(chan struct{})
		n.entries[index] = done
	}
	n.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (n *news) posted() {
	close(n.outbox)
	n.outbox = make(chan struct{})
}

// tellAll wakes everybody: the state is another, as of an index.
func (n *news) tellAll(index uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.reach(index)
	for id, w := range n.jobs {
		close(w.changed)
		delete(n.jobs, id)
	}
	for f := range n.feeds {
		f.lose()
	}
	n.posted()
}

// watchJob returns a channel that the next change of a job closes, and what to
// call in any case when it is no longer waited for.
func (n *news) watchJob(id crypto.Digest) (changed <-chan struct{}, leave func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	w := n.jobs[id]
	if w == nil {
		w = &watch{changed: make(chan struct{})}
		n.jobs[id] = w
	}
	w.n++
	return w.changed, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if w.n--; w.n == 0 && n.jobs[id] == w {
			delete(n.jobs, id)
		}
	}
}

// watchOutbox returns a channel that is closed when the outbox has more.
func (n *news) watchOutbox() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.outbox
}

// maxFed bounds the jobs that a feed's reader has not been told of yet.
const maxFed = 16_384

// feed is which jobs of a consumer, or of all, have changed since its reader
// looked: each once, however often it did.
type feed struct {
	consumer chain.Address // zero: of all

	mu    sync.Mutex
	list  []crypto.Digest
	in    map[crypto.Digest]bool
	lost  bool          // more changed than the feed holds
	ready chan struct{} // has a token while there is something
}

func (n *news) follow(consumer chain.Address) *feed {
	f := &feed{consumer: consumer, in: map[crypto.Digest]bool{}, ready: make(chan struct{}, 1)}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.feeds[f] = true
	return f
}

func (n *news) unfollow(f *feed) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.feeds, f)
}

func (f *feed) put(j *scheduler.Job) {
	if !f.consumer.IsZero() && f.consumer != j.Consumer() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lost || f.in[j.ID()] {
		return
	}
	if len(f.list) == maxFed {
		f.lost = true
	} else {
		f.in[j.ID()] = true
		f.list = append(f.list, j.ID())
	}
	f.wake()
}

func (f *feed) lose() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost = true
	f.wake()
}

func (f *feed) wake() {
	select {
	case f.ready <- struct{}{}:
	default:
	}
}

// take returns what has changed, in the order of the first change of each; lost
// says that there was more, and that no more will come.
func (f *feed) take() (list []crypto.Digest, lost bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list, f.list = f.list, nil
	clear(f.in)
	return list, f.lost
}
