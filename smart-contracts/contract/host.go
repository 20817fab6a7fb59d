package contract

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/smart-contracts/cosmwasm"
)

// Host is the rest of the chain, which contracts reach by custom messages and queries.
type Host interface {
	// Message does a message of the chain, which is of its form, as if from had sent it,
	// with so much gas. The layer is of no use any more if it is refused.
	Message(layer *state.Overlay, from chain.Address, m chain.Msg, gas uint64) Result
	// Query answers a question with what is written as JSON; it is nil, and all gas used, if
	// that is not enough.
	Query(r state.Reader, q Question, gas uint64) (answer any, used uint64)
}

// Question is what contracts ask the chain beside CosmWasm's queries.
type Question interface{ question() }

// AskEscrow asks what a consumer has in escrow at a cluster: an EscrowAnswer.
type AskEscrow struct {
	Consumer chain.Address
	Cluster  crypto.PublicKey
}

// AskOrder asks what became of an order: an OrderAnswer.
type AskOrder struct{ Order crypto.Digest }

// AskLease asks what a node keeps for a consumer: a LeaseAnswer.
type AskLease struct{ Lease chain.LeaseID }

// AskNode asks what a provider's node is, and what settlements say of it: a NodeAnswer.
type AskNode struct{ Node crypto.PublicKey }

// AskProof asks whether a proof shows what it is said to: a ProofAnswer.
type AskProof struct {
	Kernel          string
	Inputs, Outputs []chain.FieldBytes
	Bind            chain.FieldBytes
	Proof           []byte
}

func (AskEscrow) question() {}
func (AskOrder) question()  {}
func (AskLease) question()  {}
func (AskNode) question()   {}
func (AskProof) question()  {}

// EscrowAnswer is what a consumer has in escrow.
type EscrowAnswer struct {
	Balance string `json:"balance"` // in nHYPER
}

// OrderAnswer is what became of an order.
type OrderAnswer struct {
	Order *OrderState `json:"order"` // null: it had no claim yet, or is past its claim window
}

// OrderState is an order with its claims, by node and sequence.
type OrderState struct {
	Consumer chain.Address    `json:"consumer"`
	Cluster  crypto.PublicKey `json:"cluster"`
	Policy   string           `json:"policy"`
	MaxCost  string           `json:"max_cost"`
	Spent    string           `json:"spent"`
	Deadline string           `json:"deadline_ms"`
	Closed   bool             `json:"closed"` // it is paid in full
	Claims   []ClaimState     `json:"claims"`
}

// ClaimState is a claim that was in order.
type ClaimState struct {
	Node     crypto.PublicKey `json:"node"`
	Provider chain.Address    `json:"provider"`
	Sequence string           `json:"sequence"`
	Result   crypto.Digest    `json:"result"`
	Exit     string           `json:"exit"`
	Settled  bool             `json:"settled"`  // it was paid, all of it
	Verified bool             `json:"verified"` // and a proof, or others who ran the same, show the result
	Cost     string           `json:"cost"`
}

// LeaseAnswer is what a node keeps for a consumer.
type LeaseAnswer struct {
	Lease *LeaseState `json:"lease"` // null: there is none, or it is over
}

// LeaseState is a lease.
type LeaseState struct {
	Consumer chain.Address    `json:"consumer"`
	Provider chain.Address    `json:"provider"`
	Cluster  crypto.PublicKey `json:"cluster"`
	Terms    crypto.Digest    `json:"terms"`   // the order whose terms hold
	Rate     string           `json:"rate"`    // 10⁻¹⁸ HYPER per second
	Held     string           `json:"held"`    // what is left of the time from PaidTo on
	PaidTo   string           `json:"paid_ms"` // up to which the provider was paid
	Expires  string           `json:"expires_ms"`
	Closing  bool             `json:"closing"` // notice was given: it ends then
}

// NodeAnswer is what is known of a provider's node.
type NodeAnswer struct {
	Node *NodeState `json:"node"` // null: it was never registered
}

// NodeState is a provider's node.
type NodeState struct {
	Owner chain.Address `json:"owner"`
	Bond  string        `json:"bond"`
	Score string        `json:"score"` // of its reputation, in parts of a million: 500000 of whoever is not known
}

// ProofAnswer says whether a proof holds.
type ProofAnswer struct {
	Valid bool `json:"valid"`
}

// Number writes an integer as contracts read it.
func Number(n uint64) string { return strconv.FormatUint(n, 10) }

// custom does a message of this chain alone.
func (r *run) custom(f *frame, from chain.Address, raw cosmwasm.Raw) (done cosmwasm.MsgResponse, why *failure) {
	read, why := r.opened(f, raw)
	if why != nil {
		return done, why
	}
	var m chain.Msg
	ok := false
	if read != nil {
		m, ok = read.message()
	}
	if !ok || r.env.Host == nil {
		return done, unsupported("such custom message")
	}
	if err := chain.CheckMsg(m); err != nil {
		return done, fail(spaceOurs, oursRefused, "%s: %s", chain.KindOf(m), err)
	}
	did := r.env.Host.Message(f.layer, from, m, f.tank.left())
	if !f.tank.take(did.Gas) || did.Spent {
		f.tank.used = f.tank.limit
		return done, outOf(f.tank)
	}
	if did.Why != nil {
		return done, fail(spaceOurs, oursRefused, "%s: %s", chain.KindOf(m), did.Why.Reason())
	}
	for _, e := range did.Events {
		if why := r.emit(f, e, 0); why != nil {
			return done, why
		}
	}
	return cosmwasm.MsgResponse{TypeURL: "/hypermesh." + chain.KindOf(m)}, nil
}

// customQuery answers a query of this chain alone.
func (r *run) customQuery(f *frame, raw cosmwasm.Raw) (cosmwasm.Reached, *failure) {
	read, why := r.opened(f, raw)
	if why != nil {
		return nil, why
	}
	var q Question
	ok := false
	if read != nil {
		q, ok = read.question()
	}
	if !ok || r.env.Host == nil {
		return lacking("custom"), nil
	}
	answer, used := r.env.Host.Query(f.layer, q, f.tank.left())
	if !f.tank.take(used) || answer == nil {
		f.tank.used = f.tank.limit
		return nil, outOf(f.tank)
	}
	data, err := json.Marshal(answer)
	if err != nil {
		panic("contract: an answer that cannot be written: " + err.Error())
	}
	return answered(data), nil
}

// reader reads the fields of a custom message, of which none is left out, none is unknown,
// and, since the whole was read as a Raw, none stands twice.
type reader struct {
	name   string
	fields map[string]json.RawMessage
	bad    bool
}

// maxCustomBytes is the longest custom text that is read: a proof of 4 KiB with its fields fits.
const maxCustomBytes = 8 << 10

// opened reads {name: {fields}}, once, and for gas; it is nil if the text is of another form.
func (r *run) opened(f *frame, raw cosmwasm.Raw) (*reader, *failure) {
	text := raw.String()
	if len(text) > maxCustomBytes {
		return nil, nil
	}
	if !f.tank.take(r.toRead(len(text))) {
		return nil, outOf(f.tank)
	}
	return openCustom(text), nil
}

// toRead is what reading so many bytes of JSON costs in gas.
func (r *run) toRead(bytes int) uint64 {
	return (uint64(bytes)*answerPoints + r.env.Prices.Points - 1) / r.env.Prices.Points
}

func openCustom(text string) *reader {
	var whole, inner map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &whole) != nil || len(whole) != 1 {
		return nil
	}
	for name, fields := range whole { // order-free: it is the one
		if json.Unmarshal(fields, &inner) == nil {
			return &reader{name: name, fields: inner}
		}
	}
	return nil
}

// has says whether these are the fields.
func (r *reader) has(fields ...string) bool {
	if len(r.fields) != len(fields) {
		return false
	}
	for _, field := range fields {
		if v := r.fields[field]; v == nil || string(v) == "null" {
			return false
		}
	}
	return true
}

// into reads a field that is a JSON value of a type.
func into[T any](r *reader, field string) (v T) {
	if json.Unmarshal(r.fields[field], &v) != nil {
		r.bad = true
	}
	return v
}

func (r *reader) digest(field string) crypto.Digest {
	d, err := crypto.ParseDigest(into[string](r, field))
	r.bad = r.bad || err != nil
	return d
}

func (r *reader) key(field string) crypto.PublicKey {
	k, err := crypto.ParsePublicKey(into[string](r, field))
	r.bad = r.bad || err != nil
	return k
}

func (r *reader) address(field string) chain.Address {
	a, why := addressIn(into[string](r, field))
	r.bad = r.bad || why != nil
	return a
}

// number reads an integer that is written as a string.
func (r *reader) number(field string) uint64 {
	u, canonical, fits := cosmwasm.ParseUint128(into[string](r, field))
	n, small := u.Uint64()
	r.bad = r.bad || !canonical || !fits || !small
	return n
}

// base64 reads bytes in their one way.
func (r *reader) base64(field string) []byte {
	text := into[string](r, field)
	out, err := base64.StdEncoding.Strict().DecodeString(text)
	r.bad = r.bad || err != nil || strings.ContainsAny(text, "\r\n") // which Go passes over
	return out
}

func (r *reader) amount(field string) chain.Amount { return chain.Nano(r.number(field)) }

func (r *reader) lease() chain.LeaseID {
	return chain.LeaseID{Node: r.key("node"), Order: r.digest("order")}
}

func (r *reader) elements(field string) []chain.FieldBytes {
	texts := into[[]string](r, field)
	if len(texts) > chain.MaxFields {
		r.bad = true
		return nil
	}
	out := make([]chain.FieldBytes, len(texts))
	for i, text := range texts {
		d, err := crypto.ParseDigest(text) // 32 bytes, in the same digits
		r.bad = r.bad || err != nil
		out[i] = chain.FieldBytes(d)
	}
	return out
}

// message reads a message of this chain alone; ok says whether it is one.
func (r *reader) message() (m chain.Msg, ok bool) {
	switch {
	case r.name == "deposit" && r.has("cluster", "amount"):
		m = chain.Deposit{Cluster: r.key("cluster"), Amount: r.amount("amount")}
	case r.name == "withdraw" && r.has("cluster", "amount"):
		m = chain.Withdraw{Cluster: r.key("cluster"), Amount: r.amount("amount")}
	case r.name == "open_channel" && r.has("payee", "nonce", "signer", "amount", "window_ms"):
		m = chain.OpenChannel{Payee: r.address("payee"), Nonce: r.number("nonce"), Signer: r.key("signer"), Amount: r.amount("amount"), WindowMs: r.number("window_ms")}
	case r.name == "fund_channel" && r.has("channel", "amount"):
		m = chain.FundChannel{Channel: r.digest("channel"), Amount: r.amount("amount")}
	case r.name == "close_channel" && r.has("channel"):
		m = chain.CloseChannel{Channel: r.digest("channel")}
	case r.name == "extend_lease" && r.has("node", "order", "amount"):
		m = chain.ExtendLease{Lease: r.lease(), Amount: r.amount("amount")}
	default:
		return nil, false
	}
	return m, !r.bad
}

// question reads a query of this chain alone; ok says whether it is one.
func (r *reader) question() (q Question, ok bool) {
	switch {
	case r.name == "escrow" && r.has("consumer", "cluster"):
		q = AskEscrow{Consumer: r.address("consumer"), Cluster: r.key("cluster")}
	case r.name == "order" && r.has("id"):
		q = AskOrder{Order: r.digest("id")}
	case r.name == "lease" && r.has("node", "order"):
		q = AskLease{Lease: r.lease()}
	case r.name == "node" && r.has("id"):
		q = AskNode{Node: r.key("id")}
	case r.name == "verify_proof" && r.has("kernel", "inputs", "outputs", "bind", "proof"):
		q = AskProof{
			Kernel: into[string](r, "kernel"), Inputs: r.elements("inputs"), Outputs: r.elements("outputs"),
			Bind: chain.FieldBytes(r.digest("bind")), Proof: r.base64("proof"),
		}
	default:
		return nil, false
	}
	return q, !r.bad
}
