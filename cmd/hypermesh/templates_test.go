package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestTemplatesPageParses(t *testing.T) {
	if n := len(guideOf(t, "TEMPLATES.md")); n < 9 {
		t.Errorf("%d blocks are run", n)
	}
}

// TestTemplatesPage runs the examples of docs/TEMPLATES.md on a network.
func TestTemplatesPage(t *testing.T) {
	endToEnd(t)
	cache, err := filepath.Abs("../../bin/tools/cache")
	if err != nil {
		t.Fatal(err)
	}
	n := contractDeveloper(t, cache)
	n.follow(t, "TEMPLATES.md", func(string) {})
}

// contractDeveloper is somebody with a network, a directory where its description is, and one for what programs keep.
func contractDeveloper(t *testing.T, cache string) *newcomer {
	t.Helper()
	program, _ := programs(t)
	network := startDevnet(t, "--servers", "0", "--agents", "0", "--no-explorer")
	n := &newcomer{dir: t.TempDir(), env: append(os.Environ(),
		"PATH="+filepath.Dir(program)+string(filepath.ListSeparator)+os.Getenv("PATH"), "XDG_CACHE_HOME="+cache)}
	if description, err := os.ReadFile(network.path); err != nil || os.WriteFile(filepath.Join(n.dir, "net.json"), description, 0o600) != nil {
		t.Fatalf("the network's description: %v", err)
	}
	return n
}

// follow runs the blocks of a page of docs/, one after the other, and tells of each that it has run.
func (n *newcomer) follow(t *testing.T, page string, ran func(block string)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute) // the first build installs the compiler
	defer cancel()
	for _, b := range guideOf(t, page) {
		out, err := n.shell(ctx, b.text).CombinedOutput()
		t.Logf("%s\n%s", b.text, out)
		if err != nil {
			t.Fatalf("docs/%s:%d: %v", page, b.line, err)
		}
		ran(b.text)
	}
}
