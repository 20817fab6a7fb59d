package job

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
)

// Bounds of a specification.
const (
	MaxSpecBytes    = 64 << 10
	MaxArgs         = 256
	MaxArgBytes     = 16 << 10 // of all arguments and of all environment entries
	MaxLabel        = 64
	MaxFuel         = 1 << 50
	MaxMemoryBytes  = 4 << 30
	MaxWallMs       = 24 * 3600 * 1000
	MaxInputBytes   = 4 << 30
	MaxOutputBytes  = 1 << 30
	MaxOutputFiles  = 100_000
	MaxLogBytes     = 16 << 20
	MaxMillicores   = 1 << 20
	MaxMemoryMiB    = 1 << 24
	MaxKernelInputs = 8
	MaxGPUs         = 16
	MaxGPUKind      = 32
	MaxGang         = 64
	MaxAfter        = 16
	MaxOutputTo     = 8
	MaxRecipient    = 2_048
)

// GPUWhole is the share of a GPU that is all of it.
const GPUWhole = 1_000

// ErrSpec is matched by every refusal of a specification.
var ErrSpec = errors.New("job: specification refused")

// Work is what a job runs. The sum is sealed: switch over it exhaustively,
// without default.
type Work interface{ sealedWork() }

// Wasm is a WASI preview 1 program.
type Wasm struct {
	_             struct{}      `cbor:",toarray"`
	Module        crypto.Digest `json:"module"`         // blob
	Input         crypto.Digest `json:"input"`          // blob: a packed directory, seen at /in; zero: none
	Args          []string      `json:"args,omitempty"` // after the program's name
	Env           []string      `json:"env,omitempty"`  // KEY=value
	Deterministic bool          `json:"deterministic"`  // fixed clock and randomness
}

// Kernel is one statement of a zk kernel, computed and proven.
type Kernel struct {
	_      struct{}        `cbor:",toarray"`
	Name   zk.Kernel       `json:"name"`
	Inputs []crypto.Digest `json:"inputs"` // blobs, in the kernel's order
}

func (Wasm) sealedWork()   {}
func (Kernel) sealedWork() {}

const (
	kindWasm uint8 = iota + 1
	kindKernel
	kindContainer
)

// WorkField holds a Work in an encoded struct.
type WorkField struct{ Work }

type workHead struct {
	_    struct{} `cbor:",toarray"`
	Kind uint8
	Body codec.Raw
}

// MarshalCBOR encodes the work as [kind, body].
func (f WorkField) MarshalCBOR() ([]byte, error) {
	switch w := f.Work.(type) {
	case Wasm:
		return codec.Marshal(workHead{Kind: kindWasm, Body: codec.Marshal(w)}), nil
	case Kernel:
		return codec.Marshal(workHead{Kind: kindKernel, Body: codec.Marshal(w)}), nil
	case Container:
		return codec.Marshal(workHead{Kind: kindContainer, Body: codec.Marshal(w)}), nil
	}
	return nil, fmt.Errorf("job: work of type %T", f.Work)
}

// UnmarshalCBOR decodes what MarshalCBOR wrote.
func (f *WorkField) UnmarshalCBOR(data []byte) error {
	var head workHead
	if err := codec.UnmarshalPart(data, &head); err != nil {
		return err
	}
	switch head.Kind {
	case kindWasm:
		var w Wasm
		err := codec.UnmarshalPart(head.Body, &w)
		f.Work = w
		return err
	case kindKernel:
		var k Kernel
		err := codec.UnmarshalPart(head.Body, &k)
		f.Work = k
		return err
	case kindContainer:
		var c Container
		err := codec.UnmarshalPart(head.Body, &c)
		f.Work = c
		return err
	}
	return fmt.Errorf("job: work kind %d is unknown", head.Kind)
}

// Limits end a program that goes beyond them; what it used until then is
// billed.
type Limits struct {
	_           struct{} `cbor:",toarray"`
	Fuel        uint64   `json:"fuel"`         // instructions; a container has none
	MemoryBytes uint64   `json:"memory_bytes"` // linear memory; of a container all that it uses, /out and /tmp included
	WallMs      uint64   `json:"wall_ms"`
	OutputBytes uint64   `json:"output_bytes"`
	OutputFiles uint64   `json:"output_files"`
	LogBytes    uint64   `json:"log_bytes"` // stdout and stderr together
}

// DefaultLimits suit a small batch job.
func DefaultLimits() Limits {
	return Limits{Fuel: 200_000_000_000, MemoryBytes: 512 << 20, WallMs: 120_000, OutputBytes: 64 << 20, OutputFiles: 1_000, LogBytes: 1 << 20}
}

// Resources is what a node must have free to take a job, what a node has in all,
// or what is in use of it.
type Resources struct {
	_          struct{} `cbor:",toarray"`
	Millicores uint64   `json:"millicores"`
	MemoryMiB  uint64   `json:"memory_mib"`
	GPUs       uint64   `json:"gpus,omitempty"`      // devices
	GPUMilli   uint64   `json:"gpu_milli,omitempty"` // of a job: thousandths of each device, all of it if there are several; of what is in use: of all together
}

// Class is a job's place in the queues. A job of a lower class that has waited
// long enough comes before a later one of a higher class.
type Class uint8

// The classes.
const (
	Standard   Class = iota
	Urgent           // before the others
	Spare            // after the others
	classCount = iota
)

// String names the class in lower case.
func (c Class) String() string {
	if int(c) >= classCount {
		return fmt.Sprintf("Class(%d)", uint8(c))
	}
	return [classCount]string{"standard", "urgent", "spare"}[c]
}

// MarshalText is String.
func (c Class) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads a class by its name.
func (c *Class) UnmarshalText(text []byte) error {
	for known := range Class(classCount) {
		if known.String() == string(text) {
			*c = known
			return nil
		}
	}
	return fmt.Errorf("job: class %.20q is unknown", text)
}

// Gang names orders of one consumer that begin together or not at all. Once they
// have begun each is on its own.
type Gang struct {
	_    struct{}      `cbor:",toarray"`
	ID   crypto.Digest `json:"id"`   // the consumer's choice
	Size uint64        `json:"size"` // orders; 0: no gang
}

// Scheduling is what a job asks of the cluster's queues. Its zero value asks for
// nothing.
type Scheduling struct {
	_           struct{}        `cbor:",toarray"`
	Class       Class           `json:"class,omitempty"`
	Preemptible bool            `json:"preemptible,omitempty"` // others may end its runs, and it waits again
	GPUKind     string          `json:"gpu_kind,omitempty"`    // required of the node; empty: any
	Gang        Gang            `json:"gang,omitzero"`
	After       []crypto.Digest `json:"after,omitempty"`   // orders of the same consumer that must have ended well
	InputOf     crypto.Digest   `json:"input_of,omitzero"` // one of After, whose output is the program's input
}

// Spec says what a job is.
type Spec struct {
	_          struct{}   `cbor:",toarray"`
	Label      string     `json:"label"` // for people
	Work       WorkField  `json:"work"`
	InputBytes uint64     `json:"input_bytes"` // size of all of Blobs together
	Resources  Resources  `json:"resources"`
	Limits     Limits     `json:"limits"`
	Region     string     `json:"region"` // required of the node; empty: any
	Scheduling Scheduling `json:"scheduling,omitzero"`
	OutputTo   []string   `json:"output_to,omitempty"` // age recipients to whom the provider encrypts the output; none: it is not encrypted
}

// Digest is what an order names.
func (s *Spec) Digest() crypto.Digest { return crypto.DomainJobSpec.Hash(codec.Marshal(*s)) }

// Encode returns the canonical bytes.
func (s *Spec) Encode() []byte { return codec.Marshal(*s) }

// DecodeSpec decodes canonical bytes and checks them.
func DecodeSpec(raw []byte) (Spec, error) {
	var s Spec
	if err := codec.Unmarshal(raw, &s, MaxSpecBytes); err != nil {
		return Spec{}, fmt.Errorf("%w: %w", ErrSpec, err)
	}
	if err := s.Check(); err != nil {
		return Spec{}, err
	}
	return s, nil
}

// Check returns an error that names the first field outside its bound.
func (s *Spec) Check() error {
	for _, text := range []struct {
		field, value string
		limit        int
	}{{"label", s.Label, MaxLabel}, {"region", s.Region, chain.MaxRegion}} {
		if len(text.value) > text.limit || !utf8.ValidString(text.value) {
			return fmt.Errorf("%w: %s has %d bytes, limit %d of UTF-8", ErrSpec, text.field, len(text.value), text.limit)
		}
	}
	for _, n := range []struct {
		field      string
		value, max uint64
	}{
		{"input_bytes", s.InputBytes, MaxInputBytes},
		{"limits.fuel", s.Limits.Fuel, MaxFuel},
		{"limits.memory_bytes", s.Limits.MemoryBytes, MaxMemoryBytes},
		{"limits.wall_ms", s.Limits.WallMs, MaxWallMs},
		{"limits.output_bytes", s.Limits.OutputBytes, MaxOutputBytes},
		{"limits.output_files", s.Limits.OutputFiles, MaxOutputFiles},
		{"limits.log_bytes", s.Limits.LogBytes, MaxLogBytes},
		{"resources.millicores", s.Resources.Millicores, MaxMillicores},
		{"resources.memory_mib", s.Resources.MemoryMiB, MaxMemoryMiB},
	} {
		if n.value == 0 || n.value > n.max {
			return fmt.Errorf("%w: %s is %d, want 1 to %d", ErrSpec, n.field, n.value, n.max)
		}
	}
	if s.Resources.MemoryMiB < mebibytes(s.Limits.MemoryBytes) {
		return fmt.Errorf("%w: resources.memory_mib is %d, below limits.memory_bytes", ErrSpec, s.Resources.MemoryMiB)
	}
	if err := checkGPU(&s.Resources); err != nil {
		return err
	}
	if err := checkWork(s.Work.Work); err != nil {
		return err
	}
	if err := checkOutputTo(s.OutputTo); err != nil {
		return err
	}
	return checkScheduling(&s.Scheduling, s.Work.Work)
}

// checkOutputTo holds recipients to the form that all of age's have; whether one
// is a key, who encrypts finds out.
func checkOutputTo(list []string) error {
	if len(list) > MaxOutputTo {
		return fmt.Errorf("%w: output_to has %d entries, limit %d", ErrSpec, len(list), MaxOutputTo)
	}
	for _, to := range list {
		key, ok := strings.CutPrefix(to, "age1")
		other := func(c rune) bool { return (c < '0' || c > '9') && (c < 'a' || c > 'z') }
		if !ok || key == "" || len(to) > MaxRecipient || strings.ContainsFunc(key, other) {
			return fmt.Errorf("%w: output_to has %.20q, want age recipients, age1…, of at most %d bytes", ErrSpec, to, MaxRecipient)
		}
	}
	return nil
}

func checkGPU(r *Resources) error {
	switch {
	case r.GPUs > MaxGPUs:
		return fmt.Errorf("%w: resources.gpus is %d, limit %d", ErrSpec, r.GPUs, MaxGPUs)
	case r.GPUs == 0 && r.GPUMilli != 0:
		return fmt.Errorf("%w: resources.gpu_milli is %d without a gpu", ErrSpec, r.GPUMilli)
	case r.GPUs == 1 && (r.GPUMilli == 0 || r.GPUMilli > GPUWhole):
		return fmt.Errorf("%w: resources.gpu_milli is %d, want 1 to %d", ErrSpec, r.GPUMilli, GPUWhole)
	case r.GPUs > 1 && r.GPUMilli != GPUWhole:
		return fmt.Errorf("%w: resources.gpu_milli is %d, of several gpus all is taken: %d", ErrSpec, r.GPUMilli, GPUWhole)
	}
	return nil
}

func checkScheduling(s *Scheduling, w Work) error {
	switch {
	case s.Class >= classCount:
		return fmt.Errorf("%w: scheduling.class %d is unknown", ErrSpec, s.Class)
	case len(s.GPUKind) > MaxGPUKind || !utf8.ValidString(s.GPUKind):
		return fmt.Errorf("%w: scheduling.gpu_kind has %d bytes, limit %d of UTF-8", ErrSpec, len(s.GPUKind), MaxGPUKind)
	case s.Gang.Size == 1 || s.Gang.Size > MaxGang:
		return fmt.Errorf("%w: scheduling.gang.size is %d, want 2 to %d, or 0 for none", ErrSpec, s.Gang.Size, MaxGang)
	case (s.Gang.Size == 0) != s.Gang.ID.IsZero():
		return fmt.Errorf("%w: scheduling.gang wants an id and a size, or neither", ErrSpec)
	case len(s.After) > MaxAfter:
		return fmt.Errorf("%w: scheduling.after has %d orders, limit %d", ErrSpec, len(s.After), MaxAfter)
	}
	for i, id := range s.After {
		if id.IsZero() || i > 0 && s.After[i-1].Compare(id) >= 0 {
			return fmt.Errorf("%w: scheduling.after is not in ascending order, each order once", ErrSpec)
		}
	}
	if s.InputOf.IsZero() {
		return nil
	}
	if !takesInput(w) {
		return fmt.Errorf("%w: scheduling.input_of is for programs without an input of their own", ErrSpec)
	}
	if !slices.Contains(s.After, s.InputOf) {
		return fmt.Errorf("%w: scheduling.input_of is not one of scheduling.after", ErrSpec)
	}
	return nil
}

// takesInput reports whether the work is a program whose input is left open.
func takesInput(w Work) bool {
	switch w := w.(type) {
	case Wasm:
		return w.Input.IsZero()
	case Container:
		return w.Input.IsZero()
	case Kernel:
		return false
	}
	return false
}

func checkWork(w Work) error {
	switch w := w.(type) {
	case Wasm:
		if w.Module.IsZero() {
			return fmt.Errorf("%w: work.module is zero", ErrSpec)
		}
		if err := checkStrings("work.args", w.Args); err != nil {
			return err
		}
		return checkStrings("work.env", w.Env)
	case Kernel:
		if err := w.Name.Check(); err != nil {
			return fmt.Errorf("%w: work.name: %w", ErrSpec, err)
		}
		if len(w.Inputs) == 0 || len(w.Inputs) > MaxKernelInputs {
			return fmt.Errorf("%w: work.inputs has %d, want 1 to %d", ErrSpec, len(w.Inputs), MaxKernelInputs)
		}
		return nil
	case Container:
		return checkContainer(&w)
	}
	return fmt.Errorf("%w: no work", ErrSpec)
}

func checkStrings(field string, list []string) error {
	if len(list) > MaxArgs {
		return fmt.Errorf("%w: %s has %d entries, limit %d", ErrSpec, field, len(list), MaxArgs)
	}
	total := 0
	for _, s := range list {
		total += len(s)
		for i := range len(s) {
			if s[i] == 0 {
				return fmt.Errorf("%w: %s has a zero byte", ErrSpec, field)
			}
		}
	}
	if total > MaxArgBytes {
		return fmt.Errorf("%w: %s has %d bytes, limit %d", ErrSpec, field, total, MaxArgBytes)
	}
	return nil
}

// Blobs lists the blobs that the work needs, zero digests left out.
func (s *Spec) Blobs() []crypto.Digest {
	var out []crypto.Digest
	switch w := s.Work.Work.(type) {
	case Wasm:
		out = append(out, w.Module)
		if !w.Input.IsZero() {
			out = append(out, w.Input)
		}
	case Kernel:
		out = append(out, w.Inputs...)
	case Container:
		out = append(out, w.Image)
		if !w.Input.IsZero() {
			out = append(out, w.Input)
		}
	}
	return out
}

// CheckOrder returns an error that says why the order and the specification do
// not belong together.
func CheckOrder(order *chain.Order, spec *Spec) error {
	if err := order.Check(); err != nil {
		return err
	}
	if err := spec.Check(); err != nil {
		return err
	}
	return CheckTogether(order, spec, spec.Digest())
}

// CheckTogether is CheckOrder for an order and a specification that are within
// their own limits, and whose digest is known: of many orders with one
// specification each is held against it.
func CheckTogether(order *chain.Order, spec *Spec, digest crypto.Digest) error {
	if order.Term != nil {
		if err := checkLease(order, spec); err != nil {
			return err
		}
	}
	if digest != order.Spec {
		return fmt.Errorf("%w: its digest is %s, the order names %s", ErrSpec, digest.Short(), order.Spec.Short())
	}
	if _, alone := order.Policy.Policy.(chain.PolicyNone); !alone && len(spec.OutputTo) > 0 {
		return fmt.Errorf("%w: output_to is for orders of policy none: encrypted outputs differ, and nobody can compare them", ErrSpec)
	}
	wasm, isWasm := spec.Work.Work.(Wasm)
	kernel, isKernel := spec.Work.Work.(Kernel)
	switch p := order.Policy.Policy.(type) {
	case chain.PolicyNone:
		if isKernel {
			return fmt.Errorf("%w: policy none is for programs; a kernel's is zk", ErrSpec)
		}
		return nil
	case chain.PolicyReplicate, chain.PolicyOptimistic:
		if !isWasm || !wasm.Deterministic {
			return fmt.Errorf("%w: policy %s needs a deterministic program", ErrSpec, p)
		}
		if spec.Resources.GPUs > 0 {
			return fmt.Errorf("%w: resources.gpus under policy %s: a deterministic program uses none, and who judges it may have none", ErrSpec, p)
		}
		if !spec.Scheduling.InputOf.IsZero() {
			return fmt.Errorf("%w: scheduling.input_of under policy %s: whoever judges the job has the specification alone, which names no input", ErrSpec, p)
		}
	case chain.PolicyZK:
		if !isKernel || string(kernel.Name) != p.Kernel {
			return fmt.Errorf("%w: policy %s needs work of that kernel", ErrSpec, p)
		}
	}
	if spec.Scheduling.Gang.Size > 0 {
		return fmt.Errorf("%w: scheduling.gang is for orders of policy none", ErrSpec)
	}
	return nil
}

// judgeRuns is how often a job must fit into the time that jurors have to commit: they are to be
// told, to fetch what it needs, and may be slower than who ran it.
const judgeRuns = 4

// Judged reports whether work under a policy may be run again by a panel.
func Judged(policy chain.Policy) bool {
	switch policy.(type) {
	case chain.PolicyReplicate, chain.PolicyOptimistic:
		return true
	case chain.PolicyNone, chain.PolicyZK:
		return false
	}
	panic("job: a policy of no kind")
}

// MaxJudgedMs is the longest wall_ms of work that a panel of the chain may have to judge.
func MaxJudgedMs(p *chain.Params) uint64 { return p.CommitMs / judgeRuns }

// LimitsUnder are the DefaultLimits of work under a policy: they take no longer than jurors of the
// chain can judge.
func LimitsUnder(policy chain.Policy, p *chain.Params) Limits {
	limits := DefaultLimits()
	if Judged(policy) {
		limits.WallMs = min(limits.WallMs, MaxJudgedMs(p))
	}
	return limits
}

// CheckJudged returns an error if a panel of the chain could not run the work in the time that
// it has: nobody could be shown that it was done wrong.
func CheckJudged(order *chain.Order, spec *Spec, p *chain.Params) error {
	if most := MaxJudgedMs(p); Judged(order.Policy.Policy) && spec.Limits.WallMs > most {
		return fmt.Errorf("%w: limits.wall_ms is %d under policy %s: jurors of this chain have commit_ms = %d, and judge work of %d ms at most",
			ErrSpec, spec.Limits.WallMs, order.Policy.Policy, p.CommitMs, most)
	}
	return nil
}

func mebibytes(bytes uint64) uint64 { return (bytes + 1<<20 - 1) >> 20 }
