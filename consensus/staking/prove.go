package staking

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/state"
)

// DecodeDelegation decodes a delegation's record, for those who checked its
// proof.
func DecodeDelegation(value []byte) (Delegation, error) {
	var d Delegation
	err := codec.Unmarshal(value, &d, state.MaxValueBytes)
	return d, err
}

// WorthOf returns what a delegation to the validator is worth, rounded down. A
// delegation that does not fit the validator's record is worth nothing.
func (v *Validator) WorthOf(d Delegation) chain.Amount {
	if d.Shares == 0 || d.Shares > v.Shares {
		return chain.Amount{}
	}
	return v.worth(d.Shares)
}
