package settlement

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// Channel is the chain's state of a payment channel: money of a payer that vouchers give to
// a payee. After the payer's notice it ends when the chain's progress reaches Ends; the
// payee ends it at once.
type Channel struct {
	_        struct{} `cbor:",toarray"`
	Payer    chain.Address
	Payee    chain.Address
	Signer   crypto.PublicKey
	Held     chain.Amount // what is left
	Redeemed chain.Amount // the highest total of its vouchers so far
	WindowMs uint64
	Ends     uint64 // of Env.ProgressMs; 0: no notice was given
}

// ChannelAt returns a channel, and false if there is none, or no longer.
func ChannelAt(r state.Reader, id chain.ChannelID) (Channel, bool) {
	return state.Load[Channel](r, ChannelKey(id))
}

// DecodeChannel decodes a channel's record, for those who checked its proof.
func DecodeChannel(value []byte) (Channel, error) { return decode[Channel](value) }

// OpenChannel sets a part of the payer's balance aside for a payee.
func OpenChannel(kv state.KV, env *Env, payer chain.Address, m chain.OpenChannel) (chain.Event, *chain.Rejection) {
	id := chain.ChannelOf(env.ChainID, payer, m.Payee, env.Height, m.Nonce)
	switch _, known := ChannelAt(kv, id); {
	case known:
		return nil, chain.Reject("channel %s was opened in this block", id.Short())
	case m.Payee == payer:
		return nil, chain.Reject("a channel to oneself")
	case m.Amount.IsZero():
		return nil, chain.Reject("channel of nothing")
	}
	if why := tokens.Debit(kv, payer, m.Amount, env.Now); why != nil {
		return nil, why
	}
	c := Channel{Payer: payer, Payee: m.Payee, Signer: m.Signer, Held: m.Amount, WindowMs: m.WindowMs}
	state.Save(kv, ChannelKey(id), c)
	return c.changed(id), nil
}

// FundChannel adds to what a channel of the payer holds.
func FundChannel(kv state.KV, env *Env, payer chain.Address, m chain.FundChannel) (chain.Event, *chain.Rejection) {
	c, ok := ChannelAt(kv, m.Channel)
	switch {
	case !ok:
		return nil, chain.Reject("channel %s is not there", m.Channel.Short())
	case c.Payer != payer:
		return nil, chain.Reject("channel is %s's, not %s's", c.Payer.Short(), payer.Short())
	case c.Ends != 0:
		return nil, chain.Reject("channel is closing")
	case m.Amount.IsZero():
		return nil, chain.Reject("funding by nothing")
	}
	if why := tokens.Debit(kv, payer, m.Amount, env.Now); why != nil {
		return nil, why
	}
	c.Held = sound(c.Held.Add(m.Amount))
	state.Save(kv, ChannelKey(m.Channel), c)
	return c.changed(m.Channel), nil
}

// RedeemVoucher pays what a voucher promises beyond what was redeemed before. An older
// voucher than one that was redeemed is worth nothing, and a voucher beyond what the channel
// holds is refused whole: the payee looks at the channel before it takes one.
func RedeemVoucher(kv state.KV, env *Env, m chain.RedeemVoucher) (chain.Event, *chain.Rejection) {
	v := &m.Voucher
	c, ok := ChannelAt(kv, v.Channel)
	if !ok {
		return nil, chain.Reject("channel %s is not there", v.Channel.Short())
	}
	if v.ChainID != env.ChainID {
		return nil, chain.Reject("voucher is of chain %.32q, this is %q", v.ChainID, env.ChainID)
	}
	amount, more := v.Total.Sub(c.Redeemed)
	if !more || amount.IsZero() {
		return nil, chain.Reject("voucher's total is %s, %s is redeemed", v.Total, c.Redeemed)
	}
	left, covered := c.Held.Sub(amount)
	if !covered {
		return nil, chain.Reject("voucher is worth %s more, the channel holds %s", amount, c.Held)
	}
	if !c.Signer.Verify(crypto.DomainVoucher, v.Payload(), m.Signature) {
		return nil, chain.Reject("voucher is not signed by %s", c.Signer.Short())
	}
	s := splitCost(amount, &env.Params, shares{})
	tokens.Credit(kv, c.Payee, s.paid)
	tokens.Credit(kv, Treasury, s.treasury)
	tokens.Burn(kv, s.burned)
	c.Held, c.Redeemed = left, v.Total
	state.Save(kv, ChannelKey(v.Channel), c)
	return chain.VoucherRedeemed{
		Channel: v.Channel, Payer: c.Payer, Payee: c.Payee, Lease: v.Lease, Total: v.Total,
		Paid: s.paid, Burned: s.burned, Treasury: s.treasury,
	}, nil
}

// CloseChannel ends a channel, or begins its end.
func CloseChannel(kv state.KV, env *Env, from chain.Address, m chain.CloseChannel) (chain.Event, *chain.Rejection) {
	c, ok := ChannelAt(kv, m.Channel)
	switch {
	case !ok:
		return nil, chain.Reject("channel %s is not there", m.Channel.Short())
	case c.Payee == from:
		return endChannel(kv, m.Channel, &c), nil
	case c.Payer != from:
		return nil, chain.Reject("%s has no part in the channel", from.Short())
	case c.Ends != 0:
		return nil, chain.Reject("channel is closing")
	}
	ends, ok := checked.Add(env.ProgressMs, c.WindowMs)
	if !ok {
		return nil, chain.Reject("window of %d ms is beyond time", c.WindowMs)
	}
	c.Ends = ends
	kv.Set(channelEndKey(ends, m.Channel), []byte{})
	state.Save(kv, ChannelKey(m.Channel), c)
	return c.changed(m.Channel), nil
}

// EndChannels ends the channels whose window is over, the oldest first and at most limit of
// them; the rest waits for the next block, and may still be redeemed in between.
func EndChannels(kv state.KV, env *Env, limit int) chain.Events {
	queue := channelEnds(env)
	due, left := queue.due(kv, limit)
	queue.leave(kv, left)
	var events chain.Events
	for _, key := range due {
		id := chain.ChannelID(key[len(key)-crypto.DigestSize:])
		c, ok := ChannelAt(kv, id)
		if !ok {
			panic("settlement: a channel that is not there is queued to end")
		}
		events = append(events, endChannel(kv, id, &c))
	}
	return events
}

// endChannel gives what is left back to the payer, and forgets the channel.
func endChannel(kv state.KV, id chain.ChannelID, c *Channel) chain.Event {
	if !c.Held.IsZero() {
		tokens.Credit(kv, c.Payer, c.Held)
	}
	if c.Ends != 0 {
		kv.Delete(channelEndKey(c.Ends, id))
	}
	kv.Delete(ChannelKey(id))
	return chain.ChannelClosed{Channel: id, Payer: c.Payer, Payee: c.Payee, Refunded: c.Held}
}

func (c *Channel) changed(id chain.ChannelID) chain.Event {
	return chain.ChannelChanged{Channel: id, Payer: c.Payer, Payee: c.Payee, Held: c.Held, EndsMs: chain.Number(c.Ends)}
}
