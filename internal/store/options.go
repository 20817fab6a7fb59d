package store

import (
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"github.com/hypermesh/hypermesh/internal/state"
)

// Options of a Store. The zero value is the default.
type Options struct {
	// CacheBytes holds blocks of tables in memory: 1 MiB to 64 GiB, default
	// 64 MiB.
	CacheBytes int64
	// RecordBytes holds values of the flat state that were read, beside the blocks of
	// tables and outside of the Go heap: up to 64 GiB, default 64 MiB, a million
	// accounts; less than 1 MiB is none.
	RecordBytes int64
	// MemtableBytes is the size of one memtable, of which there are up to three
	// at a time: 1 MiB to 1 GiB, default 16 MiB.
	MemtableBytes int64
	// TreeInterval is how often, in blocks, the state and its tree are written: 1
	// to 1024, default 256. The changes of the blocks in between are written
	// instead, from which a start makes both again; that saves most of the writes,
	// for most nodes are superseded soon. The versions in between can later not be
	// opened; 1 keeps every version.
	TreeInterval int
	// PendingBytes is how much memory the changes that wait may take before the
	// state and the tree are written, though the interval is not over: 1 MiB to 1
	// GiB, default 32 MiB, or a quarter of what the tree's nodes take if that is
	// more, up to 128 MiB. While they are written, up to twice as much may come.
	PendingBytes int64
	// TreeBytes is how much memory the nodes of the state tree may take that are on
	// disk as well: 1 MiB to 64 GiB, default 128 MiB, those of about a million
	// keys. Updates of keys beyond that read from the disk.
	TreeBytes int64
	// NodeMemory, if it is set, is told how many bytes the nodes of all trees take, outside
	// of the Go heap, after each flush: TreeBytes, or less if there are not so many, what
	// was made since the last flush, and some room.
	NodeMemory func(bytes int)
	// PointBytes is how many bytes of blocks at least come between two heights at
	// which other nodes may begin: 1 KiB to 1 GiB, default 16 MiB. See Store.PointBytes.
	PointBytes int64
	// UnsafeNoSync leaves writing to the operating system: a power loss may take
	// the last blocks. For tests and throw-away networks.
	UnsafeNoSync bool
	// ReadOnly opens a database that is there and changes nothing on the disk:
	// what is written is refused.
	ReadOnly bool
	// Logger receives the database's messages; nil discards them.
	Logger *slog.Logger

	pendingGrows bool // PendingBytes is the default

	// tune changes what the database is opened with: BenchmarkSettings compares.
	tune func(*pebble.Options)
}

const (
	minBytes             = 1 << 20
	maxCacheBytes        = 64 << 30
	maxMemtableBytes     = 1 << 30
	defaultCacheBytes    = 64 << 20
	defaultRecordBytes   = 64 << 20
	defaultMemtableBytes = 16 << 20
	defaultPendingBytes  = 32 << 20
	mostPendingBytes     = 128 << 20 // by default
	pendingPart          = 4         // of the nodes, by default
	minPointBytes        = 1 << 10
	defaultPointBytes    = 16 << 20
	maxTreeInterval      = 1024
	defaultTreeInterval  = 256

	memtables       = 3
	bloomBitsPerKey = 10
	tableBlockBytes = 8 << 10
	openFiles       = 512
	// baseLevelBytes is how large the first level below level 0 may grow. The flat
	// state stays in it, so that a flush is merged once and not twice.
	baseLevelBytes = 512 << 20
)

// withDefaults returns the options with zero values replaced, or an error that
// names the field and its limits.
func (o Options) withDefaults() (Options, error) {
	if o.CacheBytes == 0 {
		o.CacheBytes = defaultCacheBytes
	}
	if o.RecordBytes == 0 {
		o.RecordBytes = defaultRecordBytes
	}
	if o.MemtableBytes == 0 {
		o.MemtableBytes = defaultMemtableBytes
	}
	if o.TreeInterval == 0 {
		o.TreeInterval = defaultTreeInterval
	}
	if o.TreeBytes == 0 {
		o.TreeBytes = state.DefaultResidentBytes
	}
	if o.PendingBytes == 0 {
		o.PendingBytes, o.pendingGrows = defaultPendingBytes, true
	}
	if o.PointBytes == 0 {
		o.PointBytes = defaultPointBytes
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.CacheBytes < minBytes || o.CacheBytes > maxCacheBytes {
		return o, fmt.Errorf("store: CacheBytes is %d, want %d to %d", o.CacheBytes, minBytes, int64(maxCacheBytes))
	}
	if o.RecordBytes < 0 || o.RecordBytes > maxCacheBytes {
		return o, fmt.Errorf("store: RecordBytes is %d, want 0 to %d", o.RecordBytes, int64(maxCacheBytes))
	}
	if o.MemtableBytes < minBytes || o.MemtableBytes > maxMemtableBytes {
		return o, fmt.Errorf("store: MemtableBytes is %d, want %d to %d", o.MemtableBytes, minBytes, maxMemtableBytes)
	}
	if o.TreeBytes < minBytes || o.TreeBytes > maxCacheBytes {
		return o, fmt.Errorf("store: TreeBytes is %d, want %d to %d", o.TreeBytes, minBytes, int64(maxCacheBytes))
	}
	if o.PendingBytes < minBytes || o.PendingBytes > maxMemtableBytes {
		return o, fmt.Errorf("store: PendingBytes is %d, want %d to %d", o.PendingBytes, minBytes, maxMemtableBytes)
	}
	if o.PointBytes < minPointBytes || o.PointBytes > maxMemtableBytes {
		return o, fmt.Errorf("store: PointBytes is %d, want %d to %d", o.PointBytes, minPointBytes, maxMemtableBytes)
	}
	if o.TreeInterval < 1 || o.TreeInterval > maxTreeInterval {
		return o, fmt.Errorf("store: TreeInterval is %d, want 1 to %d", o.TreeInterval, maxTreeInterval)
	}
	return o, nil
}

// pebble returns Pebble's options. Keys are hashed or ascend, point reads are
// most of the reads, and much of the data is digests: bloom filters everywhere,
// the cheapest compression. What each setting buys is in docs/BENCHMARKS.md.
func (o Options) pebble(fs *failStop) *pebble.Options {
	p := &pebble.Options{
		FS:                          fs,
		CacheSize:                   o.CacheBytes,
		MemTableSize:                uint64(o.MemtableBytes),
		MemTableStopWritesThreshold: memtables,
		MaxOpenFiles:                openFiles,
		FormatMajorVersion:          pebble.FormatNewest,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
		LBaseMaxBytes:               baseLevelBytes,
		Logger:                      logger{o.Logger, fs},
		ReadOnly:                    o.ReadOnly,
	}
	p.EventListener = &pebble.EventListener{DataCorruption: func(info pebble.DataCorruptionInfo) { // the read is told as well
		if !o.ReadOnly {
			fs.note(fmt.Errorf("%w %s: %w", ErrDamaged, info.Path, info.Details))
		}
	}}
	p.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionFastest })
	for i := range p.Levels {
		p.Levels[i].FilterPolicy = bloom.FilterPolicy(bloomBitsPerKey)
		p.Levels[i].BlockSize = tableBlockBytes
	}
	if o.tune != nil {
		o.tune(p)
	}
	return p
}

func (o Options) sync() *pebble.WriteOptions {
	if o.UnsafeNoSync {
		return pebble.NoSync
	}
	return pebble.Sync
}

// logger hands Pebble's messages to slog. Pebble expects that Fatalf does not
// return: what it reports leaves the database in doubt, so nothing is written
// after it.
type logger struct {
	log *slog.Logger
	fs  *failStop
}

func (l logger) Infof(format string, args ...any)  { l.log.Debug(fmt.Sprintf(format, args...)) }
func (l logger) Errorf(format string, args ...any) { l.log.Error(fmt.Sprintf(format, args...)) }
func (l logger) Fatalf(format string, args ...any) {
	l.fs.stop(fmt.Errorf("store: the database gives up: "+format, args...))
}
