package lint

import (
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/golden"
)

// names of all lints, each of which must find something in testdata/broken.
var lintNames = []string{
	"rooms", "imports", "owners", "package-comment", "names", "file-size", "function-size", "parameters", "bools", "init",
	"pure", "clock", "map-order", "exceptions", "sums", "parse", "load",
}

// violations runs every lint over a checkout.
func violations(t *testing.T, root string) []violation {
	t.Helper()
	tree, err := load(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, lint := range []func(){
		tree.lintRooms, tree.lintImports, tree.lintOwners, tree.lintPackageComments, tree.lintNames, tree.lintSizes,
		tree.lintPure, tree.lintClock, tree.lintMapOrder, tree.lintStaleExceptions, tree.lintSums,
	} {
		lint()
	}
	slices.SortFunc(tree.found, func(a, b violation) int { return strings.Compare(a.String(), b.String()) })
	return tree.found
}

// TestWalls holds this repository to its page.
func TestWalls(t *testing.T) {
	for _, v := range violations(t, "../..") {
		t.Error(v)
	}
}

// TestEveryLintBites runs the lints over a repository that breaks every rule,
// beside code that comes close and breaks none.
func TestEveryLintBites(t *testing.T) {
	found := violations(t, "testdata/broken")
	var out strings.Builder
	bites := map[string]bool{}
	for _, v := range found {
		out.WriteString(v.String() + "\n")
		bites[v.lint] = true
	}
	for _, lint := range lintNames {
		if !bites[lint] {
			t.Errorf("%s finds nothing in its fixture", lint)
		}
		delete(bites, lint)
	}
	for lint := range bites {
		t.Errorf("lint %s is not on the list", lint)
	}
	golden.Check(t, "testdata/broken.txt", out.String())
}
