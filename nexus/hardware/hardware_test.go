package hardware_test

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"
	"testing"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/hardware"
)

var small = hardware.Task{Seed: crypto.Digest{7}, Lanes: 3, Blocks: 257}

func never() bool { return false }

func lanesOf(t hardware.Task) (lanes []*hardware.Lane, roots []hardware.Roots) {
	for i := range t.Lanes {
		lanes = append(lanes, hardware.Run(t, i, never))
		roots = append(roots, lanes[i].Roots())
	}
	return lanes, roots
}

// reference is a lane as the package's comment says it, and no more. A machine that keeps only
// some blocks makes those that it needs and does not have again, out of theirs; digests it keeps.
type reference struct {
	task    hardware.Task
	seed    crypto.Digest
	kept    map[uint64][]byte
	keeps   func(i uint64) bool
	digests []crypto.Digest
	steps   []crypto.Digest
	passes  uint64 // over blocks, of the cipher and of the hash
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func hashOf(parts ...[]byte) crypto.Digest { return crypto.DomainLane.Hash(slices.Concat(parts...)) }

func among(lot []byte, n uint64) uint64 {
	at, _ := bits.Mul64(binary.BigEndian.Uint64(lot), n)
	return at
}

// make returns a block.
func (r *reference) make(i uint64) []byte {
	if block, ok := r.kept[i]; ok {
		return block
	}
	before := crypto.Digest{}
	if i > 0 {
		before = r.digests[i-1]
	}
	key := hashOf(r.seed[:], number(i), before[:])
	c, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err)
	}
	block := make([]byte, hardware.BlockBytes)
	cipher.NewCTR(c, make([]byte, 16)).XORKeyStream(block, block)
	r.passes++
	for n := 0; n < hardware.References && i > 0; n++ {
		for k, b := range r.make(among(key[8*n:], i)) {
			block[k] ^= b
		}
	}
	return block
}

func (r *reference) run(lane uint64) {
	r.seed, r.kept = hashOf(r.task.Seed[:], number(lane)), map[uint64][]byte{}
	for i := range r.task.Blocks {
		block := r.make(i)
		if r.keeps(i) {
			r.kept[i] = block
		}
		r.digests = append(r.digests, hashOf(block))
		r.passes++
	}
	root := rootOf(r.digests)
	r.steps = []crypto.Digest{hashOf(r.seed[:], root[:])}
	for range 2 * r.task.Blocks {
		last := r.steps[len(r.steps)-1]
		r.steps = append(r.steps, hashOf(last[:], r.make(among(last[:], r.task.Blocks))))
		r.passes++
	}
}

func rootOf(leaves []crypto.Digest) crypto.Digest {
	if len(leaves) == 1 {
		return leaves[0]
	}
	half := 1 << (bits.Len(uint(len(leaves)-1)) - 1)
	return crypto.DomainLaneTree.HashPair(rootOf(leaves[:half]), rootOf(leaves[half:]))
}

func all(uint64) bool { return true }

// TestLaneIsTheReference: the package's lanes are those of the plain words about them.
func TestLaneIsTheReference(t *testing.T) {
	for _, blocks := range []uint64{hardware.MinBlocks, 255, 256, 257} {
		task := hardware.Task{Seed: crypto.Digest{byte(blocks)}, Lanes: 2, Blocks: blocks}
		_, roots := lanesOf(task)
		for lane := range task.Lanes {
			r := &reference{task: task, keeps: all}
			r.run(lane)
			if got := (hardware.Roots{Fill: rootOf(r.digests), Walk: rootOf(r.steps)}); roots[lane] != got {
				t.Errorf("%d blocks, lane %d: %+v, the reference has %+v", blocks, lane, roots[lane], got)
			}
		}
		if roots[0] == roots[1] {
			t.Error("two lanes are one")
		}
	}
}

// TestRootsStay: what machines agree on does not change unnoticed.
func TestRootsStay(t *testing.T) {
	_, roots := lanesOf(small)
	const want = "1749"
	if got := crypto.DomainLane.Hash(codec.Marshal(roots)).String(); got[:4] != want {
		t.Errorf("the roots' digest begins with %s, want %s", got[:4], want)
	}
}

// TestHalfTheMemoryTakesLonger: whoever keeps half of the blocks, whichever, and all digests
// besides, passes over blocks at least 1.7 times as often.
func TestHalfTheMemoryTakesLonger(t *testing.T) {
	task := hardware.Task{Seed: crypto.Digest{9}, Lanes: 1, Blocks: 192}
	passes := func(keeps func(uint64) bool) float64 {
		r := &reference{task: task, keeps: keeps}
		r.run(0)
		return float64(r.passes)
	}
	whole := passes(all)
	for name, keeps := range map[string]func(i uint64) bool{
		"the first":     func(i uint64) bool { return i < task.Blocks/2 },
		"the last":      func(i uint64) bool { return i >= task.Blocks/2 || i < 8 },
		"every second":  func(i uint64) bool { return i%2 == 0 },
		"first, spread": func(i uint64) bool { return i < task.Blocks/4 || i%3 == 0 },
	} {
		ratio := passes(keeps) / whole
		t.Logf("keeps half of the blocks, %s: %.2f times the passes", name, ratio)
		if ratio < 1.7 {
			t.Errorf("keeps half of the blocks, %s: %.2f times the passes, want 1.7", name, ratio)
		}
	}
}

// TestHalfTheCoresTakeTwice: a lane's passes follow each other, each from the digest of what
// the one before made, so that cores beyond one do not help it, and half of the cores run
// twice as many lanes.
func TestHalfTheCoresTakeTwice(t *testing.T) {
	task := hardware.Task{Seed: crypto.Digest{9}, Lanes: 8, Blocks: 256}
	r := &reference{task: task, keeps: all}
	r.run(0)
	if want := 2*task.Blocks + 2*task.Blocks; r.passes != want || task.Steps() != 3*task.Blocks {
		t.Fatalf("%d passes and %d steps, want %d and %d", r.passes, task.Steps(), want, 3*task.Blocks)
	}
	for _, cores := range []uint64{8, 4} {
		longest := (task.Lanes + cores - 1) / cores * r.passes
		if want := task.Lanes / cores * r.passes; longest != want {
			t.Errorf("%d cores pass %d times one after the other, want %d", cores, longest, want)
		}
	}
	for i := 1; i < len(r.steps); i++ { // the step before says where a step looks
		if r.steps[i] != hashOf(r.steps[i-1][:], r.make(among(r.steps[i-1][:], task.Blocks))) {
			t.Fatalf("step %d does not follow", i)
		}
	}
}

// TestOpenings: what was run is right under any nonce.
func TestOpenings(t *testing.T) {
	lanes, roots := lanesOf(small)
	for n := range byte(20) {
		missing, err := hardware.Check(small, roots, crypto.Digest{n}, hardware.Open(small, lanes, crypto.Digest{n}))
		if err != nil || missing != 0 {
			t.Fatalf("nonce %d: %d missing, %v", n, missing, err)
		}
	}
	nonce := crypto.Digest{1}
	wrong := func(name string, roots []hardware.Roots, nonce crypto.Digest, list []hardware.Opening) {
		t.Helper()
		if missing, err := hardware.Check(small, roots, nonce, list); !errors.Is(err, hardware.ErrWrong) || missing != small.Lanes {
			t.Errorf("%s: %d missing, %v, want all", name, missing, err)
		}
	}
	wrong("too few openings", roots, nonce, hardware.Open(small, lanes, nonce)[1:])
	wrong("too few roots", roots[1:], nonce, hardware.Open(small, lanes, nonce))
	wrong("what another nonce opens", roots, crypto.Digest{2}, hardware.Open(small, lanes, nonce))
}

// TestLanesThatAreNotShownAreMissing, and only these: nothing is opened of them.
func TestLanesThatAreNotShownAreMissing(t *testing.T) {
	lanes, roots := lanesOf(small)
	lanes[1], roots[1] = nil, hardware.Roots{}
	nonce := crypto.Digest{6}
	if got := hardware.RootsOf(lanes); !slices.Equal(got, roots) {
		t.Errorf("roots %v, want %v", got, roots)
	}
	if missing, err := hardware.Check(small, roots, nonce, hardware.Open(small, lanes, nonce)); err != nil || missing != 1 {
		t.Errorf("%d missing, %v, want one", missing, err)
	}
	none := make([]hardware.Roots, small.Lanes)
	if missing, err := hardware.Check(small, none, nonce, hardware.Open(small, make([]*hardware.Lane, small.Lanes), nonce)); err != nil || missing != small.Lanes {
		t.Errorf("of nothing %d missing, %v", missing, err)
	}
}

// TestEachLaneIsOpened: of up to MaxOpenings lanes that were shown each, of more so many.
func TestEachLaneIsOpened(t *testing.T) {
	for _, lanes := range []uint64{1, 7, 8, 9, hardware.MaxOpenings, 40} {
		task := hardware.Task{Seed: crypto.Digest{7}, Lanes: lanes, Blocks: hardware.MinBlocks}
		roots := make([]hardware.Roots, lanes)
		for i := range roots {
			roots[i].Fill = crypto.Digest{byte(i + 1)}
		}
		opened := map[uint64]bool{}
		for n := range hardware.Openings(len(roots)) {
			opened[task.LaneOf(crypto.Digest{4}, roots, n)] = true
		}
		if want := min(int(lanes), hardware.MaxOpenings); len(opened) != want {
			t.Errorf("of %d lanes %d are opened, want %d", lanes, len(opened), want)
		}
	}
}

// TestOpeningsThatAreChanged: each part of each is looked at.
func TestOpeningsThatAreChanged(t *testing.T) {
	lanes, roots := lanesOf(small)
	nonce := crypto.Digest{3}
	for name, change := range map[string]func(o *hardware.Opening){
		"before":        func(o *hardware.Opening) { o.Before.Digest[0] ^= 1 },
		"made":          func(o *hardware.Opening) { o.Made.Digest[0] ^= 1 },
		"path":          func(o *hardware.Opening) { o.Made.Path[0][0] ^= 1 },
		"short path":    func(o *hardware.Opening) { o.Made.Path = o.Made.Path[1:] },
		"long path":     func(o *hardware.Opening) { o.Made.Path = append(o.Made.Path, make([]crypto.Digest, 64)...) },
		"from":          func(o *hardware.Opening) { o.From[1][9] ^= 1 },
		"of":            func(o *hardware.Opening) { o.Of[1], o.From[1] = o.Saw, o.Seen },
		"too few":       func(o *hardware.Opening) { o.From = o.From[1:] },
		"short":         func(o *hardware.Opening) { o.From[2] = o.From[2][1:] },
		"came":          func(o *hardware.Opening) { o.Came.Digest[0] ^= 1 },
		"step":          func(o *hardware.Opening) { o.Step.Digest[0] ^= 1 },
		"seen":          func(o *hardware.Opening) { o.Seen[9] ^= 1 },
		"another block": func(o *hardware.Opening) { o.Seen, o.Saw = o.From[0], o.Of[0] },
		"nothing":       func(o *hardware.Opening) { *o = hardware.Opening{} },
	} {
		for n := range hardware.Openings(len(roots)) {
			list := again(t, hardware.Open(small, lanes, nonce))
			change(&list[n])
			if missing, err := hardware.Check(small, roots, nonce, list); !errors.Is(err, hardware.ErrWrong) || missing != small.Lanes {
				t.Errorf("%s of opening %d: %d missing, %v", name, n, missing, err)
			}
		}
	}
}

// again returns what another machine gets.
func again(t *testing.T, list []hardware.Opening) (out []hardware.Opening) {
	t.Helper()
	if err := codec.Unmarshal(codec.Marshal(list), &out, 1<<20); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestOneWrongLaneCostsAll: of roots that were not run for nobody gains, as one lane whose blocks
// are of another seed, or whose walk was not walked, has all count as missing.
func TestOneWrongLaneCostsAll(t *testing.T) {
	lanes, roots := lanesOf(small)
	other := small
	other.Seed = crypto.Digest{8}
	lanes[1] = hardware.Run(other, 1, never)
	roots[1] = lanes[1].Roots()
	for n := range byte(20) {
		nonce := crypto.Digest{n}
		if missing, err := hardware.Check(small, roots, nonce, hardware.Open(small, lanes, nonce)); !errors.Is(err, hardware.ErrWrong) || missing != small.Lanes {
			t.Errorf("nonce %d: %d missing, %v, want all", n, missing, err)
		}
	}
}

// TestTasks: of what is free a task takes seven eighths of the memory, within limits: cores are
// asked for whatever memory there is.
func TestTasks(t *testing.T) {
	const blocks = 1 << 20 / hardware.BlockBytes
	for _, c := range []struct{ lanes, memoryMiB, laneMiB, want uint64 }{
		{8, 16_384, 8_192, 2_048 * blocks / 8 * 7},
		{8, 16_384, 16, 16 * blocks / 8 * 7},
		{1, 1 << 40, 1 << 40, hardware.MaxBlocks / 8 * 7},
		{4, 2, 8_192, hardware.MinBlocks},
		{hardware.MaxLanes, 0, 8_192, hardware.MinBlocks},
	} {
		task, ok := hardware.TaskOf(crypto.Digest{}, c.lanes, c.memoryMiB, c.laneMiB)
		if !ok || task.Lanes != c.lanes || task.Blocks != c.want {
			t.Errorf("%+v: task %+v %v", c, task, ok)
		}
	}
	for _, none := range []uint64{0, hardware.MaxLanes + 1} {
		if task, ok := hardware.TaskOf(crypto.Digest{}, none, 1_000, 8_192); ok {
			t.Errorf("%d lanes: task %+v", none, task)
		}
	}
	task := hardware.Task{Lanes: 1, Blocks: 10_000}
	if got := task.LimitMs(12_000); got != 360+2_000 {
		t.Errorf("a limit of %d ms", got)
	}
	if hardware.Run(small, 0, func() bool { return true }) != nil {
		t.Error("a lane that was stopped is there")
	}
}

// FuzzOpenings: whatever is decoded as openings is checked without harm, and never right
// unless it is what was opened.
func FuzzOpenings(f *testing.F) {
	task := hardware.Task{Seed: crypto.Digest{7}, Lanes: 1, Blocks: hardware.MinBlocks}
	lanes, roots := lanesOf(task)
	nonce := crypto.Digest{5}
	opened := codec.Marshal(hardware.Open(task, lanes, nonce))
	f.Add(opened)
	f.Add([]byte{0x80})
	f.Fuzz(func(t *testing.T, data []byte) {
		var list []hardware.Opening
		if codec.Unmarshal(data, &list, len(opened)+1) != nil {
			return
		}
		missing, err := hardware.Check(task, roots, nonce, list)
		if err == nil && missing == 0 && !slices.Equal(data, opened) {
			t.Error("other openings are right")
		}
	})
}

func BenchmarkLane(b *testing.B) {
	task := hardware.Task{Seed: crypto.Digest{7}, Lanes: 1, Blocks: 8_192}
	for b.Loop() {
		hardware.Run(task, 0, never)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(task.Steps()), "ns/step")
}
