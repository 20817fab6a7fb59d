package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// damagedBlock begins the block of docs/DEPLOY.md that brings a damaged node back.
const damagedBlock = "```sh\n# not run: a node whose files are damaged"

// unitStandIn is what the page's systemctl does here, with the unit's one command.
const unitStandIn = `#!/bin/sh
case "$1 $2" in
"start hypermesh@node")
	setsid hypermesh node run --home "$DAMAGED_HOME" >>"$DAMAGED_HOME/log" 2>&1 </dev/null &
	echo $! >"$DAMAGED_HOME/pid" ;;
"stop hypermesh@node")
	: ;; # it has ended, having refused to start
*)
	echo "unknown: $*" >&2
	exit 1 ;;
esac
`

// TestDamagedFilesAreCuredAsDeployPageSays flips a bit in the files of an observer: it
// refuses to start and names the file, or node verify does, and the commands of
// docs/DEPLOY.md bring it back to the head by sync.
func TestDamagedFilesAreCuredAsDeployPageSays(t *testing.T) {
	endToEnd(t)
	n := startDevnet(t, "--validators", "4", "--servers", "0", "--no-explorer", "--epoch", "4s")
	d := n.describe(t)
	genesis, err := node.ReadGenesisFile(d.Genesis)
	if err != nil {
		t.Fatal(err)
	}
	client, err := sdk.New(sdk.Config{Nodes: d.RPC, Genesis: genesis})
	if err != nil {
		t.Fatal(err)
	}
	load(t, d.RPC)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	o := startObserver(t, observer{genesis: d.Genesis})
	follower, err := sdk.New(sdk.Config{Nodes: []string{o.url}, Genesis: genesis, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	await(t, ctx, "two epochs", func() error {
		_, err := follower.EpochEnd(ctx, 2)
		return err
	})
	o.stop(t)
	checkRefusesDamaged(t, o.home)
	before, err := client.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cure(t, o, d.RPC[0])
	await(t, ctx, "the head", func() error {
		ours, err := follower.Status(ctx)
		if err != nil {
			return err
		}
		if ours.Height <= before.Height {
			return fmt.Errorf("at height %d, the damage was found at %d", ours.Height, before.Height)
		}
		return nil
	})
	theirs, err := client.VerifiedHeader(ctx, before.Height+1)
	if err != nil {
		t.Fatal(err)
	}
	if ours, err := follower.Block(ctx, before.Height+1, api.BlockHeader); err != nil || ours.Digest != theirs.Digest() {
		t.Errorf("block %d is %s, and %s on the chain: %v", before.Height+1, ours.Digest.Short(), theirs.Digest().Short(), err)
	}
	if _, err := follower.Block(ctx, 1, api.BlockHeader); !sdk.IsNotFound(err) {
		t.Errorf("the node has block 1, so it replayed the chain: %v", err)
	}
}

// checkRefusesDamaged flips a bit of each kind of file, and leaves the last one so.
func checkRefusesDamaged(t *testing.T, home string) {
	t.Helper()
	for _, kind := range []string{"MANIFEST-*", "*.log", "*.sst"} {
		command := "run"
		if kind == "*.sst" {
			command = "verify" // who runs reads a part of the tables at the start
			// After some seconds all is in the log.
			if _, err := hypermesh(t, "node", "compact", "--home", home); err != nil {
				t.Fatal(err)
			}
			checkStopsAtDamage(t, home)
		}
		files, err := filepath.Glob(filepath.Join(home, "data", "chain", kind))
		if err != nil || len(files) == 0 {
			t.Fatalf("the database has no %s: %v", kind, err)
		}
		damaged := files[len(files)-1]
		whole := read(t, damaged)
		bad := append([]byte(nil), whole...)
		bad[len(bad)/2] ^= 1
		if err := os.WriteFile(damaged, bad, 0o644); err != nil {
			t.Fatal(err)
		}
		program, _ := programs(t)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		out, err := exec.CommandContext(ctx, program, "node", command, "--home", home).CombinedOutput()
		ended := ctx.Err() == nil
		cancel()
		if !ended || err == nil || !strings.Contains(string(out), filepath.Base(damaged)) {
			t.Errorf("byte %d of %d of %s is flipped: node %s ended %t, %v, and names it not:\n%s", len(bad)/2, len(bad), damaged, command, ended, err, out)
		}
		if kind == "*.sst" {
			return
		}
		if err := os.WriteFile(damaged, whole, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// checkStopsAtDamage flips a bit in every block of every table, of which the seal has the size
// alone: a node that is started ends at the first block that it reads, and names the file.
func checkStopsAtDamage(t *testing.T, home string) {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(home, "data", "chain", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("the database has no tables: %v", err)
	}
	whole := map[string][]byte{}
	for _, table := range tables {
		whole[table] = read(t, table)
		bad := append([]byte(nil), whole[table]...)
		for at := 100; at < len(bad)*3/4; at += 256 {
			bad[at] ^= 1
		}
		if err := os.WriteFile(table, bad, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	program, _ := programs(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, "node", "run", "--home", home).CombinedOutput()
	named := slices.ContainsFunc(tables, func(table string) bool { return strings.Contains(string(out), filepath.Base(table)) })
	if ctx.Err() != nil || err == nil || !named {
		t.Errorf("with all of %s flipped a node ended with %v (%v), naming none:\n%s", tables, err, ctx.Err(), out)
	}
	for table, content := range whole { // order-free: each its own file
		if err := os.WriteFile(table, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// cure runs the page's block on the home of an observer that has ended.
func cure(t *testing.T, o *observer, another string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/DEPLOY.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), damagedBlock)
	_, rest, _ = strings.Cut(rest, "\n")
	script, _, ended := strings.Cut(rest, "```")
	if !found || !ended {
		t.Fatal("docs/DEPLOY.md has no block for a node whose files are damaged")
	}
	for said, here := range map[string]string{
		"/var/lib/hypermesh/node": o.home, "https://another.example.net:7180": another, "http://127.0.0.1:7180": o.url,
	} {
		if !strings.Contains(script, said) {
			t.Fatalf("the block does not say %s", said)
		}
		script = strings.ReplaceAll(script, said, here)
	}
	program, _ := programs(t)
	bin := t.TempDir()
	if err := errors.Join(os.Symlink(program, filepath.Join(bin, "hypermesh")), os.WriteFile(filepath.Join(bin, "systemctl"), []byte(unitStandIn), 0o755)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { endByPid(t, o.home) })
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "DAMAGED_HOME="+o.home)
	out, err := cmd.CombinedOutput()
	t.Logf("%s\n%s", script, out)
	if err != nil {
		t.Fatalf("%v\n%s", err, read(t, filepath.Join(o.home, "log")))
	}
}

// endByPid ends the node that the stand-in of systemctl started.
func endByPid(t *testing.T, home string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(home, "pid"))
	if errors.Is(err, os.ErrNotExist) { // the block ended before it started anything
		return
	}
	pid, convErr := strconv.Atoi(strings.TrimSpace(string(text)))
	if err := errors.Join(err, convErr); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGINT); err != nil {
		t.Error(err)
	}
	until(t, "the node to end", 30*time.Second, func() bool { return syscall.Kill(pid, 0) != nil })
}
