package transport

import "sync"

// DropPolicy says what a full queue does with a new message.
type DropPolicy uint8

const (
	// DropOldest makes room by dropping the messages that have waited longest:
	// for news that later news supersedes.
	DropOldest DropPolicy = iota + 1
	// DropNewest refuses the new message with ErrQueueFull: for work that the
	// sender can hold back.
	DropNewest
)

// messageOverhead is what a queued message counts beside its bytes, so that
// empty messages are bounded too.
const messageOverhead = 64

// queue holds the messages that wait to be sent to one peer on one channel.
type queue struct {
	limit  int // bytes, overhead included
	policy DropPolicy
	ready  chan struct{} // holds a token while there may be messages

	mu      sync.Mutex
	waiting [][]byte
	bytes   int
	dropped uint64
}

func newQueue(limit int, policy DropPolicy) *queue {
	return &queue{limit: limit, policy: policy, ready: make(chan struct{}, 1)}
}

// push queues message, and reports whether it did.
func (q *queue) push(message []byte) bool {
	q.mu.Lock()
	size := len(message) + messageOverhead
	if q.bytes+size > q.limit && q.policy == DropNewest {
		q.dropped++
		q.mu.Unlock()
		return false
	}
	for q.bytes+size > q.limit && len(q.waiting) > 0 {
		q.shift()
		q.dropped++
	}
	q.waiting = append(q.waiting, message)
	q.bytes += size
	q.mu.Unlock()
	q.signal()
	return true
}

func (q *queue) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

func (q *queue) shift() []byte {
	message := q.waiting[0]
	q.waiting[0] = nil
	q.waiting = q.waiting[1:]
	q.bytes -= len(message) + messageOverhead
	return message
}

// take removes the messages that have waited longest: one, and as many more as
// fit into limit bytes with it. It returns none if the queue is empty.
func (q *queue) take(dst [][]byte, limit int) [][]byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	total := 0
	for len(q.waiting) > 0 {
		total += len(q.waiting[0])
		if len(dst) > 0 && total > limit {
			break
		}
		dst = append(dst, q.shift())
	}
	if len(q.waiting) == 0 {
		q.waiting = nil
	}
	return dst
}

// figures returns the bytes waiting and the messages dropped so far.
func (q *queue) figures() (waiting int, dropped uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes, q.dropped
}
