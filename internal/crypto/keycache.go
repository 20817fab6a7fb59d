package crypto

import (
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
)

// KeyCache keeps the points of public keys that come again and again, on
// processors without fused multiplication: finding the point is a quarter of what
// a signature of a batch costs there. Where points are found eight at a time, it
// stays empty. What it answers never depends on what it holds. Its zero value is
// unusable; not safe for concurrent use.
type KeyCache struct {
	limit int // keys of a generation
	young map[PublicKey]*ed25519.ExpandedPublicKey
	old   map[PublicKey]*ed25519.ExpandedPublicKey
}

// NewKeyCache returns a cache of at most so many keys, about 2 KiB each, at least
// 2. The keys that were seen longest ago make room.
func NewKeyCache(keys int) *KeyCache {
	return &KeyCache{limit: max(keys/2, 1), young: map[PublicKey]*ed25519.ExpandedPublicKey{}}
}

// expand returns for each item its key's point, or nil if that is not known: a
// key is expanded when it comes for the second time, because doing so costs more
// than to use it once.
func (c *KeyCache) expand(items []Signed) []*ed25519.ExpandedPublicKey {
	out := make([]*ed25519.ExpandedPublicKey, len(items))
	if c == nil {
		return out
	}
	for i := range items {
		key := &items[i].Key
		point, seen := c.young[*key]
		if !seen {
			point, seen = c.old[*key]
		}
		if seen && point == nil {
			made, err := ed25519.NewExpandedPublicKey(key[:])
			if err != nil {
				continue // no point at all: whoever verifies says so
			}
			point = made
		}
		out[i] = point
		if len(c.young) >= c.limit {
			c.old, c.young = c.young, make(map[PublicKey]*ed25519.ExpandedPublicKey, c.limit)
		}
		c.young[*key] = point
	}
	return out
}
