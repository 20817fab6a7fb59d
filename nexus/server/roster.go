package server

import (
	"slices"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// roster is which servers the cluster has: those of the configuration file until
// raft knows, and then those of raft's newest configuration. Where a server is
// reached the file says, and of one that the file does not name, what was said
// when it was added.
type roster struct {
	self crypto.PublicKey

	mu      sync.RWMutex
	file    map[crypto.PublicKey]transport.NodeAddr
	members []transport.NodeAddr // who vote, by id
	known   map[crypto.PublicKey]transport.NodeAddr
	index   uint64 // of raft's configuration; 0: it has none
}

func newRoster(self crypto.PublicKey, file []transport.NodeAddr) *roster {
	r := &roster{self: self, file: map[crypto.PublicKey]transport.NodeAddr{}, known: map[crypto.PublicKey]transport.NodeAddr{}, members: slices.Clone(file)}
	for _, m := range file {
		r.file[m.ID], r.known[m.ID] = m, m
	}
	slices.SortFunc(r.members, byID)
	return r
}

func byID(a, b transport.NodeAddr) int { return a.ID.Compare(b.ID) }

// set takes raft's configuration.
func (r *roster) set(index uint64, c raft.Configuration) error {
	if len(c.Servers) == 0 {
		return nil // a server that has not been added yet
	}
	known := map[crypto.PublicKey]transport.NodeAddr{}
	var members []transport.NodeAddr
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range c.Servers {
		addr, err := parseServer(s.Address)
		if err != nil {
			return err
		}
		if configured, ok := r.file[addr.ID]; ok {
			addr = configured
		}
		known[addr.ID] = addr
		if s.Suffrage == raft.Voter {
			members = append(members, addr)
		}
	}
	slices.SortFunc(members, byID)
	r.known, r.members, r.index = known, members, index
	return nil
}

// message is what agents are told: the members that vote and whose address is
// known, of raft's configuration. A server that was removed says nothing.
func (r *roster) message() (m job.Roster, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	mine := false
	for _, addr := range r.members {
		mine = mine || addr.ID == r.self
		if addr.Addr != "" && len(m.Servers) < job.MaxServers {
			m.Servers = append(m.Servers, addr.String())
		}
	}
	m.Index = r.index
	return m, mine && r.index > 0 && len(m.Servers) == len(r.members)
}

// voters returns the members that vote, and raft's index of them, to a server that is one.
func (r *roster) voters() (list []transport.NodeAddr, index uint64, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	mine := slices.ContainsFunc(r.members, func(m transport.NodeAddr) bool { return m.ID == r.self })
	return r.members, r.index, mine && r.index > 0
}

// learn makes an address known before raft has it.
func (r *roster) learn(addr transport.NodeAddr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.known[addr.ID]; !ok {
		r.known[addr.ID] = addr
	}
}

// list returns the members that vote, by id.
func (r *roster) list() []transport.NodeAddr {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.members
}

// addr returns where a server is reached.
func (r *roster) addr(id crypto.PublicKey) (transport.NodeAddr, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	addr, ok := r.known[id]
	return addr, ok
}

// at returns the index of raft's configuration.
func (r *roster) at() uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.index
}

// parseServer reads raft's address of a server: its id, or NODEID@HOST:PORT of
// one that was added later.
func parseServer(address raft.ServerAddress) (transport.NodeAddr, error) {
	if id, err := crypto.ParsePublicKey(string(address)); err == nil {
		return transport.NodeAddr{ID: id}, nil
	}
	return transport.ParseNodeAddr(string(address))
}
