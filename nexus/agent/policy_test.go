package agent_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// priced starts an agent whose prices come from a shell script, which finds a
// directory of its own in $0's place.
func priced(t *testing.T, script string, change func(*agent.Config)) (p *peer, dir string) {
	t.Helper()
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	dir = t.TempDir()
	path := filepath.Join(dir, "price.sh")
	if err := os.WriteFile(path, []byte("cd "+dir+"\n"+script+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config.PriceProgram = []string{"/bin/sh", path}
	config.PriceTimeout = 10 * time.Second
	if change != nil {
		change(&config)
	}
	start(t, config)
	return s.session(), dir
}

func (p *peer) offer(nonce, closeMs uint64) chain.Order {
	p.server.t.Helper()
	spec := wasmSpec(crypto.Digest{1}, 1)
	order := orderOf(&spec, nonce)
	order.MaxCost = chain.Hyper(100_000)
	order.PriorityBps = chain.MaxPriorityFee // what the program reads are caps beside it
	p.send(offer(nonce, order, spec, closeMs))
	return order
}

func TestPriceProgramSetsPrices(t *testing.T) {
	const answer = `{"cpu_price_atto": 9000000000, "memory_price_atto": "800000000", "network_price_atto": 7000000000000}`
	p, dir := priced(t, "cat > request.json; echo '"+answer+"'", nil)
	order := p.offer(1, 0)
	r := await[job.BidReply](p, nil)
	if r.Decline != "" || !nodeKey.Public().Verify(crypto.DomainBid, r.Bid.Payload(), r.BidSig) {
		t.Fatalf("the answer: %+v", r)
	}
	for resource, want := range map[chain.Resource]uint64{chain.CPU: 9_000_000_000, chain.Memory: 800_000_000, chain.Network: 7_000_000_000_000} {
		if got, ok := chain.PriceOf(r.Bid.Prices, resource); !ok || got != want {
			t.Errorf("%s costs %d, want %d", resource, got, want)
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, "request.json"))
	if err != nil {
		t.Fatal(err)
	}
	var request agent.PriceRequest
	if err := json.Unmarshal(data, &request); err != nil {
		t.Fatal(err)
	}
	table := agent.DefaultConfig()
	if request.Order != order.ID() || request.Resources.Millicores != 1_000 || request.MaxCost != order.MaxCost || request.Caps.CPUPriceAtto != 1<<61 ||
		uint64(request.Floor.CPUPriceAtto) != table.CPUPriceAtto || request.Table.CPUPriceAtto != request.Floor.CPUPriceAtto {
		t.Errorf("the program reads %s", data)
	}
}

// TestPriceProgramThatFailsIsADecline shows every way of failing; none ends the
// session or takes longer than it may.
func TestPriceProgramThatFailsIsADecline(t *testing.T) {
	const good = `"memory_price_atto": 300000000, "network_price_atto": 1000000000000`
	for name, c := range map[string]struct {
		script, want string
		change       func(*agent.Config)
	}{
		"its own reason":    {`echo '{"decline": "not on Sundays"}'`, "not on Sundays", nil},
		"below the floor":   {`echo '{"cpu_price_atto": 1, ` + good + `}'`, "below the floor 3000000000", nil},
		"a price left out":  {`echo '{"cpu_price_atto": 3000000000}'`, "below the floor", nil},
		"above the cap":     {`echo '{"cpu_price_atto": "9000000000000000000", ` + good + `}'`, "the order's cap is", nil},
		"above the cost":    {`echo '{"cpu_price_atto": "2000000000000000000", ` + good + `}'`, "max cost", nil},
		"garbage":           {"echo bananas", "not what is asked for", nil},
		"an unknown field":  {`echo '{"price": 3}'`, "not what is asked for", nil},
		"nothing":           {"true", "not what is asked for", nil},
		"a failure":         {"echo 'the market is closed' >&2; exit 3", "exit status 3: the market is closed", nil},
		"endless output":    {"exec yes", "larger than 16384 bytes", nil},
		"no such program":   {"", "no such file", func(c *agent.Config) { c.PriceProgram = []string{"/nonexistent/price"} }},
		"too slow":          {"exec sleep 600", "no answer within 100ms", func(c *agent.Config) { c.PriceTimeout = 100 * time.Millisecond }},
		"processes left":    {"sleep 600 & echo '{}'", "it left processes behind", nil},
		"after the auction": {"exec sleep 600", "no answer within 50ms", nil},
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := priced(t, c.script, c.change)
			closeMs := uint64(0)
			if name == "after the auction" {
				closeMs = 50
			}
			p.offer(1, closeMs)
			if r := await[job.BidReply](p, nil); !strings.Contains(r.Decline, c.want) {
				t.Errorf("declined with %q, want %q in it", r.Decline, c.want)
			}
			p.offer(2, closeMs) // the session goes on
			await[job.BidReply](p, nil)
		})
	}
}

// TestSlowPriceProgramHoldsUpNothing has all programs hang: an assignment is
// taken and done meanwhile, an offer beyond them is declined at once, and none of
// them, nor what they started, outlives its time.
func TestSlowPriceProgramHoldsUpNothing(t *testing.T) {
	t.Parallel()
	p, dir := priced(t, "sleep 600 & echo $$ $! > $$.pids.new; mv $$.pids.new $$.pids; wait", func(c *agent.Config) { c.PriceTimeout = 1500 * time.Millisecond })
	began := time.Now()
	for nonce := range uint64(5) {
		p.offer(nonce, 0)
	}
	if r := await[job.BidReply](p, nil); !strings.Contains(r.Decline, "busy with 4 other offers") {
		t.Errorf("the fifth of five offers: %q", r.Decline)
	}
	as := p.assign(exiter(0), 9, nil)
	p.finish(&as)
	if passed := time.Since(began); passed > 1400*time.Millisecond {
		t.Logf("the machine is slow: %v passed before the programs' time was over", passed)
	}
	for range 4 {
		if r := await[job.BidReply](p, nil); !strings.Contains(r.Decline, "no answer within 1.5s") {
			t.Errorf("a program that hangs: %q", r.Decline)
		}
	}
	if passed := time.Since(began); passed < 1500*time.Millisecond {
		t.Errorf("programs that may take 1.5 s were ended after %v", passed)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.pids"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no program ran: %v, %v", files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range strings.Fields(string(data)) {
			pid, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			waitGone(t, pid)
		}
	}
}

// waitGone waits until a process has ended, reaped or not.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.After(patience)
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) || strings.Contains(string(stat), ") Z ") {
			return
		}
		select {
		case <-ticker.C:
		case <-timeout:
			t.Fatalf("process %d goes on: %s", pid, stat)
		}
	}
}
