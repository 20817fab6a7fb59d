package explorer_test

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/explorer"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// running is an explorer that serves.
type running struct {
	t    testing.TB
	url  string
	home string
	stop func()
}

func configFor(home string, nodes ...*fakeChain) explorer.Config {
	config := explorer.DefaultConfig()
	config.Home, config.Listen, config.CacheMiB = home, "127.0.0.1:0", 4
	config.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	config.RPC = nil
	for _, n := range nodes {
		config.RPC = append(config.RPC, n.server.URL)
	}
	config.Nexus = []string{nodes[0].server.URL}
	return config
}

func start(t testing.TB, config explorer.Config) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	e, err := explorer.Open(ctx, config)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	stopped := false
	r := &running{t: t, url: "http://" + e.Addr().String(), home: config.Home}
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the explorer ended: %v", err)
		}
	}
	t.Cleanup(r.stop)
	return r
}

func closeOf(t testing.TB, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// reach waits on the live stream until a height is indexed.
func (r *running) reach(height chain.Height) {
	r.t.Helper()
	response, err := http.Get(r.url + "/live")
	if err != nil {
		r.t.Fatal(err)
	}
	defer closeOf(r.t, response.Body)
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var head struct{ Height chain.Height }
		if err := json.Unmarshal([]byte(data), &head); err != nil {
			r.t.Fatal(err)
		}
		if head.Height >= height {
			return
		}
	}
	r.t.Fatalf("the live stream ended before height %d", height)
}

// get returns a page, following no redirect.
func (r *running) get(path string) (status int, body string, header http.Header) {
	r.t.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Get(r.url + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer closeOf(r.t, response.Body)
	text, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return response.StatusCode, string(text), response.Header
}

// dump returns every row of every table of a stopped explorer's index.
func dump(t testing.TB, home string) []string {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(home, "index.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer closeOf(t, db)
	var out []string
	for _, table := range []string{"tip", "gaps", "blocks", "txs", "activity", "orders", "claims", "records", "parties"} {
		rows, err := db.Query("SELECT * FROM " + table)
		if err != nil {
			t.Fatal(err)
		}
		columns, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			values, targets := make([]any, len(columns)), make([]any, len(columns))
			for i := range values {
				targets[i] = &values[i]
			}
			if err := rows.Scan(targets...); err != nil {
				t.Fatal(err)
			}
			out = append(out, fmt.Sprintf("%s %x", table, values))
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		closeOf(t, rows)
	}
	return out
}

func TestIndexIsAFunctionOfTheChain(t *testing.T) {
	t.Parallel()
	node := newFakeChain(t)
	node.story()
	home, other := t.TempDir(), t.TempDir()
	half := start(t, configFor(home, node))
	half.reach(6)
	half.stop()
	for i := range 300 {
		node.seal(node.transfer(i%7+2, i%5+10, chain.Nano(uint64(i)), ""))
	}
	again := start(t, configFor(home, node)) // goes on in the middle
	again.reach(306)
	again.stop()
	whole := start(t, configFor(other, node)) // replays everything
	whole.reach(306)
	whole.stop()
	first, second := dump(t, home), dump(t, other)
	if len(first) < 306*4 || !slices.Equal(first, second) {
		t.Fatalf("%d rows against %d: %s", len(first), len(second), difference(first, second))
	}
	node.mu.Lock()
	defer node.mu.Unlock()
	if n := node.asked["/v1/blocks/3"]; n != 2 {
		t.Errorf("block 3 was asked for %d times, want once for each home", n)
	}
}

func difference(a, b []string) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return a[i] + "\n" + b[i]
		}
	}
	return "one is longer"
}

func TestIndexOfAnotherSchemaOrDamagedIsBuiltAgain(t *testing.T) {
	t.Parallel()
	node := newFakeChain(t)
	node.story()
	reference := t.TempDir()
	r := start(t, configFor(reference, node))
	r.reach(6)
	r.stop()
	spoil := map[string]func(path string) error{
		"another schema": func(path string) error {
			db, err := sql.Open("sqlite", "file:"+path)
			if err != nil {
				return err
			}
			defer closeOf(t, db)
			_, err = db.Exec("CREATE TABLE old (a INTEGER); INSERT INTO old VALUES (1); PRAGMA user_version = 99")
			return err
		},
		"no database": func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("garbage ", 1000)), 0o600) },
	}
	for name, damage := range spoil {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			if err := damage(filepath.Join(home, "index.db")); err != nil {
				t.Fatal(err)
			}
			r := start(t, configFor(home, node))
			r.reach(6)
			r.stop()
			if a, b := dump(t, reference), dump(t, home); !slices.Equal(a, b) {
				t.Fatal(difference(a, b))
			}
		})
	}
}

func TestAnotherChainIsIndexedAnew(t *testing.T) {
	t.Parallel()
	old, other := newFakeChain(t), newFakeChain(t)
	old.story()
	home := t.TempDir()
	r := start(t, configFor(home, old))
	r.reach(6)
	r.stop()
	other.genesis = crypto.Digest{33}
	other.start += 77
	for range 8 {
		other.seal(other.transfer(2, 3, chain.Hyper(1), ""))
	}
	r = start(t, configFor(home, other))
	r.reach(8)
	if status, body, _ := r.get("/jobs/" + plainOrder.ID().String()); status != http.StatusNotFound {
		t.Errorf("a job of the old chain is still there: %d %s", status, body)
	}
	r.stop()
	// The same genesis and yet another chain: finality forbids it, a node that
	// was reset does it.
	third := newFakeChain(t)
	third.genesis = other.genesis
	for range 12 {
		third.seal()
	}
	r = start(t, configFor(home, third))
	r.reach(12)
	if _, body, _ := r.get("/blocks/3"); !strings.Contains(body, third.digest(3).String()) {
		t.Error("block 3 is of the chain before")
	}
}

func TestGapIsRecordedAndShown(t *testing.T) {
	t.Parallel()
	node := newFakeChain(t)
	for range 40 {
		node.seal()
	}
	node.lowest = 23
	r := start(t, configFor(t.TempDir(), node))
	r.reach(40)
	if _, body, _ := r.get("/blocks"); !strings.Contains(body, "Blocks 1 to 22 were gone") {
		t.Errorf("the gap is not told: %s", body)
	}
	for height, want := range map[int]int{22: http.StatusNotFound, 23: http.StatusOK, 40: http.StatusOK, 41: http.StatusNotFound} {
		if status, _, _ := r.get(fmt.Sprintf("/blocks/%d", height)); status != want {
			t.Errorf("block %d: %d, want %d", height, status, want)
		}
	}
}

func TestBlocksGoneFromOneNodeComeFromAnother(t *testing.T) {
	t.Parallel()
	pruned, archive := newFakeChain(t), newFakeChain(t)
	for range 30 {
		pruned.seal()
		archive.seal()
	}
	pruned.lowest = 20
	r := start(t, configFor(t.TempDir(), pruned, archive))
	r.reach(30)
	if status, body, _ := r.get("/blocks"); strings.Contains(body, "were gone") {
		t.Errorf("there is a gap: %d %s", status, body)
	}
}

func TestFollowsTheNextNodeWhenOneFails(t *testing.T) {
	t.Parallel()
	first, second := newFakeChain(t), newFakeChain(t)
	for range 5 {
		first.seal()
		second.seal()
	}
	r := start(t, configFor(t.TempDir(), first, second))
	r.reach(5)
	first.set(func() { first.down = true })
	for range 5 {
		second.seal()
	}
	r.reach(10)
}

func TestRetentionForgetsBlocksAndKeepsJobs(t *testing.T) {
	t.Parallel()
	node := newFakeChain(t)
	node.story()
	for i := range 400 {
		node.seal(node.transfer(2, 3, chain.Nano(uint64(i)), ""))
	}
	config := configFor(t.TempDir(), node)
	config.RetentionBlocks = 100
	r := start(t, config)
	r.reach(406)
	for path, want := range map[string]int{
		"/blocks/406": http.StatusOK, "/blocks/307": http.StatusOK, "/blocks/306": http.StatusNotFound,
		"/jobs/" + zkOrder.ID().String(): http.StatusOK, "/nodes/" + testKey(nodeKey).Public().String(): http.StatusOK,
	} {
		if status, _, _ := r.get(path); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
	r.stop()
	count := map[string]int{}
	for _, row := range dump(t, config.Home) {
		table, _, _ := strings.Cut(row, " ")
		count[table]++
	}
	if count["blocks"] != 100 || count["txs"] != 100 || count["activity"] != 200 || count["orders"] != 3 {
		t.Errorf("%v", count)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	node := newFakeChain(t)
	node.down = true
	r := start(t, configFor(t.TempDir(), node))
	if status, body, _ := r.get("/healthz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "no node has answered") {
		t.Errorf("without a node: %d %s", status, body)
	}
	node.set(func() { node.down = false })
	node.seal()
	r.reach(1)
	if status, body, _ := r.get("/healthz"); status != http.StatusOK || !strings.Contains(body, `"height":1`) {
		t.Errorf("with a block: %d %s", status, body)
	}
	// A chain at genesis is a healthy one.
	empty := newFakeChain(t)
	r = start(t, configFor(t.TempDir(), empty))
	r.contact()
	if status, body, _ := r.get("/healthz"); status != http.StatusOK {
		t.Errorf("at genesis: %d %s", status, body)
	}
}

// contact waits on the live stream until a node has answered.
func (r *running) contact() {
	r.t.Helper()
	response, err := http.Get(r.url + "/live")
	if err != nil {
		r.t.Fatal(err)
	}
	defer closeOf(r.t, response.Body)
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if !strings.HasPrefix(lines.Text(), "data: ") {
			continue
		}
		if status, _, _ := r.get("/healthz"); status == http.StatusOK {
			return
		}
	}
	r.t.Fatal("the live stream ended before any node answered")
}

func TestConfigNamesTheField(t *testing.T) {
	t.Parallel()
	for want, spoil := range map[string]func(*explorer.Config){
		"listen":           func(c *explorer.Config) { c.Listen = "0.0.0.0:80" },
		"tls_cert":         func(c *explorer.Config) { c.TLSCert = "cert.pem" },
		"rpc":              func(c *explorer.Config) { c.RPC = nil },
		"nexus":            func(c *explorer.Config) { c.Nexus = []string{"ftp://x"} },
		"cluster":          func(c *explorer.Config) { c.Cluster = "ab" },
		"retention_blocks": func(c *explorer.Config) { c.RetentionBlocks = 5 },
		"cache_mib":        func(c *explorer.Config) { c.CacheMiB = 0 },
		"ask_timeout":      func(c *explorer.Config) { c.AskTimeout = 0 },
		"log_level":        func(c *explorer.Config) { c.LogLevel = "loud" },
	} {
		config := explorer.DefaultConfig()
		if err := config.Check(); err != nil {
			t.Fatal(err)
		}
		spoil(&config)
		if err := config.Check(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	config := explorer.DefaultConfig()
	config.Listen, config.InsecureHTTP = "0.0.0.0:80", true
	if err := config.Check(); err != nil {
		t.Error(err)
	}
}
