package agent

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// startShare is for how long work that has begun keeps other work from beginning.
const startShare = 20 * time.Millisecond

// starts has work begin a few at a time. Programs of a millisecond that begin
// together only take turns, and all of them end late, with a thread and memory
// for each; one after the other costs less. Work that takes longer than its share
// goes on beside what begins next.
//
// While the node is asked for many bids, or given many assignments, no work
// begins, for at most maxYield: what is decided first costs little and lets the
// cluster use all of its nodes.
type starts struct {
	slots chan struct{}

	mu           sync.Mutex
	since, until time.Time // no work begins
}

const (
	startYield = 250 * time.Millisecond // after the last such message
	maxYield   = 2 * time.Second
	manyOffers = 32
)

func newStarts() *starts { return &starts{slots: make(chan struct{}, runtime.GOMAXPROCS(0))} }

// yield notes that a message with so many offers or assignments came.
func (s *starts) yield(n int) {
	if n < manyOffers {
		return
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.After(s.until) {
		s.since = now
	}
	s.until = now.Add(startYield)
}

// held returns for how long no work begins.
func (s *starts) held() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if limit := s.since.Add(maxYield); limit.Before(s.until) {
		return time.Until(limit)
	}
	return time.Until(s.until)
}

// enter waits for its turn, or until ctx ends. leave is called when the work has
// ended.
func (s *starts) enter(ctx context.Context) (leave func(), err error) {
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	for wait := s.held(); wait > 0; wait = s.held() {
		sleep(ctx, wait)
		if ctx.Err() != nil {
			<-s.slots
			return nil, context.Cause(ctx)
		}
	}
	next := sync.OnceFunc(func() { <-s.slots })
	timer := time.AfterFunc(startShare, next)
	return func() {
		timer.Stop()
		next()
	}, nil
}
