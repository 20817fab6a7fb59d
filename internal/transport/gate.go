package transport

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/time/rate"
)

// Limits of handshakes that others begin. A caller that nothing is known of
// may be a forged address, so it counts against one common limit, above which
// callers first have to show that they can be reached where they say they are
// (Retry, RFC 9000 §8.1.2). From then on they count against their source: an
// IPv4 address, or an IPv6 /64.
const (
	unprovenRate      = 64  // handshakes a second without that proof
	unprovenBurst     = 256 // likewise, at once
	defaultUnproven   = 128 // likewise, under way
	sourceRate        = 32  // handshakes a second of one source
	sourceBurst       = 128 // likewise, at once
	maxSourceUnderway = 64  // likewise, under way
	totalRate         = 512 // handshakes a second in all
	totalBurst        = 1024
	maxUnderway       = 512 // under way in all
	reservedUnderway  = 128 // of them, for friends
	maxSources        = 4096
	maxFriends        = 4096
)

var errManyHandshakes = errors.New("transport: too many handshakes")

// gate decides which handshakes may begin. Sources from which a preferred peer
// has once come are friends: part of the room is kept for them.
type gate struct {
	metrics     *Metrics
	maxUnproven int

	mu       sync.Mutex
	unproven *rate.Limiter
	total    *rate.Limiter
	underway int
	forged   int // of those under way, without a proof
	sources  map[netip.Prefix]*source
	friends  map[netip.Prefix]struct{}
}

type source struct {
	calls    *rate.Limiter
	underway int
}

// attempt is one handshake that is under way.
type attempt struct {
	gate   *gate
	source *source // nil while unproven
	once   sync.Once
}

type attemptKey struct{}

func newGate(metrics *Metrics, maxUnproven int) *gate {
	return &gate{
		metrics: metrics, maxUnproven: maxUnproven, unproven: rate.NewLimiter(unprovenRate, unprovenBurst), total: rate.NewLimiter(totalRate, totalBurst),
		sources: map[netip.Prefix]*source{}, friends: map[netip.Prefix]struct{}{},
	}
}

// SourceOf returns the address, or the /64 of an IPv6 address.
func SourceOf(addr net.Addr) netip.Prefix {
	udp, ok := addr.(*net.UDPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := udp.AddrPort().Addr().Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(ip, bits).Masked()
}

// mustProve reports whether a caller has to prove its address first.
func (g *gate) mustProve(net.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.forged >= g.maxUnproven || !g.unproven.Allow()
}

// enter admits a handshake, whose end it learns from ctx or leave, or refuses.
func (g *gate) enter(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	from := SourceOf(info.RemoteAddr)
	_, friend := g.friends[from]
	friend = friend && info.AddrVerified
	room := maxUnderway
	if !friend {
		room -= reservedUnderway
	}
	if g.underway >= room || (!g.total.Allow() && !friend) {
		g.metrics.add(HandshakeTotal)
		return nil, errManyHandshakes
	}
	a := &attempt{gate: g}
	if info.AddrVerified {
		a.source = g.sourceAt(from)
		if a.source == nil || a.source.underway >= maxSourceUnderway || !a.source.calls.Allow() {
			g.metrics.add(HandshakeSource)
			return nil, errManyHandshakes
		}
		a.source.underway++
	} else {
		g.forged++
	}
	g.underway++
	context.AfterFunc(ctx, func() {
		if a.leave() {
			g.metrics.add(reasonOf(context.Cause(ctx)))
		}
	})
	return context.WithValue(ctx, attemptKey{}, a), nil
}

// sourceAt returns the account of a source, nil if there is no room for one.
// The caller holds g.mu.
func (g *gate) sourceAt(from netip.Prefix) *source {
	if s, ok := g.sources[from]; ok {
		return s
	}
	if len(g.sources) >= maxSources {
		now := time.Now()
		for at, s := range g.sources {
			if s.underway == 0 && s.calls.TokensAt(now) >= sourceBurst {
				delete(g.sources, at)
			}
		}
		if len(g.sources) >= maxSources {
			return nil
		}
	}
	s := &source{calls: rate.NewLimiter(sourceRate, sourceBurst)}
	g.sources[from] = s
	return s
}

// befriend keeps room for handshakes from where a preferred peer is.
func (g *gate) befriend(addr net.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.friends) >= maxFriends {
		clear(g.friends) // those who are still there come back into it
	}
	g.friends[SourceOf(addr)] = struct{}{}
}

// leave ends the attempt, and reports whether it was under way until now.
func (a *attempt) leave() (first bool) {
	a.once.Do(func() {
		first = true
		a.gate.mu.Lock()
		defer a.gate.mu.Unlock()
		a.gate.underway--
		if a.source != nil {
			a.source.underway--
		} else {
			a.gate.forged--
		}
	})
	return first
}

// handshakeDone ends the attempt that a connection began as.
func handshakeDone(q *quic.Conn) {
	if a, ok := q.Context().Value(attemptKey{}).(*attempt); ok {
		a.leave()
	}
}

// TLS alerts (RFC 8446 §6) as QUIC error codes (RFC 9001 §4.8).
const (
	alertBase                = 0x100
	alertBadCertificate      = alertBase + 42
	alertUnsupported         = alertBase + 43
	alertCertificateRevoked  = alertBase + 44
	alertCertificateExpired  = alertBase + 45
	alertCertificateUnknown  = alertBase + 46
	alertDecryptError        = alertBase + 51 // the proof of the key does not verify
	alertCertificateRequired = alertBase + 116
	alertNoProtocol          = alertBase + 120 // RFC 7301 §3.2
)

// reasonOf says why a handshake failed.
func reasonOf(err error) Metric {
	if _, slow := errors.AsType[*quic.HandshakeTimeoutError](err); slow {
		return HandshakeSlow
	}
	if _, slow := errors.AsType[*quic.IdleTimeoutError](err); slow {
		return HandshakeSlow
	}
	failed, ok := errors.AsType[*quic.TransportError](err)
	if !ok {
		return HandshakeFailed
	}
	switch failed.ErrorCode {
	case alertNoProtocol:
		return HandshakeProtocol
	case alertBadCertificate, alertUnsupported, alertCertificateRevoked, alertCertificateExpired, alertCertificateUnknown,
		alertDecryptError, alertCertificateRequired:
		return HandshakeCertificate
	default:
		return HandshakeFailed
	}
}
