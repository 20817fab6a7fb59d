package sdk

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// Config says whom to ask and whom to trust. A zero number or duration is its
// default.
type Config struct {
	Nodes   []string       // base URLs of nodes, such as http://127.0.0.1:8545
	Nexus   []string       // base URLs of one cluster's servers
	Genesis *chain.Genesis // what to trust; nil: nothing can be verified
	// Checkpoint is what to trust of the chain's history: a block that closed an
	// epoch, not older than the unbonding period. A client that then asks nothing for
	// longer than that verifies nothing more (light.ErrExpired): make another, with
	// a newer checkpoint. Nil: the history from genesis on is followed, which trusts
	// the first committees' keys for ever.
	Checkpoint *light.Checkpoint
	Cluster    crypto.PublicKey // whose servers Nexus are; zero: RunJob believes them, if the chain knows it, and no others are learned
	// Learned, if set, is called with each newer list of the cluster's servers, for
	// TakeServers of a later client. Calls do not overlap.
	Learned func(api.ServerAddresses)
	HTTP    *http.Client // nil: one of the client's own

	Timeout     time.Duration // of one attempt of one request: 15 s
	Attempts    int           // of a request that may be repeated: 6; or EachOnce
	Backoff     time.Duration // before the second round of attempts, doubling: 100 ms
	StreamQuiet time.Duration // an event stream silent for so long is begun anew: 60 s
}

// EachOnce has a client ask every server that it knows of once, and no more.
const EachOnce = -1

var (
	// ErrNoTrust says that a Client without genesis was asked to verify.
	ErrNoTrust = errors.New("sdk: no genesis to verify against: set Config.Genesis")
	// ErrNoServer says that Config names no server of the kind asked.
	ErrNoServer = errors.New("sdk: no server configured")
)

// Client asks nodes and Nexus servers.
type Client struct {
	config   Config
	http     *http.Client
	nodes    *servers
	nexus    *servers
	verifier chan *light.Verifier // the one there is; whoever took it brings it back
}

// New returns a client. It checks the configuration and asks nobody.
func New(config Config) (*Client, error) {
	setDefault(&config.Timeout, 15*time.Second)
	setDefault(&config.Attempts, 6)
	setDefault(&config.Backoff, 100*time.Millisecond)
	setDefault(&config.StreamQuiet, 60*time.Second)
	if config.Timeout < 0 || config.Attempts < EachOnce || config.Backoff < 0 || config.StreamQuiet < 0 {
		return nil, errors.New("sdk: Timeout, Attempts, Backoff or StreamQuiet is negative")
	}
	c := &Client{config: config, http: config.HTTP}
	if c.http == nil {
		c.http = &http.Client{Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 32, IdleConnTimeout: 30 * time.Second,
			TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true,
		}}
	}
	var err error
	if c.nodes, err = newServers("node", config.Nodes); err != nil {
		return nil, err
	}
	if c.nexus, err = newServers("Nexus", config.Nexus); err != nil {
		return nil, err
	}
	if config.Genesis != nil {
		v, err := light.New(config.Genesis)
		if err == nil && config.Checkpoint != nil {
			v, err = nil, config.Checkpoint.Check(config.Genesis, chain.TimeMs(time.Now().UnixMilli()))
		}
		if err != nil {
			return nil, fmt.Errorf("sdk: trust: %w", err)
		}
		c.verifier = make(chan *light.Verifier, 1)
		c.verifier <- v
	}
	return c, nil
}

func setDefault[T comparable](field *T, to T) {
	var zero T
	if *field == zero {
		*field = to
	}
}

// servers are interchangeable; the one that answered last is asked next.
type servers struct {
	kind       string
	configured []string
	urls       atomic.Pointer[[]string] // those first, and then what was learned
	at         atomic.Uint64            // index of the current one, modulo their number
	heard      heard
}

func newServers(kind string, bases []string) (*servers, error) {
	s := &servers{kind: kind}
	for _, base := range bases {
		if _, err := checkBase(kind, base); err != nil {
			return nil, err
		}
		s.configured = append(s.configured, strings.TrimRight(base, "/"))
	}
	s.urls.Store(&s.configured)
	return s, nil
}

func checkBase(kind, base string) (*url.URL, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("sdk: %s URL: %w", kind, err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("sdk: %s URL %q: want http://host:port or https://host:port", kind, base)
	}
	return u, nil
}

func (s *servers) count() int { return len(*s.urls.Load()) }

// attempts is how often one of some servers is asked, at most.
func (c *Client) attempts(of *servers) int {
	if c.config.Attempts == EachOnce {
		return of.count()
	}
	return c.config.Attempts
}

// current returns the server to ask and its turn, for failed.
func (s *servers) current() (base string, turn uint64, err error) {
	turn = s.at.Load()
	base, err = s.of(turn)
	return base, turn, err
}

// of returns the server whose turn it is.
func (s *servers) of(turn uint64) (string, error) {
	urls := *s.urls.Load()
	if len(urls) == 0 {
		return "", fmt.Errorf("%w: a %s is wanted", ErrNoServer, s.kind)
	}
	return urls[turn%uint64(len(urls))], nil
}

// failed moves on to the next server, unless somebody did already.
func (s *servers) failed(turn uint64) { s.at.CompareAndSwap(turn, turn+1) }

// prefer has the server that is so many turns after another be asked first, unless somebody moved on further.
func (s *servers) prefer(turn, after uint64) {
	if now := s.at.Load(); now-turn < after {
		s.at.CompareAndSwap(now, turn+after)
	}
}
