package agent_test

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/nexus/job"
)

const dayMs = 24 * 3600 * 1000

func openBook(t *testing.T, dir string) agent.Book {
	t.Helper()
	b, err := agent.OpenBook(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func orderNo(n int) (d crypto.Digest) {
	binary.BigEndian.PutUint64(d[:], uint64(n)+1)
	return d
}

func TestBookSumsDaysAndForecasts(t *testing.T) {
	dir := t.TempDir()
	b := openBook(t, dir)
	const start = 20_000 * dayMs
	if e := b.Sum(start, 0); e != (agent.Earnings{}) {
		t.Errorf("an empty book says %+v", e)
	}
	// Ten days of ten jobs a day, of 1 HYPER each, paid an hour after they end.
	n := 0
	for day := range 10 {
		for hour := range 10 {
			at := chain.TimeMs(start + day*dayMs + hour*3600*1000)
			b.Finished(orderNo(n), at, chain.Hyper(1))
			b.Paid(orderNo(n), at+3600*1000, chain.Hyper(1))
			n++
		}
	}
	b.Finished(orderNo(n), start+9*dayMs, chain.Hyper(100))
	b.Finished(orderNo(n+1), start+9*dayMs, chain.Hyper(7))
	b.Unpaid(orderNo(n+1), start+9*dayMs+5)
	b.Paid(orderNo(n+1), start+9*dayMs+6, chain.Hyper(7)) // too late: it is given up
	b.Paid(orderNo(5), start+9*dayMs, chain.Hyper(1))     // twice
	now := chain.TimeMs(start + 9*dayMs + 20*3600*1000)
	e := b.Sum(now, 100)
	if e.SinceMs != start || e.Settled != chain.Hyper(100) || e.SettledJobs != 100 || e.Today != chain.Hyper(10) || e.Week != chain.Hyper(70) ||
		e.Pending != chain.Hyper(99) || e.PendingJobs != 1 || e.UnpaidJobs != 1 {
		t.Errorf("the book says %+v", e)
	}
	// 70 HYPER in 6 days and 20 hours, so 307.3 in 30 days.
	if f := e.Forecast; f.Less(chain.Hyper(307)) || chain.Hyper(308).Less(f) {
		t.Errorf("the forecast is %s", f)
	}
	if early := b.Sum(start+3600*1000, 0); !early.Forecast.IsZero() {
		t.Errorf("a forecast after an hour: %s", early.Forecast)
	}
	if again := openBook(t, dir).Sum(now, 100); again != e {
		t.Errorf("opened again it says\n%+v, before\n%+v", again, e)
	}
}

// TestBookAgreesWithItselfOverCrashes plays random jobs, and cuts the file at any
// byte: what is left is what the whole lines say, and the book goes on from there.
func TestBookAgreesWithItselfOverCrashes(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	b := openBook(t, dir)
	const start = 20_000 * dayMs
	for i := range 300 {
		at := chain.TimeMs(start + i*3600*1000)
		order := orderNo(random.IntN(100))
		switch random.IntN(4) {
		case 0, 1:
			b.Finished(order, at, chain.Nano(uint64(random.IntN(1000))))
		case 2:
			b.Paid(order, at, chain.Nano(uint64(random.IntN(1000))))
		case 3:
			b.Unpaid(order, at)
		}
		if random.IntN(20) > 0 {
			continue
		}
		want := b.Sum(at, 0)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "earnings.log")
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		torn := append(whole, []byte(`{"kind":"paid","order":"00`)[:1+random.IntN(20)]...)
		if err := os.WriteFile(path, torn, 0o600); err != nil {
			t.Fatal(err)
		}
		b = openBook(t, dir)
		if got := b.Sum(at, 0); got != want {
			t.Fatalf("seed %d: after a crash at %d the book says\n%+v, before\n%+v", seed, i, got, want)
		}
	}
}

func TestBookIsBounded(t *testing.T) {
	dir := t.TempDir()
	b := openBook(t, dir)
	const most, slack = 8192, 1024
	for i := range most + 2*slack {
		b.Finished(orderNo(i), chain.TimeMs(20_000*dayMs+i), chain.Nano(1))
		if i%256 > 0 {
			continue
		}
		if e := b.Sum(20_000*dayMs, 0); e.PendingJobs > most+slack || e.PendingJobs+e.UnpaidJobs != uint64(i)+1 {
			t.Fatalf("of %d jobs %d are awaited and %d given up", i+1, e.PendingJobs, e.UnpaidJobs)
		}
	}
	for i := range 40_000 {
		b.Finished(orderNo(i%100+most), chain.TimeMs(20_000*dayMs+i), chain.Nano(1))
	}
	if info, err := os.Stat(filepath.Join(dir, "earnings.log")); err != nil || info.Size() > 15<<20 {
		t.Errorf("the file has %d bytes, %v", info.Size(), err)
	}
}

// TestEarningsFollowReceipts has jobs end in every way that matters to the owner.
func TestEarningsFollowReceipts(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	a := start(t, config)
	p := s.session()
	earnings := func() agent.Earnings {
		t.Helper()
		e, err := reach(t, config.Home).Earnings(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	running := p.assign(spinner(), 1, func(spec *job.Spec) { spec.Limits.Fuel = job.MaxFuel })
	if e := earnings(); e.RunningJobs != 1 || e.PendingJobs != 0 || e.Unknown == "" {
		t.Errorf("while a job runs: %+v", e)
	}
	done := p.assign(writer("f", "x"), 2, nil)
	p.finish(&done)
	refused := p.assign(exiter(0), 3, nil)
	p.finish(&refused)
	if e := earnings(); e.PendingJobs != 2 {
		t.Errorf("after two jobs: %+v", e)
	}
	p.send(job.Ack{Order: done.Order.ID()})
	p.send(job.Ack{Order: refused.Order.ID(), Refuse: "it was given to others"})
	p.send(job.Cancel{Order: running.Order.ID(), Reason: "not wanted"})
	a.waitFor(t, func(s agent.Status) bool { return len(s.Unacked) == 0 && len(s.Running) == 0 })
	want := earnings()
	if want.PendingJobs != 1 || want.UnpaidJobs != 1 || want.RunningJobs != 0 {
		t.Errorf("at the end: %+v", want)
	}
	a.stop()
	stopped, err := agent.ReadEarnings(&config, time.Now())
	if err != nil || stopped.PendingJobs != 1 || stopped.UnpaidJobs != 1 {
		t.Errorf("with the agent stopped: %+v, %v", stopped, err)
	}
}

// TestWhatALostClaimBrought: what was paid of it; one that brought nothing is unpaid.
func TestWhatALostClaimBrought(t *testing.T) {
	b := openBook(t, t.TempDir())
	const at = chain.TimeMs(1_790_000_000_000)
	for n, record := range []settlement.Claim{
		{Cost: chain.Hyper(5), Paid: chain.Hyper(4)},
		{Cost: chain.Hyper(3), Paid: chain.Hyper(2), Lost: chain.Hyper(2)},
		{Lost: chain.Hyper(5)},
		{Refuted: settlement.RefutedResult},
		{Refuted: settlement.RefutedUnjudged, Cost: chain.Nano(5), Treasury: chain.Nano(5)},
	} {
		b.Finished(orderNo(n), at, chain.Hyper(5))
		b.Ended(orderNo(n), at, &record)
	}
	if e := b.Sum(at, 0); e.SettledJobs != 2 || e.UnpaidJobs != 3 || e.Settled != chain.Hyper(6) || e.PendingJobs != 0 {
		t.Errorf("%+v", e)
	}
}
