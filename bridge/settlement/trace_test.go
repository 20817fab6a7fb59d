package settlement_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// In these tests what a run leaves in its memory follows from its result alone.
func secretOf(result crypto.Digest) chain.Secret {
	return chain.SecretOf(crypto.Digest{}, crypto.DomainMemory.Hash(result[:]))
}

// noise is what jurors vote for who each make a link up.
var noise = func() (votes [12]chain.Vote) {
	for i := range votes {
		votes[i] = chain.Vote{Finding: chain.FoundResult, Result: yieldOf(fmt.Sprintf("made up %d", i), worth)}
	}
	return votes
}()

// madeRuns has what runs gave whose yields tests vote for, by these.
var madeRuns sync.Map

type madeRun struct {
	secret chain.Secret
	work   crypto.Digest
}

// yieldIn is what a run yields that gave a result and used so much.
func yieldIn(result string, usage []chain.Usage) crypto.Digest {
	digest := crypto.DomainResult.Hash([]byte(result))
	run := madeRun{secretOf(digest), chain.Work(digest, usage)}
	yield := chain.Yield(run.work, run.secret.Trace(0))
	madeRuns.Store(yield, run)
	return yield
}

// shows is what who votes on a panel about an order shows, having run the job.
func shows(panel, order crypto.Digest, v chain.Vote) chain.Testimony {
	if v.Finding != chain.FoundResult {
		return chain.Testimony{Finding: v.Finding}
	}
	made, ok := madeRuns.Load(v.Result)
	at, judges := settlement.LinkOf(panel, order)
	if !ok || !judges {
		panic("a vote for what no test ran, or on no panel")
	}
	run := made.(madeRun)
	return run.secret.Testify(run.work, at)
}

// traced gives a receipt the trace of a run that gave its result.
func traced(r *chain.UsageReceipt, place uint8) {
	trace := secretOf(r.Result).Trace(place)
	r.Trace = &trace
}

// commit has a juror commit.
func (c *court) commit(panel crypto.Digest, juror crypto.PublicKey, commitment crypto.Digest) {
	c.Helper()
	signature := key(c.nodes[juror]).Sign(crypto.DomainVote, chain.VotePayload(testChain, panel, commitment))
	events, why := settlement.CommitVote(c.kv, &c.env, chain.CommitVote{Panel: panel, Node: juror, Commitment: commitment, Signature: signature})
	if why != nil {
		c.Fatal(why.Reason())
	}
	c.events = append(c.events, events...)
}

// follow is what a juror shows who ran nothing, and has a link from elsewhere.
func follow(o *settlement.OpenClaim, at chain.Link, link crypto.Digest) chain.Testimony {
	t := chain.Testimony{Finding: chain.FoundResult, Work: o.Work(), Other: o.Begins.Runs, Link: link}
	if at.Strand == chain.StrandRuns {
		t.Other = o.Begins.Panels
	}
	return t
}

// TestAVoteProvesARun: jurors who ran nothing vote for nothing that anybody else finds, whatever they
// show: a link that they made up, the beginning, or one that was shown to a panel before; and auditors
// challenge by it what they would not look at.
func TestAVoteProvesARun(t *testing.T) {
	c := newCourt(t, lotOf(t, true))
	id := c.post(c.claimOf(1, worth, right.Result))
	c.draw()
	o := c.open(id)
	secret := secretOf(o.Claim.Result)
	audit := chain.Link{Strand: chain.StrandRuns, Depth: 1}
	first := chain.Link{Strand: chain.StrandPanels, Depth: 1}
	larger := chain.Link{Strand: chain.StrandPanels, Depth: 2}
	for name, link := range map[string]crypto.Digest{
		"one that is made up": {7}, "the beginning": o.Begins.Runs, "one of a panel's": secret.Testify(o.Work(), first).Link,
	} {
		if vote := follow(&o, audit, link).Vote(audit); vote == o.Claimed() {
			t.Errorf("an auditor votes for what is claimed with %s", name)
		}
	}
	if vote := follow(&o, larger, secret.Testify(o.Work(), first).Link).Vote(larger); vote == o.Claimed() {
		t.Error("a juror of the larger panel votes for what is claimed with a link that the first has shown")
	}
	for _, at := range []chain.Link{audit, first, larger} {
		if vote := secret.Testify(o.Work(), at).Vote(at); vote != o.Claimed() {
			t.Errorf("who ran the job votes %+v on link %+v, %+v is claimed", vote, at, o.Claimed())
		}
		if other := chain.SecretOf(crypto.Digest{1}, crypto.DomainMemory.Hash(o.Claim.Result[:])); other.Testify(o.Work(), at).Vote(at) == o.Claimed() {
			t.Errorf("links of another order's run of the same job are this one's at %+v", at)
		}
	}
}

// TestAuditorsWhoFollowChallenge: an auditor who finds a claim right without a run has challenged it, and
// loses its slice.
func TestAuditorsWhoFollowChallenge(t *testing.T) {
	c, id, audit, node := audited(t, right.Result)
	auditor := key(node).Public()
	o, at := c.open(id), chain.Link{Strand: chain.StrandRuns, Depth: 1}
	made := follow(&o, at, crypto.Digest{7})
	before, _ := c.free(auditor)
	c.commit(audit, auditor, made.Commitment(audit, auditor, crypto.Digest{}))
	if _, why := settlement.RevealVote(c.kv, &c.env, chain.RevealVote{Panel: audit, Node: auditor, Testimony: made}); why != nil {
		t.Fatal(why.Reason())
	}
	if o := c.open(id); o.Challenger == nil || o.Challenger.Node != auditor {
		t.Fatalf("an auditor that ran nothing has found the claim right: %+v", o.Challenger)
	}
	c.draw()
	c.vote(settlement.PanelOf(id, false), all(right))
	c.expire()
	c.checkClosed(id)
	after, _ := c.free(auditor)
	if lost, fits := before.Sub(after); !fits || lost != c.env.Params.JurorSlice {
		t.Errorf("it lost %s, %s was staked", lost, c.env.Params.JurorSlice)
	}
}

// TestJurorsWhoFollowAreWrong: a juror who copies the link that another shows of the same panel, which it did not
// know when it was bound, shows what it is not bound to; and one that made a link up loses what a wrong vote costs.
func TestJurorsWhoFollowAreWrong(t *testing.T) {
	c, order, panel := disputed(t)
	o, at := c.open(order), chain.Link{Strand: chain.StrandPanels, Depth: 1}
	honest := shows(panel, order, chain.Vote{Finding: chain.FoundResult, Result: yieldIn("right", []chain.Usage{{Resource: chain.CPU, Amount: 1_000, DurationMs: hour}})})
	if honest.Vote(at) != o.Claimed() {
		t.Fatalf("a run gives %+v, %+v is claimed", honest.Vote(at), o.Claimed())
	}
	made, jurors := follow(&o, at, crypto.Digest{7}), c.panelAt(panel).Jurors
	for i, j := range jurors {
		found := honest
		if i == 2 {
			found = made
		}
		c.commit(panel, j.Node, found.Commitment(panel, j.Node, crypto.Digest{}))
	}
	shown := func(j settlement.Juror, found chain.Testimony) *chain.Rejection {
		_, why := settlement.RevealVote(c.kv, &c.env, chain.RevealVote{Panel: panel, Node: j.Node, Testimony: found})
		return why
	}
	if why := shown(jurors[0], honest); why != nil {
		t.Fatal(why.Reason())
	}
	wantReason(t, shown(jurors[2], honest), "is not what node")
	for i, found := range []chain.Testimony{1: honest, 2: made} {
		if i == 0 {
			continue
		}
		if why := shown(jurors[i], found); why != nil {
			t.Fatal(why.Reason())
		}
	}
	if p := c.panelAt(panel); p.Verdict == nil || *p.Verdict != o.Claimed() {
		t.Fatalf("found %+v", p.Verdict)
	}
	c.expire()
	c.checkClosed(order)
	if bond, _ := c.free(jurors[2].Node); bond != chain.Nano(97_500_000_000) {
		t.Errorf("who followed has a bond of %v left", bond)
	}
}

// TestReplicasProveRuns: a replica that is asked when others have shown their receipts shows the link of its
// place. One that copies what was shown agrees with nobody, and loses its stake.
func TestReplicasProveRuns(t *testing.T) {
	for _, copies := range []bool{false, true} {
		f := newField(t, staked)
		f.do(f.begin(40, 50, 60))
		f.drawn()
		f.judge(found("wrong")) // the check from the roll
		f.do(f.reveal(40))
		late := f.drawnNodes()[0]
		commit, reveal := f.commit(late), f.reveal(late)
		if copies {
			reveal.Receipt.Trace = f.receipt(40).Trace
			commit.Commitment = chain.RunCommitment(reveal.Receipt.Digest(), reveal.Receipt.Node, reveal.Salt)
		}
		f.do(commit)
		f.do(reveal)
		f.drawn()
		f.judge(found("right"))
		s := f.slashed()
		if _, slashed := s[late]; slashed != copies || s[40] != 0 {
			t.Errorf("who was asked last copies: %t; slashed %v", copies, s)
		}
		f.do(chain.CollectRun{Order: f.id})
		if copies {
			f.over(chain.RunJudged, 40)
		} else {
			f.over(chain.RunJudged, 40, late)
		}
	}
}
