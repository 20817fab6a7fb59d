package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// batchBytes is how much of a queue is written at a time.
const batchBytes = 64 << 10

// link is one connection in use by a mesh.
type link struct {
	peer  *peer
	conn  *Conn
	since time.Time
	ended chan struct{} // closed when run has returned
	wg    sync.WaitGroup

	opened   [256]atomic.Bool  // channels on which the peer has opened its stream
	inflight [256]atomic.Int32 // requests being answered, by service
}

func newLink(p *peer, c *Conn) *link {
	return &link{peer: p, conn: c, since: time.Now(), ended: make(chan struct{})}
}

// run carries messages until the connection ends. It begins when the link
// whose place it took has ended, so that no handler meets two streams at once.
func (l *link) run(old *link) {
	defer close(l.ended)
	mesh, ctx := l.peer.mesh, l.conn.Context()
	if old != nil {
		<-old.ended
	}
	mesh.log.Debug("transport: connected", "peer", l.peer.id.Short(), "dialed", l.conn.Dialed())
	if mesh.cfg.Changed != nil {
		mesh.cfg.Changed(l.peer.id, true)
	}
	for id := range mesh.channels {
		l.wg.Go(func() { l.ending(l.sendAll(ctx, mesh.channels[id])) })
	}
	l.wg.Go(func() { l.ending(l.acceptChannels(ctx)) })
	l.wg.Go(func() { l.ending(l.acceptRequests(ctx)) })
	<-ctx.Done()
	l.wg.Wait()
	mesh.log.Debug("transport: disconnected", "peer", l.peer.id.Short(), "reason", l.conn.Err())
	alone := l.peer.remove(l)
	if mesh.cfg.Changed != nil {
		mesh.cfg.Changed(l.peer.id, false)
	}
	if alone {
		mesh.forget(l.peer)
	}
}

// violation is an error that is the peer's fault, and how it is counted.
type violation struct {
	error
	as Metric
}

// breach reports whether err, met while reading a frame, is the peer's doing
// and not the connection's end, and how it is counted.
func breach(err error) (Metric, bool) {
	_, tooLarge := errors.AsType[*MessageTooLargeError](err)
	switch {
	case tooLarge:
		return MessageTooLarge, true
	case errors.Is(err, ErrUnknownChannel):
		return ChannelUnknown, true
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return MessageMalformed, true
	default:
		return 0, false
	}
}

// blame wraps err, met on a channel's stream, as a violation if it is one: such
// a stream ends with its connection and not before, and its messages do not
// trickle.
func blame(doing string, err error) error {
	wrapped := fmt.Errorf("transport: %s: %w", doing, explain(err))
	if as, ok := breach(err); ok {
		return violation{wrapped, as}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return violation{wrapped, MessageSlow}
	}
	if _, abandoned := errors.AsType[*quic.StreamError](err); abandoned {
		return violation{wrapped, MessageMalformed}
	}
	return wrapped
}

// ending closes the connection, unless err is how a loop ends with it.
func (l *link) ending(err error) {
	if err == nil || l.conn.Err() != nil {
		return
	}
	code := CloseDone
	if fault, ok := errors.AsType[violation](err); ok {
		code = CloseViolation
		l.peer.mesh.metrics.add(fault.as)
		l.peer.mesh.log.Warn("transport: a peer broke the protocol", "peer", l.peer.id.Short(), "error", err)
	}
	l.conn.Close(code, err.Error())
}

// sendAll writes the channel's queue to the peer, on a stream that begins with
// the channel's id.
func (l *link) sendAll(ctx context.Context, ch *Channel) error {
	q, counts, patience := l.peer.queues[ch.ID], l.peer.counts[ch.ID], l.peer.mesh.cfg.Patience
	var stream *quic.SendStream
	var batch [][]byte
	var buf []byte
	q.signal() // what an earlier link left waiting
	for {
		select {
		case <-q.ready:
		case <-ctx.Done():
			return nil
		}
		for {
			batch = l.peer.take(ch.ID, batch[:0])
			if len(batch) == 0 {
				break
			}
			buf = buf[:0]
			if stream == nil {
				var err error
				if stream, err = l.conn.q.OpenUniStreamSync(ctx); err != nil {
					return fmt.Errorf("transport: opening channel %s: %w", ch.Name, explain(err))
				}
				stream.SetPriority(ch.Urgency, true)
				buf = append(buf, ch.ID)
			}
			for _, message := range batch {
				buf = appendMessage(buf, message)
			}
			if err := l.peer.afford(ctx, len(buf)); err != nil {
				return nil // the connection has ended
			}
			counts.sent.Add(uint64(len(batch)))
			if err := stream.SetWriteDeadline(time.Now().Add(allowance(patience, len(buf)))); err != nil {
				return fmt.Errorf("transport: writing to channel %s: %w", ch.Name, err)
			}
			if _, err := stream.Write(buf); err != nil {
				if errors.Is(err, os.ErrDeadlineExceeded) {
					return violation{fmt.Errorf("transport: channel %s is not read", ch.Name), ReadingSlow}
				}
				return fmt.Errorf("transport: writing to channel %s: %w", ch.Name, explain(err))
			}
			clear(batch)
			if cap(buf) > 4*batchBytes {
				buf = nil
			}
		}
	}
}

// acceptChannels reads each stream that the peer opens one way.
func (l *link) acceptChannels(ctx context.Context) error {
	for {
		stream, err := l.conn.q.AcceptUniStream(ctx)
		if err != nil {
			return fmt.Errorf("transport: accepting a channel: %w", explain(err))
		}
		l.wg.Go(func() { l.ending(l.receiveAll(ctx, stream)) })
	}
}

func (l *link) receiveAll(ctx context.Context, stream *quic.ReceiveStream) error {
	patience := l.peer.mesh.cfg.Patience
	if err := stream.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return fmt.Errorf("transport: reading a channel's id: %w", err)
	}
	var id [1]byte
	if _, err := io.ReadFull(stream, id[:]); err != nil {
		return blame("reading a channel's id", err)
	}
	ch, ok := l.peer.mesh.channels[id[0]]
	if !ok {
		return violation{fmt.Errorf("%w: channel %d", ErrUnknownChannel, id[0]), ChannelUnknown}
	}
	if l.opened[ch.ID].Swap(true) {
		return violation{fmt.Errorf("transport: channel %s opened twice", ch.Name), MessageMalformed}
	}
	if err := stream.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("transport: reading channel %s: %w", ch.Name, err)
	}
	counts, limit, frames := l.peer.counts[ch.ID], l.peer.limits[ch.ID], newFrameReader(stream, patience)
	for {
		message, err := frames.next(ch.MaxMessageBytes)
		if err != nil {
			return blame("reading channel "+ch.Name, err)
		}
		counts.received.Add(1)
		if err := limit.wait(ctx, len(message)); errors.Is(err, errTooFast) {
			return violation{fmt.Errorf("%w: channel %s", err, ch.Name), MessageFlood}
		} else if err != nil {
			return nil // the connection has ended
		}
		ch.Handle(l.peer.id, message)
	}
}
