package store_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/store"
)

// kept is a database that was closed, in a directory, with all that it held.
type kept struct {
	*history
	dir string
}

// newKept makes a database with tables, a log and pending changes.
func newKept(t testing.TB) kept {
	dir := filepath.Join(t.TempDir(), "db")
	s := must(store.Open(dir, store.Options{TreeInterval: 4}))(t)
	h := newHistory(s)
	for i := range 30 {
		f := h.next(t)
		for n := range 300 { // more than one block of a table
			d := id("%d", n*1000+i)
			f.Block = append(f.Block, d[:]...)
		}
		check(t, s.Commit(f))
		if i == 12 || i == 21 {
			check(t, s.Flush())
		}
	}
	check(t, s.Close())
	return kept{h, dir}
}

// copied returns a copy of the directory.
func (k kept) copied(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "copy")
	check(t, os.CopyFS(dir, os.DirFS(k.dir)))
	return dir
}

// serves reads everything and reports whether it was served; what is served has
// to be true.
func (k kept) serves(t *testing.T, dir string) (err error) {
	t.Helper()
	s, err := store.Open(dir, store.Options{TreeInterval: 4, ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() {
		if fault, ok := recover().(*state.Fault); ok {
			err = fault
		}
		err = errors.Join(err, s.Close())
	}()
	tip, ok := s.Latest()
	if !ok {
		return errors.New("it is empty")
	}
	if got := collect(s.State()); !maps.Equal(got, k.states[tip.Height]) {
		t.Errorf("a wrong state is served for height %d", tip.Height)
	}
	for height := range tip.Height + 1 {
		raw, _, err := s.Header(height)
		if err != nil {
			return err
		}
		if want := "header " + string(raw[len("header "):]); string(raw) != want || want != string(k.header(height)) {
			t.Errorf("header %d is %q", height, raw)
		}
	}
	if int(tip.Height) != len(k.states)-1 {
		t.Errorf("blocks after %d are gone without a word", tip.Height)
	}
	return nil
}

func (k kept) header(height chain.Height) []byte { return []byte("header " + chainText(height)) }

func chainText(h chain.Height) string {
	if h < 10 {
		return string(rune('0' + h))
	}
	return chainText(h/10) + chainText(h%10)
}

// flip changes one bit of a file.
func flip(t testing.TB, path string, at int, bit byte) {
	t.Helper()
	raw := must(os.ReadFile(path))(t)
	raw[at] ^= 1 << bit
	check(t, os.WriteFile(path, raw, 0o644))
}

// Whichever bit of whichever file is flipped while the node is down, CheckFiles
// names the file, and the database is not opened, or the read fails; what it
// serves is right.
func TestEveryFlippedBitIsFound(t *testing.T) {
	bounded(t)
	k := newKept(t)
	if found := must(store.CheckFiles(context.Background(), k.dir))(t); len(found.Faults) > 0 || !found.Sealed || found.Files < 4 {
		t.Fatalf("of a sound database: %+v", found)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	kinds := map[string]bool{}
	for _, entry := range must(os.ReadDir(k.dir))(t) {
		info := must(entry.Info())(t)
		if entry.IsDir() || info.Size() == 0 {
			continue
		}
		name := entry.Name()
		kinds[strings.TrimLeft(name, "0123456789")] = true
		positions := []int{0, 1, int(info.Size()) / 2, int(info.Size()) - 1, int(info.Size()) - 30}
		for range 12 {
			positions = append(positions, rng.IntN(int(info.Size())))
		}
		for _, at := range positions {
			bit := byte(rng.IntN(8))
			dir := k.copied(t)
			flip(t, filepath.Join(dir, name), max(at, 0), bit)
			found := must(store.CheckFiles(context.Background(), dir))(t)
			if !slices.ContainsFunc(found.Faults, func(err error) bool {
				return errors.Is(err, store.ErrDamaged) && strings.Contains(err.Error(), filepath.Join(dir, name))
			}) {
				t.Errorf("bit %d of byte %d of %s: the faults are %v", bit, at, name, found.Faults)
			}
			if err := k.serves(t, dir); err == nil && !strings.HasSuffix(name, ".sst") {
				t.Errorf("bit %d of byte %d of %s: it is opened", bit, at, name)
			}
		}
	}
	if len(kinds) < 5 {
		t.Errorf("only these kinds of files were tried: %v", kinds)
	}
}

// A damaged table stops the store at the first read of it, and is named.
func TestDamagedTableStopsTheStore(t *testing.T) {
	bounded(t)
	k := newKept(t)
	stopped := 0
	for i, path := range slices.Repeat(must(filepath.Glob(filepath.Join(k.dir, "*.sst")))(t), 8) {
		dir := k.copied(t)
		path = filepath.Join(dir, filepath.Base(path))
		flip(t, path, int(must(os.Stat(path))(t).Size())*(i*5%64)/64, 3)
		s, err := store.Open(dir, store.Options{TreeInterval: 4})
		if err == nil {
			err = func() (err error) {
				defer func() {
					if fault, ok := recover().(*state.Fault); ok {
						err = fault
					}
				}()
				collect(s.State())
				for height := range chain.Height(len(k.states)) {
					_, _, errBlock := s.Block(height)
					err = errors.Join(err, errBlock)
				}
				return err
			}()
			if err != nil {
				stopped++
				if noted := s.Err(); noted == nil {
					t.Errorf("%s: a read says %v, and the store goes on", path, err)
				} else {
					err = noted
				}
			}
			check(t, s.Close())
		}
		if err != nil && (!errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), path)) {
			t.Error(err)
		}
	}
	if stopped == 0 {
		t.Error("no table was read after the start")
	}
}

// After a crash there is no seal, and nothing is refused for want of it.
func TestNoSealAfterACrash(t *testing.T) {
	k := newKept(t)
	dir := k.copied(t)
	check(t, os.Remove(filepath.Join(dir, "SEAL")))
	check(t, k.serves(t, dir))
	s := must(store.Open(k.dir, store.Options{TreeInterval: 4}))(t)
	if _, err := os.Stat(filepath.Join(k.dir, "SEAL")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the seal of a database that is open: %v", err)
	}
	check(t, s.Close())
}

func TestReadOnlyWritesNothing(t *testing.T) {
	k := newKept(t)
	list := func() (out []string) {
		for _, e := range must(os.ReadDir(k.dir))(t) {
			out = append(out, e.Name())
		}
		return out
	}
	before := list()
	check(t, k.serves(t, k.dir))
	if after := list(); !slices.Equal(before, after) {
		t.Errorf("before: %v, after: %v", before, after)
	}
	if _, err := store.Open(filepath.Join(k.dir, "nothing"), store.Options{ReadOnly: true}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
}
