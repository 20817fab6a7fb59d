package consensus

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// MaxValidators is the largest committee.
const MaxValidators = 256

// maxPeriod bounds the leader schedule. Weights whose exact round is longer
// are rounded to shares of 1/maxPeriod.
const maxPeriod = 4096

// Validator is a member of a committee.
type Validator struct {
	_            struct{}         `cbor:",toarray"`
	Key          crypto.PublicKey // consensus key
	Weight       uint64           // voting weight, at least 1
	LeaderWeight uint64           // share of the views led; 0 never leads
}

// Committee is the validators of one epoch. It is immutable.
//
// Leaders follow smooth weighted round-robin (as in nginx's upstream module):
// every validator gains its weight at each step, the richest leads (the lowest
// index on a tie) and pays the total. The sequence is periodic with period
// total ÷ gcd; it is computed once, for a period of at most 4,096 views. Larger
// totals are first apportioned to exactly 4,096 shares by largest remainder, so
// a validator's share of views is within 1/4096 of its share of the weight, and
// Leader is one index into a table for any view.
type Committee struct {
	epoch      Epoch
	validators []Validator
	quorum     uint64
	schedule   []Signer
	digest     crypto.Digest
}

// NewCommittee checks and copies the validators: 1 to MaxValidators of them,
// sound and distinct keys, positive voting weights, totals that fit in 64
// bits, and at least one that may lead.
func NewCommittee(epoch Epoch, validators []Validator) (*Committee, error) {
	if len(validators) == 0 || len(validators) > MaxValidators {
		return nil, fmt.Errorf("consensus: committee of %d validators, want 1 to %d", len(validators), MaxValidators)
	}
	c := &Committee{epoch: epoch, validators: append([]Validator(nil), validators...)}
	seen := make(map[crypto.PublicKey]bool, len(validators))
	total, leading := uint64(0), uint64(0)
	for i, v := range validators {
		if err := v.Key.Check(); err != nil {
			return nil, fmt.Errorf("consensus: committee: key of validator %d: %w", i, err)
		}
		if seen[v.Key] {
			return nil, fmt.Errorf("consensus: committee: key of validator %d is there twice", i)
		}
		seen[v.Key] = true
		if v.Weight == 0 {
			return nil, fmt.Errorf("consensus: committee: validator %d has no voting weight", i)
		}
		var ok, okLeading bool
		total, ok = checked.Add(total, v.Weight)
		leading, okLeading = checked.Add(leading, v.LeaderWeight)
		if !ok || !okLeading {
			return nil, fmt.Errorf("consensus: committee: the weights up to validator %d do not fit in 64 bits", i)
		}
	}
	if leading == 0 {
		return nil, fmt.Errorf("consensus: committee: no validator may lead")
	}
	twoThirds, ok := checked.MulDivFloor(total, 2, 3)
	if !ok {
		panic("consensus: two thirds of a weight exceed it")
	}
	c.quorum = twoThirds + 1
	c.schedule = leaderSchedule(c.validators, leading)
	c.digest = crypto.DomainCommittee.Hash(codec.Marshal(struct {
		_          struct{} `cbor:",toarray"`
		Epoch      Epoch
		Validators []Validator
	}{Epoch: epoch, Validators: c.validators}))
	return c, nil
}

// Epoch returns the epoch that the committee serves.
func (c *Committee) Epoch() Epoch { return c.epoch }

// Len returns the number of validators.
func (c *Committee) Len() int { return len(c.validators) }

// Validator returns the member at the index, which must be below Len.
func (c *Committee) Validator(s Signer) Validator { return c.validators[s] }

// IndexOf returns the index of the member with the consensus key.
func (c *Committee) IndexOf(key crypto.PublicKey) (Signer, bool) {
	for i, v := range c.validators {
		if v.Key == key {
			return Signer(i), true
		}
	}
	return 0, false
}

// Quorum returns ⌊2W/3⌋ + 1 for total voting weight W: any two quorums share
// more than a third.
func (c *Committee) Quorum() uint64 { return c.quorum }

// Digest commits to the epoch, the members, their order and their weights.
func (c *Committee) Digest() crypto.Digest { return c.digest }

// Leader returns who leads the view, which must not be 0.
func (c *Committee) Leader(v View) Signer {
	return c.schedule[uint64(v-1)%uint64(len(c.schedule))]
}

func leaderSchedule(validators []Validator, total uint64) []Signer {
	shares := leaderShares(validators, total)
	period := int64(0)
	for _, s := range shares {
		period += s
	}
	credit := make([]int64, len(shares))
	schedule := make([]Signer, period)
	for step := range schedule {
		best := -1
		for i, s := range shares {
			if s == 0 {
				continue
			}
			credit[i] += s
			if best < 0 || credit[i] > credit[best] {
				best = i
			}
		}
		credit[best] -= period
		schedule[step] = Signer(best)
	}
	return schedule
}

// leaderShares returns the leader weights divided by their greatest common
// divisor if they then sum to at most maxPeriod, and otherwise their
// apportionment to maxPeriod shares by largest remainder.
func leaderShares(validators []Validator, total uint64) []int64 {
	gcd := uint64(0)
	for _, v := range validators {
		a, b := gcd, v.LeaderWeight
		for b != 0 {
			a, b = b, a%b
		}
		gcd = a
	}
	shares := make([]int64, len(validators))
	if total/gcd <= maxPeriod {
		for i, v := range validators {
			shares[i] = int64(v.LeaderWeight / gcd)
		}
		return shares
	}
	rests := make([]uint64, len(validators))
	left := int64(maxPeriod)
	for i, v := range validators {
		whole, ok := checked.MulDivFloor(v.LeaderWeight, maxPeriod, total)
		if !ok {
			panic("consensus: a share exceeds the period")
		}
		// The remainder modulo 2⁶⁴ is the remainder, because it is below total.
		rests[i] = v.LeaderWeight*maxPeriod - whole*total
		shares[i] = int64(whole)
		left -= shares[i]
	}
	for ; left > 0; left-- {
		best := 0
		for i, r := range rests {
			if r > rests[best] {
				best = i
			}
		}
		shares[best]++
		rests[best] = 0
	}
	return shares
}
