package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/devnet"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/wallet"
)

// configFlag names the network's description.
func configFlag() *cli.StringFlag {
	return &cli.StringFlag{Name: "config", Usage: "network description `FILE`, as devnet up --config-out writes it", EnvVars: []string{"HYPERMESH_CONFIG"}}
}

// networkFlags say which network a command talks to, and as whom.
func networkFlags() []cli.Flag {
	config := configFlag()
	config.Required = true
	return append([]cli.Flag{config}, accountFlags()...)
}

// target is a network and an account on it.
type target struct {
	description devnet.Description
	genesis     *chain.Genesis
	client      *sdk.Client
	account     wallet.Account
}

const maxDescription = 4 << 20

// readDescription reads a network's description. Its genesis file is named
// relative to it.
func readDescription(path string) (d devnet.Description, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return d, fmt.Errorf("reading the network's description: %w; whoever runs the network publishes it, and hypermesh devnet up --config-out FILE writes that of a network of your own", err)
	}
	if err != nil {
		return d, fmt.Errorf("reading the network's description: %w", err)
	}
	if len(data) > maxDescription {
		return d, fmt.Errorf("%s has %d bytes, limit %d", path, len(data), maxDescription)
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return d, fmt.Errorf("%s: %w", path, err)
	}
	if d.Genesis == "" {
		return d, fmt.Errorf("%s: genesis is missing: want the path of the chain's genesis file", path)
	}
	if !filepath.IsAbs(d.Genesis) {
		d.Genesis = filepath.Join(filepath.Dir(path), d.Genesis)
	}
	return d, nil
}

// openTarget reads the network's description and the account, and makes a client
// that trusts the network's genesis.
func openTarget(c *cli.Context) (*target, error) {
	t, err := openNetwork(c.String("config"))
	if err != nil {
		return nil, err
	}
	t.account, err = openAccount(c, t.description.Accounts)
	return t, err
}

// newTarget is a described network and one of the description's accounts.
func newTarget(d devnet.Description, name string) (*target, error) {
	t, err := networkOf(d, "")
	if err != nil {
		return nil, err
	}
	t.account, err = describedAccount(d.Accounts, name)
	return t, err
}

// openNetwork returns a target without an account.
func openNetwork(path string) (*target, error) {
	d, err := readDescription(path)
	if err != nil {
		return nil, err
	}
	return networkOf(d, path)
}

// networkOf is openNetwork for a description that was read from a path, or
// from none.
func networkOf(d devnet.Description, path string) (*target, error) {
	g, err := node.ReadGenesisFile(d.Genesis)
	if err != nil {
		return nil, err
	}
	if g.ChainID != d.ChainID {
		return nil, fmt.Errorf("the description is of %s, its genesis of %s", d.ChainID, g.ChainID)
	}
	client, err := clientOf(path, sdk.Config{Nodes: d.RPC, Nexus: d.Nexus, Genesis: g, Cluster: d.Cluster})
	return &target{description: d, genesis: g, client: client}, err
}

// serversSuffix is of the file beside a description that has what the cluster said
// of its servers: the commands that follow find them though those of the
// description are gone. It is signed with the cluster's key, which the
// description names.
const serversSuffix = ".servers"

// clientOf returns a client that keeps what it learns of the cluster's servers
// beside the network's description, if that was read from a path.
func clientOf(path string, config sdk.Config) (*sdk.Client, error) {
	if path == "" {
		return sdk.New(config)
	}
	return sdk.NewKept(path+serversSuffix, config, func(err error) {
		if !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EROFS) { // another's description, say
			fmt.Fprintf(os.Stderr, "hypermesh: %v\n", err)
		}
	})
}
