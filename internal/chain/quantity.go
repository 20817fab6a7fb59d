package chain

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/codec"
)

// NanoPerHyper is how many nHYPER make one HYPER.
const NanoPerHyper = 1_000_000_000

// TotalSupply is the supply at genesis: 10⁹ HYPER.
var TotalSupply = Nano(1_000_000_000 * NanoPerHyper)

// Height numbers blocks: genesis is 0, the first block 1.
type Height uint64

// TimeMs is block time: milliseconds since the Unix epoch.
type TimeMs uint64

// Amount is a quantity of HYPER in nHYPER (10⁻⁹ HYPER).
type Amount struct{ nano uint64 }

// Gas measures the work of a transaction.
type Gas struct{ units uint64 }

// GasPrice is nHYPER per unit of gas.
type GasPrice struct{ nano uint64 }

// Nano returns n nHYPER.
func Nano(n uint64) Amount { return Amount{n} }

// Hyper returns n HYPER. It panics above the 64-bit range: it is for constants.
func Hyper(n uint64) Amount {
	nano, ok := checked.Mul(n, NanoPerHyper)
	if !ok {
		panic(fmt.Sprintf("chain: %d HYPER does not fit an Amount", n))
	}
	return Amount{nano}
}

// Nano returns the amount in nHYPER.
func (a Amount) Nano() uint64 { return a.nano }

// IsZero reports whether the amount is zero.
func (a Amount) IsZero() bool { return a.nano == 0 }

// Add returns a + b, and false if it does not fit.
func (a Amount) Add(b Amount) (Amount, bool) {
	n, ok := checked.Add(a.nano, b.nano)
	return Amount{n}, ok
}

// Sub returns a − b, and false if b is larger.
func (a Amount) Sub(b Amount) (Amount, bool) {
	n, ok := checked.Sub(a.nano, b.nano)
	return Amount{n}, ok
}

// Cmp orders amounts: −1, 0 or +1.
func (a Amount) Cmp(b Amount) int {
	switch {
	case a.nano < b.nano:
		return -1
	case a.nano > b.nano:
		return 1
	}
	return 0
}

// Less reports whether a < b.
func (a Amount) Less(b Amount) bool { return a.nano < b.nano }

// ShareFloor returns ⌊a · num / den⌋, and false if den is zero or the result
// does not fit.
func (a Amount) ShareFloor(num, den uint64) (Amount, bool) {
	n, ok := checked.MulDivFloor(a.nano, num, den)
	return Amount{n}, ok
}

// ShareCeil returns ⌈a · num / den⌉, and false if den is zero or the result
// does not fit.
func (a Amount) ShareCeil(num, den uint64) (Amount, bool) {
	n, ok := checked.MulDivCeil(a.nano, num, den)
	return Amount{n}, ok
}

// String writes the amount for people, exactly: "3.2 HYPER".
func (a Amount) String() string {
	whole, frac := a.nano/NanoPerHyper, a.nano%NanoPerHyper
	if frac == 0 {
		return strconv.FormatUint(whole, 10) + " HYPER"
	}
	return fmt.Sprintf("%d.%s HYPER", whole, strings.TrimRight(fmt.Sprintf("%09d", frac), "0"))
}

// GasUnits returns n units of gas.
func GasUnits(n uint64) Gas { return Gas{n} }

// Units returns the gas as a number.
func (g Gas) Units() uint64 { return g.units }

// Add returns g + h, and false if it does not fit.
func (g Gas) Add(h Gas) (Gas, bool) {
	n, ok := checked.Add(g.units, h.units)
	return Gas{n}, ok
}

// Sub returns g − h, and false if h is larger.
func (g Gas) Sub(h Gas) (Gas, bool) {
	n, ok := checked.Sub(g.units, h.units)
	return Gas{n}, ok
}

// Less reports whether g < h.
func (g Gas) Less(h Gas) bool { return g.units < h.units }

// Cost returns g · p, and false if it does not fit.
func (g Gas) Cost(p GasPrice) (Amount, bool) {
	n, ok := checked.Mul(g.units, p.nano)
	return Amount{n}, ok
}

// PricePerGas returns a price of n nHYPER per unit of gas.
func PricePerGas(n uint64) GasPrice { return GasPrice{n} }

// Nano returns the price in nHYPER per unit of gas.
func (p GasPrice) Nano() uint64 { return p.nano }

// Less reports whether p < q.
func (p GasPrice) Less(q GasPrice) bool { return p.nano < q.nano }

// Add returns p + q, and false if it does not fit.
func (p GasPrice) Add(q GasPrice) (GasPrice, bool) {
	n, ok := checked.Add(p.nano, q.nano)
	return GasPrice{n}, ok
}

// Sub returns p − q, and false if q is larger.
func (p GasPrice) Sub(q GasPrice) (GasPrice, bool) {
	n, ok := checked.Sub(p.nano, q.nano)
	return GasPrice{n}, ok
}

// The quantities encode as unsigned integers; in JSON as numbers up to
// 2⁵³ and as decimal strings above, and either form is read.

// Number is any other unsigned integer that strangers choose, or that grows for
// ever, in what is made known as JSON.
type Number uint64

// MarshalJSON writes the number.
func (n Number) MarshalJSON() ([]byte, error) { return marshalUint(uint64(n)) }

// UnmarshalJSON reads the number.
func (n *Number) UnmarshalJSON(data []byte) error { return unmarshalUint(data, (*uint64)(n)) }

// MarshalCBOR encodes nHYPER.
func (a Amount) MarshalCBOR() ([]byte, error) { return codec.AppendUint(nil, a.nano), nil }

// UnmarshalCBOR decodes nHYPER.
func (a *Amount) UnmarshalCBOR(data []byte) error { return codec.UnmarshalPart(data, &a.nano) }

// MarshalJSON writes nHYPER.
func (a Amount) MarshalJSON() ([]byte, error) { return marshalUint(a.nano) }

// UnmarshalJSON reads nHYPER.
func (a *Amount) UnmarshalJSON(data []byte) error { return unmarshalUint(data, &a.nano) }

// MarshalCBOR encodes the units.
func (g Gas) MarshalCBOR() ([]byte, error) { return codec.AppendUint(nil, g.units), nil }

// UnmarshalCBOR decodes the units.
func (g *Gas) UnmarshalCBOR(data []byte) error { return codec.UnmarshalPart(data, &g.units) }

// MarshalJSON writes the units.
func (g Gas) MarshalJSON() ([]byte, error) { return marshalUint(g.units) }

// UnmarshalJSON reads the units.
func (g *Gas) UnmarshalJSON(data []byte) error { return unmarshalUint(data, &g.units) }

// MarshalCBOR encodes nHYPER per gas.
func (p GasPrice) MarshalCBOR() ([]byte, error) { return codec.AppendUint(nil, p.nano), nil }

// UnmarshalCBOR decodes nHYPER per gas.
func (p *GasPrice) UnmarshalCBOR(data []byte) error { return codec.UnmarshalPart(data, &p.nano) }

// MarshalJSON writes nHYPER per gas.
func (p GasPrice) MarshalJSON() ([]byte, error) { return marshalUint(p.nano) }

// UnmarshalJSON reads nHYPER per gas.
func (p *GasPrice) UnmarshalJSON(data []byte) error { return unmarshalUint(data, &p.nano) }

// maxJSONInteger is the largest integer that every JSON reader keeps exact.
const maxJSONInteger = 1 << 53

func marshalUint(n uint64) ([]byte, error) {
	if n > maxJSONInteger {
		return strconv.AppendQuote(nil, strconv.FormatUint(n, 10)), nil
	}
	return strconv.AppendUint(nil, n, 10), nil
}

func unmarshalUint(data []byte, n *uint64) error {
	text := string(data)
	if strings.HasPrefix(text, `"`) {
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
	}
	v, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return fmt.Errorf("chain: %.40q is not an unsigned 64-bit integer", text)
	}
	*n = v
	return nil
}
