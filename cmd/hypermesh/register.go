package main

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/nexus/server"
	"github.com/hypermesh/hypermesh/sdk"
)

// clusterFeeBps is a cluster's fee unless its operator says otherwise, in
// 1/10,000 of a claim's cost.
const clusterFeeBps = 100

// registerCommand returns a subcommand that makes a key of a home known to the
// chain, paid by an account.
func registerCommand(usage, example string, action cli.ActionFunc, flags ...cli.Flag) *cli.Command {
	flags = append(append(flags, &cli.StringFlag{Name: "bond", Usage: "bond in `HYPER`; left out: the least that genesis asks for"}), accountFlags()...)
	return &cli.Command{
		Name: "register", Usage: usage, Action: action, Flags: append(flags, chainFlags()...),
		Description: "The account's key signs and pays; the home's key signs that it belongs to the account. Doing it again changes nothing.\n" + example,
	}
}

func nexusRegisterCommand() *cli.Command {
	const example = "Example: hypermesh nexus register --home /var/lib/hypermesh/nexus --endpoint https://nexus.example:7280 --rpc https://node.example:7180"
	return registerCommand("register the cluster on the chain and lock its bond", example, nexusRegister,
		homeFlag(), &cli.StringSliceFlag{Name: "endpoint", Usage: "public `URL` of a server's HTTP API", Required: true},
		&cli.UintFlag{Name: "fee-bps", Usage: "the cluster's fee in `N` 1/10,000 of a claim's cost", Value: clusterFeeBps})
}

func nexusRegister(c *cli.Context) error {
	endpoints := c.StringSlice("endpoint")
	switch {
	case len(endpoints) > chain.MaxEndpoints:
		return usagef(c, "--endpoint is given %d times, limit %d", len(endpoints), chain.MaxEndpoints)
	case slices.ContainsFunc(endpoints, func(e string) bool { return len(e) > chain.MaxEndpoint }):
		return usagef(c, "--endpoint: an endpoint has more than %d bytes", chain.MaxEndpoint)
	case c.Uint("fee-bps") > chain.MaxFeeBps:
		return usagef(c, "--fee-bps is %d, limit %d", c.Uint("fee-bps"), chain.MaxFeeBps)
	}
	key, err := node.ReadKey(filepath.Join(c.String("home"), server.ClusterKeyFile))
	if err != nil {
		return fmt.Errorf("%w (hypermesh nexus init makes it)", err)
	}
	s, err := openSender(c, filepath.Join(c.String("home"), server.GenesisFile))
	if err != nil {
		return err
	}
	bond, err := bondFromFlags(c, s.genesis.Params.ClusterBond)
	if err != nil {
		return err
	}
	out, err := s.register(c, registration{
		what: "cluster", key: key.Public(), record: settlement.ClusterKey(key.Public()), bond: bond,
		owner: func(value []byte) (chain.Address, bool, error) {
			r, err := settlement.DecodeCluster(value)
			return r.Operator, r.UnbondedMs == 0, err
		},
		message: chain.RegisterCluster{
			Cluster: key.Public(), Possession: s.possession(key), Bond: bond, FeeBps: uint16(c.Uint("fee-bps")), Endpoints: endpoints,
		},
	})
	if err != nil {
		return err
	}
	return printRegistered(c, "cluster", *out)
}

// bondFromFlags returns the bond, which is not below the least.
func bondFromFlags(c *cli.Context, least chain.Amount) (chain.Amount, error) {
	if !c.IsSet("bond") {
		return least, nil
	}
	bond, err := parseHyper(c.String("bond"))
	if err != nil {
		return bond, usagef(c, "--bond: %v", err)
	}
	if bond.Less(least) {
		return bond, usagef(c, "--bond is %s, the least is %s", bond, least)
	}
	return bond, nil
}

// possession is a key's signature that it belongs to the account.
func (s *sender) possession(key crypto.PrivateKey) crypto.Signature {
	return key.Sign(crypto.DomainPossession, chain.PossessionPayload(s.genesis.ChainID, s.account.Address()))
}

// registration is a key that the chain should know of.
type registration struct {
	what    string
	key     crypto.PublicKey
	record  []byte                                          // its key in the state
	owner   func(value []byte) (chain.Address, bool, error) // of the record, and whether it is bonded
	bond    chain.Amount
	message chain.Msg
}

// registeredResult is a registration in JSON. Sent is left out if it was there
// before.
type registeredResult struct {
	Key   crypto.PublicKey `json:"key"`
	Owner chain.Address    `json:"owner"`
	Sent  *sentResult      `json:"sent,omitempty"`
}

// register sends the message, unless the chain shows that it knows the key as
// this account's.
func (s *sender) register(c *cli.Context, r registration) (*registeredResult, error) {
	out := registeredResult{Key: r.key, Owner: s.account.Address()}
	value, err := s.client.VerifiedState(c.Context, r.record)
	if err != nil {
		return nil, fmt.Errorf("asking whether the %s is registered: %w", r.what, err)
	}
	if raw, there := value.Get(); there {
		owner, bonded, err := r.owner(raw)
		switch {
		case err != nil:
			return nil, fmt.Errorf("the %s's record: %w", r.what, err)
		case bonded && owner != out.Owner:
			return nil, fmt.Errorf("%s %s is registered already, by %s", r.what, r.key, owner)
		case bonded:
			return &out, nil
		}
	}
	holder, err := s.client.VerifiedAccount(c.Context, out.Owner)
	if err != nil {
		return nil, fmt.Errorf("asking what the account has: %w", err)
	}
	if has := holder.Spendable(); !r.bond.Less(has) {
		return nil, fmt.Errorf("%s has %s to spend: registering locks a bond of %s and costs a fee, so pay to it first", out.Owner, has, r.bond)
	}
	sent, err := s.send(c, sdk.BuilderOptions{}, r.message)
	if err != nil {
		return nil, fmt.Errorf("registering the %s: %w", r.what, err)
	}
	out.Sent = &sent
	return &out, nil
}

func printRegistered(c *cli.Context, what string, r registeredResult) error {
	switch {
	case c.Bool("json"):
		return printJSON(c, r)
	case r.Sent == nil:
		fmt.Fprintf(c.App.Writer, "%s %s is registered already, by %s\n", what, r.Key, r.Owner)
		return nil
	}
	return printSent(c, *r.Sent, fmt.Sprintf("registered   %s %s, owned by %s", what, r.Key, r.Owner))
}
