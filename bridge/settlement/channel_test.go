package settlement_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// voucher is signed by account n for a channel.
func voucher(n byte, id chain.ChannelID, total uint64) chain.RedeemVoucher {
	v := chain.Voucher{ChainID: testChain, Channel: id, Total: chain.Nano(total)}
	return chain.RedeemVoucher{Voucher: v, Signature: key(n).Sign(crypto.DomainVoucher, v.Payload())}
}

// channel opens a channel of the consumer to account 4 with 1,000 nHYPER and a window of
// ten seconds.
func (m *market) channel() chain.ChannelID {
	m.Helper()
	e := m.must(settlement.OpenChannel(m.kv, &m.env, account(consumer), chain.OpenChannel{
		Payee: account(4), Signer: key(consumer).Public(), Amount: chain.Nano(1_000), WindowMs: 10_000,
	}))
	return e.(chain.ChannelChanged).Channel
}

func (m *market) redeem(r chain.RedeemVoucher) chain.VoucherRedeemed {
	m.Helper()
	return m.must(settlement.RedeemVoucher(m.kv, &m.env, r)).(chain.VoucherRedeemed)
}

func (m *market) endChannels() []chain.ChannelClosed {
	events := settlement.EndChannels(m.kv, &m.env, 10)
	m.events = append(m.events, events...)
	var closed []chain.ChannelClosed
	for _, e := range events {
		closed = append(closed, e.(chain.ChannelClosed))
	}
	return closed
}

// TestNewestVoucherWins: vouchers are cumulative, so that the newest is worth all before
// it, whichever are posted and in whichever order.
func TestNewestVoucherWins(t *testing.T) {
	m := newMarket(t)
	id := m.channel()
	before := m.balance(4)
	if got := m.redeem(voucher(consumer, id, 300)); got.Paid.Nano()+got.Burned.Nano()+got.Treasury.Nano() != 300 {
		t.Errorf("redeemed %+v of 300", got)
	}
	if got := m.redeem(voucher(consumer, id, 800)); got.Paid.Nano()+got.Burned.Nano()+got.Treasury.Nano() != 500 {
		t.Errorf("redeemed %+v of 500 more", got)
	}
	refused := func(part string, r chain.RedeemVoucher) {
		t.Helper()
		m.refused(part, func(kv state.KV) *chain.Rejection { _, why := settlement.RedeemVoucher(kv, &m.env, r); return why })
	}
	refused("is redeemed", voucher(consumer, id, 800))
	refused("is redeemed", voucher(consumer, id, 500))
	refused("the channel holds", voucher(consumer, id, 1_001))
	refused("is not signed", voucher(other, id, 900))
	refused("is not there", voucher(consumer, crypto.Digest{1}, 900))
	foreign := voucher(consumer, id, 900)
	foreign.Voucher.ChainID = "another-1"
	refused("is of chain", foreign)
	changed := voucher(consumer, id, 900)
	changed.Voucher.Lease = crypto.Digest{1}
	refused("is not signed", changed)
	closed := m.must(settlement.CloseChannel(m.kv, &m.env, account(4), chain.CloseChannel{Channel: id})).(chain.ChannelClosed)
	if closed.Refunded != chain.Nano(200) {
		t.Errorf("the payer got %s back, want what was not promised", closed.Refunded)
	}
	if got := sub(t, m.balance(4), before).Nano(); got > 800 || got < 780 {
		t.Errorf("the payee received %d of 800", got)
	}
	refused("is not there", voucher(consumer, id, 900))
}

// TestPayerWaitsForTheWindow: after the payer's notice the payee has the whole window, in
// which the chain progresses.
func TestPayerWaitsForTheWindow(t *testing.T) {
	m := newMarket(t)
	id := m.channel()
	m.env.ProgressMs = 500
	notice := m.must(settlement.CloseChannel(m.kv, &m.env, account(consumer), chain.CloseChannel{Channel: id})).(chain.ChannelChanged)
	if notice.EndsMs != 10_500 {
		t.Fatalf("ends at %d", notice.EndsMs)
	}
	m.env.Now += 1 << 30 // the chain stood
	if closed := m.endChannels(); len(closed) != 0 {
		t.Fatalf("closed while the chain stood: %+v", closed)
	}
	for part, do := range map[string]func(kv state.KV) *chain.Rejection{
		"is closing": func(kv state.KV) *chain.Rejection {
			_, why := settlement.CloseChannel(kv, &m.env, account(consumer), chain.CloseChannel{Channel: id})
			return why
		},
		"channel is closing": func(kv state.KV) *chain.Rejection {
			_, why := settlement.FundChannel(kv, &m.env, account(consumer), chain.FundChannel{Channel: id, Amount: chain.Nano(1)})
			return why
		},
		"has no part": func(kv state.KV) *chain.Rejection {
			_, why := settlement.CloseChannel(kv, &m.env, account(other), chain.CloseChannel{Channel: id})
			return why
		},
		"channel is": func(kv state.KV) *chain.Rejection {
			_, why := settlement.FundChannel(kv, &m.env, account(other), chain.FundChannel{Channel: id, Amount: chain.Nano(1)})
			return why
		},
	} {
		m.refused(part, do)
	}
	m.env.ProgressMs = 10_500
	m.redeem(voucher(consumer, id, 700)) // at the last moment
	if closed := m.endChannels(); len(closed) != 0 {
		t.Fatalf("closed at the window's last millisecond: %+v", closed)
	}
	m.env.ProgressMs++
	if closed := m.endChannels(); len(closed) != 1 || closed[0].Refunded != chain.Nano(300) {
		t.Fatalf("closed %+v, want 300 nHYPER back", closed)
	}
	if left := m.dumpOf('h', 'w'); len(left) != 0 {
		t.Errorf("a closed channel left %x", left)
	}
}

// TestNoChannelHasTheNameOfAClosedOne, and with it its vouchers.
func TestNoChannelHasTheNameOfAClosedOne(t *testing.T) {
	m := newMarket(t)
	id := m.channel()
	m.refused("was opened in this block", func(kv state.KV) *chain.Rejection {
		_, why := settlement.OpenChannel(kv, &m.env, account(consumer), chain.OpenChannel{Payee: account(4), Signer: key(consumer).Public(), Amount: chain.Nano(5), WindowMs: 10_000})
		return why
	})
	m.redeem(voucher(consumer, id, 1_000))
	m.must(settlement.CloseChannel(m.kv, &m.env, account(4), chain.CloseChannel{Channel: id}))
	m.env.Height++
	if again := m.channel(); again == id {
		t.Fatal("a channel has the name of one that is closed")
	}
	m.env.Height++
	for part, msg := range map[string]chain.OpenChannel{
		"to oneself": {Payee: account(consumer), Amount: chain.Nano(5)},
		"of nothing": {Payee: account(4)},
		"can spend":  {Payee: account(4), Amount: chain.Hyper(1_000_000)},
	} {
		m.refused(part, func(kv state.KV) *chain.Rejection {
			_, why := settlement.OpenChannel(kv, &m.env, account(consumer), msg)
			return why
		})
	}
}

// TestChannelsConserve does random things with channels: no value appears or vanishes, no
// payee gets more than was promised to it, no payer the rest before the window after its notice, and the queue has every notice once.
func TestChannelsConserve(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMarket(t)
		var ids []chain.ChannelID
		promised, noticed := map[chain.ChannelID]uint64{}, map[chain.ChannelID]uint64{}
		for range rapid.IntRange(1, 50).Draw(rt, "steps") {
			if len(ids) == 0 || rapid.IntRange(0, 5).Draw(rt, "open") == 0 {
				ids = append(ids, m.channel())
				m.env.Height++
			}
			id := rapid.SampledFrom(ids).Draw(rt, "channel")
			kv := state.NewOverlay(m.kv)
			seen := len(m.events)
			event, why := m.channelStep(rt, kv, id, promised)
			var closed []chain.ChannelClosed // by nobody: their windows are over
			for _, e := range m.events[seen:] {
				closed = append(closed, e.(chain.ChannelClosed))
			}
			if why == nil && event != nil {
				if e, notice := event.(chain.ChannelChanged); notice && e.EndsMs != 0 {
					noticed[id] = m.env.ProgressMs + 10_000
				}
				m.events = append(m.events, event)
				for _, c := range kv.Changes() {
					if c.Deleted {
						m.kv.Delete(c.Key)
					} else {
						m.kv.Set(c.Key, c.Value)
					}
				}
			}
			m.checkChannels(rt, promised)
			for _, e := range closed {
				if at, ok := noticed[e.Channel]; !ok || m.env.ProgressMs < at {
					rt.Fatalf("a channel ended at %d, before its payer's window was over at %d", m.env.ProgressMs, at)
				}
			}
			m.checkConserved(rt)
		}
	})
}

func (m *market) channelStep(rt *rapid.T, kv state.KV, id chain.ChannelID, promised map[chain.ChannelID]uint64) (chain.Event, *chain.Rejection) {
	who := account(rapid.SampledFrom([]byte{consumer, 4, other}).Draw(rt, "by"))
	switch rapid.IntRange(0, 4).Draw(rt, "step") {
	case 0:
		return settlement.FundChannel(kv, &m.env, who, chain.FundChannel{Channel: id, Amount: chain.Nano(rapid.Uint64Range(0, 500).Draw(rt, "more"))})
	case 1, 2:
		total := rapid.Uint64Range(0, 2_000).Draw(rt, "total")
		promised[id] = max(promised[id], total)
		return settlement.RedeemVoucher(kv, &m.env, voucher(consumer, id, total))
	case 3:
		return settlement.CloseChannel(kv, &m.env, who, chain.CloseChannel{Channel: id})
	}
	m.env.ProgressMs += rapid.Uint64Range(1, 8_000).Draw(rt, "progress")
	m.endChannels()
	return nil, nil
}

func (m *market) checkChannels(rt *rapid.T, promised map[chain.ChannelID]uint64) {
	noticed := 0
	for key, value := range m.kv.Iterate([]byte{settlement.Prefix, 'h'}, []byte{settlement.Prefix, 'h' + 1}) {
		if c := state.Decode[settlement.Channel](key, value); c.Ends != 0 {
			noticed++
		}
	}
	queued := 0
	for range m.kv.Iterate([]byte{settlement.Prefix, 'w'}, []byte{settlement.Prefix, 'w' + 1}) {
		queued++
	}
	if queued != noticed {
		rt.Fatalf("%d channels are closing, %d in the queue", noticed, queued)
	}
	paid := map[chain.ChannelID]uint64{}
	for _, e := range m.events {
		if r, ok := e.(chain.VoucherRedeemed); ok {
			if paid[r.Channel] += r.Paid.Nano() + r.Burned.Nano() + r.Treasury.Nano(); paid[r.Channel] != r.Total.Nano() {
				rt.Fatalf("%d were redeemed of vouchers for %s", paid[r.Channel], r.Total)
			}
			if paid[r.Channel] > promised[r.Channel] {
				rt.Fatalf("%d were redeemed, %d promised", paid[r.Channel], promised[r.Channel])
			}
		}
	}
}
