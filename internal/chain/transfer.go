package chain

import (
	"unicode/utf8"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// readTransfer reads the canonical bytes of a transaction whose messages are
// transfers, or claims under PolicyNone: what a loaded chain decodes most. It takes nothing that the codec
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
	claims := claimReader{Reader: r, likely: b.ChainID}
	for i := range b.Messages {
		r.Array(2)
		switch r.Uint() {
		case uint64(kindTransfer):
			var m Transfer
			r.Array(2)
			r.Fixed(m.To[:])
			m.Amount = Amount{r.Uint()}
			b.Messages[i] = m
		case uint64(kindSettle):
			b.Messages[i] = claims.settle()
		default:
			return Tx{}, 0, false
		}
		if claims.bad {
			return Tx{}, 0, false
		}
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
