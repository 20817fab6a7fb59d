package golden_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/golden"
)

// recorder is a test that is asked whether it failed, and goes on.
type recorder struct {
	testing.TB
	said []string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	panic(r)
}

// check is what a test says that has made this.
func check(t *testing.T, path, made string) []string {
	r := &recorder{TB: t}
	func() {
		defer func() {
			if p := recover(); p != nil && p != r {
				panic(p)
			}
		}()
		golden.Check(r, path, made)
	}()
	return r.said
}

func TestCheck(t *testing.T) {
	if golden.Updating() {
		t.Skip("what is written anew differs from nothing")
	}
	path := filepath.Join(t.TempDir(), "file.txt")
	if said := check(t, path, "one\n"); len(said) != 1 || !strings.Contains(said[0], "no such file") {
		t.Errorf("no file: %q", said)
	}
	if err := os.WriteFile(path, []byte("one\ntwo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := check(t, path, "one\ntwo\n"); said != nil {
		t.Errorf("the same: %q", said)
	}
	for made, has := range map[string]string{
		"one\n2\n":          `line 2 on (3 lines, 3 made):` + "\n" + `file "two\n"` + "\n" + `made "2\n"`,
		"one\n":             `made ""`,
		"one\ntwo":          `made "two"`,
		"one\ntwo\nthree\n": `made "three\n"`,
		"":                  `line 1 on`,
	} {
		if said := check(t, path, made); len(said) != 1 || !strings.Contains(said[0], has) {
			t.Errorf("%q: %q has no %q", made, said, has)
		}
	}
}

func TestCheckHex(t *testing.T) {
	golden.CheckHex(t, "testdata/bytes.hex", []byte{0, 1, 0xfe})
}

// TestScripts: each file is a test, of the file's name.
func TestScripts(t *testing.T) {
	var ran []string
	golden.Scripts(t, "testdata/*.txt", func(t *testing.T, script string) string {
		ran = append(ran, t.Name())
		return strings.ToUpper(script)
	})
	if got := strings.Join(ran, " "); got != "TestScripts/first TestScripts/second" {
		t.Errorf("ran %s", got)
	}
}
