package server_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/blob"
)

// TestBlobsComeToWhoWasAway has a server away while a blob is uploaded and a job
// on it is submitted, and another lose its blobs while it is stopped: both have
// it again without being asked for it, so that either may be the last to have it.
func TestBlobsComeToWhoWasAway(t *testing.T) {
	c := newCluster(t, 3)
	leader := c.waitLeader()
	away, loser := (leader+1)%3, (leader+2)%3
	c.stop(away)
	c.waitLeader()
	c.submit(leader, chain.PolicyNone{}) // nobody is there to run it
	module := blob.Sum([]byte(program))
	kept := func(i int, id crypto.Digest) string {
		return filepath.Join(c.configs[i].Home, "data", "blobs", "blobs", id.String())
	}
	has := func(i int) bool {
		_, err := os.Stat(kept(i, module))
		return err == nil
	}
	if has(away) {
		t.Fatal("a server that is stopped has a new blob")
	}
	c.start(away)
	until(t, "the blob at the server that was away", func() bool { return has(away) })
	c.waitLeader()
	c.stop(loser)
	for _, path := range []string{kept(loser, module), kept(loser, module) + ".outline"} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	c.start(loser)
	until(t, "the blob at the server that lost it", func() bool { return has(loser) })
}
