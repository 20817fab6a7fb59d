package api

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// OpenChannel is the data of "open_channel".
type OpenChannel struct {
	Payee    chain.Address    `json:"payee" doc:"who is paid by vouchers"`
	Nonce    Uint64           `json:"nonce" doc:"free choice; tells channels of one block apart"`
	Signer   crypto.PublicKey `json:"signer" doc:"the key that signs vouchers"`
	Amount   chain.Amount     `json:"amount_nhyper"`
	WindowMs Uint64           `json:"window_ms" doc:"from the payer's notice to the end; a second to 90 days"`
}

// FundChannel is the data of "fund_channel".
type FundChannel struct {
	Channel chain.ChannelID `json:"channel"`
	Amount  chain.Amount    `json:"amount_nhyper"`
}

// RedeemVoucher is the data of "redeem_voucher", and what a payer gives to its payee.
type RedeemVoucher struct {
	Voucher   chain.Voucher    `json:"voucher"`
	Signature crypto.Signature `json:"signature" doc:"by the channel's signer"`
}

// CloseChannel is the data of "close_channel".
type CloseChannel struct {
	Channel chain.ChannelID `json:"channel"`
}

func channelCases() []Case {
	return []Case{
		caseOf[OpenChannel]("open_channel"), caseOf[FundChannel]("fund_channel"),
		caseOf[RedeemVoucher]("redeem_voucher"), caseOf[CloseChannel]("close_channel"),
	}
}

// readChannel reads a message about a channel, and is false if the name is of none.
func readChannel(t tagged) (chain.Msg, bool, error) {
	switch t.Type {
	case "open_channel":
		d, err := dataOf[OpenChannel](t)
		return chain.OpenChannel{Payee: d.Payee, Nonce: uint64(d.Nonce), Signer: d.Signer, Amount: d.Amount, WindowMs: uint64(d.WindowMs)}, true, err
	case "fund_channel":
		d, err := dataOf[FundChannel](t)
		return chain.FundChannel{Channel: d.Channel, Amount: d.Amount}, true, err
	case "redeem_voucher":
		d, err := dataOf[RedeemVoucher](t)
		return chain.RedeemVoucher{Voucher: d.Voucher, Signature: d.Signature}, true, err
	case "close_channel":
		d, err := dataOf[CloseChannel](t)
		return chain.CloseChannel{Channel: d.Channel}, true, err
	}
	return nil, false, nil
}
