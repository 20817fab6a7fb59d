package chain_test

import (
	"slices"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// TestListPathLeadsToListRoot checks every item of every length up to 70, and that
// neither another item, index, count nor path leads there.
func TestListPathLeadsToListRoot(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 70; n++ {
		items := make([]crypto.Digest, n)
		for i := range items {
			items[i] = crypto.Digest{byte(i), 7}
		}
		root := chain.ListRoot(crypto.DomainReceiptRoot, items)
		leads := func(count, index uint64, item crypto.Digest, path []crypto.Digest) bool {
			got, err := chain.ListRootOf(crypto.DomainReceiptRoot, count, index, item, path)
			return err == nil && got == root
		}
		for i, item := range items {
			path, count, index := chain.ListPath(items, i), uint64(n), uint64(i)
			if !leads(count, index, item, path) {
				t.Fatalf("item %d of %d does not lead to the root", i, n)
			}
			longer := append(slices.Clone(path), crypto.Digest{})
			bad := map[string]bool{
				"another item":   leads(count, index, crypto.Digest{255}, path),
				"the index past": leads(count, count, item, path),
				"another index":  leads(count, (index+1)%count, item, path) && n > 1,
				"a count more":   leads(count+1, index, item, path),
				"a longer path":  leads(count, index, item, longer),
				"no items":       leads(0, 0, item, nil),
				"2³² items":      leads(1<<32, index, item, path),
			}
			if len(path) > 0 {
				changed := slices.Clone(path)
				changed[i%len(path)][3] ^= 1
				bad["a changed path"], bad["a shorter path"] = leads(count, index, item, changed), leads(count, index, item, path[1:])
			}
			for name, led := range bad {
				if led {
					t.Fatalf("item %d of %d: %s leads to the root", i, n, name)
				}
			}
		}
	}
}

// TestReceiptsPartsAreTheRootsItems checks that what Items returns makes the root,
// and decodes to what it was made of.
func TestReceiptsPartsAreTheRootsItems(t *testing.T) {
	t.Parallel()
	receipts := chain.BlockReceipts{
		Begin: chain.Events{chain.Matured{Amount: chain.Nano(3)}},
		Txs:   []chain.Receipt{{TxID: crypto.Digest{1}, Rejection: "no"}, {TxID: crypto.Digest{2}, Events: chain.Events{chain.Matured{Amount: chain.Nano(4)}}}},
	}
	parts, items := receipts.Items()
	if chain.ListRoot(crypto.DomainReceiptRoot, items) != receipts.Root() || len(parts) != 4 {
		t.Fatalf("%d parts of another root", len(parts))
	}
	for i, raw := range parts {
		part, digest, err := chain.DecodeReceiptsPart(raw, uint64(i), uint64(len(parts)))
		if err != nil || digest != items[i] {
			t.Fatalf("part %d: %s, %v", i, digest, err)
		}
		if isTx := i == 1 || i == 2; isTx != (part.Receipt != nil) || isTx && part.Receipt.TxID != (crypto.Digest{byte(i)}) || len(part.Events) != (i+1)%2 && i < 2 {
			t.Errorf("part %d: %+v", i, part)
		}
		if _, _, err := chain.DecodeReceiptsPart(append(slices.Clone(raw), 0), uint64(i), 4); err == nil {
			t.Errorf("part %d: a byte more is accepted", i)
		}
	}
}
