package main

import (
	"fmt"
	"io"
	"math"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk"
)

// serviceFlags say what the node of a lease is to promise.
func serviceFlags() []cli.Flag {
	return []cli.Flag{
		&cli.Float64Flag{Name: "availability", Usage: "`PERCENT` of the probes of each epoch that have to be answered; without, nothing is promised"},
		&cli.DurationFlag{Name: "service-epoch", Value: time.Hour, Usage: "what the node promises is judged for so long at a time"},
		&cli.DurationFlag{Name: "start", Value: 5 * time.Minute, Usage: "until when the service has to run, from when the lease is open"},
		&cli.Uint64Flag{Name: "throughput-kib", Usage: "`KIB` a second that the node has to send to who probes, at its best in an epoch; 0: it promises none"},
		&cli.Float64Flag{Name: "rebate", Value: 100, Usage: "`PERCENT` of what an epoch costs that goes back if it missed a term"},
		&cli.StringFlag{Name: "penalty", Value: "0", Usage: "`HYPER` of the node's stake, beside, for each such epoch; half of it is burned"},
		&cli.StringFlag{Name: "lease-stake", Value: "1", Usage: "`HYPER` of the node's bond that is locked while the lease lives"},
	}
}

// serviceFromFlags returns the service terms of the command line, nil if there are none.
func serviceFromFlags(c *cli.Context) (*chain.ServiceTerms, error) {
	if !c.IsSet("availability") {
		return nil, nil
	}
	t := &chain.ServiceTerms{
		EpochMs: uint64(max(c.Duration("service-epoch").Milliseconds(), 0)), StartMs: uint64(max(c.Duration("start").Milliseconds(), 0)),
		ThroughputKiB: c.Uint64("throughput-kib"),
	}
	var err error
	if t.AvailabilityBps, err = bpsFlag(c, "availability"); err != nil {
		return nil, err
	}
	if t.RebateBps, err = bpsFlag(c, "rebate"); err != nil {
		return nil, err
	}
	if t.Penalty, err = parseHyper(c.String("penalty")); err != nil {
		return nil, usagef(c, "--penalty: %v", err)
	}
	if t.Stake, err = parseHyper(c.String("lease-stake")); err != nil {
		return nil, usagef(c, "--lease-stake: %v", err)
	}
	if err := t.Check(); err != nil {
		return nil, usagef(c, "%v", err)
	}
	return t, nil
}

// bpsFlag reads a percentage as hundredths of a percent.
func bpsFlag(c *cli.Context, name string) (uint16, error) {
	percent := c.Float64(name)
	if !(percent >= 0.01 && percent <= 100) {
		return 0, usagef(c, "--%s: %v percent, want 0.01 to 100", name, percent)
	}
	return uint16(math.Round(percent * 100)), nil
}

// serviceLine is what is promised of a lease, in JSON.
type serviceLine struct {
	Terms   chain.ServiceTerms `json:"terms"`
	Stake   chain.Amount       `json:"stake_nhyper"` // that is left
	Peers   []crypto.PublicKey `json:"peers"`
	Drawing bool               `json:"drawing"`
	Ended   chain.TimeMs       `json:"ended_ms,omitempty"`    // the lease did: its last epochs may be reported
	Owed    chain.Amount       `json:"owed_nhyper,omitempty"` // then: what the provider is paid when they may be no more
	Epoch   chain.Number       `json:"epoch"`                 // that is under way, by the clock here
	Missed  []uint64           `json:"missed"`                // epochs that were repriced, the latest
}

// serviceOf asks for what is promised of a lease, or was until its end, or until a resize; both nil: nothing is.
func serviceOf(c *cli.Context, s *sender, of *sdk.VerifiedLease, id chain.LeaseID) (now, former *serviceLine, err error) {
	if l, live := of.Get(); live && !l.Promised && l.Order == id.Order {
		return nil, nil, nil
	}
	seen, err := s.client.Promised(c.Context, id)
	if err != nil {
		return nil, nil, err
	}
	return serviceLineOf(&seen), serviceLineOf(seen.Former), nil
}

// serviceLineOf is that of something that is promised, or was; nil: nothing.
func serviceLineOf(p *sdk.Promised) *serviceLine {
	if p == nil || !p.Live {
		return nil
	}
	service := &p.Service
	out := &serviceLine{Terms: service.Terms, Stake: service.Stake, Peers: service.Peers, Drawing: service.Drawing, Missed: service.Judged}
	if over := service.Over; over != nil {
		out.Ended, out.Owed = over.Expires, over.Held
	}
	epoch := max(time.Now().UnixMilli()-int64(p.Lease.Since), 0) / int64(service.Terms.EpochMs)
	out.Epoch = chain.Number(epoch)
	return out
}

func (s *serviceLine) print(w io.Writer) {
	if s == nil {
		return
	}
	t := &s.Terms
	fmt.Fprintf(w, "promised    %.2f %% of probes answered in each epoch of %s, from %s after the beginning on\n",
		float64(t.AvailabilityBps)/100, time.Duration(t.EpochMs)*time.Millisecond, time.Duration(t.StartMs)*time.Millisecond)
	if t.ThroughputKiB > 0 {
		fmt.Fprintf(w, "            and %d KiB a second\n", t.ThroughputKiB)
	}
	fmt.Fprintf(w, "else        %.2f %% of the epoch's price, and %s\nstaked      %s of %s\nepoch       %d\n", float64(t.RebateBps)/100, t.Penalty, s.Stake, t.Stake, s.Epoch)
	if s.Ended != 0 {
		fmt.Fprintf(w, "ended       at %d ms; %s is owed until the last epochs can be reported no more\n", s.Ended, s.Owed)
	}
	for _, peer := range s.Peers {
		fmt.Fprintf(w, "peer        %s\n", peer)
	}
	if len(s.Missed) > 0 {
		fmt.Fprintf(w, "missed      epochs %v\n", s.Missed)
	}
}

// printFormer says what stays of terms that a resize has put an end to.
func (s *serviceLine) printFormer(w io.Writer) {
	if s == nil {
		return
	}
	fmt.Fprintf(w, "before      terms that a resize ended at %d ms may be reported for an hour: %s is owed for them, and %s staked\n", s.Ended, s.Owed, s.Stake)
	if len(s.Missed) > 0 {
		fmt.Fprintf(w, "            missed epochs %v\n", s.Missed)
	}
}
