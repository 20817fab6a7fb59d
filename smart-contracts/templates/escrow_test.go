package templates_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	contracts "github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/cosmwasm"
	"github.com/hypermesh/hypermesh/smart-contracts/harness"
)

// newEscrow has a deal of two milestones between carl and will, that ann judges.
func newEscrow(t *testing.T) *contract {
	t.Helper()
	c := deploy(t, "escrow")
	if _, refusal := c.instantiate(t, "owner", `{}`); refusal != "" {
		t.Fatal(refusal)
	}
	c.fund(t, 1000, "carl")
	c.must(t, "carl", `{"open":{"worker":"@will","arbiter":"@ann","fee":"10","review_seconds":600,"arbitration_seconds":3600,"unjudged_percent":33,`+
		`"milestones":[{"title":"one","amount":"70","due":1700001000},{"title":"two","amount":"31","due":1700002000,"order":null}]}}`, 101)
	return c
}

// TestEscrow goes through a deal whose milestones end in different ways.
func TestEscrow(t *testing.T) {
	c := newEscrow(t)
	c.answers(t, `{"deal":{"deal":1}}`, `{"client":"@carl","worker":"@will","arbiter":"@ann","denom":"nhyper","fee":"10","review_seconds":600,"arbitration_seconds":3600,`+
		`"unjudged_percent":33,"accepted":false,"count":2,"held":"101","milestones":[`+
		`{"title":"one","amount":"70","due":1700001000,"order":null,"stage":"open","since":0,"note":"","paid":"0"},`+
		`{"title":"two","amount":"31","due":1700002000,"order":null,"stage":"open","since":0,"note":"","paid":"0"}]}`)
	c.must(t, "will", `{"accept":{"deal":1}}`)
	c.must(t, "will", `{"submit":{"deal":1,"milestone":0,"evidence":"sha256:00"}}`)
	c.must(t, "carl", `{"dispute":{"deal":1,"milestone":0,"reason":"it does not build"}}`)
	r := c.must(t, "ann", `{"decide":{"deal":1,"milestone":0,"worker_gets":"45","reason":"it builds, and is late"}}`)
	if got := fmt.Sprint(r.Attributes); got != "[{action decide} {deal 1} {milestone 0} {worker 45} {client 15}]" {
		t.Error(got)
	}
	t.Logf("a decision takes %d gas", c.gas)
	for i, want := range []cosmwasm.BankSend{{To: "@will", Amount: coins(45)}, {To: "@ann", Amount: coins(10)}, {To: "@carl", Amount: coins(15)}} {
		if got := fmt.Sprint(r.Messages[i].Msg); got != fmt.Sprint(want) {
			t.Errorf("message %d is %s, want %v", i, got, want)
		}
	}
	c.must(t, "carl", `{"extend":{"deal":1,"milestone":1,"due":1700003000}}`)
	c.pass(t, 2_999*time.Second)
	c.must(t, "will", `{"dispute":{"deal":1,"milestone":1,"reason":"no access"}}`)
	c.pass(t, time.Hour)
	c.must(t, "will", `{"settle":{"deal":1,"milestone":1}}`)
	if b := c.bank("ann", "carl", "will"); b["will"] != 45+10 || b["carl"] != 899+15+21 || b["ann"] != 10 || b[safe] != 0 {
		t.Errorf("of 70 and 31 is paid %v", b)
	}
	c.answers(t, `{"held":{"denom":"nhyper"}}`, `{"amount":"0"}`)
	c.answers(t, `{"held":{"denom":"gold"}}`, `{"amount":"0"}`)
	for _, party := range []string{"carl", "will", "ann"} {
		c.answers(t, fmt.Sprintf(`{"deals":{"party":"@%s","limit":5}}`, party), `{"deals":[1]}`)
	}
	c.answers(t, `{"deals":{"party":"@carl","start_after":1}}`, `{"deals":[]}`)
	c.answers(t, `{"deal":{"deal":2}}`, "deals not found")
}

// TestEscrowRefusals is what nobody can agree on.
func TestEscrowRefusals(t *testing.T) {
	c := newEscrow(t)
	terms := func(worker, arbiter, fee, review, percent string) string {
		return fmt.Sprintf(`"worker":%q,"arbiter":%q,"fee":%q,"review_seconds":%s,"arbitration_seconds":60,"unjudged_percent":%s`, worker, arbiter, fee, review, percent)
	}
	const one = `"milestones":[{"title":"t","amount":"9","due":1700000001}]`
	usual := terms("@will", "@ann", "0", "60", "0")
	many := `"milestones":[`
	for range 20 {
		many += `{"title":"t","amount":"1","due":1700000001},`
	}
	for _, r := range []struct {
		msg, want string
		sent      uint64
	}{
		{fields(usual, one), "want one coin", 0},
		{fields(usual, one), "the milestones come to 9, sent were 8", 8},
		{fields(usual, one), "the milestones come to 9, sent were 10", 10},
		{fields(terms("@carl", "@ann", "0", "60", "0"), one), "client, worker and arbiter are three", 9},
		{fields(terms("@will", "@carl", "0", "60", "0"), one), "client, worker and arbiter are three", 9},
		{fields(terms("@ann", "@ann", "0", "60", "0"), one), "client, worker and arbiter are three", 9},
		{fields(terms("Will", "@ann", "0", "60", "0"), one), "address: invalid address", 9},
		{fields(terms("@will", "@ann", "10", "60", "0"), one), "a milestone of less than the arbiter's fee", 9},
		{fields(terms("@will", "@ann", "0", "59", "0"), one), "a period has 60 seconds to 10 years", 9},
		{fields(terms("@will", "@ann", "0", "316224001", "0"), one), "a period has 60 seconds to 10 years", 9},
		{fields(terms("@will", "@ann", "0", "60", "101"), one), "more than 100 percent", 9},
		{fields(usual, `"milestones":[]`), "a deal has 1 to 20 milestones", 9},
		{fields(usual, many+`{"title":"t","amount":"1","due":1700000001}]`), "a deal has 1 to 20 milestones", 21},
		{fields(usual, `"milestones":[{"title":"t","amount":"0","due":1700000001}]`), "a milestone of nothing", 9},
		{fields(usual, `"milestones":[{"title":"t","amount":"9","due":1700000000}]`), "a milestone is due already", 9},
		{fields(usual, `"milestones":[{"title":"t","amount":"9","due":2016225000}]`), "a milestone is due within 10 years", 9},
		{fields(usual, `"milestones":[{"title":"t","amount":"9","due":18446744073709551615}]`), "a milestone is due within 10 years", 9},
		{fields(usual, `"milestones":[{"title":"t","amount":"9","due":1700000001,"order":"00"}]`), "want 64 hexadecimal digits", 9},
		{fields(usual, strings.Replace(one, `}`, fmt.Sprintf(`,"order":"%064X"}`, 10), 1)), "want 64 hexadecimal digits", 9},
		{fields(usual, `"milestones":[{"title":"t","amount":"9","due":1700000001,"colour":1}]`), "JSON: unknown field colour", 9},
		{fields(usual, `"milestones":[{"title":"t","amount":"340282366920938463463374607431768211455","due":1700000001},{"title":"t","amount":"1","due":1700000001}]`), "overflow", 9},
		{fields(usual, one, `"tip":"1"`), "JSON: unknown field tip", 9},
	} {
		c.refused(t, "carl", `{"open":`+r.msg+`}`, r.want, r.sent)
	}
	for msg, want := range map[string]string{
		`{"cancel":{"deal":1}}`:                                        "only the client may",
		`{"accept":{"deal":1}}`:                                        "only the worker may",
		`{"accept":{"deal":2}}`:                                        "deals not found",
		`{"release":{"deal":1,"milestone":0}}`:                         "the worker has not accepted",
		`{"release":{"deal":1,"milestone":2}}`:                         "milestones not found",
		`{"steal":{"deal":1}}`:                                         "unknown message steal",
		`{"submit":{"deal":1,"milestone":0}}`:                          "the worker has not accepted",
		`{"release":{"deal":1,"milestone":4294967296}}`:                "JSON: number out of range",
		`{"cancel":{"deal":1,"why":"x"}}`:                              "JSON: unknown field why",
		`{"decide":{"deal":"1","milestone":0,"worker_gets":"1"}}`:      "JSON: want a number",
		`{"settle":{"deal":1,"milestone":0,"worker_gets":"1"},"a":{}}`: "JSON: want an object with one field",
	} {
		c.refused(t, "ann", msg, want)
	}
	c.fund(t, 1, "will")
	c.refused(t, "will", `{"accept":{"deal":1}}`, "no funds are taken", 1)
	c.must(t, "will", `{"accept":{"deal":1}}`)
	c.refused(t, "will", `{"accept":{"deal":1}}`, "the worker has accepted")
	c.refused(t, "carl", `{"extend":{"deal":1,"milestone":0,"due":1700001000}}`, "that is not later")
	c.refused(t, "carl", `{"extend":{"deal":1,"milestone":0,"due":2016225000}}`, "a milestone is due within 10 years")
	c.refused(t, "carl", `{"prove":{"deal":1,"milestone":0}}`, "the milestone names no order")
	c.refused(t, "will", fmt.Sprintf(`{"submit":{"deal":1,"milestone":0,"evidence":"%0513d"}}`, 0), "a text is too long")
}

// TestEscrowOrdersPayOnce: a client names an order in one milestone, and in another only when that one was not paid.
func TestEscrowOrdersPayOnce(t *testing.T) {
	c := newEscrow(t)
	c.fund(t, 100, "bob")
	const taken = "another milestone names the order"
	milestone := func(order int) string {
		return fmt.Sprintf(`{"title":"t","amount":"9","due":%d,"order":"%064x"}`, c.seconds()+1_000, order)
	}
	open := func(milestones ...string) string {
		return `{"open":{"worker":"@will","arbiter":"@ann","fee":"0","review_seconds":60,"arbitration_seconds":60,"unjudged_percent":0,"milestones":[` + strings.Join(milestones, ",") + `]}}`
	}
	c.refused(t, "carl", open(milestone(1), milestone(1)), taken, 18)
	c.must(t, "carl", open(milestone(1), milestone(2)), 18) // deal 2
	c.refused(t, "carl", open(milestone(2)), taken, 9)
	c.must(t, "bob", open(milestone(1)), 9) // each client for themselves: deal 3
	c.must(t, "carl", `{"cancel":{"deal":2}}`)
	c.must(t, "carl", open(milestone(1), milestone(2), milestone(3), milestone(4)), 36) // deal 4
	c.must(t, "will", `{"accept":{"deal":4}}`)
	c.must(t, "carl", `{"release":{"deal":4,"milestone":0}}`)
	c.must(t, "will", `{"give_back":{"deal":4,"milestone":1}}`)
	c.must(t, "will", `{"dispute":{"deal":4,"milestone":2,"reason":"no"}}`)
	c.must(t, "ann", `{"decide":{"deal":4,"milestone":2,"worker_gets":"1","reason":"so"}}`)
	c.pass(t, 1_000*time.Second)
	c.must(t, "carl", `{"refund":{"deal":4,"milestone":3}}`)
	for order, want := range map[int]string{1: taken, 3: taken, 2: "", 4: ""} {
		if _, refusal := c.execute(t, "carl", open(milestone(order)), 9); refusal != want {
			t.Errorf("order %d again: %q, want %q", order, refusal, want)
		}
	}
}

// TestEscrowResults: what the chain says of an order's claims pays a milestone, or does not.
func TestEscrowResults(t *testing.T) {
	const unproven = "the order has no verified result of the worker"
	order := crypto.Digest{31: 0xaa}
	will, bob := account("will").Address(), account("bob").Address()
	claim := func(of chain.Address, exit chain.ExitStatus, state string) contracts.ClaimState {
		return contracts.ClaimState{Provider: of, Sequence: "1", Exit: exit.String(), Settled: state != "open", Verified: state == "verified", Cost: "5"}
	}
	good := claim(will, chain.ExitOK, "verified")
	for i, r := range []struct {
		claims []contracts.ClaimState
		want   string
	}{
		{nil, unproven},
		{[]contracts.ClaimState{}, unproven},
		{[]contracts.ClaimState{claim(will, chain.ExitOK, "settled")}, unproven},
		{[]contracts.ClaimState{claim(will, chain.ExitOK, "open")}, unproven},
		{[]contracts.ClaimState{claim(will, chain.ExitOK+1, "verified")}, unproven},
		{[]contracts.ClaimState{claim(bob, chain.ExitOK, "verified")}, unproven},
		{[]contracts.ClaimState{claim(bob, chain.ExitOK, "verified"), good}, ""},
	} {
		c := deploy(t, "escrow", harness.Custom{Query: func(q contracts.Question) any {
			if asked, ok := q.(contracts.AskOrder); !ok || asked.Order != order {
				return nil
			}
			if r.claims == nil {
				return contracts.OrderAnswer{}
			}
			return contracts.OrderAnswer{Order: &contracts.OrderState{Consumer: bob, Policy: "proof", MaxCost: "9", Spent: "5", Claims: r.claims}}
		}})
		if _, refusal := c.instantiate(t, "owner", `{}`); refusal != "" {
			t.Fatal(refusal)
		}
		c.fund(t, 9, "carl")
		c.must(t, "carl", fmt.Sprintf(`{"open":{"worker":"@will","arbiter":"@ann","fee":"0","review_seconds":60,"arbitration_seconds":60,"unjudged_percent":0,`+
			`"milestones":[{"title":"render","amount":"9","due":1700000001,"order":%q}]}}`, order), 9)
		c.must(t, "will", `{"accept":{"deal":1}}`)
		if _, got := c.execute(t, "bob", `{"prove":{"deal":1,"milestone":0}}`); got != r.want {
			t.Errorf("claims %d: %q, want %q", i, got, r.want)
		}
		if paid := c.has("will") == 9; paid != (r.want == "") || c.has("will")+c.has(safe) != 9 {
			t.Errorf("claims %d: %v", i, c.bank("carl", "will"))
		}
	}
}

// modelDeal and modelMilestone are the rules once more, in Go.
type modelDeal struct {
	client, worker, arbiter            string
	fee, review, arbitration, unjudged uint64
	accepted                           bool
	milestones                         []*modelMilestone
}

type modelMilestone struct {
	amount, due, since uint64
	stage              string
}

func (m *modelMilestone) held() bool {
	return m.stage == "open" || m.stage == "submitted" || m.stage == "disputed"
}

// move is something that somebody tries.
type move struct {
	who, verb string
	number    uint64 // that the message has
	now       uint64
}

func first(rules ...string) string {
	for i := 0; i < len(rules); i += 2 {
		if rules[i] == "no" {
			return rules[i+1]
		}
	}
	return ""
}

func holds(ok bool) string {
	if ok {
		return ""
	}
	return "no"
}

// refuses says why a move is refused, empty if it is not.
func (d *modelDeal) refuses(m *modelMilestone, v move) string {
	client, worker, at := holds(v.who == d.client), holds(v.who == d.worker), func(stage string) string { return holds(m.stage == stage) }
	is, late := "the milestone is "+m.stage, v.now >= m.due
	if why := first(holds(d.accepted), "the worker has not accepted", holds(m.held()), is); why != "" {
		return why
	}
	switch v.verb {
	case "submit":
		return first(worker, "only the worker may", at("open"), is, holds(!late), "it was due")
	case "extend":
		return first(client, "only the client may", at("open"), is, holds(v.number > m.due), "that is not later")
	case "dispute":
		switch v.who {
		case d.client:
			return first(at("submitted"), is, holds(v.now < m.since+d.review), "the review is over")
		case d.worker:
			return first(at("open"), is, holds(!late), "it was due")
		}
		return "only the client or the worker may"
	case "decide":
		return first(holds(v.who == d.arbiter), "only the arbiter may", at("disputed"), is, holds(v.number+d.fee <= m.amount), "more than there is")
	case "release":
		if v.who == d.client {
			return ""
		}
		return first(at("submitted"), is, holds(v.now >= m.since+d.review), "the client may look at it still")
	case "give_back":
		return first(worker, "only the worker may")
	case "refund":
		return first(client, "only the client may", at("open"), is, holds(late), "it is not due yet")
	case "settle":
		return first(holds(v.who == d.client || v.who == d.worker), "only the client or the worker may", at("disputed"), is, holds(v.now >= m.since+d.arbitration), "the arbiter has time still")
	}
	panic("no verb " + v.verb)
}

// do moves the money of a move that is not refused.
func (d *modelDeal) do(b bank, m *modelMilestone, v move) {
	end := func(stage string, worker, arbiter uint64) {
		m.stage = stage
		b[safe] -= m.amount
		b[d.worker] += worker
		b[d.arbiter] += arbiter
		b[d.client] += m.amount - worker - arbiter
	}
	switch v.verb {
	case "submit":
		m.stage, m.since = "submitted", v.now
	case "dispute":
		m.stage, m.since = "disputed", v.now
	case "extend":
		m.due = v.number
	case "decide":
		end("decided", v.number, d.fee)
	case "release":
		end("paid", m.amount, 0)
	case "give_back", "refund":
		end("returned", 0, 0)
	case "settle":
		end("decided", m.amount*d.unjudged/100, 0)
	}
}

// message writes a move.
func (v move) message(deal, milestone int) string {
	more := ""
	switch v.verb {
	case "submit":
		more = `,"evidence":"here"`
	case "dispute":
		more = `,"reason":"no"`
	case "extend":
		more = fmt.Sprintf(`,"due":%d`, v.number)
	case "decide":
		more = fmt.Sprintf(`,"reason":"so","worker_gets":"%d"`, v.number)
	}
	return fmt.Sprintf(`{%q:{"deal":%d,"milestone":%d%s}}`, v.verb, deal, milestone, more)
}

// openRandom opens a deal of some people of four.
func openRandom(t *testing.T, c *contract, r *rand.Rand) *modelDeal {
	t.Helper()
	names := []string{"ann", "bob", "carol", "dave"}
	r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	d := &modelDeal{client: names[0], worker: names[1], arbiter: names[2], fee: r.Uint64N(4), review: 60 + r.Uint64N(200), arbitration: 60 + r.Uint64N(200), unjudged: r.Uint64N(101)}
	list, sum := "", uint64(0)
	for i := range 1 + r.IntN(4) {
		m := &modelMilestone{amount: 4 + r.Uint64N(50), due: c.seconds() + 1 + r.Uint64N(600), stage: "open"}
		if i > 0 {
			list += ","
		}
		list += fmt.Sprintf(`{"title":"t","amount":"%d","due":%d}`, m.amount, m.due)
		sum += m.amount
		d.milestones = append(d.milestones, m)
	}
	c.must(t, d.client, fmt.Sprintf(`{"open":{"worker":"@%s","arbiter":"@%s","fee":"%d","review_seconds":%d,"arbitration_seconds":%d,"unjudged_percent":%d,"milestones":[%s]}}`,
		d.worker, d.arbiter, d.fee, d.review, d.arbitration, d.unjudged, list), sum)
	return d
}

// TestEscrowHistories makes random moves: each is refused as the model says, or moves the money that it says, and in the end nothing is
// held that nobody can get. The first history is always the same, and all comes to pass in it.
func TestEscrowHistories(t *testing.T) {
	for i, seed := range []uint64{1, rand.Uint64()} {
		t.Logf("seed %d", seed)
		came := escrowHistory(t, rand.New(rand.NewPCG(seed, 0)), 1_500-1_000*i)
		t.Log(came)
		for _, what := range []string{
			"submit", "extend", "dispute", "decide", "release", "give_back", "refund", "settle", "more than there is", "the arbiter has time still",
			"the review is over", "it was due", "it is not due yet", "that is not later", "the client may look at it still", "the worker has not accepted",
		} {
			if i == 0 && came[what] == 0 {
				t.Errorf("nothing was %q", what)
			}
		}
	}
}

// someMove is a move that somebody might make: mostly of those who have a part in the deal, and what its stage lets one do.
func someMove(r *rand.Rand, d *modelDeal, m *modelMilestone, now uint64) move {
	v := move{who: []string{"ann", "bob", "carol", "dave"}[r.IntN(4)], number: r.Uint64N(50), now: now}
	if r.IntN(4) > 0 {
		v.who = []string{d.client, d.worker, d.arbiter}[r.IntN(3)]
	}
	verbs := []string{"submit", "extend", "dispute", "decide", "release", "give_back", "refund", "settle"}
	if r.IntN(4) > 0 {
		verbs = map[string][]string{
			"open": {"submit", "submit", "extend", "dispute", "refund"}, "submitted": {"dispute", "dispute", "release"}, "disputed": {"decide", "decide", "settle"},
			"paid": verbs, "returned": verbs, "decided": verbs,
		}[m.stage]
	}
	v.verb = verbs[r.IntN(len(verbs))]
	if r.IntN(3) > 0 { // who may
		v.who = map[string]string{"submit": d.worker, "give_back": d.worker, "decide": d.arbiter, "dispute": v.who}[v.verb]
		if v.who == "" {
			v.who = d.client
		}
	}
	switch {
	case v.verb == "extend":
		v.number += m.due - 10
	case v.verb == "decide" && r.IntN(2) == 0: // as much as there is, or a little more
		v.number = m.amount - d.fee + r.Uint64N(4)
	}
	return v
}

// escrowHistory counts what was done, and why things were refused.
func escrowHistory(t *testing.T, r *rand.Rand, steps int) map[string]int {
	c := deploy(t, "escrow")
	if _, refusal := c.instantiate(t, "owner", `{}`); refusal != "" {
		t.Fatal(refusal)
	}
	names := []string{"ann", "bob", "carol", "dave"}
	c.fund(t, 9000, names...)
	var deals []*modelDeal
	var model bank
	came := map[string]int{}
	for step := range steps {
		c.pass(t, time.Duration(r.Uint64N(15))*time.Second)
		if step%40 == 0 {
			deals = append(deals, openRandom(t, c, r))
			model = c.bank(names...)
		}
		n := max(0, len(deals)-1-r.IntN(4))
		d := deals[n]
		if !d.accepted && r.IntN(4) == 0 {
			c.must(t, d.worker, fmt.Sprintf(`{"accept":{"deal":%d}}`, n+1))
			d.accepted = true
		}
		i := r.IntN(len(d.milestones))
		m := d.milestones[i]
		v := someMove(r, d, m, c.seconds())
		want := d.refuses(m, v)
		if _, got := c.execute(t, v.who, v.message(n+1, i)); got != want {
			t.Fatalf("step %d: %s: %s: refused with %q, want %q", step, v.who, v.message(n+1, i), got, want)
		}
		if came[want]++; want == "" {
			came[v.verb]++
			d.do(model, m, v)
		}
		if have := c.bank(names...); !maps.Equal(have, model) {
			t.Fatalf("step %d: %s: %s: there is %v, want %v", step, v.who, v.message(n+1, i), have, model)
		}
		c.answers(t, `{"held":{"denom":"nhyper"}}`, fmt.Sprintf(`{"amount":"%d"}`, c.has(safe)))
	}
	endAll(t, c, deals)
	if have := c.bank(names...); have[safe] != 0 || have.total() != 36_000 {
		t.Errorf("in the end there is %v", have)
	}
	return came
}

// endAll takes out what is held, by what each milestone's stage lets somebody do.
func endAll(t *testing.T, c *contract, deals []*modelDeal) {
	t.Helper()
	c.pass(t, 10_000*time.Second)
	for n, d := range deals {
		if !d.accepted {
			c.must(t, d.client, fmt.Sprintf(`{"cancel":{"deal":%d}}`, n+1))
			continue
		}
		for i, m := range d.milestones {
			who, verb := d.client, map[string]string{"open": "refund", "submitted": "release", "disputed": "settle"}[m.stage]
			if verb == "" {
				continue
			}
			if verb == "release" {
				who = "anyone" // the client has been silent
			}
			c.must(t, who, move{who: who, verb: verb}.message(n+1, i))
		}
	}
}
