// Package golden holds what tests make to files under testdata: frozen encodings, transcripts, pages
// that are written by a command. With -update a test writes its files anew; what then differs is read
// before it is committed, since for an encoding, a root or a price a difference is a fork.
package golden

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Updating reports whether the tests run to write their golden files anew.
func Updating() bool { return *update }

// Check fails the test if the file at path is not what was made, and shows the first line that differs.
func Check[T string | []byte](t testing.TB, path string, made T) {
	t.Helper()
	if *update {
		write(t, path, string(made))
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (-update writes it)", err)
	}
	if string(want) != string(made) {
		t.Errorf("%s is not what the test makes, %s; -update writes it anew", path, difference(string(want), string(made)))
	}
}

// CheckHex is Check of bytes that stand in their file as one line of hexadecimal digits.
func CheckHex(t testing.TB, path string, made []byte) {
	t.Helper()
	Check(t, path, hex.EncodeToString(made)+"\n")
}

// Scripts runs each file that the pattern names, of which there must be some, as a test of the file's
// name: run is given the file's text, and what it returns is what the file should be.
func Scripts(t *testing.T, pattern string, run func(t *testing.T, script string) string) {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no file is named %s (%v)", pattern, err)
	}
	for _, path := range paths {
		name := filepath.Base(path)
		t.Run(strings.TrimSuffix(name, filepath.Ext(name)), func(t *testing.T) {
			script, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			Check(t, path, run(t, string(script)))
		})
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// shownLine is how much of a line that differs is shown, in bytes.
const shownLine = 4 << 10

// difference says where two texts part, which are not the same: the last line of each is what stands
// behind its last line feed, so that neither ends before they part.
func difference(want, made string) string {
	wants, mades := strings.SplitAfter(want, "\n"), strings.SplitAfter(made, "\n")
	at := 0
	for wants[at] == mades[at] {
		at++
	}
	return fmt.Sprintf("from line %d on (%d lines, %d made):\nfile %.*q\nmade %.*q",
		at+1, len(wants), len(mades), shownLine, wants[at], shownLine, mades[at])
}
