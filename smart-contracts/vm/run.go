package vm

import (
	"errors"
	"fmt"
	"strings"

	"github.com/bytecodealliance/wasmtime-go/v44"

	"github.com/hypermesh/hypermesh/internal/wasm"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
)

// run is one call: a store and an instance of its own.
type run struct {
	machine *Machine
	host    Host
	call    Call
	native  native

	walks  []Iterator
	nested int // imports that run in each other
	end    End // set by an import that stops the contract
	detail string
	fault  error
	raised any // what an import panicked with
}

// pricePage is what a page of memory costs that a contract begins with. It is less
// than one costs to grow by: a small call uses few of those that compilers put there.
const pricePage = 24_000

func (r *run) close() {
	for _, walk := range r.walks {
		walk.Close()
	}
	r.native.end()
}

// do runs the call. The error is a fault.
func (r *run) do(code *linked) (Outcome, error) {
	params, there := code.params[r.call.Entry]
	switch {
	case !there:
		return Outcome{End: Misused, Detail: "the contract has no " + string(r.call.Entry)}, nil
	case params > len(r.call.Args) || r.call.Entry != meter.Migrate && params < len(r.call.Args):
		return Outcome{}, fmt.Errorf("vm: %d arguments for %s", len(r.call.Args), r.call.Entry)
	}
	var err error
	if r.native, err = code.by.begin(code, r); err != nil {
		return Outcome{}, err
	}
	var data []byte
	if pages := uint64(len(r.native.memory())) / wasm.PageBytes; r.charge(priceInstance + pages*pricePage) {
		data, err = r.answer(r.call.Args[:params])
	}
	if r.fault != nil {
		return Outcome{}, r.fault
	}
	if err != nil && r.end == 0 {
		panic("vm: a call has failed without a reason: " + err.Error())
	}
	left := r.native.points()
	if left < 0 {
		r.end = Spent
	}
	switch r.end {
	case 0:
		return Outcome{End: Returned, Data: data, Points: r.call.Points - uint64(left)}, nil
	case Aborted, Misused:
		return Outcome{End: r.end, Points: r.call.Points - uint64(left), Detail: r.detail}, nil
	default:
		return Outcome{End: r.end, Points: r.call.Points, Detail: r.detail}, nil
	}
}

// errStopped says that an import, or the machine, has stopped the contract, or that
// there is a fault: which of them is noted in the run.
var errStopped = errors.New("vm: stopped")

// answer gives the contract its arguments, calls it and takes its answer.
func (r *run) answer(given [][]byte) ([]byte, error) {
	var args []int32
	for _, arg := range given {
		at, err := r.give(arg)
		if err != nil {
			return nil, err
		}
		args = append(args, at)
	}
	at, err := r.enter(entry, args...)
	if err != nil {
		return nil, err
	}
	data, err := r.take(at, maxResult, "the answer")
	if err != nil {
		return nil, err
	}
	if _, err := r.enter(deallocate, at); err != nil {
		return nil, err
	}
	return data, nil
}

// enter calls one of the contract's functions. How it ends that does not return is
// noted. A panic of an import goes on here.
func (r *run) enter(function function, args ...int32) (int32, error) {
	value, ends := r.native.do(function, args...)
	if raised := r.raised; raised != nil {
		r.raised = nil
		panic(raised)
	}
	switch {
	case ends == returned:
		return value, nil
	case r.fault != nil || r.end != 0 && ends != broken:
	case ends == trapped:
		r.trapped()
	case ends == stopped:
		return 0, r.failed(errors.New("vm: a trap of nobody"))
	default:
		return 0, r.failed(fmt.Errorf("vm: running: %w", r.native.failure()))
	}
	return 0, errStopped
}

// trapped notes why the contract trapped.
func (r *run) trapped() {
	switch code, reason := r.native.trap(); {
	case reason == meter.ReasonSpent:
		_ = r.stop(Spent, "")
	case reason == meter.ReasonOverflow:
		_ = r.stop(Overflowed, "")
	case reason != meter.ReasonNone:
		_ = r.failed(errors.New("vm: the host has no memory for a contract"))
	case code == wasmtime.StackOverflow || code == wasmtime.Interrupt || code == wasmtime.OutOfFuel:
		_ = r.failed(fmt.Errorf("vm: a contract went beyond what its own count allows: trap %d", code))
	case code == wasmtime.UnreachableCodeReached:
		_ = r.stop(Aborted, "unreachable")
	default:
		_ = r.stop(Trapped, fmt.Sprintf("trap %d", code))
	}
}

// stop notes how the contract ends, if that is not settled yet.
func (r *run) stop(end End, detail string) error {
	if r.end == 0 && r.fault == nil {
		r.end, r.detail = end, strings.ToValidUTF8(detail, "�")
	}
	return errStopped
}

func (r *run) misused(format string, args ...any) error {
	return r.stop(Misused, fmt.Sprintf(format, args...))
}

// failed notes a fault.
func (r *run) failed(err error) error {
	if r.fault == nil {
		r.fault = err
	}
	return errStopped
}

// charge takes points, and reports whether there were so many.
func (r *run) charge(points uint64) bool {
	left := r.native.points()
	if left < 0 || uint64(left) < points {
		r.native.setPoints(-1)
		_ = r.stop(Spent, "")
		return false
	}
	r.native.setPoints(left - int64(points))
	return true
}
