package zk

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Bounds of a usage record, in bits. Packed into one element it is, from the
// lowest bit: sequence, amount, duration, ended, resource.
const (
	UsageSequenceBits = 64
	UsageAmountBits   = 48
	UsageDurationBits = 40 // ms
	UsageEndedBits    = 48 // ms since 1970
	UsageResources    = 5  // CPU, Memory, Storage, Network, GPU
	usageResourceBits = 8
	// UsageTotalBits is what a total fits in: 112 products of 48 and 40 bits.
	UsageTotalBits = 96
	// UsageNetwork is the resource, from 0, whose duration does not count.
	UsageNetwork = 3
)

// UsageRecord is one usage of one resource under an order.
type UsageRecord struct {
	_          struct{} `cbor:",toarray"`
	Sequence   uint64   // strictly increasing under one order and key
	Resource   uint8    // 0 CPU, 1 Memory, 2 Storage, 3 Network, 4 GPU
	Amount     uint64   // units of the resource, below 2⁴⁸
	DurationMs uint64   // below 2⁴⁰
	EndedMs    uint64   // milliseconds since 1970, below 2⁴⁸
}

// Check returns an error that names the first field out of bounds.
func (r UsageRecord) Check() error {
	switch {
	case r.Resource >= UsageResources:
		return fmt.Errorf("zk: usage record of resource %d, want 0 to %d", r.Resource, UsageResources-1)
	case r.Amount >= 1<<UsageAmountBits:
		return fmt.Errorf("zk: usage record of amount %d, limit 2^%d", r.Amount, UsageAmountBits)
	case r.DurationMs >= 1<<UsageDurationBits:
		return fmt.Errorf("zk: usage record of %d ms, limit 2^%d", r.DurationMs, UsageDurationBits)
	case r.EndedMs >= 1<<UsageEndedBits:
		return fmt.Errorf("zk: usage record ended at %d ms, limit 2^%d", r.EndedMs, UsageEndedBits)
	}
	return nil
}

// packed returns the record's one element, big-endian.
func (r UsageRecord) packed() []byte {
	out := make([]byte, 0, FieldSize)
	out = append(out, 0, 0, 0, 0, 0, 0, r.Resource)
	wide := func(v uint64, size int) {
		var buf [8]byte
		binary.BigEndian.PutUint64(buf[:], v)
		out = append(out, buf[8-size:]...)
	}
	wide(r.EndedMs, UsageEndedBits/8)
	wide(r.DurationMs, UsageDurationBits/8)
	wide(r.Amount, UsageAmountBits/8)
	wide(r.Sequence, UsageSequenceBits/8)
	return out
}

// UsageContext returns the digest of an order and a metering key, input 0 of a
// usage-batch. The key is one that Check accepts.
func UsageContext(order crypto.Digest, key MeterKey) (Field, error) {
	p, err := key.point()
	if err != nil {
		return Field{}, err
	}
	return usageContext(order, p.X, p.Y), nil
}

// UsageContextAt is UsageContext for a key whose point is known: x and y are what Point
// returned of it.
func UsageContextAt(order crypto.Digest, x, y Field) Field {
	return usageContext(order, element(x), element(y))
}

func usageContext(order crypto.Digest, x, y fr.Element) Field {
	var high, low fr.Element
	high.SetBytes(order[:16])
	low.SetBytes(order[16:])
	return Sponge(SpongeUsageContext, []fr.Element{high, low, x, y})
}

// usageLeaf is what a signature's challenge comes from, and the leaf that
// stands for the record in a batch: nobody finds the record from it, since R is
// random.
func usageLeaf(context Field, record UsageRecord, sig *MeterSignature) Field {
	var packed fr.Element
	packed.SetBytes(record.packed())
	return Sponge(SpongeUsageRecord, []fr.Element{element(context), element(sig.X), element(sig.Y), packed})
}

// EmptyUsageLeaf is the leaf that a circuit computes for a slot without a record:
// all zero, with the neutral element for R. It counts as zero in the tree.
func EmptyUsageLeaf(context Field) Field {
	return usageLeaf(context, UsageRecord{}, &MeterSignature{Y: Field{FieldSize - 1: 1}})
}

// UsageTotal is a number of unit·ms, or of units for Network, below 2⁹⁶.
type UsageTotal struct {
	_         struct{} `cbor:",toarray"`
	High, Low uint64   // High · 2⁶⁴ + Low
}

// UsageTotals is what a batch claims.
type UsageTotals struct {
	_      struct{} `cbor:",toarray"`
	After  uint64   // every sequence of the batch is above it
	Last   uint64   // the highest sequence of the batch
	Count  uint16   // records
	Totals [UsageResources]UsageTotal
	Root   Field // of the tree over the records' leaves
}

// Check returns an error that names the first field out of bounds.
func (t *UsageTotals) Check() error {
	switch {
	case t.Last <= t.After:
		return fmt.Errorf("zk: usage batch after %d ends at %d", t.After, t.Last)
	case t.Count == 0:
		return fmt.Errorf("zk: usage batch of no records")
	}
	for i, total := range t.Totals {
		if total.High >= 1<<(UsageTotalBits-64) {
			return fmt.Errorf("zk: usage total %d is %d · 2^64 and more, limit 2^%d", i, total.High, UsageTotalBits)
		}
	}
	if err := t.Root.Check(); err != nil {
		return fmt.Errorf("zk: usage root: %w", err)
	}
	return nil
}

// Digest returns output 0 of a usage-batch, for totals that Check accepts. The
// elements are (count, last, after), two totals, two totals, one total, root.
func (t *UsageTotals) Digest() Field {
	var message [5]fr.Element
	var head [FieldSize]byte
	binary.BigEndian.PutUint64(head[24:], t.After)
	binary.BigEndian.PutUint64(head[16:], t.Last)
	binary.BigEndian.PutUint16(head[14:], t.Count)
	message[0].SetBytes(head[:])
	for i := range 3 {
		var pair [FieldSize]byte
		putTotal(pair[20:], t.Totals[2*i])
		if 2*i+1 < UsageResources {
			putTotal(pair[8:], t.Totals[2*i+1])
		}
		message[1+i].SetBytes(pair[:])
	}
	message[4] = element(t.Root)
	return Sponge(SpongeUsageTotals, message[:])
}

func putTotal(out []byte, t UsageTotal) {
	binary.BigEndian.PutUint32(out, uint32(t.High)) // below 2³²
	binary.BigEndian.PutUint64(out[4:], t.Low)
}

// SignedUsage is a usage record with the signature of its metering key.
type SignedUsage struct {
	_         struct{} `cbor:",toarray"`
	Record    UsageRecord
	Signature MeterSignature
}

// UsageFile is the input file of a usage-batch.
type UsageFile struct {
	_       struct{}      `cbor:",toarray"`
	Order   crypto.Digest // order or lease
	Key     MeterKey
	After   uint64 // the last sequence that was settled
	Records []SignedUsage
}

// Encode returns the canonical encoding.
func (f *UsageFile) Encode() []byte { return codec.Marshal(f) }

// DecodeUsageFile reads what Encode wrote. What the records say, and whether they are signed,
// NewUsageWork checks.
func DecodeUsageFile(data []byte) (UsageFile, error) {
	var f UsageFile
	if err := codec.Unmarshal(data, &f, MaxInputSize); err != nil {
		return UsageFile{}, fmt.Errorf("zk: usage records: %w", err)
	}
	return f, nil
}

// SignUsage signs records of an order, none of which was settled before.
func (s *MeterSecret) SignUsage(order crypto.Digest, records []UsageRecord) (UsageFile, error) {
	file := UsageFile{Order: order, Key: s.Public()}
	context, err := UsageContext(file.Order, file.Key)
	if err != nil {
		return file, err
	}
	for _, r := range records {
		if err := r.Check(); err != nil {
			return file, err
		}
		file.Records = append(file.Records, SignedUsage{Record: r, Signature: s.Sign(context, r)})
	}
	return file, nil
}

// UsageWork is a batch of signed records of one order and key, summed up.
type UsageWork struct {
	kernel  Kernel
	file    UsageFile
	context Field
	leaves  []Field
	totals  UsageTotals
}

// NewUsageWork sums up 1 to size records for the kernel of that size. Every
// record must be in bounds, above the sequence before it, and signed.
func NewUsageWork(size int, file UsageFile) (*UsageWork, error) {
	kernel, err := UsageBatch.of(size)
	if err != nil {
		return nil, err
	}
	if n := len(file.Records); n == 0 || n > size {
		return nil, fmt.Errorf("zk: usage batch of %d records, want 1 to %d", n, size)
	}
	file.Records = slices.Clone(file.Records)
	w := &UsageWork{kernel: kernel, file: file}
	key, err := file.Key.point()
	if err != nil {
		return nil, err
	}
	if w.context, err = UsageContext(file.Order, file.Key); err != nil {
		return nil, err
	}
	w.totals = UsageTotals{After: file.After, Last: file.After, Count: uint16(len(file.Records))} // at most 112
	for i := range file.Records {
		signed := &file.Records[i]
		if err := signed.Record.Check(); err != nil {
			return nil, fmt.Errorf("zk: record %d: %w", i, err)
		}
		if signed.Record.Sequence <= w.totals.Last {
			return nil, fmt.Errorf("zk: record %d has sequence %d after %d", i, signed.Record.Sequence, w.totals.Last)
		}
		if !signed.Signature.verifies(&key, w.context, signed.Record) {
			return nil, fmt.Errorf("zk: record %d is not signed by key %s", i, file.Key)
		}
		w.totals.Last = signed.Record.Sequence
		w.totals.Totals[signed.Record.Resource].add(signed.Record)
		w.leaves = append(w.leaves, usageLeaf(w.context, signed.Record, &signed.Signature))
	}
	w.totals.Root = usageRoot(size, w.leaves)
	return w, nil
}

// add adds a record's use: amount × duration, or the amount for Network.
func (t *UsageTotal) add(r UsageRecord) {
	duration := r.DurationMs
	if r.Resource == UsageNetwork {
		duration = 1
	}
	high, low := bits.Mul64(r.Amount, duration)
	var carry uint64
	t.Low, carry = bits.Add64(t.Low, low, 0)
	t.High += high + carry // below 2³² for 112 records
}

func readUsage(size int, files [][]byte) (Work, error) {
	var file UsageFile
	if err := codec.Unmarshal(files[0], &file, MaxInputSize); err != nil {
		return nil, refused(0, err)
	}
	w, err := NewUsageWork(size, file)
	if err != nil {
		return nil, refused(0, err)
	}
	return w, nil
}

// usageRoot is the root of the tree of arity 4 over size leaves, those that
// lack being zero.
func usageRoot(size int, leaves []Field) Field {
	levels := usageLevels(size, leaves)
	return levels[len(levels)-1][0]
}

func usageLevels(size int, leaves []Field) [][]Field {
	level := make([]Field, size)
	copy(level, leaves)
	levels := [][]Field{level}
	for len(level) > 1 {
		up := make([]Field, (len(level)+TreeArity-1)/TreeArity)
		for i := range up {
			var children [TreeArity]Field
			copy(children[:], level[i*TreeArity:])
			up[i] = TreeNode(children)
		}
		levels = append(levels, up)
		level = up
	}
	return levels
}

// Kernel implements Work.
func (w *UsageWork) Kernel() Kernel { return w.kernel }

// File returns the batch: order, key and records.
func (w *UsageWork) File() UsageFile {
	file := w.file
	file.Records = slices.Clone(file.Records)
	return file
}

// Leaves returns the records' leaves.
func (w *UsageWork) Leaves() []Field { return slices.Clone(w.leaves) }

// Totals returns what the batch claims.
func (w *UsageWork) Totals() UsageTotals { return w.totals }

// Inputs implements Work: the digest of order and key.
func (w *UsageWork) Inputs() []Field { return []Field{w.context} }

// Outputs implements Work: the digest of the totals.
func (w *UsageWork) Outputs() []Field { return []Field{w.totals.Digest()} }

// Output implements Work: the canonical encoding of UsageTotals.
func (w *UsageWork) Output() []byte { return codec.Marshal(w.totals) }

// OutputName implements Work.
func (*UsageWork) OutputName() string { return "totals.cbor" }

func (*UsageWork) sealedWork() {}

// UsageOpening shows one record of a batch to an auditor.
type UsageOpening struct {
	_      struct{} `cbor:",toarray"`
	Size   uint16   // of the kernel
	Index  uint16   // of the record in the batch
	Signed SignedUsage
	Path   [][TreeArity]Field // children of each node from the leaf's parent to the root
}

// Open returns the opening of record index, from 0.
func (w *UsageWork) Open(index int) (UsageOpening, error) {
	if index < 0 || index >= len(w.leaves) {
		return UsageOpening{}, fmt.Errorf("zk: no record %d in a batch of %d", index, len(w.leaves))
	}
	_, size, _ := w.kernel.Of()
	levels := usageLevels(size, w.leaves)
	o := UsageOpening{Size: uint16(size), Index: uint16(index), Signed: w.file.Records[index]} // at most 112
	for l := range len(levels) - 1 {
		index /= TreeArity
		var children [TreeArity]Field
		copy(children[:], levels[l][index*TreeArity:])
		o.Path = append(o.Path, children)
	}
	return o, nil
}

// Check returns nil if the record is signed by the key for the order and is one
// of those under the root.
func (o *UsageOpening) Check(order crypto.Digest, key MeterKey, root Field) error {
	size := int(o.Size)
	if _, err := UsageBatch.of(size); err != nil {
		return err
	}
	if int(o.Index) >= size || len(o.Path) != usageDepth(size) {
		return fmt.Errorf("zk: opening of record %d with a path of %d, kernel size %d", o.Index, len(o.Path), size)
	}
	if err := o.Signed.Record.Check(); err != nil {
		return err
	}
	context, err := UsageContext(order, key)
	if err != nil {
		return err
	}
	point, err := key.point()
	if err != nil {
		return err
	}
	if !o.Signed.Signature.verifies(&point, context, o.Signed.Record) {
		return fmt.Errorf("zk: the opened record is not signed by key %s", key)
	}
	node, index := usageLeaf(context, o.Signed.Record, &o.Signed.Signature), int(o.Index)
	for l, children := range o.Path {
		for _, child := range children {
			if err := child.Check(); err != nil {
				return fmt.Errorf("zk: path of the opened record: %w", err)
			}
		}
		if children[index%TreeArity] != node {
			return fmt.Errorf("zk: the opened record is not on its path at level %d", l)
		}
		node, index = TreeNode(children), index/TreeArity
	}
	if node != root {
		return fmt.Errorf("zk: the opened record is not under root %s", root)
	}
	return nil
}

func usageDepth(size int) int {
	depth := 0
	for ; size > 1; size = (size + TreeArity - 1) / TreeArity {
		depth++
	}
	return depth
}
