package execution_test

import (
	"encoding/binary"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// dealOf is a deal of user i with its own cluster and its own node about everything that
// can be leased.
func (w *gasWorld) dealOf(p prepared, i int, nonce uint64, resizes crypto.Digest) chain.LeaseDeal {
	node, at := p.nodes[i], p.clusters[i]
	order := chain.Order{
		ChainID: testChain, Consumer: w.users[i].AccountKey(), Nonce: nonce, Cluster: at.Public(),
		Spec: crypto.DomainJobSpec.Hash([]byte("spec")), Policy: chain.PolicyField{Policy: chain.PolicyNone{}},
		MaxCost: chain.Hyper(1), Deadline: w.now + 7_200_000, Term: &chain.Term{Resizes: resizes, NoticeMs: 60_000},
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

// endLeases fills a state with leases that are over, each of another consumer and provider.
func endLeases(w *gasWorld, kv *state.Overlay, entries int) {
	for i := range entries {
		var order crypto.Digest
		binary.BigEndian.PutUint64(order[:], uint64(i+1)*0x9e3779b97f4a7c15)
		id := chain.LeaseID{Node: nodeA.Public(), Order: order}
		l := settlement.Lease{
			Consumer: w.cold(), Cluster: cluster.Public(), Provider: w.cold(), Order: order, Rate: 1_000_000_000_000,
			Since: w.now - 100_000, Until: w.now - 100_000, Expires: w.now, Held: chain.Nano(200_000), Closing: true,
		}
		for _, r := range chain.Resources {
			l.Prices = append(l.Prices, chain.UnitPrice{Resource: r, Price: 100})
			l.Resources = append(l.Resources, chain.Quantity{Resource: r, Amount: 1_000})
		}
		state.Save(kv, settlement.LeaseKey(id), l)
		end := binary.BigEndian.AppendUint64([]byte{settlement.Prefix, 'q'}, uint64(l.Expires))
		kv.Set(append(append(end, id.Node[:]...), id.Order[:]...), []byte{})
	}
}
