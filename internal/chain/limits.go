package chain

import (
	"errors"
	"fmt"

	"github.com/hypermesh/hypermesh/internal/codec"
)

// Limits of what is decoded. Each stops one way to make a node hold or compute
// more than was paid for.
const (
	MaxTxBytes        = 128 << 10
	MaxMessages       = 16
	MaxMemo           = 256
	MaxClaims         = 16
	MaxProof          = 4 << 10
	MaxRegion         = 32
	MaxEndpoints      = 8
	MaxEndpoint       = 128
	MaxFeeBps         = 2_000
	MaxReplicas       = 16
	MaxKernelName     = 32
	MaxValidatorName  = 64
	MaxEvidence       = maxExtraItemBytes
	MaxFields         = 8
	MaxUsageAmount    = 1<<48 - 1
	MaxUsageMs        = 1<<40 - 1
	MaxNoticeMs       = 90 * 24 * 3600 * 1000
	MaxBlockBytes     = 4 << 20
	MaxBlockTxs       = 10_000
	MaxRejection      = 256
	MaxVRFProof       = 80
	MaxBatchTxs       = 1_000 // of one submission
	maxSignatures     = 2
	maxChainID        = 32
	maxExtraItems     = 64
	maxExtraItemBytes = 48 << 10 // two certificates of the largest committee
)

// FastestPaceMs is the least time between two blocks while few transactions wait:
// what counts heights and means a time reckons with it.
const FastestPaceMs = 10

// MaxExpiryAhead is how many heights ahead a transaction may expire.
const MaxExpiryAhead = 100_000

// ErrLimit is matched by every refusal for size or range.
var ErrLimit = errors.New("chain: outside its limit")

func limitError(field string, got, limit int) error {
	return fmt.Errorf("%w: %s has %d, limit %d", ErrLimit, field, got, limit)
}

// unmarshalList decodes an array of at most limit elements. The length is looked
// at before the list is made: a decoded claim takes a thousand bytes, whatever
// its encoding takes.
func unmarshalList[T any](data []byte, list *[]T, field string, limit int) error {
	n, err := codec.ArrayLength(data)
	if err != nil {
		return fmt.Errorf("%s: %w", field, err)
	}
	if n > uint64(limit) {
		return fmt.Errorf("%w: %s has %d, limit %d", ErrLimit, field, n, limit)
	}
	return codec.UnmarshalPart(data, list)
}
