package settlement

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// Conviction says of a cluster that broke its word while claims locked its bond that what they
// lock is owed: it is taken when it becomes free, and never the cluster's again. Its breach is
// open as long.
type Conviction struct {
	_        struct{}      `cbor:",toarray"`
	Reporter chain.Address // who showed it, and gets a part of what is taken
}

// forfeit takes an amount that left the bond of a convicted cluster, which the caller saves:
// as what was free when it was convicted.
func (c *Cluster) forfeit(kv state.KV, env *Env, key crypto.PublicKey, subject crypto.Digest, lost chain.Amount) chain.Event {
	breach, open := BreachOf(kv, key)
	if !open || !c.Free().IsZero() {
		panic("settlement: a convicted cluster without a breach, or with a bond that is free")
	}
	held, reward, burned := breach.hold(kv, env, lost)
	reporter := c.Convicted.Reporter
	tokens.Credit(kv, reporter, reward)
	if c.Locked.IsZero() {
		c.Convicted = nil
	}
	breach.next(kv, env, key)
	state.Save(kv, BreachKey(key), breach)
	return chain.BondForfeited{
		Cluster: key, Subject: subject, Reporter: reporter, Amount: lost, Held: held, Reward: reward, Burned: burned, Locked: c.Locked,
	}
}

// mark is what is known of evidence for a while: that it was reported, or that a consumer's
// acceptances count as broken.
type mark struct {
	_       struct{} `cbor:",toarray"`
	Cluster crypto.PublicKey
	Breach  uint64 // in which they count: when it is due; zero: it is of evidence
}

func markKey(id crypto.Digest) []byte { return keyOf(kindMark, id[:]) }

// markEndKey returns the key of a mark's place in the queue of their ends. It is not that of
// deadlines: a report leaves marks for the price of gas, and those whose panels and claims wait for
// a deadline must not wait behind them.
func markEndKey(at uint64, id crypto.Digest) []byte { return keyOf(kindMarkEnd, big(at), id[:]) }

// evidenceMark names the mark of a sequence of a consumer's at a cluster that was reported.
func evidenceMark(cluster crypto.PublicKey, consumer chain.Address, sequence uint64) crypto.Digest {
	return crypto.DomainEvidence.Hash(append(append(cluster[:], consumer[:]...), big(sequence)...))
}

// betrayedMark names the mark of a consumer whose acceptances by a cluster count as broken.
func betrayedMark(cluster crypto.PublicKey, consumer chain.Address) crypto.Digest {
	return crypto.DomainEvidence.Hash(append(cluster[:], consumer[:]...))
}

func markOf(r state.Reader, id crypto.Digest) (mark, bool) { return state.Load[mark](r, markKey(id)) }

// betrayed reports whether the acceptances of a consumer count as broken in a breach.
func betrayed(r state.Reader, b *Breach, cluster crypto.PublicKey, consumer chain.Address) bool {
	m, ok := markOf(r, betrayedMark(cluster, consumer))
	return ok && m.Breach == b.Due
}

// set leaves a mark for so long.
func (m mark) set(kv state.KV, env *Env, id crypto.Digest, forMs uint64) {
	at, ok := checked.Add(env.ProgressMs, forMs)
	if !ok {
		panic("settlement: a mark beyond time")
	}
	state.Save(kv, markKey(id), m)
	kv.Set(markEndKey(at, id), []byte{})
}

// ExpireMarks forgets marks that say nothing any more, the oldest first and at most limit of them;
// the rest waits for the next block. It returns how many there were.
func ExpireMarks(kv state.KV, env *Env, limit int) int {
	q := markEnds(env)
	keys, beyond := q.due(kv, limit)
	for _, key := range keys {
		kv.Delete(key)
		markDue(kv, env, crypto.Digest(key[len(key)-crypto.DigestSize:]))
	}
	q.leave(kv, beyond)
	return len(keys)
}

// markDue deletes a mark that says nothing any more: the chain's progress is never faster than
// time, so that evidence is over before its mark is. That of a consumer stays as long as its
// breach.
func markDue(kv state.KV, env *Env, id crypto.Digest) {
	m, ok := markOf(kv, id)
	if !ok {
		return // it was set anew, and went with another end
	}
	if breach, open := BreachOf(kv, m.Cluster); m.Breach != 0 && open && breach.Due == m.Breach {
		m.set(kv, env, id, env.Params.WithdrawalDelayMs)
		return
	}
	kv.Delete(markKey(id))
}
