package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/devnet"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/wallet"
)

func TestParseHyper(t *testing.T) {
	for text, want := range map[string]uint64{
		"0": 0, "1": 1_000_000_000, "12.5": 12_500_000_000, "0.000000001": 1, "3.20": 3_200_000_000, "1000000000": 1_000_000_000_000_000_000, "007": 7_000_000_000,
	} {
		if got, err := parseHyper(text); err != nil || got != chain.Nano(want) {
			t.Errorf("%q is %v, %v, want %d nHYPER", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", "1 ", "0x1", "1_000", "1.0000000001", "1.-5", "1.5.5", "NaN", "1000000000.000000001", "18446744073.709551616", "99999999999999999999",
	} {
		if got, err := parseHyper(text); err == nil {
			t.Errorf("%q is read as %s", text, got)
		}
	}
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for range 10_000 {
		want := chain.Nano(random.Uint64N(chain.TotalSupply.Nano()+1) >> random.UintN(60))
		if got, err := parseHyper(strings.TrimSuffix(want.String(), " HYPER")); err != nil || got != want {
			t.Fatalf("%s is read as %v, %v (seed %d)", want, got, err, seed)
		}
	}
}

// TestWhichAccountActs asks for accounts of a key file, a keystore and a
// description, through the commands.
func TestWhichAccountActs(t *testing.T) {
	dir := t.TempDir()
	keyFile, passphrase, keystore := filepath.Join(dir, "account.key"), filepath.Join(dir, "passphrase"), filepath.Join(dir, "wallet.age")
	key := crypto.GenerateKey()
	if err := node.WriteKey(keyFile, key); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(passphrase, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := wallet.New(wallet.NewPhrase())
	first, err := w.Add("main")
	if err != nil {
		t.Fatal(err)
	}
	if err := (wallet.Keystore{Path: keystore, WorkFactor: wallet.MinWorkFactor}).Create("secret", w); err != nil {
		t.Fatal(err)
	}
	ofKey := chain.AddressOf(crypto.AccountKeyOf(key.Public())).String()
	for _, c := range []struct {
		args string
		code int
		want string // in stdout, or in stderr if it fails
	}{
		{"--key-file " + keyFile, 0, ofKey + "\n"},
		{"--key-file " + keyFile + " --account main", 2, "leave out --account"},
		{"--key-file " + dir + "/none", 1, "none"},
		{"--wallet " + keystore + " --passphrase-file " + passphrase, 0, first.Address().String() + "\n"},
		{"--wallet " + keystore + " --passphrase-file " + passphrase + " --account other", 1, `"other"`},
	} {
		code, stdout, stderr := invoke(t, append([]string{"wallet", "address"}, strings.Fields(c.args)...)...)
		if got := stdout; code != c.code || code == 0 && got != c.want || !strings.Contains(stdout+stderr, c.want) {
			t.Errorf("wallet address %s: exit code %d, %q, %q, want %d and %q", c.args, code, stdout, stderr, c.code, c.want)
		}
	}
}

// TestDescriptionIsChecked gives commands network descriptions that cannot be
// used.
func TestDescriptionIsChecked(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "net.json")
	for _, c := range []struct{ text, want string }{
		{"{", "net.json"},
		{`{"chain_id":"x-1"}`, "genesis is missing"},
		{`{"chain_id":"x-1","genesis":"none.json"}`, filepath.Join(dir, "none.json")},
		{strings.Repeat(" ", maxDescription+1), "limit"},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range []string{"job status " + strings.Repeat("0", 64), "wallet send --amount 1 --to " + chain.Address{}.String()} {
			code, _, stderr := invoke(t, append(strings.Fields(args), "--config", path)...)
			if code != exitFailed || !strings.Contains(stderr, c.want) {
				t.Errorf("%s with %.40s: exit code %d, %q, want %q", args, c.text, code, stderr, c.want)
			}
		}
	}
	d := devnet.Description{Accounts: []devnet.Account{{Name: "bob", PrivateKey: crypto.GenerateKey().Hex()}}}
	if a, err := describedAccount(d.Accounts, "bob"); err != nil || a.Name() != "bob" {
		t.Errorf("account bob: %v, %v", a, err)
	}
	if _, err := describedAccount(d.Accounts, ""); err == nil || !strings.Contains(err.Error(), firstOfDevnet) {
		t.Errorf("a description without %s: %v", firstOfDevnet, err)
	}
}
