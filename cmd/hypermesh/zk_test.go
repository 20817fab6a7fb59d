package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hypermesh/hypermesh/internal/zk/groth16"
)

// TestCeremonyFromTheCommandLine holds a ceremony, interrupts a contribution,
// and has a file changed: the folder shows neither trace nor trust.
func TestCeremonyFromTheCommandLine(t *testing.T) {
	endToEnd(t)
	dir := filepath.Join(t.TempDir(), "ceremony")
	step := func(args ...string) []byte {
		t.Helper()
		out, err := hypermesh(t, append([]string{"zk", "ceremony"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	const beacon = "00112233445566778899aabbccddeeff"
	step("init", "--dir", dir, "--kernel", "hashchain-1")
	step("contribute", "--dir", dir)
	step("seal", "--dir", dir, "--beacon", beacon)
	step("contribute", "--dir", dir)
	var sealed ceremonyResult
	if err := json.Unmarshal(step("seal", "--dir", dir, "--beacon", beacon, "--json"), &sealed); err != nil || sealed.VerifyingKey == nil {
		t.Fatalf("%+v, %v", sealed, err)
	}
	var transcript groth16.Transcript
	if err := json.Unmarshal(step("verify", "--dir", dir, "--json"), &transcript); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(dir, "hashchain-1.vk"))
	if err != nil {
		t.Fatal(err)
	}
	if !transcript.Sealed || transcript.VerifyingKey != *sealed.VerifyingKey || groth16.VerifyingKeyDigest(key) != *sealed.VerifyingKey {
		t.Errorf("transcript %+v, sealed %+v", transcript, sealed)
	}
	path := filepath.Join(dir, "phase2-001.ceremony")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-40] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := hypermesh(t, "zk", "ceremony", "verify", "--dir", dir); err == nil {
		t.Errorf("a changed file verifies: %s", out)
	}
}

// TestInterruptedContributionLeavesNothing stops a contribution of a minute as
// soon as it has begun.
func TestInterruptedContributionLeavesNothing(t *testing.T) {
	endToEnd(t)
	dir := filepath.Join(t.TempDir(), "ceremony")
	if _, err := hypermesh(t, "zk", "ceremony", "init", "--dir", dir, "--kernel", "matmul-16"); err != nil {
		t.Fatal(err)
	}
	program, _ := programs(t)
	cmd := exec.CommandContext(t.Context(), program, "zk", "ceremony", "contribute", "--dir", dir)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	for lines.Scan() && !strings.Contains(lines.Text(), "contributing") {
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	var last string
	for lines.Scan() {
		last = lines.Text()
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(last, "interrupted") {
		t.Errorf("%v, %q", err, last)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Errorf("the folder holds %v, %v", files, err)
	}
}
