package transport

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// Members go first: what is sent to an observer waits while something waits for a
// member, but not for long, because a member that does not read must not silence
// the node.
const (
	memberFirst     = 5 * time.Millisecond
	memberFirstLook = time.Millisecond
)

// newEgress is a bucket of so many bytes a second, which holds a second's worth
// and the longest message.
func newEgress(bytes int, cfg *MeshConfig) *rate.Limiter {
	longest := batchBytes
	for _, ch := range cfg.Channels {
		longest = max(longest, batchBytes+ch.MaxMessageBytes)
	}
	for _, s := range cfg.Services {
		longest = max(longest, s.MaxResponseBytes)
	}
	return rate.NewLimiter(rate.Limit(bytes), bytes+2*longest)
}

// afford waits until so many bytes may be sent to a peer, at once if it is a
// member. It returns ctx's error if that ends first.
func (p *peer) afford(ctx context.Context, size int) error {
	if p.isMember.Load() {
		return nil
	}
	now := time.Now()
	delay := max(p.egress.ReserveN(now, size).DelayFrom(now), p.mesh.egress.ReserveN(now, size).DelayFrom(now))
	if delay > 0 {
		p.mesh.metrics.add(ObserverEgress)
		if err := pause(ctx, delay); err != nil {
			return err
		}
	}
	for range memberFirst / memberFirstLook {
		if !p.mesh.ledger.membersWait() {
			return nil
		}
		if err := pause(ctx, memberFirstLook); err != nil {
			return err
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
