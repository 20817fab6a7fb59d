package agent_test

import (
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// waitHealthy polls /healthz, as a supervisor does, until it says 200.
func waitHealthy(t *testing.T, a *running) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.After(patience)
	for {
		_, err := a.get(t, "/healthz")
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-timeout:
			t.Fatalf("not healthy: %v", err)
		}
	}
}

func TestHealthNamesWhatIsMissing(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	config.Servers = append(config.Servers, seedKey("absent").Public().String()+"@127.0.0.1:9")
	a := start(t, config)
	s.session()
	if _, err := a.get(t, "/healthz"); err == nil || !strings.Contains(err.Error(), "of 2 servers") {
		t.Errorf("with one of two servers: %v", err)
	}
	a.stop()
	config.Servers = config.Servers[:1]
	waitHealthy(t, start(t, config))
}

func TestPauseNeedsTheTokenAndLasts(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	a := start(t, config)
	p := s.session()
	token, err := os.ReadFile(filepath.Join(config.Home, agent.TokenFile))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(config.Home, agent.TokenFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the token's mode: %v, %v", info.Mode(), err)
	}
	post := func(path, auth string) int {
		req, err := http.NewRequest(http.MethodPost, "http://"+a.HTTPAddr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", auth)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode
	}
	for _, auth := range []string{"", "Bearer ", "Bearer " + strings.Repeat("0", 64), strings.TrimSpace(string(token))} {
		if code := post("/v1/pause", auth); code != http.StatusUnauthorized {
			t.Errorf("pausing with %.20q: %d", auth, code)
		}
	}
	bearer := "Bearer " + strings.TrimSpace(string(token))
	if code := post("/v1/pause", bearer); code != http.StatusOK {
		t.Fatalf("pausing: %d", code)
	}
	if l := await[job.Load](p, nil); l.Accepting {
		t.Errorf("Load %+v", l)
	}
	spec := wasmSpec(crypto.Digest{1}, 1)
	p.send(offer(0, orderOf(&spec, 1), spec, 0))
	if r := await[job.BidReply](p, nil); r.Decline != "paused" {
		t.Errorf("offer while paused: %+v", r)
	}
	a.stop()
	a = start(t, config)
	if p = s.session(); p.hello.Accepting {
		t.Error("a restart ended the pause")
	}
	if code := post("/v1/resume", bearer); code != http.StatusOK {
		t.Fatalf("resuming: %d", code)
	}
	if l := await[job.Load](p, nil); !l.Accepting {
		t.Errorf("Load %+v", l)
	}
}

func TestPageAndMetrics(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	a := start(t, home(t, g, s))
	waitHealthy(t, a)
	for path, wants := range map[string][]string{
		"/":        {a.ID().String(), ownerAddr.String(), "takes work", "of 2000 millicores free", "Moved since the start"},
		"/metrics": {"hypermesh_agent_sessions 1", "hypermesh_agent_running 0", "go_goroutines"},
	} {
		body, err := a.get(t, path)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(string(body), want) {
				t.Errorf("%s lacks %q", path, want)
			}
		}
	}
}

func TestConfigRefusesByField(t *testing.T) {
	good := home(t, genesis())
	good.Servers = []string{nodeKey.Public().String() + "@127.0.0.1:1"}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for field, change := range map[string]func(*agent.Config){
		"servers":           func(c *agent.Config) { c.Servers = nil },
		"servers: ":         func(c *agent.Config) { c.Servers = []string{"nowhere"} },
		"appears twice":     func(c *agent.Config) { c.Servers = append(c.Servers, c.Servers[0]) },
		"owner":             func(c *agent.Config) { c.Owner = "hyper1x" },
		"region":            func(c *agent.Config) { c.Region = strings.Repeat("x", 33) },
		"millicores":        func(c *agent.Config) { c.Millicores = 0 },
		"memory_mib":        func(c *agent.Config) { c.MemoryMiB = 1 << 40 },
		"disk_mib":          func(c *agent.Config) { c.DiskMiB = 1 },
		"max_jobs":          func(c *agent.Config) { c.MaxJobs = -1 },
		"cluster_cover":     func(c *agent.Config) { c.ClusterCover = 1 << 20 },
		"surcharge_percent": func(c *agent.Config) { c.SurchargePercent = 1 << 20 },
		"bid_expiry":        func(c *agent.Config) { c.BidExpiry = time.Millisecond },
		"kernels":           func(c *agent.Config) { c.Kernels = make([]string, 17) },
		"http":              func(c *agent.Config) { c.HTTP = "0.0.0.0:80" },
		"missing port":      func(c *agent.Config) { c.HTTP = "nonsense" },
		"log_level":         func(c *agent.Config) { c.LogLevel = "loud" },
	} {
		c := good
		change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// TestConfigFieldsAreFlags holds every field to the kinds that the command line
// and the config file know.
func TestConfigFieldsAreFlags(t *testing.T) {
	kinds := map[reflect.Type]bool{
		reflect.TypeFor[string](): true, reflect.TypeFor[[]string](): true, reflect.TypeFor[bool](): true, reflect.TypeFor[int](): true,
		reflect.TypeFor[uint64](): true, reflect.TypeFor[time.Duration](): true,
	}
	config := reflect.TypeFor[agent.Config]()
	for i := range config.NumField() {
		f := config.Field(i)
		if tag := f.Tag.Get("toml"); tag == "" || tag != "-" && (f.Tag.Get("usage") == "" || !kinds[f.Type]) {
			t.Errorf("field %s of type %s has tag %q", f.Name, f.Type, f.Tag)
		}
	}
}

func TestBrokenHomesAreRefused(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	for file, content := range map[string]string{agent.NodeKeyFile: "short", agent.GenesisFile: "{}"} {
		config := home(t, g, s)
		if err := os.WriteFile(filepath.Join(config.Home, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := agent.Open(config); err == nil {
			t.Errorf("%s: opened with %q", file, content)
		}
	}
	config := home(t, g, s)
	start(t, config)
	if _, err := agent.Open(config); err == nil || !strings.Contains(err.Error(), "another one runs in this home already") {
		t.Errorf("a second agent in the same home: %v", err)
	}
}
