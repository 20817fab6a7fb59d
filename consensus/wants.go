package consensus

import "github.com/hypermesh/hypermesh/internal/crypto"

// want is one missing thing: the certificate of a kind at a view, or, with
// kind 0, the block of a digest. Wants are recomputed by every settle, so that
// nothing is asked for longer than it is needed.
type want struct {
	kind   Kind
	view   View
	digest crypto.Digest
	prefer Signer
	asked  int
	nextAt Micros
	needed bool
}

func (c *Core) unmarkWants() {
	for i := range c.wants {
		c.wants[i].needed = false
	}
}

// wantCertificate asks for a certificate until it is there, and reports
// whether there is room for more wants.
func (c *Core) wantCertificate(k Kind, v View, prefer Signer) bool {
	return c.want(want{kind: k, view: v, prefer: prefer})
}

func (c *Core) wantBlock(d crypto.Digest, prefer Signer) bool {
	return c.want(want{digest: d, prefer: prefer})
}

func (c *Core) want(w want) bool {
	needed := 0
	for i := range c.wants {
		old := &c.wants[i]
		if old.kind == w.kind && old.view == w.view && old.digest == w.digest {
			old.needed = true
			return true
		}
		if old.needed {
			needed++
		}
	}
	if needed >= maxWants {
		return false
	}
	w.needed, w.nextAt = true, max(w.nextAt, c.now)
	c.wants = append(c.wants, w)
	return true
}

// pursueWants drops what nobody needs any more and asks for the rest: first
// the validator that must have it, then the others in turn.
func (c *Core) pursueWants() {
	kept := c.wants[:0]
	for _, w := range c.wants {
		if !w.needed {
			continue
		}
		if c.now >= w.nextAt {
			w.nextAt = c.now + c.cfg.Timing.Fetch
			c.emit(Ask{To: c.target(w), Request: c.request(w)})
			w.asked++
		}
		kept = append(kept, w)
	}
	c.wants = kept
}

func (c *Core) target(w want) Signer {
	n := c.cfg.Committee.Len()
	to := Signer((int(w.prefer) + w.asked) % n)
	if c.signs && to == c.self && n > 1 {
		to = Signer((int(to) + 1) % n)
	}
	return to
}

func (c *Core) request(w want) Message {
	if w.kind == 0 {
		return BlockRequest{Digest: w.digest}
	}
	return CertificateRequest{Kind: w.kind, Round: c.round(w.view)}
}
