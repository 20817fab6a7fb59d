package chain

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// ChannelID names a payment channel.
type ChannelID = crypto.Digest

// ChannelOf returns the name of the channel that a payer opens to a payee at a height, under
// a nonce of its choice. The height is in it so that no channel has the name, and with it
// the vouchers, of one that is closed.
func ChannelOf(id ChainID, payer, payee Address, height Height, nonce uint64) ChannelID {
	return crypto.DomainChannel.Hash(codec.Marshal(struct {
		_            struct{} `cbor:",toarray"`
		ChainID      ChainID
		Payer, Payee Address
		Height       Height
		Nonce        uint64
	}{ChainID: id, Payer: payer, Payee: payee, Height: height, Nonce: nonce}))
}

// OpenChannel sets Amount of the sender's balance aside for Payee, who is paid out of it by
// vouchers that Signer signs.
type OpenChannel struct {
	_        struct{} `cbor:",toarray"`
	Payee    Address
	Nonce    uint64           // free choice; tells channels of one block apart
	Signer   crypto.PublicKey // may be the sender's own key, or one for this channel alone
	Amount   Amount
	WindowMs uint64 // from the payer's notice to the end; MinChannelWindowMs to MaxNoticeMs
}

// FundChannel adds to what a channel of the sender holds.
type FundChannel struct {
	_       struct{} `cbor:",toarray"`
	Channel ChannelID
	Amount  Amount
}

// RedeemVoucher pays the payee what a voucher promises beyond what was redeemed before.
// Anyone may send it: a watch-tower does.
type RedeemVoucher struct {
	_         struct{} `cbor:",toarray"`
	Voucher   Voucher
	Signature crypto.Signature // by the channel's signer, under DomainVoucher
}

// CloseChannel ends a channel: at once if the sender is its payee, who redeems before what
// it wants to; after the window if it is its payer.
type CloseChannel struct {
	_       struct{} `cbor:",toarray"`
	Channel ChannelID
}

func (OpenChannel) sealedMsg()   {}
func (FundChannel) sealedMsg()   {}
func (RedeemVoucher) sealedMsg() {}
func (CloseChannel) sealedMsg()  {}

// Voucher promises the payee of a channel Total in all, since it was opened. Totals of one
// channel only grow, so that the newest is worth all that came before it.
type Voucher struct {
	_       struct{}      `cbor:",toarray"`
	ChainID ChainID       `json:"chain_id"`
	Channel ChannelID     `json:"channel"`
	Lease   crypto.Digest `json:"lease,omitzero"` // the order of the lease that it pays; zero: none in particular
	Total   Amount        `json:"total_nhyper"`
}

// Payload is what the channel's signer signs under DomainVoucher.
func (v Voucher) Payload() []byte { return codec.Marshal(v) }

// MinChannelWindowMs is the least time that a payee has to redeem its newest voucher after
// the payer's notice.
const MinChannelWindowMs = 1_000

func (m OpenChannel) check() error {
	if m.WindowMs < MinChannelWindowMs || m.WindowMs > MaxNoticeMs {
		return fmt.Errorf("%w: window_ms is %d, want %d to %d", ErrLimit, m.WindowMs, MinChannelWindowMs, uint64(MaxNoticeMs))
	}
	return m.Signer.Check()
}

func (m RedeemVoucher) check() error { return m.Voucher.ChainID.Check() }

// ChannelChanged says what became of a channel that was opened or funded, or of which notice
// was given.
type ChannelChanged struct {
	_       struct{}  `cbor:",toarray"`
	Channel ChannelID `json:"channel"`
	Payer   Address   `json:"payer"`
	Payee   Address   `json:"payee"`
	Held    Amount    `json:"held_nhyper"`
	EndsMs  Number    `json:"ends_ms"` // of the chain's progress; 0: no notice was given
}

// VoucherRedeemed says that a payee was paid: Total − what was redeemed before = Paid +
// Burned + Treasury.
type VoucherRedeemed struct {
	_        struct{}      `cbor:",toarray"`
	Channel  ChannelID     `json:"channel"`
	Payer    Address       `json:"payer"`
	Payee    Address       `json:"payee"`
	Lease    crypto.Digest `json:"lease,omitzero"`
	Total    Amount        `json:"total_nhyper"`
	Paid     Amount        `json:"paid_nhyper"`
	Burned   Amount        `json:"burned_nhyper"`
	Treasury Amount        `json:"treasury_nhyper"`
}

// ChannelClosed says that a channel is gone, and what went back to its payer.
type ChannelClosed struct {
	_        struct{}  `cbor:",toarray"`
	Channel  ChannelID `json:"channel"`
	Payer    Address   `json:"payer"`
	Payee    Address   `json:"payee"`
	Refunded Amount    `json:"refunded_nhyper"`
}

func (ChannelChanged) sealedEvent()  {}
func (VoucherRedeemed) sealedEvent() {}
func (ChannelClosed) sealedEvent()   {}
