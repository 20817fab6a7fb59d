package executor_test

import (
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hypermesh/hypermesh/nexus/executor"
)

// TestProgramsGiveWay sees work run on threads of a lower priority, the same ones
// again, and none other touched.
func TestProgramsGiveWay(t *testing.T) {
	priority := func() (tid, nice int) {
		raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
		if err != nil {
			t.Error(err)
		}
		return unix.Gettid(), 20 - raw
	}
	_, own := priority()
	threads := executor.NewThreads(5)
	seen := map[int]bool{}
	var mu sync.Mutex
	for range 20 {
		threads.Do(func() {
			tid, nice := priority()
			if want := min(19, own+5); nice != want {
				t.Errorf("a program runs at nice %d, want %d", nice, want)
			}
			mu.Lock()
			defer mu.Unlock()
			seen[tid] = true
		})
	}
	if len(seen) > 10 {
		t.Errorf("20 programs one after the other took %d threads", len(seen))
	}
	threads.Close()
	if _, now := priority(); now != own {
		t.Errorf("this thread is at nice %d, was at %d", now, own)
	}
	plain := executor.NewThreads(0)
	defer plain.Close()
	plain.Do(func() {
		if _, nice := priority(); nice != own {
			t.Errorf("without nice a program runs at %d, want %d", nice, own)
		}
	})
}
