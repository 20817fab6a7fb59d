package execution_test

import (
	"encoding/binary"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// replicatedOrder is an order of user i, of which k of n runs have to agree.
func (w *gasWorld) replicatedOrder(p prepared, i int, k uint8) chain.Order {
	o := w.dealOf(p, i, 4, crypto.Digest{}).Order
	o.Term = nil
	o.Policy = chain.PolicyField{Policy: chain.PolicyReplicate{K: k, N: chain.MaxReplicas, Stake: chain.Hyper(1), WindowMs: 60_000}}
	return o
}

// beginning begins an order of user i with so many bids; the first is of its own node, and k runs have to agree.
func (w *gasWorld) beginning(p prepared, i, bids int, k uint8) chain.BeginRun {
	o, node, at := w.replicatedOrder(p, i, k), p.nodes[i], p.clusters[i]
	id := o.ID()
	m := chain.BeginRun{
		Order: o, OrderSig: w.users[i].PrivateKey.Sign(crypto.DomainOrder, o.Payload()),
		Acceptance: chain.Acceptance{ChainID: testChain, Order: id, Cluster: o.Cluster, Sequence: o.Nonce, Outstanding: o.MaxCost},
		Commitment: crypto.Digest{7},
	}
	m.AcceptanceSig = at.PrivateKey.Sign(crypto.DomainAcceptance, m.Acceptance.Payload())
	for n := range bids {
		bidder := p.nodes[(i+n)%gasUsers]
		b := chain.Bid{ChainID: testChain, Order: id, Node: bidder.Public(), Prices: o.Caps, Expiry: o.Deadline}
		m.Slate = append(m.Slate, chain.SlateBidOf(&b, bidder.PrivateKey.Sign(crypto.DomainBid, b.Payload())))
	}
	m.SlateSig = at.PrivateKey.Sign(crypto.DomainSlate, chain.SlatePayload(testChain, id, m.Slate))
	m.Signature = node.PrivateKey.Sign(crypto.DomainRun, chain.RunPayload(testChain, id, m.Commitment, 0))
	return m
}

// runReceipt is what a node of an order shows, that was asked at a place.
func (w *gasWorld) runReceipt(o *chain.Order, node key, place uint8) (chain.UsageReceipt, [32]byte) {
	receipt := chain.UsageReceipt{
		ChainID: testChain, Order: o.ID(), Node: node.Public(), Sequence: 1, Fuel: 1 << 40,
		Result: crypto.Digest{5}, Started: w.now - 1_000, Ended: w.now, Exit: chain.ExitOK,
	}
	trace := chain.SecretOf(receipt.Order, crypto.Digest{6}).Trace(place)
	receipt.Trace = &trace
	for _, r := range chain.Resources {
		receipt.Usage = append(receipt.Usage, chain.Usage{Resource: r, Amount: 1_000, DurationMs: 1_000})
	}
	return receipt, [32]byte{9}
}

// standAt has the order of user i stand at a stage, with its slate full: all of its nodes but
// the user's own, which comes last, have done what the stage asks of them. Where receipts are shown
// the first is the one that the roll gave, and has voted.
func (w *gasWorld) standAt(kv *state.Overlay, p prepared, i int, k uint8, stage settlement.RunStage) {
	o := w.replicatedOrder(p, i, k)
	id := o.ID()
	book := settlement.Order{
		Consumer: o.ConsumerAddress(), Cluster: o.Cluster, Policy: o.Policy, MaxCost: o.MaxCost, Deadline: o.Deadline, Expires: o.Deadline + 1,
	}
	runs := settlement.Runs{Stage: stage, Checked: true, Rounds: 1, Spec: o.Spec, Held: o.MaxCost}
	escrow := settlement.EscrowOf(kv, book.Consumer, book.Cluster)
	escrow.Elsewhere = runs.Held
	state.Save(kv, settlement.EscrowKey(book.Consumer, book.Cluster), escrow)
	if stage != settlement.StageOwed {
		runs.Slice = chain.Hyper(1)
	}
	home, _ := settlement.ClusterOf(kv, o.Cluster)
	home.Locked = chain.Hyper(50)
	state.Save(kv, settlement.ClusterKey(o.Cluster), home)
	if stage != settlement.StageOwed {
		runs.Due = 1 << 50
		deadline := binary.BigEndian.AppendUint64([]byte{settlement.Prefix, 't'}, runs.Due)
		kv.Set(append(append(deadline, 'g'), id[:]...), []byte{})
	}
	for n := range int(k) {
		last := n == int(k)-1
		at := (i + n + 1 - int(k) + gasUsers) % gasUsers
		node := p.nodes[at]
		place := uint8(len(runs.Runs))
		receipt, salt := w.runReceipt(&o, node, place)
		provider, _ := settlement.ProviderOf(kv, node.Public())
		provider.Locked = chain.Hyper(50)
		state.Save(kv, settlement.ProviderKey(node.Public()), provider)
		if stage == settlement.StageReveal && n == 0 {
			vote := chain.Vote{Finding: chain.FoundResult, Result: chain.Yield(chain.Work(receipt.Result, receipt.Usage), receipt.Trace.Begins(place))}
			juror := settlement.Juror{Node: node.Public(), Owner: w.users[at].address(), Staked: chain.Hyper(1), Commitment: crypto.Digest{1}, Vote: &vote}
			state.Save(kv, settlement.PanelKey(settlement.RunsCheck(id)), settlement.Panel{
				Of: 'g', Subject: id, Round: 1, Seats: 1, Slice: juror.Staked, Revealing: true, Jurors: []settlement.Juror{juror}, Verdict: &vote,
			})
			runs.Check = settlement.CheckVoted
			continue
		}
		run := settlement.Run{
			Bidder: settlement.Bidder{Node: node.Public(), Prices: o.Caps, Expiry: o.Deadline}, Owner: w.users[at].address(),
			State: settlement.RunCommitted, Staked: true, Commitment: chain.RunCommitment(receipt.Digest(), node.Public(), salt),
		}
		switch {
		case stage == settlement.StageRun && last:
			run.State, run.Commitment = settlement.RunAsked, crypto.Digest{}
		case stage == settlement.StageOwed || stage == settlement.StageReveal && !last:
			run.State = settlement.RunShown
			claim := settlement.Claim{
				Node: node.Public(), Provider: run.Owner, Sequence: 1, Result: receipt.Result, Exit: receipt.Exit,
				Pending: &settlement.Replica{Prices: run.Bidder.Prices, Usage: receipt.Usage, Fuel: receipt.Fuel, Ended: receipt.Ended, Begins: receipt.Trace.Begins(place)},
			}
			state.Save(kv, settlement.ClaimKey(chain.ClaimKey{Order: id, Node: node.Public(), Sequence: 1}), claim)
			book.Assignments = append(book.Assignments, settlement.Assignment{Node: node.Public(), Next: 2})
		}
		if stage == settlement.StageOwed {
			run.Staked, runs.Finding, runs.Owed = false, chain.RunAgreed, append(runs.Owed, uint8(n))
		}
		runs.Runs = append(runs.Runs, run)
	}
	state.Save(kv, settlement.OrderKey(id), book)
	state.Save(kv, settlement.RunsKey(id), runs)
}

// ofRuns are the messages about replicated orders, an operation each, named as in the table:
// once of two runs, and once of as many as there may be.
func ofRuns(p prepared) []operation {
	at := func(stage settlement.RunStage, k uint8, o operation) operation {
		o.on = func(w *gasWorld, kv *state.Overlay) {
			for i := range gasUsers {
				w.standAt(kv, p, i, k, stage)
			}
		}
		return o
	}
	forged := func(o operation) operation {
		o.want = refused
		return o
	}
	commit := func(k uint8, sign func(i int) key) func(w *gasWorld, i int, _ key) chain.Msg {
		return func(w *gasWorld, i int, _ key) chain.Msg {
			o, commitment := w.replicatedOrder(p, i, k), crypto.Digest{8}
			id := o.ID()
			return chain.CommitRun{
				ChainID: testChain, Order: id, Node: p.nodes[i].Public(), Commitment: commitment, Place: k - 1,
				Signature: sign(i).PrivateKey.Sign(crypto.DomainRun, chain.RunPayload(testChain, id, commitment, k-1)),
			}
		}
	}
	reveal := func(k uint8, flip byte) func(w *gasWorld, i int, _ key) chain.Msg {
		return func(w *gasWorld, i int, _ key) chain.Msg {
			o, node, cluster := w.replicatedOrder(p, i, k), p.nodes[i], p.clusters[i]
			receipt, salt := w.runReceipt(&o, node, k-2) // beside the check
			m := chain.RevealRun{
				Receipt: receipt, ReceiptSig: node.PrivateKey.Sign(crypto.DomainUsage, receipt.Payload()), Salt: salt, Cluster: cluster.Public(),
				Attestation: cluster.PrivateKey.Sign(crypto.DomainAttestation, chain.AttestationPayload(testChain, receipt.Digest())),
			}
			m.ReceiptSig[0] ^= flip
			return m
		}
	}
	collect := func(k uint8) func(w *gasWorld, i int, _ key) chain.Msg {
		return func(w *gasWorld, i int, _ key) chain.Msg {
			o := w.replicatedOrder(p, i, k)
			return chain.CollectRun{Order: o.ID()}
		}
	}
	begin := func(bids int, flip byte) func(w *gasWorld, i int, _ key) chain.Msg {
		return func(w *gasWorld, i int, _ key) chain.Msg {
			m := w.beginning(p, i, bids, 2)
			m.Signature[0] ^= flip
			return m
		}
	}
	own := func(i int) key { return p.nodes[i] }
	other := func(i int) key { return p.nodes[(i+1)%gasUsers] }
	const all = chain.MaxReplicas
	return []operation{
		oneOf("begin_run", gasUsers, begin(1, 0)),
		oneOf("begin_run/16", gasUsers, begin(chain.MaxSlate, 0)),
		forged(oneOf("begin_run/forged", gasUsers, begin(1, 1))),
		forged(oneOf("begin_run/16 forged", gasUsers, begin(chain.MaxSlate, 1))),
		at(settlement.StageRun, 2, oneOf("commit_run", gasUsers, commit(2, own))),
		at(settlement.StageRun, all, oneOf("commit_run/16", gasUsers, commit(all, own))),
		forged(at(settlement.StageRun, all, oneOf("commit_run/forged", gasUsers, commit(all, other)))),
		at(settlement.StageReveal, 2, oneOf("reveal_run", gasUsers, reveal(2, 0))),
		at(settlement.StageReveal, all, oneOf("reveal_run/16", 64, reveal(all, 0))),
		forged(at(settlement.StageReveal, all, oneOf("reveal_run/forged", gasUsers, reveal(all, 1)))),
		at(settlement.StageOwed, 2, oneOf("collect_run", gasUsers, collect(2))),
		at(settlement.StageOwed, all, oneOf("collect_run/16", 64, collect(all))),
	}
}
