package vm

import (
	"fmt"

	"github.com/bytecodealliance/wasmtime-go/v44"
)

// stackBytes is the native stack of one call: more than meter.StackBytes by so much that
// the module's own count is used up before a frame that is counted for less than it is
// could matter.
const stackBytes = 3 << 19

// threadBytes is what a thread has to have of it: the host has its part of it, and what the
// engine does itself.
const threadBytes = stackBytes + 512<<10

// engineVersion is wasmtime's, of which it compares the first number alone with that of
// what it has compiled before.
const engineVersion = "44.0.0"

// settings are those of an engine for the dialect that smart-contracts/meter writes,
// with one NaN. Code is compiled as it is written: what optimizes it has all that is computed in a
// straight run wait for its use, and takes the square of that. The module counts what it uses; the epoch is for one that goes
// on all the same, which is a fault of the node.
func settings() *wasmtime.Config {
	c := wasmtime.NewConfig()
	c.SetStrategy(wasmtime.StrategyCranelift)
	c.SetCraneliftOptLevel(wasmtime.OptLevelNone)
	c.SetCraneliftNanCanonicalization(true)
	c.SetEpochInterruption(true)
	c.SetMaxWasmStack(stackBytes)
	c.SetParallelCompilation(true)
	c.SetNativeUnwindInfo(false)
	c.SetWasmSIMD(false)
	c.SetWasmRelaxedSIMD(false)
	c.SetWasmBulkMemory(false)
	c.SetWasmReferenceTypes(false)
	c.SetWasmThreads(false)
	c.SetWasmTailCall(false)
	c.SetWasmMultiMemory(false)
	c.SetWasmMemory64(false)
	c.SetWasmFunctionReferences(false)
	c.SetWasmGC(false)
	c.SetGCSupport(false)
	c.SetWasmWideArithmetic(false)
	c.SetWasmComponentModel(false)
	c.SetMemoryInitCOWSet(false) // an image is mapped, and kept memories are not
	keepMemories(c)
	return c
}

// portableSettings are those of an engine that needs no processor of some sort.
func portableSettings() (*wasmtime.Config, error) {
	c := settings()
	if err := c.SetTarget("pulley64"); err != nil {
		c.Close()
		return nil, fmt.Errorf("vm: an engine for no processor: %w", err)
	}
	return c, nil
}
