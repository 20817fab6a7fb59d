package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
			if err == nil || !strings.Contains(stderr.String(), "interrupted") || !strings.Contains(stderr.String(), prompt) {
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
