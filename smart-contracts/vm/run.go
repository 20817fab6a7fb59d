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

	store    *wasmtime.Store
	instance *wasmtime.Instance
	memory   *wasmtime.Memory
	points   *wasmtime.Global
	allocate *wasmtime.Func

	walks  []Iterator
	end    End // set by an import that stops the contract
	detail string
	fault  error
}

// pricePage is what a page of memory costs that a contract begins with: what it
// costs one to grow by.
const pricePage = 24_000

func (r *run) close() {
	for _, walk := range r.walks {
		walk.Close()
	}
	if r.store != nil {
		r.store.Close()
	}
}

// do runs the call. The error is a fault.
func (r *run) do(module *wasmtime.Module) (Outcome, error) {
	if err := r.begin(module); err != nil {
		return Outcome{}, err
	}
	var data []byte
	if pages := uint64(r.memory.DataSize(r.store)) / wasm.PageBytes; r.charge(priceInstance + pages*pricePage) {
		var err error
		if data, err = r.enter(); err != nil {
			if err := r.classify(err); err != nil {
				return Outcome{}, err
			}
		}
	}
	left := r.points.Get(r.store).I64()
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

// begin makes the instance, which runs nothing of the contract.
func (r *run) begin(module *wasmtime.Module) (err error) {
	r.store = wasmtime.NewStoreWithData(r.machine.engine, r)
	r.store.Limiter(meter.MaxPages*wasm.PageBytes, -1, 1, 1, 1)
	r.store.SetEpochDeadline(uint64(r.machine.config.Patience/tick) + 1)
	if r.instance, err = r.machine.linker.Instantiate(r.store, module); err != nil {
		return fmt.Errorf("vm: instantiating: %w", err)
	}
	r.memory = r.instance.GetExport(r.store, "memory").Memory()
	r.points = r.instance.GetExport(r.store, meter.GlobalPoints).Global()
	r.allocate = r.instance.GetFunc(r.store, "allocate")
	stack := r.instance.GetExport(r.store, meter.GlobalStack).Global()
	err = errors.Join(r.points.Set(r.store, wasmtime.ValI64(int64(r.call.Points))), stack.Set(r.store, wasmtime.ValI32(meter.StackBytes)))
	if err != nil {
		return fmt.Errorf("vm: setting limits: %w", err)
	}
	return nil
}

// errStopped says that an import, or the machine, has stopped the contract.
var errStopped = errors.New("vm: stopped")

// enter gives the contract its arguments, calls it and takes its answer.
func (r *run) enter() ([]byte, error) {
	entry := r.instance.GetFunc(r.store, string(r.call.Entry))
	if entry == nil {
		return nil, r.stop(Misused, "the contract has no "+string(r.call.Entry))
	}
	params := len(entry.Type(r.store).Params())
	if params > len(r.call.Args) || r.call.Entry != meter.Migrate && params < len(r.call.Args) {
		return nil, r.failed(fmt.Errorf("vm: %d arguments for %s", len(r.call.Args), r.call.Entry))
	}
	var args []any
	for _, arg := range r.call.Args[:params] {
		at, err := r.give(arg)
		if err != nil {
			return nil, err
		}
		args = append(args, at)
	}
	answer, err := entry.Call(r.store, args...)
	if err != nil {
		return nil, err
	}
	data, err := r.take(answer.(int32), maxResult, "the answer")
	if err != nil {
		return nil, err
	}
	if _, err := r.instance.GetFunc(r.store, "deallocate").Call(r.store, answer); err != nil {
		return nil, err
	}
	return data, nil
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
	left := r.points.Get(r.store).I64()
	if left < 0 || uint64(left) < points {
		left = -1
		_ = r.stop(Spent, "")
	} else {
		left -= int64(points)
	}
	if err := r.points.Set(r.store, wasmtime.ValI64(left)); err != nil {
		_ = r.failed(fmt.Errorf("vm: charging points: %w", err))
	}
	return left >= 0
}

// classify notes how a call ended that did not return. The error is a fault.
func (r *run) classify(err error) error {
	if r.fault != nil || r.end != 0 {
		return r.fault
	}
	trap, ok := errors.AsType[*wasmtime.Trap](err)
	if !ok {
		return fmt.Errorf("vm: running: %w", err)
	}
	code := trap.Code()
	if code == nil {
		return fmt.Errorf("vm: a trap of nobody: %w", err)
	}
	switch reason := meter.Reason(r.instance.GetExport(r.store, meter.GlobalReason).Global().Get(r.store).I32()); {
	case reason == meter.ReasonSpent:
		_ = r.stop(Spent, "")
	case reason == meter.ReasonOverflow:
		_ = r.stop(Overflowed, "")
	case reason != meter.ReasonNone:
		return errors.New("vm: the host has no memory for a contract")
	case *code == wasmtime.StackOverflow || *code == wasmtime.Interrupt || *code == wasmtime.OutOfFuel:
		return fmt.Errorf("vm: a contract went beyond what its own count allows: %w", err)
	case *code == wasmtime.UnreachableCodeReached:
		_ = r.stop(Aborted, "unreachable")
	default:
		_ = r.stop(Trapped, fmt.Sprintf("trap %d", *code))
	}
	return nil
}
