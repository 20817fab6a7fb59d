package contract

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/smart-contracts/cosmwasm"
)

// ReadCustom reads a custom message.
func ReadCustom(raw cosmwasm.Raw) (m chain.Msg, ok bool) {
	if r := openCustom(raw.String()); r != nil {
		return r.message()
	}
	return nil, false
}

// ReadQuestion reads a custom query.
func ReadQuestion(raw cosmwasm.Raw) (q Question, ok bool) {
	if r := openCustom(raw.String()); r != nil {
		return r.question()
	}
	return nil, false
}

// Predictable is PredictableAddress of a creator of any length.
var Predictable = predictable

// KeptBytes is keptBytes.
const KeptBytes = keptBytes
