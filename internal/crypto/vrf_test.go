package crypto_test

import (
	"errors"
	"testing"

	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519/extra/ecvrf"
	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// TestVRFVectors holds the library to RFC 9381, Appendix B.4, examples 19 to
// 21 (ECVRF-EDWARDS25519-SHA512-ELL2), and VRFOutput with it.
func TestVRFVectors(t *testing.T) {
	for _, v := range []struct{ seed, alpha, proof, beta string }{
		{
			"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "",
			"7d9c633ffeee27349264cf5c667579fc583b4bda63ab71d001f89c10003ab46f14adf9a3cd8b8412d9038531e865c341cafa73589b023d14311c331a9ad15ff2fb37831e00f0acaa6d73bc9997b06501",
			"9d574bf9b8302ec0fc1e21c3ec5368269527b87b462ce36dab2d14ccf80c53cccf6758f058c5b1c856b116388152bbe509ee3b9ecfe63d93c3b4346c1fbc6c54",
		},
		{
			"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", "72",
			"47b327393ff2dd81336f8a2ef10339112401253b3c714eeda879f12c509072ef055b48372bb82efbdce8e10c8cb9a2f9d60e93908f93df1623ad78a86a028d6bc064dbfc75a6a57379ef855dc6733801",
			"38561d6b77b71d30eb97a062168ae12b667ce5c28caccdf76bc88e093e4635987cd96814ce55b4689b3dd2947f80e59aac7b7675f8083865b46c89b2ce9cc735",
		},
		{
			"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7", "af82",
			"926e895d308f5e328e7aa159c06eddbe56d06846abf5d98c2512235eaa57fdce35b46edfc655bc828d44ad09d1150f31374e7ef73027e14760d42e77341fe05467bb286cc2c9d7fde29120a0b2320d04",
			"121b7f9b9aaaa29099fc04a94ba52784d44eac976dd1a3cca458733be5cd090a7b5fbd148444f17f8daf1fb55cb04b1ae85a626e30a54b4b0f8abf4a43314a58",
		},
	} {
		key := ed25519.NewKeyFromSeed(unhex(t, v.seed))
		if got := ecvrf.Prove(key, unhex(t, v.alpha)); string(got) != string(unhex(t, v.proof)) {
			t.Errorf("alpha %q: proof %x, want %s", v.alpha, got, v.proof)
		}
		output, err := crypto.VRFOutput(unhex(t, v.proof))
		if err != nil || output.String() != v.beta[:64] {
			t.Errorf("alpha %q: output %s, %v; want %s", v.alpha, output, err, v.beta[:64])
		}
	}
}

func TestVRF(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := keyOf(rapid.IntRange(0, 9).Draw(t, "key"))
		input := rapid.SliceOf(rapid.Byte()).Draw(t, "input")
		proof := key.VRFProve(crypto.DomainHeader, input)
		own, err := crypto.VRFOutput(proof)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := key.Public().VRFVerify(crypto.DomainHeader, input, proof); err != nil || got != own {
			t.Fatalf("VRFVerify = %s, %v; want %s", got, err, own)
		}
		if _, err := key.Public().VRFVerify(crypto.DomainOrder, input, proof); !errors.Is(err, crypto.ErrVRF) {
			t.Fatalf("under another domain: %v", err)
		}
		if _, err := key.Public().VRFVerify(crypto.DomainHeader, append(input, 0), proof); !errors.Is(err, crypto.ErrVRF) {
			t.Fatalf("for another input: %v", err)
		}
		if _, err := keyOf(10).Public().VRFVerify(crypto.DomainHeader, input, proof); !errors.Is(err, crypto.ErrVRF) {
			t.Fatalf("for another key: %v", err)
		}
		proof[rapid.IntRange(0, len(proof)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if got, err := key.Public().VRFVerify(crypto.DomainHeader, input, proof); !errors.Is(err, crypto.ErrVRF) {
			t.Fatalf("corrupted proof gives %s, %v", got, err)
		}
	})
}

func TestVRFRefusesMalformedProofs(t *testing.T) {
	key := keyOf(1).Public()
	for _, n := range []int{0, 1, crypto.VRFProofSize - 1, crypto.VRFProofSize, crypto.VRFProofSize + 1} {
		bad := make([]byte, n)
		for i := range bad {
			bad[i] = 0xff
		}
		if _, err := key.VRFVerify(crypto.DomainHeader, nil, bad); !errors.Is(err, crypto.ErrVRF) {
			t.Errorf("proof of %d bytes: %v", n, err)
		}
		if _, err := crypto.VRFOutput(bad); !errors.Is(err, crypto.ErrVRF) {
			t.Errorf("output of a proof of %d bytes: %v", n, err)
		}
	}
	if _, err := (crypto.PublicKey{1}).VRFVerify(crypto.DomainHeader, nil, make([]byte, crypto.VRFProofSize)); !errors.Is(err, crypto.ErrVRF) {
		t.Errorf("small-order key: %v", err)
	}
}
