package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk"
)

func openedReported(t *testing.T, home string) *reported {
	t.Helper()
	r, err := openReported(home, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// watching is a watcher of a lease whose terms, with epochs of ten seconds, began so long ago, and that was
// there since; each second of it a probe found nothing.
func watching(t *testing.T, since time.Duration) (*watcher, job.Watch) {
	t.Helper()
	home := t.TempDir()
	key := crypto.PrivateKeyFromSeed([32]byte{7})
	a := &Agent{
		log: slog.New(slog.DiscardHandler), key: key, id: key.Public(), genesis: &chain.Genesis{ChainID: "watch-1"}, sessions: map[*session]struct{}{}, reported: openedReported(t, home),
		config: Config{Home: home}, began: time.Now().Add(-2 * since),
	}
	now := time.Now()
	m := job.Watch{
		Terms: crypto.Digest{1}, Service: chain.ServiceTerms{EpochMs: 10_000, AvailabilityBps: 9_000, RebateBps: 1},
		Since: timeMs(now.Add(-since)), Until: timeMs(now.Add(time.Hour)),
	}
	w := newWatcher(a, &m)
	w.enter(&m)
	w.epoch = 0
	for at := time.Duration(0); at < since; at += time.Second {
		w.found = append(w.found, probeFound{sent: uint64(at.Milliseconds())})
	}
	return w, m
}

// told lists the epochs that were reported, and how many probes each counts.
func (w *watcher) told() (epochs, probes []uint64) {
	for _, r := range w.reports {
		epochs, probes = append(epochs, r.Epoch.Epoch), append(probes, r.Report.Sent)
	}
	return epochs, probes
}

// TestEpochsAreReportedByAStateAfterThem: one from before does not know whether the lease ended in them.
func TestEpochsAreReportedByAStateAfterThem(t *testing.T) {
	w, m := watching(t, 25*time.Second)
	for _, c := range []struct {
		at   chain.TimeMs
		want []uint64
	}{{0, nil}, {10_000, nil}, {10_001, []uint64{0}}, {20_001, []uint64{0, 1}}, {1 << 40, []uint64{0, 1}}} {
		m.At = m.Since + c.at
		w.enter(&m)
		if got, probes := w.told(); !slices.Equal(got, c.want) || slices.ContainsFunc(probes, func(n uint64) bool { return n != 10 }) {
			t.Fatalf("by the state of %d ms: epochs %v with %v probes, want %v", c.at, got, probes, c.want)
		}
	}
	r := w.reports[1]
	if !r.Report.Peer.Verify(crypto.DomainService, chain.ServicePayload(r.Epoch, r.Report), r.Report.Signature) || r.Epoch.Terms != m.Terms {
		t.Errorf("reported %+v", r)
	}
}

// TestLastEpochOfALease is as long as the lease, and what was probed shortly before its end, or after it, says
// nothing: an epoch is not reported that was good but for that.
func TestLastEpochOfALease(t *testing.T) {
	w, m := watching(t, 35*time.Second)
	m.Until, m.At = m.Since+29_000, m.Since+29_001
	w.enter(&m)
	epochs, probes := w.told()
	if !slices.Equal(epochs, []uint64{0, 1, 2}) || !slices.Equal(probes, []uint64{10, 10, 4}) {
		t.Fatalf("epochs %v with %v probes", epochs, probes)
	}
	w, m = watching(t, 35*time.Second)
	for i := range w.found {
		w.found[i].serving = i < 24 // it stopped five seconds before the end, and is stopped since
	}
	m.Until, m.At = m.Since+29_000, m.Since+35_000
	w.enter(&m)
	if epochs, _ := w.told(); len(epochs) != 0 || len(w.found) == 0 || w.epoch != 3 {
		t.Fatalf("epochs %v are reported, the next is %d", epochs, w.epoch)
	}
	m.At = m.Since + 1<<40
	w.enter(&m)
	if epochs, _ := w.told(); len(epochs) != 0 || w.epoch != 3 {
		t.Fatalf("epochs %v are reported after the end", epochs)
	}
}

// TestEpochIsOfOneProcess: the one that was there when it began.
func TestEpochIsOfOneProcess(t *testing.T) {
	w, m := watching(t, 25*time.Second)
	w.Began, m.At = time.Now().Add(-20*time.Second), m.Since+1<<40
	w.enter(&m)
	if epochs, _ := w.told(); !slices.Equal(epochs, []uint64{1}) {
		t.Fatalf("epochs %v are reported", epochs)
	}
}

// TestSilenceAbroadSaysNothing of the node: its cluster alone knows whether it gave an answer.
func TestSilenceAbroadSaysNothing(t *testing.T) {
	w, m := watching(t, 25*time.Second)
	m.Abroad, m.Lease.Order = true, crypto.Digest{5}
	w.watch = m
	w.agent.watches = map[promise]*watcher{{Lease: m.Lease, Terms: m.Terms}: w}
	if _, _, ok := w.probe(t.Context(), &m, time.Millisecond); ok {
		t.Error("a probe counts that nobody may have carried")
	}
	type found struct{ serving, ok bool }
	done := make(chan found, 1)
	go func() {
		serving, _, ok := w.probe(t.Context(), &m, time.Hour)
		done <- found{serving, ok}
	}()
	for {
		w.mu.Lock()
		nonce := w.asked.Nonce
		w.mu.Unlock()
		if !nonce.IsZero() {
			w.agent.unanswered(&job.Unanswered{Lease: m.Lease, Nonce: crypto.Digest{9}}) // of another probe
			w.agent.unanswered(&job.Unanswered{Lease: m.Lease, Nonce: nonce})
			break
		}
		runtime.Gosched()
	}
	if got := <-done; got.serving || !got.ok {
		t.Errorf("a probe to which the node gave no answer found %+v", got)
	}
}

// TestAnswersOfTheNodeCount: what another signed, what answers another probe and what is cut short do not.
func TestAnswersOfTheNodeCount(t *testing.T) {
	node := crypto.PrivateKeyFromSeed([32]byte{8})
	p := job.Probe{Lease: chain.LeaseID{Node: node.Public(), Order: crypto.Digest{1}}, Peer: crypto.PrivateKeyFromSeed([32]byte{9}).Public(), Nonce: crypto.Digest{2}, Bytes: 4}
	good := job.ProbeReply{Lease: p.Lease, Peer: p.Peer, Nonce: p.Nonce, Serving: true, Data: make([]byte, 4)}
	for what, c := range map[string]struct {
		change       func(*job.ProbeReply)
		key          crypto.PrivateKey
		serving, bad bool
	}{
		"as it is":          {change: func(*job.ProbeReply) {}, key: node, serving: true},
		"it does not serve": {change: func(r *job.ProbeReply) { r.Serving = false }, key: node},
		"cut short":         {change: func(r *job.ProbeReply) { r.Data = r.Data[:3] }, key: node},
		"another probe":     {change: func(r *job.ProbeReply) { r.Nonce[0]++ }, key: node, bad: true},
		"another lease":     {change: func(r *job.ProbeReply) { r.Lease.Order[0]++ }, key: node, bad: true},
		"another peer":      {change: func(r *job.ProbeReply) { r.Peer[0]++ }, key: node, bad: true},
		"another's word":    {change: func(*job.ProbeReply) {}, key: crypto.PrivateKeyFromSeed([32]byte{10}), bad: true},
	} {
		r := good
		c.change(&r)
		r.Signature = c.key.Sign(crypto.DomainProbe, r.Payload("watch-1"))
		serving, err := Answer("watch-1", &p, &r)
		if serving != c.serving || (err != nil) != c.bad {
			t.Errorf("%s: serving %t, %v", what, serving, err)
		}
	}
}

// TestAnEpochIsReportedOnce, whatever a server says of when it began and ended: two reports of one cost a bond.
func TestAnEpochIsReportedOnce(t *testing.T) {
	w, m := watching(t, 29500*time.Millisecond)
	m.At = m.Since + 1<<40
	over := m
	over.Until = m.Since + 29_000 // the third would be over
	w.enter(&over)
	if epochs, _ := w.told(); !slices.Equal(epochs, []uint64{0, 1, 2}) {
		t.Fatalf("epochs %v are reported", epochs)
	}
	for _, since := range []chain.TimeMs{m.Since, m.Since + 1} { // it goes on, or began later
		again := m
		again.Since = since
		w.of.Terms[0]++
		w.enter(&again)
		w.epoch = 0
		w.found = []probeFound{{sent: 1}, {sent: 2}, {sent: 3}, {sent: 4}, {sent: 5}, {sent: 6}}
		w.enter(&again)
		if epochs, _ := w.told(); len(epochs) != 3 {
			t.Fatalf("epochs %v are reported", epochs)
		}
	}
}

// TestAnEpochIsReportedOnceByAllProcesses: a server that says after a restart that the terms began later, so that an
// epoch that was reported seems to have begun since, does not have it reported again.
func TestAnEpochIsReportedOnceByAllProcesses(t *testing.T) {
	w, m := watching(t, 25*time.Second)
	m.At = m.Since + 1<<40
	w.enter(&m)
	if epochs, _ := w.told(); !slices.Equal(epochs, []uint64{0, 1}) {
		t.Fatalf("epochs %v are reported", epochs)
	}
	old, shifted := w.agent, m
	next := &Agent{
		log: old.log, key: old.key, id: old.id, genesis: old.genesis, sessions: map[*session]struct{}{},
		config: Config{Home: t.TempDir()}, began: time.Now().Add(-12 * time.Second),
	}
	data, err := os.ReadFile(filepath.Join(old.config.Home, ReportedFile)) // as a crash leaves it
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(next.config.Home, ReportedFile), data, 0o600); err != nil {
		t.Fatal(err)
	}
	next.reported = openedReported(t, next.config.Home)
	shifted.Since = timeMs(time.Now().Add(-11 * time.Second)) // epoch 0 began since then, and is over
	again := func(terms crypto.Digest) []uint64 {
		shifted.Terms = terms
		w := newWatcher(next, &shifted)
		w.enter(&shifted)
		w.epoch = 0
		for ms := range uint64(10) {
			w.found = append(w.found, probeFound{sent: ms * 1_000})
		}
		w.enter(&shifted)
		epochs, _ := w.told()
		return epochs
	}
	if epochs := again(m.Terms); len(epochs) != 0 {
		t.Fatalf("epochs %v are reported again", epochs)
	}
	if epochs := again(crypto.Digest{2}); !slices.Equal(epochs, []uint64{0}) {
		t.Fatalf("of other terms epochs %v are reported", epochs)
	}
}

// TestFewReportsAreForgotten: at the limit those give way that are old, and without any nothing is reported.
func TestFewReportsAreForgotten(t *testing.T) {
	r := openedReported(t, t.TempDir())
	month := chain.TimeMs(forgetReported.Milliseconds())
	for n := range uint64(maxReportedOf) {
		l := lastReport{Of: promise{Terms: crypto.Digest{byte(n), byte(n >> 8), 1}}, Epoch: 5, At: month + chain.TimeMs(n)}
		r.last[l.Of] = l
	}
	of := func(n byte) *chain.ServiceEpoch { return &chain.ServiceEpoch{Terms: crypto.Digest{n}, Epoch: 5} }
	if may, err := r.may(of(1), 2*month-1); may || err == nil {
		t.Fatalf("reported beyond the limit: %v", err)
	}
	if may, err := r.may(of(1), 2*month); !may || err != nil {
		t.Fatalf("nothing gives way: %v", err)
	}
	if may, err := r.may(of(2), 2*month); may || err == nil {
		t.Fatalf("what is not old gives way: %v", err)
	}
	if may, err := r.may(of(1), 2*month); may || err != nil {
		t.Fatalf("an epoch is reported twice: %v", err)
	}
	first := chain.ServiceEpoch{Terms: crypto.Digest{1, 0, 1}, Epoch: 5}
	if may, err := r.may(&first, 2*month); may || err != nil {
		t.Fatalf("another gave way than the oldest: %v", err)
	}
}

// TestWatchesOfOneServerAreBounded: of what it alone speaks of, and the chain was not seen to have, a server has a share,
// each terms of a lease are watched once, and no server can have its word stand for ever.
func TestWatchesOfOneServerAreBounded(t *testing.T) {
	a := &Agent{log: slog.New(slog.DiscardHandler), genesis: &chain.Genesis{ChainID: "watch-1"}, watches: map[promise]*watcher{}, began: time.Now()}
	ctx, cancel := context.WithCancel(t.Context())
	a.work = ctx
	defer a.running.Wait()
	defer cancel()
	said := func(n int) *job.Watch {
		return &job.Watch{
			Lease: chain.LeaseID{Node: crypto.PublicKey{1}, Order: crypto.Digest{byte(n), byte(n >> 8)}}, Terms: crypto.Digest{1},
			Service: chain.ServiceTerms{EpochMs: 3_600_000}, Until: timeMs(time.Now().Add(time.Hour)),
		}
	}
	liar, other := crypto.PublicKey{2}, crypto.PublicKey{3}
	for n := range maxWatchesOf {
		if a.watcherFor(liar, said(n)) == nil {
			t.Fatalf("watch %d of its share is refused", n)
		}
	}
	if a.watcherFor(liar, said(maxWatchesOf)) != nil {
		t.Error("a server has more watches than its share")
	}
	if a.watcherFor(other, said(maxWatchesOf)) == nil || a.watcherFor(liar, said(0)) != a.watcherFor(other, said(0)) {
		t.Error("another server has none, or what both speak of is watched twice")
	}
	if a.watcherFor(liar, said(maxWatchesOf+1)) == nil {
		t.Error("what another speaks of as well counts to the share")
	}
	if now := time.Now(); toCome(&job.Watch{At: timeMs(now.Add(watchAhead))}, now) || !toCome(&job.Watch{At: timeMs(now.Add(watchAhead)) + 1}, now) || !toCome(&job.Watch{At: 1 << 63}, now) {
		t.Error("a state may be ahead of the clock by more or less than a minute")
	}
	resized := said(0)
	resized.Terms = crypto.Digest{2}
	if a.watcherFor(other, resized) == a.watcherFor(other, said(0)) {
		t.Error("two terms of a lease are one watch")
	}
}

// TestWhatTheChainHasNotIsNotReported: made-up terms take no room of what was reported, and those that the chain has are
// reported once it was seen to have them, as it has them.
func TestWhatTheChainHasNotIsNotReported(t *testing.T) {
	w, m := watching(t, 25*time.Second)
	var has sdk.Promised
	asked, failing := 0, error(nil)
	w.agent.services = func(context.Context, chain.LeaseID) (sdk.Promised, error) {
		asked++
		return has, failing
	}
	try := func(want bool, what string) {
		t.Helper()
		w.asks, w.rest = 0, 0
		w.prove(t.Context())
		if w.mayReport() != want {
			t.Errorf("%s: it may be reported: %t", what, !want)
		}
	}
	try(false, "the chain has no such lease")
	has = sdk.Promised{Live: true, Lease: settlement.Lease{Order: crypto.Digest{9}, Since: m.Since, Expires: m.Until}, Service: settlement.Service{Terms: m.Service, Former: []crypto.PublicKey{w.agent.id}}}
	try(false, "other terms")
	has.Lease.Order, has.Service.Former = m.Terms, []crypto.PublicKey{{3}}
	try(false, "this node is no peer")
	has.Service.Peers, failing = []crypto.PublicKey{w.agent.id}, errors.New("no node answers")
	try(false, "the chain cannot be asked")
	m.At = m.Since + 10_001
	w.enter(&m)
	if epochs, _ := w.told(); len(epochs) != 0 || len(w.agent.reported.last) != 0 {
		t.Errorf("epochs %v are reported, %d terms are kept", epochs, len(w.agent.reported.last))
	}
	failing = nil
	try(true, "the chain has it")
	m.At = m.Since + 20_001
	w.enter(&m)
	if epochs, _ := w.told(); !slices.Equal(epochs, []uint64{1}) {
		t.Errorf("epochs %v are reported", epochs)
	}
	before := asked
	try(true, "once it was proven")
	if asked != before {
		t.Error("the chain is asked again about what it was seen to have")
	}
}

// TestATruePromiseIsNotMadeAnother: a server that says another thing of a lease's terms than the chain is not heard.
func TestATruePromiseIsNotMadeAnother(t *testing.T) {
	w, m := watching(t, 25*time.Second)
	a := w.agent
	a.watches = map[promise]*watcher{{Lease: m.Lease, Terms: m.Terms}: w}
	has := sdk.Promised{At: m.Since + 5, Live: true, Lease: settlement.Lease{Order: m.Terms, Since: m.Since, Expires: m.Until}, Service: settlement.Service{Terms: m.Service, Peers: []crypto.PublicKey{a.id}}}
	a.services = func(context.Context, chain.LeaseID) (sdk.Promised, error) { return has, nil }
	for name, lie := range map[string]func(*job.Watch){
		"longer epochs":   func(x *job.Watch) { x.Service.EpochMs *= 100 },
		"less is due":     func(x *job.Watch) { x.Service.AvailabilityBps = 1 },
		"they just began": func(x *job.Watch) { x.Since += 20_000 },
	} {
		said := m
		said.At = timeMs(time.Now())
		lie(&said)
		w.proven, w.asks, w.rest, w.watch = false, 0, 0, said
		w.prove(t.Context())
		if got, _ := w.said(); !w.mayReport() || !samePromise(&got, &m) || got.Until != m.Until {
			t.Errorf("%s: %+v is probed", name, got)
		}
		w.hear(&said)
		if got, _ := w.said(); !samePromise(&got, &m) {
			t.Errorf("%s, once it was proven: %+v is probed", name, got)
		}
		later := m
		later.At, later.Until = timeMs(time.Now()), m.Until+1
		w.hear(&later)
		if got, _ := w.said(); got != later {
			t.Errorf("%s: news of the lease are not heard", name)
		}
	}
}

// TestTermsBeforeAResizeAreProven as those that hold are, so that a peer that was not there yet when they ended reports their
// last epochs, the last of which ends with them.
func TestTermsBeforeAResizeAreProven(t *testing.T) {
	w, m := watching(t, 28*time.Second)
	old := sdk.Promised{Live: true, Lease: settlement.Lease{Order: m.Terms, Since: m.Since, Expires: m.Since + 27_000}, Service: settlement.Service{Terms: m.Service, Peers: []crypto.PublicKey{w.agent.id}}}
	resized := sdk.Promised{Live: true, Lease: settlement.Lease{Order: crypto.Digest{9}, Since: old.Lease.Expires, Expires: m.Until}, Service: old.Service}
	w.agent.services = func(context.Context, chain.LeaseID) (sdk.Promised, error) { return resized, nil }
	if w.prove(t.Context()); w.mayReport() {
		t.Fatal("terms that the chain has no more are proven")
	}
	resized.Former = &old
	w.asks = 0
	if w.prove(t.Context()); !w.mayReport() {
		t.Fatal("terms before a resize are not proven")
	}
	m.Until, m.At = old.Lease.Expires, old.Lease.Expires+1
	w.enter(&m)
	if epochs, probes := w.told(); !slices.Equal(epochs, []uint64{0, 1}) || !slices.Equal(probes, []uint64{10, 10}) {
		t.Errorf("epochs %v are reported, of %v probes; the last has two that count", epochs, probes)
	}
}

// TestThroughputOfAResize: a node whose lease was resized to terms with throughput gives peers what they ask for.
func TestThroughputOfAResize(t *testing.T) {
	lease, order := crypto.Digest{1}, crypto.Digest{2}
	with, without := chain.Term{Service: &chain.ServiceTerms{ThroughputKiB: 1}}, chain.Term{Service: &chain.ServiceTerms{}}
	taken := func(term chain.Term, resizes crypto.Digest) *task {
		term.Resizes = resizes
		return &task{assignment: job.Assignment{Order: chain.Order{Term: &term}}}
	}
	for name, c := range map[string]struct {
		tasks map[crypto.Digest]*task
		want  bool
	}{
		"its own terms":              {map[crypto.Digest]*task{lease: taken(with, crypto.Digest{})}, true},
		"none":                       {map[crypto.Digest]*task{lease: taken(without, crypto.Digest{}), order: taken(without, lease)}, false},
		"those of a resize":          {map[crypto.Digest]*task{lease: taken(without, crypto.Digest{}), order: taken(with, lease)}, true},
		"those of another's resize":  {map[crypto.Digest]*task{lease: taken(without, crypto.Digest{}), order: taken(with, crypto.Digest{3})}, false},
		"those of another lease":     {map[crypto.Digest]*task{lease: taken(without, crypto.Digest{}), order: taken(with, crypto.Digest{})}, false},
		"a job, and none of a lease": {map[crypto.Digest]*task{lease: {}}, false},
	} {
		if got := (&Agent{tasks: c.tasks}).promisesThroughput(lease); got != c.want {
			t.Errorf("%s: promised: %t", name, got)
		}
	}
}

// TestWhoseInputsAreNotThere: what inputs take on the node's line is its own to answer, and so is its own disk; what goes beyond, and
// what no server has, is the servers'.
func TestWhoseInputsAreNotThere(t *testing.T) {
	const takes = 60_000
	gone := &missingError{fmt.Errorf("asked: %w", blob.ErrNotFound)}
	for name, x := range map[string]struct {
		happens     func(*task)
		now, beyond bool // whether it is the servers' doing now, and when the time is over
	}{
		"not asked for":            {func(*task) {}, false, false},
		"asked for":                {func(t *task) { t.asks(takes) }, false, true},
		"none has it":              {func(t *task) { t.asks(takes); t.refused(gone.err) }, true, true},
		"none has it, asked again": {func(t *task) { t.asks(takes); t.refused(gone.err); t.fetched(gone); t.asks(takes) }, true, true},
		"slow": {func(t *task) {
			t.asks(takes)
			t.refused(errors.New("too slow"))
			t.fetched(&missingError{errors.New("too slow")})
		}, false, true},
		"asked for long ago": {func(t *task) { t.asks(0); t.asks(takes) }, true, true},
		"there":              {func(t *task) { t.asks(0); t.fetched(nil) }, false, false},
		"no room":            {func(t *task) { t.asks(0); t.fetched(blob.ErrFull) }, false, false},
		"a bad disk":         {func(t *task) { t.asks(0); t.fetched(&missingError{&os.PathError{Op: "write", Err: os.ErrInvalid}}) }, false, false},
	} {
		of := &task{withheld: &atomic.Uint64{}}
		x.happens(of)
		if got := of.lacksInputs(time.Now()); got != x.now {
			t.Errorf("%s: it is the servers' doing: %t", name, got)
		}
		if got := of.lacksInputs(time.Now().Add(takes * time.Millisecond)); got != x.beyond {
			t.Errorf("%s: when the time is over it is the servers' doing: %t", name, got)
		}
	}
}
