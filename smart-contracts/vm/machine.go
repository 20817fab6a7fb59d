package vm

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bytecodealliance/wasmtime-go/v44"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
)

// Config is what a machine keeps, and where.
type Config struct {
	// Dir holds compiled modules; empty: they are kept in memory alone.
	Dir string
	// Key authenticates what is in Dir. It is the node's secret: whoever has it
	// can have the node run any native code.
	Key [32]byte
	// CacheBytes bounds the modules that are kept in memory, compiled [512 MiB].
	CacheBytes uint64
	// AskedBytes bounds those beside them that calls have loaded for which nobody pays [64 MiB].
	AskedBytes uint64
	// PinnedBytes bounds those beside them that are pinned [64 MiB].
	PinnedBytes uint64
	// Patience is how long a call may take before the node is held to be broken
	// [1 min]. A call ends long before by what it may use.
	Patience time.Duration
	// Log is told when what is compiled cannot be kept in Dir [nobody].
	Log *slog.Logger

	maker maker
}

func (c Config) withDefaults() Config {
	if c.maker == (maker{}) {
		c.maker = maker{pass: meter.Version, image: imageVersion, engine: engineVersion}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = contract.CacheBytes
	}
	if c.AskedBytes == 0 {
		c.AskedBytes = 64 << 20
	}
	if c.PinnedBytes == 0 {
		c.PinnedBytes = contract.PinnedBytes
	}
	if c.Patience == 0 {
		c.Patience = time.Minute
	}
	return c
}

// tick is how often the engine's epoch counts.
const tick = time.Second

// Machine runs contracts. Safe for concurrent use.
type Machine struct {
	config Config
	native *target
	stop   chan struct{}
	ticker sync.WaitGroup

	key    crypto.Digest // of what is in the directory: secret
	suffix string        // of the files there

	compiling chan struct{} // full while as many are compiled as may be

	making   sync.Mutex
	portable atomic.Pointer[target] // nil: nothing has needed it

	mu       sync.Mutex
	compiled map[crypto.Digest]*compiled     // nil after the end
	underWay map[crypto.Digest]chan struct{} // that are read or compiled now; closed when that ends
	paid     shelf
	asked    shelf // what was loaded for calls for which nobody pays
	pins     pins
	working  int // calls, and codes that are compiled
	closed   bool
	idle     sync.Cond // working may have become 0
}

// New returns a machine. Close it. No other may have its directory at the same time.
func New(config Config) (*Machine, error) { return newMachine(config, settings()) }

func newMachine(config Config, native *wasmtime.Config) (*Machine, error) {
	if stack := threadStack(); stack < threadBytes {
		native.Close()
		return nil, fmt.Errorf("vm: threads have a stack of %d KiB, calls of contracts need %d: raise the soft limit (ulimit -S -s %d)",
			stack>>10, threadBytes>>10, threadBytes>>10)
	}
	m := &Machine{
		config: config.withDefaults(), stop: make(chan struct{}), compiling: make(chan struct{}, maxCompiling),
		compiled: map[crypto.Digest]*compiled{}, underWay: map[crypto.Digest]chan struct{}{},
	}
	m.idle.L = &m.mu
	m.paid.most, m.asked.most, m.pins.most = m.config.CacheBytes, m.config.AskedBytes, m.config.PinnedBytes
	var err error
	if m.native, err = newTarget(native); err != nil {
		return nil, err
	}
	if err := m.openDir(); err != nil {
		m.native.close()
		return nil, err
	}
	m.ticker.Go(func() {
		t := time.NewTicker(tick)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				m.native.engine.IncrementEpoch()
				if t := m.portable.Load(); t != nil {
					t.engine.IncrementEpoch()
				}
			case <-m.stop:
				return
			}
		}
	})
	return m, nil
}

// ErrClosed is that of a call after Close.
var ErrClosed = errors.New("vm: the machine is closed")

// begin lets a call, of some depth, work with the machine until end. What a call asks
// that began before Close is answered, so that it ends.
func (m *Machine) begin(depth int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed && (depth == 0 || m.working == 0) {
		return ErrClosed
	}
	m.working++
	return nil
}

func (m *Machine) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.working--; m.working == 0 {
		m.idle.Broadcast()
	}
}

// Close waits for calls to end, and frees what the machine keeps. Calls that begin
// afterwards get ErrClosed. To close it again does nothing.
func (m *Machine) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for m.working > 0 {
		m.idle.Wait()
	}
	if m.compiled == nil {
		return
	}
	close(m.stop)
	m.ticker.Wait()
	for _, n := range m.compiled {
		n.close()
	}
	m.paid, m.asked, m.pins, m.compiled = shelf{}, shelf{}, pins{}, nil
	m.native.close()
	if t := m.portable.Load(); t != nil {
		t.close()
	}
}

// maxPoints is the most that a call can be given: what no call can go below by
// one run.
const maxPoints = 1 << 62

var (
	errDepth  = errors.New("vm: calls are nested too deep")
	errPoints = errors.New("vm: more points than can be counted")
	errGone   = errors.New("vm: a host has ended the goroutine that a call runs in")
)

// Run runs a call to its end. Whatever the contract does is in the Outcome; an
// error is a fault of the node, or of the caller. A contract without the entry
// is Misused; code that no compiler takes is Refused. A panic of the host comes out of Run.
func (m *Machine) Run(code Code, call Call, host Host) (outcome Outcome, err error) {
	switch {
	case call.Depth < 0 || call.Depth > MaxDepth:
		return Outcome{}, errDepth
	case call.Points > maxPoints:
		return Outcome{}, errPoints
	}
	if err := m.begin(call.Depth); err != nil {
		return Outcome{}, err
	}
	defer m.end()
	if call.Depth == 0 {
		return m.run(code, call, host)
	}
	// The native stack of the calls that wait is not this call's: it has a thread
	// of its own.
	var raised any
	err = errGone // unless it ends otherwise
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { raised = recover() }()
		outcome, err = m.run(code, call, host)
	}()
	<-done
	if raised != nil {
		panic(raised)
	}
	return outcome, err
}

func (m *Machine) run(code Code, call Call, host Host) (Outcome, error) {
	to := paidCall
	if call.Unpaid {
		to = unpaidCall
	}
	n, err := m.load(code, to)
	if err != nil {
		return Outcome{}, err
	}
	defer m.release(n)
	if n.linked == nil {
		return Outcome{End: Refused, Points: call.Points}, nil
	}
	r := &run{machine: m, host: host, call: call}
	defer r.close()
	return r.do(n.linked)
}
