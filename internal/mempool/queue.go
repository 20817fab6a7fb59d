package mempool

import "slices"

// queue is what waits of one sender, by ascending nonce. Most senders have one or two
// transactions, and none has many: to look through a list costs less than a map for each.
type queue []queued

type queued struct {
	nonce uint64
	entry *entry
}

// place returns where a nonce is, or would be.
func (q queue) place(nonce uint64) (int, bool) {
	n := len(q)
	if n == 0 || q[n-1].nonce < nonce {
		return n, false
	}
	return slices.BinarySearchFunc(q, nonce, func(x queued, nonce uint64) int {
		switch {
		case x.nonce < nonce:
			return -1
		case x.nonce > nonce:
			return 1
		}
		return 0
	})
}

// at returns the transaction of a nonce, or nil.
func (q queue) at(nonce uint64) *entry {
	if i, ok := q.place(nonce); ok {
		return q[i].entry
	}
	return nil
}

// put gives a nonce, which has none, its transaction.
func (q *queue) put(nonce uint64, e *entry) {
	i, taken := q.place(nonce)
	if taken {
		panic(errInvalidState + "two transactions of a sender have one nonce")
	}
	*q = slices.Insert(*q, i, queued{nonce: nonce, entry: e})
}

// remove takes out the transaction of a nonce.
func (q *queue) remove(nonce uint64) {
	i, ok := q.place(nonce)
	if !ok {
		panic(errInvalidState + "a transaction that leaves is not pending")
	}
	*q = slices.Delete(*q, i, i+1)
}
