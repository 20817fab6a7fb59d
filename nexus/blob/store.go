package blob

import (
	"cmp"
	"container/list"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// The rooms of a store's directory. A blob is two files, ID and ID.outline.
const (
	dirBlobs   = "blobs"   // complete
	dirPartial = "partial" // verified beginnings
	dirPins    = "pins"    // empty files named by id
	dirTemp    = "tmp"     // emptied by Open
	fileLock   = "lock"

	outlineSuffix = ".outline"
	maxPins       = 1 << 16
	// A store keeps at most a blob for every bytesPerBlob of its MaxBytes, and
	// fewBlobs at any size: small ones cost files and memory, not bytes.
	bytesPerBlob      = 16 << 10
	fewBlobs          = 1024
	defaultMaxServing = 64
	defaultStall      = 10 * time.Second
)

var (
	// ErrNotFound says that the store, or the peer asked, has no such blob.
	ErrNotFound = errors.New("blob: not found")
	// ErrFull says that a store cannot make room: what it holds is pinned or in
	// use.
	ErrFull = errors.New("blob: the store is full")
	// ErrInUse says that another process has the store open.
	ErrInUse = errors.New("blob: the store is in use by another process")
)

// Config says where a store is and how much it takes.
type Config struct {
	Dir string
	// MaxBytes bounds all files of the store together.
	MaxBytes int64
	// MaxBlobBytes bounds one blob, 0 to MaxBytes of this package.
	MaxBlobBytes int64
	// MaxServing bounds the transfers served at a time, half of them to one
	// peer; 0 is 64.
	MaxServing int
	// Stall is after how long an upload that brings nothing may be taken over by
	// another uploader's, or by a fetch; 0 is 10 s.
	Stall time.Duration
	Log   *slog.Logger
}

func (c Config) valid() error {
	switch {
	case c.Dir == "":
		return errors.New("blob: Config.Dir is missing")
	case c.MaxBytes <= 0:
		return fmt.Errorf("blob: Config.MaxBytes is %d", c.MaxBytes)
	case c.MaxBlobBytes <= 0 || c.MaxBlobBytes > MaxBytes:
		return fmt.Errorf("blob: Config.MaxBlobBytes is %d, want 1 to %d", c.MaxBlobBytes, int64(MaxBytes))
	case c.MaxServing < 0:
		return fmt.Errorf("blob: Config.MaxServing is %d", c.MaxServing)
	case c.Stall < 0:
		return fmt.Errorf("blob: Config.Stall is %s", c.Stall)
	case c.Log == nil:
		return errors.New("blob: Config.Log is missing")
	}
	return nil
}

// Store is a directory of blobs.
type Store struct {
	cfg  Config
	lock *os.File

	mu        sync.Mutex
	entries   map[crypto.Digest]*entry // complete blobs
	partials  map[crypto.Digest]*entry
	order     *list.List // of *entry, the one used longest ago first
	pins      map[crypto.Digest]bool
	pinned    atomic.Int64                    // bytes of the complete blobs that are pinned
	fetching  map[crypto.Digest]chan struct{} // closed when the fetch ends
	receiving map[crypto.Digest]*reception    // uploads that are under way
	served    map[crypto.PublicKey]int        // transfers being served, by peer
	serving   int                             // their sum
	bytes     int64                           // of all files, and of what is being written
	temps     uint64                          // names given to temporary files
}

// entry is a blob, or the beginning of one, on disk.
type entry struct {
	id      crypto.Digest
	length  int64 // of the blob when complete
	bytes   int64 // on disk
	partial bool
	users   int // readers and writers; it stays while there are any
	place   *list.Element
}

// Open opens the store at cfg.Dir, which it makes if there is none, removes
// what a crash left behind, and evicts what exceeds cfg.MaxBytes.
func Open(cfg Config) (*Store, error) {
	if err := cfg.valid(); err != nil {
		return nil, err
	}
	if cfg.MaxServing == 0 {
		cfg.MaxServing = defaultMaxServing
	}
	if cfg.Stall == 0 {
		cfg.Stall = defaultStall
	}
	s := &Store{
		cfg:     cfg,
		entries: map[crypto.Digest]*entry{}, partials: map[crypto.Digest]*entry{}, order: list.New(),
		pins: map[crypto.Digest]bool{}, fetching: map[crypto.Digest]chan struct{}{},
		served: map[crypto.PublicKey]int{}, receiving: map[crypto.Digest]*reception{},
	}
	if err := s.acquire(); err != nil {
		return nil, err
	}
	if err := s.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("blob: opening the store: %w", err), s.Close())
	}
	return s, nil
}

func (s *Store) makeDirs() error {
	if err := os.RemoveAll(s.path(dirTemp)); err != nil {
		return err
	}
	for _, dir := range []string{dirBlobs, dirPartial, dirPins, dirTemp} {
		if err := os.MkdirAll(s.path(dir), 0o700); err != nil {
			return err
		}
	}
	return nil
}

// acquire keeps other processes out until Close or the end of this one.
func (s *Store) acquire() error {
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("blob: opening the store: %w", err)
	}
	lock, err := os.OpenFile(s.path(fileLock), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("blob: opening the store: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return errors.Join(fmt.Errorf("%w: %s: %w", ErrInUse, s.cfg.Dir, err), lock.Close())
	}
	s.lock = lock
	return nil
}

// Close lets another process open the store. Nothing of it may be in use.
func (s *Store) Close() error { return s.lock.Close() }

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.cfg.Dir}, parts...)...)
}

// found is a blob met while loading.
type found struct {
	entry
	used time.Time
}

// load reads the directory into memory.
func (s *Store) load() error {
	if err := s.makeDirs(); err != nil {
		return err
	}
	pins, err := os.ReadDir(s.path(dirPins))
	if err != nil {
		return err
	}
	for _, file := range pins {
		id, err := crypto.ParseDigest(file.Name())
		if err != nil {
			return fmt.Errorf("a stranger among the pins: %w", err)
		}
		s.pins[id] = true
	}
	var all []found
	for _, dir := range []string{dirBlobs, dirPartial} {
		some, err := s.scan(dir)
		if err != nil {
			return err
		}
		all = append(all, some...)
	}
	slices.SortFunc(all, func(a, b found) int {
		return cmp.Or(a.used.Compare(b.used), a.id.Compare(b.id))
	})
	for i := range all {
		s.insert(&all[i].entry)
		s.bytes += all[i].bytes
	}
	s.thin()
	if !s.makeRoom(0) {
		return fmt.Errorf("%w: %d bytes are pinned, limit %d", ErrFull, s.bytes, s.cfg.MaxBytes)
	}
	return nil
}

// scan returns the blobs of a room and removes the files that belong to none.
func (s *Store) scan(dir string) ([]found, error) {
	files, err := os.ReadDir(s.path(dir))
	if err != nil {
		return nil, err
	}
	var out []found
	for _, file := range files {
		id, err := crypto.ParseDigest(strings.TrimSuffix(file.Name(), outlineSuffix))
		if err != nil {
			return nil, fmt.Errorf("a stranger in %s: %w", dir, err)
		}
		f, err := s.examine(dir, id)
		if err != nil {
			s.cfg.Log.Warn("blob: removing what is left of an unfinished write", "blob", id.Short(), "reason", err)
			if err := s.removeFiles(dir, id); err != nil {
				return nil, err
			}
			continue
		}
		if !strings.HasSuffix(file.Name(), outlineSuffix) {
			out = append(out, f)
		}
	}
	return out, nil
}

// examine checks that a blob's two files have the sizes that they must have.
func (s *Store) examine(dir string, id crypto.Digest) (out found, err error) {
	data, err := os.Stat(s.path(dir, id.String()))
	if err != nil {
		return found{}, err
	}
	file, err := os.Open(s.path(dir, id.String()+outlineSuffix))
	if err != nil {
		return found{}, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return found{}, err
	}
	var head [lengthBytes]byte
	if _, err := io.ReadFull(file, head[:]); err != nil {
		return found{}, err
	}
	length, err := decodeLength(head[:])
	if err != nil {
		return found{}, err
	}
	partial := dir == dirPartial
	if info.Size() != outlineBytes(length) || data.Size() > length || (data.Size() < length && !partial) {
		return found{}, fmt.Errorf("%d bytes of data and %d of outline for a blob of %d", data.Size(), info.Size(), length)
	}
	e := entry{id: id, length: length, bytes: data.Size() + info.Size(), partial: partial}
	return found{entry: e, used: data.ModTime()}, nil
}

func (s *Store) removeFiles(dir string, id crypto.Digest) error {
	var failures []error
	for _, name := range []string{id.String(), id.String() + outlineSuffix} {
		if err := os.Remove(s.path(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

// insert enters e as the one used last. The caller holds s.mu, or is Open.
func (s *Store) insert(e *entry) {
	e.place = s.order.PushBack(e)
	if e.partial {
		s.partials[e.id] = e
	} else {
		s.entries[e.id] = e
		s.countPinned(e.id, 1)
	}
}

// countPinned counts the bytes of a blob that is there and pinned: one time, or minus one. The caller holds s.mu, or is Open.
func (s *Store) countPinned(id crypto.Digest, times int64) {
	if e := s.entries[id]; e != nil && s.pins[id] {
		s.pinned.Add(times * e.bytes)
	}
}

// drop takes e out of the store and of the disk. The caller holds s.mu.
func (s *Store) drop(e *entry) {
	dir := dirBlobs
	if e.partial {
		dir = dirPartial
		delete(s.partials, e.id)
	} else {
		s.countPinned(e.id, -1)
		delete(s.entries, e.id)
	}
	s.order.Remove(e.place)
	s.bytes -= e.bytes
	if err := s.removeFiles(dir, e.id); err != nil {
		s.cfg.Log.Error("blob: removing a blob", "blob", e.id.Short(), "error", err)
	}
}

// makeRoom evicts the blobs used longest ago until so many bytes more fit. It
// reports whether they do. The caller holds s.mu.
func (s *Store) makeRoom(bytes int64) bool {
	for place := s.order.Front(); s.bytes+bytes > s.cfg.MaxBytes && place != nil; {
		e := place.Value.(*entry)
		place = place.Next()
		if e.users == 0 && (e.partial || !s.pins[e.id]) {
			s.drop(e)
		}
	}
	return s.bytes+bytes <= s.cfg.MaxBytes
}

// thin evicts the blobs used longest ago until there are no more than may be,
// the newest left out. The caller holds s.mu, or is Open.
func (s *Store) thin() {
	most := max(fewBlobs, int(s.cfg.MaxBytes/bytesPerBlob))
	for place := s.order.Front(); s.order.Len() > most && place != s.order.Back(); {
		e := place.Value.(*entry)
		place = place.Next()
		if e.users == 0 && (e.partial || !s.pins[e.id]) {
			s.drop(e)
		}
	}
}

// reserve sets so many bytes of the store aside for the caller.
func (s *Store) reserve(bytes int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.makeRoom(bytes) {
		return fmt.Errorf("%w: %d bytes more, %d in use, limit %d", ErrFull, bytes, s.bytes, s.cfg.MaxBytes)
	}
	s.bytes += bytes
	return nil
}

func (s *Store) release(bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes -= bytes
}

// Has reports whether the store has the whole blob.
func (s *Store) Has(id crypto.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entries[id] != nil
}

// Length returns a blob's size in bytes, or ErrNotFound.
func (s *Store) Length(id crypto.Digest) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[id]
	if !ok {
		return 0, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	return e.length, nil
}

// Usage returns how many blobs the store has and the bytes of all its files.
func (s *Store) Usage() (blobs int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.entries), s.bytes
}

// Pin keeps a blob, there already or still to come, from being evicted until
// Unpin, over restarts. Pinning twice is pinning once. A store holds 65,536
// pins.
func (s *Store) Pin(id crypto.Digest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pins[id] {
		return nil
	}
	if len(s.pins) >= maxPins {
		return fmt.Errorf("blob: pinning %s: there are %d pins, as many as there may be", id.Short(), maxPins)
	}
	file, err := os.OpenFile(s.path(dirPins, id.String()), os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		err = errors.Join(file.Close(), syncDir(s.path(dirPins)))
	}
	if err != nil {
		return fmt.Errorf("blob: pinning %s: %w", id.Short(), err)
	}
	s.pins[id] = true
	s.countPinned(id, 1)
	return nil
}

// Unpin lets a blob be evicted again; it is no error if it was not pinned.
func (s *Store) Unpin(id crypto.Digest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.pins[id] {
		return nil
	}
	if err := os.Remove(s.path(dirPins, id.String())); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("blob: unpinning %s: %w", id.Short(), err)
	}
	s.countPinned(id, -1)
	delete(s.pins, id)
	return nil
}

// PinnedBytes returns the bytes of the files of the pinned blobs that are there.
func (s *Store) PinnedBytes() int64 { return s.pinned.Load() }

// Pinned returns the pinned ids in ascending order.
func (s *Store) Pinned() []crypto.Digest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Keys(s.pins), crypto.Digest.Compare)
}

// syncDir makes the names in a directory durable.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
