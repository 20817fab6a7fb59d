package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/devnet"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/sdk"
)

// lockedBuffer is an output that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// aloneHome is the home of a validator that was alone on its chain for an epoch and
// a little more, and is stopped.
func aloneHome(t *testing.T) string {
	t.Helper()
	home := filepath.Join(t.TempDir(), "node")
	succeed(t, "node", "init", "--home", home, "--validator", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
	nodeKey, err := node.ReadKey(filepath.Join(home, node.NodeKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	key, err := node.ReadKey(filepath.Join(home, node.ConsensusKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	params := devnet.Params(time.Second)
	params.IdleMs = 100
	rest := chain.ModuleAddress("rest")
	g := chain.NewGenesis("alone-1", chain.TimeMs(time.Now().UnixMilli()), params, chain.Holders{Community: rest, Team: rest, Foundation: rest, Validators: rest, Sale: rest})
	if err := g.AddValidator(chain.GenesisValidator{Name: "a", ConsensusKey: key.Public(), NodeKey: nodeKey.Public(), Owner: rest, Stake: chain.Hyper(1_000_000), Endpoint: "127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, node.GenesisFile), raw, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	log := &lockedBuffer{}
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, []string{programName, "node", "run", "--home", home}, &lockedBuffer{}, log) }()
	address := regexp.MustCompile(`http=(127\.0\.0\.1:\d+)`)
	var client *sdk.Client
	until(t, "an epoch to end", time.Minute, func() bool {
		if client == nil {
			found := address.FindStringSubmatch(log.String())
			if found == nil {
				return false
			}
			if client, err = sdk.New(sdk.Config{Nodes: []string{"http://" + found[1]}}); err != nil {
				t.Fatal(err)
			}
		}
		end, err := client.EpochEnd(t.Context(), 0)
		return err == nil && end.Epoch >= 2
	})
	stop()
	if code := <-ended; code != 0 {
		t.Fatalf("the node ends with %d:\n%s", code, log)
	}
	return home
}

// succeed runs a command that has to, and returns what it prints.
func succeed(t *testing.T, args ...string) string {
	t.Helper()
	code, stdout, stderr := invoke(t, args...)
	if code != 0 {
		t.Fatalf("%s: exit code %d: %s", strings.Join(args, " "), code, stderr)
	}
	return stdout
}

// refuse runs a command that has to fail, saying why.
func refuse(t *testing.T, want string, args ...string) string {
	t.Helper()
	code, stdout, stderr := invoke(t, args...)
	if code != exitFailed || !strings.Contains(stderr, want) {
		t.Errorf("%s: exit code %d, stderr %q, want %q in it", strings.Join(args, " "), code, stderr, want)
	}
	return stdout
}

func decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

// The commands that look after a stopped node's data, one after another on the
// data of a real one.
func TestOperateANode(t *testing.T) {
	home := aloneHome(t)
	report := decode[node.VerifyReport](t, succeed(t, "node", "verify", "--home", home, "--json"))
	if len(report.Faults) != 0 || !report.Closed || report.Height < 10 || report.Blocks != uint64(report.Height) || report.Verified == 0 || report.Supply == nil {
		t.Fatalf("%+v", report)
	}
	if text := succeed(t, "node", "verify", "--home", home); !strings.Contains(text, report.StateRoot.String()) {
		t.Error(text)
	}
	stat := decode[statResult](t, succeed(t, "node", "stat", "--home", home, "--live", "--json"))
	if stat.Height != uint64(report.Height) || stat.Disk == 0 || stat.Live == 0 || stat.FirstBlock != 1 ||
		stat.All < stat.Files["chain"] || stat.Files["chain"] == 0 || stat.Ratio != float64(stat.All)/float64(stat.Live) {
		t.Errorf("%+v", stat)
	}

	file, again := filepath.Join(t.TempDir(), "state"), filepath.Join(t.TempDir(), "again")
	exported := decode[exportResult](t, succeed(t, "state", "export", "--home", home, file, "--json"))
	succeed(t, "state", "export", "--home", home, again)
	if one, two := read(t, file), read(t, again); !bytes.Equal(one, two) || !exported.Begins || uint64(len(one)) < exported.Bytes {
		t.Errorf("%+v; the files have %d and %d bytes", exported, len(one), len(two))
	}
	second := filepath.Join(t.TempDir(), "second")
	succeed(t, "node", "init", "--home", second)
	if err := os.WriteFile(filepath.Join(second, node.GenesisFile), read(t, filepath.Join(home, node.GenesisFile)), 0o644); err != nil {
		t.Fatal(err)
	}
	imported := decode[exportResult](t, succeed(t, "state", "import", "--home", second, file, "--json"))
	if imported.Height != exported.Height+1 || imported.Keys != exported.Keys || imported.Digest != exported.Digest {
		t.Errorf("%+v, exported was %+v", imported, exported)
	}
	refuse(t, "not empty", "state", "import", "--home", second, file)
	if r := decode[node.VerifyReport](t, succeed(t, "node", "verify", "--home", second, "--json")); r.Blocks != 1 || r.Height != imported.Height || r.Verified != 1 {
		t.Errorf("%+v", r)
	}
	succeed(t, "state", "diff", second, home)
	succeed(t, "state", "diff", file, home)
	checkDiff(t, home, file, exported.Height)
	checkDamage(t, home, second, file)

	succeed(t, "node", "prune", "--home", home, "--keep-versions", "3")
	if after := decode[statResult](t, succeed(t, "node", "stat", "--home", home, "--json")); after.FirstBlock == 1 || after.FirstBlock > uint64(exported.Height) {
		t.Errorf("blocks from %d on are left, a joiner begins after %d: %+v", after.FirstBlock, exported.Height, after)
	}
	sizes := decode[map[string]uint64](t, succeed(t, "node", "compact", "--home", home, "--json"))
	if after := decode[statResult](t, succeed(t, "node", "stat", "--home", home, "--json")); sizes["disk_bytes"] >= sizes["disk_bytes_before"] || after.Disk != sizes["disk_bytes"] {
		t.Errorf("compact says %v, then the disk has %d bytes", sizes, after.Disk)
	}
	refuse(t, "nothing is stored", "node", "verify", "--home", filepath.Join(t.TempDir(), "none"))
	if r := decode[node.VerifyReport](t, succeed(t, "node", "verify", "--home", home, "--json")); len(r.Faults) != 0 || r.Height != report.Height || r.StateRoot != report.StateRoot {
		t.Errorf("after pruning: %+v", r)
	}
	succeed(t, "state", "diff", file, home)
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// checkDiff compares two states that differ.
func checkDiff(t *testing.T, home, file string, height chain.Height) {
	t.Helper()
	tip := filepath.Join(t.TempDir(), "tip")
	last := decode[node.VerifyReport](t, succeed(t, "node", "verify", "--home", home, "--json")).Height
	exported := decode[exportResult](t, succeed(t, "state", "export", "--home", home, "--height", strconv.FormatUint(uint64(last), 10), tip, "--json"))
	if exported.Begins || exported.Height != last {
		t.Errorf("%+v", exported)
	}
	refuse(t, "has the state after block", "state", "diff", tip, file)
	refuse(t, "no home can begin there", "state", "import", "--home", emptyHome(t, home), tip)
	refuse(t, "is not kept", "state", "export", "--home", home, "--height", "1000000", tip)
}

// emptyHome is a home with the genesis of another.
func emptyHome(t *testing.T, home string) string {
	t.Helper()
	empty := t.TempDir()
	if err := os.WriteFile(filepath.Join(empty, node.GenesisFile), read(t, filepath.Join(home, node.GenesisFile)), 0o644); err != nil {
		t.Fatal(err)
	}
	return empty
}

// checkDamage flips bits of an export and of a home.
func checkDamage(t *testing.T, home, second, file string) {
	t.Helper()
	raw := read(t, file)
	for _, at := range []int{0, 20, len(raw) / 2, len(raw) - 40, len(raw) - 1} {
		bad := bytes.Clone(raw)
		bad[at] ^= 4
		path := filepath.Join(t.TempDir(), "bad")
		if err := os.WriteFile(path, bad, 0o644); err != nil {
			t.Fatal(err)
		}
		if code, _, stderr := invoke(t, "state", "import", "--home", emptyHome(t, home), path); code != exitFailed {
			t.Errorf("byte %d of %d of the export is flipped: exit code %d: %s", at, len(raw), code, stderr)
		}
	}
	files, err := filepath.Glob(filepath.Join(second, "data", "chain", "MANIFEST-*"))
	if err != nil || len(files) == 0 {
		t.Fatal("the database has no manifest", err)
	}
	damaged := files[len(files)-1]
	content := read(t, damaged)
	content[len(content)-20] ^= 1
	if err := os.WriteFile(damaged, content, 0o644); err != nil {
		t.Fatal(err)
	}
	out := refuse(t, damaged, "node", "verify", "--home", second, "--json")
	if r := decode[node.VerifyReport](t, out); len(r.Faults) == 0 || !strings.Contains(r.Faults[0], damaged) {
		t.Errorf("%+v", r)
	}
	refuse(t, damaged, "node", "stat", "--home", second)
}
