package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/sdk/api"
)

func TestTopKeys(t *testing.T) {
	for in, want := range map[string][]string{
		"q": {"q"}, "\x03": {keyCtrlC}, "\x1b": {keyEscape}, "\x1b[A\x1b[B": {keyUp, keyDown}, "a\x1b[5~\t": {"a", keyPageUp, keyTab}, "\x1bOC": {keyRight},
		"\x1b[999;999H": nil, "\x1b[": nil, "\x1b[12": nil, "\xc3\xa9": nil, "\x1b[Zx": {keyBackTab, "x"}, "": nil,
	} {
		if got := parseKeys([]byte(in)); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestTopLook(t *testing.T) {
	for _, c := range []struct {
		env  string
		want look
	}{
		{"", look{colour: true}}, {"NO_COLOR=1", look{}}, {"LANG=en_US.UTF-8", look{colour: true}}, {"LANG=de_DE.utf8", look{colour: true}},
		{"LC_ALL=C LANG=en_US.UTF-8", look{colour: true, ascii: true}}, {"LANG=POSIX", look{colour: true, ascii: true}},
	} {
		got := lookOf(func(name string) string {
			for _, pair := range strings.Fields(c.env) {
				if value, ok := strings.CutPrefix(pair, name+"="); ok {
					return value
				}
			}
			return ""
		})
		if got != c.want {
			t.Errorf("%q: %+v, want %+v", c.env, got, c.want)
		}
	}
}

// TestTopScreen plays with a live view whose server answers, fails, and is back.
func TestTopScreen(t *testing.T) {
	p := openTerminal(t, 100, 30)
	data := topSample()
	down := make(chan bool, 1)
	down <- false
	gone := false
	s := &screen{out: p.slave, in: p.slave, interval: minTopInterval, model: topModel{asked: "here"}, look: look{colour: true}}
	ended := make(chan error, 1)
	go func() {
		ended <- s.run(t.Context(), func(context.Context) (api.NexusTop, error) {
			select {
			case gone = <-down:
			default:
			}
			if gone {
				return api.NexusTop{}, &url.Error{Op: "Get", URL: "http://here", Err: errors.New("it is \x1b[2J away")}
			}
			return *data, nil
		})
	}()
	p.await(0, "AUCTIONS")
	at := p.mark()
	p.press("4")
	p.await(at, "by busy")
	at = p.mark()
	p.press("sss")
	p.await(at, "by strikes")
	at = p.mark()
	p.press("\x1b[Z")
	p.await(at, "by share")
	at = p.mark()
	p.press("?")
	p.await(at, "Classes age")
	p.press("?1")
	at = p.mark()
	p.resize(40, 12)
	if err := syscall.Kill(os.Getpid(), syscall.SIGWINCH); err != nil { // nobody's terminal sends it
		t.Fatal(err)
	}
	p.await(at, "q quit  tab page  s sort  r turn  ↑↓ …")
	down <- true
	p.await(at, "NO ANSWER for")
	p.await(at, "it is ·[2J away")
	down <- false
	at = p.mark()
	p.await(at, "acc 412/s")
	p.press("p")
	p.await(at, "PAUSED")
	p.press("q")
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	p.restored()
	if strings.Contains(p.since(0), "\x1b[2J") {
		t.Error("a server's words reached the terminal as they were")
	}
}

// TestTopOnce prints a page, and JSON, and refuses what makes no sense.
func TestTopOnce(t *testing.T) {
	data := topSample()
	asked := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.String()
		w.Header().Set("Content-Type", api.ContentJSON)
		if err := json.NewEncoder(w).Encode(data); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	t.Setenv("LC_ALL", "C.UTF-8")
	t.Setenv("COLUMNS", "100")
	code, page, stderr := invoke(t, "nexus", "top", "--nexus", server.URL, "--rows", "7")
	want, err := os.ReadFile("testdata/top/once-100.txt")
	if err != nil {
		t.Fatal(err)
	}
	if code != 0 || strings.TrimSpace(page) != strings.TrimSpace(string(want)) || asked != "/v1/top?rows=7" {
		t.Errorf("%d, %s, asked %s:\n%s", code, stderr, asked, page)
	}
	code, text, stderr := invoke(t, "nexus", "top", "--nexus", server.URL, "--once", "--json")
	var got api.NexusTop
	if err := json.Unmarshal([]byte(text), &got); err != nil || code != 0 || got.Classes[1].Aged != 14 {
		t.Errorf("%d, %s, %v: %s", code, stderr, err, text)
	}
	server.Close()
	for _, c := range []struct {
		code int
		args string
		want string
	}{
		{exitUsage, "", "--nexus URL or --config FILE"}, {exitUsage, "--nexus x", "Nexus URL"}, {exitUsage, "--nexus http://x --rows 201", "rows is 201, want 1 to 200"},
		{exitUsage, "--nexus http://x --interval 1ms", "interval is 1ms"}, {exitUsage, "--nexus http://x more", "want no arguments"},
		{exitFailed, "--nexus " + server.URL, "connection refused"}, {exitFailed, "--config none.json", "none.json"},
	} {
		code, _, stderr := invoke(t, append([]string{"nexus", "top"}, strings.Fields(c.args)...)...)
		if code != c.code || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: %d, %s, want %d and %q", c.args, code, stderr, c.code, c.want)
		}
	}
}

// TestTopOfARunningCluster watches a cluster, as processes, through a job's life,
// while its server goes and comes back, and ends with q, Ctrl-C and SIGTERM.
func TestTopOfARunningCluster(t *testing.T) {
	endToEnd(t)
	n := startDevnet(t, "--servers", "1", "--agents", "2", "--no-explorer")
	program, fractal := programs(t)
	d := n.describe(t)
	target, err := url.Parse(d.Nexus[0])
	if err != nil {
		t.Fatal(err)
	}
	proxy := &http.Server{Handler: httputil.NewSingleHostReverseProxy(target)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	go func() { _ = proxy.Serve(listener) }() // ends with Close
	p := openTerminal(t, 120, 40)
	cmd, stderr := p.start(program, "nexus", "top", "--nexus", "http://"+address, "--interval", "200ms")
	p.await(0, "2 of 2 nodes take work")
	p.await(0, "this server leads")
	if _, err := hypermesh(t, "job", "run", fractal, "--config", n.path, "--out", t.TempDir()+"/out"); err != nil {
		t.Fatal(err)
	}
	p.await(0, "the cheapest")
	if err := proxy.Close(); err != nil {
		t.Fatal(err)
	}
	p.await(0, "NO ANSWER for")
	at := p.mark()
	if listener, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	proxy = &http.Server{Handler: proxy.Handler}
	t.Cleanup(func() {
		if err := proxy.Close(); err != nil {
			t.Error(err)
		}
	})
	go func() { _ = proxy.Serve(listener) }() // likewise
	p.await(at, "accepted 0.0/s")
	at = p.mark()
	p.resize(80, 24) // the terminal tells its session
	p.await(at, "q quit")
	p.press("q")
	if err := cmd.Wait(); err != nil {
		t.Fatalf("q: %v %s", err, stderr)
	}
	p.restored()
	for name, end := range map[string]func(pid int){
		"Ctrl-C": func(int) { p.press("\x03") }, "SIGTERM": func(pid int) { _ = syscall.Kill(pid, syscall.SIGTERM) },
	} {
		at := p.mark()
		cmd, stderr := p.start(program, "nexus", "top", "--config", n.path)
		p.await(at, "AUCTIONS")
		end(cmd.Process.Pid)
		if err := cmd.Wait(); err != nil || stderr.Len() > 0 {
			t.Errorf("%s: %v %s", name, err, stderr)
		}
		p.restored()
	}
	out, err := hypermesh(t, "nexus", "top", "--config", n.path, "--json")
	var top api.NexusTop
	if err := errors.Join(err, json.Unmarshal(out, &top)); err != nil || len(top.Closed) == 0 || len(top.Closed[0].Winners) != 1 || top.Nodes[0].Won+top.Nodes[1].Won != 1 || time.Since(time.UnixMilli(int64(top.NowMs))) > time.Minute {
		t.Errorf("%v: %s", err, out)
	}
	if page, err := hypermesh(t, "nexus", "top", "--config", n.path); err != nil || !strings.Contains(string(page), "QUEUES") || strings.Contains(string(page), "\x1b") {
		t.Errorf("a page for no terminal: %v %s", err, page)
	}
}
