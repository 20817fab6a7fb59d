package relay

import (
	"errors"
	"fmt"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// takeRuns returns the messages about replicated runs of an item that are worth posting.
func (r *Relay) takeRuns(item *api.OutboxItem, pass uint64) (fresh []*entry) {
	for _, raw := range item.Runs {
		id := crypto.DomainClaim.Hash(raw)
		if r.book.known(id, pass) {
			continue
		}
		run, order, err := r.inspector.inspectRun(raw, time.Now())
		if err != nil {
			r.metrics.refused.Inc()
			r.book.refuse(id)
			r.Log.Warn("relay: refusing a message", "order", item.Order.Short(), "message", id.Short(), "reason", err)
			continue
		}
		if order.IsZero() { // of a panel
			order = item.Order
		}
		if m, ok := run.(chain.BeginRun); ok {
			fresh = append(fresh, r.heard(&chain.AcceptedOrder{Order: m.Order, Acceptance: m.Acceptance, Signature: m.AcceptanceSig}, item, pass)...)
		}
		e := &entry{id: id, order: order, run: run, bytes: len(raw), cursor: uint64(item.Cursor), pass: pass}
		if m, ok := run.(chain.BeginRun); ok {
			e.locks = r.locksUntil(&m.Order)
		}
		fresh = append(fresh, e)
	}
	return fresh
}

// locksUntil is until when the chain may take what locks a bond for an order: its deadline fits in the time of a
// withdrawal; zero: the order's policy locks none.
func (r *Relay) locksUntil(o *chain.Order) time.Time {
	p := &r.inspector.genesis.Params
	if settlement.ClusterSlice(o.Policy.Policy, o.MaxCost, p).IsZero() {
		return time.Time{}
	}
	latest := time.Now().Add(time.Duration(p.WithdrawalDelayMs) * time.Millisecond)
	if end := time.UnixMilli(int64(o.Deadline)).Add(time.Duration(p.ClaimWindowMs) * time.Millisecond); end.Before(latest) {
		return end
	}
	return latest
}

// messagesOf returns what posts the entries: a Settle of the claims, and the others.
func messagesOf(entries []*entry) []chain.Msg {
	var claims []chain.Claim
	var messages []chain.Msg
	for _, e := range entries {
		if e.claim != nil {
			claims = append(claims, *e.claim)
		} else {
			messages = append(messages, e.run)
		}
	}
	if len(claims) > 0 {
		messages = append([]chain.Msg{chain.Settle{Claims: claims}}, messages...)
	}
	return messages
}

// inspectRun decodes a message about a replicated run and returns it with its order, or why
// the chain must refuse it. It costs no more than carrying it is worth: what the state
// decides, the chain says.
func (i *inspector) inspectRun(raw []byte, now time.Time) (chain.Msg, crypto.Digest, error) {
	var list chain.Msgs
	if err := codec.Unmarshal(raw, &list, maxClaimBytes); err != nil {
		return nil, crypto.Digest{}, err
	}
	if len(list) != 1 {
		return nil, crypto.Digest{}, fmt.Errorf("it has %d messages, want 1", len(list))
	}
	order, of, err := i.runOrder(list[0])
	switch {
	case err != nil:
		return nil, crypto.Digest{}, err
	case of != "" && of != i.genesis.ChainID:
		return nil, crypto.Digest{}, fmt.Errorf("it is of chain %.32q, want %q", of, i.genesis.ChainID)
	}
	if begin, ok := list[0].(chain.BeginRun); ok {
		if end := begin.Order.Deadline + chain.TimeMs(i.genesis.Params.ClaimWindowMs); end < chain.TimeMs(now.UnixMilli()) {
			return nil, crypto.Digest{}, fmt.Errorf("its claim window ended at %d ms", end)
		}
	}
	verified, err := i.verified(list[0])
	if err != nil {
		return nil, crypto.Digest{}, err
	}
	if of != "" && !verified.DealSigned(0) {
		return nil, crypto.Digest{}, errors.New("a signature of the message does not verify")
	}
	return list[0], order, nil
}

// runOrder returns which order a message is about, and the chain that it names.
func (i *inspector) runOrder(m chain.Msg) (crypto.Digest, chain.ChainID, error) {
	if m, ok := m.(chain.BeginRun); ok {
		return m.Order.ID(), m.Order.ChainID, nil
	}
	if m, ok := m.(chain.CommitRun); ok {
		return m.Order, m.ChainID, nil
	}
	if m, ok := m.(chain.RevealRun); ok {
		return m.Receipt.Order, m.Receipt.ChainID, nil
	}
	if m, ok := m.(chain.CollectRun); ok {
		return m.Order, "", nil
	}
	if m, ok := m.(chain.ReportMiss); ok {
		return m.Epoch.Lease.Order, m.Epoch.ChainID, nil
	}
	if m, ok := m.(chain.ReportHardware); ok {
		return crypto.Digest(m.Challenge.Node), m.Challenge.ChainID, nil
	}
	if m, ok := m.(chain.AnnounceHome); ok {
		return crypto.Digest(m.Home.Node), m.Home.ChainID, nil
	}
	_, commits := m.(chain.CommitVote)
	if _, reveals := m.(chain.RevealVote); commits || reveals {
		return crypto.Digest{}, "", nil
	}
	return crypto.Digest{}, "", fmt.Errorf("a %s is not a relay's to carry", chain.KindOf(m))
}
