package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

func channelCommand() *cli.Command {
	return &cli.Command{
		Name:  "channel",
		Usage: "pay by vouchers that need no transaction each",
		Subcommands: []*cli.Command{
			channelOpenCommand(),
			channelMove("fund", "add HYPER to a channel", "--amount 10", channelFund, amountFlag(false)),
			channelVoucherCommand(),
			channelRedeemCommand(),
			channelMove("close", "end a channel: at once as its payee, after its window as its payer", "", channelClose),
			channelShowCommand(),
			channelWatchCommand(),
		},
	}
}

func channelFlag() *cli.StringFlag {
	return &cli.StringFlag{Name: "channel", Usage: "`ID` of the channel", Required: true}
}

func parseChannel(c *cli.Context) (chain.ChannelID, error) {
	id, err := crypto.ParseDigest(c.String("channel"))
	if err != nil {
		return id, usagef(c, "--channel: %v", err)
	}
	return id, nil
}

func channelOpenCommand() *cli.Command {
	return &cli.Command{
		Name: "open", Usage: "set HYPER aside for somebody, who is paid out of it by vouchers",
		Description: "What is not promised comes back: at once if the payee closes the channel, else a window after the payer's notice.\n" +
			"Example: hypermesh channel open --to hyper1… --amount 10 --window 24h --genesis genesis.json",
		Flags: append(append([]cli.Flag{
			&cli.StringFlag{Name: "to", Usage: "`ADDRESS` that is paid", Required: true},
			amountFlag(false),
			&cli.DurationFlag{Name: "window", Usage: "`TIME` that the payee has to redeem after the payer's notice", Value: 24 * time.Hour},
		}, accountFlags()...), chainFlags()...),
		Action: channelOpen,
	}
}

// openedChannel is a channel that was opened, in JSON.
type openedChannel struct {
	sentResult
	Channel chain.ChannelID `json:"channel"`
}

func channelOpen(c *cli.Context) error {
	to, err := chain.ParseAddress(c.String("to"))
	if err != nil {
		return usagef(c, "--to: %v", err)
	}
	amount, err := parseHyper(c.String("amount"))
	if err != nil {
		return usagef(c, "--amount: %v", err)
	}
	window := c.Duration("window").Milliseconds()
	if window < chain.MinChannelWindowMs || window > chain.MaxNoticeMs {
		return usagef(c, "--window is %v, want %v to %v", c.Duration("window"), chain.MinChannelWindowMs*time.Millisecond, chain.MaxNoticeMs*time.Millisecond)
	}
	s, err := openSender(c, "")
	if err != nil {
		return err
	}
	signer, err := s.account.AccountKey().Ed25519()
	if err != nil {
		return err
	}
	m := chain.OpenChannel{Payee: to, Nonce: uint64(time.Now().UnixNano()), Signer: signer, Amount: amount, WindowMs: uint64(window)}
	r, err := s.send(c, sdk.BuilderOptions{}, m)
	if err != nil {
		return err
	}
	id := chain.ChannelOf(s.genesis.ChainID, s.account.Address(), to, r.Height, m.Nonce)
	if c.Bool("json") {
		return printJSON(c, openedChannel{sentResult: r, Channel: id})
	}
	return printSent(c, r, "channel      "+id.String())
}

// channelMove returns a subcommand that sends a message about one channel.
func channelMove(name, usage, example string, message func(*cli.Context, chain.ChannelID) (chain.Msg, error), flags ...cli.Flag) *cli.Command {
	if example != "" {
		example = " " + example
	}
	return &cli.Command{
		Name: name, Usage: usage, Flags: append(append(append([]cli.Flag{channelFlag()}, flags...), accountFlags()...), chainFlags()...),
		Description: "Shows the transaction in words and asks before it is signed.\nExample: hypermesh channel " + name + " --channel 9f86… --genesis genesis.json" + example,
		Action: func(c *cli.Context) error {
			id, err := parseChannel(c)
			if err != nil {
				return err
			}
			m, err := message(c, id)
			if err != nil {
				return err
			}
			return sendMessage(c, "", func(*sender) (chain.Msg, error) { return m, nil })
		},
	}
}

func channelFund(c *cli.Context, id chain.ChannelID) (chain.Msg, error) {
	amount, err := parseHyper(c.String("amount"))
	if err != nil {
		return nil, usagef(c, "--amount: %v", err)
	}
	return chain.FundChannel{Channel: id, Amount: amount}, nil
}

func channelClose(_ *cli.Context, id chain.ChannelID) (chain.Msg, error) {
	return chain.CloseChannel{Channel: id}, nil
}

func channelVoucherCommand() *cli.Command {
	return &cli.Command{
		Name: "voucher", Usage: "sign a voucher: the payee's total since the channel was opened",
		Description: "Prints the voucher, which is for the payee alone to see; nothing is sent. Totals only grow: the newest voucher is worth all before it.\n" +
			"Example: hypermesh channel voucher --channel 9f86… --total 3.5 --genesis genesis.json > voucher.json",
		Flags: append(append([]cli.Flag{
			channelFlag(),
			&cli.StringFlag{Name: "total", Usage: "`HYPER` promised in all", Required: true},
			&cli.StringFlag{Name: "lease", Usage: "`ID` of the order of the lease that it pays"},
		}, accountFlags()...), chainFlags()...),
		Action: channelVoucher,
	}
}

func channelVoucher(c *cli.Context) error {
	id, err := parseChannel(c)
	if err != nil {
		return err
	}
	v := chain.Voucher{Channel: id}
	if v.Total, err = parseHyper(c.String("total")); err != nil {
		return usagef(c, "--total: %v", err)
	}
	if c.String("lease") != "" {
		if v.Lease, err = crypto.ParseDigest(c.String("lease")); err != nil {
			return usagef(c, "--lease: %v", err)
		}
	}
	s, err := openSender(c, "")
	if err != nil {
		return err
	}
	v.ChainID = s.genesis.ChainID
	signature, err := s.account.Sign(crypto.DomainVoucher, v.Payload())
	if err != nil {
		return err
	}
	return printJSON(c, api.RedeemVoucher{Voucher: v, Signature: signature})
}

func channelRedeemCommand() *cli.Command {
	return &cli.Command{
		Name: "redeem", Usage: "have the payee paid what a voucher promises",
		Description: "Anyone may send it.\nExample: hypermesh channel redeem --voucher voucher.json --genesis genesis.json",
		Flags: append(append([]cli.Flag{
			&cli.StringFlag{Name: "voucher", Usage: "`FILE` with the voucher", Required: true},
		}, accountFlags()...), chainFlags()...),
		Action: func(c *cli.Context) error {
			m, err := readVoucher(c.String("voucher"))
			if err != nil {
				return err
			}
			return sendMessage(c, "", func(*sender) (chain.Msg, error) { return m, nil })
		},
	}
}

// maxVoucherBytes bounds a voucher's file.
const maxVoucherBytes = 4 << 10

func readVoucher(path string) (chain.RedeemVoucher, error) {
	var form api.RedeemVoucher
	if err := readJSONFile(path, maxVoucherBytes, &form); err != nil {
		return chain.RedeemVoucher{}, err
	}
	return chain.RedeemVoucher{Voucher: form.Voucher, Signature: form.Signature}, nil
}

func channelShowCommand() *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "a channel, as the state proves it",
		Description: "Example: hypermesh channel show --channel 9f86… --genesis genesis.json",
		Flags:       append(append([]cli.Flag{channelFlag()}, accountFlags()...), chainFlags()...),
		Action:      channelShow,
	}
}

// channelLine is a channel in JSON; without Open there is none, or no longer.
type channelLine struct {
	Channel  chain.ChannelID  `json:"channel"`
	Open     bool             `json:"open"`
	Payer    chain.Address    `json:"payer"`
	Payee    chain.Address    `json:"payee"`
	Signer   crypto.PublicKey `json:"signer"`
	Held     chain.Amount     `json:"held_nhyper"`
	Redeemed chain.Amount     `json:"redeemed_nhyper"`
	WindowMs uint64           `json:"window_ms"`
	Closing  bool             `json:"closing"`
	Height   chain.Height     `json:"height"`
}

func channelShow(c *cli.Context) error {
	id, err := parseChannel(c)
	if err != nil {
		return err
	}
	s, err := openSender(c, "")
	if err != nil {
		return err
	}
	v, err := s.client.VerifiedChannel(c.Context, id)
	if err != nil {
		return err
	}
	ch, open := v.Get()
	line := channelLine{
		Channel: id, Open: open, Payer: ch.Payer, Payee: ch.Payee, Signer: ch.Signer, Held: ch.Held, Redeemed: ch.Redeemed,
		WindowMs: ch.WindowMs, Closing: ch.Ends != 0, Height: v.Height(),
	}
	switch {
	case c.Bool("json"):
		return printJSON(c, line)
	case !line.Open:
		fmt.Fprintf(c.App.Writer, "no channel %s at height %d\n", id, line.Height)
		return nil
	}
	state := "open"
	if line.Closing {
		state = "closing: what is not redeemed within the window goes back to the payer"
	}
	fmt.Fprintf(c.App.Writer, "channel     %s\npayer       %s\npayee       %s\nsigner      %s\nholds       %s\nredeemed    %s\nwindow      %v\nstate       %s\nheight      %d\n",
		id, ch.Payer, ch.Payee, ch.Signer, ch.Held, ch.Redeemed, time.Duration(ch.WindowMs)*time.Millisecond, state, line.Height)
	return nil
}
