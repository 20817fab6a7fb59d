package cosmwasm

import (
	"fmt"
	"strings"
)

// QueryAnswer is what a contract answers to a query.
type QueryAnswer interface{ queryAnswer() }

// Data is the bytes of an answer to a query.
type Data struct{ Bytes []byte }

func (Data) queryAnswer()    {}
func (Failure) queryAnswer() {}

func (a *Data) form() value { return binary{&a.Bytes, MaxAnswerBytes} }

var queryAnswers = []variant[QueryAnswer]{one[QueryAnswer, Data]("ok"), one[QueryAnswer, Failure]("error")}

// Reached is what the chain tells a contract about its query: what was answered, in an
// Answered, or why nobody was asked.
type Reached interface{ reached() }

// Answered is what was answered.
type Answered struct{ Answer QueryAnswer }

// NotReached is why nobody was asked: CosmWasm's SystemError.
type NotReached struct{ Why Unreached }

func (Answered) reached()   {}
func (NotReached) reached() {}

func (a *Answered) form() value   { return sum[QueryAnswer]{&a.Answer, queryAnswers} }
func (n *NotReached) form() value { return sum[Unreached]{&n.Why, unreached} }

var reaches = []variant[Reached]{one[Reached, Answered]("ok"), one[Reached, NotReached]("error")}

// Unreached is a reason for which nobody was asked.
type Unreached interface{ unreached() }

// InvalidRequest is a query that is no query.
type InvalidRequest struct {
	Why     string
	Request []byte
}

// InvalidResponse is an answer that is none.
type InvalidResponse struct {
	Why      string
	Response []byte
}

// NoSuchContract is an address without a contract.
type NoSuchContract struct{ Address string }

// NoSuchCode is a number without code.
type NoSuchCode struct{ Code uint64 }

// Unknown is anything else.
type Unknown struct{}

// UnsupportedRequest is a kind of query that this chain does not answer.
type UnsupportedRequest struct{ Kind string }

func (InvalidRequest) unreached()     {}
func (InvalidResponse) unreached()    {}
func (NoSuchContract) unreached()     {}
func (NoSuchCode) unreached()         {}
func (Unknown) unreached()            {}
func (UnsupportedRequest) unreached() {}

var unreached = []variant[Unreached]{
	one[Unreached, InvalidRequest]("invalid_request"), one[Unreached, InvalidResponse]("invalid_response"),
	one[Unreached, NoSuchContract]("no_such_contract"), one[Unreached, NoSuchCode]("no_such_code"),
	one[Unreached, Unknown]("unknown"), one[Unreached, UnsupportedRequest]("unsupported_request"),
}

func why(to *string) field { return must("error", text{to, MaxTextBytes}) }

func (u *InvalidRequest) form() value {
	return object{why(&u.Why), must("request", binary{&u.Request, MaxQueryBytes})}
}

func (u *InvalidResponse) form() value {
	return object{why(&u.Why), must("response", binary{&u.Response, MaxAnswerBytes})}
}

func (u *NoSuchContract) form() value { return object{must("addr", address(&u.Address))} }
func (u *NoSuchCode) form() value     { return object{code("code_id", &u.Code)} }
func (u *Unknown) form() value        { return object{} }

func (u *UnsupportedRequest) form() value { return object{must("kind", text{&u.Kind, MaxTextBytes})} }

// DecodeAnswer reads what a contract answered to anything but a query.
func DecodeAnswer(data []byte) (a Answer, err error) {
	if err := decode(data, MaxResponseBytes, sum[Answer]{&a, answers}); err != nil {
		return nil, err
	}
	if r, ok := a.(Response); ok {
		if err := r.checkEvents(); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// DecodeQueryAnswer reads what a contract answered to a query.
func DecodeQueryAnswer(data []byte) (a QueryAnswer, err error) {
	err = decode(data, MaxAnswerBytes, sum[QueryAnswer]{&a, queryAnswers})
	return a, err
}

// DecodeQuery reads what a contract asks the chain.
func DecodeQuery(data []byte) (q Query, err error) {
	err = decode(data, MaxQueryBytes, sum[Query]{&q, queries})
	return q, err
}

// DecodeMessage reads one message.
func DecodeMessage(data []byte) (m Message, err error) {
	err = decode(data, MaxResponseBytes, sum[Message]{&m, messages})
	return m, err
}

// Unanswered is what a contract is told about a query that DecodeQuery refused.
func Unanswered(request []byte, err *Refusal) NotReached {
	if err.Rule == RuleUnsupported {
		return NotReached{UnsupportedRequest{err.Detail}}
	}
	return NotReached{InvalidRequest{string(err.Rule), request[:min(len(request), MaxQueryBytes)]}}
}

// Decode reads a value as Encode writes it.
func Decode[T any, P formed[T]](data []byte) (v T, err error) {
	err = decode(data, MaxAnswerBytes, P(&v).form())
	return v, err
}

// Encode writes a value as contracts read it.
func Encode[T any, P formed[T]](v T) []byte {
	e := newEncoder()
	P(&v).form().write(e)
	return e.out
}

// EncodeMessage writes a message.
func EncodeMessage(m Message) []byte {
	e := newEncoder()
	sum[Message]{&m, messages}.write(e)
	return e.out
}

// EncodeQuery writes a query.
func EncodeQuery(q Query) []byte {
	e := newEncoder()
	sum[Query]{&q, queries}.write(e)
	return e.out
}

// EncodeAnswer writes an answer to anything but a query.
func EncodeAnswer(a Answer) []byte {
	e := newEncoder()
	sum[Answer]{&a, answers}.write(e)
	return e.out
}

// EncodeQueryAnswer writes an answer to a query.
func EncodeQueryAnswer(a QueryAnswer) []byte {
	e := newEncoder()
	sum[QueryAnswer]{&a, queryAnswers}.write(e)
	return e.out
}

// DecodeReached reads what a contract is told about its query.
func DecodeReached(data []byte) (r Reached, err error) {
	err = decode(data, 2*MaxAnswerBytes, sum[Reached]{&r, reaches})
	return r, err
}

// EncodeReached writes what a contract is told about its query.
func EncodeReached(r Reached) []byte {
	e := newEncoder()
	sum[Reached]{&r, reaches}.write(e)
	return e.out
}

const spaces = " \t\r\n"

// checkEvents refuses the names that CosmWasm's chains refuse: keys that are empty or
// begin as the chain's own do, and types of events that are short.
func (r *Response) checkEvents() error {
	for i, e := range r.Events {
		if len(strings.Trim(e.Type, spaces)) < minTypeBytes {
			return &Refusal{RuleEvent, fmt.Sprintf("ok.events[%d].type", i), clipped(e.Type) + " is too short"}
		}
		if err := checkKeys(fmt.Sprintf("ok.events[%d].attributes", i), e.Attributes); err != nil {
			return err
		}
	}
	return checkKeys("ok.attributes", r.Attributes)
}

func checkKeys(path string, attributes []Attribute) error {
	for i, a := range attributes {
		switch key := strings.Trim(a.Key, spaces); {
		case key == "":
			return &Refusal{RuleEvent, fmt.Sprintf("%s[%d].key", path, i), "it is empty"}
		case key[0] == '_':
			return &Refusal{RuleEvent, fmt.Sprintf("%s[%d].key", path, i), clipped(key) + " is reserved"}
		}
	}
	return nil
}
