package executor

import (
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// threads run programs on threads that give way to everything else on the
// machine. A thread may lower its priority, but an ordinary user's may not raise it
// again, so that such a thread never does anything else.
type threads struct {
	nice  int // how much lower than that of this process, 0 to 19; 0: programs run on whichever thread is there
	work  chan func()
	ended chan struct{}
	end   sync.Once
	all   sync.WaitGroup
}

// maxNice is the lowest priority (setpriority(2)).
const maxNice = 19

func newThreads(nice int) *threads {
	return &threads{nice: nice, work: make(chan func()), ended: make(chan struct{})}
}

// do runs f and returns when it has ended.
func (t *threads) do(f func()) {
	if t.nice == 0 {
		f()
		return
	}
	done := make(chan struct{})
	work := func() {
		defer close(done)
		f()
	}
	select {
	case t.work <- work: // to a thread that has nothing to do
	default:
		t.all.Go(func() { t.run(work) })
	}
	<-done
}

// run runs work until there is none for a while. Its thread ends with it.
func (t *threads) run(work func()) {
	runtime.LockOSThread() // and never unlocked
	if own, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err == nil {
		const highest = 20 // the system call answers 20 less the nice value
		// What fails leaves the thread as it is, which is no harm to the program.
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, min(maxNice, highest-own+t.nice))
	}
	for idle := time.NewTimer(machineIdle); ; {
		work()
		idle.Reset(machineIdle)
		select {
		case work = <-t.work:
		case <-idle.C:
			return
		case <-t.ended:
			return
		}
	}
}

// close ends the threads, which have nothing to do any more.
func (t *threads) close() {
	t.end.Do(func() { close(t.ended) })
	t.all.Wait()
}
