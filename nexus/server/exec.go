package server

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
	"github.com/hypermesh/hypermesh/sdk/api"
)

const (
	execSuffix      = "/exec"
	maxTunnels      = 32 // at a time
	maxTunnelsOfJob = 4
	tunnelTimeout   = 10 * time.Second // for the agent to open one
	tunnelBuffer    = 32 << 10         // each way
)

// tunnels are the ways between consumers and nodes that this server keeps open.
type tunnels struct {
	mu      sync.Mutex
	awaited map[crypto.Digest]*tunnel
	ofJob   map[crypto.Digest]int
	total   int
	closed  bool
	serving sync.WaitGroup
}

// tunnel is one that an agent was asked to open.
type tunnel struct {
	node   crypto.PublicKey
	opened chan *transport.Stream // takes one
}

func newTunnels() *tunnels {
	return &tunnels{awaited: map[crypto.Digest]*tunnel{}, ofJob: map[crypto.Digest]int{}}
}

// begin takes a place for a job's tunnel. The reason is empty if there is one.
func (t *tunnels) begin(order crypto.Digest) (reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return "the server is stopping"
	case t.ofJob[order] >= maxTunnelsOfJob:
		return fmt.Sprintf("%d commands run in this job now: limit %d", t.ofJob[order], maxTunnelsOfJob)
	case t.total >= maxTunnels:
		return fmt.Sprintf("%d commands run through this server now: limit %d", t.total, maxTunnels)
	}
	t.ofJob[order]++
	t.total++
	t.serving.Add(1)
	return ""
}

// close begins no more, and waits for those that are.
func (t *tunnels) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.serving.Wait()
}

func (t *tunnels) end(order crypto.Digest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.serving.Done()
	t.total--
	if t.ofJob[order]--; t.ofJob[order] == 0 {
		delete(t.ofJob, order)
	}
}

// open has an agent open a tunnel. The error says why there is none.
func (t *tunnels) open(ctx context.Context, s *session, order crypto.Digest) (*transport.Stream, error) {
	var id crypto.Digest
	if _, err := rand.Read(id[:]); err != nil {
		return nil, fmt.Errorf("server: drawing a number: %w", err)
	}
	wanted := &tunnel{node: s.node, opened: make(chan *transport.Stream, 1)}
	t.mu.Lock()
	t.awaited[id] = wanted
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.awaited, id)
		select {
		case late := <-wanted.opened:
			late.Conn().Close(transport.CloseDone, "nobody waits any more")
		default:
		}
	}()
	s.send(job.Tunnel{Order: order, ID: id})
	timer := time.NewTimer(tunnelTimeout)
	defer timer.Stop()
	select {
	case stream := <-wanted.opened:
		return stream, nil
	case <-timer.C:
		return nil, fmt.Errorf("node %s opened no way to it within %v: it may serve as many commands as it does at a time", s.node.Short(), tunnelTimeout)
	case <-s.conn.Done():
		return nil, fmt.Errorf("node %s has gone", s.node.Short())
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// serve takes a connection that an agent has dialed to open one tunnel, and
// returns when it has ended.
func (t *tunnels) serve(ctx context.Context, conn *transport.Conn) {
	greeting, cancel := context.WithTimeout(ctx, tunnelTimeout)
	defer cancel()
	stream, err := conn.AcceptStream(greeting)
	if err == nil {
		err = t.deliver(conn, stream)
	}
	if err != nil {
		conn.Close(transport.CloseViolation, err.Error())
		return
	}
	select { // whoever has the stream closes the connection
	case <-conn.Done():
	case <-ctx.Done():
		conn.Close(transport.CloseShutdown, "the server is stopping")
	}
}

// deliver gives a stream to whoever awaits it.
func (t *tunnels) deliver(conn *transport.Conn, stream *transport.Stream) error {
	if err := stream.SetReadDeadline(time.Now().Add(tunnelTimeout)); err != nil {
		return err
	}
	raw, err := transport.ReadMessage(stream, crypto.DigestSize)
	if err != nil {
		return err
	}
	if len(raw) != crypto.DigestSize {
		return fmt.Errorf("the first message has %d bytes, want a tunnel's id", len(raw))
	}
	if err := stream.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	wanted := t.awaited[crypto.Digest(raw)]
	if wanted == nil || wanted.node != conn.Remote() {
		return errors.New("no such tunnel is awaited of this node")
	}
	delete(t.awaited, crypto.Digest(raw))
	wanted.opened <- stream // it takes one, and is found once
	return nil
}

// registerExec adds the path that becomes a tunnel, and its description.
func (s *Server) registerExec(hapi huma.API, mux *http.ServeMux) {
	mux.HandleFunc("POST "+jobsPath+"/{id}"+execSuffix, s.exec)
	hexadecimal := func(digits int) *huma.Schema {
		return &huma.Schema{Type: huma.TypeString, Pattern: fmt.Sprintf("^[0-9a-f]{%d}$", digits)}
	}
	problem := func(what string) *huma.Response {
		return &huma.Response{Description: what, Content: map[string]*huma.MediaType{api.ContentProblem: {Schema: web.SchemaOf[api.Problem](hapi)}}}
	}
	hapi.OpenAPI().AddOperation(&huma.Operation{
		OperationID: "exec", Method: http.MethodPost, Path: jobsPath + "/{id}" + execSuffix,
		Summary: "A way to the node that runs a job's container, to run a command in it",
		Description: "The connection is upgraded to " + job.ExecProtocol + ": TLS between consumer and node, of which this server sees nothing; package sdk's " +
			"Client.Exec speaks it. The server lets the job's consumer through alone, and the node takes no command without their signature.",
		Parameters: []*huma.Param{
			{Name: "id", In: "path", Required: true, Description: "the order's id", Schema: hexadecimal(64)},
			{Name: "node", In: "query", Required: true, Description: "one that runs the job", Schema: hexadecimal(64)},
			{Name: "expires_ms", In: "query", Required: true, Description: "when the signature ends to count, at most a minute ahead", Schema: &huma.Schema{Type: huma.TypeString, Pattern: "^[0-9]+$"}},
			{Name: api.SignatureHeader, In: "header", Required: true, Description: "by the consumer, of the ticket, in hexadecimal", Schema: hexadecimal(128)},
			{Name: "Upgrade", In: "header", Required: true, Description: job.ExecProtocol, Schema: &huma.Schema{Type: huma.TypeString}},
		},
		Responses: map[string]*huma.Response{
			"101": {Description: "The way is open"}, "403": problem("Not signed by the job's consumer"), "404": problem("No such job"),
			"409": problem("Not a container, or not running on that node"), "422": problem("Malformed"), "426": problem("No upgrade asked for"), "503": problem("Busy, or the node is not connected"),
		},
	})
}

// ticket is a request for a tunnel, whose form was checked.
type ticket struct {
	order     crypto.Digest
	node      crypto.PublicKey
	expires   chain.TimeMs
	signature crypto.Signature
}

func readTicket(r *http.Request) (t ticket, err error) {
	if t.order, err = crypto.ParseDigest(r.PathValue("id")); err != nil {
		return t, web.Invalid("path.id", err)
	}
	query := r.URL.Query()
	if t.node, err = crypto.ParsePublicKey(query.Get("node")); err != nil {
		return t, web.Invalid("query.node", err)
	}
	expires, err := strconv.ParseUint(query.Get("expires_ms"), 10, 63)
	if err != nil {
		return t, web.Invalid("query.expires_ms", fmt.Errorf("is %.24q, want milliseconds since 1970", query.Get("expires_ms")))
	}
	t.expires = chain.TimeMs(expires)
	if err := t.signature.UnmarshalText([]byte(r.Header.Get(api.SignatureHeader))); err != nil {
		return t, web.Invalid("header."+api.SignatureHeader, err)
	}
	if got := r.Header.Get("Upgrade"); got != job.ExecProtocol {
		return t, web.NewProblem(http.StatusUpgradeRequired, api.ProblemInvalid, fmt.Sprintf("header Upgrade is %.40q, want %s", got, job.ExecProtocol))
	}
	return t, nil
}

// checkTicket says why a request is not carried out.
func (s *Server) checkTicket(ctx context.Context, t *ticket) error {
	known, ok := s.jobJSON(t.order)
	if !ok {
		var err error
		if known, err = s.newestJob(ctx, t.order); err != nil {
			return err
		}
	}
	forbidden := func(location, detail string) error {
		p := web.NewProblem(http.StatusForbidden, api.ProblemInvalid, "only the job's consumer may run commands in it")
		p.Errors = []api.ProblemDetail{{Location: location, Message: detail}}
		return p
	}
	if err := job.CheckTicketTime(t.expires, s.now()); err != nil {
		return forbidden("query.expires_ms", err.Error())
	}
	consumer := crypto.PublicKey(known.Order.Consumer.Key) // of 32 bytes: the order was checked
	if !consumer.Verify(crypto.DomainExecTicket, job.ExecTicketPayload(s.id.genesis.ChainID, t.order, t.node, t.expires), t.signature) {
		return forbidden("header."+api.SignatureHeader, "is not the consumer's signature of the ticket")
	}
	conflict := func(format string, args ...any) error {
		return web.NewProblem(http.StatusConflict, api.ProblemInvalid, fmt.Sprintf(format, args...))
	}
	switch known.Spec.Work.Work.(type) {
	case job.Wasm:
		return conflict("a wasm job has no processes to run a command beside: only containers have")
	case job.Kernel:
		return conflict("a kernel has no processes to run a command beside: only containers have")
	case job.Container:
	}
	for _, run := range known.Runs {
		if run.Node == t.node && run.Stage == scheduler.Live.String() {
			return nil
		}
	}
	if known.Status == job.Settling || known.Status.Final() {
		return conflict("the job has ended: it is %s", known.Status)
	}
	return conflict("the job does not run on node %s now: it is %s", t.node.Short(), known.Status)
}

// exec opens a tunnel and moves bytes until either end has gone.
func (s *Server) exec(w http.ResponseWriter, r *http.Request) {
	t, err := readTicket(r)
	if err == nil {
		err = s.checkTicket(r.Context(), &t)
	}
	if err != nil {
		s.refuseExec(w, r, err)
		return
	}
	if reason := s.tunnels.begin(t.order); reason != "" {
		web.WriteBusy(w, r, s.log, reason)
		return
	}
	defer s.tunnels.end(t.order)
	node := s.sessions.get(t.node)
	if node == nil {
		web.WriteBusy(w, r, s.log, fmt.Sprintf("node %s is not connected to the cluster now", t.node.Short()))
		return
	}
	stream, err := s.tunnels.open(r.Context(), node, t.order)
	if err != nil {
		web.WriteBusy(w, r, s.log, err.Error())
		return
	}
	defer stream.Conn().Close(transport.CloseDone, "the consumer has gone")
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.log.Error("a connection cannot be taken over", "error", err)
		return
	}
	defer s.closeQuietly(conn)
	s.log.Info("a consumer runs a command", "job", t.order.Short(), "node", t.node.Short())
	if err := s.relay(conn, buffered, stream); err != nil {
		s.log.Debug("a tunnel ended", "job", t.order.Short(), "reason", err)
	}
}

func (s *Server) refuseExec(w http.ResponseWriter, r *http.Request, err error) {
	p, ok := errors.AsType[*api.Problem](err)
	if !ok || p.Status == http.StatusServiceUnavailable {
		web.WriteBusy(w, r, s.log, err.Error())
		return
	}
	web.WriteProblem(w, r, s.log, p)
}

func (s *Server) closeQuietly(conn net.Conn) {
	if err := conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		s.log.Debug("closing a tunnel", "error", err)
	}
}

// relay answers the consumer and moves bytes both ways: each direction has one
// buffer and waits for whoever does not read. It ends with either end, or with
// the server.
func (s *Server) relay(consumer net.Conn, buffered *bufio.ReadWriter, node *transport.Stream) error {
	if err := consumer.SetDeadline(time.Time{}); err != nil {
		return err
	}
	if _, err := io.WriteString(consumer, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+job.ExecProtocol+"\r\n\r\n"); err != nil {
		return err
	}
	ended := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(ended)
	wg.Go(func() {
		select {
		case <-s.closing:
			node.Conn().Close(transport.CloseShutdown, "the server is stopping")
			s.closeQuietly(consumer)
		case <-ended:
		}
	})
	typed := make(chan error, 1)
	wg.Go(func() {
		// What came with the request's head, and then the rest.
		head := io.LimitReader(buffered, int64(buffered.Reader.Buffered()))
		_, err := io.CopyBuffer(struct{ io.Writer }{node}, struct{ io.Reader }{io.MultiReader(head, consumer)}, make([]byte, tunnelBuffer))
		node.Conn().Close(transport.CloseDone, "the consumer has gone") // which ends the other direction
		_, drained := io.Copy(io.Discard, consumer)                     // unread bytes would have the connection reset
		typed <- errors.Join(err, drained)
	})
	_, err := io.CopyBuffer(struct{ io.Writer }{consumer}, struct{ io.Reader }{node}, make([]byte, tunnelBuffer))
	node.Conn().Close(transport.CloseDone, "all is taken")
	if half, ok := consumer.(interface{ CloseWrite() error }); ok && err == nil {
		err = half.CloseWrite() // the consumer, who has all now, ends the rest
	} else {
		s.closeQuietly(consumer)
	}
	return errors.Join(err, consumer.SetReadDeadline(time.Now().Add(tunnelTimeout)), <-typed)
}
