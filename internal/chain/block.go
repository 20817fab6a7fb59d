package chain

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// BlockVersion is the version of the header's format and of the rules.
const BlockVersion = 1

// Header is what a certificate signs the digest of. StateRoot and ReceiptRoot
// are of the *parent's* execution, so that hashing a block's changes overlaps
// its voting.
type Header struct {
	_             struct{} `cbor:",toarray"`
	Version       uint16
	ChainID       ChainID
	Height        Height
	Epoch         uint64
	View          uint64
	Parent        crypto.Digest    // of the parent's header
	TimeMs        TimeMs           // > the parent's
	TxRoot        crypto.Digest    // of the body's transaction ids
	ExtraRoot     crypto.Digest    // of the body's other lists
	StateRoot     crypto.Digest    // after the parent
	ReceiptRoot   crypto.Digest    // of the parent's receipts
	Committee     crypto.Digest    // of Epoch
	NextCommittee crypto.Digest    // of the next epoch
	Closing       bool             // the epoch's last block
	Proposer      crypto.PublicKey // consensus key
	Finalized     Height           // the highest finalization the proposer knew
	VRFOutput     crypto.Digest
	VRFProof      []byte // 80 bytes, RFC 9381; empty only at genesis
}

// Digest identifies the block.
func (h *Header) Digest() crypto.Digest { return crypto.DomainHeader.Hash(codec.Marshal(*h)) }

// Encode returns the canonical bytes.
func (h *Header) Encode() []byte { return codec.Marshal(*h) }

// DecodeHeader decodes canonical bytes.
func DecodeHeader(raw []byte) (Header, error) {
	var h Header
	if err := codec.Unmarshal(raw, &h, MaxHeaderBytes); err != nil {
		return Header{}, fmt.Errorf("chain: header: %w", err)
	}
	return h, nil
}

// MaxHeaderBytes bounds an encoded header.
const MaxHeaderBytes = 1 << 10

// VRFInput is what the proposer's VRF is evaluated on, under DomainVRFInput.
func VRFInput(id ChainID, epoch, view uint64) []byte {
	return codec.Marshal(struct {
		_       struct{} `cbor:",toarray"`
		ChainID ChainID
		Epoch   uint64
		View    uint64
	}{ChainID: id, Epoch: epoch, View: view})
}

// Body is what travels with a header: encoded transactions, and bounded opaque
// bytes that staking decodes with package consensus.
type Body struct {
	_            struct{} `cbor:",toarray"`
	Txs          []codec.Raw
	Evidence     [][]byte
	Finalization []byte   // bitmap and signatures of a recent ancestor
	LateVotes    [][]byte // of recent views
}

// Block is a header and its body.
type Block struct {
	_      struct{} `cbor:",toarray"`
	Header Header
	Body   Body
}

// Encode returns the canonical bytes. The transactions are copied as they are: the
// codec would look at each again. A test holds it equal to the codec's.
func (b *Block) Encode() []byte {
	header := b.Header.Encode()
	size := len(header) + 64
	for _, raw := range b.Body.Txs {
		size += len(raw)
	}
	for _, list := range [][][]byte{b.Body.Evidence, {b.Body.Finalization}, b.Body.LateVotes} {
		for _, item := range list {
			size += len(item) + 5
		}
	}
	out := codec.AppendArray(make([]byte, 0, size), 2)
	out = append(out, header...)
	out = codec.AppendArray(out, 4)
	out = codec.AppendArray(out, len(b.Body.Txs))
	for _, raw := range b.Body.Txs {
		out = append(out, raw...)
	}
	out = appendItems(out, b.Body.Evidence)
	out = codec.AppendBytes(out, b.Body.Finalization)
	return appendItems(out, b.Body.LateVotes)
}

func appendItems(out []byte, items [][]byte) []byte {
	out = codec.AppendArray(out, len(items))
	for _, item := range items {
		out = codec.AppendBytes(out, item)
	}
	return out
}

// IsEmpty reports whether nobody waits for the block: it carries no transaction
// and no evidence. What it says of who voted is no reason not to idle.
func (b *Block) IsEmpty() bool {
	return len(b.Body.Txs)+len(b.Body.Evidence) == 0
}

// ExtraRoot returns the digest of the body's lists other than transactions.
func (b *Body) ExtraRoot() crypto.Digest {
	return crypto.DomainExtra.Hash(codec.Marshal(struct {
		_            struct{} `cbor:",toarray"`
		Evidence     [][]byte
		Finalization []byte
		LateVotes    [][]byte
	}{Evidence: b.Evidence, Finalization: b.Finalization, LateVotes: b.LateVotes}))
}

// DecodedBlock is a block of canonical form within its limits whose roots are
// those of its body. Its transactions' signatures have not been looked at.
type DecodedBlock struct {
	block  Block
	raw    []byte
	digest crypto.Digest
	txs    []DecodedTx
}

// Known looks a transaction up by its id among those already decoded and
// verified, so that a block's transactions are not decoded a second time.
type Known func(TxID) (*VerifiedTx, bool)

// DecodeBlock decodes canonical bytes, checks the form of every transaction
// that is not known, and that the header's roots are those of the body. A nil
// known knows none.
func DecodeBlock(raw []byte, known Known) (*DecodedBlock, error) {
	d := &DecodedBlock{raw: raw}
	if err := codec.Unmarshal(raw, &d.block, MaxBlockBytes); err != nil {
		return nil, fmt.Errorf("chain: block: %w", err)
	}
	body := &d.block.Body
	if len(body.Txs) > MaxBlockTxs {
		return nil, fmt.Errorf("chain: block: %w", limitError("transactions", len(body.Txs), MaxBlockTxs))
	}
	if err := checkExtra(body); err != nil {
		return nil, fmt.Errorf("chain: block: %w", err)
	}
	if err := d.decodeTxs(known); err != nil {
		return nil, fmt.Errorf("chain: block: %w", err)
	}
	if err := d.seal(); err != nil {
		return nil, fmt.Errorf("chain: block: %w", err)
	}
	return d, nil
}

// decodeTxs decodes the transactions of the body that are not known.
func (d *DecodedBlock) decodeTxs(known Known) error {
	raws := make([][]byte, len(d.block.Body.Txs))
	for i, raw := range d.block.Body.Txs {
		raws[i] = raw
	}
	ids := make([]TxID, len(raws))
	crypto.DomainTxID.HashMany(ids, raws)
	d.txs = make([]DecodedTx, len(raws))
	var unknown [][]byte
	var places []int
	for i, id := range ids {
		if known != nil {
			if v, ok := known(id); ok {
				d.txs[i] = v.DecodedTx
				continue
			}
		}
		unknown, places = append(unknown, raws[i]), append(places, i)
	}
	txs, errs := decodeTxs(unknown)
	for k, i := range places {
		if errs[k] != nil {
			return fmt.Errorf("transaction %d: %w", i, errs[k])
		}
		d.txs[i] = txs[k]
		d.txs[i].id = ids[i]
	}
	return nil
}

// seal checks that the header's roots are those of the body, and sets the digest.
func (d *DecodedBlock) seal() error {
	ids := make([]crypto.Digest, len(d.txs))
	for i := range d.txs {
		ids[i] = d.txs[i].id
	}
	h := &d.block.Header
	if root := ListRoot(crypto.DomainTxRoot, ids); root != h.TxRoot {
		return fmt.Errorf("transactions root is %s, header says %s", root.Short(), h.TxRoot.Short())
	}
	if root := d.block.Body.ExtraRoot(); root != h.ExtraRoot {
		return fmt.Errorf("extra root is %s, header says %s", root.Short(), h.ExtraRoot.Short())
	}
	d.digest = h.Digest()
	return nil
}

// Bare returns the canonical bytes of the block without its transactions: what
// AssembleBlock makes the block of, given them.
func (d *DecodedBlock) Bare() []byte {
	bare := d.block
	bare.Body.Txs = nil
	return bare.Encode()
}

// AssembleBlock returns the block of Bare's bytes and its transactions, in order.
// It checks what DecodeBlock checks.
func AssembleBlock(bare []byte, txs []DecodedTx) (*DecodedBlock, error) {
	d := &DecodedBlock{txs: txs}
	if err := codec.Unmarshal(bare, &d.block, MaxBlockBytes); err != nil {
		return nil, fmt.Errorf("chain: bare block: %w", err)
	}
	body := &d.block.Body
	size := len(bare)
	switch {
	case len(body.Txs) > 0:
		return nil, fmt.Errorf("chain: bare block: %w", limitError("transactions", len(body.Txs), 0))
	case len(txs) > MaxBlockTxs:
		return nil, fmt.Errorf("chain: bare block: %w", limitError("transactions", len(txs), MaxBlockTxs))
	}
	if err := checkExtra(body); err != nil {
		return nil, fmt.Errorf("chain: bare block: %w", err)
	}
	body.Txs = make([]codec.Raw, len(txs))
	for i := range txs {
		body.Txs[i] = txs[i].raw
		size += len(txs[i].raw)
	}
	if size > MaxBlockBytes {
		return nil, fmt.Errorf("chain: bare block: %w", limitError("bytes with its transactions", size, MaxBlockBytes))
	}
	if err := d.seal(); err != nil {
		return nil, fmt.Errorf("chain: bare block: %w", err)
	}
	if d.raw = d.block.Encode(); len(d.raw) > MaxBlockBytes {
		return nil, fmt.Errorf("chain: bare block: %w", limitError("bytes with its transactions", len(d.raw), MaxBlockBytes))
	}
	return d, nil
}

func checkExtra(b *Body) error {
	if len(b.Evidence) > maxExtraItems {
		return limitError("evidence", len(b.Evidence), maxExtraItems)
	}
	if len(b.LateVotes) > maxExtraItems {
		return limitError("late votes", len(b.LateVotes), maxExtraItems)
	}
	for _, list := range [][][]byte{b.Evidence, b.LateVotes, {b.Finalization}} {
		for _, item := range list {
			if len(item) > maxExtraItemBytes {
				return limitError("bytes of a consensus item", len(item), maxExtraItemBytes)
			}
		}
	}
	return nil
}

// Header returns the header; treat it as read-only.
func (d *DecodedBlock) Header() *Header { return &d.block.Header }

// Block returns the block; treat it as read-only.
func (d *DecodedBlock) Block() *Block { return &d.block }

// Raw returns the canonical bytes; treat them as read-only.
func (d *DecodedBlock) Raw() []byte { return d.raw }

// Digest returns the header's digest.
func (d *DecodedBlock) Digest() crypto.Digest { return d.digest }

// Txs returns the decoded transactions; treat them as read-only.
func (d *DecodedBlock) Txs() []DecodedTx { return d.txs }

// ListRoot returns the digest of a list under a domain: the domain's hash of
// its length and of the root of a binary Merkle tree over its items. An odd
// node rises unpaired (RFC 9162 §2.1.1 has the same shape).
func ListRoot(domain *crypto.Domain, items []crypto.Digest) crypto.Digest {
	level, in := make([]crypto.Digest, len(items)), make([][]byte, len(items))
	for i := range items {
		in[i] = items[i][:]
	}
	crypto.DomainMerkleLeaf.HashMany(level, in)
	joins := make([]crypto.Join, len(items)/2)
	for i := range joins {
		joins[i] = crypto.Join{Left: &level[2*i], Right: &level[2*i+1], To: &level[i]}
	}
	for len(level) > 1 {
		n := len(level) / 2
		crypto.DomainMerkleInner.HashJoins(joins[:n])
		if len(level)%2 == 1 {
			level[n] = level[len(level)-1]
			n++
		}
		level = level[:n]
	}
	var top crypto.Digest
	if len(level) == 1 {
		top = level[0]
	}
	return listTop(domain, uint64(len(items)), top)
}
