package agent

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// Bounds of the book of earnings.
const (
	maxPending    = 8_192 // jobs whose payment is awaited; the oldest are given up beyond,
	pendingSlack  = 1_024 // so many at once
	maxBookLines  = 50_000
	maxBookDays   = 800
	maxBookLine   = 4 << 10
	day           = 24 * time.Hour
	dayMs         = chain.TimeMs(day / time.Millisecond)
	daysOfPace    = 7
	daysOfAMonth  = 30
	earningsFile  = "earnings.log"
	wholeBps      = 10_000
	lineFinished  = "finished"
	linePaid      = "paid"
	lineUnpaid    = "unpaid"
	lineBroughtOn = "before" // days of earlier lines that were dropped
)

// Earnings is what the node's work has brought its owner: GET /v1/earnings.
// What is settled was proven by the chain; what is pending is what the signed
// receipts should bring after fees.
type Earnings struct {
	SinceMs     chain.TimeMs `json:"since_ms"` // of the first job in the book; 0: none
	Settled     chain.Amount `json:"settled_nhyper"`
	SettledJobs uint64       `json:"settled_jobs"`
	Today       chain.Amount `json:"today_nhyper"` // settled since midnight UTC
	Week        chain.Amount `json:"last_7_days_nhyper"`
	Pending     chain.Amount `json:"pending_nhyper"`
	PendingJobs uint64       `json:"pending_jobs"`
	UnpaidJobs  uint64       `json:"unpaid_jobs"` // refused, or not seen paid while they could be
	RunningJobs uint64       `json:"running_jobs"`
	RunningMost chain.Amount `json:"running_at_most_nhyper"`
	// Forecast is what the next 30 days bring at the pace of the last 7, and nothing
	// before a whole day has passed.
	Forecast chain.Amount `json:"forecast_30_days_nhyper"`
	// Unknown says why it is not known what is settled; empty: it is.
	Unknown string `json:"unknown,omitempty"`
}

// bookLine is one line of the book, in JSON.
type bookLine struct {
	Kind    string           `json:"kind"`
	Order   crypto.Digest    `json:"order,omitzero"`
	Cluster crypto.PublicKey `json:"cluster,omitzero"`
	Number  uint64           `json:"sequence,omitempty"` // of the receipt
	AtMs    chain.TimeMs     `json:"at_ms"`              // when it ended, was paid, or was given up; of lineBroughtOn: the day
	UntilMs chain.TimeMs     `json:"until_ms,omitempty"` // after this nobody can claim it; of lineBroughtOn: when the book begins
	Amount  chain.Amount     `json:"amount_nhyper"`      // before the cluster's fee if it is not paid yet
	Jobs    uint64           `json:"jobs,omitempty"`
}

// book is what the node has earned, a file of lines. It is no proof of anything:
// a line that a crash cuts short is left out. Safe for concurrent use.
type book struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex
	file    *os.File // nil: only read
	lines   int
	since   chain.TimeMs
	pending map[crypto.Digest]bookLine
	days    map[chain.TimeMs]bookLine // by their first millisecond: what was paid
	unpaid  uint64
}

// openBook reads the book of a work directory, and opens it for more unless it
// is only to be read.
func openBook(dir string, readOnly bool, log *slog.Logger) (*book, error) {
	b := &book{path: filepath.Join(dir, earningsFile), log: log, pending: map[crypto.Digest]bookLine{}, days: map[chain.TimeMs]bookLine{}}
	if err := b.read(); err != nil {
		return nil, fmt.Errorf("agent: the book of earnings: %w", err)
	}
	if readOnly {
		return b, nil
	}
	if err := b.rewrite(); err != nil {
		return nil, fmt.Errorf("agent: the book of earnings: %w", err)
	}
	return b, nil
}

func (b *book) read() error {
	f, err := os.Open(b.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	scanner := bufio.NewScanner(f)
	scanner.Buffer(nil, maxBookLine)
	for scanner.Scan() {
		var l bookLine
		if err := json.Unmarshal(scanner.Bytes(), &l); err != nil {
			b.log.Warn("agent: a line of the book of earnings is left out", "error", err)
			continue
		}
		b.apply(l)
	}
	return errors.Join(scanner.Err(), f.Close())
}

// apply enters a line. The caller holds b.mu, or nobody else has b.
func (b *book) apply(l bookLine) {
	waiting, awaited := b.pending[l.Order]
	switch l.Kind {
	case lineFinished:
		b.pending[l.Order] = l
		b.begin(l.AtMs)
		return
	case linePaid:
		if !awaited {
			return
		}
		b.addDay(l.AtMs-l.AtMs%dayMs, l.Amount, 1)
	case lineBroughtOn:
		b.addDay(l.AtMs, l.Amount, l.Jobs)
		b.begin(cmp.Or(l.UntilMs, l.AtMs))
	case lineUnpaid:
		b.unpaid += max(l.Jobs, 1)
	}
	delete(b.pending, waiting.Order)
}

func (b *book) begin(at chain.TimeMs) {
	if b.since == 0 || at < b.since {
		b.since = at
	}
}

func (b *book) addDay(first chain.TimeMs, amount chain.Amount, jobs uint64) {
	d := b.days[first]
	sum, ok := d.Amount.Add(amount)
	if !ok {
		sum = chain.TotalSupply // no more can have been paid
	}
	d.Kind, d.AtMs, d.Amount, d.Jobs = lineBroughtOn, first, sum, d.Jobs+jobs
	b.days[first] = d
}

// rewrite replaces the file by one without what is over, and opens it for more.
// The caller holds b.mu, or nobody else has b.
func (b *book) rewrite() error {
	var lines []bookLine
	if b.since > 0 {
		b.addDay(b.since-b.since%dayMs, chain.Amount{}, 0) // each line of a day says when the book begins
	}
	for _, d := range b.days {
		d.UntilMs = b.since
		lines = append(lines, d)
	}
	slices.SortFunc(lines, func(x, y bookLine) int { return cmp.Compare(x.AtMs, y.AtMs) })
	for len(lines) > maxBookDays { // the oldest days become one
		lines[1].Jobs += lines[0].Jobs
		lines[1].Amount, _ = lines[1].Amount.Add(lines[0].Amount)
		lines = lines[1:]
	}
	if b.unpaid > 0 {
		lines = append(lines, bookLine{Kind: lineUnpaid, AtMs: b.since, Jobs: b.unpaid})
	}
	lines = append(lines, b.waiting()...)
	var data []byte
	for _, l := range lines {
		data = append(data, encodeLine(l)...)
	}
	if err := writeFile(b.path, data); err != nil {
		return err
	}
	f, err := os.OpenFile(b.path, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	old := b.file
	b.file, b.lines = f, len(lines)
	if old != nil {
		return old.Close()
	}
	return nil
}

func encodeLine(l bookLine) []byte {
	data, err := json.Marshal(l)
	if err != nil {
		panic("agent: a line of the book does not encode: " + err.Error())
	}
	return append(data, '\n')
}

// add appends a line. A disk that fails costs the owner knowledge and no money.
func (b *book) add(l bookLine) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.file == nil {
		return // closed
	}
	b.apply(l)
	_, err := b.file.Write(encodeLine(l))
	if b.lines++; err == nil && b.lines >= maxBookLines {
		err = b.rewrite()
	}
	if err != nil {
		b.log.Error("agent: writing the book of earnings", "error", err)
	}
}

func (b *book) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.file == nil {
		return nil
	}
	f := b.file
	b.file = nil
	return f.Close()
}

// finished enters a job whose receipt is signed. The chain pays what is left
// after its fees and the cluster's.
func (b *book) finished(as *job.Assignment, d *job.Done, params *chain.Params) {
	cost, err := costOf(as, &d.Receipt)
	if err != nil {
		b.log.Error("agent: what a job costs", "order", d.Receipt.Order.Short(), "error", err)
		return
	}
	b.add(bookLine{
		Kind: lineFinished, Order: d.Receipt.Order, Cluster: as.Order.Cluster, Number: d.Receipt.Sequence, AtMs: d.Receipt.Ended,
		UntilMs: as.Order.Deadline + chain.TimeMs(params.ClaimWindowMs), Amount: lessFee(cost, params.ProtocolFeeBps),
	})
	b.shorten(d.Receipt.Ended)
}

// shorten gives up the oldest jobs whose payment is awaited, beyond the bound.
func (b *book) shorten(now chain.TimeMs) {
	for _, l := range b.excess() {
		b.add(bookLine{Kind: lineUnpaid, Order: l.Order, AtMs: now})
	}
}

func (b *book) excess() []bookLine {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.pending) <= maxPending+pendingSlack {
		return nil
	}
	return b.waiting()[:len(b.pending)-maxPending]
}

// signed reports whether a receipt of the order, of that number or a later one,
// was signed, and is neither paid nor given up.
func (b *book) signed(order crypto.Digest, number uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	l, ok := b.pending[order]
	return ok && l.Number >= number
}

// waiting returns the jobs whose payment is awaited, the oldest first. The
// caller holds b.mu, or nobody else has b.
func (b *book) waiting() []bookLine {
	out := make([]bookLine, 0, len(b.pending))
	for _, l := range b.pending {
		out = append(out, l)
	}
	slices.SortFunc(out, func(x, y bookLine) int {
		return cmp.Or(cmp.Compare(x.AtMs, y.AtMs), x.Order.Compare(y.Order))
	})
	return out
}

// awaited returns a copy of what waiting returns.
func (b *book) awaited() []bookLine {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting()
}

// costOf is what a receipt costs at the prices of its bid.
func costOf(as *job.Assignment, r *chain.UsageReceipt) (chain.Amount, error) {
	if len(as.Bid.Prices) == 0 {
		return as.Bid.Fixed, nil
	}
	return chain.Cost(r.Usage, as.Bid.Prices)
}

// lessFee takes a fee of so many 1/10,000 off.
func lessFee(amount chain.Amount, bps uint16) chain.Amount {
	fee, ok := amount.ShareCeil(uint64(bps), wholeBps)
	rest, left := amount.Sub(fee)
	if !ok || !left {
		return chain.Amount{}
	}
	return rest
}

// sum is what the book says at a time. What is pending is lessened by each
// cluster's fee, as far as it is known.
func (b *book) sum(now chain.TimeMs, clusterBps func(crypto.PublicKey) uint16) Earnings {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := Earnings{SinceMs: b.since, PendingJobs: uint64(len(b.pending)), UnpaidJobs: b.unpaid}
	add := func(to *chain.Amount, amount chain.Amount) {
		if sum, ok := to.Add(amount); ok {
			*to = sum
		}
	}
	today := now - now%dayMs
	for first, d := range b.days {
		add(&e.Settled, d.Amount)
		e.SettledJobs += d.Jobs
		if first == today {
			add(&e.Today, d.Amount)
		}
		if first+daysOfPace*dayMs > today {
			add(&e.Week, d.Amount)
		}
	}
	for _, l := range b.pending {
		add(&e.Pending, lessFee(l.Amount, clusterBps(l.Cluster)))
	}
	if age := now - min(b.since, now); b.since > 0 && age >= dayMs {
		// The pace is that of the days that Week covers: six whole ones and today so far.
		covered := min(age, (daysOfPace-1)*dayMs+now-today)
		if forecast, ok := e.Week.ShareFloor(uint64(daysOfAMonth*dayMs), uint64(max(covered, 1))); ok {
			e.Forecast = forecast
		}
	}
	return e
}

// ReadEarnings returns what the book in the work directory of an agent that does
// not run says, without what is asked of the chain.
func ReadEarnings(config *Config, now time.Time) (Earnings, error) {
	b, err := openBook(config.path(config.WorkDir, "work"), true, slog.New(slog.DiscardHandler))
	if err != nil {
		return Earnings{}, err
	}
	e := b.sum(timeMs(now), func(crypto.PublicKey) uint16 { return 0 })
	e.Unknown = "the agent does not run: this is what it knew when it stopped"
	return e, nil
}
