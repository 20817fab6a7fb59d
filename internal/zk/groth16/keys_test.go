package groth16

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
)

func TestVerifyingKeyIsReadStrictly(t *testing.T) {
	good := sharedSetup().keys.VerifyingKey()
	edited := func(edit func(*keyFile)) []byte {
		var file keyFile
		if err := codec.Unmarshal(good, &file, MaxVerifyingKeySize); err != nil {
			t.Fatal(err)
		}
		edit(&file)
		return codec.Marshal(file)
	}
	infinity := func(at, size int) []byte {
		return edited(func(k *keyFile) {
			clear(k.Points[at : at+size])
			k.Points[at] = 0x40
		})
	}
	const atK = g1Size + 3*g2Size
	for _, c := range []struct {
		name    string
		kernel  zk.Kernel
		encoded []byte
		want    string
	}{
		{"nothing", testKernel, nil, "malformed"},
		{"trailing byte", testKernel, append(slices.Clone(good), 0), "malformed"},
		{"cut", testKernel, good[:len(good)-1], "malformed"},
		{"too long", testKernel, make([]byte, MaxVerifyingKeySize+1), "too large"},
		{"another kernel's name", "matmul-8", good, `kernel is "matmul-4"`},
		{"no such kernel", "matmul-5", good, "unknown kernel"},
		{"of another circuit", testKernel, edited(func(k *keyFile) { k.Circuit[0] ^= 1 }), "the kernel's is"},
		{"a point less", testKernel, edited(func(k *keyFile) { k.Points = k.Points[:len(k.Points)-g2Size] }), "want"},
		{"a point more", testKernel, edited(func(k *keyFile) { k.Points = append(k.Points, k.Points[:g1Size]...) }), "want"},
		{"alpha at infinity", testKernel, infinity(0, g1Size), "alpha"},
		{"delta at infinity", testKernel, infinity(g1Size+2*g2Size, g2Size), "delta"},
		{"an unconstrained bind", testKernel, infinity(atK+4*g1Size, g1Size), "K 4"},
		{"gamma outside its subgroup", testKernel, edited(func(k *keyFile) {
			copy(k.Points[g1Size+g2Size:], outsideSubgroup(t))
		}), "gamma"},
		{"commitment key outside its subgroup", testKernel, edited(func(k *keyFile) {
			copy(k.Points[len(k.Points)-g2Size:], outsideSubgroup(t))
		}), "commitment sigma"},
	} {
		_, err := NewVerifier(map[zk.Kernel][]byte{c.kernel: c.encoded})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want it to name %q", c.name, err, c.want)
		}
	}
}

// stages collects what a Progress is told.
type stages struct {
	mu    sync.Mutex
	names []string
}

func (s *stages) note(stage string, fraction float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if fraction < 0 || fraction > 1 {
		panic("fraction out of range")
	}
	s.names = append(s.names, stage)
}

func (s *stages) count(part string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, name := range s.names {
		if strings.Contains(name, part) {
			n++
		}
	}
	return n
}

func mustProve(t *testing.T, keys *Keys) Result {
	t.Helper()
	result, err := proveMatmul(keys, filledMatrix(testSize, 3), filledMatrix(testSize, -5), zk.Field{31: 9})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestKeysAreMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if _, err := Load(dir, testKernel); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("loading from nowhere: %v", err)
	}
	var seen stages
	made, err := LoadOrSetup(dir, testKernel, seen.note)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadOrSetup(dir, testKernel, seen.note)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := Load(dir, testKernel)
	if err != nil {
		t.Fatal(err)
	}
	if stored, err := Stored(dir, testKernel); err != nil || stored != made.Digest() {
		t.Errorf("stored %s, made %s, %v", stored, made.Digest(), err)
	}
	if _, err := Stored(dir, "matmul-8"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stored without a file: %v", err)
	}
	if n := seen.count("making keys"); n != 1 {
		t.Errorf("made keys %d times: %q", n, seen.names)
	}
	if !bytes.Equal(made.VerifyingKey(), again.VerifyingKey()) || made.Digest() != loaded.Digest() {
		t.Error("loaded keys differ from the made ones")
	}
	result := mustProve(t, loaded)
	if err := verifierOf(t, made).Verify(result.Statement, result.Proof); err != nil {
		t.Errorf("proof by loaded keys: %v", err)
	}
}

func TestOtherKeysVerifyNothing(t *testing.T) {
	other, err := Setup(testKernel, nil)
	if err != nil {
		t.Fatal(err)
	}
	verifier, good := verifierOf(t, other), sharedResult()
	if err := verifier.Verify(good.Statement, good.Proof); !errors.Is(err, zk.ErrVerifyingKey) {
		t.Errorf("a statement of another key: %v", err)
	}
	statement := cloneStatement(good.Statement)
	statement.VerifyingKey = other.Digest()
	if err := verifier.Verify(statement, good.Proof); !errors.Is(err, zk.ErrFalseProof) {
		t.Errorf("a proof by another key: %v", err)
	}
}

func TestDamagedKeysAreMadeAnew(t *testing.T) {
	dir := t.TempDir()
	keys := sharedSetup().keys
	path := cachePath(dir, keys.circuit)
	if err := writeKeys(path, keys); err != nil {
		t.Fatal(err)
	}
	intact, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if loaded, err := Load(dir, testKernel); err != nil || loaded.Digest() != keys.Digest() {
		t.Fatalf("intact: %v", err)
	}
	flip := func(at int) []byte {
		out := slices.Clone(intact)
		out[at] ^= 1
		return out
	}
	for name, contents := range map[string][]byte{
		"empty":           {},
		"half a digest":   intact[:16],
		"digest changed":  flip(3),
		"format changed":  flip(40),
		"key changed":     flip(len(intact) / 2),
		"last changed":    flip(len(intact) - 1),
		"cut":             intact[:len(intact)-100],
		"longer":          append(slices.Clone(intact), 1),
		"something else":  []byte(strings.Repeat("no keys at all ", 100)),
		"first half gone": intact[len(intact)/2:],
	} {
		if err := os.WriteFile(path, contents, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir, testKernel); !errors.Is(err, ErrDamagedKeys) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := Stored(dir, testKernel); !errors.Is(err, ErrDamagedKeys) {
			t.Errorf("%s, its digest alone: %v", name, err)
		}
	}
	var seen stages
	remade, err := LoadOrSetup(dir, testKernel, seen.note)
	if err != nil {
		t.Fatal(err)
	}
	if seen.count("damaged") != 1 || seen.count("making keys") != 1 {
		t.Errorf("told %q", seen.names)
	}
	if remade.Digest() == keys.Digest() {
		t.Error("damaged keys were used")
	}
	if loaded, err := Load(dir, testKernel); err != nil || loaded.Digest() != remade.Digest() {
		t.Errorf("after making them anew: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.tmp-*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestForeignKeyFilesAreRefused: the digest is right, so only the
// format string and the parts behind it stand in the way.
func TestForeignKeyFilesAreRefused(t *testing.T) {
	keys := sharedSetup().keys
	for name, body := range map[string][]byte{
		"another format":   appendBlock(nil, []byte("hypermesh groth16 keys 0")),
		"a long block":     bytes.Repeat([]byte{0xff}, 8),
		"no verifying key": appendBlock(nil, []byte(cacheFormat())),
		"no proving key":   appendBlock(appendBlock(nil, []byte(cacheFormat())), keys.encoding),
	} {
		path := filepath.Join(t.TempDir(), "file.keys")
		digest := crypto.DomainProvingKey.Hash(body)
		if err := os.WriteFile(path, append(digest[:], body...), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readKeys(path, keys.circuit); !errors.Is(err, ErrDamagedKeys) || strings.Contains(err.Error(), "digest differs") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSwappedKeyFilesAreRefused: intact keys of another kernel under this one's name.
func TestSwappedKeyFilesAreRefused(t *testing.T) {
	const kernel = zk.Kernel("hashchain-1")
	dir := t.TempDir()
	circuit, err := frozen(kernel)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeKeys(cacheFile(dir, kernel, circuit), sharedSetup().keys); err != nil {
		t.Fatal(err)
	}
	if digest, err := Stored(dir, kernel); !errors.Is(err, ErrDamagedKeys) {
		t.Errorf("stored: %s, %v", digest, err)
	}
	if _, err := Load(dir, kernel); !errors.Is(err, ErrDamagedKeys) {
		t.Errorf("loaded: %v", err)
	}
}

func TestSeveralAtOnceMakeKeysOnce(t *testing.T) {
	dir := t.TempDir()
	var seen stages
	var wg sync.WaitGroup
	keys := make([]*Keys, 3)
	errs := make([]error, len(keys))
	for i := range keys {
		wg.Go(func() { keys[i], errs[i] = LoadOrSetup(dir, testKernel, seen.note) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if k.Digest() != keys[0].Digest() {
			t.Error("two sets of keys")
		}
	}
	if n := seen.count("making keys"); n != 1 {
		t.Errorf("made keys %d times: %q", n, seen.names)
	}
}

func TestKeysThatCannotBeStoredAreAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrSetup(filepath.Join(file, "keys"), testKernel, nil); err == nil {
		t.Error("stored keys below a file")
	}
}
