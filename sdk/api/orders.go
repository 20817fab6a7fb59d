package api

import (
	"errors"
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// Bounds of the body of POST /v1/orders.
const (
	MaxOrders      = 512
	MaxOrdersBytes = 1 << 20
)

// SignedOrder is an order and its consumer's signature of it.
type SignedOrder struct {
	_         struct{} `cbor:",toarray"`
	Order     chain.Order
	Signature crypto.Signature
}

// Orders is the body of POST /v1/orders: orders of one consumer, and the
// specifications that they name by digest, each once. Its form is canonical
// CBOR, [[specification, …], [[order, signature], …]], of the same bytes that are
// hashed and signed.
type Orders struct {
	_     struct{}      `cbor:",toarray"`
	Specs []job.Spec    // each named by an order
	List  []SignedOrder // 1 to MaxOrders
}

// Encode returns the body.
func (o *Orders) Encode() []byte { return codec.Marshal(o) }

// DecodeOrders reads a body of POST /v1/orders and returns it with the digest of
// each specification. The error, a *FieldError, is about what all orders depend
// on: whether each of them holds for itself is not looked at.
func DecodeOrders(body []byte) (o Orders, digests []crypto.Digest, err error) {
	var parts struct {
		_           struct{} `cbor:",toarray"`
		Specs, List codec.Raw
	}
	if err := codec.Unmarshal(body, &parts, MaxOrdersBytes); err != nil {
		return Orders{}, nil, &FieldError{Message: err.Error()}
	}
	if err := decodeList(parts.Specs, "specs", &o.Specs); err != nil {
		return Orders{}, nil, err
	}
	if err := decodeList(parts.List, "orders", &o.List); err != nil {
		return Orders{}, nil, err
	}
	named := make(map[crypto.Digest]bool, len(o.Specs))
	for i := range o.List {
		named[o.List[i].Order.Spec] = true
		if o.List[i].Order.ConsumerAddress() != o.List[0].Order.ConsumerAddress() {
			return Orders{}, nil, &FieldError{Location: fmt.Sprintf("orders[%d]", i), Message: "is of another consumer than the first"}
		}
	}
	digests = make([]crypto.Digest, len(o.Specs))
	for i := range o.Specs {
		digests[i] = o.Specs[i].Digest()
		if !named[digests[i]] {
			return Orders{}, nil, &FieldError{Location: fmt.Sprintf("specs[%d]", i), Message: "no order names it, or it is there twice"}
		}
		delete(named, digests[i])
	}
	return o, digests, nil
}

// decodeList decodes a list whose length is looked at before it is made.
func decodeList[T any](raw []byte, at string, out *[]T) error {
	list, err := codec.UnmarshalList[T](raw, MaxOrders, MaxOrdersBytes)
	if err == nil && len(list) == 0 {
		err = errors.New("is empty")
	}
	if err != nil {
		return &FieldError{Location: at, Message: err.Error()}
	}
	*out = list
	return nil
}

// Rules of an OrderVerdict, beside those of the scheduler.
const (
	RuleForm      = "form"      // the order is outside its bounds, or lacks its specification
	RuleSignature = "signature" // it is not the consumer's
	RuleInputs    = "inputs"    // a blob is not there, or of another size
	RuleBusy      = "busy"      // the cluster cannot take it now
)

// OrderVerdict says what became of one order of POST /v1/orders.
type OrderVerdict struct {
	_      struct{} `cbor:",toarray"`
	ID     crypto.Digest
	Rule   string // that it broke, short and stable; empty: it is accepted, which is durable
	Reason string // for people
}

// Again reports whether the same order may be accepted a little later.
func (v *OrderVerdict) Again() bool {
	switch v.Rule {
	case RuleBusy, "full", "quota", "stale":
		return true
	}
	return false
}

// maxVerdictBytes bounds one verdict.
const maxVerdictBytes = 1_024

// EncodeOrderVerdicts returns the answer to POST /v1/orders: the canonical CBOR
// array of the orders' [id, rule, reason].
func EncodeOrderVerdicts(list []OrderVerdict) []byte { return codec.Marshal(list) }

// DecodeOrderVerdicts reads what EncodeOrderVerdicts wrote.
func DecodeOrderVerdicts(body []byte) (list []OrderVerdict, err error) {
	err = codec.Unmarshal(body, &list, MaxOrders*maxVerdictBytes)
	return list, err
}
