package harness

import (
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/cosmwasm"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
)

// traced is the machine, which notes the calls, and has scripts in the place of their code.
type traced struct {
	vm      contract.VM
	scripts map[crypto.Digest]Script
	calls   []Call
}

func (t *traced) begin() { t.calls = nil }

func (t *traced) end() []Call { return slices.Clip(t.calls) }

// Run runs a call.
func (t *traced) Run(code contract.Program, call contract.Call, reach contract.Reach) (out contract.Outcome, err error) {
	at := len(t.calls)
	t.calls = append(t.calls, begun(&call))
	if script, ok := t.scripts[code.ID]; ok {
		out, err = script.run(&call, reach)
	} else {
		out, err = t.vm.Run(code, call, reach)
	}
	t.calls[at].ended(&out)
	return out, err
}

// begun is a call that begins.
func begun(call *contract.Call) Call {
	env, err := cosmwasm.Decode[cosmwasm.Env](call.Args[0])
	if err != nil {
		panic("harness: the chain's env cannot be read: " + err.Error())
	}
	at, err := chain.ParseAddress(env.Contract)
	if err != nil {
		panic("harness: the chain's own address cannot be read: " + err.Error())
	}
	c := Call{Contract: at, Entry: string(call.Entry), Waiting: call.Depth, Msg: msgOf(call)}
	if env.Transaction != nil {
		c.tx = int(env.Transaction.Index)
	}
	return c
}

// msgOf is the message of a call: what comes after the env, and after the info where there is one.
func msgOf(call *contract.Call) []byte {
	if call.Entry == meter.Instantiate || call.Entry == meter.Execute {
		return call.Args[2]
	}
	return call.Args[1]
}

// ended notes how a call ended.
func (c *Call) ended(out *contract.Outcome) {
	c.Gas, c.Ended, c.Why = gasOf(out.Points), out.End.String(), out.Detail
	if out.End != contract.Returned {
		if c.Why == "" {
			c.Why = c.Ended
		}
		return
	}
	c.Answer = out.Data
	if c.Entry == string(meter.Query) {
		if answer, err := cosmwasm.DecodeQueryAnswer(out.Data); err == nil {
			if failed, ok := answer.(cosmwasm.Failure); ok {
				c.Why = failed.Text
			}
		}
		return
	}
	if answer, err := cosmwasm.DecodeAnswer(out.Data); err == nil {
		if failed, ok := answer.(cosmwasm.Failure); ok {
			c.Why = failed.Text
		}
	}
}
