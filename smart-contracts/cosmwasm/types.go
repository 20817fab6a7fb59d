package cosmwasm

// Coin is an amount of a token.
type Coin struct {
	Denom  string
	Amount Uint128
}

func (c *Coin) form() value {
	return object{must("denom", text{&c.Denom, MaxDenomBytes}), must("amount", quoted128{&c.Amount})}
}

func coins(to *[]Coin) value { return listOf(to, MaxCoins) }

func address(to *string) value { return text{to, MaxAddressBytes} }

// Env is where a call happens.
type Env struct {
	Block       Block
	Transaction *Transaction // nil: outside of any
	Contract    string       // its address
}

// Block is the block that a call is in.
type Block struct {
	Height  uint64
	Time    uint64 // in nanoseconds since 1970
	ChainID string
}

// Transaction is the transaction that a call is in.
type Transaction struct {
	Index uint32 // in its block
	Hash  []byte // empty: not told
}

func (e *Env) form() value {
	return object{
		must("block", object{
			must("height", number[uint64]{&e.Block.Height}),
			must("time", quoted64{&e.Block.Time}),
			must("chain_id", text{&e.Block.ChainID, MaxLabelBytes}),
		}),
		optional("transaction", optionOf(&e.Transaction)),
		must("contract", object{must("address", address(&e.Contract))}),
	}
}

func (t *Transaction) form() value {
	return object{must("index", number[uint32]{&t.Index}), unlessEmpty("hash", &t.Hash, MaxSaltBytes)}
}

// unlessEmpty is bytes that are left out if there are none.
func unlessEmpty(name string, to *[]byte, most int) field {
	return field{name: name, of: someBinary{to, most}, may: true, blank: func() bool { return len(*to) == 0 }}
}

// MessageInfo is who calls, and what they sent with it.
type MessageInfo struct {
	Sender string
	Funds  []Coin
}

func (m *MessageInfo) form() value {
	return object{must("sender", address(&m.Sender)), must("funds", coins(&m.Funds))}
}

// MigrateInfo is who migrates, and from which version of the state (CosmWasm 2.2).
type MigrateInfo struct {
	Sender     string
	OldVersion *uint64 // nil: none was given
}

func (m *MigrateInfo) form() value {
	return object{must("sender", address(&m.Sender)), optional("old_migrate_version", optional64(&m.OldVersion))}
}

// Attribute is a word of an event.
type Attribute struct{ Key, Value string }

func (a *Attribute) form() value {
	return object{must("key", text{&a.Key, MaxKeyBytes}), must("value", text{&a.Value, MaxValueBytes})}
}

// Event is what a contract, or the chain, says that happened.
type Event struct {
	Type       string
	Attributes []Attribute
}

func (e *Event) form() value {
	return object{must("type", text{&e.Type, MaxTypeBytes}), must("attributes", listOf(&e.Attributes, MaxAttributes))}
}

// Answer is what a contract answers to anything but a query.
type Answer interface{ answer() }

func (Response) answer() {}
func (Failure) answer()  {}

// Failure is an error's text.
type Failure struct{ Text string }

func (f *Failure) form() value { return text{&f.Text, MaxTextBytes} }

// Response is what a contract wants.
type Response struct {
	Messages   []SubMsg
	Attributes []Attribute // of the event "wasm"
	Events     []Event
	Data       []byte // nil: none
}

func (r *Response) form() value {
	return object{
		must("messages", listOf(&r.Messages, MaxMessages)),
		must("attributes", listOf(&r.Attributes, MaxAttributes)),
		must("events", listOf(&r.Events, MaxEvents)),
		optional("data", maybeBinary{&r.Data, MaxDataBytes}),
	}
}

var answers = []variant[Answer]{one[Answer, Response]("ok"), one[Answer, Failure]("error")}

// ReplyOn says after which ends of a submessage its sender is called.
type ReplyOn uint8

// The ends.
const (
	ReplyAlways ReplyOn = 1 + iota
	ReplySuccess
	ReplyError
	ReplyNever
)

var replyWords = []string{"always", "success", "error", "never"}

// SubMsg is a message and what is to follow it.
type SubMsg struct {
	ID       uint64
	Payload  []byte // that the reply brings back
	Msg      Message
	GasLimit *uint64 // nil: what is left
	ReplyOn  ReplyOn
}

func (s *SubMsg) form() value {
	return object{
		must("id", number[uint64]{&s.ID}),
		unlessEmpty("payload", &s.Payload, MaxPayloadBytes),
		must("msg", sum[Message]{&s.Msg, messages}),
		optional("gas_limit", optional64(&s.GasLimit)),
		must("reply_on", word[ReplyOn]{&s.ReplyOn, replyWords}),
	}
}

// Reply tells a contract how its submessage ended.
type Reply struct {
	ID      uint64
	Payload []byte
	GasUsed uint64
	Result  Ended
}

func (r *Reply) form() value {
	return object{
		must("id", number[uint64]{&r.ID}),
		unlessEmpty("payload", &r.Payload, MaxPayloadBytes),
		must("gas_used", number[uint64]{&r.GasUsed}),
		must("result", sum[Ended]{&r.Result, ends}),
	}
}

// Ended is how a submessage ended.
type Ended interface{ ended() }

func (SubResponse) ended() {}
func (Failure) ended()     {}

var ends = []variant[Ended]{one[Ended, SubResponse]("ok"), one[Ended, Failure]("error")}

// SubResponse is what a submessage came to.
type SubResponse struct {
	Events    []Event
	Data      []byte        // nil: none
	Responses []MsgResponse // of what the message called
}

func (r *SubResponse) form() value {
	return object{
		must("events", listOf(&r.Events, maxElements)),
		optional("data", maybeBinary{&r.Data, MaxDataBytes}),
		field{name: "msg_responses", of: listOf(&r.Responses, maxElements), may: true},
	}
}

// MsgResponse is an answer, and the name of its type.
type MsgResponse struct {
	TypeURL string
	Value   []byte
}

func (m *MsgResponse) form() value {
	return object{must("type_url", text{&m.TypeURL, MaxValueBytes}), must("value", binary{&m.Value, MaxDataBytes})}
}
