package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/server"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// noise is data of which no two chunks are the same.
func noise(size int, seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 0))
	out := make([]byte, size)
	for i := range out {
		out[i] = byte(rng.Uint32())
	}
	return out
}

// badLine is a proxy that lets so many bytes of bodies pass in each direction
// before it cuts a connection, once; below zero, all.
type badLine struct {
	*httptest.Server
	up, down         atomic.Int64 // left until the cut
	sent, received   atomic.Int64
	uploads, answers atomic.Int64
}

type meter struct {
	io.ReadCloser
	left, passed *atomic.Int64
}

func (m meter) Read(p []byte) (int, error) {
	left := m.left.Load()
	if left == 0 {
		m.left.Store(-1) // once
		return 0, errors.New("the line is cut")
	}
	if left > 0 {
		p = p[:min(int64(len(p)), left)]
	}
	n, err := m.ReadCloser.Read(p)
	m.passed.Add(int64(n))
	if left > 0 {
		m.left.Add(-int64(n))
	}
	return n, err
}

func newBadLine(t *testing.T, target string) *badLine {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	l := &badLine{}
	l.up.Store(-1)
	l.down.Store(-1)
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { panic(http.ErrAbortHandler) }
	proxy.ModifyResponse = func(r *http.Response) error {
		r.Body = meter{r.Body, &l.down, &l.received}
		l.answers.Add(1)
		return nil
	}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			l.uploads.Add(1)
			r.Body = meter{r.Body, &l.up, &l.sent}
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(l.Close)
	return l
}

// TestUploadsAndDownloadsGoOn has the SDK move a blob over a line that is cut again and
// again, and counts what passes: each chunk about once.
func TestUploadsAndDownloadsGoOn(t *testing.T) {
	c := newCluster(t, 1)
	c.waitLeader()
	line := newBadLine(t, c.url(0))
	client, err := sdk.New(sdk.Config{Nexus: []string{line.URL}, Backoff: 1})
	if err != nil {
		t.Fatal(err)
	}
	data := noise(3<<20+77, 1)
	const cut = 1<<20 + 100_000
	line.up.Store(cut)
	once, err := sdk.New(sdk.Config{Nexus: []string{line.URL}, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := once.PutBlob(t.Context(), bytes.NewReader(data)); err == nil || line.sent.Load() != cut { // as if its process were killed
		t.Fatalf("an upload over a cut line: %v, %d bytes sent", err, line.sent.Load())
	}
	id := blob.Sum(data)
	until(t, "the server to have taken in 1 MiB", func() bool {
		state := get[api.UploadState](c, 0, "/v1/uploads/"+id.String())
		return state.Verified == 1<<20 && !state.Whole
	})
	line.up.Store(1 << 20)
	got, size, err := client.PutBlob(t.Context(), bytes.NewReader(data))
	if err != nil || got != id || size != int64(len(data)) {
		t.Fatalf("%s, %d, %v", got, size, err)
	}
	if sent := line.sent.Load(); sent > int64(len(data))+2<<20 {
		t.Errorf("%d bytes were sent for a blob of %d", sent, len(data))
	}
	before := line.sent.Load()
	if _, _, err := client.PutBlob(t.Context(), bytes.NewReader(data)); err != nil || line.sent.Load() > before+1_000 {
		t.Errorf("what is there was sent again: %d bytes, %v", line.sent.Load()-before, err)
	}
	checkDownload(t, line, client, data)
}

// checkDownload gets a blob over a line that is cut after a MiB.
func checkDownload(t *testing.T, line *badLine, client *sdk.Client, data []byte) {
	t.Helper()
	id := blob.Sum(data)
	line.received.Store(0)
	r, err := client.GetBlob(t.Context(), id, 8<<20)
	if err != nil {
		t.Fatal(err)
	}
	line.down.Store(1 << 20)
	head := make([]byte, 1<<20-100_000)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil || !bytes.Equal(append(head, rest...), data) {
		t.Fatalf("%d bytes, %v", len(head)+len(rest), err)
	}
	if n := line.received.Load(); n > int64(len(data))+1<<20 {
		t.Errorf("%d bytes came for a blob of %d", n, len(data))
	}
	for _, have := range []int{1, 300_000, len(data)} {
		r, err := client.ResumeBlob(t.Context(), id, bytes.NewReader(data[:have]), 8<<20)
		if err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil || !bytes.Equal(rest, data[have:]) {
			t.Errorf("from %d on: %d bytes, %v", have, len(rest), err)
		}
	}
	for _, wrong := range [][]byte{{^data[0]}, append(bytes.Clone(data), 1)} {
		r, err := client.ResumeBlob(t.Context(), id, bytes.NewReader(wrong), 8<<20)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r); !errors.Is(err, sdk.ErrBlob) {
			t.Errorf("behind %d wrong bytes: %v", len(wrong), err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestUploadsAskedWrongly checks what the two routes refuse, and that one address
// leaves no more beginnings than it may.
func TestUploadsAskedWrongly(t *testing.T) {
	c := newCluster(t, 1)
	c.waitLeader()
	data := noise(600<<10, 2)
	id := blob.Sum(data).String()
	for _, q := range []struct {
		path string
		want int
	}{{"zz", 422}, {id + "?from=x", 422}, {id + "?from=-1", 422}, {id + "?from=262144", 409}, {id + "?from=1", 409}} {
		body := io.MultiReader(bytes.NewReader(outline(data)), bytes.NewReader(data))
		if status, answer := c.do(0, http.MethodPut, "/v1/uploads/"+q.path, nil, body); status != q.want {
			t.Errorf("%s: %d %s, want %d", q.path, status, answer, q.want)
		}
	}
	if status, answer := c.do(0, http.MethodPut, "/v1/uploads/"+id, nil, strings.NewReader("no outline of it, but long enough to be one")); status != 422 && status != 413 {
		t.Errorf("no outline: %d %s", status, answer)
	}
	if status, answer := c.do(0, http.MethodPut, "/v1/uploads/"+id, nil, bytes.NewReader(outline(data[1:]))); status != 422 {
		t.Errorf("another's outline: %d %s", status, answer)
	}
	if status, _ := c.do(0, http.MethodGet, "/v1/uploads/zz", nil, nil); status != 422 {
		t.Errorf("GET zz: %d", status)
	}
	var first crypto.Digest
	for i := range 17 { // each leaves a chunk
		data := noise(300<<10, uint64(100+i))
		if i == 0 {
			first = blob.Sum(data)
		}
		ctx, cancel := context.WithCancel(t.Context())
		line := newBadLine(t, c.url(0))
		line.up.Store(270 << 10)
		request, err := http.NewRequestWithContext(ctx, http.MethodPut, line.URL+"/v1/uploads/"+blob.Sum(data).String(), io.MultiReader(bytes.NewReader(outline(data)), bytes.NewReader(data)))
		if err != nil {
			t.Fatal(err)
		}
		if answer, err := http.DefaultClient.Do(request); err == nil {
			_ = answer.Body.Close() // it says that it broke off
		}
		until(t, "a beginning", func() bool {
			return get[api.UploadState](c, 0, "/v1/uploads/"+blob.Sum(data).String()).Verified == 256<<10
		})
		cancel()
	}
	until(t, "the first one to make room", func() bool { return get[api.UploadState](c, 0, "/v1/uploads/"+first.String()).Verified == 0 })
}

// outline is what proves the chunks of a blob.
func outline(data []byte) []byte {
	out := []byte{0, 0, 0, 0, byte(len(data) >> 24), byte(len(data) >> 16), byte(len(data) >> 8), byte(len(data))}
	for len(data) > 0 {
		n := min(len(data), blob.ChunkBytes)
		digest := crypto.DomainBlobChunk.Hash(data[:n])
		out, data = append(out, digest[:]...), data[n:]
	}
	return out
}

// TestUploadsOfOthers has somebody note a blob that another brought as his own, and
// more than are kept for one.
func TestUploadsOfOthers(t *testing.T) {
	var dropped []crypto.Digest
	u := server.NewUnfinished(func(id crypto.Digest) { dropped = append(dropped, id) })
	id := func(n int) crypto.Digest { return blob.Sum([]byte{byte(n)}) }
	u.Add("a", id(0))
	for i := range 20 {
		u.Add("b", id(i))
	}
	if !slices.Equal(dropped, []crypto.Digest{id(1), id(2), id(3)}) { // not the first one
		t.Errorf("%d were dropped", len(dropped))
	}
	u.Ended(id(4))
	for i := range 17 {
		u.Add("a", id(100+i))
	}
	if want := []crypto.Digest{id(1), id(2), id(3), id(0), id(100)}; len(dropped) != 5 || !slices.Equal(dropped, want) {
		t.Errorf("%d were dropped", len(dropped))
	}
	u.Ended(id(0)) // nobody's
	for a, b := range map[string]string{"[2001:db8::1]:1": "[2001:db8::2:0:0:1]:2", "[fe80::1%eth0]:1": "[fe80::2]:9", "10.0.0.1:1": "10.0.0.1:2"} {
		if server.UploaderOf(a) != server.UploaderOf(b) {
			t.Errorf("%s is another than %s", a, b)
		}
	}
	for a, b := range map[string]string{"[2001:db8::1]:1": "[2001:db8:0:1::1]:1", "10.0.0.1:1": "10.0.0.2:1", "[::ffff:10.0.0.1]:1": "[::ffff:10.0.0.2]:1"} {
		if server.UploaderOf(a) == server.UploaderOf(b) {
			t.Errorf("%s is the same as %s", a, b)
		}
	}
}

// TestUploadsThatDoNotCome checks that what never comes is not kept, and what comes is.
func TestUploadsThatDoNotCome(t *testing.T) {
	c := newCluster(t, 1)
	c.waitLeader()
	data := noise(600<<10, 3)
	id := blob.Sum(data).String()
	for i := range 3 {
		other := blob.Sum([]byte{byte(i)}).String()
		for _, path := range []string{"/v1/uploads/", "/v1/blobs/"} {
			if status, answer := c.do(0, http.MethodPut, path+other, nil, bytes.NewReader(outline(data))); status != 422 {
				t.Errorf("%s: %d %s", path, status, answer)
			}
		}
	}
	if n := c.servers[0].Lent(); n != 0 {
		t.Errorf("%d blobs are kept that never came", n)
	}
	body := io.MultiReader(bytes.NewReader(outline(data)), bytes.NewReader(data))
	if status, answer := c.do(0, http.MethodPut, "/v1/uploads/"+id, nil, body); status != 201 {
		t.Errorf("%d %s", status, answer)
	}
	if n := c.servers[0].Lent(); n != 1 {
		t.Errorf("%d blobs are kept of one", n)
	}
	for ranges, want := range map[string]int{"bytes=0-0": 206, "bytes=0-0,262144-262144": 200} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url(0)+"/v1/blobs/"+id, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Range", ranges)
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if err := answer.Body.Close(); err != nil || answer.StatusCode != want {
			t.Errorf("%s: %d, %v", ranges, answer.StatusCode, err)
		}
	}
}
