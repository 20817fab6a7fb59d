package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/smart-contracts/templates"
)

func TestContractsPageParses(t *testing.T) {
	if n := len(guideOf(t, "CONTRACTS.md")); n < 3 {
		t.Errorf("%d blocks are run", n)
	}
}

// toFirstCall is how long all commands of docs/CONTRACTS.md may take, from the first to a call on a network.
const toFirstCall = 5 * time.Minute

// TestContractsPage runs docs/CONTRACTS.md as a new developer does, who has no compiler yet.
func TestContractsPage(t *testing.T) {
	endToEnd(t)
	n := contractDeveloper(t, t.TempDir())
	began, called := time.Now(), time.Duration(0)
	n.follow(t, "CONTRACTS.md", func(block string) {
		if called == 0 && strings.Contains(block, "contract execute") {
			called = time.Since(began)
		}
	})
	if t.Logf("%s to the first call", called); called == 0 || called > toFirstCall {
		t.Errorf("%s to the first call, want less than %s", called, toFirstCall)
	}
	n.proves(t)
	n.spoil(t)
}

// proves reads what the counter keeps with a proof, which the client checks against certified blocks, and what the node
// says of it.
func (n *newcomer) proves(t *testing.T) {
	t.Helper()
	target, err := openNetwork(filepath.Join(n.dir, "net.json"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(n.dir, "address"))
	if err != nil {
		t.Fatal(err)
	}
	counter, err := chain.ParseAddress(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"count": "6", "nothing": ""} {
		value, err := target.client.VerifiedContractState(t.Context(), counter, []byte(key))
		if err != nil {
			t.Fatal(err)
		}
		if kept, there := value.Get(); string(kept) != want || there != (want != "") {
			t.Errorf("under %s it keeps %q, %v; want %q", key, kept, there, want)
		}
	}
	proven, err := target.client.VerifiedContract(t.Context(), counter)
	if err != nil {
		t.Fatal(err)
	}
	said, err := target.client.Contract(t.Context(), counter)
	if err != nil {
		t.Fatal(err)
	}
	if c, there := proven.Get(); !there || c.Label != "my counter" || c.Label != said.Label || c.Bytes != uint64(said.Bytes) {
		t.Errorf("the contract is proven to be %+v, and said to be %+v", c, said)
	}
}

// spoil has calls refused, a test fail, and a contract that does not compile, one after
// the other: why is said, and the exit code is 1.
func (n *newcomer) spoil(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for _, c := range [][2]string{
		{`hypermesh contract execute --contract $(cat address) --account bob --config net.json --yes '{"reset":{"count":1}}'`, "only the owner may"},
		{`hypermesh contract query --contract $(cat address) --config net.json '{"total":{}}'`, "unknown message total"},
		{`hypermesh contract migrate --contract $(cat address) --code 1 --config net.json --yes '{}'`, "admin"},
		{`sed -i 's/"count":0/"count":9/' counter/tests.ts; hypermesh contract test counter`, `FAIL  counts down, and stops at zero: got {"count":0}, want {"count":9}`},
		{`echo 'let n: u64 = "five";' >> counter/contract.ts; hypermesh contract build counter`, `Type '~lib/string/String' is not assignable to type 'u64'`},
	} {
		out, err := n.shell(ctx, c[0]).CombinedOutput()
		if err == nil || !strings.Contains(string(out), c[1]) {
			t.Errorf("%s: %v\n%s\nwant %q in it", c[0], err, out, c[1])
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
	dir, empty := t.TempDir(), filepath.Join(t.TempDir(), "empty.wasm")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
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
		{[]string{"store"}, exitUsage, "want one FILE"},
		{[]string{"store", filepath.Join(dir, "none.wasm"), "--config", "x"}, exitFailed, "no such file"},
		{[]string{"store", empty, "--config", "x"}, exitFailed, "code of 0 bytes"},
		{[]string{"instantiate", "{}"}, exitUsage, "code"},
		{[]string{"instantiate", "{}", "--code", "1", "--label", ""}, exitUsage, "--label: want 1 to 128 bytes"},
		{[]string{"instantiate", "{}", "--code", "1", "--label", "a", "--salt", "xyz"}, exitUsage, "hexadecimal"},
		{[]string{"instantiate", "{}", "--code", "1", "--label", "a", "--admin", "me"}, exitUsage, "--admin"},
		{[]string{"instantiate", "{}", "--code", "1", "--label", "a", "--funds", "much"}, exitUsage, "--funds"},
		{[]string{"execute", "{", "--contract", "x"}, exitUsage, "MSG is not JSON"},
		{[]string{"execute", "{}", "--contract", "x"}, exitUsage, "--contract"},
		{[]string{"execute", "{}", "{}", "--contract", "x"}, exitUsage, "want one MSG"},
		{[]string{"migrate", "{}", "--contract", "x", "--code", "2"}, exitUsage, "--contract"},
		{[]string{"query", "{}", "--contract", "x"}, exitUsage, "--contract"},
		{[]string{"pin", "1"}, exitUsage, "max-burn"},
		{[]string{"pin", "--max-burn", "1"}, exitUsage, "want one CODE"},
		{[]string{"pin", "0", "--max-burn", "1"}, exitUsage, "CODE is a number from 1 on"},
		{[]string{"pin", "1", "--max-burn", "much"}, exitUsage, "--max-burn"},
		{[]string{"pin", "1", "--max-burn", "1", "--periods", "0"}, exitUsage, "--periods: want 1 to 30"},
		{[]string{"pin", "1", "--max-burn", "1", "--periods", "31"}, exitUsage, "--periods: want 1 to 30"},
		{[]string{"code", "one"}, exitUsage, "CODE is a number from 1 on"},
	} {
		if code, _, stderr := invoke(t, append([]string{"contract"}, c.args...)...); code != c.code || !strings.Contains(stderr, c.want) {
			t.Errorf("%v: exit code %d, want %d; %q, want %q in it", c.args, code, c.code, stderr, c.want)
		}
	}
}
