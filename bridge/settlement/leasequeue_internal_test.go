package settlement

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// TestTheQueueOfEndsIsASortedList does random things to the queue of leases' ends and to a
// sorted list: what is due comes in the order of the list, whichever pages it is in.
func TestTheQueueOfEndsIsASortedList(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		kv, env := state.NewOverlay(state.NewMemoryBackend()), &Env{Now: 1}
		var list []leaseEnd
		added := byte(0)
		for range rapid.IntRange(1, 120).Draw(rt, "steps") {
			switch rapid.IntRange(0, 5).Draw(rt, "step") {
			case 0, 1, 2:
				added++
				at := env.Now + chain.TimeMs(rapid.IntRange(1, 60).Draw(rt, "after"))
				for order := range byte(rapid.IntRange(1, 8).Draw(rt, "orders")) {
					id := chain.LeaseID{Node: crypto.PublicKey{rapid.Byte().Draw(rt, "node"), added}, Order: crypto.Digest{order}}
					QueueLeaseEnd(kv, at, id)
					list = append(list, endOf(at, id))
				}
			case 3:
				if len(list) > 0 {
					i := rapid.IntRange(0, len(list)-1).Draw(rt, "which")
					dropLeaseEnd(kv, list[i].at(), list[i].lease())
					list = slices.Delete(list, i, i+1)
				}
			case 4, 5:
				env.Last, env.Now = env.Now, env.Now+chain.TimeMs(rapid.IntRange(1, 20).Draw(rt, "ms"))
				limit := rapid.IntRange(1, 40).Draw(rt, "limit")
				list = takeAsList(rt, kv, env, list, limit)
			}
			slices.SortFunc(list, func(a, b leaseEnd) int { return bytes.Compare(a[:], b[:]) })
			checkEndPages(rt, kv, list)
		}
		for len(list) > 0 {
			env.Last, env.Now = env.Now, env.Now+100
			list = takeAsList(rt, kv, env, list, 16)
		}
		for key := range kv.Iterate([]byte{0}, nil) {
			if key[1] != kindBehind {
				rt.Fatalf("the empty queue has %x", key)
			}
		}
	})
}

// takeAsList takes what is due out of the queue, holds it against the list, and returns what
// is left of that.
func takeAsList(rt *rapid.T, kv state.KV, env *Env, list []leaseEnd, limit int) []leaseEnd {
	over := 0
	for over < len(list) && over < limit && list[over].at() <= env.Now {
		over++
	}
	if due := leaseEnds(env).takeEnds(kv, limit); !slices.Equal(due, list[:over]) {
		rt.Fatalf("%d ends are taken at %d with a limit of %d, want %d", len(due), env.Now, limit, over)
	}
	return list[over:]
}

func checkEndPages(rt *rapid.T, kv state.KV, list []leaseEnd) {
	var all []leaseEnd
	var below []byte // the bound of the page before
	for key, value := range kv.Iterate(keyOf(kindLeaseEnd), keyOf(kindLeaseEnd+1)) {
		page := readEndPage(value)
		if bytes.Compare(page[0][:], below) <= 0 || bytes.Compare(page[len(page)-1][:], key[2:]) > 0 {
			rt.Fatalf("a page between %x and %x has %x", below, key[2:], value)
		}
		all, below = append(all, page...), key[2:]
	}
	if !slices.Equal(all, list) {
		rt.Fatalf("the queue has %d ends, want %d", len(all), len(list))
	}
	for i := range list {
		if !LeaseEndQueued(kv, list[i].at(), list[i].lease()) {
			rt.Fatal("an end that is queued is not found")
		}
	}
}

// TestEndsThatComeTogetherAreFewRecords: a thousand, queued in any order, are in pages that
// are half full at least.
func TestEndsThatComeTogetherAreFewRecords(t *testing.T) {
	kv := state.NewOverlay(state.NewMemoryBackend())
	for i := range 1_000 {
		QueueLeaseEnd(kv, chain.TimeMs(i*7919%1_000), chain.LeaseID{Node: crypto.PublicKey{byte(i)}})
	}
	pages := 0
	for range kv.Iterate(keyOf(kindLeaseEnd), keyOf(kindLeaseEnd+1)) {
		pages++
	}
	if pages > 1_000/(pageEnds/2) {
		t.Errorf("a thousand ends are in %d pages", pages)
	}
	if due := leaseEnds(&Env{Now: 1_000}).takeEnds(kv, 1_000); len(due) != 1_000 {
		t.Errorf("%d ends are due, want 1000", len(due))
	}
}

// TestEndsAreLookedAtOnce does random things to the queue of leases' ends and looks ahead now and
// then: what is due by the time up to which was looked was looked at before, once and in order,
// but for what was queued since behind what was looked at.
func TestEndsAreLookedAtOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		kv, env := state.NewOverlay(state.NewMemoryBackend()), &Env{Now: 1}
		var ahead EndsAhead
		var list []leaseEnd
		looked, late := map[leaseEnd]bool{}, map[leaseEnd]bool{}
		for step := range rapid.IntRange(1, 100).Draw(rt, "steps") {
			switch rapid.IntRange(0, 4).Draw(rt, "step") {
			case 0, 1:
				at := env.Now + chain.TimeMs(rapid.IntRange(1, 60).Draw(rt, "after"))
				for order := range byte(rapid.IntRange(1, 8).Draw(rt, "orders")) {
					id := chain.LeaseID{Node: crypto.PublicKey{rapid.Byte().Draw(rt, "node"), byte(step)}, Order: crypto.Digest{order}}
					QueueLeaseEnd(kv, at, id)
					e := endOf(at, id)
					list, late[e] = append(list, e), bytes.Compare(e[:], ahead.last[:]) < 0
				}
			case 2, 3:
				until, limit := env.Now+chain.TimeMs(rapid.IntRange(0, 40).Draw(rt, "until")), rapid.IntRange(1, 40).Draw(rt, "limit")
				before := ahead.last
				due := ahead.next(kv, env.Now, until, limit)
				for _, e := range due {
					if looked[e] || e.at() > until || bytes.Compare(e[:], before[:]) <= 0 {
						rt.Fatalf("looked at %d twice, or too far, or out of order", e.at())
					}
					looked[e], before = true, e
				}
				for _, e := range list {
					if len(due) < limit && e.at() <= until && !looked[e] && !late[e] {
						rt.Fatalf("%d is due by %d, and was not looked at", e.at(), until)
					}
				}
			case 4:
				env.Last, env.Now = env.Now, env.Now+chain.TimeMs(rapid.IntRange(1, 20).Draw(rt, "ms"))
				slices.SortFunc(list, func(a, b leaseEnd) int { return bytes.Compare(a[:], b[:]) })
				list = takeAsList(rt, kv, env, list, rapid.IntRange(1, 40).Draw(rt, "most"))
			}
		}
	})
}
