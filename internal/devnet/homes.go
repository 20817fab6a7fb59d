package devnet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/internal/zk/groth16"
)

// The roles of a network's processes.
const (
	roleValidator = "validator"
	roleNexus     = "nexus"
	roleAgent     = "agent"
	roleRelay     = "relay"
	roleExplorer  = "explorer"
)

// What each agent of a devnet offers.
const (
	agentRegion          = "local"
	agentMillicores      = 4_000
	agentMemoryMiB       = 4_096
	agentLeaseStake      = 20 // HYPER
	agentLeaseStart      = "10s"
	agentLeaseThroughput = 1_024 // KiB/s
)

// clusterKeyFile is the key that all servers of a cluster share.
const clusterKeyFile = "cluster.key"

// writeHomes writes the genesis and each role's home.
func (p *plan) writeHomes(g *chain.Genesis, o *Options) error {
	keys := o.KeysDir
	if keys == "" {
		keys = DefaultKeysDir()
	}
	if len(o.Ceremonies) > 0 { // their keys do not replace those of other networks
		keys = filepath.Join(p.dir, "proving-keys")
	}
	if p.Servers > 0 {
		sealed, err := AddCeremonies(g, p.dir, keys, o.Ceremonies, o.Progress)
		if err == nil {
			err = AddKernels(g, p.dir, keys, p.insecure(o), o.Progress)
		}
		if err != nil {
			return err
		}
		p.proven = append(sealed, p.insecure(o)...)
	}
	if err := g.Check(); err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(p.dir, node.GenesisFile), g); err != nil {
		return err
	}
	if err := p.writeValidators(); err != nil {
		return err
	}
	if p.Servers > 0 {
		if err := errors.Join(p.writeServers(), p.writeAgents(keys), p.writeRelay()); err != nil {
			return err
		}
	}
	return p.writeExplorer()
}

// insecure are the kernels whose keys are made here: Kernel, unless ceremonies made others, and those that were asked for.
func (p *plan) insecure(o *Options) []string {
	if len(o.Ceremonies) > 0 {
		return p.Kernels
	}
	return append([]string{Kernel}, p.Kernels...)
}

// share makes a home with links to the genesis and the verifying keys.
func (p *plan) share(home string) error {
	if err := os.MkdirAll(home, 0o700); err != nil {
		return fmt.Errorf("devnet: making a home: %w", err)
	}
	names := []string{node.GenesisFile}
	if p.Servers > 0 {
		names = append(names, groth16.VerifyingKeyDir)
	}
	for _, name := range names {
		if err := os.Symlink(filepath.Join("..", name), filepath.Join(home, name)); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("devnet: making a home: %w", err)
		}
	}
	return nil
}

func (p *plan) writeValidators() error {
	for i := range p.Validators {
		home := p.home(roleValidator, i)
		if err := p.share(home); err != nil {
			return err
		}
		if i == 0 {
			faucet, err := crypto.ParsePrivateKey(p.account("faucet").PrivateKey)
			if err != nil {
				return err
			}
			if err := node.WriteKey(filepath.Join(home, node.FaucetKeyFile), faucet); err != nil {
				return err
			}
		}
		if err := writeTOML(home, map[string]any{"listen": p.addr(validatorUDP, i), "http": p.addr(validatorHTTP, i)}); err != nil {
			return err
		}
	}
	return nil
}

func (p *plan) writeServers() error {
	cluster := crypto.GenerateKey()
	members := make([]string, p.Servers)
	for i := range p.Servers {
		home := p.home(roleNexus, i)
		if err := p.share(home); err != nil {
			return err
		}
		key := crypto.GenerateKey()
		members[i] = key.Public().String() + "@" + p.addr(serverUDP, i)
		if err := errors.Join(node.WriteKey(filepath.Join(home, node.NodeKeyFile), key), node.WriteKey(filepath.Join(home, clusterKeyFile), cluster)); err != nil {
			return err
		}
	}
	for i := range p.Servers {
		config := map[string]any{"listen": p.addr(serverUDP, i), "http": p.addr(serverHTTP, i), "servers": members, "rpc": p.rpc(), "local_peers": true}
		if err := writeTOML(p.home(roleNexus, i), config); err != nil {
			return err
		}
	}
	return nil
}

// servers returns NODEID@HOST:PORT of every server.
func (p *plan) servers() ([]string, error) {
	out := make([]string, p.Servers)
	for i := range p.Servers {
		key, err := node.ReadKey(filepath.Join(p.home(roleNexus, i), node.NodeKeyFile))
		if err != nil {
			return nil, err
		}
		out[i] = key.Public().String() + "@" + p.addr(serverUDP, i)
	}
	return out, nil
}

func (p *plan) writeAgents(keysDir string) error {
	servers, err := p.servers()
	if err != nil {
		return err
	}
	for i := range p.Agents {
		home := p.home(roleAgent, i)
		if err := p.share(home); err != nil {
			return err
		}
		if err := node.WriteKey(filepath.Join(home, node.NodeKeyFile), crypto.GenerateKey()); err != nil {
			return err
		}
		if err := writeTOML(home, map[string]any{
			"servers": servers, "owner": p.account(fmt.Sprintf("provider-%d", i)).Address.String(), "region": agentRegion, "http": p.addr(agentHTTP, i),
			"millicores": agentMillicores, "memory_mib": agentMemoryMiB, "nice": 0, "kernels": p.proven, "key_dir": keysDir, "rpc": p.rpc(), "lease_stake_hyper": agentLeaseStake, "lease_start": agentLeaseStart, "lease_throughput_kib": agentLeaseThroughput,
		}); err != nil {
			return err
		}
	}
	return nil
}

func (p *plan) writeRelay() error {
	home := p.home(roleRelay, 0)
	if err := p.share(home); err != nil {
		return err
	}
	key, err := crypto.ParsePrivateKey(p.account("relay").PrivateKey)
	if err != nil {
		return err
	}
	if err := node.WriteKey(filepath.Join(home, "account.key"), key); err != nil {
		return err
	}
	return p.writeCustomer(home, map[string]any{"http": p.addr(relayHTTP, 0)})
}

func (p *plan) writeExplorer() error {
	home := p.home(roleExplorer, 0)
	if err := p.share(home); err != nil {
		return err
	}
	return p.writeCustomer(home, map[string]any{"listen": p.addr(explorerHTTP, 0)})
}

// writeCustomer writes the config of who asks nodes, and the cluster's servers if there
// is one.
func (p *plan) writeCustomer(home string, config map[string]any) error {
	config["rpc"], config["nexus"] = p.rpc(), p.nexus()
	if p.Servers > 0 {
		cluster, err := p.cluster()
		if err != nil {
			return err
		}
		config["cluster"] = cluster.String()
	}
	return writeTOML(home, config)
}

// cluster returns the public key of the cluster's servers.
func (p *plan) cluster() (crypto.PublicKey, error) {
	key, err := node.ReadKey(filepath.Join(p.home(roleNexus, 0), clusterKeyFile))
	if err != nil {
		return crypto.PublicKey{}, err
	}
	return key.Public(), nil
}

// rpc returns the URLs of the nodes' HTTP APIs.
func (p *plan) rpc() []string { return p.urls(validatorHTTP, p.Validators) }

// nexus returns the URLs of the servers' HTTP APIs.
func (p *plan) nexus() []string { return p.urls(serverHTTP, p.Servers) }

func (p *plan) urls(role, count int) []string {
	out := make([]string, count)
	for i := range out {
		out[i] = "http://" + p.addr(role, i)
	}
	return out
}
