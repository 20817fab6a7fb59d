package engine_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
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
		broken := offer(1)
		broken.Payload = []byte("no block")
		for want, m := range map[string]struct {
			from    int
			message consensus.Message
		}{
			"another node's connection": {2, nullify},
			"signer 1 over another":     {3, offer(1)},
			"under the vote for":        {1, offer(1)},
			"offered block: codec":      {1, broken},
			"fetched block":             {5, consensus.BlockAnswer{Payload: []byte{0}}},
		} {
			err := r.engine.Receive(key(m.from, 'n').Public(), m.message.Channel(), consensus.EncodeMessage(m.message))
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("want %q, got %v", want, err)
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
