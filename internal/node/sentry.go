package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
)

// A validator may hide behind sentries: nodes of its operator's that stand in the
// open (consensus.md §1, "Admission"). What they carry and may carry is consensus'
// affair (package replica). Here are their places: a sentry is to be a member of the
// committee's meshes, not an observer whom a crowd of observers keeps out. It shows
// its delegations where anybody may knock, over a protocol of its own that takes one
// message, and is let in as a member if they hold. Whoever restarts has forgotten
// them, and is knocked at again.

// sentryProtocol is the name under which sentries ask for their places.
const sentryProtocol = "hypermesh/sentry/1"

const (
	maxNamed         = 4       // sentries of a validator, validators of a sentry
	maxShown         = 8       // delegations at a time: two epochs' of each validator
	maxShownBytes    = 4 << 10 // what they take
	maxCallers       = 256     // who are being answered
	maxCallersOfHost = 8       // of them, of one IPv4 address or IPv6 /64
	answerCaller     = 3 * time.Second

	knockTick  = time.Second // how often missing connections are looked for
	knockPause = 10 * time.Second
	maxKnocks  = 8 // at a time
)

// neighbours is whom a configuration names.
type neighbours struct {
	pinned   []transport.NodeAddr
	sentries []transport.NodeAddr // this validator's: its only connections
	wards    []transport.NodeAddr // the validators behind this sentry; an empty Addr dials it
}

// hidden reports whether the node is connected with its sentries alone.
func (n *neighbours) hidden() bool { return len(n.sentries) > 0 }

// all returns everybody who is named.
func (n *neighbours) all() []transport.NodeAddr { return slices.Concat(n.sentries, n.wards, n.pinned) }

func (n *neighbours) isWard(k crypto.PublicKey) bool {
	return slices.ContainsFunc(n.wards, func(a transport.NodeAddr) bool { return a.ID == k })
}

// neighbours reads whom the configuration names. The error names the first field
// out of range.
func (c *Config) neighbours() (n neighbours, err error) {
	for _, field := range []struct {
		name  string
		texts []string
		to    *[]transport.NodeAddr
		most  int
	}{
		{"peers", c.Peers, &n.pinned, maxPeers}, {"sentries", c.Sentries, &n.sentries, maxNamed}, {"sentry_for", c.SentryFor, &n.wards, maxNamed},
	} {
		if len(field.texts) > field.most {
			return n, fmt.Errorf("%s has %d nodes, limit %d", field.name, len(field.texts), field.most)
		}
		for i, text := range field.texts {
			a, err := parseNeighbour(text, field.name == "sentry_for")
			if err != nil {
				return n, fmt.Errorf("%s: %w", field.name, err)
			}
			if slices.ContainsFunc((*field.to)[:i], func(b transport.NodeAddr) bool { return a.ID == b.ID }) && field.name != "peers" {
				return n, fmt.Errorf("%s: %s is there twice", field.name, a.ID.Short())
			}
			*field.to = append(*field.to, a)
		}
	}
	switch {
	case n.hidden() && len(n.wards) > 0:
		return n, errors.New("sentry_for beside sentries: a sentry stands in the open")
	case n.hidden() && len(n.pinned) > 0:
		return n, errors.New("peers beside sentries: a validator with sentries is connected with them alone")
	}
	return n, nil
}

// parseNeighbour reads NODEID@HOST:PORT, or NODEID of one that is not dialed.
func parseNeighbour(text string, mayDial bool) (transport.NodeAddr, error) {
	if !mayDial || strings.Contains(text, "@") {
		return transport.ParseNodeAddr(text)
	}
	key, err := crypto.ParsePublicKey(text)
	if err == nil {
		err = key.Check()
	}
	if err != nil {
		return transport.NodeAddr{}, fmt.Errorf("%.100q, want NODEID or NODEID@HOST:PORT: %w", text, err)
	}
	return transport.NodeAddr{ID: key}, nil
}

// onward returns to whom transactions go at once that came from a peer and were new
// here: a ward's to everybody else, another's to the wards. A node that is nobody's
// sentry has none.
func (n *network) onward(from crypto.PublicKey) []crypto.PublicKey {
	if len(n.named.wards) == 0 {
		return nil
	}
	outward := n.named.isWard(from)
	n.mu.Lock()
	peers := n.peering
	n.mu.Unlock()
	var to []crypto.PublicKey
	for _, p := range peers {
		if p.ID != from && n.named.isWard(p.ID) != outward {
			to = append(to, p.ID)
		}
	}
	return to
}

// places returns the sentries that have a member's place.
func (n *network) places() []crypto.PublicKey {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.favoured
}

// callers are who is being answered, by host.
type callers struct {
	mu    sync.Mutex
	hosts map[netip.Prefix]int
	all   []*caller // the oldest first
}

// caller is one of them.
type caller struct {
	host netip.Prefix
	end  func() // has it go for a newer one
}

// enter counts a caller. It is nil if its host has as many as it may. Of all that are
// too many the oldest goes: who has something to show does so at once, and who shuts
// the door on others by standing in it does not.
func (c *callers) enter(host netip.Prefix, end func()) *caller {
	in, oldest := &caller{host: host, end: end}, &caller{end: func() {}}
	defer func() { oldest.end() }()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hosts[host] >= maxCallersOfHost {
		return nil
	}
	if len(c.all) >= maxCallers {
		oldest = c.all[0]
		c.remove(0)
	}
	c.all = append(c.all, in)
	c.hosts[host]++
	return in
}

// leave forgets a caller, unless it had to go before.
func (c *callers) leave(who *caller) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.all, who); i >= 0 {
		c.remove(i)
	}
}

// remove is called with c.mu held.
func (c *callers) remove(i int) {
	host := c.all[i].host
	c.all = slices.Delete(c.all, i, i+1)
	if c.hosts[host]--; c.hosts[host] == 0 {
		delete(c.hosts, host)
	}
}

// listenForSentries opens the door at which sentries knock.
func (n *network) listenForSentries() (err error) {
	n.knocks, err = n.endpoint.Listen(transport.Protocol{
		Name: sentryProtocol, Backlog: maxCallers,
		Admit:  func(id crypto.PublicKey) bool { return id != n.self && !n.mesh.Blocked(id) },
		Prefer: func(id crypto.PublicKey) bool { return slices.Contains(n.places(), id) },
	})
	return err
}

// admitSentries answers those who knock until ctx ends. A caller without a
// delegation costs one short connection and the look at its signature.
func (n *network) admitSentries(ctx context.Context) error {
	defer n.knocks.Close()
	inside := callers{hosts: map[netip.Prefix]int{}}
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := n.knocks.Accept(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		host := transport.SourceOf(c.RemoteAddr())
		who := inside.enter(host, func() { c.Close(transport.CloseBusy, "as many sentries are being answered as this node answers") })
		if who == nil {
			c.Close(transport.CloseBusy, "as many sentries of this address are being answered as this node answers")
			continue
		}
		wg.Go(func() {
			defer inside.leave(who)
			defer c.Close(transport.CloseDone, "answered")
			if err := n.answerSentry(ctx, c); err != nil && ctx.Err() == nil {
				n.log.Debug("a sentry that asked for a place", "peer", c.Remote().Short(), "error", err)
			}
		})
	}
}

// answerSentry hands what a sentry shows to consensus, and says whether it has a
// place now.
func (n *network) answerSentry(ctx context.Context, c *transport.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, answerCaller)
	defer cancel()
	stream, err := c.AcceptStream(ctx)
	if err != nil {
		return err
	}
	deadline, _ := ctx.Deadline()
	if err := stream.SetDeadline(deadline); err != nil {
		return err
	}
	message, err := transport.ReadMessage(stream, maxShownBytes)
	if err != nil {
		return err
	}
	var shown [][]byte
	if err := codec.Unmarshal(message, &shown, maxShownBytes); err != nil {
		return err
	}
	if len(shown) > maxShown {
		return fmt.Errorf("%d delegations, limit %d", len(shown), maxShown)
	}
	e := n.engine.Load()
	for _, raw := range shown {
		m, err := consensus.DecodeMessage(consensus.ChannelVotes, raw)
		if err != nil {
			return err
		}
		if _, ok := m.(consensus.Delegation); !ok || e == nil {
			return fmt.Errorf("%T in the place of a delegation", m)
		}
		// Nobody is blocked for what anybody may do under any number of names.
		if useful, err := e.Admits(c.Remote(), m); err != nil {
			return err
		} else if !useful {
			continue
		}
		if err := e.Receive(c.Remote(), consensus.ChannelVotes, raw); err != nil {
			return err
		}
	}
	if !slices.Contains(n.places(), c.Remote()) {
		return errors.New("no delegation that holds in this epoch or the next")
	}
	if err := errors.Join(transport.WriteMessage(stream, nil), stream.CloseWrite()); err != nil {
		return err
	}
	select {
	case <-c.Done(): // it has read the answer
	case <-ctx.Done():
	}
	return nil
}

// seekPlaces knocks, until ctx ends, at each member of the committee with which this
// sentry has no connection, because there is no place for strangers or because
// the member is away.
func (n *network) seekPlaces(ctx context.Context) error {
	ticker := time.NewTicker(knockTick)
	defer ticker.Stop()
	next := map[crypto.PublicKey]time.Time{} // when to knock, by those without a connection
	slots := make(chan struct{}, maxKnocks)
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		mandates := n.engine.Load().Mandates()
		if len(mandates) == 0 {
			continue
		}
		missing := map[crypto.PublicKey]time.Time{}
		for _, p := range n.mesh.Stats() {
			if !p.Configured || p.Connected || p.Addr == "" || n.named.isWard(p.ID) {
				continue
			}
			at, known := next[p.ID]
			if !known {
				at = time.Now().Add(knockTick) // its first connection may be on the way
			}
			if time.Now().After(at) {
				select {
				case slots <- struct{}{}:
					at = time.Now().Add(knockPause)
					wg.Go(func() {
						defer func() { <-slots }()
						if err := n.knock(ctx, p.NodeAddr, mandates); err != nil && ctx.Err() == nil {
							n.log.Debug("asking for a sentry's place", "peer", p.ID.Short(), "error", err)
						}
					})
				default: // at the next tick
				}
			}
			missing[p.ID] = at
		}
		next = missing
	}
}

// knock shows this sentry's delegations to a member of the committee and waits for
// its consent.
func (n *network) knock(ctx context.Context, at transport.NodeAddr, mandates []consensus.Delegation) error {
	ctx, cancel := context.WithTimeout(ctx, answerCaller)
	defer cancel()
	c, err := n.endpoint.Dial(ctx, at, sentryProtocol)
	if err != nil {
		return err
	}
	defer c.Close(transport.CloseDone, "answered")
	stream, err := c.OpenStream(ctx)
	if err != nil {
		return err
	}
	deadline, _ := ctx.Deadline()
	if err := stream.SetDeadline(deadline); err != nil {
		return err
	}
	var shown [][]byte
	for _, d := range mandates[:min(len(mandates), maxShown)] {
		shown = append(shown, consensus.EncodeMessage(d))
	}
	if err := transport.WriteMessage(stream, codec.Marshal(shown)); err != nil {
		return err
	}
	_, err = transport.ReadMessage(stream, 1)
	return err
}
