package execution_test

import (
	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// dealOf is a deal of user i with its own cluster and its own node about everything that
// can be leased.
func (w *gasWorld) dealOf(p prepared, i int, nonce uint64, resizes crypto.Digest) chain.LeaseDeal {
	return w.dealWith(p, i, nonce, &chain.Term{Resizes: resizes, NoticeMs: 60_000})
}

// promisedDeal is one with service terms, that opens a lease.
func (w *gasWorld) promisedDeal(p prepared, i int, nonce uint64) chain.LeaseDeal {
	terms := gasTerms
	return w.dealWith(p, i, nonce, &chain.Term{NoticeMs: 60_000, Service: &terms})
}

// dealWith is one with a term that says what is kept yet.
func (w *gasWorld) dealWith(p prepared, i int, nonce uint64, term *chain.Term) chain.LeaseDeal {
	node, at := p.nodes[i], p.clusters[i]
	order := chain.Order{
		ChainID: testChain, Consumer: w.users[i].AccountKey(), Nonce: nonce, Cluster: at.Public(),
		Spec: crypto.DomainJobSpec.Hash([]byte("spec")), Policy: chain.PolicyField{Policy: chain.PolicyNone{}},
		MaxCost: chain.Hyper(1), Deadline: w.now + 7_200_000, Term: term,
	}
	for _, r := range chain.Resources {
		order.Caps = append(order.Caps, chain.UnitPrice{Resource: r, Price: 100_000_000})
		if r != chain.Network {
			order.Term.Resources = append(order.Term.Resources, chain.Quantity{Resource: r, Amount: 1_000})
		}
	}
	id := order.ID()
	d := chain.LeaseDeal{
		Order:      order,
		Acceptance: chain.Acceptance{ChainID: testChain, Order: id, Cluster: order.Cluster, Sequence: nonce, Outstanding: order.MaxCost},
		Bid:        chain.Bid{ChainID: testChain, Order: id, Node: node.Public(), Prices: order.Caps, Expiry: order.Deadline},
	}
	d.OrderSig = w.users[i].PrivateKey.Sign(crypto.DomainOrder, order.Payload())
	d.AcceptanceSig = at.PrivateKey.Sign(crypto.DomainAcceptance, d.Acceptance.Payload())
	d.BidSig = node.PrivateKey.Sign(crypto.DomainBid, d.Bid.Payload())
	d.AwardSig = at.PrivateKey.Sign(crypto.DomainAward, d.Bid.Payload())
	return d
}

// openLeases gives every user a lease.
func (w *gasWorld) openLeases(p *prepared) {
	w.run(1_000, w.each(gasUsers, func(i int, _ key) chain.Msg {
		d := w.dealOf(*p, i, 1, crypto.Digest{})
		p.leases = append(p.leases, chain.LeaseID{Node: d.Bid.Node, Order: d.Order.ID()})
		return chain.OpenLease{Deal: d}
	})...)
}

// ofLeases are the messages about leases, an operation each, named as in the table.
func ofLeases(p prepared) []operation {
	forged := oneOf("open_lease/forged", gasUsers, func(w *gasWorld, i int, _ key) chain.Msg {
		d := w.dealOf(p, i, 2, crypto.Digest{})
		d.BidSig[0] ^= 1
		return chain.OpenLease{Deal: d}
	})
	forged.want = refused
	return []operation{
		oneOf("open_lease", gasUsers, func(w *gasWorld, i int, _ key) chain.Msg {
			return chain.OpenLease{Deal: w.dealOf(p, i, 2, crypto.Digest{})}
		}),
		forged,
		oneOf("open_promised_lease", gasUsers, func(w *gasWorld, i int, _ key) chain.Msg {
			return chain.OpenLease{Deal: w.promisedDeal(p, i, 3)}
		}),
		oneOf("resize_lease", gasUsers, func(w *gasWorld, i int, _ key) chain.Msg {
			return chain.ResizeLease{Lease: p.leases[i], Deal: w.dealOf(p, i, 2, p.leases[i].Order)}
		}),
		oneOf("extend_lease", gasUsers, func(_ *gasWorld, i int, _ key) chain.Msg {
			return chain.ExtendLease{Lease: p.leases[i], Amount: chain.Hyper(1)}
		}),
		oneOf("close_lease", gasUsers, func(_ *gasWorld, i int, _ key) chain.Msg { return chain.CloseLease{Lease: p.leases[i]} }),
		oneOf("collect_lease", gasUsers, func(_ *gasWorld, i int, _ key) chain.Msg { return chain.CollectLease{Lease: p.leases[i]} }),
	}
}

// endLeases fills a state with leases that are over, each of another consumer, node and
// provider, and with service terms.
func endLeases(w *gasWorld, kv *state.Overlay, entries int) {
	for range entries {
		id := chain.LeaseID{Node: rolled(w.poor()), Order: w.unique()}
		l := settlement.Lease{
			Consumer: w.cold(), Cluster: cluster.Public(), Provider: w.cold(), Order: id.Order, Rate: 1_000_000_000_000,
			Since: w.now - 100_000, Until: w.now - 100_000, Expires: w.now, Held: chain.Nano(200_000), Closing: true, Promised: true,
		}
		state.Save(kv, settlement.ServiceKey(id.Order), settlement.Service{Node: id.Node, Terms: gasTerms})
		for _, r := range chain.Resources {
			l.Prices = append(l.Prices, chain.UnitPrice{Resource: r, Price: 100})
			l.Resources = append(l.Resources, chain.Quantity{Resource: r, Amount: 1_000})
		}
		state.Save(kv, settlement.LeaseKey(id), l)
		state.Save(kv, settlement.EscrowKey(l.Consumer, l.Cluster), settlement.Escrow{Elsewhere: l.Held})
		settlement.QueueLeaseEnd(kv, l.Expires, id)
	}
}
