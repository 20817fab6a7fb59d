package state_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

var lastPosition = crypto.Digest(bytes.Repeat([]byte{0xff}, crypto.DigestSize))

// within is the dumb way to a range: every pair, hashed, filtered, sorted.
func (m model) within(r state.Range) []state.Entry {
	var out []state.Entry
	for k, v := range m {
		if p := state.Position([]byte(k)); bytes.Compare(p[:], r.From[:]) >= 0 && bytes.Compare(p[:], r.To[:]) <= 0 {
			out = append(out, state.Entry{Position: p, Key: []byte(k), Value: []byte(v)})
		}
	}
	slices.SortFunc(out, func(a, b state.Entry) int { return a.Position.Compare(b.Position) })
	return out
}

// step is the neighbour of a position.
func step(p crypto.Digest, by int) crypto.Digest {
	for i := len(p) - 1; i >= 0; i-- {
		p[i] += byte(by)
		if by > 0 && p[i] != 0 || by < 0 && p[i] != 0xff {
			break
		}
	}
	return p
}

func drawEdge(t *rapid.T, all []state.Entry) crypto.Digest {
	if len(all) == 0 || rapid.IntRange(0, 3).Draw(t, "any") == 0 {
		return crypto.Digest(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "edge"))
	}
	at := rapid.SampledFrom(all).Draw(t, "leaf").Position
	return step(at, rapid.IntRange(-1, 1).Draw(t, "by"))
}

func drawRange(t *rapid.T, all []state.Entry) state.Range {
	switch rapid.IntRange(0, 5).Draw(t, "kind") {
	case 0:
		return state.Range{To: lastPosition}
	case 1:
		return state.Range{From: drawEdge(t, all), To: lastPosition}
	}
	r := state.Range{From: drawEdge(t, all), To: drawEdge(t, all)}
	if r.From.Compare(r.To) > 0 {
		r.From, r.To = r.To, r.From
	}
	return r
}

func mustRefuseRange(t rapid.TB, what string, err error) {
	t.Helper()
	if !errors.Is(err, state.ErrProof) {
		t.Fatalf("%s: %v, want ErrProof", what, err)
	}
}

func TestRangeProofsAgreeWithModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := model{}.apply(drawChanges(t)).apply(drawChanges(t))
		disk := state.NewMemoryBackend()
		kv := state.NewOverlay(disk)
		for k, v := range m {
			kv.Set([]byte(k), []byte(v))
		}
		tree := must1(state.NewTree(disk, 0).Next(3, kv.Changes(), 1))(t)
		if rapid.Bool().Draw(t, "reopen") {
			disk.ApplyBatch(tree.Batch())
			tree = must1(state.OpenTree(disk, tree.Mark(), 0))(t)
		}
		all := m.within(state.Range{To: lastPosition})
		r := drawRange(t, all)
		leaves := m.within(r)
		encoded := must1(tree.ProveRange(r))(t).Encode()
		proof := must1(state.DecodeRangeProof(encoded))(t)
		if err := proof.Verify(tree.Root(), r, leaves); err != nil {
			t.Fatalf("%d of %d leaves: %v", len(leaves), len(all), err)
		}
		shown{tree, proof, r, leaves, all}.hostile(t)
	})
}

// shown is an honest proof of a range, and all leaves that there are.
type shown struct {
	tree        *state.Tree
	proof       state.RangeProof
	r           state.Range
	leaves, all []state.Entry
}

// hostile shows the proof with whatever it does not show.
func (s shown) hostile(t *rapid.T) {
	tree, proof, r, leaves, all := s.tree, s.proof, s.r, s.leaves, s.all
	verify := func(what string, r state.Range, list []state.Entry) {
		mustRefuseRange(t, what, proof.Verify(tree.Root(), r, list))
	}
	stranger := state.Entry{Key: []byte("stranger"), Value: []byte("x")}
	stranger.Position = state.Position(stranger.Key)
	at, _ := slices.BinarySearchFunc(leaves, stranger, func(a, b state.Entry) int { return a.Position.Compare(b.Position) })
	verify("an extra leaf", r, slices.Insert(slices.Clone(leaves), at, stranger))
	verify("an empty range", state.Range{From: lastPosition}, nil)
	other := tree.Root()
	other[9] ^= 4
	mustRefuseRange(t, "another root", proof.Verify(other, r, leaves))
	if len(leaves) > 0 {
		i := rapid.IntRange(0, len(leaves)-1).Draw(t, "victim")
		verify("a missing leaf", r, slices.Delete(slices.Clone(leaves), i, i+1))
		verify("a leaf twice", r, slices.Insert(slices.Clone(leaves), i, leaves[i]))
		changed := slices.Clone(leaves)
		changed[i].Value = append(bytes.Clone(changed[i].Value), 7)
		verify("another value", r, changed)
		changed = slices.Clone(leaves)
		changed[i].Position = step(changed[i].Position, 1)
		verify("another position", r, changed)
		verify("no leaf", r, nil)
		verify("a range that begins after its first leaf", state.Range{From: step(leaves[0].Position, 1), To: lastPosition}, leaves)
	}
	if len(leaves) > 1 {
		swapped := slices.Clone(leaves)
		swapped[0], swapped[1] = swapped[1], swapped[0]
		verify("swapped leaves", r, swapped)
	}
	// The boundary moved beyond a leaf that is not shown.
	for _, e := range all {
		if e.Position.Compare(r.To) > 0 {
			verify("a range that ends too late", state.Range{From: r.From, To: e.Position}, leaves)
			break
		}
	}
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Position.Compare(r.From) < 0 {
			verify("a range that begins too early", state.Range{From: all[i].Position, To: r.To}, leaves)
			break
		}
	}
}

func TestMutatedRangeProofsAreRefused(t *testing.T) {
	tree := accounts(t, 2000)
	all := slices.Collect(entriesOf(t, tree))
	rapid.Check(t, func(t *rapid.T) {
		r := drawRange(t, all)
		var leaves []state.Entry
		for _, e := range all {
			if r.Contains(e.Position) {
				leaves = append(leaves, e)
			}
		}
		encoded := must1(tree.ProveRange(r))(t).Encode()
		at := rapid.IntRange(0, len(encoded)-1).Draw(t, "at")
		encoded[at] ^= rapid.ByteRange(1, 255).Draw(t, "mask")
		proof, err := state.DecodeRangeProof(encoded)
		if err != nil {
			if !errors.Is(err, state.ErrProofFormat) {
				t.Fatalf("decoding fails with %v, want ErrProofFormat", err)
			}
			return
		}
		mustRefuseRange(t, "a changed proof", proof.Verify(tree.Root(), r, leaves))
	})
}

func entriesOf(t testing.TB, tree *state.Tree) func(yield func(state.Entry) bool) {
	return func(yield func(state.Entry) bool) {
		for e, err := range tree.Iterate(crypto.Digest{}) {
			if !yield(must(t, e, err)) {
				return
			}
		}
	}
}

func TestRangeProofSizeIsLogarithmic(t *testing.T) {
	tree := accounts(t, 100_000)
	all := slices.Collect(entriesOf(t, tree))
	largest := 0
	for i := 0; i+500 < len(all); i += 997 {
		r := state.Range{From: all[i].Position, To: all[i+500].Position}
		p := must1(tree.ProveRange(r))(t)
		if err := p.Verify(tree.Root(), r, all[i:i+501]); err != nil {
			t.Fatal(err)
		}
		largest = max(largest, len(p.Encode()))
	}
	if largest < 10*32 || largest > 2*1300 {
		t.Errorf("the largest of 100 range proofs in 100,000 keys has %d bytes", largest)
	}
}

func TestDecodeRangeProofRefusesByName(t *testing.T) {
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"too long":     {make([]byte, state.MaxRangeProofBytes+1), "too large"},
		"no array":     {[]byte{0}, "malformed"},
		"half digest":  {[]byte{0x82, 0x40, 0x41, 1}, "1 bytes of digests"},
		"many steps":   {append(append([]byte{0x82, 0x59, 0x08, 0}, make([]byte, 0x800)...), 0x40), "2048 steps"},
		"trailing":     {[]byte{0x82, 0x40, 0x40, 0}, "malformed"},
		"not shortest": {[]byte{0x82, 0x58, 0, 0x40}, "not canonical"},
	} {
		if _, err := state.DecodeRangeProof(c.data); !errors.Is(err, state.ErrProofFormat) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want ErrProofFormat with %q", name, err, c.want)
		}
	}
}

// FuzzRangeProof: what decodes is canonical, and nothing but the honest proof
// verifies with the honest leaves.
func FuzzRangeProof(f *testing.F) {
	tree := accounts(f, 300)
	all := slices.Collect(entriesOf(f, tree))
	prove := func(t testing.TB, from, to uint16) ([]byte, state.Range, []state.Entry) {
		i, j := int(from)%len(all), int(to)%len(all)
		i, j = min(i, j), max(i, j)
		r := state.Range{From: all[i].Position, To: all[j].Position}
		p, err := tree.ProveRange(r)
		return must(t, p, err).Encode(), r, all[i : j+1]
	}
	for _, at := range [][2]uint16{{0, 299}, {3, 3}, {7, 200}} {
		data, _, _ := prove(f, at[0], at[1])
		f.Add(data, at[0], at[1])
	}
	f.Fuzz(func(t *testing.T, data []byte, from, to uint16) {
		p, err := state.DecodeRangeProof(data)
		if err != nil {
			return
		}
		if again := p.Encode(); string(again) != string(data) {
			t.Fatalf("%x decodes, but encodes as %x", data, again)
		}
		honest, r, leaves := prove(t, from, to)
		if err := p.Verify(tree.Root(), r, leaves); (err == nil) != (string(honest) == string(data)) {
			t.Fatalf("verifying %x: %v", data, err)
		}
		mustRefuseRange(t, "a leaf less", p.Verify(tree.Root(), r, leaves[1:]))
	})
}

func TestBuilderMakesTheTreeThatChangesMake(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := model{}.apply(drawChanges(t)).apply(drawChanges(t))
		disk, built := state.NewMemoryBackend(), state.NewMemoryBackend()
		kv := state.NewOverlay(disk)
		for k, v := range m {
			kv.Set([]byte(k), []byte(v))
		}
		tree := must1(state.NewTree(disk, 0).Next(9, kv.Changes(), 1))(t)
		disk.ApplyBatch(tree.Batch())
		b := state.NewBuilder(9, func(key, record []byte) error {
			built.PutNode(key, record)
			return nil
		})
		lower, upper := state.LeafKeys(9)
		for _, e := range m.within(state.Range{To: lastPosition}) {
			key, record := state.LeafRecord(9, e)
			if bytes.Compare(key, lower) < 0 || bytes.Compare(key, upper) >= 0 {
				t.Fatalf("%x is not between %x and %x", key, lower, upper)
			}
			built.PutNode(key, record)
			if err := b.AddRecord(key, record); err != nil {
				t.Fatal(err)
			}
		}
		mark := must1(b.Finish())(t)
		if mark != tree.Mark() {
			t.Fatalf("built %v, changes make %v", mark, tree.Mark())
		}
		if built.NodeCount() != disk.NodeCount() {
			t.Fatalf("built %d records, changes make %d", built.NodeCount(), disk.NodeCount())
		}
		checkTree(t, must1(state.OpenTree(built, mark, 0))(t), m)
	})
}

func TestBuilderRefusesWhatIsNoLeaf(t *testing.T) {
	b := state.NewBuilder(9, func([]byte, []byte) error { return nil })
	e := state.Entry{Position: state.Position([]byte("k")), Key: []byte("k"), Value: []byte("v")}
	key, record := state.LeafRecord(9, e)
	if err := b.AddRecord(key, record); err != nil {
		t.Fatal(err)
	}
	if err := b.AddRecord(key, record); err == nil {
		t.Error("one leaf twice")
	}
	other, _ := state.LeafRecord(8, e)
	if err := b.AddRecord(other, record); err == nil {
		t.Error("a leaf of another version")
	}
	if err := b.AddRecord(key, nil); err == nil {
		t.Error("no record")
	}
	b = state.NewBuilder(9+1<<32, func([]byte, []byte) error { return nil })
	if err := b.AddRecord(state.LeafRecord(9+1<<32, e)); err == nil {
		t.Error("a leaf of a version beyond the last")
	}
	if mark, err := state.NewBuilder(state.MaxVersion+1, func([]byte, []byte) error { return nil }).Finish(); err == nil {
		t.Errorf("no leaves of a version beyond the last are %v", mark)
	}
	if _, err := state.NewBuilder(state.MaxVersion, func([]byte, []byte) error { return nil }).Finish(); err != nil {
		t.Errorf("no leaves of the last version: %v", err)
	}
	wound := errors.New("wound")
	b = state.NewBuilder(9, func([]byte, []byte) error { return wound })
	if _, err := b.Finish(); !errors.Is(err, wound) {
		t.Errorf("a failing writer: %v", err)
	}
}

func BenchmarkProveRange(b *testing.B) {
	tree := accounts(b, 100_000)
	all := slices.Collect(entriesOf(b, tree))
	rng := rand.New(rand.NewPCG(1, 2))
	b.Run("prove", func(b *testing.B) {
		for b.Loop() {
			i := rng.IntN(len(all) - 1000)
			if _, err := tree.ProveRange(state.Range{From: all[i].Position, To: all[i+999].Position}); err != nil {
				b.Fatal(err)
			}
		}
	})
	r := state.Range{From: all[0].Position, To: all[999].Position}
	p := must1(tree.ProveRange(r))(b)
	b.Run(fmt.Sprintf("verify/leaves=%d", 1000), func(b *testing.B) {
		for b.Loop() {
			if err := p.Verify(tree.Root(), r, all[:1000]); err != nil {
				b.Fatal(err)
			}
		}
	})
}
