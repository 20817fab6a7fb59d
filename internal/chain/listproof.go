package chain

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// MaxListPath bounds the siblings of a list's item: a list has fewer than 2³²
// items.
const MaxListPath = 32

// listTop is the digest of a list of so many items whose tree has that top.
func listTop(domain *crypto.Domain, count uint64, top crypto.Digest) crypto.Digest {
	return domain.Hash(codec.Marshal(struct {
		_     struct{} `cbor:",toarray"`
		Count uint64
		Top   crypto.Digest
	}{Count: count, Top: top}))
}

// ListPath returns the siblings of an item of a list, from the bottom up: with
// them ListRootOf makes ListRoot's digest of the item alone. The index is one of
// the list's.
func ListPath(items []crypto.Digest, index int) []crypto.Digest {
	if index < 0 || index >= len(items) {
		panic(fmt.Sprintf("chain: item %d of a list of %d", index, len(items)))
	}
	level := make([]crypto.Digest, len(items))
	for i, item := range items {
		level[i] = crypto.DomainMerkleLeaf.Hash(item[:])
	}
	var path []crypto.Digest
	for len(level) > 1 {
		if sibling := index ^ 1; sibling < len(level) {
			path = append(path, level[sibling])
		}
		var up []crypto.Digest
		for i := 0; i+1 < len(level); i += 2 {
			up = append(up, crypto.DomainMerkleInner.HashPair(level[i], level[i+1]))
		}
		if len(level)%2 == 1 {
			up = append(up, level[len(level)-1])
		}
		level, index = up, index/2
	}
	return path
}

// ListRootOf returns the digest of a list of which one item and its path are
// known. It fails if the path is not as long as the item's place in a list of
// count items asks for.
func ListRootOf(domain *crypto.Domain, count, index uint64, item crypto.Digest, path []crypto.Digest) (crypto.Digest, error) {
	if count == 0 || count >= 1<<MaxListPath || index >= count {
		return crypto.Digest{}, fmt.Errorf("chain: item %d of a list of %d, of at most 2³² − 1", index, count)
	}
	top, rest := crypto.DomainMerkleLeaf.Hash(item[:]), path
	for width := count; width > 1; width, index = (width+1)/2, index/2 {
		if index^1 >= width {
			continue // rises unpaired
		}
		if len(rest) == 0 {
			return crypto.Digest{}, fmt.Errorf("chain: path of %d siblings is too short for a list of %d", len(path), count)
		}
		if index%2 == 0 {
			top = crypto.DomainMerkleInner.HashPair(top, rest[0])
		} else {
			top = crypto.DomainMerkleInner.HashPair(rest[0], top)
		}
		rest = rest[1:]
	}
	if len(rest) > 0 {
		return crypto.Digest{}, fmt.Errorf("chain: path of %d siblings is too long for a list of %d", len(path), count)
	}
	return listTop(domain, count, top), nil
}
