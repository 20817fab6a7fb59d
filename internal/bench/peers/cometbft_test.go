package peers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	rpchttp "github.com/cometbft/cometbft/rpc/client/http"
	ctypes "github.com/cometbft/cometbft/rpc/core/types"
	"github.com/cometbft/cometbft/types"
)

const (
	cometValidators = 4
	cometTxBytes    = 250
	// cometLinger is how long a run waits for what it sent last.
	cometLinger = 10 * time.Second
)

// BenchmarkCometBFTFinality200 offers 200 transactions a second to all four
// validators for 15 seconds, with the least delay that CometBFT can be set to.
func BenchmarkCometBFTFinality200(b *testing.B) {
	benchmarkComet(b, load{rate: 200, lasts: 15 * time.Second}, `timeout_commit = "0s"`)
}

// BenchmarkCometBFTFinality200Defaults does so with the time that CometBFT takes
// by default for late votes.
func BenchmarkCometBFTFinality200Defaults(b *testing.B) {
	benchmarkComet(b, load{rate: 200, lasts: 15 * time.Second}, `timeout_commit = "1s"`)
}

// cometRates are the loads that CometBFT's throughput is the best of: it collapses under more
// than it can take, so that one load above all would show it smaller than it is.
var cometRates = []int{2_000, 3_500, 5_000, 7_000}

// BenchmarkCometBFTThroughput offers it more and more: what is committed while the load lasts
// counts, and the best load. HYPERMESH_BENCH_SECONDS is another time for each than a minute.
func BenchmarkCometBFTThroughput(b *testing.B) {
	lasts := time.Minute
	if v, some := os.LookupEnv("HYPERMESH_BENCH_SECONDS"); some {
		var err error
		if lasts, err = time.ParseDuration(v + "s"); err != nil {
			b.Fatalf("HYPERMESH_BENCH_SECONDS: %v", err)
		}
	}
	for _, rate := range cometRates {
		b.Run(fmt.Sprint(rate), func(b *testing.B) {
			benchmarkComet(b, load{rate: rate, lasts: lasts}, `timeout_commit = "0s"`)
		})
	}
}

// load is how many transactions are offered a second, and for how long.
type load struct {
	rate  int
	lasts time.Duration
}

func benchmarkComet(b *testing.B, l load, settings ...string) {
	n := startComet(b, settings...)
	var p50, p99, committed []float64
	for b.Loop() {
		finality, rate := n.run(b, l)
		slices.Sort(finality)
		p50, p99 = append(p50, finality[len(finality)/2]), append(p99, finality[len(finality)*99/100])
		committed = append(committed, rate)
		b.Logf("%d/s offered, %.0f/s committed, finality %.1f ms p50, %.1f ms p99", l.rate, rate, p50[len(p50)-1], p99[len(p99)-1])
	}
	for unit, values := range map[string][]float64{"p50-ms": p50, "p99-ms": p99, "tx/s": committed, "ns/op": {0}} {
		slices.Sort(values)
		b.ReportMetric(values[len(values)/2], unit)
	}
}

// comet is a network of CometBFT validators, each a process, on loopback addresses
// of their own.
type comet struct{ clients []*rpchttp.HTTP }

func cometHost(i int) string { return fmt.Sprintf("127.0.0.%d", i+1) }

func startComet(b *testing.B, settings ...string) *comet {
	b.Helper()
	dir := b.TempDir()
	program := filepath.Join(dir, "cometbft")
	run(b, "go", "build", "-o", program, "github.com/cometbft/cometbft/cmd/cometbft")
	run(b, program, "testnet", "--v", fmt.Sprint(cometValidators), "--o", dir, "--starting-ip-address", cometHost(0))
	n := &comet{}
	for i := range cometValidators {
		home := filepath.Join(dir, fmt.Sprintf("node%d", i))
		configure(b, filepath.Join(home, "config", "config.toml"), append(slices.Clone(settings),
			`proxy_app = "kvstore"`, `addr_book_strict = false`, `allow_duplicate_ip = true`,
			`max_request_batch_size = 0`, `size = 100000`, `cache_size = 200000`))
		n.start(b, exec.Command(program, "node", "--home", home, "--log_level", "error",
			"--p2p.laddr", "tcp://"+cometHost(i)+":26656", "--rpc.laddr", "tcp://"+cometHost(i)+":26657", "--rpc.pprof_laddr", ""))
		client, err := rpchttp.New("http://" + cometHost(i) + ":26657")
		if err != nil {
			b.Fatal(err)
		}
		n.clients = append(n.clients, client)
	}
	for _, client := range n.clients {
		await(b, client)
	}
	if err := n.clients[0].Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := n.clients[0].Stop(); err != nil {
			b.Error(err)
		}
	})
	return n
}

func run(b *testing.B, name string, args ...string) {
	b.Helper()
	if out, err := exec.CommandContext(b.Context(), name, args...).CombinedOutput(); err != nil {
		b.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// configure replaces the lines of a TOML file that set the same keys.
func configure(b *testing.B, path string, settings []string) {
	b.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	for _, setting := range settings {
		name, _, _ := strings.Cut(setting, " ")
		line := regexp.MustCompile(`(?m)^` + name + ` = .*$`)
		if !line.Match(text) {
			b.Fatalf("%s sets no %s", path, name)
		}
		text = line.ReplaceAll(text, []byte(setting))
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		b.Fatal(err)
	}
}

// start runs a validator until the benchmark ends.
func (n *comet) start(b *testing.B, cmd *exec.Cmd) {
	b.Helper()
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			b.Errorf("%v\n%s", err, said.String())
			return
		}
		killer := time.AfterFunc(20*time.Second, func() {
			if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				b.Error(err)
			}
		})
		defer killer.Stop()
		if err := cmd.Wait(); err != nil && !strings.Contains(err.Error(), "signal: ") {
			b.Logf("a validator: %v", err)
		}
	})
}

// await waits until a validator has the third block.
func await(b *testing.B, client *rpchttp.HTTP) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	for {
		status, err := client.Status(ctx)
		if err == nil && status.SyncInfo.LatestBlockHeight >= 3 {
			return
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			b.Fatalf("the validators make no blocks: %v", err)
		}
	}
}

// run offers a load. It returns how many milliseconds each committed transaction
// took, and how many were committed a second while the load lasted.
func (n *comet) run(b *testing.B, l load) (finality []float64, rate float64) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	blocks, err := n.clients[0].Subscribe(ctx, "bench", "tm.event = 'NewBlock'", 10_000)
	if err != nil {
		b.Fatal(err)
	}
	w := &watch{sent: map[[sha256.Size]byte]time.Time{}, all: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() { w.follow(ctx, blocks) })
	began := time.Now()
	w.until = began.Add(l.lasts)
	n.offer(b, l, w)
	select {
	case <-w.all:
	case <-time.After(cometLinger):
	}
	cancel()
	wg.Wait()
	if err := n.clients[0].Unsubscribe(b.Context(), "bench", "tm.event = 'NewBlock'"); err != nil {
		b.Fatal(err)
	}
	if len(w.finality) == 0 {
		b.Fatal("nothing was committed")
	}
	return w.finality, float64(w.inTime) / l.lasts.Seconds()
}

// watch notes when transactions were sent and when they came in a block.
type watch struct {
	until time.Time

	mu       sync.Mutex
	sent     map[[sha256.Size]byte]time.Time
	ended    bool // nothing more is sent
	finality []float64
	inTime   int
	all      chan struct{} // closed when all that was sent is committed
}

func (w *watch) follow(ctx context.Context, blocks <-chan ctypes.ResultEvent) {
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-blocks:
			block, ok := event.Data.(types.EventDataNewBlock)
			if !ok {
				continue
			}
			w.take(block.Block.Txs, time.Now())
		}
	}
}

func (w *watch) take(txs types.Txs, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, tx := range txs {
		id := sha256.Sum256(tx)
		at, ok := w.sent[id]
		if !ok {
			continue
		}
		delete(w.sent, id)
		w.finality = append(w.finality, float64(now.Sub(at).Microseconds())/1000)
		if now.Before(w.until) {
			w.inTime++
		}
	}
	w.check()
}

// check closes all if there is nothing to wait for. The caller holds w.mu.
func (w *watch) check() {
	if w.ended && len(w.sent) == 0 {
		select {
		case <-w.all:
		default:
			close(w.all)
		}
	}
}

// offer sends transactions, in one submission for each ten milliseconds, to the
// validators in turn.
func (n *comet) offer(b *testing.B, l load, w *watch) {
	b.Helper()
	const tick = 10 * time.Millisecond
	random := rand.NewChaCha8([32]byte{byte(time.Now().UnixNano())})
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var wg sync.WaitGroup
	began, sent := time.Now(), 0
	for turn := 0; time.Since(began) < l.lasts; turn++ {
		due := int(time.Since(began).Seconds() * float64(l.rate))
		var txs [][]byte
		for ; sent < due; sent++ {
			txs = append(txs, randomTx(random, sent))
		}
		if len(txs) > 0 {
			host := cometHost(turn % cometValidators)
			wg.Go(func() {
				if err := w.submit(host, txs); err != nil {
					b.Error(err)
				}
			})
		}
		<-ticker.C
	}
	wg.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.check()
}

// randomTx returns a key and a value of kvstore, together cometTxBytes long.
func randomTx(random *rand.ChaCha8, i int) []byte {
	noise := make([]byte, cometTxBytes/2)
	if _, err := random.Read(noise); err != nil {
		panic(err) // it never fails
	}
	return fmt.Appendf(nil, "%08d=%x", i, noise)[:cometTxBytes]
}

// submit sends transactions in one batch of JSON-RPC, without waiting for their
// checks.
func (w *watch) submit(host string, txs [][]byte) error {
	type call struct {
		Version string         `json:"jsonrpc"`
		ID      int            `json:"id"`
		Method  string         `json:"method"`
		Params  map[string]any `json:"params"`
	}
	calls := make([]call, len(txs))
	w.mu.Lock()
	now := time.Now()
	for i, tx := range txs {
		w.sent[sha256.Sum256(tx)] = now
		calls[i] = call{Version: "2.0", ID: i, Method: "broadcast_tx_async", Params: map[string]any{"tx": tx}}
	}
	w.mu.Unlock()
	body, err := json.Marshal(calls)
	if err != nil {
		return err
	}
	response, err := http.Post("http://"+host+":26657", "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, response.Body)
	return errors.Join(err, response.Body.Close())
}
