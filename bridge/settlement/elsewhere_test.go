package settlement_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// purses follows what two consumers have: in their accounts and escrows, on its way out of these, in channels, and elsewhere, as their
// escrows say.
type purses struct {
	*court
	deals   []chain.LeaseDeal
	claimed []crypto.Digest // orders under optimistic
	has     map[byte]uint64
	pending map[crypto.Digest]chain.ClaimPending
	seen    int // events
	nonce   uint64
	said    map[string]int // of which event how many
}

var spenders = []byte{consumer, other}

func newPurses(t testing.TB, lot uint64) *purses {
	p := &purses{court: newCourt(t, lot), has: map[byte]uint64{}, pending: map[crypto.Digest]chain.ClaimPending{}, said: map[string]int{}}
	p.env.Params.ClaimWindowMs, p.env.Params.WithdrawalDelayMs = hour, 24*hour
	p.env.Params.CommitMs, p.env.Params.RevealMs = 20_000, 10_000
	p.deposit(other, chain.Nano(20_000_000))
	p.withdraw(consumer, chain.Hyper(999))
	for _, n := range spenders {
		p.has[n] = p.wealth(n)
	}
	p.seen = len(p.events)
	return p
}

// wealth is all that a consumer has at one time.
func (p *purses) wealth(n byte) uint64 {
	sum := p.balance(n).Nano() + p.held(n) + p.escrow(n).Elsewhere.Nano()
	for key, value := range p.kv.Iterate([]byte{settlement.Prefix, 'h'}, []byte{settlement.Prefix, 'h' + 1}) {
		if c := state.Decode[settlement.Channel](key, value); c.Payer == account(n) {
			sum += c.Held.Nano()
		}
	}
	return sum
}

// reckon enters what the events since the last time say that consumers gave and got.
func (p *purses) reckon() {
	give := func(to chain.Address, amount uint64) {
		for _, n := range spenders {
			if to == account(n) {
				p.has[n] += amount
			}
		}
	}
	for _, e := range p.events[p.seen:] {
		p.said[chain.EventName(e)]++
		switch e := e.(type) {
		case chain.ClaimPending:
			p.pending[e.Order] = e
			give(e.Consumer, -e.Premium.Nano())
		case chain.ClaimSettled:
			give(e.Consumer, p.pending[e.Order].Premium.Nano()-e.Cost.Nano())
		case chain.ClaimClosed:
			if !e.Paid {
				give(e.Consumer, e.Refunded.Nano()-p.pending[e.Order].Held.Nano())
			}
		case chain.LeasePaid:
			give(e.Consumer, -e.Cost.Nano())
		case chain.ServiceMissed:
			give(e.Consumer, e.FromStake.Nano())
		case chain.LeaseLeft:
			give(e.Consumer, e.FromStake.Nano())
		case chain.VoucherRedeemed:
			give(e.Payer, -(e.Paid.Nano() + e.Burned.Nano() + e.Treasury.Nano()))
		}
	}
	p.seen = len(p.events)
	for _, g := range p.gifts {
		give(g.from, -g.amount.Nano())
		give(g.to, g.amount.Nano())
		p.said["gift"]++
	}
	p.gifts = nil
}

// check holds it against what they have, and what escrows say is elsewhere against what holds it: by what was changed since before,
// and in all.
func (p *purses) check(rt *rapid.T, before *settlement.Locks) {
	rt.Helper()
	p.reckon()
	for _, n := range spenders {
		if is := p.wealth(n); is != p.has[n] {
			rt.Fatalf("consumer %d has %d, by what it gave and got %d", n, is, p.has[n])
		}
	}
	now := p.counted(rt)
	if err := now.Changed(before); err != nil {
		rt.Fatal(err)
	}
	p.checkConserved(rt)
}

func (p *purses) counted(rt *rapid.T) *settlement.Locks {
	all := settlement.LocksOfChanges()
	if err := p.market.count(&all); err != nil {
		rt.Fatal(err)
	}
	return &all
}

// TestWhatIsElsewhere: whatever two consumers and those who work for them try, out of order and most of it in vain, with
// deposits, withdrawals, claims, claims in their windows and their panels, leases with and without terms and channels, all at one
// cluster: each consumer has what it had, less what it was charged and with what others lost to it; and its escrow says
// that elsewhere is what leases and claims hold for it. In the end nothing is.
func TestWhatIsElsewhere(t *testing.T) {
	happened := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		p := newPurses(t, rapid.Uint64().Draw(rt, "lot"))
		for range rapid.IntRange(10, 80).Draw(rt, "steps") {
			before := p.counted(rt)
			p.step(rt)
			p.check(rt, before)
		}
		before := p.counted(rt)
		p.next(1 << 40)
		p.market.expire(100)
		for range 30 {
			p.draw()
			p.block(settlement.ReportWindowMs/4, 0)
			p.market.expire(100)
		}
		p.check(rt, before)
		for _, n := range spenders {
			if e := p.escrow(n); !e.Elsewhere.IsZero() {
				rt.Fatalf("in the end %s of consumer %d is elsewhere", e.Elsewhere, n)
			}
		}
		for what, times := range p.said { // order-free: each its own
			happened[what] += times
		}
	})
	t.Logf("%v", happened)
}

// step does something that anybody may try.
func (p *purses) step(rt *rapid.T) {
	who := rapid.SampledFrom(spenders).Draw(rt, "who")
	amount := chain.Nano(rapid.SampledFrom([]uint64{1, 3_600_000, 20_000_000, 900_000_000}).Draw(rt, "amount"))
	target := key(cluster).Public()
	p.nonce++
	p.anyFee(rt)
	switch rapid.IntRange(0, 16).Draw(rt, "step") {
	case 0:
		p.try(settlement.Deposit(p.kv, &p.env, account(who), chain.Deposit{Cluster: target, Amount: amount}))
	case 1:
		p.try(settlement.Withdraw(p.kv, &p.env, account(who), chain.Withdraw{Cluster: target, Amount: amount}))
	case 2:
		p.settle(p.claim(p.market.order(who, p.nonce, none), 40, 1))
	case 3, 4:
		claim := p.claimOf(p.nonce, rapid.SampledFrom([]uint64{worth, worth / 2}).Draw(rt, "worth"), rapid.SampledFrom([]crypto.Digest{right.Result, wrong.Result}).Draw(rt, "result"))
		if _, ok := p.settle(claim)[0].(chain.ClaimRecorded); ok {
			p.claimed = append(p.claimed, claim.Order.ID())
		}
	case 5:
		if len(p.claimed) > 0 {
			p.lookInto(rapid.SampledFrom(p.claimed).Draw(rt, "order"))
		}
	case 6, 7, 8, 9:
		p.leaseStep(rt, &p.deals, func() chain.LeaseDeal { return p.anyDeal(rt, who) })
	case 10, 11:
		p.promiseStep(rt)
	case 12:
		p.channelsStep(rt, who)
	default:
		ms := rapid.SampledFrom([]uint64{2, 5_000, 5_000, 11_000, 11_000, 40_000, 40_000, settlement.ReportWindowMs, 25 * hour}).Draw(rt, "ms")
		p.block(ms, rapid.Uint64Range(0, ms-1).Draw(rt, "stood"))
		p.market.expire(rapid.IntRange(1, 3).Draw(rt, "limit"))
	}
}

// anyDeal is one of a lease of a few minutes, with terms of service or without.
func (p *purses) anyDeal(rt *rapid.T, who byte) chain.LeaseDeal {
	d := p.deal(who, p.nonce, rapid.SampledFrom([]byte{40, 41, 50}).Draw(rt, "node"), 1_000, chain.Nano(rapid.Uint64Range(60_000, 3_000_000).Draw(rt, "held")))
	d.Order.Deadline = p.env.Now + hour
	if rapid.Bool().Draw(rt, "promised") {
		terms := drawTerms(rt)
		d.Order.Term.Service = &terms
	}
	id := d.Order.ID()
	d.Bid.Order, d.Acceptance.Order, d.Bid.Expiry = id, id, d.Order.Deadline
	return d
}

// promiseStep has the peers of a lease report an epoch, or its provider leave.
func (p *purses) promiseStep(rt *rapid.T) {
	if len(p.deals) == 0 {
		return
	}
	d := rapid.SampledFrom(p.deals).Draw(rt, "of")
	l, ok := settlement.LeaseOf(p.kv, idOf(d))
	service, promised := settlement.ServiceOf(p.kv, idOf(d).Order)
	if !ok || !promised {
		return
	}
	if service.Drawing { // and an epoch passes
		p.draw()
		p.block(2*serviceEpoch, 0)
		return
	}
	kv := state.NewOverlay(p.kv)
	var events chain.Events
	var why *chain.Rejection
	if rapid.IntRange(0, 3).Draw(rt, "leaves") == 0 {
		events, why = settlement.LeaveLease(kv, &p.env, l.Provider, chain.LeaveLease{Lease: idOf(d)})
	} else {
		epoch := chain.ServiceEpoch{ChainID: testChain, Lease: idOf(d), Terms: l.Order, Epoch: rapid.Uint64Range(0, uint64(p.env.Now-l.Since)/serviceEpoch).Draw(rt, "epoch")}
		events, why = settlement.ReportMiss(kv, &p.env, chain.ReportMiss{Epoch: epoch, Reports: missed(service.Peers...)}, true)
	}
	if why == nil {
		p.keep(kv, events)
	}
}

// keep keeps what was done, and what is said of it.
func (p *purses) keep(kv *state.Overlay, events chain.Events) {
	for _, c := range kv.Changes() {
		if c.Deleted {
			p.kv.Delete(c.Key)
		} else {
			p.kv.Set(c.Key, c.Value)
		}
	}
	p.events = append(p.events, events...)
}

// channelsStep opens, funds, redeems or closes a channel of a consumer with account 4.
func (p *purses) channelsStep(rt *rapid.T, who byte) {
	var ids []chain.ChannelID
	for key := range p.kv.Iterate([]byte{settlement.Prefix, 'h'}, []byte{settlement.Prefix, 'h' + 1}) {
		ids = append(ids, chain.ChannelID(key[2:]))
	}
	if len(ids) == 0 || rapid.IntRange(0, 3).Draw(rt, "open") == 0 {
		m := chain.OpenChannel{Payee: account(4), Signer: key(who).Public(), Amount: chain.Nano(1_000), WindowMs: 60_000, Nonce: p.nonce}
		p.try(settlement.OpenChannel(p.kv, &p.env, account(who), m))
		return
	}
	id := rapid.SampledFrom(ids).Draw(rt, "channel")
	by := account(rapid.SampledFrom([]byte{consumer, other, 4}).Draw(rt, "by"))
	switch rapid.IntRange(0, 3).Draw(rt, "what") {
	case 0:
		p.try(settlement.FundChannel(p.kv, &p.env, by, chain.FundChannel{Channel: id, Amount: chain.Nano(500)}))
	case 1:
		p.try(settlement.CloseChannel(p.kv, &p.env, by, chain.CloseChannel{Channel: id}))
	default:
		p.try(settlement.RedeemVoucher(p.kv, &p.env, voucher(who, id, rapid.Uint64Range(0, 2_000).Draw(rt, "total"))))
	}
	p.market.endChannels()
}

// TestAnEscrowStaysForItsLease: an escrow in which nothing is, and was for long, says what its lease holds as long as that lives.
func TestAnEscrowStaysForItsLease(t *testing.T) {
	m := newMarket(t)
	all := chain.Hyper(100)
	m.deposit(consumer, all)
	d := m.deal(consumer, 1, 40, 1_000, all) // for years
	m.open(d)
	m.next(3 * m.env.Params.WithdrawalDelayMs) // what was there is forgotten
	m.must(settlement.ExtendLease(m.kv, &m.env, account(consumer), chain.ExtendLease{Lease: idOf(d), Amount: chain.Nano(5)}))
	if e := m.escrow(consumer); e.Elsewhere.Nano() != all.Nano()+5 || !e.Highs.Now.IsZero() || !e.Highs.Before.IsZero() || !e.Record.IsZero() {
		t.Fatalf("the escrow is %+v, want nothing in it but what the lease holds", e)
	}
	if err := m.locks(); err != nil {
		t.Fatal(err)
	}
	m.next(1 << 50)
	m.expire(1)
	if e := m.escrow(consumer); !e.Elsewhere.IsZero() {
		t.Fatalf("%s is elsewhere when the lease is over", e.Elsewhere)
	}
	if err := m.locks(); err != nil {
		t.Fatal(err)
	}
}
