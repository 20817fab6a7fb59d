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

// MadeBy has a machine keep what it compiles as that of other versions.
func MadeBy(m *Machine, pass, image byte, engine string) { m.config.maker = maker{pass, image, engine} }

// WithoutAddresses is for tests.
var WithoutAddresses = withoutAddresses

// Images are a module's native code as the engine writes it, and as it is kept.
func Images(m *Machine, code *meter.Module) (whole, kept []byte, err error) {
	module, err := wasmtime.NewModule(m.engine, code.Code())
	if err != nil {
		return nil, nil, err
	}
	defer module.Close()
	if whole, err = module.Serialize(); err != nil {
		return nil, nil, err
	}
	kept, err = m.image(code.Code())
	return whole, kept, err
}

// KeepImage keeps native code as that of some contract.
func KeepImage(m *Machine, id crypto.Digest, image []byte) error {
	n, err := m.bind(id, image)
	if err == nil {
		m.release(m.keep(n))
	}
	return err
}
