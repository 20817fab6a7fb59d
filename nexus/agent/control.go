package agent

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// drainRequest is the body of POST /v1/drain.
type drainRequest struct {
	DeadlineMs chain.TimeMs `json:"deadline_ms"` // 0: none
}

const maxControlBytes = 1 << 10

func drainOf(r *http.Request) (Mode, error) {
	var body drainRequest
	decoder := json.NewDecoder(io.LimitReader(r.Body, maxControlBytes))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&body); err != nil {
		return Mode{}, fmt.Errorf("want {\"deadline_ms\": …}: %w", err)
	}
	return Mode{Name: ModeDraining, DeadlineMs: body.DeadlineMs}, nil
}

// control changes the mode for whoever can read the token file: a page in the
// owner's browser cannot.
func (a *Agent) control(modeOf func(*http.Request) (Mode, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || subtle.ConstantTimeCompare([]byte(token), []byte(a.token)) != 1 {
			a.writeJSON(w, http.StatusUnauthorized, map[string]string{"error": "want Authorization: Bearer and the token in the home's " + TokenFile})
			return
		}
		mode, err := modeOf(r)
		if err != nil {
			a.writeJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
			return
		}
		if err := a.setMode(mode); err != nil {
			a.writeJSON(w, http.StatusInternalServerError, map[string]string{"error": err.Error()})
			return
		}
		a.writeJSON(w, http.StatusOK, a.status())
	}
}

// atHome refuses requests that name another host: a page elsewhere that has its
// own name resolve to this machine could read the status otherwise (DNS
// rebinding).
func (a *Agent) atHome(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if ip := net.ParseIP(strings.Trim(host, "[]")); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			a.writeJSON(w, http.StatusForbidden, map[string]string{"error": "this page is for this machine alone"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// writeAddress leaves word in the home of where the page is.
func (a *Agent) writeAddress() error {
	if a.listener == nil {
		return nil
	}
	if err := writeFile(filepath.Join(a.config.Home, AddressFile), []byte(a.listener.Addr().String()+"\n")); err != nil {
		return fmt.Errorf("agent: leaving word of the page's address: %w", err)
	}
	return nil
}

// ErrNotRunning says that no agent runs in a home.
var ErrNotRunning = errors.New("agent: no agent runs in this home")

// Remote is a running agent as its owner's commands reach it: by its page on
// loopback, with the token of its home.
type Remote struct {
	base, token string
	client      *http.Client
}

// Reach returns the agent that runs in a home. Errors: ErrNotRunning, or what
// is wrong with the home.
func Reach(ctx context.Context, home string) (*Remote, error) {
	address, err := os.ReadFile(filepath.Join(home, AddressFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotRunning
	}
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	token, err := os.ReadFile(filepath.Join(home, TokenFile))
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	key, err := readKey(filepath.Join(home, NodeKeyFile))
	if err != nil {
		return nil, err
	}
	r := &Remote{
		base: "http://" + strings.TrimSpace(string(address)), token: strings.TrimSpace(string(token)),
		client: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}},
	}
	s, err := r.Status(ctx)
	if err != nil {
		return nil, err
	}
	if s.Node != key.Public() { // another's agent has the port by now
		return nil, ErrNotRunning
	}
	return r, nil
}

// Status asks what the agent does.
func (r *Remote) Status(ctx context.Context) (s Status, err error) {
	err = r.do(ctx, http.MethodGet, "/v1/status", nil, &s)
	return s, err
}

// Earnings asks what the agent has earned.
func (r *Remote) Earnings(ctx context.Context) (e Earnings, err error) {
	err = r.do(ctx, http.MethodGet, "/v1/earnings", nil, &e)
	return e, err
}

// SetMode tells the agent what to do, and returns its status after that.
func (r *Remote) SetMode(ctx context.Context, m Mode) (s Status, err error) {
	path, body := "/v1/resume", any(nil)
	switch m.Name {
	case ModePaused:
		path = "/v1/pause"
	case ModeDraining:
		path, body = "/v1/drain", drainRequest{DeadlineMs: m.DeadlineMs}
	}
	err = r.do(ctx, http.MethodPost, path, body, &s)
	return s, err
}

const maxStatusBytes = 4 << 20

func (r *Remote) do(ctx context.Context, method, path string, body, into any) error {
	data, err := json.Marshal(body)
	if err != nil {
		panic("agent: a request does not encode: " + err.Error())
	}
	request, err := http.NewRequestWithContext(ctx, method, r.base+path, bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	if method == http.MethodPost {
		request.Header.Set("Authorization", "Bearer "+r.token)
	}
	answer, err := r.client.Do(request)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return ErrNotRunning
	}
	if err != nil {
		return fmt.Errorf("agent: asking the running agent: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxStatusBytes))
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		return fmt.Errorf("agent: asking the running agent: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("agent: the agent at %s answers %s: %s", r.base, answer.Status, line(string(text)))
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("agent: what answers at %s is no agent: %w", r.base, err)
	}
	return nil
}
