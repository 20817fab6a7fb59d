package templates_test

import (
	"strings"

	"github.com/hypermesh/hypermesh/smart-contracts/cosmwasm"
)

// bank is what accounts have, and the contract, by their names.
type bank map[string]uint64

const (
	cash = "nhyper"
	safe = "it" // the contract's account
)

// bank returns what some accounts have, and the contract.
func (c *contract) bank(names ...string) bank {
	b := bank{safe: c.has(safe)}
	for _, name := range names {
		b[name] = c.has(name)
	}
	return b
}

func (b bank) total() (sum uint64) {
	for _, n := range b { // order-free: a sum
		sum += n
	}
	return sum
}

func coins(n uint64) []cosmwasm.Coin {
	return []cosmwasm.Coin{{Denom: cash, Amount: cosmwasm.Uint128Of(n)}}
}

// fields writes the parts of a message.
func fields(parts ...string) string { return "{" + strings.Join(parts, ",") + "}" }
