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

// set holds a stream of blobs to the pace, from now on and until ctx ends.
func (p *pace) set(ctx context.Context, stream *transport.Stream) *transport.Stream {
	if p.in != nil {
		stream.SetPace(paceBurst, waiter(ctx, p.in), waiter(ctx, p.out))
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
	pace *pace
}

// OpenStream implements blob.Source.
func (c pacedConn) OpenStream(ctx context.Context) (*transport.Stream, error) {
	stream, err := c.Conn.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	return c.pace.set(ctx, stream), nil
}
