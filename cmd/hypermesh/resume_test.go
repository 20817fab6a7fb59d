package main

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/nexus/blob"
)

// slowLine passes bodies on, and stops each at a mark until it is opened.
type slowLine struct {
	passed atomic.Int64
	mark   int64
	open   atomic.Bool
	at     chan struct{} // has a token once the mark is reached
}

type slowBody struct {
	io.ReadCloser
	line *slowLine
	end  <-chan struct{}
}

func (b slowBody) Read(p []byte) (int, error) {
	if !b.line.open.Load() && b.line.passed.Load() >= b.line.mark {
		select {
		case b.line.at <- struct{}{}:
		default:
		}
		<-b.end // whoever sends or reads is killed
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), 64<<10)])
	b.line.passed.Add(int64(n))
	return n, err
}

// noiseOf returns data of which no two chunks are the same.
func noiseOf(size int) []byte {
	data, rng := make([]byte, size), rand.New(rand.NewPCG(7, 0))
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	return data
}

// TestKilledTransfersGoOn kills blob put, and blob get, with SIGKILL half-way, and
// runs the same commands again: each byte passes about once.
func TestKilledTransfersGoOn(t *testing.T) {
	endToEnd(t)
	n := startDevnet(t, "--servers", "1", "--agents", "0", "--no-explorer")
	program, _ := programs(t)
	target, err := url.Parse(n.describe(t).Nexus[0])
	if err != nil {
		t.Fatal(err)
	}
	const half, size = 16 << 20, 32<<20 + 5
	up, down := &slowLine{mark: half, at: make(chan struct{}, 1)}, &slowLine{mark: half, at: make(chan struct{}, 1)}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ModifyResponse = func(r *http.Response) error {
		if strings.Contains(r.Request.URL.Path, "/v1/blobs/") {
			r.Body = slowBody{r.Body, down, r.Request.Context().Done()}
		}
		return nil
	}
	proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			r.Body = slowBody{r.Body, up, r.Context().Done()}
		}
		proxy.ServeHTTP(w, r)
	}))
	defer server.Close()
	config := describe(t, server.URL)
	dir := t.TempDir()
	file, out := filepath.Join(dir, "file"), filepath.Join(dir, "out")
	data := noiseOf(size)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	id := blob.Sum(data).String()
	for _, c := range []struct {
		line *slowLine
		args []string
	}{{up, []string{"blob", "put", file, "--config", config}}, {down, []string{"blob", "get", id, out, "--config", config}}} {
		cmd := exec.Command(program, c.args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-c.line.at:
		case <-time.After(time.Minute):
			t.Fatalf("%v does not get half-way", c.args[:2])
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Fatalf("%v was not killed", c.args[:2])
		}
		c.line.open.Store(true)
		if _, err := hypermesh(t, c.args...); err != nil {
			t.Fatalf("%v again: %v", c.args[:2], err)
		}
		if passed := c.line.passed.Load(); passed < size || passed > size+size/4 {
			t.Errorf("%v: %d bytes passed for %d", c.args[:2], passed, size)
		}
	}
	if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came, %v", len(got), err)
	}
	if left, err := filepath.Glob(out + ".*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
