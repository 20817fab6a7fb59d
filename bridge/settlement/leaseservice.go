package settlement

import (
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// What is promised of a lease is watched by peers that the chain draws from the roll. They
// probe, and sign what they found of each epoch; only of an epoch that missed its terms is
// anything posted. Then it is repriced at once, by the word of more than half of the peers.

const (
	// maxJudged is how many missed epochs are remembered one by one; those before count as
	// judged.
	maxJudged = 32
	// redrawEpochs is how long peers are at least: those that come before them may be
	// reported for so long.
	redrawEpochs = 2
	// ReportWindowMs is how long misses of an epoch are taken that nobody can put off: before that the
	// provider is not paid for it, and after a lease's end, measured by the chain's progress, neither
	// that nor the stake is free.
	ReportWindowMs = 3_600_000
)

// Service is the chain's state of what is promised of a lease.
type Service struct {
	_       struct{} `cbor:",toarray"`
	Node    crypto.PublicKey
	Terms   chain.ServiceTerms
	Stake   chain.Amount       // that is left of what is locked of the node's bond
	Drawing bool               // a draw is queued
	Drawn   chain.TimeMs       // when Peers were; 0: nobody was yet
	Peers   []crypto.PublicKey // of the epochs that began since Drawn, and of those before if there were none before them
	Former  []crypto.PublicKey // of the epochs that began before Drawn
	Floor   uint64             // the first epoch that may still be judged
	Judged  []uint64           // those above that were, ascending
	Over    *Lease             // the lease when it, or these terms, were over, holding what is due and not paid yet; nil: they live
	Order   crypto.Digest      // whose terms these are
}

// ServiceOf returns what is promised of the lease that an order opened, and false if
// nothing is.
func ServiceOf(r state.Reader, order crypto.Digest) (Service, bool) {
	return state.Load[Service](r, ServiceKey(order))
}

// DecodeService decodes a service's record, for those who checked its proof.
func DecodeService(value []byte) (Service, error) { return decode[Service](value) }

// FormerServiceOf returns what was promised of the lease that an order opened under terms that a
// resize has put an end to, as long as their last epochs may be reported.
func FormerServiceOf(r state.Reader, order crypto.Digest) (Service, bool) {
	return state.Load[Service](r, FormerServiceKey(order))
}

// serviceOf is ServiceOf for a lease that has one.
func serviceOf(r state.Reader, id chain.LeaseID) Service {
	s, ok := ServiceOf(r, id.Order)
	if !ok || s.Node != id.Node {
		panic("settlement: a lease's service is not there")
	}
	return s
}

// promise puts the deal's service terms in the place of a lease's, if it has any, which
// leaveTerms has put away: what is staked for these is locked.
func (d *deal) promise(l *Lease, id chain.LeaseID) *chain.Rejection {
	s := Service{Node: id.Node}
	if l.Promised {
		s = serviceOf(d.kv, id)
	}
	terms := d.Order.Term.Service
	if terms == nil {
		if l.Promised {
			d.kv.Delete(ServiceKey(id.Order))
		}
		l.Promised = false
		return nil
	}
	if why := lockSlice(d.kv, id.Node, terms.Stake); why != nil {
		return why
	}
	s.Order, s.Terms, s.Stake, s.Floor, s.Judged, s.Former = d.id, *terms, terms.Stake, 0, nil, nil // epochs are counted anew
	if !l.Promised {
		queueDraw(d.kv, d.env, partService, id.Order)
		s.Drawing, l.Promised = true, true
	}
	state.Save(d.kv, ServiceKey(id.Order), s)
	return nil
}

// serviceDrawn draws the peers of a lease: nodes of neither party's, nor of the cluster's
// operator.
func serviceDrawn(kv state.KV, env *Env, order crypto.Digest) chain.Events {
	s, ok := ServiceOf(kv, order)
	if !ok || !s.Drawing || s.Over != nil {
		return nil // the lease is over
	}
	id := chain.LeaseID{Node: s.Node, Order: order}
	l, ok := LeaseOf(kv, id)
	if !ok {
		panic("settlement: a service without a lease")
	}
	s.Drawing = false
	if s.Drawn != 0 {
		if len(s.Former) > 0 { // theirs can be reported no more
			s.Floor = max(s.Floor, s.after(&l, s.Drawn))
		}
		if len(s.Peers) == 0 { // nobody probed before
			s.Floor = max(s.Floor, s.after(&l, env.Now))
		}
		s.Former = s.Peers
	}
	s.Drawn = env.Now
	s.Peers = drawNodes(kv, env, draw{
		seed: env.seed(partService, order, 0), want: chain.MaxServicePeers, stake: env.Params.JurorSlice, least: env.Params.JurorSlice,
		excluded: func(node crypto.PublicKey, p *Provider) bool {
			return node == s.Node || p.Owner == l.Provider || p.Owner == l.Consumer || p.Owner == l.Operator
		},
	}).nodes
	s.trim()
	state.Save(kv, ServiceKey(order), s)
	return chain.Events{chain.PeersDrawn{Lease: id, Peers: s.Peers}}
}

// after returns the first epoch of a lease's terms that begins at a time or after it.
func (s *Service) after(l *Lease, at chain.TimeMs) uint64 {
	if at <= l.Since {
		return 0
	}
	return (uint64(at-l.Since) + s.Terms.EpochMs - 1) / s.Terms.EpochMs
}

// PeersOf returns who reports on an epoch that began at a time.
func (s *Service) PeersOf(begin chain.TimeMs) []crypto.PublicKey { return *s.peersOf(begin) }

func (s *Service) peersOf(begin chain.TimeMs) *[]crypto.PublicKey {
	if begin < s.Drawn && len(s.Former) > 0 {
		return &s.Former
	}
	return &s.Peers
}

// Closed reports whether nothing is heard of an epoch any more: it was judged, or is too old.
func (s *Service) Closed(epoch uint64) bool {
	_, found := slices.BinarySearch(s.Judged, epoch)
	return found || epoch < s.Floor
}

// judge notes that an epoch was.
func (s *Service) judge(epoch uint64) {
	at, _ := slices.BinarySearch(s.Judged, epoch)
	s.Judged = slices.Insert(s.Judged, at, epoch)
	if len(s.Judged) > maxJudged {
		s.Floor = s.Judged[0] + 1
	}
	s.trim()
}

func (s *Service) trim() {
	at, _ := slices.BinarySearch(s.Judged, s.Floor)
	s.Judged = slices.Delete(s.Judged, 0, at)
}

// promised returns a lease that lives and what is promised of it.
func promised(kv state.KV, env *Env, id chain.LeaseID) (*Lease, *Service, *chain.Rejection) {
	l, why := liveLease(kv, env, id)
	if why != nil {
		return nil, nil, why
	}
	if !l.Promised {
		return nil, nil, chain.Reject("nothing is promised of lease %s", id.Order.Short())
	}
	s := serviceOf(kv, id)
	return l, &s, nil
}

// reportable is what reports may be of: promised, or a lease, or terms, that are over, as long as their last
// epochs may be reported.
type reportable struct {
	Service
	lease *Lease
	key   []byte // where the Service is
}

func reportableOf(kv state.KV, env *Env, id chain.LeaseID, terms crypto.Digest) (*reportable, *chain.Rejection) {
	if s, ok := FormerServiceOf(kv, id.Order); ok && s.Node == id.Node && s.Order == terms {
		return &reportable{s, s.Over, FormerServiceKey(id.Order)}, nil
	}
	l, s, why := promised(kv, env, id)
	if why == nil {
		return &reportable{*s, l, ServiceKey(id.Order)}, nil
	}
	if s, ok := ServiceOf(kv, id.Order); ok && s.Node == id.Node && s.Over != nil {
		return &reportable{s, s.Over, ServiceKey(id.Order)}, nil
	}
	return nil, why
}

// watched reports whether so many peers know of the service that they could find a miss.
func (s *Service) watched() bool { return max(len(s.Peers), len(s.Former)) >= chain.LeastPeers }

// payable returns up to when a provider is paid: no more of an epoch until it was over for a while, as
// long as somebody may report it.
func (s *Service) payable(l *Lease, now chain.TimeMs) chain.TimeMs {
	if !s.watched() {
		return now
	}
	age := uint64(now - l.Since)
	return l.Since + chain.TimeMs((age-min(age, ReportWindowMs))/s.Terms.EpochMs*s.Terms.EpochMs)
}

// payableOf is payable, for a lease of which nothing may be promised.
func payableOf(kv state.KV, env *Env, id chain.LeaseID, l *Lease) chain.TimeMs {
	if !l.Promised {
		return env.Now
	}
	s := serviceOf(kv, id)
	return s.payable(l, env.Now)
}

// outlive keeps what is due of a lease that is over at Expires and was paid as far as it is payable, and
// what is staked, until no epoch of it can be reported any more. It is false, and keeps nothing, if nobody
// could.
func (s *Service) outlive(kv state.KV, env *Env, id chain.LeaseID, l *Lease) bool {
	if !s.watched() {
		return false
	}
	s.putAway(l, l.Expires)
	state.Save(kv, ServiceKey(id.Order), *s)
	queueDeadline(kv, env, ReportWindowMs, partService, id.Order)
	return true
}

// putAway ends a lease's terms at a time up to which it has the money: what is due of them then is kept
// here.
func (s *Service) putAway(l *Lease, end chain.TimeMs) {
	over := *l
	over.Expires, over.Held = end, l.due(end)
	l.Held = sound(l.Held.Sub(over.Held))
	s.Over, s.Drawing = &over, false
}

// leaveTerms pays what is due of a lease that is resized now. What was promised of it until now is kept
// with the stake, as outlive does, so that no resize takes its consumer's last epochs from it; if nobody
// could report them all is paid, and the stake is free. Of one lease no more is kept than the terms before
// these: otherwise who resizes it again and again would have as many stakes locked, and records kept.
func leaveTerms(kv state.KV, env *Env, id chain.LeaseID, l *Lease) (chain.Events, *chain.Rejection) {
	if !l.Promised {
		return collect(kv, env, id, l, env.Now), nil
	}
	s := serviceOf(kv, id)
	events := collect(kv, env, id, l, s.payable(l, env.Now))
	if !s.watched() {
		unlockSlice(kv, id.Node, s.Stake)
		return events, nil
	}
	if former, ok := FormerServiceOf(kv, id.Order); ok {
		return nil, chain.Reject("lease was resized at %d ms, and the terms before may still be reported", former.Over.Expires)
	}
	s.putAway(l, env.Now)
	state.Save(kv, FormerServiceKey(id.Order), s)
	queueDeadline(kv, env, ReportWindowMs, partFormer, id.Order)
	return events, nil
}

// serviceDue is the end of what was promised of a lease that is over.
func serviceDue(kv state.KV, env *Env, order crypto.Digest) chain.Events {
	s, ok := ServiceOf(kv, order)
	if !ok || s.Over == nil {
		panic("settlement: the end of a service of a lease that is not over")
	}
	id := chain.LeaseID{Node: s.Node, Order: order}
	events := s.settle(kv, env, id)
	kv.Delete(ServiceKey(order))
	return append(events, chain.ServiceClosed{Lease: id, Consumer: s.Over.Consumer, Stake: s.Stake})
}

// formerDue is the end of what was promised of a lease before it was resized.
func formerDue(kv state.KV, env *Env, order crypto.Digest) chain.Events {
	s, ok := FormerServiceOf(kv, order)
	if !ok || s.Over == nil {
		panic("settlement: the end of terms that are not over")
	}
	id := chain.LeaseID{Node: s.Node, Order: order}
	events := s.settle(kv, env, id)
	kv.Delete(FormerServiceKey(order))
	return append(events, chain.TermsClosed{Lease: id, Terms: s.Order, Consumer: s.Over.Consumer, Stake: s.Stake})
}

// settle pays what terms that are over still owe, and frees the stake.
func (s *Service) settle(kv state.KV, env *Env, id chain.LeaseID) (events chain.Events) {
	l := s.Over
	if paid, ok := l.charge(env, id, l.Expires); ok {
		l.pay(kv, env, &paid)
		events = append(events, paid)
	}
	if !l.Held.IsZero() {
		panic("settlement: a lease that is over holds more than it owes")
	}
	unlockSlice(kv, s.Node, s.Stake)
	return events
}

// ReportMiss reprices an epoch in which more than half of a lease's peers found its service
// to have missed a term, or half of them and the consumer: the consumer gets the rebate out of what is due
// and then, without the priority fee, out of the node's stake, and half of the penalty, the other half of which is
// burned. signed says whether all reports are signed.
func ReportMiss(kv state.KV, env *Env, m chain.ReportMiss, signed bool) (chain.Events, *chain.Rejection) {
	id := m.Epoch.Lease
	if !signed {
		return nil, chain.Reject("a report is not signed by its peer")
	}
	s, why := reportableOf(kv, env, id, m.Epoch.Terms)
	if why != nil {
		return nil, why
	}
	l := s.lease
	begin, end, why := s.span(env, l, &m.Epoch)
	if why != nil {
		return nil, why
	}
	of := epochSpan{m.Epoch.Epoch, uint64(end - begin)}
	if why := s.found(m.Reports, of, *s.peersOf(begin), l.Consumer); why != nil {
		return nil, why
	}
	whole := chain.RateCost(l.Rate, uint64(end-l.Since))
	cost := sound(whole.Sub(chain.RateCost(l.Rate, uint64(begin-l.Since))))
	wanted := sound(cost.ShareFloor(uint64(s.Terms.RebateBps), wholeBps))
	rebate := lesser(wanted, l.due(min(env.Now, l.Expires)))
	l.Held, l.Charged = sound(l.Held.Sub(rebate)), sound(l.Charged.Add(rebate))
	missing := sound(wanted.Sub(rebate))
	missing = sound(missing.Sub(l.PriorityBps.Of(missing))) // the provider was paid nothing of the priority fee, which no stake answers for
	given, burned, events := s.take(kv, env, missing, s.Terms.Penalty)
	escrow := openPurse(kv, env, l.Consumer, l.Cluster)
	escrow.letGo(rebate)
	escrow.put(sound(rebate.Add(given)))
	s.judge(m.Epoch.Epoch)
	state.Save(kv, s.key, s.Service)
	if s.Over == nil {
		saveLease(kv, id, l, l.Expires)
	}
	return append(events, chain.ServiceMissed{
		Lease: id, Terms: l.Order, Consumer: l.Consumer, Epoch: chain.Number(m.Epoch.Epoch), Finding: s.Terms.Finds(of.epoch, of.lastsMs, &m.Reports[0]).String(),
		Rebate: rebate, FromStake: given, Burned: burned, Stake: s.Stake,
	}), nil
}

// Span returns when an epoch of a lease begins and ends, the last one with the lease; it is false if the
// lease was over before.
func (s *Service) Span(l *Lease, epoch uint64) (begin, end chain.TimeMs, ok bool) {
	begin, end, ok = s.Terms.Span(l.Since, epoch)
	if s.Over != nil && ok {
		end, ok = min(end, l.Expires), begin < l.Expires
	}
	return begin, end, ok
}

// span returns when an epoch that may be judged now began and ended.
func (s *Service) span(env *Env, l *Lease, e *chain.ServiceEpoch) (begin, end chain.TimeMs, why *chain.Rejection) {
	begin, end, ok := s.Span(l, e.Epoch)
	switch {
	case e.ChainID != env.ChainID:
		return 0, 0, chain.Reject("report is of chain %.32q, this is %q", e.ChainID, env.ChainID)
	case e.Terms != l.Order:
		return 0, 0, chain.Reject("report is of terms %s, those of %s hold", e.Terms.Short(), l.Order.Short())
	case !ok && s.Over != nil:
		return 0, 0, chain.Reject("the lease ended at %d ms, before epoch %d", l.Expires, e.Epoch)
	case !ok || end > env.Now:
		return 0, 0, chain.Reject("epoch %d is not over", e.Epoch)
	case s.Closed(e.Epoch):
		return 0, 0, chain.Reject("epoch %d was judged, or is too old", e.Epoch)
	}
	return begin, end, nil
}

// epochSpan is an epoch, and how long it lasted: the last of terms ends with those.
type epochSpan struct{ epoch, lastsMs uint64 }

// found demands that enough of the peers report, and that each finds a term missed. The consumer's own
// report decides where the peers are halved, and nothing else.
func (s *Service) found(reports []chain.ServiceReport, of epochSpan, peers []crypto.PublicKey, consumer chain.Address) *chain.Rejection {
	said, own := 0, false
	for i := range reports {
		r := &reports[i]
		drawn := slices.Contains(peers, r.Peer)
		switch {
		case !drawn && r.By() != consumer:
			return chain.Reject("node %s is not a peer of epoch %d", r.Peer.Short(), of.epoch)
		case slices.ContainsFunc(reports[:i], func(other chain.ServiceReport) bool { return other.Peer == r.Peer }):
			return chain.Reject("peer %s reports twice", r.Peer.Short())
		case s.Terms.Finds(of.epoch, of.lastsMs, r) == chain.ServiceKept:
			return chain.Reject("peer %s finds that epoch %d kept the terms", r.Peer.Short(), of.epoch)
		case drawn:
			said++
		default:
			own = true
		}
	}
	want := chain.Quorum(len(peers))
	if own {
		want = chain.QuorumWithConsumer(len(peers))
	}
	if said < want {
		return chain.Reject("%d of %d peers report a miss, want %d", said, len(peers), want)
	}
	return nil
}

// take takes an amount and a penalty out of the node's stake, as far as that goes: given is
// for the consumer.
func (s *Service) take(kv state.KV, env *Env, amount, penalty chain.Amount) (given, burned chain.Amount, events chain.Events) {
	amount = lesser(amount, s.Stake)
	penalty = lesser(penalty, sound(s.Stake.Sub(amount)))
	burned = sound(penalty.ShareCeil(1, 2))
	all := sound(amount.Add(penalty))
	given = sound(all.Sub(burned))
	if all.IsZero() {
		return given, burned, nil
	}
	s.Stake = sound(s.Stake.Sub(all))
	return given, burned, chain.Events{takeSlice(kv, env, s.Node, all, given)}
}

func lesser(a, b chain.Amount) chain.Amount {
	if b.Less(a) {
		return b
	}
	return a
}

// DrawPeers has other peers drawn for a lease, at the word of either party: not before those
// that it has were peers for a while.
func DrawPeers(kv state.KV, env *Env, from chain.Address, m chain.DrawPeers) *chain.Rejection {
	l, s, why := promised(kv, env, m.Lease)
	switch {
	case why != nil:
		return why
	case l.Consumer != from && l.Provider != from:
		return chain.Reject("%s has no part in the lease", from.Short())
	case s.Drawing:
		return chain.Reject("peers are being drawn")
	case uint64(env.Now-s.Drawn) < redrawEpochs*s.Terms.EpochMs:
		return chain.Reject("peers were drawn at %d ms, and are for %d ms", s.Drawn, redrawEpochs*s.Terms.EpochMs)
	}
	s.Drawing = true
	queueDraw(kv, env, partService, m.Lease.Order)
	state.Save(kv, ServiceKey(m.Lease.Order), *s)
	return nil
}

// LeaveLease ends a lease at once, for a provider that leaves without notice: it gives what
// it would for missing all epochs of that time.
func LeaveLease(kv state.KV, env *Env, from chain.Address, m chain.LeaveLease) (chain.Events, *chain.Rejection) {
	l, s, why := promised(kv, env, m.Lease)
	switch {
	case why != nil:
		return nil, why
	case l.Provider != from:
		return nil, chain.Reject("%s is not the lease's provider", from.Short())
	}
	notice := min(l.NoticeMs, uint64(l.Expires-env.Now))
	penalty, ok := s.Terms.Penalty.ShareFloor((notice+s.Terms.EpochMs-1)/s.Terms.EpochMs, 1)
	if !ok {
		penalty = s.Stake
	}
	events := collect(kv, env, m.Lease, l, s.payable(l, env.Now))
	given, burned, slashed := s.take(kv, env, chain.Amount{}, penalty)
	events = append(events, slashed...)
	dropLeaseEnd(kv, l.Expires, m.Lease)
	l.Expires, l.Closing = env.Now, true
	if !s.outlive(kv, env, m.Lease, l) {
		unlockSlice(kv, m.Lease.Node, s.Stake)
		kv.Delete(ServiceKey(m.Lease.Order))
	}
	escrow := openPurse(kv, env, l.Consumer, l.Cluster)
	escrow.letGo(l.Held)
	escrow.put(sound(l.Held.Add(given)))
	keepInstead(kv, env, m.Lease.Node, l.Resources, nil)
	kv.Delete(LeaseKey(m.Lease))
	return append(events,
		chain.LeaseLeft{Lease: m.Lease, Consumer: l.Consumer, FromStake: given, Burned: burned},
		chain.LeaseEnded{Lease: m.Lease, At: env.Now, Closed: true, Refunded: l.Held},
	), nil
}

// AccusePeer slashes a peer that signed two reports of an epoch that differ, and takes it out
// of the lease's peers. Half of that is the sender's.
func AccusePeer(kv state.KV, env *Env, from chain.Address, m chain.AccusePeer, signed bool) (chain.Event, *chain.Rejection) {
	if !signed {
		return nil, chain.Reject("a report is not signed by its peer")
	}
	id := m.Epoch.Lease
	s, why := reportableOf(kv, env, id, m.Epoch.Terms)
	if why != nil {
		return nil, why
	}
	l := s.lease
	begin, _, ok := s.Terms.Span(l.Since, m.Epoch.Epoch)
	peers := s.peersOf(begin)
	at := slices.Index(*peers, m.First.Peer)
	switch {
	case m.Epoch.ChainID != env.ChainID || m.Epoch.Terms != l.Order || !ok:
		return nil, chain.Reject("reports are not of the lease's terms on this chain")
	case at < 0:
		return nil, chain.Reject("node %s is not a peer of epoch %d", m.First.Peer.Short(), m.Epoch.Epoch)
	}
	p, ok := ProviderOf(kv, m.First.Peer)
	if !ok || p.UnbondedMs != 0 {
		return nil, chain.Reject("provider %s is not registered", m.First.Peer.Short())
	}
	*peers = slices.Delete(*peers, at, at+1)
	if peers == &s.Former && len(s.Former) == 0 { // those of now did not probe then
		s.Floor = max(s.Floor, s.after(l, s.Drawn))
		s.trim()
	}
	state.Save(kv, s.key, s.Service)
	taken := lesser(p.Free(), env.Params.JurorSlice)
	if why := lockSlice(kv, m.First.Peer, taken); why != nil {
		return nil, why
	}
	reward := sound(taken.ShareFloor(1, 2))
	tokens.Credit(kv, from, reward)
	return takeSlice(kv, env, m.First.Peer, taken, reward), nil
}
