package replica_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/replica"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

func delegation(by int, e consensus.Epoch, node int) consensus.Delegation {
	return consensus.SignDelegation(consensusKey(by), chainID, e, consensus.Signer(by), nodeKey(node))
}

// meet has nodes connected.
func (n *node) meet(nodes ...int) {
	var up []crypto.PublicKey
	for _, i := range nodes {
		up = append(up, nodeKey(i))
	}
	slices.SortFunc(up, crypto.PublicKey.Compare)
	n.r.Step(n.w.now, replica.Peers{Connected: up})
}

// placed returns whom the last Places named.
func placed(effects []replica.Effect) (nodes []int) {
	for _, p := range only[replica.Places](effects) {
		nodes = nil
		for _, k := range p.Nodes {
			nodes = append(nodes, whose(k))
		}
	}
	slices.Sort(nodes)
	return nodes
}

func TestDelegationsAreTakenOrRefusedByName(t *testing.T) {
	w, n := lonely(t, 7)
	e := n.r.Status().Epoch
	spoil := func(change func(*consensus.Delegation)) consensus.Delegation {
		d := delegation(1, e, stranger)
		change(&d)
		return d
	}
	for _, c := range []struct {
		name, want string // empty: dropped without blame
		from       int
		d          consensus.Delegation
	}{
		{"of another chain", "bad signature", 80, consensus.SignDelegation(consensusKey(1), "other", e, 1, nodeKey(80))},
		{"by another's key", "bad signature", 81, consensus.SignDelegation(consensusKey(2), chainID, e, 1, nodeKey(81))},
		{"by a key that is in no committee", "bad signature", 82, consensus.SignDelegation(consensusKey(9), chainID, e, 1, nodeKey(82))},
		{"with a spoiled signature", "bad signature", stranger, spoil(func(d *consensus.Delegation) { d.Signature[5]++ })},
		{"moved to the next epoch", "bad signature", stranger, spoil(func(d *consensus.Delegation) { d.Epoch++ })},
		{"moved to another signer", "bad signature", stranger, spoil(func(d *consensus.Delegation) { d.Signer++ })},
		{"of a signer that there is not", "committee of 4", stranger, spoil(func(d *consensus.Delegation) { d.Signer = 4 })},
		{"replayed by another node", "another node's connections", 83, delegation(1, e, stranger)},
		{"made out to this node by who has not asked", "", 1, delegation(1, e, 0)},
		{"expired", "", stranger, delegation(1, e-1, stranger)},
		{"of an epoch without a committee", "", stranger, delegation(1, e+2, stranger)},
	} {
		way, effects, blame := n.tell(c.from, c.d)
		if way != replica.Drop || len(only[replica.Places](effects)) > 0 || (blame == "") != (c.want == "") || !strings.Contains(blame, c.want) {
			t.Errorf("a delegation %s: way %d, blamed for %q, want %q; %v", c.name, way, blame, c.want, effects)
		}
	}
	if way, effects, blame := n.tell(stranger, delegation(1, e, stranger)); way != replica.Pass || blame != "" || !slices.Equal(placed(effects), []int{stranger}) {
		t.Errorf("a delegation: way %d, %q, %v", way, blame, effects)
	}
	if way, effects, blame := n.tell(stranger, delegation(1, e, stranger)); way != replica.Drop || blame != "" || len(effects) > 0 {
		t.Errorf("it again: way %d, %q, %v", way, blame, effects)
	}
	if way, effects, _ := n.tell(84, delegation(3, e+1, 84)); way != replica.Pass || !slices.Equal(placed(effects), []int{stranger, 84}) {
		t.Errorf("one of the next epoch: way %d, %v", way, effects)
	}
	// With its epoch a delegation lapses, and the place with it.
	var last []int
	n.effects = func(eff replica.Effect) {
		if p := placed([]replica.Effect{eff}); len(p) > 0 {
			last = p
		}
	}
	for _, other := range w.nodes[1:] {
		other.start()
	}
	w.run(10_000*ms, func() bool { return n.r.Status().Epoch == e+1 })
	if !slices.Equal(last, []int{84}) {
		t.Errorf("in the next epoch %v have places, want the one that is delegated to in it", last)
	}
	if way, _, _ := n.tell(stranger, vote(1, nullify(round(e+1, n.r.Status().View)))); way != replica.Drop {
		t.Errorf("a vote over a sentry whose delegation lapsed: %d", way)
	}
}

func TestASignerHasFourSentriesAtATime(t *testing.T) {
	_, n := lonely(t, 7)
	s := n.r.Status()
	carries := func() (nodes []int) {
		for i := range 10 {
			if way, _, _ := n.tell(100+i, vote(1, nullify(round(s.Epoch, s.View)))); way == replica.Pass {
				nodes = append(nodes, 100+i)
			}
		}
		return nodes
	}
	n.meet(100, 101, 102, 103, 104, 105)
	for i := range 6 {
		n.tell(100+i, delegation(1, s.Epoch, 100+i))
	}
	if got := carries(); !slices.Equal(got, []int{100, 101, 102, 103}) {
		t.Errorf("%v carry the signer's votes, want the first four", got)
	}
	// Who is gone makes room: a validator may change its sentries.
	n.meet(100, 102, 103, 104, 105)
	n.tell(105, delegation(1, s.Epoch, 105))
	if got := carries(); !slices.Equal(got, []int{100, 102, 103, 105}) {
		t.Errorf("%v carry the signer's votes once one is gone", got)
	}
}

func TestASentryCarriesItsSignersVotesAndTheBlameForThem(t *testing.T) {
	_, n := lonely(t, 7)
	s := n.r.Status()
	n.tell(stranger, delegation(1, s.Epoch, stranger))
	if way, _, blame := n.tell(stranger, vote(1, nullify(round(s.Epoch, s.View)))); way != replica.Pass || blame != "" {
		t.Errorf("the signer's vote: %d, %q", way, blame)
	}
	if way, _, _ := n.tell(stranger, vote(2, nullify(round(s.Epoch, s.View)))); way != replica.Drop {
		t.Errorf("another signer's vote: %d", way)
	}
	forged := vote(1, nullify(round(s.Epoch, s.View+1))).(consensus.Nullify)
	forged.Signature[7]++
	_, effects, blame := n.tell(stranger, forged)
	if !strings.Contains(blame, "bad signature of signer 1") || len(only[replica.Blame](effects)) != 1 {
		t.Errorf("a forged vote over a sentry: %v", effects)
	}
	// The signer itself is not blocked: with its vote there is a quorum.
	n.tell(1, vote(1, nullify(round(s.Epoch, s.View+1))))
	n.tell(2, vote(2, nullify(round(s.Epoch, s.View+1))))
	n.tell(3, vote(3, nullify(round(s.Epoch, s.View+1))))
	if now := n.r.Status().View; now != s.View+2 {
		t.Errorf("view %d after view %d", now, s.View)
	}
}

// guard puts validators behind sentries: they are connected with these alone.
func (w *world) guard(sentries map[int][]int) {
	w.apart = func(a, b int) bool {
		return len(sentries[a]) > 0 && !slices.Contains(sentries[a], b) || len(sentries[b]) > 0 && !slices.Contains(sentries[b], a)
	}
	for _, nodes := range sentries { // order-free
		for _, i := range nodes {
			w.nodes[i].keys = nil
		}
	}
	w.cfg = func(cfg replica.Config) replica.Config {
		for v, nodes := range sentries { // order-free: a node has one part
			for _, i := range nodes {
				if cfg.NodeKey == nodeKey(v) {
					cfg.Sentries = append(cfg.Sentries, nodeKey(i))
				} else if cfg.NodeKey == nodeKey(i) {
					cfg.Wards = append(cfg.Wards, nodeKey(v))
				}
			}
		}
		return cfg
	}
}

// guarded is four validators, the first behind sentries 4 and 5.
func guarded(t *testing.T) *world {
	w := newWorld(t, 6, everyEpoch(0, 1, 2, 3))
	w.guard(map[int][]int{0: {4, 5}})
	return w
}

// ledBy counts the blocks from a height on that a validator made.
func (w *world) ledBy(who int, from uint64) (made int) {
	for _, b := range w.nodes[1].disk.chain[from:] {
		tb, err := readToy(b.block.Payload)
		if err != nil {
			w.t.Fatal(err)
		}
		if leader := w.committee(tb.Round.Epoch).Leader(tb.Round.View); leader == consensus.Signer(who) {
			made++
		}
	}
	return made
}

// TestAValidatorBehindSentriesTakesItsFullPart: its blocks become final in its turn,
// in every epoch, with no view given up, and nobody is blamed; one sentry is enough.
func TestAValidatorBehindSentriesTakesItsFullPart(t *testing.T) {
	w := guarded(t)
	w.blocks = 20
	given := 0
	for _, n := range w.nodes {
		n.effects = func(e replica.Effect) {
			if b, ok := e.(replica.Broadcast); ok {
				if _, gaveUp := b.Message.(consensus.Nullify); gaveUp {
					given++
				}
			}
		}
	}
	startAll(w)
	w.run(60_000*ms, w.everybodyAt(8)) // delegations are on the way in the first views
	given = 0
	from := w.nodes[1].height()
	w.run(60_000*ms, w.everybodyAt(from+60))
	if led := w.ledBy(0, from); led < 13 || given > 0 {
		t.Errorf("%d blocks of 60 are of the validator behind sentries, %d views were given up", led, given)
	}
	w.nodes[4].stop()
	from = w.nodes[1].height()
	up := func(height uint64) func() bool {
		return func() bool {
			return !slices.ContainsFunc(w.nodes, func(n *node) bool { return n.r != nil && n.height() < height })
		}
	}
	w.run(60_000*ms, up(from+40))
	if led := w.ledBy(0, from); led < 8 || given > 2 {
		t.Errorf("with one sentry %d blocks of 40 are of its validator, %d views were given up", led, given)
	}
	// Two of the others' votes and the hidden validator's are a quorum.
	w.nodes[3].stop()
	w.run(60_000*ms, up(w.nodes[1].height()+20))
	w.nodes[3].start()
	w.nodes[4].start()
	w.run(60_000*ms, w.everybodyAt(w.nodes[1].height()+20))
	w.nobodyBlamed()
}

// forged is a message with another signature.
func forged(m consensus.Message) consensus.Message {
	switch m := m.(type) {
	case consensus.Notarize:
		m.Signature[3]++
		return m
	case consensus.Nullify:
		m.Signature[3]++
		return m
	case consensus.Finalize:
		m.Signature[3]++
		return m
	case consensus.Offer:
		m.Vote.Signature[3]++
		return m
	case consensus.Delegation:
		m.Signature[3]++
		return m
	case *consensus.Certificate, consensus.CertificateRequest, consensus.BlockRequest, consensus.AncestryRequest, consensus.BlockAnswer, consensus.Ancestry:
	}
	return m
}

// TestAHostileSentryCostsNobodyAnything: whatever one of two does, to either side,
// the validator behind them takes its full part, and blame falls on nobody else.
func TestAHostileSentryCostsNobodyAnything(t *testing.T) {
	var old []consensus.Message
	for _, c := range []struct {
		name   string
		blames bool
		says   func(consensus.Message) []consensus.Message // in the place of what an honest one would
	}{
		{"silent", false, func(consensus.Message) []consensus.Message { return nil }},
		{"forging", true, func(m consensus.Message) []consensus.Message { return []consensus.Message{forged(m)} }},
		{"another block under the vote", true, func(m consensus.Message) []consensus.Message {
			if o, ok := m.(consensus.Offer); ok {
				o.Payload = toy{Height: 99, Round: o.Vote.Proposal.Round}.block().Payload
				m = o
			}
			return []consensus.Message{m}
		}},
		{"votes without their blocks", false, func(m consensus.Message) []consensus.Message {
			if o, ok := m.(consensus.Offer); ok {
				m = o.Vote
			}
			return []consensus.Message{m}
		}},
		{"replaying", false, func(m consensus.Message) []consensus.Message {
			if old = append(old, m); len(old) > 40 {
				old = old[1:]
			}
			return append(slices.Clone(old), m)
		}},
	} {
		t.Run(c.name, func(t *testing.T) { hostileSentry(t, c.says, c.blames) })
	}
}

func hostileSentry(t *testing.T, says func(consensus.Message) []consensus.Message, blames bool) {
	w := guarded(t)
	w.blocks = 20
	w.cut = func(from, to int, m consensus.Message) bool {
		if from != 4 {
			return false
		}
		for _, said := range says(m) {
			w.after(hop, func() { w.nodes[to].receive(4, said.Channel(), consensus.EncodeMessage(said)) })
		}
		return true
	}
	startAll(w)
	up := func(height uint64) func() bool {
		return func() bool {
			return !slices.ContainsFunc(w.nodes, func(n *node) bool { return n.id != 4 && n.height() < height })
		}
	}
	w.run(60_000*ms, up(8))
	from := w.nodes[1].height()
	w.run(60_000*ms, up(from+40))
	if led := w.ledBy(0, from); led < 8 {
		t.Errorf("%d blocks of 40 are of its validator", led)
	}
	blamed := 0
	for _, n := range w.nodes {
		for _, b := range n.blamed {
			if blamed++; !strings.HasPrefix(b, "4: ") {
				t.Errorf("node %d blames %s", n.id, b)
			}
		}
	}
	if (blamed > 0) != blames {
		t.Errorf("it was blamed %d times", blamed)
	}
}

// TestAForgerHasNoSentryBlamed: a member sends forged votes to the sentries of
// another, which pass none of them on.
func TestAForgerHasNoSentryBlamed(t *testing.T) {
	w := guarded(t)
	startAll(w)
	w.run(60_000*ms, w.everybodyAt(7))
	s, n := w.nodes[4].r.Status(), w.nodes[4]
	forged := vote(3, nullify(round(s.Epoch, s.View))).(consensus.Nullify)
	forged.Signature[7]++
	_, effects, blame := n.tell(3, forged)
	if !strings.Contains(blame, "bad signature of signer 3") || len(only[replica.Relay](effects)) > 0 {
		t.Errorf("blamed for %q: %v", blame, effects)
	}
	_, effects, blame = n.tell(3, vote(3, nullify(round(s.Epoch, s.View))))
	if relays := only[replica.Relay](effects); blame != "" || len(relays) != 1 || fmt.Sprint(relays[0].To) != fmt.Sprint([]crypto.PublicKey{nodeKey(0)}) {
		t.Errorf("the member's true vote: %q, %v", blame, effects)
	}
	own := vote(0, nullify(round(s.Epoch, s.View))).(consensus.Nullify)
	own.Signature[7]++
	if _, effects, blame = n.tell(0, own); blame == "" || len(only[replica.Relay](effects)) > 0 {
		t.Errorf("the ward's forged vote: %q, %v", blame, effects)
	}
}

// TestASentryDoesNotAmplify: whatever a member repeats, or votes for far ahead, and
// whatever strangers say, little of it goes on.
func TestASentryDoesNotAmplify(t *testing.T) {
	w := guarded(t)
	startAll(w)
	w.run(60_000*ms, w.everybodyAt(7))
	s, n := w.nodes[4].r.Status(), w.nodes[4]
	relayed := func(from int, m consensus.Message) int {
		_, effects, _ := n.tell(from, m)
		return len(only[replica.Relay](effects))
	}
	for _, by := range []int{0, 3} {
		at := round(s.Epoch, s.View+3)
		if got := relayed(by, vote(by, nullify(at))); got != 1 {
			t.Fatalf("a vote of %d is passed on %d times", by, got)
		}
		for range 20 {
			if relayed(by, vote(by, nullify(at))) > 0 {
				t.Errorf("a vote of %d is passed on again at once", by)
			}
		}
		w.now += 60 * ms // more than half of Retry
		if got := relayed(by, vote(by, nullify(at))); got != 1 {
			t.Errorf("a repetition of %d's vote is passed on %d times", by, got)
		}
		passed := 0
		for far := range consensus.View(400) {
			passed += relayed(by, vote(by, nullify(round(s.Epoch, s.View+far))))
		}
		if passed > 128 {
			t.Errorf("%d votes of %d for views ahead are passed on", passed, by)
		}
	}
	for name, m := range map[string]consensus.Message{
		"a member's vote":     vote(3, nullify(round(s.Epoch, s.View+4))),
		"the ward's vote":     vote(0, nullify(round(s.Epoch, s.View+4))),
		"the ward's mandate":  delegation(0, s.Epoch+1, 4),
		"another's mandate":   delegation(1, s.Epoch, 4),
		"a member's proposal": offer(int(w.committee(s.Epoch).Leader(s.View+1)), round(s.Epoch, s.View+1), s.View, toy{Height: 9}.block()),
	} {
		if relayed(stranger, m) > 0 {
			t.Errorf("%s from a stranger is passed on", name)
		}
	}
	// The other sentry's copy of the ward's vote goes its own way.
	n.tell(5, delegation(0, s.Epoch, 5))
	if relayed(5, vote(0, nullify(round(s.Epoch, s.View+5)))) > 0 {
		t.Error("the ward's vote over another sentry is passed on")
	}
}

// TestAValidatorVerifiesWhatItsSentriesCarry: a sentry of its own forges.
func TestAValidatorVerifiesWhatItsSentriesCarry(t *testing.T) {
	w := guarded(t)
	startAll(w)
	w.run(60_000*ms, w.everybodyAt(7))
	s, n := w.nodes[0].r.Status(), w.nodes[0]
	forged := vote(3, nullify(round(s.Epoch, s.View))).(consensus.Nullify)
	forged.Signature[7]++
	early := vote(3, nullify(round(s.Epoch+1, 1))).(consensus.Nullify)
	early.Signature[7]++
	for _, v := range []consensus.Vote{forged, early} {
		if _, _, blame := n.tell(4, v); !strings.Contains(blame, "bad signature of signer 3") {
			t.Errorf("a forged vote over an own sentry: %q", blame)
		}
	}
	if way, effects, blame := n.tell(4, vote(0, nullify(round(s.Epoch, s.View+1)))); way != replica.Drop || blame != "" || len(effects) > 0 {
		t.Errorf("its own vote back: %d, %v, %q", way, effects, blame)
	}
	outside := vote(3, nullify(round(s.Epoch, s.View))).(consensus.Nullify)
	outside.Signer = 9
	if way, _, blame := n.tell(4, outside); way != replica.Drop || blame != "" {
		t.Errorf("a vote of nobody: %d, %q", way, blame)
	}
}

// TestTwoHiddenValidatorsHearOfEachOther: their sentries know of each other, or are
// one.
func TestTwoHiddenValidatorsHearOfEachOther(t *testing.T) {
	for name, sentries := range map[string]map[int][]int{
		"two sentries": {0: {4}, 1: {5}},
		"one sentry":   {0: {4}, 1: {4}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 6, everyEpoch(0, 1, 2, 3))
			w.guard(sentries)
			startAll(w)
			w.run(60_000*ms, w.everybodyAt(8))
			w.nodes[3].stop() // every vote counts
			w.run(60_000*ms, func() bool { return w.nodes[0].height() >= 40 && w.nodes[1].height() >= 40 })
			if led := w.ledBy(0, 20); led < 2 {
				t.Errorf("%d blocks after the 20th are of a hidden validator", led)
			}
			w.nobodyBlamed()
		})
	}
}

// TestASentryAsksForWhatItsWardLacks: the certificate of a view that the sentry
// itself has no use for.
func TestASentryAsksForWhatItsWardLacks(t *testing.T) {
	w := guarded(t)
	startAll(w)
	w.run(60_000*ms, w.everybodyAt(7))
	s, n := w.nodes[4].r.Status(), w.nodes[4]
	m := consensus.CertificateRequest{Kind: consensus.KindNullify, Round: round(s.Epoch, s.View+1)}
	asked := 0
	for range 40 {
		_, effects, _ := n.tell(0, m)
		for _, e := range only[replica.Send](effects) {
			if e.To == nodeKey(0) || e.Message != consensus.Message(m) {
				t.Errorf("sends %v", e)
			}
			asked++
		}
	}
	if asked == 0 || asked > 16 {
		t.Errorf("asked %d times for 40 requests, want 1 to 16", asked)
	}
	_, effects, _ := n.tell(3, m)
	if sends := only[replica.Send](effects); len(sends) > 0 {
		t.Errorf("asks for a member that is no ward: %v", sends)
	}
}

// TestWhatASentryCarriesEarlyIsBoundedBySigner: one connection carries the votes of
// all in an epoch to come, and each has its own room.
func TestWhatASentryCarriesEarlyIsBoundedBySigner(t *testing.T) {
	w := guarded(t)
	w.blocks = 10
	inner := w.cfg
	w.cfg = func(cfg replica.Config) replica.Config {
		cfg = inner(cfg)
		cfg.MaxEarly = 1
		return cfg
	}
	n := w.nodes[0]
	w.cut = func(_, to int, m consensus.Message) bool { // of the second epoch the validator hears nothing else
		if v, ok := m.(consensus.Vote); ok {
			return to == 0 && v.Statement().Round().Epoch == 2
		}
		if o, ok := m.(consensus.Offer); ok {
			return to == 0 && o.Vote.Proposal.Round.Epoch == 2
		}
		c, ok := m.(*consensus.Certificate)
		return to == 0 && ok && c.Statement.Round().Epoch == 2
	}
	startAll(w)
	w.run(60_000*ms, w.everybodyAt(5))
	for range 3 { // a copy takes no room
		n.tell(4, vote(1, nullify(round(2, 1))))
	}
	n.tell(5, vote(2, nullify(round(2, 1))))
	n.tell(4, vote(3, nullify(round(2, 1))))
	n.tell(4, vote(3, nullify(round(2, 2)))) // one too many
	view := consensus.View(0)
	n.effects = func(replica.Effect) {
		if s := n.r.Status(); s.Epoch == 2 && view == 0 {
			view = s.View
		}
	}
	w.run(60_000*ms, func() bool { return view > 0 })
	if view != 2 {
		t.Errorf("enters epoch 2 in view %d, with a quorum of early votes to give up the first", view)
	}
}

// TestAValidatorIsAskedThroughItsSentry: what its leader must have is asked of the
// sentry first.
func TestAValidatorIsAskedThroughItsSentry(t *testing.T) {
	w, n := lonely(t, 7)
	s := n.r.Status()
	n.meet(2, 3, stranger)
	n.tell(stranger, delegation(1, s.Epoch, stranger))
	for i := range 3 { // not by luck
		view := s.View + 1 + 4*consensus.View(i)
		for w.committee(s.Epoch).Leader(view) != 1 {
			view++
		}
		p := consensus.Proposal{Round: round(s.Epoch, view), Parent: s.View, Digest: crypto.Digest{9, byte(i)}}
		_, effects, _ := n.tell(2, certificate(w, consensus.Statement{Kind: consensus.KindNotarize, Proposal: p}, 1, 2, 3))
		asks := slices.DeleteFunc(only[replica.Send](effects), func(e replica.Send) bool {
			return e.Message != consensus.Message(consensus.BlockRequest{Digest: p.Digest})
		})
		if len(asks) != 1 || asks[0].To != nodeKey(stranger) {
			t.Errorf("asked for block %d of the validator: %v", i, asks)
		}
	}
}

func TestSentryConfigsAreChecked(t *testing.T) {
	w := newWorld(t, 1, everyEpoch(0, 1, 2, 3))
	for want, change := range map[string]func(*replica.Config){
		"5 Sentries, limit 4": func(c *replica.Config) {
			c.Sentries = []crypto.PublicKey{nodeKey(1), nodeKey(2), nodeKey(3), nodeKey(4), nodeKey(5)}
		},
		"Sentries: ":            func(c *replica.Config) { c.Sentries = []crypto.PublicKey{c.NodeKey} },
		"Wards: ":               func(c *replica.Config) { c.Keys, c.Wards = nil, []crypto.PublicKey{nodeKey(1), nodeKey(1)} },
		"has no consensus keys": func(c *replica.Config) { c.Wards = []crypto.PublicKey{nodeKey(1)} },
		"keys and no sentries": func(c *replica.Config) {
			c.Keys, c.Wards, c.Sentries = nil, []crypto.PublicKey{nodeKey(1)}, []crypto.PublicKey{nodeKey(2)}
		},
	} {
		cfg := w.nodes[0].config()
		change(&cfg)
		if _, err := replica.Restore(cfg, w.nodes[0].floor(), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestVotesThatCountForNothingAreNotVerified: a sentry carries what its signer makes
// without an end, and each verification would cost more than it costs to make one.
func TestVotesThatCountForNothingAreNotVerified(t *testing.T) {
	w, n := lonely(t, 7)
	s := n.r.Status()
	n.tell(stranger, delegation(1, s.Epoch, stranger))
	n.tell(stranger, delegation(1, s.Epoch+1, stranger))
	at := s.View
	for w.committee(s.Epoch).Leader(at) == 1 {
		at++
	}
	another := func(r consensus.Round, i byte) consensus.Notarize {
		p := consensus.Proposal{Round: r, Parent: r.View - 1, Digest: crypto.Digest{i}}
		return vote(1, consensus.Statement{Kind: consensus.KindNotarize, Proposal: p}).(consensus.Notarize)
	}
	verified := func(v consensus.Notarize) bool { // it is if a forgery is noticed
		v.Signature[7]++
		_, _, blame := n.tell(stranger, v)
		return blame != ""
	}
	n.tell(stranger, another(round(s.Epoch, at), 1))
	if !verified(another(round(s.Epoch, at), 2)) {
		t.Error("what would be evidence is not verified")
	}
	if _, effects, _ := n.tell(stranger, another(round(s.Epoch, at), 2)); len(only[replica.Evidence](effects)) != 1 {
		t.Fatalf("no evidence: %v", effects)
	}
	if verified(another(round(s.Epoch, at), 3)) {
		t.Error("one vote more of who is convicted is verified")
	}
	kept := 0
	for ; kept < 1000 && verified(another(round(s.Epoch+1, 9), byte(kept))); kept++ {
		n.tell(stranger, another(round(s.Epoch+1, 9), byte(kept)))
	}
	if most := n.config().MaxEarly; kept != most {
		t.Errorf("%d votes of the next epoch are verified, of which %d are kept", kept, most)
	}
}
