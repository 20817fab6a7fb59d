package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/internal/statesync"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// TestJoinUnderLoad lets a node with an empty disk join a network of short epochs
// under load, by a checkpoint; one of the peers that it is given sends rubbish.
func TestJoinUnderLoad(t *testing.T) {
	endToEnd(t)
	n := startDevnet(t, "--validators", "4", "--servers", "0", "--no-explorer", "--epoch", "4s")
	d := n.describe(t)
	genesis, err := node.ReadGenesisFile(d.Genesis)
	if err != nil {
		t.Fatal(err)
	}
	client, err := sdk.New(sdk.Config{Nodes: d.RPC, Genesis: genesis})
	if err != nil {
		t.Fatal(err)
	}
	load(t, d.RPC)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	await(t, ctx, "four epochs", func() error {
		_, err := client.EpochEnd(ctx, 4)
		return err
	})
	line, err := hypermesh(t, "query", "checkpoint", "--rpc", d.RPC[1], "--genesis", d.Genesis, "--epoch", "2")
	if err != nil {
		t.Fatal(err)
	}
	liar := startLiar(t, genesis)
	began := time.Now()
	o := startObserver(t, observer{genesis: d.Genesis, checkpoint: strings.TrimSpace(string(line)), peer: liar.String()})
	follower, err := sdk.New(sdk.Config{Nodes: []string{o.url}, Genesis: genesis, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	target := chain.Height(0)
	await(t, ctx, "the head", func() error {
		theirs, err := client.Status(ctx)
		if err != nil {
			return err
		}
		if target == 0 {
			target = theirs.Height
		}
		ours, err := follower.Status(ctx)
		if err != nil {
			return err
		}
		if ours.Height < target || ours.Height+3 < theirs.Height {
			return fmt.Errorf("at height %d of %d", ours.Height, theirs.Height)
		}
		return nil
	})
	t.Logf("at the head %v after its start", time.Since(began))
	checkSameChain(t, ctx, client, follower)
	if _, err := follower.Block(ctx, 1, api.BlockHeader); !sdk.IsNotFound(err) {
		t.Errorf("the node has block 1, so it replayed the chain: %v", err)
	}
	o.stop(t)
	joining := observer{genesis: d.Genesis, checkpoint: strings.TrimSpace(string(line)), peer: liar.String()}
	checkLiarIsNamed(t, ctx, joining, o)
	checkRefusals(t, joining)
}

// checkLiarIsNamed looks for the peer that lies in the log of a joiner. The state
// is small: four in five joiners have all of it before they ask the liar, so others
// follow until one has.
func checkLiarIsNamed(t *testing.T, ctx context.Context, joining observer, o *observer) {
	t.Helper()
	liar, _, _ := strings.Cut(joining.peer, "@")
	for ctx.Err() == nil {
		if text := o.log.String(); strings.Contains(text, "rubbish") && strings.Contains(text, liar) {
			return
		}
		o = startObserver(t, joining)
		await(t, ctx, "another joiner", func() error {
			follower, err := sdk.New(sdk.Config{Nodes: []string{o.url}, Attempts: 1})
			if err == nil {
				_, err = follower.Status(ctx)
			}
			return err
		})
		o.stop(t)
	}
	t.Errorf("no log names the liar:\n%s", o.log.String())
}

// checkRefusals starts joiners with checkpoints that are no good.
func checkRefusals(t *testing.T, joining observer) {
	t.Helper()
	good := joining.checkpoint
	for want, checkpoint := range map[string]string{
		"the checkpoint is of chain": "elsewhere" + good[strings.IndexByte(good, ':'):],
		"too old":                    strings.Replace(good, strings.Split(good, ":")[3], "1000", 1),
	} {
		joining.checkpoint = checkpoint
		refused := startObserver(t, joining)
		if err := refused.await(30 * time.Second); err == nil || !strings.Contains(refused.log.String()+err.Error(), want) {
			t.Errorf("a checkpoint that is %q: %v\n%s", want, err, refused.log.String())
		}
	}
}

// await tries until there is no error.
func await(t *testing.T, ctx context.Context, what string, try func() error) {
	t.Helper()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waiting for %s: %v", what, err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// load sends transfers until the test ends.
func load(t *testing.T, rpc []string) {
	t.Helper()
	program, _ := programs(t)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "bench", "transfers", "--rpc", rpc[0], "--rpc", rpc[1], "--rate", "100", "--seconds", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := cmd.Wait(); err == nil {
			t.Error("the load ended before the test")
		}
	})
}

// checkSameChain compares two nodes at the height that both have.
func checkSameChain(t *testing.T, ctx context.Context, one, other *sdk.Client) {
	t.Helper()
	a, err := one.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	b, err := other.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	height := min(a.Height, b.Height)
	left, err := one.VerifiedHeader(ctx, height)
	if err != nil {
		t.Fatal(err)
	}
	right, err := other.VerifiedHeader(ctx, height)
	if err != nil {
		t.Fatal(err)
	}
	x, _ := left.Header()
	y, _ := right.Header()
	if left.Digest() != right.Digest() || x.StateRoot != y.StateRoot {
		t.Errorf("block %d is %s with root %s, and %s with root %s", height, left.Digest().Short(), x.StateRoot.Short(), right.Digest().Short(), y.StateRoot.Short())
	}
	txs := 0
	for back := range chain.Height(20) {
		b, err := other.Block(ctx, height-back, api.BlockHeader)
		if sdk.IsNotFound(err) && back > 0 { // it joined there
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		txs += b.TxCount
	}
	if txs == 0 {
		t.Error("the last 20 blocks carry nothing: there is no load")
	}
	t.Logf("both have block %d and root %s; the last 20 blocks carry %d transactions", height, y.StateRoot.Short(), txs)
}

// startLiar starts a peer that answers joiners as a validator does, but for the
// chunks of states, in each of which it changes a bit.
func startLiar(t *testing.T, genesis *chain.Genesis) transport.NodeAddr {
	t.Helper()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	mesh := func(listen string, config transport.MeshConfig) (*transport.Endpoint, *transport.Mesh) {
		endpoint, err := transport.Open(transport.Config{Key: crypto.GenerateKey(), Network: genesis.Digest(), ListenAddr: listen, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		m, err := transport.NewMesh(endpoint, config)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if err := m.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		t.Cleanup(func() {
			cancel()
			wg.Wait()
			if err := endpoint.Close(); err != nil {
				t.Error(err)
			}
		})
		return endpoint, m
	}
	honest := transport.NodeAddr{ID: genesis.Validators[0].NodeKey, Addr: genesis.Validators[0].Endpoint}
	_, asking := mesh("", statesync.JoinerMesh([]transport.NodeAddr{honest}))
	answering := statesync.JoinerMesh(nil)
	answering.MaxObservers = 8
	for i := range answering.Services {
		s := &answering.Services[i]
		s.Respond = func(ctx context.Context, _ crypto.PublicKey, request []byte) ([]byte, error) {
			answer, err := asking.Request(ctx, honest.ID, s.ID, request)
			if s.ID == statesync.ServiceChunk && len(answer) > 0 {
				answer[len(answer)/2] ^= 1
			}
			return answer, err
		}
	}
	endpoint, _ := mesh("127.0.0.1:0", answering)
	return endpoint.NodeAddr()
}

// observer is a node of its own process.
type observer struct {
	genesis, checkpoint, peer string

	home string
	url  string
	cmd  *exec.Cmd
	log  *bytes.Buffer // to be read when the process has ended
	done chan error
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String()
}

func startObserver(t *testing.T, o observer) *observer {
	t.Helper()
	program, _ := programs(t)
	home, http := filepath.Join(t.TempDir(), "observer"), freeAddr(t)
	o.home = home
	if _, err := hypermesh(t, "node", "init", "--home", home, "--listen", "127.0.0.1:0", "--http", http); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(o.genesis)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, node.GenesisFile), text, 0o644); err != nil {
		t.Fatal(err)
	}
	o.url, o.log, o.done = "http://"+http, &bytes.Buffer{}, make(chan error, 1)
	o.cmd = exec.Command(program, "node", "run", "--home", home)
	for flag, value := range map[string]string{"--checkpoint": o.checkpoint, "--peers": o.peer} {
		if value != "" {
			o.cmd.Args = append(o.cmd.Args, flag, value)
		}
	}
	o.cmd.Stdout, o.cmd.Stderr = o.log, o.log
	if err := o.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { o.done <- o.cmd.Wait() }()
	t.Cleanup(func() { o.stop(t) })
	return &o
}

// await returns how the process ended.
func (o *observer) await(patience time.Duration) error {
	select {
	case err := <-o.done:
		o.done <- err
		return err
	case <-time.After(patience):
		return fmt.Errorf("it still runs after %v", patience)
	}
}

// stop ends the process.
func (o *observer) stop(t *testing.T) {
	t.Helper()
	if err := o.cmd.Process.Signal(syscall.SIGINT); err != nil {
		return // it has ended
	}
	if err := o.await(30 * time.Second); err != nil && o.cmd.ProcessState == nil {
		t.Errorf("the observer: %v", err)
		if err := o.cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
	}
}
