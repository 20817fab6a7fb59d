package transport

import (
	stded25519 "crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

const maxCertificateBytes = 1024 // ours take about 300

// ErrCertificate says that a peer's certificate is not the single self-signed
// Ed25519 certificate of a sound key.
var ErrCertificate = errors.New("transport: not a self-signed Ed25519 certificate")

// IdentityError says that another node answered than the one that was dialed.
type IdentityError struct{ Want, Got crypto.PublicKey }

func (e *IdentityError) Error() string {
	return fmt.Sprintf("transport: node %s answered, want %s", e.Got, e.Want)
}

// identity is what one end presents and what it learns of the other: the key,
// and the incarnation, a number drawn when its endpoint opened, which the
// certificate carries as its serial number. Two incarnations of one key are two
// lives of one node, which is how a mesh knows that a peer has restarted.
type identity struct {
	key         crypto.PublicKey
	incarnation uint64
}

// newCertificate returns the certificate of key for this life of the node.
func newCertificate(key crypto.PrivateKey) (tls.Certificate, identity, error) {
	var serial [8]byte
	if _, err := rand.Read(serial[:]); err != nil {
		return tls.Certificate{}, identity{}, fmt.Errorf("transport: drawing an incarnation: %w", err)
	}
	id := identity{key: key.Public(), incarnation: max(1, binary.BigEndian.Uint64(serial[:]))}
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetUint64(id.incarnation),
		Subject:      pkix.Name{CommonName: "hypermesh node"},
		NotBefore:    time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC), // RFC 5280 §4.1.2.5: no expiry
	}
	private := key.Standard()
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return tls.Certificate{}, identity{}, fmt.Errorf("transport: making the node's certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, id, nil
}

// NewCertificate returns a certificate of key, as an endpoint presents one, for TLS
// inside a stream.
func NewCertificate(key crypto.PrivateKey) (tls.Certificate, error) {
	cert, _, err := newCertificate(key)
	return cert, err
}

// checkCertificates returns whose certificate a peer presented. TLS has the
// peer prove that it holds the key; this checks that there is one certificate,
// that it is Ed25519, signed by itself and valid now, and that the key is a sound
// one.
func checkCertificates(raw [][]byte, now time.Time) (identity, error) {
	if len(raw) != 1 {
		return identity{}, fmt.Errorf("%w: %d certificates, want 1", ErrCertificate, len(raw))
	}
	if len(raw[0]) > maxCertificateBytes {
		return identity{}, fmt.Errorf("%w: %d bytes, limit %d", ErrCertificate, len(raw[0]), maxCertificateBytes)
	}
	cert, err := x509.ParseCertificate(raw[0])
	if err != nil {
		return identity{}, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	public, ok := cert.PublicKey.(stded25519.PublicKey)
	if !ok || len(public) != crypto.PublicKeySize {
		return identity{}, fmt.Errorf("%w: public key algorithm %s", ErrCertificate, cert.PublicKeyAlgorithm)
	}
	if cert.SignatureAlgorithm != x509.PureEd25519 {
		return identity{}, fmt.Errorf("%w: signature algorithm %s", ErrCertificate, cert.SignatureAlgorithm)
	}
	if err := cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
		return identity{}, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
		return identity{}, fmt.Errorf("%w: valid from %v to %v", ErrCertificate, cert.NotBefore, cert.NotAfter)
	}
	id := identity{key: crypto.PublicKey(public)}
	if err := id.key.Check(); err != nil {
		return identity{}, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	if !cert.SerialNumber.IsUint64() || cert.SerialNumber.Sign() <= 0 {
		return identity{}, fmt.Errorf("%w: serial number is no 64-bit incarnation", ErrCertificate)
	}
	id.incarnation = cert.SerialNumber.Uint64()
	return id, nil
}

// tlsConfig is what both ends have in common.
func tlsConfig(cert tls.Certificate, protocols []string, check func(identity) error) *tls.Config {
	return &tls.Config{
		Certificates:           []tls.Certificate{cert},
		NextProtos:             protocols,
		MinVersion:             tls.VersionTLS13,
		CurvePreferences:       []tls.CurveID{tls.X25519MLKEM768, tls.X25519},
		ClientAuth:             tls.RequireAnyClientCert,
		SessionTicketsDisabled: true,
		InsecureSkipVerify:     true, // no authorities and no names: VerifyPeerCertificate decides
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			id, err := checkCertificates(raw, time.Now())
			if err != nil {
				return err
			}
			return check(id)
		},
	}
}

func anyIdentity(identity) error { return nil }

func pinned(want crypto.PublicKey) func(identity) error {
	return func(got identity) error {
		if got.key != want {
			return &IdentityError{Want: want, Got: got.key}
		}
		return nil
	}
}
