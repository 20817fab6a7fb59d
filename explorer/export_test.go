package explorer

import (
	"strings"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// MessageWords and EventWords are what the pages say, as plain text.
func MessageWords(from chain.Address, m chain.Msg) string { return plain(sayMessage(from, m)) }
func EventWords(e chain.Event) string                     { return plain(sayEvent(e)) }

func plain(s sentence) string {
	var b strings.Builder
	for _, w := range s {
		b.WriteString(w.Text)
		if w.Link != nil {
			b.WriteString(w.Link.Short)
		}
		if w.Money != nil {
			b.WriteString(w.Money.Whole + w.Money.Fraction)
		}
	}
	return b.String()
}
