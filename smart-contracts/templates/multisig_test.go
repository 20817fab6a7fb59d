package templates_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
)

const multisigBegin = `{"voters":[{"addr":"@alice","weight":1},{"addr":"@bob","weight":1},{"addr":"@carol","weight":1}],` +
	`"threshold":{"absolute_count":{"weight":2}},"max_voting_period":{"time":1000},"delay":100}`

func newMultisig(t *testing.T) (*ledger, chain.Address) {
	t.Helper()
	l := newLedger(t, nil)
	return l, l.made("alice", making{code: l.template("multisig"), msg: multisigBegin, funds: 500})
}

func sends(to string, amount uint64) string {
	return fmt.Sprintf(`{"bank":{"send":{"to_address":"@%s","amount":[{"denom":"nhyper","amount":"%d"}]}}}`, to, amount)
}

func proposes(msgs ...string) string {
	return `{"propose":{"title":"t","description":"","msgs":[` + strings.Join(msgs, ",") + `]}}`
}

// TestMultisig goes through a proposal's life.
func TestMultisig(t *testing.T) {
	l, it := newMultisig(t)
	l.answers(it, `{"rules":{}}`, `{"threshold":{"absolute_count":{"weight":2,"total_weight":3}},"max_voting_period":{"time":1000},"delay":100}`)
	if id := said(l.must("alice", it, proposes(sends("dave", 200)), 0), "proposal_id"); id != "1" {
		t.Errorf("the first proposal is %q", id)
	}
	l.answers(it, `{"vote":{"proposal_id":1,"voter":"@alice"}}`, `{"vote":{"proposal_id":1,"voter":"@alice","vote":"yes","weight":1}}`)
	l.refused("dave", it, `{"vote":{"proposal_id":1,"vote":"yes"}}`, "only members may")
	l.refused("dave", it, `{"execute":{"proposal_id":1}}`, "not enough agree")
	if got := said(l.must("bob", it, `{"vote":{"proposal_id":1,"vote":"yes"}}`, 0), "status"); got != "passed" {
		t.Errorf("the proposal is %s", got)
	}
	l.refused("dave", it, `{"execute":{"proposal_id":1}}`, "it waits still")
	l.wait(99)
	l.refused("dave", it, `{"execute":{"proposal_id":1}}`, "it waits still")
	l.must("bob", it, `{"vote":{"proposal_id":1,"vote":"no"}}`, 0) // who thinks again
	l.wait(10)
	l.refused("dave", it, `{"execute":{"proposal_id":1}}`, "not enough agree")
	l.must("carol", it, `{"vote":{"proposal_id":1,"vote":"yes"}}`, 0)
	l.wait(99)
	l.refused("dave", it, `{"execute":{"proposal_id":1}}`, "it waits still")
	l.wait(1)
	l.must("erin", it, `{"execute":{"proposal_id":1}}`, 0)
	if l.has(account("dave")) != began+200 || l.has(it) != 300 {
		t.Errorf("dave has %d, the multisig %d", l.has(account("dave")), l.has(it))
	}
	l.refused("dave", it, `{"execute":{"proposal_id":1}}`, "the proposal is over")
	l.refused("dave", it, `{"close":{"proposal_id":1}}`, "it is closed")
	l.answers(it, `{"list_votes":{"proposal_id":1,"limit":1}}`, `{"votes":[`+firstBallot(l)+`]}`)
	l.audit()
}

// firstBallot is that of the member whose address comes first.
func firstBallot(l *ledger) string {
	first, vote := "", ""
	for name, v := range map[string]string{"alice": "yes", "bob": "no", "carol": "yes"} { // order-free: the smallest
		if a := account(name).String(); first == "" || a < first {
			first, vote = a, v
		}
	}
	return fmt.Sprintf(`{"proposal_id":1,"voter":%q,"vote":%q,"weight":1}`, first, vote)
}

// TestMultisigFails: what fails is not executed, and what is over is over.
func TestMultisigFails(t *testing.T) {
	l, it := newMultisig(t)
	l.must("alice", it, proposes(sends("dave", 100), sends("dave", 401)), 0)
	l.must("bob", it, `{"vote":{"proposal_id":1,"vote":"yes"}}`, 0)
	l.wait(100)
	if _, refusal := l.call("alice", it, `{"execute":{"proposal_id":1}}`, 0); !strings.HasPrefix(refusal, "sdk 5: ") {
		t.Errorf("a message that fails: %q", refusal)
	}
	if got := l.asked(it, `{"proposal":{"proposal_id":1}}`); !strings.Contains(got, `"status":"passed"`) || l.has(it) != 500 {
		t.Errorf("after it failed: %s, %d", got, l.has(it))
	}
	l.refused("alice", it, `{"close":{"proposal_id":1}}`, "the proposal is not over")
	l.wait(900)
	for _, msg := range []string{`{"vote":{"proposal_id":1,"vote":"no"}}`, `{"execute":{"proposal_id":1}}`} {
		l.refused("alice", it, msg, "the proposal is over")
	}
	l.must("dave", it, `{"close":{"proposal_id":1}}`, 0)
	if got := l.asked(it, `{"reverse_proposals":{}}`); !strings.Contains(got, `"status":"rejected"`) {
		t.Error(got)
	}
	// A message that the chain does not know, and one that executes the same again.
	again := `{"wasm":{"execute":{"contract_addr":"@it","msg":"` + base64Of(`{"execute":{"proposal_id":3}}`) + `","funds":[]}}}`
	for i, msg := range []string{`{"nonsense":{}}`, again} {
		l.must("alice", it, proposes(msg), 0)
		l.must("bob", it, fmt.Sprintf(`{"vote":{"proposal_id":%d,"vote":"yes"}}`, i+2), 0)
		l.wait(100)
		_, refusal := l.call("bob", it, fmt.Sprintf(`{"execute":{"proposal_id":%d}}`, i+2), 0)
		if refusal == "" || i == 1 && !strings.HasSuffix(refusal, "the proposal is over") {
			t.Errorf("%s: %q", msg, refusal)
		}
	}
}

// TestMultisigMembers changes who agrees: what was open is over.
func TestMultisigMembers(t *testing.T) {
	l, it := newMultisig(t)
	const change = `{"wasm":{"execute":{"contract_addr":"@it","msg":"BASE64","funds":[]}}}`
	update := func(msg string) string { return strings.Replace(change, "BASE64", base64Of(l.text(it, msg)), 1) }
	l.refused("alice", it, `{"update":{"add":[],"remove":[]}}`, "only the multisig itself may")
	l.must("carol", it, proposes(sends("carol", 1)), 0)
	id := 1
	for msg, want := range map[string]string{ // order-free: each is a proposal of its own
		`{"update":{"add":[],"remove":["@dave"]}}`:                                                      "not a member",
		`{"update":{"add":[{"addr":"@bob","weight":1}],"remove":[]}}`:                                   "a member twice",
		`{"update":{"add":[{"addr":"@dave","weight":0}],"remove":[]}}`:                                  "a weight is from 1 to 1000000",
		`{"update":{"add":[],"remove":["@alice","@bob"]}}`:                                              "the threshold is from 1 to the weight of all",
		`{"update":{"add":[],"remove":["@alice","@bob","@carol"]}}`:                                     "a multisig has 1 to 64 members",
		`{"update":{"add":[],"remove":[],"delay":1000}}`:                                                "the delay leaves no time to execute in",
		`{"update":{"add":[{"addr":"@dave","weight":5}],"remove":["@carol"],"delay":0,"threshold":{}}}`: "JSON: want an object with one field",
	} {
		id++
		l.must("alice", it, proposes(update(msg)), 0)
		l.must("bob", it, fmt.Sprintf(`{"vote":{"proposal_id":%d,"vote":"yes"}}`, id), 0)
		l.wait(100)
		l.refused("alice", it, fmt.Sprintf(`{"execute":{"proposal_id":%d}}`, id), want)
	}
	l.must("alice", it, proposes(update(`{"update":{"add":[{"addr":"@dave","weight":5}],"remove":["@carol"],"delay":0,"threshold":{"absolute_count":{"weight":5}}}}`)), 0)
	l.must("bob", it, fmt.Sprintf(`{"vote":{"proposal_id":%d,"vote":"yes"}}`, id+1), 0)
	l.wait(100)
	l.must("alice", it, fmt.Sprintf(`{"execute":{"proposal_id":%d}}`, id+1), 0)
	l.refused("carol", it, `{"vote":{"proposal_id":1,"vote":"yes"}}`, "only members may")
	l.refused("bob", it, `{"vote":{"proposal_id":1,"vote":"yes"}}`, "the proposal is over")
	l.answers(it, `{"voter":{"address":"@carol"}}`, `{"weight":null}`)
	l.answers(it, `{"threshold":{}}`, `{"absolute_count":{"weight":5,"total_weight":7}}`)
	l.must("dave", it, proposes(sends("dave", 500)), 0)
	l.must("dave", it, fmt.Sprintf(`{"execute":{"proposal_id":%d}}`, id+2), 0) // five of seven, without delay
	l.audit()
}

func TestMultisigRefusals(t *testing.T) {
	l := newLedger(t, nil)
	code := l.template("multisig")
	for _, c := range [][3]string{
		{`"voters":[`, `"voters":[{"addr":"@alice","weight":1},`, "a member twice"},
		{`"weight":2`, `"weight":4`, "the threshold is from 1 to the weight of all"},
		{`"weight":2`, `"weight":0`, "the threshold is from 1 to the weight of all"},
		{`absolute_count`, `threshold_quorum`, "only an absolute count is taken"},
		{`{"time":1000}`, `{"height":5}`, "a voting period is in seconds"},
		{`{"time":1000}`, `{"time":0}`, "a voting period is from a second to a year"},
		{`{"time":1000}`, `{"time":18446744073709551615}`, "a voting period is from a second to a year"},
		{`"delay":100`, `"delay":1000`, "the delay leaves no time to execute in"},
		{`"delay":100`, `"lock":100`, "JSON: unknown field lock"},
		{`"@bob"`, `"bob"`, "address: invalid address"},
		{`@bob","weight":1`, `@bob","weight":1000001`, "a weight is from 1 to 1000000"},
	} {
		msg := strings.Replace(multisigBegin, c[0], c[1], 1)
		if _, refusal := l.begin("alice", making{code: code, msg: msg}); !strings.HasSuffix(refusal, c[2]) {
			t.Errorf("%s: %q, want %q", msg, refusal, c[2])
		}
	}
	it := l.made("alice", making{code: code, msg: multisigBegin})
	l.refused("dave", it, proposes(), "only members may")
	l.refused("alice", it, `{"propose":{"title":"","description":"","msgs":[]}}`, "a title has 1 to 128 letters")
	l.refused("alice", it, `{"propose":{"title":"`+strings.Repeat("t", 129)+`","description":"","msgs":[]}}`, "a title has 1 to 128 letters")
	l.refused("alice", it, `{"propose":{"title":"t","description":"`+strings.Repeat("t", 4097)+`","msgs":[]}}`, "the description is too long")
	l.refused("alice", it, `{"propose":{"title":"t","description":"","msgs":["burn"]}}`, "JSON: want an object with one field")
	l.refused("alice", it, proposes(strings.Split(strings.Repeat(`{"a":{}},`, 16)+`{"a":{}}`, ",")...), "too many messages")
	for latest, want := range map[string]string{
		`{"at_height":5}`:                                            "a proposal expires at a time",
		fmt.Sprintf(`{"at_time":"%d"}`, l.nanos()):                   "it would be over already",
		fmt.Sprintf(`{"at_time":"%d"}`, l.nanos()+1_000_000_000_001): "it would be open too long",
	} {
		l.refused("alice", it, `{"propose":{"title":"t","description":"","msgs":[],"latest":`+latest+`}}`, want)
	}
	l.must("alice", it, fmt.Sprintf(`{"propose":{"title":"t","description":"","msgs":[],"latest":{"at_time":"%d"}}}`, l.nanos()+1_000_000_000), 0)
	l.refused("bob", it, `{"vote":{"proposal_id":1,"vote":"maybe"}}`, "unknown vote maybe")
	l.refused("bob", it, `{"vote":{"proposal_id":2,"vote":"yes"}}`, "proposals not found")
	l.wait(1)
	l.refused("bob", it, `{"vote":{"proposal_id":1,"vote":"yes"}}`, "the proposal is over")
	l.refused("bob", it, `{"sweep":{}}`, "unknown message sweep")
	if _, refusal := l.call("bob", it, proposes(), 1); !strings.HasSuffix(refusal, "no funds are taken") {
		t.Error(refusal)
	}
}

// proposal is what a proposal should be.
type proposal struct {
	expires, agreed, amount uint64
	votes                   map[string]bool
	end                     string
}

// multisigModel is what a multisig of weights should do.
type multisigModel struct {
	*ledger
	it        chain.Address
	weights   map[string]uint64
	proposals []*proposal
	balance   uint64
}

func (m *multisigModel) yes(p *proposal) (sum uint64) {
	for name, yes := range p.votes { // order-free: a sum
		if yes {
			sum += m.weights[name]
		}
	}
	return sum
}

func (m *multisigModel) vote(p *proposal, who string, yes bool) {
	if p.votes[who] = yes; m.yes(p) < 4 {
		p.agreed = 0
	} else if p.agreed == 0 {
		p.agreed = m.nanos()
	}
}

// why is the reason for which a move is refused, empty if it is not.
func (m *multisigModel) why(move, who string, p *proposal) string {
	over := p != nil && (p.end != "" || m.nanos() >= p.expires)
	switch {
	case move != "execute" && move != "close" && m.weights[who] == 0:
		return "only members may"
	case move == "close" && p.end != "":
		return "it is closed"
	case move == "close" && !over:
		return "the proposal is not over"
	case (move == "vote" || move == "execute") && over:
		return "the proposal is over"
	case move == "execute" && p.agreed == 0:
		return "not enough agree"
	case move == "execute" && m.nanos() < p.agreed+100e9:
		return "it waits still"
	case move == "execute" && p.amount > m.balance:
		return "funds"
	}
	return ""
}

// move does one, and what it should do.
func (m *multisigModel) move(r *rand.Rand) {
	m.Helper()
	who, move := people[r.IntN(len(people))], []string{"propose", "vote", "vote", "vote", "vote", "execute", "execute", "close"}[r.IntN(8)]
	id, yes, amount := max(r.IntN(len(m.proposals)+1), len(m.proposals)-4), r.IntN(4) > 0, r.Uint64N(200)
	if id == len(m.proposals) {
		move = "propose"
	}
	msg, p := proposes(sends("erin", amount+1)), (*proposal)(nil)
	if move != "propose" {
		p = m.proposals[id]
		msg = fmt.Sprintf(`{%q:{"proposal_id":%d}}`, move, id+1)
		if move == "vote" {
			msg = fmt.Sprintf(`{"vote":{"proposal_id":%d,"vote":%q}}`, id+1, map[bool]string{true: "yes", false: "no"}[yes])
		}
	}
	want := m.why(move, who, p)
	switch _, refusal := m.call(who, m.it, msg, 0); {
	case want == "funds" && strings.HasPrefix(refusal, "sdk 5: "):
		return
	case want != "" && strings.HasSuffix(refusal, ": "+want):
		return
	case want != "" || refusal != "":
		m.Fatalf("%s: %s: refused with %q, want %q", who, msg, refusal, want)
	}
	switch move {
	case "propose":
		p = &proposal{expires: m.nanos() + 1000e9, amount: amount + 1, votes: map[string]bool{}}
		m.proposals = append(m.proposals, p)
		m.vote(p, who, true)
	case "vote":
		m.vote(p, who, yes)
	case "execute":
		p.end = "executed"
		m.balance -= p.amount
	case "close":
		p.end = "rejected"
	}
}

// TestMultisigHistories moves at random: what is sent is what enough agreed to, after the
// delay, once.
func TestMultisigHistories(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	l := newLedger(t, nil)
	m := &multisigModel{ledger: l, weights: map[string]uint64{"alice": 3, "bob": 2, "carol": 1}, balance: 10_000}
	m.it = l.made("erin", making{code: l.template("multisig"), funds: 10_000, msg: `{"voters":[{"addr":"@alice","weight":3},{"addr":"@bob","weight":2},{"addr":"@carol","weight":1}],` +
		`"threshold":{"absolute_count":{"weight":4}},"max_voting_period":{"time":1000},"delay":100}`})
	executed := 0
	for range 2_000 {
		m.move(r)
		l.wait(r.Uint64N(40))
		if has := l.has(m.it); has != m.balance || l.has(account("erin")) != began-has {
			t.Fatalf("the multisig has %d, want %d; erin %d", has, m.balance, l.has(account("erin")))
		}
	}
	for _, p := range m.proposals {
		if p.end == "executed" {
			executed++
		}
	}
	l.audit()
	t.Logf("%d proposals, %d executed, %d left", len(m.proposals), executed, m.balance)
}
