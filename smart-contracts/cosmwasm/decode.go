package cosmwasm

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// decoder reads one JSON text. After the first refusal it reads nothing more.
type decoder struct {
	data    []byte
	at      int
	depth   int
	path    []step
	refusal *Refusal
}

// decode reads a text of at most some bytes as a value, and nothing behind it.
func decode(data []byte, most int, v value) error {
	d := &decoder{data: data}
	if len(data) > most {
		return &Refusal{RuleSize, "", fmt.Sprintf("%d bytes, limit %d", len(data), most)}
	}
	v.read(d)
	if d.peek() != 0 || d.at < len(d.data) {
		d.refuse(RuleSyntax, "bytes behind the end, at %d", d.at)
	}
	if d.refusal != nil {
		return d.refusal
	}
	return nil
}

// refuse notes the first refusal.
func (d *decoder) refuse(rule Rule, format string, args ...any) {
	if d.refusal == nil {
		d.refusal = &Refusal{rule, pathOf(d.path), fmt.Sprintf(format, args...)}
	}
}

// peek passes over spaces and returns what follows, 0 at the end or after a refusal.
func (d *decoder) peek() byte {
	for d.refusal == nil && d.at < len(d.data) {
		switch c := d.data[d.at]; c {
		case ' ', '\t', '\n', '\r':
			d.at++
		default:
			return c
		}
	}
	return 0
}

// kindOf says what a value that begins so is, in refusals.
func kindOf(c byte) string {
	switch {
	case c == '{':
		return "an object"
	case c == '[':
		return "a list"
	case c == '"':
		return "a string"
	case c == 't' || c == 'f':
		return "a boolean"
	case c == 'n':
		return "null"
	case c == '-' || c >= '0' && c <= '9':
		return "a number"
	default:
		return ""
	}
}

// begins says whether a value of a kind follows, and refuses what else does.
func (d *decoder) begins(c byte) bool {
	got := d.peek()
	if got == c {
		return true
	}
	if kind := kindOf(got); kind != "" {
		d.refuse(RuleType, "%s, want %s", kind, kindOf(c))
	} else {
		d.refuse(RuleSyntax, "no value at %d", d.at)
	}
	return false
}

// take passes over a byte that must follow.
func (d *decoder) take(c byte) bool {
	if d.peek() != c {
		d.refuse(RuleSyntax, "want %q at %d", c, d.at)
		return false
	}
	d.at++
	return true
}

// word passes over true, false or null, if it follows.
func (d *decoder) word(w string) bool {
	if d.peek() == 0 || string(d.data[d.at:min(len(d.data), d.at+len(w))]) != w {
		return false
	}
	d.at += len(w)
	return true
}

// null passes over null, if it follows.
func (d *decoder) null() bool { return d.word("null") }

// in reads what is one step further.
func (d *decoder) in(s step, read func()) {
	d.path = append(d.path, s)
	read()
	d.path = d.path[:len(d.path)-1]
}

// enter goes into an object or a list.
func (d *decoder) enter(open byte) bool {
	if !d.begins(open) {
		return false
	}
	if d.depth == maxDepth {
		d.refuse(RuleDepth, "nested deeper than %d", maxDepth)
		return false
	}
	d.depth++
	d.at++
	return true
}

// more says whether there is another element, after the comma if it is not the first;
// at the end it goes out.
func (d *decoder) more(end byte, first bool) bool {
	if d.peek() == end {
		d.at++
		d.depth--
		return false
	}
	if !first && !d.take(',') {
		return false
	}
	return d.refusal == nil
}

// names are those of an object's fields so far.
type names struct {
	few   [16]string
	more  map[string]bool // beyond those
	count int
}

// add adds a name, and reports whether it was not there.
func (n *names) add(name string) bool {
	if slices.Contains(n.few[:min(n.count, len(n.few))], name) || n.more[name] {
		return false
	}
	if n.count < len(n.few) {
		n.few[n.count] = name
	} else {
		if n.more == nil {
			n.more = map[string]bool{}
		}
		n.more[name] = true
	}
	n.count++
	return true
}

// object reads an object: each is called with a field's name and reads its value. Names
// that are known are not copied.
func (d *decoder) object(known func(name []byte) string, each func(name string)) {
	if d.enter('{') && d.more('}', true) {
		d.fields(known, each)
	}
}

// fields reads those of an object that has some.
func (d *decoder) fields(known func(name []byte) string, each func(name string)) {
	var seen names
	for first := true; first || d.more('}', false); first = false {
		text := d.bytes(maxNameBytes)
		if d.refusal != nil || !d.take(':') {
			return
		}
		name := known(text)
		switch {
		case !seen.add(name):
			d.refuse(RuleDuplicate, "%s twice", clipped(name))
			return
		case seen.count > maxFields:
			d.refuse(RuleSize, "more than %d fields", maxFields)
			return
		}
		each(name)
	}
}

// anyName knows none.
func anyName(name []byte) string { return string(name) }

// list reads a list of at most some elements.
func (d *decoder) list(most int, each func(i int)) {
	if !d.enter('[') {
		return
	}
	count := 0
	for ; d.more(']', count == 0); count++ {
		if count == most {
			d.refuse(RuleSize, "more than %d elements", most)
			return
		}
		d.in(step{at: count}, func() { each(count) })
	}
}

// text reads a string that has at most some bytes.
func (d *decoder) text(most int) string { return string(d.bytes(most)) }

// plain are the bytes that stand for themselves in a string, each a character.
var plain = func() (out [256]bool) {
	for c := 0x20; c < utf8.RuneSelf; c++ {
		out[c] = c != '"' && c != '\\'
	}
	return out
}()

// bytes is text, as it stands in what is read if that is plain to its end.
func (d *decoder) bytes(most int) []byte {
	if !d.begins('"') {
		return nil
	}
	d.at++
	from := d.at
	for d.at < len(d.data) && d.at-from <= most && plain[d.data[d.at]] {
		d.at++
	}
	if out := d.data[from:d.at]; len(out) > most || d.at == len(d.data) || d.data[d.at] != '"' {
		return d.mixed(slices.Clone(out), most)
	}
	d.at++
	return d.data[from : d.at-1]
}

// mixed reads the rest of a string that is not plain, or too long.
func (d *decoder) mixed(out []byte, most int) []byte {
	for d.refusal == nil {
		if len(out) > most {
			d.refuse(RuleSize, "more than %d bytes", most)
			break
		}
		if d.at >= len(d.data) {
			d.refuse(RuleSyntax, "a string without end")
			break
		}
		c := d.data[d.at]
		switch {
		case c == '"':
			d.at++
			return out
		case c == '\\':
			out = utf8.AppendRune(out, d.escape())
		case c < 0x20:
			d.refuse(RuleSyntax, "a control character in a string, at %d", d.at)
		case c < utf8.RuneSelf:
			out = append(out, c)
			d.at++
		default:
			r, size := utf8.DecodeRune(d.data[d.at:])
			if r == utf8.RuneError && size <= 1 {
				d.refuse(RuleUTF8, "byte %d", d.at)
				break
			}
			out = append(out, d.data[d.at:d.at+size]...)
			d.at += size
		}
	}
	return nil
}

// escapes are the characters that an escape of one letter stands for.
var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escape reads an escape in a string.
func (d *decoder) escape() rune {
	d.at++
	if d.at >= len(d.data) {
		d.refuse(RuleSyntax, "a string without end")
		return 0
	}
	c := d.data[d.at]
	d.at++
	if c != 'u' {
		if escapes[c] == 0 {
			d.refuse(RuleSyntax, "an escape that is none, at %d", d.at-2)
		}
		return rune(escapes[c])
	}
	r := d.hex4()
	if !utf16.IsSurrogate(r) {
		return r
	}
	if d.at+2 <= len(d.data) && d.data[d.at] == '\\' && d.data[d.at+1] == 'u' {
		d.at += 2
		if whole := utf16.DecodeRune(r, d.hex4()); whole != utf8.RuneError {
			return whole
		}
	}
	d.refuse(RuleUTF8, "half of a surrogate pair, before %d", d.at)
	return 0
}

// hex4 reads four hexadecimal digits.
func (d *decoder) hex4() (r rune) {
	for range 4 {
		digit := -1
		if d.at < len(d.data) {
			digit = strings.IndexByte("0123456789abcdef", d.data[d.at]|0x20)
			if c := d.data[d.at]; c < '0' {
				digit = -1
			}
		}
		if digit < 0 {
			d.refuse(RuleSyntax, "no hexadecimal digit at %d", d.at)
			return 0
		}
		r = r<<4 | rune(digit)
		d.at++
	}
	return r
}

// number reads the text of a number (RFC 8259 §6).
func (d *decoder) number() string {
	start := d.at
	digits := func() {
		from := d.at
		for d.at < len(d.data) && d.data[d.at] >= '0' && d.data[d.at] <= '9' {
			d.at++
		}
		if d.at == from {
			d.refuse(RuleSyntax, "no digit at %d", d.at)
		}
	}
	has := func(any string) bool {
		there := d.at < len(d.data) && strings.IndexByte(any, d.data[d.at]) >= 0
		if there {
			d.at++
		}
		return there
	}
	has("-")
	if !has("0") {
		digits()
	}
	if has(".") {
		digits()
	}
	if has("eE") {
		has("+-")
		digits()
	}
	if d.at-start > maxNumberBytes {
		d.refuse(RuleSize, "a number of more than %d bytes", maxNumberBytes)
	}
	return string(d.data[start:d.at])
}

// raw reads any value and appends it to out as it is written, without spaces.
func (d *decoder) raw(out []byte) []byte {
	switch c := d.peek(); {
	case c == '{':
		out = append(out, '{')
		d.object(anyName, func(name string) {
			if out[len(out)-1] != '{' {
				out = append(out, ',')
			}
			out = append(appendText(out, name), ':')
			d.in(step{field: clipped(name)}, func() { out = d.raw(out) })
		})
		return append(out, '}')
	case c == '[':
		out = append(out, '[')
		d.list(len(d.data), func(i int) {
			if i > 0 {
				out = append(out, ',')
			}
			out = d.raw(out)
		})
		return append(out, ']')
	case c == '"':
		return appendText(out, d.text(len(d.data)))
	case c == '-' || c >= '0' && c <= '9':
		return append(out, d.number()...)
	}
	for _, word := range []string{"true", "false", "null"} {
		if d.word(word) {
			return append(out, word...)
		}
	}
	d.refuse(RuleSyntax, "no value at %d", d.at)
	return out
}
