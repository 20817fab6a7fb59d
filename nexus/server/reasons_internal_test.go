package server

import (
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// TestReasonsAreCutBetweenCharacters: a node refuses in words of its own, which come to others as
// a part of a longer reason. Cut anywhere, it would be text that nobody decodes, and with it the
// answers to all commands of a batch.
func TestReasonsAreCutBetweenCharacters(t *testing.T) {
	for lead := range 4 {
		reason := strings.Repeat("r", lead) + strings.Repeat("日é", maxReason/5) + "日é"
		raw := codec.Marshal(commandAnswers{Answers: []commandAnswer{{Text: short(reason)}, {Took: &accepted{Reason: short(reason)}}}})
		var said commandAnswers
		if err := codec.Unmarshal(raw, &said, maxCommandsBody); err != nil {
			t.Fatalf("after %d letters: %v", lead, err)
		}
		if got := said.Answers[0].Text; !strings.HasPrefix(reason, got) || len(got) > maxReason || len(got) < maxReason-3 {
			t.Errorf("after %d letters %d bytes are left: %s", lead, len(got), got)
		}
		if _, err := job.DecodeMessage(job.EncodeMessage(job.Cancel{Reason: short(reason)})); err != nil {
			t.Errorf("after %d letters a node is told: %v", lead, err)
		}
	}
}
