package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/internal/zk/groth16"
	"github.com/hypermesh/hypermesh/sdk"
)

// secondCluster is a cluster of its own beside a devnet's, on the same chain: a server, a relay, and a node that has fewer cores than
// its owner declares.
type secondCluster struct {
	*network
	ctx  context.Context
	dir  string
	key  crypto.PrivateKey // the cluster's
	node crypto.PrivateKey
	addr string // NODEID@HOST:PORT of the server
	url  string
}

// newSecondCluster starts both clusters, and has the second known to the chain; its node is not started.
func newSecondCluster(t *testing.T, ctx context.Context) *secondCluster {
	t.Helper()
	c := &secondCluster{ctx: ctx, dir: t.TempDir(), key: crypto.GenerateKey(), node: crypto.GenerateKey()}
	c.network = startDevnet(t, "--validators", "1", "--servers", "1", "--agents", "3", "--no-explorer", "--no-restart", "--hardware-every", "1h")
	d := c.describe(t)
	server := crypto.GenerateKey()
	_, udp, _ := strings.Cut(d.Servers[0], "@")
	listen, http := besideOf(t, udp), besideOf(t, strings.TrimPrefix(d.Nexus[0], "http://"))
	c.addr, c.url = server.Public().String()+"@"+listen, "http://"+http
	c.writeHome(t, "nexus", map[string]crypto.PrivateKey{node.NodeKeyFile: server, "cluster.key": c.key}, map[string]any{
		"listen": listen, "http": http, "servers": []string{c.addr}, "rpc": d.RPC, "local_peers": true,
	})
	c.start(t, "nexus", "nexus", "run")
	c.send(t, "bob", func(owner chain.Address) chain.Msg {
		bond := c.target(t, "bob").genesis.Params.ClusterBond
		return chain.RegisterCluster{Cluster: c.key.Public(), Possession: possessionOf(c.key, d.ChainID, owner), Bond: bond, FeeBps: 100, Endpoints: []string{c.url}}
	})
	key, err := crypto.ParsePrivateKey(describedKey(t, c.network, "carol"))
	if err != nil {
		t.Fatal(err)
	}
	c.writeHome(t, "relay", map[string]crypto.PrivateKey{"account.key": key}, map[string]any{"rpc": d.RPC, "nexus": []string{c.url}, "cluster": c.key.Public().String(), "http": ""})
	c.start(t, "relay", "relay", "run")
	return c
}

// besideOf is an address of the run of ports that a devnet keeps for itself, which none of its own processes takes.
func besideOf(t *testing.T, addr string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	n, bad := strconv.Atoi(port)
	if err := errors.Join(err, bad); err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort(host, strconv.Itoa(n+32))
}

func possessionOf(key crypto.PrivateKey, id chain.ChainID, owner chain.Address) crypto.Signature {
	return key.Sign(crypto.DomainPossession, chain.PossessionPayload(id, owner))
}

// describedKey is the private key of an account of the network.
func describedKey(t *testing.T, n *network, name string) string {
	t.Helper()
	for _, a := range n.describe(t).Accounts {
		if a.Name == name {
			return a.PrivateKey
		}
	}
	t.Fatalf("no account %s", name)
	return ""
}

// writeHome writes the home of a process of the cluster.
func (c *secondCluster) writeHome(t *testing.T, role string, keys map[string]crypto.PrivateKey, config map[string]any) {
	t.Helper()
	home := filepath.Join(c.dir, role)
	err := os.Mkdir(home, 0o700)
	for _, name := range []string{node.GenesisFile, groth16.VerifyingKeyDir} {
		err = errors.Join(err, os.Symlink(filepath.Join(c.network.dir, name), filepath.Join(home, name)))
	}
	for name, key := range keys {
		err = errors.Join(err, node.WriteKey(filepath.Join(home, name), key))
	}
	text, bad := toml.Marshal(config)
	if err := errors.Join(err, bad, os.WriteFile(filepath.Join(home, configFile), text, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// start starts a process of the cluster, which the test's end ends before the chain.
func (c *secondCluster) start(t *testing.T, role string, args ...string) {
	t.Helper()
	p := startHypermesh(t, append(args, "--home", filepath.Join(c.dir, role))...)
	t.Cleanup(func() {
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if code := p.wait(t); code != 0 || t.Failed() {
			t.Logf("the second cluster's %s ends with %d:\n%s", role, code, p.stderr)
		}
	})
}

func (c *secondCluster) target(t *testing.T, account string) *target {
	t.Helper()
	target, err := newTarget(c.describe(t), account)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func (c *secondCluster) send(t *testing.T, account string, message func(owner chain.Address) chain.Msg) {
	t.Helper()
	by := c.target(t, account)
	if _, err := by.client.NewBuilder(by.account, sdk.BuilderOptions{}).SendAndWait(c.ctx, message(by.account.Address())); err != nil {
		t.Fatal(err)
	}
}

// state is what the chain proves under a key, and whether there is anything.
func (c *secondCluster) state(t *testing.T, key []byte) ([]byte, bool) {
	t.Helper()
	value, err := c.target(t, "alice").client.VerifiedState(c.ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	return value.Get()
}

// home is the cluster at which a node is by the chain; zero: none.
func (c *secondCluster) home(t *testing.T, of crypto.PublicKey) crypto.PublicKey {
	t.Helper()
	raw, there := c.state(t, settlement.HomeKey(of))
	if !there {
		return crypto.PublicKey{}
	}
	h, err := settlement.DecodeHome(raw)
	if err != nil {
		t.Fatal(err)
	}
	return h.Cluster
}

// provider is what the chain has of a node; nothing, if it is not there yet.
func (c *secondCluster) provider(t *testing.T, of crypto.PublicKey) settlement.Provider {
	t.Helper()
	raw, there := c.state(t, settlement.ProviderKey(of))
	if !there {
		return settlement.Provider{}
	}
	p, err := settlement.DecodeProvider(raw)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// unchallenged waits until its node is not challenged.
func (c *secondCluster) unchallenged(t *testing.T) {
	t.Helper()
	until(t, "the challenge to be over", 4*time.Minute, func() bool {
		_, open := c.state(t, settlement.HardwareKey(c.node.Public()))
		return !open
	})
}

// join has the cluster's node be registered with less than a lane, for which it is not challenged, and waits until the chain has at
// which clusters it and the peers are. It is at home before it declares more.
func (c *secondCluster) join(t *testing.T, own uint64, peers []crypto.PublicKey) {
	t.Helper()
	d, id := c.describe(t), c.node.Public()
	c.send(t, "alice", func(owner chain.Address) chain.Msg {
		bond := c.target(t, "alice").genesis.Params.ProviderBond
		return chain.RegisterProvider{Node: id, Possession: possessionOf(c.node, d.ChainID, owner), Bond: bond, Region: "local", Millicores: own / 2, MemoryMiB: 1_024}
	})
	c.writeHome(t, "agent", map[string]crypto.PrivateKey{node.NodeKeyFile: c.node}, map[string]any{
		"servers": []string{c.addr}, "owner": c.target(t, "alice").account.Address().String(), "region": "local", "http": "127.0.0.1:0",
		"millicores": own, "memory_mib": 1_024, "nice": 0, "rpc": d.RPC,
	})
	c.start(t, "agent", "agent", "up")
	until(t, "the node to be known", time.Minute, func() bool { return c.provider(t, id).Millicores == own/2 })
	until(t, "all to be at home", 2*time.Minute, func() bool {
		for _, peer := range peers {
			if c.home(t, peer) != d.Cluster {
				return false
			}
		}
		return c.home(t, id) == c.key.Public()
	})
}

// TestHardwareIsCutFromAnotherCluster has a node of one cluster declare four times the cores that it has. Everybody who may be drawn to
// measure it is at another: they find it as the chain has its home, hear what it shows and opens, and its declaration is cut, and its
// bond.
func TestHardwareIsCutFromAnotherCluster(t *testing.T) {
	endToEnd(t)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	c := newSecondCluster(t, ctx)
	const own = chain.LaneMillicores
	liar, peers := c.node.Public(), []crypto.PublicKey{c.idOf(t, "agent", 0), c.idOf(t, "agent", 1), c.idOf(t, "agent", 2)}
	c.join(t, own, peers)
	before := c.provider(t, liar)
	known := before.Millicores
	// What a busy machine keeps from being shown or heard in time is no finding about cores: then it declares anew, and is challenged again.
	for round := uint64(0); ; round++ {
		declared := 4*own + 4*round // a quarter of its lanes is there
		c.send(t, "alice", func(chain.Address) chain.Msg {
			return chain.DeclareHardware{Node: liar, Millicores: declared, MemoryMiB: before.MemoryMiB}
		})
		until(t, "what it declares to be known", time.Minute, func() bool { return c.provider(t, liar).Millicores != known })
		c.unchallenged(t)
		after := c.provider(t, liar)
		t.Logf("declared %d millicores, and then it has %d, and %s of %s", declared, after.Millicores, after.Bond, before.Bond)
		if known = after.Millicores; known == declared/4 {
			if !after.Bond.Less(before.Bond) {
				t.Error("it lost nothing")
			}
			return
		}
	}
}
