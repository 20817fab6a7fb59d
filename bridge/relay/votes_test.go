package relay_test

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hypermesh/hypermesh/bridge/relay"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// lateVotes lists votes on panels that are over, the same again and again.
type lateVotes int

// Nexus implements relay.Votes.
func (n lateVotes) Nexus() []string { return []string{"a server"} }

// Votes implements relay.Votes.
func (n lateVotes) Votes(context.Context, string) (out api.Votes, _ error) {
	for i := range byte(n) {
		m := chain.CommitVote{Panel: crypto.Digest{i, 1}, Node: node.Public(), Commitment: crypto.Digest{i}}
		m.Signature = node.Sign(crypto.DomainVote, chain.VotePayload(testChain, m.Panel, m.Commitment))
		out.Messages = append(out.Messages, codec.Marshal(chain.Msgs{m}))
	}
	return out, nil
}

// TestVotesHoldUpNoClaims: votes that the chain does not take are posted once each, and a
// relay that carries them pauses for no claim because of them.
func TestVotesHoldUpNoClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f := newOutbox(), newChain()
		const votes = 40 // more than are free before claims that are worth nothing are waited for
		r, err := relay.New(config(), relay.Deps{
			Genesis:  &chain.Genesis{ChainID: testChain, Params: chain.DefaultParams()},
			Verifier: verifier{}, Signer: signer{key("payer")}, Outbox: o, Votes: lateVotes(votes), Chain: f, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { r.Carry(ctx) })
		time.Sleep(time.Second) // of the bubble
		synctest.Wait()
		begun := time.Now()
		for n := range uint64(20) {
			o.put(claim(n))
			synctest.Wait()
		}
		if settled, _ := f.counts(); settled != 20 || time.Since(begun) > 0 {
			t.Errorf("%d claims were paid after %v", settled, time.Since(begun))
		}
		time.Sleep(10 * time.Minute)
		cancel()
		wg.Wait()
		if f.votes != votes {
			t.Errorf("%d votes that come too late were posted %d times", votes, f.votes)
		}
	})
}

// aVote lists one vote, from when it is there.
type aVote struct{ there atomic.Bool }

// Nexus implements relay.Votes.
func (v *aVote) Nexus() []string { return []string{"a server"} }

// Votes implements relay.Votes.
func (v *aVote) Votes(ctx context.Context, server string) (api.Votes, error) {
	if !v.there.Load() {
		return api.Votes{}, nil
	}
	return lateVotes(1).Votes(ctx, server)
}

// TestClaimsHoldUpNoVotes: while claims wait because the chain took none of them, votes are posted,
// and do not have the claims wait any longer.
func TestClaimsHoldUpNoVotes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, f, v := newOutbox(), newChain(), &aVote{}
		f.refuse = func(*chain.Claim) string { return "the escrow holds too little" }
		r, err := relay.New(config(), relay.Deps{
			Genesis:  &chain.Genesis{ChainID: testChain, Params: chain.DefaultParams()},
			Verifier: verifier{}, Signer: signer{key("payer")}, Outbox: o, Votes: v, Chain: f, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { r.Carry(ctx) })
		for n := range uint64(12) { // nine in a row have the next ones wait
			o.put(claim(n))
			synctest.Wait()
		}
		if _, posted := f.counts(); posted != 9 {
			t.Errorf("%d transactions were posted before the pause", posted)
		}
		v.there.Store(true)
		pass(2 * time.Second) // of five
		if _, posted := f.counts(); f.votes != 1 || posted != 9 {
			t.Errorf("%d votes and %d transactions were posted in the pause", f.votes, posted)
		}
		f.change(func() { f.refuse = nil })
		pass(4 * time.Second)
		if settled, _ := f.counts(); settled != 12 {
			t.Errorf("%d claims were paid after it", settled)
		}
		cancel()
		wg.Wait()
	})
}

// measured lists what peers miss of a challenged node, and a node's home, and the same with a word that is not signed.
type measured struct{ lateVotes }

// Votes implements relay.Votes.
func (measured) Votes(context.Context, string) (out api.Votes, _ error) {
	report := chain.ReportHardware{Challenge: chain.HardwareChallenge{ChainID: testChain, Node: crypto.PublicKey{1}, Seed: crypto.Digest{2}}}
	for _, name := range []string{"peer one", "peer two"} {
		k := key(name)
		v := chain.HardwareVerdict{Peer: k.Public(), Missing: 3}
		v.Signature = k.Sign(crypto.DomainHardware, chain.HardwarePayload(report.Challenge, v))
		report.Verdicts = append(report.Verdicts, v)
	}
	out.Messages = append(out.Messages, codec.Marshal(chain.Msgs{report}))
	report.Verdicts[1].Missing++
	out.Messages = append(out.Messages, codec.Marshal(chain.Msgs{report}))
	home := chain.AnnounceHome{Home: chain.NodeHome{ChainID: testChain, Node: key("peer one").Public(), Cluster: key("peer two").Public(), At: 7}}
	home.NodeSignature = key("peer one").Sign(crypto.DomainHome, chain.HomePayload(home.Home))
	home.ClusterSignature = key("peer two").Sign(crypto.DomainHome, chain.HomePayload(home.Home))
	out.Messages = append(out.Messages, codec.Marshal(chain.Msgs{home}))
	home.ClusterSignature[5] ^= 1
	out.Messages = append(out.Messages, codec.Marshal(chain.Msgs{home}))
	return out, nil
}

// TestWhatPeersMissIsPosted once, if all of them signed it.
func TestWhatPeersMissIsPosted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newChain()
		r, err := relay.New(config(), relay.Deps{
			Genesis:  &chain.Genesis{ChainID: testChain, Params: chain.DefaultParams()},
			Verifier: verifier{}, Signer: signer{key("payer")}, Outbox: newOutbox(), Votes: measured{}, Chain: f, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { r.Carry(ctx) })
		pass(time.Minute)
		cancel()
		wg.Wait()
		if len(f.measured) != 1 || len(f.measured[0].Verdicts) != 2 || f.measured[0].Verdicts[1].Missing != 3 {
			t.Errorf("posted %+v", f.measured)
		}
		if len(f.homes) != 1 || !f.homes[0].Home.Cluster.Verify(crypto.DomainHome, chain.HomePayload(f.homes[0].Home), f.homes[0].ClusterSignature) {
			t.Errorf("posted %+v", f.homes)
		}
	})
}
