package vm

import (
	"github.com/bytecodealliance/wasmtime-go/v44"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
)

// StackBytes is the native stack of a call.
const StackBytes = stackBytes

// ThreadBytes is what a thread has to have as its stack.
const ThreadBytes = threadBytes

// ModuleBytes is what a module is held to take beside its native code.
const ModuleBytes = moduleBytes

// The versions of who makes native code.
const (
	EngineVersion = engineVersion
	ImageVersion  = imageVersion
)

// NewMadeBy is New of a machine of other versions.
func NewMadeBy(config Config, pass, image byte, engine string) (*Machine, error) {
	config.maker = maker{pass, image, engine}
	return New(config)
}

// WithoutAddresses is for tests.
var WithoutAddresses = withoutAddresses

// Images are a module's native code as the engine writes it, and as it is kept.
func Images(m *Machine, code *meter.Module) (whole, kept []byte, err error) {
	module, err := wasmtime.NewModule(m.native.engine, code.Code())
	if err != nil {
		return nil, nil, err
	}
	defer module.Close()
	if whole, err = module.Serialize(); err != nil {
		return nil, nil, err
	}
	kept, err = m.image(m.native, code.Code())
	return whole, kept, err
}

// KeepImage keeps native code as that of some contract.
func KeepImage(m *Machine, id crypto.Digest, image []byte) error {
	n, err := m.native.bind(id, image)
	if err == nil {
		m.release(m.keep(n, paidCall))
	}
	return err
}

// CompileText compiles a module that nobody has checked, as a machine compiles code.
func CompileText(m *Machine, id crypto.Digest, text []byte) error {
	n, err := m.compileText(id, text)
	if err == nil {
		m.release(m.keep(n, paidCall))
	}
	return err
}

// Forget has a machine forget what it has compiled first, which is of some id.
func Forget(m *Machine, id crypto.Digest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.paid.recent[0].id != id {
		panic("vm: another was compiled first")
	}
	m.drop(m.paid.recent[0])
}

// Refuses is refuses.
var Refuses = refuses

// NewPortable is New of a machine that compiles for no processor.
func NewPortable(config Config) (*Machine, error) {
	c, err := portableSettings()
	if err != nil {
		return nil, err
	}
	return newMachine(config, c)
}

// NewRefusing is New of a machine whose compiler for the processor refuses blocks of several values.
func NewRefusing(config Config) (*Machine, error) {
	c := settings()
	c.SetWasmMultiValue(false)
	return newMachine(config, c)
}

// PinnedNow is how many bytes a machine counts as pinned.
func PinnedNow(m *Machine) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pins.bytes
}
