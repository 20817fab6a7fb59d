package transport

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/time/rate"
)

// Rate bounds what one peer sends on a channel. Zero fields stand for the
// defaults below. An observer gets an eighth of the rate, and all observers
// together get it once.
type Rate struct {
	Messages      int // a second; 0 is 10,000
	BurstMessages int // at once; 0 is two seconds' worth
	Bytes         int // a second; 0 is 64 MiB
	BurstBytes    int // at once, at least the longest message; 0 is that and a second's worth
}

const (
	defaultRateMessages = 10_000
	defaultRateBytes    = 64 << 20
	observerShare       = 8
)

// streamRate bounds the requests that one peer opens.
var streamRate = Rate{Messages: 1024, BurstMessages: 2048, Bytes: defaultRateBytes, BurstBytes: defaultRateBytes}

func (r *Rate) setDefaults(longest int) {
	if r.Messages == 0 {
		r.Messages = defaultRateMessages
	}
	if r.BurstMessages == 0 {
		r.BurstMessages = 2 * r.Messages
	}
	if r.Bytes == 0 {
		r.Bytes = defaultRateBytes
	}
	if r.BurstBytes == 0 {
		r.BurstBytes = r.Bytes + longest
	}
}

func (r *Rate) valid(longest int) error {
	switch {
	case r.Messages < 1 || r.BurstMessages < 1:
		return fmt.Errorf("rate of %d messages a second, %d at once", r.Messages, r.BurstMessages)
	case r.Bytes < 1:
		return fmt.Errorf("rate of %d bytes a second", r.Bytes)
	case r.BurstBytes < longest:
		return fmt.Errorf("rate of %d bytes at once, want at least the longest message, %d", r.BurstBytes, longest)
	}
	return nil
}

// share is an observer's part of a member's rate.
func (r Rate) share(longest int) Rate {
	return Rate{
		Messages: max(1, r.Messages/observerShare), BurstMessages: max(1, r.BurstMessages/observerShare),
		Bytes: max(1, r.Bytes/observerShare), BurstBytes: max(longest, r.BurstBytes/observerShare),
	}
}

// meter counts messages and bytes against a rate. It may be shared.
type meter struct{ messages, bytes *rate.Limiter }

func newMeter(r Rate) *meter {
	return &meter{
		messages: rate.NewLimiter(rate.Limit(r.Messages), r.BurstMessages),
		bytes:    rate.NewLimiter(rate.Limit(r.Bytes), r.BurstBytes),
	}
}

// reserve counts a message, and returns how long it has to wait.
func (m *meter) reserve(now time.Time, size int) time.Duration {
	return max(m.messages.ReserveN(now, 1).DelayFrom(now), m.bytes.ReserveN(now, size).DelayFrom(now))
}

var errTooFast = errors.New("transport: above the rate for too long")

// throttle slows one peer down on one channel: while a message waits, nothing
// more of the channel is read, and flow control stops the peer.
type throttle struct {
	peer   *peer
	member *meter    // while the peer is a member
	other  *meter    // while it is not, and
	common *meter    // that of all who are not
	since  time.Time // every message since then had to wait; zero if the last one had not
}

func newThrottle(p *peer, r Rate, longest int, common *meter) *throttle {
	return &throttle{peer: p, member: newMeter(r), other: newMeter(r.share(longest)), common: common}
}

// wait counts a message and waits until its time has come, errTooFast if the
// peer has been above the rate for longer than the mesh's patience.
func (t *throttle) wait(ctx context.Context, size int) error {
	now := time.Now()
	var delay time.Duration
	if t.peer.isMember.Load() {
		delay = t.member.reserve(now, size)
	} else {
		delay = max(t.other.reserve(now, size), t.common.reserve(now, size))
	}
	if delay == 0 {
		t.since = time.Time{}
		return nil
	}
	t.peer.mesh.metrics.add(Throttled)
	if t.since.IsZero() {
		t.since = now
	} else if now.Sub(t.since) > t.peer.mesh.cfg.Patience {
		return errTooFast
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// slowBytesPerSecond is what a message may be slower than by patience in all
// before it trickles.
const slowBytesPerSecond = 64 << 10

// allowance is how long so many bytes may take to arrive or to be taken.
func allowance(patience time.Duration, size int) time.Duration {
	return patience + time.Duration(size)*time.Second/slowBytesPerSecond
}

// deadlined is a stream to read from.
type deadlined interface {
	io.Reader
	SetReadDeadline(time.Time) error
}

// frameReader reads the messages of a channel. It waits for ever for a message
// to begin, and for its allowance for it to end.
type frameReader struct {
	stream   deadlined
	buffer   *bufio.Reader
	patience time.Duration
	armed    bool
}

const frameBufferBytes = 4 << 10

func newFrameReader(stream deadlined, patience time.Duration) *frameReader {
	return &frameReader{stream: stream, buffer: bufio.NewReaderSize(stream, frameBufferBytes), patience: patience}
}

// next returns the next message; its errors are those of ReadMessage, and
// os.ErrDeadlineExceeded if it trickles.
func (r *frameReader) next(limit int) ([]byte, error) {
	if r.armed {
		if err := r.stream.SetReadDeadline(time.Time{}); err != nil {
			return nil, err
		}
		r.armed = false
	}
	if _, err := r.buffer.Peek(1); err != nil {
		return nil, err
	}
	size, known := r.announced()
	if !known {
		if err := r.arm(0); err != nil {
			return nil, err
		}
		header, err := r.buffer.Peek(lengthBytes)
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		size = int(binary.BigEndian.Uint32(header))
	}
	if size <= limit && r.buffer.Buffered() < lengthBytes+size {
		if err := r.arm(size); err != nil {
			return nil, err
		}
	}
	return ReadMessage(r.buffer, limit)
}

// announced returns the length of the next message if its prefix is there.
func (r *frameReader) announced() (int, bool) {
	if r.buffer.Buffered() < lengthBytes {
		return 0, false
	}
	header, err := r.buffer.Peek(lengthBytes)
	if err != nil {
		return 0, false
	}
	return int(binary.BigEndian.Uint32(header)), true
}

func (r *frameReader) arm(size int) error {
	r.armed = true
	return r.stream.SetReadDeadline(time.Now().Add(allowance(r.patience, size)))
}
