package sim_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/sim"
)

const ms = time.Millisecond

func TestRandKnowsItsAlgorithm(t *testing.T) {
	// The first outputs of SplitMix64 for the seed 1234567, as in Rosetta Code's
	// "Pseudo-random numbers/Splitmix64".
	r := sim.NewRand(1234567)
	for i, want := range []uint64{6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821} {
		if got := r.Uint64(); got != want {
			t.Fatalf("output %d is %d, want %d", i, got, want)
		}
	}
}

func TestDrawsStayWithinTheirBounds(t *testing.T) {
	r := sim.NewRand(7)
	seen := map[int]int{}
	lucky := 0
	for range 10_000 {
		seen[r.Below(5)]++
		if d := r.Between(3*ms, 5*ms); d < 3*ms || d > 5*ms {
			t.Fatalf("%v is not between 3 and 5 ms", d)
		}
		if r.Chance(100) {
			lucky++
		}
		if r.Chance(0) || !r.Chance(1000) {
			t.Fatal("a chance of 0 came true, or one of 1,000 did not")
		}
	}
	for i := range 5 {
		if n := seen[i]; n < 1800 || n > 2200 {
			t.Errorf("%d was drawn %d times of 10,000, want about 2,000", i, n)
		}
	}
	if len(seen) != 5 || lucky < 900 || lucky > 1100 {
		t.Errorf("drew %v, and %d of 10,000 at 100 ‰", seen, lucky)
	}
	if d := r.Between(ms, ms); d != ms {
		t.Errorf("between 1 and 1 ms: %v", d)
	}
}

func TestHappeningsComeByInstantThenByOrder(t *testing.T) {
	c := sim.NewClock()
	var got []string
	note := func(name string) func() {
		return func() { got = append(got, fmt.Sprintf("%s %d", name, c.Now()/ms)) }
	}
	c.After(5*ms, note("c"))
	c.After(2*ms, func() {
		note("a")()
		c.After(0, note("b"))
		c.After(3*ms, note("d"))
	})
	c.After(9*ms, note("e"))
	c.RunUntil(7 * ms)
	if want := []string{"a 2", "b 2", "c 5", "d 5"}; !slices.Equal(got, want) || c.Now() != 7*ms {
		t.Fatalf("at %v: %v, want %v", c.Now(), got, want)
	}
	if !c.Step() || c.Now() != 9*ms || c.Step() {
		t.Fatalf("one happening was left, at 9 ms; now %v", c.Now())
	}
}

func TestNothingHappensAfterALife(t *testing.T) {
	c := sim.NewClock()
	first, second := c.NewLife(), c.NewLife()
	var got []string
	for range 3 {
		first.After(ms, func() { got = append(got, "first"); first.End() })
		second.After(ms, func() { got = append(got, "second") })
	}
	c.RunUntil(10 * ms)
	if want := []string{"first", "second", "second", "second"}; !slices.Equal(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
	if !first.Over() || second.Over() {
		t.Fatal("the first life is over and the second is not")
	}
}

// exchange sends 1,000 packets from node 0 to node 1, one each millisecond, and
// returns what arrived and when.
func exchange(seed uint64, w sim.Weather) (arrivals []string, traffic sim.Traffic) {
	c := sim.NewClock()
	n := sim.NewNetwork[[]byte](c, sim.NewRand(seed), 2)
	n.SetWeather(w)
	n.Listen(1, func(from int, packet []byte) {
		arrivals = append(arrivals, fmt.Sprintf("%s %v", packet, c.Now()))
	})
	for i := range 1000 {
		c.After(time.Duration(i)*ms, func() { n.Send(0, 1, fmt.Appendf(nil, "%04d", i)) })
	}
	for c.Step() {
	}
	return arrivals, n.Traffic()
}

func TestWeather(t *testing.T) {
	fine := sim.Weather{DelayMin: 2 * ms, DelayMax: 30 * ms}
	for _, c := range []struct {
		name                  string
		change                func(*sim.Weather)
		lost, twice           [2]int // at least, at most
		overtakes, afterLimit bool
	}{
		{"fine", func(*sim.Weather) {}, [2]int{}, [2]int{}, true, false},
		{"in order", func(w *sim.Weather) { w.InOrder = true }, [2]int{}, [2]int{}, false, false},
		{"loss", func(w *sim.Weather) { w.Loss = 200 }, [2]int{150, 250}, [2]int{}, true, false},
		{"everything lost", func(w *sim.Weather) { w.Loss = 1000 }, [2]int{1000, 1000}, [2]int{}, false, false},
		{"duplicates", func(w *sim.Weather) { w.Duplicate = 300 }, [2]int{}, [2]int{250, 350}, true, false},
		{"duplicates in order", func(w *sim.Weather) { w.Duplicate, w.InOrder = 300, true }, [2]int{}, [2]int{250, 350}, false, false},
		{"late", func(w *sim.Weather) { w.Late, w.LateMax = 100, 400*ms }, [2]int{}, [2]int{}, true, true},
	} {
		w := fine
		c.change(&w)
		arrivals, traffic := exchange(3, w)
		again, _ := exchange(3, w)
		other, _ := exchange(4, w)
		if !slices.Equal(arrivals, again) || len(other) > 0 && slices.Equal(arrivals, other) {
			t.Errorf("%s: one seed gives two worlds, or two seeds one", c.name)
		}
		late := false
		for _, a := range arrivals {
			var i int
			var at string
			if _, err := fmt.Sscanf(a, "%d %s", &i, &at); err != nil {
				t.Fatal(err)
			}
			d, err := time.ParseDuration(at)
			if err != nil {
				t.Fatal(err)
			}
			if d -= time.Duration(i) * ms; d < 2*ms {
				t.Errorf("%s: packet %d took %v", c.name, i, d)
			} else if d > 30*ms {
				late = true
			}
		}
		overtakes := !slices.IsSortedFunc(arrivals, func(a, b string) int { return strings.Compare(a[:4], b[:4]) })
		if overtakes != c.overtakes || late != c.afterLimit {
			t.Errorf("%s: packets overtake: %t, late: %t", c.name, overtakes, late)
		}
		if traffic.Lost < c.lost[0] || traffic.Lost > c.lost[1] || traffic.Duplicated < c.twice[0] || traffic.Duplicated > c.twice[1] {
			t.Errorf("%s: %+v", c.name, traffic)
		}
		if traffic.Sent != 1000 || traffic.Delivered != len(arrivals) || traffic.Delivered != 1000-traffic.Lost+traffic.Duplicated {
			t.Errorf("%s: %d arrived; %+v", c.name, len(arrivals), traffic)
		}
	}
}

func TestAPartitionCutsWhatIsUnderWay(t *testing.T) {
	c := sim.NewClock()
	n := sim.NewNetwork[[]byte](c, sim.NewRand(1), 3)
	n.SetWeather(sim.Weather{DelayMin: 10 * ms, DelayMax: 10 * ms})
	var got []string
	for node := range 3 {
		n.Listen(node, func(from int, packet []byte) { got = append(got, fmt.Sprintf("%d→%d %s", from, node, packet)) })
	}
	all := func(text string) {
		for from := range 3 {
			n.Send(from, (from+1)%3, []byte(text))
		}
	}
	all("a")
	c.RunUntil(5 * ms)
	sides := []int{0, 1, 1}
	n.Partition(sides)
	sides[0] = 1 // the caller's slice is the caller's
	all("b")
	c.RunUntil(50 * ms)
	n.Partition(nil)
	n.Listen(0, nil)
	all("c")
	c.RunUntil(100 * ms)
	if want := "1→2 a, 1→2 b, 0→1 c, 1→2 c"; strings.Join(got, ", ") != want {
		t.Fatalf("%s, want %s", strings.Join(got, ", "), want)
	}
	if traffic := n.Traffic(); traffic.Cut != 4 || traffic.Delivered != 4 || traffic.Sent != 9 {
		t.Fatalf("%+v", traffic)
	}
}

func TestDistances(t *testing.T) {
	c := sim.NewClock()
	n := sim.NewNetwork[int](c, sim.NewRand(1), 3)
	n.SetWeather(sim.Weather{Jitter: 50, InOrder: true})
	n.SetDistance(func(from, to int) time.Duration { return time.Duration(10*from+to) * 10 * ms })
	seen := map[time.Duration]bool{}
	for range 100 {
		for _, l := range []struct{ from, to, least int }{{0, 1, 10}, {2, 1, 210}} {
			sent, least := c.Now(), time.Duration(l.least)*ms
			n.Listen(l.to, func(_, _ int) {
				took := c.Now() - sent
				if took < least || took > least+least/20 {
					t.Errorf("%d to %d takes %v", l.from, l.to, took)
				}
				seen[took] = true
			})
			n.Send(l.from, l.to, 0)
			c.RunUntil(sent + time.Second)
		}
	}
	if len(seen) < 190 {
		t.Errorf("%d different spans of 200", len(seen))
	}
}

func content(f *sim.File) string {
	var out strings.Builder
	for _, r := range f.Records() {
		out.Write(r)
	}
	return out.String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestACrashLosesASuffixOfWhatWasNotSynced(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(200) {
		d := sim.NewDisk(sim.NewRand(seed))
		f, other := d.Open("f"), d.Open("other")
		must(t, other.Append([]byte("other")))
		must(t, other.Sync())
		must(t, f.Append([]byte("a"), []byte("b")))
		must(t, f.Sync())
		must(t, f.Append([]byte("c")))
		must(t, f.Replace([][]byte{[]byte("x"), []byte("y")}))
		must(t, f.Append([]byte("z")))
		if content(f) != "xyz" {
			t.Fatalf("the writer reads %q", content(f))
		}
		d.Crash()
		after := content(f)
		seen[after] = true
		d.Crash()
		if content(f) != after || content(other) != "other" {
			t.Fatalf("seed %d: %q and %q after another crash, want %q and \"other\"", seed, content(f), content(other), after)
		}
		must(t, f.Append([]byte("!")))
		must(t, f.Sync())
		d.Crash()
		if content(f) != after+"!" {
			t.Fatalf("seed %d: %q, want %q", seed, content(f), after+"!")
		}
	}
	for _, want := range []string{"ab", "abc", "xy", "xyz"} {
		if !seen[want] {
			t.Errorf("%q never survived", want)
		}
	}
	if len(seen) != 4 {
		t.Errorf("survived: %v", seen)
	}
}

func TestAFileKeepsItsOwnCopies(t *testing.T) {
	f := sim.NewDisk(sim.NewRand(1)).Open("f")
	record := []byte("a")
	must(t, f.Append(record))
	record[0] = 'b'
	must(t, f.Replace([][]byte{f.Records()[0], record}))
	record[0] = 'c'
	before := f.Records()
	must(t, f.Append([]byte("d")))
	must(t, f.Sync())
	must(t, f.Append([]byte("e")))
	if content(f) != "abde" || len(before) != 2 {
		t.Fatalf("%q, and %d records read before", content(f), len(before))
	}
}

func TestAFullDiskTakesAPartAtMost(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(50) {
		d := sim.NewDisk(sim.NewRand(seed))
		f := d.Open("f")
		must(t, f.Append([]byte("a")))
		d.SetFull(true)
		if err := f.Append([]byte("b"), []byte("c")); !errors.Is(err, sim.ErrFull) {
			t.Fatalf("append: %v", err)
		}
		if err := f.Replace(nil); !errors.Is(err, sim.ErrFull) {
			t.Fatalf("replace: %v", err)
		}
		must(t, f.Sync())
		d.SetFull(false)
		must(t, f.Append([]byte("d")))
		seen[content(f)] = true
	}
	if len(seen) != 3 || !seen["ad"] || !seen["abd"] || !seen["abcd"] {
		t.Fatalf("%v", seen)
	}
}

func TestAFailedSyncIsFinalForTheFile(t *testing.T) {
	d := sim.NewDisk(sim.NewRand(1))
	f, other := d.Open("f"), d.Open("other")
	must(t, f.Append([]byte("a")))
	must(t, f.Sync())
	must(t, f.Append([]byte("b")))
	d.SetFailing(true)
	for range 2 {
		if err := f.Sync(); !errors.Is(err, sim.ErrSync) {
			t.Fatalf("sync: %v", err)
		}
		d.SetFailing(false)
	}
	must(t, other.Sync())
	d.Crash()
	if c := content(f); c != "a" && c != "ab" {
		t.Fatalf("%q survived", c)
	}
	must(t, f.Sync())
}

func TestFilesComeAndGo(t *testing.T) {
	seen := map[string]bool{}
	torn := 0
	for seed := range uint64(100) {
		d := sim.NewDisk(sim.NewRand(seed))
		for _, name := range []string{"kept", "removed"} {
			f := d.Open(name)
			must(t, f.Append([]byte(name)))
			must(t, f.Sync())
		}
		if first, again := d.Open("kept"), d.Open("kept"); first != again {
			t.Fatal("one name, two files")
		}
		d.Remove("removed")
		d.Remove("never there")
		must(t, d.Open("new").Append([]byte("new")))
		if got := strings.Join(d.Names(), " "); got != "kept new" {
			t.Fatalf("files: %s", got)
		}
		d.Crash()
		d.Crash()
		torn += d.Torn()
		names := d.Names()
		slices.Sort(names)
		seen[strings.Join(names, " ")] = true
		if c := content(d.Open("kept")); c != "kept" {
			t.Fatalf("%q survived", c)
		}
	}
	for _, want := range []string{"kept", "kept new", "kept removed", "kept new removed"} {
		if !seen[want] {
			t.Errorf("never after a crash: %s", want)
		}
	}
	if len(seen) != 4 || torn == 0 || torn > 90 {
		t.Errorf("%v, %d torn", seen, torn)
	}
}

func TestARestoredCopyIsCertain(t *testing.T) {
	d := sim.NewDisk(sim.NewRand(1))
	must(t, d.Open("f").Append([]byte("a")))
	must(t, d.Open("g").Append([]byte("b")))
	must(t, d.Open("g").Sync())
	d.Put("f", []byte("c"), []byte("d"))
	d.Put("g")
	for range 20 {
		d.Crash()
	}
	if got := strings.Join(d.Names(), " "); got != "f" || content(d.Open("f")) != "cd" {
		t.Fatalf("files %s, %q", got, content(d.Open("f")))
	}
}

func TestWatches(t *testing.T) {
	c := sim.NewClock()
	for _, drift := range []int{-500_000, -300, 0, 7, 400_000} {
		w := c.NewWatch()
		w.Drift(drift)
		start := c.Now()
		c.RunUntil(start + time.Second)
		if want := start + time.Second + time.Duration(drift)*time.Microsecond; w.Now() != want {
			t.Errorf("drift %d: shows %v, want %v", drift, w.Now(), want)
		}
		w.Jump(-50 * ms)
		before := w.Now()
		for _, d := range []time.Duration{1, 999, 1234567, 3 * ms} {
			at := w.Now() + d
			wait := w.Until(at)
			c.RunUntil(c.Now() + wait)
			if late := w.Now() - at; late < 0 || late > 5*time.Microsecond {
				t.Errorf("drift %d: %v later it shows %v too much", drift, wait, late)
			}
		}
		if w.Until(before) != 0 {
			t.Error("the past is awaited")
		}
		w.Drift(0)
	}
}

func TestSenselessCallsPanic(t *testing.T) {
	r, c := sim.NewRand(1), sim.NewClock()
	for name, call := range map[string]func(){
		"a draw below 0":         func() { r.Below(0) },
		"a span turned around":   func() { r.Between(2, 1) },
		"a happening before now": func() { c.After(-1, func() {}) },
		"a watch running back":   func() { c.NewWatch().Drift(-500_001) },
		"a partition of some":    func() { sim.NewNetwork[[]byte](c, r, 3).Partition([]int{1, 2}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s did not panic", name)
				}
			}()
			call()
		}()
	}
}
