package main

import (
	"encoding/binary"
	"fmt"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/sim"
)

const chainID = "simulation"

var genesis = crypto.DomainGenesis.Hash([]byte(chainID))

// keyVersions is how many consensus keys a node has to rotate through.
const keyVersions = 3

// cast is whoever may take part in the simulations of a command. All
// simulations share it.
type cast struct {
	validators int // the first so many begin as validators; the others may join
	people     []person
	byNode     map[crypto.PublicKey]int // looked up only
	byKey      map[crypto.PublicKey]int // by consensus key; looked up only
}

// person is one operator: who is honest or not, and never two at a time.
type person struct {
	node crypto.PublicKey
	keys []crypto.PrivateKey
}

func newCast(validators, spares int) *cast {
	c := &cast{validators: validators, byNode: map[crypto.PublicKey]int{}, byKey: map[crypto.PublicKey]int{}}
	for i := range validators + spares {
		p := person{node: simulatedKey(i, 0).Public()}
		c.byNode[p.node] = i
		for version := range keyVersions {
			key := simulatedKey(i, 1+version)
			p.keys = append(p.keys, key)
			c.byKey[key.Public()] = i
		}
		c.people = append(c.people, p)
	}
	return c
}

func simulatedKey(who, what int) crypto.PrivateKey {
	var seed [crypto.SeedSize]byte
	binary.BigEndian.PutUint32(seed[:], uint32(who+1))
	binary.BigEndian.PutUint32(seed[4:], uint32(what))
	return crypto.PrivateKeyFromSeed(seed)
}

// member is a validator of one epoch.
type member struct {
	who     int // of the cast
	version int // of its consensus key
	weight  uint64
	leading uint64
}

// reign is the committee of an epoch and who is behind it. It is immutable.
type reign struct {
	committee *consensus.Committee
	members   []member // by signer
	nodeKeys  []crypto.PublicKey
}

func (c *cast) reign(epoch consensus.Epoch, members []member) *reign {
	r := &reign{members: members}
	var validators []consensus.Validator
	for _, m := range members {
		p := c.people[m.who]
		validators = append(validators, consensus.Validator{Key: p.keys[m.version].Public(), Weight: m.weight, LeaderWeight: m.leading})
		r.nodeKeys = append(r.nodeKeys, p.node)
	}
	committee, err := consensus.NewCommittee(epoch, validators)
	if err != nil {
		panic(fmt.Sprintf("hypersim: a committee that cannot be: %v", err))
	}
	r.committee = committee
	return r
}

// signer returns the index of the person in the committee.
func (r *reign) signer(who int) (consensus.Signer, bool) {
	for i, m := range r.members {
		if m.who == who {
			return consensus.Signer(i), true
		}
	}
	return 0, false
}

// weights returns the weight of those for whom pick holds, and of all.
func (r *reign) weights(pick func(who int) bool) (picked, total uint64) {
	for _, m := range r.members {
		total += m.weight
		if pick(m.who) {
			picked += m.weight
		}
	}
	return picked, total
}

// realm is the law of succession: who reigns when. It is the same for all
// nodes, because the application of every node asks it.
type realm struct {
	cast    *cast
	traitor []bool // by person
	shuffle bool   // committees change
	length  uint64 // blocks of an epoch; 0: the first lasts for ever
	muted   []bool // by person: lost its log and cannot vote before an epoch begins
	first   [2]*reign
	all     []*reign
	after   map[crypto.Digest]*reign // of the epoch after the next, by the closing block; looked up only
}

func newRealm(c *cast, rand *sim.Rand, p plan, traitor []bool) *realm {
	r := &realm{cast: c, traitor: traitor, muted: make([]bool, len(c.people)), after: map[crypto.Digest]*reign{}}
	var members []member
	for i := range c.validators {
		members = append(members, member{who: i, weight: 1, leading: 1})
	}
	if p.faults&(faultEpoch|faultLostLog) != 0 {
		r.length = uint64(2 + rand.Below(12))
	}
	if p.faults&faultEpoch != 0 {
		r.shuffle = true
		if rand.Below(2) == 0 {
			members = r.weigh(rand, members)
		}
	}
	r.first = [2]*reign{c.reign(1, members), c.reign(2, members)}
	r.all = r.first[:]
	return r
}

// succession returns who reigns two epochs after the reign before the last,
// when the epoch is closed by the block of the digest.
func (r *realm) succession(last *reign, closing crypto.Digest) *reign {
	if next := r.after[closing]; next != nil {
		return next
	}
	rand := sim.NewRand(binary.BigEndian.Uint64(closing[:]))
	members := append([]member(nil), last.members...)
	if r.shuffle {
		members = r.change(rand, members)
	}
	next := r.cast.reign(last.committee.Epoch()+1, members)
	r.after[closing], r.all = next, append(r.all, next)
	return next
}

// change has validators leave, join, rotate their keys and gain or lose weight.
func (r *realm) change(rand *sim.Rand, members []member) []member {
	before := append([]member(nil), members...)
	if len(members) > max(4, r.cast.validators-1) && rand.Below(2) == 0 {
		i := rand.Below(len(members))
		members = append(members[:i], members[i+1:]...)
	}
	if who := rand.Below(len(r.cast.people)); rand.Below(2) == 0 {
		in := false
		for _, m := range members {
			in = in || m.who == who
		}
		if !in {
			members = append(members, member{who: who, weight: 1, leading: 1})
		}
	}
	if i := rand.Below(len(members)); rand.Below(2) == 0 {
		members[i].version = (members[i].version + 1) % keyVersions
	}
	if rand.Below(3) == 0 {
		members = r.weigh(rand, members)
	}
	if rand.Below(4) == 0 { // another order: other signers
		i, j := rand.Below(len(members)), rand.Below(len(members))
		members[i], members[j] = members[j], members[i]
	}
	if !r.sound(members) {
		return before
	}
	return members
}

// weigh draws weights, unless that would give the traitors too much.
func (r *realm) weigh(rand *sim.Rand, members []member) []member {
	drawn := append([]member(nil), members...)
	for i := range drawn {
		drawn[i].weight, drawn[i].leading = uint64(1+rand.Below(4)), uint64(1+rand.Below(3))
	}
	if r.sound(drawn) {
		return drawn
	}
	return members
}

// sound reports whether the traitors, and those who cannot vote, weigh less
// than a third.
func (r *realm) sound(members []member) bool {
	bad, total := (&reign{members: members}).weights(r.absent)
	return 3*bad < total
}

// absent reports whether nobody may count on the person.
func (r *realm) absent(who int) bool { return r.traitor[who] || r.muted[who] }
