package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/devnet"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/nexus/agent"
)

// How an agent and its owner come together: the agent's home has the node's key
// and no other; the owner's wallet signs a transaction that binds that key to the
// owner's account, which is paid. The node's key signs that it wants to be bound
// (chain.PossessionPayload). Where both are on one machine, agent init does it
// all; else agent init leaves a pairing file, which is public, and agent pair
// takes it to the chain on the machine with the wallet.

// pairingFile is what a wallet on another machine needs to know of the node.
const pairingFile = "pairing.json"

const maxPairing = 16 << 10

// pairing is the file's content.
type pairing struct {
	ChainID    chain.ChainID    `json:"chain_id"`
	Node       crypto.PublicKey `json:"node"`
	Owner      chain.Address    `json:"owner"`
	Possession crypto.Signature `json:"possession"` // by the node's key, for this chain and owner
	Region     string           `json:"region"`
	Millicores uint64           `json:"millicores"`
	MemoryMiB  uint64           `json:"memory_mib"`
}

func newPairing(chainID chain.ChainID, key crypto.PrivateKey, owner chain.Address, config *agent.Config) pairing {
	return pairing{
		ChainID: chainID, Node: key.Public(), Owner: owner, Possession: key.Sign(crypto.DomainPossession, chain.PossessionPayload(chainID, owner)),
		Region: config.Region, Millicores: config.Millicores, MemoryMiB: config.MemoryMiB,
	}
}

func agentInitCommand() *cli.Command {
	flags := append([]cli.Flag{agentHomeFlag(), configFlag(), bondFlag(), &cli.BoolFlag{Name: "yes", Usage: "sign without asking"}, jsonFlag()}, accountFlags()...)
	return &cli.Command{
		Name: "init", Usage: "make an agent's home, pair it with its owner's wallet, and register it on the chain",
		Description: "Makes the node's key and config.toml. With the owner's wallet on this machine it then shows, signs and sends the registration; the\n" +
			"wallet's keys do not enter the home. With --owner ADDRESS instead, it leaves " + pairingFile + " for hypermesh agent pair on the machine that\n" +
			"has the wallet. Doing it again does what is still missing. config.toml has every setting, to be changed at any time.\n" +
			"Example: hypermesh agent init --config net.json --region eu --millicores 4000 --memory-mib 8192\n" +
			"Example: hypermesh agent init --owner hyper1… --genesis genesis.json --rpc https://node.example:7180 --server NODEID@HOST:PORT",
		Flags: append(flags, configFlags("agent", agent.DefaultConfig())...), Action: agentInit,
	}
}

func agentRegisterCommand() *cli.Command {
	const example = "Example: hypermesh agent register --rpc https://node.example:7180"
	return registerCommand("register the agent's node on the chain, as config.toml declares it, and lock its bond", example, agentRegister, agentHomeFlag())
}

func agentPairCommand() *cli.Command {
	flags := append([]cli.Flag{bondFlag()}, accountFlags()...)
	return &cli.Command{
		Name: "pair", Usage: "register a node whose agent runs on another machine than the owner's wallet", ArgsUsage: "PAIRING.json",
		Description: "PAIRING.json is what hypermesh agent init --owner left in the agent's home. It holds nothing secret, and serves its owner alone.\n" +
			"Example: hypermesh agent pair pairing.json --config net.json\n" +
			"Example: hypermesh agent pair pairing.json --genesis genesis.json --rpc https://node.example:7180",
		Flags: append(flags, chainFlags()...), Action: agentPair,
	}
}

func bondFlag() cli.Flag {
	return &cli.StringFlag{Name: "bond", Usage: "bond in `HYPER`; left out: the least that genesis asks for"}
}

// agentInitResult is what agent init did, in JSON.
type agentInitResult struct {
	Home       string            `json:"home"`
	Node       crypto.PublicKey  `json:"node"`
	Owner      chain.Address     `json:"owner"`
	Made       bool              `json:"made"` // false: the home was there
	Registered *registeredResult `json:"registered,omitempty"`
	Pairing    string            `json:"pairing,omitempty"` // the file for agent pair
}

func agentInit(c *cli.Context) error {
	d, err := describedNetwork(c)
	if err != nil {
		return err
	}
	config, made, err := agentHomeFor(c, &d)
	if err != nil {
		return err
	}
	key, err := makeKey(filepath.Join(config.Home, agent.NodeKeyFile))
	if err != nil {
		return err
	}
	owner, err := chain.ParseAddress(config.Owner)
	if err != nil {
		return err
	}
	out := agentInitResult{Home: config.Home, Node: key.Public(), Owner: owner, Made: made}
	if !c.Bool("json") {
		printAgentHome(c, &config, &out)
	}
	if c.IsSet("owner") && !namesAccount(c) {
		return leavePairing(c, &config, key, &out)
	}
	registered, err := pairHere(c, &config, &d)
	switch {
	case errors.Is(err, errInterrupted), err != nil && c.Context.Err() != nil:
		return fmt.Errorf("the home is whole, and its node may not be registered yet: %w; the same command goes on from there", err)
	case err != nil:
		return fmt.Errorf("the home is made, and its node is not registered: %w; run the same command again once that is mended", err)
	}
	out.Registered = registered
	if c.Bool("json") {
		return printJSON(c, out)
	}
	if err := printRegistered(c, "provider node", *registered); err != nil {
		return err
	}
	fmt.Fprintf(c.App.ErrWriter, "Next: hypermesh agent up%s\n", homeArg(c))
	return nil
}

// describedNetwork is the network's description, if one is named.
func describedNetwork(c *cli.Context) (devnet.Description, error) {
	if c.String("config") == "" {
		return devnet.Description{}, nil
	}
	return readDescription(c.String("config"))
}

// namesAccount reports whether the command line says which account acts.
func namesAccount(c *cli.Context) bool {
	return c.IsSet("account") || c.IsSet("wallet") || c.IsSet("key-file")
}

// homeArg is what a further command needs to find the same home.
func homeArg(c *cli.Context) string {
	if c.String("home") == defaultAgentHome() {
		return ""
	}
	return " --home " + c.String("home")
}

// agentHomeFor makes the home, or reads the config of the one that is there.
func agentHomeFor(c *cli.Context, d *devnet.Description) (config agent.Config, made bool, err error) {
	config = agent.DefaultConfig()
	config.Home = c.String("home")
	if _, err := os.Stat(filepath.Join(config.Home, configFile)); err == nil {
		if err := existingAgent(c, &config); err != nil {
			return config, false, err
		}
		if config.Genesis != "" {
			return config, false, nil
		}
		return config, false, bringGenesis(config.Home, cmp.Or(c.String("genesis"), d.Genesis))
	} else if !errors.Is(err, fs.ErrNotExist) {
		return config, false, err
	}
	applyConfig(c, &config)
	if len(config.Servers) == 0 {
		config.Servers = d.Servers
	}
	if len(config.RPC) == 0 {
		config.RPC = d.RPC
	}
	if len(config.Servers) == 0 {
		return config, false, usagef(c, "which cluster? Give --server NODEID@HOST:PORT of each of its servers, or --config FILE")
	}
	genesis := config.Genesis
	if genesis == "" {
		genesis = d.Genesis
	}
	config.Genesis = "" // it is copied into the home
	if config.Owner == "" {
		if config.Owner, err = ownerOf(c, d); err != nil {
			return config, false, err
		}
	}
	if err := config.Check(); err != nil {
		return config, false, usagef(c, "%v", err)
	}
	if genesis != "" {
		if _, err := node.ReadGenesisFile(genesis); err != nil {
			return config, false, err
		}
	}
	if err := initHome(config.Home, config); err != nil {
		return config, false, err
	}
	return config, true, bringGenesis(config.Home, genesis)
}

// bringGenesis copies the network's genesis, if one is named, into a home that has
// none.
func bringGenesis(home, from string) error {
	to := filepath.Join(home, agent.GenesisFile)
	if from == "" {
		return nil
	}
	if _, err := os.Stat(to); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := node.ReadGenesisFile(from); err != nil {
		return err
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("copying the genesis: %w", err)
	}
	return writeNew(to, data, 0o644)
}

// existingAgent reads a home's config. What it says is not changed by flags: the
// file has the last word.
func existingAgent(c *cli.Context, config *agent.Config) error {
	before := *config
	if err := readConfig(c, config); err != nil {
		return err
	}
	file := before
	if err := decodeConfigFile(filepath.Join(config.Home, configFile), &file); err != nil {
		return err
	}
	for field, value := range configFields(reflect.ValueOf(config).Elem()) {
		inFile := reflect.ValueOf(&file).Elem().FieldByIndex(field.Index)
		if tag := field.Tag.Get("toml"); tag != "genesis" && !reflect.DeepEqual(inFile.Interface(), value.Interface()) {
			return usagef(c, "%s is there already, and says %s = %v, not %v: change it in that file", filepath.Join(config.Home, configFile), tag, inFile, value)
		}
	}
	*config = file
	return nil
}

// ownerOf is the address of the account that the flags name.
func ownerOf(c *cli.Context, d *devnet.Description) (string, error) {
	_, err := os.Stat(c.String("wallet"))
	if errors.Is(err, fs.ErrNotExist) && c.String("key-file") == "" && len(d.Accounts) == 0 {
		return "", usagef(c, "who owns the node and is paid? There is no wallet at %s: hypermesh wallet create makes one, --wallet FILE or --key-file FILE names another,"+
			" and --owner ADDRESS says whose wallet on another machine it is", c.String("wallet"))
	}
	account, err := openAccount(c, d.Accounts)
	if err != nil {
		return "", err
	}
	return account.Address().String(), nil
}

// pairHere has the owner's account register the node.
func pairHere(c *cli.Context, config *agent.Config, d *devnet.Description) (*registeredResult, error) {
	if c.String("config") == "" && len(config.RPC) == 0 {
		return nil, usagef(c, "which node shall the registration go to? Give --rpc URL")
	}
	s, err := openSender(c, filepath.Join(config.Home, agent.GenesisFile))
	if err != nil {
		return nil, err
	}
	if d.ChainID != "" && d.ChainID != s.genesis.ChainID {
		return nil, fmt.Errorf("the description is of %s, its genesis of %s", d.ChainID, s.genesis.ChainID)
	}
	return s.pairAgent(c, config)
}

// pairAgent registers the home's node as the account's.
func (s *sender) pairAgent(c *cli.Context, config *agent.Config) (*registeredResult, error) {
	key, err := node.ReadKey(filepath.Join(config.Home, agent.NodeKeyFile))
	if err != nil {
		return nil, fmt.Errorf("%w (hypermesh agent init makes it)", err)
	}
	if owner := s.account.Address().String(); owner != config.Owner {
		return nil, fmt.Errorf("%s says that the owner is %s, the account is %s: act as the owner, or change the file", configFile, config.Owner, owner)
	}
	return s.registerNode(c, newPairing(s.genesis.ChainID, key, s.account.Address(), config))
}

// registerNode sends what binds the node to the account.
func (s *sender) registerNode(c *cli.Context, p pairing) (*registeredResult, error) {
	bond, err := bondFromFlags(c, s.genesis.Params.ProviderBond)
	if err != nil {
		return nil, err
	}
	return s.register(c, registration{
		what: "provider node", key: p.Node, record: settlement.ProviderKey(p.Node), bond: bond,
		owner: func(value []byte) (chain.Address, bool, error) {
			r, err := settlement.DecodeProvider(value)
			return r.Owner, r.UnbondedMs == 0, err
		},
		message: chain.RegisterProvider{
			Node: p.Node, Possession: p.Possession, Bond: bond, Region: p.Region, Millicores: p.Millicores, MemoryMiB: p.MemoryMiB,
		},
	})
}

func agentRegister(c *cli.Context) error {
	if err := agentHomeThere(c); err != nil {
		return err
	}
	config := agent.DefaultConfig()
	config.Home = c.String("home")
	if err := readConfig(c, &config); err != nil {
		return fmt.Errorf("the agent's config: %w", err)
	}
	genesis := config.Genesis
	if genesis == "" {
		genesis = filepath.Join(config.Home, agent.GenesisFile)
	}
	s, err := openSender(c, genesis)
	if err != nil {
		return err
	}
	out, err := s.pairAgent(c, &config)
	if err != nil {
		return err
	}
	return printRegistered(c, "provider node", *out)
}

// leavePairing writes what the owner's wallet on another machine needs.
func leavePairing(c *cli.Context, config *agent.Config, key crypto.PrivateKey, out *agentInitResult) error {
	genesis, err := node.ReadGenesisFile(filepath.Join(config.Home, agent.GenesisFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fmt.Fprintf(c.App.ErrWriter, "Next: copy the network's genesis to %s, and register the node: hypermesh agent register%s\n", filepath.Join(config.Home, agent.GenesisFile), homeArg(c))
	case err != nil:
		return err
	default:
		data, err := json.MarshalIndent(newPairing(genesis.ChainID, key, out.Owner, config), "", "  ")
		if err != nil {
			panic("a pairing does not encode: " + err.Error())
		}
		out.Pairing = filepath.Join(config.Home, pairingFile)
		if err := os.WriteFile(out.Pairing, append(data, '\n'), 0o644); err != nil {
			return fmt.Errorf("writing the pairing: %w", err)
		}
		fmt.Fprintf(c.App.ErrWriter, "Next: take %s to the machine that has the wallet of %s, and there: hypermesh agent pair %s --config net.json (the network's description); then, here: hypermesh agent up%s\n",
			out.Pairing, out.Owner, pairingFile, homeArg(c))
	}
	if c.Bool("json") {
		return printJSON(c, out)
	}
	return nil
}

func agentPair(c *cli.Context) error {
	if c.NArg() != 1 {
		return usagef(c, "want one PAIRING.json, got %d arguments", c.NArg())
	}
	path := c.Args().First()
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading the pairing: %w", err)
	}
	var p pairing
	decoder := json.NewDecoder(strings.NewReader(string(data[:min(len(data), maxPairing)])))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	s, err := openSender(c, "")
	if err != nil {
		return err
	}
	switch {
	case p.ChainID != s.genesis.ChainID:
		return fmt.Errorf("%s is of chain %s, the genesis of %s", path, p.ChainID, s.genesis.ChainID)
	case p.Owner != s.account.Address():
		return fmt.Errorf("%s says that the owner is %s, the account is %s: act as the owner, or make the home anew with --owner %s", path, p.Owner, s.account.Address(), s.account.Address())
	case !p.Node.Verify(crypto.DomainPossession, chain.PossessionPayload(p.ChainID, p.Owner), p.Possession):
		return fmt.Errorf("%s: the node's signature does not verify: it was changed on its way", path)
	}
	out, err := s.registerNode(c, p)
	if err != nil {
		return err
	}
	return printRegistered(c, "provider node", *out)
}

// printAgentHome says what the node will sell, in units that people use.
func printAgentHome(c *cli.Context, config *agent.Config, out *agentInitResult) {
	made := "made"
	if !out.Made {
		made = "was there, unchanged"
	}
	w := c.App.Writer
	fmt.Fprintf(w, "home         %s (%s)\nnode         %s\nowner        %s, who is paid\n", out.Home, made, out.Node, out.Owner)
	fmt.Fprintf(w, "sells        %g cores, %d MiB of memory, %d MiB of disk", float64(config.Millicores)/1_000, config.MemoryMiB, config.DiskMiB)
	if config.GPUs > 0 {
		fmt.Fprintf(w, ", %d GPUs of kind %s", config.GPUs, config.GPUKind)
	}
	fmt.Fprintf(w, "\nprice floor  %s\n", agent.FloorText(config))
}
