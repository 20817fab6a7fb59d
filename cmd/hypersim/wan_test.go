package main

import (
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
)

func wanPlan(t testing.TB, validators, crashed int, views consensus.View) plan {
	t.Helper()
	a, err := openAtlas(builtInAtlas)
	if err != nil {
		t.Fatal(err)
	}
	p := newPlan(validators, views, 0)
	p.atlas, p.crashed, p.busy = a, crashed, true
	return p
}

// A hundred validators over ten regions: finality within 450 ms, and blocks
// every 300.
func TestFinalityAcrossTheWorld(t *testing.T) {
	r := series{plan: wanPlan(t, 100, 0, 12), first: 1, seeds: 1}.run(t.Context(), t.Output())
	t.Logf("finality %v; a block every %v", r.Finality, r.Interval)
	if r.Violations > 0 || r.Finality.P50 > 450 || r.Interval.Mean > 300 {
		t.Errorf("%d violations, finality %v, a block every %v", r.Violations, r.Finality, r.Interval)
	}
}

func TestAtlas(t *testing.T) {
	a, err := openAtlas(builtInAtlas)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.regions) != 10 || a.distance(0, 7) != 93*ms || a.distance(17, 10) != 185*ms/2 || a.distance(3, 13) != 0 {
		t.Errorf("%v: %v, %v, %v", a.regions, a.distance(0, 7), a.distance(17, 10), a.distance(3, 13))
	}
	for text, want := range map[string]string{
		"":                             "0 rows",
		"region,a,b\na,0,1\n":          "2 rows",
		"region,a\nb,0\n":              `row 2 is of "b"`,
		"region,a\na,-1\n":             `round trip of "-1" ms`,
		"region,a\na,x\n":              `round trip of "x" ms`,
		"region,a\na,60001\n":          `round trip of "60001" ms`,
		"region,a,b\na,0,1\nb,1,0,2\n": "wrong number of fields",
		"region,a\na,NaN\n":            `round trip of "NaN" ms`,
	} {
		if _, err := readAtlas("file", strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if b, err := readAtlas("file", strings.NewReader("region,a,b\na,0,2.5\nb,3,0\n")); err != nil || b.distance(0, 1) != 1250*time.Microsecond {
		t.Errorf("%v, %v", b, err)
	}
}

// BenchmarkWAN100 reports what simulated time says: finality and block interval
// in simulated milliseconds.
func BenchmarkWAN100(b *testing.B) {
	for _, c := range []struct {
		name    string
		crashed int
	}{{"all", 0}, {"30 crashed", 30}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				r := series{plan: wanPlan(b, 100, c.crashed, 60), first: 1, seeds: 1}.run(b.Context(), b.Output())
				b.ReportMetric(r.Finality.P50, "finality-p50-ms")
				b.ReportMetric(r.Finality.P99, "finality-p99-ms")
				b.ReportMetric(r.Interval.Mean, "block-interval-ms")
				b.ReportMetric(float64(r.Violations), "violations")
			}
		})
	}
}
