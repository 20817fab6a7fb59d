package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// An agent is told by the servers that it is connected to which servers there
// are, and keeps that on disk: it survives the removal of all those that its
// configuration names. These it goes on asking all the same, at the addresses
// that the configuration has, so that nothing it was told can keep it from them.

const rosterFile = "servers.json"

// maxRosterFile bounds what is read back.
const maxRosterFile = 32 << 10

// links is the servers that the agent has sessions with, or tries to.
type links struct {
	configured []transport.NodeAddr
	path       string // of the file
	changed    chan struct{}
	telling    sync.Mutex // held while what a server said is taken and written: the file has the newest

	mu    sync.Mutex
	index uint64  // of what the agent was told; 0: nothing
	list  []*link // those of the configuration first
}

// savedRoster is the file. Another configuration begins anew.
type savedRoster struct {
	Configured []string `json:"configured"`
	Index      uint64   `json:"index"`
	Servers    []string `json:"servers"`
}

func newLinks(home string, configured []transport.NodeAddr) *links {
	l := &links{configured: configured, path: filepath.Join(home, rosterFile), changed: make(chan struct{}, 1)}
	for _, addr := range configured {
		l.list = append(l.list, &link{addr: addr, member: true})
	}
	return l
}

func texts(list []transport.NodeAddr) []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = list[i].String()
	}
	return out
}

// load takes what the file says, if it is about this configuration.
func (l *links) load() error {
	info, err := os.Stat(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && info.Size() > maxRosterFile {
		err = fmt.Errorf("it has %d bytes, limit %d", info.Size(), maxRosterFile)
	}
	var raw []byte
	if err == nil {
		raw, err = os.ReadFile(l.path)
	}
	var saved savedRoster
	if err == nil {
		err = json.Unmarshal(raw, &saved)
	}
	if err != nil {
		return fmt.Errorf("agent: %s: %w", l.path, err)
	}
	if !slices.Equal(saved.Configured, texts(l.configured)) {
		return nil
	}
	if n := len(saved.Servers); n == 0 || n > job.MaxServers {
		return fmt.Errorf("agent: %s: it has %d servers, want 1 to %d", l.path, n, job.MaxServers)
	}
	_, err = l.set(saved.Index, saved.Servers)
	return err
}

// set takes what a server said, unless as much was known, and reports whether
// there was anything new.
func (l *links) set(index uint64, servers []string) (bool, error) {
	members := map[crypto.PublicKey]transport.NodeAddr{}
	var order []transport.NodeAddr
	for _, text := range servers {
		addr, err := transport.ParseNodeAddr(text)
		if err != nil {
			return false, err
		}
		if _, twice := members[addr.ID]; twice {
			return false, fmt.Errorf("server %s is there twice", addr.ID.Short())
		}
		members[addr.ID] = addr
		order = append(order, addr)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if index <= l.index {
		return false, nil
	}
	known := map[crypto.PublicKey]*link{}
	for _, k := range l.list {
		known[k.addr.ID] = k
	}
	l.index = index
	l.list = nil
	for _, addr := range append(slices.Clone(l.configured), order...) {
		_, member := members[addr.ID]
		if slices.ContainsFunc(l.list, func(k *link) bool { return k.addr.ID == addr.ID }) {
			continue // at the address of the configuration
		}
		k := known[addr.ID]
		if k == nil || k.addr != addr {
			k = &link{addr: addr}
		}
		k.member = member
		l.list = append(l.list, k)
	}
	select {
	case l.changed <- struct{}{}:
	default:
	}
	return true, nil
}

// save writes what is known to the file.
func (l *links) save(index uint64, servers []string) error {
	raw, err := json.MarshalIndent(savedRoster{Configured: texts(l.configured), Index: index, Servers: servers}, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(l.path, append(raw, '\n'))
}

// all returns the links, those of the configuration first.
func (l *links) all() []*link {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.list // set puts another in its place
}

// members returns how many servers the cluster has, as far as is known, and with
// how many of them there is a session.
func (l *links) members() (connected, all int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.list {
		if k.member {
			all++
			if k.connected.Load() {
				connected++
			}
		}
	}
	return connected, all
}

// rostered takes what a server says of the cluster's servers.
func (a *Agent) rostered(m job.Roster) error {
	a.links.telling.Lock()
	defer a.links.telling.Unlock()
	news, err := a.links.set(m.Index, m.Servers)
	if err != nil || !news {
		return err
	}
	a.log.Info("agent: the cluster's servers", "index", m.Index, "servers", m.Servers)
	if err := a.links.save(m.Index, m.Servers); err != nil {
		a.log.Error("agent: which servers there are cannot be kept", "error", err)
	}
	return nil
}

// keepLinks has a session with every server, as these come and go, until ctx ends.
func (a *Agent) keepLinks(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	kept := map[*link]context.CancelFunc{}
	defer func() {
		for _, cancel := range kept {
			cancel()
		}
	}()
	for {
		list := a.links.all()
		for k, cancel := range kept {
			if !slices.Contains(list, k) {
				cancel()
				delete(kept, k)
			}
		}
		for _, k := range list {
			if kept[k] == nil {
				within, cancel := context.WithCancel(ctx)
				kept[k] = cancel
				wg.Go(func() { a.keep(within, k) })
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-a.links.changed:
		}
	}
}
