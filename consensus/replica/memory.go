package replica

import (
	"fmt"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// What a node remembers of what it signed is the logs. Two things beside them
// say that a log is missing: the marker of the highest epoch whose log was begun
// (Config.Begun), and the time before which an earlier life may have signed
// anything (Config.Since). Neither alone lets a node sign.

// clockDrift is the part of the time that has passed by which a clock may run
// slow: 1/8.
const clockDrift = 8

// unsigned returns the keys that have signed nothing in an epoch that begins
// now: those of which the log of the epoch before was complete, or all if the
// epoch began after this life did. None in an epoch whose log was begun already:
// if it is there it speaks for itself, else it was lost.
func (r *Replica) unsigned(in *reign, before []crypto.PublicKey) []crypto.PublicKey {
	if in.Committee.Epoch() <= r.begun {
		return nil
	}
	if r.cfg.Since > 0 && in.StartMs > r.cfg.Since && r.lag(in) == 0 {
		return r.coreConfig(in).Keys
	}
	return before
}

// lag returns by how many milliseconds the epoch's start is later than this
// node's clock says that it is now: then the clock was wrong when the node
// started, and Since with it. A right clock never lags: Since has a margin, and a
// block of the future is not notarized.
func (r *Replica) lag(in *reign) uint64 {
	passed := uint64(r.passed+r.now-r.born) / 1000
	now := r.cfg.Since + passed + passed/clockDrift
	if in.StartMs <= now {
		return 0
	}
	return in.StartMs - now
}

// observe notes why this node, a member of the committee, does not sign.
func (r *Replica) observe() {
	in := r.reigns.of(r.epoch)
	r.observes = ""
	if r.core.Signs() || !r.member(in.Committee) {
		return
	}
	switch {
	case r.epoch < r.begun:
		r.observes = fmt.Sprintf("this node began the log of epoch %d already, so that its log of epoch %d is an old copy or none", r.begun, r.epoch)
	case r.epoch == r.begun:
		r.observes = fmt.Sprintf("the log of epoch %d is lost, or not known to hold all that the key signed in it", r.epoch)
	case r.cfg.Since > 0 && r.lag(in) > 0:
		r.observes = fmt.Sprintf("the clock of this machine was wrong when the node started: it is %d seconds behind the chain's. Set it, and start the node again", r.lag(in)/1000)
	default:
		r.observes = fmt.Sprintf("epoch %d began before this node started, and there is no log that tells what it signed in it", r.epoch)
	}
}

func (r *Replica) member(c *consensus.Committee) bool {
	for _, k := range r.cfg.Keys {
		if _, member := c.IndexOf(k.Public()); member {
			return true
		}
	}
	return false
}
