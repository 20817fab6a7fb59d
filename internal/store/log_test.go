package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/store"
)

func record(format string, args ...any) []byte { return fmt.Appendf(nil, format, args...) }

func replay(t testing.TB, l *store.Log) []string {
	t.Helper()
	var out []string
	check(t, l.Replay(func(r []byte) error {
		out = append(out, string(r))
		return nil
	}))
	return out
}

func TestLogKeepsRecordsInOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l := must(store.OpenLogOn(vfs.Default, path))(t)
	var want []string
	for i := range 20 {
		var batch [][]byte
		for k := range i % 4 {
			batch = append(batch, record("record %d/%d", i, k))
		}
		if i == 7 {
			batch = append(batch, nil, bytes.Repeat([]byte("long"), 100_000))
		}
		check(t, l.Append(batch))
		for _, r := range batch {
			want = append(want, string(r))
		}
	}
	if got := replay(t, l); !slices.Equal(got, want) {
		t.Errorf("%d records, want %d", len(got), len(want))
	}
	check(t, l.Close())
	l = must(store.OpenLogOn(vfs.Default, path))(t)
	if got := replay(t, l); !slices.Equal(got, want) {
		t.Errorf("%d records after reopening, want %d", len(got), len(want))
	}
	before := l.Size()
	check(t, l.Rewrite([][]byte{record("kept"), bytes.Repeat([]byte("x"), 3<<20), record("last")}))
	check(t, l.Append([][]byte{record("after")}))
	if l.Size() <= before {
		t.Errorf("size is %d after %d", l.Size(), before)
	}
	check(t, l.Close())
	l = must(store.OpenLogOn(vfs.Default, path))(t)
	if got := replay(t, l); len(got) != 4 || got[0] != "kept" || got[2] != "last" || got[3] != "after" {
		t.Errorf("the rewritten log has %d records", len(got))
	}
	check(t, l.Close())
}

// writtenLog returns a log's bytes, where each of its appends ended, and the
// records of each.
func writtenLog(t testing.TB) (data []byte, ends []int64, records [][]string) {
	path := filepath.Join(t.TempDir(), "log")
	l := must(store.OpenLogOn(vfs.Default, path))(t)
	ends = append(ends, l.Size())
	for i := range 6 {
		batch := [][]byte{record("vote %d", i), record("certificate %d, which is longer", i), nil}[:1+i%3]
		check(t, l.Append(batch))
		ends = append(ends, l.Size())
		var texts []string
		for _, r := range batch {
			texts = append(texts, string(r))
		}
		records = append(records, texts)
	}
	check(t, l.Close())
	return must(os.ReadFile(path))(t), ends, records
}

func TestLogCutAtEveryByteReplaysWholeAppends(t *testing.T) {
	data, ends, records := writtenLog(t)
	path := filepath.Join(t.TempDir(), "log")
	for cut := range len(data) + 1 {
		check(t, os.WriteFile(path, data[:cut], 0o644))
		l, err := store.OpenLogOn(vfs.Default, path)
		if cut < int(ends[0]) {
			// The header is written before the log gets its name.
			if !errors.Is(err, store.ErrLogCorrupt) {
				t.Fatalf("cut at byte %d, within the header: %v, want ErrLogCorrupt", cut, err)
			}
			continue
		}
		check(t, err)
		whole := 0
		for whole < len(records) && ends[whole+1] <= int64(cut) {
			whole++
		}
		want := slices.Concat(records[:whole]...)
		if got := replay(t, l); !slices.Equal(got, want) {
			t.Fatalf("cut at byte %d: %q, want %q", cut, got, want)
		}
		check(t, l.Append([][]byte{record("next")}))
		check(t, l.Close())
		l = must(store.OpenLogOn(vfs.Default, path))(t)
		if got := replay(t, l); !slices.Equal(got, append(want, "next")) {
			t.Fatalf("cut at byte %d, then appended: %q", cut, got)
		}
		check(t, l.Close())
	}
}

func TestLogDamageBeforeTheTailIsNamed(t *testing.T) {
	data, ends, records := writtenLog(t)
	last := int(ends[len(ends)-2])
	path := filepath.Join(t.TempDir(), "log")
	for at := range data {
		damaged := bytes.Clone(data)
		damaged[at] ^= 0x41
		check(t, os.WriteFile(path, damaged, 0o644))
		l, err := store.OpenLogOn(vfs.Default, path)
		if at < last {
			if !errors.Is(err, store.ErrLogCorrupt) {
				t.Fatalf("byte %d is damaged: %v, want ErrLogCorrupt", at, err)
			}
			if after := must(os.ReadFile(path))(t); !bytes.Equal(after, damaged) {
				t.Fatalf("byte %d is damaged: opening changed the file", at)
			}
			continue
		}
		check(t, err)
		if got, want := replay(t, l), slices.Concat(records[:len(records)-1]...); !slices.Equal(got, want) {
			t.Fatalf("byte %d of the last frame is damaged: %q, want %q", at, got, want)
		}
		check(t, l.Close())
	}
}

func TestLogSurvivesCrashes(t *testing.T) {
	bounded(t)
	rapid.Check(t, func(t *rapid.T) {
		fs := vfs.NewCrashableMem()
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		l, err := store.OpenLogOn(fs, "log")
		check(t, err)
		var want []string
		for i := range rapid.IntRange(1, 10).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"append", "rewrite", "crash"}).Draw(t, "step") {
			case "append":
				batch := [][]byte{record("a%d", i), record("b%d", i)}
				check(t, l.Append(batch))
				want = append(want, string(batch[0]), string(batch[1]))
			case "rewrite":
				want = want[len(want)/2:]
				var kept [][]byte
				for _, r := range want {
					kept = append(kept, []byte(r))
				}
				check(t, l.Rewrite(kept))
			case "crash":
				fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rapid.IntRange(0, 100).Draw(t, "kept"), RNG: rng})
				check(t, l.Close())
				if l, err = store.OpenLogOn(fs, "log"); err != nil {
					t.Fatal(err)
				}
			}
			var got []string
			check(t, l.Replay(func(r []byte) error { got = append(got, string(r)); return nil }))
			if !slices.Equal(got, want) {
				t.Fatalf("the log has %q, want %q", got, want)
			}
		}
		check(t, l.Close())
	})
}

func TestLogFailureIsFinal(t *testing.T) {
	for _, op := range []errorfs.OpKind{errorfs.OpFileWriteAt, errorfs.OpFileSyncData} {
		for _, action := range []string{"append", "rewrite"} {
			broken := false
			fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(o errorfs.Op) error {
				kind := op
				if action == "rewrite" && op == errorfs.OpFileWriteAt {
					kind = errorfs.OpRename
				}
				if broken && o.Kind == kind {
					return errorfs.ErrInjected
				}
				return nil
			}))
			l := must(store.OpenLogOn(fs, "log"))(t)
			check(t, l.Append([][]byte{record("durable")}))
			broken = true
			var err error
			if action == "append" {
				err = l.Append([][]byte{record("lost")})
			} else {
				err = l.Rewrite(nil)
			}
			if !errors.Is(err, store.ErrLogFailed) || !errors.Is(err, errorfs.ErrInjected) {
				t.Errorf("%s with a failing disk: %v, want ErrLogFailed with its cause", action, err)
			}
			broken = false
			for name, later := range map[string]error{
				"Append":  l.Append([][]byte{record("later")}),
				"Rewrite": l.Rewrite(nil),
				"Replay":  l.Replay(func([]byte) error { return nil }),
			} {
				if !errors.Is(later, store.ErrLogFailed) {
					t.Errorf("%s after a failed %s: %v, want ErrLogFailed", name, action, later)
				}
			}
			check(t, l.Close())
		}
	}
}

func TestLogLimitsChangeNothing(t *testing.T) {
	l := must(store.OpenLogOn(vfs.NewMem(), "log"))(t)
	check(t, l.Append([][]byte{record("first")}))
	huge := make([]byte, 64<<20)
	if err := l.Append([][]byte{huge}); !errors.Is(err, store.ErrLogFull) {
		t.Errorf("an append of 64 MiB: %v, want ErrLogFull", err)
	}
	if err := l.Rewrite([][]byte{huge}); !errors.Is(err, store.ErrLogFull) {
		t.Errorf("a rewrite with 64 MiB: %v, want ErrLogFull", err)
	}
	check(t, l.Append([][]byte{record("second")}))
	if got := replay(t, l); !slices.Equal(got, []string{"first", "second"}) {
		t.Errorf("the log has %q", got)
	}
	check(t, l.Close())
	check(t, l.Close())
	if err := l.Append([][]byte{record("x")}); !errors.Is(err, store.ErrLogFailed) {
		t.Errorf("Append to a closed log: %v, want ErrLogFailed", err)
	}
}

func TestReplayTellsTheVisitorsError(t *testing.T) {
	l := must(store.OpenLogOn(vfs.NewMem(), "log"))(t)
	wound := errors.New("wound")
	check(t, l.Append([][]byte{record("r")}))
	if err := l.Replay(func([]byte) error { return wound }); !errors.Is(err, wound) {
		t.Errorf("Replay hides the visitor's error: %v", err)
	}
	check(t, l.Close())
}

func BenchmarkLogAppend(b *testing.B) {
	l := must(store.OpenLogOn(vfs.Default, filepath.Join(b.TempDir(), "log")))(b)
	batch := [][]byte{make([]byte, 200), make([]byte, 300)}
	for b.Loop() {
		if err := l.Append(batch); errors.Is(err, store.ErrLogFull) {
			check(b, l.Rewrite(nil))
		} else {
			check(b, err)
		}
	}
	check(b, l.Close())
}
