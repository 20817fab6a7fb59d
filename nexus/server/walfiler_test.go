package server_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/server"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// TestLogIsReadAfterItsEndWasTakenBack takes the end of raft's log back, as a
// server does when another leader decided otherwise, and opens it again.
func TestLogIsReadAfterItsEndWasTakenBack(t *testing.T) {
	dir := t.TempDir()
	log, err := server.OpenLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	}()
	var want []string // entry i+1
	write := func(first, last int, term uint64) {
		t.Helper()
		want = want[:first-1]
		for i := first; i <= last; i++ {
			data := fmt.Sprintf("entry %d of term %d", i, term)
			want = append(want, data)
			if err := log.StoreLog(&raft.Log{Index: uint64(i), Term: term, Data: []byte(data)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	check := func(when string) {
		t.Helper()
		if last, err := log.LastIndex(); err != nil || last != uint64(len(want)) {
			t.Fatalf("%s: last entry %d %v, want %d", when, last, err, len(want))
		}
		for i, data := range want {
			var got raft.Log
			if err := log.GetLog(uint64(i+1), &got); err != nil || string(got.Data) != data {
				t.Fatalf("%s: entry %d: %q %v, want %q", when, i+1, got.Data, err, data)
			}
		}
	}
	write(1, 10, 1)
	for term, first := range []int{8, 9, 5, 5, 2} {
		if err := log.DeleteRange(uint64(first), uint64(len(want))); err != nil {
			t.Fatal(err)
		}
		write(first, 10+term, uint64(term+2))
		check("before it was closed")
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
		if log, err = server.OpenLog(dir); err != nil {
			t.Fatal(err)
		}
		check("opened again")
	}
}

// TestADamagedLogIsAnError damages an entry of a server's log: the server does
// not start and says why, and starts once the log is whole again.
func TestADamagedLogIsAnError(t *testing.T) {
	c := newCluster(t, 1)
	id := c.submit(0, chain.PolicyNone{})
	c.stop(0)
	files, err := filepath.Glob(filepath.Join(c.configs[0].Home, "*", "raft", "log", "*.wal"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the log is in %d files, %v", len(files), err)
	}
	whole, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	const first = 32 + 8 // behind the heads of the file and of its first entry
	damaged := bytes.Clone(whole)
	for i := range 32 {
		damaged[first+i] = 0xff
	}
	if err := os.WriteFile(files[0], damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := server.Open(c.configs[0], c.chain); err == nil {
		t.Fatalf("%v starts on a damaged log", s)
	} else {
		t.Log(err)
	}
	if err := os.WriteFile(files[0], whole, 0o600); err != nil {
		t.Fatal(err)
	}
	c.start(0)
	c.waitLeader()
	get[api.Job](c, 0, "/v1/jobs/"+id.String()+"?consistency=linearizable")
}

// TestOpenThatFailsClosesWhatItOpened has Open fail at each of its steps: it says
// why, and the server starts from the same home once the reason is gone.
func TestOpenThatFailsClosesWhatItOpened(t *testing.T) {
	c := newCluster(t, 1)
	id := c.submit(0, chain.PolicyNone{})
	c.stop(0)
	home := c.configs[0].Home
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := taken.Close(); err != nil {
			t.Error(err)
		}
	}()
	// away has something else be in the place of a file or directory.
	away := func(path ...string) func(*server.Config) (undo func()) {
		return func(*server.Config) func() {
			at := filepath.Join(append([]string{home}, path...)...)
			if err := errors.Join(os.Rename(at, at+".away"), os.WriteFile(at, []byte("?"), 0o600)); err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := errors.Join(os.Remove(at), os.Rename(at+".away", at)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for name, spoil := range map[string]func(*server.Config) (undo func()){
		"key": away(server.NodeKeyFile),
		"servers": func(cfg *server.Config) func() {
			cfg.Servers = []string{key(serverKeys+1).Public().String() + "@127.0.0.1:1"}
			return func() {}
		},
		"blobs":    away("data", "blobs"),
		"raft":     away("data", "raft"),
		"log":      away("data", "raft", "log"),
		"meta":     away("data", "raft", "log", "wal-meta.db"),
		"HTTP":     func(cfg *server.Config) func() { cfg.HTTP = taken.Addr().String(); return func() {} },
		"UDP port": func(cfg *server.Config) func() { cfg.Listen = "192.0.2.1:1"; return func() {} },
	} {
		cfg := c.configs[0]
		undo := spoil(&cfg)
		s, err := server.Open(cfg, c.chain)
		undo()
		if err == nil || s != nil {
			t.Fatalf("%s: %v, %v", name, s, err)
		}
		t.Log(name, err)
		c.start(0)
		c.waitLeader()
		get[api.Job](c, 0, "/v1/jobs/"+id.String()+"?consistency=linearizable")
		c.stop(0)
	}
}
