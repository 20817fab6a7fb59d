package simulation

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// Mutation is a rule of the market that is taken away, so that one sees an attack pay. It
// is done to settlement from outside, by what surrounds it.
type Mutation string

// The mutations.
const (
	Intact         Mutation = ""
	MutateChecks   Mutation = "checks"   // under replicate nobody is drawn to check
	MutateAudits   Mutation = "audits"   // under optimistic nobody is drawn to audit
	MutateSlashes  Mutation = "slashes"  // what is slashed is given back
	MutateCommits  Mutation = "commits"  // what a run is bound to is known at once
	MutateProofs   Mutation = "proofs"   // every proof is taken
	MutateEscrow   Mutation = "escrow"   // what is withdrawn is gone at once
	MutateReceipts Mutation = "receipts" // what was paid is forgotten
	MutateLinks    Mutation = "links"    // who follows has the links of the run that it is asked for
)

// Mutations lists them.
var Mutations = []Mutation{MutateChecks, MutateAudits, MutateSlashes, MutateCommits, MutateProofs, MutateEscrow, MutateReceipts, MutateLinks}

// ParseMutation reads the name of one, or nothing.
func ParseMutation(text string) (Mutation, error) {
	if text == "" || slices.Contains(Mutations, Mutation(text)) {
		return Mutation(text), nil
	}
	var names []string
	for _, m := range Mutations {
		names = append(names, string(m))
	}
	return "", fmt.Errorf("%q is unknown, want one of %s", text, strings.Join(names, ", "))
}

func (m Mutation) params(p chain.Params) chain.Params {
	if m == MutateEscrow {
		p.WithdrawalDelayMs = hourMs * 7 // escrow is given out at once, by applied
	}
	return p
}

// applied changes the state after a message, which may have been an offer of a job.
func (m Mutation) applied(w *world, offered *job) {
	switch {
	case m == MutateEscrow:
		w.withdrawn()
	case offered == nil:
	case m == MutateChecks && w.terms.Policy.replicated():
		if runs, ok := settlement.RunsOf(w.kv, offered.id); ok && runs.Rounds == 0 {
			runs.Rounds = 1
			state.Save(w.kv, settlement.RunsKey(offered.id), runs)
		}
	case m == MutateAudits:
		if o, ok := settlement.OpenClaimOf(w.kv, offered.id); ok && o.Audit == settlement.Drawing {
			o.Audit, o.Draw = settlement.NoAudit, 0
			state.Save(w.kv, settlement.OpenClaimKey(offered.id), o)
		}
	case m == MutateReceipts && !w.terms.Policy.replicated() && w.terms.Policy != Optimistic:
		w.kv.Delete(settlement.OrderKey(offered.id))
	}
}

// withdrawn has what matures to the hand's consumer mature at once.
func (w *world) withdrawn() {
	buyer := w.owners[handsBuyer]
	key := settlement.EscrowKey(buyer.address, w.cluster.key.Public())
	escrow := settlement.EscrowOf(w.kv, buyer.address, w.cluster.key.Public())
	for _, at := range escrow.Withdrawals {
		tokens.Credit(w.kv, buyer.address, tokens.TakeMaturing(w.kv, at, key, chain.Hyper(purse)))
	}
}

// copied has a node that copies a commitment know what is in it.
func (m Mutation) copied(w *world, j *job, n *node) {
	b := j.bound[n]
	if m == MutateCommits && b.copied {
		claimed := j.bound[j.primary]
		b.receipt.Result = claimed.receipt.Result
		trace := claimed.gave.secret.Trace(w.place(j, n))
		b.receipt.Trace = &trace
		b.copied = false
	}
}

// slashed gives back what was slashed, beside the chain.
func (m Mutation) slashed(w *world, n *node, e chain.BondSlashed) {
	if m == MutateSlashes {
		n.owner.spent -= int64(e.Amount.Nano())
	}
}
