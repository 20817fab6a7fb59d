package server_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/netem"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/server"
	"github.com/hypermesh/hypermesh/sdk/api"
)

var linearSeed = flag.Uint64("linear-seed", 1, "of the faults and questions of TestLinearizable")

// What a client asks of a job, and how it is answered.
type (
	opKind uint8
	jobOp  struct {
		kind opKind
		job  int
	}
	jobAnswer struct {
		status  job.Status // 0: the job is not known
		unknown bool       // nobody knows whether it happened
	}
)

const (
	opSubmit opKind = iota
	opCancel
	opStatus
	opShown // what the answer to a submission shows of the job
)

// jobModel is one job: not there, queued (there are no agents), or cancelled.
// What was refused for want of a leader may have happened, then or later.
//
// A submission that was answered is two operations within its time: the order is
// accepted, and then the job is looked at for the answer. Between the two others
// may see the job and cancel it, more so when the submission is tried again.
var jobModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byJob := map[int][]porcupine.Operation{}
		for _, o := range history {
			n := o.Input.(jobOp).job
			byJob[n] = append(byJob[n], o)
		}
		var out [][]porcupine.Operation
		for _, list := range byJob {
			out = append(out, list)
		}
		return out
	},
	Init: func() any { return job.Status(0) },
	Step: func(state, input, output any) (bool, any) {
		now, op, answer := state.(job.Status), input.(jobOp), output.(jobAnswer)
		after := now
		switch {
		case op.kind == opSubmit && now == 0:
			after = job.Queued
		case op.kind == opCancel && now == job.Queued:
			after = job.Cancelled
		}
		if op.kind == opSubmit || answer.unknown {
			return true, after
		}
		return answer.status == after && (op.kind != opShown || after != 0), after
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v → %+v", input, output) },
}

// jobClient asks servers about jobs, and writes down what it was answered.
type jobClient struct {
	c     *cluster
	id    int
	http  *http.Client
	jobs  []linearJob
	began time.Time
	log   []porcupine.Operation
}

type linearJob struct {
	body      []byte
	id        crypto.Digest
	signature string // of its cancellation
}

// ask does one operation at a server.
func (l *jobClient) ask(op jobOp, url string) {
	j := &l.jobs[op.job]
	var req *http.Request
	var err error
	switch op.kind {
	case opSubmit:
		req, err = http.NewRequest(http.MethodPost, url+"/v1/jobs", bytes.NewReader(j.body))
	case opCancel:
		req, err = http.NewRequest(http.MethodDelete, url+"/v1/jobs/"+j.id.String(), nil)
	case opStatus:
		req, err = http.NewRequest(http.MethodGet, url+"/v1/jobs/"+j.id.String()+"?consistency=linearizable", nil)
	case opShown:
		err = errors.New("what an answer shows is not asked for")
	}
	if err != nil {
		l.c.t.Error(err)
		return
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(api.SignatureHeader, j.signature)
	call := time.Since(l.began)
	answer := l.send(req)
	end := time.Since(l.began)
	if answer.unknown && op.kind == opStatus {
		return // it changed nothing and says nothing
	}
	if answer.unknown {
		end = time.Hour // it may happen at any time yet
	}
	l.note(op, answer, call, end)
	if answer.unknown {
		l.id += 1_000 // what this client does next may come before that
	}
}

// note writes down what came of an operation between two times.
func (l *jobClient) note(op jobOp, answer jobAnswer, call, end time.Duration) {
	o := porcupine.Operation{ClientId: l.id, Input: op, Call: int64(call), Output: answer, Return: int64(end)}
	l.log = append(l.log, o)
	if op.kind == opSubmit && !answer.unknown {
		op.kind = opShown
		o.Input, o.ClientId = op, shownBy+l.id // it overlaps with the other
		l.log = append(l.log, o)
	}
}

// shownBy is above the numbers of all clients.
const shownBy = 1_000_000

func (l *jobClient) send(req *http.Request) jobAnswer {
	resp, err := l.http.Do(req)
	if err != nil {
		return jobAnswer{unknown: true}
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return jobAnswer{unknown: true}
	}
	switch resp.StatusCode {
	case http.StatusOK:
		var j api.Job
		if err := json.Unmarshal(body, &j); err != nil {
			l.c.t.Error(err)
		}
		return jobAnswer{status: j.Status}
	case http.StatusNotFound:
		return jobAnswer{}
	case http.StatusServiceUnavailable, http.StatusBadGateway:
		return jobAnswer{unknown: true}
	}
	l.c.t.Errorf("%s %s: %d %s", req.Method, req.URL.Path, resp.StatusCode, body)
	return jobAnswer{unknown: true}
}

// relayedCluster starts three servers, of a changed configuration, with a network
// between them that can be cut.
func relayedCluster(t *testing.T, change func(*server.Config)) (*cluster, *netem.Relay) {
	t.Helper()
	var relay *netem.Relay
	c := newClusterOver(t, 3, change, func(nodes []netip.AddrPort) *netem.Relay {
		var err error
		if relay, err = netem.Open(netem.Config{Seed: *linearSeed, At: nodes[0].Addr(), Nodes: nodes}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { // after the servers: cleanups run in reverse
			if err := relay.Close(); err != nil {
				t.Error(err)
			}
		})
		return relay
	})
	return c, relay
}

// linearJobs signs orders and their cancellations.
func linearJobs(t *testing.T, n int) []linearJob {
	t.Helper()
	jobs := make([]linearJob, n)
	for i := range jobs {
		request, id := signedJob(t, testOrder(chain.PolicyNone{}), testSpec(program))
		body, err := json.Marshal(request)
		if err != nil {
			t.Fatal(err)
		}
		jobs[i] = linearJob{body: body, id: id, signature: key(consumerKey).Sign(crypto.DomainCancel, api.CancelPayload(testChain, id)).String()}
	}
	return jobs
}

// door is where clients find a server over its restarts. A server's own address may
// be another's while it is away, and who listens there then knows nothing of the jobs.
type door struct {
	listener net.Listener
	inside   sync.WaitGroup
	shut     chan struct{} // closed at the end

	mu sync.RWMutex
	to string // empty: the server is away
}

func openDoor(t *testing.T, to string) *door {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{listener: listener, to: to, shut: make(chan struct{})}
	d.inside.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // it is closed
			}
			d.inside.Go(func() { d.let(conn) })
		}
	})
	t.Cleanup(func() {
		close(d.shut)
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
		d.inside.Wait()
	})
	return d
}

// let carries a connection to the server and back until either ends it, or the door is shut.
func (d *door) let(from net.Conn) {
	defer func() { _ = from.Close() }()
	d.mu.RLock() // the server does not go away while it is dialled
	to := net.Conn(nil)
	if d.to != "" {
		to, _ = net.Dial("tcp", d.to)
	}
	d.mu.RUnlock()
	if to == nil {
		return
	}
	defer func() { _ = to.Close() }()
	ended := make(chan struct{}, 2)
	carry := func(to, from net.Conn) {
		_, _ = io.Copy(to, from) // whoever ends it, it has ended
		ended <- struct{}{}
	}
	go carry(to, from)
	go carry(from, to)
	select {
	case <-ended:
	case <-d.shut:
	}
}

// lead has the door lead to an address, or to nobody.
func (d *door) lead(to string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.to = to
}

// strike kills the leader, or cuts it off for a while, n times.
func (c *cluster) strike(relay *netem.Relay, doors []*door, rng *rand.Rand, n int) {
	c.t.Helper()
	for range n {
		leader := c.waitLeader()
		if rng.IntN(2) == 0 {
			doors[leader].lead("")
			c.kill(leader)
			c.waitLeader()
			c.start(leader)
			doors[leader].lead(c.servers[leader].HTTPAddr().String())
		} else {
			sides := make([]int, 3)
			sides[leader] = 1
			relay.Partition(sides)
			until(c.t, "another leader", func() bool {
				for i, s := range c.servers {
					if i != leader && s.Leads() {
						return true
					}
				}
				return false
			})
			relay.Partition(make([]int, 3))
		}
	}
}

// TestLinearizable has clients submit, cancel and ask for jobs at all servers
// while leaders are killed and cut off, and holds what they were answered
// against a model of one server.
func TestLinearizable(t *testing.T) {
	rng := rand.New(rand.NewPCG(*linearSeed, 0))
	c, relay := relayedCluster(t, nil)
	c.chain.set(func() { c.chain.escrow = chain.Hyper(10_000) })
	c.upload(0, blob.Sum([]byte(program)), program)
	jobs := linearJobs(t, 60)
	doors, urls := make([]*door, 3), make([]string, 3)
	for i := range urls {
		doors[i] = openDoor(t, c.servers[i].HTTPAddr().String())
		urls[i] = "http://" + doors[i].listener.Addr().String()
	}
	began, stop := time.Now(), make(chan struct{})
	clients := make([]*jobClient, 6)
	var wg sync.WaitGroup
	for n := range clients {
		l := &jobClient{c: c, id: n, http: &http.Client{Timeout: 2 * time.Second}, jobs: jobs, began: began}
		clients[n] = l
		own := rand.New(rand.NewPCG(*linearSeed, uint64(n+1)))
		wg.Go(func() {
			for i := 0; i < 400; i++ {
				select {
				case <-stop:
					return
				default:
				}
				// Each moves on through the jobs, near the others.
				l.ask(jobOp{kind: opKind(own.IntN(3)), job: min(len(jobs)-1, i/8+own.IntN(4))}, urls[own.IntN(3)])
			}
		})
	}
	c.strike(relay, doors, rng, 3)
	wg.Wait()
	close(stop)
	var history []porcupine.Operation
	asked, unknown := 0, 0
	for _, l := range clients {
		l.http.CloseIdleConnections()
		history = append(history, l.log...)
		for _, o := range l.log {
			if o.Input.(jobOp).kind != opShown {
				asked++
			}
			if o.Output.(jobAnswer).unknown {
				unknown++
			}
		}
	}
	t.Logf("%d operations in %s, %d of unknown outcome", asked, time.Since(began), unknown)
	if asked < 500 {
		t.Errorf("only %d operations were answered", asked)
	}
	if result, _ := porcupine.CheckOperationsVerbose(jobModel, history, 30*time.Second); result != porcupine.Ok {
		t.Errorf("what clients were answered is %s; -linear-seed=%d", result, *linearSeed)
		for _, ofJob := range jobModel.Partition(history) {
			if porcupine.CheckOperations(jobModel, ofJob) {
				continue
			}
			for _, o := range ofJob {
				t.Logf("%d: %v to %v: %s", o.ClientId, time.Duration(o.Call), time.Duration(o.Return), jobModel.DescribeOperation(o.Input, o.Output))
			}
		}
	}
}

// TestModelOfJobs holds the model against histories that may be and may not.
func TestModelOfJobs(t *testing.T) {
	type said struct {
		kind      opKind
		call, end time.Duration
		answer    jobAnswer
	}
	queued, cancelled, unknown := jobAnswer{status: job.Queued}, jobAnswer{status: job.Cancelled}, jobAnswer{unknown: true}
	for _, c := range []struct {
		name string
		may  bool
		said []said
	}{
		{"seen and cancelled before it is answered", true, []said{{opSubmit, 0, 9, cancelled}, {opStatus, 1, 2, queued}, {opCancel, 3, 4, cancelled}}},
		{"cancelled after it was answered", false, []said{{opSubmit, 0, 2, cancelled}, {opStatus, 3, 4, queued}, {opCancel, 5, 6, cancelled}}},
		{"shown as it was before it was cancelled", false, []said{{opSubmit, 0, 1, queued}, {opCancel, 2, 3, cancelled}, {opSubmit, 4, 5, queued}}},
		{"accepted and not there", false, []said{{opSubmit, 0, 1, queued}, {opStatus, 2, 3, jobAnswer{}}}},
		{"accepted, and the answer knows nothing of it", false, []said{{opSubmit, 0, 1, jobAnswer{}}}},
		{"cancelled and queued again", false, []said{{opSubmit, 0, 1, queued}, {opCancel, 2, 3, cancelled}, {opStatus, 4, 5, queued}}},
		{"there and gone", false, []said{{opSubmit, 0, time.Hour, unknown}, {opStatus, 1, 2, queued}, {opStatus, 3, 4, jobAnswer{}}}},
		{"accepted much later", true, []said{{opSubmit, 0, time.Hour, unknown}, {opStatus, 1, 2, jobAnswer{}}, {opStatus, 3, 4, queued}}},
		{"cancelled much later", true, []said{{opSubmit, 0, 1, queued}, {opCancel, 2, time.Hour, unknown}, {opStatus, 3, 4, queued}, {opStatus, 5, 6, cancelled}}},
		{"cancelled by nobody", false, []said{{opSubmit, 0, 1, queued}, {opStatus, 3, 4, cancelled}}},
	} {
		var history []porcupine.Operation
		for i, s := range c.said {
			l := jobClient{id: i}
			l.note(jobOp{kind: s.kind}, s.answer, s.call, s.end)
			history = append(history, l.log...)
		}
		if got := porcupine.CheckOperations(jobModel, history); got != c.may {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// TestALeaderOfAnOlderTermAnswersNoRead asks a leader that has lost the
// leadership, leads again, and has noticed neither: it may lack what was
// answered between.
func TestALeaderOfAnOlderTermAnswersNoRead(t *testing.T) {
	c := newCluster(t, 3)
	leader := c.waitLeader()
	path := "/v1/jobs/" + c.submit(leader, chain.PolicyNone{}).String() + "?consistency=linearizable"
	for i := range 3 {
		get[api.Job](c, i, path)
	}
	c.servers[leader].Outlive()
	for i := range 3 {
		if status, body := c.do(i, http.MethodGet, path, nil, nil); status != http.StatusServiceUnavailable {
			t.Errorf("server %d: %d %s", i, status, body)
		}
	}
}

// TestALeaderKnowsWhatAFollowerShowed has a follower carry out, and show, what the
// leader has decided and does not get to carry out: who asks next is shown it too.
func TestALeaderKnowsWhatAFollowerShowed(t *testing.T) {
	c := newClusterWith(t, 3, patient)
	leader := c.waitLeader()
	follower := (leader + 1) % 3
	c.submit(leader, chain.PolicyNone{})
	_, before := c.servers[leader].State()
	busy, release := c.servers[leader].Hold()
	var posted sync.WaitGroup
	defer posted.Wait()
	defer release()
	request, id := signedJob(t, testOrder(chain.PolicyNone{}), testSpec(program))
	posted.Go(func() { c.post(leader, "/v1/jobs", request) }) // answered when the leader goes on
	<-busy
	var shown uint64
	until(t, "a follower that is ahead of the leader", func() bool {
		_, shown = c.servers[follower].State()
		return shown > before
	})
	c.askUntil(http.StatusOK, follower, "/v1/jobs/"+id.String()+"?consistency=linearizable")
	index, err := c.servers[leader].ReadIndex(t.Context())
	if err != nil || index < shown {
		t.Errorf("a follower has shown entry %d, and the leader takes %d for the newest: %v", shown, index, err)
	}
}

// TestWhatIsNoEntryHoldsUpNoRead has raft decide what nobody can read: it is passed over.
func TestWhatIsNoEntryHoldsUpNoRead(t *testing.T) {
	c := newClusterWith(t, 3, patient)
	leader := c.waitLeader()
	id := c.submit(leader, chain.PolicyNone{})
	if err := c.servers[leader].Append([]byte("no entry")); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		c.askUntil(http.StatusOK, i, "/v1/jobs/"+id.String()+"?consistency=linearizable")
	}
}

// TestReadsSayHowOldTheyAre asks a follower that is cut off, and one that is not.
func TestReadsSayHowOldTheyAre(t *testing.T) {
	c := newCluster(t, 3)
	leader := c.waitLeader()
	follower := (leader + 1) % 3
	id := c.submit(leader, chain.PolicyNone{})
	path := "/v1/jobs/" + id.String()
	get[api.Job](c, follower, path+"?consistency=linearizable")
	get[api.Job](c, follower, path+"?max_age_ms=10000")
	for _, bad := range []string{"consistency=strong", "max_age_ms=soon", "max_age_ms=-1"} {
		if status, _ := c.do(follower, http.MethodGet, path+"?"+bad, nil, nil); status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", bad, status)
		}
	}
	c.kill(leader)
	c.kill((leader + 2) % 3)
	until(t, "a state that is too old", func() bool {
		status, _ := c.do(follower, http.MethodGet, "/v1/nodes?max_age_ms=300", nil, nil)
		return status == http.StatusServiceUnavailable
	})
	resp, err := c.http.Get(c.url(follower) + "/v1/nodes")
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	if age, err := strconv.Atoi(resp.Header.Get(api.StateAgeHeader)); err != nil || age < 300 || resp.StatusCode != http.StatusOK {
		t.Errorf("age %d, %d %v", age, resp.StatusCode, err)
	}
	if status, _ := c.do(follower, http.MethodGet, "/v1/nodes?consistency=linearizable", nil, nil); status != http.StatusServiceUnavailable {
		t.Errorf("a linearizable read without a majority: %d", status)
	}
}

// TestAServerThatLagsSaysSo has a follower hear its leader's beats and carry out
// nothing: what it shows is as old as it is.
func TestAServerThatLagsSaysSo(t *testing.T) {
	c := newCluster(t, 3)
	leader := c.waitLeader()
	follower := (leader + 1) % 3
	c.submit(leader, chain.PolicyNone{})
	const list = "/v1/servers?max_age_ms=" // does not look at the state
	status := func(age string) int {
		status, _ := c.do(follower, http.MethodGet, list+age, nil, nil)
		return status
	}
	until(t, "a follower that is up to date", func() bool { return status("1000") == http.StatusOK })
	release := c.servers[follower].Stall()
	defer func() { release() }()
	c.submit(leader, chain.PolicyNone{})
	until(t, "a state that is too old", func() bool { return status("1000") == http.StatusServiceUnavailable })
	release()
	release = func() {}
	until(t, "a follower that has caught up", func() bool { return status("1000") == http.StatusOK })
}

// askUntil asks a server until its answer is of a status: for a busy machine, on which
// one question may take too long.
func (c *cluster) askUntil(want, i int, path string) {
	c.t.Helper()
	var status int
	var body []byte
	for range 20 {
		if status, body = c.do(i, http.MethodGet, path, nil, nil); status == want {
			return
		}
	}
	c.t.Fatalf("GET %s: %d %s, want %d", path, status, body, want)
}

// TestALeaderSaysHowOldItsStateIs cuts the leader off from the others, while it
// still takes itself for the leader: what it shows grows old, as another may lead.
func TestALeaderSaysHowOldItsStateIs(t *testing.T) {
	c := newClusterWith(t, 3, func(cfg *server.Config) { cfg.Heartbeat *= 15 }) // 3 s: so long it leads on
	leader := c.waitLeader()
	for _, limit := range []string{"0", "1", "1000"} {
		for _, i := range []int{leader, (leader + 1) % 3} {
			c.askUntil(http.StatusOK, i, "/v1/nodes?max_age_ms="+limit)
		}
	}
	for i := range 3 {
		if i != leader {
			c.kill(i)
		}
	}
	// One answer may be what a peer said before it died, and raft heard after.
	c.askUntil(http.StatusServiceUnavailable, leader, "/v1/nodes?max_age_ms=1")
	status, body := c.do(leader, http.MethodGet, "/v1/nodes?max_age_ms=1", nil, nil)
	if status != http.StatusServiceUnavailable {
		t.Errorf("a leader that nobody hears says that its state is new: %d %s", status, body)
	}
	if !c.servers[leader].Leads() {
		t.Fatal("the leader gave up before it could be asked")
	}
	get[api.NodeList](c, leader, "/v1/nodes?max_age_ms=30000") // old, and said to be
}
