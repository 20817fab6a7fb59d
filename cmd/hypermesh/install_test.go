package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const packaging = "../../packaging"

// installPackage is a release as people unpack it, with a program of a few bytes.
func installPackage(t *testing.T, program string) string {
	t.Helper()
	dir := t.TempDir()
	sums := ""
	for name, source := range map[string]string{"hypermesh": "", "hypermesh-agent.service": "hypermesh-agent.service", "install.sh": "install.sh", "containers.conf": "containers.conf"} {
		data := []byte("#!/bin/sh\necho " + program + "\n")
		if source != "" {
			var err error
			if data, err = os.ReadFile(filepath.Join(packaging, source)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o755); err != nil {
			t.Fatal(err)
		}
		sums += fmt.Sprintf("%x  %s\n", sha256.Sum256(data), name)
	}
	if err := os.WriteFile(filepath.Join(dir, "SHA256SUMS"), []byte(sums), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// install runs a package's installer as a POSIX shell does, with no program but
// those of the system.
func install(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	shell := "sh"
	if dash, err := exec.LookPath("dash"); err == nil { // the smallest there is
		shell = dash
	}
	cmd := exec.CommandContext(ctx, shell, append([]string{filepath.Join(dir, "install.sh")}, args...)...)
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// listed returns every file below a directory.
func listed(t *testing.T, root string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			files = append(files, strings.TrimPrefix(path, root))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	return files
}

func TestInstaller(t *testing.T) {
	dir, root := installPackage(t, "one"), filepath.Join(t.TempDir(), "root with a space")
	want := []string{"/etc/sysctl.d/90-hypermesh.conf", "/etc/systemd/system/hypermesh-agent.service", "/opt/hm/bin/hypermesh"}
	args := []string{"--root", root, "--prefix", "/opt/hm"}
	if out, err := install(t, dir, args...); err != nil || strings.Count(out, "installed  ") != 3 || !slices.Equal(listed(t, root), want) {
		t.Fatalf("installing: %v, %s, there is %q", err, out, listed(t, root))
	}
	unit, err := os.ReadFile(filepath.Join(root, want[1]))
	if err != nil || !bytes.Contains(unit, []byte("\nExecStart=/opt/hm/bin/hypermesh agent up ")) {
		t.Errorf("the unit runs another program: %v", err)
	}
	if info, err := os.Stat(filepath.Join(root, want[2])); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the program: %v, %v", info, err)
	}
	if out, err := install(t, dir, args...); err != nil || strings.Contains(out, "installed  ") || !strings.Contains(out, "there already") {
		t.Errorf("installing again: %v, %s", err, out)
	}
	if out, err := install(t, installPackage(t, "two"), args...); err != nil || strings.Count(out, "installed  ") != 1 {
		t.Errorf("upgrading: %v, %s", err, out)
	}
	key := filepath.Join(root, "var/lib/hypermesh/agent/node.key")
	if err := errors.Join(os.MkdirAll(filepath.Dir(key), 0o700), os.WriteFile(key, []byte("key"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing left to do
		if out, err := install(t, dir, append(args, "--uninstall")...); err != nil || !slices.Equal(listed(t, root), []string{"/var/lib/hypermesh/agent/node.key"}) {
			t.Errorf("uninstalling: %v, %s, there is %q", err, out, listed(t, root))
		}
	}
	if out, err := install(t, dir, append(args, "--uninstall", "--purge")...); err != nil || len(listed(t, root)) != 0 {
		t.Errorf("purging: %v, %s, there is %q", err, out, listed(t, root))
	}
}

// TestInstallerRefuses breaks a package, or asks wrongly: nothing is installed.
func TestInstallerRefuses(t *testing.T) {
	appendFile := func(dir, name, text string) {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), append(data, text...), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		breakIt func(dir string)
		args    []string
		want    string
	}{
		"a changed program": {func(dir string) { appendFile(dir, "hypermesh", "# more\n") }, nil, "hypermesh does not match SHA256SUMS"},
		"a changed unit":    {func(dir string) { appendFile(dir, "hypermesh-agent.service", "# more\n") }, nil, "hypermesh-agent.service does not match"},
		"no sums":           {func(dir string) { remove(t, dir, "SHA256SUMS") }, nil, "SHA256SUMS is missing"},
		"no program":        {func(dir string) { remove(t, dir, "hypermesh") }, nil, "hypermesh is missing"},
		"not listed": {func(dir string) {
			if err := os.WriteFile(filepath.Join(dir, "SHA256SUMS"), []byte(strings.Repeat("0", 64)+"  other-hypermesh\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, nil, "does not list hypermesh"},
		"an unknown flag":       {nil, []string{"--force"}, "unknown argument --force"},
		"a relative prefix":     {nil, []string{"--prefix", "opt"}, "want an absolute path"},
		"no prefix":             {nil, []string{"--prefix"}, "--prefix wants a directory"},
		"purge without removal": {nil, []string{"--purge"}, "--purge goes with --uninstall"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, root := installPackage(t, "one"), t.TempDir()
			if c.breakIt != nil {
				c.breakIt(dir)
			}
			out, err := install(t, dir, append([]string{"--root", root}, c.args...)...)
			if err == nil || !strings.Contains(out, c.want) || len(listed(t, root)) > 0 {
				t.Errorf("%v, %s, want %q; there is %q", err, out, c.want, listed(t, root))
			}
		})
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

// TestInstallerFetchesNothing holds the script to what is beside it.
func TestInstallerFetchesNothing(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(packaging, "install.sh"))
	if err != nil {
		t.Fatal(err)
	}
	if found := regexp.MustCompile(`curl|wget|https?://|eval|\bnc\b|/dev/tcp`).FindString(string(text)); found != "" {
		t.Errorf("the installer has %q", found)
	}
	if path, err := exec.LookPath("shellcheck"); err == nil {
		if out, err := exec.Command(path, "--shell=sh", filepath.Join(packaging, "install.sh")).CombinedOutput(); err != nil {
			t.Errorf("shellcheck: %v\n%s", err, out)
		}
	}
}

// hardening is what the agent's unit must say, whatever else it does.
var hardening = []string{
	"User=hypermesh", "UMask=0077", "NoNewPrivileges=true", "CapabilityBoundingSet=", "AmbientCapabilities=", "ProtectSystem=strict", "ReadWritePaths=/var/lib/hypermesh/agent",
	"ProtectHome=true", "PrivateTmp=true", "PrivateDevices=true", "PrivateIPC=true", "PrivateUsers=true", "ProtectClock=true", "ProtectControlGroups=true",
	"ProtectHostname=true", "ProtectKernelLogs=true", "ProtectKernelModules=true", "ProtectKernelTunables=true", "ProtectProc=invisible", "KeyringMode=private",
	"LockPersonality=true", "RemoveIPC=true", "RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_INET AF_INET6", "RestrictNamespaces=true", "RestrictRealtime=true",
	"RestrictSUIDSGID=true", "SystemCallArchitectures=native", "SystemCallFilter=@system-service", "MemoryMax=4G", "TasksMax=512", "LimitCORE=0",
}

// directives returns a unit's lines that set something.
func directives(t *testing.T, path string) (lines []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "[") {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestTheAgentsUnitIsHardened(t *testing.T) {
	path := filepath.Join(packaging, "hypermesh-agent.service")
	unit := directives(t, path)
	for _, want := range hardening {
		if !slices.Contains(unit, want) {
			t.Errorf("the unit lacks %s", want)
		}
	}
	// What container jobs take back is in the other file, and nothing of it stands in the unit.
	names := map[string]bool{}
	for _, line := range directives(t, filepath.Join(packaging, "containers.conf")) {
		name, _, _ := strings.Cut(line, "=")
		names[name] = true
		if slices.Contains(unit, line) {
			t.Errorf("%s is an exception, and stands in the unit as well", line)
		}
	}
	for _, kept := range []string{"NoNewPrivileges", "ProtectSystem", "ProtectHome", "ProtectKernelModules", "UMask", "MemoryMax"} {
		if names[kept] {
			t.Errorf("container jobs do not need another %s", kept)
		}
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("systemd-analyze is not there: the list of directives alone was checked")
		return
	}
	out, err := exec.CommandContext(t.Context(), analyze, "security", "--offline=true", "--no-pager", path).CombinedOutput()
	if err != nil && strings.Contains(string(out), "unrecognized option") {
		t.Log("systemd-analyze is too old: the list of directives alone was checked")
		return
	}
	level := regexp.MustCompile(`exposure level for hypermesh-agent.service: ([0-9.]+)`).FindSubmatch(out)
	if err != nil || level == nil {
		t.Fatalf("systemd-analyze: %v\n%s", err, out)
	}
	if exposure, err := strconv.ParseFloat(string(level[1]), 64); err != nil || exposure > 2 {
		t.Errorf("systemd-analyze says %s, %v, want 2.0 at most", level[1], err)
	}
}

// TestThePagesUnitsAreThePackages finds every directive of the agent's unit in
// docs/DEPLOY.md in the package's as well.
func TestThePagesUnitsAreThePackages(t *testing.T) {
	text, err := os.ReadFile("../../docs/DEPLOY.md")
	if err != nil {
		t.Fatal(err)
	}
	page, err := parsePage(string(text))
	if err != nil {
		t.Fatal(err)
	}
	unit := directives(t, filepath.Join(packaging, "hypermesh-agent.service"))
	for _, b := range page.blocks {
		if !strings.HasSuffix(b.file, "/hypermesh-agent.service") {
			continue
		}
		path := filepath.Join(t.TempDir(), "unit")
		if err := os.WriteFile(path, []byte(b.text), 0o600); err != nil {
			t.Fatal(err)
		}
		of := directives(t, path)
		for _, line := range of {
			if !slices.Contains(unit, line) && !strings.HasPrefix(line, "Documentation=") {
				t.Errorf("docs/DEPLOY.md has %s, the package has not", line)
			}
		}
		if len(of) < 20 {
			t.Errorf("the page's unit has %d directives", len(of))
		}
		return
	}
	t.Error("docs/DEPLOY.md has no unit of the agent")
}
