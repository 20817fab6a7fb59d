package execution_test

import (
	"encoding/binary"
	"slices"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// brokenAcceptances are two acceptances of user i's cluster with one sequence, of orders as
// large as they may be.
func (w *gasWorld) brokenAcceptances(p prepared, i int) chain.ReportAcceptance {
	accepted := func(nonce uint64) chain.AcceptedOrder {
		d := w.promisedDeal(p, i, nonce)
		a := chain.AcceptedOrder{Order: d.Order, Acceptance: d.Acceptance}
		a.Acceptance.Sequence = 1
		a.Signature = p.clusters[i].PrivateKey.Sign(crypto.DomainAcceptance, a.Acceptance.Payload())
		return a
	}
	second := accepted(6)
	return chain.ReportAcceptance{First: accepted(5), Second: &second}
}

// unbondOften has every user's cluster have been registered anew as often as may be, so that
// all of those bonds are liable.
func unbondOften(p prepared) func(*gasWorld, *state.Overlay) {
	return func(w *gasWorld, kv *state.Overlay) {
		for _, k := range p.clusters {
			key := settlement.ClusterKey(k.Public())
			c, _ := settlement.ClusterOf(kv, k.Public())
			for n := range settlement.MaxEarlier {
				u := settlement.Unbonding{Operator: w.cold(), At: w.now - chain.TimeMs(n+1)}
				c.Earlier = append(c.Earlier, u)
				at := u.At + chain.TimeMs(chain.DefaultParams().UnbondDelayMs)
				tokens.Mature(kv, at, slices.Concat(key, u.Operator[:]), tokens.Maturing{To: u.Operator, Amount: chain.Hyper(1)})
			}
			state.Save(kv, key, c)
		}
	}
}

// breakWords opens a breach of every user's cluster, by which nobody has lost yet.
func breakWords(p prepared) func(*gasWorld, *state.Overlay) {
	return func(w *gasWorld, kv *state.Overlay) {
		for i, k := range p.clusters {
			due, at := uint64(1)<<50, k.Public()
			from := w.users[i].address()
			state.Save(kv, settlement.BreachKey(at), settlement.Breach{Held: chain.Hyper(1), Due: due})
			mark := crypto.DomainEvidence.Hash(append(at[:], from[:]...))
			state.Save(kv, append([]byte{settlement.Prefix, 'f'}, mark[:]...), struct {
				_       struct{} `cbor:",toarray"`
				Cluster crypto.PublicKey
				Breach  uint64
			}{Cluster: at, Breach: due})
			state.Save(kv, settlement.EscrowKey(from, at), settlement.Escrow{Balance: chain.Nano(1)})
			deadline := binary.BigEndian.AppendUint64([]byte{settlement.Prefix, 't'}, due)
			kv.Set(append(append(deadline, 'y'), at[:]...), []byte{})
		}
	}
}

// ofBreaches are the messages about broken acceptances, an operation each: report_acceptance
// is named as in the table.
func ofBreaches(p prepared) []operation {
	report := func(w *gasWorld, i int, _ key) chain.Msg { return w.brokenAcceptances(p, i) }
	often := oneOf("report_acceptance/unbonded often", gasUsers, report)
	often.on = unbondOften(p)
	forged := oneOf("report_acceptance/forged", gasUsers, func(w *gasWorld, i int, _ key) chain.Msg {
		m := w.brokenAcceptances(p, i)
		m.Second.Signature[0] ^= 1
		return m
	})
	forged.want = refused
	lost := oneOf("claim/lost", gasUsers, func(w *gasWorld, i int, _ key) chain.Msg {
		return chain.Settle{Claims: []chain.Claim{w.ownClaim(p, i)}}
	})
	lost.on, lost.says = breakWords(p), "claim_lost"
	return []operation{oneOf("report_acceptance", gasUsers, report), often, forged, lost}
}

// ownClaim is a claim of user i at its own cluster, by its own node.
func (w *gasWorld) ownClaim(p prepared, i int) chain.Claim {
	node, at := p.nodes[i], p.clusters[i]
	c := w.recentClaim(attested, uint64(9_000+i), node)
	c.Order.Consumer, c.Order.Cluster = w.users[i].AccountKey(), at.Public()
	id := c.Order.ID()
	c.Acceptance.Order, c.Acceptance.Cluster, c.Bid.Order, c.Receipt.Order = id, at.Public(), id, id
	c.OrderSig = w.users[i].PrivateKey.Sign(crypto.DomainOrder, c.Order.Payload())
	c.AcceptanceSig = at.PrivateKey.Sign(crypto.DomainAcceptance, c.Acceptance.Payload())
	c.BidSig = node.PrivateKey.Sign(crypto.DomainBid, c.Bid.Payload())
	c.ReceiptSig = node.PrivateKey.Sign(crypto.DomainUsage, c.Receipt.Payload())
	c.Attestation = at.PrivateKey.Sign(crypto.DomainAttestation, chain.AttestationPayload(testChain, c.Receipt.Digest()))
	return c
}
