package wallet_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/wallet"
)

const passphrase = "correct horse"

func sampleWallet(t testing.TB) *wallet.Wallet {
	t.Helper()
	w := wallet.New(parse(t, zeroPhrase))
	add(t, w, "main")
	if _, err := w.Import("cold", testKey(1)); err != nil {
		t.Fatal(err)
	}
	add(t, w, "savings")
	return w
}

// fast is a keystore whose passphrase costs little to try.
func fast(path string) wallet.Keystore {
	return wallet.Keystore{Path: path, WorkFactor: wallet.MinWorkFactor}
}

func sameWallet(t *testing.T, got, want *wallet.Wallet) {
	t.Helper()
	if got.Phrase().Words() != want.Phrase().Words() || len(got.Accounts()) != len(want.Accounts()) {
		t.Fatalf("%d accounts, want %d, of the same phrase", len(got.Accounts()), len(want.Accounts()))
	}
	for i, a := range want.Accounts() {
		b := got.Accounts()[i]
		if a.Name() != b.Name() || a.Path() != b.Path() || a.PrivateKey().Hex() != b.PrivateKey().Hex() {
			t.Errorf("account %d is %s at %q, want %s at %q", i, b, b.Path(), a, a.Path())
		}
	}
}

// onlyFile fails unless the folder holds that file alone.
func onlyFile(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != filepath.Base(path) {
		t.Errorf("the folder holds %v, want %s alone", entries, filepath.Base(path))
	}
}

func TestKeystoreRoundTrip(t *testing.T) {
	store := fast(filepath.Join(t.TempDir(), "new", "folder", "keys.age"))
	want := sampleWallet(t)
	if err := store.Create(passphrase, want); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(store.Path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	got, err := store.Load(passphrase)
	if err != nil {
		t.Fatal(err)
	}
	sameWallet(t, got, want)

	err = store.Create(passphrase, wallet.New(wallet.NewPhrase()))
	if !errors.Is(err, wallet.ErrKeystoreExists) || !errors.Is(err, fs.ErrExist) || strings.Contains(err.Error(), "link") {
		t.Errorf("second Create: %v, want ErrKeystoreExists, and nothing of temporary files", err)
	}
	add(t, want, "third")
	if err := store.Save("another one", want); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Load(passphrase); !errors.Is(err, wallet.ErrPassphrase) {
		t.Errorf("old passphrase: %v, want ErrPassphrase", err)
	}
	if got, err = store.Load("another one"); err != nil {
		t.Fatal(err)
	}
	sameWallet(t, got, want)
	onlyFile(t, store.Path)
}

func TestKeystoreHoldsNothingInTheClear(t *testing.T) {
	store := fast(filepath.Join(t.TempDir(), "keys.age"))
	w := sampleWallet(t)
	if err := store.Create(passphrase, w); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(store.Path)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"abandon", "main", testKey(1).Hex(), passphrase} {
		if bytes.Contains(data, []byte(secret)) {
			t.Errorf("the file shows %q", secret)
		}
	}
}

// TestKeystoreOfVersion1Opens reads a file that was written once and for all.
func TestKeystoreOfVersion1Opens(t *testing.T) {
	store := fast("testdata/keystore_v1.age")
	if _, err := os.Stat(store.Path); golden.Updating() && errors.Is(err, fs.ErrNotExist) {
		if err := store.Save(passphrase, sampleWallet(t)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := store.Load(passphrase)
	if err != nil {
		t.Fatal(err)
	}
	sameWallet(t, got, sampleWallet(t))
}

func TestPassphrasesCountInNormalForm(t *testing.T) {
	store := fast(filepath.Join(t.TempDir(), "keys.age"))
	if err := store.Create("cafe\u0301", sampleWallet(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Load("caf\u00e9"); err != nil {
		t.Errorf("the composed form does not open: %v", err)
	}
}

func TestKeystoreRefusesPassphrasesAndWork(t *testing.T) {
	store := fast(filepath.Join(t.TempDir(), "keys.age"))
	if err := store.Create("", sampleWallet(t)); !errors.Is(err, wallet.ErrNoPassphrase) {
		t.Errorf("Create: %v, want ErrNoPassphrase", err)
	}
	if _, err := store.Load(""); !errors.Is(err, wallet.ErrNoPassphrase) {
		t.Errorf("Load: %v, want ErrNoPassphrase", err)
	}
	if _, err := store.Load(passphrase); !errors.Is(err, wallet.ErrNoKeystore) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent file: %v, want ErrNoKeystore", err)
	}
	for _, factor := range []int{-1, 9, 21} {
		store.WorkFactor = factor
		if err := store.Create(passphrase, sampleWallet(t)); err == nil || !strings.Contains(err.Error(), "want 10 to 20") {
			t.Errorf("work factor %d: %v, want an error that names the range", factor, err)
		}
	}
	if _, err := os.Stat(store.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refused Create left a file: %v", err)
	}
}

func TestKeystoreRefusesDamage(t *testing.T) {
	store := fast(filepath.Join(t.TempDir(), "keys.age"))
	if err := store.Create(passphrase, sampleWallet(t)); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(store.Path)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	hard := bytes.Replace(good, []byte(" 10\n"), []byte(" 21\n"), 1)
	if bytes.Equal(hard, good) {
		t.Fatal("the work factor was not found in the header")
	}
	for name, data := range map[string][]byte{
		"nothing": nil, "no keystore": []byte("hello"), "cut short": good[:len(good)-10], "bit flipped": flipped,
		"work factor 21": hard, "too large": make([]byte, 1<<20+1),
	} {
		if err := os.WriteFile(store.Path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		var format *wallet.FormatError
		if w, err := store.Load(passphrase); !errors.As(err, &format) || format.Path != store.Path {
			t.Errorf("%s: %v, %v; want FormatError", name, w, err)
		}
	}
}

func TestKeystoreRefusesContent(t *testing.T) {
	store := fast(filepath.Join(t.TempDir(), "keys.age"))
	key := testKey(1).Hex()
	file := func(version int, phrase, rest string) string {
		return fmt.Sprintf(`{"format":"hypermesh-keystore","version":%d,"phrase":%q%s}`, version, phrase, rest)
	}
	accounts := func(list string) string { return file(1, zeroPhrase, `,"accounts":[`+list+`]`) }
	for _, c := range []struct{ name, content, reason string }{
		{"no JSON", "hello", "no keystore"},
		{"other format", `{"format":"other","version":1}`, `"other" version 1`},
		{"version 2", `{"format":"hypermesh-keystore","version":2,"news":1}`, "version 2"},
		{"unknown field", file(1, zeroPhrase, `,"more":1`), "more"},
		{"bad phrase", file(1, strings.Replace(zeroPhrase, "about", "abuot", 1), ""), "abuot"},
		{"neither", accounts(`{"name":"a"}`), "index or a private key"},
		{"both", accounts(`{"name":"a","index":0,"private_key":"` + key + `"}`), "index or a private key"},
		{"bad key", accounts(`{"name":"a","private_key":"zz"}`), "private key"},
		{"bad name", accounts(`{"name":"A","index":0}`), "account name"},
		{"index", accounts(`{"name":"a","index":4294967295}`), "limit 999"},
		{"twice", accounts(`{"name":"a","index":0},{"name":"b","index":0}`), "exists already"},
	} {
		sealed, err := wallet.Seal([]byte(c.content), passphrase, wallet.MinWorkFactor)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(store.Path, sealed, 0o600); err != nil {
			t.Fatal(err)
		}
		var format *wallet.FormatError
		if _, err := store.Load(passphrase); !errors.As(err, &format) || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: %v; want FormatError about %q", c.name, err, c.reason)
		} else if strings.Contains(err.Error(), key) {
			t.Errorf("%s: the error shows the key", c.name)
		}
	}
}

// TestFailedSaveKeepsTheOldFile makes the move fail: its target is a folder.
func TestFailedSaveKeepsTheOldFile(t *testing.T) {
	store := fast(filepath.Join(t.TempDir(), "keys.age"))
	if err := os.MkdirAll(filepath.Join(store.Path, "inside"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := store.Save(passphrase, sampleWallet(t)); err == nil {
		t.Fatal("a folder was replaced by a keystore")
	}
	onlyFile(t, store.Path)
}

func TestDefaultWorkFactor(t *testing.T) {
	store := wallet.Keystore{Path: filepath.Join(t.TempDir(), "keys.age")}
	if err := store.Create(passphrase, wallet.New(parse(t, zeroPhrase))); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(store.Path)
	if err != nil {
		t.Fatal(err)
	}
	header, _, _ := strings.Cut(string(data), "\n---")
	if !strings.Contains(header, " 18\n") {
		t.Errorf("header %q, want work factor 18", header)
	}
}
