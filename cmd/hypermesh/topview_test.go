package main

import (
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
)

var showFrame = flag.String("show-frame", "", "write a page as a terminal gets it to this file")

func topKey(n byte) crypto.PublicKey { return crypto.PublicKey{n, 0x9d, n * 7, n * 31, 1} }

func topAddress(n byte) chain.Address {
	return chain.AddressOf(crypto.AccountKeyOf(crypto.PrivateKeyFromSeed([32]byte{n}).Public()))
}

// topSample is a busy cluster of three servers.
func topSample() *api.NexusTop {
	const now = 1_790_000_000_000
	d := &api.NexusTop{
		NowMs: now, ChainID: "hypermesh-1", Cluster: topKey(200), Server: topKey(101), Leader: topKey(101), Term: 4, OpenJobs: 1_234, Looked: 1_234,
		Servers: []api.TopServer{{ID: topKey(101), Leader: true, Reached: true, Applied: 12_345}, {ID: topKey(102), Reached: true, Applied: 12_340}, {ID: topKey(103)}},
		Classes: []api.TopClass{
			{Class: job.Urgent, Queued: 2, Bidding: 3, Running: 12, Settling: 4, Oldest: now - 850},
			{Class: job.Standard, DelayMs: 60_000, Queued: 1_020, Backing: 3, Held: 7, Parked: 95, Bidding: 9, Running: 31, Settling: 22, Aged: 14, Oldest: now - 74_000},
			{Class: job.Spare, DelayMs: 600_000, Queued: 26, Running: 4, Oldest: now - 312_000},
		},
		MaxActive: 4_000, MaxKept: 10_000, Others: 3,
		Totals: api.TopTotals{Nodes: 7, Connected: 6, Accepting: 5, Running: 47, Total: job.Resources{Millicores: 44_000, MemoryMiB: 90_112, GPUs: 4}, Used: job.Resources{Millicores: 37_500, MemoryMiB: 30_720, GPUMilli: 2_500}},
	}
	for i := range 60 {
		x := 300 + 200*math.Sin(float64(i)/7)
		d.Rates.History = append(d.Rates.History, api.TopRate{Accepted: math.Floor(x), Placed: math.Floor(x * 0.9), Completed: float64(max(0, i-20)) * 9})
	}
	d.Rates.PerS = api.TopRate{Accepted: 412.3, Placed: 398.2, Completed: 91.5}
	d.Rates.WaitP50Ms, d.Rates.WaitP99Ms, d.Rates.Placed = 12, 840, 512
	labels := []string{"render 7", "nightly embeddings of the whole archive", "\x1b[31mred\x1b[0m\x07 alert\r\n", "東京 rendering", "\u202egnp.exe", ""}
	for i, label := range labels {
		class := []job.Class{job.Urgent, job.Standard, job.Spare}[i%3]
		w := api.TopWaiting{
			ID: crypto.Digest{byte(i + 16), 0xab, 3}, Label: label, Class: class, Consumer: topAddress(byte(i)), SubmittedMs: now - chain.TimeMs(1_000*(60-9*i)),
			Alike: i * i * 10, Resources: job.Resources{Millicores: uint64(i+1) * 2_000, MemoryMiB: 512, GPUs: uint64(i % 2)}, Reason: "no node fits; 2 away, 4 not enough millicores are free",
		}
		w.AgedMs = w.SubmittedMs + chain.TimeMs(d.Classes[i%3].DelayMs)
		if i == 5 {
			w.RetryMs, w.Reason = now+2_500, "no bid counted"
		}
		d.Next = append(d.Next, w)
	}
	for i, bps := range []int{6_120, 2_880, 700, 300} {
		d.Consumers = append(d.Consumers, api.TopConsumer{
			Consumer: topAddress(byte(i)), Active: []int{4_000, 31, 9, 1}[i], Queued: 300 / (i + 1), Parked: []int{95, 0, 0, 0}[i], Running: 20 / (i + 1), Settling: 7 * i,
			Kept: 9_000 / (i + 1), Outstanding: chain.Nano([]uint64{71_300_000_000, 3_000_000, 1_250, 0}[i]), Used: job.Resources{Millicores: uint64(bps) * 3}, ShareBps: bps,
		})
	}
	for i := range 7 {
		n := api.TopNode{
			ID: topKey(byte(i + 1)), Owner: topAddress(byte(i % 3)), Region: []string{"eu", "us", "ap-south-long-name"}[i%3], Connected: i != 6, Accepting: i != 5,
			Total: job.Resources{Millicores: 8_000, MemoryMiB: 16_384, GPUs: uint64(i % 2 * 2)}, Used: job.Resources{Millicores: uint64(8_000 - 1_300*i), MemoryMiB: uint64(9_000 - 1_000*i), GPUMilli: uint64(i % 2 * 500)},
			Running: 12 - 2*i, Bids: api.Uint64(4_000 / (i + 1)), Won: api.Uint64(900 / (i + 1)), Finished: api.Uint64(120_000 / (i + 1)), Lost: api.Uint64(i * i / 5),
		}
		d.Nodes = append(d.Nodes, n)
	}
	d.Auctions = []api.TopAuction{
		{ID: crypto.Digest{0x51, 1}, Label: "render 8", Class: job.Urgent, SinceMs: now - 31, Want: 1, Places: 1, Bids: 2},
		{ID: crypto.Digest{0x52, 1}, Label: "gang member", Class: job.Standard, SinceMs: now - 210, Want: 1, Places: 1, Bids: 1, Picked: true},
	}
	for i := range 9 {
		a := api.TopClosed{
			ID: crypto.Digest{byte(0x60 + i), 2}, Label: fmt.Sprintf("frame %d", i), Class: []job.Class{job.Urgent, job.Standard, job.Spare}[i%3], AtMs: now - chain.TimeMs(40*(i+1)*(i+1)),
			WaitMs: api.Uint64(11 * (i + 1) * (i + 1)), Want: 1, Bids: 4 - i%4, Declined: i % 2, Winners: []crypto.PublicKey{topKey(byte(i%5 + 1))},
			Price: chain.Nano(uint64(4_250 + 91*i)), Lowest: chain.Nano(uint64(4_250)), Highest: chain.Nano(9_900), Reason: "the cheapest",
		}
		switch i {
		case 2:
			a.Winners, a.Bids, a.Reason = nil, 0, "no bid counted; most declined: it is outside of the hours\x00"
		case 3:
			a.Want, a.Winners, a.Reason = 2, append(a.Winners, topKey(6)), "the best scores, of different owners"
		}
		d.Closed = append(d.Closed, a)
	}
	return d
}

// TestTopPages holds what is drawn, at the sizes that people have.
func TestTopPages(t *testing.T) {
	data := topSample()
	follower := topSample()
	follower.Server, follower.AgeMs, follower.Totals.Total.GPUs = topKey(102), 12, 0
	for _, c := range []struct {
		name          string
		width, height int
		model         topModel
	}{
		{"overview", 80, 24, topModel{data: data}},
		{"overview", 120, 40, topModel{data: data}},
		{"overview", 40, 12, topModel{data: data}},
		{"overview", 180, 50, topModel{data: follower}},
		{"queues", 80, 24, topModel{data: data, tab: tabQueues}},
		{"consumers", 120, 40, topModel{data: data, tab: tabConsumers}},
		{"nodes", 120, 40, topModel{data: data, tab: tabNodes}},
		{"nodes-turned", 80, 12, topModel{data: data, tab: tabNodes, sort: [tabCount]int{tabNodes: 3}, upside: true, scroll: 3}},
		{"auctions", 120, 24, topModel{data: data, tab: tabAuctions}},
		{"help", 80, 24, topModel{data: data, help: true}},
		{"gone", 80, 24, topModel{data: data, trouble: "connection refused", since: 5 * time.Second}},
		{"asking", 80, 24, topModel{asked: "http://127.0.0.1:7280"}},
		{"empty", 80, 24, topModel{data: &api.NexusTop{NowMs: data.NowMs, ChainID: "new-1", Classes: []api.TopClass{{Class: job.Urgent}}}}},
	} {
		page := drawTop(&c.model, c.width, c.height)
		checkPage(t, page)
		checkTopGolden(t, fmt.Sprintf("%s-%dx%d.txt", c.name, c.width, c.height), strings.Join(page.lines(false), "\n")+"\n")
	}
	checkTopGolden(t, "once-100.txt", strings.Join(pageTop(&topModel{data: data}, 100).lines(false), "\n")+"\n")
	checkTopGolden(t, "ascii-80x24.txt", strings.Join(drawTop(&topModel{data: data}, 80, 24).lines(true), "\n")+"\n")
	checkTopGolden(t, "mono-40x12.ansi", drawTop(&topModel{data: data}, 40, 12).frame(look{}))
	checkTopPage(t)
	if *showFrame != "" {
		page := drawTop(&topModel{data: data}, 120, 40)
		if err := os.WriteFile(*showFrame, []byte(page.frame(look{colour: true})), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// checkTopPage checks that docs/TOP.md shows what is drawn.
func checkTopPage(t *testing.T) {
	t.Helper()
	page, err := os.ReadFile("../../docs/TOP.md")
	if err != nil {
		t.Fatal(err)
	}
	golden, err := os.ReadFile("testdata/top/overview-120x40.txt")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "```text\n"+string(golden)+"```\n") {
		t.Error("docs/TOP.md does not show testdata/top/overview-120x40.txt")
	}
}

func checkTopGolden(t *testing.T, name, got string) {
	t.Helper()
	golden.Check(t, filepath.Join("testdata", "top", name), got)
}

// checkPage checks that a page is of its size and moves no cursor.
func checkPage(t *testing.T, page *canvas) {
	t.Helper()
	for y, line := range page.lines(false) {
		if !utf8.ValidString(line) || textWidth(line) > page.w {
			t.Errorf("line %d is %q, of %d columns in %d", y, line, textWidth(line), page.w)
		}
		for _, r := range line {
			if !unicode.IsPrint(r) {
				t.Errorf("line %d has %U", y, r)
			}
		}
	}
}

// TestTopFitsEverywhere draws every page at sizes that a terminal may have.
func TestTopFitsEverywhere(t *testing.T) {
	data := topSample()
	for _, width := range []int{1, 2, 7, 39, 57, 81, 149, 151, 300} {
		for _, height := range []int{1, 2, 3, 9, 15, 30} {
			for tab := range tabCount {
				for _, help := range []bool{false, true} {
					page := drawTop(&topModel{data: data, tab: tab, help: help, scroll: 1 << 20, trouble: "x"}, width, height)
					if lines := strings.Count(page.frame(look{}), "\r\n") + 1; lines != height {
						t.Errorf("%d × %d has %d lines", width, height, lines)
					}
				}
			}
		}
	}
}

// FuzzTopText draws what others name, and checks that nothing of it gets to the
// terminal but what can be printed.
func FuzzTopText(f *testing.F) {
	f.Add("\x1b]0;owned\x07", "\u009b31m\u202e\u200b\xff", 80)
	f.Add("é́́", "한글\t\n", 41)
	f.Fuzz(func(t *testing.T, label, region string, width int) {
		d := topSample()
		for i := range d.Next {
			d.Next[i].Label, d.Next[i].Reason = label, region
		}
		for i := range d.Nodes {
			d.Nodes[i].Region = region
		}
		d.ChainID = chain.ChainID(label)
		page := drawTop(&topModel{data: d, trouble: region, asked: label}, 1+int(uint(width)%300), 30)
		checkPage(t, page)
		if n := strings.Count(page.frame(look{colour: true}), "\x1b]"); n > 0 {
			t.Error("the frame has an operating system command")
		}
	})
}
