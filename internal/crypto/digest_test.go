package crypto_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/zeebo/blake3"
	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/golden"
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

// TestBlake3Vectors holds the library to the hash mode and our domains to the
// derive-key mode of the BLAKE3 team's vectors.
func TestBlake3Vectors(t *testing.T) {
	var vectors struct {
		Context string `json:"context_string"`
		Cases   []struct {
			Len       int    `json:"input_len"`
			Hash      string `json:"hash"`
			DeriveKey string `json:"derive_key"`
		} `json:"cases"`
	}
	readJSON(t, "testdata/blake3.json", &vectors)
	if len(vectors.Cases) != 35 {
		t.Fatalf("%d cases, want 35", len(vectors.Cases))
	}
	domain := crypto.DomainOf(vectors.Context)
	for _, c := range vectors.Cases {
		input := make([]byte, c.Len)
		for i := range input {
			input[i] = byte(i % 251)
		}
		plain := blake3.Sum256(input)
		if got, want := hex.EncodeToString(plain[:]), c.Hash[:64]; got != want {
			t.Errorf("hash of %d bytes = %s, want %s", c.Len, got, want)
		}
		if got, want := domain.Hash(input).String(), c.DeriveKey[:64]; got != want {
			t.Errorf("derived key of %d bytes = %s, want %s", c.Len, got, want)
		}
		stream := domain.NewStream()
		for chunk := range slices.Chunk(input, 1000) {
			if n, err := stream.Write(chunk); n != len(chunk) || err != nil {
				t.Fatalf("Write = %d, %v", n, err)
			}
		}
		if got, want := stream.Sum().String(), c.DeriveKey[:64]; got != want {
			t.Errorf("stream of %d bytes = %s, want %s", c.Len, got, want)
		}
	}
}

func TestStreamIsHashOfWhatWasWrittenSoFar(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var written []byte
		stream := crypto.DomainBlob.NewStream()
		for i := range rapid.IntRange(1, 8).Draw(t, "writes") {
			n := rapid.OneOf(rapid.IntRange(0, 200), rapid.IntRange(900, 9000), rapid.Just(8192)).Draw(t, "bytes")
			part := make([]byte, n)
			for j := range part {
				part[j] = byte(i + j)
			}
			if _, err := stream.Write(part); err != nil {
				t.Fatal(err)
			}
			written = append(written, part...)
			if rapid.Bool().Draw(t, "sum") && stream.Sum() != crypto.DomainBlob.Hash(written) {
				t.Fatalf("sum after %d bytes differs from the hash", len(written))
			}
		}
		for range 2 {
			if stream.Sum() != crypto.DomainBlob.Hash(written) {
				t.Fatalf("last sum, after %d bytes, differs from the hash", len(written))
			}
		}
	})
}

func TestDomainsAreFrozen(t *testing.T) {
	contexts := crypto.DomainContexts()
	slices.Sort(contexts)
	golden.Check(t, "testdata/domains.txt", strings.Join(contexts, "\n")+"\n")
	for _, c := range contexts {
		if !strings.HasPrefix(c, "hypermesh 2026-11 v1 ") {
			t.Errorf("context %q lacks the prefix", c)
		}
	}
}

func TestDomainsDoNotShareDigests(t *testing.T) {
	seen := map[crypto.Digest]string{}
	for _, c := range crypto.DomainContexts() {
		d := crypto.DomainOf(c).Hash(nil)
		if other, ok := seen[d]; ok {
			t.Errorf("%q and %q give the same digest", c, other)
		}
		seen[d] = c
	}
}

func TestSecondDomainOfOneNamePanics(t *testing.T) {
	name := strings.TrimPrefix(crypto.DomainOrder.Context(), "hypermesh 2026-11 v1 ")
	defer func() {
		if recover() == nil {
			t.Errorf("a second domain %q was registered", name)
		}
	}()
	crypto.NewDomain(name)
}

func TestHashPairIsHashOfConcatenation(t *testing.T) {
	a, b := crypto.DomainBlob.Hash([]byte("a")), crypto.DomainBlob.Hash([]byte("b"))
	want := crypto.DomainStateInner.Hash(append(a[:], b[:]...))
	if got := crypto.DomainStateInner.HashPair(a, b); got != want {
		t.Errorf("HashPair = %s, want %s", got, want)
	}
	if crypto.DomainStateInner.HashPair(b, a) == want {
		t.Error("HashPair does not depend on the order")
	}
}

func TestDigestText(t *testing.T) {
	d := crypto.DomainBlob.Hash(nil)
	back, err := crypto.ParseDigest(d.String())
	if err != nil || back != d {
		t.Errorf("ParseDigest(%s) = %s, %v", d, back, err)
	}
	for _, bad := range []string{"", d.String()[1:], d.String() + "0", strings.ToUpper(d.String()), "zz" + d.String()[2:], d.String()[:62] + "0g"} {
		if got, err := crypto.ParseDigest(bad); err == nil || !got.IsZero() {
			t.Errorf("ParseDigest(%q) = %s, %v; want zero and an error", bad, got, err)
		}
	}
	if d.Compare(d) != 0 || d.Compare(crypto.Digest{}) != 1 || (crypto.Digest{}).Compare(d) != -1 {
		t.Error("Compare is not the order of byte strings")
	}
	if want := d.String()[:8]; d.Short() != want {
		t.Errorf("Short = %s, want %s", d.Short(), want)
	}
}

func BenchmarkHash(b *testing.B) {
	for _, size := range []int{64, 256, 1024, 16 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			data := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				crypto.DomainStateInner.Hash(data)
			}
		})
	}
}
