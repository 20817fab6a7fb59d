package replica

import (
	"fmt"
	"slices"

	"github.com/hypermesh/hypermesh/consensus"
)

// submit queues the blocks that extend what was taken; those below are skipped.
// Blocks above a gap, or such that would make the queue longer than most, are left
// to catch-up, as is all that would follow a closing block.
func (r *Replica) submit(blocks []consensus.Block, cert *consensus.Certificate, most int) {
	for _, b := range blocks {
		if b.Height <= r.taken.height {
			continue
		}
		if b.Parent != r.taken.digest || len(r.queue) >= most || r.between() {
			return
		}
		r.queue = append(r.queue, Finalize{Block: b, Certificate: cert})
		r.taken = head{height: b.Height, digest: b.Digest, closing: b.Closing}
	}
}

// between reports whether the current epoch's last block was taken and the next
// epoch has not begun.
func (r *Replica) between() bool {
	return r.taken.closing && r.taken.digest != r.reigns.of(r.epoch).Start
}

// behind reports whether finalized blocks are known to be missing.
func (r *Replica) behind() bool {
	return (r.core.Behind() || r.tip.height > r.taken.height || r.early.ahead) && !r.between()
}

// ready reports whether few enough blocks wait for the application.
func (r *Replica) ready() bool { return len(r.queue) <= r.cfg.MaxAhead }

// hold passes a Build or a Check on, now or when the application is ready.
func (r *Replica) hold(e Effect) {
	if r.ready() && len(r.held) == 0 {
		r.emit(e)
	} else {
		r.held = append(r.held, e)
	}
}

// unhold drops what was held back and reports whether there was any.
func (r *Replica) unhold(match func(Effect) bool) bool {
	i := slices.IndexFunc(r.held, match)
	if i >= 0 {
		r.held = slices.Delete(r.held, i, i+1)
	}
	return i >= 0
}

func (r *Replica) release() {
	if r.ready() {
		for _, e := range r.held {
			r.emit(e)
		}
		r.held = nil
	}
}

func (r *Replica) finalizeNext() {
	if !r.finalizing && len(r.queue) > 0 && !r.halted {
		r.finalizing = true
		r.emit(r.queue[0])
	}
}

func (r *Replica) onFinalized(ev Finalized) {
	if !r.finalizing || r.queue[0].Block.Digest != ev.Digest || r.queue[0].Block.Height != ev.Height {
		panic(fmt.Sprintf("replica: block %s at height %d is finalized, and was not to be", ev.Digest.Short(), ev.Height))
	}
	if r.queue[0].Block.Closing != ev.Closing {
		r.halt(fmt.Sprintf("replica: block %s at height %d is closing: %t, and was not when it was read", ev.Digest.Short(), ev.Height, ev.Closing))
		return
	}
	r.queue[0] = Finalize{}
	r.queue, r.finalizing = r.queue[1:], false
	r.stable = head{height: ev.Height, digest: ev.Digest, closing: ev.Closing}
	r.feed(consensus.Durable{Digest: ev.Digest, Empty: ev.Empty, Closing: ev.Closing})
	if ev.Closing {
		r.begin(ev)
	}
}
