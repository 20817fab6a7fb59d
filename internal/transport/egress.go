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
// member. It returns an error if ctx ends first, or would. Who gives up owes nothing:
// else whoever asks and goes away would have all others wait for what nobody was sent.
// So those who wait for the bytes of all do so one after the other.
func (p *peer) afford(ctx context.Context, size int) error {
	if p.isMember.Load() {
		return nil
	}
	if now := time.Now(); min(p.egress.TokensAt(now), p.mesh.egress.TokensAt(now)) < float64(size) {
		p.mesh.metrics.add(ObserverEgress)
	}
	if err := p.egress.WaitN(ctx, size); err != nil {
		return err
	}
	select {
	case p.mesh.egressTurn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	err := p.mesh.egress.WaitN(ctx, size)
	<-p.mesh.egressTurn
	if err != nil {
		return err
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
