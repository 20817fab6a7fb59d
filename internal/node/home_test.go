package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/store"
	"github.com/hypermesh/hypermesh/tokens"
)

// TestVerifyRecomputesRootAndSupply: files that are whole may hold a state that cannot be. Of a
// home that is sound, verifying finds the root of its last block and a supply that adds up; of
// one whose last block gives somebody what nobody paid, it says so, and which block is none.
func TestVerifyRecomputesRootAndSupply(t *testing.T) {
	options := store.Options{MemtableBytes: 1 << 20, PendingBytes: 1 << 20, PointBytes: 128 << 10}
	l := newLoaded(t, 300, options)
	sound, _ := l.store.Latest()
	l.close()
	if err := l.store.Close(); err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(t.TempDir(), "home")
	if err := os.CopyFS(home, os.DirFS(l.home)); err != nil {
		t.Fatal(err)
	}
	r, err := VerifyHome(t.Context(), home, quiet())
	if err != nil || len(r.Faults) > 0 || r.StateRoot != sound.StateRoot || r.Supply == nil || r.Keys < 300 {
		t.Errorf("of a sound home: %+v, %v, want the root %s", r, err, sound.StateRoot)
	}
	forged := forge(t, chainDir(home), options)
	r, err = VerifyHome(t.Context(), home, quiet())
	if err != nil || r.StateRoot != forged.StateRoot || r.StateRoot == sound.StateRoot || r.Supply != nil || len(r.Faults) != 2 ||
		!strings.Contains(r.Faults[0], "supply is not conserved") || !strings.Contains(r.Faults[1], fmt.Sprintf("block %d: it is not stored whole", forged.Height)) {
		t.Errorf("of a forged one: %+v, %v, want the root %s", r, err, forged.StateRoot)
	}
	if l.store, err = store.Open(chainDir(l.home), options); err != nil {
		t.Fatal(err)
	}
	l.open()
}

// forge stores a block after the last that gives a user a nHYPER.
func forge(t *testing.T, dir string, options store.Options) store.Tip {
	t.Helper()
	st, err := store.Open(dir, options)
	if err != nil {
		t.Fatal(err)
	}
	kv := state.NewOverlay(st.State())
	tokens.Credit(kv, user(1).address(), chain.Nano(1))
	tip, _ := st.Latest()
	tree, err := st.OpenTree(tip.Height)
	if err == nil {
		tree, err = tree.Next(uint64(tip.Height)+1, kv.Changes(), 1)
	}
	if err == nil {
		err = st.Commit(store.Finalized{Height: tip.Height + 1, Digest: crypto.DomainBlob.Hash([]byte("forged")), Changes: kv.Changes(), Tree: tree})
	}
	tip, _ = st.Latest()
	if err := errors.Join(err, st.Close()); err != nil {
		t.Fatal(err)
	}
	return tip
}

// TestARunningNodePrunes: at each tick a node gives up what it need not keep, and goes on.
func TestARunningNodePrunes(t *testing.T) {
	p := newProducer(t)
	p.epochs(3)
	first := func() chain.Height {
		height, some, err := p.store.FirstBlock()
		if err != nil || !some {
			t.Fatal(some, err)
		}
		return height
	}
	if first() != 1 {
		t.Fatalf("blocks from %d on before anything was pruned", first())
	}
	config := DefaultConfig()
	config.Retention, config.KeepVersions = RetentionPruned, 1
	var log bytes.Buffer
	n := &Node{store: p.store, config: config, log: slog.New(slog.NewTextHandler(&log, nil))}
	ctx, cancel := context.WithCancel(t.Context())
	ticks, ended := make(chan time.Time), make(chan struct{})
	go func() {
		defer close(ended)
		n.prune(ctx, ticks)
	}()
	ticks <- time.Time{}
	ticks <- time.Time{} // taken when the first is done
	after := first()
	if points, err := p.store.Points(1); err != nil || len(points) == 0 || after <= 1 || after > points[0] {
		t.Errorf("blocks from %d on, the last point is %v: %v", after, points, err)
	}
	p.epochs(1)
	ticks <- time.Time{}
	ticks <- time.Time{}
	if first() <= after {
		t.Errorf("blocks from %d on after one more epoch, %d before", first(), after)
	}
	cancel()
	<-ended
	if strings.Contains(log.String(), "error") {
		t.Error(log.String())
	}
}
