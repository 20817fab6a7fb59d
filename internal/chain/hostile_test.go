package chain_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// items returns where each value of a canonical encoding begins and ends, the
// value at start and all that it holds.
func items(raw []byte, start int) (spans [][2]int, end int) {
	major, info := raw[start]>>5, raw[start]&0x1f
	at, n := start+1, uint64(info)
	if info >= 24 {
		size := 1 << (info - 24)
		n = binary.BigEndian.Uint64(append(make([]byte, 8-size), raw[at:at+size]...))
		at += size
	}
	switch major {
	case 2, 3:
		at += int(n)
	case 4:
		for range n {
			inner, after := items(raw, at)
			spans, at = append(spans, inner...), after
		}
	}
	return append(spans, [2]int{start, at}), at
}

// Every value of a transaction and of a block, one at a time, becomes another:
// above all the null that decodes into the zero of any type, and so into sums
// that hold nothing. Whatever comes of it, decoding must return.
func TestDecodingReturnsWhateverAValueBecomes(t *testing.T) {
	tx, staking, leases, block := signedTx(t, allMessages()), signedTx(t, stakingMessages()), signedTx(t, slices.Concat(leaseMessages(), serviceMessages(), channelMessages(), panelMessages(), contractMessages())), sampleBlock(t)
	others := [][]byte{{0xf6}, {0x00}, {0x80}, {0x40}, {0x60}, {0xa0}, {0x81, 0xf6}, {0x82, 0x08, 0xf6}, {0x82, 0x02, 0xf6}}
	decodeTx := func(raw []byte) error { _, err := chain.DecodeTx(raw); return err }
	decodeBlock := func(raw []byte) error { _, err := chain.DecodeBlock(raw, nil); return err }
	terms := codec.Marshal(*sampleDeal().Order.Term.Service)
	for name, c := range map[string]struct {
		raw    []byte
		decode func([]byte) error
	}{
		"transaction": {tx.Encode(), decodeTx},
		"staking":     {staking.Encode(), decodeTx},
		"leases":      {leases.Encode(), decodeTx},
		"block":       {block.Encode(), decodeBlock},
	} {
		spans, end := items(c.raw, 0)
		if end != len(c.raw) || len(spans) < 50 {
			t.Fatalf("%s: %d values, %d of %d bytes", name, len(spans), end, len(c.raw))
		}
		for _, s := range spans {
			for _, other := range others {
				changed := slices.Concat(c.raw[:s[0]], other, c.raw[s[1]:])
				optional := bytes.HasPrefix(c.raw[s[0]:], terms) // nothing may be promised
				if err := c.decode(changed); err == nil && other[0] == 0xf6 && c.raw[s[0]] != 0xf6 && !optional {
					t.Fatalf("%s: bytes %d to %d became null and it was taken", name, s[0], s[1])
				}
			}
		}
	}
}

// A list is bounded before it is made: its elements may be a thousand times as
// large as their encodings.
func TestLongListsAreRefusedBeforeTheyAreMade(t *testing.T) {
	tx := signedTx(t, chain.Msgs{chain.Settle{Claims: []chain.Claim{{Order: sampleOrder(chain.PolicyNone{})}}}})
	raw := tx.Encode()
	const n = 100_000
	list := append([]byte{0x9a, 0, byte(n >> 16), byte(n >> 8 & 0xff), byte(n & 0xff)}, bytes.Repeat([]byte{0xf6}, n)...)
	claims := bytes.Index(raw, []byte{0x82, 0x08, 0x81, 0x81, 0x8c}) + 3
	messages := claims - 4
	spans, _ := items(raw, 0)
	signatures := spans[len(spans)-1][1] - len(codec.Marshal(tx.Signatures))
	for name, start := range map[string]int{"messages": messages, "claims": claims, "signatures": signatures} {
		_, end := items(raw, start)
		changed := slices.Concat(raw[:start], list, raw[end:])
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := chain.DecodeTx(changed)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, chain.ErrLimit) {
			t.Errorf("%d %s: %v", n, name, err)
		}
		if made := after.TotalAlloc - before.TotalAlloc; made > 4<<20 {
			t.Errorf("refusing %d %s in %d bytes allocated %d", n, name, len(changed), made)
		}
	}
}

// Receipts have an encoder of their own; the codec's is the reference.
func TestReceiptsEncodeAsTheCodecWould(t *testing.T) {
	for _, receipts := range []chain.BlockReceipts{{}, sampleReceipts(), transferReceipts(300)} {
		raw, root := receipts.EncodeAndRoot()
		if want := codec.Marshal(receipts); !bytes.Equal(raw, want) {
			t.Errorf("receipts encode as %x, the codec says %x", raw, want)
		}
		items := []crypto.Digest{crypto.DomainReceipt.Hash(codec.Marshal(receipts.Begin))}
		for _, r := range receipts.Txs {
			items = append(items, crypto.DomainReceipt.Hash(codec.Marshal(r)))
		}
		items = append(items, crypto.DomainReceipt.Hash(codec.Marshal(receipts.End)))
		if want := chain.ListRoot(crypto.DomainReceiptRoot, items); root != want || receipts.Root() != want {
			t.Errorf("root is %s, want %s", root, want)
		}
		if _, err := chain.DecodeBlockReceipts(raw); err != nil {
			t.Error(err)
		}
	}
}

// Verdicts stay with their claims whatever stands beside them in the batch, and
// a transaction that its sender did not sign has none.
func TestVerdictsOfAMixedBatch(t *testing.T) {
	settle := func(claims ...chain.Claim) chain.Msgs {
		return chain.Msgs{allMessages()[0], chain.Settle{Claims: claims}}
	}
	good, bad := sampleClaim(chain.PolicyNone{}), sampleClaim(replicated)
	bad.ReceiptSig[0] ^= 1
	const badReceipt = chain.AllSigned + 4
	forged := signedTx(t, settle(good, good))
	forged.Signatures[1].Signature[0] ^= 1
	var txs []chain.DecodedTx
	for _, tx := range []chain.Tx{signedTx(t, settle(good, bad)), forged, signedTx(t, repeat(1)), signedTx(t, settle(bad, good, good))} {
		decoded, err := chain.DecodeTx(tx.Encode())
		if err != nil {
			t.Fatal(err)
		}
		txs = append(txs, decoded)
	}
	for _, parallelism := range []int{1, 4} {
		out := chain.VerifyTxs(txs, parallelism)
		if out[1] != nil {
			t.Error("a forged transaction was verified")
		}
		for i, want := range map[int][]chain.Signing{0: {chain.AllSigned, badReceipt}, 2: nil, 3: {badReceipt, chain.AllSigned, chain.AllSigned}} {
			if got := out[i].ClaimsSigned(1); !slices.Equal(got, want) {
				t.Errorf("transaction %d: claims signed %v, want %v", i, got, want)
			}
		}
	}
}
