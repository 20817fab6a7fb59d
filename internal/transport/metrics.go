package transport

import (
	"iter"
	"sync/atomic"
)

// Metric names one counter of what an endpoint refused, dropped or slowed down.
type Metric uint8

// The counters, by what happened. "Source" is an IPv4 address or an IPv6 /64.
const (
	HandshakeSource      Metric = iota // refused: too many handshakes of one source
	HandshakeTotal                     // refused: too many handshakes in all
	HandshakeSlow                      // dropped: not done in time
	HandshakeProtocol                  // dropped: another protocol or network
	HandshakeCertificate               // dropped: not a valid self-signed certificate of a key that the caller holds
	HandshakeFailed                    // dropped for another reason
	ConnectionNotAdmitted
	ConnectionBlocked  // a peer was blocked, or came while it was
	ConnectionTotal    // refused: MaxConns
	ConnectionKey      // refused: too many connections of one key
	ConnectionBacklog  // refused: too many wait to be accepted
	ObserverPlaces     // refused: the observers' places are taken
	ObserverSource     // refused: one source has as many observers' places as it gets
	ObserverEvicted    // dropped: an observer whose network has many, for one whose network has few
	ObserverEgress     // delayed: what an observer is sent, above its rate or that of all
	ChannelUnknown     // dropped: a message on a channel, or a request to a service, that there is not
	MessageTooLarge    // dropped: above its channel's or service's limit
	MessageMalformed   // dropped: cut short, or a stream misused
	MessageSlow        // dropped: a message that trickles
	MessageFlood       // dropped: above a channel's rate for too long
	StreamFlood        // dropped: opened streams above the rate for too long
	RequestSlow        // given up: a request that trickles, or whose answer is not read
	RequestConcurrency // refused: too many at once of one peer
	ReadingSlow        // dropped: does not read what it is sent
	Throttled          // a message or stream that had to wait for its rate
	QueueFull          // messages dropped because one peer's queue was full
	QueueSum           // messages dropped because the queues of all observers, or all members, together were full
	DialFailed
	DialIdentity // another node answered than the one that was dialed

	metricCount
)

var metricNames = [metricCount]string{
	HandshakeSource:       "handshake_source",
	HandshakeTotal:        "handshake_total",
	HandshakeSlow:         "handshake_slow",
	HandshakeProtocol:     "handshake_protocol",
	HandshakeCertificate:  "handshake_certificate",
	HandshakeFailed:       "handshake_failed",
	ConnectionNotAdmitted: "connection_not_admitted",
	ConnectionBlocked:     "connection_blocked",
	ConnectionTotal:       "connection_total",
	ConnectionKey:         "connection_key",
	ConnectionBacklog:     "connection_backlog",
	ObserverPlaces:        "observer_places",
	ObserverSource:        "observer_source",
	ObserverEvicted:       "observer_evicted",
	ObserverEgress:        "observer_egress",
	ChannelUnknown:        "channel_unknown",
	MessageTooLarge:       "message_too_large",
	MessageMalformed:      "message_malformed",
	MessageSlow:           "message_slow",
	MessageFlood:          "message_flood",
	StreamFlood:           "stream_flood",
	RequestSlow:           "request_slow",
	RequestConcurrency:    "request_concurrency",
	ReadingSlow:           "reading_slow",
	Throttled:             "throttled",
	QueueFull:             "queue_full",
	QueueSum:              "queue_sum",
	DialFailed:            "dial_failed",
	DialIdentity:          "dial_identity",
}

// String returns the counter's name, in snake case.
func (m Metric) String() string { return metricNames[m] }

// Metrics are the counters of an endpoint and its meshes since it was opened.
type Metrics struct{ counters [metricCount]atomic.Uint64 }

// Count returns one counter.
func (m *Metrics) Count(which Metric) uint64 { return m.counters[which].Load() }

// All returns every counter, in the order of their constants.
func (m *Metrics) All() iter.Seq2[Metric, uint64] {
	return func(yield func(Metric, uint64) bool) {
		for which := range metricCount {
			if !yield(which, m.Count(which)) {
				return
			}
		}
	}
}

func (m *Metrics) add(which Metric) { m.counters[which].Add(1) }

// Metrics returns the endpoint's counters.
func (e *Endpoint) Metrics() *Metrics { return e.metrics }
