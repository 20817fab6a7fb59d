package peers

import (
	"fmt"
	"testing"

	"github.com/hypermesh/hypermesh/smart-contracts/meter"
)

// The calls of BenchmarkHackatom…: small ones, as most are.
var benchmarks = []struct {
	entry       meter.Entry
	sender, msg string
}{
	{meter.Instantiate, "creator", `{"verifier":"fred","beneficiary":"bob"}`},
	{meter.Execute, "fred", `{"release":{"denom":"earth"}}`},
	{meter.Query, "", `{"verifier":{}}`},
}

// BenchmarkHackatom is a call of a contract that is compiled and kept, from an
// instance of its own to its answer: this machine's, and wasmvm's in the same run.
// wasmvm also decodes the answer, which takes it some 2 µs.
func BenchmarkHackatom(b *testing.B) {
	w := newWorld(b, wasmOf(b, "hackatom.wasm"))
	if err := w.theirs.Pin(w.checksum); err != nil {
		b.Fatal(err)
	}
	for _, c := range benchmarks {
		who, msg := info(c.sender), []byte(c.msg)
		w.ourCall(meter.Instantiate, info("creator"), []byte(benchmarks[0].msg))
		if _, err := w.theirCall(meter.Instantiate, info("creator"), []byte(benchmarks[0].msg)); err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprint(c.entry, "/ours"), func(b *testing.B) {
			for b.Loop() {
				w.ourCall(c.entry, who, msg)
			}
		})
		b.Run(fmt.Sprint(c.entry, "/wasmvm"), func(b *testing.B) {
			for b.Loop() {
				if _, err := w.theirCall(c.entry, who, msg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
