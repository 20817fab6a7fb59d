package zk_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/internal/zk"
)

func TestStatementEncodingIsFrozen(t *testing.T) {
	s := exampleStatement()
	golden.CheckHex(t, "testdata/statement.hex", s.Encode())
	digest := s.Digest()
	golden.CheckHex(t, "testdata/statement-digest.hex", digest[:])
	back, err := zk.DecodeStatement(s.Encode())
	if err != nil || !bytes.Equal(back.Encode(), s.Encode()) {
		t.Errorf("decoded %+v, %v", back, err)
	}
	if got, want := s.Publics(), []zk.Field{{31: 3}, {31: 4}, {31: 5}, {31: 6}}; !slices.Equal(got, want) {
		t.Errorf("publics %v, want %v", got, want)
	}
}

func TestStatementRefusesBadFieldsByName(t *testing.T) {
	bad := fieldOf(order)
	for _, c := range []struct {
		name string
		edit func(*zk.Statement)
		want string
	}{
		{"empty kernel", func(s *zk.Statement) { s.Kernel = "" }, "kernel name of 0 bytes"},
		{"long kernel", func(s *zk.Statement) { s.Kernel = zk.Kernel(strings.Repeat("a", 33)) }, "kernel name of 33 bytes"},
		{"upper case", func(s *zk.Statement) { s.Kernel = "Matmul" }, "at byte 0"},
		{"space", func(s *zk.Statement) { s.Kernel = "matmul 32" }, "at byte 6"},
		{"no inputs", func(s *zk.Statement) { s.Inputs = nil }, "0 inputs"},
		{"many inputs", func(s *zk.Statement) { s.Inputs = make([]zk.Field, 9) }, "9 inputs"},
		{"no outputs", func(s *zk.Statement) { s.Output = nil }, "0 outputs"},
		{"many outputs", func(s *zk.Statement) { s.Output = make([]zk.Field, 9) }, "9 outputs"},
		{"input", func(s *zk.Statement) { s.Inputs[1] = bad }, "input 1"},
		{"output", func(s *zk.Statement) { s.Output[0] = bad }, "output 0"},
		{"bind", func(s *zk.Statement) { s.Bind = bad }, "bind"},
	} {
		s := exampleStatement()
		c.edit(&s)
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Check says %v, want it to name %q", c.name, err, c.want)
		}
		if _, err := zk.DecodeStatement(s.Encode()); err == nil {
			t.Errorf("%s: decoded", c.name)
		}
	}
}

func TestDecodeStatementIsBoundedAndCanonical(t *testing.T) {
	good := exampleStatement().Encode()
	if _, err := zk.DecodeStatement(make([]byte, zk.MaxStatementSize+1)); !errors.Is(err, codec.ErrTooLarge) {
		t.Errorf("too long: %v", err)
	}
	if _, err := zk.DecodeStatement(append(slices.Clone(good), 0)); err == nil {
		t.Error("trailing byte: decoded")
	}
	for cut := range good {
		if _, err := zk.DecodeStatement(good[:cut]); err == nil {
			t.Errorf("cut at %d: decoded", cut)
		}
	}
	largest := exampleStatement()
	largest.Kernel = zk.Kernel(strings.Repeat("k", zk.MaxKernelLength))
	largest.Inputs = make([]zk.Field, zk.MaxDigests)
	largest.Output = make([]zk.Field, zk.MaxDigests)
	if _, err := zk.DecodeStatement(largest.Encode()); err != nil {
		t.Errorf("the largest statement: %v", err)
	}
}

func TestBindDependsOnEverything(t *testing.T) {
	base := zk.Bind("hypermesh-1", crypto.Digest{1}, 7, crypto.PublicKey{2})
	golden.CheckHex(t, "testdata/bind.hex", base[:])
	if err := base.Check(); err != nil {
		t.Error(err)
	}
	for name, other := range map[string]zk.Field{
		"chain":    zk.Bind("hypermesh-2", crypto.Digest{1}, 7, crypto.PublicKey{2}),
		"order":    zk.Bind("hypermesh-1", crypto.Digest{9}, 7, crypto.PublicKey{2}),
		"sequence": zk.Bind("hypermesh-1", crypto.Digest{1}, 8, crypto.PublicKey{2}),
		"provider": zk.Bind("hypermesh-1", crypto.Digest{1}, 7, crypto.PublicKey{9}),
	} {
		if other == base {
			t.Errorf("bind does not depend on the %s", name)
		}
	}
}

func TestProofIsBounded(t *testing.T) {
	for size, ok := range map[int]bool{0: false, 1: true, zk.MaxProofSize: true, zk.MaxProofSize + 1: false} {
		err := zk.Proof(make([]byte, size)).Check()
		if (err == nil) != ok || (!ok && !errors.Is(err, zk.ErrMalformedProof)) {
			t.Errorf("proof of %d bytes: %v", size, err)
		}
	}
}

func TestMatmulKernelNames(t *testing.T) {
	for _, n := range []int{4, 8, 16, 32, 64, 128} {
		k, err := zk.MatmulKernel(n)
		if err != nil || k.Check() != nil {
			t.Errorf("n = %d: %q, %v", n, k, err)
		}
		if back, ok := k.MatmulSize(); !ok || back != n {
			t.Errorf("%q has size %d, %v", k, back, ok)
		}
	}
	for _, n := range []int{-4, 0, 1, 5, 31, 33, 256} {
		if k, err := zk.MatmulKernel(n); err == nil {
			t.Errorf("n = %d has kernel %q", n, k)
		}
	}
	for _, k := range []zk.Kernel{"", "matmul", "matmul-", "matmul-5", "matmul-032", "matmul-32-v2", "mlp-32", "Matmul-32"} {
		if n, ok := k.MatmulSize(); ok {
			t.Errorf("%q is matmul of size %d", k, n)
		}
	}
}

func FuzzDecodeStatement(f *testing.F) {
	f.Add(exampleStatement().Encode())
	f.Add([]byte{0x85})
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := zk.DecodeStatement(data)
		if err != nil {
			return
		}
		if err := s.Check(); err != nil {
			t.Errorf("decoded a statement that is refused: %v", err)
		}
		if !bytes.Equal(s.Encode(), data) {
			t.Errorf("%x encodes again as %x", data, s.Encode())
		}
	})
}
