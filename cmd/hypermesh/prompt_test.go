package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/nexus/agent"
)

// TestQuestionsEndWithCtrlC presses Ctrl-C where a command waits for a person:
// the command ends, the terminal echoes again, nothing is half-written, and a
// second run works.
func TestQuestionsEndWithCtrlC(t *testing.T) {
	endToEnd(t)
	program, _ := programs(t)
	dir := t.TempDir()
	wallet, secret := filepath.Join(dir, "wallet.age"), filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("correct horse battery staple\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	interrupt := func(prompt string, args ...string) {
		t.Helper()
		p := openTerminal(t, 80, 24)
		cmd, stderr := p.start(program, args...)
		// The question goes to standard error; that echo is off shows on the terminal.
		limit := time.After(30 * time.Second)
		for p.echoes() {
			select {
			case <-time.After(5 * time.Millisecond):
			case <-limit:
				t.Fatalf("%v: no question", args)
			}
		}
		p.press("\x03")
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case err := <-ended:
			if err == nil || cmd.ProcessState.ExitCode() != exitInterrupted || !strings.Contains(stderr.String(), "interrupted") || !strings.Contains(stderr.String(), prompt) {
				t.Errorf("%v: %v, %s", args, err, stderr)
			}
		case <-time.After(20 * time.Second):
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
			t.Fatalf("%v goes on after Ctrl-C: %v", args, <-ended)
		}
		if !p.echoes() {
			t.Errorf("%v: the terminal does not echo any more", args)
		}
	}
	interrupt("Passphrase", "wallet", "create", "--wallet", wallet)
	if _, err := os.Stat(wallet); err == nil {
		t.Error("a wallet was written")
	}
	if _, err := hypermesh(t, "wallet", "create", "--wallet", wallet, "--passphrase-file", secret); err != nil {
		t.Fatal(err)
	}
	interrupt("Passphrase", "wallet", "list", "--wallet", wallet)
	if _, err := hypermesh(t, "wallet", "list", "--wallet", wallet, "--passphrase-file", secret); err != nil {
		t.Fatal(err)
	}
}

// inTerminal runs the program with all its streams in a terminal.
func inTerminal(t *testing.T, args ...string) (*terminal, *exec.Cmd) {
	t.Helper()
	program, _ := programs(t)
	p, cmd := openTerminal(t, 100, 30), exec.Command(program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.slave, p.slave, p.slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			if err := errors.Join(cmd.Process.Kill(), ignoreExit(cmd.Wait())); err != nil {
				t.Error(err)
			}
		}
	})
	return p, cmd
}

// TestAgentInitEndsWithCtrlC presses Ctrl-C at each question of agent init, and
// leaves a home as it is after a crash anywhere between: nothing is half-written,
// the exit code is 130, and the same command goes on from there.
func TestAgentInitEndsWithCtrlC(t *testing.T) {
	endToEnd(t)
	n := startDevnet(t, "--servers", "1", "--agents", "0", "--no-explorer")
	dir := t.TempDir()
	home, wallet, secret := filepath.Join(dir, "agent"), filepath.Join(dir, "wallet.age"), filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("correct horse battery staple\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := hypermesh(t, "wallet", "create", "--wallet", wallet, "--passphrase-file", secret); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	interrupt := func(question, sentence string, args ...string) {
		t.Helper()
		p, cmd := inTerminal(t, append([]string{"agent", "init", "--home", home, "--config", n.path, "--http", "127.0.0.1:0"}, args...)...)
		p.await(0, question)
		p.press("\x03")
		if err := ignoreExit(cmd.Wait()); err != nil {
			t.Error(err)
		}
		p.await(0, sentence)
		if code := cmd.ProcessState.ExitCode(); code != exitInterrupted {
			t.Errorf("%s: exit code %d", question, code)
		}
		if !p.echoes() {
			t.Errorf("%s: the terminal does not echo any more", question)
		}
	}
	interrupt("Passphrase", "interrupted: nothing more was done", "--wallet", wallet)
	if entries, err := os.ReadDir(home); err == nil {
		t.Errorf("before anything was answered there is a home with %v", entries)
	}
	files := []string{agent.GenesisFile, agent.NodeKeyFile, configFile}
	whole := func() (content string) {
		t.Helper()
		entries, err := os.ReadDir(home)
		if err != nil || len(entries) != len(files) {
			t.Fatalf("the home has %v, %v, want %v", entries, err, files)
		}
		for _, name := range files {
			content += string(read(t, filepath.Join(home, name)))
		}
		return content
	}
	interrupt("Send as alice? [y/N]", "the home is whole, and its node may not be registered yet", "--account", "alice")
	before := whole()
	interrupt("Send as alice? [y/N]", "the same command goes on from there", "--account", "alice")
	if whole() != before {
		t.Error("a second run changed the home")
	}
	key := read(t, filepath.Join(home, agent.NodeKeyFile))
	for _, lost := range []string{agent.GenesisFile, agent.NodeKeyFile} { // as after a crash between two files
		if err := os.Remove(filepath.Join(home, lost)); err != nil {
			t.Fatal(err)
		}
		interrupt("Send as alice? [y/N]", "the home is whole", "--account", "alice")
		whole()
	}
	if err := os.WriteFile(filepath.Join(home, agent.NodeKeyFile), key, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"registered   provider node", "is registered already, by"} {
		out, err := hypermesh(t, "agent", "init", "--home", home, "--config", n.path, "--http", "127.0.0.1:0", "--account", "alice", "--yes")
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("want %q: %v\n%s", want, err, out)
		}
	}
	if whole() != before {
		t.Error("the runs after it changed the home")
	}
}
