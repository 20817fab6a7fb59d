package engine

import (
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/replica"
)

const (
	// strangerSignatures is how many signatures of strangers' certificates are
	// verified a second, and at once: about a twentieth of a core.
	strangerSignatures = 4096
	// strangerInbox is how many messages of strangers wait for the replica.
	strangerInbox = 64
)

// strangers are the peers outside of the committee, of which anybody can be many:
// observers. What they send has a queue of its own, and their certificates are
// verified in the network's goroutines, one at a time and so many a second. Those
// beyond are dropped: the committee has them, too.
type strangers struct {
	inbox  chan input
	turn   chan struct{} // holds a token while nobody verifies
	budget *rate.Limiter // of signatures

	verified, dropped atomic.Uint64 // certificates
}

func newStrangers() *strangers {
	s := &strangers{
		inbox: make(chan input, strangerInbox), turn: make(chan struct{}, 1),
		budget: rate.NewLimiter(strangerSignatures, strangerSignatures),
	}
	s.turn <- struct{}{}
	return s
}

// verify reports whether a certificate is to be passed on: it is good, and there
// was room in the budget to find that out. An error says that it is forged.
func (s *strangers) verify(w *replica.Window, m consensus.Message) (bool, error) {
	cert, ok := m.(*consensus.Certificate)
	if !ok || !s.budget.AllowN(time.Now(), len(cert.Signatures)) {
		s.dropped.Add(1)
		return false, nil
	}
	<-s.turn
	err := w.Verify(cert)
	s.turn <- struct{}{}
	s.verified.Add(1)
	return err == nil, err
}
