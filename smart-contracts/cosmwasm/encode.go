package cosmwasm

import (
	"fmt"
	"unicode/utf8"
)

// encoder writes one JSON text.
type encoder struct{ out []byte }

// appendText writes a string with the fewest escapes. A string of the chain's that is
// no UTF-8 is a broken invariant.
func appendText(out []byte, text string) []byte {
	if !utf8.ValidString(text) {
		panic(fmt.Sprintf("cosmwasm: %q is no UTF-8", text))
	}
	out = append(out, '"')
	for i := range len(text) {
		switch c := text[i]; c {
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
			if c < 0x20 {
				out = fmt.Appendf(out, `\u%04x`, c)
			} else {
				out = append(out, c)
			}
		}
	}
	return append(out, '"')
}
