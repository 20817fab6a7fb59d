package chain

import (
	"unicode/utf8"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// readTransfer reads the canonical bytes of a transaction whose messages are
// transfers: what a loaded chain decodes most. It takes nothing that the codec
// would not, and yields what the codec would; whatever it does not know, it
// leaves to the codec, which also says what is wrong with it. The chain is likely the
// one that is named. The second result is how many bytes the body takes.
func readTransfer(raw []byte, likely ChainID) (tx Tx, body int, ok bool) {
	if len(raw) > MaxTxBytes {
		return Tx{}, 0, false
	}
	r := codec.NewReader(raw)
	r.Array(2)
	start := r.At()
	b := &tx.Body
	r.Array(10)
	b.ChainID = ChainID(r.LikelyText(maxChainID, string(likely)))
	r.Fixed(b.Sender[:])
	b.Nonce = r.Uint()
	b.Expiry = Height(r.Uint())
	b.GasLimit, b.MaxFee, b.Tip = Gas{r.Uint()}, GasPrice{r.Uint()}, GasPrice{r.Uint()}
	if !r.Null() {
		b.FeePayer = new(Address)
		r.Fixed(b.FeePayer[:])
	}
	b.Messages = make(Msgs, r.Length(MaxMessages))
	for i := range b.Messages {
		var m Transfer
		r.Array(2)
		if r.Uint() != uint64(kindTransfer) {
			return Tx{}, 0, false
		}
		r.Array(2)
		r.Fixed(m.To[:])
		m.Amount = Amount{r.Uint()}
		b.Messages[i] = m
	}
	b.Memo = r.Text(MaxMemo)
	body = r.At() - start
	tx.Signatures = make(TxSignatures, r.Length(maxSignatures))
	for i := range tx.Signatures {
		s := &tx.Signatures[i]
		r.Array(2)
		r.Array(2)
		s.Key.Scheme = crypto.Scheme(r.Uint())
		s.Key.Key = r.Bytes(crypto.PublicKeySize)
		r.Fixed(s.Signature[:])
		if s.Key.Scheme != crypto.SchemeEd25519 {
			return Tx{}, 0, false
		}
	}
	ok = r.Done() && utf8.ValidString(b.Memo) && utf8.ValidString(string(b.ChainID))
	return tx, body, ok
}
