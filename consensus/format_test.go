package consensus_test

import (
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/golden"
)

func sampleStatements() []consensus.Statement {
	p := consensus.Proposal{
		Round: consensus.Round{Epoch: 1, View: 300}, Parent: 298, Digest: crypto.DomainHeader.Hash([]byte("block")),
	}
	return []consensus.Statement{
		{Kind: consensus.KindNotarize, Proposal: p},
		{Kind: consensus.KindNullify, Proposal: consensus.Proposal{Round: p.Round}},
		{Kind: consensus.KindFinalize, Proposal: p},
	}
}

func sampleCertificate(t testing.TB, committee *consensus.Committee, st consensus.Statement, signers ...int) *consensus.Certificate {
	t.Helper()
	var votes []consensus.Vote
	for _, i := range signers {
		votes = append(votes, consensus.SignVote(testKey(i), consensus.Signer(i), testID, st))
	}
	return consensus.Assemble(committee, st, votes)
}

func sampleMessages(t testing.TB) map[string]consensus.Message {
	committee := testCommittee(t, 1, 1, 1, 1)
	sts := sampleStatements()
	cert := sampleCertificate(t, committee, sts[2], 0, 1, 3)
	notarize := consensus.SignVote(testKey(2), 2, testID, sts[0]).(consensus.Notarize)
	return map[string]consensus.Message{
		"vote":                notarize,
		"certificate":         cert,
		"offer":               consensus.Offer{Vote: notarize, Payload: []byte("block")},
		"certificate request": consensus.CertificateRequest{Kind: consensus.KindNullify, Round: consensus.Round{Epoch: 1, View: 7}},
		"block request":       consensus.BlockRequest{Digest: sts[0].Proposal.Digest},
		"ancestry request":    consensus.AncestryRequest{From: 7},
		"block answer":        consensus.BlockAnswer{Payload: []byte("block")},
		"delegation":          consensus.SignDelegation(testKey(2), testID, 1, 2, testKey(9).Public()),
		"ancestry": consensus.Ancestry{From: 7, Blocks: []consensus.ProvenBlock{
			{Payload: []byte("block")}, {Payload: []byte("child"), Certificate: consensus.EncodeCertificate(cert)},
		}},
	}
}

func TestEncodingsAreFrozen(t *testing.T) {
	committee := testCommittee(t, 5, 3, 1, 1)
	lines := []string{"committee digest " + committee.Digest().String()}
	for _, st := range sampleStatements() {
		vote := consensus.SignVote(testKey(3), 3, testID, st)
		cert := sampleCertificate(t, committee, st, 0, 1, 3)
		lines = append(lines,
			fmt.Sprintf("%s payload %x", st.Kind, st.Payload(testID)),
			fmt.Sprintf("%s vote %x", st.Kind, consensus.EncodeVote(vote)),
			fmt.Sprintf("%s certificate %x", st.Kind, consensus.EncodeCertificate(cert)))
	}
	messages := sampleMessages(t)
	for _, name := range []string{"offer", "certificate request", "block request", "ancestry request", "block answer", "ancestry", "delegation"} {
		lines = append(lines, fmt.Sprintf("message %s %x", name, consensus.EncodeMessage(messages[name])))
	}
	sts := evidenceStatements()
	lines = append(lines,
		fmt.Sprintf("evidence votes %x", consensus.EncodeEvidence(votePair(3, sts["N"], sts["N other"]))),
		fmt.Sprintf("evidence certificates %x", consensus.EncodeEvidence(certificatePair(t, testCommittee(t, 1, 1, 1, 1), sts["F"], sts["X"]))))
	golden.Check(t, "testdata/formats.hex", strings.Join(lines, "\n")+"\n")
}

func TestMessagesReturnFromTheWire(t *testing.T) {
	for name, m := range sampleMessages(t) {
		data := consensus.EncodeMessage(m)
		back, err := consensus.DecodeMessage(m.Channel(), data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if again := consensus.EncodeMessage(back); string(again) != string(data) {
			t.Errorf("%s: %x came back as %x", name, data, again)
		}
		for _, ch := range []consensus.Channel{consensus.ChannelVotes, consensus.ChannelCertificates, consensus.ChannelProposals, consensus.ChannelFetch, 9} {
			if _, err := consensus.DecodeMessage(ch, data); (err == nil) != (ch == m.Channel()) {
				t.Errorf("%s on channel %d: %v", name, ch, err)
			}
		}
		for cut := range min(len(data), 120) {
			if _, err := consensus.DecodeMessage(m.Channel(), data[:cut]); err == nil {
				t.Errorf("%s: decodes from its first %d bytes", name, cut)
			}
		}
	}
}

func TestCertificateVerifyNamesWhatIsWrong(t *testing.T) {
	committee := testCommittee(t, 1, 1, 1, 1)
	st := sampleStatements()[0]
	for want, spoil := range map[string]func(*consensus.Certificate){
		"epoch":         func(c *consensus.Certificate) { c.Statement.Proposal.Round.Epoch = 2 },
		"bitmap":        func(c *consensus.Certificate) { c.Signers = append(c.Signers, 0) },
		"signer 4":      func(c *consensus.Certificate) { c.Signers[0] |= 16 },
		"2 signatures":  func(c *consensus.Certificate) { c.Signatures = c.Signatures[:2] },
		"4 signatures":  func(c *consensus.Certificate) { c.Signatures = append(c.Signatures, crypto.Signature{}) },
		"quorum 3":      func(c *consensus.Certificate) { c.Signers[0] = 3; c.Signatures = c.Signatures[:2] },
		"does not hold": func(c *consensus.Certificate) { c.Statement.Proposal.Parent-- },
		"signature 2":   func(c *consensus.Certificate) { c.Signatures[2][5]++ },
		"unknown":       func(c *consensus.Certificate) { c.Statement.Kind = 9 },
	} {
		cert := sampleCertificate(t, committee, st, 0, 1, 3)
		if err := cert.Verify(committee, testID); err != nil {
			t.Fatal(err)
		}
		spoil(cert)
		if err := cert.Verify(committee, testID); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
	cert := sampleCertificate(t, committee, st, 0, 1, 3)
	if cert.Verify(committee, "another-chain") == nil {
		t.Error("a certificate holds on another chain")
	}
}

func TestDecodersRefuseByName(t *testing.T) {
	st := sampleStatements()[0]
	vote := func(kind, signer uint64, subject any) []byte {
		return codec.Marshal([]any{kind, subject, signer, make([]byte, 64)})
	}
	proposal := func(view, parent uint64) any {
		return []any{[]any{uint64(1), view}, parent, st.Proposal.Digest[:]}
	}
	for want, data := range map[string][]byte{
		"kind 4":        vote(4, 0, proposal(3, 2)),
		"signer 256":    vote(1, 256, proposal(3, 2)),
		"parent view 3": vote(1, 0, proposal(3, 3)),
		"view 0":        vote(2, 0, []any{uint64(1), uint64(0)}),
		"too large":     make([]byte, 1000),
	} {
		if _, err := consensus.DecodeVote(data); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("vote %x: want %q, got %v", data, want, err)
		}
	}
	long := make([]byte, 64*2)
	for want, data := range map[string][]byte{
		"bitmap of 33 bytes":             codec.Marshal([]any{1, proposal(3, 2), make([]byte, 33), long}),
		"128 bytes of signatures for 3":  codec.Marshal([]any{1, proposal(3, 2), []byte{7}, long}),
		"0 bytes of signatures for 0":    codec.Marshal([]any{1, proposal(3, 2), []byte{0}, []byte{}}),
		"subject: parent view 9 is not ": codec.Marshal([]any{1, proposal(3, 9), []byte{3}, long}),
	} {
		if _, err := consensus.DecodeCertificate(data); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("certificate %x: want %q, got %v", data, want, err)
		}
	}
}

func TestCommitteeRefusesByName(t *testing.T) {
	ok := func() []consensus.Validator {
		return []consensus.Validator{
			{Key: testKey(0).Public(), Weight: 1, LeaderWeight: 1}, {Key: testKey(1).Public(), Weight: 1, LeaderWeight: 1},
		}
	}
	for want, spoil := range map[string]func([]consensus.Validator) []consensus.Validator{
		"0 validators":         func([]consensus.Validator) []consensus.Validator { return nil },
		"257 validators":       func([]consensus.Validator) []consensus.Validator { return make([]consensus.Validator, 257) },
		"key of validator 1":   func(vs []consensus.Validator) []consensus.Validator { vs[1].Key = crypto.PublicKey{}; return vs },
		"is there twice":       func(vs []consensus.Validator) []consensus.Validator { vs[1].Key = vs[0].Key; return vs },
		"no voting weight":     func(vs []consensus.Validator) []consensus.Validator { vs[0].Weight = 0; return vs },
		"do not fit":           func(vs []consensus.Validator) []consensus.Validator { vs[0].Weight = math.MaxUint64; return vs },
		"up to validator 1 do": func(vs []consensus.Validator) []consensus.Validator { vs[0].LeaderWeight = math.MaxUint64; return vs },
		"no validator may lead": func(vs []consensus.Validator) []consensus.Validator {
			vs[0].LeaderWeight, vs[1].LeaderWeight = 0, 0
			return vs
		},
	} {
		if _, err := consensus.NewCommittee(1, spoil(ok())); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
}

func TestQuorumsOverlapInMoreThanAThird(t *testing.T) {
	for w, want := range map[uint64]uint64{1: 1, 2: 2, 3: 3, 4: 3, 6: 5, 7: 5, 100: 67, math.MaxUint64: 12297829382473034411} {
		if got := testCommittee(t, w).Quorum(); got != want {
			t.Errorf("quorum of %d is %d, want %d", w, got, want)
		}
	}
}

func TestLeadersShareViewsByWeightAndSmoothly(t *testing.T) {
	for _, weights := range [][]uint64{{1}, {1, 1, 1, 1}, {5, 1, 1}, {3000000007, 1000000009, 7}, {math.MaxUint64 - 5, 1, 1}, {1, 0, 2}} {
		var vs []consensus.Validator
		total := float64(0)
		for i, w := range weights {
			vs = append(vs, consensus.Validator{Key: testKey(i).Public(), Weight: 1, LeaderWeight: w})
			total += float64(w)
		}
		c, err := consensus.NewCommittee(1, vs)
		if err != nil {
			t.Fatal(err)
		}
		const views = 3 * 4096
		count := make([]float64, len(weights))
		for v := range consensus.View(views) {
			count[c.Leader(v+1)]++
		}
		for i, w := range weights {
			if share := float64(w) / total; math.Abs(count[i]/views-share) > 1.5/4096 {
				t.Errorf("%v: validator %d leads %.5f of the views, its weight is %.5f", weights, i, count[i]/views, share)
			}
		}
		if last := c.Leader(math.MaxUint64); int(last) >= c.Len() {
			t.Errorf("the last view's leader is %d of %d", last, c.Len())
		}
	}
	var sequence []consensus.Signer
	c := testCommittee(t, 5, 1, 1)
	for v := range consensus.View(7) {
		sequence = append(sequence, c.Leader(v+1))
	}
	if got := fmt.Sprint(sequence); got != "[0 0 1 0 2 0 0]" {
		t.Errorf("weights 5, 1, 1 lead %s", got) // the example of nginx's documentation
	}
}

func corpus(f *testing.F) {
	text, err := os.ReadFile("testdata/formats.hex")
	if err != nil {
		f.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		data, err := hex.DecodeString(line[strings.LastIndexByte(line, ' ')+1:])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
}

func FuzzVote(f *testing.F) {
	corpus(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		if v, err := consensus.DecodeVote(data); err == nil && string(consensus.EncodeVote(v)) != string(data) {
			t.Fatalf("%x decodes and encodes as %x", data, consensus.EncodeVote(v))
		}
	})
}

func FuzzCertificate(f *testing.F) {
	corpus(f)
	committee := testCommittee(f, 5, 3, 1, 1)
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := consensus.DecodeCertificate(data)
		if err != nil {
			return
		}
		if again := consensus.EncodeCertificate(c); string(again) != string(data) {
			t.Fatalf("%x decodes and encodes as %x", data, again)
		}
		if c.Verify(committee, testID) == nil && len(c.Signatures) < 2 {
			t.Fatalf("%x verifies with %d signatures", data, len(c.Signatures))
		}
	})
}

func FuzzMessage(f *testing.F) {
	corpus(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		for ch := range consensus.Channel(6) {
			m, err := consensus.DecodeMessage(ch, data)
			if err != nil {
				continue
			}
			if again := consensus.EncodeMessage(m); string(again) != string(data) {
				t.Fatalf("%x decodes and encodes as %x", data, again)
			}
		}
	})
}
