package engine_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/engine"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

func TestReceiveRefusesByNameAndBlocksTheSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		r := c.start(0)
		round := consensus.Round{Epoch: 1, View: 1}
		nullify := signed(1, consensus.Statement{Kind: consensus.KindNullify, Proposal: consensus.Proposal{Round: round}})
		block := toy{Parent: genesis, Height: 1, Round: round}.block()
		p := consensus.Proposal{Round: round, Digest: crypto.Digest{9}}
		offer := func(by int) consensus.Offer {
			v := signed(by, consensus.Statement{Kind: consensus.KindNotarize, Proposal: p})
			return consensus.Offer{Vote: v.(consensus.Notarize), Payload: block.Payload}
		}
		leader := int(c.leader(2))
		p.Round.View = 2
		second := offer(leader)
		p.Round.View = 6 // the same leader's
		broken := offer(leader)
		broken.Payload = []byte("no block")
		p.Round.View = 1
		for want, m := range map[string]struct {
			from    int
			message consensus.Message
		}{
			"the connection of signer 2": {2, nullify},
			"vote of signer 1":           {3, offer(1)},
			"its leader is":              {1, offer(1)},
		} {
			err := r.engine.Receive(key(m.from, 'n').Public(), m.message.Channel(), consensus.EncodeMessage(m.message))
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("want %q, got %v", want, err)
			}
		}
		receive := func(o consensus.Offer) error {
			return r.engine.Receive(key(leader, 'n').Public(), consensus.ChannelProposals, consensus.EncodeMessage(o))
		}
		if err := receive(broken); err == nil || !strings.Contains(err.Error(), "engine: offer: codec") {
			t.Errorf("a block that cannot be read: %v", err)
		}
		if err := receive(second); err != nil {
			t.Errorf("a block of another digest than the vote's: %v; the replica judges that", err)
		}
		synctest.Wait()
		if n := len(r.port.blocked); n != 5 || !strings.Contains(r.port.blocked[4], block.Digest.Short()) {
			t.Errorf("a block of another digest than the vote's: blocked for %q", r.port.blocked)
		}
		if err := r.engine.Receive(key(1, 'n').Public(), consensus.ChannelVotes, []byte("noise")); err == nil {
			t.Error("noise is accepted")
		}
		if len(r.port.blocked) != 6 || r.engine.Metrics().Blamed != 6 {
			t.Errorf("blocked %d times, counted %d, want 6", len(r.port.blocked), r.engine.Metrics().Blamed)
		}
		if err := r.engine.Receive(key(1, 'n').Public(), consensus.ChannelVotes, consensus.EncodeMessage(nullify)); err != nil {
			t.Errorf("an honest vote: %v", err)
		}
		r.port.blocked = nil
		c.stopAll()
	})
}

// TestAWithheldProposalIsOnlyAVote: what a packed proposal leaves out does not
// come. Nobody is blamed for it, and the next message of its leader is read.
func TestAWithheldProposalIsOnlyAVote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		r := c.start(0)
		synctest.Wait()
		r.app.withheld.Store(true)
		leader := int(c.leader(2))
		b := toy{Parent: genesis, Height: 1, Round: consensus.Round{Epoch: 1, View: 2}}.block()
		v := signed(leader, consensus.Statement{Kind: consensus.KindNotarize, Proposal: consensus.Proposal{
			Round: consensus.Round{Epoch: 1, View: 2}, Digest: b.Digest,
		}})
		began := time.Now()
		err := r.engine.Receive(key(leader, 'n').Public(), consensus.ChannelProposals,
			consensus.EncodeMessage(consensus.Offer{Vote: v.(consensus.Notarize), Payload: b.Payload}))
		if took := time.Since(began); err != nil || took != engine.DefaultConfig().UnpackWait {
			t.Errorf("%v after %v", err, took)
		}
		synctest.Wait()
		if m := r.engine.Metrics(); m.OffersWithheld != 1 || m.Blamed != 0 || len(r.port.blocked) != 0 {
			t.Errorf("%d withheld, %d blamed, blocked for %q", m.OffersWithheld, m.Blamed, r.port.blocked)
		}
		// A node that stops waits for nothing.
		done := make(chan error, 1)
		go func() {
			done <- r.engine.Receive(key(leader, 'n').Public(), consensus.ChannelProposals,
				consensus.EncodeMessage(consensus.Offer{Vote: v.(consensus.Notarize), Payload: b.Payload}))
		}()
		synctest.Wait()
		began = time.Now()
		c.stopAll()
		if err := <-done; err != nil || time.Since(began) >= engine.DefaultConfig().UnpackWait {
			t.Errorf("%v, %v after the end", err, time.Since(began))
		}
	})
}

// TestBlocksNobodyNeedsAreNotRead counts how often payloads are decoded.
func TestBlocksNobodyNeedsAreNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		r := c.start(0)
		synctest.Wait() // no votes: it stays in view 1, which it leads
		leader := int(c.leader(2))
		send := func(from int, m consensus.Message) {
			t.Helper()
			if err := r.engine.Receive(key(from, 'n').Public(), m.Channel(), consensus.EncodeMessage(m)); err != nil {
				t.Fatal(err)
			}
		}
		offer := func(view consensus.View, txs uint64) consensus.Offer {
			b := toy{Parent: genesis, Height: 1, Round: consensus.Round{Epoch: 1, View: view}, Txs: txs}.block()
			v := signed(leader, consensus.Statement{Kind: consensus.KindNotarize, Proposal: consensus.Proposal{
				Round: consensus.Round{Epoch: 1, View: view}, Digest: b.Digest,
			}})
			return consensus.Offer{Vote: v.(consensus.Notarize), Payload: b.Payload}
		}
		before := r.app.reads.Load()
		send(leader, offer(2, 1))
		if n := r.app.reads.Load() - before; n != 1 {
			t.Fatalf("%d reads of a first offer, want 1", n)
		}
		for n := range uint64(100) {
			send(leader, offer(2, n+2))                       // more offers in one view
			send(leader, offer(2+4*consensus.View(100+n), 1)) // far ahead
			send(5, consensus.BlockAnswer{Payload: toy{Height: n}.block().Payload})
		}
		if n := r.app.reads.Load() - before; n != 1 {
			t.Errorf("%d reads, want 1", n)
		}
		synctest.Wait()
		if r.engine.Metrics().Evidence != 1 {
			t.Errorf("evidence of %d pairs, want 1: the leader offered two blocks in view 2", r.engine.Metrics().Evidence)
		}
		r.port.blocked = nil
		c.stopAll()
	})
}

// TestForgedAncestryIsRefused gives joiners peers of which all but one alter
// what they stored: the joiner blocks those it asks and learns the chain from
// the honest one.
func TestForgedAncestryIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		for i := range 4 {
			c.start(i)
		}
		c.reach(2, 12, 30*time.Second)
		for i := 1; i < 4; i++ {
			if err := c.kill(i); err != nil {
				t.Fatal(err)
			}
			c.start(i, func(a *toyApp) { a.lie = true })
		}
		var blames int
		for joiner := 5; joiner < 8; joiner++ {
			r := c.start(joiner)
			c.reach(joiner, c.disks[0].height(), 30*time.Second)
			for range 8 {
				time.Sleep(200 * time.Millisecond)
			}
			blames += int(r.engine.Metrics().Blamed)
			for _, reason := range r.port.blocked {
				if !strings.Contains(reason, "forged ancestry") {
					t.Errorf("blocked for %q", reason)
				}
			}
			r.port.blocked = nil
		}
		if blames == 0 {
			t.Error("no joiner blamed a liar")
		}
		c.stopAll()
	})
}

// TestStrangersDoNotDelayTheCommittee has a crowd of observers, each under a key
// of its own, send forged certificates and more messages than there is room for:
// none of the signatures is looked at where the committee waits, so many are
// looked at in all, each forger is blocked, and the chain goes on as if nobody was
// there.
func TestStrangersDoNotDelayTheCommittee(t *testing.T) {
	var quiet, attacked uint64
	synctest.Test(t, func(t *testing.T) { quiet = heightAmong(t, 0) })
	synctest.Test(t, func(t *testing.T) { attacked = heightAmong(t, 5000) })
	if attacked*5 < quiet*4 {
		t.Errorf("height %d with a crowd, %d without", attacked, quiet)
	}
}

// marked is a signature that is forged for all to see.
var marked = crypto.Signature{0xba, 0xdd}

// heightAmong returns how far the chain has come in ten seconds while a crowd
// comes to one of its validators.
func heightAmong(t *testing.T, crowd int) uint64 {
	c := newCluster(t)
	var forged atomic.Int64 // that the replica itself verified
	c.tune = func(cfg *engine.Config) {
		cfg.Replica.Verify = func(items []crypto.Signed) []bool {
			for _, it := range items {
				if it.Signature == marked {
					forged.Add(1)
				}
			}
			return crypto.VerifyBatch(items, 1)
		}
	}
	for i := range 4 {
		c.start(i)
	}
	r := c.nodes[0]
	c.reach(0, 2, 30*time.Second)
	before := c.disks[0].height()
	var wg sync.WaitGroup
	for i := range crowd {
		wg.Go(func() { forge(t, r.engine, i) })
	}
	wg.Wait()
	// What the budget has at once, at three signatures each.
	m := r.engine.Metrics()
	if most := uint64(4096/3 + 1); crowd > 0 && (m.StrangersChecked == 0 || m.StrangersChecked > most || m.StrangersChecked+m.StrangersDropped != uint64(crowd)) {
		t.Errorf("%d forged certificates verified and %d dropped of %d, want at most %d", m.StrangersChecked, m.StrangersDropped, crowd, most)
	}
	if m.Blamed != m.StrangersChecked {
		t.Errorf("%d forgers blamed for %d forged certificates", m.Blamed, m.StrangersChecked)
	}
	time.Sleep(10 * time.Second)
	if n := forged.Load(); n != 0 {
		t.Errorf("%d forged signatures were verified on the replica's loop", n)
	}
	height := c.disks[0].height() - before
	r.port.blocked = nil
	c.stopAll()
	return height
}

// forge is what one of the crowd does.
func forge(t *testing.T, e *engine.Engine, i int) {
	stranger := crypto.PrivateKeyFromSeed([crypto.SeedSize]byte{byte(i), byte(i >> 8), 'x'}).Public()
	cert := &consensus.Certificate{
		Statement: consensus.Statement{Kind: consensus.KindNullify, Proposal: consensus.Proposal{
			Round: consensus.Round{Epoch: 1, View: e.Status().View + consensus.View(1000+i)},
		}},
		Signers: []byte{7}, Signatures: []crypto.Signature{marked, marked, marked},
	}
	err := e.Receive(stranger, cert.Channel(), consensus.EncodeMessage(cert))
	if err != nil && !strings.Contains(err.Error(), "signature") {
		t.Errorf("a forged certificate: %v", err)
	}
	request := consensus.AncestryRequest{From: 1}
	if err := e.Receive(stranger, request.Channel(), consensus.EncodeMessage(request)); err != nil {
		t.Error(err)
	}
}
