package peers

import (
	"testing"

	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

const hackatomBegins = `{"verifier":"fred","beneficiary":"bob"}`

// hackatom is a small call of a contract that is compiled and kept, from an instance
// of its own to its answer: this machine's, as smart-contracts/vm measures it too, and
// wasmvm's in the same run. Both write what the contract is told as JSON. wasmvm also
// decodes the answer, which takes it some 2 µs.
func hackatom(b *testing.B, entry meter.Entry, sender, msg string) {
	w := newWorld(b, wasmOf(b, "hackatom.wasm"))
	if err := w.theirs.Pin(w.checksum); err != nil {
		b.Fatal(err)
	}
	w.ourCall(meter.Instantiate, info("creator"), []byte(hackatomBegins))
	if _, err := w.theirCall(meter.Instantiate, info("creator"), []byte(hackatomBegins)); err != nil {
		b.Fatal(err)
	}
	who, text := info(sender), []byte(msg)
	b.Run("ours", func(b *testing.B) {
		for b.Loop() {
			if o := w.ourCall(entry, who, text); o.End != vm.Returned {
				b.Fatalf("%v %s", o.End, o.Detail)
			}
		}
	})
	b.Run("wasmvm", func(b *testing.B) {
		for b.Loop() {
			if _, err := w.theirCall(entry, who, text); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkHackatomInstantiate(b *testing.B) {
	hackatom(b, meter.Instantiate, "creator", hackatomBegins)
}

func BenchmarkHackatomExecute(b *testing.B) {
	hackatom(b, meter.Execute, "fred", `{"release":{"denom":"earth"}}`)
}

func BenchmarkHackatomQuery(b *testing.B) { hackatom(b, meter.Query, "", `{"verifier":{}}`) }
