package state

import (
	"math/rand/v2"
	"testing"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// borderPositions returns as many positions that share some nibbles as are two too
// many for a page, and others.
func borderPositions(rng *rand.Rand, shared int) []crypto.Digest {
	positions := make([]crypto.Digest, pageLeaves+20)
	for i := range positions {
		p := &positions[i]
		for k := range p {
			p[k] = byte(rng.Uint32())
		}
		for k := range shared {
			if i < pageLeaves+2 {
				p[k/2] = p[k/2]&(0xf0>>(4*(1-k%2))) | 5<<(4*(1-k%2))
			}
		}
	}
	return positions
}

// A subtree that goes from 32 leaves to 33 and back, version by version, and whose
// leaves get other values between, is the same to nodes that keep everything in
// memory, next to nothing, or were just started.
func TestSubtreeAtTheBorderOfAPage(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 21))
		positions := borderPositions(rng, 1+int(seed))
		m := deepState{}
		disks := [3]*MemoryBackend{NewMemoryBackend(), NewMemoryBackend(), NewMemoryBackend()}
		trees := [3]*Tree{NewTree(disks[0], 0), NewTree(disks[1], 1), NewTree(disks[2], 1)}
		for i := range trees {
			trees[i] = placed(trees[i], positions)
		}
		for version := range uint64(40) {
			var changes []Change
			var h hashes
			set := func(i int, deleted bool) {
				c := Change{Key: []byte{byte(i)}, Deleted: deleted}
				var leaf crypto.Digest
				if delete(m, positions[i]); !deleted {
					c.Value = []byte{byte(version), byte(i)}
					leaf, m[positions[i]] = leafHash(positions[i], c.Value), string(c.Value)
				}
				changes, h.positions, h.leaves = append(changes, c), append(h.positions, positions[i]), append(h.leaves, leaf)
			}
			switch {
			case version == 0:
				for i := range positions {
					if i < pageLeaves || i >= pageLeaves+2 {
						set(i, false)
					}
				}
			case version%4 == 1: // 33
				set(pageLeaves, false)
			case version%4 == 3: // 32
				set(pageLeaves, true)
			default:
				set(rng.IntN(8), false)
				set(8+rng.IntN(pageLeaves-8), false)
			}
			for i := range trees {
				next, err := trees[i].next(version, changes, h, 1+i)
				if err != nil {
					t.Fatal(err)
				}
				if root := m.root(); next.Root() != root {
					t.Fatalf("seed %d, version %d: tree %d has root %v, the model %v", seed, version, i, next.Root(), root)
				}
				trees[i] = persistDeep(t, next, disks[i], m)
			}
			var err error
			if trees[2], err = OpenTree(disks[2], trees[2].Mark(), 1); err != nil {
				t.Fatal(err)
			}
			trees[2] = placed(trees[2], positions)
			for i := 1; i < len(disks); i++ {
				if a, b := len(disks[0].nodes), len(disks[i].nodes); a != b {
					t.Fatalf("seed %d, version %d: disks of %d and %d records", seed, version, a, b)
				}
				for key, record := range disks[0].nodes {
					if string(disks[i].nodes[key]) != string(record) {
						t.Fatalf("seed %d, version %d: record %x differs", seed, version, key)
					}
				}
			}
			checkDeepRanges(t, trees[2], positions, m, rng)
		}
	}
}
