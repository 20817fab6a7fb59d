package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/nexus/job"
)

const (
	helloTimeout = 10 * time.Second // until a new session has said Hello
	sendTimeout  = 10 * time.Second // of one piece
	sendPiece    = 64 << 10         // bytes of messages written together, and one message more
	maxAssigns   = 64               // assignments of one message

	// An agent that is behind by more is cut. A batch of commands may open a
	// thousand auctions at once.
	sendQueue = 8_192    // messages
	sendBytes = 16 << 20 // of them together
)

// session is one agent's connection. What an agent says is kept here, newest
// first, so that a server that becomes the leader finds it.
type session struct {
	conn    *transport.Conn
	control *transport.Stream
	node    crypto.PublicKey
	log     *slog.Logger
	out     *outQueue
	since   time.Time

	assigns     []job.Assignment // to be sent together; the leader's loop's own
	assignBytes int

	mu       sync.Mutex
	hello    job.Hello
	version  uint64    // counts what the state has to know of
	declares time.Time // until when those that were made are paid for: see mayDeclare
	probes   time.Time // likewise, of probes and replies to them: see mayProbe
	measures time.Time // likewise, of messages about hardware challenges: see mayMeasure
	ends     time.Time // likewise, of Pledges and Reveals: see mayEnd
	recalls  int       // ballots on panels that were not known
	dones    map[crypto.Digest]job.Done
	refusals map[crypto.Digest]string
	fresh    []crypto.Digest // of these, what came since the leader looked
	all      bool            // the leader has to look at all
}

// sessions is every agent that is connected.
type sessions struct {
	log   *slog.Logger
	chain chain.ChainID
	blobs func(context.Context, *transport.Stream)
	logs  func(node crypto.PublicKey, m job.Log)
	bids  func(*session, job.Bids)
	tell  func(*session, job.Message)                           // a Pledge, a Ballot, an Opening, a PeerReport, a Reveal, an AtHome, or what is said in a hardware challenge
	poke  func(*session)                                        // there is something new for the leader
	away  func(*session, job.Probe)                             // of a node that is not here
	reply func(job.ProbeReply)                                  // to a peer that is not here
	ended func(node crypto.PublicKey, order crypto.Digest) bool // as far as this server knows, an assignment is over
	// roster is what agents are told of the servers; false: nothing is known yet.
	roster func() (job.Roster, bool)

	mu   sync.Mutex
	byID map[crypto.PublicKey]*session
}

// get returns a node's session, or nil.
func (ss *sessions) get(node crypto.PublicKey) *session {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.byID[node]
}

func (ss *sessions) count() int {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return len(ss.byID)
}

func (ss *sessions) all() []*session {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	out := make([]*session, 0, len(ss.byID))
	for _, s := range ss.byID {
		out = append(out, s)
	}
	return out
}

// serve runs an agent's session until its connection ends.
func (ss *sessions) serve(ctx context.Context, conn *transport.Conn) {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { conn.Close(transport.CloseShutdown, "the session has ended") })()
	s, err := ss.greet(ctx, conn)
	if closed, ok := errors.AsType[*transport.CloseError](err); ok && closed.Code == transport.CloseDone {
		// agent doctor looks whether a server can be reached, and asks for nothing.
		ss.log.Debug("looked in and left", "node", conn.Remote().Short(), "from", conn.RemoteAddr(), "reason", err)
		return
	}
	if err != nil {
		ss.log.Info("agent refused", "node", conn.Remote().Short(), "from", conn.RemoteAddr(), "reason", err)
		conn.Close(transport.CloseViolation, err.Error())
		return
	}
	ss.enter(s)
	defer ss.leave(s)
	if m, ok := ss.roster(); ok {
		s.send(m)
	}
	wg.Go(func() {
		if err := s.write(ctx); err != nil {
			conn.Close(transport.CloseViolation, err.Error())
		}
	})
	wg.Go(func() {
		for {
			stream, err := conn.AcceptStream(ctx)
			if err != nil {
				return
			}
			wg.Go(func() { ss.blobs(ctx, stream) })
		}
	})
	ss.poke(s)
	err = ss.read(s)
	if conn.Err() == nil {
		conn.Close(transport.CloseViolation, err.Error())
	}
	s.log.Info("agent gone", "reason", err)
}

// greet reads an agent's first message.
func (ss *sessions) greet(ctx context.Context, conn *transport.Conn) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	control, err := conn.AcceptStream(ctx)
	if err != nil {
		return nil, err
	}
	if err := control.SetReadDeadline(time.Now().Add(helloTimeout)); err != nil {
		return nil, err
	}
	m, err := readMessage(control)
	if err != nil {
		return nil, err
	}
	hello, ok := m.(job.Hello)
	switch {
	case !ok:
		return nil, fmt.Errorf("the first message is %T, want a Hello", m)
	case hello.ChainID != ss.chain:
		return nil, fmt.Errorf("the agent is of chain %s, this is %s", hello.ChainID, ss.chain)
	}
	if err := control.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return &session{
		conn: conn, control: control, node: conn.Remote(), hello: hello, version: 1,
		log: ss.log.With("node", conn.Remote().Short()), out: newOutQueue(),
		since: time.Now(), dones: map[crypto.Digest]job.Done{}, refusals: map[crypto.Digest]string{},
	}, nil
}

// enter makes s its node's session in place of an older one.
func (ss *sessions) enter(s *session) {
	ss.mu.Lock()
	old := ss.byID[s.node]
	ss.byID[s.node] = s
	ss.mu.Unlock()
	s.log.Info("agent connected", "from", s.conn.RemoteAddr(), "owner", s.hello.Owner)
	if old != nil {
		old.conn.Close(transport.CloseDuplicate, "a newer session took over")
	}
}

func (ss *sessions) leave(s *session) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.byID[s.node] == s {
		delete(ss.byID, s.node)
	}
}

func readMessage(from *transport.Stream) (job.Message, error) {
	raw, err := transport.ReadMessage(from, job.MaxMessageBytes)
	if err != nil {
		return nil, fmt.Errorf("reading the control stream: %w", err)
	}
	return job.DecodeMessage(raw)
}

// read takes what the agent says until it breaks off or breaks the protocol.
func (ss *sessions) read(s *session) error {
	for {
		m, err := readMessage(s.control)
		if err != nil {
			return err
		}
		if err := ss.take(s, m); err != nil {
			return err
		}
	}
}

func (ss *sessions) take(s *session, m job.Message) error {
	switch m := m.(type) {
	case job.Hello:
		return ss.again(s, m)
	case job.Load:
		s.mu.Lock()
		if s.hello.Accepting != m.Accepting { // the state counts for itself what is free
			s.version++
		}
		s.hello.Free, s.hello.Accepting = m.Free, m.Accepting
		s.mu.Unlock()
	case job.Bids:
		ss.bids(s, m)
		return nil
	case job.AssignReply:
		if m.Refuse == "" {
			return nil
		}
		if err := s.keep(m.Order, func() { s.refusals[m.Order] = m.Refuse }); err != nil {
			return err
		}
	case job.Done:
		if m.Receipt.Node != s.node {
			return fmt.Errorf("receipt by node %s", m.Receipt.Node.Short())
		}
		ss.prune(s)
		if err := s.keep(m.Receipt.Order, func() { s.dones[m.Receipt.Order] = m }); err != nil {
			return err
		}
	case job.Log:
		ss.logs(s.node, m)
		return nil
	case job.Pledge, job.Ballot, job.Opening, job.PeerReport, job.Reveal:
		ss.tell(s, m)
		return nil
	case job.AtHome:
		if m.Home.Node != s.node {
			return fmt.Errorf("home of node %s", m.Home.Node.Short())
		}
		ss.tell(s, m)
		return nil
	case job.LanesShown, job.LaneQuestion, job.LaneOpened, job.Measured:
		if who := measuredBy(m); who != s.node {
			return fmt.Errorf("%T by node %s", m, who.Short())
		}
		ss.tell(s, m)
		return nil
	case job.Probe:
		return ss.carryProbe(s, m)
	case job.ProbeReply:
		return ss.carryReply(s, m)
	case job.Show, job.Judge, job.Offers, job.Assign, job.Cancel, job.Ack, job.Roster, job.Tunnel, job.Watch, job.Measure, job.Unanswered, job.AskHome:
		return fmt.Errorf("%T is a server's message", m)
	}
	ss.poke(s)
	return nil
}

// measuredBy is whose word a message in a hardware challenge is; zero: of nobody's session.
func measuredBy(m job.Message) crypto.PublicKey {
	if m, ok := m.(job.LanesShown); ok {
		return m.Challenge.Node
	}
	if m, ok := m.(job.LaneOpened); ok {
		return m.Challenge.Node
	}
	if m, ok := m.(job.LaneQuestion); ok {
		return m.Peer
	}
	if m, ok := m.(job.Measured); ok {
		return m.Verdict.Peer
	}
	return crypto.PublicKey{}
}

// again takes a Hello that is not the first.
func (ss *sessions) again(s *session, m job.Hello) error {
	s.mu.Lock()
	if m.ChainID != s.hello.ChainID || m.Owner != s.hello.Owner {
		s.mu.Unlock()
		return errors.New("a later Hello is of another chain or owner")
	}
	s.hello = m
	s.version++
	s.mu.Unlock()
	ss.poke(s)
	return nil
}

// keep stores something about an assignment, within what an agent may hold.
func (s *session) keep(order crypto.Digest, store func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	store()
	if len(s.fresh) < job.MaxHeld { // the leader looks at all from time to time
		s.fresh = append(s.fresh, order)
	}
	if n := len(s.dones) + len(s.refusals); n > job.MaxHeld {
		return fmt.Errorf("%d assignments wait for the leader, limit %d", n, job.MaxHeld)
	}
	return nil
}

// pruneFrom is from how many Dones on a server forgets those that are settled, and
// pruneEvery how many come until it looks again. A leader forgets each as it is
// acknowledged; the others hear of it from the log alone.
const (
	pruneFrom  = job.MaxHeld / 2
	pruneEvery = job.MaxHeld / 8
)

// prune forgets Dones of assignments that are over, if there are many. One that is
// forgotten too early is sent again.
func (ss *sessions) prune(s *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.dones) < pruneFrom || len(s.dones)%pruneEvery != 0 {
		return
	}
	for order := range s.dones {
		if ss.ended(s.node, order) {
			delete(s.dones, order)
		}
	}
}

// mayRecall reports whether another ballot on a panel that is not known may be looked after.
func (s *session) mayRecall() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recalls++
	return s.recalls <= maxRecalls
}

// said returns the agent's newest Hello, and how many there have been.
func (s *session) said() (job.Hello, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hello, s.version
}

// What an agent changes costs the cluster an entry of its log: a few in a row may,
// and then one in so long, with the newest of what it said.
const (
	declareEvery = time.Second
	declareBurst = 8
)

// mayDeclare reports whether the state may be told of another change, and counts
// it.
func (s *session) mayDeclare() bool {
	return s.may(&s.declares, declareEvery, declareBurst)
}

// may reports whether something is taken of the agent of which it has so many in a row, and then one
// in so long, and counts it. paid is until when those that were taken are paid for.
func (s *session) may(paid *time.Time, each time.Duration, burst int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if paid.Before(now) {
		*paid = now
	}
	if paid.Sub(now) >= time.Duration(burst)*each {
		return false
	}
	*paid = paid.Add(each)
	return true
}

// recall has the leader look at all that the agent has said.
func (s *session) recall() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = true
}

// waiting returns what the agent said about assignments, for the leader: all that
// is not settled, or what is new.
func (s *session) waiting(all bool) (dones []job.Done, refusals map[crypto.Digest]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := s.fresh
	s.fresh = nil
	all, s.all = all || s.all, false
	refusals = map[crypto.Digest]string{}
	if !all {
		for _, order := range fresh {
			if d, ok := s.dones[order]; ok {
				dones = append(dones, d)
			}
			if reason, ok := s.refusals[order]; ok {
				refusals[order] = reason
			}
		}
		return dones, refusals
	}
	for order, reason := range s.refusals {
		refusals[order] = reason
	}
	for _, d := range s.dones {
		dones = append(dones, d)
	}
	slices.SortFunc(dones, func(a, b job.Done) int { return a.Receipt.Order.Compare(b.Receipt.Order) })
	return dones, refusals
}

// settled forgets what the agent said about an assignment.
func (s *session) settled(order crypto.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.dones, order)
	delete(s.refusals, order)
}

// assignPiece bounds the bytes of specifications in one message of assignments,
// and one more.
const assignPiece = 64 << 10

// assign queues an assignment, with others that follow it until flush or another
// message. The leader's loop alone assigns, and sends what may follow.
func (s *session) assign(a job.Assignment) {
	s.assigns, s.assignBytes = append(s.assigns, a), s.assignBytes+len(a.Order.Caps)*16+len(a.Spec.Encode())
	if len(s.assigns) == maxAssigns || s.assignBytes >= assignPiece {
		s.flush()
	}
}

// flush sends the assignments that are queued.
func (s *session) flush() {
	if len(s.assigns) > 0 {
		list := s.assigns
		s.assigns, s.assignBytes = nil, 0
		s.sendEncoded(job.EncodeMessage(job.Assign{List: list}))
	}
}

// flush has every session send its assignments.
func (ss *sessions) flush() {
	for _, s := range ss.all() {
		s.flush()
	}
}

// send queues a message. An agent that does not keep up is cut off, and finds
// everything again when it comes back.
func (s *session) send(m job.Message) { s.sendEncoded(job.EncodeMessage(m)) }

// sendEncoded is send, for a message that goes to many.
func (s *session) sendEncoded(raw []byte) {
	if s.out.put(raw) {
		return
	}
	s.log.Warn("agent does not take its messages, cutting it off")
	s.conn.Close(transport.CloseBusy, "too many messages wait for you")
}

// write sends what is queued, as much as there is in one piece.
func (s *session) write(ctx context.Context) error {
	var piece bytes.Buffer
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.conn.Done():
			return nil
		case <-s.out.ready:
		}
		for {
			piece.Reset()
			if err := s.out.take(&piece); err != nil {
				return err
			}
			if piece.Len() == 0 {
				break
			}
			if err := s.control.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
				return err
			}
			if _, err := s.control.Write(piece.Bytes()); err != nil {
				return fmt.Errorf("writing to the agent: %w", err)
			}
		}
	}
}

// outQueue is encoded messages that wait to be written.
type outQueue struct {
	mu    sync.Mutex
	list  [][]byte
	bytes int
	ready chan struct{} // has a token while there are some
}

func newOutQueue() *outQueue { return &outQueue{ready: make(chan struct{}, 1)} }

// put adds a message, unless too much waits.
func (q *outQueue) put(raw []byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.list) > 0 && (len(q.list) >= sendQueue || q.bytes+len(raw) > sendBytes) {
		return false
	}
	q.list = append(q.list, raw)
	q.bytes += len(raw)
	select {
	case q.ready <- struct{}{}:
	default:
	}
	return true
}

// take moves messages to a piece until it is long enough.
func (q *outQueue) take(piece *bytes.Buffer) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for n < len(q.list) && piece.Len() < sendPiece {
		if err := transport.WriteMessage(piece, q.list[n]); err != nil {
			return err
		}
		q.bytes -= len(q.list[n])
		q.list[n] = nil
		n++
	}
	if q.list = q.list[n:]; len(q.list) == 0 {
		q.list = nil
	}
	return nil
}

// OpenStream implements blob.Source: the agent serves the outputs that it
// keeps.
func (s *session) OpenStream(ctx context.Context) (*transport.Stream, error) {
	return s.conn.OpenStream(ctx)
}
