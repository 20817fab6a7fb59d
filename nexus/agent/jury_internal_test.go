package agent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// TestVotesAreRemembered for longer than panels of which a server only spoke, and are given again as
// long as their panels may be open.
func TestVotesAreRemembered(t *testing.T) {
	gone := 0
	j := jury{panels: map[crypto.Digest]*summons{}, gone: func(crypto.Digest) { gone++ }}
	name := func(n int) crypto.Digest { return crypto.Digest{byte(n >> 8), byte(n)} }
	voted := j.of(name(0))
	voted.ballot = &job.Ballot{Panel: name(0)}
	for n := range 10 * maxBallots {
		j.of(name(n))
	}
	if j.of(name(0)) != voted || len(j.panels) != maxBallots || len(j.order) != maxBallots {
		t.Errorf("a vote was forgotten for what a server said, or %d panels are remembered", len(j.panels))
	}
	if gone != 0 {
		t.Errorf("%d votes are to go from the disk", gone)
	}
	for n := range 10 * maxBallots {
		j.of(name(n + 1)).ballot = &job.Ballot{Panel: name(n + 1)}
	}
	if list := j.given(time.Hour); len(list) != maxBallots || list[maxBallots-1].Panel != name(10*maxBallots) {
		t.Errorf("%d votes are given again", len(list))
	}
	if gone != 9*maxBallots+1 {
		t.Errorf("%d votes are to go from the disk, want all but %d", gone, maxBallots)
	}
	for _, s := range j.panels {
		s.heard = time.Now().Add(-2 * time.Hour)
	}
	if list := j.given(time.Hour); len(list) != 0 {
		t.Errorf("%d votes on panels that are over are given again", len(list))
	}
}

// TestAWaitingJurorHoldsUpNoBids at first; then what comes free is its.
func TestAWaitingJurorHoldsUpNoBids(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCapacity(&Config{Millicores: 10, MemoryMiB: 10, DiskMiB: 10, MaxJobs: 10})
		if err := c.acquire(t.Context(), need{millicores: 8}); err != nil {
			t.Fatal(err)
		}
		got := make(chan error, 1)
		go func() { got <- c.acquireLate(t.Context(), need{millicores: 5}, time.Minute) }()
		synctest.Wait()
		if lack := c.missing(need{millicores: 2}); lack != "" {
			t.Errorf("no bid, as a juror waits: %s", lack)
		}
		time.Sleep(time.Minute) // of the bubble
		synctest.Wait()
		if c.missing(need{millicores: 2}) == "" {
			t.Error("work is taken on before a juror whose time ends")
		}
		c.release(need{millicores: 8})
		if err := <-got; err != nil || c.used.millicores != 5 || c.running != 1 {
			t.Errorf("%v, %d millicores are used", err, c.used.millicores)
		}
		if lack := c.missing(need{millicores: 5}); lack != "" {
			t.Errorf("no bid, though nobody waits: %s", lack)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.acquireLate(ctx, need{millicores: 6}, time.Minute); err == nil || c.waiting != 0 || c.used.millicores != 5 {
			t.Errorf("%v, %d wait, %d millicores are used", err, c.waiting, c.used.millicores)
		}
	})
}
