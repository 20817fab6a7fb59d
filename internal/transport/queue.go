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
	waiting []waiting
	bytes   int
	dropped uint64
	shut    bool // its peer is forgotten
}

// waiting is a queued message and its place among all of the mesh.
type waiting struct {
	message []byte
	number  uint64
}

func newQueue(limit int, policy DropPolicy) *queue {
	return &queue{limit: limit, policy: policy, ready: make(chan struct{}, 1)}
}

// push queues message. It returns by how many bytes more is waiting now, how
// many messages it dropped, and whether this one waits.
func (q *queue) push(message []byte, number uint64) (grown, dropped int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.shut {
		return 0, 0, false
	}
	before := q.bytes
	size := len(message) + messageOverhead
	if q.bytes+size > q.limit && q.policy == DropNewest {
		q.dropped++
		return 0, 1, false
	}
	for q.bytes+size > q.limit && len(q.waiting) > 0 {
		q.shift()
		q.dropped++
		dropped++
	}
	q.waiting = append(q.waiting, waiting{message, number})
	q.bytes += size
	q.signal()
	return q.bytes - before, dropped, true
}

// end lets go of all that is waiting, and takes no more. It returns how many bytes
// waited.
func (q *queue) end() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	freed := q.bytes
	q.waiting, q.bytes, q.shut = nil, 0, true
	return freed
}

// head returns the number of the message that has waited longest.
func (q *queue) head() (uint64, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		return 0, false
	}
	return q.waiting[0].number, true
}

// dropHead drops the message that has waited longest if it has this number,
// and returns the bytes that this freed.
func (q *queue) dropHead(number uint64) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 || q.waiting[0].number != number {
		return 0
	}
	q.dropped++
	return len(q.shift()) + messageOverhead
}

func (q *queue) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

func (q *queue) shift() []byte {
	message := q.waiting[0].message
	q.waiting[0] = waiting{}
	q.waiting = q.waiting[1:]
	q.bytes -= len(message) + messageOverhead
	return message
}

// take removes the messages that have waited longest: one, and as many more as
// fit into limit bytes with it, and returns by how many bytes less is waiting
// now. It returns none if the queue is empty.
func (q *queue) take(dst [][]byte, limit int) ([][]byte, int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	before, total := q.bytes, 0
	for len(q.waiting) > 0 {
		total += len(q.waiting[0].message)
		if len(dst) > 0 && total > limit {
			break
		}
		dst = append(dst, q.shift())
	}
	if len(q.waiting) == 0 {
		q.waiting = nil
	}
	return dst, before - q.bytes
}

// figures returns the bytes waiting and the messages dropped so far.
func (q *queue) figures() (waiting int, dropped uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes, q.dropped
}
