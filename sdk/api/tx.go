package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// MaxSubmitBytes bounds the body of POST /v1/txs.
const MaxSubmitBytes = 16 << 20

// TxBody is what a transaction's signers sign.
type TxBody struct {
	ChainID  chain.ChainID  `json:"chain_id" minLength:"3" maxLength:"32"`
	Sender   chain.Address  `json:"sender"`
	Nonce    Uint64         `json:"nonce" doc:"the sender's count of included transactions before this one"`
	Expiry   Uint64         `json:"expiry" doc:"the last height at which it may be included"`
	GasLimit chain.Gas      `json:"gas_limit"`
	MaxFee   chain.GasPrice `json:"max_fee_nhyper" doc:"per gas; base fee and tip together never exceed it"`
	Tip      chain.GasPrice `json:"tip_nhyper" doc:"per gas"`
	FeePayer *chain.Address `json:"fee_payer,omitempty" doc:"left out: the sender pays"`
	Messages []Message      `json:"messages" minItems:"1" maxItems:"16" doc:"all or none take effect"`
	Memo     string         `json:"memo" maxLength:"256" doc:"at most 256 bytes"`
}

// TxSignature is one signer's key and signature of the body.
type TxSignature struct {
	Key       AccountKey       `json:"key"`
	Signature crypto.Signature `json:"signature"`
}

// Tx is a transaction.
type Tx struct {
	Body       TxBody        `json:"body"`
	Signatures []TxSignature `json:"signatures" minItems:"1" maxItems:"2" doc:"the sender's, then the fee payer's"`
}

// TxToJSON returns the transaction as JSON has it.
func TxToJSON(tx chain.Tx) Tx {
	b := tx.Body
	out := Tx{
		Body: TxBody{
			ChainID: b.ChainID, Sender: b.Sender, Nonce: Uint64(b.Nonce), Expiry: Uint64(b.Expiry), GasLimit: b.GasLimit,
			MaxFee: b.MaxFee, Tip: b.Tip, FeePayer: b.FeePayer, Messages: make([]Message, len(b.Messages)), Memo: b.Memo,
		},
		Signatures: make([]TxSignature, len(tx.Signatures)),
	}
	for i, m := range b.Messages {
		out.Body.Messages[i] = Message{m}
	}
	for i, s := range tx.Signatures {
		out.Signatures[i] = TxSignature{Key: accountKeyToJSON(s.Key), Signature: s.Signature}
	}
	return out
}

// TxFromJSON returns the transaction of package chain, or a *FieldError if a
// message is missing. Its limits are not checked: see chain.DecodeTx.
func TxFromJSON(tx Tx) (chain.Tx, error) {
	b := tx.Body
	out := chain.Tx{
		Body: chain.TxBody{
			ChainID: b.ChainID, Sender: b.Sender, Nonce: uint64(b.Nonce), Expiry: chain.Height(b.Expiry), GasLimit: b.GasLimit,
			MaxFee: b.MaxFee, Tip: b.Tip, FeePayer: b.FeePayer, Messages: make(chain.Msgs, len(b.Messages)), Memo: b.Memo,
		},
		Signatures: make([]chain.TxSignature, len(tx.Signatures)),
	}
	for i, m := range b.Messages {
		if m.Msg == nil {
			return chain.Tx{}, &FieldError{Location: fmt.Sprintf("body.messages[%d]", i), Message: "missing"}
		}
		out.Body.Messages[i] = m.Msg
	}
	for i, s := range tx.Signatures {
		out.Signatures[i] = chain.TxSignature{Key: s.Key.chain(), Signature: s.Signature}
	}
	return out, nil
}

// TxInput is a transaction on its way in: either its canonical bytes, or body
// and signatures.
type TxInput struct {
	Raw        Hex           `json:"raw,omitempty" maxLength:"262144" doc:"the canonical bytes; then nothing else"`
	Body       *TxBody       `json:"body,omitempty"`
	Signatures []TxSignature `json:"signatures,omitempty" maxItems:"2"`
}

// Bytes returns the canonical bytes, or a *FieldError if the input has neither
// form or both.
func (in TxInput) Bytes() ([]byte, error) {
	switch {
	case len(in.Raw) > 0 && (in.Body != nil || in.Signatures != nil):
		return nil, &FieldError{Message: "has raw and body: want one of them"}
	case len(in.Raw) > 0:
		return in.Raw, nil
	case in.Body == nil:
		return nil, &FieldError{Message: "has neither raw nor body"}
	}
	tx, err := TxFromJSON(Tx{Body: *in.Body, Signatures: in.Signatures})
	if err != nil {
		return nil, err
	}
	return tx.Encode(), nil
}

// SubmitRequest is the JSON body of POST /v1/txs.
type SubmitRequest struct {
	Txs []TxInput `json:"txs" minItems:"1" maxItems:"1000"`
}

// Verdict says whether a submitted transaction entered the mempool. Inclusion
// is another matter: see TxLookup.
type Verdict struct {
	TxID     crypto.Digest `json:"tx_id"`
	Accepted bool          `json:"accepted"`
	Reason   string        `json:"reason,omitempty" doc:"why it was not accepted"`
}

// ReasonQueueFull begins the reason of a transaction that was refused because so many
// wait that it would for too long: it may be accepted a little later, or at once with
// a higher tip.
const ReasonQueueFull = "queue_full"

// SubmitResponse has one verdict for each transaction, in order.
type SubmitResponse struct {
	Verdicts []Verdict `json:"verdicts"`
}

// EncodeVerdicts returns the CBOR answer to POST /v1/txs, for a request that accepts
// it: the canonical array of the transactions' [id, reason], whose reason is empty
// if the transaction was accepted.
func EncodeVerdicts(verdicts []Verdict) []byte {
	out := codec.AppendArray(nil, len(verdicts))
	for i := range verdicts {
		v := &verdicts[i]
		out = codec.AppendBytes(codec.AppendArray(out, 2), v.TxID[:])
		out = codec.AppendText(out, v.Reason)
	}
	return out
}

// DecodeVerdicts reads what EncodeVerdicts wrote.
func DecodeVerdicts(body []byte) ([]Verdict, error) {
	r := codec.NewReader(body)
	out := make([]Verdict, r.Length(chain.MaxBatchTxs))
	for i := range out {
		v := &out[i]
		r.Array(2)
		r.Fixed(v.TxID[:])
		v.Reason = r.Text(len(body))
		v.Accepted = v.Reason == ""
	}
	if !r.Done() {
		return nil, fmt.Errorf("%d bytes are not the encoding of verdicts", len(body))
	}
	return out, nil
}

// EncodeSubmission returns the CBOR body of POST /v1/txs: the canonical array
// of the transactions' bytes, each a byte string.
func EncodeSubmission(raws [][]byte) []byte {
	size := 5
	for _, raw := range raws {
		size += len(raw) + 5
	}
	out := codec.AppendArray(make([]byte, 0, size), len(raws))
	for _, raw := range raws {
		out = codec.AppendBytes(out, raw)
	}
	return out
}

// Submitted is one transaction of a submission: decoded, or refused by Err.
type Submitted struct {
	ID  crypto.Digest // of the bytes, whatever they are
	Tx  chain.DecodedTx
	Err error
}

// DecodeSubmission decodes a body of POST /v1/txs of the given content type,
// ContentJSON or ContentCBOR. The error, a *FieldError, is about the body as a
// whole; a transaction whose own form is wrong is one Submitted with an Err.
func DecodeSubmission(contentType string, body []byte) ([]Submitted, error) {
	if len(body) > MaxSubmitBytes {
		return nil, &FieldError{Message: fmt.Sprintf("has %d bytes, limit %d", len(body), MaxSubmitBytes)}
	}
	raws, err := submissionBytes(contentType, body)
	if err != nil {
		return nil, err
	}
	out := make([]Submitted, len(raws))
	txs, errs := chain.DecodeTxs(raws)
	for i := range txs {
		out[i].ID, out[i].Tx, out[i].Err = txs[i].ID(), txs[i], errs[i]
	}
	return out, nil
}

func submissionBytes(contentType string, body []byte) ([][]byte, error) {
	switch contentType {
	case ContentCBOR:
		var raws [][]byte
		if raws, ok := readSubmission(body); ok {
			return raws, nil
		}
		if err := codec.Unmarshal(body, &raws, MaxSubmitBytes); err != nil {
			return nil, &FieldError{Message: err.Error()}
		}
		return raws, checkCount("", len(raws))
	case ContentJSON:
		return jsonSubmission(body)
	}
	return nil, &FieldError{Message: fmt.Sprintf("content type %.40q, want %s or %s", contentType, ContentJSON, ContentCBOR)}
}

// readSubmission reads a body by hand; what it does not take, the codec judges. Each
// transaction has memory of its own, so that one that waits does not keep the body.
func readSubmission(body []byte) ([][]byte, bool) {
	r := codec.NewReader(body)
	raws := make([][]byte, r.Length(chain.MaxBatchTxs))
	for i := range raws {
		raws[i] = bytes.Clone(r.Bytes(len(body)))
	}
	return raws, r.Done() && len(raws) > 0
}

// jsonSubmission reads the array's elements one by one, so that their number is
// checked before any of them is decoded.
func jsonSubmission(body []byte) ([][]byte, error) {
	var list struct {
		Txs []json.RawMessage `json:"txs"`
	}
	if err := DecodeJSON(body, &list); err != nil {
		return nil, err
	}
	if err := checkCount("txs", len(list.Txs)); err != nil {
		return nil, err
	}
	raws := make([][]byte, len(list.Txs))
	for i, item := range list.Txs {
		var in TxInput
		err := DecodeJSON(item, &in)
		if err == nil {
			raws[i], err = in.Bytes()
		}
		if err != nil {
			return nil, within(fmt.Sprintf("txs[%d]", i), err)
		}
	}
	return raws, nil
}

func checkCount(at string, n int) error {
	if n < 1 || n > chain.MaxBatchTxs {
		return &FieldError{Location: at, Message: fmt.Sprintf("has %d transactions, want 1 to %d", n, chain.MaxBatchTxs)}
	}
	return nil
}

// The statuses of a transaction.
const (
	TxPending  = "pending"  // in this node's mempool
	TxIncluded = "included" // in a finalized block; the receipt says with which outcome
	TxDropped  = "dropped"  // this node had it in its mempool and has it no longer
)

// TxLookup is what a node knows of a transaction.
type TxLookup struct {
	TxID      crypto.Digest  `json:"tx_id"`
	Status    string         `json:"status" enum:"pending,included,dropped" doc:"pending: in this node's mempool, or in a block that is not final; dropped: this node has it no longer"`
	Finalized chain.Height   `json:"finalized_height" doc:"the node's, when it answered"`
	Tx        *Tx            `json:"tx,omitempty"`
	Height    chain.Height   `json:"height,omitempty" doc:"of the block that includes it"`
	Index     uint32         `json:"index" doc:"in that block"`
	TimeMs    chain.TimeMs   `json:"time_ms,omitempty" doc:"of that block"`
	Receipt   *chain.Receipt `json:"receipt,omitempty"`
	Dropped   *Dropped       `json:"dropped,omitempty" doc:"if the status is dropped"`
}

// Why a transaction left a node's mempool without being in a finalized block. After
// DropExpired and DropNonceUsed it can never be included. After the others it can,
// until its expiry, if another node still has it.
const (
	DropExpired        = "expired"            // the chain has reached its expiry
	DropNonceUsed      = "nonce_used"         // a finalized block has another transaction of its sender and nonce
	DropReplaced       = "replaced"           // the node has another of its sender and nonce, which pays more
	DropEvicted        = "evicted"            // the mempool was full, and others offered a higher tip
	DropEarlierDropped = "earlier_dropped"    // one of the sender's before it left, or never came
	DropFunds          = "insufficient_funds" // the fee payer can no longer pay for it
	DropGasLimit       = "gas_limit"          // the chain's parameters no longer allow its gas limit
)

// Dropped says why a transaction left a node's mempool.
type Dropped struct {
	Reason string        `json:"reason" enum:"expired,nonce_used,replaced,evicted,earlier_dropped,insufficient_funds,gas_limit"`
	Height chain.Height  `json:"height" doc:"of the latest finalized block at the time"`
	By     crypto.Digest `json:"by,omitzero" doc:"replaced: the transaction in its place; earlier_dropped: the one that left before it, if there was one"`
}

// Final reports whether the transaction can never be included.
func (d *Dropped) Final() bool { return d.Reason == DropExpired || d.Reason == DropNonceUsed }

// ErrNotIncluded says that a lookup has no receipt yet.
var ErrNotIncluded = errors.New("api: transaction is not included")

// Outcome returns the receipt of an included transaction.
func (l *TxLookup) Outcome() (*chain.Receipt, error) {
	if l.Status != TxIncluded || l.Receipt == nil {
		return nil, fmt.Errorf("%w: %s is %s", ErrNotIncluded, l.TxID.Short(), l.Status)
	}
	return l.Receipt, nil
}
