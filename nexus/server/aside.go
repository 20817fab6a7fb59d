package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// A command on which the state machine panics would stop every server, and each
// of them again whenever it reads its log. It is put aside instead: the state
// before its entry is built again from the newest snapshot and the log, and the
// entry is carried out without it. The state machine is a function of the log, so
// that every server puts the same commands aside; a panic that does not come back
// on the state built again was this machine's own, and changes nothing. What was
// put aside is written to a file before the next entry is carried out, since a
// later program may not panic any more and must skip it all the same. Servers
// compare what they put aside: one whose list is another than the leader's may
// have another state, and stops.

const (
	asideFile = "aside" // in raft's directory: it is about that log
	asidePath = "/aside"
	// maxAside bounds what is put aside between two snapshots: of more, not a
	// command is wrong but the program, and the server stops.
	maxAside      = 64
	maxAsideBytes = maxAside * 2 * maxReason
	compareEvery  = 2 * time.Second
	// asideAgain is for how long the leader does not carry a command to the log
	// again that was put aside.
	asideAgain = time.Minute
)

// aside is a command that was put aside.
type aside struct {
	_       struct{} `cbor:",toarray"`
	Index   uint64   // of its entry
	Term    uint64   // of that
	Command uint64   // which of the entry's
	Why     string   // what the state machine said
}

// asides is what a server put aside, the oldest first.
type asides struct {
	_    struct{} `cbor:",toarray"`
	List []aside
}

func (a *asides) has(index, term uint64, command int) bool {
	return slices.ContainsFunc(a.List, func(x aside) bool { return x.Index == index && x.Term == term && x.Command == uint64(command) })
}

func (a *asides) hasAny(index, term uint64) bool {
	return slices.ContainsFunc(a.List, func(x aside) bool { return x.Index == index && x.Term == term })
}

// readAsides reads the file of a raft directory; there need be none.
func readAsides(dir string) (out asides, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, asideFile))
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err == nil {
		err = codec.Unmarshal(raw, &out, maxAsideBytes)
	}
	if err != nil {
		return out, fmt.Errorf("server: reading which commands were put aside: %w", err)
	}
	return out, nil
}

// write puts the list in the file's place, durably.
func (a *asides) write(dir string) error {
	return writeDurably(filepath.Join(dir, asideFile), codec.Marshal(*a))
}

// panicked is what the state machine said when it broke off.
type panicked struct {
	value string
	stack []byte
}

// attempt carries commands out, or says that the state machine panicked: then the
// state is of no use any more. The caller holds r.mu.
func (r *replica) attempt(e scheduler.Entry) (effects []scheduler.Effect, errs []error, broke *panicked) {
	defer func() {
		if v := recover(); v != nil {
			broke = &panicked{value: short(fmt.Sprint(v)), stack: debug.Stack()}
		}
	}()
	effects, errs = r.machine(r.state, e)
	return effects, errs, nil
}

// carryOut carries out an entry, without what of it is put aside. The caller
// holds r.mu.
func (r *replica) carryOut(l *raft.Log, e scheduler.Entry) (effects []scheduler.Effect, errs []error) {
	if !r.aside.hasAny(l.Index, l.Term) {
		effects, errs, broke := r.attempt(e)
		if broke == nil {
			return effects, errs
		}
		r.log.Error("server: the state machine panicked, its state is built again", "index", l.Index, "panic", broke.value, "stack", string(broke.stack))
		r.rebuild(l.Index)
	}
	for {
		var at int
		var broke *panicked
		effects, errs, at, broke = r.oneByOne(l, e)
		if broke == nil {
			r.news.tellAll(l.Index)
			return effects, errs
		}
		r.putAside(aside{Index: l.Index, Term: l.Term, Command: uint64(at), Why: broke.value}, e.Commands[at], broke.stack)
		r.rebuild(l.Index)
	}
}

// oneByOne carries out the commands of an entry that are not put aside, each by
// itself: the state comes to be the same.
func (r *replica) oneByOne(l *raft.Log, e scheduler.Entry) (effects []scheduler.Effect, errs []error, at int, broke *panicked) {
	errs = make([]error, len(e.Commands))
	for i, c := range e.Commands {
		if r.aside.has(l.Index, l.Term, i) {
			r.suspects.add(c)
			errs[i] = &scheduler.Rejection{Rule: "aside", Text: fmt.Sprintf("the state machine could not carry the command out: it was put aside, as number %d of entry %d", i, l.Index)}
			continue
		}
		caused, own, broke := r.attempt(scheduler.Entry{TimeMs: e.TimeMs, Commands: []scheduler.Command{c}})
		if broke != nil {
			return nil, nil, i, broke
		}
		effects = append(effects, caused...)
		errs[i] = own[0]
	}
	return effects, errs, 0, nil
}

// putAside notes a command, durably. It panics if there are too many, or if they
// cannot be written: a server that does not remember them would come to another
// state than the rest.
func (r *replica) putAside(a aside, c scheduler.Command, stack []byte) {
	if len(r.aside.List) >= maxAside {
		if r.aside.List[0].Index > r.saved {
			panic(fmt.Sprintf("server: %d commands since the last snapshot could not be carried out, the next is number %d of entry %d: %s", maxAside, a.Command, a.Index, a.Why))
		}
		r.aside.List = slices.Delete(r.aside.List, 0, 1)
	}
	r.aside.List = append(r.aside.List, a)
	if err := r.aside.write(r.dir); err != nil {
		panic(fmt.Sprintf("server: command %d of entry %d cannot be carried out (%s) nor put aside: %v", a.Command, a.Index, a.Why, err))
	}
	r.log.Error("server: a command was put aside: report it, the program is wrong", "index", a.Index, "command", a.Command, "kind", fmt.Sprintf("%T", c),
		"panic", a.Why, "stack", string(stack))
}

// rebuild makes the state that was before an entry. It panics if the disk does
// not have what that takes: nothing right can be done then.
func (r *replica) rebuild(before uint64) {
	if err := r.replay(before); err != nil {
		panic(fmt.Sprintf("server: the state before entry %d cannot be built again: %v", before, err))
	}
}

func (r *replica) replay(before uint64) error {
	r.state = scheduler.New(r.config)
	first, err := r.entries.FirstIndex()
	if err != nil {
		return err
	}
	list, err := r.snapshots.List() // the newest first
	if err != nil {
		return err
	}
	for _, meta := range list {
		if meta.Index >= before {
			continue
		}
		_, from, err := r.snapshots.Open(meta.ID)
		if err != nil {
			return err
		}
		saved, err := readSaved(r.config, from)
		if err = errors.Join(err, from.Close()); err != nil {
			return err
		}
		r.state, first = saved.state, meta.Index+1
		break
	}
	for i := first; i < before; i++ {
		var l raft.Log
		if err := r.entries.GetLog(i, &l); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		if l.Type != raft.LogCommand {
			continue
		}
		e, err := scheduler.ReadEntry(l.Data)
		if err != nil {
			continue // as it was the first time
		}
		if _, _, at, broke := r.oneByOne(&l, e); broke != nil {
			return fmt.Errorf("command %d of entry %d was carried out once, and now: %s", at, i, broke.value)
		}
	}
	return nil
}

// saved is what a snapshot holds.
type saved struct {
	applied uint64
	aside   asides
	state   *scheduler.State
}

// save encodes the state, after the index of the newest entry in it and what was
// put aside.
func (r *replica) save() []byte {
	notes := codec.Marshal(r.aside)
	raw := binary.BigEndian.AppendUint64(nil, r.applied)
	raw = binary.BigEndian.AppendUint32(raw, uint32(len(notes)))
	return append(append(raw, notes...), r.state.Encode()...)
}

const savedHead = 12

func readSaved(config scheduler.Config, from io.Reader) (s saved, err error) {
	raw, err := io.ReadAll(io.LimitReader(from, maxSnapshotBytes+1))
	if err != nil {
		return s, fmt.Errorf("server: reading a snapshot: %w", err)
	}
	if len(raw) > maxSnapshotBytes {
		return s, fmt.Errorf("server: snapshot is larger than %d bytes", maxSnapshotBytes)
	}
	if len(raw) < savedHead {
		return s, fmt.Errorf("server: snapshot of %d bytes", len(raw))
	}
	notes := int(binary.BigEndian.Uint32(raw[8:]))
	s.applied = binary.BigEndian.Uint64(raw)
	if raw = raw[savedHead:]; notes > len(raw) {
		return s, fmt.Errorf("server: snapshot ends %d bytes early", notes-len(raw))
	}
	if err := codec.Unmarshal(raw[:notes], &s.aside, maxAsideBytes); err != nil {
		return s, fmt.Errorf("server: snapshot: what was put aside: %w", err)
	}
	s.state, err = scheduler.Restore(config, raw[notes:])
	return s, err
}

// suspects are commands that were put aside a short while ago: the leader does
// not carry them to the log again and again.
type suspects struct {
	seed maphash.Seed

	mu   sync.Mutex
	list map[uint64]time.Time
}

// of names a command; an order by its id, as the escrow beside it changes.
func (s *suspects) of(c scheduler.Command) uint64 {
	if submit, ok := c.(scheduler.Submit); ok {
		id := submit.Order.ID()
		return maphash.Bytes(s.seed, id[:])
	}
	return maphash.Bytes(s.seed, scheduler.EncodeCommand(c))
}

func (s *suspects) add(c scheduler.Command) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.list == nil || len(s.list) >= maxAside {
		s.list = map[uint64]time.Time{}
	}
	s.list[s.of(c)] = time.Now()
}

// check refuses a command that was put aside a short while ago.
func (s *suspects) check(c scheduler.Command) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) == 0 || time.Since(s.list[s.of(c)]) > asideAgain {
		return nil
	}
	return &scheduler.Rejection{Rule: "aside", Text: fmt.Sprintf("the state machine could not carry the command out: it is refused for %s", asideAgain)}
}

// compareAsides compares what this server put aside with what the leader did,
// until ctx ends or they differ.
func (s *Server) compareAsides(ctx context.Context) error {
	ticker := time.NewTicker(compareEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		leader := s.consensus.leader()
		if leader.IsZero() || leader == s.self {
			continue
		}
		within, cancel := context.WithTimeout(ctx, compareEvery)
		theirs, upTo, err := s.askAsides(within, peerURL(leader)+asidePath)
		cancel()
		if err != nil {
			s.log.Debug("what the leader put aside cannot be asked", "error", err)
			continue
		}
		mine, applied := s.replica.asides()
		if err := differ(&mine, &theirs, min(applied, upTo)); err != nil {
			return err
		}
	}
}

// differ says in which command, of those that both have carried out up to an
// index, two lists differ.
func differ(mine, theirs *asides, upTo uint64) error {
	from := uint64(0) // the oldest that both remember
	for _, a := range []*asides{mine, theirs} {
		if len(a.List) >= maxAside {
			from = max(from, a.List[0].Index)
		}
	}
	for _, pair := range [][2]*asides{{mine, theirs}, {theirs, mine}} {
		for _, a := range pair[0].List {
			if a.Index >= from && a.Index <= upTo && !pair[1].has(a.Index, a.Term, int(a.Command)) {
				return fmt.Errorf("command %d of entry %d was put aside by one of this server and the leader alone (%s): "+
					"their states may differ; begin this server anew (its raft directory removed) once the leader is known to be right", a.Command, a.Index, a.Why)
			}
		}
	}
	return nil
}

// askAsides asks another server what it put aside, and of which entries it says so.
func (s *Server) askAsides(ctx context.Context, url string) (out asides, upTo uint64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return out, 0, err
	}
	answer, err := s.peers.RoundTrip(req)
	if err != nil {
		return out, 0, err
	}
	raw, err := io.ReadAll(io.LimitReader(answer.Body, 8+maxAsideBytes+1))
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		return out, 0, err
	}
	if answer.StatusCode != http.StatusOK || len(raw) < 8 {
		return out, 0, fmt.Errorf("server %.8s answered %s", req.URL.Host, answer.Status)
	}
	return out, binary.BigEndian.Uint64(raw), codec.Unmarshal(raw[8:], &out, maxAsideBytes)
}

// tellAsides is what askAsides asks for.
func (s *Server) tellAsides(w http.ResponseWriter, _ *http.Request) {
	mine, applied := s.replica.asides()
	if _, err := w.Write(bytes.Join([][]byte{binary.BigEndian.AppendUint64(nil, applied), codec.Marshal(mine)}, nil)); err != nil {
		s.log.Info("answering what was put aside", "error", err)
	}
}

// asides returns what was put aside, and up to which entry.
func (r *replica) asides() (asides, uint64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return asides{List: slices.Clone(r.aside.List)}, r.applied
}
