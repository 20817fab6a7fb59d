package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/devnet"
	"github.com/hypermesh/hypermesh/internal/netem"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/smart-contracts/templates"
)

// The figures of docs/BENCHMARKS.md: four validator processes on this machine,
// loaded and asked through their HTTP APIs. Each iteration is one run, and what
// is reported are medians of runs; `make bench` has five.

const figureValidators = 4

// BenchmarkNetworkFinality200 offers 200 signed transfers a second to all four.
func BenchmarkNetworkFinality200(b *testing.B) {
	n := newFigureNet(b, 0)
	n.transfers(b, devnet.BenchOptions{RPC: n.description().RPC, Rate: 200, Seconds: 15})
}

// BenchmarkNetworkFinalityDelay50 has a datagram take 50 ms from any node to any
// other, and submits at one node, whose events it listens to. 200 transfers a
// second, as without delay.
func BenchmarkNetworkFinalityDelay50(b *testing.B) {
	n := newFigureNet(b, 50*time.Millisecond)
	n.transfers(b, devnet.BenchOptions{RPC: n.description().RPC[:1], Rate: 200, Seconds: 15})
}

// BenchmarkNetworkThroughput offers transfers between 10,000 accounts for a
// minute, at a little above the least rate that is to be reached, at the goal and a little above it.
// Beside what the generator sees it reports what a validator uses for a committed
// transfer, everything included, the mean of four, and the memory of whichever has most; and
// it prints where the time of one validator went. HYPERMESH_BENCH_ACCOUNTS makes so
// many accounts first, at random ones of which the transfers then go to,
// HYPERMESH_BENCH_SECONDS is another time than a minute, and HYPERMESH_BENCH_RATE the one
// load to offer: what a transfer costs beside few accounts and beside many is to be compared
// where all that is offered is committed.
func BenchmarkNetworkThroughput(b *testing.B) {
	accounts, seconds := asked(b, "HYPERMESH_BENCH_ACCOUNTS", 0), asked(b, "HYPERMESH_BENCH_SECONDS", 60)
	rates := []int{8_500, 13_000, 13_500}
	if rate := asked(b, "HYPERMESH_BENCH_RATE", 0); rate > 0 {
		rates = []int{rate}
	}
	for _, rate := range rates {
		b.Run(strconv.Itoa(rate), func(b *testing.B) {
			n := profiledNet(b)
			n.transfers(b, devnet.BenchOptions{RPC: n.description().RPC, Rate: rate, Seconds: seconds, Senders: 10_000, Accounts: accounts})
		})
	}
}

// BenchmarkNetworkClaims offers plain claims for half a minute, sixteen in a transaction,
// each of an order of its own with five signatures, between 64 consumers and 64 nodes of
// different owners, above the least rate that is to be reached.
func BenchmarkNetworkClaims(b *testing.B) {
	n := profiledNet(b)
	const rate, each = 2_560, chain.MaxClaims
	n.transfers(b, devnet.BenchOptions{RPC: n.description().RPC, Rate: rate / each, Seconds: asked(b, "HYPERMESH_BENCH_SECONDS", 30), Senders: 256, Claims: each})
}

// BenchmarkNetworkTokens offers calls of a cw20 contract for half a minute, each of which moves
// tokens from one of 10,000 accounts to the next: signed beforehand, above the least rate that is
// to be reached. Afterwards every account's tokens are read from the state. HYPERMESH_BENCH_RATE and
// HYPERMESH_BENCH_SECONDS are another load.
func BenchmarkNetworkTokens(b *testing.B) {
	module, err := templates.Module("cw20")
	if err != nil {
		b.Fatal(err)
	}
	n := profiledNet(b)
	n.transfers(b, devnet.BenchOptions{
		RPC: n.description().RPC, Rate: asked(b, "HYPERMESH_BENCH_RATE", 3_500), Seconds: asked(b, "HYPERMESH_BENCH_SECONDS", 30), Senders: 10_000, Token: module,
	})
}

// profiledNet starts the network, one of whose validators can be asked for its profile.
func profiledNet(b *testing.B) *figureNet {
	b.Helper()
	profiler := freeLoopback(b)
	n := figureNetOf(b, func(dir string) {
		appendTo(b, filepath.Join(dir, "validator-1", "config.toml"), fmt.Sprintf("\npprof = %q\n", profiler))
	})
	n.profiler = profiler
	return n
}

// asked returns the number that a variable of the environment asks for, or what is usual.
func asked(b *testing.B, variable string, usual int) int {
	b.Helper()
	v, some := os.LookupEnv(variable)
	if !some {
		return usual
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		b.Fatalf("%s: %v", variable, err)
	}
	return n
}

// freeLoopback returns a TCP address of this machine that nobody listens at.
func freeLoopback(b *testing.B) string {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr := listener.Addr().String()
	if err := listener.Close(); err != nil {
		b.Fatal(err)
	}
	return addr
}

// BenchmarkNetworkIdle leaves the network alone for 20 seconds at a time, after
// it had work for ten. It reports the validator that uses most.
func BenchmarkNetworkIdle(b *testing.B) {
	n := newFigureNet(b, 0)
	work := devnet.BenchOptions{RPC: n.description().RPC, Rate: 200, Seconds: 10}
	if _, err := devnet.BenchTransfers(b.Context(), work, func(string, float64) {}); err != nil {
		b.Fatal(err)
	}
	rest(b, 5*time.Second)
	var cores, memory []float64
	for b.Loop() {
		before, began := n.usage(b), time.Now()
		rest(b, 20*time.Second)
		after, passed := n.usage(b), time.Since(began)
		var core, mib float64
		for i := range after {
			core = max(core, (after[i].cpu-before[i].cpu).Seconds()/passed.Seconds()*100)
			mib = max(mib, after[i].mib)
		}
		b.Logf("%.2f %% of a core, %.1f MiB", core, mib)
		cores, memory = append(cores, core), append(memory, mib)
	}
	b.ReportMetric(median(cores), "%core/validator")
	b.ReportMetric(median(memory), "MiB/validator")
	b.ReportMetric(0, "ns/op")
}

// rest does nothing for a while.
func rest(b *testing.B, d time.Duration) {
	b.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-b.Context().Done():
		b.Fatal(b.Context().Err())
	}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// figureNet is a devnet of validators alone, perhaps with a relay between them.
type figureNet struct {
	network  *devnet.Network
	profiler string // of one validator; empty: none
}

// newFigureNet starts the network; with a delay, everything that validators say
// to each other goes through a relay that holds it for so long.
func newFigureNet(b *testing.B, delay time.Duration) *figureNet {
	b.Helper()
	if delay == 0 {
		return figureNetOf(b, nil)
	}
	return figureNetOf(b, func(dir string) { slowDown(b, dir, delay) })
}

// figureNetOf starts the network; change may alter its homes once its ports are
// known.
func figureNetOf(b *testing.B, change func(dir string)) *figureNet {
	b.Helper()
	program, _ := programs(b)
	options := devnet.Options{
		Dir: b.TempDir(), Binary: program, Validators: figureValidators, NoExplorer: true, NoRestart: true,
		Progress: func(string, float64) {},
	}
	up := func() *devnet.Network {
		network, err := devnet.Up(context.Background(), options, slog.New(slog.DiscardHandler))
		if err != nil {
			b.Fatal(err)
		}
		return network
	}
	network := up()
	if change != nil {
		if err := network.Down(); err != nil {
			b.Fatal(err)
		}
		change(options.Dir)
		network = up()
	}
	b.Cleanup(func() {
		if err := network.Down(); err != nil {
			b.Error(err)
		}
	})
	return &figureNet{network: network}
}

// slowDown puts a relay between the validators of a network that is down.
func slowDown(b *testing.B, dir string, delay time.Duration) {
	b.Helper()
	var plan struct {
		BasePort uint16 `json:"base_port"`
	}
	data, err := os.ReadFile(filepath.Join(dir, "plan.json"))
	if err == nil {
		err = json.Unmarshal(data, &plan)
	}
	if err != nil {
		b.Fatal(err)
	}
	loopback := netip.MustParseAddr("127.0.0.1")
	config := netem.Config{Seed: 1, At: loopback}
	homes := make([]string, figureValidators)
	for i := range homes {
		homes[i] = filepath.Join(dir, fmt.Sprintf("validator-%d", i))
		config.Nodes = append(config.Nodes, netip.AddrPortFrom(loopback, plan.BasePort+uint16(i)))
	}
	relay, err := netem.Open(config)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := relay.Close(); err != nil {
			b.Error(err)
		}
	})
	relay.SetAllWeather(netem.Weather{Delay: delay - relayCost(b, delay)})
	for i, home := range homes {
		var peers []string
		for j, other := range homes {
			if i == j {
				continue
			}
			key, err := node.ReadKey(filepath.Join(other, node.NodeKeyFile))
			if err != nil {
				b.Fatal(err)
			}
			peers = append(peers, fmt.Sprintf("%q", key.Public().String()+"@"+relay.Addr(i, j).String()))
		}
		appendTo(b, filepath.Join(home, "config.toml"), "\npeers = ["+strings.Join(peers, ", ")+"]\n")
	}
}

// relayCost returns by how much more than its delay the relay holds a datagram
// from socket to socket here and now, in the median: between two nodes it is to
// be the delay and no more. At most a millisecond is put down to the relay.
func relayCost(b *testing.B, delay time.Duration) time.Duration {
	b.Helper()
	var ends [2]*net.UDPConn
	config := netem.Config{Seed: 1, At: netip.MustParseAddr("127.0.0.1")}
	for i := range ends {
		var err error
		if ends[i], err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
			b.Fatal(err)
		}
		config.Nodes = append(config.Nodes, ends[i].LocalAddr().(*net.UDPAddr).AddrPort())
	}
	relay, err := netem.Open(config)
	if err != nil {
		b.Fatal(err)
	}
	relay.SetAllWeather(netem.Weather{Delay: delay})
	var taken []float64
	buf := make([]byte, 2048)
	for range 41 {
		began := time.Now()
		if _, err := ends[0].WriteToUDPAddrPort(buf[:200], relay.Addr(0, 1)); err != nil {
			b.Fatal(err)
		}
		if _, _, err := ends[1].ReadFromUDPAddrPort(buf); err != nil {
			b.Fatal(err)
		}
		taken = append(taken, time.Since(began).Seconds())
	}
	if err := errors.Join(relay.Close(), ends[0].Close(), ends[1].Close()); err != nil {
		b.Fatal(err)
	}
	cost := time.Duration(median(taken)*float64(time.Second)) - delay
	b.Logf("the relay costs %v beside its delay", cost)
	return min(max(cost, 0), time.Millisecond)
}

func appendTo(b *testing.B, path, text string) {
	b.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		b.Fatal(err)
	}
}

func (n *figureNet) description() devnet.Description { return n.network.Description() }

// transfers loads the network, once for each iteration.
func (n *figureNet) transfers(b *testing.B, o devnet.BenchOptions) {
	b.Helper()
	var p50, p99, interval, committed, cost, memory []float64
	for b.Loop() {
		var before, ended []usage
		var generator time.Duration
		var profile chan []byte
		end := func() { ended, generator = n.usage(b), processorTime(b)-generator }
		r, err := devnet.BenchTransfers(b.Context(), o, func(stage string, _ float64) {
			switch stage {
			case devnet.StageSending:
				before, generator = n.usage(b), processorTime(b)
				profile = n.profile(b, time.Duration(o.Seconds)*time.Second*3/4)
			case devnet.StageChecking:
				end()
			}
		})
		if err != nil {
			b.Fatal(err)
		}
		if ended == nil {
			end()
		}
		var cpu time.Duration
		var mib, most float64
		for i, after := range ended {
			cpu += after.cpu - before[i].cpu
			mib, most = max(mib, after.mib), max(most, after.most)
		}
		each := func(d time.Duration) float64 {
			return float64(d.Microseconds()) / figureValidators / float64(r.Finalized)
		}
		cost = append(cost, each(cpu))
		if n.profiler != "" {
			traces := tracesOf(b, <-profile)
			b.Logf("one validator, by the samples of its profile:\n%s", whereItGoes(traces, r.CommittedPerSecond*float64(o.Seconds)*3/4, each(cpu), each(generator)))
		}
		memory = append(memory, mib)
		if r.Failed > 0 || r.Rejected > 0 && n.profiler == "" && o.Claims == 0 {
			b.Errorf("%d transactions were rejected, %d of them by the chain", r.Rejected, r.Failed)
		}
		b.Logf("%.0f/s offered, %.0f/s committed, finality %.1f ms p50, %.1f ms p99, block interval %.1f ms p50, %.1f ms p99, %.1f µs a transfer and validator, %.0f MiB and at most %.0f, %d rejected",
			r.OfferedPerSecond, r.CommittedPerSecond, r.Finality.P50, r.Finality.P99, r.BlockInterval.P50, r.BlockInterval.P99, cost[len(cost)-1], mib, most, r.Rejected)
		p50, p99 = append(p50, r.Finality.P50), append(p99, r.Finality.P99)
		interval, committed = append(interval, r.BlockInterval.P50), append(committed, r.CommittedPerSecond)
	}
	b.ReportMetric(median(p50), "p50-ms")
	b.ReportMetric(median(p99), "p99-ms")
	b.ReportMetric(median(interval), "interval-ms")
	b.ReportMetric(median(committed), "tx/s")
	if o.Claims > 0 {
		b.ReportMetric(median(committed)*float64(o.Claims), "claims/s")
	}
	b.ReportMetric(median(cost), "core-µs/tx/validator")
	b.ReportMetric(median(memory), "MiB/validator")
	b.ReportMetric(0, "ns/op")
}

// usage is what a process has used: processor time since its start, and resident
// memory, now and at most.
type usage struct {
	cpu       time.Duration
	mib, most float64
}

// processorTime is what this process has used, which is the generator's.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// usage reads /proc (proc(5)) of every validator.
func (n *figureNet) usage(b *testing.B) []usage {
	b.Helper()
	var out []usage
	for _, p := range n.description().Processes {
		out = append(out, usageOf(b, p.PID))
	}
	return out
}

// usageOf is what a process has used so far.
func usageOf(b testing.TB, pid int) usage {
	b.Helper()
	const ticksPerSecond = 100 // USER_HZ, the same on every Linux architecture that Go knows
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // from the third on
	number := func(field int) int64 {
		v, err := strconv.ParseInt(string(fields[field-3]), 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		return v
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, peak, _ := strings.Cut(string(status), "VmHWM:")
	var kib float64
	if _, err := fmt.Sscanf(peak, "%f kB", &kib); err != nil {
		b.Fatalf("the highest memory of process %d: %v", pid, err)
	}
	return usage{
		cpu:  time.Duration(number(14)+number(15)) * time.Second / ticksPerSecond,
		mib:  float64(number(24)) * float64(os.Getpagesize()) / (1 << 20),
		most: kib / 1024,
	}
}
