package explorer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed assets
var assetFiles embed.FS

// policy admits this server's own files alone.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// site answers requests.
type site struct {
	config   *Config
	log      *slog.Logger
	index    *index
	follower *follower
	client   *sdk.Client
	pages    map[string]*template.Template
	assets   map[string]asset // by path
	slots    chan struct{}    // of requests
	streams  chan struct{}    // slots of live streams
	closing  chan struct{}    // closed when the server ends

	validators fresh[api.Validators]
	nodes      fresh[[]api.NexusNode]
	jobs       fresh[[]api.Job]
	supply     fresh[api.Supply]
}

// asset is an embedded file. Its address carries its digest, so that it may be
// kept for ever.
type asset struct {
	content []byte
	kind    string
	version string
}

func newSite(e *Explorer) (*site, error) {
	s := &site{
		config: &e.config, log: e.log, index: e.index, follower: e.follower, client: e.client,
		slots: make(chan struct{}, maxRequests), streams: make(chan struct{}, maxLiveStreams), closing: make(chan struct{}),
	}
	if err := s.loadAssets(); err != nil {
		return nil, err
	}
	return s, s.loadTemplates()
}

func (s *site) loadAssets() error {
	s.assets = map[string]asset{}
	return fs.WalkDir(assetFiles, "assets", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := assetFiles.ReadFile(name)
		if err != nil {
			return err
		}
		kind := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}[path.Ext(name)]
		sum := sha256.Sum256(content)
		s.assets["/"+name] = asset{content: content, kind: kind, version: hex.EncodeToString(sum[:6])}
		return nil
	})
}

func (s *site) loadTemplates() error {
	functions := template.FuncMap{
		"asset":   func(name string) string { return "/assets/" + name + "?v=" + s.assets["/assets/"+name].version },
		"million": func(n api.Uint64) string { return millionths(uint64(n)) },
		"grouped": func(n any) (string, error) { return groupedAny(n) },
		"quoted":  quoted,
		"money":   moneyOf,
		"lasting": lasting,
		"address": linkAddress, "tx": linkTx, "job": linkJob, "node": linkNode, "height": linkBlock,
		"digest": plainDigest, "key": plainKey,
		"counted":  counted,
		"bytes":    bytesText,
		"resource": resourceAmount,
		"sentence": func(body chain.TxBody) sentence { return sayTx(&body) },
		"event":    sayEvent,
		"percent":  func(bps uint16) string { return fmt.Sprintf("%d.%02d", bps/100, bps%100) },
		"number":   func(n api.Uint64) uint64 { return uint64(n) },
		"deadline": func(ms api.Uint64) moment { return momentOf(chain.TimeMs(ms), time.Now()) },
		"free":     func(total, used uint64) uint64 { return total - min(total, used) },
	}
	base, err := template.New("").Funcs(functions).ParseFS(templateFiles, "templates/layout.html", "templates/parts.html")
	if err != nil {
		return fmt.Errorf("explorer: templates: %w", err)
	}
	names, err := fs.Glob(templateFiles, "templates/page_*.html")
	if err != nil {
		return fmt.Errorf("explorer: templates: %w", err)
	}
	s.pages = map[string]*template.Template{}
	for _, name := range names {
		copied, err := base.Clone()
		if err == nil {
			copied, err = copied.ParseFS(templateFiles, name)
		}
		if err != nil {
			return fmt.Errorf("explorer: templates: %w", err)
		}
		s.pages[strings.TrimSuffix(strings.TrimPrefix(path.Base(name), "page_"), ".html")] = copied
	}
	return nil
}

func groupedAny(n any) (string, error) {
	switch n := n.(type) {
	case int:
		return grouped(n), nil
	case uint64:
		return grouped(n), nil
	case uint32:
		return grouped(n), nil
	case chain.Height:
		return grouped(n), nil
	case chain.Number:
		return grouped(n), nil
	case api.Uint64:
		return grouped(n), nil
	case chain.Gas:
		return grouped(n.Units()), nil
	}
	return "", fmt.Errorf("a %T is no number", n)
}

// handler returns every route.
func (s *site) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.page(s.overview))
	mux.HandleFunc("GET /blocks", s.page(s.blockList))
	mux.HandleFunc("GET /blocks/{height}", s.page(s.block))
	mux.HandleFunc("GET /txs", s.page(s.txList))
	mux.HandleFunc("GET /txs/{id}", s.page(s.tx))
	mux.HandleFunc("GET /accounts/{address}", s.page(s.account))
	mux.HandleFunc("GET /validators", s.page(s.validatorList))
	mux.HandleFunc("GET /nodes", s.page(s.nodeList))
	mux.HandleFunc("GET /nodes/{id}", s.page(s.party))
	mux.HandleFunc("GET /jobs", s.page(s.jobList))
	mux.HandleFunc("GET /jobs/{id}", s.page(s.job))
	mux.HandleFunc("GET /records", s.page(s.recordList))
	mux.HandleFunc("GET /search", s.search)
	mux.HandleFunc("GET /live", s.live)
	mux.HandleFunc("GET /api/overview", s.apiOverview)
	mux.HandleFunc("GET /api/search", s.apiSearch)
	mux.HandleFunc("GET /api/records", s.apiRecords)
	mux.HandleFunc("GET /healthz", s.health)
	mux.HandleFunc("GET /assets/", s.asset)
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/assets/logo.svg", http.StatusMovedPermanently)
	})
	mux.HandleFunc("/", s.page(func(*request) (*answer, error) {
		return nil, refuse(http.StatusNotFound, "There is no such page.")
	}))
	return s.guarded(mux)
}

// guarded sets the headers that every answer has, bounds the requests that are
// served at a time, and turns a panic into an answer.
func (s *site) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", policy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cross-Origin-Opener-Policy", "same-origin")
		defer func() {
			if p := recover(); p != nil {
				s.log.ErrorContext(r.Context(), "a page panicked", slog.Any("panic", p), slog.String("path", r.URL.Path), slog.String("stack", string(debug.Stack())))
				http.Error(w, "internal error", http.StatusInternalServerError)
			}
		}()
		if r.URL.Path != "/live" {
			select {
			case s.slots <- struct{}{}:
				defer func() { <-s.slots }()
			default:
				header.Set("Retry-After", "1")
				http.Error(w, "busy: try again in a second", http.StatusServiceUnavailable)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func (s *site) asset(w http.ResponseWriter, r *http.Request) {
	found, ok := s.assets[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", found.kind)
	w.Header().Set("Cache-Control", "no-cache")
	if r.URL.Query().Get("v") == found.version {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	s.write(r.Context(), w, found.content)
}

// write sends a whole answer. A client that has gone is no failure of ours.
func (s *site) write(ctx context.Context, w http.ResponseWriter, body []byte) {
	if _, err := w.Write(body); err != nil {
		s.log.DebugContext(ctx, "client went away", slog.Any("error", err))
	}
}

// request is what a page's handler works with.
type request struct {
	*http.Request
	ctx  context.Context
	view *view
	tip  tip
	now  time.Time
}

// answer is what a page's handler gives: the template and its data, or where to
// go.
type answer struct {
	template string
	title    string
	live     bool // the page changes with the chain
	body     any
}

// frame is what the layout shows around every page.
type frame struct {
	Title, Section, Query string
	Live                  bool
	Status                status
	Version               string
	Body                  any
}

// refusal is an answer that is not the page that was asked for.
type refusal struct {
	status  int
	message string
}

// Error implements error.
func (r *refusal) Error() string { return r.message }

func refuse(status int, format string, args ...any) error {
	return &refusal{status: status, message: fmt.Sprintf(format, args...)}
}

// page makes a handler of a page's function.
func (s *site) page(make func(*request) (*answer, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var made *answer
		err := s.index.view(r.Context(), func(v *view) error {
			t, err := v.tip()
			if err != nil {
				return err
			}
			made, err = make(&request{Request: r, ctx: r.Context(), view: v, tip: t, now: v.now})
			return err
		})
		s.finish(w, r, made, err)
	}
}

// finish writes a page or the reason for none.
func (s *site) finish(w http.ResponseWriter, r *http.Request, made *answer, err error) {
	code := http.StatusOK
	if refused, ok := errors.AsType[*refusal](err); ok {
		code, made = refused.status, &answer{template: "error", title: http.StatusText(refused.status), body: refused.message}
	} else if err != nil {
		if r.Context().Err() == nil {
			s.log.ErrorContext(r.Context(), "a page failed", slog.String("path", r.URL.Path), slog.Any("error", err))
		}
		code, made = http.StatusInternalServerError, &answer{template: "error", title: "Internal error", body: "The index could not be read. The operator's log says why."}
	}
	section, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	var out bytes.Buffer
	err = s.pages[made.template].ExecuteTemplate(&out, "layout", frame{
		Title: made.title, Section: section, Query: bounded(r.URL.Query().Get("q"), maxQuery), Live: made.live,
		Status: s.status(time.Now()), Version: s.config.Version, Body: made.body,
	})
	if err != nil {
		s.log.ErrorContext(r.Context(), "a template failed", slog.String("path", r.URL.Path), slog.Any("error", err))
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	s.write(r.Context(), w, out.Bytes())
}

// found turns a row that is not there into a refusal.
func found(err error, what string) error {
	if errors.Is(err, sql.ErrNoRows) {
		return refuse(http.StatusNotFound, "%s", what)
	}
	return err
}

func (s *site) writeJSON(w http.ResponseWriter, r *http.Request, code int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		s.log.ErrorContext(r.Context(), "an answer does not encode", slog.Any("error", err))
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", api.ContentJSON)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	s.write(r.Context(), w, body)
}

// status is how far the index is.
type status struct {
	Chain   chain.ChainID
	Height  chain.Height
	Head    chain.Height
	Behind  uint64
	Contact bool
	Trouble string
	Time    moment
}

func (s *site) status(now time.Time) status {
	t, _ := s.index.now()
	head, contact, trouble := s.follower.state()
	out := status{Chain: t.ChainID, Height: t.Height, Head: max(head, t.Height), Contact: contact, Trouble: trouble, Time: momentOf(t.Time, now)}
	out.Behind = uint64(out.Head - out.Height)
	return out
}

func (s *site) health(w http.ResponseWriter, r *http.Request) {
	now := s.status(time.Now())
	switch {
	case now.Height > 0, now.Contact && now.Head == 0:
		s.writeJSON(w, r, http.StatusOK, map[string]any{"status": "ok", "height": now.Height, "behind": now.Behind})
	case now.Contact:
		s.writeJSON(w, r, http.StatusServiceUnavailable, map[string]any{"status": "indexing the first block", "behind": now.Behind})
	default:
		s.writeJSON(w, r, http.StatusServiceUnavailable, map[string]any{"status": "no node has answered yet"})
	}
}

// fresh keeps an answer of somebody else for a while, so that visitors do not
// add up.
type fresh[T any] struct {
	mu    sync.Mutex
	at    time.Time // guarded by mu
	value T         // guarded by mu
	err   error     // guarded by mu
}

// An answer is kept for freshFor, a failure for failedFor.
const (
	freshFor  = time.Second
	failedFor = 5 * time.Second
)

// get returns the kept answer or asks anew, for at most timeout. One asks at a
// time, others wait for it.
func (f *fresh[T]) get(ctx context.Context, timeout time.Duration, ask func(context.Context) (T, error)) (T, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if age := time.Since(f.at); age < freshFor || f.err != nil && age < failedFor {
		return f.value, f.err
	}
	// Others get the answer too: it must not end with this visitor.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	f.value, f.err = ask(ctx)
	f.at = time.Now()
	return f.value, f.err
}

func (s *site) answerJSON(w http.ResponseWriter, r *http.Request, v any, err error) {
	if err != nil {
		s.log.ErrorContext(r.Context(), "an answer failed", slog.String("path", r.URL.Path), slog.Any("error", err))
		s.writeJSON(w, r, http.StatusInternalServerError, &api.Problem{Status: http.StatusInternalServerError, Title: "Internal Server Error", Type: api.ProblemInternal})
		return
	}
	s.writeJSON(w, r, http.StatusOK, v)
}
