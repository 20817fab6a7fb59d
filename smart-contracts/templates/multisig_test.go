package templates_test

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

const multisigBegin = `{"voters":[{"addr":"@alice","weight":1},{"addr":"@bob","weight":1},{"addr":"@carol","weight":1}],` +
	`"threshold":{"absolute_count":{"weight":2}},"max_voting_period":{"time":1000},"delay":100}`

func newMultisig(t *testing.T) *contract {
	t.Helper()
	c := deploy(t, "multisig")
	c.fund(t, 500, "alice")
	if _, refusal := c.instantiate(t, "alice", multisigBegin, 500); refusal != "" {
		t.Fatal(refusal)
	}
	return c
}

func sends(to string, amount uint64) string {
	return fmt.Sprintf(`{"bank":{"send":{"to_address":"@%s","amount":[{"denom":"nhyper","amount":"%d"}]}}}`, to, amount)
}

func proposes(msgs ...string) string {
	return `{"propose":{"title":"t","description":"","msgs":[` + strings.Join(msgs, ",") + `]}}`
}

func base64Of(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// TestMultisig goes through a proposal's life.
func TestMultisig(t *testing.T) {
	c := newMultisig(t)
	c.answers(t, `{"rules":{}}`, `{"threshold":{"absolute_count":{"weight":2,"total_weight":3}},"max_voting_period":{"time":1000},"delay":100}`)
	if id := said(c.must(t, "alice", proposes(sends("dave", 200))), "proposal_id"); id != "1" {
		t.Errorf("the first proposal is %q", id)
	}
	c.answers(t, `{"vote":{"proposal_id":1,"voter":"@alice"}}`, `{"vote":{"proposal_id":1,"voter":"@alice","vote":"yes","weight":1}}`)
	c.refused(t, "dave", `{"vote":{"proposal_id":1,"vote":"yes"}}`, "only members may")
	c.refused(t, "dave", `{"execute":{"proposal_id":1}}`, "not enough agree")
	if got := said(c.must(t, "bob", `{"vote":{"proposal_id":1,"vote":"yes"}}`), "status"); got != "passed" {
		t.Errorf("the proposal is %s", got)
	}
	c.refused(t, "dave", `{"execute":{"proposal_id":1}}`, "it waits still")
	c.pass(t, 99*time.Second)
	c.refused(t, "dave", `{"execute":{"proposal_id":1}}`, "it waits still")
	c.must(t, "bob", `{"vote":{"proposal_id":1,"vote":"no"}}`) // who thinks again
	c.pass(t, 10*time.Second)
	c.refused(t, "dave", `{"execute":{"proposal_id":1}}`, "not enough agree")
	c.must(t, "carol", `{"vote":{"proposal_id":1,"vote":"yes"}}`)
	c.pass(t, 99*time.Second)
	c.refused(t, "dave", `{"execute":{"proposal_id":1}}`, "it waits still")
	c.pass(t, time.Second)
	c.must(t, "erin", `{"execute":{"proposal_id":1}}`)
	if c.has("dave") != 200 || c.has("it") != 300 {
		t.Errorf("dave has %d, the multisig %d", c.has("dave"), c.has("it"))
	}
	c.refused(t, "dave", `{"execute":{"proposal_id":1}}`, "the proposal is over")
	c.refused(t, "dave", `{"close":{"proposal_id":1}}`, "it is closed")
	c.answers(t, `{"list_votes":{"proposal_id":1,"limit":1}}`, `{"votes":[{"proposal_id":1,"voter":"@alice","vote":"yes","weight":1}]}`)
}

// TestMultisigFails: what fails is not executed, and what is over is over.
func TestMultisigFails(t *testing.T) {
	c := newMultisig(t)
	c.must(t, "alice", proposes(sends("dave", 100), sends("dave", 401)))
	c.must(t, "bob", `{"vote":{"proposal_id":1,"vote":"yes"}}`)
	c.pass(t, 100*time.Second)
	if _, refusal := c.execute(t, "alice", `{"execute":{"proposal_id":1}}`); !strings.HasPrefix(c.rejection, "sdk 5: ") {
		t.Errorf("a message that fails: %q, %s", refusal, c.rejection)
	}
	if got := c.query(t, `{"proposal":{"proposal_id":1}}`); !strings.Contains(got, `"status":"passed"`) || c.has("it") != 500 {
		t.Errorf("after it failed: %s, %d", got, c.has("it"))
	}
	c.refused(t, "alice", `{"close":{"proposal_id":1}}`, "the proposal is not over")
	c.pass(t, 900*time.Second)
	for _, msg := range []string{`{"vote":{"proposal_id":1,"vote":"no"}}`, `{"execute":{"proposal_id":1}}`} {
		c.refused(t, "alice", msg, "the proposal is over")
	}
	c.must(t, "dave", `{"close":{"proposal_id":1}}`)
	if got := c.query(t, `{"reverse_proposals":{}}`); !strings.Contains(got, `"status":"rejected"`) {
		t.Error(got)
	}
	// A message that the chain does not know, and one that executes the same again.
	again := `{"wasm":{"execute":{"contract_addr":"@it","msg":"` + base64Of(`{"execute":{"proposal_id":3}}`) + `","funds":[]}}}`
	for i, msg := range []string{`{"bank":{"nonsense":{}}}`, again} {
		c.must(t, "alice", proposes(msg))
		c.must(t, "bob", fmt.Sprintf(`{"vote":{"proposal_id":%d,"vote":"yes"}}`, i+2))
		c.pass(t, 100*time.Second)
		_, refusal := c.execute(t, "bob", fmt.Sprintf(`{"execute":{"proposal_id":%d}}`, i+2))
		if refusal == "" || i == 1 && refusal != "the proposal is over" {
			t.Errorf("%s: %q", msg, refusal)
		}
	}
}

// TestMultisigMembers changes who agrees: what was open is over.
func TestMultisigMembers(t *testing.T) {
	c := newMultisig(t)
	const change = `{"wasm":{"execute":{"contract_addr":"@it","msg":"BASE64","funds":[]}}}`
	update := func(msg string) string { return strings.Replace(change, "BASE64", base64Of(c.text(msg)), 1) }
	c.refused(t, "alice", `{"update":{"add":[],"remove":[]}}`, "only the multisig itself may")
	c.must(t, "carol", proposes(sends("carol", 1)))
	id := 1
	for msg, want := range map[string]string{ // order-free: each is a proposal of its own
		`{"update":{"add":[],"remove":["@dave"]}}`:                                                      "not a member",
		`{"update":{"add":[{"addr":"@bob","weight":1}],"remove":[]}}`:                                   "a member twice",
		`{"update":{"add":[{"addr":"@dave","weight":0}],"remove":[]}}`:                                  "a weight is from 1 to 1000000",
		`{"update":{"add":[],"remove":["@alice","@bob"]}}`:                                              "the threshold is from 1 to the weight of all",
		`{"update":{"add":[],"remove":["@alice","@bob","@carol"]}}`:                                     "a multisig has 1 to 64 members",
		`{"update":{"add":[],"remove":[],"delay":941}}`:                                                 "the delay leaves less than a minute to agree and to execute in",
		`{"update":{"add":[{"addr":"@dave","weight":5}],"remove":["@carol"],"delay":0,"threshold":{}}}`: "JSON: want an object with one field",
	} {
		id++
		c.must(t, "alice", proposes(update(msg)))
		c.must(t, "bob", fmt.Sprintf(`{"vote":{"proposal_id":%d,"vote":"yes"}}`, id))
		c.pass(t, 100*time.Second)
		c.stateful().refused(t, "alice", fmt.Sprintf(`{"execute":{"proposal_id":%d}}`, id), want)
	}
	c.must(t, "alice", proposes(update(`{"update":{"add":[{"addr":"@dave","weight":5}],"remove":["@carol"],"delay":0,"threshold":{"absolute_count":{"weight":5}}}}`)))
	c.must(t, "bob", fmt.Sprintf(`{"vote":{"proposal_id":%d,"vote":"yes"}}`, id+1))
	c.pass(t, 100*time.Second)
	c.must(t, "alice", fmt.Sprintf(`{"execute":{"proposal_id":%d}}`, id+1))
	c.refused(t, "carol", `{"vote":{"proposal_id":1,"vote":"yes"}}`, "only members may")
	c.refused(t, "bob", `{"vote":{"proposal_id":1,"vote":"yes"}}`, "the proposal is over")
	c.answers(t, `{"voter":{"address":"@carol"}}`, `{"weight":null}`)
	c.answers(t, `{"threshold":{}}`, `{"absolute_count":{"weight":5,"total_weight":7}}`)
	c.must(t, "dave", proposes(sends("dave", 500)))
	c.must(t, "dave", fmt.Sprintf(`{"execute":{"proposal_id":%d}}`, id+2)) // five of seven, without delay
	if c.has("dave") != 500 || c.has("it") != 0 {
		t.Errorf("dave has %d, the multisig %d", c.has("dave"), c.has("it"))
	}
}

func TestMultisigRefusals(t *testing.T) {
	c := deploy(t, "multisig")
	for _, r := range [][3]string{
		{`"voters":[`, `"voters":[{"addr":"@alice","weight":1},`, "a member twice"},
		{`"weight":2`, `"weight":4`, "the threshold is from 1 to the weight of all"},
		{`"weight":2`, `"weight":0`, "the threshold is from 1 to the weight of all"},
		{`absolute_count`, `threshold_quorum`, "only an absolute count is taken"},
		{`{"time":1000}`, `{"height":5}`, "a voting period is in seconds"},
		{`{"time":1000}`, `{"time":59}`, "a voting period is from a minute to a year"},
		{`{"time":1000}`, `{"time":31622401}`, "a voting period is from a minute to a year"},
		{`"delay":100`, `"delay":941`, "the delay leaves less than a minute to agree and to execute in"},
		{`"delay":100`, `"delay":18446744073709551615`, "the delay leaves less than a minute to agree and to execute in"},
		{`"delay":100`, `"lock":100`, "JSON: unknown field lock"},
		{`"@bob"`, `"bob"`, "address: invalid address"},
		{`@bob","weight":1`, `@bob","weight":1000001`, "a weight is from 1 to 1000000"},
	} {
		msg := strings.Replace(multisigBegin, r[0], r[1], 1)
		if _, refusal := c.instantiate(t, "alice", msg); refusal != r[2] {
			t.Errorf("%s: %q, want %q", msg, refusal, r[2])
		}
	}
	if _, refusal := c.instantiate(t, "alice", multisigBegin); refusal != "" {
		t.Fatal(refusal)
	}
	c.refused(t, "dave", proposes(), "only members may")
	c.refused(t, "alice", `{"propose":{"title":"","description":"","msgs":[]}}`, "a title has 1 to 128 letters")
	c.refused(t, "alice", `{"propose":{"title":"`+strings.Repeat("t", 129)+`","description":"","msgs":[]}}`, "a title has 1 to 128 letters")
	c.refused(t, "alice", `{"propose":{"title":"t","description":"`+strings.Repeat("t", 4097)+`","msgs":[]}}`, "the description is too long")
	c.refused(t, "alice", `{"propose":{"title":"t","description":"","msgs":["burn"]}}`, "JSON: want an object with one field")
	c.refused(t, "alice", proposes(strings.Split(strings.Repeat(`{"a":{}},`, 16)+`{"a":{}}`, ",")...), "too many messages")
	lasts := func(latest string) string {
		return `{"propose":{"title":"t","description":"","msgs":[],"latest":` + latest + `}}`
	}
	at := func(nanos uint64) string { return fmt.Sprintf(`{"at_time":"%d"}`, nanos) }
	c.refused(t, "alice", lasts(`{"at_height":5}`), "a proposal expires at a time")
	c.refused(t, "alice", lasts(at(c.next())), "it would be over already")
	c.refused(t, "alice", lasts(at(c.next()+1_000_000_000_001)), "it would be open too long")
	c.must(t, "alice", lasts(at(c.next()+1_000_000_000)))
	c.refused(t, "bob", `{"vote":{"proposal_id":1,"vote":"maybe"}}`, "unknown vote maybe")
	c.refused(t, "bob", `{"vote":{"proposal_id":2,"vote":"yes"}}`, "proposals not found")
	c.pass(t, time.Second)
	c.refused(t, "bob", `{"vote":{"proposal_id":1,"vote":"yes"}}`, "the proposal is over")
	c.refused(t, "bob", `{"sweep":{}}`, "unknown message sweep")
	c.fund(t, 1, "bob")
	c.refused(t, "bob", proposes(), "no funds are taken", 1)
}

// proposal is what a proposal should be.
type proposal struct {
	expires, agreed, amount uint64
	votes                   map[string]bool
	end                     string
}

// multisigModel is what a multisig of weights should do.
type multisigModel struct {
	*contract
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

// vote is a vote in the last block.
func (m *multisigModel) vote(p *proposal, who string, yes bool) {
	if p.votes[who] = yes; m.yes(p) < 4 {
		p.agreed = 0
	} else if p.agreed == 0 {
		p.agreed = m.now()
	}
}

// why is the reason for which a move is refused, empty if it is not.
func (m *multisigModel) why(move, who string, p *proposal) string {
	over := p != nil && (p.end != "" || m.next() >= p.expires)
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
	case move == "execute" && m.next() < p.agreed+100e9:
		return "it waits still"
	case move == "execute" && p.amount > m.balance:
		return "funds"
	}
	return ""
}

// move does one, and what it should do.
func (m *multisigModel) move(t *testing.T, r *rand.Rand) {
	t.Helper()
	who := []string{"alice", "bob", "carol", "dave", "erin"}[r.IntN(5)]
	move := []string{"propose", "vote", "vote", "vote", "vote", "execute", "execute", "close"}[r.IntN(8)]
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
	switch _, refusal := m.execute(t, who, msg); {
	case want == "funds" && strings.HasPrefix(m.rejection, "sdk 5: "):
		return
	case want != "" && refusal == want:
		return
	case want != "" || refusal != "":
		t.Fatalf("%s: %s: refused with %q, want %q", who, msg, refusal, want)
	}
	switch move {
	case "propose":
		p = &proposal{expires: m.now() + 1000e9, amount: amount + 1, votes: map[string]bool{}}
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
	c := deploy(t, "multisig")
	m := &multisigModel{contract: c, weights: map[string]uint64{"alice": 3, "bob": 2, "carol": 1}, balance: 10_000}
	c.fund(t, 10_000, "erin")
	if _, refusal := c.instantiate(t, "erin", `{"voters":[{"addr":"@alice","weight":3},{"addr":"@bob","weight":2},{"addr":"@carol","weight":1}],`+
		`"threshold":{"absolute_count":{"weight":4}},"max_voting_period":{"time":1000},"delay":100}`, 10_000); refusal != "" {
		t.Fatal(refusal)
	}
	executed := 0
	for range 2_000 {
		m.move(t, r)
		c.pass(t, time.Duration(r.Uint64N(40))*time.Second)
		if has := c.has("it"); has != m.balance || c.has("erin") != 10_000-has {
			t.Fatalf("the multisig has %d, want %d; erin %d", has, m.balance, c.has("erin"))
		}
	}
	for _, p := range m.proposals {
		if p.end == "executed" {
			executed++
		}
	}
	t.Logf("%d proposals, %d executed, %d left", len(m.proposals), executed, m.balance)
}
