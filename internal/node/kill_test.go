package node

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/statesync"
	"github.com/hypermesh/hypermesh/internal/store"
	"github.com/hypermesh/hypermesh/internal/transport"
)

// killedJoiner names, in the environment of a process that joins until it is killed, the
// directory of its store; the checkpoint and the peer are the others'.
const (
	killedJoiner     = "HYPERMESH_KILLED_JOINER"
	killedCheckpoint = "HYPERMESH_KILLED_CHECKPOINT"
	killedPeer       = "HYPERMESH_KILLED_PEER"
)

// killable is a sink that says when it has put a chunk, and puts no more than some.
type killable struct {
	importSink
	puts int
}

const (
	killedAfter = 12 // chunks
	killedAtAll = 24 // chunks, at which it waits, so that it is not done before it is killed
)

func (s *killable) Put(r state.Range, leaves []state.Entry, progress []byte) error {
	if s.puts++; s.puts == killedAtAll {
		time.Sleep(time.Hour) // it is killed here at the latest
	}
	err := s.importSink.Put(r, leaves, progress)
	fmt.Println("put")
	return err
}

// joinUntilKilled is what the process does that TestJoinerIsKilledHalfWayAndGoesOn kills.
func joinUntilKilled(t *testing.T, dir string) {
	checkpoint, err := light.ParseCheckpoint(os.Getenv(killedCheckpoint))
	if err != nil {
		t.Fatal(err)
	}
	peer, err := transport.ParseNodeAddr(os.Getenv(killedPeer))
	if err != nil {
		t.Fatal(err)
	}
	genesis, err := ReadGenesisFile(filepath.Join(filepath.Dir(dir), GenesisFile))
	if err != nil {
		t.Fatal(err)
	}
	l := &large{TB: t, genesis: genesis, checkpoint: checkpoint}
	network := joinNetwork{l.run(keyOf(71, 't'), statesync.JoinerMesh([]transport.NodeAddr{peer}))}
	sink := &killable{importSink: importSink{store: l.joiner(dir)}}
	_, err = statesync.Join(t.Context(), statesync.Config{Genesis: l.genesis, Checkpoint: l.checkpoint, Network: network, Sink: sink, Log: quiet()})
	t.Fatalf("it was not killed: %v", err)
}

// joiner opens a joiner's store, which keeps a few chunks in memory.
func (l *large) joiner(dir string) *store.Store {
	l.Helper()
	st, err := store.Open(dir, store.Options{PendingBytes: 1 << 20})
	if err != nil {
		l.Fatal(err)
	}
	return st
}

// TestJoinerIsKilledHalfWayAndGoesOn kills the process of a joiner with SIGKILL while it
// writes; another goes on with what is on the disk, and ends with the state.
func TestJoinerIsKilledHalfWayAndGoesOn(t *testing.T) {
	if dir := os.Getenv(killedJoiner); dir != "" {
		joinUntilKilled(t, dir)
	}
	const accounts = 60_000
	l := newLarge(t, accounts, 20)
	l.serve()
	peer := l.peer
	home := t.TempDir()
	dir := filepath.Join(home, "joiner")
	writeGenesis(t, l.genesis, home)
	killHalfWay(t, killedJoiner+"="+dir, killedCheckpoint+"="+l.checkpoint.String(), killedPeer+"="+peer.String())

	st := l.joiner(dir)
	again := &stopping{importSink: importSink{store: st}}
	if err := l.join(joinNetwork{l.run(keyOf(72, 't'), statesync.JoinerMesh([]transport.NodeAddr{peer}))}, again); err != nil {
		t.Fatal(err)
	}
	tree, err := again.into.Finish(l.before, l.genesis.Digest())
	if err != nil || tree.Root() != l.before.StateRoot {
		t.Fatal(err)
	}
	if n := again.fetched.Load(); n == 0 || n >= accounts {
		t.Errorf("%d leaves of %d were fetched after the kill", n, accounts)
	}
	if err := errors.Join(st.Close(), l.store.Close()); err != nil {
		t.Fatal(err)
	}
}

// killHalfWay runs this test as a process of its own, and kills it after some chunks.
func killHalfWay(t *testing.T, env ...string) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.timeout", "5m")
	child.Env = append(os.Environ(), env...)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	said, lines := bufio.NewScanner(out), 0
	for lines < killedAfter && said.Scan() {
		if lines++; said.Text() != "put" {
			t.Errorf("the joiner says %q", said.Text())
		}
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	err = child.Wait()
	exit, _ := errors.AsType[*exec.ExitError](err)
	if lines < killedAfter || exit == nil || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("after %d chunks the joiner ended with %v, want it killed", lines, err)
	}
}
