package sdk_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// mouth is a Nexus server that says what a test has it say of the servers.
type mouth struct {
	*httptest.Server
	list    atomic.Pointer[api.ServerAddresses]
	version atomic.Pointer[string]
	asked   atomic.Int64 // for the list
	others  atomic.Int64 // other requests
	age     atomic.Int64 // of the state, in ms
}

func newMouth(t *testing.T) *mouth {
	m := &mouth{}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if v := m.version.Load(); v != nil {
			w.Header().Set(api.ServersHeader, *v)
		}
		if age := m.age.Load(); age > 0 {
			w.Header().Set(api.StateAgeHeader, strconv.FormatInt(age, 10))
		}
		var out any = api.NexusStatus{ChainID: testChain}
		if r.URL.Path == "/v1/addresses" {
			m.asked.Add(1)
			out = m.list.Load()
		} else {
			m.others.Add(1)
		}
		w.Header().Set("Content-Type", api.ContentJSON)
		if err := json.NewEncoder(w).Encode(out); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(m.Close)
	return m
}

func (m *mouth) say(version string, list api.ServerAddresses) {
	m.list.Store(&list)
	m.version.Store(&version)
}

// addresses is a list of servers that a key signed.
func addresses(index, at uint64, signer keySigner, urls ...string) api.ServerAddresses {
	list := api.ServerAddresses{ChainID: testChain, Index: api.Uint64(index), SignedMs: chain.TimeMs(at)}
	for i, u := range urls {
		list.Servers = append(list.Servers, api.ServerAddress{ID: testKey(40 + i).Public(), URL: u})
	}
	list.Signature = signer.PrivateKey.Sign(crypto.DomainAddresses, api.ServerAddressesPayload(signer.Public(), &list))
	return list
}

// TestTheOnlyServerOfAClientGoes has a client that was told of one server learn of
// another, and the first one end; and a later client go on from what the first kept.
func TestTheOnlyServerOfAClientGoes(t *testing.T) {
	cluster := testKey(30)
	a, b := newMouth(t), newMouth(t)
	a.say("one", addresses(1, 1, cluster, a.URL, b.URL))
	var kept []api.ServerAddresses
	config := sdk.Config{Nexus: []string{a.URL}, Cluster: cluster.Public(), Backoff: 1, Genesis: testGenesis(), Learned: func(l api.ServerAddresses) { kept = append(kept, l) }}
	client, err := sdk.New(config)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(client *sdk.Client) error {
		_, err := client.NexusStatus(t.Context())
		return err
	}
	for range 3 {
		if err := ask(client); err != nil {
			t.Fatal(err)
		}
	}
	if a.asked.Load() != 1 || b.others.Load() != 0 || len(kept) != 1 {
		t.Errorf("the list was fetched %d times and kept %d times, the other server asked %d times", a.asked.Load(), len(kept), b.others.Load())
	}
	a.Close()
	if err := ask(client); err != nil || b.others.Load() == 0 {
		t.Errorf("once the first server is gone: %v", err)
	}
	config.Attempts = 2
	later, err := sdk.New(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := ask(later); err == nil {
		t.Error("a client that learned nothing found the other server")
	}
	if err := later.TakeServers(kept[0]); err != nil {
		t.Fatal(err)
	}
	if err := ask(later); err != nil {
		t.Errorf("a client that was told what was kept: %v", err)
	}
}

// TestAListSignedEarlierIsAskedForAgain has a server's list be older than that of another one
// which knew less: the client asks for it again, and has it once it is signed anew.
func TestAListSignedEarlierIsAskedForAgain(t *testing.T) {
	cluster := testKey(30)
	a, b := newMouth(t), newMouth(t)
	learned := make(chan api.ServerAddresses, 8)
	client, err := sdk.New(sdk.Config{
		Nexus: []string{a.URL}, Cluster: cluster.Public(), Backoff: 1, Genesis: testGenesis(), Learned: func(l api.ServerAddresses) { learned <- l },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.TakeServers(addresses(1, 5, cluster, a.URL)); err != nil {
		t.Fatal(err)
	}
	a.say("both", addresses(1, 4, cluster, a.URL, b.URL))
	if _, err := client.NexusStatus(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.say("both", addresses(1, 6, cluster, a.URL, b.URL))
	<-learned // what it was told
	deadline := time.After(time.Minute)
	for {
		select {
		case list := <-learned:
			if len(list.Servers) != 2 {
				t.Errorf("learned of %d servers", len(list.Servers))
			}
			return
		case <-deadline:
			t.Fatal("the list that was signed anew was not asked for")
		case <-time.After(50 * time.Millisecond):
			if _, err := client.NexusStatus(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestServersThatAreCutOff has a client ask the next server once one says that what it
// shows is old.
func TestServersThatAreCutOff(t *testing.T) {
	a, b := newMouth(t), newMouth(t)
	client, err := sdk.New(sdk.Config{Nexus: []string{a.URL, b.URL}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int64{1, 2, 2} {
		if i == 1 {
			a.age.Store(40_000)
		}
		if _, err := client.NexusStatus(t.Context()); err != nil || a.others.Load() != want || a.others.Load()+b.others.Load() != int64(i+1) {
			t.Errorf("question %d: %v, %d were asked of the first", i, err, a.others.Load())
		}
	}
}

// TestServersThatLie has a server name strangers, in lists that the client must not
// take, and then end: the client asks no stranger.
func TestServersThatLie(t *testing.T) {
	cluster, stranger := testKey(30), newMouth(t)
	later := addresses(9, 9, cluster, "http://127.0.0.1:1")
	later.Servers[0].URL = stranger.URL
	another := addresses(9, 9, cluster, stranger.URL)
	another.ChainID = "another"
	another.Signature = cluster.PrivateKey.Sign(crypto.DomainAddresses, api.ServerAddressesPayload(cluster.Public(), &another))
	many := make([]string, api.MaxServerAddresses+1)
	for i := range many {
		many[i] = stranger.URL
	}
	for name, list := range map[string]api.ServerAddresses{
		"another's signature": addresses(9, 9, testKey(31), stranger.URL),
		"changed":             later,
		"another chain":       another,
		"too many":            addresses(9, 9, cluster, many...),
		"no URL":              addresses(9, 9, cluster, "file:///etc/passwd"),
		"with a password":     addresses(9, 9, cluster, strings.Replace(stranger.URL, "://", "://a:b@", 1)),
		"older":               addresses(4, 99, cluster, stranger.URL),
		"as old":              addresses(5, 5, cluster, stranger.URL),
	} {
		m := newMouth(t)
		client, err := sdk.New(sdk.Config{Nexus: []string{m.URL}, Cluster: cluster.Public(), Backoff: 1, Genesis: testGenesis(), Attempts: 3})
		if err != nil {
			t.Fatal(err)
		}
		if err := client.TakeServers(addresses(5, 5, cluster, m.URL)); err != nil {
			t.Fatal(err)
		}
		m.say("lie", list)
		if _, err := client.NexusStatus(t.Context()); err != nil || m.asked.Load() != 1 {
			t.Errorf("%s: %v, asked %d times", name, err, m.asked.Load())
		}
		m.Close()
		if _, err := client.NexusStatus(t.Context()); err == nil || stranger.others.Load() != 0 {
			t.Errorf("%s: a stranger was asked: %v", name, err)
		}
	}
}

// TestLearnedServersAreNoWeaker checks what addresses a client takes, by those that
// it was configured with.
func TestLearnedServersAreNoWeaker(t *testing.T) {
	cluster := testKey(30)
	for _, x := range []struct {
		configured, learned string
		want                bool
	}{
		{"https://a.example", "https://b.example:8443", true},
		{"https://a.example", "http://b.example", false},
		{"http://a.example", "https://b.example", true},
		{"http://10.0.0.1:7280", "http://127.0.0.1:7280", false},
		{"http://10.0.0.1:7280", "http://[::1]:7280", false},
		{"http://10.0.0.1:7280", "http://localhost:7280", false},
		{"http://127.0.0.1:7280", "http://127.0.0.1:7281", true},
		{"http://127.0.0.1:7280", "http://127.0.0.1:7280/", false}, // is known
	} {
		client, err := sdk.New(sdk.Config{Nexus: []string{x.configured}, Cluster: cluster.Public()})
		if err != nil {
			t.Fatal(err)
		}
		if err := client.TakeServers(addresses(1, 1, cluster, x.learned)); err != nil {
			t.Fatal(err)
		}
		if got := len(client.Nexus()) == 2; got != x.want {
			t.Errorf("%s with %s configured: %v", x.learned, x.configured, got)
		}
	}
	nobody, err := sdk.New(sdk.Config{Nexus: []string{"http://127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := nobody.TakeServers(addresses(1, 1, cluster, "http://127.0.0.1:2")); err == nil {
		t.Error("a client that was not told whose servers to ask learned of some")
	}
}

// TestServersAreKept has a client keep what it learns, a later one go on from there, and one
// whose file is damaged say so and ask those that it was told of.
func TestServersAreKept(t *testing.T) {
	cluster, path := testKey(30), filepath.Join(t.TempDir(), "servers.json")
	a, b := newMouth(t), newMouth(t)
	a.say("one", addresses(1, 1, cluster, a.URL, b.URL))
	var warned []error
	client := func() *sdk.Client {
		warned = nil
		config := sdk.Config{Nexus: []string{a.URL}, Cluster: cluster.Public(), Genesis: testGenesis(), Attempts: sdk.EachOnce}
		c, err := sdk.NewKept(path, config, func(err error) { warned = append(warned, err) })
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := client(); len(c.Nexus()) != 1 || len(warned) > 0 {
		t.Errorf("a first client knows %v, warned %v", c.Nexus(), warned)
	} else if _, err := c.NexusStatus(t.Context()); err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	if _, err := client().NexusStatus(t.Context()); err != nil || len(warned) > 0 || b.others.Load() != 1 {
		t.Errorf("a later client: %v, warned %v", err, warned)
	}
	for name, content := range map[string]string{
		"damaged":  "{",
		"another":  strings.Replace(string(kept), b.URL, "http://127.0.0.1:1", 1),
		"too long": string(kept) + strings.Repeat(" ", 1<<16),
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if c := client(); len(c.Nexus()) != 1 || len(warned) != 1 || !strings.Contains(warned[0].Error(), path) {
			t.Errorf("%s: it knows %v, warned %v", name, c.Nexus(), warned)
		}
	}
}

// TestEachServerOnce counts what a client asks that asks each server once.
func TestEachServerOnce(t *testing.T) {
	var asked atomic.Int64
	busy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer busy.Close()
	client, err := sdk.New(sdk.Config{Nexus: []string{busy.URL + "/a", busy.URL + "/b", busy.URL + "/c"}, Attempts: sdk.EachOnce})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.NexusStatus(t.Context()); err == nil || asked.Load() != 3 {
		t.Errorf("%v after %d requests", err, asked.Load())
	}
}

// TestARequestTriesEachServer: whatever other requests have tried meanwhile, a request of a client that asks each server once passes over none.
func TestARequestTriesEachServer(t *testing.T) {
	var client *sdk.Client
	asked := ""
	server := func(name string, answer func(message string) bool) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var in api.PeerMessage
			if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
				t.Error(err)
			}
			asked += name + string(in.Message) + " "
			if !answer(string(in.Message)) {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			if err := json.NewEncoder(w).Encode(api.PeerMessage{Message: []byte("yes")}); err != nil {
				t.Error(err)
			}
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	first := server("a", func(message string) bool {
		if message == "1" && asked == "a1 " { // while this waits another request is refused by all
			if _, err := client.CarryPeer(t.Context(), []byte("2")); err == nil {
				t.Error("a request is answered that is refused")
			}
		}
		return false
	})
	second := server("b", func(message string) bool { return message == "1" })
	var err error
	if client, err = sdk.New(sdk.Config{Nexus: []string{first, second}, Attempts: sdk.EachOnce}); err != nil {
		t.Fatal(err)
	}
	if answer, err := client.CarryPeer(t.Context(), []byte("1")); err != nil || string(answer) != "yes" {
		t.Errorf("it is not answered: %q, %v; asked were %s", answer, err, asked)
	}
}
