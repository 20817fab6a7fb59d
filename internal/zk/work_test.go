package zk_test

import (
	"bytes"
	"errors"
	"math/big"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/internal/zk"
)

const model = `0000000000000000000000000000000000000000000000000000000000000007
1,2,3,4,5
-1,-2,-3,-4,-5
127,0,0,0,32767
-128,0,0,0,-32768
0,0,0,0,0
5,5,5,5,5
1,0,1,0,1
0,1,0,1,0
1,1,1,1,1,1,1,1,0
-1,-1,-1,-1,-1,-1,-1,-1,0
0,0,0,0,0,0,0,0,7
`

var meter = zk.NewMeterSecret([32]byte{1, 2, 3})

// batch returns a signed batch of n records that begin after sequence 10.
func batch(t testing.TB, n int) zk.UsageFile {
	t.Helper()
	file := zk.UsageFile{Order: crypto.Digest{9}, Key: meter.Public(), After: 10}
	context, err := zk.UsageContext(file.Order, file.Key)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		r := zk.UsageRecord{Sequence: 11 + 2*uint64(i), Resource: uint8(i % zk.UsageResources), Amount: 100 + uint64(i), DurationMs: 1000, EndedMs: 1_700_000_000_000}
		file.Records = append(file.Records, zk.SignedUsage{Record: r, Signature: meter.Sign(context, r)})
	}
	return file
}

// exampleFiles are input files of each family's smallest kernel.
func exampleFiles(t testing.TB) map[zk.Kernel][][]byte {
	t.Helper()
	tree, err := zk.NewTree([]zk.TreeLeaf{{Index: 3, Value: zk.Field{31: 1}}, {Index: 1 << 31, Value: zk.Field{31: 2}}})
	if err != nil {
		t.Fatal(err)
	}
	usage := batch(t, 3)
	m := countedMatrix(4, -5)
	return map[zk.Kernel][][]byte{
		"matmul-4":        {m.CSV(), m.CSV()},
		"mlp-8":           {[]byte(model), []byte("1,-2,3,-4\n")},
		"hashchain-1":     {[]byte(zk.Field{31: 5}.String() + "\n")},
		"merkle-update-1": {tree.Encode(), zk.EncodeTreeUpdates([]zk.TreeUpdate{{Index: 3, Value: zk.Field{31: 9}}})},
		"usage-batch-4":   {usage.Encode()},
	}
}

func TestKernelsReadTheirFiles(t *testing.T) {
	for kernel, files := range exampleFiles(t) {
		work, err := zk.Read(kernel, files)
		if err != nil {
			t.Errorf("%s: %v", kernel, err)
			continue
		}
		inputs, outputs, ok := kernel.Shape()
		if !ok || work.Kernel() != kernel || len(work.Inputs()) != inputs || len(work.Outputs()) != outputs || len(work.Output()) == 0 || work.OutputName() == "" {
			t.Errorf("%s: %s, %d inputs, %d outputs, file %q", kernel, work.Kernel(), len(work.Inputs()), len(work.Outputs()), work.OutputName())
		}
		if kernel == "mlp-8" && string(work.Output()) != "0\n32904,-32904,7\n" {
			t.Errorf("mlp-8: %q", work.Output())
		}
		var all []byte
		for _, f := range append(work.Inputs(), work.Outputs()...) {
			all = append(all, f[:]...)
		}
		golden.CheckHex(t, filepath.Join("testdata", string(kernel)+".hex"), all)
	}
}

func TestKernelsRefuseFilesByName(t *testing.T) {
	good := exampleFiles(t)
	usage := func(edit func(*zk.UsageFile)) []byte {
		file := batch(t, 3)
		edit(&file)
		return file.Encode()
	}
	line := func(n int, with string) []byte {
		lines := strings.SplitAfter(model, "\n")
		lines[n] = with + "\n"
		return []byte(strings.Join(lines, ""))
	}
	big := zk.Field(bytes.Repeat([]byte{0xff}, 32))
	for _, c := range []struct {
		kernel zk.Kernel
		file   int
		data   []byte
		want   string
	}{
		{"matmul-4", 1, []byte("1,2\n3,4\n"), "file 1: zk: matrix row 1"},
		{"mlp-8", 0, []byte("1\n"), "file 0: zk: model of 1 lines"},
		{"mlp-8", 0, line(0, "zz"), "model line 1"},
		{"mlp-8", 0, line(0, big.String()), "not below the order"},
		{"mlp-8", 0, line(2, "1,2,3,4"), "model line 3: 4 numbers, want 4 weights and a bias"},
		{"mlp-8", 0, line(3, "128,0,0,0,0"), "model line 4: weight 1"},
		{"mlp-8", 0, line(9, "0,0,0,0,0,0,0,0,40000"), "model line 10: bias"},
		{"mlp-8", 1, []byte("1,2,3\n"), "file 1: zk: sample of 3 numbers"},
		{"mlp-8", 1, []byte("1,2,3,200\n"), "sample number 4"},
		{"hashchain-1", 0, []byte("12"), "file 0: start"},
		{"hashchain-1", 0, []byte(big.String()), "not below the order"},
		{"merkle-update-1", 0, []byte{0xff}, "file 0: zk: tree"},
		{"merkle-update-1", 0, codec.Marshal([]zk.TreeLeaf{{Index: 4, Value: zk.Field{1: 1}}, {Index: 4, Value: zk.Field{1: 1}}}), "has index 4 after 4"},
		{"merkle-update-1", 0, codec.Marshal([]zk.TreeLeaf{{Index: 4}}), "is zero"},
		{"merkle-update-1", 0, codec.Marshal(make([]zk.TreeLeaf, zk.MaxTreeLeaves+1)), "limit 2048"},
		{"merkle-update-1", 1, zk.EncodeTreeUpdates(nil), "file 1: 0 updates, want 1"},
		{"merkle-update-1", 1, codec.Marshal([]zk.TreeUpdate{{Value: big}}), "not below the order"},
		{"usage-batch-4", 0, []byte("x"), "file 0"},
		{"usage-batch-4", 0, usage(func(f *zk.UsageFile) { f.Records = nil }), "0 records, want 1 to 4"},
		{"usage-batch-4", 0, usage(func(f *zk.UsageFile) { f.Records = slices.Repeat(f.Records, 2) }), "6 records, want 1 to 4"},
		{"usage-batch-4", 0, usage(func(f *zk.UsageFile) { f.After = 11 }), "record 0 has sequence 11 after 11"},
		{"usage-batch-4", 0, usage(func(f *zk.UsageFile) { f.Records[1] = f.Records[0] }), "record 1 has sequence 11 after 11"},
		{"usage-batch-4", 0, usage(func(f *zk.UsageFile) { f.Order[0]++ }), "record 0 is not signed"},
		{"usage-batch-4", 0, usage(func(f *zk.UsageFile) { f.Key = zk.NewMeterSecret([32]byte{}).Public() }), "record 0 is not signed"},
		{"usage-batch-4", 0, usage(func(f *zk.UsageFile) { f.Key = zk.MeterKey{1} }), "neutral element"},
		{"usage-batch-4", 0, usage(func(f *zk.UsageFile) { f.Records[2].Record.Amount++ }), "record 2 is not signed"},
		{"usage-batch-4", 0, usage(func(f *zk.UsageFile) { f.Records[0].Record.Amount = 1 << 48 }), "record 0: zk: usage record of amount"},
		{"usage-batch-4", 0, usage(func(f *zk.UsageFile) { f.Records[0].Record.DurationMs = 1 << 40 }), "limit 2^40"},
		{"usage-batch-4", 0, usage(func(f *zk.UsageFile) { f.Records[0].Record.EndedMs = 1 << 48 }), "ended at"},
		{"usage-batch-4", 0, usage(func(f *zk.UsageFile) { f.Records[0].Record.Resource = 5 }), "of resource 5"},
		{"usage-batch-4", 0, usage(func(f *zk.UsageFile) { f.Records[0].Signature.S[31] ^= 1 }), "record 0 is not signed"},
		{"usage-batch-4", 0, usage(func(f *zk.UsageFile) { f.Records[0].Signature.X[31] ^= 1 }), "record 0 is not signed"},
		{"usage-batch-4", 0, make([]byte, zk.MaxInputSize+1), "limit 262144"},
	} {
		files := slices.Clone(good[c.kernel])
		files[c.file] = c.data
		if _, err := zk.Read(c.kernel, files); !errors.Is(err, zk.ErrInput) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s file %d: %v, want it to name %q", c.kernel, c.file, err, c.want)
		}
	}
	for kernel, files := range good {
		if _, err := zk.Read(kernel, files[1:]); !errors.Is(err, zk.ErrInput) {
			t.Errorf("%s with a file less: %v", kernel, err)
		}
	}
	for _, kernel := range []zk.Kernel{"", "matmul", "matmul-", "matmul-5", "tee-4", "matmul-04"} {
		if _, err := zk.Read(kernel, nil); !errors.Is(err, zk.ErrUnknownKernel) {
			t.Errorf("%q: %v", kernel, err)
		}
	}
}

// TestMeterKeysOfSmallOrderAreRefused: the curve's cofactor is 8.
func TestMeterKeysAreReadStrictly(t *testing.T) {
	good := meter.Public()
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	least := func(v *big.Int) (k zk.MeterKey) { // little-endian, as RFC 8032 has it
		b := v.FillBytes(make([]byte, 32))
		slices.Reverse(b)
		return zk.MeterKey(b)
	}
	minusOne := new(big.Int).Sub(fr.Modulus(), big.NewInt(1))
	for name, k := range map[string]zk.MeterKey{
		"neutral":       least(big.NewInt(1)),
		"order 2":       least(minusOne),
		"order 4":       least(new(big.Int)),
		"not canonical": least(new(big.Int).Add(fr.Modulus(), big.NewInt(2))),
		"off the curve": offCurveKey(t),
		"mixed order":   mixedKey(t, good),
	} {
		if err := k.Check(); !errors.Is(err, zk.ErrMeterKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// offCurveKey finds a y that no point has.
func offCurveKey(t *testing.T) zk.MeterKey {
	for y := byte(2); y < 100; y++ {
		if err := (zk.MeterKey{y}).Check(); err != nil && strings.Contains(err.Error(), "off the curve") {
			return zk.MeterKey{y}
		}
	}
	t.Fatal("every y has a point")
	return zk.MeterKey{}
}

// mixedKey adds the point of order two, (0, −1), to a key: (−x, −y).
func mixedKey(t *testing.T, k zk.MeterKey) zk.MeterKey {
	slices.Reverse(k[:])
	sign := k[0] & 0x80
	k[0] &^= 0x80
	y := new(big.Int).Sub(fr.Modulus(), new(big.Int).SetBytes(k[:]))
	out := zk.MeterKey(y.FillBytes(make([]byte, 32)))
	out[0] |= sign ^ 0x80
	slices.Reverse(out[:])
	if err := out.Check(); err == nil || !strings.Contains(err.Error(), "outside the subgroup") {
		t.Errorf("a key plus a point of order two: %v", err)
	}
	return out
}

func TestUsageTotalsAreSums(t *testing.T) {
	work, err := zk.NewUsageWork(32, batch(t, 12))
	if err != nil {
		t.Fatal(err)
	}
	totals := work.Totals()
	if totals.After != 10 || totals.Last != 33 || totals.Count != 12 || totals.Check() != nil {
		t.Errorf("totals %+v", totals)
	}
	for k, want := range []uint64{(100 + 105 + 110) * 1000, (101 + 106 + 111) * 1000, (102 + 107) * 1000, 103 + 108, (104 + 109) * 1000} {
		if totals.Totals[k] != (zk.UsageTotal{Low: want}) {
			t.Errorf("resource %d: %v, want %d", k, totals.Totals[k], want)
		}
	}
	seen := map[zk.Field]bool{totals.Digest(): true}
	for name, edit := range map[string]func(*zk.UsageTotals){
		"after": func(u *zk.UsageTotals) { u.After++ }, "last": func(u *zk.UsageTotals) { u.Last++ },
		"count": func(u *zk.UsageTotals) { u.Count++ }, "root": func(u *zk.UsageTotals) { u.Root[31] ^= 1 },
		"cpu": func(u *zk.UsageTotals) { u.Totals[0].Low++ }, "gpu": func(u *zk.UsageTotals) { u.Totals[4].High++ },
		"network": func(u *zk.UsageTotals) { u.Totals[3].High++ },
	} {
		other := totals
		edit(&other)
		if seen[other.Digest()] {
			t.Errorf("another %s has the same digest", name)
		}
		seen[other.Digest()] = true
	}
	for name, edit := range map[string]func(*zk.UsageTotals){
		"ends at": func(u *zk.UsageTotals) { u.Last = u.After }, "no records": func(u *zk.UsageTotals) { u.Count = 0 },
		"limit 2^96": func(u *zk.UsageTotals) { u.Totals[2].High = 1 << 32 }, "usage root": func(u *zk.UsageTotals) { u.Root[0] = 0xff },
	} {
		other := totals
		edit(&other)
		if err := other.Check(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRecordsOpen: an auditor who knows the root sees one record, and no other
// record passes for it.
func TestRecordsOpen(t *testing.T) {
	file := batch(t, 21)
	work, err := zk.NewUsageWork(32, file)
	if err != nil {
		t.Fatal(err)
	}
	root := work.Totals().Root
	for i := range file.Records {
		o, err := work.Open(i)
		if err != nil {
			t.Fatal(err)
		}
		if err := o.Check(file.Order, file.Key, root); err != nil {
			t.Errorf("record %d: %v", i, err)
		}
	}
	if _, err := work.Open(21); err == nil {
		t.Error("opened a record that is not there")
	}
	for name, edit := range map[string]func(o *zk.UsageOpening){
		"not signed":       func(o *zk.UsageOpening) { o.Signed.Record.Amount++ },
		"not on its path":  func(o *zk.UsageOpening) { o.Index = 6 },
		"not under root":   func(o *zk.UsageOpening) { o.Path[2][3][31] ^= 1 },
		"with a path of 2": func(o *zk.UsageOpening) { o.Path = o.Path[:2] },
		"not below":        func(o *zk.UsageOpening) { o.Path[0][0][0] = 0xff },
		"no usage-batch":   func(o *zk.UsageOpening) { o.Size = 33 },
		"of resource":      func(o *zk.UsageOpening) { o.Signed.Record.Resource = 9 },
		"at level 0":       func(o *zk.UsageOpening) { o.Signed = file.Records[6] },
	} {
		o, err := work.Open(5)
		if err != nil {
			t.Fatal(err)
		}
		edit(&o)
		if err := o.Check(file.Order, file.Key, root); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	o, err := work.Open(5)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Check(crypto.Digest{1}, file.Key, root); err == nil {
		t.Error("opened for another order")
	}
}

// TestTreesAgreeWithADenseOne compares roots with a tree of 256 leaves hashed
// one by one and the empty tree above it.
func TestTreesAgreeWithADenseOne(t *testing.T) {
	rng := seeded(t)
	leaves := make([]zk.Field, 256)
	tree := zk.Tree{}
	for range 40 {
		index := rng.Uint32N(256)
		value := zk.Reduce(crypto.Digest{byte(rng.Uint32()), 1})
		if rng.IntN(4) == 0 {
			value = zk.Field{}
		}
		leaves[index] = value
		work, err := zk.NewTreeWork(tree, []zk.TreeUpdate{{Index: index, Value: value}})
		if err != nil {
			t.Fatal(err)
		}
		before := tree.Root()
		if tree, err = zk.DecodeTree(work.Output()); err != nil {
			t.Fatal(err)
		}
		level, empty := leaves, zk.Field{}
		for range zk.TreeDepth {
			var up []zk.Field
			for i := 0; i < len(level); i += zk.TreeArity {
				children := [zk.TreeArity]zk.Field{empty, empty, empty, empty}
				copy(children[:], level[i:min(i+zk.TreeArity, len(level))])
				up = append(up, zk.TreeNode(children))
			}
			level, empty = up, zk.TreeNode([zk.TreeArity]zk.Field{empty, empty, empty, empty})
		}
		if work.Inputs()[0] != before || work.Outputs()[0] != level[0] || tree.Root() != level[0] || tree.Leaf(index) != value {
			t.Fatalf("leaf %d: root %s, want %s", index, tree.Root(), level[0])
		}
	}
}

func FuzzRead(f *testing.F) {
	kernels := []zk.Kernel{"matmul-4", "mlp-8", "hashchain-1", "merkle-update-1", "usage-batch-4"}
	good := exampleFiles(f)
	for i, kernel := range kernels {
		files := append(slices.Clone(good[kernel]), nil)
		f.Add(byte(i), files[0], files[1])
	}
	f.Fuzz(func(t *testing.T, pick byte, a, b []byte) {
		kernel := kernels[int(pick)%len(kernels)]
		work, err := zk.Read(kernel, [][]byte{a, b}[:len(good[kernel])])
		if err != nil {
			if !errors.Is(err, zk.ErrInput) {
				t.Errorf("%s: %v", kernel, err)
			}
			return
		}
		statement := zk.Statement{Kernel: kernel, Inputs: work.Inputs(), Output: work.Outputs()}
		if err := statement.Check(); err != nil {
			t.Errorf("%s: %v", kernel, err)
		}
	})
}
