package templates_test

import (
	"testing"

	"github.com/hypermesh/hypermesh/sdk/assembly"
	"github.com/hypermesh/hypermesh/smart-contracts/cosmwasm"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// alone is a template on the machine without a chain, so that it can be sent coins that this chain has not.
type alone struct {
	machine *vm.Machine
	code    vm.Code
	host    *assembly.Memory
}

// call returns why a call is refused, empty if it is not.
func (a *alone) call(t *testing.T, entry meter.Entry, sender, msg string, coins ...cosmwasm.Coin) string {
	t.Helper()
	env := cosmwasm.Encode(cosmwasm.Env{Block: cosmwasm.Block{Height: 5, Time: 1_700_000_000e9, ChainID: "test-1"}, Contract: "contract"})
	info := cosmwasm.Encode(cosmwasm.MessageInfo{Sender: sender, Funds: coins})
	out, err := a.machine.Run(a.code, vm.Call{Entry: entry, Args: [][]byte{env, info, []byte(msg)}, Points: 1 << 34}, a.host)
	if err != nil {
		t.Fatal(err)
	}
	if out.End != vm.Returned && out.End != vm.Aborted {
		t.Fatalf("%s: %v: %s", msg, out.End, out.Detail)
	}
	return out.Detail
}

// TestOtherCoins: a template takes the coin that it is for, one of a kind, and no other on the side.
func TestOtherCoins(t *testing.T) {
	machine, err := machine()
	if err != nil {
		t.Fatal(err)
	}
	coin := func(n uint64, denom string) cosmwasm.Coin {
		return cosmwasm.Coin{Denom: denom, Amount: cosmwasm.Uint128Of(n)}
	}
	hyper, gold := coin(9, cash), coin(9, "gold")
	const open = `{"open":{"worker":"will","arbiter":"ann","fee":"0","review_seconds":60,"arbitration_seconds":60,"unjudged_percent":0,` +
		`"milestones":[{"title":"t","amount":"9","due":1700000001}]}}`
	const mint = `{"mint":{` + promise + `,"units":"1","arbiters":[]}}`
	const offer = `{"offer":{"evidence":{"word":{}},"stake":"9"}}`
	service := `{"client":"carl","provider":"will","arbiter":"ann","sla":{"due":1,"grace":0,"late_every":1,"late_permille":0},"dispute":1,"ruling":1}`
	for _, c := range []struct{ template, begin, msg, several, other string }{
		{"escrow", `{}`, open, "want one coin", ""}, // which is for any coin
		{"voucher", `{"denom":"nhyper"}`, mint, "only nhyper is taken", "only nhyper is taken"},
		{"service", service, offer, "only nhyper is taken", "only nhyper is taken"},
		{"cw20", `{"name":"abc","symbol":"ABC","decimals":0,"initial_balances":[]}`, `{"burn":{"amount":"0"}}`, "no funds are taken", "no funds are taken"},
		{"cw721", `{"name":"abc","symbol":"ABC"}`, `{"revoke_all":{"operator":"will"}}`, "no funds are taken", "no funds are taken"},
	} {
		module, _ := load(t, c.template)
		a := &alone{machine, assembly.CodeOf(module), assembly.NewMemory()}
		if why := a.call(t, meter.Instantiate, "owner", c.begin); why != "" {
			t.Fatalf("%s: %s", c.template, why)
		}
		for _, sent := range []struct {
			coins []cosmwasm.Coin
			want  string
		}{
			{[]cosmwasm.Coin{hyper, gold}, c.several}, {[]cosmwasm.Coin{gold, hyper}, c.several}, {[]cosmwasm.Coin{gold}, c.other},
		} {
			if why := a.call(t, meter.Execute, "carl", c.msg, sent.coins...); why != sent.want {
				t.Errorf("%s with %v: refused with %q, want %q", c.template, sent.coins, why, sent.want)
			}
		}
	}
}
