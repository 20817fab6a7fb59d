package agent_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/nexus/agent"
)

// finding returns the first finding of a check.
func finding(t *testing.T, list []agent.Finding, check string) agent.Finding {
	t.Helper()
	for _, f := range list {
		if strings.HasPrefix(f.Check, check) {
			if f.Found == "" || (f.Severity == agent.Fine) != (f.Mend == "") {
				t.Errorf("%+v: every finding says what was found, and each that is not fine how to mend it", f)
			}
			return f
		}
	}
	t.Fatalf("no finding of %s in %+v", check, list)
	return agent.Finding{}
}

func TestDoctorOfAHealthyAgent(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	a := start(t, config)
	s.session()
	waitHealthy(t, a)
	before := a.status(t)
	list := agent.Diagnose(t.Context(), config)
	for _, check := range []string{"config", "node key", "genesis", "server", "disk", "agent"} {
		if f := finding(t, list, check); f.Severity != agent.Fine {
			t.Errorf("%+v", f)
		}
	}
	if after := a.status(t); !after.Servers[0].Connected || after.Servers[0].SinceMs != before.Servers[0].SinceMs {
		t.Error("the doctor disturbed the session")
	}
}

// TestDoctorNamesWhatIsWrong breaks one thing at a time.
func TestDoctorNamesWhatIsWrong(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	late := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
	}))
	defer late.Close()
	slightly := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(5*time.Second).UTC().Format(http.TimeFormat))
	}))
	defer slightly.Close()
	write := func(c *agent.Config, file, content string) {
		if err := os.WriteFile(filepath.Join(c.Home, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		breakIt  func(*agent.Config)
		check    string
		severity agent.Severity
		says     string
	}{
		"config":         {func(c *agent.Config) { c.MaxJobs = 0 }, "config", agent.Broken, "max_jobs"},
		"no key":         {func(c *agent.Config) { remove(t, c.Home, agent.NodeKeyFile) }, "node key", agent.Broken, "is missing"},
		"garbled key":    {func(c *agent.Config) { write(c, agent.NodeKeyFile, "key") }, "node key", agent.Broken, "node.key"},
		"open key":       {func(c *agent.Config) { chmod(t, c.Home, agent.NodeKeyFile) }, "node key", agent.Broken, "can be read by others"},
		"no genesis":     {func(c *agent.Config) { remove(t, c.Home, agent.GenesisFile) }, "genesis", agent.Broken, "genesis"},
		"garbled mode":   {func(c *agent.Config) { write(c, "mode.json", "?") }, "mode", agent.Warning, "counts as paused"},
		"too many cores": {func(c *agent.Config) { c.Millicores = 1 << 20 }, "cpu", agent.Warning, "millicores"},
		"no such memory": {func(c *agent.Config) { c.MemoryMiB = 1 << 24 }, "memory", agent.Broken, "memory_mib"},
		"no such disk":   {func(c *agent.Config) { c.DiskMiB = 1 << 24 }, "disk", agent.Broken, "room for"},
		"no program":     {func(c *agent.Config) { c.PriceProgram = []string{"/nonexistent"} }, "price program", agent.Broken, "/nonexistent"},
		"no proving key": {func(c *agent.Config) { c.Kernels = []string{"matmul-32"} }, "kernel matmul-32", agent.Broken, "no proving key"},
		"another server": {func(c *agent.Config) {
			c.Servers = []string{seedKey("other").Public().String() + c.Servers[0][64:]}
		}, "server", agent.Broken, ""},
		"another chain": {func(c *agent.Config) {
			write(c, agent.GenesisFile, strings.Replace(read(t, c.Home, agent.GenesisFile), "hypermesh-test", "hypermesh-else", 1))
		}, "server", agent.Broken, "does not speak this protocol"},
		"no rpc":      {func(*agent.Config) {}, "chain", agent.Warning, "rpc is empty"},
		"late":        {func(c *agent.Config) { c.RPC = []string{late.URL} }, "clock", agent.Broken, "differs"},
		"a bit late":  {func(c *agent.Config) { c.RPC = []string{slightly.URL} }, "clock", agent.Warning, "differs"},
		"no node":     {func(c *agent.Config) { c.RPC = []string{"http://127.0.0.1:9"} }, "node http://127.0.0.1:9", agent.Broken, "refused"},
		"no chain":    {func(c *agent.Config) { c.RPC = []string{late.URL} }, "registration", agent.Broken, "cannot be asked"},
		"not running": {func(*agent.Config) {}, "agent", agent.Warning, "no agent runs"},
	} {
		t.Run(name, func(t *testing.T) {
			config := home(t, g, s)
			c.breakIt(&config)
			f := finding(t, agent.Diagnose(t.Context(), config), c.check)
			if f.Severity != c.severity || !strings.Contains(f.Found, c.says) {
				t.Errorf("%+v, want %s and %q", f, c.severity, c.says)
			}
		})
	}
}

func remove(t *testing.T, dir, file string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, file)); err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, dir, file string) {
	t.Helper()
	if err := os.Chmod(filepath.Join(dir, file), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, dir, file string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
