package peers

import (
	"encoding/binary"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cosmos/iavl"
	iavldb "github.com/cosmos/iavl/db"
)

// The workload of BenchmarkTreeUpdate in internal/store: a million keys of 32 bytes
// with values of 100, of which each version changes 2,000 at random, synced.
const (
	treeKeys    = 1_000_000
	treeUpdates = 2_000
	valueBytes  = 100
	fillBatch   = 10_000
)

// updates draws keys and values as the benchmark of the main module does: keys are
// spread evenly, values are random.
type updates struct {
	random *rand.ChaCha8
	number *rand.Rand
}

func newUpdates() updates {
	source := rand.NewChaCha8([32]byte{1})
	return updates{random: source, number: rand.New(source)}
}

// key returns key number i.
func key(i uint64) []byte {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], i)
	out := make([]byte, 32)
	if _, err := rand.NewChaCha8(seed).Read(out); err != nil {
		panic(err) // it never fails
	}
	return out
}

func (u updates) value() []byte {
	out := make([]byte, valueBytes)
	if _, err := u.random.Read(out); err != nil {
		panic(err) // it never fails
	}
	return out
}

// measure reports updates a second and the processor time of one, of b.N versions.
func measure(b *testing.B, version func()) {
	b.Helper()
	began, before := time.Now(), processorTime(b)
	n := 0
	for b.Loop() {
		version()
		n += treeUpdates
	}
	b.ReportMetric(float64(n)/time.Since(began).Seconds(), "updates/s")
	b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(n), "core-µs/update")
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkIAVLUpdate measures IAVL on goleveldb, its own default backend, with
// synced versions and the cache of a default node (10,000 nodes).
func BenchmarkIAVLUpdate(b *testing.B) {
	db, err := iavldb.NewGoLevelDB("tree", b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	tree := iavl.NewMutableTree(db, 10_000, true, iavl.NewNopLogger(), iavl.SyncOption(true))
	draw := newUpdates()
	set := func(i uint64) {
		if _, err := tree.Set(key(i), draw.value()); err != nil {
			b.Fatal(err)
		}
	}
	save := func() {
		if _, _, err := tree.SaveVersion(); err != nil {
			b.Fatal(err)
		}
	}
	for i := range uint64(treeKeys) {
		set(i)
		if (i+1)%fillBatch == 0 {
			save()
		}
	}
	measure(b, func() {
		for range treeUpdates {
			set(draw.number.Uint64N(treeKeys))
		}
		save()
	})
}

// BenchmarkPebbleBatch measures the least that any state on Pebble does: the same
// updates in one synced batch, with neither tree nor hash.
func BenchmarkPebbleBatch(b *testing.B) {
	db, err := pebble.Open(b.TempDir(), &pebble.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	draw := newUpdates()
	batch := db.NewBatch()
	set := func(i uint64) {
		if err := batch.Set(key(i), draw.value(), nil); err != nil {
			b.Fatal(err)
		}
	}
	commit := func() {
		if err := batch.Commit(pebble.Sync); err != nil {
			b.Fatal(err)
		}
		batch = db.NewBatch()
	}
	for i := range uint64(treeKeys) {
		set(i)
		if (i+1)%fillBatch == 0 {
			commit()
		}
	}
	measure(b, func() {
		for range treeUpdates {
			set(draw.number.Uint64N(treeKeys))
		}
		commit()
	})
}
