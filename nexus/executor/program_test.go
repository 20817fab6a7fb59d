package executor_test

import (
	"bytes"
	"fmt"
	"image/png"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/executor"
)

// The tests of this file run programs that the Go compiler made.

// inputDir holds a file "greeting" and a directory, with times of its own.
func inputDir(t *testing.T, when time.Time) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"greeting", "sub/b", "sub/a"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("hello"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func probe(t *testing.T, args ...string) executor.Task {
	return executor.Task{Module: program(t, "probe"), Args: args}
}

func wantLog(t *testing.T, got string, lines ...string) {
	t.Helper()
	if want := strings.Join(lines, "\n") + "\n"; got != want {
		t.Errorf("the program wrote\n%swant\n%s", got, want)
	}
}

func TestProgramSeesOnlyItsTask(t *testing.T) {
	task := probe(t, "echo", "one", "", "three")
	task.Env = []string{"GREETING=hi", "EMPTY="}
	task.InputDir = inputDir(t, time.Unix(1, 0))
	task.Seed = crypto.Digest{1}
	o, log := run(t, task)
	wantStatus(t, o, executor.StatusOK, "")
	wantLog(t, log,
		"one||three", "GREETING=hi|EMPTY=",
		"/in . true 0 2026-01-01T00:00:00Z", "/in greeting false 5 2026-01-01T00:00:00Z", "/in sub true 0 2026-01-01T00:00:00Z",
		"/in sub/a false 5 2026-01-01T00:00:00Z", "/in sub/b false 5 2026-01-01T00:00:00Z",
		"/out . true 0 2026-01-01T00:00:00Z", "0 EOF")
}

func TestNothingElseIsReachable(t *testing.T) {
	task := probe(t, "escape")
	task.InputDir = inputDir(t, time.Unix(1, 0))
	o, log := run(t, task)
	wantStatus(t, o, executor.StatusOK, "")
	wantLog(t, log, "done")
	if entries, err := os.ReadDir(task.InputDir); err != nil || len(entries) != 2 {
		t.Errorf("the input holds %v, %v", entries, err)
	}
}

func TestInputsWithLinksAreRefused(t *testing.T) {
	task := probe(t, "echo")
	task.InputDir = inputDir(t, time.Unix(1, 0))
	if err := os.Symlink("/etc/passwd", filepath.Join(task.InputDir, "link")); err != nil {
		t.Fatal(err)
	}
	o, _ := run(t, task)
	wantStatus(t, o, executor.StatusRefused, `"link" is neither`)
}

func TestFilesBehaveAsPrograms(t *testing.T) {
	task := probe(t, "files")
	task.InputDir = inputDir(t, time.Unix(1, 0))
	task.OutputDir = t.TempDir()
	o, log := run(t, task)
	wantStatus(t, o, executor.StatusOK, "")
	wantLog(t, log, "5 en", "a", "a.txt", "true true true", "4 EOF ello")
	want := []executor.File{{Path: "a.txt", Bytes: 6}, {Path: "a/two", Bytes: 8}}
	if len(o.Files) != 2 || o.Files[0] != want[0] || o.Files[1] != want[1] {
		t.Errorf("files %+v, want %+v", o.Files, want)
	}
	if got, err := os.ReadFile(filepath.Join(task.OutputDir, "a", "two")); err != nil || string(got) != "one more" {
		t.Errorf("a/two holds %q, %v", got, err)
	}
	// The most at once: a, a/two, a.txt and hole; and 8 + 6 + 11 bytes, when
	// hole was written to after its name was gone.
	if o.Usage.OutputFiles != 4 || o.Usage.OutputBytes != 25 {
		t.Errorf("usage %+v", o.Usage)
	}
}

func TestDeterministicTime(t *testing.T) {
	task := probe(t, "time")
	task.Limits = generous()
	task.Limits.WallTime = 10 * time.Minute
	o, log := run(t, task)
	wantStatus(t, o, executor.StatusOK, "")
	if !strings.HasPrefix(log, "2026-01-01T00:00 true [") {
		t.Errorf("the program wrote %q", log)
	}
}

func TestLiveTime(t *testing.T) {
	task := probe(t, "sleep", "20ms")
	task.Mode = executor.ModeLive
	before := time.Now().Unix()
	o, log := run(t, task)
	wantStatus(t, o, executor.StatusOK, "")
	var slept bool
	var seconds int64
	if _, err := fmt.Sscan(log, &slept, &seconds); err != nil || !slept || seconds < before || seconds > time.Now().Unix() || o.Usage.WallMillis < 20 {
		t.Errorf("usage %+v, log %q, %v", o.Usage, log, err)
	}
}

// TestRealProgramsAreDeterministic runs a Go program and a C program that write down whatever
// could differ, again and again, side by side and on executors of their own, as on other
// nodes: all give the same bytes for the same fuel. Live they do not, so that what they write
// down does depend on it.
func TestRealProgramsAreDeterministic(t *testing.T) {
	orbits, err := os.ReadFile(filepath.Join("testdata", "orbits", "orbits.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, file string
		task       executor.Task
	}{
		{"Go", "chance", probe(t, "chance")},
		{"C", "orbits.txt", executor.Task{Module: orbits, Args: []string{"orbits"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			result := func(w *executor.Wasm, mode executor.Mode) string {
				task := c.task
				task.Mode, task.Seed, task.Limits, task.OutputDir = mode, crypto.Digest{1}, generous(), t.TempDir()
				task.Stdout, task.Stderr, task.Digest = io.Discard, io.Discard, true
				o, err := w.Run(t.Context(), task)
				if err != nil || o.Status != executor.StatusOK {
					t.Errorf("%+v, %v", o, err)
					return ""
				}
				data, err := os.ReadFile(filepath.Join(task.OutputDir, c.file))
				if err != nil {
					t.Error(err)
				}
				if mode == executor.ModeLive {
					return string(data)
				}
				if o.Memory.IsZero() {
					t.Error("nothing is said of what it left in its memory")
				}
				return fmt.Sprintf("fuel %d, memory %s\n%s", o.Usage.Fuel, o.Memory, data)
			}
			want := result(shared(), executor.ModeDeterministic)
			if strings.Count(want, "\n") < 20 {
				t.Fatalf("the program wrote\n%s", want)
			}
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					if got := result(shared(), executor.ModeDeterministic); got != want {
						t.Errorf("beside others it gives\n%s\nwant\n%s", got, want)
					}
				})
			}
			all.Wait()
			other, err := executor.NewWasm(executor.Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			if got := result(other, executor.ModeDeterministic); got != want {
				t.Errorf("another node gives\n%s\nwant\n%s", got, want)
			}
			if one, two := result(shared(), executor.ModeLive), result(shared(), executor.ModeLive); one == two {
				t.Errorf("the program gives the same live:\n%s", one)
			}
		})
	}
}

func TestMisbehavingPrograms(t *testing.T) {
	for _, c := range []struct {
		args   string
		limit  func(*executor.Limits)
		status executor.Status
		detail string
		log    string
	}{
		{"hog", func(l *executor.Limits) { l.MemoryBytes = 64 << 20 }, executor.StatusOutOfMemory, "exit code 2", "out of memory"},
		{"exit 3", nil, executor.StatusExited, "", ""},
		{"fail", nil, executor.StatusExited, "", "panic: as asked"},
		{"scatter wide", nil, executor.StatusOutputLimit, "output_files", ""},
		{"scatter deep", nil, executor.StatusExited, "", "File name too long"},
		{"handles", nil, executor.StatusOK, "", "Too many open files"},
	} {
		t.Run(c.args, func(t *testing.T) {
			task := probe(t, strings.Fields(c.args)...)
			task.Limits = generous()
			if c.limit != nil {
				c.limit(&task.Limits)
			}
			o, log := run(t, task)
			wantStatus(t, o, c.status, c.detail)
			if !strings.Contains(strings.ToLower(log), strings.ToLower(c.log)) {
				t.Errorf("the program wrote %q, want %q in it", log, c.log)
			}
		})
	}
}

func TestOutputOfAFailedProgramIsKept(t *testing.T) {
	task := probe(t, "exit", "3")
	o, _ := run(t, task)
	if o.ExitCode != 3 || len(o.Files) != 1 || o.Files[0] != (executor.File{Path: "partial", Bytes: 4}) {
		t.Errorf("outcome %+v", o)
	}
}

// Two replicas with other directories, other file times and at another time
// agree in every byte and every unit of fuel.
func TestReplicasAgree(t *testing.T) {
	params, err := os.ReadFile("../../sdk/examples/fractal/params.txt")
	if err != nil {
		t.Fatal(err)
	}
	var outcomes [2]executor.Outcome
	var digests [2]crypto.Digest
	for i := range outcomes {
		in, out := inputDir(t, time.Unix(int64(1000*i), 0)), t.TempDir()
		if err := os.WriteFile(filepath.Join(in, "params.txt"), params, 0o600); err != nil {
			t.Fatal(err)
		}
		o, log := run(t, executor.Task{Module: program(t, "fractal"), InputDir: in, OutputDir: out, Digest: true})
		wantStatus(t, o, executor.StatusOK, "")
		outcomes[i], digests[i] = o, digestTree(t, out, log)
		if i == 0 {
			checkPicture(t, filepath.Join(out, "fractal.png"))
		}
	}
	outcomes[0].Usage.WallMillis, outcomes[1].Usage.WallMillis = 0, 0
	if outcomes[0].Usage != outcomes[1].Usage || digests[0] != digests[1] || outcomes[0].Memory != outcomes[1].Memory || outcomes[0].Memory.IsZero() {
		t.Errorf("two replicas: %+v %v\n%+v %v", outcomes[0], digests[0], outcomes[1], digests[1])
	}
}

func digestTree(t *testing.T, dir, log string) crypto.Digest {
	t.Helper()
	all := []byte(log)
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, path))
		all = append(append(all, path...), data...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return crypto.DomainBlob.Hash(all)
}

func checkPicture(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil || img.Bounds().Dx() != 512 || img.Bounds().Dy() != 512 {
		t.Errorf("picture: %v, %v", img.Bounds(), err)
	}
}

func TestFractalRefusesBadParameters(t *testing.T) {
	for text, want := range map[string]string{
		"width = 99999":                 "16 to 2048",
		"zoom = NaN":                    "zoom",
		"speed = 3":                     "not a parameter",
		"zoom = 1\nzoom = 2":            "twice",
		"palette = plaid":               "ember",
		"hello":                         "name = value",
		strings.Repeat("# long\n", 999): "4096 bytes",
	} {
		in := t.TempDir()
		if err := os.WriteFile(filepath.Join(in, "params.txt"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		o, log := run(t, executor.Task{Module: program(t, "fractal"), InputDir: in})
		if o.Status != executor.StatusExited || o.ExitCode != 2 || !strings.Contains(log, want) {
			t.Errorf("%q: %s %d, %q; want exit code 2 and %q", text, o.Status, o.ExitCode, log, want)
		}
	}
}
