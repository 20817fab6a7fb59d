package engine_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/engine"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

func signed(i int, st consensus.Statement) consensus.Vote {
	return consensus.SignVote(key(i, 'c'), consensus.Signer(i), chainID, st)
}

func TestReceiveRefusesByNameAndBlocksTheSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		r := c.start(0)
		round := consensus.Round{Epoch: 1, View: 1}
		nullify := signed(1, consensus.Statement{Kind: consensus.KindNullify, Proposal: consensus.Proposal{Round: round}})
		block := toy{Parent: genesis, Height: 1, View: 1}.block()
		p := consensus.Proposal{Round: round, Digest: crypto.Digest{9}}
		offer := func(by int) consensus.Offer {
			v := signed(by, consensus.Statement{Kind: consensus.KindNotarize, Proposal: p})
			return consensus.Offer{Vote: v.(consensus.Notarize), Payload: block.Payload}
		}
		leader := int(c.config(0).Committee.Leader(2))
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
			"another node's connection": {2, nullify},
			"signer 1 over another":     {3, offer(1)},
			"its leader is":             {1, offer(1)},
		} {
			err := r.engine.Receive(key(m.from, 'n').Public(), m.message.Channel(), consensus.EncodeMessage(m.message))
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("want %q, got %v", want, err)
			}
		}
		for _, m := range []struct { // in this order: one block is read in each view
			want  string
			offer consensus.Offer
		}{{"under the vote for", second}, {"offered block: codec", broken}} {
			err := r.engine.Receive(key(leader, 'n').Public(), consensus.ChannelProposals, consensus.EncodeMessage(m.offer))
			if err == nil || !strings.Contains(err.Error(), m.want) {
				t.Errorf("want %q, got %v", m.want, err)
			}
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

// TestBlocksNobodyNeedsAreNotRead counts how often payloads are decoded.
func TestBlocksNobodyNeedsAreNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		r := c.start(0)
		synctest.Wait() // no votes: it stays in view 1, which it leads
		leader := int(c.config(0).Committee.Leader(2))
		send := func(from int, m consensus.Message) {
			t.Helper()
			if err := r.engine.Receive(key(from, 'n').Public(), m.Channel(), consensus.EncodeMessage(m)); err != nil {
				t.Fatal(err)
			}
		}
		offer := func(view consensus.View, txs uint64) consensus.Offer {
			b := toy{Parent: genesis, Height: 1, View: view, Txs: txs}.block()
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

// slowLog is a log each of whose appends takes a token.
type slowLog struct {
	*disk
	tokens chan struct{}
}

func (l slowLog) Append(records [][]byte) error {
	<-l.tokens
	return l.disk.Append(records)
}

// recorder is a network that keeps what is sent to one peer.
type recorder struct {
	mu   sync.Mutex
	sent []consensus.Channel
}

func (r *recorder) Broadcast(consensus.Channel, []byte) {}

func (r *recorder) Send(_ crypto.PublicKey, ch consensus.Channel, _ []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = append(r.sent, ch)
	return true
}

func (r *recorder) Peers() []crypto.PublicKey      { return nil }
func (r *recorder) Block(crypto.PublicKey, string) {}

func (r *recorder) certificates() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, ch := range r.sent {
		if ch == consensus.ChannelCertificates {
			n++
		}
	}
	return n
}

// TestNoAnswerLeavesBeforeTheLogIsSynced asks for a certificate in the very
// batch in which the votes arrive that make it.
func TestNoAnswerLeavesBeforeTheLogIsSynced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		d, net := &disk{}, &recorder{}
		log := slowLog{disk: d, tokens: make(chan struct{}, 100)}
		e, err := engine.New(c.config(0), newApp(d), net, log)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- e.Run(ctx) }()
		log.tokens <- struct{}{} // the header
		synctest.Wait()          // now it appends its own block of view 1
		round := consensus.Round{Epoch: 1, View: 1}
		p := consensus.Proposal{Round: round, Digest: toy{Parent: genesis, Height: 1, View: 1}.block().Digest}
		receive := func(from int, m consensus.Message) {
			t.Helper()
			if err := e.Receive(key(from, 'n').Public(), m.Channel(), consensus.EncodeMessage(m)); err != nil {
				t.Fatal(err)
			}
		}
		receive(1, signed(1, consensus.Statement{Kind: consensus.KindNotarize, Proposal: p}))
		receive(2, signed(2, consensus.Statement{Kind: consensus.KindNotarize, Proposal: p}))
		receive(3, consensus.CertificateRequest{Kind: consensus.KindNotarize, Round: round})
		synctest.Wait()
		log.tokens <- struct{}{}
		synctest.Wait() // the notarization waits for the log
		if n := net.certificates(); n != 0 {
			t.Errorf("%d certificates left the node before they were in its log", n)
		}
		log.tokens <- struct{}{}
		synctest.Wait()
		if n := net.certificates(); n != 1 {
			t.Errorf("%d certificates after the sync, want the one asked for", n)
		}
		stop()
		close(log.tokens)
		if err := <-ended; err != nil {
			t.Error(err)
		}
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
