package state_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// model is the dumb second implementation: a map, rehashed in full.
type model map[string]string

type modelLeaf struct{ position, hash crypto.Digest }

func (m model) root() crypto.Digest {
	leaves := make([]modelLeaf, 0, len(m))
	for k, v := range m {
		p := crypto.DomainStateKey.Hash([]byte(k))
		leaves = append(leaves, modelLeaf{p, crypto.DomainStateLeaf.HashPair(p, crypto.DomainStateValue.Hash([]byte(v)))})
	}
	slices.SortFunc(leaves, func(a, b modelLeaf) int { return a.position.Compare(b.position) })
	return modelRoot(leaves, 0)
}

func modelRoot(leaves []modelLeaf, bit int) crypto.Digest {
	switch len(leaves) {
	case 0:
		return crypto.Digest{}
	case 1:
		return leaves[0].hash
	}
	split := slices.IndexFunc(leaves, func(l modelLeaf) bool { return l.position[bit/8]>>(7-bit%8)&1 == 1 })
	if split < 0 {
		split = len(leaves)
	}
	return crypto.DomainStateInner.HashPair(modelRoot(leaves[:split], bit+1), modelRoot(leaves[split:], bit+1))
}

func (m model) apply(changes []state.Change) model {
	next := maps.Clone(m)
	for _, c := range changes {
		if c.Deleted {
			delete(next, string(c.Key))
		} else {
			next[string(c.Key)] = string(c.Value)
		}
	}
	return next
}

// near are groups of keys whose positions share 12 to 20 leading bits, so that
// histories over few keys also build, split and collapse deep nodes.
var near = nearKeys()

func nearKeys() [][]byte {
	byPrefix := map[[2]byte][][]byte{}
	var out [][]byte
	for i := 0; len(out) < 24; i++ {
		key := fmt.Appendf(nil, "near/%d", i)
		p := state.Position(key)
		at := [2]byte(p[:2])
		byPrefix[at] = append(byPrefix[at], key)
		if len(byPrefix[at]) == 3 {
			out = append(out, byPrefix[at]...)
		}
	}
	return out
}

func drawKey(t *rapid.T) []byte {
	if rapid.Bool().Draw(t, "near") {
		return rapid.SampledFrom(near).Draw(t, "key")
	}
	return fmt.Appendf(nil, "key/%d", rapid.IntRange(0, 60).Draw(t, "key"))
}

func drawChanges(t *rapid.T) []state.Change {
	kv := state.NewOverlay(state.NewMemoryBackend())
	for range rapid.IntRange(0, 40).Draw(t, "changes") {
		key := drawKey(t)
		if rapid.IntRange(0, 2).Draw(t, "what") == 0 {
			kv.Delete(key)
		} else {
			kv.Set(key, rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "value"))
		}
	}
	return kv.Changes()
}

func must[T any](t rapid.TB, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// checkTree compares everything a tree answers with the model.
func checkTree(t rapid.TB, tree *state.Tree, m model) {
	t.Helper()
	root := m.root()
	if tree.Root() != root {
		t.Fatalf("version %d: root %v, the model has %v", tree.Version(), tree.Root(), root)
	}
	got := model{}
	var last crypto.Digest
	for e, err := range tree.Iterate(crypto.Digest{}) {
		must(t, e, err)
		if e.Position.Compare(last) <= 0 || e.Position != state.Position(e.Key) {
			t.Fatalf("iteration yields %x at %v after %v", e.Key, e.Position, last)
		}
		last = e.Position
		got[string(e.Key)] = string(e.Value)
	}
	if !maps.Equal(got, m) {
		t.Fatalf("version %d: iteration yields %d pairs, the model has %d", tree.Version(), len(got), len(m))
	}
}

func checkKey(t rapid.TB, tree *state.Tree, m model, key []byte) {
	t.Helper()
	value, ok, err := tree.Get(key)
	must(t, value, err)
	want, present := m[string(key)]
	if ok != present || string(value) != want {
		t.Fatalf("Get(%s) = %x, %v; want %x, %v", key, value, ok, want, present)
	}
	proof, err := tree.Prove(key)
	must(t, proof, err)
	decoded, err := state.DecodeProof(proof.Encode())
	must(t, decoded, err)
	if !present {
		value = nil
	}
	if err := decoded.Verify(tree.Root(), key, value, present); err != nil {
		t.Fatalf("proof of %s (present %v): %v", key, present, err)
	}
	if present {
		mustRefuse(t, decoded, tree.Root(), claim{key: key})
		mustRefuse(t, decoded, tree.Root(), claim{key, append(bytes.Clone(value), 1), true})
	} else {
		mustRefuse(t, decoded, tree.Root(), claim{key, []byte("v"), true})
	}
}

// claim is what a proof is said to prove.
type claim struct {
	key, value []byte
	present    bool
}

func mustRefuse(t rapid.TB, p state.Proof, root crypto.Digest, c claim) {
	t.Helper()
	if err := p.Verify(root, c.key, c.value, c.present); !errors.Is(err, state.ErrProof) {
		t.Fatalf("a proof of %s with value %x, present %v: %v, want ErrProof", c.key, c.value, c.present, err)
	}
}

// branch is one version in a history, with what the model says of it.
type branch struct {
	tree  *state.Tree
	model model
}

func TestTreeAgreesWithModelOnRandomHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		disk := state.NewMemoryBackend()
		resident := rapid.SampledFrom([]int{1, 6000, 0}).Draw(t, "resident")
		tip := branch{state.NewTree(disk, resident), model{}}
		var durable []branch
		mark := state.Mark{}
		version := uint64(0)
		for range rapid.IntRange(1, 8).Draw(t, "rounds") {
			// Speculative blocks on the finalized tip, in competing chains.
			var chain []branch
			for range rapid.IntRange(1, 2).Draw(t, "chains") {
				chain = []branch{tip}
				v := version
				for range rapid.IntRange(1, 3).Draw(t, "length") {
					v += uint64(rapid.IntRange(1, 3).Draw(t, "gap"))
					changes := drawChanges(t)
					last := chain[len(chain)-1]
					next := must1(last.tree.Persisted(mark).Next(v, changes, rapid.IntRange(1, 3).Draw(t, "parallelism")))(t)
					chain = append(chain, branch{next, last.model.apply(changes)})
				}
				checkTree(t, chain[len(chain)-1].tree, chain[len(chain)-1].model)
			}
			// The last chain is finalized, up to some block, and some of its
			// versions are persisted.
			for _, b := range chain[1:rapid.IntRange(2, len(chain)).Draw(t, "final")] {
				tip, version = b, b.tree.Version()
				if rapid.Bool().Draw(t, "persist") {
					disk.ApplyBatch(b.tree.Persisted(mark).Batch())
					durable = append(durable, b)
					mark = b.tree.Mark()
				}
			}
			if tip.tree.Mark() == mark && len(durable) > 0 && rapid.Bool().Draw(t, "restart") {
				tip.tree = must1(state.OpenTree(disk, tip.tree.Mark(), resident))(t)
			}
		}
		for _, b := range durable {
			again := must1(state.OpenTree(disk, b.tree.Mark(), 0))(t)
			checkTree(t, again, b.model)
			checkKey(t, again, b.model, drawKey(t))
			checkKey(t, b.tree, b.model, drawKey(t))
		}
	})
}

// must1 defers the check of a result until the test is known.
func must1[T any](v T, err error) func(rapid.TB) T {
	return func(t rapid.TB) T {
		t.Helper()
		return must(t, v, err)
	}
}

func TestStaleNodesAreExactlyThoseThatLaterVersionsDoNotNeed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		disk := state.NewMemoryBackend()
		tree, m := state.NewTree(disk, 0), model{}
		stale := 0
		for v := range uint64(rapid.IntRange(1, 10).Draw(t, "versions")) {
			changes := drawChanges(t)
			tree = must1(tree.Next(v, changes, 1))(t)
			m = m.apply(changes)
			if rapid.Bool().Draw(t, "skip") {
				continue
			}
			batch := tree.Batch()
			disk.ApplyBatch(batch)
			tree = tree.Persisted(tree.Mark())
			list := batch.StaleList()
			keys := slices.Collect(func(yield func([]byte) bool) {
				for key, err := range state.NodeKeys(list) {
					if must(t, key, err); !yield(key) {
						return
					}
				}
			})
			for _, key := range keys {
				if wrote := binary.BigEndian.Uint64(key); wrote >= v {
					t.Fatalf("version %d made a record of version %d stale", v, wrote)
				}
			}
			if dropped := disk.DropNodes(slices.Values(keys)); dropped != len(keys) {
				t.Fatalf("version %d names %d stale records, %d of them exist", v, len(keys), dropped)
			}
			stale += len(keys)
			checkTree(t, must1(state.OpenTree(disk, tree.Mark(), 0))(t), m)
		}
		if mark, ok := tree.Durable(); !ok || mark != tree.Mark() {
			return
		}
		// What is left is the last version and nothing else: building it in one
		// step stores as many records.
		fresh := state.NewMemoryBackend()
		kv := state.NewOverlay(fresh)
		for k, v := range m {
			kv.Set([]byte(k), []byte(v))
		}
		fresh.ApplyBatch(must1(state.NewTree(fresh, 0).Next(1, kv.Changes(), 1))(t).Batch())
		if disk.NodeCount() != fresh.NodeCount() {
			t.Fatalf("%d records are left after %d went stale, the state needs %d", disk.NodeCount(), stale, fresh.NodeCount())
		}
	})
}

func randomChanges(rng *rand.Rand, n, keys int) []state.Change {
	kv := state.NewOverlay(state.NewMemoryBackend())
	for kv.Len() < n {
		kv.Set(fmt.Appendf(nil, "account/%d", rng.IntN(keys)), fmt.Appendf(nil, "balance %d", rng.Uint64()))
	}
	return kv.Changes()
}

func TestParallelismDoesNotChangeTheTree(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	disks := []*state.MemoryBackend{state.NewMemoryBackend(), state.NewMemoryBackend(), state.NewMemoryBackend()}
	trees := make([]*state.Tree, len(disks))
	for i := range trees {
		trees[i] = state.NewTree(disks[i], 0)
	}
	for v := range uint64(10) {
		changes := randomChanges(rng, 500, 4000)
		for i, parallelism := range []int{1, 2, 16} {
			trees[i] = must1(trees[i].Persisted(trees[i].Mark()).Next(v, changes, parallelism))(t)
			disks[i].ApplyBatch(trees[i].Batch())
			if trees[i].Root() != trees[0].Root() || !bytes.Equal(trees[i].Batch().StaleList(), trees[0].Batch().StaleList()) {
				t.Fatalf("version %d differs at parallelism %d", v, parallelism)
			}
			if disks[i].NodeCount() != disks[0].NodeCount() {
				t.Fatalf("version %d stores other records at parallelism %d", v, parallelism)
			}
		}
	}
}

func TestNextRefusesWrongVersionsAndOrders(t *testing.T) {
	tree := must1(state.NewTree(state.NewMemoryBackend(), 0).Next(5, []state.Change{{Key: []byte("a"), Value: []byte("1")}}, 1))(t)
	if _, err := tree.Next(5, nil, 1); err == nil {
		t.Error("Next accepts the version of its parent")
	}
	if _, err := tree.Next(state.MaxVersion+1, nil, 1); err == nil {
		t.Error("Next accepts a version beyond the last")
	}
	if _, err := tree.Next(state.MaxVersion, nil, 1); err != nil {
		t.Errorf("the last version: %v", err)
	}
	if _, err := tree.Next(6, []state.Change{{Key: []byte("b")}, {Key: []byte("a")}}, 1); err == nil {
		t.Error("Next accepts descending keys")
	}
	if _, err := tree.Next(6, []state.Change{{Key: []byte("b")}, {Key: []byte("b")}}, 1); err == nil {
		t.Error("Next accepts one key twice")
	}
}

func TestOpenTreeRefusesWhatIsNotStored(t *testing.T) {
	disk := state.NewMemoryBackend()
	tree := must1(state.NewTree(disk, 0).Next(7, []state.Change{{Key: []byte("a"), Value: []byte("1")}}, 1))(t)
	disk.ApplyBatch(tree.Batch())
	if _, err := state.OpenTree(disk, state.Mark{Version: 6, Root: tree.Root()}, 0); !errors.Is(err, state.ErrNoVersion) {
		t.Errorf("version 6: %v, want ErrNoVersion", err)
	}
	if _, err := state.OpenTree(disk, state.Mark{Version: 7 + 1<<32, Root: tree.Root()}, 0); !errors.Is(err, state.ErrNoVersion) {
		t.Errorf("a version beyond the last: %v, want ErrNoVersion", err)
	}
	if _, err := state.OpenTree(disk, state.Mark{Version: 7}, 0); !errors.Is(err, state.ErrWrongRoot) {
		t.Errorf("zero root: %v, want ErrWrongRoot", err)
	}
	if !must1(state.OpenTree(disk, tree.Mark(), 0))(t).Batch().Empty() {
		t.Error("an opened tree has a batch")
	}
}

func TestEmptyTree(t *testing.T) {
	disk := state.NewMemoryBackend()
	empty := state.NewTree(disk, 0)
	checkTree(t, empty, model{})
	checkKey(t, empty, model{}, []byte("k"))
	changes := []state.Change{{Key: []byte("k"), Value: []byte("v")}}
	one := must1(empty.Next(0, changes, 1))(t)
	checkTree(t, one, model{"k": "v"})
	again := must1(one.Next(1, []state.Change{{Key: []byte("k"), Deleted: true}}, 1))(t)
	disk.ApplyBatch(one.Batch())
	disk.ApplyBatch(again.Batch())
	reopened := must1(state.OpenTree(disk, again.Mark(), 0))(t)
	checkTree(t, reopened, model{})
	checkTree(t, must1(reopened.Next(2, changes, 1))(t), model{"k": "v"})
}

// brokenReader fails, or has lost or damaged its records.
type brokenReader struct {
	*state.MemoryBackend
	damage func(record []byte) ([]byte, bool, error)
}

func (b *brokenReader) AppendNode(dst, key []byte) ([]byte, bool, error) {
	if b.damage == nil {
		return b.MemoryBackend.AppendNode(dst, key)
	}
	record, _, _ := b.MemoryBackend.AppendNode(nil, key)
	record, ok, err := b.damage(record)
	return append(dst, record...), ok, err
}

func TestReaderFaultsAreErrors(t *testing.T) {
	disk := &brokenReader{MemoryBackend: state.NewMemoryBackend()}
	rng := rand.New(rand.NewPCG(3, 4))
	stored := must1(state.NewTree(disk, 0).Next(1, randomChanges(rng, 300, 300), 1))(t)
	disk.ApplyBatch(stored.Batch())
	wound := errors.New("wound")
	for name, damage := range map[string]func([]byte) ([]byte, bool, error){
		"error":   func([]byte) ([]byte, bool, error) { return nil, false, wound },
		"missing": func([]byte) ([]byte, bool, error) { return nil, false, nil },
		"cut":     func(r []byte) ([]byte, bool, error) { return r[:len(r)-1], true, nil },
		"longer":  func(r []byte) ([]byte, bool, error) { return append(r, 0), true, nil },
		"empty":   func([]byte) ([]byte, bool, error) { return nil, true, nil },
		"leaves":  func(r []byte) ([]byte, bool, error) { r[0], r[2] = 0, 0xff; return r, true, nil },
	} {
		t.Run(name, func(t *testing.T) {
			disk.damage = nil
			tree := must1(state.OpenTree(disk, stored.Mark(), 0))(t)
			disk.damage = damage
			if _, err := tree.Next(2, randomChanges(rng, 50, 300), 2); err == nil {
				t.Error("Next hides the fault")
			}
			if _, err := state.OpenTree(disk, stored.Mark(), 0); err == nil {
				t.Error("OpenTree hides the fault")
			}
			faults := 0
			for _, err := range tree.Iterate(crypto.Digest{}) {
				if err != nil {
					faults++
				}
			}
			if faults != 1 {
				t.Errorf("Iterate yields %d errors, want 1", faults)
			}
		})
	}
}

func TestIterateFromAPosition(t *testing.T) {
	disk := state.NewMemoryBackend()
	tree := must1(state.NewTree(disk, 0).Next(1, randomChanges(rand.New(rand.NewPCG(5, 6)), 400, 400), 1))(t)
	var all []crypto.Digest
	for e, err := range tree.Iterate(crypto.Digest{}) {
		all = append(all, must(t, e, err).Position)
	}
	if len(all) != 400 {
		t.Fatalf("%d leaves, want 400", len(all))
	}
	rapid.Check(t, func(t *rapid.T) {
		from := crypto.Digest(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "from"))
		if rapid.Bool().Draw(t, "exact") {
			from = rapid.SampledFrom(all).Draw(t, "leaf")
		}
		first, _ := slices.BinarySearchFunc(all, from, crypto.Digest.Compare)
		var got []crypto.Digest
		for e, err := range tree.Iterate(from) {
			if got = append(got, must(t, e, err).Position); len(got) == 5 {
				break
			}
		}
		if want := all[first:min(first+5, len(all))]; !slices.Equal(got, want) {
			t.Fatalf("from %v: %v, want %v", from, got, want)
		}
	})
}

func TestResidentNodesStayWithinTheirLimit(t *testing.T) {
	const limit = 800_000
	disk := state.NewMemoryBackend()
	rng := rand.New(rand.NewPCG(7, 8))
	tree := must1(state.NewTree(disk, limit).Next(0, randomChanges(rng, 30_000, 30_000), 2))(t)
	disk.ApplyBatch(tree.Batch())
	for v := range uint64(200) {
		tree = must1(tree.Persisted(tree.Mark()).Next(v+1, randomChanges(rng, 50, 30_000), 1))(t)
		disk.ApplyBatch(tree.Batch())
	}
	tree = tree.Persisted(tree.Mark())
	n, believed := state.ResidentNodes(tree)
	if n != believed || n > limit*5/4 || n < limit/4 {
		t.Errorf("%d bytes of nodes are in memory, the tree believes %d, limit %d", n, believed, limit)
	}
	again := must1(state.OpenTree(disk, tree.Mark(), limit))(t)
	changes := randomChanges(rng, 100, 30_000)
	if a, b := must1(tree.Next(1000, changes, 1))(t), must1(again.Next(1000, changes, 1))(t); a.Root() != b.Root() {
		t.Error("what is in memory changes the root")
	}
}
