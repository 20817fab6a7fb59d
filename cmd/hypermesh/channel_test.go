package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// TestChannelCommands pays by vouchers on a running network: one is redeemed by hand, and
// a newer one by a watch-tower, after the payer's notice and before the window is over.
func TestChannelCommands(t *testing.T) {
	endToEnd(t)
	n := startDevnet(t, "--servers", "0", "--agents", "0", "--no-explorer")
	target, err := newTarget(n.describe(t), "alice")
	if err != nil {
		t.Fatal(err)
	}
	run := func(out any, args ...string) {
		t.Helper()
		data, err := hypermesh(t, append(append([]string{"channel"}, args...), "--config", n.path, "--json")...)
		if err == nil && out != nil {
			err = json.Unmarshal(data, out)
		}
		if err != nil {
			t.Fatalf("channel %q: %v: %s", args, err, data)
		}
	}
	vouchers := t.TempDir()
	voucher := func(id, total, file string) string {
		var raw json.RawMessage
		run(&raw, "voucher", "--channel", id, "--total", total)
		path := filepath.Join(vouchers, file)
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	payee := describedAddress(t, n, "bob")
	var opened openedChannel
	run(&opened, "open", "--to", payee, "--amount", "10", "--window", "10m", "--yes")
	id := opened.Channel.String()
	wait := func(height chain.Height) {
		t.Helper()
		if err := target.client.WaitHeight(t.Context(), height+1); err != nil {
			t.Fatal(err)
		}
	}
	show := func() (line channelLine) {
		t.Helper()
		run(&line, "show", "--channel", id)
		return line
	}
	wait(opened.Height)
	if line := show(); !line.Open || line.Held != chain.Hyper(10) || line.Payee.String() != payee {
		t.Fatalf("opened %+v", line)
	}
	var sent sentResult
	run(&sent, "redeem", "--voucher", voucher(id, "2.5", "first.json"), "--yes")
	wait(sent.Height)
	if line := show(); line.Redeemed != chain.Nano(2_500_000_000) {
		t.Fatalf("redeemed %+v", line)
	}
	if out, err := hypermesh(t, "channel", "redeem", "--voucher", filepath.Join(vouchers, "first.json"), "--config", n.path, "--yes"); err == nil {
		t.Errorf("a voucher was redeemed twice: %s", out)
	}
	voucher(id, "7", "second.json")
	voucher(id, "11", "beyond.json") // the channel holds 10
	if err := os.WriteFile(filepath.Join(vouchers, "bad.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(&sent, "close", "--channel", id, "--yes")
	wait(sent.Height)
	if out, err := hypermesh(t, "channel", "watch", "--vouchers", vouchers, "--once", "--account", "carol", "--config", n.path); err == nil || !strings.Contains(string(out), "redeemed 7 HYPER in all") {
		t.Errorf("the watch-tower, which has a file that is bad: %v: %s", err, out)
	}
	status, err := target.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wait(status.Height)
	if line := show(); !line.Closing || line.Redeemed != chain.Hyper(7) {
		t.Fatalf("after the watch-tower looked: %+v", line)
	}
	run(&sent, "close", "--channel", id, "--account", "bob", "--yes")
	wait(sent.Height)
	if show().Open {
		t.Fatal("the payee closed the channel, and it is open")
	}
	if out, err := hypermesh(t, "query", "supply", "--verify", "--rpc", n.describe(t).RPC[0]); err != nil {
		t.Errorf("supply: %v: %s", err, out)
	}
}

// describedAddress is an account's of a network.
func describedAddress(t *testing.T, n *network, name string) string {
	t.Helper()
	for _, a := range n.describe(t).Accounts {
		if a.Name == name {
			return a.Address.String()
		}
	}
	t.Fatalf("the network has no account %s", name)
	return ""
}
