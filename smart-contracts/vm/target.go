package vm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bytecodealliance/wasmtime-go/v44"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// target is what code is compiled for, with the imports linked: the node's own processor, or
// the machine without one that the engine has beside it. What it refuses, and what it runs, is
// the same on all processors; it takes some 25 times as long.
type target struct {
	engine *wasmtime.Engine
	linker *linker
}

func newTarget(config *wasmtime.Config) (*target, error) {
	t := &target{engine: wasmtime.NewEngineWithConfig(config)}
	var err error
	if t.linker, err = newLinker(t.engine); err != nil {
		t.engine.Close()
		return nil, err
	}
	return t, nil
}

func (t *target) close() {
	t.linker.close()
	t.engine.Close()
}

// image is the code of a module as the target runs it.
func (t *target) image(code []byte) ([]byte, error) {
	module, err := wasmtime.NewModule(t.engine, code)
	if err != nil {
		return nil, err
	}
	defer module.Close()
	text, err := module.Serialize()
	if err != nil {
		return nil, err
	}
	return withoutAddresses(text), nil
}

// moduleBytes is what a module is held to take beside its native code: of a small one the
// engine's description is larger than that, and each has mappings of its own, of which a
// process has 65,530.
const moduleBytes = 64 << 10

// bind takes a target's code, of this node's, to the engine and links it.
func (t *target) bind(id crypto.Digest, text []byte) (*compiled, error) {
	module, err := wasmtime.NewModuleDeserialize(t.engine, text)
	if err != nil {
		return nil, fmt.Errorf("vm: native code %v: %w", id, err)
	}
	code, err := t.linker.link(module)
	if err != nil {
		module.Close()
		return nil, fmt.Errorf("code %v: %w", id, err)
	}
	return &compiled{linked: code, id: id, bytes: uint64(len(text)) + moduleBytes}, nil
}

// What the engine says of a module that it does not read, and of one that it does not compile.
// Whatever else fails, as memory that is not there, is the node's own.
var refusals = []string{"failed to parse WebAssembly module", "WebAssembly translation error", "Compilation error: "}

func refuses(err error) bool {
	return err != nil && slices.ContainsFunc(refusals, func(says string) bool { return strings.Contains(err.Error(), says) })
}

// refusedBytes is what is counted of code that is kept as refused.
const refusedBytes = 1 << 10

// form is what has become of code, as files of it have it.
type form byte

// The forms.
const (
	formNative   form = iota // code of the node's own processor
	formPortable             // code of none
	formRefused              // nothing
)

// made compiles a module. What the compiler for this processor refuses runs without one, slower and
// to the same results. If it is refused there too, that is known of it: so what becomes of its
// calls depends on no processor.
func (m *Machine) made(id crypto.Digest, code []byte) (as form, text []byte, err error) {
	text, why := m.image(m.native, code)
	if why == nil {
		return formNative, text, nil
	}
	if !refuses(why) {
		return 0, nil, fmt.Errorf("vm: compiling code %v: %w", id, why)
	}
	t, err := m.portably()
	if err != nil {
		return 0, nil, err
	}
	text, err = m.image(t, code)
	if refuses(err) {
		m.config.Log.Error("code of a contract is refused by the compiler: its calls fail", "code", id, "err", why, "elsewhere", err)
		return formRefused, nil, nil
	}
	if err != nil {
		return 0, nil, fmt.Errorf("vm: compiling code %v for no processor: %w", id, err)
	}
	m.config.Log.Error("code of a contract does not compile for this processor: it runs without, slower", "code", id, "err", why)
	return formPortable, text, nil
}

// bind takes what has become of code to the engine.
func (m *Machine) bind(id crypto.Digest, as form, text []byte) (*compiled, error) {
	switch as {
	case formNative:
		return m.native.bind(id, text)
	case formPortable:
		t, err := m.portably()
		if err != nil {
			return nil, err
		}
		return t.bind(id, text)
	case formRefused:
		return &compiled{id: id, bytes: refusedBytes}, nil
	}
	return nil, fmt.Errorf("vm: code %v in form %d", id, as)
}

// portably is the target without a processor, which few machines ever need.
func (m *Machine) portably() (*target, error) {
	m.making.Lock()
	defer m.making.Unlock()
	if t := m.portable.Load(); t != nil {
		return t, nil
	}
	config, err := portableSettings()
	if err != nil {
		return nil, err
	}
	t, err := newTarget(config)
	if err == nil {
		m.portable.Store(t)
	}
	return t, err
}
