package state_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/internal/state"
)

// accounts is a tree of n keys.
func accounts(t testing.TB, n int) *state.Tree {
	kv := state.NewOverlay(state.NewMemoryBackend())
	for i := range n {
		kv.Set(accountKey(i), fmt.Appendf(nil, "balance %d", i))
	}
	tree, err := state.NewTree(state.NewMemoryBackend(), 0).Next(1, kv.Changes(), 2)
	return must(t, tree, err)
}

func accountKey(i int) []byte { return fmt.Appendf(nil, "account/%d", i) }

func TestMutatedProofsAreRefused(t *testing.T) {
	tree := accounts(t, 2000)
	rapid.Check(t, func(t *rapid.T) {
		i := rapid.IntRange(0, 3999).Draw(t, "account")
		key, present := accountKey(i), i < 2000
		var value []byte
		if present {
			value = fmt.Appendf(nil, "balance %d", i)
		}
		encoded := must1(tree.Prove(key))(t).Encode()
		at := rapid.IntRange(0, len(encoded)-1).Draw(t, "at")
		mask := rapid.ByteRange(1, 255).Draw(t, "mask")
		encoded[at] ^= mask
		proof, err := state.DecodeProof(encoded)
		if err != nil {
			if !errors.Is(err, state.ErrProofFormat) {
				t.Fatalf("decoding fails with %v, want ErrProofFormat", err)
			}
			return
		}
		mustRefuse(t, proof, tree.Root(), claim{key, value, present})
	})
}

func TestProofsAreForTheirKeyAndRoot(t *testing.T) {
	tree := accounts(t, 500)
	next := must1(tree.Next(2, []state.Change{{Key: accountKey(3), Value: []byte("other")}}, 1))(t)
	for i := range 1000 {
		p := must1(tree.Prove(accountKey(i)))(t)
		q := must1(tree.Prove(accountKey(i + 1)))(t)
		if i < 499 {
			mustRefuse(t, q, tree.Root(), claim{accountKey(i), fmt.Appendf(nil, "balance %d", i), true})
			mustRefuse(t, p, next.Root(), claim{accountKey(i), fmt.Appendf(nil, "balance %d", i), true})
			mustRefuse(t, q, tree.Root(), claim{key: accountKey(i)})
		}
	}
	p := must1(tree.Prove(accountKey(0)))(t)
	mustRefuse(t, p, tree.Root(), claim{nil, nil, true})
	mustRefuse(t, p, tree.Root(), claim{make([]byte, state.MaxKeyBytes+1), nil, true})
	mustRefuse(t, p, tree.Root(), claim{accountKey(0), make([]byte, state.MaxValueBytes+1), true})
}

func TestProofSizeIsLogarithmic(t *testing.T) {
	tree := accounts(t, 100_000)
	largest := 0
	for i := range 2000 {
		largest = max(largest, len(must1(tree.Prove(accountKey(i*100)))(t).Encode()))
	}
	// 17 levels and the spread of the deepest leaves.
	if largest < 17*32 || largest > 1300 {
		t.Errorf("the largest of 2,000 proofs in 100,000 keys has %d bytes", largest)
	}
}

func TestDecodeProofRefusesByName(t *testing.T) {
	for name, c := range map[string]struct{ hex, want string }{
		"too long":          {strings.Repeat("00", state.MaxProofBytes+1), "too large"},
		"no array":          {"00", "malformed"},
		"deep":              {"84190101582100" + strings.Repeat("00", 32) + "4040", "depth 257"},
		"short map":         {"8401404040", "map of 0 bytes for depth 1"},
		"last is empty":     {"840141004040", "last sibling is empty"},
		"bits beyond":       {"840141c05820" + strings.Repeat("11", 32) + "40", "beyond depth 1"},
		"missing sibling":   {"840141804040", "too few"},
		"zero sibling":      {"840141805820" + strings.Repeat("00", 32) + "40", "sibling 0 is zero"},
		"surplus sibling":   {"8400405820" + strings.Repeat("11", 32) + "40", "too many"},
		"half a leaf":       {"840040405820" + strings.Repeat("11", 32), "other leaf of 32 bytes"},
		"not shortest form": {"841800404040", "not canonical"},
		"trailing":          {"840040404000", "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			data := must1(hex.DecodeString(c.hex))(t)
			_, err := state.DecodeProof(data)
			if !errors.Is(err, state.ErrProofFormat) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want ErrProofFormat with %q", err, c.want)
			}
		})
	}
}

// TestGolden pins the shape of the tree and the encoding of proofs.
func TestGolden(t *testing.T) {
	var out strings.Builder
	line := func(name string, data []byte) { fmt.Fprintf(&out, "%s %x\n", name, data) }
	for _, n := range []int{0, 1, 2, 3, 16, 1000} {
		tree := accounts(t, n)
		root := tree.Root()
		line(fmt.Sprintf("root/%d", n), root[:])
		for _, i := range []int{0, 2000, 2001} {
			line(fmt.Sprintf("proof/%d/%d", n, i), must1(tree.Prove(accountKey(i)))(t).Encode())
		}
		line(fmt.Sprintf("range/%d", n), must1(tree.ProveRange(state.Range{From: crypto.Digest{0x31}, To: crypto.Digest{0x42}}))(t).Encode())
	}
	three := accounts(t, 3)
	tree := must1(three.Persisted(three.Mark()).Next(9, []state.Change{{Key: accountKey(1), Deleted: true}, {Key: []byte("b"), Value: []byte("c")}}, 1))(t)
	for key, record := range tree.Batch().Nodes() {
		line("node/"+hex.EncodeToString(key), record)
	}
	line("stale", tree.Batch().StaleList())
	golden.Check(t, "testdata/tree.txt", out.String())
}

// FuzzProof: what decodes is canonical, and nothing but the honest proof
// verifies against the root.
func FuzzProof(f *testing.F) {
	tree := accounts(f, 300)
	for _, i := range []int{0, 1, 299, 300, 301, 302} {
		p, err := tree.Prove(accountKey(i))
		f.Add(must(f, p, err).Encode(), uint16(i))
	}
	f.Add([]byte{0x84, 0, 0x40, 0x40, 0x40}, uint16(0))
	f.Fuzz(func(t *testing.T, data []byte, account uint16) {
		p, err := state.DecodeProof(data)
		if err != nil {
			return
		}
		if again := p.Encode(); string(again) != string(data) {
			t.Fatalf("%x decodes, but encodes as %x", data, again)
		}
		key, present := accountKey(int(account)), account < 300
		var value []byte
		if present {
			value = fmt.Appendf(nil, "balance %d", account)
		}
		honest := must1(tree.Prove(key))(t).Encode()
		if err := p.Verify(tree.Root(), key, value, present); (err == nil) != (string(honest) == string(data)) {
			t.Fatalf("verifying %x: %v", data, err)
		}
		mustRefuse(t, p, tree.Root(), claim{key, []byte("a lie"), true})
		if present {
			mustRefuse(t, p, tree.Root(), claim{key: key})
		}
	})
}

func BenchmarkTreeNext(b *testing.B) {
	for _, keys := range []int{100_000, 1_000_000} {
		disk := state.NewMemoryBackend()
		kv := state.NewOverlay(state.NewMemoryBackend())
		for i := range keys {
			kv.Set(accountKey(i), fmt.Appendf(nil, "balance %d", i))
		}
		tree := must1(state.NewTree(disk, 0).Next(0, kv.Changes(), 2))(b)
		disk.ApplyBatch(tree.Batch())
		for _, n := range []int{1000, 5000} {
			b.Run(fmt.Sprintf("keys=%d/changes=%d", keys, n), func(b *testing.B) {
				rng := rand.New(rand.NewPCG(9, 10))
				b.ReportAllocs()
				changed := 0
				for b.Loop() {
					b.StopTimer()
					changes := randomChanges(rng, n, keys)
					b.StartTimer()
					tree = must1(tree.Persisted(tree.Mark()).Next(tree.Version()+1, changes, 1))(b)
					b.StopTimer()
					disk.ApplyBatch(tree.Batch())
					disk.DropNodes(tree.Batch().Stale())
					b.StartTimer()
					changed += n
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(changed), "ns/change")
			})
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	tree := accounts(b, 100_000)
	key := accountKey(5)
	p := must1(tree.Prove(key))(b)
	for b.Loop() {
		if err := p.Verify(tree.Root(), key, []byte("balance 5"), true); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHashPair(b *testing.B) {
	var d crypto.Digest
	for b.Loop() {
		d = crypto.DomainStateInner.HashPair(d, d)
	}
}
