package executor_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/executor"
)

// The tests of this file run containers under a real runtime.

// inmate is the program of the tests, linked statically.
var inmate = sync.OnceValues(func() (data []byte, err error) {
	dir, err := os.MkdirTemp("", "inmate-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file := filepath.Join(dir, "inmate")
	cmd := exec.Command("go", "build", "-o", file, "./testdata/inmate")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, said)
	}
	return os.ReadFile(file)
})

// item is an entry of a layer.
type item struct {
	tar.Header
	body []byte
}

func file(name, body string) item {
	return item{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(body))}, []byte(body)}
}

func program0755(name string, body []byte) item {
	return item{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(body))}, body}
}

func pack(t testing.TB, items ...item) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, i := range items {
		if err := w.WriteHeader(&i.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(i.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func sha(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func configOf(t testing.TB, change func(map[string]any), layers ...[]byte) []byte {
	t.Helper()
	diffs := []string{}
	for _, l := range layers {
		diffs = append(diffs, "sha256:"+sha(l))
	}
	config := map[string]any{
		"os": "linux", "architecture": runtime.GOARCH, "rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
		"config": map[string]any{"Entrypoint": []string{"/inmate"}, "Env": []string{"A=image", "B=image"}, "WorkingDir": "/tmp"},
	}
	if change != nil {
		change(config)
	}
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// saved is an image as docker save writes it; layers are plain tar archives,
// of which the odd ones are compressed.
func saved(t testing.TB, change func(map[string]any), layers ...[]byte) []byte {
	t.Helper()
	items, names := []item{}, []string{}
	for i, l := range layers {
		name := fmt.Sprintf("%d/layer.tar", i)
		if i%2 == 0 {
			items = append(items, file(name, string(l)))
		} else {
			items = append(items, file(name, string(zipped(t, l))))
		}
		names = append(names, name)
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{"test:1"}, "Layers": names}})
	if err != nil {
		t.Fatal(err)
	}
	items = append(items, file("config.json", string(configOf(t, change, layers...))), file("manifest.json", string(manifest)))
	return pack(t, items...)
}

// imageOf is an image with the test program, and more layers.
func imageOf(t testing.TB, change func(map[string]any), more ...[]byte) []byte {
	t.Helper()
	data, err := inmate()
	if err != nil {
		t.Fatal(err)
	}
	suid := item{tar.Header{Typeflag: tar.TypeReg, Name: "suid", Mode: 0o6755, Size: 1}, []byte("x")}
	base := pack(t, program0755("inmate", data), suid, file("etc/passwd", "root:x:0:0::/:/\nworker:x:1000:1001::/:/\n"), file("etc/group", "workers:x:1002:worker\n"))
	return saved(t, change, append([][]byte{base}, more...)...)
}

// needContainers skips what cannot be run here, and only that.
func needContainers(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("containers run in make e2e")
	}
	if os.Geteuid() != 0 {
		t.Skip("containers are set up by root")
	}
}

// openContainers opens an executor, which must leave nothing behind.
func openContainers(t *testing.T, change func(*executor.ContainerConfig)) *executor.Containers {
	t.Helper()
	needContainers(t)
	config := executor.ContainerConfig{Dir: t.TempDir()}
	if change != nil {
		change(&config)
	}
	c, err := executor.OpenContainers(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		groups, mounts, boxes, err := c.Left()
		if err != nil || len(groups)+len(mounts)+len(boxes) > 0 {
			t.Errorf("left behind: groups %v, mounts %v, boxes %v, %v", groups, mounts, boxes, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

type opened struct{ *bytes.Reader }

func (opened) Close() error { return nil }

func opener(image []byte) func() (io.ReadSeekCloser, error) {
	return func() (io.ReadSeekCloser, error) { return opened{bytes.NewReader(image)}, nil }
}

// theImage is the image that most tests run.
var theImage = sync.OnceValue(func() []byte { return imageOf(&testing.T{}, nil) })

func containerTask(t *testing.T, image []byte, args ...string) executor.ContainerTask {
	t.Helper()
	return executor.ContainerTask{
		Name: t.Name(), Image: crypto.DomainBlob.Hash(image), OpenImage: opener(image), Command: append([]string{"/inmate"}, args...), OutputDir: t.TempDir(),
		Millicores: 1_000, Processes: 64,
		Limits: executor.Limits{MemoryBytes: 128 << 20, WallTime: 2 * time.Minute, OutputBytes: 4 << 20, OutputFiles: 100, LogBytes: 64 << 10},
	}
}

// contain runs a task and checks what holds of every outcome.
func contain(t *testing.T, c *executor.Containers, task executor.ContainerTask) (executor.Outcome, string) {
	t.Helper()
	out, errs := &safeLog{}, &safeLog{}
	task.Stdout, task.Stderr = out, errs
	o, err := c.Run(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	l := task.Limits
	l.Fuel = 1
	within(t, o.Usage, l)
	checkPublished(t, o, task.OutputDir)
	return o, out.String() + errs.String()
}

// safeLog is a log that a test reads while it is written.
type safeLog struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *safeLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *safeLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func TestContainerSeesItsTask(t *testing.T) {
	c := openContainers(t, nil)
	task := containerTask(t, theImage(), "see", "one", "two three")
	task.Env = []string{"B=job"}
	task.InputDir = inputDir(t, time.Now())
	o, log := contain(t, c, task)
	wantStatus(t, o, executor.StatusOK, "")
	wantLog(t, log, "one|two three image job 1 0 0 /tmp", "hello")
	if len(o.Files) != 1 || o.Files[0] != (executor.File{Path: "d/f", Bytes: 4}) {
		t.Errorf("files %+v", o.Files)
	}
	if o.Usage.PeakMemoryBytes == 0 || o.Usage.CPUMillis == 0 || o.Usage.WallMillis == 0 || o.Usage.OutputFiles != 2 || o.Usage.LogBytes == 0 {
		t.Errorf("usage %+v", o.Usage)
	}
}

// hostileContainers are programs that set out to harm the node, with the status
// and detail that name what ended them. None may print that it could.
var hostileContainers = []struct {
	args   string
	change func(*executor.ContainerTask)
	status executor.Status
	detail string
}{
	{"fork", nil, executor.StatusOutOfProcesses, "limit processes of 64 reached"},
	{"threads", nil, executor.StatusOutOfProcesses, "limit processes of 64 reached, then: exit code 9"},
	{"memory", nil, executor.StatusOutOfMemory, "limit memory_bytes of 134217728 reached"},
	{"tmp", func(task *executor.ContainerTask) { task.Limits.OutputBytes = 1 << 30 }, executor.StatusOutOfMemory, "limit memory_bytes"},
	{"loop", func(task *executor.ContainerTask) { task.Limits.WallTime = 300 * time.Millisecond }, executor.StatusTimedOut, "limit wall_time of 300ms reached"},
	{"sleep", func(task *executor.ContainerTask) { task.Limits.WallTime = 300 * time.Millisecond }, executor.StatusTimedOut, "limit wall_time of 300ms reached"},
	{"fill", nil, executor.StatusOutputLimit, "limit output_bytes of 4194304 reached"},
	{"files", nil, executor.StatusOutputLimit, "limit output_files of 100 reached"},
	{"sparse", nil, executor.StatusOutputLimit, "limit output_bytes"},
	{"log", nil, executor.StatusOutputLimit, "limit log_bytes of 65536 reached"},
	{"link symbolic", nil, executor.StatusOutputLimit, `output "l" is neither`},
	{"link fifo", nil, executor.StatusOutputLimit, `output "l" is neither`},
	{"link hard", nil, executor.StatusOK, ""},
	{"devices", nil, executor.StatusOK, ""},
	{"mounts", nil, executor.StatusOK, ""},
	{"kernel", nil, executor.StatusOK, ""},
	{"network", nil, executor.StatusOK, ""},
	{"setuid", nil, executor.StatusOK, ""},
	{"calls", nil, executor.StatusOK, ""},
	{"orphans", nil, executor.StatusOK, ""},
	{"exit 3", nil, executor.StatusExited, ""},
	{"exit 137", nil, executor.StatusExited, "exit code 137, as of signal 9"},
}

func TestHostileContainers(t *testing.T) {
	c := openContainers(t, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
	})
	_, port, _ := strings.Cut(listener.Addr().String(), ":")
	for _, h := range hostileContainers {
		t.Run(strings.ReplaceAll(h.args, " ", "-"), func(t *testing.T) {
			task := containerTask(t, theImage(), strings.Fields(h.args)...)
			task.Env = []string{"HOST_PORT=" + port}
			if h.change != nil {
				h.change(&task)
			}
			begun := time.Now()
			o, log := contain(t, c, task)
			wantStatus(t, o, h.status, h.detail)
			if strings.Contains(log, "could") {
				t.Errorf("the program wrote\n%s", log)
			}
			if t.Failed() {
				t.Logf("%v, %+v, it wrote\n%.2000s", time.Since(begun), o, log)
			}
		})
	}
	// The node is well: an honest container runs, among all the bad ones at once.
	var all sync.WaitGroup
	for _, args := range []string{"fork", "memory", "fill", "log"} {
		task := containerTask(t, theImage(), args)
		task.Name = args
		all.Go(func() {
			if o, err := c.Run(t.Context(), task); err != nil || o.Status.Ended() {
				t.Errorf("%s: %+v, %v", args, o, err)
			}
		})
	}
	o, _ := contain(t, c, containerTask(t, theImage(), "exit", "0"))
	wantStatus(t, o, executor.StatusOK, "")
	all.Wait()
}

func TestContainerIsCancelled(t *testing.T) {
	c := openContainers(t, nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	started := &signal{c: make(chan struct{})}
	task := containerTask(t, theImage(), "sleep")
	task.Stdout = started
	errWanted := errors.New("not wanted")
	go func() {
		<-started.c
		cancel(errWanted)
	}()
	o, err := c.Run(ctx, task)
	if err != nil {
		t.Fatal(err)
	}
	wantStatus(t, o, executor.StatusCancelled, "not wanted")
	task.OutputDir = t.TempDir()
	if o, err = c.Run(ctx, task); err != nil || o.Status != executor.StatusCancelled {
		t.Errorf("with an ended context: %+v, %v", o, err)
	}
}

func TestContainerUsers(t *testing.T) {
	c := openContainers(t, nil)
	for user, want := range map[string]string{"1000": "1 1000 1001", "7:8": "1 7 8", "worker": "1 1000 1001", "worker:workers": "1 1000 1002"} {
		image := imageOf(t, func(m map[string]any) { m["config"].(map[string]any)["User"] = user })
		task := containerTask(t, image, "see")
		task.InputDir = inputDir(t, time.Now())
		o, log := contain(t, c, task)
		wantStatus(t, o, executor.StatusOK, "")
		if !strings.Contains(log, want) {
			t.Errorf("user %s: %s, want %s", user, log, want)
		}
	}
	for user, want := range map[string]string{"nobody": `no account "nobody"`, "70000": "beyond 65535", "-1": "beyond 65535"} {
		image := imageOf(t, func(m map[string]any) { m["config"].(map[string]any)["User"] = user })
		o, _ := contain(t, c, containerTask(t, image, "see"))
		wantStatus(t, o, executor.StatusRefused, want)
	}
}

func TestContainerRefusals(t *testing.T) {
	c := openContainers(t, nil)
	for want, change := range map[string]func(*executor.ContainerTask){
		"cannot run \"/none\"": func(task *executor.ContainerTask) { task.Command = []string{"/none"} },
		"cannot run \"/etc\"":  func(task *executor.ContainerTask) { task.Command = []string{"/etc"} },
		"not NAME=value":       func(task *executor.ContainerTask) { task.Env = []string{"=x"} },
		"contains a NUL":       func(task *executor.ContainerTask) { task.Command = []string{"/inmate", "\x00"} },
	} {
		task := containerTask(t, theImage())
		change(&task)
		o, _ := contain(t, c, task)
		wantStatus(t, o, executor.StatusRefused, want)
	}
	for dir, links := range map[string]string{"/proc/self/fd/7": "", "/tmp/../proc/1/cwd": "", "/dev/fd": "", "/link": "/proc/self/fd/8", "/link/fd/9": "usr/../proc/self", "/loop": "loop"} {
		layer := []item{}
		if links != "" {
			layer = append(layer, entry(tar.TypeSymlink, strings.Split(dir, "/")[1], links))
		}
		image := imageOf(t, func(m map[string]any) { m["config"].(map[string]any)["WorkingDir"] = dir }, pack(t, layer...))
		o, _ := contain(t, c, containerTask(t, image, "exit", "0"))
		wantStatus(t, o, executor.StatusRefused, "image's working directory")
	}
	linked := imageOf(t, func(m map[string]any) { m["config"].(map[string]any)["WorkingDir"] = "/link" }, pack(t, entry(tar.TypeSymlink, "link", "/etc")))
	o, _ := contain(t, c, containerTask(t, linked, "exit", "0"))
	wantStatus(t, o, executor.StatusOK, "")
	task := containerTask(t, theImage())
	task.Limits.MemoryBytes = 1 << 20
	if _, err := c.Run(t.Context(), task); err == nil || !strings.Contains(err.Error(), "memory_bytes") {
		t.Errorf("too little memory: %v", err)
	}
}

// An executor that is opened where another died ends what that one left, and
// only that.
func TestOrphansAreEnded(t *testing.T) {
	dir := t.TempDir()
	c := openContainers(t, func(config *executor.ContainerConfig) { config.Dir = dir })
	other := openContainers(t, nil)
	ends := make(chan error, 2)
	outcomes := make(chan executor.Outcome, 2)
	ctx, cancel := context.WithCancel(t.Context())
	for _, on := range []*executor.Containers{c, other} {
		started := &signal{c: make(chan struct{})}
		task := containerTask(t, theImage(), "sleep")
		task.Stdout = started
		go func() {
			o, err := on.Run(ctx, task)
			outcomes <- o
			ends <- err
		}()
		<-started.c
	}
	again, err := executor.OpenContainers(executor.ContainerConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	<-outcomes // the first's: its container was killed under it
	if err := <-ends; err != nil {
		t.Logf("the first executor: %v", err)
	}
	if groups, mounts, boxes, err := again.Left(); err != nil || len(groups)+len(mounts)+len(boxes) > 0 {
		t.Errorf("left: %v %v %v, %v", groups, mounts, boxes, err)
	}
	select {
	case o := <-outcomes:
		t.Errorf("the other executor's container ended: %+v", o)
	default:
	}
	o, _ := contain(t, again, containerTask(t, theImage(), "exit", "0"))
	wantStatus(t, o, executor.StatusOK, "")
	cancel()
	wantStatus(t, <-outcomes, executor.StatusCancelled, "")
	if err := <-ends; err != nil {
		t.Error(err)
	}
}

func TestServices(t *testing.T) {
	c := openContainers(t, nil)
	always := executor.Service{Restart: executor.RestartAlways, Restarts: 2}
	for _, h := range []struct {
		name    string
		args    string
		service executor.Service
		wall    time.Duration
		status  executor.Status
		detail  string
		runs    int
	}{
		{"never", "count 3", executor.Service{Restart: executor.RestartNever}, 0, executor.StatusExited, "", 1},
		{"on failure, fails", "count 3", executor.Service{Restart: executor.RestartOnFailure, Restarts: 1}, 0, executor.StatusExited, "", 2},
		{"on failure, ends well", "count 0", executor.Service{Restart: executor.RestartOnFailure, Restarts: 5}, 0, executor.StatusOK, "", 1},
		{"always", "count 0", always, 0, executor.StatusOK, "", 3},
		{"lease ends", "serve 1000", always, 600 * time.Millisecond, executor.StatusOK, "the service's time ended", 0},
		{"well", "serve 1000", executor.Service{Restart: executor.RestartNever, Health: health("/healthz")}, 800 * time.Millisecond, executor.StatusOK, "the service's time ended", 0},
		{"ill", "serve 3", executor.Service{Restart: executor.RestartNever, Health: health("/healthz")}, 0, executor.StatusExited, "it answered 503", 0},
		{"not listening", "sleep", executor.Service{Restart: executor.RestartNever, Health: health("")}, 0, executor.StatusExited, "connecting to port 8080", 0},
		{"command well", "sleep", executor.Service{Restart: executor.RestartNever, Health: command("/inmate", "exit", "0")}, time.Second, executor.StatusOK, "the service's time ended", 0},
		{"command ill", "sleep", executor.Service{Restart: executor.RestartNever, Health: command("/inmate", "exit", "4")}, 0, executor.StatusExited, "exit code 4", 0},
		{"command hangs", "sleep", executor.Service{Restart: executor.RestartNever, Health: command("/inmate", "sleep")}, 0, executor.StatusExited, "deadline", 0},
	} {
		t.Run(h.name, func(t *testing.T) {
			task := containerTask(t, theImage(), strings.Fields(h.args)...)
			task.Service = h.service
			if h.wall > 0 {
				task.Limits.WallTime = h.wall
			}
			o, log := contain(t, c, task)
			wantStatus(t, o, h.status, h.detail)
			if h.runs > 0 {
				runs, err := os.ReadFile(filepath.Join(task.OutputDir, "runs"))
				if err != nil || strings.Count(string(runs), "run") != h.runs {
					t.Errorf("it ran as %q, %v, want %d times; it wrote %s", runs, err, h.runs, log)
				}
			}
		})
	}
}

func health(path string) executor.Health {
	return executor.Health{Port: 8080, Path: path, Start: 300 * time.Millisecond, Interval: 30 * time.Millisecond, Timeout: 2 * time.Second, Failures: 2}
}

func command(args ...string) executor.Health {
	return executor.Health{Command: args, Interval: 50 * time.Millisecond, Timeout: 400 * time.Millisecond, Failures: 1}
}

func TestExec(t *testing.T) {
	c := openContainers(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	started := &signal{c: make(chan struct{})}
	task := containerTask(t, theImage(), "sleep")
	task.Stdout = started
	ended := make(chan executor.Outcome, 1)
	go func() {
		o, err := c.Run(ctx, task)
		if err != nil {
			t.Error(err)
		}
		ended <- o
	}()
	<-started.c
	out, errs := &safeLog{}, &safeLog{}
	code, err := c.Exec(t.Context(), task.Name, executor.ExecTask{Command: []string{"/inmate", "cat", "said"}, Stdin: strings.NewReader("typed"), Stdout: out, Stderr: errs})
	if err != nil || code != 5 || out.String() != "said\ntyped" || errs.String() != "done\n" {
		t.Errorf("exit code %d, %v, %q, %q", code, err, out, errs)
	}
	for _, args := range []string{"setuid", "calls", "mounts", "devices", "kernel"} {
		out := &safeLog{}
		code, err := c.Exec(t.Context(), task.Name, executor.ExecTask{Command: []string{"/inmate", args}, Stdout: out, Stderr: out})
		if err != nil || code != 0 || strings.Contains(out.String(), "could") {
			t.Errorf("%s: exit code %d, %v, %s", args, code, err, out)
		}
	}
	short, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer stop()
	if _, err := c.Exec(short, task.Name, executor.ExecTask{Command: []string{"/inmate", "sleep"}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a command that hangs: %v", err)
	}
	for _, terminal := range []*executor.Terminal{nil, {Type: "dumb", Columns: 80, Rows: 24}} { // the reason is told once
		said := &safeLog{}
		_, err := c.Exec(t.Context(), task.Name, executor.ExecTask{Command: []string{"/none"}, Stdout: said, Stderr: said, Terminal: terminal})
		if err == nil || !strings.Contains(err.Error(), "cannot be run") || said.String() != "" {
			t.Errorf("no such command: %v; it wrote %q", err, said)
		}
	}
	if _, err := c.Exec(t.Context(), "another", executor.ExecTask{Command: []string{"/inmate"}}); !errors.Is(err, executor.ErrNotRunning) {
		t.Errorf("no such container: %v", err)
	}
	cancel()
	wantStatus(t, <-ended, executor.StatusCancelled, "")
}

// stuck is a reader of a command's output who takes nothing for as long as free
// is open.
type stuck struct {
	free  chan struct{}
	taken atomic.Int64
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.free
	s.taken.Add(int64(len(p)))
	return len(p), nil
}

// A command ends with all that it started when its consumer goes, or when it
// ends itself, and the container runs on.
func TestExecEndsAlone(t *testing.T) {
	c := openContainers(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	started := &signal{c: make(chan struct{})}
	task := containerTask(t, theImage(), "sleep")
	task.Stdout = started
	ended := make(chan executor.Outcome, 1)
	go func() {
		o, err := c.Run(ctx, task)
		if err != nil {
			t.Error(err)
		}
		ended <- o
	}()
	<-started.c
	procs := func() string {
		out := &safeLog{}
		if code, err := c.Exec(t.Context(), task.Name, executor.ExecTask{Command: []string{"/inmate", "procs"}, Stdout: out}); code != 0 || err != nil {
			t.Errorf("exit code %d, %v", code, err)
		}
		return out.String()
	}
	if got := procs(); got != "1" {
		t.Fatalf("%s processes before", got)
	}
	gone, leave := context.WithCancel(t.Context())
	founded := &signal{c: make(chan struct{})}
	result := make(chan error, 1)
	go func() {
		_, err := c.Exec(gone, task.Name, executor.ExecTask{Command: []string{"/inmate", "family"}, Stdout: founded})
		result <- err
	}()
	<-founded.c
	if got := procs(); got != "12" {
		t.Errorf("%s processes beside a command with ten", got)
	}
	leave()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("a command whose consumer went: %v", err)
	}
	if got := procs(); got != "1" {
		t.Errorf("%s processes after its consumer went", got)
	}
	if code, err := c.Exec(t.Context(), task.Name, executor.ExecTask{Command: []string{"/inmate", "orphans"}}); code != 0 || err != nil {
		t.Errorf("exit code %d, %v", code, err)
	}
	if got := procs(); got != "1" {
		t.Errorf("%s processes after a command that left some", got)
	}
	select {
	case o := <-ended:
		t.Fatalf("the container ended with a command: %+v", o)
	default:
	}
	cancel()
	wantStatus(t, <-ended, executor.StatusCancelled, "")
}

// Whoever does not read what a command writes holds the command up, and gets all
// of it in the end.
func TestExecWaitsForItsReader(t *testing.T) {
	c := openContainers(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	started := &signal{c: make(chan struct{})}
	task := containerTask(t, theImage(), "sleep")
	task.Stdout = started
	ended := make(chan executor.Outcome, 1)
	go func() {
		o, err := c.Run(ctx, task)
		if err != nil {
			t.Error(err)
		}
		ended <- o
	}()
	<-started.c
	slow := &stuck{free: make(chan struct{})}
	code := make(chan int, 1)
	go func() {
		got, err := c.Exec(t.Context(), task.Name, executor.ExecTask{Command: []string{"/inmate", "spill", "1000"}, Stdout: slow})
		if err != nil {
			t.Error(err)
		}
		code <- got
	}()
	// It has not ended, as it has more to write than pipes hold: it tells how far it came.
	mark := func() string {
		out := &safeLog{}
		if _, err := c.Exec(t.Context(), task.Name, executor.ExecTask{Command: []string{"/inmate", "read", "/tmp/spilled"}, Stdout: out}); err != nil {
			t.Error(err)
		}
		return out.String()
	}
	last := ""
	for at := mark(); at == "" || at != last; at = mark() { // until it stands still
		last = at
	}
	if n, err := strconv.Atoi(last); err != nil || n > 200 {
		t.Errorf("it wrote %q KiB that nobody took", last)
	}
	close(slow.free)
	if got := <-code; got != 0 || slow.taken.Load() != 1000<<10 {
		t.Errorf("exit code %d, %d bytes", got, slow.taken.Load())
	}
	cancel()
	wantStatus(t, <-ended, executor.StatusCancelled, "")
}

// await waits until a log has a text. Until the runtime has both of its terminals
// set up, one more may return the carriage at the end of a line.
func (l *safeLog) await(t *testing.T, text string) {
	t.Helper()
	limit := time.After(60 * time.Second)
	for !strings.Contains(strings.ReplaceAll(l.String(), "\r\r", "\r"), text) {
		select {
		case <-time.After(2 * time.Millisecond):
		case <-limit:
			t.Errorf("no %q in %q", text, l.String())
			return
		}
	}
}

// A command in a terminal has one of the container's: with its size, from the
// beginning and when it changes, with echo, and Ctrl-C and Ctrl-D that mean
// something.
func TestExecInATerminal(t *testing.T) {
	c := openContainers(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	started := &signal{c: make(chan struct{})}
	task := containerTask(t, theImage(), "sleep")
	task.Stdout = started
	ended := make(chan executor.Outcome, 1)
	go func() {
		o, err := c.Run(ctx, task)
		if err != nil {
			t.Error(err)
		}
		ended <- o
	}()
	<-started.c
	for end, want := range map[string]struct {
		code int
		says string
	}{"\x03": {7, "^Cinterrupted\r\n"}, "\x04": {8, "the end\r\n"}, "": {8, "the end\r\n"}} {
		shown, errs := &safeLog{}, &safeLog{}
		resized := make(chan [2]uint16)
		stdin, keys := io.Pipe()
		go func() {
			defer close(resized)
			shown.await(t, "xterm-test 80 x 24 true\r\nto both\r\n")
			resized <- [2]uint16{132, 43}
			shown.await(t, "window changed 132 x 43\r\n")
			if _, err := io.WriteString(keys, "hello\r"); err != nil {
				t.Error(err)
			}
			shown.await(t, "hello\r\ntyped \"hello\"\r\n")
			if end == "" {
				if err := keys.Close(); err != nil {
					t.Error(err)
				}
			} else if _, err := io.WriteString(keys, end); err != nil {
				t.Error(err)
			}
		}()
		code, err := c.Exec(t.Context(), task.Name, executor.ExecTask{
			Command: []string{"/inmate", "terminal"}, Stdin: stdin, Stdout: shown, Stderr: errs,
			Terminal: &executor.Terminal{Type: "xterm-test", Columns: 80, Rows: 24, Resized: resized},
		})
		if err != nil || code != want.code || !strings.HasSuffix(shown.String(), want.says) || errs.String() != "" {
			t.Errorf("%q: exit code %d, %v, %q, %q", end, code, err, shown, errs)
		}
		if err := stdin.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, args := range []string{"setuid", "calls", "mounts", "devices", "kernel"} {
		shown := &safeLog{}
		if code, err := c.Exec(t.Context(), task.Name, inTerminal(shown, args)); err != nil || code != 0 || strings.Contains(shown.String(), "could") {
			t.Errorf("%s: exit code %d, %v, %s", args, code, err, shown)
		}
	}
	checkTerminalEnds(t, c, task.Name)
	cancel()
	wantStatus(t, <-ended, executor.StatusCancelled, "")
}

// inTerminal is what the inmate does in a terminal.
func inTerminal(shown io.Writer, args ...string) executor.ExecTask {
	return executor.ExecTask{Command: append([]string{"/inmate"}, args...), Stdout: shown, Terminal: &executor.Terminal{Type: "dumb", Columns: 80, Rows: 24}}
}

// checkTerminalEnds has much output come at once, of which all is there, and a
// consumer go, which ends the command.
func checkTerminalEnds(t *testing.T, c *executor.Containers, name string) {
	t.Helper()
	shown := &safeLog{}
	code, err := c.Exec(t.Context(), name, inTerminal(shown, "spill", "1000"))
	if err != nil || code != 0 || len(shown.String()) != 1000<<10 {
		t.Errorf("exit code %d, %v, %d bytes", code, err, len(shown.String()))
	}
	gone, leave := context.WithCancel(t.Context())
	left := &safeLog{}
	result := make(chan error, 1)
	go func() {
		_, err := c.Exec(gone, name, inTerminal(left, "family"))
		result <- err
	}()
	left.await(t, "founded")
	leave()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("a command whose consumer went: %v", err)
	}
	count := &safeLog{}
	if code, err := c.Exec(t.Context(), name, executor.ExecTask{Command: []string{"/inmate", "procs"}, Stdout: count}); code != 0 || err != nil || count.String() != "1" {
		t.Errorf("%s processes are left, exit code %d, %v", count, code, err)
	}
}
