package contract

import (
	"fmt"
	"strings"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
)

// Debt is when, of Env.ProgressMs, nodes have compiled all that was stored, if they take for each code, one
// after the other, what its upload has paid for.
type Debt struct {
	_     struct{} `cbor:",toarray"`
	Until uint64
}

// tooMuch is the refusal of code for which there is no time now.
const tooMuch = "nodes have %d ms of code to compile, limit %d: store it in %d ms"

// StoreInMs is how much progress is missing until code may be stored that a message was refused for, as the reason of
// its rejection says; false: it was refused for something else.
func StoreInMs(reason string) (ms uint64, ok bool) {
	_, text, ok := strings.Cut(reason, fmt.Sprintf("%s %d: ", spaceOurs, oursDebt))
	if !ok {
		return 0, false
	}
	var before, limit uint64
	_, err := fmt.Sscanf(text, tooMuch, &before, &limit, &ms)
	return ms, err == nil
}

// compiling is the gas that an upload pays for what nodes do with new code off the path of votes, and for what they
// did to know that it can be done.
func (p *Prices) compiling(size uint64, module *meter.Module) uint64 {
	return p.Code + p.CodeByte*size + p.CodeSpan*module.Spans() + p.load(module.Native())
}

// compileMs is how long compiling takes for which so much gas was paid, rounded up.
func compileMs(gas uint64) uint64 {
	const ms = 1_000_000
	return (gas*compileNs + ms - 1) / ms // gas is of a transaction
}

// mayOwe refuses code that nobody has stored before if there is too much to be compiled already. How much the code itself is
// does not count: whoever stores little could keep out for good who stores much. It is asked before a sender burns
// anything, and again before the whole of it is looked at.
func (r *run) mayOwe(f *frame, checksum crypto.Digest) *failure {
	if !f.tank.take(2 * r.env.Prices.Read) {
		return outOf(f.tank)
	}
	if _, known := state.Load[Loaded](f.layer, LoadedKey(checksum)); known {
		return nil
	}
	if before := r.compiled(f) - r.env.ProgressMs; before > MaxDebtMs {
		return fail(spaceOurs, oursDebt, tooMuch, before, MaxDebtMs, before-MaxDebtMs)
	}
	return nil
}

// compiled is when all that was stored before has been compiled: now, or later.
func (r *run) compiled(f *frame) uint64 {
	debt, _ := state.Load[Debt](f.layer, DebtKey()) // none: zero
	return max(debt.Until, r.env.ProgressMs)
}

// owe puts code behind all that is to be compiled, and returns when that has been.
//
// Nodes begin when the block is final, which it is before anybody calls the code: none executes transactions more
// than eight blocks above what is final. Time in which the chain stands is no progress, since nobody
// compiles in it what was stored last.
func (r *run) owe(f *frame, gas uint64) (ready uint64) {
	ready = r.compiled(f) + compileMs(gas)
	state.Save(f.layer, DebtKey(), Debt{Until: ready})
	return ready
}

// WaitMs is how much progress is missing until code is compiled everywhere.
func (c *Code) WaitMs(progressMs uint64) uint64 { return c.Ready - min(c.Ready, progressMs) }
