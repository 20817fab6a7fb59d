package vm_test

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// shelves is a machine with codes, of each kind of which it keeps three.
type shelves struct {
	*vm.Machine
	t     *testing.T
	codes []vm.Code
	loads []*int
}

const roomForThree = 4*vm.ModuleBytes - 1

func newShelves(t *testing.T, config vm.Config) *shelves {
	s := &shelves{t: t, Machine: newMachine(t, config)}
	for i := range 12 {
		code, loads := counted(codeOf(t, source(fmt.Sprintf("(drop (i32.const %d)) (local.get $msg)", i), "unreachable")))
		s.codes, s.loads = append(s.codes, code), append(s.loads, loads)
	}
	return s
}

func (s *shelves) run(unpaid bool, codes ...int) {
	s.t.Helper()
	call := execute
	call.Unpaid = unpaid
	for _, i := range codes {
		if o, err := s.Run(s.codes[i], call, newWorld()); err != nil || o.End != vm.Returned {
			s.t.Fatalf("%v %s, %v", o.End, o.Detail, err)
		}
	}
}

func (s *shelves) pin(until uint64, codes ...int) {
	s.t.Helper()
	for _, i := range codes {
		if err := s.Pin(s.codes[i], until); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *shelves) expect(why string, has ...int) {
	s.t.Helper()
	for i, code := range s.codes {
		if s.Has(code.ID) != slices.Contains(has, i) {
			s.t.Errorf("%s: code %d is in memory: %v", why, i, s.Has(code.ID))
		}
	}
}

// TestPinnedStays: until its period is over, whatever else runs and is asked for; nothing of what ran last goes for it, and
// calls that it is pinned for leave no mark there.
func TestPinnedStays(t *testing.T) {
	s := newShelves(t, vm.Config{CacheBytes: roomForThree, AskedBytes: roomForThree, PinnedBytes: roomForThree})
	s.Unpin(5)
	s.run(false, 0, 1, 2)
	s.pin(7, 3, 4)
	s.expect("pinned beside", 0, 1, 2, 3, 4)
	s.run(true, 3, 4, 5, 6, 7, 8)
	s.run(true, 3)
	s.expect("others are asked for", 0, 1, 2, 3, 4, 6, 7, 8)
	s.run(true, 4)
	s.run(false, 9, 10, 11)
	s.expect("others run", 9, 10, 11, 3, 4, 6, 7, 8)
	s.pin(9, 4)
	s.pin(8, 4, 5)
	s.Unpin(6)
	s.Unpin(5)
	s.expect("it stays longer, and never less", 9, 10, 11, 3, 4, 5, 6, 7, 8)
	s.Unpin(7)
	s.expect("the first is over", 9, 10, 11, 4, 5, 6, 7, 8)
	s.Unpin(8)
	s.expect("the second, which was not said to stay longer", 9, 10, 11, 4, 6, 7, 8)
	s.pin(9, 7)
	s.run(true, 2)
	s.expect("what was asked for and is pinned makes room there", 9, 10, 11, 4, 7, 2, 6, 8)
	s.Unpin(100)
	s.expect("all are over", 9, 10, 11, 2, 6, 8)
	s.pin(100, 0)
	s.pin(0, 1)
	s.expect("what is over already is not read", 9, 10, 11, 2, 6, 8)
	for i, loads := range s.loads {
		if want := map[int]int{2: 2, 5: 2}; *loads != max(want[i], 1) { // which had gone before
			t.Errorf("code %d was loaded %d times", i, *loads)
		}
	}
}

// TestPinnedRunsToo: what is pinned and runs as all else does is with what ran last as all else is, before, while
// and after it is pinned.
func TestPinnedRunsToo(t *testing.T) {
	s := newShelves(t, vm.Config{CacheBytes: roomForThree, AskedBytes: roomForThree, PinnedBytes: roomForThree})
	s.run(false, 0, 1, 2)
	s.pin(1, 0, 3)
	s.run(false, 3) // without being read, and 0 goes from what ran last
	s.expect("run while it is pinned", 0, 1, 2, 3)
	s.run(false, 4) // 1 goes
	s.expect("another ran", 0, 2, 3, 4)
	s.run(true, 0)
	s.Unpin(1)
	s.expect("what was pinned and ran stays, what only was pinned goes", 2, 3, 4)
	s.run(false, 5, 6)
	s.expect("and goes as all else does", 4, 5, 6)
	if *s.loads[3] != 1 {
		t.Errorf("code 3 was loaded %d times", *s.loads[3])
	}
}

// TestPinsAreBounded: what there is no room for is said, and runs as if it were not pinned; when others are over there is room.
func TestPinsAreBounded(t *testing.T) {
	said := new(strings.Builder)
	s := newShelves(t, vm.Config{CacheBytes: roomForThree, AskedBytes: 1, PinnedBytes: roomForThree, Log: slog.New(slog.NewTextHandler(said, nil))})
	s.pin(2, 0, 1)
	s.pin(3, 2)
	if said.Len() > 0 {
		t.Fatal(said)
	}
	s.pin(3, 3)
	if !strings.Contains(said.String(), "no room to pin") {
		t.Errorf("said %q", said)
	}
	s.run(true, 4)
	s.expect("a fourth", 0, 1, 2, 4)
	s.pin(3, 1)
	s.Unpin(2)
	s.pin(3, 3)
	s.expect("one is over", 1, 2, 3, 4)
}

// TestPinsEnd: code that runs while its pin ends is closed when it has run; of many that pin and run the same at once, while others
// drive it out, all are answered; and nothing is pinned after the end.
func TestPinsEnd(t *testing.T) {
	s := newShelves(t, vm.Config{Dir: t.TempDir(), CacheBytes: 1, AskedBytes: 1, PinnedBytes: roomForThree})
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for i := range 40 {
				switch code := (n + i) % 4; n % 4 {
				case 0:
					if err := s.Pin(s.codes[code], uint64(i+2)); err != nil {
						t.Error(err)
					}
				case 1:
					s.Unpin(uint64(i))
				default:
					call := execute
					call.Unpaid = n%4 == 2
					if o, err := s.Run(s.codes[code], call, newWorld()); err != nil || o.End != vm.Returned {
						t.Errorf("%v %s, %v", o.End, o.Detail, err)
					}
				}
			}
		})
	}
	all.Wait()
	s.Unpin(1000)
	s.run(false, 11)
	s.run(true, 10)
	s.expect("in the end", 10, 11)
	if left := vm.PinnedNow(s.Machine); left != 0 {
		t.Errorf("%d bytes count as pinned", left)
	}
	s.Close()
	if err := s.Pin(s.codes[0], 2000); !errors.Is(err, vm.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	s.Unpin(3000)
}

// TestPinThatFails: the machine's fault is told, and another time it is pinned.
func TestPinThatFails(t *testing.T) {
	s := newShelves(t, vm.Config{CacheBytes: 1})
	load, fails := s.codes[0].Load, true
	s.codes[0].Load = func() (*meter.Module, error) {
		if fails {
			return nil, errors.New("a disk that fails")
		}
		return load()
	}
	if err := s.Pin(s.codes[0], 1); err == nil || !strings.Contains(err.Error(), "a disk that fails") {
		t.Error(err)
	}
	fails = false
	s.pin(1, 0)
	s.run(false, 1)
	s.expect("it is pinned", 0, 1)
}
