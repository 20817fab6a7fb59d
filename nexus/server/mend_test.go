package server_test

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/sdk/api"
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

// TestAMajorityOfOtherServersIsNone uploads a blob to two servers of three and
// removes one of them: a job on it is accepted once the third has it.
func TestAMajorityOfOtherServersIsNone(t *testing.T) {
	c := newCluster(t, 3)
	leader := c.waitLeader()
	away, removed := (leader+1)%3, (leader+2)%3
	c.stop(away)
	module := blob.Sum([]byte(program))
	c.upload(leader, module, program)
	c.start(away)
	until(t, "the server that was away", func() bool {
		status, _ := c.do(away, http.MethodGet, "/v1/nodes?consistency=linearizable", nil, nil)
		return status == http.StatusOK
	})
	change := api.ServerChange{Action: api.RemoveServer, Server: key(serverKeys + removed).Public()}
	if status, body := c.change(leader, change, nil); status != http.StatusOK {
		t.Fatalf("removing: %d %s", status, body)
	}
	c.stop(removed)
	c.submit(leader, chain.PolicyNone{})
	if _, err := os.Stat(filepath.Join(c.configs[away].Home, "data", "blobs", "blobs", module.String())); err != nil {
		t.Errorf("a job was accepted, and its blob is at one server of two: %v", err)
	}
}

// TestBlobsComeToServersThatAreAdded begins with one server, on whose jobs no
// other has ever worked, and adds two: they have the jobs' blobs without being
// asked for them, and the first may be lost.
func TestBlobsComeToServersThatAreAdded(t *testing.T) {
	c := newCluster(t, 1)
	c.submit(0, chain.PolicyNone{})
	module := blob.Sum([]byte(program))
	has := func(i int) bool {
		_, err := os.Stat(filepath.Join(c.configs[i].Home, "data", "blobs", "blobs", module.String()))
		return err == nil
	}
	for range 2 {
		i, change := c.join()
		if status, body := c.change(0, change, nil); status != http.StatusOK {
			t.Fatalf("adding server %d: %d %s", i, status, body)
		}
	}
	until(t, "the blob at the servers that were added", func() bool { return has(1) && has(2) })
	// The first, which began alone, mends its own loss too, without a restart.
	if err := c.servers[0].LoseBlob(module); err != nil || has(0) {
		t.Fatal("the blob is still there", err)
	}
	until(t, "the blob at the server that began alone", func() bool { return has(0) })
}
