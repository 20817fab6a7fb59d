package server

import (
	"context"
	"testing"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// TestSignaturesOfAServerThatStops: a signature is as good as ever where a server stops, so that nobody is told that
// an order is badly signed which is not.
func TestSignaturesOfAServerThatStops(t *testing.T) {
	key := crypto.PrivateKeyFromSeed([crypto.SeedSize]byte{1})
	good := crypto.SignedBy(key.Public(), crypto.DomainBid, []byte("a"), key.Sign(crypto.DomainBid, []byte("a")))
	bad := crypto.SignedBy(key.Public(), crypto.DomainBid, []byte("b"), key.Sign(crypto.DomainBid, []byte("a")))
	v := newVerifier()
	var said []bool
	note := func(valid bool) { said = append(said, valid) }
	v.ask(good, note)
	v.ask(bad, note)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	v.run(ctx) // it may see that it is to answer first, and then that it is over
	if len(said) != 2 || !said[0] || said[1] {
		t.Errorf("of what waited it said %v", said)
	}
	if !v.verify(good) || v.verify(bad) {
		t.Error("who asked later was answered otherwise")
	}
}
