package templates_test

import (
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/smart-contracts/cosmwasm"
)

// bank is the money of accounts, the contract's among them.
type bank map[string]uint64

const (
	cash = "hyper"
	safe = "contract" // the contract's account
)

func coins(n uint64) []cosmwasm.Coin {
	if n == 0 {
		return nil
	}
	return []cosmwasm.Coin{{Denom: cash, Amount: cosmwasm.Uint128Of(n)}}
}

// call is a message that somebody sends, with some money.
type call struct {
	who, msg string
	sent     uint64
}

// do executes a call, moves what is sent with it and what the contract sends, and returns why it was refused:
// then nothing is moved.
func (b bank) do(t *testing.T, c *contract, k call) string {
	t.Helper()
	response, refusal := c.execute(t, k.who, k.msg, coins(k.sent)...)
	if refusal != "" {
		return refusal
	}
	if b[k.who] < k.sent {
		t.Fatalf("%s has %d and sends %d", k.who, b[k.who], k.sent)
	}
	b[k.who] -= k.sent
	b[safe] += k.sent
	for _, m := range response.Messages {
		send, ok := m.Msg.(cosmwasm.BankSend)
		if !ok || len(send.Amount) != 1 || send.Amount[0].Denom != cash {
			t.Fatalf("%s: %s: the contract sends %+v", k.who, k.msg, m.Msg)
		}
		n, small := send.Amount[0].Amount.Uint64()
		if !small || n == 0 || b[safe] < n {
			t.Fatalf("%s: %s: the contract has %d and sends %s", k.who, k.msg, b[safe], send.Amount[0].Amount)
		}
		b[safe] -= n
		b[send.To] += n
	}
	return ""
}

func (b bank) must(t *testing.T, c *contract, k call) {
	t.Helper()
	if refusal := b.do(t, c, k); refusal != "" {
		t.Fatalf("%s: %s with %d: %s", k.who, k.msg, k.sent, refusal)
	}
}

func (b bank) total() (sum uint64) {
	for _, n := range b { // order-free: a sum
		sum += n
	}
	return sum
}

// fields writes the parts of a message.
func fields(parts ...string) string { return "{" + strings.Join(parts, ",") + "}" }
