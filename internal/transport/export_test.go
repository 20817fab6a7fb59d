package transport

import (
	"context"
	"errors"

	"github.com/quic-go/quic-go"
)

// Crash ends the endpoint as a killed process does: no peer hears of it.
func (e *Endpoint) Crash() error {
	e.mu.Lock()
	sockets := e.sockets
	e.mu.Unlock()
	var failures []error
	for _, s := range sockets {
		failures = append(failures, s.udp.Close())
	}
	return errors.Join(append(failures, e.Close())...)
}

// Conns returns how many connections the endpoint has.
func (e *Endpoint) Conns() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.conns)
}

// OneWay is a raw channel stream.
type OneWay = quic.SendStream

// OpenOneWay opens a raw channel stream, to break the framing with.
func OpenOneWay(ctx context.Context, c *Conn) (*OneWay, error) { return c.q.OpenUniStreamSync(ctx) }
