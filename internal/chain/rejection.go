package chain

import (
	"fmt"
	"unicode/utf8"
)

// Rejection says which rule refused a transaction, a message or a claim, and
// the value that broke it. It is a value for receipts and events, on purpose
// not an error: an error out of the state machine is a fault. Nil is
// acceptance.
type Rejection struct{ reason string }

// Reject returns a rejection whose reason is cut to MaxRejection bytes.
func Reject(format string, args ...any) *Rejection {
	reason := fmt.Sprintf(format, args...)
	if len(reason) > MaxRejection {
		end := MaxRejection
		for !utf8.RuneStart(reason[end]) {
			end--
		}
		reason = reason[:end]
	}
	return &Rejection{reason: reason}
}

// Reason returns what a receipt says.
func (r *Rejection) Reason() string { return r.reason }
