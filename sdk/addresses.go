package sdk

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// A cluster's servers come and go. Every answer names the version of the list of
// them, signed with the cluster's key; a client that was told whose servers it asks
// (Config.Cluster) fetches a list that it has not seen, and asks those servers too
// once the configured ones fail. These it goes on asking first, so that nothing it
// was told can keep it from them. It learns no plain HTTP where TLS was
// configured, and no loopback address of another machine.

const (
	learnTimeout = 3 * time.Second
	learnAgain   = time.Second // after a failure, twice as long after each more
	learnSeldom  = time.Minute // and no longer than this
	maxVersion   = 64          // bytes of a header

	// staleAge is the age of a server's state, in ms, from which on another server is
	// asked next: it may have been cut off from the others, or removed.
	staleAge = 30_000
)

// heard is what a client knows of a cluster's list of servers.
type heard struct {
	named atomic.Pointer[string] // the version that the last answer named
	stale atomic.Bool            // a server's state is old

	mu     sync.Mutex    // held while the list is fetched and taken
	asked  string        // the version that was fetched last
	retry  time.Time     // no sooner
	wait   time.Duration // after the next failure
	newest api.ServerAddresses
}

// note takes what an answer says of the server and of the list.
func (h *heard) note(header http.Header) {
	if age, err := strconv.ParseInt(header.Get(api.StateAgeHeader), 10, 64); err == nil && age > staleAge {
		h.stale.Store(true)
	}
	version := header.Get(api.ServersHeader)
	if last := h.named.Load(); version == "" || len(version) > maxVersion || last != nil && *last == version {
		return
	}
	h.named.Store(&version)
}

// learn fetches the list of the cluster's servers if an answer named another than
// is known.
func (c *Client) learn(ctx context.Context, to *servers, base string) {
	h := &to.heard
	named := h.named.Load()
	if named == nil || to != c.nexus || c.config.Cluster.IsZero() || !h.mu.TryLock() {
		return
	}
	defer h.mu.Unlock()
	if h.asked == *named || time.Now().Before(h.retry) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, learnTimeout)
	defer cancel()
	var list api.ServerAddresses
	var fetched string
	response, err := c.send(ctx, base, get(to, "/v1/addresses", nil))
	if err == nil {
		fetched = response.Header.Get(api.ServersHeader)
		err = readJSON(response, maxProblem, &list)
	}
	if err == nil {
		err = c.take(list)
	}
	if err == nil && h.newest.Index == list.Index && !slices.Equal(h.newest.Servers, list.Servers) {
		h.retry = time.Now().Add(learnAgain) // another server signed later and knows other URLs: one of both will catch up
		return
	}
	if err != nil { // what was asked has been answered; the servers known stay
		h.wait = min(max(learnAgain, 2*h.wait), learnSeldom)
		h.retry = time.Now().Add(h.wait)
		return
	}
	h.asked, h.wait = fetched, 0
}

// ErrServers says that a list of servers is not one of the cluster's.
var ErrServers = errors.New("sdk: the list of servers is refused")

// TakeServers takes what Config.Learned of another client of the same cluster was
// called with. An older list than is known changes nothing. Errors: ErrServers.
func (c *Client) TakeServers(list api.ServerAddresses) error {
	c.nexus.heard.mu.Lock()
	defer c.nexus.heard.mu.Unlock()
	return c.take(list)
}

// ParseCluster reads what a configuration has for Config.Cluster: 64 hexadecimal digits, or
// nothing for no cluster.
func ParseCluster(text string) (key crypto.PublicKey, err error) {
	if text == "" {
		return key, nil
	}
	if key, err = crypto.ParsePublicKey(text); err != nil {
		return key, fmt.Errorf("sdk: %.80q is no cluster's public key: %w", text, err)
	}
	return key, nil
}

// take is TakeServers for who holds the lock.
func (c *Client) take(list api.ServerAddresses) error {
	cluster := c.config.Cluster
	switch {
	case cluster.IsZero():
		return fmt.Errorf("%w: Config.Cluster does not say whose servers it may have", ErrServers)
	case len(list.Servers) > api.MaxServerAddresses:
		return fmt.Errorf("%w: it has %d, limit %d", ErrServers, len(list.Servers), api.MaxServerAddresses)
	case c.config.Genesis != nil && list.ChainID != c.config.Genesis.ChainID:
		return fmt.Errorf("%w: it is of chain %.40q, trusted is %q", ErrServers, string(list.ChainID), string(c.config.Genesis.ChainID))
	case !cluster.Verify(crypto.DomainAddresses, api.ServerAddressesPayload(cluster, &list), list.Signature):
		return fmt.Errorf("%w: cluster %s did not sign it", ErrServers, cluster)
	}
	h := &c.nexus.heard
	if list.Index < h.newest.Index || list.Index == h.newest.Index && list.SignedMs <= h.newest.SignedMs {
		return nil
	}
	h.newest = list
	urls := slices.Clone(c.nexus.configured)
	for _, s := range list.Servers {
		if base := strings.TrimRight(s.URL, "/"); c.nexus.mayLearn(base) && !slices.Contains(urls, base) {
			urls = append(urls, base)
		}
	}
	c.nexus.urls.Store(&urls)
	if c.config.Learned != nil {
		c.config.Learned(list)
	}
	return nil
}

// mayLearn reports whether an address is no weaker than those that were configured.
func (s *servers) mayLearn(base string) bool {
	u, err := checkBase(s.kind, base)
	if err != nil || u.User != nil {
		return false
	}
	secure, local := false, false
	for _, text := range s.configured {
		if known, err := url.Parse(text); err == nil {
			secure = secure || known.Scheme == "https"
			local = local || isLoopback(known.Hostname())
		}
	}
	return (u.Scheme == "https" || !secure) && (local || !isLoopback(u.Hostname()))
}

// isLoopback reports whether a host of a URL is this machine.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
