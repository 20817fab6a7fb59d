package job

import (
	"fmt"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// MinLeaseMs is the least that a lease lasts: what ends sooner is a job
// (settlement.MinLeaseMs).
const MinLeaseMs = 60_000

// Kept returns what a node keeps for work that is leased, by ascending resource: what the
// specification asks for.
func Kept(spec *Spec) []chain.Quantity {
	r := &spec.Resources
	list := []chain.Quantity{{Resource: chain.CPU, Amount: r.Millicores}, {Resource: chain.Memory, Amount: r.MemoryMiB}}
	if r.GPUs > 0 {
		list = append(list, chain.Quantity{Resource: chain.GPU, Amount: r.GPUs})
	}
	return slices.DeleteFunc(list, func(q chain.Quantity) bool { return q.Amount == 0 })
}

// SameWork reports whether a specification asks for other cores and other memory than one
// before, and for nothing else: a lease may be resized from that to this.
func SameWork(was, wants *Spec) bool {
	same := *wants
	same.Resources.Millicores, same.Resources.MemoryMiB = was.Resources.Millicores, was.Resources.MemoryMiB
	same.Limits.MemoryBytes = was.Limits.MemoryBytes
	return same.Digest() == was.Digest()
}

// checkLease says why a specification is not what an order leases.
func checkLease(order *chain.Order, spec *Spec) error {
	_, alone := order.Policy.Policy.(chain.PolicyNone)
	s := &spec.Scheduling
	switch wasm, isWasm := spec.Work.Work.(Wasm); {
	case !alone:
		return fmt.Errorf("%w: a lease is for orders of policy none", ErrSpec)
	case isWasm && wasm.Deterministic:
		return fmt.Errorf("%w: a lease has no result: its program is not deterministic", ErrSpec)
	case s.Gang.Size > 0 || s.Preemptible || len(s.After) > 0 || !s.InputOf.IsZero():
		return fmt.Errorf("%w: what is leased is neither of a gang, nor preemptible, nor comes after others", ErrSpec)
	case spec.Resources.GPUs > 0 && spec.Resources.GPUMilli != GPUWhole:
		return fmt.Errorf("%w: whole gpus are leased, not %d thousandths", ErrSpec, spec.Resources.GPUMilli)
	case !slices.Equal(order.Term.Resources, Kept(spec)):
		return fmt.Errorf("%w: the term keeps %v, the specification asks for %v", ErrSpec, order.Term.Resources, Kept(spec))
	}
	return nil
}
