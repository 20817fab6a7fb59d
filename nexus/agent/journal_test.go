package agent_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/nexus/agent"
)

// records opens a journal and returns it with what it held.
func records(t *testing.T, path string, live func() [][]byte) (*agent.Journal, []string) {
	t.Helper()
	var held []string
	j, err := agent.OpenJournal(path, func(r []byte) error {
		if string(r) == "refused" {
			return errors.New("it is refused")
		}
		held = append(held, string(r))
		return nil
	}, live)
	if err != nil {
		t.Fatal(err)
	}
	return j, held
}

// TestJournalKeepsWhatWasAppended appends from many goroutines, crashes, and
// cuts, flips and extends the file.
func TestJournalKeepsWhatWasAppended(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir", "j.log")
	j, _ := records(t, path, nil)
	var wg sync.WaitGroup
	var want []string
	for i := range 200 {
		want = append(want, fmt.Sprintf("record %03d", i))
		wg.Go(func() {
			if err := j.Append([]byte(want[i])); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	j.AppendLater([]byte("lost in the crash"))
	if err := j.Drop(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	j, held := records(t, path, nil)
	order := slices.Clone(held)
	slices.Sort(held)
	if !slices.Equal(held, want) {
		t.Fatalf("%d records are left of %d: %q", len(held), len(want), held)
	}
	j.AppendLater([]byte("written by the end"))
	if err := errors.Join(j.Append([]byte("last")), j.Close()); err != nil {
		t.Fatal(err)
	}
	j, held = records(t, path, nil)
	if got := held[200:]; !slices.Equal(got, []string{"written by the end", "last"}) {
		t.Fatalf("after the crash: %q", got)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	damageJournal(t, path, whole, order)
}

// damageJournal cuts, flips and extends a journal's file, of which whole is what was
// written and order its 200 records.
func damageJournal(t *testing.T, path string, whole []byte, order []string) {
	t.Helper()
	const size = 8 + len("record 000")
	flipped := bytes.Clone(whole)
	flipped[100*size+9] ^= 1
	for name, c := range map[string]struct {
		file []byte
		left int
	}{
		"torn":            {whole[:len(whole)-3], 199},
		"torn length":     {whole[:150*size+5], 150},
		"flipped":         {flipped, 100},
		"longer":          {append(bytes.Clone(whole), 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5, 6, 7, 8), 200},
		"refused by load": {append(bytes.Clone(whole), 0, 0, 0, 7, 0x2e, 0xe1, 0x9d, 0x7b, 'r', 'e', 'f', 'u', 's', 'e', 'd'), 200},
	} {
		if err := os.WriteFile(path, c.file, 0o600); err != nil {
			t.Fatal(err)
		}
		j, held := records(t, path, nil)
		if !slices.Equal(held, order[:c.left]) {
			t.Errorf("%s: %d records are read, want %d", name, len(held), c.left)
		}
		aside, err := os.ReadFile(path + ".damaged")
		if err != nil || !bytes.Equal(aside, c.file[c.left*size:]) {
			t.Errorf("%s: %d bytes are put aside: %v", name, len(aside), err)
		}
		if err := errors.Join(j.Append([]byte("next")), j.Close()); err != nil {
			t.Fatal(err)
		}
		j, held = records(t, path, nil)
		if len(held) != c.left+1 || held[c.left] != "next" {
			t.Errorf("%s: then %d records", name, len(held))
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestJournalIsBounded has far more records come and go than are live.
func TestJournalIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j.log")
	big := strings.Repeat("x", 64<<10)
	live := [][]byte{[]byte("live 1"), []byte("live 2")}
	j, _ := records(t, path, func() [][]byte { return live })
	for range 100 {
		if err := j.Append([]byte(big)); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Append(make([]byte, 1<<20)); err == nil {
		t.Error("a record of a mebibyte is taken")
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() > 2<<20 {
		t.Errorf("the file has %d bytes: %v", info.Size(), err)
	}
	if err := errors.Join(j.Append([]byte("last")), j.Close()); err != nil {
		t.Fatal(err)
	}
	if err := j.Append([]byte("after the end")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	_, held := records(t, path, nil)
	if len(held) < 3 || held[0] != "live 1" || held[1] != "live 2" || held[len(held)-1] != "last" {
		t.Errorf("%d records, the first %.10q, the last %.10q", len(held), held[0], held[len(held)-1])
	}
}

// TestAppendWaitsForItsOwnWriteAlone has more come to be written while a record
// is written: who appended it is told when it is durable, and does not write on
// for the others.
func TestAppendWaitsForItsOwnWriteAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j.log")
	big := bytes.Repeat([]byte("x"), 120_000)
	const enough = 9 // for a journal to be rewritten
	appended := make(chan struct{})
	var j *agent.Journal
	rewritings := 0
	j, _ = records(t, path, func() [][]byte {
		if rewritings++; rewritings == 1 { // the last append's write is under way
			for range enough {
				j.AppendLater(big)
			}
			return nil
		}
		select { // what came meanwhile is being written
		case <-appended:
		case <-time.After(patience):
			t.Error("an append waits for what came after it")
		}
		return nil
	})
	for range enough {
		if err := j.Append(big); err != nil {
			t.Fatal(err)
		}
	}
	close(appended)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if rewritings != 2 {
		t.Errorf("the journal was rewritten %d times", rewritings)
	}
}

// TestARewrittenJournalWhoseDirectoryCannotBeSynced has the directory unreadable
// from the moment in which the journal is rewritten: the new file has the name by
// then, and what is appended afterwards goes to it, not to the one that lost it.
func TestARewrittenJournalWhoseDirectoryCannotBeSynced(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "j.log")
	if os.Getuid() == 0 { // who may read everything: for this thread's files, somebody who may not
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		const nobody = 65534
		if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o711), os.Chown(dir, nobody, nobody), syscall.Setfsuid(nobody)); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := syscall.Setfsuid(0); err != nil {
				t.Error(err)
			}
		}()
	}
	rewritten := 0
	j, _ := records(t, path, func() [][]byte {
		rewritten++
		if err := os.Chmod(dir, 0o300); err != nil {
			t.Error(err)
		}
		return [][]byte{[]byte("live")}
	})
	for big := bytes.Repeat([]byte{7}, 100<<10); rewritten == 0; {
		if err := j.Append(big); err != nil {
			t.Fatal(err)
		}
	}
	if f, err := os.Open(dir); err == nil {
		t.Fatal("the directory can be read", f.Close())
	}
	for _, later := range []string{"one", "two"} {
		if err := j.Append([]byte(later)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(j.Close(), os.Chmod(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	j, held := records(t, path, nil)
	if !slices.Equal(held, []string{"live", "one", "two"}) {
		t.Errorf("the journal holds %q", held)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}
