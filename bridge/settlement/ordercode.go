package settlement

import (
	"math"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/state"
)

// The records of orders, as claims under PolicyNone leave them, and of nodes are read and
// written by hand like those of leases and escrows.

const cborNull = 0xf6

// policyNone is the encoding of chain.PolicyNone.
var policyNone = codec.Marshal(chain.PolicyField{Policy: chain.PolicyNone{}})

func encodeOrder(o *Order) []byte {
	_, plain := o.Policy.Policy.(chain.PolicyNone)
	if !plain || o.First != nil && (o.First.Pending != nil || len(o.First.Records) > 0) {
		return codec.Marshal(*o)
	}
	dst := codec.AppendArray(make([]byte, 0, 320+48*len(o.Assignments)), 13)
	dst = append(codec.AppendBytes(codec.AppendBytes(dst, o.Consumer[:]), o.Cluster[:]), policyNone...)
	dst = codec.AppendUint(codec.AppendUint(dst, o.MaxCost.Nano()), uint64(o.Deadline))
	dst = codec.AppendUint(codec.AppendUint(dst, uint64(o.Expires)), o.Spent.Nano())
	dst = codec.AppendArray(codec.AppendBool(dst, o.Closed), len(o.Assignments))
	for i := range o.Assignments {
		a := &o.Assignments[i]
		dst = codec.AppendBytes(codec.AppendArray(dst, 3), a.Node[:])
		dst = codec.AppendUint(codec.AppendUint(dst, a.Next), a.Last)
	}
	dst = codec.AppendUint(codec.AppendUint(dst, uint64(o.Finding)), uint64(o.Payees))
	if o.First == nil {
		dst = append(dst, cborNull)
	} else {
		dst = o.First.append(dst)
	}
	return codec.AppendUint(dst, uint64(o.PriorityBps))
}

// append appends the encoding of a claim that is not pending, without records.
func (c *Claim) append(dst []byte) []byte {
	dst = codec.AppendBytes(codec.AppendBytes(codec.AppendArray(dst, 19), c.Node[:]), c.Provider[:])
	dst = codec.AppendBytes(codec.AppendUint(dst, c.Sequence), c.Result[:])
	dst = codec.AppendUint(codec.AppendUint(dst, uint64(c.Exit)), uint64(c.Height))
	dst = append(dst, cborNull)
	for _, part := range [...]chain.Amount{c.Cost, c.Paid, c.Burned, c.Treasury, c.ClusterFee, c.PriorityBurned, c.PriorityFee} {
		dst = codec.AppendUint(dst, part.Nano())
	}
	dst = codec.AppendUint(codec.AppendArray(codec.AppendBool(dst, c.ProofVerified), 0), uint64(c.Refuted))
	dst = codec.AppendUint(dst, c.Lost.Nano())
	if c.OutputKey == nil {
		return append(dst, cborNull)
	}
	return codec.AppendBytes(dst, c.OutputKey[:])
}

func decodeOrder(key, value []byte) Order {
	if o, ok := readOrder(value); ok {
		return o
	}
	return state.Decode[Order](key, value)
}

func readOrder(value []byte) (o Order, ok bool) {
	r := codec.NewReader(value)
	r.Array(13)
	r.Fixed(o.Consumer[:])
	r.Fixed(o.Cluster[:])
	r.Array(2)
	fits := r.Uint() == 1 // the kind of chain.PolicyNone
	r.Array(0)
	o.Policy.Policy = chain.PolicyNone{}
	o.MaxCost = chain.Nano(r.Uint())
	o.Deadline, o.Expires = chain.TimeMs(r.Uint()), chain.TimeMs(r.Uint())
	o.Spent = chain.Nano(r.Uint())
	o.Closed = r.Bool()
	o.Assignments = make([]Assignment, r.Length(MaxOrderClaims))
	for i := range o.Assignments {
		a := &o.Assignments[i]
		r.Array(3)
		r.Fixed(a.Node[:])
		a.Next, a.Last = r.Uint(), r.Uint()
	}
	finding, payees := r.Uint(), r.Uint()
	o.Finding, o.Payees = chain.RunFinding(finding), uint8(payees)
	fits = fits && finding <= math.MaxUint8 && payees <= math.MaxUint8
	if !r.Null() {
		o.First = &Claim{}
		fits = readClaim(r, o.First) && fits
	}
	priority := r.Uint()
	o.PriorityBps = chain.PriorityFee(priority)
	return o, r.Done() && fits && priority <= math.MaxUint16
}

func readClaim(r *codec.Reader, c *Claim) (fits bool) {
	r.Array(19)
	r.Fixed(c.Node[:])
	r.Fixed(c.Provider[:])
	c.Sequence = r.Uint()
	r.Fixed(c.Result[:])
	exit := r.Uint()
	c.Exit, c.Height = chain.ExitStatus(exit), chain.Height(r.Uint())
	fits = exit <= math.MaxUint8 && r.Null()
	for _, part := range []*chain.Amount{&c.Cost, &c.Paid, &c.Burned, &c.Treasury, &c.ClusterFee, &c.PriorityBurned, &c.PriorityFee} {
		*part = chain.Nano(r.Uint())
	}
	c.ProofVerified = r.Bool()
	r.Array(0)
	c.Records = []chain.ResourceTransaction{}
	refuted := r.Uint()
	c.Refuted = Refutation(refuted)
	fits = fits && refuted <= math.MaxUint8
	c.Lost = chain.Nano(r.Uint())
	if !r.Null() {
		c.OutputKey = &chain.OutputKey{}
		r.Fixed(c.OutputKey[:])
	}
	return fits
}
