package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/hashicorp/raft"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// Where clients reach a server is its own to say: it tells the others, and each of
// them tells clients of all, signed with the cluster's key. A client that was
// configured with one server so survives its end.

const (
	addressesPath = "/v1/addresses"
	httpPath      = "/http"
	// askHTTPEvery is how often a server is asked for its URL, and lookHTTPEvery how
	// often one whose URL is not known is.
	askHTTPEvery  = time.Minute
	lookHTTPEvery = time.Second
	askHTTPWithin = 2 * time.Second
	// signAddressesEvery is for how long a signed list is given out: so long a client may
	// prefer the list of a server that knows less and signed later.
	signAddressesEvery = 5 * time.Second
)

// addresses is where the cluster's servers answer HTTP.
type addresses struct {
	own     string      // this server's URL, or empty
	removed atomic.Bool // this server is no member any more

	mu      sync.Mutex
	known   map[crypto.PublicKey]knownURL
	signed  api.ServerAddresses
	version string // of signed
}

type knownURL struct {
	url   string // empty: it has none to give
	asked time.Time
}

// urlOf is where clients reach a server that listens at an address, or empty.
func urlOf(cfg *Config, listens net.Addr) string {
	if cfg.HTTPURL != "" {
		return cfg.HTTPURL
	}
	addr, err := netip.ParseAddrPort(listens.String())
	if err != nil || addr.Addr().IsUnspecified() {
		return ""
	}
	scheme := "http"
	if cfg.TLSCert != "" {
		scheme = "https"
	}
	return (&url.URL{Scheme: scheme, Host: addr.String()}).String()
}

// checkURL returns why a text is no URL that clients could be told.
func checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return err
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return errors.New("want http://HOST:PORT or https://HOST:PORT")
	case len(text) > api.MaxServerURL:
		return fmt.Errorf("it has %d bytes, limit %d", len(text), api.MaxServerURL)
	}
	return nil
}

// keepAddresses asks the other servers where they answer, until ctx ends.
func (s *Server) keepAddresses(ctx context.Context) {
	a := &s.addresses
	for ; ctx.Err() == nil; pause(ctx, lookHTTPEvery) {
		a.removed.Store(s.isRemoved())
		for _, m := range s.roster.list() {
			a.mu.Lock()
			known, ok := a.known[m.ID]
			a.mu.Unlock()
			if m.ID == s.self || ok && known.url != "" && time.Since(known.asked) < askHTTPEvery {
				continue
			}
			text, err := s.askURL(ctx, m.ID)
			if err != nil {
				s.log.Debug("a server does not say where clients reach it", "other", m.ID.Short(), "error", err)
				text = known.url
			}
			a.mu.Lock()
			a.known[m.ID] = knownURL{url: text, asked: time.Now()}
			a.mu.Unlock()
		}
		s.forgetAddresses()
	}
}

// isRemoved reports whether the newest configuration that raft has brought here, of
// which nobody may have said that it is decided, lacks this server, and no leader
// speaks to it.
func (s *Server) isRemoved() bool {
	servers := s.consensus.raft.GetConfiguration().Configuration().Servers
	mine := slices.ContainsFunc(servers, func(m raft.Server) bool { return m.ID == serverID(s.self) })
	return len(servers) > 0 && !mine && s.consensus.leader().IsZero()
}

// forgetAddresses forgets those of servers that were removed.
func (s *Server) forgetAddresses() {
	a := &s.addresses
	a.mu.Lock()
	defer a.mu.Unlock()
	for id := range a.known {
		if _, ok := s.roster.addr(id); !ok {
			delete(a.known, id)
		}
	}
}

func (s *Server) askURL(ctx context.Context, id crypto.PublicKey) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askHTTPWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, peerURL(id)+httpPath, nil)
	if err != nil {
		return "", err
	}
	answer, err := s.peers.RoundTrip(req)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, api.MaxServerURL+1))
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		return "", err
	}
	if answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("server %s answered %s", id.Short(), answer.Status)
	}
	if len(text) == 0 {
		return "", nil
	}
	return string(text), checkURL(string(text))
}

// tellURL is what askURL asks for.
func (s *Server) tellURL(w http.ResponseWriter, _ *http.Request) {
	if _, err := io.WriteString(w, s.addresses.own); err != nil {
		s.log.Info("answering a URL", "error", err)
	}
}

// addressList returns the signed list, and its version. A server that is no member
// has none.
func (s *Server) addressList() (list api.ServerAddresses, version string, ok bool) {
	members, index, ok := s.roster.voters()
	if !ok {
		return list, "", false
	}
	a := &s.addresses
	a.mu.Lock()
	defer a.mu.Unlock()
	list = api.ServerAddresses{ChainID: s.id.genesis.ChainID, Index: api.Uint64(index), Servers: []api.ServerAddress{}}
	for _, m := range members {
		text := a.known[m.ID].url
		if m.ID == s.self {
			text = s.addresses.own
		}
		if text != "" {
			list.Servers = append(list.Servers, api.ServerAddress{ID: m.ID, URL: text})
		}
	}
	now := time.Now()
	if list.Index == a.signed.Index && slices.Equal(list.Servers, a.signed.Servers) && now.Sub(time.UnixMilli(int64(a.signed.SignedMs))) < signAddressesEvery {
		return a.signed, a.version, true
	}
	digest := crypto.DomainAddresses.Hash(api.ServerAddressesPayload(s.id.cluster.Public(), &list)) // without the time
	list.SignedMs = max(chain.TimeMs(now.UnixMilli()), a.signed.SignedMs+1)                         // clients take the later of two
	list.Signature = s.id.cluster.Sign(crypto.DomainAddresses, api.ServerAddressesPayload(s.id.cluster.Public(), &list))
	a.signed, a.version = list, digest.String()[:16]
	return list, a.version, true
}

func (s *Server) registerAddresses(hapi huma.API) {
	op := getOperation("list-addresses", addressesPath, "Where the cluster's servers answer HTTP, signed with the cluster's key")
	op.Description = "As this server has heard. The header " + api.ServersHeader + " of every answer changes when this list does."
	huma.Register(hapi, op, func(context.Context, *struct{}) (*body[api.ServerAddresses], error) {
		list, _, ok := s.addressList()
		if !ok {
			return nil, web.Busy("this server is no member of its cluster now")
		}
		return &body[api.ServerAddresses]{list}, nil
	})
}

// versioned names the version of the list of addresses, and refuses what a server
// that was removed can only answer wrongly.
func (s *Server) versioned(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.addresses.removed.Load() && r.URL.Path != healthPath {
			web.WriteBusy(w, r, s.log, "this server was removed from its cluster: ask another")
			return
		}
		if _, version, ok := s.addressList(); ok {
			w.Header().Set(api.ServersHeader, version)
		}
		next.ServeHTTP(w, r)
	})
}
