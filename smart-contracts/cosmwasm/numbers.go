package cosmwasm

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// Uint128 is an integer of 128 bits. Its zero value is 0.
type Uint128 struct{ hi, lo uint64 }

// Uint128Of is an integer of 64 bits.
func Uint128Of(n uint64) Uint128 { return Uint128{lo: n} }

// Uint64 is the integer, if it has no more than 64 bits.
func (u Uint128) Uint64() (n uint64, ok bool) { return u.lo, u.hi == 0 }

// String is the integer in decimal.
func (u Uint128) String() string {
	if u.hi == 0 {
		return strconv.FormatUint(u.lo, 10)
	}
	const group = 10_000_000_000_000_000_000 // 10¹⁹
	high := u.hi / group
	low, rest := bits.Div64(u.hi%group, u.lo, group)
	return fmt.Sprintf("%s%019d", Uint128{high, low}, rest)
}

// ParseUint128 reads an integer in decimal, without sign or zeros before it. It
// reports whether the text is one, and whether it fits.
func ParseUint128(text string) (u Uint128, canonical, fits bool) {
	if text == "" || text[0] == '0' && text != "0" {
		return Uint128{}, false, false
	}
	fits = true
	for i := range len(text) {
		digit := text[i] - '0'
		if digit > 9 {
			return Uint128{}, false, false
		}
		over, low := bits.Mul64(u.lo, 10)
		top, high := bits.Mul64(u.hi, 10)
		var carry, beyond uint64
		low, carry = bits.Add64(low, uint64(digit), 0)
		high, beyond = bits.Add64(high, over, carry)
		fits = fits && top == 0 && beyond == 0
		u = Uint128{high, low}
	}
	return u, true, fits
}

// readUint128 reads an integer that is written as a string.
func readUint128(d *decoder) Uint128 {
	text := d.text(maxNumberBytes)
	u, canonical, fits := ParseUint128(text)
	switch {
	case d.refusal != nil:
	case !canonical:
		d.refuse(RuleNumber, "%s is no integer in its one way", clipped(text))
	case !fits:
		d.refuse(RuleRange, "%s is beyond 128 bits", text)
	}
	return u
}

type quoted128 struct{ to *Uint128 }

func (q quoted128) read(d *decoder) { *q.to = readUint128(d) }
func (q quoted128) write(e *encoder) {
	e.out = append(append(append(e.out, '"'), q.to.String()...), '"')
}

// decimalPlaces is how far a Decimal goes behind its point.
const decimalPlaces = 18

// Decimal is a number with 18 places behind its point. Its zero value is 0.
type Decimal struct {
	Atomics Uint128 // 10⁻¹⁸
}

// String is the number without zeros behind it.
func (n Decimal) String() string {
	digits := n.Atomics.String()
	if short := decimalPlaces + 1 - len(digits); short > 0 {
		digits = strings.Repeat("0", short) + digits
	}
	whole, places := digits[:len(digits)-decimalPlaces], digits[len(digits)-decimalPlaces:]
	if places = strings.TrimRight(places, "0"); places == "" {
		return whole
	}
	return whole + "." + places
}

type decimal struct{ to *Decimal }

func (n decimal) read(d *decoder) {
	text := d.text(maxNumberBytes)
	if d.refusal != nil {
		return
	}
	whole, places, pointed := strings.Cut(text, ".")
	if pointed && (places == "" || len(places) > decimalPlaces || places[len(places)-1] == '0') || whole == "" || len(whole) > 1 && whole[0] == '0' {
		d.refuse(RuleNumber, "%s is no decimal in its one way", clipped(text))
		return
	}
	atomics := strings.TrimLeft(whole+places+strings.Repeat("0", decimalPlaces-len(places)), "0")
	if atomics == "" {
		atomics = "0"
	}
	u, canonical, fits := ParseUint128(atomics)
	switch {
	case !canonical:
		d.refuse(RuleNumber, "%s is no decimal in its one way", clipped(text))
	case !fits:
		d.refuse(RuleRange, "%s is too large", text)
	}
	n.to.Atomics = u
}

func (n decimal) write(e *encoder) { e.out = fmt.Appendf(e.out, `"%s"`, *n.to) }

// Raw is any JSON, without spaces: what another than this package reads. Its zero
// value is null.
type Raw struct{ text string }

// ParseRaw reads JSON of at most MaxMessageBytes.
func ParseRaw(data []byte) (r Raw, err error) {
	return r, decode(data, MaxMessageBytes, raw{&r})
}

// String is the JSON.
func (r Raw) String() string {
	if r.text == "" {
		return "null"
	}
	return r.text
}

type raw struct{ to *Raw }

func (r raw) read(d *decoder)  { r.to.text = string(d.raw(nil)) }
func (r raw) write(e *encoder) { e.out = append(e.out, r.to.String()...) }
