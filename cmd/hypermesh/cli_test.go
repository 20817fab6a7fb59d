package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/urfave/cli/v2"
)

// invoke runs one command line in this process.
func invoke(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), append([]string{programName}, args...), &out, &errs)
	return code, out.String(), errs.String()
}

func TestExitCodes(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none")
	for _, c := range []struct {
		args string
		code int
		want string // in stderr
	}{
		{"--help", 0, ""},
		{"devnet up --help", 0, ""},
		{"nonsense", 2, `"nonsense" is no command`},
		{"wallet nonsense", 2, `"nonsense" is no subcommand of "wallet"`},
		{"devnet up --nonsense", 2, "-nonsense"},
		{"devnet up --validators 0", 2, "validators is 0, want 1 to 32"},
		{"devnet up --servers 2", 2, "servers is 2, want 0, 1, 3 or 5"},
		{"devnet up --servers 0 --agents 1", 2, "agents need a cluster"},
		{"bench transfers --rpc http://127.0.0.1:1 --rate 0", 2, "rate is 0"},
		{"node run --home " + missing, 1, "genesis"},
		{"node run", 2, "home"},
		{"job run --config x", 2, "want a program"},
		{"job run p.wasm --config x --verify maybe", 2, "want none, replicate=K/N, optimistic=WINDOW,BOND, or zk"},
		{"job run p.wasm --config x --verify replicate=3/2", 2, "2 ≤ K ≤ N"},
		{"job run --kernel sort --config x", 2, `"sort" is unknown`},
		{"job run --kernel matmul --config x", 2, "needs --verify zk"},
		{"job run --kernel matmul --verify zk --config x", 2, "needs --a and --b"},
		{"job status zz --config x", 2, "JOB"},
		{"query account nobody", 2, "ADDRESS"},
		{"query supply --config " + missing, 1, "whoever runs the network publishes it"},
		{"query supply --rpc http://127.0.0.1:1", 1, "nobody listens at 127.0.0.1:1 (connection refused): --rpc URL names another node, --config FILE names another network, and hypermesh devnet up starts"},
		{"job status 1234abcd --config x", 2, "as job run prints it"},
		{"agent meter --home " + missing, 1, "there is no agent in"},
		{"agent declare --home " + missing, 1, "there is no agent in"},
		{"audit export --out x --resource Gold", 2, "--resource"},
		{"audit export --out x --since never", 2, "--since"},
		{"audit export --out x --checkpoint now", 2, "--checkpoint"},
		{"audit export", 2, "out"},
		{"audit verify x --genesis " + missing, 1, "genesis"},
		{"audit verify x y --genesis " + missing, 2, "want one FILE"},
		{"genesis check --genesis " + missing, 1, "genesis"},
		{"genesis init --chain-id X", 2, "missing --community ADDRESS"},
		{"zk ceremony init --dir x --kernel matmul-5", 2, `kernel "matmul-5" is unknown`},
		{"zk ceremony init --dir x", 2, "kernel"},
		{"zk ceremony contribute --dir " + missing, 1, "ceremony"},
		{"zk ceremony verify", 2, "dir"},
		{"zk ceremony verify --dir x y", 2, "want no arguments"},
		{"zk ceremony seal --dir x --beacon zz", 2, "16 to 256 bytes"},
		{"zk ceremony seal --dir x --beacon 00", 2, "16 to 256 bytes"},
	} {
		code, _, stderr := invoke(t, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit code %d, want %d; stderr %q, want %q in it", c.args, code, c.code, stderr, c.want)
		}
	}
}

// TestHelp holds the commands' names, flags and examples, which others rely on.
func TestHelp(t *testing.T) {
	var out bytes.Buffer
	eachCommand([]string{programName}, newApp(io.Discard, io.Discard).Commands, func(at []string, command *cli.Command) {
		checkExamples(t, at, command)
		out.WriteString(strings.Join(at, " ") + "\n")
		for _, f := range command.Flags {
			out.WriteString("    --" + f.Names()[0] + "\n")
		}
	})
	golden.Check(t, "testdata/commands.txt", out.Bytes())
}

// checkExamples checks that the help of the command at that path has an example,
// and that its examples use only flags that the command has.
func checkExamples(t *testing.T, path []string, command *cli.Command) {
	t.Helper()
	name, examples := strings.Join(path, " "), 0
	for line := range strings.Lines(command.Description) {
		example, ok := strings.CutPrefix(strings.TrimSpace(line), "Example: "+name)
		if !ok {
			continue
		}
		examples++
		example, _, _ = strings.Cut(example, " -- ")
		for _, word := range strings.Fields(example) {
			flag, ok := strings.CutPrefix(word, "--")
			flag, _, _ = strings.Cut(flag, "=")
			if ok && !slices.ContainsFunc(command.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), flag) }) {
				t.Errorf("%s: its example has --%s, which it does not know", name, flag)
			}
		}
	}
	if examples == 0 {
		t.Errorf("%s: its help has no example", name)
	}
}

// TestSingularFlags checks: a list's flag has its singular as another name, and "nexus" is
// one already.
func TestSingularFlags(t *testing.T) {
	for _, f := range configFlags("test", struct {
		Nexus []string `toml:"nexus"`
		Peers []string `toml:"peers"`
		RPC   []string `toml:"rpc"`
	}{}) {
		want := map[string][]string{"nexus": {"nexus"}, "peers": {"peers", "peer"}, "rpc": {"rpc"}}[f.Names()[0]]
		if !slices.Equal(f.Names(), want) {
			t.Errorf("%v, want %v", f.Names(), want)
		}
	}
}

func TestFlagsMayFollowArguments(t *testing.T) {
	app := newApp(io.Discard, io.Discard)
	for in, want := range map[string]string{
		"hypermesh job run p.wasm --config f --json -- --fast x": "hypermesh job run --config f --json -- p.wasm --fast x",
		"hypermesh job run --config=f p.wasm":                    "hypermesh job run --config=f -- p.wasm",
		"hypermesh job status id --config f":                     "hypermesh job status --config f -- id",
		"hypermesh wallet":                                       "hypermesh wallet",
		"hypermesh --help":                                       "hypermesh --help",
		"hypermesh job run p --bogus x":                          "hypermesh job run --bogus -- p x",
	} {
		got, err := flagsFirst(app, strings.Fields(in))
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s\n became %s, %v\n   want %s", in, got, err, want)
		}
	}
}

// TestMissingFlagsAreNamed checks: a command that lacks flags says which, and what
// they take, on standard error alone; the environment counts, help is given, and a
// flag that is unknown is told first.
func TestMissingFlagsAreNamed(t *testing.T) {
	for args, want := range map[string]string{
		"lease request image.tar":       "missing --config FILE, --hold HYPER\nTry: hypermesh lease request --help\n",
		"lease request --hold config p": "missing --config FILE\nTry: hypermesh lease request --help\n",
		"job run --bogus":               "-bogus",
		"wallet send --to x":            "missing --amount HYPER\nTry: hypermesh wallet send --help\n",
		"relay --private":               "missing --home DIR\nTry: hypermesh relay run --help\n",
	} {
		code, stdout, stderr := invoke(t, strings.Fields(args)...)
		if code == 0 || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d, %d bytes on standard output, stderr %q, want %q", args, code, len(stdout), stderr, want)
		}
	}
	if code, stdout, _ := invoke(t, "job", "run", "--help"); code != 0 || !strings.Contains(stdout, "--verify") {
		t.Errorf("help of a command without its flags: exit code %d, %q", code, stdout)
	}
	t.Setenv("HYPERMESH_CONFIG", filepath.Join(t.TempDir(), "none.json"))
	code, _, stderr := invoke(t, "job", "status", strings.Repeat("0", 64))
	if code != exitFailed || !strings.Contains(stderr, "whoever runs the network publishes it") {
		t.Errorf("a description that the environment names: exit code %d, %q", code, stderr)
	}
}

// testConfig has a field of every kind that a config may have.
type testConfig struct {
	Home  string        `toml:"-"`
	Addr  string        `toml:"addr" usage:"an address"`
	Peers []string      `toml:"peers" usage:"some"`
	On    bool          `toml:"on" usage:"a switch"`
	Count int           `toml:"count" usage:"a number"`
	Bytes uint64        `toml:"bytes" usage:"another"`
	Wait  time.Duration `toml:"wait" usage:"a time"`
}

func (c *testConfig) Check() error { return nil }

// TestConfigOrder checks: flags before the environment before the file before the
// defaults, for every kind of field.
func TestConfigOrder(t *testing.T) {
	defaults := testConfig{Addr: "default", Peers: []string{"default"}, Count: 1, Bytes: 1, Wait: time.Second}
	home := t.TempDir()
	read := func(args ...string) (config testConfig, err error) {
		app := &cli.App{Name: "test", Flags: append([]cli.Flag{homeFlag()}, configFlags("test", defaults)...), Writer: io.Discard, ErrWriter: io.Discard}
		app.Action = func(c *cli.Context) error {
			config = defaults
			return readConfig(c, &config)
		}
		return config, app.RunContext(context.Background(), append([]string{"test", "--home", home}, args...))
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(home, configFile), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	same := func(got testConfig, err error, want testConfig) {
		t.Helper()
		if err != nil || got.Addr != want.Addr || !slices.Equal(got.Peers, want.Peers) || got.On != want.On || got.Count != want.Count || got.Bytes != want.Bytes || got.Wait != want.Wait {
			t.Errorf("config is %+v, %v, want %+v", got, err, want)
		}
	}
	got, err := read()
	same(got, err, defaults)
	write("addr = \"file\"\npeers = [\"file\"]\non = true\ncount = 2\nbytes = 2\nwait = \"2s\"\n")
	file := testConfig{Addr: "file", Peers: []string{"file"}, On: true, Count: 2, Bytes: 2, Wait: 2 * time.Second}
	got, err = read()
	same(got, err, file)
	for name, value := range map[string]string{"ADDR": "env", "PEERS": "env", "ON": "false", "COUNT": "3", "BYTES": "3", "WAIT": "3s"} {
		t.Setenv("HYPERMESH_TEST_"+name, value)
	}
	got, err = read()
	same(got, err, testConfig{Addr: "env", Peers: []string{"env"}, Count: 3, Bytes: 3, Wait: 3 * time.Second})
	got, err = read("--addr", "flag", "--peer", "flag", "--on", "--count", "4", "--bytes", "4", "--wait", "4s")
	same(got, err, testConfig{Addr: "flag", Peers: []string{"flag"}, On: true, Count: 4, Bytes: 4, Wait: 4 * time.Second})
	write("adr = \"file\"\n")
	if _, err := read(); err == nil || !strings.Contains(err.Error(), `unknown key "adr"`) {
		t.Errorf("an unknown key: %v", err)
	}
}
