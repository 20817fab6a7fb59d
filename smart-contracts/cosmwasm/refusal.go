package cosmwasm

import (
	"fmt"
	"strings"
)

// Rule names what a text is refused for. The names do not change.
type Rule string

// The rules that what contracts say is held to.
const (
	RuleSyntax      Rule = "syntax"      // no JSON
	RuleUTF8        Rule = "utf8"        // no UTF-8, or half of a surrogate pair
	RuleDepth       Rule = "depth"       // nested too deep
	RuleSize        Rule = "size"        // too long, or too many
	RuleDuplicate   Rule = "duplicate"   // a field twice
	RuleMissing     Rule = "missing"     // a field that must be there
	RuleType        Rule = "type"        // another kind of value
	RuleRange       Rule = "range"       // a number that is too large
	RuleNumber      Rule = "number"      // an integer or decimal that is not written in its one way
	RuleBase64      Rule = "base64"      // a Binary that is not
	RuleVariant     Rule = "variant"     // not exactly one variant that is known
	RuleUnsupported Rule = "unsupported" // a variant that CosmWasm has and this chain has not
	RuleEvent       Rule = "event"       // an event or attribute with a name that is reserved, or none
)

// Refusal says why a text is not taken. It is an error of the contract, and its Rule
// the same on every node; the rest is for people.
type Refusal struct {
	Rule   Rule
	Path   string // as in ok.messages[1].msg; empty for the whole
	Detail string
}

func (r *Refusal) Error() string {
	if r.Path == "" {
		return fmt.Sprintf("%s: %s", r.Rule, r.Detail)
	}
	return fmt.Sprintf("%s: %s: %s", r.Path, r.Rule, r.Detail)
}

// step is a part of a path: a field, or a place in a list.
type step struct {
	field string
	at    int
}

func pathOf(steps []step) string {
	var out strings.Builder
	for i, s := range steps {
		switch {
		case s.field == "":
			fmt.Fprintf(&out, "[%d]", s.at)
		case i > 0:
			out.WriteString("." + s.field)
		default:
			out.WriteString(s.field)
		}
	}
	return out.String()
}

// clipped is a contract's text in a refusal.
func clipped(text string) string {
	const most = 64
	if len(text) <= most {
		return fmt.Sprintf("%q", text)
	}
	return fmt.Sprintf("%q…", text[:most])
}
