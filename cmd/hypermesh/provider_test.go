package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/agent"
)

// guideBlock is a block of docs/PROVIDER.md that is run.
type guideBlock struct {
	line       int
	background bool
	text       string
}

// parseGuide returns the blocks of sh that begin with # run. Each of these blocks
// must, or say why it is not run.
func parseGuide(text string) (blocks []guideBlock, err error) {
	var body strings.Builder
	kind, begun := "", 0
	for i, line := range strings.Split(text, "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && kind == "":
			kind, begun = fence+" ", i+1
			body.Reset()
		case isFence:
			head, rest, _ := strings.Cut(body.String(), "\n")
			switch {
			case kind != "sh ":
			case head == "# run" || strings.HasPrefix(head, "# run: ") || head == "# run in background":
				blocks = append(blocks, guideBlock{line: begun, background: head == "# run in background", text: rest})
			case !strings.HasPrefix(head, "# not run: "):
				return nil, fmt.Errorf("line %d: a block that says neither # run nor # not run", begun)
			}
			kind = ""
		case kind != "":
			body.WriteString(line + "\n")
		}
	}
	if len(blocks) == 0 || kind != "" {
		return nil, fmt.Errorf("%d blocks, inside a block: %v", len(blocks), kind != "")
	}
	return blocks, nil
}

// guideOf returns the blocks of a page of docs/.
func guideOf(t *testing.T, page string) []guideBlock {
	t.Helper()
	text, err := os.ReadFile("../../docs/" + page)
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := parseGuide(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return blocks
}

func TestProviderPageParses(t *testing.T) {
	if n := len(guideOf(t, "PROVIDER.md")); n < 7 {
		t.Errorf("%d blocks are run", n)
	}
	for _, bad := range []string{"", "```sh\n# not run: why\n```\n", "```sh\ntrue\n```\n", "```sh\n# run\ntrue\n"} {
		if blocks, err := parseGuide(bad); err == nil {
			t.Errorf("%q is taken as %+v", bad, blocks)
		}
	}
}

// newcomer is a person with a home directory, a shell and the program.
type newcomer struct {
	dir string
	env []string
}

func (n *newcomer) shell(ctx context.Context, text string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "-c", "set -euo pipefail\n"+text)
	cmd.Dir, cmd.Env = n.dir, n.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd
}

func (n *newcomer) run(t *testing.T, text string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := n.shell(ctx, text)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	t.Logf("%s\n%s%s", text, stdout.Bytes(), stderr.Bytes())
	return stdout.String(), err
}

// newNewcomer is somebody with the network's public description, beside whom a
// friend's stands, with accounts.
func newNewcomer(t *testing.T, network *network) *newcomer {
	t.Helper()
	program, _ := programs(t)
	dir := t.TempDir()
	d := network.describe(t)
	write := func(name string, v any) {
		data, err := json.Marshal(v)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write("rich.json", d)
	d.Accounts, d.Processes = nil, nil
	write("net.json", d)
	if err := os.WriteFile(filepath.Join(dir, "passphrase"), []byte("a phrase of the test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return &newcomer{dir: dir, env: []string{
		"HOME=" + dir, "PATH=" + filepath.Dir(program) + ":/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8",
		"HYPERMESH_PASSPHRASE_FILE=" + filepath.Join(dir, "passphrase"), "HYPERMESH_AGENT_HTTP=127.0.0.1:0",
	}}
}

// TestProviderPage runs docs/PROVIDER.md as a newcomer does, and has the new node
// earn: a job is run, settled, and in the earnings.
func TestProviderPage(t *testing.T) {
	endToEnd(t)
	network := startDevnet(t, "--servers", "1", "--agents", "0", "--no-explorer")
	n := newNewcomer(t, network)
	home := filepath.Join(n.dir, ".hypermesh", "agent")
	n.mistakes(t)
	for _, b := range guideOf(t, "PROVIDER.md") {
		if b.background {
			n.startAgent(t, home, b.text)
			n.earn(t, network, home)
			continue
		}
		if _, err := n.run(t, b.text); err != nil {
			t.Fatalf("docs/PROVIDER.md:%d: %v", b.line, err)
		}
	}
	n.checkPage(t, home)
}

// mistakes are what newcomers do first.
func (n *newcomer) mistakes(t *testing.T) {
	t.Helper()
	for command, want := range map[string]string{
		"hypermesh agent up":                                      "hypermesh agent init makes one",
		"hypermesh agent pause":                                   "hypermesh agent init makes one",
		"hypermesh agent doctor":                                  "hypermesh agent init makes one",
		"hypermesh agent init":                                    "which cluster?",
		"hypermesh agent init --config nowhere.json":              "nowhere.json",
		"hypermesh agent init --config net.json":                  "hypermesh wallet create makes one",
		"hypermesh agent init --config net.json --owner me":       "owner: ",
		"hypermesh agent init --config net.json --hours noon":     "hypermesh wallet create makes one",
		"hypermesh agent drain --deadline -5m":                    "want more than nothing",
		"hypermesh agent init --config net.json --millicores a":   "invalid value",
		"hypermesh agent pair":                                    "want one PAIRING.json",
		"hypermesh agent pair rich.json --config rich.json --yes": "unknown field",
	} {
		out, err := n.run(t, command+" 2>&1")
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v, %q, want %q in it", command, err, out, want)
		}
	}
	if _, err := os.Stat(filepath.Join(n.dir, ".hypermesh")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a mistake left something behind: %v", err)
	}
}

// startAgent runs the agent until the test ends, as Ctrl-C does.
func (n *newcomer) startAgent(t *testing.T, home, text string) {
	t.Helper()
	log, err := os.Create(filepath.Join(n.dir, "agent.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := n.shell(context.Background(), "exec "+text)
	cmd.Stdout, cmd.Stderr = log, log
	if err := errors.Join(cmd.Start(), log.Close()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the agent ends with %v", err)
		}
		if t.Failed() {
			data, err := os.ReadFile(log.Name())
			t.Logf("the agent's log: %s %v", data, err)
		}
	})
	n.awaitStatus(t, home, "takes work", func(s agent.Status) bool { return s.Accepting && s.NotReadyAs == "" })
}

// awaitStatus polls the agent as its owner's commands do.
func (n *newcomer) awaitStatus(t *testing.T, home, what string, want func(agent.Status) bool) {
	t.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(time.Minute)
	for {
		var s agent.Status
		remote, err := agent.Reach(t.Context(), home)
		if err == nil {
			s, err = remote.Status(t.Context())
		}
		if err == nil && want(s) {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("the agent never %s: %+v, %v", what, s, err)
		}
	}
}

// earn has the consumer's job run on the newcomer's node, and waits for its pay.
func (n *newcomer) earn(t *testing.T, network *network, home string) {
	t.Helper()
	_, fractal := programs(t)
	in := filepath.Join(n.dir, "in")
	if err := errors.Join(os.Mkdir(in, 0o700), os.WriteFile(filepath.Join(in, "params.txt"), []byte("width = 64\nheight = 64\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := hypermesh(t, "job", "run", fractal, "--in", in, "--out", filepath.Join(n.dir, "out"), "--config", network.path); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(time.Minute)
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		var e agent.Earnings
		out, err := n.run(t, "hypermesh agent earnings --json")
		if err == nil {
			err = json.Unmarshal([]byte(out), &e)
		}
		if err != nil {
			t.Fatal(err)
		}
		if e.SettledJobs == 1 && !e.Settled.IsZero() && e.Today == e.Settled && e.Pending.IsZero() && e.PendingJobs == 0 && e.Unknown == "" {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("earnings stay %+v", e)
		}
	}
}

// checkPage finds no key of the owner's in the home, and the page for loopback.
func (n *newcomer) checkPage(t *testing.T, home string) {
	t.Helper()
	address, err := os.ReadFile(filepath.Join(home, agent.AddressFile))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.Get("http://" + strings.TrimSpace(string(address)) + "/")
	if err != nil {
		t.Fatal(err)
	}
	var page bytes.Buffer
	_, err = page.ReadFrom(answer.Body)
	if err := errors.Join(err, answer.Body.Close()); err != nil || answer.StatusCode != http.StatusOK || !strings.Contains(page.String(), "1 job;") {
		t.Errorf("the page: %s, %v\n%s", answer.Status, err, page.Bytes())
	}
	keys := 0
	err = filepath.WalkDir(home, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if _, is := crypto.ParsePrivateKey(strings.TrimSpace(string(data))); is == nil && entry.Name() != agent.TokenFile {
			keys++
		}
		return err
	})
	if err != nil || keys != 1 {
		t.Errorf("the home has %d keys, %v, want the node's alone", keys, err)
	}
}
