package server_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// fakeAgent speaks the session protocol with every server of a cluster. Its
// work is a script.
type fakeAgent struct {
	c        *cluster
	n        int
	key      crypto.PrivateKey
	cpu      uint64 // price
	endpoint *transport.Endpoint
	blobs    *blob.Store
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	// run makes the output of an assignment; nil: its input, upper case. It
	// may wait.
	run func(ctx context.Context, a job.Assignment) string
	// spoil changes a Done before it is sent.
	spoil  func(d *job.Done)
	silent bool   // its work has neither input nor output
	refuse string // reason for refusing every assignment
	// tunnel serves a tunnel that a server asks for; nil: none is opened.
	tunnel func(*transport.Stream)
	// judge answers who asks for a vote; nil: nobody may.
	judge func(m job.Judge) job.Message // nil: nothing
	asked atomic.Int64                  // tunnels
	// measure answers what is said in a hardware challenge; nil: nothing may be.
	measure func(m job.Message) job.Message // nil: nothing
	// probe takes what is about leases that are probed; nil: it answers no probe, and is told nothing.
	probe func(m job.Message) job.Message // nil: nothing
	only  int                             // of the servers, counted from 1, that it connects to; 0: all
	// behind is how far its clock is, by which it says where it is at home.
	behind time.Duration

	mu       sync.Mutex
	controls map[*transport.Stream]*sync.Mutex
	conns    map[*transport.Stream]*transport.Conn
	started  map[crypto.Digest]int // how often it was told to begin
	spool    map[crypto.Digest]job.Done
	acks     []job.Ack
	roster   job.Roster // the newest
	cancels  []job.Cancel
	declined string // reason for declining every offer
}

// agent starts the n-th agent of the tests.
func (c *cluster) agent(n int, change func(*fakeAgent)) *fakeAgent {
	c.t.Helper()
	a := &fakeAgent{
		c: c, n: n, key: key(agentKeys + n), cpu: uint64(50+n) * 1_000_000_000,
		controls: map[*transport.Stream]*sync.Mutex{}, conns: map[*transport.Stream]*transport.Conn{},
		started: map[crypto.Digest]int{}, spool: map[crypto.Digest]job.Done{},
	}
	if change != nil {
		change(a)
	}
	var err error
	if a.endpoint, err = transport.Open(transport.Config{Key: a.key, Network: testGenesis(c.t).Digest(), Log: testLog(c.t)}); err != nil {
		c.t.Fatal(err)
	}
	a.blobs, err = blob.Open(blob.Config{Dir: filepath.Join(c.t.TempDir(), "blobs"), MaxBytes: 64 << 20, MaxBlobBytes: 8 << 20, Log: testLog(c.t)})
	if err != nil {
		c.t.Fatal(err)
	}
	var ctx context.Context
	ctx, a.cancel = context.WithCancel(context.Background())
	for i, addr := range c.nodeAddrs() {
		if a.only != 0 && a.only != i+1 {
			continue
		}
		a.wg.Go(func() { a.keep(ctx, addr) })
	}
	c.t.Cleanup(a.stop)
	return a
}

// stop ends the agent; nobody is told but by the end of its connections.
func (a *fakeAgent) stop() {
	a.cancel()
	if err := a.endpoint.Close(); err != nil {
		a.c.t.Error(err)
	}
	a.wg.Wait()
	if err := a.blobs.Close(); err != nil && !errors.Is(err, context.Canceled) && !strings.Contains(err.Error(), "already closed") {
		a.c.t.Error(err)
	}
}

func (a *fakeAgent) keep(ctx context.Context, addr transport.NodeAddr) {
	for ctx.Err() == nil {
		dialing, cancel := context.WithTimeout(ctx, 2*time.Second)
		conn, err := a.endpoint.Dial(dialing, addr, job.Protocol)
		cancel()
		if err == nil {
			a.session(ctx, conn)
		}
		pause := time.NewTimer(50 * time.Millisecond)
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
		pause.Stop()
	}
}

func (a *fakeAgent) hello() job.Hello {
	h := job.Hello{
		ChainID: testChain, Owner: address(ownerKeys + a.n), Region: "eu", Kernels: []string{"matmul-32", job.KindContainer}, Accepting: true,
		Total: job.Resources{Millicores: 4_000, MemoryMiB: 4_096}, Free: job.Resources{Millicores: 4_000, MemoryMiB: 4_096},
	}
	for id := range a.started {
		if _, done := a.spool[id]; !done {
			h.Running = append(h.Running, id)
		}
	}
	for id := range a.spool {
		h.Finished = append(h.Finished, id)
	}
	return h
}

func (a *fakeAgent) session(ctx context.Context, conn *transport.Conn) {
	control, err := conn.OpenStream(ctx)
	if err != nil {
		return
	}
	a.mu.Lock()
	hello := a.hello()
	dones := make([]job.Done, 0, len(a.spool))
	for _, d := range a.spool {
		dones = append(dones, d)
	}
	a.controls[control], a.conns[control] = &sync.Mutex{}, conn
	a.mu.Unlock()
	a.send(control, hello)
	for _, d := range dones {
		a.send(control, d)
	}
	a.wg.Go(func() {
		for {
			stream, err := conn.AcceptStream(ctx)
			if err != nil {
				return
			}
			a.wg.Go(func() { _ = a.blobs.Serve(ctx, stream) }) // the server says what went wrong
		}
	})
	for {
		raw, err := transport.ReadMessage(control, job.MaxMessageBytes)
		if err != nil {
			break
		}
		m, err := job.DecodeMessage(raw)
		if err != nil {
			a.c.t.Errorf("agent %d got a message that does not decode: %v", a.n, err)
			break
		}
		a.take(ctx, control, m)
	}
	a.mu.Lock()
	delete(a.controls, control)
	delete(a.conns, control)
	a.mu.Unlock()
	conn.Close(transport.CloseDone, "the agent leaves")
}

func (a *fakeAgent) send(to *transport.Stream, m job.Message) {
	a.mu.Lock()
	lock := a.controls[to]
	a.mu.Unlock()
	if lock == nil {
		return
	}
	lock.Lock()
	defer lock.Unlock()
	_ = transport.WriteMessage(to, job.EncodeMessage(m)) // a broken session reconciles
}

// broadcast sends to every server.
func (a *fakeAgent) broadcast(m job.Message) {
	a.mu.Lock()
	list := make([]*transport.Stream, 0, len(a.controls))
	for s := range a.controls {
		list = append(list, s)
	}
	a.mu.Unlock()
	for _, s := range list {
		a.send(s, m)
	}
}

func (a *fakeAgent) take(ctx context.Context, control *transport.Stream, m job.Message) {
	switch m := m.(type) {
	case job.Offers:
		var bids job.Bids
		for _, o := range m.List {
			bids.List = append(bids.List, a.bid(o))
		}
		a.send(control, bids)
	case job.Assign:
		for _, as := range m.List {
			a.assigned(ctx, control, as)
		}
	case job.Cancel:
		a.mu.Lock()
		a.cancels = append(a.cancels, m)
		a.mu.Unlock()
	case job.Ack:
		a.mu.Lock()
		a.acks = append(a.acks, m)
		delete(a.spool, m.Order)
		a.mu.Unlock()
	case job.Roster:
		a.mu.Lock()
		if m.Index >= a.roster.Index { // a server that was removed may not have heard of it
			a.roster = m
		}
		a.mu.Unlock()
	case job.Judge:
		if a.judge == nil {
			a.c.t.Errorf("agent %d was asked to judge", a.n)
			return
		}
		if answer := a.judge(m); answer != nil {
			a.send(control, answer)
		}
	case job.AskHome:
		h := chain.NodeHome{ChainID: testChain, Node: a.key.Public(), Cluster: m.Cluster, At: chain.TimeMs(time.Now().Add(-a.behind).UnixMilli())}
		a.send(control, job.AtHome{Home: h, Signature: a.key.Sign(crypto.DomainHome, chain.HomePayload(h))})
	case job.Measure, job.LanesShown, job.LaneQuestion, job.LaneOpened:
		if a.measure == nil {
			a.c.t.Errorf("agent %d got a %T", a.n, m)
			return
		}
		if answer := a.measure(m); answer != nil {
			a.send(control, answer)
		}
	case job.Tunnel:
		a.asked.Add(1)
		if a.tunnel != nil {
			server := control.Conn().Remote()
			a.wg.Go(func() { a.open(ctx, server, m) })
		}
	case job.Watch, job.Probe, job.ProbeReply, job.Unanswered:
		if a.probe == nil {
			a.c.t.Errorf("agent %d got a %T", a.n, m)
			return
		}
		if answer := a.probe(m); answer != nil {
			a.send(control, answer)
		}
	default:
		a.c.t.Errorf("agent %d got a %T", a.n, m)
	}
}

func (a *fakeAgent) assigned(ctx context.Context, control *transport.Stream, as job.Assignment) {
	id := as.Order.ID()
	if !as.Acceptance.Cluster.Verify(crypto.DomainAcceptance, as.Acceptance.Payload(), as.AcceptanceSig) {
		a.c.t.Errorf("agent %d got an acceptance that the cluster did not sign", a.n)
	}
	if a.refuse != "" {
		a.send(control, job.AssignReply{Order: id, Refuse: a.refuse})
		return
	}
	a.mu.Lock()
	held := a.started[id] > 0
	a.started[id]++
	a.mu.Unlock()
	a.send(control, job.AssignReply{Order: id})
	if !held {
		a.wg.Go(func() { a.work(ctx, as) })
	}
}

func (a *fakeAgent) bid(m job.Offer) job.BidReply {
	if a.declined != "" {
		return job.BidReply{Auction: m.Auction, Decline: a.declined}
	}
	bid := chain.Bid{ChainID: testChain, Order: m.Order.ID(), Node: a.key.Public(), Expiry: m.Order.Deadline}
	if _, ok := m.Order.Policy.Policy.(chain.PolicyZK); ok {
		bid.Fixed = chain.Nano(a.cpu)
	} else {
		bid.Prices = prices(a.cpu)
	}
	if m.Order.Term != nil {
		bid.Prices = bid.Prices[:len(m.Order.Term.Resources)]
	}
	return job.BidReply{Auction: m.Auction, Bid: bid, BidSig: a.key.Sign(crypto.DomainBid, bid.Payload())}
}

func prices(cpu uint64) []chain.UnitPrice {
	return []chain.UnitPrice{{Resource: chain.CPU, Price: cpu}, {Resource: chain.Memory, Price: 1}, {Resource: chain.Network, Price: 1}}
}

// input fetches an assignment's module, from whichever server has it.
func (a *fakeAgent) input(ctx context.Context, id crypto.Digest) (string, error) {
	a.mu.Lock()
	var sources []blob.Source
	for _, conn := range a.conns {
		sources = append(sources, conn)
	}
	a.mu.Unlock()
	if _, err := a.blobs.Fetch(ctx, id, 8<<20, sources...); err != nil {
		return "", err
	}
	return readBlob(a.blobs, id)
}

func (a *fakeAgent) work(ctx context.Context, assignment job.Assignment) {
	var text string
	var err error
	if !a.silent {
		text, err = a.input(ctx, assignment.Spec.Blobs()[0])
	}
	for err != nil && ctx.Err() == nil {
		text, err = a.input(ctx, assignment.Spec.Blobs()[0])
	}
	output := strings.ToUpper(text)
	if a.run != nil {
		output = a.run(ctx, assignment)
	}
	var id crypto.Digest
	var size int64
	if !a.silent {
		if id, size, err = a.blobs.Put(ctx, strings.NewReader(output), 8<<20); err != nil {
			return
		}
	}
	outcome := job.Outcome{Exit: chain.ExitOK, Fuel: 1_000, WallMs: 5, OutputBytes: uint64(size), Output: id}
	now := chain.TimeMs(time.Now().UnixMilli())
	receipt := assignment.Receipt(&outcome, now-5, now)
	if receipt.CheckTrace(assignment.Order.Policy.Policy) != nil {
		trace := chain.SecretOf(receipt.Order, crypto.Digest{1}).Trace(0)
		receipt.Trace = &trace
	}
	d := job.Done{Receipt: receipt, ReceiptSig: a.key.Sign(crypto.DomainUsage, receipt.Payload()), Output: id, OutputSize: uint64(size), Detail: "fine"}
	if _, ok := assignment.Order.Policy.Policy.(chain.PolicyZK); ok {
		d.Proof = []byte{1, 2, 3}
	}
	if a.spoil != nil {
		a.spoil(&d)
	}
	a.mu.Lock()
	a.spool[receipt.Order] = d
	a.mu.Unlock()
	a.broadcast(d)
}

// ran returns how often the agent was given a job.
func (a *fakeAgent) ran(id crypto.Digest) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.started[id]
}

// acked returns the acknowledgement of a job, if it has come.
func (a *fakeAgent) acked(id crypto.Digest) (job.Ack, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, ack := range a.acks {
		if ack.Order == id {
			return ack, true
		}
	}
	return job.Ack{}, false
}

// TestForgedReceiptsAreRefused has agents sign what did not happen: more than any
// run of the job can use, another sequence, what was signed for another order,
// and the end of an assignment that another node has.
func TestForgedReceiptsAreRefused(t *testing.T) {
	c := newCluster(t, 1)
	forger := func(n int, forge func(a *fakeAgent, d *job.Done)) *fakeAgent {
		return c.agent(n, func(a *fakeAgent) {
			a.spoil = func(d *job.Done) {
				forge(a, d)
				d.ReceiptSig = a.key.Sign(crypto.DomainUsage, d.Receipt.Payload())
			}
		})
	}
	var first job.Done // of an order that has ended
	bad := []*fakeAgent{
		forger(0, func(_ *fakeAgent, d *job.Done) { d.Receipt.Usage[0].DurationMs = chain.MaxUsageMs }),
		forger(1, func(_ *fakeAgent, d *job.Done) {
			d.Receipt.Fuel = 1 << 60
			for i := range d.Receipt.Usage {
				d.Receipt.Usage[i].Amount = chain.MaxUsageAmount
			}
		}),
		forger(2, func(_ *fakeAgent, d *job.Done) { d.Receipt.Sequence = 2 }),
		c.agent(3, func(a *fakeAgent) {
			a.spoil = func(d *job.Done) { // the others' ends came before: they bid less
				if first.Receipt.Order.IsZero() {
					first = *d
					return
				}
				order := d.Receipt.Order
				d.Receipt, d.ReceiptSig = first.Receipt, first.ReceiptSig
				d.Receipt.Order = order
			}
		}),
	}
	wants := []string{"usage of CPU", "usage of", "sequence 2", "not signed by its node"}
	honest := c.agent(4, func(a *fakeAgent) { a.cpu *= 10 })
	other := c.agent(5, func(a *fakeAgent) { a.declined = "not for me" })
	c.waitNodes(0, 6)
	c.waitJob(0, c.submit(0, chain.PolicyNone{}), job.Settling)
	id := c.submit(0, chain.PolicyNone{})
	j := c.waitJob(0, id, job.Settling)
	for i, want := range wants {
		c.waitAck(bad[i], id, want)
	}
	if n := len(j.Runs); n != 5 || j.Runs[n-1].Node != honest.key.Public() || j.Runs[n-1].Receipt == nil {
		t.Fatalf("runs: %+v", j.Runs)
	}
	stolen := first // a replica of the first order's receipt, of a node that never had it
	stolen.Receipt.Node = other.key.Public()
	stolen.ReceiptSig = other.key.Sign(crypto.DomainUsage, stolen.Receipt.Payload())
	other.broadcast(stolen)
	c.waitAck(other, stolen.Receipt.Order, "given to others")
	if j := get[api.Job](c, 0, "/v1/jobs/"+stolen.Receipt.Order.String()); j.Runs[len(j.Runs)-1].Node != bad[3].key.Public() {
		t.Errorf("runs: %+v", j.Runs)
	}
}
