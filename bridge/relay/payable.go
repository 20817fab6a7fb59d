package relay

import (
	"context"
	"errors"
	"time"

	"github.com/hypermesh/hypermesh/sdk"
)

// lookFor bounds one look at whether the chain would pay a claim.
const lookFor = time.Minute

// lookAll looks at the claims that show a key, beside what is posted: one that the chain would not pay, or of which
// nothing is known, holds up no other.
func (r *Relay) lookAll(ctx context.Context) {
	for ctx.Err() == nil {
		e, wait := r.book.toLookAt(time.Now())
		if e == nil {
			idle(ctx, r.book.looks, wait)
			continue
		}
		r.look(ctx, e)
	}
}

// look finds out whether a claim that shows a key would be paid for it; else it waits, for as long as the outbox has it.
func (r *Relay) look(ctx context.Context, e *entry) {
	asking, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	err := r.Chain.CheckPayable(asking, e.claim)
	if ctx.Err() != nil {
		return
	}
	unpayable, is := errors.AsType[*sdk.UnpayableError](err)
	switch {
	case err == nil:
		r.book.clear(e, time.Now())
	case errors.Is(err, sdk.ErrClaimed):
		r.book.resolve(e)
		r.health.set(partChain, nil) // of a transaction whose end was not known it is
	case is:
		if r.book.withhold(e, true, time.Now()) {
			r.Log.Warn("relay: holding back a claim that would show its key for nothing", "order", e.order.Short(), "reason", unpayable.Why)
		}
	default:
		r.book.withhold(e, false, time.Now())
		r.Log.Warn("relay: holding back a claim that shows its key: it is not known whether it would be paid", "order", e.order.Short(), "error", err)
	}
}
