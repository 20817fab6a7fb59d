package execution_test

import (
	"encoding/binary"
	"slices"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
)

// openChannels gives every user a channel.
func (w *gasWorld) openChannels(p *prepared) {
	height := w.height + 1
	w.run(1_000, w.each(gasUsers, func(i int, from key) chain.Msg {
		to := crowdOf(i)
		p.channels = append(p.channels, chain.ChannelOf(testChain, from.address(), to, height, 1))
		return chain.OpenChannel{Payee: to, Nonce: 1, Signer: from.Public(), Amount: chain.Hyper(10), WindowMs: 60_000}
	})...)
}

// ofChannels are the messages about channels, an operation each, named as in the table.
func ofChannels(p prepared) []operation {
	redeem := func(w *gasWorld, i int, from key) chain.RedeemVoucher {
		v := chain.Voucher{ChainID: testChain, Channel: p.channels[i], Lease: crypto.Digest{1}, Total: chain.Hyper(1)}
		return chain.RedeemVoucher{Voucher: v, Signature: from.PrivateKey.Sign(crypto.DomainVoucher, v.Payload())}
	}
	forged := oneOf("redeem_voucher/forged", gasUsers, func(w *gasWorld, i int, from key) chain.Msg {
		m := redeem(w, i, from)
		m.Signature[0] ^= 1
		return m
	})
	forged.want = refused
	return []operation{
		oneOf("open_channel", gasUsers, func(w *gasWorld, i int, from key) chain.Msg {
			return chain.OpenChannel{Payee: crowdOf(i), Nonce: 2, Signer: from.Public(), Amount: chain.Hyper(10), WindowMs: 60_000}
		}),
		oneOf("fund_channel", gasUsers, func(_ *gasWorld, i int, _ key) chain.Msg {
			return chain.FundChannel{Channel: p.channels[i], Amount: chain.Hyper(1)}
		}),
		oneOf("redeem_voucher", gasUsers, func(w *gasWorld, i int, from key) chain.Msg { return redeem(w, i, from) }),
		forged,
		oneOf("close_channel", gasUsers, func(_ *gasWorld, i int, _ key) chain.Msg { return chain.CloseChannel{Channel: p.channels[i]} }),
	}
}

// endChannels fills a state with channels whose window is over, each of another payer.
func endChannels(w *gasWorld, kv *state.Overlay, entries int) {
	head, err := execution.HeadOf(kv)
	if err != nil {
		w.Fatal(err)
	}
	at := binary.BigEndian.AppendUint64([]byte{settlement.Prefix, 'w'}, head.ProgressMs)
	for i := range entries {
		var id chain.ChannelID
		binary.BigEndian.PutUint64(id[:], uint64(i+1)*0x9e3779b97f4a7c15)
		state.Save(kv, settlement.ChannelKey(id), settlement.Channel{Payer: w.cold(), Payee: w.cold(), Held: chain.Nano(5), WindowMs: 1, Ends: head.ProgressMs})
		kv.Set(append(slices.Clone(at), id[:]...), []byte{})
	}
}
