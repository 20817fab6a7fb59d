package agent

import (
	"context"

	"golang.org/x/time/rate"

	"github.com/hypermesh/hypermesh/internal/transport"
)

// pace holds the traffic of blobs to bandwidth_kib, each way for itself. The
// zero value holds nothing back.
type pace struct {
	in, out *rate.Limiter
}

// paceBurst is how much may pass at once after a pause, in bytes.
const paceBurst = 64 << 10

func newPace(kib uint64) *pace {
	if kib == 0 {
		return &pace{}
	}
	limit := func() *rate.Limiter { return rate.NewLimiter(rate.Limit(kib<<10), paceBurst) }
	return &pace{in: limit(), out: limit()}
}

// carry counts a stream of blobs and holds it to the pace, from now on and until
// ctx ends.
func (a *Agent) carry(ctx context.Context, stream *transport.Stream, c cargo) *transport.Stream {
	if a.pace.in == nil {
		a.moved.count(stream, c, wholePiece, nil, nil)
	} else {
		a.moved.count(stream, c, paceBurst, waiter(ctx, a.pace.in), waiter(ctx, a.pace.out))
	}
	return stream
}

// waiter returns what waits until n bytes may pass.
func waiter(ctx context.Context, l *rate.Limiter) func(n int) {
	return func(n int) {
		for n > 0 {
			part := min(n, paceBurst)
			if l.WaitN(ctx, part) != nil {
				return // ctx ended, and the stream with it
			}
			n -= part
		}
	}
}

// pacedConn is a server as a source of blobs, at the agent's pace.
type pacedConn struct {
	*transport.Conn
	agent *Agent
	cargo cargo
}

// OpenStream implements blob.Source.
func (c pacedConn) OpenStream(ctx context.Context) (*transport.Stream, error) {
	stream, err := c.Conn.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	return c.agent.carry(ctx, stream, c.cargo), nil
}
