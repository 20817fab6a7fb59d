package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

func claimCommand() *cli.Command {
	return &cli.Command{
		Name:  "claim",
		Usage: "claims: post those that an agent keeps; look at those in their windows, run them again, challenge them; and report a broken acceptance",
		Subcommands: []*cli.Command{
			claimMove("challenge", "say that a claim is wrong: three nodes that are drawn run the job again",
				func(order crypto.Digest, stake chain.Amount) chain.Msg {
					return chain.Challenge{Order: order, Stake: stake}
				}),
			claimMove("appeal", "say that those three were wrong: nine others run it again",
				func(order crypto.Digest, stake chain.Amount) chain.Msg {
					return chain.Appeal{Order: order, Stake: stake}
				}),
			claimShowCommand(),
			claimWatchCommand(),
			claimReportCommand(),
			claimExportCommand(),
			claimPostCommand(),
			claimRevealCommand(),
		},
	}
}

func claimOrderFlag() *cli.StringFlag {
	return &cli.StringFlag{Name: "order", Usage: "`ID` of the order that the claim is of", Required: true}
}

func parseClaimOrder(c *cli.Context) (crypto.Digest, error) {
	id, err := crypto.ParseDigest(c.String("order"))
	if err != nil {
		return id, usagef(c, "--order: %v", err)
	}
	return id, nil
}

// claimMove returns a subcommand that stakes on a claim.
func claimMove(name, usage string, message func(crypto.Digest, chain.Amount) chain.Msg) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage,
		Flags: append(append([]cli.Flag{
			claimOrderFlag(),
			&cli.StringFlag{Name: "stake", Usage: "the most to stake, in `HYPER`; what the chain asks is taken", DefaultText: "what the chain asks"},
		}, accountFlags()...), chainFlags()...),
		Description: "Stakes half of the policy's bond: it comes back, with a reward, if what is found in the end is against the other side, and is lost\n" +
			"if not. Shows the transaction in words and asks before it is signed.\n" +
			"Example: hypermesh claim " + name + " --order 9f86… --genesis genesis.json",
		Action: func(c *cli.Context) error {
			order, err := parseClaimOrder(c)
			if err != nil {
				return err
			}
			stake := chain.Amount{}
			if c.IsSet("stake") {
				if stake, err = parseHyper(c.String("stake")); err != nil {
					return usagef(c, "--stake: %v", err)
				}
			}
			return sendMessage(c, "", func(s *sender) (chain.Msg, error) {
				if c.IsSet("stake") {
					return message(order, stake), nil
				}
				o, err := s.openClaim(c, order)
				if err != nil {
					return nil, err
				}
				return message(order, o.StakeAsked()), nil
			})
		},
	}
}

// openClaim returns an order's claim, which must be in its window.
func (s *sender) openClaim(c *cli.Context, order crypto.Digest) (settlement.OpenClaim, error) {
	v, err := s.client.VerifiedClaim(c.Context, order)
	if err != nil {
		return settlement.OpenClaim{}, err
	}
	o, open := v.Get()
	if !open {
		return o, fmt.Errorf("order %s has no claim in its window at height %d", order, v.Height())
	}
	return o, nil
}

func claimShowCommand() *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "a claim in its window, as the state proves it",
		Description: "Example: hypermesh claim show --order 9f86… --genesis genesis.json",
		Flags:       append(append([]cli.Flag{claimOrderFlag()}, accountFlags()...), chainFlags()...),
		Action:      claimShow,
	}
}

// claimLine is a claim in JSON; without Open there is none, or no longer.
type claimLine struct {
	Order      crypto.Digest    `json:"order"`
	Open       bool             `json:"open"`
	Stage      string           `json:"stage,omitempty"`
	Node       crypto.PublicKey `json:"node_id"`
	Provider   chain.Address    `json:"provider"`
	Consumer   chain.Address    `json:"consumer"`
	Cluster    crypto.PublicKey `json:"cluster"`
	Spec       crypto.Digest    `json:"spec"`
	Result     crypto.Digest    `json:"result"`
	Held       chain.Amount     `json:"held_nhyper"`
	Premium    chain.Amount     `json:"premium_nhyper"`
	Bond       chain.Amount     `json:"bond_nhyper"`
	Stake      chain.Amount     `json:"stake_asked_nhyper"`
	EndsMs     chain.Number     `json:"ends_ms"` // of the chain's progress; 0: it waits for something else
	Challenger chain.Address    `json:"challenger,omitzero"`
	Verdict    *chain.Vote      `json:"verdict,omitempty"` // of the first panel
	Appellant  chain.Address    `json:"appellant,omitzero"`
	Height     chain.Height     `json:"height"`
}

func claimShow(c *cli.Context) error {
	order, err := parseClaimOrder(c)
	if err != nil {
		return err
	}
	s, err := openSender(c, "")
	if err != nil {
		return err
	}
	v, err := s.client.VerifiedClaim(c.Context, order)
	if err != nil {
		return err
	}
	o, open := v.Get()
	line := claimLine{Order: order, Open: open, Height: v.Height()}
	if open {
		line.Stage, line.Node, line.Provider, line.Consumer, line.Cluster = o.Stage.String(), o.Claim.Node, o.Claim.Provider, o.Consumer, o.Cluster
		line.Spec, line.Result, line.Held, line.Premium, line.Bond = o.Spec, o.Claim.Result, o.Held, o.Premium, o.Bond
		line.Stake, line.EndsMs, line.Verdict = o.StakeAsked(), chain.Number(o.Due), o.First
		if o.Challenger != nil {
			line.Challenger = o.Challenger.By
		}
		if o.Appellant != nil {
			line.Appellant = o.Appellant.By
		}
	}
	if c.Bool("json") {
		return printJSON(c, line)
	}
	if !open {
		fmt.Fprintf(c.App.Writer, "no claim of order %s in its window at height %d\n", order, line.Height)
		return nil
	}
	fmt.Fprintf(c.App.Writer, "order       %s\nstage       %s\nnode        %s\nprovider    %s\nconsumer    %s\ncluster     %s\nresult      %s\n",
		order, line.Stage, line.Node, line.Provider, line.Consumer, line.Cluster, line.Result)
	fmt.Fprintf(c.App.Writer, "holds       %s\nstaked      %s by the provider and the cluster each\nheight      %d\n", line.Held, line.Bond, line.Height)
	return nil
}
