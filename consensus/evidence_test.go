package consensus_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// The statements of one round that the tests pair.
func evidenceStatements() map[string]consensus.Statement {
	sts := sampleStatements()
	other := sts[0].Proposal
	other.Digest = crypto.DomainHeader.Hash([]byte("another block"))
	reparented := sts[0].Proposal
	reparented.Parent--
	late := sts[0].Proposal
	late.Round.View++
	return map[string]consensus.Statement{
		"N": sts[0], "X": sts[1], "F": sts[2],
		"N other":  {Kind: consensus.KindNotarize, Proposal: other},
		"F other":  {Kind: consensus.KindFinalize, Proposal: other},
		"N parent": {Kind: consensus.KindNotarize, Proposal: reparented},
		"F late":   {Kind: consensus.KindFinalize, Proposal: late},
		"X late":   {Kind: consensus.KindNullify, Proposal: consensus.Proposal{Round: late.Round}},
	}
}

// Who excludes whom, written out; every pair that is not here is harmless.
var (
	votesThatExclude        = []string{"N/N other", "N/N parent", "N other/N parent", "F/F other", "F/X", "F other/X", "F late/X late"}
	certificatesThatExclude = append([]string{"F/N other", "F/N parent", "F other/N", "F other/N parent"}, votesThatExclude...)
)

func TestStatementsExcludeEachOtherExactlyWhereNoHonestValidatorSignsBoth(t *testing.T) {
	sts := evidenceStatements()
	for a, one := range sts {
		for b, other := range sts {
			listed := func(pairs []string) bool { return slices.Contains(pairs, a+"/"+b) || slices.Contains(pairs, b+"/"+a) }
			if got := consensus.VotesExclude(one, other); got != listed(votesThatExclude) {
				t.Errorf("votes %s and %s exclude each other: %t", a, b, got)
			}
			if got := consensus.CertificatesExclude(one, other); got != listed(certificatesThatExclude) {
				t.Errorf("certificates %s and %s exclude each other: %t", a, b, got)
			}
		}
	}
}

func votePair(signer int, a, b consensus.Statement) consensus.Evidence {
	return consensus.Evidence{Votes: [2]consensus.Vote{
		consensus.SignVote(testKey(signer), consensus.Signer(signer), testID, a),
		consensus.SignVote(testKey(signer), consensus.Signer(signer), testID, b),
	}}
}

func certificatePair(t testing.TB, committee *consensus.Committee, a, b consensus.Statement) consensus.Evidence {
	return consensus.Evidence{Certificates: [2]*consensus.Certificate{
		sampleCertificate(t, committee, a, 0, 1, 2), sampleCertificate(t, committee, b, 1, 2, 3),
	}}
}

func TestEvidenceConvictsTheSignersOfBothSides(t *testing.T) {
	committee := testCommittee(t, 1, 1, 1, 1)
	sts := evidenceStatements()
	for _, pair := range votesThatExclude {
		a, b, _ := strings.Cut(pair, "/")
		e := votePair(3, sts[a], sts[b])
		if guilty, err := e.Convict(committee, testID); err != nil || fmt.Sprint(guilty) != "[3]" {
			t.Errorf("%s: convicts %v, %v", pair, guilty, err)
		}
	}
	for _, pair := range certificatesThatExclude {
		a, b, _ := strings.Cut(pair, "/")
		e := certificatePair(t, committee, sts[a], sts[b])
		if guilty, err := e.Convict(committee, testID); err != nil || fmt.Sprint(guilty) != "[1 2]" {
			t.Errorf("%s: convicts %v, %v", pair, guilty, err)
		}
		if e.Round() != sts[a].Round() {
			t.Errorf("%s: round %v", pair, e.Round())
		}
	}
}

func TestEvidenceThatProvesNothingIsRefusedByName(t *testing.T) {
	committee := testCommittee(t, 1, 1, 1, 1)
	sts := evidenceStatements()
	two := votePair(3, sts["N"], sts["N other"])
	swapped := two
	swapped.Votes[1] = consensus.SignVote(testKey(2), 2, testID, sts["N other"])
	forged := two
	forged.Votes[1] = consensus.SignVote(testKey(2), 3, testID, sts["N other"])
	both := two
	both.Certificates = certificatePair(t, committee, sts["F"], sts["X"]).Certificates
	light := certificatePair(t, committee, sts["F"], sts["X"])
	light.Certificates[0] = sampleCertificate(t, committee, sts["F"], 0, 1)
	half := two
	half.Votes[1] = nil
	third := half
	third.Certificates[1] = both.Certificates[1]
	for want, e := range map[string]consensus.Evidence{
		"one pair":              {},
		"one pair, of":          both,
		"want one pair":         half,
		"want one pair, of vot": third,
		"signers 3 and 2":       swapped,
		"bad signature":         forged,
		"quorum 3":              light,
		"do not exclude":        votePair(3, sts["N"], sts["X"]),
		"votes \"notarize 300":  votePair(3, sts["N"], sts["F"]),
		"certificates \"":       certificatePair(t, committee, sts["N"], sts["X"]),
		"different rounds are no evidence: do not exclude": votePair(3, sts["F"], sts["X late"]),
		"the same vote twice: do not exclude":              votePair(3, sts["N"], sts["N"]),
	} {
		if i := strings.Index(want, ": "); i >= 0 {
			want = want[i+2:]
		}
		if guilty, err := e.Convict(committee, testID); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v, %v", want, guilty, err)
		}
	}
	if _, err := two.Convict(committee, "another-chain"); err == nil {
		t.Error("convicts on another chain")
	}
	later, err := consensus.NewCommittee(2, []consensus.Validator{{Key: testKey(3).Public(), Weight: 1, LeaderWeight: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := two.Convict(later, testID); err == nil || !strings.Contains(err.Error(), "epoch 1") {
		t.Errorf("another epoch's committee convicts: %v", err)
	}
}

func TestEvidenceHasOneEncoding(t *testing.T) {
	committee := testCommittee(t, 1, 1, 1, 1)
	sts := evidenceStatements()
	for name, e := range map[string]consensus.Evidence{
		"votes": votePair(3, sts["N"], sts["N other"]), "certificates": certificatePair(t, committee, sts["F"], sts["X"]),
	} {
		data := consensus.EncodeEvidence(e)
		turned := consensus.Evidence{Votes: [2]consensus.Vote{e.Votes[1], e.Votes[0]}, Certificates: [2]*consensus.Certificate{e.Certificates[1], e.Certificates[0]}}
		if !bytes.Equal(consensus.EncodeEvidence(turned), data) {
			t.Errorf("%s: the order in which a pair is found shows in its encoding", name)
		}
		back, err := consensus.DecodeEvidence(data)
		if err != nil || !bytes.Equal(consensus.EncodeEvidence(back), data) {
			t.Fatalf("%s: came back as %v, %v", name, back, err)
		}
		var w struct {
			_    struct{} `cbor:",toarray"`
			Kind uint8
			A, B []byte
		}
		if err := codec.Unmarshal(data, &w, consensus.MaxEvidenceBytes); err != nil {
			t.Fatal(err)
		}
		for want, bad := range map[string][]byte{
			"not in order": codec.Marshal([]any{w.Kind, w.B, w.A}),
			"in order":     codec.Marshal([]any{w.Kind, w.A, w.A}),
			"kind 3":       codec.Marshal([]any{3, w.A, w.B}),
			"too large":    make([]byte, consensus.MaxEvidenceBytes+1),
			"evidence":     data[:len(data)-1],
		} {
			if _, err := consensus.DecodeEvidence(bad); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: want an error with %q, got %v", name, want, err)
			}
		}
	}
}

func FuzzEvidence(f *testing.F) {
	corpus(f)
	committee := testCommittee(f, 1, 1, 1, 1)
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := consensus.DecodeEvidence(data)
		if err != nil {
			return
		}
		if again := consensus.EncodeEvidence(e); !bytes.Equal(again, data) {
			t.Fatalf("%x decodes and encodes as %x", data, again)
		}
		guilty, err := e.Convict(committee, testID)
		if err == nil && (len(guilty) == 0 || !slices.IsSorted(guilty)) {
			t.Fatalf("%x convicts %v", data, guilty)
		}
	})
}
