package chain

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Receipt is what became of one transaction. A rejected transaction paid its
// fee and changed nothing else.
type Receipt struct {
	_         struct{} `cbor:",toarray"`
	TxID      TxID     `json:"tx_id"`
	Rejection string   `json:"rejection,omitempty"` // the rule and the value that broke it; empty: accepted
	GasUsed   Gas      `json:"gas_used"`
	Burned    Amount   `json:"burned_nhyper"` // base fee
	Tip       Amount   `json:"tip_nhyper"`    // to the proposer
	Events    Events   `json:"events"`
}

// Accepted reports whether the transaction's messages took effect.
func (r *Receipt) Accepted() bool { return r.Rejection == "" }

// append is the canonical encoding, without reflection: one is made for every
// transaction of every block (BenchmarkReceipts). A test holds it equal to the
// codec's.
func (r *Receipt) append(dst []byte) ([]byte, error) {
	dst = codec.AppendArray(dst, 6)
	dst = codec.AppendBytes(dst, r.TxID[:])
	dst = codec.AppendText(dst, r.Rejection)
	dst = codec.AppendUint(dst, r.GasUsed.units)
	dst = codec.AppendUint(dst, r.Burned.nano)
	dst = codec.AppendUint(dst, r.Tip.nano)
	return r.Events.append(dst)
}

// BlockReceipts is what a block's execution made, in order: the begin-block
// list's events, a receipt for each transaction, the end-block list's events.
type BlockReceipts struct {
	_     struct{} `cbor:",toarray"`
	Begin Events
	Txs   []Receipt
	End   Events
}

// Encode returns the canonical bytes.
func (b *BlockReceipts) Encode() []byte {
	raw, _ := b.EncodeAndRoot()
	return raw
}

// Root returns the digest that the next header carries.
func (b *BlockReceipts) Root() crypto.Digest {
	_, root := b.EncodeAndRoot()
	return root
}

// EncodeAndRoot returns the canonical bytes, which are stored, and the digest
// that the next header carries. The root's items are the events' and receipts'
// encodings as they stand in the bytes, so making both costs no more than
// making one.
func (b *BlockReceipts) EncodeAndRoot() ([]byte, crypto.Digest) {
	raw, parts := b.encode()
	return raw, ListRoot(crypto.DomainReceiptRoot, itemsOf(parts))
}

// Items returns what the root is the list's root of: the encodings of the
// begin-block list's events, of each receipt and of the end-block list's events,
// and their digests.
func (b *BlockReceipts) Items() (parts [][]byte, items []crypto.Digest) {
	_, parts = b.encode()
	return parts, itemsOf(parts)
}

func itemsOf(parts [][]byte) []crypto.Digest {
	items := make([]crypto.Digest, len(parts))
	crypto.DomainReceipt.HashMany(items, parts)
	return items
}

// encode returns the canonical bytes, and those of each part within them.
func (b *BlockReceipts) encode() (raw []byte, parts [][]byte) {
	raw = codec.AppendArray(make([]byte, 0, 512+256*len(b.Txs)), 3)
	ends := make([]int, 0, 2*(len(b.Txs)+2)) // where each part begins and ends
	add := func(part []byte, err error) {
		if err != nil {
			panic(fmt.Sprintf("chain: encoding receipts: %v", err))
		}
		ends = append(ends, len(raw), len(part))
		raw = part
	}
	add(b.Begin.append(raw))
	raw = codec.AppendArray(raw, len(b.Txs))
	for i := range b.Txs {
		add(b.Txs[i].append(raw))
	}
	add(b.End.append(raw))
	parts = make([][]byte, len(ends)/2)
	for i := range parts {
		parts[i] = raw[ends[2*i]:ends[2*i+1]]
	}
	return raw, parts
}

// ReceiptsRoot is Root of what Encode wrote, without decoding it: a node that has executed a
// block can always go on from there, whatever its events are.
func ReceiptsRoot(raw []byte) (crypto.Digest, error) {
	r := codec.NewReader(raw)
	var parts [][]byte
	add := func() {
		from := r.At()
		r.Skip()
		parts = append(parts, raw[from:r.At()])
	}
	r.Array(3)
	add()
	for range r.Length(len(raw)) {
		add()
	}
	add()
	if !r.Done() {
		return crypto.Digest{}, fmt.Errorf("chain: receipts: %w", codec.ErrNotCanonical)
	}
	return ListRoot(crypto.DomainReceiptRoot, itemsOf(parts)), nil
}

// DecodeBlockReceipts decodes what Encode wrote; it is for bytes of one's own
// store.
func DecodeBlockReceipts(raw []byte) (BlockReceipts, error) {
	var b BlockReceipts
	err := codec.Unmarshal(raw, &b, len(raw))
	return b, err
}

// ReceiptsPart is one item of a block's receipts: a transaction's receipt, or the
// events that no transaction caused.
type ReceiptsPart struct {
	Receipt *Receipt // nil: the events are of the begin-block or end-block list
	Events  Events
}

// DecodeReceiptsPart decodes an item of Items by its index among count of them,
// from bytes of any origin, and returns it with the digest that the list has of
// it.
func DecodeReceiptsPart(raw []byte, index, count uint64) (ReceiptsPart, crypto.Digest, error) {
	var part ReceiptsPart
	digest := crypto.DomainReceipt.Hash(raw)
	if index == 0 || index+1 == count {
		err := codec.Unmarshal(raw, &part.Events, len(raw))
		return part, digest, err
	}
	part.Receipt = &Receipt{}
	if err := codec.Unmarshal(raw, part.Receipt, len(raw)); err != nil {
		return ReceiptsPart{}, digest, err
	}
	part.Events = part.Receipt.Events
	return part, digest, nil
}
