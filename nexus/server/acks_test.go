package server_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/netem"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/server"
)

// TestAnOldAnswerConfirmsNoRead holds back what the followers answer to their
// leader's beats, cuts the leader off, has one of the followers elected and a job
// accepted there, and asks the leader that was, which has not noticed, what is
// newest. Then it hears the answers.
func TestAnOldAnswerConfirmsNoRead(t *testing.T) {
	c, relay := relayedCluster(t, func(cfg *server.Config) { cfg.Heartbeat *= 8 })
	for range 5 { // on a busy machine the leader may notice before it is asked
		old := c.waitLeader()
		if c.askDeposed(relay, old) {
			return
		}
		relay.Partition(make([]int, 3))
	}
	t.Fatal("the leader that was always noticed first")
}

// askDeposed reports whether the old leader was asked while it took itself for the
// leader.
func (c *cluster) askDeposed(relay *netem.Relay, old int) bool {
	c.t.Helper()
	held, release := c.servers[old].HoldAnswers()
	defer release()
	until(c.t, "answers under way", func() bool { return held() >= 2 })
	sides := make([]int, 3)
	sides[old] = 1
	relay.Partition(sides)
	heir := c.prompt([]int{(old + 1) % 3, (old + 2) % 3})
	id := c.submit(heir, chain.PolicyNone{})
	newest := c.servers[heir].LogIndex()
	type answer struct {
		index uint64
		err   error
	}
	answers, asked := make(chan answer, 1), c.servers[old].Asked()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	go func() {
		index, err := c.servers[old].ReadIndex(ctx)
		answers <- answer{index, err}
	}()
	unknown := make(chan bool, 1)
	go func() {
		over, err := c.servers[old].KnowsOver(ctx, id, key(agentKeys).Public())
		unknown <- over && err == nil
	}()
	leads := false
	until(c.t, "the questions", func() bool {
		leads = c.servers[old].Leads()
		return c.servers[old].Asked() > asked+1 || !leads
	})
	release()
	if <-unknown {
		c.t.Error("a leader that was says that nobody has a part in a job that another has accepted")
	}
	switch got := <-answers; {
	case got.err == nil:
		c.t.Errorf("a leader that was says that entry %d is the newest, and another has answered %d", got.index, newest)
	case ctx.Err() != nil:
		c.t.Error("it took 10 s to find out that it leads no more")
	}
	return leads
}

// prompt has one of two servers stand for election after the other, until one leads:
// who lacks an entry that the other has does not win.
func (c *cluster) prompt(pair []int) (leader int) {
	c.t.Helper()
	const patience = 60 // looks
	looks := 0
	until(c.t, "another leader", func() bool {
		for _, i := range pair {
			if leader = i; c.servers[i].Leads() {
				return true
			}
		}
		if looks%patience == 0 {
			to, by := pair[looks/patience%2], pair[1-looks/patience%2]
			if err := c.servers[by].Prompt(c.servers[to]); err != nil {
				c.t.Log(err)
			}
		}
		looks++
		return false
	})
	return leader
}

// TestWhoConfirms counts answers as those of a leader "a".
func TestWhoConfirms(t *testing.T) {
	v := server.NewVoters()
	check := func(want bool, what string, term, question uint64, voters ...raft.ServerID) {
		t.Helper()
		if got := v.Confirmed(term, question, voters...); got != want {
			t.Errorf("%s: %v", what, got)
		}
	}
	check(true, "alone", 1, 1, "a")
	check(false, "nobody has answered", 1, 1, "a", "b", "c")
	v.Note("b", 1, 1)
	check(true, "one of two others", 1, 1, "a", "b", "c")
	check(false, "asked after it", 1, 2, "a", "b", "c")
	check(false, "in a later term", 2, 1, "a", "b", "c")
	check(false, "one of four others", 1, 1, "a", "b", "c", "d", "e")
	v.Note("x", 1, 1)
	check(false, "another is no voter", 1, 1, "a", "b", "c", "d", "e")
	check(false, "neither is the leader", 1, 1, "b", "c")
	v.Note("c", 1, 3)
	v.Note("c", 1, 2) // was longer under way
	check(true, "the newest answer counts", 1, 3, "a", "b", "c")
	v.Note("b", 2, 4)
	check(false, "answers of an earlier term are forgotten", 1, 1, "a", "b", "c")
	v.Note("c", 1, 9)
	check(false, "an answer of an earlier term", 2, 9, "a", "b", "c")
	check(true, "of its own", 2, 4, "a", "b", "c")
}

// TestNoBeatAfterRaftHasStopped shuts the gate while a beat is taken.
func TestNoBeatAfterRaftHasStopped(t *testing.T) {
	inside, goOn := make(chan struct{}), make(chan struct{})
	taken := 0
	through, shut := server.Gated(func(rpc raft.RPC) {
		taken++
		close(inside)
		<-goOn
		rpc.Respond(nil, nil)
	})
	beat := func() chan raft.RPCResponse {
		answer := make(chan raft.RPCResponse, 1)
		go through(raft.RPC{RespChan: answer})
		return answer
	}
	first := beat()
	<-inside
	done := make(chan struct{})
	go func() {
		shut()
		close(done)
	}()
	select {
	case <-done:
		t.Fatal("raft's log may be closed while a beat is taken")
	case <-time.After(20 * time.Millisecond):
	}
	close(goOn)
	<-done
	if answer := <-first; answer.Error != nil {
		t.Error(answer.Error)
	}
	if answer := <-beat(); !errors.Is(answer.Error, raft.ErrRaftShutdown) || taken != 1 {
		t.Errorf("a beat after the end: %v, %d taken", answer.Error, taken)
	}
}

// TestTheLogOutlivesRaft stops raft twice, as whoever kills a server does while it
// ends by itself: its log is open until raft has stopped.
func TestTheLogOutlivesRaft(t *testing.T) {
	c := newCluster(t, 1)
	c.upload(0, blob.Sum([]byte(program)), program)
	request, _ := signedJob(t, testOrder(chain.PolicyNone{}), testSpec(program))
	busy, release := c.servers[0].Hold()
	var posted sync.WaitGroup
	posted.Go(func() { c.post(0, "/v1/jobs", request) })
	<-busy
	stopped, closed := make(chan error, 1), make(chan error, 1)
	go func() { stopped <- c.servers[0].StopRaft() }()
	until(t, "raft to be told", func() bool { return c.servers[0].RaftState() == raft.Shutdown })
	go func() { closed <- c.servers[0].CloseRaft() }()
	select {
	case err := <-closed:
		t.Error("the log was closed while raft carried out an entry:", err)
	case <-time.After(300 * time.Millisecond):
	}
	release()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if !t.Failed() {
		if err := <-closed; err != nil {
			t.Error(err)
		}
	}
	if err := c.stops[0](); err != nil {
		t.Log("without its log:", err)
	}
	c.stops[0] = nil
	posted.Wait()
}

// future answers once it is told what.
type future chan error

func (f future) Error() error { return <-f }

// TestNobodyWaitsForRaftsRuins asks what raft, which was shut down just then, never answers.
func TestNobodyWaitsForRaftsRuins(t *testing.T) {
	c := newCluster(t, 1)
	told := make(future, 1)
	told <- raft.ErrLeadershipLost
	if err := c.servers[0].Await(told); !errors.Is(err, raft.ErrLeadershipLost) {
		t.Error(err)
	}
	waited := make(chan error, 1)
	go func() { waited <- c.servers[0].Await(make(future)) }()
	if err := c.servers[0].StopRaft(); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; !errors.Is(err, raft.ErrRaftShutdown) {
		t.Error(err)
	}
	_ = c.stops[0]() // what its ruins say is not our concern
	c.stops[0] = nil
}

// TestAFullPipelineEndsWithRaft has a pipeline wait for somebody to take its answers
// while raft is stopped: nobody does any more, and it ends.
func TestAFullPipelineEndsWithRaft(t *testing.T) {
	c := newCluster(t, 3)
	leader := c.waitLeader()
	full, ended, err := c.servers[leader].FillPipe(c.servers[(leader+1)%3])
	if err != nil {
		t.Fatal(err)
	}
	<-full
	c.stop(leader)
	select {
	case err := <-ended:
		t.Log(err)
	case <-time.After(time.Minute):
		t.Error("raft has stopped, and a pipeline waits")
	}
	if _, _, err := c.servers[leader].FillPipe(c.servers[(leader+1)%3]); err == nil {
		t.Error("raft has stopped, and a pipeline is opened")
	}
}
