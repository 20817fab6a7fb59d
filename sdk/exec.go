package sdk

import (
	"bytes"
	"context"
	stded25519 "crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
)

const (
	ticketValid = 30 * time.Second
	execQuiet   = time.Minute // a node says every 15 s that it is there
)

// Exec is a command to run in a container of a job.
type Exec struct {
	Job      crypto.Digest
	ChainID  chain.ChainID
	Consumer chain.Signer // of the job
	Command  []string
	Stdin    io.Reader // nil: empty; it may be read for longer than the command runs
	Stdout   io.Writer // nil: discarded; one who takes nothing holds the command up
	Stderr   io.Writer
	Terminal *ExecTerminal // nil: none
}

// ExecTerminal is a terminal that a command is run in, as its consumer has one:
// Stdin is what is typed, as it is typed, Stdout what shows, and Stderr nothing.
type ExecTerminal struct {
	Type          string // the command's TERM; letters, digits, and . _ + -
	Columns, Rows uint16 // 1 to 10,000
	// Resized tells of columns and rows that changed, for as long as Exec runs.
	Resized <-chan [2]uint16
	// Begin, if there is one, is called when the node has answered, before it is
	// told what to run: time for a terminal's raw mode. Its error is Exec's.
	Begin func() error
}

// ErrExec is matched by the errors of Exec that a job's state or its node gives:
// they say why there is no exit code.
var ErrExec = errors.New("sdk: the command was not run to its end")

// Exec runs a command in the container of a running job, within the container's
// limits, and returns its exit code. The command and its streams are between the
// consumer and the node: servers carry them and see nothing of them. When ctx ends the
// command is killed, with all that it started, and the job runs on.
func (c *Client) Exec(ctx context.Context, e Exec) (code int, err error) {
	request := job.ExecRequest{ChainID: e.ChainID, Order: e.Job, Command: e.Command}
	if t := e.Terminal; t != nil {
		request.Terminal = job.Terminal{Type: t.Type, Size: job.TerminalSize{Columns: t.Columns, Rows: t.Rows}}
		if request.Terminal == (job.Terminal{}) {
			return 0, request.Terminal.Size.Check()
		}
	}
	if err := request.Check(); err != nil {
		return 0, err
	}
	j, err := c.Job(ctx, e.Job)
	if err != nil {
		return 0, err
	}
	if request.Node, err = nodeOf(&j); err != nil {
		return 0, err
	}
	tunnel, err := c.openTunnel(ctx, &e, request.Node)
	if err != nil {
		return 0, err
	}
	defer context.AfterFunc(ctx, func() { closeTunnel(tunnel) })()
	defer closeTunnel(tunnel)
	x, err := e.begin(ctx, tunnel, &request)
	if err == nil {
		code, err = x.run()
	}
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	return code, err
}

// nodeOf returns the node that runs a job's container, or why there is none.
func nodeOf(j *api.Job) (crypto.PublicKey, error) {
	if _, ok := j.Spec.Work.Work.(job.Wasm); ok {
		return crypto.PublicKey{}, fmt.Errorf("%w: a wasm job has no processes to run a command beside: only containers have", ErrExec)
	}
	for _, run := range j.Runs {
		if run.Stage == "live" {
			return run.Node, nil
		}
	}
	if j.Status == job.Settling || j.Status.Final() {
		return crypto.PublicKey{}, fmt.Errorf("%w: the job has ended: it is %s", ErrExec, j.Status)
	}
	return crypto.PublicKey{}, fmt.Errorf("%w: the job does not run now: it is %s", ErrExec, j.Status)
}

// openTunnel asks servers in turn for a way to a node.
func (c *Client) openTunnel(ctx context.Context, e *Exec, node crypto.PublicKey) (tunnel io.ReadWriteCloser, err error) {
	r := call{to: c.nexus, method: http.MethodPost, path: "/v1/jobs/" + e.Job.String() + "/exec", repeatable: true}
	err = c.attempt(ctx, r, func(ctx context.Context, base string) error {
		expires := chain.TimeMs(time.Now().Add(ticketValid).UnixMilli())
		signature, err := e.Consumer.Sign(crypto.DomainExecTicket, job.ExecTicketPayload(e.ChainID, e.Job, node, expires))
		if err != nil {
			return fmt.Errorf("%w: signing a ticket: %w", errAnswer, err)
		}
		query := url.Values{"node": {node.String()}, "expires_ms": {strconv.FormatUint(uint64(expires), 10)}}
		tunnel, err = c.upgrade(ctx, base+r.path+"?"+query.Encode(), signature)
		return err
	})
	return tunnel, err
}

// upgrade has a server make a connection a tunnel.
func (c *Client) upgrade(ctx context.Context, target string, signature crypto.Signature) (io.ReadWriteCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errAnswer, err)
	}
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", job.ExecProtocol)
	request.Header.Set(api.SignatureHeader, signature.String())
	response, err := c.upgrades().RoundTrip(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		if response, err = goodAnswer(response); err == nil {
			err = errors.Join(fmt.Errorf("%w: status %d instead of an upgrade", errAnswer, response.StatusCode), response.Body.Close())
		}
		return nil, err
	}
	tunnel, ok := response.Body.(io.ReadWriteCloser)
	if !ok || response.Header.Get("Upgrade") != job.ExecProtocol {
		return nil, errors.Join(fmt.Errorf("%w: an upgrade to %.40q", errAnswer, response.Header.Get("Upgrade")), response.Body.Close())
	}
	return tunnel, nil
}

// upgrades is the client's transport, for HTTP/1.1 alone: HTTP/2 has no Upgrade.
func (c *Client) upgrades() http.RoundTripper {
	through := c.http.Transport
	if through == nil {
		through = http.DefaultTransport
	}
	base, ok := through.(*http.Transport)
	if !ok {
		return through
	}
	own := base.Clone()
	own.ForceAttemptHTTP2, own.DisableKeepAlives = false, true
	own.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	if own.TLSClientConfig != nil {
		own.TLSClientConfig.NextProtos = []string{"http/1.1"}
	}
	return own
}

// closeTunnel ends a tunnel, so that reads and writes end. It may have ended.
func closeTunnel(tunnel io.Closer) { _ = tunnel.Close() }

// tunnelConn is a tunnel as TLS takes it. Its deadlines are whoever closes it.
type tunnelConn struct{ io.ReadWriteCloser }

// LocalAddr implements net.Conn.
func (tunnelConn) LocalAddr() net.Addr { return &net.UnixAddr{Name: "tunnel", Net: "unix"} }

// RemoteAddr implements net.Conn.
func (tunnelConn) RemoteAddr() net.Addr { return &net.UnixAddr{Name: "tunnel", Net: "unix"} }

// SetDeadline implements net.Conn.
func (tunnelConn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (tunnelConn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (tunnelConn) SetWriteDeadline(time.Time) error { return nil }

// execution is a command under way.
type execution struct {
	exec *Exec
	tls  *tls.Conn

	writing sync.Mutex
}

// begin speaks TLS with the node, which has to be the one that runs the job, and
// asks it to run the command.
func (e *Exec) begin(ctx context.Context, tunnel io.ReadWriteCloser, request *job.ExecRequest) (*execution, error) {
	conn := tls.Client(tunnelConn{tunnel}, &tls.Config{
		NextProtos: []string{job.ExecProtocol}, MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true,
		InsecureSkipVerify: true, // no authorities and no names: VerifyPeerCertificate decides
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			return isNode(raw, request.Node)
		},
	})
	handshake, cancel := context.WithTimeout(ctx, ticketValid)
	defer cancel()
	if err := conn.HandshakeContext(handshake); err != nil {
		return nil, fmt.Errorf("sdk: speaking with node %s: %w", request.Node.Short(), err)
	}
	state := conn.ConnectionState()
	material, err := state.ExportKeyingMaterial(job.ExecBinding, nil, 32)
	if err != nil {
		return nil, fmt.Errorf("sdk: binding a request: %w", err)
	}
	request.Expires = chain.TimeMs(time.Now().Add(ticketValid).UnixMilli())
	signed := job.SignedExec{Request: *request}
	if signed.Signature, err = e.Consumer.Sign(crypto.DomainExec, request.Payload([32]byte(material))); err != nil {
		return nil, fmt.Errorf("sdk: signing a command: %w", err)
	}
	if e.Terminal != nil && e.Terminal.Begin != nil {
		if err := e.Terminal.Begin(); err != nil {
			return nil, err
		}
	}
	x := &execution{exec: e, tls: conn}
	return x, x.write(job.ExecBegin, signed.Encode())
}

// isNode demands the one certificate of a node. That its key is held, TLS has
// shown.
func isNode(raw [][]byte, want crypto.PublicKey) error {
	if len(raw) != 1 {
		return fmt.Errorf("%d certificates, want 1", len(raw))
	}
	cert, err := x509.ParseCertificate(raw[0])
	if err != nil {
		return err
	}
	if key, ok := cert.PublicKey.(stded25519.PublicKey); !ok || !bytes.Equal(key, want[:]) {
		return fmt.Errorf("the other end is not node %s", want)
	}
	return nil
}

func (x *execution) write(kind job.ExecKind, data []byte) error {
	x.writing.Lock()
	defer x.writing.Unlock()
	if err := job.WriteExecFrame(x.tls, kind, data); err != nil {
		return fmt.Errorf("sdk: the way to the node ended: %w", err)
	}
	return nil
}

// run moves the command's streams until it has ended. The goroutine that reads
// Stdin may outlive it: nothing can break a read off.
func (x *execution) run() (code int, err error) {
	go x.send()
	ended := make(chan struct{})
	defer close(ended)
	if x.exec.Terminal != nil {
		go x.resize(ended)
	}
	quiet := time.AfterFunc(execQuiet, func() { closeTunnel(x.tls.NetConn()) })
	defer quiet.Stop()
	var buf []byte
	for {
		quiet.Reset(execQuiet)
		kind, data, err := job.ReadExecFrame(x.tls, &buf)
		if err != nil {
			return 0, fmt.Errorf("%w: the way to the node ended: %w", ErrExec, err)
		}
		quiet.Stop() // a reader may take its time
		switch kind {
		case job.ExecStdout:
			err = writeAll(x.exec.Stdout, data)
		case job.ExecStderr:
			err = writeAll(x.exec.Stderr, data)
		case job.ExecExit:
			if len(data) != 4 {
				return 0, fmt.Errorf("%w: an exit code of %d bytes", errAnswer, len(data))
			}
			return int(binary.BigEndian.Uint32(data)), nil
		case job.ExecRefuse:
			return 0, fmt.Errorf("%w: the node says: %q", ErrExec, data)
		case job.ExecAlive:
		case job.ExecBegin, job.ExecStdin, job.ExecStdinEnd, job.ExecResize:
			return 0, fmt.Errorf("%w: the node sent a frame of kind %d", errAnswer, kind)
		}
		if err != nil {
			return 0, fmt.Errorf("sdk: handing on the command's output: %w", err)
		}
	}
}

// resize hands the terminal's new sizes on.
func (x *execution) resize(ended <-chan struct{}) {
	for {
		select {
		case to := <-x.exec.Terminal.Resized:
			size := job.TerminalSize{Columns: to[0], Rows: to[1]}
			if size.Check() == nil && x.write(job.ExecResize, size.Encode()) != nil { // a terminal may be nothing large for a while
				return
			}
		case <-ended:
			return
		}
	}
}

func writeAll(to io.Writer, data []byte) error {
	if to == nil {
		return nil
	}
	_, err := to.Write(data)
	return err
}

// send hands Stdin on, until it or the tunnel ends.
func (x *execution) send() {
	buf := make([]byte, job.MaxExecFrame)
	for x.exec.Stdin != nil {
		n, err := x.exec.Stdin.Read(buf)
		if n > 0 && x.write(job.ExecStdin, buf[:n]) != nil {
			return
		}
		if err != nil {
			break // the command sees the end of its input, whatever the reason
		}
	}
	_ = x.write(job.ExecStdinEnd, nil) // whether the tunnel has ended, run learns
}
