package netem_test

import (
	"encoding/binary"
	"errors"
	"math"
	"net"
	"net/netip"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/netem"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// rig is a relay and the sockets of its nodes.
type rig struct {
	testing.TB
	*netem.Relay
	conns []*net.UDPConn
}

// open returns a relay between n nodes on loopback.
func open(t testing.TB, seed uint64, n int) *rig {
	t.Helper()
	conns, addrs := make([]*net.UDPConn, n), make([]netip.AddrPort, n)
	for i := range conns {
		var err error
		if conns[i], err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0))); err != nil {
			t.Fatal(err)
		}
		if err := conns[i].SetReadBuffer(4 << 20); err != nil {
			t.Fatal(err)
		}
		addrs[i] = conns[i].LocalAddr().(*net.UDPAddr).AddrPort()
	}
	r, err := netem.Open(netem.Config{Seed: seed, At: loopback, Nodes: addrs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		errs := []error{r.Close(), r.Close()}
		for _, c := range conns {
			errs = append(errs, c.Close())
		}
		if err := errors.Join(errs...); err != nil {
			t.Error(err)
		}
	})
	return &rig{TB: t, Relay: r, conns: conns}
}

// send sends datagram number i of a link.
func (r *rig) send(from, to, i int) {
	r.Helper()
	if _, err := r.conns[from].WriteToUDPAddrPort(binary.BigEndian.AppendUint64(nil, uint64(i)), r.Addr(from, to)); err != nil {
		r.Fatal(err)
	}
}

// receive returns the number of the next datagram from a node.
func (r *rig) receive(from, at int) int {
	r.Helper()
	var buf [64]byte
	if err := r.conns[at].SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		r.Fatal(err)
	}
	n, addr, err := r.conns[at].ReadFromUDPAddrPort(buf[:])
	if err != nil {
		r.Fatalf("node %d waits for node %d: %v", at, from, err)
	}
	if addr != r.Addr(at, from) || n != 8 {
		r.Fatalf("%d bytes from %v, want 8 from %v", n, addr, r.Addr(at, from))
	}
	return int(binary.BigEndian.Uint64(buf[:]))
}

// silent demands that nothing more waits at a node.
func silent(t *testing.T, conn *net.UDPConn) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	var buf [64]byte
	if n, _, err := conn.ReadFromUDPAddrPort(buf[:]); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%x, %v arrived besides", buf[:n], err)
	}
}

func TestWeatherIsDrawnAsAsked(t *testing.T) {
	const count = 200_000
	w := netem.Weather{Delay: 100 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 10, Duplicate: 50}
	var lost, twice int
	var sum, squares float64
	low, high := time.Hour, time.Duration(0)
	for _, copies := range netem.Fates(1, 1, w, count) {
		switch len(copies) {
		case 0:
			lost++
			continue
		case 2:
			twice++
		}
		ms := copies[0].Seconds() * 1000
		sum, squares = sum+ms, squares+ms*ms
		low, high = min(low, copies[0]), max(high, copies[0])
	}
	arrived := float64(count - lost)
	mean := sum / arrived
	deviation := math.Sqrt(squares/arrived - mean*mean)
	// Within six standard errors of what a uniform delay and a fair draw give.
	if math.Abs(mean-100) > 0.2 || math.Abs(deviation-20/math.Sqrt(3)) > 0.2 {
		t.Errorf("the delay is %.3f ± %.3f ms, want 100 ± %.3f", mean, deviation, 20/math.Sqrt(3))
	}
	if low < 80*time.Millisecond || low > 81*time.Millisecond || high > 120*time.Millisecond || high < 119*time.Millisecond {
		t.Errorf("the delay is from %v to %v, want 80 to 120 ms", low, high)
	}
	if share := float64(lost) / count; math.Abs(share-0.01) > 0.0014 {
		t.Errorf("%.4f are lost, want 0.01", share)
	}
	if share := float64(twice) / arrived; math.Abs(share-0.05) > 0.003 {
		t.Errorf("%.4f arrive twice, want 0.05", share)
	}
}

func TestFatesAreOfSeedLinkAndIndex(t *testing.T) {
	w := netem.Weather{Delay: 10 * time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 100, Duplicate: 100, Late: 100, LateBy: time.Second}
	a := netem.Fates(7, 3, w, 1000)
	if !reflect.DeepEqual(a, netem.Fates(7, 3, w, 1000)) {
		t.Error("equal seeds give other fates")
	}
	if reflect.DeepEqual(a, netem.Fates(8, 3, w, 1000)) || reflect.DeepEqual(a, netem.Fates(7, 4, w, 1000)) {
		t.Error("another seed or link gives equal fates")
	}
	// Another weather draws as much: what is lost is lost in both.
	for i, copies := range netem.Fates(7, 3, netem.Weather{Loss: 100}, 1000) {
		if (len(copies) == 0) != (len(a[i]) == 0) {
			t.Fatalf("datagram %d is lost in one weather only", i)
		}
	}
}

// TestRelayMatchesItsSeed sends through a relay, and finds exactly what the seed
// says.
func TestRelayMatchesItsSeed(t *testing.T) {
	const seed, count, n = 42, 2000, 3
	w := netem.Weather{Delay: 2 * time.Millisecond, Jitter: 2 * time.Millisecond, Loss: 100, Duplicate: 100, Late: 50, LateBy: 5 * time.Millisecond}
	r := open(t, seed, n)
	r.SetWeather(2, 0, w)
	for i := range count {
		r.send(2, 0, i)
	}
	var want []int
	for i, copies := range netem.Fates(seed, netem.Link(n, 2, 0), w, count) {
		for range copies {
			want = append(want, i)
		}
	}
	got := make([]int, len(want))
	for i := range got {
		got[i] = r.receive(2, 0)
	}
	if slices.IsSorted(got) {
		t.Error("nothing was reordered")
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%d datagrams arrived of %d, others than the seed says", len(got), count)
	}
	silent(t, r.conns[0])
	if s := r.Traffic(2, 0); s.Sent != count || s.Delivered != uint64(len(want)) || s.Sent-s.Lost+s.Duplicated != s.Delivered || s.Lost == 0 || s.Duplicated == 0 || s != r.TotalTraffic() {
		t.Errorf("%d arrived; %+v", len(want), s)
	}
}

func TestInOrder(t *testing.T) {
	const count = 500
	r := open(t, 5, 2)
	r.SetAllWeather(netem.Weather{Delay: 5 * time.Millisecond, Jitter: 5 * time.Millisecond, Duplicate: 100, Late: 100, LateBy: 5 * time.Millisecond, InOrder: true})
	for i := range count {
		r.send(0, 1, i)
	}
	r.SetAllWeather(netem.Weather{InOrder: true}) // what comes now does not overtake
	for i := range count {
		r.send(0, 1, count+i)
	}
	seen := map[int]int{}
	for latest := 0; latest < 2*count-1; {
		got := r.receive(0, 1)
		if seen[got] == 0 && got < latest {
			t.Fatalf("datagram %d after %d", got, latest)
		}
		seen[got]++
		latest = max(latest, got)
	}
	if len(seen) != 2*count {
		t.Errorf("%d of %d arrived", len(seen), 2*count)
	}
}

func TestDelayIsAtLeastTheWeathers(t *testing.T) {
	const count = 50
	r := open(t, 6, 2)
	r.SetWeather(0, 1, netem.Weather{Delay: 30 * time.Millisecond, Jitter: 10 * time.Millisecond})
	var sent [count]time.Time
	for i := range count {
		sent[i] = time.Now()
		r.send(0, 1, i)
	}
	var took []time.Duration
	for range count {
		i := r.receive(0, 1)
		took = append(took, time.Since(sent[i]))
	}
	slices.Sort(took)
	if took[0] < 20*time.Millisecond || took[count/2] > 300*time.Millisecond {
		t.Errorf("the delay is from %v, in the middle %v", took[0], took[count/2])
	}
	began := time.Now() // the other direction has none
	r.send(1, 0, 1)
	r.receive(1, 0)
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("the other direction took %v", d)
	}
}

func TestPartitionAndHeal(t *testing.T) {
	r := open(t, 9, 4)
	r.SetAllWeather(netem.Weather{Delay: 20 * time.Millisecond})
	r.SetWeather(0, 2, netem.Weather{Delay: time.Second})
	r.send(0, 2, 1) // is under way when the link is cut
	for r.Traffic(0, 2).Sent == 0 {
		r.send(0, 1, 0) // until the relay has it
		r.receive(0, 1)
		if r.Traffic(0, 2).Delivered > 0 {
			t.Fatal("a datagram with a second's delay arrived before the link was cut")
		}
	}
	r.Partition([]int{0, 0, 1, 1})
	r.send(0, 2, 2)
	r.send(3, 1, 3)
	for _, within := range [][2]int{{0, 1}, {1, 0}, {2, 3}, {3, 2}} {
		r.send(within[0], within[1], 4)
		if got := r.receive(within[0], within[1]); got != 4 {
			t.Errorf("%v: %d", within, got)
		}
	}
	for r.Traffic(0, 2).Cut+r.Traffic(0, 2).Delivered < 2 { // what was under way arrives, or not
		r.send(0, 1, 8)
		r.receive(0, 1)
	}
	if a, b := r.Traffic(0, 2), r.Traffic(3, 1); a.Cut != 2 || a.Delivered != 0 || b.Cut != 1 || b.Delivered != 0 {
		t.Errorf("across the partition: %+v, %+v", a, b)
	}
	r.Partition(nil)
	r.SetAllWeather(netem.Weather{Delay: 20 * time.Millisecond})
	r.send(0, 2, 5)
	if got := r.receive(0, 2); got != 5 {
		t.Errorf("after healing: %d", got)
	}
	r.Cut(2, 0, true) // one direction alone
	r.send(2, 0, 6)
	r.send(0, 2, 7)
	if got := r.receive(0, 2); got != 7 {
		t.Errorf("against a cut link: %d", got)
	}
	silent(t, r.conns[0])
}

func TestStrangersAndGiantsDoNotPass(t *testing.T) {
	r := open(t, 10, 3)
	if r.Addr(0, 1) != r.Addr(1, 0) || r.Addr(0, 1) == r.Addr(0, 2) {
		t.Errorf("addresses %v, %v, %v", r.Addr(0, 1), r.Addr(1, 0), r.Addr(0, 2))
	}
	if _, err := r.conns[2].WriteToUDPAddrPort([]byte("stranger"), r.Addr(0, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.conns[0].WriteToUDPAddrPort(make([]byte, 2048), r.Addr(0, 1)); err != nil {
		t.Fatal(err)
	}
	r.send(0, 1, 3)
	if got := r.receive(0, 1); got != 3 {
		t.Errorf("datagram %d", got)
	}
	for r.Traffic(0, 1).Delivered == 0 { // it is counted a moment after it arrives
		runtime.Gosched()
	}
	if s := r.Traffic(0, 1); s.Sent != 2 || s.Overflowed != 1 || s.Delivered != 1 {
		t.Errorf("%+v", s)
	}
	silent(t, r.conns[0])
}

func TestConfigIsChecked(t *testing.T) {
	a, b := netip.MustParseAddrPort("127.0.0.1:1000"), netip.MustParseAddrPort("127.0.0.1:1001")
	for want, c := range map[string]netem.Config{
		"1 nodes":               {At: loopback, Nodes: []netip.AddrPort{a}},
		"At is no address":      {Nodes: []netip.AddrPort{a, b}},
		"no address of its own": {At: loopback, Nodes: []netip.AddrPort{a, a}},
		"opening a socket":      {At: netip.MustParseAddr("192.0.2.1"), Nodes: []netip.AddrPort{a, b}},
	} {
		if _, err := netem.Open(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
	for want, w := range map[string]netem.Weather{
		"Delay is -1ns":         {Delay: -1},
		"Jitter is 2s":          {Delay: time.Second, Jitter: 2 * time.Second},
		"LateBy is 1h0m0s":      {LateBy: time.Hour},
		"Loss is 1001 of 1,000": {Loss: 1001},
		"Duplicate is -1":       {Duplicate: -1},
		"Late is 1001 of 1,000": {Late: 1001},
	} {
		if err := w.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", w, err, want)
		}
	}
}

// BenchmarkRelay is one datagram of 1,200 bytes, from one node to another.
func BenchmarkRelay(b *testing.B) {
	for name, w := range map[string]netem.Weather{"at once": {}, "delayed": {Delay: time.Millisecond, Jitter: time.Millisecond}} {
		b.Run(name, func(b *testing.B) {
			r := open(b, 1, 2)
			r.SetAllWeather(w)
			data := make([]byte, 1200)
			var buf [2048]byte
			const window = 64
			b.SetBytes(int64(len(data)))
			for i := range b.N + window {
				if i < b.N {
					if _, err := r.conns[0].WriteToUDPAddrPort(data, r.Addr(0, 1)); err != nil {
						b.Fatal(err)
					}
				}
				if i >= window {
					if _, _, err := r.conns[1].ReadFromUDPAddrPort(buf[:]); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
