package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/devnet"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/wallet"
)

// networkFlags say which network a command talks to, and as whom.
func networkFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "config", Usage: "network description `FILE`, as devnet up --config-out writes it", EnvVars: []string{"HYPERMESH_CONFIG"}, Required: true},
		&cli.StringFlag{Name: "account", Value: "alice", Usage: "`NAME` of the description's account to act as"},
	}
}

// target is a network and an account on it.
type target struct {
	description devnet.Description
	genesis     *chain.Genesis
	client      *sdk.Client
	account     wallet.Account
}

const maxDescription = 4 << 20

// openTarget reads the network's description and makes a client that trusts its
// genesis.
func openTarget(c *cli.Context) (*target, error) {
	path := c.String("config")
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the network's description: %w", err)
	}
	if len(data) > maxDescription {
		return nil, fmt.Errorf("%s has %d bytes, limit %d", path, len(data), maxDescription)
	}
	var d devnet.Description
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if !filepath.IsAbs(d.Genesis) {
		d.Genesis = filepath.Join(filepath.Dir(path), d.Genesis)
	}
	return newTarget(d, c.String("account"))
}

func newTarget(d devnet.Description, name string) (*target, error) {
	g, err := node.ReadGenesisFile(d.Genesis)
	if err != nil {
		return nil, err
	}
	if g.ChainID != d.ChainID {
		return nil, fmt.Errorf("the description is of %s, its genesis of %s", d.ChainID, g.ChainID)
	}
	client, err := sdk.New(sdk.Config{Nodes: d.RPC, Nexus: d.Nexus, Genesis: g})
	if err != nil {
		return nil, err
	}
	for i := range d.Accounts {
		if d.Accounts[i].Name == name {
			account, err := d.Accounts[i].Wallet()
			return &target{description: d, genesis: g, client: client, account: account}, err
		}
	}
	return nil, errors.New("the network's description has no account " + name)
}
