package vm_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	k1 "github.com/consensys/gnark-crypto/ecc/secp256k1/ecdsa"
	k1fr "github.com/consensys/gnark-crypto/ecc/secp256k1/fr"

	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// asks runs an import on the three arguments that info carries, each after its
// length in two bytes, and returns what it answers; recovery answers with the key.
func asks(t *testing.T, m *vm.Machine, name string, args ...[]byte) string {
	t.Helper()
	var text []byte
	var regions strings.Builder
	for i, arg := range args {
		fmt.Fprintf(&regions, "(call $region (i32.const %d) (i32.add (i32.load (local.get $msg)) (i32.const %d)) (i32.const %d) (i32.const %d))", 16+16*i, len(text), len(arg), len(arg))
		text = append(text, arg...)
	}
	body := regions.String() + fmt.Sprintf("(i32.store (i32.const 1024) (call $%s (i32.const 16) (i32.const 32) (i32.const 48)))", name) +
		"(call $region (i32.const 64) (i32.const 1024) (i32.const 4) (i32.const 4)) (i32.const 64)"
	if strings.Contains(name, "recover") {
		last := binary.LittleEndian.Uint32(args[2])
		body = regions.String() + fmt.Sprintf("(i64.store (i32.const 1024) (call $%s (i32.const 16) (i32.const 32) (i32.const %d)))", name, last) +
			"(if (i32.load (i32.const 1024)) (then (return (i32.load (i32.const 1024)))))" +
			"(call $region (i32.const 64) (i32.const 1028) (i32.const 4) (i32.const 4)) (i32.const 64)"
	}
	call := vm.Call{Entry: meter.Execute, Args: [][]byte{{1}, {1}, text}, Points: 100_000_000}
	o, err := m.Run(codeOf(t, source(body, "unreachable")), call, newWorld())
	if err != nil || o.End != vm.Returned {
		t.Fatalf("%s: %v %s, %v", name, o.End, o.Detail, err)
	}
	if len(o.Data) == 4 {
		return fmt.Sprint(binary.LittleEndian.Uint32(o.Data))
	}
	return string(o.Data)
}

func expectAnswer(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// flipped is data with a bit changed.
func flipped(data []byte) []byte {
	out := append([]byte(nil), data...)
	out[len(out)/2] ^= 1
	return out
}

func le32(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }

// curve is one of the two, with a key on it, and how it signs.
type curve struct {
	name         string
	order        *big.Int
	whole, short []byte // the key
	sign         func(hash []byte) []byte
}

func curves(t testing.TB) []curve {
	t.Helper()
	random := rand.NewChaCha8([32]byte{7})
	k, err := k1.GenerateKey(random)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ecdsa.GenerateKey(elliptic.P256(), random)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := p.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	kWhole := append([]byte{4}, k.PublicKey.Bytes()...)
	return []curve{
		{name: "secp256k1", order: k1fr.Modulus(), whole: kWhole, short: append([]byte{2 + kWhole[64]&1}, kWhole[1:33]...), sign: func(hash []byte) []byte {
			signature, err := k.Sign(hash, nil)
			if err != nil {
				t.Fatal(err)
			}
			return signature
		}},
		{name: "secp256r1", order: elliptic.P256().Params().N, whole: whole, short: append([]byte{2 + whole[64]&1}, whole[1:33]...), sign: func(hash []byte) []byte {
			r, s, err := ecdsa.Sign(random, p, hash)
			if err != nil {
				t.Fatal(err)
			}
			return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		}},
	}
}

// TestSignaturesOnCurves: signatures and keys that libraries make are verified and
// recovered; what is not theirs, is not; what is no key or signature gets the
// number that CosmWasm gives it.
func TestSignaturesOnCurves(t *testing.T) {
	m := newMachine(t, vm.Config{})
	for _, c := range curves(t) {
		verify, recover := c.name+"_verify", c.name+"_recover_pubkey"
		digest := sha256.Sum256([]byte("rent"))
		hash := digest[:]
		signature := c.sign(hash)
		high := append([]byte(nil), signature...)
		s := new(big.Int).SetBytes(signature[32:])
		s.Sub(c.order, s).FillBytes(high[32:])
		zero := append(make([]byte, 32), signature[32:]...)
		large := append(c.order.FillBytes(make([]byte, 32)), signature[32:]...)
		offCurve := flipped(c.whole)
		for _, v := range []struct {
			what                 string
			hash, signature, key []byte
			want                 string
		}{
			{"a signature", hash, signature, c.whole, "0"},
			{"with a short key", hash, signature, c.short, "0"},
			{"with the other s", hash, high, c.whole, "0"},
			{"over another hash", flipped(hash), signature, c.whole, "1"},
			{"changed", hash, flipped(signature), c.short, "1"},
			{"by the negative key", hash, signature, append([]byte{c.short[0] ^ 1}, c.short[1:]...), "1"},
			{"with r 0", hash, zero, c.whole, "10"},
			{"with r beyond the order", hash, large, c.whole, "10"},
			{"by no point", hash, signature, offCurve, "10"},
			{"by nothing", hash, signature, make([]byte, 65), "5"},
			{"by zeros", hash, signature, append([]byte{4}, make([]byte, 64)...), "10"},
			{"by half a key", hash, signature, c.whole[:64], "5"},
			{"over a short hash", hash[:31], signature, c.whole, "3"},
			{"that is short", hash, signature[:63], c.whole, "4"},
		} {
			expectAnswer(t, c.name+" "+v.what, asks(t, m, verify, v.hash, v.signature, v.key), v.want)
		}
		found := 0
		for parity := range uint32(2) {
			if asks(t, m, recover, hash, signature, le32(parity)) == string(c.whole) {
				found++
			}
			if asks(t, m, recover, hash, high, le32(parity)) == string(c.whole) {
				found++
			}
		}
		if found != 2 {
			t.Errorf("%s: the key is recovered %d times of 4, want 2", c.name, found)
		}
		expectAnswer(t, c.name+" with parity 2", asks(t, m, recover, hash, signature, le32(2)), "6")
		expectAnswer(t, c.name+" of r 0", asks(t, m, recover, hash, zero, le32(0)), "10")
		expectAnswer(t, c.name+" of r beyond the order", asks(t, m, recover, hash, large, le32(0)), "10")
		expectAnswer(t, c.name+" of a short hash", asks(t, m, recover, hash[1:], signature, le32(0)), "3")
		expectAnswer(t, c.name+" of a short signature", asks(t, m, recover, hash, signature[1:], le32(0)), "4")
	}
}

// list writes sections as contracts do.
func list(all ...[]byte) (out []byte) {
	for _, one := range all {
		out = binary.BigEndian.AppendUint32(append(out, one...), uint32(len(one)))
	}
	return out
}

func TestEd25519(t *testing.T) {
	m := newMachine(t, vm.Config{})
	var keys, signatures, messages [][]byte
	for i := range byte(3) {
		private := ed25519.NewKeyFromSeed(append(make([]byte, 31), i))
		messages = append(messages, []byte{i, i})
		keys = append(keys, private.Public().(ed25519.PublicKey))
		signatures = append(signatures, ed25519.Sign(private, messages[i]))
	}
	const one, batch = "ed25519_verify", "ed25519_batch_verify"
	expectAnswer(t, "a signature", asks(t, m, one, messages[1], signatures[1], keys[1]), "0")
	expectAnswer(t, "over another message", asks(t, m, one, messages[2], signatures[1], keys[1]), "1")
	expectAnswer(t, "by another key", asks(t, m, one, messages[1], signatures[1], keys[2]), "1")
	expectAnswer(t, "a short one", asks(t, m, one, messages[1], signatures[1][1:], keys[1]), "4")
	expectAnswer(t, "by a short key", asks(t, m, one, messages[1], signatures[1], keys[1][1:]), "5")

	expectAnswer(t, "three", asks(t, m, batch, list(messages...), list(signatures...), list(keys...)), "0")
	expectAnswer(t, "one of them changed", asks(t, m, batch, list(messages...), list(signatures[0], flipped(signatures[1]), signatures[2]), list(keys...)), "1")
	expectAnswer(t, "two by one key", asks(t, m, batch, list(messages[0], messages[0]), list(signatures[0], signatures[0]), list(keys[0])), "0")
	expectAnswer(t, "two over one message", asks(t, m, batch, list(messages[0]), list(signatures[0], signatures[0]), list(keys[0], keys[0])), "0")
	expectAnswer(t, "two over one by others", asks(t, m, batch, list(messages[0]), list(signatures[0], signatures[0]), list(keys[0], keys[1])), "1")
	expectAnswer(t, "three by two", asks(t, m, batch, list(messages...), list(signatures...), list(keys[:2]...)), "7")
	expectAnswer(t, "one that is short", asks(t, m, batch, list(messages[:1]...), list(signatures[0][1:]), list(keys[:1]...)), "4")
}
