package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/job"
)

const (
	maxQueue     = 256
	writeTimeout = 20 * time.Second
	// repeatDones is after how long a Done that no server acknowledged is sent
	// again: its receiver may have lost the lead.
	repeatDones = 5 * time.Second
	firstPause  = 100 * time.Millisecond
	longestWait = 3 * time.Second // below the time after which servers give work to others
)

// errProtocol says that a server sent what servers do not send.
var errProtocol = errors.New("agent: the server broke the protocol")

// link is the way to a server.
type link struct {
	addr      transport.NodeAddr
	member    bool // of the cluster, as far as is known; guarded by links.mu
	connected atomic.Bool
	since     atomic.Int64 // of the last change, ms
}

func (l *link) set(connected bool) {
	l.connected.Store(connected)
	l.since.Store(time.Now().UnixMilli())
}

// keep has a session with a server whenever there can be one, until ctx ends.
func (a *Agent) keep(ctx context.Context, l *link) {
	for failed := 0; ctx.Err() == nil; {
		connected, err := a.visit(ctx, l)
		if ctx.Err() != nil {
			return
		}
		if connected {
			failed = 0
		}
		if connected || failed == 0 {
			a.log.Warn("agent: no session with a server", "server", l.addr.ID.Short(), "addr", l.addr.Addr, "error", err)
		}
		failed++
		sleep(ctx, pauseAfter(failed))
	}
}

// pauseAfter returns how long to wait after so many failures in a row: twice as
// long each time, and a random part less, so that agents do not come back all
// at once.
func pauseAfter(failed int) time.Duration {
	pause := min(firstPause<<min(failed-1, 10), longestWait)
	return pause/2 + rand.N(pause/2)
}

// sleep waits for a pause or the end of ctx.
func sleep(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// session is a connection to a server.
type session struct {
	agent *Agent
	addr  transport.NodeAddr
	conn  *transport.Conn
	since time.Time
	out   chan job.Message

	pricing sync.WaitGroup // offers that are answered aside; begun by read
	aside   atomic.Int32   // of these, those that wait for the chain
	tunnels sync.WaitGroup // likewise
}

// visit dials a server and stays until the session ends. It reports whether
// there was a session, and why it ended.
func (a *Agent) visit(ctx context.Context, l *link) (connected bool, err error) {
	conn, err := a.endpoint.Dial(ctx, l.addr, job.Protocol)
	if err != nil {
		return false, err
	}
	control, err := conn.OpenStream(ctx)
	if err != nil {
		conn.Close(transport.CloseDone, "no control stream")
		return false, err
	}
	a.moved.count(control, cargoControl, wholePiece, nil, nil)
	s := &session{agent: a, addr: l.addr, conn: conn, since: time.Now(), out: make(chan job.Message, maxQueue)}
	ctx, cancel := context.WithCancelCause(ctx)
	defer context.AfterFunc(ctx, func() { closeFor(conn, context.Cause(ctx)) })()
	a.join(s)
	l.set(true)
	a.log.Info("agent: session with a server", "server", l.addr.ID.Short(), "addr", l.addr.Addr)
	var wg sync.WaitGroup
	wg.Go(func() { cancel(s.write(ctx, control)) })
	wg.Go(func() { cancel(s.serveBlobs(ctx)) })
	cancel(s.read(ctx, control))
	s.pricing.Wait()
	s.tunnels.Wait()
	wg.Wait()
	a.leave(s)
	l.set(false)
	closeFor(conn, context.Cause(ctx)) // the AfterFunc may not have run yet
	return true, context.Cause(ctx)
}

// closeFor closes a connection and tells the server why.
func closeFor(conn *transport.Conn, cause error) {
	code := transport.CloseDone
	switch {
	case errors.Is(cause, errProtocol):
		code = transport.CloseViolation
	case errors.Is(cause, context.Canceled):
		code = transport.CloseShutdown
	}
	conn.Close(code, cause.Error())
}

// join enters a session, with Hello as its first message, and then the votes that this node has
// given lately: the server may know of none.
func (a *Agent) join(s *session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s.out <- a.hello()
	for _, ballot := range a.jury.given(a.panelLasts()) {
		s.out <- ballot
	}
	a.sessions[s] = struct{}{}
	close(a.joined)
	a.joined = make(chan struct{})
}

func (a *Agent) leave(s *session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.sessions, s)
	a.parted++
}

// hello says what the node offers and holds. The caller holds a.mu.
func (a *Agent) hello() job.Hello {
	h := job.Hello{
		ChainID: a.genesis.ChainID, Owner: a.owner, Region: a.config.Region, Free: a.capacity.free(),
		Total: a.total(), GPUKind: a.config.GPUKind, Accepting: a.closed() == "",
	}
	for _, name := range a.kernels.Names() {
		h.Kernels = append(h.Kernels, string(name))
	}
	if a.containers != nil {
		h.Kernels = append(h.Kernels, job.KindContainer)
	}
	for _, e := range a.spool.list() {
		h.Finished = append(h.Finished, e.Done.Receipt.Order)
	}
	for order := range a.tasks {
		if _, finished := a.spool.get(order); !finished && !a.tasks[order].judging {
			h.Running = append(h.Running, order)
		}
	}
	return h
}

// total is what the node offers in all.
func (a *Agent) total() job.Resources {
	return job.Resources{Millicores: a.config.Millicores, MemoryMiB: a.config.MemoryMiB, GPUs: a.config.GPUs}
}

// send queues a message that the server must get. If the queue is full the
// server is too slow, and the session ends: the next one reconciles.
func (s *session) send(m job.Message) {
	select {
	case s.out <- m:
	default:
		s.conn.Close(transport.CloseBusy, "the server reads too slowly")
	}
}

// sendLog queues a piece of a log, or drops it.
func (s *session) sendLog(m job.Log) {
	select {
	case s.out <- m:
	default:
		s.agent.metrics.logsDropped.Inc()
	}
}

// write sends the queue, and from time to time every Done in the spool.
func (s *session) write(ctx context.Context, control *transport.Stream) error {
	hello := <-s.out
	if err := writeMessage(control, hello); err != nil {
		return err
	}
	repeat := time.NewTicker(repeatDones)
	defer repeat.Stop()
	// What was written before the end of work comes before the end.
	if err := errors.Join(s.writeLogs(control), s.writeDones(control)); err != nil {
		return err
	}
	for {
		var err error
		select {
		case m := <-s.out:
			err = s.writeQueue(control, m)
		case <-repeat.C:
			err = s.writeDones(control)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// writePiece is how many bytes of messages are written together, and one message
// more.
const writePiece = 32 << 10

// writeQueue writes a message and those that wait behind it, as much as makes one
// piece.
func (s *session) writeQueue(control *transport.Stream, m job.Message) error {
	var piece bytes.Buffer
	for more := true; more; {
		if err := transport.WriteMessage(&piece, job.EncodeMessage(m)); err != nil {
			return err
		}
		if more = piece.Len() < writePiece; more {
			select {
			case m = <-s.out:
			default:
				more = false
			}
		}
	}
	if err := control.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := control.Write(piece.Bytes())
	return err
}

func (s *session) writeDones(control *transport.Stream) error {
	for _, e := range s.agent.spool.list() {
		if err := writeMessage(control, s.agent.told(&e)); err != nil {
			return err
		}
	}
	return nil
}

func writeMessage(control *transport.Stream, m job.Message) error {
	if err := control.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	return transport.WriteMessage(control, job.EncodeMessage(m))
}

// read handles the server's messages until the stream ends.
func (s *session) read(ctx context.Context, control *transport.Stream) error {
	for {
		raw, err := transport.ReadMessage(control, job.MaxMessageBytes)
		if _, long := errors.AsType[*transport.MessageTooLargeError](err); long {
			return fmt.Errorf("%w: %w", errProtocol, err)
		}
		if err != nil {
			return err
		}
		m, err := job.DecodeMessage(raw)
		if err == nil {
			err = s.handle(ctx, m)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errProtocol, err)
		}
	}
}

func (s *session) handle(ctx context.Context, m job.Message) error {
	a := s.agent
	switch m := m.(type) {
	case job.Offers:
		return s.offered(ctx, &m)
	case job.Assign:
		a.assign(s, m.List)
		return nil
	case job.Cancel:
		a.cancelTask(m.Order, m.Reason)
		return nil
	case job.Ack:
		a.acknowledged(m)
		return nil
	case job.Roster:
		return a.rostered(m)
	case job.Tunnel:
		s.tunnelled(ctx, m)
		return nil
	case job.Show:
		s.show(m.Order)
		return nil
	case job.Judge:
		s.judge(&m)
		return nil
	case job.Watch:
		s.watch(&m)
		return nil
	case job.Probe:
		s.probed(&m)
		return nil
	case job.ProbeReply:
		a.replied(&m)
		return nil
	case job.Unanswered:
		a.unanswered(&m)
		return nil
	case job.Measure:
		s.measure(&m)
		return nil
	case job.LanesShown:
		a.lanesShown(&m)
		return nil
	case job.LaneQuestion:
		s.question(&m)
		return nil
	case job.LaneOpened:
		a.laneOpened(&m)
		return nil
	case job.AskHome:
		s.askedHome(&m)
		return nil
	case job.Hello, job.Bids, job.AssignReply, job.Log, job.Done, job.Load, job.Pledge, job.Ballot, job.Opening, job.PeerReport, job.Reveal, job.Measured, job.AtHome:
		return fmt.Errorf("a server does not send %T", m)
	}
	panic(fmt.Sprintf("agent: message of type %T", m))
}

// maxAside bounds the offers of a session that are answered aside at one time.
const maxAside = 256

// offered answers offers together, or each for itself and aside if somebody else's program
// sets the price, or the chain is asked first what the home cluster has to lose: the session
// goes on meanwhile.
func (s *session) offered(ctx context.Context, m *job.Offers) error {
	specs, err := m.Work()
	if err != nil {
		return err
	}
	a := s.agent
	a.starts.yield(len(specs))
	answers := make([]job.BidReply, 0, len(m.List))
	for i, spec := range specs {
		o := &offer{Offer: m.List[i], Spec: spec, CloseMs: m.CloseMs}
		unheard := o.Order.Term == nil && a.market.unheard(o.Order.Cluster)
		if !unheard && len(a.config.PriceProgram) == 0 {
			answers = append(answers, a.answer(ctx, o))
			continue
		}
		if unheard && s.aside.Add(1) > maxAside {
			s.aside.Add(-1)
			answers = append(answers, job.BidReply{Auction: o.Auction, Decline: "too many clusters that are not known"})
			continue
		}
		s.pricing.Go(func() {
			if unheard {
				a.market.hear(ctx, o.Order.Cluster, o.CloseMs)
				s.aside.Add(-1)
			}
			s.send(job.Bids{List: []job.BidReply{a.answer(ctx, o)}})
		})
	}
	if len(answers) > 0 {
		s.send(job.Bids{List: answers})
	}
	return nil
}

// serveBlobs answers the server's requests for blobs.
func (s *session) serveBlobs(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		stream, err := s.conn.AcceptStream(ctx)
		if err != nil {
			return err
		}
		wg.Go(func() {
			if err := s.agent.blobs.Serve(ctx, s.agent.carry(ctx, stream, cargoBlobs)); err != nil {
				s.agent.log.Debug("agent: a blob was not served", "server", s.conn.Remote().Short(), "error", err)
			}
		})
	}
}

// broadcast queues a message for every connected server.
func (a *Agent) broadcast(m job.Message) {
	for _, s := range a.connected() {
		s.send(m)
	}
}

func (a *Agent) broadcastLog(m job.Log) {
	for _, s := range a.connected() {
		s.sendLog(m)
	}
}

func (a *Agent) connected() []*session {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]*session, 0, len(a.sessions))
	for s := range a.sessions {
		out = append(out, s)
	}
	return out
}

// sayHello tells every server that what the node offers has changed.
func (a *Agent) sayHello() {
	a.mu.Lock()
	hello := a.hello()
	a.mu.Unlock()
	a.broadcast(hello)
}

// sayLoad tells every server what is free now.
func (a *Agent) sayLoad() {
	a.broadcast(job.Load{Free: a.capacity.free(), Accepting: a.closed() == ""})
}

// sources returns the connected servers, as places to fetch some cargo from, and a
// channel that closes when one more is connected.
func (a *Agent) sources(c cargo) (list []blob.Source, conns []*transport.Conn, joined <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for s := range a.sessions {
		list = append(list, pacedConn{s.conn, a, c})
		conns = append(conns, s.conn)
	}
	return list, conns, a.joined
}

// reachable reports whether one of the connections still lives.
func reachable(conns []*transport.Conn) bool {
	for _, c := range conns {
		if c.Err() == nil {
			return true
		}
	}
	return false
}
