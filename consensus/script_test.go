package consensus_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/golden"
)

// script drives one core of a committee of four by commands and prints its
// effects, with blocks by name. Time stands still but for the command tick.
type script struct {
	t         *testing.T
	committee *consensus.Committee
	self      int
	core      *consensus.Core
	now       consensus.Micros
	log       [][]byte
	floor     consensus.Floor
	blocks    map[string]named
	names     map[crypto.Digest]string
	builds    []consensus.Build
	checks    []consensus.Check
	commits   map[crypto.Digest]*consensus.Certificate
}

type named struct {
	proposal consensus.Proposal
	block    consensus.Block
}

func newScript(t *testing.T, self int) *script {
	return &script{
		t: t, committee: testCommittee(t, 1, 1, 1, 1), self: self,
		floor:  consensus.Floor{Digest: genesis},
		blocks: map[string]named{"genesis": {block: consensus.Block{Digest: genesis}}},
		names:  map[crypto.Digest]string{genesis: "genesis"}, commits: map[crypto.Digest]*consensus.Certificate{},
	}
}

func (s *script) config() consensus.Config {
	return consensus.Config{
		ChainID: testID, Committee: s.committee, Start: genesis, Key: testKey(s.self), Timing: testTime, Retention: 4,
		Keys: []crypto.PublicKey{testKey(s.self).Public()}, Fresh: []crypto.PublicKey{testKey(s.self).Public()},
	}
}

func (s *script) digestName(text string) string {
	for d, name := range s.names { // the order does not matter: digests do not overlap
		text = strings.ReplaceAll(text, d.Short(), name)
	}
	return text
}

func (s *script) number(text string) uint64 {
	s.t.Helper()
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// define names a block: NAME VIEW on PARENTVIEW PARENTNAME [empty|closing].
func (s *script) define(w []string) named {
	s.t.Helper()
	parent, ok := s.blocks[w[4]]
	if !ok {
		s.t.Fatalf("no block %q", w[4])
	}
	salt := uint64(0)
	for _, r := range w[0] {
		salt = salt<<8 | uint64(r)
	}
	view := consensus.View(s.number(w[1]))
	b := toyBlock{Parent: parent.block.Digest, View: view, Salt: salt, Empty: len(w) > 5 && w[5] == "empty", Closes: len(w) > 5 && w[5] == "closing"}.block()
	n := named{
		proposal: consensus.Proposal{
			Round: consensus.Round{Epoch: 1, View: view}, Parent: consensus.View(s.number(w[3])), Digest: b.Digest,
		},
		block: b,
	}
	s.blocks[w[0]], s.names[b.Digest] = n, w[0]
	return n
}

// repeat names another proposal of a block: NAME VIEW on PARENTVIEW BLOCK.
func (s *script) repeat(w []string) named {
	s.t.Helper()
	n, ok := s.blocks[w[4]]
	if !ok {
		s.t.Fatalf("no block %q", w[4])
	}
	n.proposal.Round.View, n.proposal.Parent = consensus.View(s.number(w[1])), consensus.View(s.number(w[3]))
	s.blocks[w[0]] = n
	return n
}

// statement reads "nullify VIEW" or "notarize|finalize NAME".
func (s *script) statement(kind, what string) consensus.Statement {
	s.t.Helper()
	if kind == "nullify" {
		return consensus.Statement{Kind: consensus.KindNullify, Proposal: consensus.Proposal{
			Round: consensus.Round{Epoch: 1, View: consensus.View(s.number(what))},
		}}
	}
	n, ok := s.blocks[what]
	if !ok {
		s.t.Fatalf("no block %q", what)
	}
	if kind == "notarize" {
		return consensus.Statement{Kind: consensus.KindNotarize, Proposal: n.proposal}
	}
	return consensus.Statement{Kind: consensus.KindFinalize, Proposal: n.proposal}
}

func (s *script) vote(by int, st consensus.Statement) consensus.Vote {
	return consensus.SignVote(testKey(by), consensus.Signer(by), testID, st)
}

func (s *script) certificate(st consensus.Statement) *consensus.Certificate {
	var votes []consensus.Vote
	for i := range 3 {
		votes = append(votes, s.vote(i, st))
	}
	return consensus.Assemble(s.committee, st, votes)
}

// do runs one command and returns the effects, one a line.
func (s *script) do(command string) string {
	s.t.Helper()
	w := strings.Fields(command)
	var out strings.Builder
	switch w[0] {
	case "start", "restart":
		core, err := consensus.Restore(s.config(), s.floor, s.log)
		if err != nil {
			return err.Error() + "\n"
		}
		s.core, s.builds, s.checks = core, nil, nil
		s.step(&out, consensus.Start{})
	case "compact":
		s.log = s.core.Snapshot()
		fmt.Fprintf(&out, "log: %s\n", s.records(s.log))
	case "define":
		s.define(w[1:])
	case "repeat":
		s.repeat(w[1:])
	case "offer", "reoffer":
		n := map[string]func([]string) named{"offer": s.define, "reoffer": s.repeat}[w[0]](w[1:])
		leader := int(s.committee.Leader(n.proposal.Round.View))
		v := s.vote(leader, consensus.Statement{Kind: consensus.KindNotarize, Proposal: n.proposal})
		s.step(&out, consensus.OfferReceived{Vote: v.(consensus.Notarize), Block: n.block})
	case "built":
		b := s.builds[len(s.builds)-1]
		n := s.define([]string{w[1], fmt.Sprint(b.Round.View), "on", fmt.Sprint(b.Parent), s.names[b.ParentDigest]})
		s.step(&out, consensus.Built{Round: b.Round, Block: n.block})
	case "nobuild":
		s.step(&out, consensus.BuildFailed{Round: s.builds[len(s.builds)-1].Round})
	case "notarize", "nullify", "finalize":
		for _, by := range w[3:] { // KIND WHAT from N N N
			s.step(&out, consensus.VoteReceived{Vote: s.vote(int(s.number(by)), s.statement(w[0], w[1]))})
		}
	case "forge":
		v := s.vote(0, s.statement(w[1], w[2])) // signed by the wrong key
		_, sig := v.By()
		s.step(&out, consensus.VoteReceived{Vote: consensus.Nullify{Round: v.Statement().Round(), Signer: consensus.Signer(s.number(w[4])), Signature: sig}})
	case "certificate":
		s.step(&out, consensus.CertificateReceived{Certificate: s.certificate(s.statement(w[1], w[2]))})
	case "block":
		s.step(&out, consensus.BlockReceived{Block: s.blocks[w[1]].block})
	case "valid", "invalid":
		s.step(&out, consensus.Checked{Check: s.checks[len(s.checks)-1], Valid: w[0] == "valid"})
	case "durable":
		d := s.blocks[w[1]].block.Digest
		closing := s.blocks[w[1]].block.Closing
		s.floor = consensus.Floor{Digest: d, Closing: closing, Certificate: s.commits[d]}
		s.step(&out, consensus.Durable{Digest: d, Closing: closing})
	case "tick":
		s.now += consensus.Micros(s.number(w[1])) * ms
		s.step(&out, consensus.Wake{})
	case "answer":
		if !s.answer(&out, w[1], w[2]) {
			return "nothing\n"
		}
	default:
		s.t.Fatalf("no command %q", command)
	}
	if s.core != nil {
		final, _ := s.core.LastFinalized()
		fmt.Fprintf(&out, "view %d, finalized %d\n", s.core.View(), final)
	}
	return s.digestName(out.String())
}

// answer asks the core for the certificate of a kind and view.
func (s *script) answer(out *strings.Builder, kind, view string) bool {
	cert := s.core.Answer(consensus.CertificateRequest{
		Kind:  map[string]consensus.Kind{"notarize": consensus.KindNotarize, "nullify": consensus.KindNullify, "finalize": consensus.KindFinalize}[kind],
		Round: consensus.Round{Epoch: 1, View: consensus.View(s.number(view))},
	})
	if cert != nil {
		fmt.Fprintln(out, cert.Statement)
	}
	return cert != nil
}

func (s *script) step(out *strings.Builder, ev consensus.Event) {
	for i, e := range s.core.Step(consensus.Input{Now: s.now, Event: ev}) {
		if _, ok := e.(consensus.Append); ok && i > 0 {
			s.t.Fatal("an Append that is not the first effect")
		}
		fmt.Fprintln(out, s.effect(e))
	}
}

func (s *script) effect(e consensus.Effect) string {
	switch e := e.(type) {
	case consensus.Append:
		s.log = append(s.log, e.Records...)
		return "append " + s.records(e.Records)
	case consensus.Broadcast:
		return "broadcast " + s.message(e.Message)
	case consensus.Ask:
		return fmt.Sprintf("ask %d for %s", e.To, s.message(e.Request))
	case consensus.Build:
		s.builds = append(s.builds, e)
		line := fmt.Sprintf("build %d on %d %s, idle %d ms", e.Round.View, e.Parent, e.ParentDigest.Short(), e.Idle/ms)
		if e.Finalization != nil {
			line += ", shows " + e.Finalization.Statement.String()
		}
		for _, v := range e.Late {
			by, _ := v.By()
			line += fmt.Sprintf(", late %s by %d", v.Statement(), by)
		}
		return line
	case consensus.CancelBuild:
		return fmt.Sprintf("cancel build %d", e.Round.View)
	case consensus.Check:
		s.checks = append(s.checks, e)
		return fmt.Sprintf("check %d %s on %s, attested %t", e.Proposal.Round.View, e.Proposal.Digest.Short(), e.ParentDigest.Short(), e.Attested)
	case consensus.CancelCheck:
		return fmt.Sprintf("cancel check %d %s", e.Check.Proposal.Round.View, e.Check.Proposal.Digest.Short())
	case consensus.Commit:
		line := "commit"
		for _, b := range e.Blocks {
			s.commits[b.Digest] = e.Certificate
			line += " " + b.Digest.Short()
		}
		return line + " by " + e.Certificate.Statement.String()
	case consensus.BlameSigner:
		return fmt.Sprintf("blame signer %d: %s", e.Signer, e.Reason)
	case consensus.BlamePeer:
		return "blame peer: " + e.Reason
	case consensus.Evidence:
		guilty, err := e.Convict(s.committee, testID)
		if err != nil {
			s.t.Fatal(err)
		}
		one, other, _ := strings.Cut(s.digestName(e.String()[strings.Index(e.String(), ":")+2:]), " and ")
		return fmt.Sprintf("evidence against %d: %s and %s", guilty, min(one, other), max(one, other))
	case consensus.Halt:
		return "halt: " + e.Reason
	}
	return fmt.Sprintf("unknown effect %T", e)
}

func (s *script) message(m consensus.Message) string {
	switch m := m.(type) {
	case consensus.Vote:
		return "vote " + m.Statement().String()
	case *consensus.Certificate:
		return "certificate " + m.Statement.String()
	case consensus.Offer:
		return "offer " + m.Vote.Statement().String()
	case consensus.CertificateRequest:
		return fmt.Sprintf("certificate %s %d", m.Kind, m.Round.View)
	case consensus.BlockRequest:
		return "block " + m.Digest.Short()
	}
	return fmt.Sprintf("%T", m)
}

// records prints log records by the numbers of their format.
func (s *script) records(records [][]byte) string {
	var out []string
	for _, rec := range records {
		var e struct {
			_    struct{} `cbor:",toarray"`
			Tag  uint8
			Body codec.Raw
		}
		if err := codec.Unmarshal(rec, &e, 1<<20); err != nil {
			s.t.Fatal(err)
		}
		line := map[uint8]string{1: "header", 2: "vote", 3: "certificate", 4: "verdict", 5: "block", 6: "evidence"}[e.Tag]
		switch e.Tag {
		case 2:
			v, err := consensus.DecodeVote(e.Body)
			if err != nil {
				s.t.Fatal(err)
			}
			line += " " + v.Statement().String()
		case 3:
			c, err := consensus.DecodeCertificate(e.Body)
			if err != nil {
				s.t.Fatal(err)
			}
			line += " " + c.Statement.String()
		}
		out = append(out, line)
	}
	return strings.Join(out, "; ")
}

// TestTranscripts runs every script of testdata. A transcript is commands, each
// followed by "----" and its effects; -update rewrites the effects.
func TestTranscripts(t *testing.T) {
	golden.Scripts(t, "testdata/*.txt", runTranscript)
}

func runTranscript(t *testing.T, text string) string {
	var out strings.Builder
	s := newScript(t, 0)
	inEffects := false
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
			inEffects = false
			out.WriteString(line + "\n")
		case line == "----":
			inEffects = true
		case inEffects:
		case strings.HasPrefix(line, "self "):
			s.self = int(s.number(strings.Fields(line)[1]))
			out.WriteString(line + "\n")
		default:
			out.WriteString(line + "\n----\n" + s.do(line))
		}
	}
	return out.String()
}
