package executor

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/bytecodealliance/wasmtime-go/v44"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// An engine, the definitions of preview 1 and the native code of a module take
// a millisecond to make and have nothing of a program in them: memories,
// tables, globals, fuel and limits belong to the store, which is new in each
// Run. So they are kept, as machines, for the Runs that follow.
const (
	// machineBytes bounds the native code that a machine which is not running
	// keeps. What runs is there whatever its size.
	machineBytes = 32 << 20
	// machineIdle is how long a machine that nobody uses is kept.
	machineIdle = 20 * time.Second
)

// machine runs one program at a time: the epoch of its engine interrupts
// whatever runs in it.
type machine struct {
	engine  *wasmtime.Engine
	linker  *wasmtime.Linker
	running *process // whose host calls are answered
	loaded  []loadedModule
	bytes   uint64 // of code in loaded
	expiry  *time.Timer
}

// loadedModule is native code in a machine.
type loadedModule struct {
	digest crypto.Digest
	bytes  uint64
	module *wasmtime.Module
}

func newMachine() (*machine, error) {
	engine := newEngine()
	m := &machine{engine: engine, linker: wasmtime.NewLinker(engine)}
	if err := m.link(); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

func (m *machine) close() {
	for _, l := range m.loaded {
		l.module.Close()
	}
	m.loaded = nil
	m.linker.Close()
	m.engine.Close()
}

// load returns the module of an artifact, the most recently used one from now
// on.
func (m *machine) load(code artifact) (*wasmtime.Module, error) {
	if i := slices.IndexFunc(m.loaded, func(l loadedModule) bool { return l.digest == code.digest }); i >= 0 {
		l := m.loaded[i]
		m.loaded = append(slices.Delete(m.loaded, i, i+1), l)
		return l.module, nil
	}
	module, err := wasmtime.NewModuleDeserialize(m.engine, code.code)
	if err != nil {
		return nil, fmt.Errorf("executor: loading compiled code: %w", err)
	}
	m.loaded = append(m.loaded, loadedModule{code.digest, uint64(len(code.code)), module})
	m.bytes += uint64(len(code.code))
	return module, nil
}

// shrink lets code go, the least recently used first, until at most limit bytes
// are left.
func (m *machine) shrink(limit uint64) {
	for m.bytes > limit {
		m.loaded[0].module.Close()
		m.bytes -= m.loaded[0].bytes
		m.loaded = slices.Delete(m.loaded, 0, 1)
	}
}

// machines are those that nobody uses, the most recently used last.
type machines struct {
	mu     sync.Mutex
	closed bool
	idle   []*machine
}

func newMachines() *machines { return &machines{} }

// use runs a module in a machine of its own. One in which something failed is
// not used again.
func (s *machines) use(code artifact, run func(*machine, *wasmtime.Module) error) error {
	m, err := s.take(code.digest)
	if m == nil && err == nil {
		m, err = newMachine()
	}
	if err != nil {
		return err
	}
	module, err := m.load(code)
	if err == nil {
		err = run(m, module)
	}
	if err != nil {
		m.close()
		return err
	}
	s.park(m)
	return nil
}

// take returns an idle machine, one with the module in it if there is any, or
// nil.
func (s *machines) take(digest crypto.Digest) (*machine, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	best := len(s.idle) - 1
	for i := best; i >= 0; i-- {
		if slices.ContainsFunc(s.idle[i].loaded, func(l loadedModule) bool { return l.digest == digest }) {
			best = i
			break
		}
	}
	if best < 0 {
		return nil, nil
	}
	m := s.idle[best]
	s.idle = slices.Delete(s.idle, best, best+1)
	m.expiry.Stop()
	return m, nil
}

// park keeps a machine for the next Run, in the place of the one that was not
// used for the longest time if there are too many.
func (s *machines) park(m *machine) {
	if m.running != nil {
		panic("executor: a machine is parked while a program runs in it")
	}
	m.shrink(machineBytes)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		m.close()
		return
	}
	s.idle = append(s.idle, m)
	m.expiry = time.AfterFunc(machineIdle, func() { s.expire(m) })
	if len(s.idle) > runtime.GOMAXPROCS(0) {
		old := s.idle[0]
		s.idle = slices.Delete(s.idle, 0, 1)
		old.expiry.Stop()
		old.close()
	}
}

// expire closes a machine that is idle still.
func (s *machines) expire(m *machine) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.idle, m); i >= 0 {
		s.idle = slices.Delete(s.idle, i, i+1)
		m.close()
	}
}

func (s *machines) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, m := range s.idle {
		m.expiry.Stop()
		m.close()
	}
	s.idle = nil
}
