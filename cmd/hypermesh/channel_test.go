package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// channelWorld is a network on which alice pays bob through a channel.
type channelWorld struct {
	*testing.T
	net      *network
	target   *target
	vouchers string // directory
	id       chain.ChannelID
}

// run runs a subcommand about channels, and decodes what it prints.
func (w *channelWorld) run(out any, args ...string) {
	w.Helper()
	data, err := hypermesh(w.T, append(append([]string{"channel"}, args...), "--config", w.net.path, "--json")...)
	if err == nil {
		err = json.Unmarshal(data, out)
	}
	if err != nil {
		w.Fatalf("channel %q: %v: %s", args, err, data)
	}
}

// do sends a message, and waits until the state that it made is proven.
func (w *channelWorld) do(args ...string) {
	w.Helper()
	var sent sentResult
	w.run(&sent, append(args, "--yes")...)
	w.wait(sent.Height)
}

func (w *channelWorld) wait(height chain.Height) {
	w.Helper()
	if err := w.target.client.WaitHeight(w.Context(), height+1); err != nil {
		w.Fatal(err)
	}
}

// voucher writes a voucher into the directory.
func (w *channelWorld) voucher(total, file string) string {
	w.Helper()
	var raw json.RawMessage
	w.run(&raw, "voucher", "--channel", w.id.String(), "--total", total)
	return w.write(file, string(raw))
}

func (w *channelWorld) write(file, content string) string {
	w.Helper()
	path := filepath.Join(w.vouchers, file)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		w.Fatal(err)
	}
	return path
}

func (w *channelWorld) show() (line channelLine) {
	w.Helper()
	w.run(&line, "show", "--channel", w.id.String())
	return line
}

// TestChannelCommands pays by vouchers on a running network: one is redeemed by hand, and
// a newer one by a watch-tower, after the payer's notice and before the window is over.
func TestChannelCommands(t *testing.T) {
	endToEnd(t)
	w := &channelWorld{T: t, net: startDevnet(t, "--servers", "0", "--agents", "0", "--no-explorer"), vouchers: t.TempDir()}
	var err error
	if w.target, err = newTarget(w.net.describe(t), "alice"); err != nil {
		t.Fatal(err)
	}
	payee := describedAddress(t, w.net, "bob")
	var opened openedChannel
	w.run(&opened, "open", "--to", payee, "--amount", "10", "--window", "10m", "--yes")
	w.id = opened.Channel
	w.wait(opened.Height)
	if line := w.show(); !line.Open || line.Held != chain.Hyper(10) || line.Payee.String() != payee {
		t.Fatalf("opened %+v", line)
	}
	first := w.voucher("2.5", "first.json")
	w.do("redeem", "--voucher", first)
	if line := w.show(); line.Redeemed != chain.Nano(2_500_000_000) {
		t.Fatalf("redeemed %+v", line)
	}
	if out, err := hypermesh(t, "channel", "redeem", "--voucher", first, "--config", w.net.path, "--yes"); err == nil {
		t.Errorf("a voucher was redeemed twice: %s", out)
	}
	w.voucher("7", "second.json")
	w.voucher("11", "beyond.json") // the channel holds 10
	w.write("bad.json", "{")
	w.do("close", "--channel", w.id.String())
	out, err := hypermesh(t, "channel", "watch", "--vouchers", w.vouchers, "--once", "--account", "carol", "--config", w.net.path)
	if err == nil || !strings.Contains(string(out), "redeemed 7 HYPER in all") {
		t.Errorf("the watch-tower, which has a file that is bad: %v: %s", err, out)
	}
	status, err := w.target.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.wait(status.Height)
	if line := w.show(); !line.Closing || line.Redeemed != chain.Hyper(7) {
		t.Fatalf("after the watch-tower looked: %+v", line)
	}
	w.do("close", "--channel", w.id.String(), "--account", "bob")
	if w.show().Open {
		t.Fatal("the payee closed the channel, and it is open")
	}
	if out, err := hypermesh(t, "query", "supply", "--verify", "--rpc", w.net.describe(t).RPC[0]); err != nil {
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
