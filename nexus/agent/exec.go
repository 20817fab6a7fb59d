package agent

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/nexus/executor"
	"github.com/hypermesh/hypermesh/nexus/job"
)

const (
	maxTunnels      = 32
	maxTunnelsOfJob = 8
	tunnelTimeout   = 10 * time.Second // until a consumer has said what to run
	aliveEvery      = 15 * time.Second
	lingerTime      = 10 * time.Minute // for a consumer to take what a command that ended has written
)

// errTunnel is why a command's context ends before the command: its consumer has
// gone, or the server between.
var errTunnel = errors.New("the consumer has gone")

// tunnelled opens the tunnel that a server asks for, if there are not too many.
// One that is not opened the server gives up.
func (s *session) tunnelled(ctx context.Context, m job.Tunnel) {
	a := s.agent
	if !a.beginTunnel(m.Order) {
		a.log.Warn("agent: no more tunnels are opened", "order", m.Order.Short(), "limit", maxTunnelsOfJob)
		return
	}
	s.tunnels.Go(func() {
		defer a.endTunnel(m.Order)
		if err := s.tunnel(ctx, m); err != nil && ctx.Err() == nil {
			a.log.Info("agent: a tunnel ended", "order", m.Order.Short(), "reason", err)
		}
	})
}

func (a *Agent) beginTunnel(order crypto.Digest) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	total := 0
	for _, n := range a.tunnels {
		total += n
	}
	if total >= maxTunnels || a.tunnels[order] >= maxTunnelsOfJob {
		return false
	}
	a.tunnels[order]++
	return true
}

func (a *Agent) endTunnel(order crypto.Digest) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.tunnels[order]--; a.tunnels[order] == 0 {
		delete(a.tunnels, order)
	}
}

// tunnel dials the server of the session again, so that a consumer who reads
// slowly holds up this connection alone, and serves one command in it.
func (s *session) tunnel(ctx context.Context, m job.Tunnel) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	dialing, stop := context.WithTimeout(ctx, tunnelTimeout)
	defer stop()
	conn, err := s.agent.endpoint.Dial(dialing, s.addr, job.TunnelProtocol)
	if err != nil {
		return fmt.Errorf("agent: dialing a tunnel: %w", err)
	}
	defer conn.Close(transport.CloseDone, "the tunnel has ended")
	stream, err := conn.OpenStream(dialing)
	if err != nil {
		return fmt.Errorf("agent: opening a tunnel: %w", err)
	}
	defer context.AfterFunc(conn.Context(), func() { cancel(errTunnel) })()
	defer context.AfterFunc(ctx, stream.Reset)()
	if err := transport.WriteMessage(stream, m.ID[:]); err != nil {
		return fmt.Errorf("agent: opening a tunnel: %w", err)
	}
	if err := stream.SetDeadline(time.Now().Add(tunnelTimeout)); err != nil {
		return err
	}
	x, err := s.agent.greetConsumer(dialing, stream)
	if err != nil {
		return fmt.Errorf("agent: in a tunnel: %w", err)
	}
	if err := stream.SetDeadline(time.Time{}); err != nil {
		return err
	}
	x.cancel = cancel
	defer x.reading.Wait()
	defer conn.Close(transport.CloseDone, "the command has ended")
	last := x.serve(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := errors.Join(stream.SetWriteDeadline(time.Now().Add(lingerTime)), x.write(last.kind, last.data), x.tls.CloseWrite(), stream.CloseWrite()); err != nil {
		return fmt.Errorf("agent: ending a tunnel: %w", err)
	}
	// The server ends the connection once it has taken everything.
	lingering, leave := context.WithTimeout(ctx, lingerTime)
	defer leave()
	<-lingering.Done()
	return nil
}

// execution is one command that a consumer runs.
type execution struct {
	agent   *Agent
	tls     *tls.Conn
	request job.ExecRequest
	refused error // why it is not run
	cancel  context.CancelCauseFunc
	reading sync.WaitGroup // the goroutine of read

	writing sync.Mutex
}

// lastFrame is what a tunnel ends with.
type lastFrame struct {
	kind job.ExecKind
	data []byte
}

func refusal(err error) lastFrame { return lastFrame{job.ExecRefuse, []byte(line(err.Error()))} }

// greetConsumer speaks TLS and reads what to run. Who the consumer is only their
// signature says.
func (a *Agent) greetConsumer(ctx context.Context, stream *transport.Stream) (*execution, error) {
	cert, err := transport.NewCertificate(a.key)
	if err != nil {
		return nil, err
	}
	x := &execution{agent: a, tls: tls.Server(stream, &tls.Config{
		Certificates: []tls.Certificate{cert}, NextProtos: []string{job.ExecProtocol}, MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true,
	})}
	if err := x.tls.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	state := x.tls.ConnectionState()
	material, err := state.ExportKeyingMaterial(job.ExecBinding, nil, 32)
	if err != nil {
		return nil, err
	}
	var buf []byte
	kind, data, err := job.ReadExecFrame(x.tls, &buf)
	if err != nil {
		x.refused = err // it may still be told
		return x, nil
	}
	if kind != job.ExecBegin {
		return nil, fmt.Errorf("the first frame is of kind %d", kind)
	}
	signed, err := job.DecodeSignedExec(data)
	if err == nil {
		err = a.checkExec(&signed, [32]byte(material))
	}
	x.request, x.refused = signed.Request, err
	return x, nil
}

// checkExec says why a command is not this consumer's to run here.
func (a *Agent) checkExec(s *job.SignedExec, binding [32]byte) error {
	r := &s.Request
	a.mu.Lock()
	t := a.tasks[r.Order]
	a.mu.Unlock()
	switch {
	case r.ChainID != a.genesis.ChainID:
		return fmt.Errorf("the request is of chain %.32q, this is %s", r.ChainID, a.genesis.ChainID)
	case r.Node != a.id:
		return fmt.Errorf("the request is for node %s, this is %s", r.Node.Short(), a.id.Short())
	case t == nil:
		return fmt.Errorf("job %s does not run here", r.Order.Short())
	}
	if err := job.CheckTicketTime(r.Expires, timeMs(a.config.Now())); err != nil {
		return fmt.Errorf("the request %w", err)
	}
	consumer, err := t.assignment.Order.Consumer.Ed25519()
	if err != nil {
		return err
	}
	if !consumer.Verify(crypto.DomainExec, r.Payload(binding), s.Signature) {
		return errors.New("the signature is not the consumer's, of this command in this connection")
	}
	if _, ok := t.assignment.Work().Work.Work.(job.Container); !ok || a.containers == nil {
		return errors.New("only containers have processes to run a command beside")
	}
	return r.Check()
}

// serve runs the command and returns the frame that says how it ended.
func (x *execution) serve(ctx context.Context) lastFrame {
	a, r := x.agent, &x.request
	if x.refused != nil {
		a.log.Warn("agent: refusing a command", "order", r.Order.Short(), "reason", x.refused)
		return refusal(x.refused)
	}
	a.log.Info("agent: a consumer runs a command", "order", r.Order.Short(), "words", len(r.Command))
	stdin, typed := io.Pipe()
	task := executor.ExecTask{Command: r.Command, Stdin: stdin, Stdout: output{x, job.ExecStdout}, Stderr: output{x, job.ExecStderr}}
	var resized chan [2]uint16
	if terminal := &r.Terminal; *terminal != (job.Terminal{}) {
		resized = make(chan [2]uint16, 1)
		task.Terminal = &executor.Terminal{Type: terminal.Type, Columns: terminal.Size.Columns, Rows: terminal.Size.Rows, Resized: resized}
	}
	alive, dead := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { x.keepAlive(alive) })
	x.reading.Go(func() { x.read(typed, resized) })
	code, err := a.containers.Exec(ctx, r.Order.String(), task)
	dead()
	wg.Wait()
	a.log.Info("agent: a consumer's command ended", "order", r.Order.Short(), "code", code, "error", err)
	if err := errors.Join(err, stdin.Close()); err != nil {
		return refusal(err)
	}
	return lastFrame{job.ExecExit, binary.BigEndian.AppendUint32(nil, uint32(code))}
}

// read hands the consumer's input, and sizes of their terminal if there is one,
// on until the stream ends, which ends the command.
func (x *execution) read(typed *io.PipeWriter, resized chan [2]uint16) {
	if resized != nil {
		defer close(resized)
	}
	var buf []byte
	for {
		kind, data, err := job.ReadExecFrame(x.tls, &buf)
		switch {
		case err != nil:
			x.cancel(fmt.Errorf("%w: %w", errTunnel, err))
			return
		case kind == job.ExecStdin:
			_, err = typed.Write(data) // waits until the command takes it, or has ended
		case kind == job.ExecStdinEnd:
			err = typed.Close()
		case kind == job.ExecResize && resized != nil:
			var size job.TerminalSize
			if size, err = job.DecodeTerminalSize(data); err == nil {
				select { // only the newest counts
				case <-resized:
				default:
				}
				resized <- [2]uint16{size.Columns, size.Rows} // this goroutine alone fills it
			}
		default:
			x.cancel(fmt.Errorf("a consumer sent a frame of kind %d", kind))
			return
		}
		if err != nil && !errors.Is(err, io.ErrClosedPipe) {
			x.cancel(err)
			return
		}
	}
}

// keepAlive has the ends between them see that the node is there.
func (x *execution) keepAlive(ctx context.Context) {
	ticker := time.NewTicker(aliveEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if err := x.write(job.ExecAlive, nil); err != nil {
				x.cancel(fmt.Errorf("%w: %w", errTunnel, err))
			}
		case <-ctx.Done():
			return
		}
	}
}

func (x *execution) write(kind job.ExecKind, data []byte) error {
	x.writing.Lock()
	defer x.writing.Unlock()
	return job.WriteExecFrame(x.tls, kind, data)
}

// output is one of a command's streams. A consumer who does not read holds the
// command up, and nothing is kept for them but what is under way.
type output struct {
	x    *execution
	kind job.ExecKind
}

// Write implements io.Writer.
func (o output) Write(p []byte) (int, error) {
	for sent := 0; ; {
		part := p[sent:min(len(p), sent+job.MaxExecFrame)]
		if len(part) == 0 {
			return sent, nil
		}
		if err := o.x.write(o.kind, part); err != nil {
			o.x.cancel(fmt.Errorf("%w: %w", errTunnel, err))
			return sent, err
		}
		sent += len(part)
	}
}
