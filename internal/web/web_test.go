package web_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/sdk/api"
)

func TestWhereAServerMayListen(t *testing.T) {
	for name, c := range map[string]struct {
		address web.Address
		want    string // part of the refusal; empty: allowed
	}{
		"loopback":           {web.Address{Listen: "127.0.0.1:0"}, ""},
		"localhost":          {web.Address{Listen: "localhost:80"}, ""},
		"loopback of six":    {web.Address{Listen: "[::1]:80"}, ""},
		"mapped loopback":    {web.Address{Listen: "[::ffff:127.0.0.1]:80"}, ""},
		"everywhere":         {web.Address{Listen: "0.0.0.0:80"}, "is not loopback"},
		"every interface":    {web.Address{Listen: ":80"}, "is not loopback"},
		"a name":             {web.Address{Listen: "node.example:80"}, "is not loopback"},
		"a name's beginning": {web.Address{Listen: "localhost.example:80"}, "is not loopback"},
		"mapped elsewhere":   {web.Address{Listen: "[::ffff:10.0.0.1]:80"}, "is not loopback"},
		"with leave":         {web.Address{Listen: "0.0.0.0:80", Insecure: true}, ""},
		"with TLS":           {web.Address{Listen: "0.0.0.0:80", TLSCert: "c", TLSKey: "k"}, ""},
		"half a pair":        {web.Address{Listen: "127.0.0.1:80", TLSKey: "k"}, "go together"},
		"no port":            {web.Address{Listen: "127.0.0.1"}, "missing port"},
	} {
		err := c.address.Check("http")
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error()+"tls_cert", "http ") && !strings.HasPrefix(err.Error(), "tls_cert")):
			t.Errorf("%s: %v, want one that names the setting and says %q", name, err, c.want)
		}
		if c.address.TLSKey+c.address.TLSCert == "" && !c.address.Insecure {
			if alone := web.CheckLoopback("http", c.address.Listen); (alone == nil) != (err == nil) {
				t.Errorf("%s: CheckLoopback says %v, Check %v", name, alone, err)
			}
		}
	}
}

func TestAPanicEndsItsRequestAlone(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	server := httptest.NewServer(web.Recovered(log, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/begun" {
			web.Write(w, r, log, []byte("part of an ans"))
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
		}
		panic("broken")
	})))
	defer server.Close()
	answer, err := http.Get(server.URL + "/fresh")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(answer.Body)
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != http.StatusInternalServerError || answer.Header.Get("Content-Type") != api.ContentProblem || strings.Contains(string(text), "broken") {
		t.Errorf("a panic is answered with %d %s %s", answer.StatusCode, answer.Header.Get("Content-Type"), text)
	}
	answer, err = http.Get(server.URL + "/begun")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(answer.Body); err == nil {
		t.Errorf("a part of an answer passes for the whole: %q", text)
	}
	if err := answer.Body.Close(); err != nil {
		t.Error(err)
	}
}

// A request under way is answered, a stream ends because it is told to, and one
// that does not end is cut.
func TestServeEndsInOrder(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	under, ending := make(chan struct{}), make(chan struct{})
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		under <- struct{}{}
		if r.URL.Path == "/stubborn" {
			<-r.Context().Done()
			return
		}
		<-ending
		web.WriteJSON(w, r, log, http.StatusOK, "done")
	})}
	listener, err := web.Address{Listen: "127.0.0.1:0"}.Open("http", 8)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- web.Serve(ctx, server, listener, 100*time.Millisecond, func() { close(ending) })
	}()
	get := func(path string) chan error {
		done := make(chan error, 1)
		go func() {
			answer, err := http.Get("http://" + listener.Addr().String() + path)
			if err == nil {
				err = answer.Body.Close()
			}
			done <- err
		}()
		<-under
		return done
	}
	stream, stubborn := get("/stream"), get("/stubborn")
	cancel()
	if err := <-stream; err != nil {
		t.Errorf("a stream that was told to end: %v", err)
	}
	if err := <-stubborn; err == nil {
		t.Error("a request that does not end was answered")
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
