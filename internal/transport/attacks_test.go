package transport_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
)

const (
	meshProtocol = "hypermesh/mesh/1"
	victimKey    = 1
	honestKey    = 2
	lateKey      = 3
	strangerKey  = 100 // and above
)

// siege is a victim with one honest member that is connected to it and another
// that comes while the attack is under way.
type siege struct {
	victim, honest *node
}

func besiege(t *testing.T, o meshOptions, cfg transport.Config) *siege {
	t.Helper()
	cfg.Key, cfg.ListenAddr, cfg.MaxUnproven = key(victimKey), "127.0.0.1:0", 8
	cfg.HandshakeTimeout = cmp.Or(cfg.HandshakeTimeout, 300*time.Millisecond)
	victim := open(t, cfg)
	honest := listening(t, honestKey)
	o.peers = []transport.NodeAddr{honest.NodeAddr(), {ID: key(lateKey).Public()}}
	o.patience = 300 * time.Millisecond
	s := &siege{
		victim: join(t, victim, o),
		honest: join(t, honest, meshOptions{peers: []transport.NodeAddr{victim.NodeAddr()}, redial: 10 * time.Millisecond}),
	}
	s.victim.run(t)
	s.honest.run(t)
	eventually(t, "the honest member is connected", func() bool { return s.honest.up.Load() == 1 && s.victim.up.Load() == 1 })
	// Every channel has its stream before the attack.
	if err := errors.Join(s.victim.mesh.Broadcast(votes, nil), s.victim.mesh.Broadcast(blocks, nil),
		s.honest.mesh.Broadcast(votes, nil), s.honest.mesh.Broadcast(blocks, nil)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both channels are open", func() bool {
		heard := 0
		for _, p := range append(s.victim.mesh.Stats(), s.honest.mesh.Stats()...) {
			for _, ch := range p.Channels {
				heard += int(ch.Received)
			}
		}
		return heard == 4
	})
	return s
}

// latency returns the median round trip of a request to the victim.
func (s *siege) latency(t *testing.T, from *node) time.Duration {
	t.Helper()
	var taken []time.Duration
	for range 41 {
		began := time.Now()
		if _, err := from.mesh.Request(deadline(t), s.victim.ID(), echo, []byte("ping")); err != nil {
			t.Errorf("the honest member is not served: %v", err)
			return 0
		}
		taken = append(taken, time.Since(began))
	}
	slices.Sort(taken)
	return taken[len(taken)/2]
}

// An attack may make the median round trip slowdown times as long, of which at
// least unremarkable is taken for granted: victim, honest members and attackers
// share the machine.
const (
	slowdown     = 50
	unremarkable = 5 * time.Millisecond
)

// withstand runs attack until it returns, or until the counter shows it; then
// attack's context ends. Meanwhile the honest member is served, and one that
// comes late is let in; afterwards nothing is left of the attack.
func (s *siege) withstand(t *testing.T, counter transport.Metric, attack func(context.Context)) {
	t.Helper()
	before := max(s.latency(t, s.honest), unremarkable)
	goroutines, memory := runtime.NumGoroutine(), heap()
	count := s.victim.Endpoint.Metrics().Count(counter)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { attack(ctx) })
	eventually(t, "the victim counts "+counter.String(), func() bool { return s.victim.Endpoint.Metrics().Count(counter) > count })
	if during := s.latency(t, s.honest); during > slowdown*before {
		t.Errorf("the honest member waits %v, %v before the attack", during, before)
	}
	s.letIn(t)
	cancel()
	wg.Wait()
	// A connection whose farewell was lost ends with its idle timeout of 20 s.
	within(t, 45*time.Second, "every goroutine of the attack ends", func() bool { return runtime.NumGoroutine() <= goroutines })
	eventually(t, "the memory of the attack is free again", func() bool { return heap() < memory+8<<20 })
	if lives := s.honest.mesh.Stats()[0].Connections; lives != 1 {
		t.Errorf("the honest member had %d connections", lives)
	}
}

// letIn has a member come, be served, and go.
func (s *siege) letIn(t *testing.T) {
	t.Helper()
	e, err := transport.Open(transport.Config{Key: key(lateKey), Network: network, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	late := join(t, e, meshOptions{peers: []transport.NodeAddr{s.victim.NodeAddr()}, redial: 10 * time.Millisecond})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- late.mesh.Run(ctx) }()
	eventually(t, "a member that comes late is let in", func() bool { return late.up.Load() == 1 })
	s.latency(t, late)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// intrude calls attack with connection after connection of a stranger, each
// when the one before has ended, until ctx ends.
func (s *siege) intrude(t *testing.T, ctx context.Context, attack func(context.Context, *transport.Conn)) {
	e, err := transport.Open(transport.Config{Key: key(strangerKey), Network: network, Log: quiet})
	if err != nil {
		t.Error(err)
		return
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	for ctx.Err() == nil {
		c, err := e.Dial(ctx, s.victim.NodeAddr(), meshProtocol)
		if err != nil {
			continue // refused for a moment, or ctx
		}
		attack(ctx, c)
		select {
		case <-c.Done():
		case <-ctx.Done():
		}
		c.Close(transport.CloseDone, "")
	}
}

// oneWay opens a channel's stream and writes to it as often as it can.
func oneWay(ctx context.Context, c *transport.Conn, data []byte, times int) {
	s, err := transport.OpenOneWay(ctx, c)
	for ; err == nil && times > 0 && ctx.Err() == nil; times-- {
		_, err = s.Write(data)
	}
}

func TestAttackOversizedFrame(t *testing.T) {
	s := besiege(t, meshOptions{observers: 2}, transport.Config{})
	s.withstand(t, transport.MessageTooLarge, func(ctx context.Context) {
		s.intrude(t, ctx, func(ctx context.Context, c *transport.Conn) { oneWay(ctx, c, []byte{votes, 0xff, 0xff, 0xff, 0xff}, 1) })
	})
}

func TestAttackWrongChannel(t *testing.T) {
	s := besiege(t, meshOptions{observers: 2}, transport.Config{})
	s.withstand(t, transport.ChannelUnknown, func(ctx context.Context) {
		s.intrude(t, ctx, func(ctx context.Context, c *transport.Conn) { oneWay(ctx, c, []byte{99, 0, 0, 0, 1, 7}, 1) })
	})
}

func TestAttackMalformedFrame(t *testing.T) {
	s := besiege(t, meshOptions{observers: 2}, transport.Config{})
	s.withstand(t, transport.MessageMalformed, func(ctx context.Context) {
		s.intrude(t, ctx, func(ctx context.Context, c *transport.Conn) {
			if s, err := transport.OpenOneWay(ctx, c); err == nil {
				_, _ = s.Write([]byte{votes, 0, 0, 0, 9, 1}) // the connection may end first
				_ = s.Close()                                // likewise
			}
		})
	})
}

// TestAttackSlowlorisStream sends a message byte by byte.
func TestAttackSlowlorisStream(t *testing.T) {
	s := besiege(t, meshOptions{observers: 2}, transport.Config{})
	s.withstand(t, transport.MessageSlow, func(ctx context.Context) {
		s.intrude(t, ctx, func(ctx context.Context, c *transport.Conn) {
			stream, err := transport.OpenOneWay(ctx, c)
			if err != nil {
				return
			}
			data := append([]byte{votes, 0, 0, 4, 0}, make([]byte, 1024)...)
			trickle(ctx, c, func(i int) error { _, err := stream.Write(data[i : i+1]); return err })
		})
	})
}

// TestAttackSlowlorisRequest asks byte by byte; a request's service has its own
// time, which is what it costs the attacker's connection.
func TestAttackSlowlorisRequest(t *testing.T) {
	s := besiege(t, meshOptions{observers: 2, timeout: 200 * time.Millisecond}, transport.Config{})
	s.withstand(t, transport.RequestSlow, func(ctx context.Context) {
		s.intrude(t, ctx, func(ctx context.Context, c *transport.Conn) {
			stream, err := c.OpenStream(ctx)
			if err != nil {
				return
			}
			data := append([]byte{echo, 0, 0, 4, 0}, make([]byte, 1024)...)
			trickle(ctx, c, func(i int) error { _, err := stream.Write(data[i : i+1]); return err })
			c.Close(transport.CloseDone, "the victim gave the request up")
		})
	})
}

func trickle(ctx context.Context, c *transport.Conn, write func(int) error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for i := 0; i < 1000 && write(i) == nil; i++ {
		select {
		case <-tick.C:
		case <-c.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

func TestAttackStreamFlood(t *testing.T) {
	s := besiege(t, meshOptions{observers: 2}, transport.Config{})
	s.withstand(t, transport.StreamFlood, func(ctx context.Context) {
		s.intrude(t, ctx, func(ctx context.Context, c *transport.Conn) {
			for ctx.Err() == nil {
				stream, err := c.OpenStream(ctx)
				if err != nil {
					return
				}
				_, _ = stream.Write([]byte{echo}) // the connection may end first
				stream.Reset()
			}
		})
	})
}

func TestAttackMessageFlood(t *testing.T) {
	s := besiege(t, meshOptions{observers: 2, ingress: transport.Rate{Messages: 800}}, transport.Config{})
	s.withstand(t, transport.MessageFlood, func(ctx context.Context) {
		s.intrude(t, ctx, func(ctx context.Context, c *transport.Conn) {
			flood(ctx, c, []byte{0, 0, 0, 1, 7})
		})
	})
}

func TestAttackByteFlood(t *testing.T) {
	s := besiege(t, meshOptions{observers: 2, ingress: transport.Rate{Bytes: 800 << 10}}, transport.Config{})
	s.withstand(t, transport.MessageFlood, func(ctx context.Context) {
		s.intrude(t, ctx, func(ctx context.Context, c *transport.Conn) {
			flood(ctx, c, append([]byte{0, 0, 4, 0}, make([]byte, 1024)...))
		})
	})
}

func flood(ctx context.Context, c *transport.Conn, frame []byte) {
	stream, err := transport.OpenOneWay(ctx, c)
	if err != nil {
		return
	}
	stopped := context.AfterFunc(ctx, func() { stream.CancelWrite(0) })
	defer stopped()
	if _, err := stream.Write([]byte{votes}); err != nil {
		return
	}
	for ctx.Err() == nil {
		if _, err := stream.Write(frame); err != nil {
			return
		}
	}
}

// TestAttackManyConnectionsOfOneKey replaces its own connection for ever.
func TestAttackManyConnectionsOfOneKey(t *testing.T) {
	s := besiege(t, meshOptions{observers: 2}, transport.Config{})
	s.withstand(t, transport.ConnectionKey, func(ctx context.Context) {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				s.intrude(t, ctx, func(_ context.Context, c *transport.Conn) {
					if c.Err() == nil {
						go func() { <-c.Done() }()
					}
				})
			})
		}
		wg.Wait()
	})
}

// TestAttackStrangersTakeEveryPlace fills the observers' places and as many
// connections as the node takes.
func TestAttackStrangersTakeEveryPlace(t *testing.T) {
	s := besiege(t, meshOptions{observers: 4, ofSource: 4}, transport.Config{MaxConns: 6})
	s.withstand(t, transport.ObserverPlaces, func(ctx context.Context) { s.occupy(t, ctx, "127.0.0.2:0", 8) })
}

func TestAttackOneAddressTakesEveryPlace(t *testing.T) {
	s := besiege(t, meshOptions{observers: 4, ofSource: 2}, transport.Config{})
	s.withstand(t, transport.ObserverSource, func(ctx context.Context) {
		var wg sync.WaitGroup
		wg.Go(func() { s.occupy(t, ctx, "127.0.0.2:0", 6) })
		eventually(t, "a second address finds a place", func() bool {
			elsewhere, err := transport.Open(transport.Config{Key: key(strangerKey - 1), Network: network, ListenAddr: "127.0.0.3:0", Log: quiet})
			if err != nil {
				t.Error(err)
				return true
			}
			c, err := elsewhere.Dial(ctx, s.victim.NodeAddr(), meshProtocol)
			if err == nil {
				err = c.Err()
			}
			return elsewhere.Close() == nil && err == nil
		})
		wg.Wait()
	})
}

// TestAttackFourAddressesTakeEveryPlace holds all places from four addresses, and
// comes again at once when one is lost. Whoever comes from another network finds a
// place, keeps it, and so does another from there; the four have the rest.
func TestAttackFourAddressesTakeEveryPlace(t *testing.T) {
	const places = 8
	s := besiege(t, meshOptions{observers: places, ofSource: 2}, transport.Config{})
	observers := func() (all, near int) {
		for _, p := range s.victim.mesh.Stats() {
			if !p.Configured && p.Connected {
				all++
				if strings.HasPrefix(p.Addr, "127.0.0.") {
					near++
				}
			}
		}
		return all, near
	}
	s.withstand(t, transport.ObserverEvicted, func(ctx context.Context) {
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() { s.occupyAs(t, ctx, fmt.Sprintf("127.0.0.%d:0", 2+i), strangerKey+10*i, 2) })
		}
		eventually(t, "every place is taken", func() bool { all, near := observers(); return all == places && near == places })
		for i, from := range []string{"127.0.9.2:0", "127.0.9.3:0"} {
			e, err := transport.Open(transport.Config{Key: key(byte(strangerKey - 2 - i)), Network: network, ListenAddr: from, Log: quiet})
			if err != nil {
				t.Error(err)
				return
			}
			var c *transport.Conn
			eventually(t, from+" finds a place", func() bool {
				c, err = e.Dial(ctx, s.victim.NodeAddr(), meshProtocol)
				return err == nil
			})
			eventually(t, from+" is an observer", func() bool { _, near := observers(); return near == places-1-i })
			if c.Err() != nil {
				t.Errorf("%s lost its place: %v", from, c.Err())
			}
			defer func() {
				if err := e.Close(); err != nil {
					t.Error(err)
				}
			}()
		}
		for range 100 { // while the four come again and again
			if all, near := observers(); all > places || near > places-2 {
				t.Errorf("%d observers, %d of them from one network", all, near)
			}
			<-time.After(time.Millisecond)
		}
		wg.Wait()
	})
}

// TestAttackObserversTakeTheLink has observers that read whatever they get, as fast
// as they can: together and each they get no more than their rate, and the member
// gets all.
func TestAttackObserversTakeTheLink(t *testing.T) {
	const each, all = 128 << 10, 320 << 10
	s := besiege(t, meshOptions{observers: 4, ofSource: 4, egress: each, allEgress: all}, transport.Config{})
	var readers []*node
	for i := range 4 {
		e, err := transport.Open(transport.Config{Key: key(byte(strangerKey + i)), Network: network, ListenAddr: "127.0.0.2:0", Log: quiet})
		if err != nil {
			t.Fatal(err)
		}
		n := join(t, e, meshOptions{peers: []transport.NodeAddr{s.victim.NodeAddr()}, redial: 10 * time.Millisecond})
		n.run(t)
		readers = append(readers, n)
		eventually(t, "an observer is connected", func() bool { return n.up.Load() == 1 })
	}
	const burst = 2 * (64<<10 + 1<<20) // newEgress: two of the longest
	began, message, sent, full := time.Now(), make([]byte, 32<<10), uint64(0), 0
	before := s.victim.Endpoint.Metrics().Count(transport.ObserverEgress)
	for full < 8 { // more waits for observers than may leave
		for s.victim.mesh.Send(s.honest.ID(), blocks, message) != nil { // it takes all, as fast as it reads
			<-time.After(time.Millisecond)
		}
		sent++
		full = 0
		for _, r := range readers {
			if s.victim.mesh.Send(r.ID(), blocks, message) != nil || time.Since(began) > time.Second {
				full += 2
			}
		}
	}
	eventually(t, "the member has everything", func() bool { return s.honest.mesh.Stats()[0].Channels[1].Received > sent })
	eventually(t, "observers wait", func() bool { return s.victim.Endpoint.Metrics().Count(transport.ObserverEgress) >= before+4 })
	<-time.After(time.Second)
	sum := 0
	for _, r := range readers {
		got := int(r.mesh.Stats()[0].Channels[1].Received) * len(message)
		passed := time.Since(began).Seconds()
		if limit := burst + each + int(passed*each); got > limit {
			t.Errorf("an observer got %d bytes in %.2f s, limit %d", got, passed, limit)
		}
		sum += got
	}
	if limit := burst + all + int(time.Since(began).Seconds()*all); sum > limit || sum < burst/2 {
		t.Errorf("all observers got %d bytes in %v, limit %d", sum, time.Since(began), limit)
	}
	asked := time.Now()
	for range 2 { // what answers take counts as well
		if _, err := readers[0].mesh.Request(deadline(t), s.victim.ID(), echo, make([]byte, 64<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(asked); took < 300*time.Millisecond {
		t.Errorf("answers of 128 KiB took %v, at 128 KiB a second", took)
	}
}

// occupy has so many strangers at one address connect again and again.
func (s *siege) occupy(t *testing.T, ctx context.Context, from string, strangers int) {
	s.occupyAs(t, ctx, from, strangerKey, strangers)
}

// occupyAs does so under keys from the first on.
func (s *siege) occupyAs(t *testing.T, ctx context.Context, from string, first, strangers int) {
	var wg sync.WaitGroup
	for i := range strangers {
		wg.Go(func() {
			e, err := transport.Open(transport.Config{Key: key(byte(first + i)), Network: network, ListenAddr: from, Log: quiet})
			if err != nil {
				t.Error(err)
				return
			}
			for ctx.Err() == nil {
				if c, err := e.Dial(ctx, s.victim.NodeAddr(), meshProtocol); err == nil {
					<-either(ctx, c.Context())
				}
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestAttackReadsNothing takes a place and never reads what is sent.
func TestAttackReadsNothing(t *testing.T) {
	s := besiege(t, meshOptions{observers: 2}, transport.Config{})
	s.withstand(t, transport.ReadingSlow, func(ctx context.Context) {
		s.intrude(t, ctx, func(ctx context.Context, c *transport.Conn) {
			for wait := either(ctx, c.Context()); c.Context().Err() == nil && ctx.Err() == nil; { // the victim may not have taken it in yet
				for range 32 { // beyond what flow control lets go
					if err := s.victim.mesh.Broadcast(blocks, make([]byte, 64<<10)); err != nil {
						t.Error(err)
					}
				}
				select {
				case <-wait:
				case <-time.After(time.Second):
				}
			}
		})
	})
}

// TestAttackSlowObserversFillQueues has observers that read nothing while the
// node has much to say: together they hold no more than their share, and who
// reads misses nothing for them.
func TestAttackSlowObserversFillQueues(t *testing.T) {
	const shared = 4 << 20
	s := besiege(t, meshOptions{observers: 8, ofSource: 8, shared: shared}, transport.Config{})
	s.withstand(t, transport.QueueSum, func(ctx context.Context) {
		var wg sync.WaitGroup
		wg.Go(func() { s.occupy(t, ctx, "127.0.0.2:0", 8) })
		message := make([]byte, 64<<10)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			<-tick.C
			sum, honest := 0, 0
			for _, p := range s.victim.mesh.Stats() {
				if p.ID == s.honest.ID() {
					honest = p.Channels[1].QueuedBytes
				} else if !p.Configured {
					sum += p.Channels[1].QueuedBytes
				}
			}
			if sum > shared {
				t.Errorf("%d bytes wait for observers, limit %d", sum, shared)
			}
			if honest > 1<<20 {
				continue
			}
			if err := s.victim.mesh.Broadcast(blocks, message); err != nil {
				t.Error(err)
			}
		}
		wg.Wait()
	})
	for _, p := range s.victim.mesh.Stats() {
		if p.ID == s.honest.ID() && p.Channels[1].Dropped > 0 {
			t.Errorf("%d messages to the honest member were dropped", p.Channels[1].Dropped)
		}
	}
}

// call dials the victim with quic-go alone, over a socket at addr whose packets
// pass may drop.
func (s *siege) call(ctx context.Context, addr string, conf *tls.Config, pass func([]byte) bool) error {
	local, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return err
	}
	udp, err := net.ListenUDP("udp", local)
	if err != nil {
		return err
	}
	tr := &quic.Transport{Conn: sieve{udp, pass}}
	q, err := tr.Dial(ctx, s.victim.Addr(), conf, &quic.Config{HandshakeIdleTimeout: 200 * time.Millisecond, MaxIdleTimeout: 200 * time.Millisecond})
	if err == nil {
		<-either(ctx, q.Context()) // refused after the handshake, which ends sooner here than there
	}
	_ = tr.Close() // the call is over
	_ = udp.Close()
	return err
}

// sieve is a socket that loses some of what is sent.
type sieve struct {
	net.PacketConn
	pass func([]byte) bool
}

func (s sieve) WriteTo(p []byte, to net.Addr) (int, error) {
	if !s.pass(p) {
		return len(p), nil
	}
	return s.PacketConn.WriteTo(p, to)
}

func everything([]byte) bool { return true }

// initials lets only datagrams pass that are one packet of type Initial
// (RFC 9000 §17.2.2), so that no handshake ends and none is silent.
func initials(p []byte) bool {
	r := bytes.NewReader(p)
	first, _ := r.ReadByte() // a datagram is not empty
	if first&0xf0 != 0xc0 {
		return false
	}
	if _, err := r.Seek(4, io.SeekCurrent); err != nil {
		return false
	}
	for range 2 { // connection ids
		n, err := r.ReadByte()
		if err != nil {
			return false
		}
		if _, err := r.Seek(int64(n), io.SeekCurrent); err != nil {
			return false
		}
	}
	token, err := quicvarint.Read(r)
	if err != nil {
		return false
	}
	if _, err := r.Seek(int64(token), io.SeekCurrent); err != nil {
		return false
	}
	length, err := quicvarint.Read(r)
	return err == nil && uint64(r.Len()) == length
}

// calling makes so many calls at a time until ctx ends.
func (s *siege) calling(ctx context.Context, at string, callers int, conf *tls.Config, pass func([]byte) bool) {
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				if s.call(ctx, at, conf, pass) != nil {
					timer := time.NewTimer(5 * time.Millisecond)
					<-timer.C
				}
			}
		})
	}
	wg.Wait()
}

func clientTLS(alpn string, cert tls.Certificate) *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{alpn},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
	}
}

const alpn = meshProtocol + "@"

func certificate(t *testing.T, from, to time.Time, holder crypto.PrivateKey) tls.Certificate {
	t.Helper()
	private := key(strangerKey).Standard()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: holder.Standard()}
}

var (
	past   = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	future = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
)

func TestAttackWrongProtocol(t *testing.T) {
	s := besiege(t, meshOptions{}, transport.Config{})
	conf := clientTLS("h3", certificate(t, past, future, key(strangerKey)))
	s.withstand(t, transport.HandshakeProtocol, func(ctx context.Context) { s.calling(ctx, "127.0.0.2:0", 4, conf, everything) })
}

func TestAttackExpiredCertificate(t *testing.T) {
	s := besiege(t, meshOptions{observers: 4}, transport.Config{})
	conf := clientTLS(alpn+network.String(), certificate(t, past.AddDate(-2, 0, 0), past.AddDate(-1, 0, 0), key(strangerKey)))
	s.withstand(t, transport.HandshakeCertificate, func(ctx context.Context) { s.calling(ctx, "127.0.0.2:0", 4, conf, everything) })
}

func TestAttackCertificateOfTheFuture(t *testing.T) {
	s := besiege(t, meshOptions{observers: 4}, transport.Config{})
	conf := clientTLS(alpn+network.String(), certificate(t, future, future.AddDate(1, 0, 0), key(strangerKey)))
	s.withstand(t, transport.HandshakeCertificate, func(ctx context.Context) { s.calling(ctx, "127.0.0.2:0", 4, conf, everything) })
}

// TestAttackWrongKey presents the certificate of a key that it does not hold.
func TestAttackWrongKey(t *testing.T) {
	s := besiege(t, meshOptions{observers: 4}, transport.Config{})
	conf := clientTLS(alpn+network.String(), certificate(t, past, future, key(strangerKey+1)))
	s.withstand(t, transport.HandshakeCertificate, func(ctx context.Context) { s.calling(ctx, "127.0.0.2:0", 4, conf, everything) })
}

// TestAttackSlowlorisHandshake goes on and on with handshakes without ending
// them.
func TestAttackSlowlorisHandshake(t *testing.T) {
	s := besiege(t, meshOptions{observers: 4}, transport.Config{})
	conf := clientTLS(alpn+network.String(), certificate(t, past, future, key(strangerKey)))
	s.withstand(t, transport.HandshakeSlow, func(ctx context.Context) { s.calling(ctx, "127.0.0.2:0", 32, conf, initials) })
}

// TestAttackHandshakeFlood has one address begin more handshakes than one may.
// It gets as far as the proof of its address takes it, and no further.
func TestAttackHandshakeFlood(t *testing.T) {
	s := besiege(t, meshOptions{observers: 4}, transport.Config{HandshakeTimeout: 2 * time.Second})
	conf := clientTLS(alpn+network.String(), certificate(t, past, future, key(strangerKey)))
	s.withstand(t, transport.HandshakeSource, func(ctx context.Context) { s.calling(ctx, "127.0.0.2:0", 80, conf, initials) })
}

// TestMembersHaveRoomInAFlood has callers who prove their addresses begin as
// many handshakes as there is room for, and looks at the gate alone.
func TestMembersHaveRoomInAFlood(t *testing.T) {
	g := transport.NewGate()
	friend := netip.MustParseAddr("192.0.2.1")
	g.Befriend(friend)
	admitted := 0
	for i := range 100 {
		for range 100 {
			if g.Enter(netip.AddrFrom4([4]byte{10, 0, byte(i), 1})) {
				admitted++
			}
		}
	}
	if admitted != 512-128 {
		t.Fatalf("%d strangers are under way", admitted)
	}
	for range 64 {
		if !g.Enter(friend) {
			t.Fatal("a friend finds no room")
		}
	}
	if g.Enter(friend) {
		t.Fatal("a friend has more room than any source")
	}
}

// TestWhoHasNoPlaceDoesNotDialOnAndOn: honest nodes that find no place may be many
// more than there are places, and have to leave room for the handshakes of others.
func TestWhoHasNoPlaceDoesNotDialOnAndOn(t *testing.T) {
	for name, o := range map[string]meshOptions{
		"in the mesh":       {observers: 1, ofSource: 1},
		"from this address": {observers: 4, ofSource: 1},
	} {
		t.Run(name, func(t *testing.T) {
			victim := join(t, listening(t, 1), o)
			victim.run(t)
			peers := []transport.NodeAddr{victim.NodeAddr()}
			inside := join(t, listening(t, 2), meshOptions{peers: peers, redial: 10 * time.Millisecond})
			inside.run(t)
			eventually(t, "the place is taken", func() bool { return victim.up.Load() == 1 })
			late := join(t, listening(t, 3), meshOptions{peers: peers, redial: 10 * time.Millisecond, redialMax: 50 * time.Millisecond})
			late.run(t)
			refused := func() uint64 {
				m := victim.Endpoint.Metrics()
				return m.Count(transport.ObserverPlaces) + m.Count(transport.ObserverSource)
			}
			eventually(t, "it is refused", func() bool { return refused() > 0 })
			before := refused()
			timer := time.NewTimer(2 * time.Second)
			defer timer.Stop()
			<-timer.C
			if got := refused() - before; got > 16 { // it would be 40
				t.Errorf("a node without a place dialed %d times in 2 s", got)
			}
			inside.stop()
			eventually(t, "it gets the place once that is free", func() bool { return late.up.Load() == 1 })
		})
	}
}

// TestAttackAskAndGoAway has an observer ask for much and take none of it: others are
// served as if it were not there.
func TestAttackAskAndGoAway(t *testing.T) {
	answer := make([]byte, 1<<20)
	s := besiege(t, meshOptions{observers: 4, ofSource: 4, egress: 1 << 20, allEgress: 4 << 20, respond: func(context.Context, crypto.PublicKey, []byte) ([]byte, error) {
		return answer, nil
	}}, transport.Config{})
	var observers []*node
	for i := range 2 {
		n := join(t, listening(t, byte(strangerKey+i)), meshOptions{peers: []transport.NodeAddr{s.victim.NodeAddr()}, redial: 10 * time.Millisecond})
		n.run(t)
		observers = append(observers, n)
		eventually(t, "an observer is connected", func() bool { return n.up.Load() == 1 })
	}
	answered := 0
	for range 120 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		if _, err := observers[0].mesh.Request(ctx, s.victim.ID(), echo, []byte("all")); err == nil {
			answered++
		}
		cancel()
	}
	if answered > 60 {
		t.Fatalf("%d of 120 answers were taken", answered)
	}
	began := time.Now()
	if _, err := observers[1].mesh.Request(deadline(t), s.victim.ID(), echo, []byte("all")); err != nil {
		t.Errorf("an honest observer is not served: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("an honest observer waited %v", took)
	}
}
