package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/nexus/scheduler"
	"github.com/hypermesh/hypermesh/nexus/server"
)

// TestADiskOfAnotherFormIsRefused: a server whose log another form of the program has written does not start, and says why,
// also if that was before forms were noted, and before it reads anything that the other may have written otherwise; with its own it does.
func TestADiskOfAnotherFormIsRefused(t *testing.T) {
	c := newCluster(t, 1)
	c.waitLeader()
	c.stop(0)
	form := filepath.Join(c.configs[0].Home, "data", "raft", "form")
	own, err := os.ReadFile(form)
	if err != nil || string(own) != scheduler.Form+"\n" {
		t.Fatalf("it noted %q, %v", own, err)
	}
	others := map[string][]byte{} // what only the other form reads
	for _, name := range []string{"aside", filepath.Join("log", "wal-meta.db")} {
		path := filepath.Join(filepath.Dir(form), name)
		others[path], _ = os.ReadFile(path) // none: nothing was put aside
		if err := os.WriteFile(path, []byte("as the other form writes it"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, x := range map[string]struct {
		change func() error
		says   string
	}{
		"older": {func() error { return os.WriteFile(form, []byte("1\n"), 0o600) }, `are of form "1", this program reads form ` + scheduler.Form},
		"newer": {func() error { return os.WriteFile(form, []byte("9999\n"), 0o600) }, `are of form "9999", this program reads form ` + scheduler.Form},
		"none":  {func() error { return os.Remove(form) }, "are of a form before form 2, this program reads form " + scheduler.Form},
	} {
		if err := x.change(); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Open(c.configs[0], c.chain); err == nil || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%s: %v", name, err)
		}
		if name == "none" {
			if _, err := os.Stat(form); err == nil {
				t.Error("it calls what others have written its own")
			}
		}
		if err := os.WriteFile(form, own, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for path, was := range others {
		err := os.Remove(path)
		if was != nil {
			err = os.WriteFile(path, was, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	c.start(0)
	c.waitLeader()
}
