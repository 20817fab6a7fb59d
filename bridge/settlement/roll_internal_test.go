package settlement

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
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

// TestRollHasNoGaps holds the roll against a set, whoever comes and goes, and grows richer or
// poorer: each is in the class of its bond, and the numbers of a class have no gaps.
func TestRollHasNoGaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kv, env := state.NewOverlay(state.NewMemoryBackend()), testEnv()
		for n := range uint64(13) {
			tokens.Credit(kv, owner(n), chain.Hyper(100_000))
		}
		on := map[uint64]bool{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			n := rapid.Uint64Range(1, 12).Draw(t, "node")
			switch what := rapid.IntRange(0, 3).Draw(t, "what"); {
			case on[n] && what == 0:
				strike(kv, n)
				on[n] = false
			case on[n] && what == 1:
				amount := chain.Hyper(rapid.Uint64Range(1, 5_000).Draw(t, "more"))
				if _, why := AddBond(kv, env, owner(n), chain.AddBond{Node: node(n), Amount: amount}); why != nil && amount.Less(chain.Hyper(1_000)) {
					t.Fatal(why.Reason())
				}
			case on[n]:
				p, _ := ProviderOf(kv, node(n))
				lost := part1of(p.Bond, rapid.Uint64Range(1, 9).Draw(t, "share"))
				if why := lockSlice(kv, node(n), lost); why != nil {
					t.Fatal(why.Reason())
				}
				takeSlice(kv, env, node(n), lost, lost)
			default:
				enrol(kv, n, n, chain.Hyper(100))
				on[n] = true
			}
		}
		checkRoll(t, kv, on)
	})
}

func checkRoll(t *rapid.T, kv *state.Overlay, on map[uint64]bool) {
	var seated, want []uint64
	for class, n := range rollOf(kv) {
		for i := range n {
			seat := seatOf(uint64(class), i+1)
			key := nodeAt(kv, seat)
			p, _ := ProviderOf(kv, key)
			if p.Seat != seat || classOf(p.Bond) != uint64(class) {
				t.Fatalf("node %x of %v has seat %x in its record, and %x on the roll", key[:8], p.Bond, p.Seat, seat)
			}
			seated = append(seated, binary.BigEndian.Uint64(key[:]))
		}
	}
	for n, is := range on { // order-free: sorted below
		if is {
			want = append(want, n)
		}
	}
	slices.Sort(seated)
	slices.Sort(want)
	if !slices.Equal(seated, want) || rollOf(kv).all() != uint64(len(want)) {
		t.Fatalf("on the roll are %v, want %v", seated, want)
	}
}

func nobody(crypto.PublicKey, *Provider) bool { return false }

// drawMany draws n times, and counts who was drawn first.
func drawMany(t *testing.T, kv state.KV, d draw, n int) map[crypto.PublicKey]int {
	t.Helper()
	counts, env := map[crypto.PublicKey]int{}, testEnv()
	rng := rand.New(rand.NewPCG(1, 1))
	for range n {
		binary.BigEndian.PutUint64(d.seed[:], rng.Uint64())
		for _, k := range drawNodes(kv, env, d).nodes {
			counts[k]++
		}
	}
	return counts
}

// TestOthersOnTheRoll: that nobody may be drawn is said of a roll that was looked at whole, and of which nobody could
// be drawn with any bond.
func TestOthersOnTheRoll(t *testing.T) {
	one := func(_ crypto.PublicKey, p *Provider) bool { return p.Owner == owner(1) }
	for name, c := range map[string]struct {
		nodes          uint64 // of the owner who may not be drawn
		another        bool
		locked, others bool
	}{
		"nobody":                         {0, false, false, false},
		"nobody else":                    {drawScan, false, false, false},
		"too many to look at all":        {drawScan + 1, false, false, true},
		"one whose bond is locked":       {drawScan - 1, true, true, true},
		"one who is drawn":               {drawScan - 1, true, false, true},
		"one whose bond is locked alone": {0, true, true, true},
		"one with too little a bond":     {drawScan - 1, false, false, false},
		"one who owes its bond":          {drawScan - 2, false, false, false},
	} {
		kv := state.NewOverlay(state.NewMemoryBackend())
		for n := range c.nodes {
			enrol(kv, n+1, 1, chain.Hyper(100))
		}
		if c.another {
			enrol(kv, 1_000, 2, chain.Hyper(100))
			if c.locked {
				if why := lockSlice(kv, node(1_000), chain.Hyper(96)); why != nil {
					t.Fatal(why.Reason())
				}
			}
		}
		switch name {
		case "one with too little a bond":
			enrol(kv, 1_001, 3, chain.Nano(chain.Hyper(5).Nano()-1))
		case "one who owes its bond":
			enrol(kv, 1_001, 3, chain.Hyper(100))
			p, _ := ProviderOf(kv, node(1_001))
			p.Owed = chain.Nano(chain.Hyper(95).Nano() + 1)
			state.Save(kv, ProviderKey(node(1_001)), p)
		}
		got := drawNodes(kv, testEnv(), draw{want: 1, least: chain.Hyper(5), excluded: one})
		if got.others != c.others || (len(got.nodes) == 1) != (c.another && !c.locked) {
			t.Errorf("%s: drew %d, and others are there: %v", name, len(got.nodes), got.others)
		}
	}
}

// fits compares counts with weights: the sum of squares is what it is by chance.
func fits(t *testing.T, counts map[crypto.PublicKey]int, weights map[uint64]uint64, draws int) {
	t.Helper()
	total, chi, degrees := 0.0, 0.0, -1.0
	for _, w := range weights { // order-free: a sum of whole numbers
		total += float64(w)
	}
	for n := range uint64(len(weights)) {
		w, got := weights[n+1], float64(counts[node(n+1)])
		if w == 0 {
			if got > 0 {
				t.Errorf("node %d was drawn", n+1)
			}
			continue
		}
		want := float64(draws) * float64(w) / total
		chi += (got - want) * (got - want) / want
		degrees++
	}
	if limit := degrees + 4*math.Sqrt(2*degrees); chi > limit {
		t.Errorf("chi² is %.0f of %.0f degrees, more than %.0f", chi, degrees, limit)
	}
}

// TestDrawsFollowWhatIsFree draws often, from a roll that is known whole and from a longer
// one, and counts: by the free bond up to the cap, never somebody who is excluded or has less
// free than asked, never two nodes of one owner.
func TestDrawsFollowWhatIsFree(t *testing.T) {
	for _, nodes := range []uint64{9, drawScan, 6 * drawScan} {
		kv, env := state.NewOverlay(state.NewMemoryBackend()), testEnv()
		weights := map[uint64]uint64{}
		for n := uint64(1); n <= nodes; n++ {
			bond := []uint64{100, 127, 128, 255, 400, 800, 1_600, 16_000, 130}[n%9]
			enrol(kv, n, n, chain.Hyper(bond))
			weights[n] = min(bond, 1_600)
			if n%3 == 0 { // a quarter is locked
				locked := chain.Hyper(bond / 4)
				if why := lockSlice(kv, node(n), locked); why != nil {
					t.Fatal(why.Reason())
				}
				weights[n] = min(bond-bond/4, 1_600)
			}
			if n%5 == 0 || weights[n] < 100 {
				weights[n] = 0
			}
		}
		excluded := func(k crypto.PublicKey, _ *Provider) bool { return binary.BigEndian.Uint64(k[:])%5 == 0 }
		draws := 20_000
		fits(t, drawMany(t, kv, draw{want: 1, least: chain.Hyper(100), excluded: excluded}, draws), weights, draws)
		enrol(kv, nodes+1, 4, chain.Hyper(1_600)) // of an owner who has another
		for lot := range byte(200) {
			three := drawNodes(kv, env, draw{seed: crypto.Digest{lot}, want: 3, least: chain.Hyper(5), excluded: nobody})
			if slices.Contains(three.nodes, node(4)) && slices.Contains(three.nodes, node(nodes+1)) || len(three.nodes) != 3 {
				t.Fatalf("drawn together: %v", three)
			}
		}
	}
}

// TestDrawsFindWhoIsThere: on a roll of which most nodes have nothing free, or may not be
// drawn, those who may are found; each as often as the others.
func TestDrawsFindWhoIsThere(t *testing.T) {
	kv := state.NewOverlay(state.NewMemoryBackend())
	weights := map[uint64]uint64{}
	for n := uint64(1); n <= drawScan; n++ {
		enrol(kv, n, n, chain.Hyper(100))
		weights[n] = 1
		if n%16 != 1 {
			weights[n] = 0
			if why := lockSlice(kv, node(n), chain.Hyper(96)); why != nil {
				t.Fatal(why.Reason())
			}
		}
	}
	const draws = 2_000
	fits(t, drawMany(t, kv, draw{want: 1, least: chain.Hyper(5), excluded: nobody}, draws), weights, draws)
	if nine := drawNodes(kv, testEnv(), draw{want: 9, least: chain.Hyper(5), excluded: nobody}); len(nine.nodes) != drawScan/16 {
		t.Errorf("%d of %d were found", len(nine.nodes), drawScan/16)
	}
	for n := uint64(drawScan + 1); n <= 8*drawScan; n++ { // one in sixteen of a long roll
		enrol(kv, n, n, chain.Hyper(100))
		if n%16 != 1 {
			if why := lockSlice(kv, node(n), chain.Hyper(96)); why != nil {
				t.Fatal(why.Reason())
			}
		}
	}
	for lot := range byte(200) {
		if three := drawNodes(kv, testEnv(), draw{seed: crypto.Digest{lot}, want: 3, least: chain.Hyper(5), excluded: nobody}); len(three.nodes) != 3 {
			t.Fatalf("lot %d: %d of 3 were found", lot, len(three.nodes))
		}
	}
}

// TestDrawsStakeWhatIsThere: jurors stake as much as is asked, or what three times as many as
// are wanted and half of all can stake, and no less than the least.
func TestDrawsStakeWhatIsThere(t *testing.T) {
	kv, env := state.NewOverlay(state.NewMemoryBackend()), testEnv()
	for n := uint64(1); n <= 20; n++ {
		enrol(kv, n, n, chain.Hyper(100*n))
	}
	for asked, want := range map[uint64]uint64{1: 5, 50: 50, 1_100: 1_100, 1_101: 1_100, 100_000: 1_100} { // the tenth of the twenty has 1,100
		got := drawNodes(kv, env, draw{want: 3, stake: chain.Hyper(asked), least: chain.Hyper(5), excluded: nobody})
		if got.stake != chain.Hyper(want) || len(got.nodes) != 3 {
			t.Errorf("asked for %d: %d nodes stake %v, want %d", asked, len(got.nodes), got.stake, want)
		}
		for _, k := range got.nodes {
			if p, _ := ProviderOf(kv, k); p.Free().Less(got.stake) {
				t.Errorf("a node with %v free stakes %v", p.Free(), got.stake)
			}
		}
	}
}

// TestALargeStakeIsNotForTheRichAlone: where one node in twenty could stake what is asked, the
// others judge as well, for what they have: who is rich does not own the panels.
func TestALargeStakeIsNotForTheRichAlone(t *testing.T) {
	for _, nodes := range []uint64{100, 200, 1_000} {
		kv, rich := state.NewOverlay(state.NewMemoryBackend()), map[crypto.PublicKey]bool{}
		for n := uint64(1); n <= nodes; n++ {
			bond := chain.Hyper(150)
			if n%20 == 1 {
				bond, rich[node(n)] = chain.Hyper(400), true
			}
			enrol(kv, n, n, bond)
		}
		bought := 0
		for lot := range byte(200) {
			three := drawNodes(kv, testEnv(), draw{seed: crypto.Digest{lot}, want: 3, stake: chain.Hyper(200), least: chain.Hyper(5), excluded: nobody})
			of := 0
			for _, k := range three.nodes {
				if rich[k] {
					of++
				}
			}
			if of >= 2 {
				bought++
			}
			if len(three.nodes) != 3 || three.stake != chain.Hyper(150) {
				t.Fatalf("%d nodes, lot %d: %d stake %v, want 3 and 150 HYPER", nodes, lot, len(three.nodes), three.stake)
			}
		}
		if bought > 20 {
			t.Errorf("%d nodes: the rich had %d of 200 panels", nodes, bought)
		}
	}
}

// counted counts what is read.
type counted struct {
	state.KV
	reads int
}

func (c *counted) Get(key []byte) ([]byte, bool) { c.reads++; return c.KV.Get(key) }

// TestDrawsAreBounded: whatever the roll, a draw reads no more than its tries and one scan.
func TestDrawsAreBounded(t *testing.T) {
	kv := state.NewOverlay(state.NewMemoryBackend())
	for n := uint64(1); n <= 2_000; n++ {
		enrol(kv, n, n, chain.Hyper(100))
		if why := lockSlice(kv, node(n), chain.Hyper(100)); why != nil {
			t.Fatal(why.Reason())
		}
	}
	c := &counted{KV: kv}
	if got := drawNodes(c, testEnv(), draw{want: 9, least: chain.Hyper(5), excluded: nobody}); len(got.nodes) != 0 {
		t.Errorf("%d were drawn that have nothing free", len(got.nodes))
	}
	if limit := 1 + 2*(9*drawTries+drawScan); c.reads > limit {
		t.Errorf("%d reads, limit %d", c.reads, limit)
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
	_, _ = deadlines(env).run(kv, 9, 1, func(of part, id crypto.Digest) (int, func() chain.Events) {
		return 1, func() chain.Events {
			told = append(told, id)
			dropDeadline(kv, at, of, second)
			return nil
		}
	})
	if !slices.Equal(told, []crypto.Digest{first}) {
		t.Fatalf("told of %v", told)
	}
}

// TestHeavyEntriesHoldUpNobody: entries of whatever shares are done in the order of time, each
// once, and whoever puts heavy ones before others has these wait for what the heavy ones take:
// what a block leaves unused because the next entry does not fit is less than that entry.
func TestHeavyEntriesHoldUpNobody(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		kv, env := state.NewOverlay(state.NewMemoryBackend()), testEnv()
		const heaviest = 20
		shares := rapid.SliceOfN(rapid.IntRange(1, heaviest), 1, 60).Draw(rt, "shares")
		room := rapid.IntRange(1, 4*heaviest).Draw(rt, "room")
		total := 0
		for i, n := range shares {
			queueDeadline(kv, env, uint64(1+i/3), 'T', crypto.Digest{byte(i)})
			total += n
		}
		env.ProgressMs += uint64(len(shares)) + 1
		var told []int
		blocks := 0
		for ; len(told) < len(shares); blocks++ {
			before := len(told)
			_, n := deadlines(env).run(kv, room, 1, func(_ part, id crypto.Digest) (int, func() chain.Events) {
				return shares[id[0]], func() chain.Events {
					told = append(told, int(id[0]))
					return nil
				}
			})
			used := 0
			for _, i := range told[before:] {
				used += shares[i]
			}
			switch {
			case used == 0:
				rt.Fatal("a block did nothing")
			case n != used:
				rt.Fatalf("entries took %d, it said %d", used, n)
			case used > room && len(told) > before+1:
				rt.Fatalf("several entries took %d, the room was %d", used, room)
			case len(told) < len(shares) && used+shares[len(told)] <= room:
				rt.Fatalf("%d of %d were used, and an entry waits that takes %d", used, room, shares[len(told)])
			}
			env.LastProgressMs, env.ProgressMs = env.ProgressMs, env.ProgressMs+1
		}
		if !slices.IsSorted(told) {
			rt.Fatalf("told of %v", told)
		}
		if most := total/max(room-heaviest+1, 1) + 1; room >= heaviest && blocks > most {
			rt.Fatalf("%d blocks for %d with room for %d each, want %d at most", blocks, total, room, most)
		}
	})
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
		j.Node, j.Owner, j.Staked = node(n), owner(n), p.Slice
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
