package chain

import (
	"math"
	"unicode/utf8"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// The forms of a claim are encoded for every signature that is verified, and read from
// every transaction that settles, so often that reflection's price shows (BenchmarkClaims):
// these are written and read by hand. Tests hold them equal to the codec's.

const cborNull = 0xf6

func appendPrices(dst []byte, prices []UnitPrice) []byte {
	dst = codec.AppendArray(dst, len(prices))
	for _, p := range prices {
		dst = codec.AppendUint(codec.AppendUint(codec.AppendArray(dst, 2), uint64(p.Resource)), p.Price)
	}
	return dst
}

func (o *Order) append(dst []byte) []byte {
	dst = codec.AppendText(codec.AppendArray(dst, 14), string(o.ChainID))
	dst = codec.AppendUint(codec.AppendArray(dst, 2), uint64(o.Consumer.Scheme))
	dst = codec.AppendUint(codec.AppendBytes(dst, o.Consumer.Key), o.Nonce)
	dst = codec.AppendBytes(codec.AppendBytes(dst, o.Cluster[:]), o.Spec[:])
	if _, none := o.Policy.Policy.(PolicyNone); none {
		dst = append(dst, policyNone...)
	} else {
		dst = append(dst, codec.Marshal(o.Policy)...)
	}
	dst = appendPrices(dst, o.Caps)
	dst = codec.AppendUint(codec.AppendUint(dst, o.FixedCap.nano), o.MaxCost.nano)
	dst = codec.AppendUint(dst, uint64(o.Deadline))
	if o.Term == nil {
		dst = append(dst, cborNull)
	} else {
		dst = append(dst, codec.Marshal(o.Term)...)
	}
	return codec.AppendUint(codec.AppendBool(codec.AppendBool(dst, o.Fair), o.Countersignable), uint64(o.PriorityBps))
}

// policyNone is the encoding of PolicyNone in a PolicyField.
var policyNone = codec.Marshal(PolicyField{Policy: PolicyNone{}})

func (a *Acceptance) append(dst []byte) []byte {
	dst = codec.AppendText(codec.AppendArray(dst, 5), string(a.ChainID))
	dst = codec.AppendBytes(codec.AppendBytes(dst, a.Order[:]), a.Cluster[:])
	return codec.AppendUint(codec.AppendUint(dst, a.Sequence), a.Outstanding.nano)
}

func (b *Bid) append(dst []byte) []byte {
	dst = codec.AppendText(codec.AppendArray(dst, 6), string(b.ChainID))
	dst = appendPrices(codec.AppendBytes(codec.AppendBytes(dst, b.Order[:]), b.Node[:]), b.Prices)
	return codec.AppendUint(codec.AppendUint(dst, b.Fixed.nano), uint64(b.Expiry))
}

func (r *UsageReceipt) append(dst []byte) []byte {
	dst = codec.AppendText(codec.AppendArray(dst, 14), string(r.ChainID))
	dst = codec.AppendUint(codec.AppendBytes(codec.AppendBytes(dst, r.Order[:]), r.Node[:]), r.Sequence)
	dst = codec.AppendBytes(codec.AppendUint(appendUsage(dst, r.Usage), r.Fuel), r.Result[:])
	dst = codec.AppendArray(dst, len(r.Outputs))
	for i := range r.Outputs {
		dst = codec.AppendBytes(dst, r.Outputs[i][:])
	}
	dst = codec.AppendUint(codec.AppendUint(dst, uint64(r.Started)), uint64(r.Ended))
	dst = codec.AppendUint(codec.AppendUint(dst, uint64(r.Exit)), uint64(r.ExitCode))
	if r.Sealed == nil {
		dst = append(dst, cborNull)
	} else {
		dst = codec.AppendBytes(codec.AppendBytes(codec.AppendArray(dst, 2), r.Sealed.Output[:]), r.Sealed.KeyHash[:])
	}
	if r.Trace == nil {
		return append(dst, cborNull)
	}
	return codec.AppendBytes(codec.AppendBytes(codec.AppendArray(dst, 2), r.Trace.Runs[:]), r.Trace.Panels[:])
}

func appendUsage(dst []byte, usage []Usage) []byte {
	dst = codec.AppendArray(dst, len(usage))
	for _, u := range usage {
		dst = codec.AppendUint(codec.AppendArray(dst, 3), uint64(u.Resource))
		dst = codec.AppendUint(codec.AppendUint(dst, u.Amount), u.DurationMs)
	}
	return dst
}

func (e ClaimSettled) append(dst []byte) []byte {
	dst = codec.AppendBytes(codec.AppendBytes(codec.AppendArray(dst, 18), e.Order[:]), e.Node[:])
	dst = codec.AppendBytes(codec.AppendUint(dst, uint64(e.Sequence)), e.Consumer[:])
	dst = codec.AppendBytes(codec.AppendBytes(dst, e.Provider[:]), e.Cluster[:])
	dst = codec.AppendBytes(codec.AppendText(dst, e.Policy), e.Result[:])
	dst = codec.AppendUint(dst, uint64(e.Exit))
	for _, part := range [...]Amount{e.Cost, e.Paid, e.Burned, e.Treasury, e.ClusterFee, e.PriorityBurned, e.PriorityFee} {
		dst = codec.AppendUint(dst, part.nano)
	}
	return appendRecords(codec.AppendBool(dst, e.ProofVerified), e.Records)
}

func appendRecords(dst []byte, records []ResourceTransaction) []byte {
	dst = codec.AppendArray(dst, len(records))
	for i := range records {
		r := &records[i]
		dst = codec.AppendUint(codec.AppendBytes(codec.AppendArray(dst, 8), r.NodeID[:]), uint64(r.ResourceType))
		dst = codec.AppendUint(codec.AppendUint(codec.AppendUint(dst, r.Amount), r.DurationMs), uint64(r.PricePerUnit))
		dst = codec.AppendBytes(codec.AppendBytes(dst, r.Consumer[:]), r.Provider[:])
		dst = codec.AppendUint(dst, uint64(r.Timestamp))
	}
	return dst
}

// claimReader reads claims. What it does not know, it leaves to the codec: bad says so.
type claimReader struct {
	*codec.Reader
	likely ChainID
	bad    bool
}

// within reads an unsigned integer up to a limit.
func (r *claimReader) within(limit uint64) uint64 {
	n := r.Uint()
	r.bad = r.bad || n > limit
	return n
}

func (r *claimReader) chainID() ChainID {
	id := ChainID(r.LikelyText(maxChainID, string(r.likely)))
	r.bad = r.bad || id != r.likely && !utf8.ValidString(string(id))
	return id
}

func (r *claimReader) prices() []UnitPrice {
	list := make([]UnitPrice, r.Length(len(Resources)))
	for i := range list {
		r.Array(2)
		list[i].Resource, list[i].Price = Resource(r.within(math.MaxUint8)), r.Uint()
	}
	return list
}

// settle reads the body of a Settle whose orders are all under PolicyNone.
func (r *claimReader) settle() Settle {
	r.Array(1)
	m := Settle{Claims: make(Claims, r.Length(MaxClaims))}
	for i := range m.Claims {
		c := &m.Claims[i]
		r.Array(12)
		r.order(&c.Order)
		r.Fixed(c.OrderSig[:])
		r.acceptance(&c.Acceptance)
		r.Fixed(c.AcceptanceSig[:])
		r.bid(&c.Bid)
		r.Fixed(c.BidSig[:])
		r.receipt(&c.Receipt)
		r.Fixed(c.ReceiptSig[:])
		r.Fixed(c.Attestation[:])
		c.Proof = r.Bytes(MaxProof)
		c.Countersigned = r.Bool()
		if !r.Null() {
			c.OutputKey = &OutputKey{}
			r.Fixed(c.OutputKey[:])
		}
	}
	return m
}

func (r *claimReader) order(o *Order) {
	r.Array(14)
	o.ChainID = r.chainID()
	r.Array(2)
	o.Consumer.Scheme = crypto.Scheme(r.within(math.MaxUint8))
	o.Consumer.Key = r.Bytes(crypto.PublicKeySize)
	o.Nonce = r.Uint()
	r.Fixed(o.Cluster[:])
	r.Fixed(o.Spec[:])
	r.Array(2)
	r.bad = r.bad || r.Uint() != uint64(kindPolicyNone)
	r.Array(0)
	o.Policy.Policy = PolicyNone{}
	o.Caps = r.prices()
	o.FixedCap, o.MaxCost, o.Deadline = Amount{r.Uint()}, Amount{r.Uint()}, TimeMs(r.Uint())
	r.bad = r.bad || !r.Null()
	o.Fair, o.Countersignable = r.Bool(), r.Bool()
	o.PriorityBps = PriorityFee(r.within(math.MaxUint16))
}

func (r *claimReader) acceptance(a *Acceptance) {
	r.Array(5)
	a.ChainID = r.chainID()
	r.Fixed(a.Order[:])
	r.Fixed(a.Cluster[:])
	a.Sequence, a.Outstanding = r.Uint(), Amount{r.Uint()}
}

func (r *claimReader) bid(b *Bid) {
	r.Array(6)
	b.ChainID = r.chainID()
	r.Fixed(b.Order[:])
	r.Fixed(b.Node[:])
	b.Prices = r.prices()
	b.Fixed, b.Expiry = Amount{r.Uint()}, TimeMs(r.Uint())
}

func (r *claimReader) receipt(u *UsageReceipt) {
	r.Array(14)
	u.ChainID = r.chainID()
	r.Fixed(u.Order[:])
	r.Fixed(u.Node[:])
	u.Sequence = r.Uint()
	u.Usage = make([]Usage, r.Length(len(Resources)))
	for i := range u.Usage {
		r.Array(3)
		u.Usage[i] = Usage{Resource: Resource(r.within(math.MaxUint8)), Amount: r.Uint(), DurationMs: r.Uint()}
	}
	u.Fuel = r.Uint()
	r.Fixed(u.Result[:])
	u.Outputs = make([]FieldBytes, r.Length(MaxFields))
	for i := range u.Outputs {
		r.Fixed(u.Outputs[i][:])
	}
	u.Started, u.Ended = TimeMs(r.Uint()), TimeMs(r.Uint())
	u.Exit, u.ExitCode = ExitStatus(r.within(math.MaxUint8)), uint32(r.within(math.MaxUint32))
	if !r.Null() {
		u.Sealed = &SealedOutput{}
		r.Array(2)
		r.Fixed(u.Sealed.Output[:])
		r.Fixed(u.Sealed.KeyHash[:])
	}
	r.bad = r.bad || !r.Null() // a trace: none under PolicyNone
}
