package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/smart-contracts/templates"
)

func contractsGuide(t *testing.T) []guideBlock {
	t.Helper()
	text, err := os.ReadFile("../../docs/CONTRACTS.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := parseGuide(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return blocks
}

func TestContractsPageParses(t *testing.T) {
	if n := len(contractsGuide(t)); n < 3 {
		t.Errorf("%d blocks are run", n)
	}
}

// TestContractsPage runs docs/CONTRACTS.md as a developer does.
func TestContractsPage(t *testing.T) {
	endToEnd(t)
	program, _ := programs(t)
	cache, err := filepath.Abs("../../bin/tools/cache")
	if err != nil {
		t.Fatal(err)
	}
	n := &newcomer{dir: t.TempDir(), env: append(os.Environ(),
		"PATH="+filepath.Dir(program)+string(filepath.ListSeparator)+os.Getenv("PATH"), "XDG_CACHE_HOME="+cache)}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute) // the first build installs the compiler
	defer cancel()
	for _, b := range contractsGuide(t) {
		out, err := n.shell(ctx, b.text).CombinedOutput()
		t.Logf("%s\n%s", b.text, out)
		if err != nil {
			t.Fatalf("docs/CONTRACTS.md:%d: %v", b.line, err)
		}
	}
	n.spoil(t, ctx)
}

// spoil has a test fail, and a contract that does not compile: both are said, and the
// exit code is 1.
func (n *newcomer) spoil(t *testing.T, ctx context.Context) {
	t.Helper()
	for text, want := range map[string]string{
		`sed -i 's/"count":0/"count":9/' counter/tests.ts; hypermesh contract test counter`:    `FAIL  counts down, and stops at zero: got {"count":0}, want {"count":9}`,
		`echo 'let n: u64 = "five";' >> counter/contract.ts; hypermesh contract build counter`: `Type '~lib/string/String' is not assignable to type 'u64'`,
	} {
		out, err := n.shell(ctx, text).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v\n%s\nwant %q in it", text, err, out, want)
		}
	}
}

// TestContractNew makes each template, needs no compiler, and does not write over
// what is there.
func TestContractNew(t *testing.T) {
	for _, name := range templates.Names() {
		dir := filepath.Join(t.TempDir(), "mine")
		if code, _, stderr := invoke(t, "contract", "new", dir, "--template", name); code != 0 || !strings.Contains(stderr, "hypermesh contract test") {
			t.Errorf("%s: exit code %d: %s", name, code, stderr)
		}
		for _, file := range []string{"index.ts", "tests.ts", "contract.ts", "kit/index.ts"} {
			if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if code, _, stderr := invoke(t, "contract", "new", dir); code != 1 || !strings.Contains(stderr, "not empty") {
			t.Errorf("%s again: exit code %d: %s", name, code, stderr)
		}
	}
}

// TestContractMistakes needs no compiler either.
func TestContractMistakes(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"new"}, exitUsage, "want one DIR"},
		{[]string{"new", dir, "--template", "casino"}, exitUsage, `there is no template "casino"`},
		{[]string{"build"}, exitUsage, "want one DIR"},
		{[]string{"build", dir, "--fast"}, exitUsage, "-fast"},
		{[]string{"build", dir}, exitFailed, "there is no index.ts"},
		{[]string{"build", filepath.Join(dir, "none")}, exitFailed, "no such file"},
		{[]string{"test", dir, dir}, exitUsage, "want one DIR"},
		{[]string{"test", dir}, exitFailed, "there is no index.ts"},
	} {
		if code, _, stderr := invoke(t, append([]string{"contract"}, c.args...)...); code != c.code || !strings.Contains(stderr, c.want) {
			t.Errorf("%v: exit code %d, want %d; %q, want %q in it", c.args, code, c.code, stderr, c.want)
		}
	}
}
