package cosmwasm

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// value is a place in a Go value and how it is written: what is read goes there, and
// what is there is written.
type value interface {
	read(d *decoder)
	write(e *encoder)
}

// formed is a type that has a form.
type formed[T any] interface {
	*T
	form() value
}

// field is one of an object's.
type field struct {
	name  string
	of    value
	may   bool        // be left out
	blank func() bool // whether it is left out when it is written; nil: never
	also  string      // its name in CosmWasm's versions before
}

func must(name string, of value) field { return field{name: name, of: of} }

// object is a struct: its fields in the order in which they are written.
type object []field

// known is a field's name without a copy.
func (o object) known(name []byte) string {
	for i := range o {
		if f := &o[i]; string(name) == f.name {
			return f.name
		} else if string(name) == f.also {
			return f.also
		}
	}
	return string(name)
}

func (o object) read(d *decoder) {
	var room [8]bool
	seen := append(room[:0], make([]bool, len(o))...)
	d.object(o.known, func(name string) {
		for i, f := range o {
			if name != f.name && (f.also == "" || name != f.also) {
				continue
			}
			if seen[i] {
				d.refuse(RuleDuplicate, "%q beside %q", f.also, f.name)
				return
			}
			seen[i] = true
			d.in(step{field: name}, func() { f.of.read(d) })
			return
		}
		d.in(step{field: clipped(name)}, func() { d.raw(nil) })
	})
	for i, f := range o {
		if !seen[i] && !f.may {
			d.refuse(RuleMissing, "no %s", f.name)
		}
	}
}

func (o object) write(e *encoder) {
	e.out = append(e.out, '{')
	first := true
	for _, f := range o {
		if f.blank != nil && f.blank() {
			continue
		}
		if !first {
			e.out = append(e.out, ',')
		}
		first = false
		e.out = append(appendText(e.out, f.name), ':')
		f.of.write(e)
	}
	e.out = append(e.out, '}')
}

// text is a string of at most some bytes.
type text struct {
	to   *string
	most int
}

func (t text) read(d *decoder)  { *t.to = d.text(t.most) }
func (t text) write(e *encoder) { e.out = appendText(e.out, *t.to) }

// flag is a boolean.
type flag struct{ to *bool }

func (f flag) read(d *decoder) {
	switch {
	case d.word("true"):
		*f.to = true
	case d.word("false"):
		*f.to = false
	case kindOf(d.peek()) == "a boolean":
		d.refuse(RuleSyntax, "no boolean at %d", d.at)
	default:
		d.begins('t')
	}
}

func (f flag) write(e *encoder) { e.out = strconv.AppendBool(e.out, *f.to) }

// number is an integer that is written as a number.
type number[T ~uint8 | ~uint32 | ~uint64] struct{ to *T }

func (n number[T]) read(d *decoder) {
	if c := d.peek(); kindOf(c) != "a number" {
		d.begins('0')
		return
	}
	text := d.number()
	if strings.ContainsAny(text, "-.eE") {
		d.refuse(RuleNumber, "%s is no integer without sign", text)
		return
	}
	v, err := strconv.ParseUint(text, 10, 64)
	if *n.to = T(v); err != nil || uint64(*n.to) != v {
		d.refuse(RuleRange, "%s is too large", text)
	}
}

func (n number[T]) write(e *encoder) { e.out = strconv.AppendUint(e.out, uint64(*n.to), 10) }

// quoted64 is an integer of 64 bits that is written as a string.
type quoted64 struct{ to *uint64 }

func (q quoted64) read(d *decoder) {
	u := readUint128(d)
	if u.hi != 0 {
		d.refuse(RuleRange, "%s is beyond 64 bits", u)
	}
	*q.to = u.lo
}

func (q quoted64) write(e *encoder) {
	e.out = append(strconv.AppendUint(append(e.out, '"'), *q.to, 10), '"')
}

// binary is bytes in base64 (RFC 4648 §4).
type binary struct {
	to   *[]byte
	most int
}

func (b binary) read(d *decoder) {
	text := d.text((b.most + 2) / 3 * 4)
	// Go passes over line ends, which are no base64.
	out, err := base64.StdEncoding.Strict().DecodeString(text)
	switch {
	case d.refusal != nil:
	case err != nil || strings.ContainsAny(text, "\r\n"):
		d.refuse(RuleBase64, "%s", clipped(text))
	case len(out) > b.most:
		d.refuse(RuleSize, "%d bytes, limit %d", len(out), b.most)
	default:
		*b.to = out
	}
}

func (b binary) write(e *encoder) {
	e.out = append(base64.StdEncoding.AppendEncode(append(e.out, '"'), *b.to), '"')
}

// maybeBinary is bytes, or null for nil.
type maybeBinary binary

func (b maybeBinary) read(d *decoder) {
	if !d.null() {
		binary(b).read(d)
	}
}

func (b maybeBinary) write(e *encoder) {
	if *b.to == nil {
		e.out = append(e.out, "null"...)
		return
	}
	binary(b).write(e)
}

// someBinary is bytes that are left out if there are none.
type someBinary binary

func (b someBinary) read(d *decoder) {
	if binary(b).read(d); len(*b.to) == 0 {
		*b.to = nil
	}
}

func (b someBinary) write(e *encoder) { binary(b).write(e) }

// digest is 32 bytes in hexadecimal.
type digest struct{ to *[32]byte }

func (h digest) read(d *decoder) {
	text := d.text(2 * len(h.to))
	out, err := hex.DecodeString(text)
	if d.refusal == nil && (err != nil || len(out) != len(h.to) || text != strings.ToLower(text)) {
		d.refuse(RuleType, "%s is no digest", clipped(text))
		return
	}
	copy(h.to[:], out)
}

func (h digest) write(e *encoder) { e.out = fmt.Appendf(e.out, `"%x"`, h.to[:]) }

// word is one of some strings, numbered from 1.
type word[T ~uint8] struct {
	to    *T
	words []string
}

func (w word[T]) read(d *decoder) {
	text := d.text(maxNameBytes)
	for i, one := range w.words {
		if text == one {
			*w.to = T(i + 1)
			return
		}
	}
	d.refuse(RuleVariant, "%s is none of %s", clipped(text), strings.Join(w.words, ", "))
}

func (w word[T]) write(e *encoder) { e.out = appendText(e.out, w.words[*w.to-1]) }

// list is a list of at most some values.
type list[T any] struct {
	to   *[]T
	most int
	of   func(*T) value
}

func listOf[T any, P formed[T]](to *[]T, most int) list[T] {
	return list[T]{to, most, func(v *T) value { return P(v).form() }}
}

func (l list[T]) read(d *decoder) {
	*l.to = nil
	var v, blank T
	one := l.of(&v)
	d.list(l.most, func(int) {
		v = blank
		one.read(d)
		*l.to = append(*l.to, v)
	})
}

func (l list[T]) write(e *encoder) {
	e.out = append(e.out, '[')
	var v T
	one := l.of(&v)
	for i := range *l.to {
		if i > 0 {
			e.out = append(e.out, ',')
		}
		v = (*l.to)[i]
		one.write(e)
	}
	e.out = append(e.out, ']')
}

// option is a value, or null for nil.
type option[T any] struct {
	to **T
	of func(*T) value
}

func optionOf[T any, P formed[T]](to **T) option[T] {
	return option[T]{to, func(v *T) value { return P(v).form() }}
}

func optional64(to **uint64) option[uint64] {
	return option[uint64]{to, func(v *uint64) value { return number[uint64]{v} }}
}

func optionalText(to **string, most int) option[string] {
	return option[string]{to, func(v *string) value { return text{v, most} }}
}

func (o option[T]) read(d *decoder) {
	if !d.null() {
		*o.to = new(T)
		o.of(*o.to).read(d)
	}
}

func (o option[T]) write(e *encoder) {
	if *o.to == nil {
		e.out = append(e.out, "null"...)
		return
	}
	o.of(*o.to).write(e)
}

// optional is an Option's field: it may be left out, and is null when it is nil.
func optional(name string, of value) field { return field{name: name, of: of, may: true} }

// variant is one of a sum's: how it is read, and written if a value is of it.
type variant[I any] struct {
	name  string
	read  func(d *decoder) I
	write func(e *encoder, v I) bool
}

// one is a variant that is a type.
func one[I, T any, P formed[T]](name string) variant[I] {
	return variant[I]{name, func(d *decoder) I {
		var v T
		P(&v).form().read(d)
		return any(v).(I)
	}, func(e *encoder, v I) bool {
		t, ok := any(v).(T)
		if ok {
			P(&t).form().write(e)
		}
		return ok
	}}
}

// group is a variant that is a sum of its own.
func group[I any](name string, of ...variant[I]) variant[I] {
	return variant[I]{name, func(d *decoder) (v I) {
		sum[I]{&v, of}.read(d)
		return v
	}, func(e *encoder, v I) bool { return sum[I]{&v, of}.try(e) }}
}

// lacks is a variant that this chain has not.
func lacks[I any](name string) variant[I] {
	return variant[I]{name, func(d *decoder) (v I) {
		d.refuse(RuleUnsupported, "%s", name)
		return v
	}, func(*encoder, I) bool { return false }}
}

// sum is a sealed interface: an object of one field, which names the variant.
type sum[I any] struct {
	to *I
	of []variant[I]
}

func (s sum[I]) known(name []byte) string {
	for i := range s.of {
		if string(name) == s.of[i].name {
			return s.of[i].name
		}
	}
	return string(name)
}

func (s sum[I]) read(d *decoder) {
	count := 0
	d.object(s.known, func(name string) {
		if count++; count > 1 {
			d.refuse(RuleVariant, "%s beside another variant", clipped(name))
			return
		}
		for _, v := range s.of {
			if v.name == name {
				d.in(step{field: name}, func() { *s.to = v.read(d) })
				return
			}
		}
		d.refuse(RuleVariant, "%s is not known", clipped(name))
	})
	if count == 0 {
		d.refuse(RuleVariant, "none is there")
	}
}

// try writes the value if it is of one of the variants.
func (s sum[I]) try(e *encoder) bool {
	before := len(e.out)
	for _, v := range s.of {
		e.out = append(appendText(append(e.out, '{'), v.name), ':')
		if v.write(e, *s.to) {
			e.out = append(e.out, '}')
			return true
		}
		e.out = e.out[:before]
	}
	return false
}

func (s sum[I]) write(e *encoder) {
	if !s.try(e) {
		panic(fmt.Sprintf("cosmwasm: %T is no variant", *s.to))
	}
}
