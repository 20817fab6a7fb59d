package replica

import (
	"fmt"
	"slices"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// A validator that strangers cannot reach (Config.Sentries) is connected with its
// sentries alone. For each of them and each epoch that has a committee it signs a
// delegation, which lapses with the epoch. A sentry (Config.Wards) shows it to all
// that it is connected with, and carries what its ward signs outward, and what the
// committee signs inward. It verifies what it passes on, so that nobody has reason to
// blame it for another's forgery, and passes on one copy of a vote in half of
// Timing.Retry, which is what a validator's own repetitions need. All else needs no
// carrying: a sentry is a node like others, which collects and broadcasts
// certificates and answers requests. What validators repeat in a view that they gave
// up ends at a sentry that has it; in its place the sentry tells those who are behind
// what let it into its own view (onVote).

const (
	// maxSentries is how many connections may carry one signer's votes beside its
	// own.
	maxSentries = 4
	// maxWards is how many validators a sentry stands before.
	maxWards = 4
	// renewEvery is how often delegations are handed on again: whoever restarted has
	// forgotten them, or was not in the epoch yet.
	renewEvery consensus.Micros = 5_000_000
	// relayWindow is how many views' votes are carried at a time.
	relayWindow = 128
	// maxSought is how many certificates that a ward lacks are asked for in one
	// Timing.Fetch.
	maxSought = 16
)

// delegation is a sentry's right to carry a signer's votes.
type delegation struct {
	epoch  consensus.Epoch
	signer consensus.Signer
	node   crypto.PublicKey
}

// carriage is how a vote may come in.
type carriage uint8

const (
	uncarried carriage = iota // not over this connection
	byOwner
	bySentry
)

// carriers says whose connections may carry whose votes. It is immutable.
type carriers struct {
	self crypto.PublicKey
	own  []crypto.PublicKey // this validator's sentries, which carry everybody's
	held []delegation
}

// of says how a connection may carry the signer's votes of an epoch that is
// known. The error is a breach: a validator's connection never carries another's
// votes without a delegation. Somebody else's may: a sentry whose delegation came
// before this node knew the epoch.
func (c carriers) of(in *reign, from crypto.PublicKey, signer consensus.Signer) (carriage, error) {
	owner, member := in.signers[from]
	if member && owner == signer {
		return byOwner, nil
	}
	if slices.Contains(c.own, from) {
		if int(signer) >= len(in.NodeKeys) || in.NodeKeys[signer] == c.self {
			return uncarried, nil
		}
		return bySentry, nil
	}
	for _, d := range c.held {
		if d.epoch == in.Committee.Epoch() && d.signer == signer && d.node == from {
			return bySentry, nil
		}
	}
	if member {
		return uncarried, fmt.Errorf("replica: vote of signer %d of epoch %d over the connection of signer %d", signer, in.Committee.Epoch(), owner)
	}
	return uncarried, nil
}

// sentry is a replica's part as a sentry's validator, or as a sentry.
type sentry struct {
	given    []consensus.Delegation // by this node's keys, to its sentries
	mandates []consensus.Delegation // to this node, by its wards
	renewAt  consensus.Micros       // when they are handed on again; never: there are none to be
	placed   []crypto.PublicKey     // whom Places named last

	passed   [2][]passedVotes // by the epoch's parity and signer
	sought   int              // since soughtAt
	soughtAt consensus.Micros
	turn     int // over those who are asked for a ward
}

// passedVotes is what of a signer was passed on last, by kind, offers first, and by
// the view's place in the window.
type passedVotes [4][relayWindow]struct {
	round consensus.Round
	at    consensus.Micros
}

func newSentry(cfg Config) sentry {
	s := sentry{renewAt: never}
	if len(cfg.Sentries)+len(cfg.Wards) > 0 {
		s.renewAt = 0
	}
	return s
}

func (cfg Config) checkSentries() error {
	for _, f := range []struct {
		name string
		keys []crypto.PublicKey
		most int
	}{{"Sentries", cfg.Sentries, maxSentries}, {"Wards", cfg.Wards, maxWards}} {
		if len(f.keys) > f.most {
			return fmt.Errorf("replica: config: %d %s, limit %d", len(f.keys), f.name, f.most)
		}
		for i, k := range f.keys {
			if k.IsZero() || k == cfg.NodeKey || slices.Contains(f.keys[:i], k) {
				return fmt.Errorf("replica: config: %s: %s is zero, this node, or there twice", f.name, k.Short())
			}
		}
	}
	if len(cfg.Wards) > 0 && len(cfg.Sentries)+len(cfg.Keys) > 0 {
		return fmt.Errorf("replica: config: a sentry has no consensus keys and no sentries")
	}
	return nil
}

func (r *Replica) carriers() carriers {
	return carriers{self: r.cfg.NodeKey, own: r.cfg.Sentries, held: r.delegations}
}

// delegate signs what this node's sentries show in the running epoch and the next.
func (r *Replica) delegate() {
	r.sentry.given = nil
	for e := r.epoch; len(r.cfg.Sentries) > 0 && e <= r.epoch+1; e++ {
		in := r.reigns.of(e)
		if in == nil {
			continue
		}
		for _, key := range r.cfg.Keys {
			signer, member := in.Committee.IndexOf(key.Public())
			if !member {
				continue
			}
			for _, node := range r.cfg.Sentries {
				r.sentry.given = append(r.sentry.given, consensus.SignDelegation(key, r.cfg.ChainID, e, signer, node))
			}
			break
		}
	}
}

// enterSentry brings delegations into the epoch that begins.
func (r *Replica) enterSentry() {
	r.delegations = slices.DeleteFunc(slices.Clone(r.delegations), func(d delegation) bool { return d.epoch < r.epoch })
	r.sentry.mandates = slices.DeleteFunc(slices.Clone(r.sentry.mandates), func(d consensus.Delegation) bool { return d.Epoch < r.epoch })
	r.stale = true
	r.place()
	if r.sentry.renewAt != never {
		r.delegate()
		r.sentry.renewAt = r.now
	}
}

// place says who is to have a committee member's place, if others than before.
func (r *Replica) place() {
	var nodes []crypto.PublicKey
	for _, d := range r.delegations {
		if at, found := slices.BinarySearchFunc(nodes, d.node, crypto.PublicKey.Compare); !found {
			nodes = slices.Insert(nodes, at, d.node)
		}
	}
	if !slices.Equal(nodes, r.sentry.placed) {
		r.sentry.placed = nodes
		r.emit(Places{Nodes: nodes})
	}
}

// renew hands delegations on when their time has come.
func (r *Replica) renew() {
	if r.now < r.sentry.renewAt || r.halted {
		return
	}
	r.sentry.renewAt = r.now + renewEvery
	r.handOn(r.connected)
}

// handOn hands this node's delegations to those of its sentries that are among the
// nodes, and shows its mandates to all of these: which of them are other validators'
// sentries, they tell in the same way.
func (r *Replica) handOn(nodes []crypto.PublicKey) {
	for _, d := range r.sentry.given {
		if slices.Contains(nodes, d.NodeKey) {
			r.emit(Send{To: d.NodeKey, Message: d})
		}
	}
	for _, d := range r.sentry.mandates {
		r.show(d, nodes)
	}
}

// show has nodes know a mandate.
func (r *Replica) show(d consensus.Delegation, nodes []crypto.PublicKey) {
	var to []crypto.PublicKey
	for _, k := range nodes {
		if !slices.Contains(r.cfg.Wards, k) {
			to = append(to, k)
		}
	}
	if len(to) > 0 {
		r.emit(Relay{To: to, Message: d})
	}
}

// checkDelegation says whether a delegation is of use; the error is a breach. It is
// asked on the network's goroutines as well.
func checkDelegation(in *reign, cfg *Config, from crypto.PublicKey, d consensus.Delegation) (useful bool, err error) {
	if int(d.Signer) >= len(in.NodeKeys) {
		return false, fmt.Errorf("replica: delegation by signer %d of a committee of %d", d.Signer, len(in.NodeKeys))
	}
	if d.NodeKey == cfg.NodeKey {
		if !slices.Contains(cfg.Wards, from) || in.NodeKeys[d.Signer] != from {
			return false, nil // a validator's that this node is no sentry of
		}
	} else if d.NodeKey != from {
		return false, fmt.Errorf("replica: a delegation to another node's connections")
	}
	return true, d.Verify(in.Committee, cfg.ChainID)
}

// onDelegation lets a sentry carry a signer's votes, once the signature holds, or
// takes a ward's mandate.
func (r *Replica) onDelegation(from crypto.PublicKey, d consensus.Delegation) {
	in := r.reigns.of(d.Epoch)
	if in == nil || d.Epoch < r.epoch || d.Epoch > r.epoch+1 || holds(r.delegations, r.sentry.mandates, d) {
		return
	}
	useful, err := checkDelegation(in, &r.cfg, from, d)
	if err != nil {
		r.blame(from, err.Error())
		return
	}
	if !useful {
		return
	}
	r.stale = true
	if d.NodeKey == r.cfg.NodeKey {
		r.sentry.mandates = append(slices.Clone(r.sentry.mandates), d)
		r.show(d, r.connected)
		return
	}
	held, idle := 0, -1
	for i, old := range r.delegations {
		if old.epoch == d.Epoch && old.signer == d.Signer {
			if held++; !r.isConnected(old.node) {
				idle = i
			}
		}
	}
	added := slices.Clone(r.delegations)
	if held >= maxSentries {
		if idle < 0 {
			return
		}
		added = slices.Delete(added, idle, idle+1) // in its place: a validator may change its sentries
	}
	r.delegations = append(added, delegation{epoch: d.Epoch, signer: d.Signer, node: from})
	r.place()
}

// holds reports whether a delegation is known already.
func holds(held []delegation, mandates []consensus.Delegation, d consensus.Delegation) bool {
	return slices.Contains(held, delegation{epoch: d.Epoch, signer: d.Signer, node: d.NodeKey}) ||
		slices.ContainsFunc(mandates, func(m consensus.Delegation) bool {
			return m.Epoch == d.Epoch && m.Signer == d.Signer && m.NodeKey == d.NodeKey
		})
}

// vouch verifies a vote that came over a sentry, or that this sentry passes on, and
// passes it on. It reports whether the vote is verified, and whether it is to be
// taken here.
func (r *Replica) vouch(ev Received, in *reign, v consensus.Vote, how carriage) (verified, take bool) {
	read := len(ev.Blocks) == 1
	to := r.bound(ev.From, in, v, read)
	if how == byOwner && len(to) == 0 {
		return false, true
	}
	if how == bySentry && len(to) == 0 && !read {
		early := in.Committee.Epoch() > r.epoch
		if early && (r.early.has(v) || r.early.full(in, v, r.cfg.MaxEarly)) || !early && !r.core.Needs(v, r.now) {
			return false, false // another sentry's copy, or one that would not be kept
		}
	}
	if err := consensus.VerifyVote(v, in.Committee, r.cfg.ChainID); err != nil {
		r.blame(ev.From, err.Error())
		return false, false
	}
	if len(to) == 0 {
		return true, true
	}
	r.pass(v, read)
	if read {
		r.emit(Relay{To: to, Message: ev.Message})
	} else {
		r.emit(Relay{To: to, Message: v})
	}
	return true, true
}

// bound returns whom a vote, or the offer that was read with it, is passed on to: a
// ward's to the committee, another's to the wards.
func (r *Replica) bound(from crypto.PublicKey, in *reign, v consensus.Vote, read bool) []crypto.PublicKey {
	signer, _ := v.By()
	if len(r.cfg.Wards) == 0 || int(signer) >= len(in.NodeKeys) || r.wasPassed(v, read) {
		return nil
	}
	owner := in.NodeKeys[signer]
	var to []crypto.PublicKey
	if slices.Contains(r.cfg.Wards, owner) {
		if from == owner { // another sentry's copy goes its own way
			to = r.outward(in, signer)
		}
		return to
	}
	for _, k := range r.cfg.Wards {
		if k != from && r.isConnected(k) {
			to = append(to, k)
		}
	}
	return to
}

// outward returns the connected nodes that a ward's votes are for: the committee's
// and its sentries.
func (r *Replica) outward(in *reign, ward consensus.Signer) []crypto.PublicKey {
	var to []crypto.PublicKey
	for signer, k := range in.NodeKeys {
		if consensus.Signer(signer) != ward && r.isConnected(k) {
			to = append(to, k)
		}
	}
	for _, d := range r.delegations {
		if d.epoch == in.Committee.Epoch() && d.signer != ward && r.isConnected(d.node) && !slices.Contains(to, d.node) {
			to = append(to, d.node)
		}
	}
	return to
}

// wasPassed reports whether a vote was passed on of late, or is of no view that is.
func (r *Replica) wasPassed(v consensus.Vote, read bool) bool {
	round := v.Statement().Round()
	highest := consensus.View(offerWindow)
	if round.Epoch == r.epoch {
		highest += r.core.View()
	}
	if round.View > highest || round.View+relayWindow <= highest {
		return true
	}
	last := r.passedAt(v, read)
	return last != nil && last.round == round && r.now < last.at+r.cfg.Timing.Retry/2
}

// pass remembers that a vote is passed on.
func (r *Replica) pass(v consensus.Vote, read bool) {
	round := v.Statement().Round()
	table := &r.sentry.passed[round.Epoch%2]
	signer, _ := v.By()
	for len(*table) <= int(signer) {
		*table = append(*table, passedVotes{})
	}
	*r.passedAt(v, read) = struct {
		round consensus.Round
		at    consensus.Micros
	}{round, r.now}
}

// passedAt returns where it is remembered, nil if nothing of the signer is.
func (r *Replica) passedAt(v consensus.Vote, read bool) *struct {
	round consensus.Round
	at    consensus.Micros
} {
	s := v.Statement()
	signer, _ := v.By()
	table := r.sentry.passed[s.Round().Epoch%2]
	if int(signer) >= len(table) {
		return nil
	}
	kind := s.Kind
	if read {
		kind = 0
	}
	return &table[signer][kind][s.View()%relayWindow]
}

// door returns the connection behind which a validator is to be found: its own, or
// that of a sentry of its.
func (r *Replica) door(in *reign, signer consensus.Signer) crypto.PublicKey {
	own := in.NodeKeys[signer]
	if r.isConnected(own) {
		return own
	}
	for _, d := range r.delegations {
		if d.epoch == in.Committee.Epoch() && d.signer == signer && r.isConnected(d.node) {
			return d.node
		}
	}
	return own
}

// seek asks the committee, one member after the other, for a certificate that a ward
// lacks and this node too. The answer is broadcast, as every new certificate is.
func (r *Replica) seek(ward crypto.PublicKey, m consensus.CertificateRequest) {
	in := r.reigns.of(r.epoch)
	signer, member := in.signers[ward]
	if !member || m.Round.Epoch != r.epoch || !slices.Contains(r.cfg.Wards, ward) {
		return
	}
	s := &r.sentry
	if r.now >= s.soughtAt+r.cfg.Timing.Fetch {
		s.sought, s.soughtAt = 0, r.now
	}
	to := r.outward(in, signer)
	if len(to) == 0 || s.sought >= maxSought {
		return
	}
	s.sought++
	s.turn++
	r.emit(Send{To: to[s.turn%len(to)], Message: m})
}
