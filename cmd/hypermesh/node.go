package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/BurntSushi/toml"
	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/node"
)

func nodeCommand() *cli.Command {
	return &cli.Command{
		Name:  "node",
		Usage: "run a validator, or a node that follows the chain and serves it",
		Subcommands: append([]*cli.Command{
			{
				Name:        "init",
				Usage:       "make a node's home: keys and config file",
				Description: "Example: hypermesh node init --home /var/lib/hypermesh/node --validator --listen 0.0.0.0:7100",
				Flags:       append([]cli.Flag{homeFlag(), &cli.BoolFlag{Name: "validator", Usage: "make a consensus key as well"}, jsonFlag()}, configFlags("node", node.DefaultConfig())...),
				Action:      nodeInit,
			},
			{
				Name:        "run",
				Usage:       "run the node in its home until interrupted",
				Description: "The home holds genesis.json, node.key and, for a validator, consensus.key.\nExample: hypermesh node run --home /var/lib/hypermesh/node",
				Flags:       append([]cli.Flag{homeFlag()}, configFlags("node", node.DefaultConfig())...),
				Action:      nodeRun,
			},
		}, operateCommands()...),
	}
}

// initResult is what a home's init prints.
type initResult struct {
	Home         string            `json:"home"`
	NodeID       crypto.PublicKey  `json:"node_id"`
	ConsensusKey *crypto.PublicKey `json:"consensus_key,omitempty"`
}

func nodeInit(c *cli.Context) error {
	config := node.DefaultConfig()
	home := c.String("home")
	if err := readConfig(c, &config); err != nil {
		return err
	}
	if err := initHome(home, config); err != nil {
		return err
	}
	key, err := makeKey(filepath.Join(home, node.NodeKeyFile))
	if err != nil {
		return err
	}
	out := initResult{Home: home, NodeID: key.Public()}
	if c.Bool("validator") {
		key, err := node.MakeConsensusKey(home)
		if err != nil {
			return err
		}
		public := key.Public()
		out.ConsensusKey = &public
	}
	if c.Bool("json") {
		return printJSON(c, out)
	}
	fmt.Fprintf(c.App.Writer, "home           %s\nnode id        %s\n", out.Home, out.NodeID)
	if out.ConsensusKey != nil {
		fmt.Fprintf(c.App.Writer, "consensus key  %s\n", out.ConsensusKey)
	}
	return nil
}

// initHome makes a role's home with its config file, which it does not replace.
func initHome(home string, config any) error {
	if err := os.MkdirAll(home, 0o700); err != nil {
		return fmt.Errorf("making the home: %w", err)
	}
	path := filepath.Join(home, configFile)
	var text bytes.Buffer
	if err := toml.NewEncoder(&text).Encode(config); err != nil {
		return fmt.Errorf("writing the config file: %w", err)
	}
	err := writeNew(path, text.Bytes(), 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already: this home is in use", path)
	}
	return err
}

// writeNew makes a file, as a whole: whoever is killed leaves none, or this one. It
// is fs.ErrExist if there is one.
func writeNew(path string, content []byte, mode fs.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return fmt.Errorf("writing a file: %w", err)
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.Write(content)
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return os.Link(f.Name(), path)
}

// makeKey makes a key file, or reads the one that is there.
func makeKey(path string) (crypto.PrivateKey, error) {
	if key, err := node.ReadKey(path); !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	key := crypto.GenerateKey()
	return key, node.WriteKey(path, key)
}

func nodeRun(c *cli.Context) error {
	config := node.DefaultConfig()
	config.Home, config.Version = c.String("home"), version()
	if err := readConfig(c, &config); err != nil {
		return err
	}
	log, err := newLogger(c, config.LogLevel)
	if err != nil {
		return err
	}
	if !config.WideSignatures {
		crypto.VerifyNarrow()
	}
	sampleAllocations(config.Pprof != "")
	config.NodeMemory = nodeCollector(c.Context)
	deps, err := node.Open(config, log)
	if err != nil {
		return err
	}
	if err := deps.Join(c.Context, config); err != nil {
		return err
	}
	n, err := node.New(config, deps)
	if err != nil {
		return err
	}
	stop, err := servePprof(config.Pprof, log)
	if err != nil {
		return err
	}
	return errors.Join(n.Run(c.Context), stop())
}
