package chain

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// TxID identifies a transaction: the digest of its whole canonical bytes,
// signatures included.
type TxID = crypto.Digest

// TxBody is what a transaction's sender, and its fee payer if it has one, sign.
type TxBody struct {
	_        struct{} `cbor:",toarray"`
	ChainID  ChainID
	Sender   Address
	Nonce    uint64 // the sender's count of included transactions before this one
	Expiry   Height // the last height at which it may be included
	GasLimit Gas
	MaxFee   GasPrice // base fee and tip together never exceed it
	Tip      GasPrice
	FeePayer *Address // nil: the sender pays
	Messages Msgs     // 1 to MaxMessages; all or none take effect
	Memo     string   // ≤ MaxMemo bytes of UTF-8
}

// TxSignature is one signer's key and signature of the body under DomainTxBody.
type TxSignature struct {
	_         struct{} `cbor:",toarray"`
	Key       crypto.AccountKey
	Signature crypto.Signature
}

// Tx is a transaction: its body, and the signatures of the sender and then of
// the fee payer.
type Tx struct {
	_          struct{} `cbor:",toarray"`
	Body       TxBody
	Signatures TxSignatures
}

// TxSignatures is the list of signatures of a transaction.
type TxSignatures []TxSignature

// UnmarshalCBOR decodes at most two signatures.
func (s *TxSignatures) UnmarshalCBOR(data []byte) error {
	return unmarshalList(data, (*[]TxSignature)(s), "signatures", maxSignatures)
}

// Signer signs payloads with an account's key; package wallet has some.
type Signer interface {
	// AccountKey returns the public key, tagged.
	AccountKey() crypto.AccountKey
	// Sign signs the domain's digest of payload.
	Sign(domain *crypto.Domain, payload []byte) (crypto.Signature, error)
}

// SignTx returns the transaction with body signed by each signer in turn: the
// sender, then the fee payer if the body names one.
func SignTx(body TxBody, signers ...Signer) (Tx, error) {
	payload := codec.Marshal(body)
	tx := Tx{Body: body, Signatures: make([]TxSignature, len(signers))}
	for i, s := range signers {
		sig, err := s.Sign(crypto.DomainTxBody, payload)
		if err != nil {
			return Tx{}, fmt.Errorf("chain: signing as signer %d: %w", i, err)
		}
		tx.Signatures[i] = TxSignature{Key: s.AccountKey(), Signature: sig}
	}
	return tx, nil
}

// Encode returns the canonical bytes.
func (t Tx) Encode() []byte { return codec.Marshal(t) }

// Payer returns who pays the fee.
func (b *TxBody) Payer() Address {
	if b.FeePayer != nil {
		return *b.FeePayer
	}
	return b.Sender
}

// DecodedTx is a transaction of canonical form within its limits, together with
// its bytes and id. Its signatures have not been looked at.
type DecodedTx struct {
	tx   Tx
	raw  []byte
	id   TxID
	body int // bytes of the encoded body
}

// DecodeTx decodes canonical bytes and checks the form.
func DecodeTx(raw []byte) (DecodedTx, error) {
	txs, errs := DecodeTxs([][]byte{raw})
	return txs[0], errs[0]
}

// DecodeTxs is DecodeTx of each of many, which costs less: their ids and their
// signers' addresses are hashed together. Each has its id, also if it has an error.
func DecodeTxs(raws [][]byte) ([]DecodedTx, []error) {
	out, errs := decodeTxs(raws)
	ids := make([]TxID, len(raws))
	crypto.DomainTxID.HashMany(ids, raws)
	for i := range out {
		out[i].id = ids[i]
		if errs[i] != nil {
			errs[i] = fmt.Errorf("chain: transaction: %w", errs[i])
		}
	}
	return out, errs
}

// decodeTxs is DecodeTxs without the ids. What is refused is zero.
func decodeTxs(raws [][]byte) ([]DecodedTx, []error) {
	out, errs := make([]DecodedTx, len(raws)), make([]error, len(raws))
	keys := make([][]byte, 0, len(raws)+1)
	tags := make([]byte, 0, len(raws)*(1+crypto.PublicKeySize))
	var id ChainID // of the one before: usually all have the same
	for i, raw := range raws {
		out[i], errs[i] = decodeForm(raw, id)
		if errs[i] != nil {
			continue
		}
		id = out[i].tx.Body.ChainID
		for j := range out[i].tx.Signatures {
			from := len(tags)
			tags = appendTagged(tags, &out[i].tx.Signatures[j].Key)
			keys = append(keys, tags[from:])
		}
	}
	addresses := make([]crypto.Digest, len(keys))
	crypto.DomainAddress.HashMany(addresses, keys)
	for i := range out {
		if errs[i] != nil {
			continue
		}
		n := len(out[i].tx.Signatures)
		if errs[i] = out[i].tx.checkAddresses(addresses[:n]); errs[i] != nil {
			out[i] = DecodedTx{}
		}
		addresses = addresses[n:]
	}
	return out, errs
}

// decodeForm decodes one and checks all but that the signers' keys are those of the
// addresses.
func decodeForm(raw []byte, likely ChainID) (DecodedTx, error) {
	tx, body, ok := readTransfer(raw, likely)
	if !ok {
		tx = Tx{}
		if err := codec.Unmarshal(raw, &tx, MaxTxBytes); err != nil {
			return DecodedTx{}, err
		}
		body = len(raw) - 1 - len(codec.Marshal(tx.Signatures))
	}
	if err := tx.check(); err != nil {
		return DecodedTx{}, err
	}
	return DecodedTx{tx: tx, raw: raw, body: body}, nil
}

// payload returns what the signers signed: the canonical bytes of the body,
// which are the transaction's after the head of its two fields.
func (d *DecodedTx) payload() []byte {
	if d.body == 0 {
		return nil // it was refused: nobody signed it
	}
	return d.raw[1 : 1+d.body]
}

// Tx returns the transaction; treat it as read-only.
func (d *DecodedTx) Tx() *Tx { return &d.tx }

// ID returns the transaction's id.
func (d *DecodedTx) ID() TxID { return d.id }

// Raw returns the canonical bytes; treat them as read-only.
func (d *DecodedTx) Raw() []byte { return d.raw }

func (t *Tx) check() error {
	b := &t.Body
	if err := b.ChainID.Check(); err != nil {
		return err
	}
	if len(b.Messages) == 0 || len(b.Messages) > MaxMessages {
		return limitError("messages", len(b.Messages), MaxMessages)
	}
	if err := checkText("memo", b.Memo, MaxMemo); err != nil {
		return err
	}
	if b.MaxFee.Less(b.Tip) {
		return fmt.Errorf("%w: tip %d above max fee %d", ErrLimit, b.Tip.Nano(), b.MaxFee.Nano())
	}
	if b.FeePayer != nil && *b.FeePayer == b.Sender {
		return fmt.Errorf("%w: fee payer is the sender; leave it out", ErrLimit)
	}
	for i, m := range b.Messages {
		if err := checkMsg(m); err != nil {
			return fmt.Errorf("message %d: %w", i, err)
		}
	}
	return t.checkSigners()
}

// checkSigners demands one key for the sender and one for the fee payer, each one
// that may sign. Whether it is that of the address, checkAddresses says.
func (t *Tx) checkSigners() error {
	want := 1
	if t.Body.FeePayer != nil {
		want++
	}
	if len(t.Signatures) != want {
		return fmt.Errorf("%w: %d signatures, want %d", ErrLimit, len(t.Signatures), want)
	}
	for i := range t.Signatures {
		key, err := t.Signatures[i].Key.Ed25519()
		if err != nil {
			return fmt.Errorf("signature %d: %w", i, err)
		}
		if err := key.CheckEncoding(); err != nil {
			return fmt.Errorf("signature %d: %w", i, err)
		}
	}
	return nil
}

// checkAddresses demands that the signers' keys, which hash to these addresses, are
// those of the sender and the fee payer.
func (t *Tx) checkAddresses(signers []crypto.Digest) error {
	for i, signer := range signers {
		want := t.Body.Sender
		if i == 1 {
			want = *t.Body.FeePayer
		}
		if Address(signer) != want {
			return fmt.Errorf("signature %d: its key is not that of %s", i, want)
		}
	}
	return nil
}

// VerifiedTx is a transaction whose signatures verified. For the claims and deals that
// it carries it knows which of them every party signed. VerifyTxs makes it.
type VerifiedTx struct {
	DecodedTx
	inner map[int][]Signing // by message index: how claim i is signed; of a deal there is one
}

// Signing says whether all inner signatures of a claim or a deal verified, and of a claim, which is the first that did not. The zero
// value is that of one whose signatures nobody verified.
type Signing uint8

// AllSigned is the Signing of one whose inner signatures all verified. What comes after it names the bad one by its place.
const AllSigned Signing = 1

// ClaimsSigned tells for each claim of message i, which is a Settle, how its inner signatures verified.
func (v *VerifiedTx) ClaimsSigned(i int) []Signing { return v.inner[i] }

// DealSigned tells whether all inner signatures of message i, which carries a
// LeaseDeal or a UsageBatch, or is of a replicated run or of peers' reports, verified.
func (v *VerifiedTx) DealSigned(i int) bool {
	return len(v.inner[i]) == 1 && v.inner[i][0] == AllSigned
}

// VerifyTxs verifies the signatures of transactions: their own in one batch, and
// then in another those of the claims that the good ones carry, so that nobody
// has claims verified in another's name. It returns for each a VerifiedTx, or
// nil if a signature of the transaction itself does not verify. A claim's bad
// inner signature leaves the transaction valid: the claim alone is rejected.
func VerifyTxs(txs []DecodedTx, parallelism int) []*VerifiedTx {
	all := make([]*DecodedTx, len(txs))
	for i := range txs {
		all[i] = &txs[i]
	}
	return VerifyTxsOf(nil, all, parallelism)
}

// VerifyTxsOf is VerifyTxs with a cache of the senders' keys.
func VerifyTxsOf(keys *crypto.KeyCache, txs []*DecodedTx, parallelism int) []*VerifiedTx {
	out := make([]*VerifiedTx, len(txs))
	payloads, digests := make([][]byte, len(txs)), make([]crypto.Digest, len(txs))
	for i := range txs {
		payloads[i] = txs[i].payload()
	}
	crypto.DomainTxBody.HashMany(digests, payloads)
	items := make([]crypto.Signed, 0, len(txs))
	for i := range txs {
		for j := range txs[i].tx.Signatures {
			s := &txs[i].tx.Signatures[j]
			items = append(items, crypto.Signed{Key: crypto.PublicKey(s.Key.Key), Digest: digests[i], Signature: s.Signature})
		}
	}
	verdicts := keys.VerifyBatch(items, parallelism)
	for i := range txs {
		n := len(txs[i].tx.Signatures)
		if allTrue(verdicts[:n]) {
			out[i] = &VerifiedTx{DecodedTx: *txs[i]}
		}
		verdicts = verdicts[n:]
	}
	verifyInner(out, parallelism)
	return out
}

// signedWithin lists what is signed within a message: the signatures of each claim, or of
// a deal. The form was checked on decoding, so that the consumers' keys parse.
func signedWithin(m Msg) [][]crypto.Signed {
	var list [][]crypto.Signed
	add := func(signed []crypto.Signed, err error) {
		if err != nil {
			signed = nil // never verified
		}
		list = append(list, signed)
	}
	switch m := m.(type) {
	case Settle:
		for i := range m.Claims {
			add(m.Claims[i].signatures())
		}
	case OpenLease:
		add(m.Deal.signatures())
	case ResizeLease:
		add(m.Deal.signatures())
	case SettleBatch:
		add(m.Batch.signatures())
	case BeginRun:
		add(m.signatures())
	case CommitRun:
		add(m.signatures())
	case RevealRun:
		add(m.signatures())
	case ReportAcceptance:
		add(m.signatures(), nil)
	case ReportMiss:
		add(m.signatures())
	case AccusePeer:
		add(m.signatures())
	case ReportHardware:
		add(m.signatures())
	case AnnounceHome:
		add(m.signatures())
	case Transfer, RegisterProvider, UnbondProvider, RegisterCluster, UnbondCluster, Deposit, Withdraw,
		Bond, Delegate, Undelegate, Redelegate, WithdrawRewards, SetCommission, RotateKeys, Unjail, Affiliate, Unaffiliate, ReportEvidence,
		ExtendLease, CloseLease, CollectLease, OpenChannel, FundChannel, RedeemVoucher, CloseChannel,
		AddBond, CommitVote, RevealVote, Challenge, Appeal, RegisterMeter, CollectRun, DrawPeers, LeaveLease, DeclareHardware,
		StoreCode, InstantiateContract, ExecuteContract, MigrateContract, SetContractAdmin, PinCode:
	}
	return list
}

// verifyInner fills in which claims and deals of the transactions are fully signed; nil
// transactions are passed over.
func verifyInner(txs []*VerifiedTx, parallelism int) {
	var groups []signedGroup
	signatures, messages := 0, 0
	for _, v := range txs {
		if v == nil {
			continue
		}
		for j, m := range v.tx.Body.Messages {
			within := signedWithin(m)
			if len(within) == 0 {
				continue
			}
			if v.inner == nil {
				v.inner = map[int][]Signing{}
			}
			v.inner[j] = make([]Signing, len(within))
			_, named := m.(Settle)
			messages++
			for k, signed := range within {
				if len(signed) > 0 {
					groups = append(groups, signedGroup{verdict: &v.inner[j][k], signatures: signed, message: messages, named: named})
					signatures += len(signed)
				}
			}
		}
	}
	parts := max((signatures+innerBatch-1)/innerBatch, min(parallelism, signatures/(2*innerShare)))
	crypto.ForkJoin(parts, parallelism, func(p int) {
		decideGroups(groups[p*len(groups)/parts : (p+1)*len(groups)/parts])
	})
}

// How many inner signatures are verified together: no more, and no fewer for the sake of
// another core.
const (
	innerBatch = 1_000
	innerShare = 16
)

// signedGroup is what the parties of a claim or a deal signed.
type signedGroup struct {
	verdict    *Signing
	signatures []crypto.Signed
	message    int  // that it is of
	named      bool // it is said which is bad: of a claim, whose price is that of its signatures one by one
}

// decideGroups verifies the signatures of groups together. If one is bad, it verifies those of each
// message together, whose sender pays for it, and if one of these is bad, those of
// each group, or of a claim one by one up to the first bad one, which is told. So whoever
// forges one has others' verified twice, and their own once more.
func decideGroups(groups []signedGroup) {
	if allSigned(groups) {
		return
	}
	for len(groups) > 0 {
		n := 1
		for n < len(groups) && groups[n].message == groups[0].message {
			n++
		}
		if n == 1 || !allSigned(groups[:n]) {
			for _, g := range groups[:n] {
				if g.named {
					*g.verdict = signingOf(g.signatures)
				} else if crypto.AllVerify(g.signatures) {
					*g.verdict = AllSigned
				}
			}
		}
		groups = groups[n:]
	}
}

// allSigned verifies the signatures of groups together, and says so of each if all are good.
func allSigned(groups []signedGroup) bool {
	var all []crypto.Signed
	for _, g := range groups {
		all = append(all, g.signatures...)
	}
	if !crypto.AllVerify(all) {
		return false
	}
	for _, g := range groups {
		*g.verdict = AllSigned
	}
	return true
}

// signingOf verifies a claim's signatures up to the first bad one.
func signingOf(signatures []crypto.Signed) Signing {
	for i := range signatures {
		if !crypto.AllVerify(signatures[i : i+1]) {
			return AllSigned + 1 + Signing(i)
		}
	}
	return AllSigned
}

func allTrue(bs []bool) bool {
	for _, b := range bs {
		if !b {
			return false
		}
	}
	return true
}
