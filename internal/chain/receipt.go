package chain

import (
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

// BlockReceipts is what a block's execution made, in order: the begin-block
// list's events, a receipt for each transaction, the end-block list's events.
type BlockReceipts struct {
	_     struct{} `cbor:",toarray"`
	Begin Events
	Txs   []Receipt
	End   Events
}

// Encode returns the canonical bytes.
func (b *BlockReceipts) Encode() []byte { return codec.Marshal(*b) }

// DecodeBlockReceipts decodes what Encode wrote; it is for bytes of one's own
// store.
func DecodeBlockReceipts(raw []byte) (BlockReceipts, error) {
	var b BlockReceipts
	err := codec.Unmarshal(raw, &b, len(raw))
	return b, err
}

// Root returns the digest that the next header carries.
func (b *BlockReceipts) Root() crypto.Digest {
	items := make([]crypto.Digest, 0, len(b.Txs)+2)
	items = append(items, crypto.DomainReceipt.Hash(codec.Marshal(b.Begin)))
	for i := range b.Txs {
		items = append(items, crypto.DomainReceipt.Hash(codec.Marshal(b.Txs[i])))
	}
	items = append(items, crypto.DomainReceipt.Hash(codec.Marshal(b.End)))
	return ListRoot(crypto.DomainReceiptRoot, items)
}
