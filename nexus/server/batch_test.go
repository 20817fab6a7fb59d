package server_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/nexus/scheduler"
	"github.com/hypermesh/hypermesh/nexus/server"
)

// heldBatches is a log that writes when it is told to.
type heldBatches struct {
	entries chan []string // as they were begun
	release chan struct{} // one token writes one entry
}

func newHeldBatches(t *testing.T) (*heldBatches, *server.Batcher) {
	h := &heldBatches{entries: make(chan []string, 100), release: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	b, ended := server.NewBatcher(ctx, func(commands [][]byte) []error {
		texts, errs := make([]string, len(commands)), make([]error, len(commands))
		for i, c := range commands {
			texts[i] = string(c)
			if strings.HasPrefix(texts[i], "bad") {
				errs[i] = fmt.Errorf("refused: %s", c)
			}
		}
		h.entries <- texts
		<-h.release
		return errs
	})
	t.Cleanup(func() {
		cancel()
		close(h.release)
		<-ended
	})
	return h, b
}

// fill keeps both entries that may be on their way busy.
func (h *heldBatches) fill(t *testing.T, b *server.Batcher) {
	t.Helper()
	for i := range 2 {
		b.For(address(0), fmt.Append(nil, "first ", i))
		if got := <-h.entries; len(got) != 1 { // at once: nothing is on its way
			t.Fatalf("a command alone was kept waiting for %v", got)
		}
	}
}

// TestCommandsAreBatched sees commands that come while entries are on their way
// make up the next, in their order, and each waiter get its own answer.
func TestCommandsAreBatched(t *testing.T) {
	h, b := newHeldBatches(t)
	h.fill(t, b)
	var want []string
	var waits []func() error
	for i := range 10 {
		text := fmt.Sprintf("good %d", i)
		if i%3 == 0 {
			text = fmt.Sprintf("bad %d", i)
		}
		want = append(want, text)
		waits = append(waits, b.For(address(1), []byte(text)))
	}
	h.release <- struct{}{}
	if got := <-h.entries; !slices.Equal(got, want) {
		t.Fatalf("the entry has %v, want %v", got, want)
	}
	h.release <- struct{}{}
	h.release <- struct{}{}
	for i, wait := range waits {
		err := wait()
		if (err != nil) != (i%3 == 0) || err != nil && err.Error() != "refused: "+want[i] {
			t.Errorf("command %d: %v", i, err)
		}
	}
}

// TestClientsTakeTurns has one client queue far more than an entry holds, and
// another, and the leader, be in the next entry all the same.
func TestClientsTakeTurns(t *testing.T) {
	h, b := newHeldBatches(t)
	h.fill(t, b)
	for i := range server.MaxWaitingOf {
		b.For(address(1), fmt.Append(nil, "many ", i))
	}
	quota := b.For(address(1), []byte("one more"))()
	if rejected, ok := errors.AsType[*scheduler.Rejection](quota); !ok || rejected.Rule != "quota" {
		t.Errorf("more than a client's share: %v", quota)
	}
	b.For(address(2), []byte("few 0"))
	b.For(address(2), []byte("few 1"))
	h.release <- struct{}{}
	got := <-h.entries
	if len(got) != scheduler.MaxCommands || got[0] != "many 0" || got[1] != "few 0" || got[2] != "many 1" || got[3] != "few 1" || got[4] != "many 2" {
		t.Errorf("the entry of %d begins with %v", len(got), got[:5])
	}
}

func TestTheQueueIsBounded(t *testing.T) {
	h, b := newHeldBatches(t)
	h.fill(t, b)
	full := 0
	for i := range server.MaxWaiting/server.MaxWaitingOf + 1 {
		for range server.MaxWaitingOf {
			wait := b.For(address(10+i), []byte("x"))
			if i*server.MaxWaitingOf < server.MaxWaiting {
				continue
			}
			if rejected, ok := errors.AsType[*scheduler.Rejection](wait()); ok && rejected.Rule == "full" {
				full++
			}
		}
	}
	if full != server.MaxWaitingOf {
		t.Errorf("%d commands were refused because the queue is full, want %d", full, server.MaxWaitingOf)
	}
}

// TestEntriesAreBounded sees long commands go in more entries than one, and one
// that is longer than an entry should be alone.
func TestEntriesAreBounded(t *testing.T) {
	h, b := newHeldBatches(t)
	h.fill(t, b)
	long := []byte(strings.Repeat("x", server.MaxBatchBytes/2))
	for range 3 {
		b.For(address(1), long)
	}
	b.For(address(1), append(slices.Clone(long), long...))
	for i, want := range []int{2, 1, 1} {
		h.release <- struct{}{}
		if got := <-h.entries; len(got) != want {
			t.Errorf("entry %d has %d commands, want %d", i, len(got), want)
		}
	}
}

// TestTheLeaderIsNotKeptWaiting has clients fill the queue, and the leader's own
// command be in the next entry.
func TestTheLeaderIsNotKeptWaiting(t *testing.T) {
	h, b := newHeldBatches(t)
	h.fill(t, b)
	for i := range server.MaxWaitingOf {
		b.For(address(1), fmt.Append(nil, i))
	}
	own := b.Own([]byte("own"))
	h.release <- struct{}{}
	if got := <-h.entries; got[0] != "own" || got[1] != "0" {
		t.Fatalf("the next entry begins with %q", got[:2])
	}
	h.release <- struct{}{}
	h.release <- struct{}{}
	if err := own(); err != nil {
		t.Error(err)
	}
}
