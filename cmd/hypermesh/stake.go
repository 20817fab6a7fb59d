package main

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/sdk"
)

func stakeCommand() *cli.Command {
	return &cli.Command{
		Name:  "stake",
		Usage: "become a validator, or delegate to one",
		Subcommands: []*cli.Command{
			stakeBondCommand(),
			stakeMove("delegate", "add HYPER to the account's stake at a validator", "--amount 100", stakeDelegate, amountFlag(false)),
			stakeMove("undelegate", "take stake out of a validator; it arrives after the unbonding period", "--all", stakeUndelegate, amountFlag(true), allFlag()),
			stakeMove("redelegate", "move stake to another validator at once; it stays liable for the first one", "--to 9f86… --amount 100", stakeRedelegate,
				&cli.StringFlag{Name: "to", Usage: "`KEY` that names the other validator", Required: true}, amountFlag(true), allFlag()),
			stakeMove("withdraw", "take what the account has earned at a validator", "--restake", stakeWithdraw,
				&cli.BoolFlag{Name: "restake", Usage: "delegate it to the validator instead"}),
			stakeMove("commission", "set the validator's share of its delegators' rewards, from the next epoch on", "--percent 5", stakeCommission,
				&cli.StringFlag{Name: "percent", Usage: "`PERCENT`, with up to two digits after the point", Required: true}),
			stakeRotateCommand(),
			stakeMove("unjail", "let a validator that was jailed for silence back into committees", "", stakeUnjail),
			stakeMove("affiliate", "count a provider node's burned fees for the validator", "--home ~/.hypermesh/agent", stakeAffiliate,
				&cli.StringFlag{Name: "home", Usage: "`DIR` of the agent, whose node key consents", Required: true}),
			stakeUnaffiliateCommand(),
			stakeReportCommand(),
			stakeShowCommand(),
		},
	}
}

func amountFlag(optional bool) *cli.StringFlag {
	return &cli.StringFlag{Name: "amount", Usage: "`HYPER`, such as 12.5", Required: !optional}
}

func allFlag() *cli.BoolFlag {
	return &cli.BoolFlag{Name: "all", Usage: "all of it, in place of --amount"}
}

// stakeMove returns a subcommand about one validator.
func stakeMove(name, usage, example string, message func(*cli.Context, *sender, crypto.PublicKey) (chain.Msg, error), flags ...cli.Flag) *cli.Command {
	flags = append([]cli.Flag{&cli.StringFlag{Name: "validator", Usage: "`KEY` that names the validator: the consensus key that it began with", Required: true}}, flags...)
	return &cli.Command{
		Name: name, Usage: usage, Flags: append(append(flags, accountFlags()...), chainFlags()...),
		Description: strings.TrimSpace("Shows the transaction in words and asks before it is signed.\nExample: hypermesh stake " + name +
			" --validator 0a1b… --genesis genesis.json " + example),
		Action: func(c *cli.Context) error {
			validator, err := parseKey(c, "validator")
			if err != nil {
				return err
			}
			return sendMessage(c, "", func(s *sender) (chain.Msg, error) { return message(c, s, validator) })
		},
	}
}

func parseKey(c *cli.Context, flag string) (crypto.PublicKey, error) {
	key, err := crypto.ParsePublicKey(c.String(flag))
	if err != nil {
		return key, usagef(c, "--%s: %v", flag, err)
	}
	return key, nil
}

// amountOrAll returns what --amount says, and zero, which stands for all of it,
// if --all is given.
func amountOrAll(c *cli.Context) (chain.Amount, error) {
	if c.Bool("all") == c.IsSet("amount") {
		return chain.Amount{}, usagef(c, "give either --amount or --all")
	}
	if c.Bool("all") {
		return chain.Amount{}, nil
	}
	amount, err := parseHyper(c.String("amount"))
	if err == nil && amount.IsZero() {
		err = fmt.Errorf("%q is nothing", c.String("amount"))
	}
	if err != nil {
		return amount, usagef(c, "--amount: %v", err)
	}
	return amount, nil
}

// parsePercent reads 0 to 100 with up to two digits after the point, as 1/10,000.
func parsePercent(text string) (uint16, error) {
	const whole = 10_000
	percent, fraction, point := strings.Cut(text, ".")
	if point && (fraction == "" || len(fraction) > 2) {
		return 0, fmt.Errorf("%.20q is not a percentage such as 5 or 2.25", text)
	}
	bps, err := strconv.ParseUint(percent+fraction+strings.Repeat("0", 2-len(fraction)), 10, 16)
	if err != nil || percent == "" || bps > whole {
		return 0, fmt.Errorf("%.20q is not a percentage from 0 to 100", text)
	}
	return uint16(bps), nil
}

func stakeDelegate(c *cli.Context, _ *sender, validator crypto.PublicKey) (chain.Msg, error) {
	amount, err := amountOrAll(c)
	return chain.Delegate{Validator: validator, Amount: amount}, err
}

func stakeUndelegate(c *cli.Context, _ *sender, validator crypto.PublicKey) (chain.Msg, error) {
	amount, err := amountOrAll(c)
	return chain.Undelegate{Validator: validator, Amount: amount}, err
}

func stakeRedelegate(c *cli.Context, _ *sender, validator crypto.PublicKey) (chain.Msg, error) {
	to, err := parseKey(c, "to")
	if err != nil {
		return nil, err
	}
	amount, err := amountOrAll(c)
	return chain.Redelegate{From: validator, To: to, Amount: amount}, err
}

func stakeWithdraw(c *cli.Context, _ *sender, validator crypto.PublicKey) (chain.Msg, error) {
	return chain.WithdrawRewards{Validator: validator, Restake: c.Bool("restake")}, nil
}

func stakeCommission(c *cli.Context, _ *sender, validator crypto.PublicKey) (chain.Msg, error) {
	bps, err := parsePercent(c.String("percent"))
	if err != nil {
		return nil, usagef(c, "--percent: %v", err)
	}
	return chain.SetCommission{Validator: validator, Bps: bps}, nil
}

func stakeUnjail(_ *cli.Context, _ *sender, validator crypto.PublicKey) (chain.Msg, error) {
	return chain.Unjail{Validator: validator}, nil
}

func stakeAffiliate(c *cli.Context, s *sender, validator crypto.PublicKey) (chain.Msg, error) {
	key, err := readHomeKey(c.String("home"), node.NodeKeyFile)
	if err != nil {
		return nil, err
	}
	consent := key.Sign(crypto.DomainAffiliation, chain.AffiliationPayload(s.genesis.ChainID, validator))
	return chain.Affiliate{Validator: validator, Node: key.Public(), Consent: consent}, nil
}

// readHomeKey reads a key file of a home.
func readHomeKey(home, name string) (crypto.PrivateKey, error) {
	key, err := node.ReadKey(filepath.Join(home, name))
	if err != nil {
		return key, fmt.Errorf("%w (an init command makes it)", err)
	}
	return key, nil
}

func stakeBondCommand() *cli.Command {
	return &cli.Command{
		Name: "bond", Usage: "make a node a validator, owned by the account, with a stake of its own",
		Description: "The node's home holds consensus.key and node.key (hypermesh node init --validator makes them); both sign that they belong to the account.\n" +
			"The validator is in the committee from the second epoch after this one on, if its stake is among the largest.\n" +
			"Example: hypermesh stake bond --home /var/lib/hypermesh/node --name home-1 --endpoint node.example:7100 --amount 10000",
		Flags: append(append([]cli.Flag{
			homeFlag(), amountFlag(false),
			&cli.StringFlag{Name: "name", Usage: "`NAME` for people", Required: true},
			&cli.StringFlag{Name: "endpoint", Usage: "public `HOST:PORT` of the node's transport, or NODEID@HOST:PORT of a sentry", Required: true},
			&cli.StringFlag{Name: "commission", Usage: "`PERCENT` of its delegators' rewards", Value: "5"},
		}, accountFlags()...), chainFlags()...),
		Action: stakeBond,
	}
}

func stakeBond(c *cli.Context) error {
	home := c.String("home")
	bps, err := parsePercent(c.String("commission"))
	if err != nil {
		return usagef(c, "--commission: %v", err)
	}
	amount, err := parseHyper(c.String("amount"))
	if err != nil {
		return usagef(c, "--amount: %v", err)
	}
	consensusKey, err := readHomeKey(home, node.ConsensusKeyFile)
	if err != nil {
		return err
	}
	nodeKey, err := readHomeKey(home, node.NodeKeyFile)
	if err != nil {
		return err
	}
	return sendMessage(c, filepath.Join(home, node.GenesisFile), func(s *sender) (chain.Msg, error) {
		return chain.Bond{
			ConsensusKey: consensusKey.Public(), Possession: s.possession(consensusKey),
			NodeKey: nodeKey.Public(), NodePossession: s.possession(nodeKey),
			Name: c.String("name"), Endpoint: c.String("endpoint"), CommissionBps: bps, Amount: amount,
		}, nil
	})
}

func stakeRotateCommand() *cli.Command {
	return stakeMove("rotate", "give the validator other keys or another endpoint, for the committees that are made from now on",
		"--consensus-key-file next.key --node-key-file node.key --endpoint node.example:7100", stakeRotate,
		&cli.StringFlag{Name: "consensus-key-file", Usage: "`FILE` of the consensus key to come", Required: true},
		&cli.StringFlag{Name: "node-key-file", Usage: "`FILE` of the node key to come", Required: true},
		&cli.StringFlag{Name: "endpoint", Usage: "public `HOST:PORT` of the node's transport, or NODEID@HOST:PORT of a sentry", Required: true})
}

func stakeRotate(c *cli.Context, s *sender, validator crypto.PublicKey) (chain.Msg, error) {
	consensusKey, err := node.ReadKey(c.String("consensus-key-file"))
	if err != nil {
		return nil, err
	}
	nodeKey, err := node.ReadKey(c.String("node-key-file"))
	if err != nil {
		return nil, err
	}
	return chain.RotateKeys{
		Validator: validator, ConsensusKey: consensusKey.Public(), Possession: s.possession(consensusKey),
		NodeKey: nodeKey.Public(), NodePossession: s.possession(nodeKey), Endpoint: c.String("endpoint"),
	}, nil
}

func stakeUnaffiliateCommand() *cli.Command {
	return &cli.Command{
		Name: "unaffiliate", Usage: "end a provider node's affiliation; the validator's or the node's owner does it",
		Description: "Example: hypermesh stake unaffiliate --node 0a1b… --genesis genesis.json",
		Flags: append(append([]cli.Flag{&cli.StringFlag{Name: "node", Usage: "`KEY` of the provider node", Required: true}},
			accountFlags()...), chainFlags()...),
		Action: func(c *cli.Context) error {
			key, err := parseKey(c, "node")
			if err != nil {
				return err
			}
			return sendMessage(c, "", func(*sender) (chain.Msg, error) { return chain.Unaffiliate{Node: key}, nil })
		},
	}
}

func stakeReportCommand() *cli.Command {
	return &cli.Command{
		Name: "report", Usage: "convict validators by evidence, for a share of what is slashed", ArgsUsage: "EVIDENCE.hex",
		Description: "The file holds the evidence in hexadecimal, as a node's log shows it.\nExample: hypermesh stake report evidence.hex --genesis genesis.json",
		Flags:       append(accountFlags(), chainFlags()...),
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usagef(c, "want one EVIDENCE.hex, got %d arguments", c.NArg())
			}
			text, err := os.ReadFile(c.Args().First())
			if err != nil {
				return fmt.Errorf("reading the evidence: %w", err)
			}
			evidence, err := hex.DecodeString(strings.TrimSpace(string(text)))
			if err != nil || len(evidence) > chain.MaxEvidence {
				return fmt.Errorf("%s does not hold up to %d bytes in hexadecimal", c.Args().First(), chain.MaxEvidence)
			}
			return sendMessage(c, "", func(*sender) (chain.Msg, error) { return chain.ReportEvidence{Evidence: evidence}, nil })
		},
	}
}

func stakeShowCommand() *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "a validator, and the account's stake there, as the state proves them",
		Description: "Example: hypermesh stake show --validator 0a1b… --account main --genesis genesis.json",
		Flags: append(append([]cli.Flag{&cli.StringFlag{Name: "validator", Usage: "`KEY` that names the validator", Required: true}},
			accountFlags()...), chainFlags()...),
		Action: stakeShow,
	}
}

// stakeLine is a validator and an account's part of it, in JSON.
type stakeLine struct {
	Validator     crypto.PublicKey `json:"validator"`
	ConsensusKey  crypto.PublicKey `json:"consensus_key"`
	Name          string           `json:"name"`
	Endpoint      string           `json:"endpoint"`
	Owner         chain.Address    `json:"owner"`
	Stake         chain.Amount     `json:"stake_nhyper"`
	SelfBond      chain.Amount     `json:"self_bond_nhyper"`
	CommissionBps uint16           `json:"commission_bps"`
	FactorBps     uint16           `json:"resource_factor_bps"`
	JailedUntil   chain.TimeMs     `json:"jailed_until_ms,omitempty"`
	Tombstoned    bool             `json:"tombstoned"`
	Delegator     chain.Address    `json:"delegator"`
	Delegated     chain.Amount     `json:"delegated_nhyper"`
	Fresh         []sdk.FreshStake `json:"fresh,omitempty"` // of what is delegated
	Height        chain.Height     `json:"height"`
}

func stakeShow(c *cli.Context) error {
	id, err := parseKey(c, "validator")
	if err != nil {
		return err
	}
	s, err := openSender(c, "")
	if err != nil {
		return err
	}
	v, stake, err := s.client.VerifiedStake(c.Context, s.account.Address(), id)
	if err != nil {
		return err
	}
	r := v.Record()
	line := stakeLine{
		Validator: id, ConsensusKey: r.ConsensusKey, Name: r.Name, Endpoint: r.Endpoint, Owner: r.Owner, Stake: r.Stake, SelfBond: r.SelfBond(),
		CommissionBps: r.Commission.Bps, FactorBps: r.FactorBps, JailedUntil: r.JailedUntil, Tombstoned: r.Tombstoned,
		Delegator: s.account.Address(), Delegated: stake.Worth, Fresh: stake.Fresh, Height: v.Height(),
	}
	if c.Bool("json") {
		return printJSON(c, line)
	}
	fmt.Fprintf(c.App.Writer, "validator   %s\nname        %q\nendpoint    %q\nowner       %s\nstake       %s\nself bond   %s\ncommission  %d.%02d %%\nstanding    %s\ndelegated   %s by %s\n",
		line.Validator, line.Name, line.Endpoint, line.Owner, line.Stake, line.SelfBond, line.CommissionBps/100, line.CommissionBps%100,
		standing(line), line.Delegated, line.Delegator)
	for _, f := range line.Fresh {
		fmt.Fprintf(c.App.Writer, "fresh       %s of it earn from epoch %d on\n", f.Worth, f.EarnsFrom)
	}
	fmt.Fprintf(c.App.Writer, "height      %d\n", line.Height)
	return nil
}

// standing says whether a validator may be in committees.
func standing(l stakeLine) string {
	switch {
	case l.Tombstoned:
		return "convicted, out for ever"
	case l.JailedUntil != 0:
		return fmt.Sprintf("jailed until %d ms, and until its owner unjails it", l.JailedUntil)
	}
	return "good"
}
