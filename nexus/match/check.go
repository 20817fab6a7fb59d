package match

import (
	"math"
	"math/bits"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// How often work under chain.PolicyReplicate is checked, in parts of a million.
const (
	// CheckFloor is the least chance, however good a record is and however much is at stake.
	CheckFloor = One / 20
	// CheckWithin is among how many of a node's jobs in a row at least one is checked.
	CheckWithin = 20
	// workPerBurned is how much honest work a burned fee stands for: with a fee of 2 % of
	// which half is burned, what was paid for it.
	workPerBurned = 100
)

// CheckChance returns the chance with which a run is checked after its node has committed
// to its result: the largest of CheckFloor; value/(value + stake), with which cheating
// earns nothing, for a job that pays at most value and has stake of its node's bond locked;
// and value/(value + work), where work is what the fees stand for that were burned with
// the node's good record beyond its bad one. Without such a record it is One; and it is One
// if the node's last CheckWithin − 1 runs were not checked. A good fact never raises it.
func CheckChance(f *Facts, value, stake chain.Amount, unchecked uint64) uint64 {
	if unchecked >= CheckWithin-1 {
		return One
	}
	credit, debt := f.Credit.Nano(), f.Debt.Nano()
	if credit <= debt {
		return One
	}
	hi, work := bits.Mul64(credit-debt, workPerBurned)
	if hi != 0 {
		work = math.MaxUint64
	}
	return max(CheckFloor, portion(value.Nano(), stake.Nano()), portion(value.Nano(), work))
}

// portion returns ⌈One · a / (a + b)⌉, and One for nothing of nothing.
func portion(a, b uint64) uint64 {
	sum, carry := bits.Add64(a, b, 0)
	if carry != 0 { // then one bit less of each tells no part of a million from another
		a, sum = a>>1+1, a>>1+b>>1
	}
	if sum == 0 {
		return One
	}
	hi, lo := bits.Mul64(min(a, sum), One)
	lo, carry = bits.Add64(lo, sum-1, 0)
	quo, _ := bits.Div64(hi+carry, lo, sum) // hi + carry < sum: the product is at most One · sum
	return quo
}
