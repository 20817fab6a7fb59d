package settlement_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEveryInvariantHasItsTests: the page lists each invariant of the package comment once, in order, with tests that there are.
func TestEveryInvariantHasItsTests(t *testing.T) {
	comment, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/SETTLEMENT.md")
	if err != nil {
		t.Fatal(err)
	}
	there := testsBelow(t, "..", "../../internal/execution", "../../nexus/match", "../../cmd/hypersim")
	_, table, found := strings.Cut(string(page), "\n## What always holds\n")
	if !found {
		t.Fatal("the page does not say what always holds")
	}
	name := regexp.MustCompile("`(Test[A-Za-z0-9]+)`")
	for _, match := range name.FindAllStringSubmatch(table, -1) {
		if !there[match[1]] {
			t.Errorf("the page names %s, which is not there", match[1])
		}
	}
	rows := regexp.MustCompile(`(?m)^\| (\d+) \|.*$`).FindAllStringSubmatch(table, -1)
	listed := regexp.MustCompile(`(?m)^// {1,2}(\d+)\. `).FindAllStringSubmatch(string(comment), -1)
	if len(rows) != len(listed) || len(listed) < 15 {
		t.Fatalf("the page has %d invariants, the package %d", len(rows), len(listed))
	}
	for i, row := range rows {
		if want := fmt.Sprint(i + 1); row[1] != want || listed[i][1] != want || !name.MatchString(row[0]) {
			t.Errorf("invariant %s: number %s in the package, and %q", want, listed[i][1], row[0])
		}
	}
}

// testsBelow lists the tests of packages below some directories.
func testsBelow(t *testing.T, dirs ...string) map[string]bool {
	t.Helper()
	begins, out := regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(t \*testing\.T\)`), map[string]bool{}
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			source, err := os.ReadFile(path)
			for _, match := range begins.FindAllStringSubmatch(string(source), -1) {
				out[match[1]] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}
