package api

import (
	"fmt"
	"strings"
)

// The problem types (RFC 9457 §3.1.1) that a client may want to tell apart.
// Others are "about:blank": the status says it all.
const (
	ProblemInvalid  = "urn:hypermesh:problem:invalid" // a part of the request was refused: see errors
	ProblemLimit    = "urn:hypermesh:problem:limit"   // larger than the limit
	ProblemNotFound = "urn:hypermesh:problem:not-found"
	ProblemPruned   = "urn:hypermesh:problem:pruned" // this node no longer has it
	ProblemBusy     = "urn:hypermesh:problem:busy"   // try again after Retry-After
	ProblemInternal = "urn:hypermesh:problem:internal"
	ProblemContract = "urn:hypermesh:problem:contract" // the contract does not answer: the detail says why
)

// Problem is an error answer (RFC 9457).
type Problem struct {
	Type     string          `json:"type,omitempty" doc:"a URI that names the kind of problem"`
	Title    string          `json:"title,omitempty"`
	Status   int             `json:"status,omitempty"`
	Detail   string          `json:"detail,omitempty"`
	Instance string          `json:"instance,omitempty"`
	Errors   []ProblemDetail `json:"errors,omitempty"`
}

// ProblemDetail is one thing that is wrong with a request.
type ProblemDetail struct {
	Location string `json:"location,omitempty" doc:"such as body.txs[3].body.sender or path.height"`
	Message  string `json:"message,omitempty"`
}

// maxShownDetails bounds how many details Error writes.
const maxShownDetails = 4

// Error writes the problem in one line.
func (p *Problem) Error() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%d %s", p.Status, p.Title)
	if p.Detail != "" {
		out.WriteString(": " + p.Detail)
	}
	for i, d := range p.Errors {
		if i == maxShownDetails {
			fmt.Fprintf(&out, "; and %d more", len(p.Errors)-i)
			break
		}
		fmt.Fprintf(&out, "; %s: %s", d.Location, d.Message)
	}
	return out.String()
}

// GetStatus returns the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType returns the media type of a problem in place of JSON's.
func (p *Problem) ContentType(string) string { return ContentProblem }
