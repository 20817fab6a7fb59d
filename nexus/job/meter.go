package job

import (
	"math"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// FuelPerMs is the rate at which deterministic work is billed: five million
// units of fuel count as one millisecond of one core, whatever the machine. It
// is also the rate of the executor's virtual clock, so what a program reads off
// its clock is what its consumer pays for.
const FuelPerMs = 5_000_000

// Outcome is what an executor measured of one run.
type Outcome struct {
	Exit            chain.ExitStatus
	ExitCode        uint32
	Fuel            uint64
	PeakMemoryBytes uint64
	WallMs          uint64
	CPUMs           uint64        // processor time of a container, over all cores
	OutputBytes     uint64        // the packed output, moved from the node
	Output          crypto.Digest // blob of the packed output directory; zero: none
	Outputs         []chain.FieldBytes
	Memory          crypto.Digest // that deterministic work ended with; nobody is told
}

// Meter returns the usage records of a run: one core and the peak of memory for
// the time it took, and what was moved. The time of deterministic work is its
// fuel (FuelPerMs), of other work the wall clock; a container's core is paid for
// the processor time that it took, on as many cores as it has. What is beyond the
// specification's limits (the packing of the output, the time that an
// interruption took) is not billed, and amounts beyond the chain's bounds are
// cut to them: so WorstCost is never exceeded.
func Meter(spec *Spec, o *Outcome) []chain.Usage {
	durationMs := min(o.WallMs, spec.Limits.WallMs)
	if w, ok := spec.Work.Work.(Wasm); ok && w.Deterministic {
		durationMs = (min(o.Fuel, spec.Limits.Fuel) + FuelPerMs - 1) / FuelPerMs
	}
	durationMs = min(durationMs, chain.MaxUsageMs)
	memory := mebibytes(min(o.PeakMemoryBytes, spec.Limits.MemoryBytes))
	moved := mebibytes(spec.InputBytes + min(o.OutputBytes, spec.Limits.OutputBytes))
	cpuMs := durationMs
	if _, ok := spec.Work.Work.(Container); ok {
		cpuMs = min(o.CPUMs, durationMs*spec.Resources.Millicores/1_000, chain.MaxUsageMs)
	}
	usage := []chain.Usage{
		{Resource: chain.CPU, Amount: 1_000, DurationMs: cpuMs},
		{Resource: chain.Memory, Amount: min(memory, chain.MaxUsageAmount), DurationMs: durationMs},
		{Resource: chain.Network, Amount: min(moved, chain.MaxUsageAmount), DurationMs: durationMs},
	}
	if r := &spec.Resources; r.GPUs > 0 { // a share of a slot counts as that share of its time
		usage = append(usage, chain.Usage{Resource: chain.GPU, Amount: r.GPUs, DurationMs: durationMs * r.GPUMilli / GPUWhole})
	}
	return usage
}

// WorstCost bounds what a run of spec at the given prices can cost, for quotes
// and default caps: every limit used up.
func WorstCost(spec *Spec, prices []chain.UnitPrice) (chain.Amount, error) {
	worst := Outcome{
		Fuel: spec.Limits.Fuel, PeakMemoryBytes: spec.Limits.MemoryBytes, WallMs: spec.Limits.WallMs,
		OutputBytes: spec.Limits.OutputBytes, CPUMs: math.MaxUint64,
	}
	return chain.Cost(Meter(spec, &worst), prices)
}

// ResultDigest is what replicas compare and what a receipt commits to: how the
// work ended and its output.
func ResultDigest(o *Outcome) crypto.Digest {
	return crypto.DomainResult.Hash(codec.Marshal(struct {
		_        struct{} `cbor:",toarray"`
		Exit     chain.ExitStatus
		ExitCode uint32
		Output   crypto.Digest
		Outputs  []chain.FieldBytes
	}{Exit: o.Exit, ExitCode: o.ExitCode, Output: o.Output, Outputs: o.Outputs}))
}

// Yield is what replicas agree, and jurors vote, on: the result of deterministic work, what it is
// billed for, and where the strands of its run begin.
func Yield(order crypto.Digest, spec *Spec, o *Outcome) crypto.Digest {
	return chain.Yield(workOf(spec, o), chain.SecretOf(order, o.Memory).Trace(0))
}

// Testimony is what a juror shows of what a run gave, with the link that is asked for.
func Testimony(order crypto.Digest, spec *Spec, o *Outcome, at chain.Link) chain.Testimony {
	return chain.SecretOf(order, o.Memory).Testify(workOf(spec, o), at)
}

func workOf(spec *Spec, o *Outcome) crypto.Digest { return chain.Work(ResultDigest(o), Meter(spec, o)) }

// Assignment is an order given to one node.
type Assignment struct {
	_             struct{} `cbor:",toarray"`
	Order         chain.Order
	OrderSig      crypto.Signature
	Acceptance    chain.Acceptance
	AcceptanceSig crypto.Signature
	Bid           chain.Bid
	BidSig        crypto.Signature
	Spec          Spec
	Sequence      uint64        // of the receipt that it asks for, from 1
	Input         crypto.Digest // the output of the order that Spec.Scheduling.InputOf names; else zero
	Devices       []byte        // numbers of the node's GPUs that the work is given
	Place         uint8         // of a replica: how many the chain asked before it
}

// Work returns the specification with the input that the assignment resolved.
func (a *Assignment) Work() *Spec {
	if a.Input.IsZero() {
		return &a.Spec
	}
	spec := a.Spec
	switch w := spec.Work.Work.(type) { // takesInput: nothing else has InputOf
	case Wasm:
		w.Input = a.Input
		spec.Work.Work = w
	case Container:
		w.Input = a.Input
		spec.Work.Work = w
	case Kernel:
		panic("job: an assignment gives a kernel an input")
	}
	return &spec
}

// Receipt returns the usage receipt of a run, for the node to sign.
func (a *Assignment) Receipt(o *Outcome, started, ended chain.TimeMs) chain.UsageReceipt {
	order := a.Order.ID()
	receipt := chain.UsageReceipt{
		ChainID: a.Order.ChainID, Order: order, Node: a.Bid.Node, Sequence: a.Sequence,
		Usage: Meter(&a.Spec, o), Fuel: o.Fuel, Result: ResultDigest(o), Outputs: o.Outputs,
		Started: started, Ended: ended, Exit: o.Exit, ExitCode: o.ExitCode,
	}
	if Judged(a.Order.Policy.Policy) {
		trace := chain.SecretOf(order, o.Memory).Trace(a.Place)
		receipt.Trace = &trace
	}
	return receipt
}

// Claim returns the claim of a finished assignment, as far as that goes: without the word of
// the cluster or the consumer, and without the key of a sealed output.
func (a *Assignment) Claim(d *Done) chain.Claim {
	return chain.Claim{
		Order: a.Order, OrderSig: a.OrderSig, Acceptance: a.Acceptance, AcceptanceSig: a.AcceptanceSig,
		Bid: a.Bid, BidSig: a.BidSig, Receipt: d.Receipt, ReceiptSig: d.ReceiptSig, Proof: d.Proof,
	}
}
