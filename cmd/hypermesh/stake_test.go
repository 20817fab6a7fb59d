package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/sdk"
)

func TestParsePercent(t *testing.T) {
	for text, want := range map[string]uint16{"0": 0, "5": 500, "2.25": 225, "0.5": 50, "100": 10_000, "100.00": 10_000, "007": 700} {
		if got, err := parsePercent(text); err != nil || got != want {
			t.Errorf("%q is %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", ".", ".5", "5.", "2.255", "-1", "+1", "100.01", "101", "1e1", "5%", "65536", "1_0"} {
		if got, err := parsePercent(text); err == nil {
			t.Errorf("%q is read as %d", text, got)
		}
	}
}

// TestStakeCommands delegates to a validator of a running network, takes a part
// back, and reads from proofs what that came to.
func TestStakeCommands(t *testing.T) {
	endToEnd(t)
	n := startDevnet(t, "--servers", "0", "--agents", "0", "--no-explorer")
	client, err := sdk.New(sdk.Config{Nodes: n.describe(t).RPC})
	if err != nil {
		t.Fatal(err)
	}
	validators, err := client.Validators(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id := validators.Validators[0].ConsensusKey.String()
	show := func() (line stakeLine) {
		t.Helper()
		out, err := hypermesh(t, "stake", "show", "--validator", id, "--config", n.path, "--json")
		if err != nil || json.Unmarshal(out, &line) != nil {
			t.Fatalf("stake show: %v: %s", err, out)
		}
		return line
	}
	do := func(args ...string) {
		t.Helper()
		args = append([]string{"stake"}, append(args, "--validator", id, "--config", n.path, "--yes")...)
		var sent sentResult
		out, err := hypermesh(t, append(args, "--json")...)
		if err != nil || json.Unmarshal(out, &sent) != nil {
			t.Fatalf("%q: %v: %s", args, err, out)
		}
		// A state is proven by the block after it.
		if err := client.WaitHeight(t.Context(), sent.Height+1); err != nil {
			t.Fatal(err)
		}
	}
	before := show()
	if !before.Delegated.IsZero() {
		t.Fatalf("delegated %s before anything was", before.Delegated)
	}
	do("delegate", "--amount", "100")
	do("undelegate", "--amount", "40")
	after := show()
	if got, ok := after.Stake.Sub(before.Stake); !ok || got != chain.Hyper(60) || after.Delegated != chain.Hyper(60) {
		t.Errorf("of 100 HYPER less 40 the validator has %s more, the account %s there", got, after.Delegated)
	}
	// It joined in one epoch, whichever that is; devnet epochs last longer than this test.
	if len(after.Fresh) != 1 || after.Fresh[0].EarnsFrom < 3 || after.Fresh[0].Worth != chain.Hyper(60) {
		t.Errorf("fresh stake of 60 HYPER is shown as %+v", after.Fresh)
	}
	do("undelegate", "--all")
	if last := show(); last.Stake != before.Stake || !last.Delegated.IsZero() {
		t.Errorf("after everything was taken out %s of %s are left, %s delegated", last.Stake, before.Stake, last.Delegated)
	}
	if out, err := hypermesh(t, "stake", "show", "--validator", id, "--config", n.path); err != nil || !strings.Contains(string(out), "\ndelegated   0 HYPER by ") {
		t.Errorf("stake show: %v: %s", err, out)
	}
	other := "1111111111111111111111111111111111111111111111111111111111111111"
	if out, err := hypermesh(t, "stake", "delegate", "--validator", other, "--amount", "1", "--config", n.path, "--yes"); err == nil {
		t.Errorf("HYPER was delegated to nobody: %s", out)
	}
	if out, err := hypermesh(t, "query", "supply", "--verify", "--rpc", n.describe(t).RPC[0]); err != nil {
		t.Errorf("supply: %v: %s", err, out)
	}
}

// TestEstimateCoversEvidence: what stake report sends has gas for the longest
// evidence.
func TestEstimateCoversEvidence(t *testing.T) {
	table := execution.GasTableV1()
	for _, length := range []int{200, chain.MaxEvidence} {
		m := chain.ReportEvidence{Evidence: make([]byte, length)}
		least := table.Tx + table.Signature + table.ReportEvidence + (table.EvidenceByte+table.Byte)*uint64(length+1_000)
		if got := sdk.EstimateGas(m).Units(); got < 2*least {
			t.Errorf("%d bytes of evidence: estimated %d gas, only to be looked at they need %d", length, got, least)
		}
	}
}

// TestEstimateCoversDraws: so has what has nodes drawn.
func TestEstimateCoversDraws(t *testing.T) {
	table := execution.GasTableV1()
	promised := chain.LeaseDeal{Order: chain.Order{Term: &chain.Term{Service: &chain.ServiceTerms{}}}}
	waits := chain.Settle{Claims: []chain.Claim{{Order: chain.Order{Policy: chain.PolicyField{Policy: chain.PolicyOptimistic{}}}}}}
	for _, c := range []struct {
		message chain.Msg
		price   uint64
	}{
		{chain.DrawPeers{}, table.DrawPeers},
		{chain.DeclareHardware{}, table.DeclareHardware},
		{chain.RegisterProvider{}, table.RegisterProvider},
		{chain.ReportHardware{}, table.ReportHardware},
		{chain.ReportAcceptance{}, table.ReportAcceptance},
		{chain.Challenge{}, table.Challenge + table.QueueDraw + table.QueueDeadline/3},
		{chain.Appeal{}, table.Appeal + table.QueueDraw},
		{chain.BeginRun{Slate: make([]chain.SlateBid, chain.MaxSlate)}, table.BeginRun + chain.MaxSlate*table.SlateBid + table.QueueDraw + table.QueueDeadline},
		{waits, table.Claim + table.QueueDraw/2},
		{chain.OpenLease{Deal: promised}, table.OpenLease + table.DrawPeers},
		{chain.ResizeLease{Deal: promised}, table.ResizeLease + table.DrawPeers},
	} {
		least := table.Tx + table.Signature + c.price
		if got := sdk.EstimateGas(c.message).Units(); got < 2*least {
			t.Errorf("%T: estimated %d gas, to begin with it needs %d", c.message, got, least)
		}
	}
}
