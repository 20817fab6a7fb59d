package vm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"math/big"

	"github.com/consensys/gnark-crypto/ecc/secp256k1"
	k1 "github.com/consensys/gnark-crypto/ecc/secp256k1/ecdsa"
	k1fp "github.com/consensys/gnark-crypto/ecc/secp256k1/fp"
	k1fr "github.com/consensys/gnark-crypto/ecc/secp256k1/fr"
	r1 "github.com/consensys/gnark-crypto/ecc/secp256r1/ecdsa"
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
)

// What the imports that verify signatures answer, as CosmWasm numbers it.
const (
	verified         = 0
	notVerified      = 1
	badHash          = 3
	badSignature     = 4
	badKey           = 5
	badRecoveryParam = 6
	badBatch         = 7
	badOther         = 10
)

const (
	hashBytes      = 32
	signatureBytes = 64
	maxKeyBytes    = 65
)

// signed reads a hash and a signature over it, and takes a price.
func (r *run) signed(args [maxArgs]int32, price uint64) (hash, signature []byte, code int64, err error) {
	if !r.charge(price) {
		return nil, nil, 0, errStopped
	}
	if hash, err = r.take(args[0], hashBytes, "a hash"); err != nil {
		return nil, nil, 0, err
	}
	if signature, err = r.take(args[1], signatureBytes, "a signature"); err != nil {
		return nil, nil, 0, err
	}
	switch {
	case len(hash) != hashBytes:
		code = badHash
	case len(signature) != signatureBytes:
		code = badSignature
	}
	return hash, signature, code, nil
}

// verify is the import that verifies a signature on a curve.
func (r *run) verify(args [maxArgs]int32, price uint64, check func(hash, signature, key []byte) int64) (int64, error) {
	hash, signature, code, err := r.signed(args, price)
	if err != nil {
		return 0, err
	}
	key, err := r.take(args[2], maxKeyBytes, "a key")
	if err != nil || code != 0 {
		return code, err
	}
	if form := sec1Form(key); form == 0 {
		return badKey, nil
	}
	return check(hash, signature, key), nil
}

// sec1Form is how a key is written: 2 and 3 for an x and the parity of y, 4 for x
// and y, 0 for nothing of these (SEC 1 §2.3.3).
func sec1Form(key []byte) byte {
	switch {
	case len(key) == 33 && (key[0] == 2 || key[0] == 3), len(key) == 65 && key[0] == 4:
		return key[0]
	default:
		return 0
	}
}

func (r *run) verifyK1(args [maxArgs]int32) (int64, error) { return r.verify(args, priceK1, checkK1) }
func (r *run) verifyR1(args [maxArgs]int32) (int64, error) { return r.verify(args, priceR1, checkR1) }

// scalars are the halves of a signature; ok says whether both are of the field.
func scalars(signature []byte, order *big.Int) (a, b *big.Int, ok bool) {
	a, b = new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	return a, b, a.Sign() > 0 && b.Sign() > 0 && a.Cmp(order) < 0 && b.Cmp(order) < 0
}

// checkK1 verifies a signature on secp256k1, whichever of the two that there are
// for a hash.
func checkK1(hash, signature, text []byte) int64 {
	key, ok := keyK1(text)
	_, s, fine := scalars(signature, k1fr.Modulus())
	if !ok || !fine {
		return badOther
	}
	if half := new(big.Int).Rsh(k1fr.Modulus(), 1); s.Cmp(half) > 0 {
		s.Sub(k1fr.Modulus(), s).FillBytes(signature[32:])
	}
	if ok, err := key.Verify(signature, hash, nil); err != nil || !ok {
		return notVerified
	}
	return verified
}

// keyK1 reads a point of secp256k1.
func keyK1(text []byte) (key k1.PublicKey, ok bool) {
	if key.A.X.SetBytesCanonical(text[1:33]) != nil {
		return key, false
	}
	if sec1Form(text) == 4 {
		if key.A.Y.SetBytesCanonical(text[33:]) != nil {
			return key, false
		}
		return key, !key.A.IsInfinity() && key.A.IsOnCurve()
	}
	_, b := secp256k1.CurveCoefficients()
	var square k1fp.Element
	square.Square(&key.A.X).Mul(&square, &key.A.X).Add(&square, &b)
	if key.A.Y.Sqrt(&square) == nil {
		return key, false
	}
	if y := key.A.Y.Bytes(); y[31]&1 != text[0]&1 {
		key.A.Y.Neg(&key.A.Y)
	}
	return key, true
}

// checkR1 verifies a signature on secp256r1.
func checkR1(hash, signature, text []byte) int64 {
	curve := elliptic.P256()
	r, s, fine := scalars(signature, curve.Params().N)
	key, err := keyR1(curve, text)
	switch {
	case !fine || err != nil:
		return badOther
	case ecdsa.Verify(key, hash, r, s):
		return verified
	default:
		return notVerified
	}
}

func keyR1(curve elliptic.Curve, text []byte) (*ecdsa.PublicKey, error) {
	if sec1Form(text) != 4 {
		x, y := elliptic.UnmarshalCompressed(curve, text)
		if x == nil {
			return nil, errStopped
		}
		whole := append([]byte{4}, make([]byte, 64)...)
		x.FillBytes(whole[1:33])
		y.FillBytes(whole[33:])
		text = whole
	}
	return ecdsa.ParseUncompressedPublicKey(curve, text)
}

// recover is the import that finds the key of a signature. It answers with the
// place of the key, uncompressed, or with a code in the upper half.
func (r *run) recover(args [maxArgs]int32, price uint64, find func(hash, signature []byte, parity uint) []byte) (int64, error) {
	hash, signature, code, err := r.signed(args, price)
	if err != nil {
		return 0, err
	}
	parity := uint32(args[2])
	if code == 0 && parity > 1 {
		code = badRecoveryParam
	}
	if code != 0 {
		return code << 32, nil
	}
	key := find(hash, signature, uint(parity))
	if key == nil {
		return badOther << 32, nil
	}
	at, err := r.give(append([]byte{4}, key...))
	return int64(uint32(at)), err
}

func (r *run) recoverK1(args [maxArgs]int32) (int64, error) {
	return r.recover(args, priceK1, func(hash, signature []byte, parity uint) []byte {
		var key k1.PublicKey
		a, b := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
		if err := key.RecoverFrom(hash, parity, a, b); err != nil || key.A.IsInfinity() {
			return nil
		}
		return key.Bytes()
	})
}

func (r *run) recoverR1(args [maxArgs]int32) (int64, error) {
	return r.recover(args, priceR1, func(hash, signature []byte, parity uint) []byte {
		var key r1.PublicKey
		a, b := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
		if err := key.RecoverFrom(hash, parity, a, b); err != nil || key.A.IsInfinity() {
			return nil
		}
		return key.Bytes()
	})
}

// zip215 are the rules by which single and batched verification agree.
var zip215 = &ed25519.Options{Verify: ed25519.VerifyOptionsZIP_215}

// checkEd25519 verifies one signature.
func checkEd25519(message, signature, key []byte) int64 {
	switch {
	case len(signature) != signatureBytes:
		return badSignature
	case len(key) != ed25519.PublicKeySize:
		return badKey
	case ed25519.VerifyWithOptions(key, message, signature, zip215):
		return verified
	default:
		return notVerified
	}
}

// priceMessage is what a signature over a message costs.
func priceMessage(message []byte) uint64 {
	return priceEd25519 + uint64(len(message)+63)/64*priceHashBlock
}

func (r *run) ed25519(args [maxArgs]int32) (int64, error) {
	message, err := r.take(args[0], maxMessage, "a message")
	if err != nil {
		return 0, err
	}
	signature, err := r.take(args[1], signatureBytes, "a signature")
	if err != nil {
		return 0, err
	}
	key, err := r.take(args[2], ed25519.PublicKeySize, "a key")
	if err != nil || !r.charge(priceMessage(message)) {
		return 0, errStopped
	}
	return checkEd25519(message, signature, key), nil
}

// ed25519Batch verifies as many signatures as there are: each over a message of
// its own by a key of its own, all over one message, or all by one key.
func (r *run) ed25519Batch(args [maxArgs]int32) (int64, error) {
	var all [3][][]byte
	for i, most := range []uint32{maxMessage, signatureBytes, ed25519.PublicKeySize} {
		text, err := r.take(args[i], (most+4)*maxBatch, "a batch")
		if err != nil {
			return 0, err
		}
		var ok bool
		if all[i], ok = unsection(text, maxBatch); !ok {
			return 0, r.misused("a batch is no list of sections")
		}
	}
	messages, signatures, keys := all[0], all[1], all[2]
	count := len(signatures)
	oneMessage, oneKey := len(messages) == 1 && len(keys) == count, len(keys) == 1 && len(messages) == count
	if !oneMessage && !oneKey && (len(messages) != count || len(keys) != count) {
		return badBatch, nil
	}
	for i, signature := range signatures {
		message, key := messages[min(i, len(messages)-1)], keys[min(i, len(keys)-1)]
		if !r.charge(priceMessage(message)) {
			return 0, errStopped
		}
		if code := checkEd25519(message, signature, key); code != verified {
			return code, nil
		}
	}
	return verified, nil
}
