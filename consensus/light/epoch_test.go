package light_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// history is a chain of closing blocks: the committee of epoch e has keys of its
// own, but for the first two epochs, which are genesis'.
type history struct {
	testing.TB
	genesis *chain.Genesis
	parent  crypto.Digest
}

const epochMs = 1_000_000

func newHistory(t testing.TB) *history { return &history{TB: t, genesis: genesis(t)} }

// keysOf returns the keys of an epoch's members by their index.
func keysOf(epoch consensus.Epoch) []crypto.PrivateKey {
	var keys []crypto.PrivateKey
	for n := range 4 {
		if epoch > 2 {
			n += 10 * int(epoch)
		}
		keys = append(keys, key(n))
	}
	slices.SortFunc(keys, func(a, b crypto.PrivateKey) int { return a.Public().Compare(b.Public()) })
	return keys
}

// members have one weight each.
func (c *history) members(epoch consensus.Epoch) []consensus.Validator {
	weight := c.genesis.Validators[0].Stake.Nano() / chain.NanoPerHyper
	var out []consensus.Validator
	for _, k := range keysOf(epoch) {
		out = append(out, consensus.Validator{Key: k.Public(), Weight: weight, LeaderWeight: weight})
	}
	return out
}

func (c *history) committee(epoch consensus.Epoch) *consensus.Committee {
	c.Helper()
	committee, err := consensus.NewCommittee(epoch, c.members(epoch))
	if err != nil {
		c.Fatal(err)
	}
	return committee
}

// header is that of an epoch's closing block.
func (c *history) header(epoch consensus.Epoch) chain.Header {
	return chain.Header{
		Version: chain.BlockVersion, ChainID: c.genesis.ChainID, Height: chain.Height(10 * epoch), Epoch: uint64(epoch), View: 7, Parent: c.parent,
		TimeMs: chain.TimeMs(epochMs * epoch), Committee: c.committee(epoch).Digest(), NextCommittee: c.committee(epoch + 1).Digest(), Closing: true,
	}
}

// certify finalizes a header in a view.
func (c *history) certify(h chain.Header, view consensus.View, signers ...int) *consensus.Certificate {
	epoch := consensus.Epoch(h.Epoch)
	s := consensus.Statement{Kind: consensus.KindFinalize, Proposal: consensus.Proposal{Round: consensus.Round{Epoch: epoch, View: view}, Parent: view - 1, Digest: h.Digest()}}
	keys := keysOf(epoch)
	var votes []consensus.Vote
	for _, i := range signers {
		votes = append(votes, consensus.SignVote(keys[i], consensus.Signer(i), string(h.ChainID), s))
	}
	return consensus.Assemble(c.committee(epoch), s, votes)
}

func (c *history) show(h chain.Header, certificate *consensus.Certificate) light.Transition {
	return light.Transition{
		Header: h.Encode(), Certificate: consensus.EncodeCertificate(certificate), Members: c.members(consensus.Epoch(h.Epoch) + 1),
	}
}

// transition is the honest one.
func (c *history) transition(epoch consensus.Epoch) light.Transition {
	h := c.header(epoch)
	return c.show(h, c.certify(h, 7, 0, 1, 2))
}

func (c *history) verifier() *light.Verifier {
	c.Helper()
	v, err := light.New(c.genesis)
	if err != nil {
		c.Fatal(err)
	}
	return v
}

// followed returns a verifier that knows the committees up to an epoch.
func (c *history) followed(newest consensus.Epoch) *light.Verifier {
	c.Helper()
	v := c.verifier()
	for epoch := light.FirstEpoch; epoch < newest; epoch++ {
		next, closing, err := v.Step(c.transition(epoch), 0)
		if err != nil {
			c.Fatalf("epoch %d: %v", epoch, err)
		}
		if closing.Height() != chain.Height(10*epoch) {
			c.Fatalf("epoch %d closes at height %d", epoch, closing.Height())
		}
		v = next
	}
	return v
}

func TestEpochsAreFollowedFromGenesis(t *testing.T) {
	c := newHistory(t)
	v := c.verifier()
	if v.Oldest() != 1 || v.Newest() != 2 {
		t.Fatalf("genesis gives epochs %d to %d", v.Oldest(), v.Newest())
	}
	same, closing, err := v.Step(c.transition(1), 0)
	if err != nil || same != v || closing.Height() != 10 {
		t.Fatalf("a transition within what is known: %v", err)
	}
	v = c.followed(6)
	for epoch := consensus.Epoch(1); epoch <= 6; epoch++ {
		committee, ok := v.Committee(epoch)
		if !ok || committee.Digest() != c.committee(epoch).Digest() {
			t.Errorf("epoch %d has another committee", epoch)
		}
	}
	for _, epoch := range []consensus.Epoch{0, 7} {
		if _, ok := v.Committee(epoch); ok {
			t.Errorf("epoch %d is known", epoch)
		}
	}
	ordinary := c.header(6)
	ordinary.Closing, ordinary.Height = false, 55
	if _, err := v.VerifyHeader(light.Evidence{Header: ordinary.Encode(), Certificate: consensus.EncodeCertificate(c.certify(ordinary, 7, 1, 2, 3))}); err != nil {
		t.Errorf("a header of the newest epoch: %v", err)
	}
	if _, _, err := v.Step(c.transition(7), 0); !errors.Is(err, light.ErrAhead) || !errors.Is(err, light.ErrRefused) {
		t.Errorf("an epoch left out: %v, want ErrAhead", err)
	}
}

// The closing block is proposed again in later views; a finalization of any of
// these proposals finalizes it.
func TestClosingBlockIsFinalizedByALaterView(t *testing.T) {
	c := newHistory(t)
	h := c.header(2)
	v, closing, err := c.verifier().Step(c.show(h, c.certify(h, 12, 0, 2, 3)), 0)
	if err != nil || closing.Digest() != h.Digest() || v.Newest() != 3 {
		t.Fatal(err)
	}
}

func TestOldCommitteesAreForgotten(t *testing.T) {
	c := newHistory(t)
	v := c.followed(light.KeptEpochs + 5)
	if v.Oldest() != 6 || v.Newest() != light.KeptEpochs+5 {
		t.Errorf("epochs %d to %d are known", v.Oldest(), v.Newest())
	}
	old := c.transition(5)
	if _, err := v.VerifyHeader(light.Evidence{Header: old.Header, Certificate: old.Certificate}); err == nil || !strings.Contains(err.Error(), "the first known committee is of epoch 6") {
		t.Error(err)
	}
}

// mustRefuse says by what name a transition of epoch 2 is refused.
func (c *history) mustRefuse(t light.Transition, want string) {
	c.Helper()
	v, closing, err := c.verifier().Step(t, 0)
	if !errors.Is(err, light.ErrRefused) || !strings.Contains(err.Error(), want) {
		c.Errorf("%v, want a refusal with %q", err, want)
	}
	if v != nil || closing != (light.Header{}) {
		c.Error("a refusal comes with a verifier or a header")
	}
}

func TestForgedCertificateIsRefused(t *testing.T) {
	c := newHistory(t)
	h := c.header(2)
	forged := c.certify(h, 7, 0, 1, 2)
	forged.Signatures[1][5] ^= 1
	c.mustRefuse(c.show(h, forged), "signature 1 of")
	// Strangers who sign in the members' places.
	s := forged.Statement
	var votes []consensus.Vote
	for i := range 3 {
		votes = append(votes, consensus.SignVote(key(90+i), consensus.Signer(i), string(h.ChainID), s))
	}
	c.mustRefuse(c.show(h, consensus.Assemble(c.committee(2), s, votes)), "signature 0 of")
	// A finalization of another block.
	other := h
	other.TimeMs++
	c.mustRefuse(c.show(h, c.certify(other, 7, 0, 1, 2)), "the certificate finalizes")
}

func TestWrongCommitteeIsRefused(t *testing.T) {
	c := newHistory(t)
	h := c.header(2)
	h.Committee = c.committee(3).Digest()
	c.mustRefuse(c.show(h, c.certify(h, 7, 0, 1, 2)), "header names committee")
	first := c.header(1) // genesis says who is in epoch 2
	first.NextCommittee = c.committee(3).Digest()
	c.mustRefuse(c.show(first, c.certify(first, 7, 0, 1, 2)), "header names next committee")
}

func TestWrongEpochIsRefused(t *testing.T) {
	c := newHistory(t)
	h := c.header(2)
	certificate := c.certify(h, 7, 0, 1, 2)
	certificate.Statement.Proposal.Round.Epoch = 1
	c.mustRefuse(c.show(h, certificate), "certificate of epoch 1, committee of epoch 2")
	// The same members in another epoch are another committee.
	h.Epoch = 1
	c.mustRefuse(c.show(h, c.certify(h, 7, 0, 1, 2)), "header names committee")
}

func TestShortWeightIsRefused(t *testing.T) {
	c := newHistory(t)
	h := c.header(2)
	c.mustRefuse(c.show(h, c.certify(h, 7, 0, 3)), "weight 50000000, quorum 66666667")
}

// A signer can be there once only, because the bitmap has one bit for it: a
// second signature of one validator has no place, and none for another's bit.
func TestDuplicateSignerIsRefused(t *testing.T) {
	c := newHistory(t)
	h := c.header(2)
	twice := c.certify(h, 7, 0, 1)
	twice.Signers[0] |= 1 << 2
	twice.Signatures = append(twice.Signatures, twice.Signatures[1])
	c.mustRefuse(c.show(h, twice), "signature 2 of")
	surplus := c.certify(h, 7, 0, 1)
	surplus.Signatures = append(surplus.Signatures, surplus.Signatures[1])
	c.mustRefuse(c.show(h, surplus), "bytes of signatures for 2 signers")
	// One validator listed twice as the next committee.
	honest := c.transition(2)
	honest.Members[1] = honest.Members[0]
	c.mustRefuse(honest, "is there twice")
}

func TestBitmapOutOfRangeIsRefused(t *testing.T) {
	c := newHistory(t)
	h := c.header(2)
	for name, change := range map[string]func(*consensus.Certificate){
		"signer 6 of a committee of 4": func(x *consensus.Certificate) {
			x.Signers[0] |= 1 << 6
			x.Signatures = append(x.Signatures, x.Signatures[0])
		},
		"bitmap of 2 bytes": func(x *consensus.Certificate) { x.Signers = append(x.Signers, 0) },
		"signer bitmap of 33 bytes, limit 32": func(x *consensus.Certificate) {
			x.Signers = append(x.Signers, make([]byte, 32)...)
		},
	} {
		certificate := c.certify(h, 7, 0, 1, 2)
		change(certificate)
		c.mustRefuse(c.show(h, certificate), name)
	}
}

func TestTruncatedBitmapIsRefused(t *testing.T) {
	c := newHistory(t)
	h := c.header(2)
	certificate := c.certify(h, 7, 0, 1, 2)
	certificate.Signers, certificate.Signatures = nil, nil
	c.mustRefuse(c.show(h, certificate), "0 bytes of signatures for 0 signers")
}

func TestHeaderThatClosesNothingIsRefused(t *testing.T) {
	c := newHistory(t)
	h := c.header(2)
	h.Closing = false
	c.mustRefuse(c.show(h, c.certify(h, 7, 0, 1, 2)), "closes no epoch")
}

func TestMembersThatAreNotTheNextCommitteeAreRefused(t *testing.T) {
	c := newHistory(t)
	for name, change := range map[string]func(*light.Transition){
		"members listed make committee":     func(x *light.Transition) { x.Members[2].Weight++ },
		"make committee":                    func(x *light.Transition) { x.Members[0].LeaderWeight = 0 },
		"the members listed":                func(x *light.Transition) { slices.Reverse(x.Members) },
		"the members listed make":           func(x *light.Transition) { x.Members = x.Members[:3] },
		"committee of 0 validators, want 1": func(x *light.Transition) { x.Members = nil },
	} {
		transition := c.transition(2)
		change(&transition)
		c.mustRefuse(transition, name)
	}
}

func TestPathThroughAnotherEpochIsRefused(t *testing.T) {
	c := newHistory(t)
	v := c.followed(3)
	last := c.header(2)
	c.parent = last.Digest()
	child := c.header(3)
	child.Height = last.Height + 1
	certificate := consensus.EncodeCertificate(c.certify(child, 7, 0, 1, 2))
	_, err := v.VerifyHeader(light.Evidence{Header: last.Encode(), Path: [][]byte{child.Encode()}, Certificate: certificate})
	if !errors.Is(err, light.ErrRefused) || !strings.Contains(err.Error(), "no path leads through another epoch") {
		t.Error(err)
	}
	child = c.header(2)
	child.Height = last.Height + 1
	certificate = consensus.EncodeCertificate(c.certify(child, 7, 0, 1, 2))
	_, err = v.VerifyHeader(light.Evidence{Header: last.Encode(), Path: [][]byte{child.Encode()}, Certificate: certificate})
	if !errors.Is(err, light.ErrRefused) || !strings.Contains(err.Error(), "which closes epoch 2") {
		t.Error(err)
	}
}

func (c *history) checkpoint(epoch consensus.Epoch) light.Checkpoint {
	c.Helper()
	_, closing, err := c.followed(epoch).Step(c.transition(epoch), 0)
	if err != nil {
		c.Fatal(err)
	}
	checkpoint, err := closing.Checkpoint()
	if err != nil {
		c.Fatal(err)
	}
	return checkpoint
}

func TestEpochsAreFollowedFromACheckpoint(t *testing.T) {
	c := newHistory(t)
	checkpoint := c.checkpoint(4)
	shown := c.transition(4)
	shown.Certificate = nil
	v, closing, err := light.At(c.genesis, checkpoint, shown, 5*epochMs)
	if err != nil {
		t.Fatal(err)
	}
	if v.Oldest() != 5 || v.Newest() != 5 || closing.Height() != 40 || v.Genesis() != c.genesis.Digest() || v.ChainID() != c.genesis.ChainID {
		t.Fatalf("epochs %d to %d, closing block at %d", v.Oldest(), v.Newest(), closing.Height())
	}
	if v, _, err = v.Step(c.transition(5), 0); err != nil || v.Newest() != 6 {
		t.Error(err)
	}
	old := c.transition(4)
	if _, _, err := v.Step(old, 0); err == nil || !strings.Contains(err.Error(), "header of epoch 4, the first known") {
		t.Error(err)
	}
}

func TestStaleCheckpointIsRefusedWithTheReason(t *testing.T) {
	c := newHistory(t)
	checkpoint := c.checkpoint(4)
	limit := checkpoint.TimeMs + chain.TimeMs(c.genesis.Params.UnbondDelayMs)
	if _, _, err := light.At(c.genesis, checkpoint, c.transition(4), limit); err != nil {
		t.Errorf("at its last moment: %v", err)
	}
	_, _, err := light.At(c.genesis, checkpoint, c.transition(4), limit+1)
	if !errors.Is(err, light.ErrStale) || !errors.Is(err, light.ErrRefused) || !strings.Contains(err.Error(), "stake unbonds in 504h0m0s") {
		t.Errorf("a moment later: %v", err)
	}
}

// A verifier that began at a checkpoint and then idled knows only committees whose
// stake may be gone. Genesis is trusted for ever.
func TestTrustThatIdledTooLongIsRefused(t *testing.T) {
	c := newHistory(t)
	period := chain.TimeMs(c.genesis.Params.UnbondingMs())
	v, _, err := light.At(c.genesis, c.checkpoint(4), c.transition(4), 5*epochMs)
	if err != nil {
		t.Fatal(err)
	}
	if v, _, err = v.Step(c.transition(5), 4*epochMs+period); err != nil {
		t.Fatalf("at the last moment of the checkpoint: %v", err)
	}
	if err := v.Check(5*epochMs + period); err != nil {
		t.Errorf("at the last moment of what was followed: %v", err)
	}
	late := 5*epochMs + period + 1
	if err := v.Check(late); !errors.Is(err, light.ErrExpired) || !errors.Is(err, light.ErrRefused) || !strings.Contains(err.Error(), "epoch 6, was named 504h0m0s ago") {
		t.Errorf("a moment later: %v", err)
	}
	if next, _, err := v.Step(c.transition(6), late); !errors.Is(err, light.ErrExpired) || next != nil {
		t.Errorf("a step of what has expired: %v", err)
	}
	if _, _, err := c.verifier().Step(c.transition(2), 100*period); err != nil {
		t.Errorf("from genesis: %v", err)
	}
}

func TestWrongCheckpointsAreRefusedByName(t *testing.T) {
	c := newHistory(t)
	for want, change := range map[string]func(*light.Checkpoint){
		"the checkpoint is of chain \"other\"": func(x *light.Checkpoint) { x.ChainID = "other" },
		"the checkpoint names":                 func(x *light.Checkpoint) { x.Digest[3]++ },
		"contradicts itself":                   func(x *light.Checkpoint) { x.NextCommittee[0]++ },
		"checkpoint contradicts itself":        func(x *light.Checkpoint) { x.TimeMs++ },
		"the checkpoint contradicts itself":    func(x *light.Checkpoint) { x.Height++ },
		"the checkpoint contradicts":           func(x *light.Checkpoint) { x.Epoch++ },
	} {
		checkpoint := c.checkpoint(3)
		change(&checkpoint)
		if _, _, err := light.At(c.genesis, checkpoint, c.transition(3), 4*epochMs); !errors.Is(err, light.ErrRefused) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	members := c.transition(3)
	members.Members = c.members(3)
	if _, _, err := light.At(c.genesis, c.checkpoint(3), members, 4*epochMs); err == nil || !strings.Contains(err.Error(), "the members listed") {
		t.Error(err)
	}
	other := c.transition(4)
	if _, _, err := light.At(c.genesis, c.checkpoint(3), other, 4*epochMs); err == nil || !strings.Contains(err.Error(), "the block that closes epoch 4 is") {
		t.Error(err)
	}
	if _, err := (light.Header{}).Checkpoint(); !errors.Is(err, light.ErrUnverified) {
		t.Error(err)
	}
}

func TestCheckpointHasOneTextForm(t *testing.T) {
	c := newHistory(t)
	checkpoint := c.checkpoint(3)
	text := checkpoint.String()
	if !strings.HasPrefix(text, "light-test:3:30:3000000:") {
		t.Error(text)
	}
	again, err := light.ParseCheckpoint(text)
	if err != nil || again != checkpoint {
		t.Fatalf("%v: %v", again, err)
	}
	zero := strings.Repeat("0", 64)
	for name, bad := range map[string]string{
		"0 bytes":       "",
		"5 parts":       strings.Join(strings.Split(text, ":")[:5], ":"),
		"epoch":         strings.Replace(text, ":3:", ":-3:", 1),
		"height":        strings.Replace(text, ":30:", ":0:", 1),
		"leading zeros": strings.Replace(text, ":30:", ":030:", 1),
		"time":          strings.Replace(text, ":3000000:", ":99999999999999999999:", 1),
		"digest":        "light-test:3:30:3:xyz:" + zero,
		"next":          "light-test:3:30:3:" + zero + ":",
		"lower-case":    "light-test:3:30:3:" + strings.Repeat("A", 64) + ":" + zero,
		"chain id":      "L:3:30:3:" + zero + ":" + zero,
		"limit":         text + strings.Repeat("0", 100),
	} {
		if _, err := light.ParseCheckpoint(bad); err == nil {
			t.Errorf("%s: %q is taken", name, bad)
		}
	}
}

func TestTransitionEncoding(t *testing.T) {
	c := newHistory(t)
	honest := c.transition(2)
	again, err := light.DecodeTransition(honest.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if epoch, err := again.Epoch(); err != nil || epoch != 2 {
		t.Errorf("epoch %d, %v", epoch, err)
	}
	if _, _, err := c.verifier().Step(again, 0); err != nil {
		t.Error(err)
	}
	crowd := honest
	crowd.Members = make([]consensus.Validator, consensus.MaxValidators+1)
	for name, raw := range map[string][]byte{
		"257 members": crowd.Encode(),
		"too large":   make([]byte, light.MaxTransitionBytes+1),
		"transition":  {1},
	} {
		if _, err := light.DecodeTransition(raw); !errors.Is(err, light.ErrRefused) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (&light.Transition{}).Epoch(); !errors.Is(err, light.ErrRefused) {
		t.Error(err)
	}
}

func FuzzTransition(f *testing.F) {
	c := newHistory(f)
	v := c.verifier()
	honest := c.transition(2)
	f.Add(honest.Encode())
	later := c.transition(1)
	f.Add(later.Encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		transition, err := light.DecodeTransition(raw)
		if err != nil {
			return
		}
		if again := transition.Encode(); string(again) != string(raw) {
			t.Fatalf("%x decodes, but encodes as %x", raw, again)
		}
		_, closing, err := v.Step(transition, 0)
		if err == nil && closing.Height() != 10 && closing.Height() != 20 {
			t.Fatal("somebody forged the end of an epoch")
		}
	})
}

func FuzzParseCheckpoint(f *testing.F) {
	c := newHistory(f)
	f.Add(c.checkpoint(3).String())
	f.Add("a-b:1:2:3:::")
	f.Fuzz(func(t *testing.T, text string) {
		checkpoint, err := light.ParseCheckpoint(text)
		if err == nil && checkpoint.String() != text {
			t.Fatalf("%q is read as %q", text, checkpoint)
		}
	})
}

func TestCertificateOfATrustedHeader(t *testing.T) {
	c := newHistory(t)
	h := c.header(3)
	good := c.certify(h, 9, 0, 1, 2)
	checkpoint := light.Checkpoint{ChainID: h.ChainID, Epoch: 3, Height: h.Height, TimeMs: h.TimeMs, Digest: h.Digest(), NextCommittee: h.NextCommittee}
	_, trusted, err := light.At(c.genesis, checkpoint, c.show(h, good), h.TimeMs)
	if err != nil {
		t.Fatal(err)
	}
	if err := trusted.VerifyCertificate(c.committee(3), consensus.EncodeCertificate(good)); err != nil {
		t.Error(err)
	}
	other := h
	other.View--
	for name, err := range map[string]error{
		"the next committee": trusted.VerifyCertificate(c.committee(4), consensus.EncodeCertificate(good)),
		"short weight":       trusted.VerifyCertificate(c.committee(3), consensus.EncodeCertificate(c.certify(h, 9, 0, 1))),
		"another block":      trusted.VerifyCertificate(c.committee(3), consensus.EncodeCertificate(c.certify(other, 9, 0, 1, 2))),
		"an earlier view":    trusted.VerifyCertificate(c.committee(3), consensus.EncodeCertificate(c.certify(h, 6, 0, 1, 2))),
		"rubbish":            trusted.VerifyCertificate(c.committee(3), []byte("rubbish")),
		"a zero header":      light.Header{}.VerifyCertificate(c.committee(3), consensus.EncodeCertificate(good)),
	} {
		if !errors.Is(err, light.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
