package server

import (
	"sync"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// signer signs for the cluster what follows from the state, whenever it is shown
// or sent, and remembers what it signed lately: an acceptance is signed once
// however often a job is asked for.
type signer struct {
	key   crypto.PrivateKey
	chain chain.ChainID

	mu    sync.Mutex
	young map[crypto.Digest]crypto.Signature // by what was signed
	old   map[crypto.Digest]crypto.Signature
}

// maxSigned bounds each generation of what is remembered.
const maxSigned = 16_384

func newSigner(key crypto.PrivateKey, id chain.ChainID) *signer {
	return &signer{key: key, chain: id, young: map[crypto.Digest]crypto.Signature{}}
}

func (s *signer) sign(domain *crypto.Domain, payload []byte) crypto.Signature {
	id := domain.Hash(payload)
	s.mu.Lock()
	signature, ok := s.young[id]
	if !ok {
		signature, ok = s.old[id]
	}
	s.mu.Unlock()
	if ok {
		return signature
	}
	signature = s.key.Sign(domain, payload)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.young) >= maxSigned {
		s.old, s.young = s.young, map[crypto.Digest]crypto.Signature{}
	}
	s.young[id] = signature
	return signature
}

func (s *signer) acceptance(a *chain.Acceptance) crypto.Signature {
	return s.sign(crypto.DomainAcceptance, a.Payload())
}

// claims adds the cluster's signatures to claims; a proof needs no attestation, unless the
// output is sealed.
func (s *signer) claims(list []chain.Claim) {
	for i := range list {
		c := &list[i]
		c.AcceptanceSig = s.acceptance(&c.Acceptance)
		if _, proven := c.Order.Policy.Policy.(chain.PolicyZK); !proven || c.Order.Fair {
			c.Attestation = s.attest(&c.Receipt)
		}
	}
}

// attest says that the cluster measured what a receipt says, and holds its output.
func (s *signer) attest(r *chain.UsageReceipt) crypto.Signature {
	return s.sign(crypto.DomainAttestation, chain.AttestationPayload(s.chain, r.Digest()))
}

// run adds the cluster's signatures to a message about a replicated run.
func (s *signer) run(m chain.Msg) chain.Msg {
	if begin, ok := m.(chain.BeginRun); ok {
		begin.AcceptanceSig = s.acceptance(&begin.Acceptance)
		begin.SlateSig = s.sign(crypto.DomainSlate, chain.SlatePayload(s.chain, begin.Order.ID(), begin.Slate))
		return begin
	}
	if reveal, ok := m.(chain.RevealRun); ok {
		reveal.Attestation = s.attest(&reveal.Receipt)
		return reveal
	}
	return m
}
