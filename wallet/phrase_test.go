package wallet_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/wallet"
)

func readJSON(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	out, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// zeroPhrase is the best known phrase of all.
const zeroPhrase = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"

func parse(t testing.TB, text string) wallet.Phrase {
	t.Helper()
	p, err := wallet.ParsePhrase(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestWordListIsTheStandards(t *testing.T) {
	sum, n := wallet.WordListDigest()
	if want := "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda"; sum != want || n != 2048 {
		t.Errorf("%d words of digest %s, want 2048 of %s", n, sum, want)
	}
}

func TestBIP39Vectors(t *testing.T) {
	var vectors struct{ English [][4]string }
	readJSON(t, "testdata/bip39_english.json", &vectors)
	if len(vectors.English) != 24 {
		t.Fatalf("%d vectors, want 24", len(vectors.English))
	}
	for _, v := range vectors.English {
		made, err := wallet.PhraseFromEntropy(unhex(t, v[0]))
		if err != nil || made.Words() != v[1] {
			t.Errorf("entropy %s: %v, %v; want %q", v[0], made.Words(), err, v[1])
		}
		read, err := wallet.ParsePhrase(v[1])
		if err != nil {
			t.Errorf("%q: %v", v[1], err)
			continue
		}
		if seed := read.Seed("TREZOR"); hex.EncodeToString(seed[:]) != v[2] {
			t.Errorf("%q: seed %x, want %s", v[1], seed, v[2])
		}
	}
}

func TestSLIP0010Vectors(t *testing.T) {
	var file struct {
		Vectors []struct {
			Seed   string
			Chains []struct {
				Path      string
				ChainCode string `json:"chain_code"`
				Private   string
			}
		}
	}
	readJSON(t, "testdata/slip0010_ed25519.json", &file)
	checked := 0
	for _, v := range file.Vectors {
		for _, c := range v.Chains {
			n := wallet.MasterNode(unhex(t, v.Seed))
			for _, step := range strings.Split(c.Path, "/")[1:] {
				index, err := strconv.ParseUint(strings.TrimSuffix(step, "'"), 10, 31)
				if err != nil {
					t.Fatal(err)
				}
				n = n.Child(uint32(index))
			}
			if key, code := n.Hex(); key != c.Private || code != c.ChainCode {
				t.Errorf("seed %s, %s: key %s, chain code %s; want %s, %s", v.Seed, c.Path, key, code, c.Private, c.ChainCode)
			}
			checked++
		}
	}
	if checked != 6 {
		t.Errorf("%d nodes checked, want 6", checked)
	}
}

func TestDerivedAccountsAreFrozen(t *testing.T) {
	var out strings.Builder
	for _, n := range []uint32{0, 1, 999} {
		a := wallet.NewAccount("a", wallet.DeriveKey(parse(t, zeroPhrase), n))
		fmt.Fprintf(&out, "%s %s %s\n", wallet.PathOf(n), a.PrivateKey().Hex(), a.Address())
	}
	golden.Check(t, "testdata/derived.txt", out.String())
}

func TestParsePhraseRefuses(t *testing.T) {
	many := func(n int) string { return strings.TrimSpace(strings.Repeat("abandon ", n)) }
	for _, n := range []int{0, 1, 11, 13, 14, 23, 25, 27} {
		var length *wallet.LengthError
		if _, err := wallet.ParsePhrase(many(n)); !errors.As(err, &length) || length.Words != n {
			t.Errorf("%d words: %v, want LengthError", n, err)
		}
	}
	var word *wallet.WordError
	_, err := wallet.ParsePhrase(strings.Replace(zeroPhrase, "about", "abuot", 1))
	if !errors.As(err, &word) || word.Position != 12 || word.Word != "abuot" {
		t.Errorf("misspelt word: %v, want WordError for word 12, abuot", err)
	}
	for _, n := range []int{12, 15, 18, 21, 24} {
		if _, err := wallet.ParsePhrase(many(n)); !errors.Is(err, wallet.ErrChecksum) {
			t.Errorf("%d times abandon: %v, want ErrChecksum", n, err)
		}
	}
	if _, err := wallet.ParsePhrase(strings.Repeat("abandon ", 1000)); err == nil || !strings.Contains(err.Error(), "limit 1024") {
		t.Errorf("8,000 bytes: %v, want an error that names the limit", err)
	}
	if _, err := wallet.PhraseFromEntropy(make([]byte, 17)); err == nil {
		t.Error("17 bytes of entropy accepted")
	}
}

func TestParsePhraseForgivesFormatting(t *testing.T) {
	want := parse(t, zeroPhrase).Words()
	for _, text := range []string{strings.ToUpper(zeroPhrase), "\n\t " + strings.ReplaceAll(zeroPhrase, " ", " \n ") + " "} {
		if got := parse(t, text).Words(); got != want {
			t.Errorf("%q read as %q", text, got)
		}
	}
}

func TestPhraseRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entropy := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "entropy")[:4*rapid.IntRange(4, 8).Draw(t, "words")]
		made, err := wallet.PhraseFromEntropy(entropy)
		if err != nil {
			t.Fatal(err)
		}
		read, err := wallet.ParsePhrase(made.Words())
		if err != nil || read.Words() != made.Words() {
			t.Fatalf("%q read as %v, %v", made.Words(), read.Words(), err)
		}
	})
}

func TestNewPhraseIsFreshAndLong(t *testing.T) {
	a, b := wallet.NewPhrase(), wallet.NewPhrase()
	if a.Words() == b.Words() || len(strings.Fields(a.Words())) != 24 {
		t.Errorf("got %q and %q, want two phrases of 24 words", a.Words(), b.Words())
	}
	if a.IsZero() || !(wallet.Phrase{}).IsZero() {
		t.Error("IsZero is not of the zero value alone")
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	w := wallet.New(parse(t, zeroPhrase))
	a, err := w.Add("main")
	if err != nil {
		t.Fatal(err)
	}
	seed := a.PrivateKey().Seed()
	secrets := []string{"abandon", a.PrivateKey().Hex(), fmt.Sprint(seed[:4])[1:8]}
	holder := struct {
		p wallet.Phrase
		a wallet.Account
	}{w.Phrase(), a}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, value := range []any{w, w.Phrase(), a, holder, &holder} {
			out := fmt.Sprintf(verb, value)
			for _, secret := range secrets {
				if strings.Contains(out, secret) {
					t.Errorf("%s of %T holds a secret: %s", verb, value, out)
				}
			}
		}
	}
}

func FuzzPhrase(f *testing.F) {
	f.Add(zeroPhrase)
	f.Add("legal winner thank year wave sausage worth useful legal winner thank yellow")
	f.Add("ＡＢＡＮＤＯＮ \u0130")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := wallet.ParsePhrase(text)
		if err != nil {
			return
		}
		if again, err := wallet.ParsePhrase(p.Words()); err != nil || again.Words() != p.Words() {
			t.Fatalf("%q reads as %q, which reads as %v, %v", text, p.Words(), again, err)
		}
	})
}
