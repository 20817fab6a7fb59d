package chain

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/codec"
)

// A sealed sum is encoded as [kind, value]. The kinds of a sum are numbered
// from 1 and never reused.

type sumHead struct {
	_    struct{} `cbor:",toarray"`
	Kind uint8
	Body codec.Raw
}

// appendSum appends [kind, value].
func appendSum(dst []byte, kind uint8, value any) ([]byte, error) {
	return codec.Append(codec.AppendUint(codec.AppendArray(dst, 2), uint64(kind)), value)
}

func decodeHead(data []byte, what string) (sumHead, error) {
	var head sumHead
	if err := codec.UnmarshalPart(data, &head); err != nil {
		return head, fmt.Errorf("%s: %w", what, err)
	}
	return head, nil
}

// decodeAs decodes body into a T and returns it as the sum S.
func decodeAs[T, S any](body codec.Raw) (S, error) {
	var value T
	var sum S
	if err := codec.UnmarshalPart(body, &value); err != nil {
		return sum, err
	}
	sum = any(value).(S)
	return sum, nil
}
