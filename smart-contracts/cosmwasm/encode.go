package cosmwasm

import (
	"fmt"
	"unicode/utf8"
)

// encoder writes one JSON text.
type encoder struct{ out []byte }

// newEncoder returns an encoder with room for a small text.
func newEncoder() *encoder { return &encoder{make([]byte, 0, 256)} }

// appendText writes a string with the fewest escapes. A string of the chain's that is
// no UTF-8 is a broken invariant.
func appendText(out []byte, text string) []byte {
	if !utf8.ValidString(text) {
		panic(fmt.Sprintf("cosmwasm: %q is no UTF-8", text))
	}
	out = append(out, '"')
	plain := 0 // where bytes begin that are written as they are
	for i := range len(text) {
		c := text[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		out = append(out, text[plain:i]...)
		plain = i + 1
		switch c {
		case '"', '\\':
			out = append(out, '\\', c)
		case '\b':
			out = append(out, `\b`...)
		case '\f':
			out = append(out, `\f`...)
		case '\n':
			out = append(out, `\n`...)
		case '\r':
			out = append(out, `\r`...)
		case '\t':
			out = append(out, `\t`...)
		default:
			out = fmt.Appendf(out, `\u%04x`, c)
		}
	}
	out = append(out, text[plain:]...)
	return append(out, '"')
}
