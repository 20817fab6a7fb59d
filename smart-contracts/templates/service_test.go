package templates_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	onchain "github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/cosmwasm"
	"github.com/hypermesh/hypermesh/smart-contracts/harness"
)

// settled is what an agreement is told of the chain: of orders, a node, and proofs that are the word "proof".
type settled struct {
	orders map[harness.Digest]*onchain.OrderState
	node   onchain.NodeState
	asked  []onchain.AskProof
}

func (s *settled) answer(q onchain.Question) any {
	switch q := q.(type) {
	case onchain.AskOrder:
		return onchain.OrderAnswer{Order: s.orders[q.Order]}
	case onchain.AskNode:
		return onchain.NodeAnswer{Node: &s.node}
	case onchain.AskProof:
		s.asked = append(s.asked, q)
		return onchain.ProofAnswer{Valid: string(q.Proof) == "proof"}
	}
	return nil
}

var (
	orderOf  = strings.Repeat("0a", 32)
	resultOf = strings.Repeat("0b", 32)
	nodeOf   = strings.Repeat("0c", 32)
)

const serviceBegin = `{"client":"@alice","provider":"@bob","arbiter":"@carol","sla":{"due":100,"grace":50,"late_every":10,"late_permille":100},"dispute":60,"ruling":80}`

// purse is what alice and bob have at first.
const purse = 1_000_000_000

// agreement is one between alice and bob, over whose node they agree too.
type agreement struct {
	*contract
	chain *settled
	tasks int
}

func newAgreement(t *testing.T, begin string) *agreement {
	t.Helper()
	s := &settled{
		orders: map[harness.Digest]*onchain.OrderState{},
		node:   onchain.NodeState{Owner: account("bob").Address(), Bond: "1000", Score: "600000"},
	}
	a := &agreement{contract: deploy(t, "service", harness.Custom{Query: s.answer}), chain: s}
	a.fund(t, purse, "alice", "bob")
	if _, refusal := a.instantiate(t, "erin", begin); refusal != "" {
		t.Fatal(refusal)
	}
	return a
}

// offered is a task with a price of 1000 and a stake of 200.
func (a *agreement) offered(t *testing.T, evidence string) int {
	t.Helper()
	a.must(t, "alice", `{"offer":{"evidence":`+evidence+`,"stake":"200"}}`, 1_000)
	a.tasks++
	return a.tasks
}

func (a *agreement) accepted(t *testing.T, evidence string) int {
	t.Helper()
	id := a.offered(t, evidence)
	a.must(t, "bob", fmt.Sprintf(`{"accept":{"task":%d}}`, id), 200)
	return id
}

// ends holds the end of a task against what both sides get. All money is alice's, bob's or the agreement's.
func (a *agreement) ends(t *testing.T, r cosmwasm.Response, state, toProvider, toClient string) {
	t.Helper()
	if got := [3]string{said(r, "state"), said(r, "to_provider"), said(r, "to_client")}; got != [3]string{state, toProvider, toClient} {
		t.Errorf("it ends as %v, want %s, %s, %s", got, state, toProvider, toClient)
	}
	if sum := a.has("alice") + a.has("bob") + a.has("it"); sum != 2*purse {
		t.Errorf("there is %d, want %d", sum, 2*purse)
	}
}

const word = `{"word":{}}`

// TestServiceOrder pays for a result that the chain has verified, and for nothing else.
func TestServiceOrder(t *testing.T) {
	a := newAgreement(t, serviceBegin)
	id, err := crypto.ParseDigest(orderOf)
	if err != nil {
		t.Fatal(err)
	}
	result, err := crypto.ParseDigest(resultOf)
	if err != nil {
		t.Fatal(err)
	}
	a.accepted(t, fmt.Sprintf(`{"order":{"id":%q,"result":%q}}`, orderOf, resultOf))
	const deliver = `{"deliver":{"task":1}}`
	a.refused(t, "bob", deliver, "the order has no claim")
	order := &onchain.OrderState{Consumer: account("alice").Address(), Policy: "zk(matmul-4)", MaxCost: "5", Spent: "5", Deadline: "1", Claims: []onchain.ClaimState{}}
	a.chain.orders[id] = order
	const none = "no result of the order is paid, verified and as agreed"
	a.refused(t, "bob", deliver, none)
	good := onchain.ClaimState{Provider: account("bob").Address(), Sequence: "1", Result: result, Exit: "ok", Settled: true, Verified: true, Cost: "5"}
	for _, change := range []func(c *onchain.ClaimState){
		func(c *onchain.ClaimState) { c.Settled = false }, func(c *onchain.ClaimState) { c.Verified = false },
		func(c *onchain.ClaimState) { c.Exit = "failed" }, func(c *onchain.ClaimState) { c.Result = id },
		func(c *onchain.ClaimState) { c.Provider = account("dave").Address() }, // whom alice has paid for it herself
	} {
		bad := good
		change(&bad)
		order.Claims = append(order.Claims, bad)
		a.refused(t, "bob", deliver, none)
	}
	order.Claims = append(order.Claims, good)
	a.refused(t, "alice", deliver, "only the provider may")
	if a.has("it") != 1_200 {
		t.Errorf("the agreement has %d", a.has("it"))
	}
	a.ends(t, a.must(t, "bob", deliver), "paid", "1200", "0")
	if a.has("it") != 0 || a.has("bob") != purse+1_000 {
		t.Errorf("the agreement has %d, bob %d", a.has("it"), a.has("bob"))
	}
	a.refused(t, "bob", deliver, "the task is paid")
	// Whom bob has hired, by an order of his own, works for bob.
	a.chain.orders[result] = order
	a.accepted(t, fmt.Sprintf(`{"order":{"id":%q}}`, resultOf))
	good.Provider = account("dave").Address()
	order.Claims = []onchain.ClaimState{good}
	a.refused(t, "bob", `{"deliver":{"task":2}}`, none)
	order.Consumer = account("bob").Address()
	a.ends(t, a.must(t, "bob", `{"deliver":{"task":2}}`), "paid", "1200", "0")
}

// TestServiceOrdersPayOnce: no two tasks are for one order, unless the first came to nothing.
func TestServiceOrdersPayOnce(t *testing.T) {
	a := newAgreement(t, serviceBegin)
	const taken = "another task is for the order"
	evidence := fmt.Sprintf(`{"order":{"id":%q}}`, orderOf)
	offer := fmt.Sprintf(`{"offer":{"evidence":{"order":{"id":%q,"result":%q}},"stake":"200"}}`, orderOf, resultOf)
	for _, come := range []func(id int){
		func(id int) { a.must(t, "alice", fmt.Sprintf(`{"withdraw":{"task":%d}}`, id)) },
		func(id int) {
			a.must(t, "bob", fmt.Sprintf(`{"accept":{"task":%d}}`, id), 200)
			a.refused(t, "alice", offer, taken, 1_000)
			a.must(t, "bob", fmt.Sprintf(`{"give_up":{"task":%d}}`, id))
		},
		func(id int) {
			a.must(t, "bob", fmt.Sprintf(`{"accept":{"task":%d}}`, id), 200)
			a.pass(t, 151*time.Second)
			a.must(t, "alice", fmt.Sprintf(`{"reclaim":{"task":%d}}`, id))
		},
	} {
		id := a.offered(t, evidence)
		a.refused(t, "alice", offer, taken, 1_000)
		come(id)
	}
	a.accepted(t, evidence)
	a.must(t, "alice", fmt.Sprintf(`{"approve":{"task":%d}}`, a.tasks))
	a.refused(t, "alice", offer, taken, 1_000)
	a.offered(t, fmt.Sprintf(`{"order":{"id":%q}}`, resultOf))
	a.offered(t, word)
	a.offered(t, word)
}

// TestServiceProof pays for a proof of this task, of what was agreed upon.
func TestServiceProof(t *testing.T) {
	a := newAgreement(t, serviceBegin)
	evidence := fmt.Sprintf(`{"proof":{"kernel":"matmul-4","inputs":[%q,%q]}}`, orderOf, nodeOf)
	a.accepted(t, evidence)
	a.accepted(t, strings.Replace(evidence, `"]`, fmt.Sprintf(`"],"outputs":[%q]`, resultOf), 1))
	a.refused(t, "bob", `{"deliver":{"task":1,"proof":"cHJvb2Y="}}`, "a proof of which outputs")
	a.refused(t, "bob", fmt.Sprintf(`{"deliver":{"task":1,"outputs":[%q],"proof":"bm8="}}`, resultOf), "the proof does not hold")
	a.refused(t, "bob", fmt.Sprintf(`{"deliver":{"task":2,"outputs":[%q],"proof":"cHJvb2Y="}}`, resultOf), "the outputs are agreed upon")
	a.stateful().refused(t, "bob", `{"deliver":{"task":2}}`, "JSON: no field proof")
	a.ends(t, a.must(t, "bob", fmt.Sprintf(`{"deliver":{"task":1,"outputs":[%q],"proof":"cHJvb2Y="}}`, resultOf)), "paid", "1200", "0")
	a.ends(t, a.must(t, "bob", `{"deliver":{"task":2,"proof":"cHJvb2Y="}}`), "paid", "1200", "0")
	n := len(a.chain.asked)
	one, two := a.chain.asked[n-2], a.chain.asked[n-1]
	if one.Bind == two.Bind || one.Bind[0] != 0 || len(one.Inputs) != 2 || fmt.Sprintf("%x", one.Outputs[0][:]) != resultOf || one.Kernel != "matmul-4" {
		t.Errorf("the proofs are of %+v and %+v", one, two)
	}
	if got := a.query(t, `{"task":{"id":1}}`); !strings.Contains(got, fmt.Sprintf(`"outputs":[%q]`, resultOf)) || !strings.Contains(got, fmt.Sprintf(`"bind":"%x"`, one.Bind[:])) {
		t.Errorf("the task is %s", got)
	}
}

// TestServiceLate: late work is worth less, and work that never comes costs the stake.
func TestServiceLate(t *testing.T) {
	for after, want := range map[time.Duration][2]string{100: {"1200", "0"}, 101: {"1100", "100"}, 110: {"1100", "100"}, 111: {"1000", "200"}, 150: {"700", "500"}} {
		a := newAgreement(t, serviceBegin)
		a.accepted(t, word)
		a.pass(t, after*time.Second-2*time.Millisecond) // it is delivered in the second block after this
		a.refused(t, "alice", `{"reclaim":{"task":1}}`, "there is time still")
		a.must(t, "bob", `{"deliver":{"task":1,"reference":"ipfs"}}`)
		a.refused(t, "dave", `{"release":{"task":1}}`, "it may be disputed still")
		a.pass(t, 60*time.Second)
		a.refused(t, "alice", `{"dispute":{"task":1}}`, "it is too late")
		a.ends(t, a.must(t, "dave", `{"release":{"task":1}}`), "paid", want[0], want[1])
	}
	a := newAgreement(t, serviceBegin)
	a.accepted(t, word)
	a.pass(t, 151*time.Second)
	a.refused(t, "bob", `{"deliver":{"task":1}}`, "it is too late")
	a.refused(t, "bob", `{"reclaim":{"task":1}}`, "only the client may")
	a.ends(t, a.must(t, "alice", `{"reclaim":{"task":1}}`), "failed", "0", "1200")
	if a.has("alice") != purse+200 || a.has("bob") != purse-200 {
		t.Errorf("alice has %d, bob %d", a.has("alice"), a.has("bob"))
	}
}

// TestServiceDispute: the arbiter divides, and if not, each has what each brought.
func TestServiceDispute(t *testing.T) {
	a := newAgreement(t, serviceBegin)
	for range 4 {
		id := a.accepted(t, word)
		a.must(t, "bob", fmt.Sprintf(`{"deliver":{"task":%d}}`, id))
	}
	a.pass(t, 59*time.Second)
	a.refused(t, "bob", `{"dispute":{"task":1}}`, "only the client may")
	a.refused(t, "carol", `{"rule":{"task":1,"provider":"1"}}`, "the task is delivered")
	for id := range 4 {
		a.must(t, "alice", fmt.Sprintf(`{"dispute":{"task":%d}}`, id+1))
	}
	a.refused(t, "dave", `{"release":{"task":1}}`, "the task is disputed")
	a.refused(t, "alice", `{"rule":{"task":1,"provider":"0"}}`, "only the arbiter may")
	a.refused(t, "carol", `{"rule":{"task":1,"provider":"1201"}}`, "there is not so much")
	a.ends(t, a.must(t, "carol", `{"rule":{"task":1,"provider":"450"}}`), "ruled", "450", "750")
	a.refused(t, "carol", `{"rule":{"task":1,"provider":"450"}}`, "the task is ruled")
	a.ends(t, a.must(t, "alice", `{"approve":{"task":2}}`), "paid", "1200", "0")
	a.ends(t, a.must(t, "bob", `{"give_up":{"task":3}}`), "failed", "0", "1200")
	a.refused(t, "bob", `{"lapse":{"task":4}}`, "the arbiter has time still")
	a.pass(t, 80*time.Second)
	a.refused(t, "carol", `{"lapse":{"task":4}}`, "only client and provider may")
	a.ends(t, a.must(t, "bob", `{"lapse":{"task":4}}`), "lapsed", "200", "1000")
	a.refused(t, "alice", `{"approve":{"task":4}}`, "the task is lapsed")
	if a.has("it") != 0 {
		t.Errorf("the agreement has %d", a.has("it"))
	}
}

// TestServiceRent opens a channel to the provider, while the node is what was agreed upon.
func TestServiceRent(t *testing.T) {
	a := newAgreement(t, strings.Replace(serviceBegin, `"dispute"`, fmt.Sprintf(`"node":{"id":%q,"min_bond":"1000","min_score":600000},"dispute"`, nodeOf), 1))
	rent := fmt.Sprintf(`{"rent":{"signer":%q,"nonce":1,"window_ms":60000}}`, nodeOf)
	good := a.chain.node
	for want, change := range map[string]func(n *onchain.NodeState){
		"the node is not the provider's": func(n *onchain.NodeState) { n.Owner = account("dave").Address() },
		"the node's bond is too small":   func(n *onchain.NodeState) { n.Bond = "999" },
		"the node's score is too low":    func(n *onchain.NodeState) { n.Score = "599999" },
	} {
		a.chain.node = good
		change(&a.chain.node)
		id := a.offered(t, word)
		for who, msg := range map[string]string{"alice": rent, "bob": fmt.Sprintf(`{"accept":{"task":%d}}`, id)} {
			a.refused(t, who, msg, want, 200)
		}
		a.must(t, "alice", fmt.Sprintf(`{"withdraw":{"task":%d}}`, id))
	}
	a.chain.node = good
	a.refused(t, "alice", rent, "a channel with nothing")
	a.refused(t, "alice", strings.Replace(rent, "0c", "0C", 1), "want 64 hexadecimal digits")
	a.refused(t, "bob", rent, "only the client may")
	a.accepted(t, word)
	r, err := a.Execute(account("alice"), a.at, rent, 700)
	if err != nil {
		t.Fatal(err)
	}
	opened := chain.ChannelChanged{}
	for _, event := range r.Events {
		if e, ok := event.(chain.ChannelChanged); ok {
			opened = e
		}
	}
	if opened.Payer != a.at || opened.Payee != account("bob").Address() || opened.Held.Nano() != 700 || a.has("it") != 1_200 {
		t.Errorf("the channel is %+v, the agreement has %d", opened, a.has("it"))
	}
	a.refused(t, "alice", `{"collect":{}}`, "there is nothing to collect")
	end := fmt.Sprintf(`{"end_rent":{"channel":%q}}`, opened.Channel)
	a.refused(t, "bob", end, "only the client may")
	a.must(t, "alice", end)
	a.refused(t, "bob", `{"collect":{}}`, "only the client may")
	for range 60 { // the window is of the chain's progress, in which a long time between blocks does not count
		a.refused(t, "alice", `{"collect":{}}`, "there is nothing to collect")
		a.pass(t, time.Second)
	}
	if got := said(a.must(t, "alice", `{"collect":{}}`), "amount"); got != "700" || a.has("it") != 1_200 {
		t.Errorf("collected %s, the agreement has %d", got, a.has("it"))
	}
	a.answers(t, `{"held":{}}`, `{"held":"1200"}`)
}

func TestServiceRefusals(t *testing.T) {
	a := newAgreement(t, serviceBegin)
	for _, c := range [][3]string{
		{"@bob", "@alice", "client, provider and arbiter are three"}, {"@carol", "@bob", "client, provider and arbiter are three"},
		{`"due":100`, `"due":0`, "a time is from a second to a year"}, {`"grace":50`, `"grace":31622401`, "a time is from a second to a year"},
		{`"late_every":10`, `"late_every":0`, "a time is from a second to a year"}, {`"ruling":80`, `"ruling":0`, "a time is from a second to a year"},
		{`"late_permille":100`, `"late_permille":1001`, "late work costs at most the price"},
		{`"late_permille":100`, `"late_permille":100,"early":1`, "JSON: unknown field early"},
		{`"dispute"`, `"node":{"id":"ab","min_bond":"1","min_score":1},"dispute"`, "want 64 hexadecimal digits"},
	} {
		msg := strings.Replace(serviceBegin, c[0], c[1], 1)
		if _, refusal := a.instantiate(t, "erin", msg); refusal != c[2] {
			t.Errorf("%s: %q, want %q", msg, refusal, c[2])
		}
	}
	offer := func(evidence string) string { return `{"offer":{"evidence":` + evidence + `,"stake":"200"}}` }
	a.refused(t, "bob", offer(word), "only the client may")
	a.refused(t, "alice", offer(word), "a task without a price")
	for evidence, want := range map[string]string{
		`{"promise":{}}`:                       "unknown evidence promise",
		`{"word":{"of":"me"}}`:                 "JSON: unknown field of",
		`{"order":{"id":"0a"}}`:                "want 64 hexadecimal digits",
		`{"proof":{"kernel":"k","inputs":[]}}`: "no elements",
		`{"proof":{"kernel":"k","inputs":[` + strings.Repeat(`"`+orderOf+`",`, 8) + `"` + orderOf + `"]}}`: "too many elements",
	} {
		a.refused(t, "alice", offer(evidence), want)
	}
	id := a.offered(t, word)
	for _, c := range [][3]string{
		{"alice", `{"accept":{"task":1}}`, "only the provider may"}, {"bob", `{"accept":{"task":1}}`, "the stake is 200"},
		{"bob", `{"accept":{"task":2}}`, "tasks not found"}, {"bob", `{"deliver":{"task":1}}`, "the task is offered"},
		{"alice", `{"approve":{"task":1}}`, "the task is offered"}, {"bob", `{"withdraw":{"task":1}}`, "only the client may"},
		{"alice", `{"dispute":{"task":1}}`, "the task is offered"}, {"alice", `{"reclaim":{"task":1}}`, "the task is offered"},
		{"bob", `{"give_up":{"task":1}}`, "the task is offered"}, {"bob", `{"lapse":{"task":1}}`, "the task is offered"},
		{"bob", `{"steal":{}}`, "unknown message steal"},
	} {
		a.refused(t, c[0], c[1], c[2])
	}
	a.refused(t, "alice", fmt.Sprintf(`{"withdraw":{"task":%d}}`, id), "no funds are taken", 1)
	a.must(t, "bob", `{"accept":{"task":1}}`, 200)
	a.refused(t, "bob", `{"deliver":{"task":1,"reference":"`+strings.Repeat("x", 513)+`"}}`, "the reference is too long")
	a.stateful().refused(t, "bob", `{"deliver":{"task":1,"proof":""}}`, "JSON: unknown field proof")
	a.refused(t, "alice", `{"withdraw":{"task":1}}`, "the task is accepted")
}

// job is what a task should be.
type job struct {
	price, stake, due, delivered, disputed uint64
	state                                  string
}

// jobs is what an agreement should do: who has what.
type jobs struct {
	*agreement
	all        []*job
	alice, bob uint64
	held       uint64
	r          *rand.Rand
}

func (m *jobs) earned(j *job) uint64 {
	if j.delivered <= j.due {
		return j.price
	}
	cut := min(1_000, ((j.delivered-j.due-1)/10e9+1)*100)
	return j.price * (1_000 - cut) / 1_000
}

func (m *jobs) end(j *job, state string, toProvider uint64) {
	m.bob += toProvider
	m.alice += j.price + j.stake - toProvider
	m.held -= j.price + j.stake
	j.state = state
}

// step is a message, who sends it, why it is refused, and what it does otherwise.
type step struct {
	name, who, fields string
	funds             uint64
	why               string
	does              func()
}

func in(j *job, states ...string) string {
	for _, s := range states {
		if j.state == s {
			return ""
		}
	}
	return "the task is " + j.state
}

// unless is the first reason that there is.
func unless(reasons ...string) string {
	for _, r := range reasons {
		if r != "" {
			return r
		}
	}
	return ""
}

func when(is bool, why string) string {
	if is {
		return why
	}
	return ""
}

// steps are all messages about a task at this moment.
func (m *jobs) steps(j *job) []step {
	now, divided := m.next(), m.r.Uint64N(j.price+j.stake+10)
	busy := in(j, "accepted", "delivered", "disputed")
	return []step{
		{name: "accept", who: "bob", funds: j.stake, why: in(j, "offered"), does: func() {
			j.state, j.due = "accepted", now+100e9
			m.bob -= j.stake
			m.held += j.stake
		}},
		{name: "accept", who: "bob", funds: j.stake + 1, why: unless(in(j, "offered"), fmt.Sprintf("the stake is %d", j.stake))},
		{name: "withdraw", who: "alice", why: in(j, "offered"), does: func() {
			j.stake = 0
			m.end(j, "withdrawn", 0)
		}},
		{name: "deliver", who: "bob", why: unless(in(j, "accepted"), when(now > j.due+50e9, "it is too late")), does: func() { j.state, j.delivered = "delivered", now }},
		{name: "approve", who: "alice", why: busy, does: func() { m.end(j, "paid", m.earned(j)+j.stake) }},
		{name: "give_up", who: "bob", why: busy, does: func() { m.end(j, "failed", 0) }},
		{name: "dispute", who: "alice", why: unless(in(j, "delivered"), when(now >= j.delivered+60e9, "it is too late")), does: func() { j.state, j.disputed = "disputed", now }},
		{name: "rule", who: "carol", fields: fmt.Sprintf(`,"provider":"%d"`, divided), why: unless(in(j, "disputed"), when(divided > j.price+j.stake, "there is not so much")),
			does: func() { m.end(j, "ruled", divided) }},
		{name: "release", who: "dave", why: unless(in(j, "delivered"), when(now < j.delivered+60e9, "it may be disputed still")), does: func() { m.end(j, "paid", m.earned(j)+j.stake) }},
		{name: "reclaim", who: "alice", why: unless(in(j, "accepted"), when(now <= j.due+50e9, "there is time still")), does: func() { m.end(j, "failed", 0) }},
		{name: "lapse", who: "alice", why: unless(in(j, "disputed"), when(now < j.disputed+80e9, "the arbiter has time still")), does: func() { m.end(j, "lapsed", j.stake) }},
	}
}

// TestServiceHistories moves at random: each has what the agreement says, and it has what
// is in tasks.
func TestServiceHistories(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	m := &jobs{agreement: newAgreement(t, serviceBegin), alice: purse, bob: purse, r: rand.New(rand.NewPCG(seed, 0))}
	for range 4_000 {
		m.pass(t, time.Duration(m.r.Uint64N(25))*time.Second)
		if open := m.r.IntN(len(m.all) + 1); len(m.all)-open < 8 && m.r.IntN(6) == 0 {
			j := &job{price: 1 + m.r.Uint64N(5_000), stake: m.r.Uint64N(900), state: "offered"}
			m.must(t, "alice", fmt.Sprintf(`{"offer":{"evidence":{"word":{}},"stake":"%d"}}`, j.stake), j.price)
			m.all = append(m.all, j)
			m.alice -= j.price
			m.held += j.price
			continue
		}
		if len(m.all) == 0 {
			continue
		}
		id := m.r.IntN(len(m.all))
		id = max(id, len(m.all)-4) // mostly those that something may become of
		steps := m.steps(m.all[id])
		s := steps[m.r.IntN(len(steps))]
		for range m.r.IntN(12) { // more often one that is taken, and not all end at once
			if s.why != "" || s.name == "withdraw" || s.name == "approve" || s.name == "give_up" || s.name == "rule" {
				s = steps[m.r.IntN(len(steps))]
			}
		}
		msg := fmt.Sprintf(`{%q:{"task":%d%s}}`, s.name, id+1, s.fields)
		switch _, refusal := m.execute(t, s.who, msg, s.funds); {
		case s.why != "" && refusal == s.why:
			continue
		case s.why != "" || refusal != "":
			t.Fatalf("%s: %s: refused with %q, want %q", s.who, msg, refusal, s.why)
		}
		s.does()
		if m.has("it") != m.held || m.has("alice") != m.alice || m.has("bob") != m.bob {
			t.Fatalf("after %s: the agreement has %d, want %d; alice %d of %d, bob %d of %d", msg, m.has("it"), m.held,
				m.has("alice"), m.alice, m.has("bob"), m.bob)
		}
	}
	m.answers(t, `{"held":{}}`, fmt.Sprintf(`{"held":"%d"}`, m.held))
	ends := map[string]int{}
	for _, j := range m.all {
		ends[j.state]++
	}
	t.Logf("%d tasks: %v", len(m.all), ends)
}
