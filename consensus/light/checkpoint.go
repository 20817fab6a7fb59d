package light

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// ErrStale says that a checkpoint is older than the unbonding period. It matches
// ErrRefused.
var ErrStale = fmt.Errorf("%w: the checkpoint is too old", ErrRefused)

// Checkpoint names the block that closed an epoch: what somebody trusts who
// begins there instead of at genesis (weak subjectivity, consensus.md §4).
type Checkpoint struct {
	ChainID       chain.ChainID
	Epoch         consensus.Epoch // that the block closed
	Height        chain.Height
	TimeMs        chain.TimeMs
	Digest        crypto.Digest // of the block's header
	NextCommittee crypto.Digest // of the epoch after
}

// Checkpoint returns the checkpoint that a verified closing header is.
func (h Header) Checkpoint() (Checkpoint, error) {
	switch {
	case h.h == nil:
		return Checkpoint{}, ErrUnverified
	case !h.h.Closing:
		return Checkpoint{}, refuse("block %d closes no epoch", h.h.Height)
	}
	return checkpointOf(h.h), nil
}

func checkpointOf(h *chain.Header) Checkpoint {
	return Checkpoint{
		ChainID: h.ChainID, Epoch: consensus.Epoch(h.Epoch), Height: h.Height, TimeMs: h.TimeMs, Digest: h.Digest(), NextCommittee: h.NextCommittee,
	}
}

// Check returns an error unless the checkpoint is of the chain and, at the time
// now, not older than genesis' unbonding period. Stake that was bonded then may
// be withdrawn since: its keys could sign another history from there on without
// anything to lose.
func (c Checkpoint) Check(g *chain.Genesis, now chain.TimeMs) error {
	if c.ChainID != g.ChainID {
		return refuse("the checkpoint is of chain %.40q, this is %q", string(c.ChainID), string(g.ChainID))
	}
	if period := g.Params.UnbondingMs(); now > c.TimeMs && uint64(now-c.TimeMs) > period {
		age, limit := time.Duration(now-c.TimeMs)*time.Millisecond, time.Duration(period)*time.Millisecond
		return fmt.Errorf("%w: block %d is %s old, and stake unbonds in %s: whoever was a validator then could since have signed another history with nothing at stake; take a newer checkpoint from somebody you trust",
			ErrStale, c.Height, age.Round(time.Second), limit)
	}
	return nil
}

// checkpointFields is how many parts the text form has.
const checkpointFields = 6

// MaxCheckpointText bounds the text form: a chain id, three numbers, two digests.
const MaxCheckpointText = 32 + 3*20 + 2*2*crypto.DigestSize + checkpointFields - 1

// String returns the one text form:
// CHAIN:EPOCH:HEIGHT:TIME_MS:DIGEST:NEXT_COMMITTEE, decimal numbers and lower-case
// hexadecimal digests.
func (c Checkpoint) String() string {
	return fmt.Sprintf("%s:%d:%d:%d:%s:%s", c.ChainID, c.Epoch, c.Height, c.TimeMs, c.Digest, c.NextCommittee)
}

// MarshalText is String.
func (c Checkpoint) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText is ParseCheckpoint.
func (c *Checkpoint) UnmarshalText(text []byte) error {
	parsed, err := ParseCheckpoint(string(text))
	if err == nil {
		*c = parsed
	}
	return err
}

// ParseCheckpoint reads what String wrote and nothing else.
func ParseCheckpoint(text string) (Checkpoint, error) {
	if len(text) > MaxCheckpointText {
		return Checkpoint{}, badCheckpoint(fmt.Errorf("%d bytes, limit %d", len(text), MaxCheckpointText))
	}
	parts := strings.Split(text, ":")
	if len(parts) != checkpointFields {
		return Checkpoint{}, badCheckpoint(fmt.Errorf("%d parts, want %d: CHAIN:EPOCH:HEIGHT:TIME_MS:DIGEST:NEXT_COMMITTEE", len(parts), checkpointFields))
	}
	c := Checkpoint{ChainID: chain.ChainID(parts[0])}
	if err := c.ChainID.Check(); err != nil {
		return Checkpoint{}, badCheckpoint(err)
	}
	var numbers [3]uint64
	for i, name := range []string{"epoch", "height", "time"} {
		n, err := strconv.ParseUint(parts[1+i], 10, 64)
		if err != nil || n == 0 {
			return Checkpoint{}, badCheckpoint(fmt.Errorf("%s %.30q is no positive number", name, parts[1+i]))
		}
		numbers[i] = n
	}
	c.Epoch, c.Height, c.TimeMs = consensus.Epoch(numbers[0]), chain.Height(numbers[1]), chain.TimeMs(numbers[2])
	var err error
	if c.Digest, err = crypto.ParseDigest(parts[4]); err != nil {
		return Checkpoint{}, badCheckpoint(fmt.Errorf("digest: %w", err))
	}
	if c.NextCommittee, err = crypto.ParseDigest(parts[5]); err != nil {
		return Checkpoint{}, badCheckpoint(fmt.Errorf("next committee: %w", err))
	}
	if c.String() != text {
		return Checkpoint{}, badCheckpoint(errors.New("not in the one form that it has: no leading zeros, lower-case digests"))
	}
	return c, nil
}

func badCheckpoint(err error) error { return fmt.Errorf("light: checkpoint: %w", err) }
