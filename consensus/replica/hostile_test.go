package replica_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/replica"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

const stranger = 77 // a node that is in no committee

// lonely is node 0 of four at some height, cut off from the others: what it is
// told comes from the test.
func lonely(t *testing.T, height uint64) (*world, *node) {
	w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
	startAll(w)
	w.run(2000*ms, w.everybodyAt(height))
	for _, other := range w.nodes[1:] {
		other.r, other.life = nil, other.life+1
	}
	w.pass(20 * ms)
	return w, w.nodes[0]
}

// tell hands node a message as its network would, and returns what Admit and
// Step say of it. The effects are not performed.
func (n *node) tell(from int, m consensus.Message) (replica.Admission, []replica.Effect, string) {
	way, err := n.r.Window().Admit(nodeKey(from), m)
	ev := replica.Received{From: nodeKey(from), Message: m}
	if way == replica.PassWithBlock {
		ev.Blocks = inspect(m)
	}
	effects := n.r.Step(n.w.now, ev) // Step checks again, whatever Admit says
	blame := ""
	for _, e := range effects {
		if b, ok := e.(replica.Blame); ok && b.Peer == nodeKey(from) {
			blame = b.Reason
		}
	}
	if err != nil && blame != err.Error() {
		n.w.t.Errorf("Admit says %q, Step says %q", err, blame)
	}
	return way, effects, blame
}

func only[E replica.Effect](effects []replica.Effect) []E {
	var out []E
	for _, e := range effects {
		if e, ok := e.(E); ok {
			out = append(out, e)
		}
	}
	return out
}

func round(e consensus.Epoch, v consensus.View) consensus.Round {
	return consensus.Round{Epoch: e, View: v}
}

func nullify(r consensus.Round) consensus.Statement {
	return consensus.Statement{Kind: consensus.KindNullify, Proposal: consensus.Proposal{Round: r}}
}

func vote(by int, s consensus.Statement) consensus.Vote {
	return consensus.SignVote(consensusKey(by), consensus.Signer(by), chainID, s)
}

func certificate(w *world, s consensus.Statement, by ...int) *consensus.Certificate {
	var votes []consensus.Vote
	for _, i := range by {
		votes = append(votes, vote(i, s))
	}
	return consensus.Assemble(w.committee(s.Round().Epoch), s, votes)
}

func offer(by int, r consensus.Round, parent consensus.View, b consensus.Block) consensus.Offer {
	p := consensus.Proposal{Round: r, Parent: parent, Digest: b.Digest}
	v := vote(by, consensus.Statement{Kind: consensus.KindNotarize, Proposal: p})
	return consensus.Offer{Vote: v.(consensus.Notarize), Payload: b.Payload}
}

func TestHostileMessagesAreRefusedByName(t *testing.T) {
	w, n := lonely(t, 7)
	s := n.r.Status()
	next := round(s.Epoch, s.View+1)
	leader := int(w.committee(s.Epoch).Leader(next.View))
	other := (leader + 1) % 4
	if other == 0 {
		other++
	}
	if leader == 0 {
		t.Fatal("node 0 leads the view of the test")
	}
	b := toy{Height: 9, Round: next}.block()
	forged := certificate(w, nullify(round(s.Epoch, s.View+5)), 1, 2, 3)
	forged.Signatures[1][3]++
	early := certificate(w, nullify(round(s.Epoch+1, 3)), 1, 2, 3)
	early.Signatures[2][3]++
	mixed := offer(leader, next, s.View, b)
	mixed.Payload = toy{Height: 10, Round: next}.block().Payload
	sentry := consensus.SignDelegation(consensusKey(1), chainID, s.Epoch, 1, nodeKey(stranger))
	spoiled := sentry
	spoiled.Signature[0]++
	for _, c := range []struct {
		name, want string
		from       int
		m          consensus.Message
	}{
		{"another's vote", "over the connection of signer 2", 2, vote(1, nullify(next))},
		{"another's vote of the next epoch", "over the connection of signer 2", 2, vote(1, nullify(round(s.Epoch+1, 1)))},
		{"another's offer", "over the connection of signer", other, offer(leader, next, s.View, b)},
		{"an offer out of turn", "its leader is", other, offer(other, next, s.View, b)},
		{"another block than offered", "under the vote for", leader, mixed},
		{"a forged certificate", "does not hold", 2, forged},
		{"a forged certificate of the next epoch", "does not hold", 2, early},
		{"a certificate without weight", "quorum 3", 2, certificate(w, nullify(round(s.Epoch, s.View+5)), 1, 2)},
		{"a delegation to another's connections", "another node's connections", 2, sentry},
		{"a forged delegation", "bad signature", stranger, spoiled},
	} {
		if _, _, blame := n.tell(c.from, c.m); !strings.Contains(blame, c.want) {
			t.Errorf("%s: blamed for %q, want %q", c.name, blame, c.want)
		}
	}
}

func TestWhatIsOfNoUseIsDroppedWithoutBlame(t *testing.T) {
	w, n := lonely(t, 7)
	s := n.r.Status()
	for name, m := range map[string]consensus.Message{
		"a stranger's vote":              vote(1, nullify(round(s.Epoch, s.View))),
		"a stranger's old vote":          vote(1, nullify(round(1, 3))),
		"a vote of an unknown epoch":     vote(1, nullify(round(s.Epoch+2, 1))),
		"a certificate of an old epoch":  certificate(w, nullify(round(1, 3)), 1, 2, 3),
		"a certificate of a far epoch":   certificate(w, nullify(round(9, 3)), 1, 2, 3),
		"a block that nobody asked for":  consensus.BlockAnswer{Payload: toy{Height: 3}.block().Payload},
		"blocks that nobody asked for":   consensus.Ancestry{From: n.height() + 1},
		"a certificate that is held":     s.Certificate,
		"a delegation of an old epoch":   consensus.SignDelegation(consensusKey(1), chainID, 1, 1, nodeKey(stranger)),
		"a delegation of a far epoch":    consensus.SignDelegation(consensusKey(1), chainID, 9, 1, nodeKey(stranger)),
		"a request for an unknown epoch": consensus.CertificateRequest{Kind: consensus.KindNullify, Round: round(9, 3)},
	} {
		if way, effects, _ := n.tell(stranger, m); len(effects) > 0 || way == replica.PassWithBlock {
			t.Errorf("%s: %d, %v", name, way, effects)
		}
	}
}

// forgeries are answers that look like the good one, by what is said of them.
func forgeries(t *testing.T, w *world, good consensus.Ancestry) map[string]consensus.Ancestry {
	edit := func(change func(a *consensus.Ancestry)) consensus.Ancestry {
		a := consensus.Ancestry{From: 1, Blocks: slices.Clone(good.Blocks)}
		change(&a)
		return a
	}
	swap := func(payload []byte, change func(*toy)) []byte {
		b, err := readToy(payload)
		if err != nil {
			t.Fatal(err)
		}
		change(&b)
		return b.block().Payload
	}
	second, err := consensus.DecodeCertificate(good.Blocks[1].Certificate)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]consensus.Ancestry{
		"height 2 in the place of 1": edit(func(a *consensus.Ancestry) { a.Blocks = a.Blocks[1:] }),
		"not the child": edit(func(a *consensus.Ancestry) {
			a.Blocks[0].Certificate = nil
			a.Blocks[1].Payload = swap(a.Blocks[1].Payload, func(b *toy) { b.Parent[3]++ })
		}),
		"does not finalize block 1": edit(func(a *consensus.Ancestry) { a.Blocks[0].Certificate = a.Blocks[1].Certificate }),
		"does not hold": edit(func(a *consensus.Ancestry) {
			a.Blocks[0].Certificate = bytes.Clone(a.Blocks[0].Certificate)
			a.Blocks[0].Certificate[len(a.Blocks[0].Certificate)-1]++
		}),
		"quorum 3": edit(func(a *consensus.Ancestry) {
			first, err := consensus.DecodeCertificate(a.Blocks[0].Certificate)
			if err != nil {
				t.Fatal(err)
			}
			a.Blocks[0].Certificate = consensus.EncodeCertificate(certificate(w, first.Statement, 1, 2))
		}),
		"does not finalize block 2": edit(func(a *consensus.Ancestry) {
			a.Blocks[0].Certificate = nil
			st := second.Statement
			st.Kind = consensus.KindNotarize
			a.Blocks[1].Certificate = consensus.EncodeCertificate(certificate(w, st, 1, 2, 3))
		}),
		"has no finalization": edit(func(a *consensus.Ancestry) {
			a.Blocks[0].Certificate = nil
			a.Blocks[0].Payload = swap(a.Blocks[0].Payload, func(b *toy) { b.Closing = true })
		}),
		"forged ancestry: consensus: certificate": edit(func(a *consensus.Ancestry) { a.Blocks[0].Certificate = []byte{1} }),
	}
}

func TestForgedAncestryIsBlamedOnWhoSentIt(t *testing.T) {
	w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
	n := w.nodes[0]
	w.cut = func(from, to int, _ consensus.Message) bool { return from == 0 || to == 0 }
	startAll(w)
	server := w.nodes[1]
	w.run(60_000*ms, func() bool { return server.height() >= 9 })
	good := server.ancestry(1, 4)
	for want, a := range forgeries(t, w, good) {
		asked, from := n.awaitAncestryRequest()
		a.From = from
		if from != 1 {
			t.Fatalf("asks from height %d", from)
		}
		if _, effects, blame := n.tell(asked, a); !strings.Contains(blame, want) || len(only[replica.Finalize](effects)) > 0 {
			t.Errorf("blamed for %q, want %q", blame, want)
		}
	}
	// An answer of somebody else, and one to another request.
	asked, _ := n.awaitAncestryRequest()
	if way, effects, _ := n.tell(asked%3+1, good); way != replica.Drop || len(effects) > 0 {
		t.Errorf("an answer of somebody who was not asked: %d, %v", way, effects)
	}
	if way, _, _ := n.tell(asked, consensus.Ancestry{From: 2, Blocks: good.Blocks[1:]}); way != replica.Drop {
		t.Errorf("an answer from another height: %d", way)
	}
	if _, effects, _ := n.tell(asked, good); len(only[replica.Finalize](effects)) != 1 {
		t.Errorf("the good answer: %v", effects)
	}
}

// awaitAncestryRequest wakes the node until it asks for blocks, and returns whom
// and from where.
func (n *node) awaitAncestryRequest() (int, uint64) {
	n.w.t.Helper()
	for range 100 {
		at, ok := n.r.Deadline()
		if !ok {
			break
		}
		n.w.now = max(n.w.now, at)
		for _, s := range only[replica.Send](n.r.Step(n.w.now, replica.Wake{})) {
			if m, ok := s.Message.(consensus.AncestryRequest); ok {
				return n.w.byKey(s.To), m.From
			}
		}
	}
	n.w.t.Fatal("never asks for blocks")
	return 0, 0
}

func TestMessagesOfTheNextEpochAreBoundedAndReplayed(t *testing.T) {
	w, n := lonely(t, 7)
	s := n.r.Status()
	e := s.Epoch + 1
	for v := range consensus.View(1000) {
		n.tell(1, vote(1, nullify(round(e, v+1))))
	}
	read := 0
	for v := range consensus.View(40) {
		b := toy{Height: 100, Round: round(e, v+1)}.block()
		leader := int(w.committee(e).Leader(v + 1))
		if leader == 0 || leader == 1 {
			continue
		}
		for range 3 {
			if way, _, _ := n.tell(leader, offer(leader, round(e, v+1), v, b)); way == replica.PassWithBlock {
				read++
			}
		}
	}
	if read != 2 { // views 3 and 4 of the first four; 1 and 2 are led by 0 and 1
		t.Errorf("%d offered blocks of the next epoch were read", read)
	}
	for v := range consensus.View(200) {
		n.tell(2, certificate(w, nullify(round(e, v+1)), 1, 2, 3))
	}
	if n.r.Status().Epoch != s.Epoch {
		t.Fatal("the next epoch began")
	}
	// The epoch ends; what was kept takes effect: the certificates carry it to
	// the 65th view.
	for _, other := range w.nodes[1:] {
		other.start()
	}
	w.run(60_000*ms, func() bool { return n.r.Status().Epoch == e })
	if v := n.r.Status().View; v != 65 {
		t.Errorf("the next epoch begins in view %d, want 65", v)
	}
	w.nobodyBlamed()
}

func TestFetchRequestsOfAPeerWaitForItsBudgetAndTheStore(t *testing.T) {
	w, n := lonely(t, 7)
	lookups := 0
	ask := func(from int) {
		_, effects, _ := n.tell(from, consensus.AncestryRequest{From: 1})
		lookups += len(only[replica.Lookup](effects))
	}
	for range 1000 {
		ask(stranger)
	}
	if most := n.config().MaxLookups; lookups != most {
		t.Fatalf("%d reads of the store at a time, limit %d", lookups, most)
	}
	// Another peer's request comes before the first one's other 31.
	ask(2)
	var turns []int
	for range 4 {
		for _, l := range only[replica.Lookup](n.r.Step(w.now, replica.Served{To: nodeKey(stranger), Bytes: 1 << 20})) {
			turns = append(turns, w.byKey(l.To))
		}
	}
	if !slices.Contains(turns, 2) {
		t.Errorf("a peer that asks once waits behind one that asks a lot: %v", turns)
	}
	// 32 MiB at once, and then 16 MiB a second.
	served := 8 << 20
	for served < 200<<20 {
		effects := n.r.Step(w.now, replica.Served{To: nodeKey(stranger), Bytes: 4 << 20})
		got := len(only[replica.Lookup](effects))
		if got == 0 {
			break
		}
		served += 4 << 20
	}
	if served > 60<<20 {
		t.Errorf("%d MiB were served at once", served>>20)
	}
	at, ok := n.r.Deadline()
	if !ok {
		t.Fatal("no deadline")
	}
	if at < w.now {
		t.Errorf("wakes in the past")
	}
	// A certificate does not wait for the store.
	cert := consensus.CertificateRequest{Kind: consensus.KindNullify, Round: round(1, 1)}
	_, effects, _ := n.tell(3, cert)
	sends := only[replica.Send](effects)
	if len(sends) != 1 || sends[0].Message.(*consensus.Certificate).Statement.Proposal.Digest != w.final[5] {
		t.Errorf("asked for a certificate of epoch 1: %v", effects)
	}
}

// A node whose application is slow builds and checks nothing that would run
// further ahead, drops what exceeds its backlog, and gets it by height later.
func TestASlowApplicationHoldsTheNodeBackAndLosesNothing(t *testing.T) {
	w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
	w.blocks = 1000
	w.cfg = func(c replica.Config) replica.Config { c.MaxAhead, c.MaxBacklog = 2, 4; return c }
	n := w.nodes[3]
	most, asked := 0, 0
	n.park = true
	n.effects = func(e replica.Effect) {
		waiting := n.r.Status().Waiting
		most = max(most, waiting)
		_, builds := e.(replica.Build)
		if _, checks := e.(replica.Check); builds || checks {
			asked++
			if waiting > 2 {
				t.Errorf("%T with %d blocks waiting", e, waiting)
			}
		}
	}
	startAll(w)
	w.run(20_000*ms, func() bool { return w.nodes[0].height() > 60 })
	if most != 4 || asked == 0 || len(n.parked) != 1 {
		t.Fatalf("%d blocks waited, %d at the application", most, len(n.parked))
	}
	if !n.r.Status().Behind {
		t.Error("not behind, with blocks dropped")
	}
	n.park = false
	n.finalize(n.parked[0])
	w.run(10_000*ms, w.everybodyAt(100))
	w.nobodyBlamed()
}

func TestBlocksWithoutACertificateAreHeldUpToALimit(t *testing.T) {
	w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
	w.cfg = func(c replica.Config) replica.Config { c.MaxRunBytes = 10_000; return c }
	n := w.nodes[0]
	w.cut = func(from, to int, _ consensus.Message) bool { return from == 0 || to == 0 }
	startAll(w)
	asked, from := n.awaitAncestryRequest()
	parent := genesis
	for round := 0; ; round++ {
		a := consensus.Ancestry{From: from}
		for i := range uint64(4) {
			b := toy{Height: from + i, Parent: parent, Padding: make([]byte, 1000)}.block()
			a.Blocks = append(a.Blocks, consensus.ProvenBlock{Payload: b.Payload})
			parent = b.Digest
		}
		_, effects, blame := n.tell(asked, a)
		if blame != "" {
			t.Fatal(blame)
		}
		sends := only[replica.Send](effects)
		if len(sends) == 0 {
			if round < 1 || round > 3 {
				t.Errorf("gave up after %d answers", round+1)
			}
			return
		}
		from = sends[0].Message.(consensus.AncestryRequest).From
	}
}

// A peer that gives a block at a time, proven or not, does not keep a laggard for
// itself.
func TestAPeerThatAnswersLittleDoesNotHoldCatchUp(t *testing.T) {
	w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
	n := w.nodes[0]
	w.cut = func(from, to int, _ consensus.Message) bool { return from == 0 || to == 0 }
	startAll(w)
	server := w.nodes[1]
	w.run(60_000*ms, func() bool { return server.height() >= 9 })
	asked, from := n.awaitAncestryRequest()
	_, effects, blame := n.tell(asked, server.ancestry(from, 1))
	sends := only[replica.Send](effects)
	if blame != "" || len(sends) != 1 || len(only[replica.Broadcast](effects)) > 0 {
		t.Fatalf("one block: blamed %q, %v", blame, effects)
	}
	if m, ok := sends[0].Message.(consensus.AncestryRequest); !ok || m.From != from+1 || w.byKey(sends[0].To) == asked {
		t.Errorf("then asks %d for %v", w.byKey(sends[0].To), sends[0].Message)
	}
	asked, from = w.byKey(sends[0].To), from+1
	parent := server.disk.chain[0].block.Digest
	for answers := 1; ; answers++ {
		b := toy{Height: from, Parent: parent}.block()
		parent = b.Digest
		_, effects, blame := n.tell(asked, consensus.Ancestry{From: from, Blocks: []consensus.ProvenBlock{{Payload: b.Payload}}})
		if from++; blame != "" || answers > 20 {
			t.Fatalf("after %d answers that prove nothing: blamed %q", answers, blame)
		}
		if len(only[replica.Send](effects)) == 0 {
			break
		}
	}
	if next, _ := n.awaitAncestryRequest(); next == asked {
		t.Error("asks the same peer again")
	}
}

func TestConfigurationsAndFloorsAreRefusedByName(t *testing.T) {
	w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
	startAll(w)
	w.run(1000*ms, w.everybodyAt(7))
	n := w.nodes[0]
	for want, change := range map[string]func(*replica.Config){
		"ChainID":    func(c *replica.Config) { c.ChainID = "" },
		"Retention":  func(c *replica.Config) { c.Retention = 0 },
		"CatchUp":    func(c *replica.Config) { c.CatchUp = 0 },
		"Answer":     func(c *replica.Config) { c.Answer = 1 << 60 },
		"MaxAhead":   func(c *replica.Config) { c.MaxAhead = 0 },
		"below MaxA": func(c *replica.Config) { c.MaxBacklog = 1 },
		"MaxEarly":   func(c *replica.Config) { c.MaxEarly = -1 },
		"ServeBytes": func(c *replica.Config) { c.ServeBytes = 0 },
		"is zero":    func(c *replica.Config) { c.Keys = []crypto.PrivateKey{{}} },
		"twice":      func(c *replica.Config) { c.Keys = append(c.Keys, c.Keys[0]) },
		"DeltaMin":   func(c *replica.Config) { c.Timing.DeltaMin = 0 },
	} {
		cfg := n.config()
		change(&cfg)
		if _, err := replica.Restore(cfg, n.floor(), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
	for want, change := range map[string]func(*replica.Floor){
		"no reigns":             func(f *replica.Floor) { f.Reigns = nil },
		"without a committee":   func(f *replica.Floor) { f.Reigns[0].Committee = nil },
		"3 node keys for 4":     func(f *replica.Floor) { f.Reigns[0].NodeKeys = f.Reigns[0].NodeKeys[1:] },
		"shares its node key":   func(f *replica.Floor) { f.Reigns[0].NodeKeys = slices.Repeat(f.Reigns[0].NodeKeys[:1], 4) },
		"no committee of":       func(f *replica.Floor) { f.Reigns = f.Reigns[:len(f.Reigns)-1] },
		"does not hold":         func(f *replica.Floor) { c := *f.Certificate; c.Statement.Proposal.Parent--; f.Certificate = &c },
		"no reign of its certi": func(f *replica.Floor) { f.Reigns = f.Reigns[:1] },
		"without a certificate": func(f *replica.Floor) { f.Certificate, f.Closing = nil, true },
		"starts at":             func(f *replica.Floor) { f.Closing = true; f.Reigns[2].Start[0]++ },
		"has no start":          func(f *replica.Floor) { f.Closing = true },
		"epoch 3 after epoch 1": func(f *replica.Floor) { f.Reigns = slices.Delete(f.Reigns, 1, 2) },
		"does not finalize its": func(f *replica.Floor) { f.Reigns[1].Final = f.Certificate },
	} {
		f := n.floor()
		f.Reigns = slices.Clone(f.Reigns)
		for i := range f.Reigns {
			f.Reigns[i].NodeKeys = slices.Clone(f.Reigns[i].NodeKeys)
		}
		change(&f)
		if _, err := replica.Restore(n.config(), f, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
	two := []replica.Log{{Epoch: 2, Records: n.disk.logs[2]}, {Epoch: 2}}
	if _, err := replica.Restore(n.config(), n.floor(), two); err == nil || !strings.Contains(err.Error(), "two logs") {
		t.Errorf("two logs of an epoch: %v", err)
	}
}

func TestAnApplicationThatContradictsItselfHaltsTheNode(t *testing.T) {
	for want, change := range map[string]func(*replica.Finalized){
		"does not know the epochs": func(f *replica.Finalized) { f.Reigns = f.Reigns[:len(f.Reigns)-1] },
		"is closing: false":        func(f *replica.Finalized) { f.Closing = false },
		"another committee": func(f *replica.Finalized) {
			f.Reigns = slices.Clone(f.Reigns)
			for i := range f.Reigns {
				f.Reigns[i].NodeKeys = f.Reigns[i].NodeKeys[:1]
				c, err := consensus.NewCommittee(f.Reigns[i].Committee.Epoch(), []consensus.Validator{{Key: consensusKey(0).Public(), Weight: 1, LeaderWeight: 1}})
				if err != nil {
					t.Fatal(err)
				}
				f.Reigns[i].Committee = c
			}
		},
	} {
		w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
		n := w.nodes[0]
		n.effects = func(e replica.Effect) {
			if f, ok := e.(replica.Finalize); ok && f.Block.Closing {
				n.park = true
			}
		}
		startAll(w)
		w.run(1000*ms, func() bool { return len(n.parked) > 0 })
		closing := n.parked[0]
		n.disk.chain = append(n.disk.chain, stored{closing.Block, closing.Certificate})
		ev := replica.Finalized{Height: 5, Digest: closing.Block.Digest, Closing: true, Reigns: n.reigns(5)}
		change(&ev)
		halts := only[replica.Halt](n.r.Step(w.now, ev))
		if len(halts) != 1 || !strings.Contains(halts[0].Reason, want) {
			t.Errorf("want a halt with %q, got %v", want, halts)
		}
		if effects := n.r.Step(w.now+1000*ms, replica.Wake{}); len(effects) > 0 {
			t.Errorf("goes on after its halt: %v", effects)
		}
	}
}

// A third of the weight signs everything: the node stops, and so after a restart.
func TestTwoFinalizationsOfOneRoundHaltTheNodeWithEvidence(t *testing.T) {
	w, n := lonely(t, 7)
	s := n.r.Status()
	other := s.Certificate.Statement
	other.Proposal.Digest[0]++
	_, effects, _ := n.tell(1, certificate(w, other, 1, 2, 3))
	evidence, halts := only[replica.Evidence](effects), only[replica.Halt](effects)
	if len(evidence) != 1 || len(halts) != 1 {
		t.Fatalf("%v", effects)
	}
	guilty, err := evidence[0].Convict(w.committee(s.Epoch), chainID)
	if err != nil || len(guilty) < 2 {
		t.Errorf("convicts %v, %v", guilty, err)
	}
	for _, a := range only[replica.Append](effects) {
		n.disk.logs[a.Epoch] = append(n.disk.logs[a.Epoch], a.Records...)
	}
	if err := n.restore(); err != nil {
		t.Fatal(err)
	}
	if halts := only[replica.Halt](n.r.Step(w.now, replica.Start{})); len(halts) != 1 {
		t.Error("goes on after a restart")
	}
}

// Evidence is reported, is in the next epoch's log too, and is gone an epoch
// later.
func TestEvidenceIsCarriedIntoTheNextEpochsLog(t *testing.T) {
	w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
	n := w.nodes[0]
	reports := map[consensus.Epoch]int{}
	n.effects = func(e replica.Effect) {
		if _, ok := e.(replica.Evidence); ok {
			reports[n.r.Status().Epoch]++
		}
	}
	startAll(w)
	w.run(1000*ms, w.everybodyAt(1))
	v := n.r.Status().View
	for i := range byte(2) {
		p := consensus.Proposal{Round: round(1, v+1), Parent: v, Digest: crypto.Digest{i}}
		n.step(replica.Received{From: nodeKey(3), Message: vote(3, consensus.Statement{Kind: consensus.KindNotarize, Proposal: p})})
	}
	w.run(3000*ms, w.everybodyAt(17))
	if fmt.Sprint(reports) != "map[1:1 2:1]" {
		t.Errorf("reported by epoch: %v", reports)
	}
}

// Finalize votes that a traitor keeps to itself while another validator is away:
// blocks are notarized, and nothing is final. Everything of it stays in memory and
// in the log.
func TestViewsThatFinalizeNothingBecomeSlow(t *testing.T) {
	w := withholding(t, nil)
	w.pass(30_000 * ms)
	if s := w.nodes[0].r.Status(); s.View < 66 || s.View > 150 || s.FinalizedView > 0 {
		t.Errorf("in view %d after half a minute, %d is final", s.View, s.FinalizedView)
	}
	w.cut = nil
	w.nodes[2].start()
	w.run(20_000*ms, w.everybodyAt(80))
	w.nobodyBlamed()
}

// A run longer than the backlog that becomes final at once is nowhere but in the
// cores: what they drop of it, nobody could be caught up on.
func TestARunLongerThanTheBacklogIsFinalizedWhole(t *testing.T) {
	w := withholding(t, func(c replica.Config) replica.Config { c.MaxAhead, c.MaxBacklog = 4, 8; return c })
	w.pass(5_000 * ms)
	w.cut = nil
	w.nodes[2].start()
	w.run(20_000*ms, w.everybodyAt(40))
	w.nobodyBlamed()
}

// withholding is four nodes, of which one keeps its finalize votes back, one is
// down, and so two wait for ever.
func withholding(t *testing.T, cfg func(replica.Config) replica.Config) *world {
	w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
	w.blocks, w.cfg = 100_000, cfg
	w.cut = func(from, to int, m consensus.Message) bool {
		_, final := m.(consensus.Finalize)
		return final && (from == 3 || to == 3)
	}
	for i := range 4 {
		if i != 2 {
			w.nodes[i].start()
		}
	}
	return w
}

// What a stranger shows is verified away from Step, and what is final already is
// not taken from it at all.
func TestStrangersCertificatesAreVerifiedElsewhere(t *testing.T) {
	w, n := lonely(t, 7)
	s := n.r.Status()
	news, early := nullify(round(s.Epoch, s.View+3)), nullify(round(s.Epoch+1, 1))
	old := nullify(round(s.Epoch, s.FinalizedView))
	for _, c := range []struct {
		from int
		of   consensus.Statement
		want replica.Admission
	}{
		{1, news, replica.Pass},
		{stranger, news, replica.PassVerified},
		{1, early, replica.Pass},
		{stranger, early, replica.PassVerified},
		{stranger, old, replica.Drop},
		{stranger, nullify(round(s.Epoch+2, 1)), replica.Drop},
	} {
		cert := certificate(w, c.of, 1, 2, 3)
		if got, err := n.r.Window().Admit(nodeKey(c.from), cert); got != c.want || err != nil {
			t.Errorf("%q from %d: %v, %v, want %v", c.of, c.from, got, err, c.want)
		}
		if c.want == replica.Drop {
			continue
		}
		if err := n.r.Window().Verify(cert); err != nil {
			t.Errorf("%q: %v", c.of, err)
		}
		cert.Signatures[1][0] ^= 1
		if err := n.r.Window().Verify(cert); err == nil {
			t.Errorf("%q with a forged signature is good", c.of)
		}
	}
	// With the driver's word for it, Step verifies nothing again.
	forged := certificate(w, news, 1, 2, 3)
	forged.Signatures[1][0] ^= 1
	n.r.Step(w.now, replica.Received{From: nodeKey(stranger), Message: forged, Verified: true})
	if got := n.r.Status().View; got != s.View+4 {
		t.Errorf("in view %d, want %d", got, s.View+4)
	}
}
