package server

import (
	"context"
	"sync"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// verifier verifies the signatures of orders, bids and receipts: those that come
// while others are verified are verified together, which costs a fraction of
// what each alone costs.
type verifier struct {
	mu    sync.Mutex
	list  []question
	ended bool
	ready chan struct{} // has a token while something waits
}

type question struct {
	signed crypto.Signed
	answer func(valid bool) // must not wait
}

func newVerifier() *verifier { return &verifier{ready: make(chan struct{}, 1)} }

// verify reports whether a signature is valid.
func (v *verifier) verify(s crypto.Signed) bool {
	verdict := make(chan bool, 1)
	v.ask(s, func(valid bool) { verdict <- valid })
	return <-verdict
}

// ask has answer called with the verdict. Whoever asks bounds how much it asks.
func (v *verifier) ask(s crypto.Signed, answer func(valid bool)) {
	v.mu.Lock()
	if v.ended {
		v.mu.Unlock()
		answerAll([]question{{signed: s, answer: answer}})
		return
	}
	v.list = append(v.list, question{signed: s, answer: answer})
	v.mu.Unlock()
	select {
	case v.ready <- struct{}{}:
	default:
	}
}

// run answers until ctx ends. Who asks from then on is answered alone: a signature is no worse for a server that
// stops, and what it says of one is believed.
func (v *verifier) run(ctx context.Context) {
	for over := false; !over; {
		select {
		case <-ctx.Done():
			over = true
		case <-v.ready:
		}
		v.mu.Lock()
		list := v.list
		v.list, v.ended = nil, over
		v.mu.Unlock()
		answerAll(list)
	}
}

func answerAll(list []question) {
	items := make([]crypto.Signed, len(list))
	for i := range list {
		items[i] = list[i].signed
	}
	for i, valid := range crypto.VerifyBatch(items, 1) {
		list[i].answer(valid)
	}
}
