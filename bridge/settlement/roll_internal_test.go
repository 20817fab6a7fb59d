package settlement

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// node is the key of node n, which signs nothing here.
func node(n uint64) (k crypto.PublicKey) { binary.BigEndian.PutUint64(k[:], n); return k }

func owner(n uint64) (a chain.Address) { binary.BigEndian.PutUint64(a[:], n); return a }

func testEnv() *Env {
	return &Env{ChainID: "settle-test-1", Height: 5, Params: chain.DefaultParams(), Mix: crypto.Digest{7}}
}

// enrol puts a node of an owner with a bond on the roll.
func enrol(kv state.KV, n, of uint64, bond chain.Amount) {
	p := Provider{Owner: owner(of), Bond: bond}
	joinRoll(kv, node(n), &p)
	state.Save(kv, ProviderKey(node(n)), p)
}

func strike(kv state.KV, n uint64) {
	p, _ := ProviderOf(kv, node(n))
	leaveRoll(kv, node(n), &p)
	state.Save(kv, ProviderKey(node(n)), p)
}

// TestRollHasNoGaps holds the roll against a set, whoever comes and goes.
func TestRollHasNoGaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kv := state.NewOverlay(state.NewMemoryBackend())
		on := map[uint64]bool{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			n := rapid.Uint64Range(1, 12).Draw(t, "node")
			if on[n] {
				strike(kv, n)
			} else {
				enrol(kv, n, n, chain.Hyper(100))
			}
			on[n] = !on[n]
		}
		var seated, want []uint64
		for seat := range rollLen(kv) {
			key := nodeAt(kv, seat+1)
			p, _ := ProviderOf(kv, key)
			if p.Seat != seat+1 {
				t.Fatalf("node %x has seat %d in its record, and %d on the roll", key[:8], p.Seat, seat+1)
			}
			seated = append(seated, binary.BigEndian.Uint64(key[:]))
		}
		for n, is := range on { // order-free: sorted below
			if is {
				want = append(want, n)
			}
		}
		slices.Sort(seated)
		slices.Sort(want)
		if !slices.Equal(seated, want) {
			t.Fatalf("on the roll are %v, want %v", seated, want)
		}
	})
}

// TestDrawsFollowWhatIsFree draws often, and counts: by the free bond up to the cap, never
// somebody who is excluded or poorer than asked, never two nodes of one owner.
func TestDrawsFollowWhatIsFree(t *testing.T) {
	kv, env := state.NewOverlay(state.NewMemoryBackend()), testEnv()
	bonds := map[uint64]uint64{1: 100, 2: 200, 3: 400, 4: 1_600, 5: 16_000, 6: 800, 7: 90}
	for n := uint64(1); n <= 7; n++ {
		enrol(kv, n, n, chain.Hyper(bonds[n]))
	}
	enrol(kv, 8, 4, chain.Hyper(1_600)) // another of owner 4
	if why := lockSlice(kv, node(6), chain.Hyper(400)); why != nil {
		t.Fatal(why.Reason())
	}
	counts := map[crypto.PublicKey]int{}
	rng := rand.New(rand.NewPCG(1, 1))
	const draws = 20_000
	for range draws {
		var seed crypto.Digest
		binary.BigEndian.PutUint64(seed[:], rng.Uint64())
		drawn := drawNodes(kv, env, draw{seed, 1, chain.Hyper(100), func(k crypto.PublicKey, _ *Provider) bool { return k == node(8) }})
		for _, k := range drawn {
			counts[k]++
		}
		three := drawNodes(kv, env, draw{seed, 3, chain.Hyper(100), func(crypto.PublicKey, *Provider) bool { return false }})
		if slices.Contains(three, node(4)) && slices.Contains(three, node(8)) || slices.Contains(three, node(7)) {
			t.Fatalf("drawn together: %v", three)
		}
	}
	total := 100 + 200 + 400 + 1_600 + 1_600 + 400 // 5 counts for no more than 16 of the least bond
	for n, weight := range map[uint64]int{1: 100, 2: 200, 3: 400, 4: 1_600, 5: 1_600, 6: 400, 7: 0, 8: 0} {
		want, got := float64(draws)*float64(weight)/float64(total), float64(counts[node(n)])
		if got < 0.85*want || got > 1.15*want {
			t.Errorf("node %d was drawn %.0f times, want about %.0f", n, got, want)
		}
	}
}

// TestSlices locks, frees and takes, and does not let a node go with a slice at stake.
func TestSlices(t *testing.T) {
	kv, env := state.NewOverlay(state.NewMemoryBackend()), testEnv()
	enrol(kv, 1, 1, chain.Hyper(100))
	if why := lockSlice(kv, node(1), chain.Hyper(101)); why == nil {
		t.Error("more was locked than there is")
	}
	for range 2 {
		if why := lockSlice(kv, node(1), chain.Hyper(50)); why != nil {
			t.Fatal(why.Reason())
		}
	}
	if why := lockSlice(kv, node(1), chain.Nano(1)); why == nil {
		t.Error("one bond backs three halves")
	}
	if _, why := UnbondProvider(kv, env, owner(1), chain.UnbondProvider{Node: node(1)}); why == nil {
		t.Error("a node left with its bond at stake")
	}
	slashed := takeSlice(kv, env, node(1), chain.Hyper(50), chain.Hyper(50))
	if slashed.Amount != chain.Hyper(50) || !slashed.Burned.IsZero() {
		t.Errorf("%+v", slashed)
	}
	unlockSlice(kv, node(1), chain.Hyper(50))
	p, _ := ProviderOf(kv, node(1))
	if p.Bond != chain.Hyper(50) || !p.Locked.IsZero() || p.Record.Slashed == 0 {
		t.Errorf("%+v", p)
	}
	if _, why := UnbondProvider(kv, env, owner(1), chain.UnbondProvider{Node: node(1)}); why != nil {
		t.Error(why.Reason())
	}
	defer func() {
		if recover() == nil {
			t.Error("a slice was freed that was not locked")
		}
	}()
	unlockSlice(kv, node(1), chain.Nano(1))
}

// TestDueInOrder: draws come after their delay, deadlines with the chain's progress, each
// once, the oldest first, and no more than the limit.
func TestDueInOrder(t *testing.T) {
	kv, env := state.NewOverlay(state.NewMemoryBackend()), testEnv()
	if DrawsWait(kv, env.Height) {
		t.Error("a draw waits, and none was queued")
	}
	queueDraw(kv, env, 'T', crypto.Digest{1})
	if at := queueDeadline(kv, env, 1_000, 'T', crypto.Digest{2}); at != 1_000 {
		t.Errorf("due at %d", at)
	}
	if !DrawsWait(kv, env.Height) {
		t.Error("no draw waits")
	}
	env.Height += DrawDelay - 1
	env.ProgressMs = 1_000
	for _, run := range []func(state.KV, *Env, int) (chain.Events, int){RunDraws, RunDeadlines} {
		if _, n := run(kv, env, 9); n != 0 {
			t.Error("something is due too early")
		}
	}
	env.LastProgressMs = env.ProgressMs
	for name, run := range map[string]func(){
		"draw": func() { env.Height++; RunDraws(kv, env, 9) }, "deadline": func() { env.ProgressMs++; RunDeadlines(kv, env, 9) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a %s of no part was made", name)
				}
			}()
			run()
		}()
	}
	if DrawsWait(kv, env.Height) {
		t.Error("a draw that was made waits")
	}
}

// TestDueThatWasTakenBack: a part that takes back a deadline which is due in the same block
// is not told of it.
func TestDueThatWasTakenBack(t *testing.T) {
	kv, env := state.NewOverlay(state.NewMemoryBackend()), testEnv()
	first, second := crypto.Digest{1}, crypto.Digest{2}
	queueDeadline(kv, env, 1_000, 'T', first)
	at := queueDeadline(kv, env, 1_500, 'T', second)
	env.ProgressMs = 2_000
	var told []crypto.Digest
	_, _ = deadlines(env).run(kv, 9, func(of part, id crypto.Digest) chain.Events {
		told = append(told, id)
		dropDeadline(kv, at, of, second)
		return nil
	})
	if !slices.Equal(told, []crypto.Digest{first}) {
		t.Fatalf("told of %v", told)
	}
}

// TestHiddenVotes: a vote that was committed to and is not shown costs what a wrong one
// does, so that nobody gains who looks at the others' first.
func TestHiddenVotes(t *testing.T) {
	kv, env := state.NewOverlay(state.NewMemoryBackend()), testEnv()
	vote := chain.Vote{Finding: chain.FoundUnavailable}
	p := Panel{Of: partPanel, Seats: 4, Slice: env.Params.JurorSlice}
	jurors := []Juror{{}, {Commitment: crypto.Digest{1}}, {Commitment: crypto.Digest{1}, Vote: &chain.Vote{Finding: chain.FoundUnstable}}, {Commitment: crypto.Digest{1}, Vote: &vote}}
	for i, j := range jurors {
		n := uint64(i + 1)
		enrol(kv, n, n, chain.Hyper(100))
		if why := lockSlice(kv, node(n), p.Slice); why != nil {
			t.Fatal(why.Reason())
		}
		j.Node, j.Owner = node(n), owner(n)
		p.Jurors = append(p.Jurors, j)
	}
	closePanel(kv, env, &p, &vote)
	slice := p.Slice.Nano()
	for i, lost := range []uint64{slice / silentShare, slice / wrongShare, slice / wrongShare, 0} {
		left, _ := ProviderOf(kv, node(uint64(i+1)))
		if got := chain.Hyper(100).Nano() - left.Bond.Nano(); got != lost || !left.Locked.IsZero() {
			t.Errorf("juror %d lost %d, want %d; %s is locked", i, got, lost, left.Locked)
		}
	}
}
