package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// settledRun is one job's way; final and told are since its submission.
type settledRun struct {
	final   time.Duration // the event of its last payment, which is final, was heard
	told    time.Duration // the client has heard of it from the cluster, and the chain's state has proven it
	proving time.Duration // the node's work, by its receipt
}

// settledBench is a network of processes on which jobs go their whole way, one at a time.
type settledBench struct {
	testing.TB
	target *target
	paid   chan crypto.Digest // orders of claims that were paid, as the chain's events tell
}

// nothing is a WASI program that ends at once:
//
//	(module (memory (export "memory") 1) (func (export "_start")))
var nothing = []byte("\x00asm\x01\x00\x00\x00" + "\x01\x04\x01\x60\x00\x00" + "\x03\x02\x01\x00" + "\x05\x03\x01\x00\x01" +
	"\x07\x13\x02\x06memory\x02\x00\x06_start\x00\x00" + "\x0a\x04\x01\x02\x00\x0b")

func newSettledBench(b *testing.B) *settledBench {
	b.Helper()
	n := startDevnet(b, "--validators", "4", "--servers", "3", "--agents", "4", "--no-explorer")
	t, err := newTarget(n.describe(b), "alice")
	if err != nil {
		b.Fatal(err)
	}
	s := &settledBench{TB: b, target: t, paid: make(chan crypto.Digest, 64)}
	ctx, stop := context.WithCancel(context.Background())
	b.Cleanup(stop)
	go func() {
		defer close(s.paid)
		for event, err := range t.client.Events(ctx, sdk.EventFilter{Types: []string{"claim_settled"}}) {
			var settled struct {
				Order crypto.Digest `json:"order"`
			}
			if err == nil {
				err = json.Unmarshal(event.Data, &settled)
			}
			if err != nil {
				if ctx.Err() == nil {
					b.Error(err)
				}
				return
			}
			s.paid <- settled.Order
		}
	}()
	return s
}

// run takes a job to its payment, and measures it.
func (s *settledBench) run(r sdk.JobRun) settledRun {
	s.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var began time.Time
	r.Consumer, r.Progress = s.target.account, func(stage string, _ *api.Job) {
		if stage == "submitting" {
			began = time.Now()
		}
	}
	type answer struct {
		job  api.Job
		told time.Time
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		done, err := s.target.client.RunJob(ctx, r)
		answers <- answer{done, time.Now(), err}
	}()
	finals := map[crypto.Digest]time.Time{}
	for {
		select {
		case order, ok := <-s.paid:
			if !ok {
				s.Fatal("the chain's events have ended")
			}
			finals[order] = time.Now() // of several payments the last
		case a := <-answers:
			if a.err != nil {
				s.Fatal(a.err)
			}
			for finals[a.job.ID].IsZero() { // the event may be on its way still
				order, ok := <-s.paid
				if !ok {
					s.Fatal("the chain's events have ended")
				}
				finals[order] = time.Now()
			}
			receipt := a.job.Runs[slices.IndexFunc(a.job.Runs, func(r api.JobRun) bool { return r.Receipt != nil })].Receipt
			return settledRun{
				final: finals[a.job.ID].Sub(began), told: a.told.Sub(began),
				proving: time.Duration(receipt.EndedMs-receipt.StartedMs) * time.Millisecond,
			}
		}
	}
}

// of returns a job under a policy.
func (s *settledBench) of(policy chain.Policy) sdk.JobRun {
	run := sdk.JobRun{
		Spec:   job.Spec{Label: "settled", Resources: job.Resources{Millicores: 10, MemoryMiB: 512}, Limits: job.LimitsUnder(policy, &s.target.genesis.Params)},
		Blobs:  []io.ReadSeeker{bytes.NewReader(nothing)},
		Policy: policy,
		Bind:   func(ids []crypto.Digest) job.Work { return job.Wasm{Module: ids[0], Deterministic: true} },
	}
	p, proven := policy.(chain.PolicyZK)
	if !proven {
		return run
	}
	cells := make([]int16, demoSize*demoSize)
	for i := range cells {
		cells[i] = int16(i)
	}
	m, err := zk.NewMatrix(demoSize, cells)
	if err != nil {
		s.Fatal(err)
	}
	p.Inputs = []chain.FieldBytes{chain.FieldBytes(zk.LeftDigest(m)), chain.FieldBytes(zk.RightDigest(m))}
	run.Policy, run.Blobs = p, []io.ReadSeeker{bytes.NewReader(m.CSV()), bytes.NewReader(m.CSV())}
	run.Bind = func(ids []crypto.Digest) job.Work { return job.Kernel{Name: zk.Kernel(p.Kernel), Inputs: ids} }
	if err := bindKernel(&run, s.target.genesis); err != nil {
		s.Fatal(err)
	}
	return run
}

// BenchmarkSettled takes jobs their whole way through processes, four validators among
// them: from submission to a payment that is final. Of zk it reports what that takes
// beyond the work itself. What is reported are medians.
func BenchmarkSettled(b *testing.B) {
	s := newSettledBench(b)
	kernel, err := zk.MatmulKernel(demoSize)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		policy chain.Policy
		jobs   int
	}{
		{"none", chain.PolicyNone{}, 60},
		{"replicate", chain.PolicyReplicate{K: 2, N: 3}, 60},
		{"zk", chain.PolicyZK{Kernel: string(kernel)}, 20},
	} {
		b.Run(c.name, func(b *testing.B) {
			var final, told []float64
			s.TB = b
			s.run(s.of(c.policy)) // what is only loaded once
			for b.Loop() {
				for range c.jobs {
					r := s.run(s.of(c.policy))
					if _, proven := c.policy.(chain.PolicyZK); proven {
						r.final, r.told = r.final-r.proving, r.told-r.proving
					}
					final, told = append(final, float64(r.final.Microseconds())/1_000), append(told, float64(r.told.Microseconds())/1_000)
				}
			}
			slices.Sort(final)
			slices.Sort(told)
			b.ReportMetric(final[len(final)/2], "final-p50-ms")
			b.ReportMetric(final[len(final)*99/100], "final-p99-ms")
			b.ReportMetric(told[len(told)/2], "told-p50-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}
