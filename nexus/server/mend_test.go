package server_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
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
	c := steady(t, 3)
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
	c := steady(t, 1)
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

// TestAServerThatLeavesLosesNoBlob removes the only server that has a job's blob:
// the others have it before. If it is dead and nobody else has the blob, it is
// not removed, by the blob's name, unless it is forced.
func TestAServerThatLeavesLosesNoBlob(t *testing.T) {
	c := steady(t, 3)
	leader := c.waitLeader()
	leaves, stays := (leader+1)%3, (leader+2)%3
	c.submit(leader, chain.PolicyNone{})
	module := blob.Sum([]byte(program))
	has := func(i int) bool {
		_, err := os.Stat(filepath.Join(c.configs[i].Home, "data", "blobs", "blobs", module.String()))
		return err == nil
	}
	until(t, "the blob at all servers", func() bool { return has(0) && has(1) && has(2) })
	lose := func(servers ...int) {
		for _, i := range servers {
			if err := c.servers[i].LoseBlob(module); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := api.ServerChange{Action: api.RemoveServer, Server: key(serverKeys + leaves).Public()}
	lose(leader, stays)
	if status, body := c.change(leader, remove, nil); status != http.StatusOK {
		t.Fatalf("removing: %d %s", status, body)
	}
	if !has(leader) || !has(stays) {
		t.Error("a server was removed that alone had a job's blob")
	}
	c.stop(leaves)
	next := api.ServerChange{Action: api.AddServer, Server: key(serverKeys + leaves).Public(), Address: c.configs[leaves].Listen}
	c.start(leaves)
	if status, body := c.change(leader, next, nil); status != http.StatusOK {
		t.Fatalf("adding it again: %d %s", status, body)
	}
	c.kill(leaves)
	lose(leader, stays)
	status, body := c.change(leader, remove, nil)
	if status != http.StatusConflict || !strings.Contains(string(body), module.String()) {
		t.Fatalf("removing who alone has a blob, and is dead: %d %s", status, body)
	}
	if n := c.voters(leader); n != 3 {
		t.Errorf("%d servers are left", n)
	}
	remove.Force = true
	if status, body := c.change(leader, remove, nil); status != http.StatusOK || c.voters(leader) != 2 {
		t.Fatalf("removing by force: %d %s", status, body)
	}
}
