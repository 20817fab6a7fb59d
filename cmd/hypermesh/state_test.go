package main

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/statesync"
)

// exportOf writes a state after block 7 to a file.
func exportOf(t *testing.T, pairs map[string]string) (path, root string) {
	t.Helper()
	kv := state.NewOverlay(state.NewMemoryBackend())
	for key, value := range pairs { // order-free: keys of a map
		kv.Set([]byte(key), []byte(value))
	}
	tree, err := state.NewTree(state.NewMemoryBackend(), 0).Next(7, kv.Changes(), 1)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "state.hms")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = statesync.WriteExport(f, statesync.ExportHeader{ChainID: "diff-1", Height: 7, Root: tree.Root()}, tree)
	if errClose := f.Close(); err != nil || errClose != nil {
		t.Fatal(err, errClose)
	}
	return path, tree.Root().String()
}

// Two nodes that do not agree about the state are told apart by their exports: the report
// says how many keys differ, and names the first by its position, with both values.
func TestStateDiffNamesTheFirstKey(t *testing.T) {
	one := map[string]string{"alice": "5", "bob": "7", "carol": "", "dave": "1", "erin": "2", "frank": "3"}
	other := map[string]string{"alice": "5", "bob": "8", "dave": "1", "erin": "2", "frank": "3", "grace": "9"}
	a, rootA := exportOf(t, one)
	b, rootB := exportOf(t, other)
	differ := []string{"bob", "carol", "grace"}
	slices.SortFunc(differ, func(x, y string) int { return state.Position([]byte(x)).Compare(state.Position([]byte(y))) })

	first := hex.EncodeToString([]byte(differ[0]))
	want := "the states after block 7 differ about 3 keys, the first is " + first
	r := decode[diffResult](t, refuse(t, want, "state", "diff", "--json", a, b))
	if r.Height != 7 || r.RootA != rootA || r.RootB != rootB || r.Differences != 3 || len(r.Keys) != 3 {
		t.Fatalf("%+v", r)
	}
	hexOf := func(pairs map[string]string, key string) string {
		value, ok := pairs[key]
		if !ok {
			return "none"
		}
		return hex.EncodeToString([]byte(value))
	}
	text := func(v *string) string {
		if v == nil {
			return "none"
		}
		return *v
	}
	for i, key := range differ {
		k := r.Keys[i]
		if k.Key != hex.EncodeToString([]byte(key)) || k.Position != state.Position([]byte(key)).String() || text(k.A) != hexOf(one, key) || text(k.B) != hexOf(other, key) {
			t.Errorf("key %d is %+v, want %s", i, k, key)
		}
	}
	if r := decode[diffResult](t, refuse(t, want, "state", "diff", "--json", "--limit", "1", a, b)); r.Differences != 3 || len(r.Keys) != 1 || r.Keys[0].Key != first {
		t.Errorf("with room for one: %+v", r)
	}
	if printed := refuse(t, want, "state", "diff", a, b); !strings.Contains(printed, "key    "+first) || !strings.Contains(printed, "not there") {
		t.Errorf("printed:\n%s", printed)
	}
	same, _ := exportOf(t, one)
	if r := decode[diffResult](t, succeed(t, "state", "diff", "--json", a, same)); r.Differences != 0 || r.RootA != r.RootB || r.RootA == (crypto.Digest{}).String() {
		t.Errorf("of one state: %+v", r)
	}
}
