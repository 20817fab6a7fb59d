package settlement_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
)

func TestBeginRefusals(t *testing.T) {
	for _, c := range []struct {
		reason string
		change func(f *field, m *chain.BeginRun)
	}{
		{"order is of chain", func(_ *field, m *chain.BeginRun) { m.Order.ChainID = "another-1"; m.Acceptance.Order = m.Order.ID() }},
		{"acceptance is of chain", func(_ *field, m *chain.BeginRun) { m.Acceptance.ChainID = "another-1" }},
		{"acceptance is of order", func(_ *field, m *chain.BeginRun) { m.Acceptance.Order[0] ^= 1 }},
		{"acceptance is by cluster", func(_ *field, m *chain.BeginRun) { m.Acceptance.Cluster = key(40).Public() }},
		{"acceptance has sequence 0", func(_ *field, m *chain.BeginRun) { m.Acceptance.Sequence = 0 }},
		{"acceptance covers", func(_ *field, m *chain.BeginRun) { m.Acceptance.Outstanding = chain.Hyper(9) }},
		{"is not registered", func(_ *field, m *chain.BeginRun) { m.Slate[0].Node = key(99).Public() }},
		{"price of CPU", func(_ *field, m *chain.BeginRun) { m.Slate[1].Prices[0].Price = 2 * nano }},
		{"claim window ended", func(f *field, m *chain.BeginRun) { f.env.Now += 10 * hour }},
		{"longer work is a lease", func(f *field, m *chain.BeginRun) {
			m.Order.Deadline += 90 * hour
			m.Acceptance.Order = m.Order.ID()
		}},
		{"free of its bond, the job locks 101", func(_ *field, m *chain.BeginRun) {
			p := staked
			p.Stake = chain.Hyper(101)
			m.Order.Policy.Policy = p
			m.Acceptance.Order = m.Order.ID()
		}},
		{"cluster " + key(cluster).Public().Short() + " has 19 HYPER free of its bond, the job locks 20", func(f *field, _ *chain.BeginRun) {
			c := f.cluster()
			c.Locked = chain.Hyper(981)
			state.Save(f.kv, settlement.ClusterKey(key(cluster).Public()), c)
		}},
		{"the order may cost 10 HYPER, the escrow holds 9 HYPER", func(f *field, _ *chain.BeginRun) {
			f.withdraw(consumer, chain.Hyper(41))
			f.pass(f.env.Params.WithdrawalDelayMs)
			f.env.Now -= chain.TimeMs(f.env.Params.WithdrawalDelayMs)
		}},
	} {
		f := newField(t, staked)
		m := f.begin(40, 50)
		c.change(f, &m)
		f.refuses(c.reason, m)
	}
	f := newField(t, staked)
	for _, post := range []func() (chain.Events, *chain.Rejection){
		func() (chain.Events, *chain.Rejection) { return settlement.BeginRun(f.kv, &f.env, f.begin(40), false) },
		func() (chain.Events, *chain.Rejection) {
			return settlement.CommitRun(f.kv, &f.env, f.commit(40), false)
		},
		func() (chain.Events, *chain.Rejection) {
			return settlement.RevealRun(f.kv, &f.env, f.reveal(40), false)
		},
	} {
		if _, why := post(); why == nil || !strings.Contains(why.Reason(), "sign") {
			t.Errorf("without a signature: %v", why)
		}
	}
	f.refuses("no run of order", f.commit(40))
	f.do(f.begin(40, 50))
	f.do(f.begin(40, 50)) // again: nothing
	f.refuses("has begun already", f.begin(50, 40))
	wrong := f.begin(40, 50)
	wrong.Commitment[0] ^= 1
	f.refuses("has begun already", wrong)
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(50))
	m.wantRejected("committed and revealed, not claimed", m.claim(m.order(consumer, 1, staked), 40, 1))
}

func TestCommitAndRevealRefusals(t *testing.T) {
	f := newField(t, threeOf3)
	f.do(f.begin(40, 50))
	f.refuses("was not asked", f.commit(50))
	f.refuses("committed already", func() chain.CommitRun { m := f.commit(40); m.Commitment[0] ^= 1; return m }())
	f.drawn()
	for _, place := range []uint8{0, 2} { // one that it signed as a primary, or for another place
		f.refuses("signed for place", func() chain.CommitRun { m := f.commit(50); m.Place = place; return m }())
	}
	f.refuses("commitment is of chain", func() chain.CommitRun { m := f.commit(50); m.ChainID = "another-1"; return m }())
	f.refuses("no run of order", func() chain.CommitRun { m := f.commit(50); m.Order[0] ^= 1; return m }())
	f.do(f.commit(50))
	f.refuses("committed already", func() chain.CommitRun { m := f.commit(50); m.Commitment[0] ^= 1; return m }())
	// What a receipt says is committed to: whatever is changed in it, or in the salt, is not.
	for name, change := range map[string]func(*chain.RevealRun){
		"sequence": func(m *chain.RevealRun) { m.Receipt.Sequence = 2 },
		"usage":    func(m *chain.RevealRun) { m.Receipt.Usage = nil },
		"fuel":     func(m *chain.RevealRun) { m.Receipt.Fuel++ },
		"result":   func(m *chain.RevealRun) { m.Receipt.Result[0] ^= 1 },
		"outputs":  func(m *chain.RevealRun) { m.Receipt.Outputs = []chain.FieldBytes{{1}} },
		"started":  func(m *chain.RevealRun) { m.Receipt.Started++ },
		"ended":    func(m *chain.RevealRun) { m.Receipt.Ended++ },
		"exit":     func(m *chain.RevealRun) { m.Receipt.Exit = chain.ExitFuel },
		"code":     func(m *chain.RevealRun) { m.Receipt.ExitCode++ },
		"salt":     func(m *chain.RevealRun) { m.Salt[0] ^= 1 },
	} {
		m := f.reveal(50)
		m.Receipt.Usage = slices.Clone(m.Receipt.Usage)
		change(&m)
		t.Run(name, func(*testing.T) { f.refuses("not what node", m) })
	}
	f.vouch(found("right"))
	f.refuses("receipt is of chain", func() chain.RevealRun { m := f.reveal(50); m.Receipt.ChainID = "another-1"; return m }())
	f.refuses("no run of order", func() chain.RevealRun { m := f.reveal(50); m.Receipt.Order[0] ^= 1; return m }())
	f.refuses("was not asked", func() chain.RevealRun { m := f.reveal(50); m.Receipt.Node = key(60).Public(); return m }())
	f.refuses("attestation is by cluster", func() chain.RevealRun { m := f.reveal(50); m.Cluster = key(40).Public(); return m }())
	for reason, change := range map[string]func(*chain.UsageReceipt){
		"sequence is 2":        func(r *chain.UsageReceipt) { r.Sequence = 2 },
		"the deadline was":     func(r *chain.UsageReceipt) { r.Ended += 3 * hour },
		"the bid expired at":   func(r *chain.UsageReceipt) { r.Started += 3 * hour },
		"the bid has no price": func(r *chain.UsageReceipt) { r.Usage = []chain.Usage{{Resource: chain.GPU, Amount: 1, DurationMs: 1}} },
		"does not fit an amount": func(r *chain.UsageReceipt) {
			r.Usage = []chain.Usage{{Resource: chain.CPU, Amount: chain.MaxUsageAmount, DurationMs: chain.MaxUsageMs}}
		},
	} {
		f := newField(t, threeOf3)
		r := f.receipt(40)
		r.Usage = slices.Clone(r.Usage)
		change(&r)
		f.receipts[40] = r
		f.do(f.begin(40, 50))
		f.drawn()
		f.do(f.commit(50))
		f.vouch(found("right"))
		f.refuses(reason, f.reveal(40))
	}
}
