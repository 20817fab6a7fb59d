package match_test

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/match"
)

func TestEveryReasonIsNamed(t *testing.T) {
	node := func() match.Node {
		return match.Node{
			Owner: chain.Address{1}, Connected: true, Accepting: true, Region: "eu", Kernels: []string{"matmul-32"}, GPUKind: "T4",
			Free: match.Free{Millicores: 1_000, MemoryMiB: 512, GPUs: 1, GPUMilli: 1_000},
		}
	}
	request := match.Request{Millicores: 1_000, MemoryMiB: 512, GPUs: 1, GPUMilli: 500, Region: "eu", Kernel: "matmul-32", GPUKind: "T4"}
	for want, change := range map[match.Reason]func(*match.Node, *match.Request){
		match.Fits:     func(*match.Node, *match.Request) {},
		match.Away:     func(n *match.Node, _ *match.Request) { n.Connected = false },
		match.Paused:   func(n *match.Node, _ *match.Request) { n.Accepting = false },
		match.Region:   func(n *match.Node, _ *match.Request) { n.Region = "us" },
		match.Kernel:   func(n *match.Node, _ *match.Request) { n.Kernels = nil },
		match.GPUKind:  func(n *match.Node, _ *match.Request) { n.GPUKind = "A10" },
		match.Owner:    func(_ *match.Node, r *match.Request) { r.Replicas = []chain.Address{{1}} },
		match.Failed:   func(_ *match.Node, r *match.Request) { r.Failures = []chain.Address{{1}} },
		match.CPU:      func(n *match.Node, _ *match.Request) { n.Free.Millicores-- },
		match.Memory:   func(n *match.Node, _ *match.Request) { n.Free.MemoryMiB-- },
		match.OnRecord: func(n *match.Node, _ *match.Request) { n.Offered, n.Free.MemoryMiB = n.Free, 1 },
		match.GPU:      func(_ *match.Node, r *match.Request) { r.GPUs, r.GPUMilli = 2, 1_000 },
	} {
		n, r := node(), request
		change(&n, &r)
		if got := match.Check(&r, &n); got != want || got.String() == "" {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// A factor is at least one and grows with what speaks against a node, and no
// number makes it overflow.
func TestFactor(t *testing.T) {
	good := match.Standing{Finished: 100}
	for name, worse := range map[string]match.Standing{
		"lost work":       {Finished: 100, Lost: 5},
		"debt":            {Finished: 100, Premium: match.Premium(0)},
		"a distant input": {Finished: 100, Distant: true},
		"broken gpus":     {Finished: 100, Devices: 8, Breaks: 4_000_000},
	} {
		if good.Factor() >= worse.Factor() {
			t.Errorf("%s: %d, without %d", name, worse.Factor(), good.Factor())
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64Max(math.MaxUint64 / 4)
		s := match.Standing{
			Finished: n.Draw(t, "finished"), Lost: n.Draw(t, "lost"), Breaks: rapid.Int64Range(-1<<40, 1<<40).Draw(t, "breaks"), Devices: 1, Distant: true, Abroad: true,
		}
		if f := s.Factor(); f < match.One || f > 3*match.One {
			t.Fatalf("the factor is %d", f)
		}
	})
}

// The order of offers is total and does not depend on how they came.
func TestRankIsTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var offers []match.Offer
		for i := range rapid.IntRange(0, 12).Draw(t, "offers") {
			offers = append(offers, match.Offer{
				Node: crypto.PublicKey{byte(i)}, Owner: chain.Address{byte(i / 2)},
				Cost: chain.Nano(rapid.Uint64Range(0, 3).Draw(t, "cost") << 62), Factor: match.One + rapid.Uint64Range(0, 2).Draw(t, "factor"),
			})
		}
		shuffled := rapid.Permutation(offers).Draw(t, "order")
		a, b := match.Pick(crypto.Digest{1}, slices.Clone(offers), 3), match.Pick(crypto.Digest{1}, shuffled, 3)
		if !slices.Equal(a, b) {
			t.Fatalf("%v and %v", a, b)
		}
		owners := map[chain.Address]bool{}
		for i, o := range a {
			if owners[o.Owner] || i > 0 && o.Cost.Less(a[i-1].Cost) {
				t.Fatalf("picked %v", a)
			}
			owners[o.Owner] = true
		}
	})
}

// Choose takes the devices after which least is fragmented: held against trying
// every one.
func TestChooseAgainstEveryDevice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		devices := make(match.Devices, rapid.IntRange(1, 8).Draw(t, "devices"))
		for i := range devices {
			devices[i] = uint16(100 * rapid.IntRange(0, 10).Draw(t, "free"))
		}
		free := match.Free{Millicores: 10_000, MemoryMiB: 10_000}
		free.GPUs, free.GPUMilli = devices.Summary()
		var shapes []match.Shape
		for range rapid.IntRange(0, 5).Draw(t, "shapes") {
			r := match.Request{Millicores: uint64(rapid.IntRange(1, 12_000).Draw(t, "cpu")), MemoryMiB: 1, GPUs: 1, GPUMilli: uint64(rapid.IntRange(1, 1_000).Draw(t, "milli"))}
			shapes = append(shapes, match.Shape{Request: r, Weight: uint64(rapid.IntRange(1, 9).Draw(t, "weight"))})
		}
		request := match.Request{Millicores: 1_000, MemoryMiB: 100, GPUs: 1, GPUMilli: uint64(rapid.IntRange(1, 1_000).Draw(t, "asked"))}
		if free.Short(&request) != match.Fits {
			return
		}
		chosen, grows := match.Choose(&request, &free, devices, shapes)
		after := func(d int) int64 {
			left := slices.Clone(devices)
			left[d] -= uint16(request.GPUMilli)
			f := match.Free{Millicores: free.Millicores - request.Millicores, MemoryMiB: free.MemoryMiB - request.MemoryMiB}
			f.GPUs, f.GPUMilli = left.Summary()
			return match.Fragmented(&f, left, shapes) - match.Fragmented(&free, devices, shapes)
		}
		for d, share := range devices {
			if uint64(share) >= request.GPUMilli && after(d) < grows {
				t.Fatalf("device %d would have grown by %d, %v by %d", d, after(d), chosen, grows)
			}
		}
		if got := after(int(chosen[0])); got != grows {
			t.Fatalf("it grows by %d, said %d", got, grows)
		}
	})
}
