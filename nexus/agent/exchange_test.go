package agent_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk"
)

// assignFair gives the agent a job under fair exchange.
func (p *peer) assignFair(module []byte, nonce uint64, change func(*job.Spec)) job.Assignment {
	p.server.t.Helper()
	id, size := p.server.put(module)
	spec := wasmSpec(id, size)
	if change != nil {
		change(&spec)
	}
	order := orderOf(&spec, nonce)
	order.Fair = true
	a := assignmentOf(order, spec)
	p.send(job.Assign{List: []job.Assignment{a}})
	if reply := await[job.AssignReply](p, nil); reply.Refuse != "" {
		p.server.t.Fatalf("the assignment was refused: %q", reply.Refuse)
	}
	return a
}

// attest is what a cluster that holds a sealed output answers.
func attest(d *job.Done, by crypto.PrivateKey) job.Ack {
	payload := chain.AttestationPayload(d.Receipt.ChainID, d.Receipt.Digest())
	return job.Ack{Order: d.Receipt.Order, Attestation: by.Sign(crypto.DomainAttestation, payload)}
}

// take fetches a blob from the agent.
func (p *peer) take(id crypto.Digest) []byte {
	p.server.t.Helper()
	if _, err := p.server.blobs.Fetch(context.Background(), id, 1<<20, p.conn); err != nil {
		p.server.t.Fatal(err)
	}
	b, err := p.server.blobs.Open(id)
	if err != nil {
		p.server.t.Fatal(err)
	}
	data, err := io.ReadAll(b)
	if err != nil {
		p.server.t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		p.server.t.Fatal(err)
	}
	return data
}

// owed returns the one claim that an agent keeps.
func owed(t *testing.T, config agent.Config) *agent.Owed {
	t.Helper()
	list, err := agent.ReadOwed(&config)
	if err != nil || len(list) != 1 {
		t.Fatalf("%d claims are kept: %v", len(list), err)
	}
	return &list[0]
}

// TestFairExchange: what leaves the node says nothing of the output, the key leaves it upon the
// cluster's attestation and nothing less, and the claim is complete on disk by then.
func TestFairExchange(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	a := start(t, config)
	p := s.session()
	as := p.assignFair(writer("result.txt", "what it found\n"), 1, nil)
	d := p.finish(&as)
	sealed := d.Receipt.Sealed
	if sealed == nil || sealed.Output == d.Output || sealed.Output.IsZero() {
		t.Fatalf("the receipt seals nothing: %+v", d.Receipt)
	}
	ciphertext := p.take(sealed.Output)
	if bytes.Contains(ciphertext, []byte("what it found")) || uint64(len(ciphertext)) != d.OutputSize {
		t.Fatalf("%d bytes are handed over for an output of %d: %q", len(ciphertext), d.OutputSize, ciphertext)
	}
	if _, err := s.blobs.Fetch(t.Context(), d.Output, 1<<20, p.conn); err == nil {
		t.Fatal("the output itself is handed over to who asks for it")
	}
	if o := owed(t, config); o.Complete() || o.Claim.OutputKey == nil {
		t.Fatalf("before it is attested: complete %v, key %v", o.Complete(), o.Claim.OutputKey)
	}

	p.send(job.Ack{Order: as.Order.ID()}) // without an attestation
	p.send(attest(&d, nodeKey))           // another's
	forged := attest(&d, clusterKey)
	forged.Revealed, forged.Attestation[0] = true, forged.Attestation[0]^1
	p.send(forged)
	other := attest(&job.Done{Receipt: chain.UsageReceipt{ChainID: d.Receipt.ChainID, Order: d.Receipt.Order}}, clusterKey) // of another receipt
	p.send(other)
	p.send(job.Assign{List: []job.Assignment{as}}) // handled after these
	if again := p.finish(&as); again.ReceiptSig != d.ReceiptSig {
		t.Error("the work was done again")
	}
	if o := owed(t, config); o.Complete() {
		t.Fatal("an attestation that does not verify was taken")
	}

	p.send(attest(&d, clusterKey))
	shown := await[job.Reveal](p, nil)
	if err := d.Receipt.CheckKey(&shown.Key); err != nil || shown.Order != as.Order.ID() {
		t.Fatalf("the key: %v", err)
	}
	o := owed(t, config)
	if !o.Complete() || *o.Claim.OutputKey != shown.Key || o.Claim.Receipt.Digest() != d.Receipt.Digest() || o.Claim.Order.ID() != as.Order.ID() {
		t.Errorf("the claim on disk when the key is shown: %+v", o)
	}
	open := sdk.SealOutput(bytes.NewReader(ciphertext), shown.Key)
	plain, err := io.ReadAll(open)
	if err != nil || blob.Sum(plain) != d.Output || !bytes.Contains(plain, []byte("what it found")) {
		t.Errorf("opened with the key it is %s, want %s: %v", blob.Sum(plain).Short(), d.Output.Short(), err)
	}
	done := attest(&d, clusterKey)
	done.Revealed = true
	p.send(done)
	p.send(job.Assign{List: []job.Assignment{as}})
	p.finish(&as)
	if st := a.status(t); len(st.Unacked) != 0 {
		t.Errorf("after all is acknowledged: %+v", st)
	}
	if o := owed(t, config); !o.Complete() {
		t.Error("the claim is not kept until it is paid")
	}
}

// TestKeysSurviveCrashes ends the agent at each step of the exchange, the way a crash does: a copy
// of its home as of then is what the next one finds. The key that the receipt commits to is there,
// nobody gets another, and what was attested to can be claimed.
func TestKeysSurviveCrashes(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	a := start(t, config)
	p := s.session()
	as := p.assignFair(writer("result.txt", "what it found\n"), 1, nil)
	d := p.finish(&as)
	afterReceipt := crash(t, config)
	p.take(d.Receipt.Sealed.Output)
	p.send(attest(&d, clusterKey))
	shown := await[job.Reveal](p, nil)
	afterKey := crash(t, config)
	a.stop()

	// The receipt had left, and no attestation had come: it is told again, and then the key.
	first := start(t, afterReceipt)
	p = s.session()
	again := await[job.Done](p, nil)
	if again.ReceiptSig != d.ReceiptSig || len(p.hello.Finished) != 1 {
		t.Fatalf("the next process tells another receipt: %+v", again.Receipt)
	}
	p.send(attest(&d, clusterKey))
	if r := await[job.Reveal](p, nil); r != shown {
		t.Errorf("the next process shows key %s, want %s", r.Key, shown.Key)
	}
	first.stop()

	// The key had left: it is told again, without the receipt, until it is acknowledged.
	second := start(t, afterKey)
	p = s.session()
	if r := await[job.Reveal](p, nil); r != shown {
		t.Errorf("the next process shows key %s, want %s", r.Key, shown.Key)
	}
	if o := owed(t, afterKey); !o.Complete() || *o.Claim.OutputKey != shown.Key {
		t.Errorf("what can be claimed: %+v", o)
	}
	p.send(job.Ack{Order: d.Receipt.Order, Refuse: "the job is not known"}) // a cluster that lost its disk
	p.send(job.Assign{List: []job.Assignment{as}})
	if r := await[job.AssignReply](p, nil); r.Refuse == "" {
		t.Error("what was attested to is done again")
	}
	second.stop()
	if o := owed(t, afterKey); !o.Complete() {
		t.Error("the claim is not kept when the cluster refuses it")
	}
}

// crash returns a config whose home is a copy of an agent's, as of now.
func crash(t *testing.T, config agent.Config) agent.Config {
	t.Helper()
	to := filepath.Join(t.TempDir(), "home")
	if err := os.CopyFS(to, os.DirFS(config.Home)); err != nil {
		t.Fatal(err)
	}
	config.Home = to
	return config
}

// TestSealedOutputs: what is encrypted to recipients is sealed in that form, and work that leaves
// nothing has a key to be paid with all the same.
func TestSealedOutputs(t *testing.T) {
	file, to, err := blob.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	key, err := blob.ParseIdentities(bytes.NewReader([]byte(file)))
	if err != nil {
		t.Fatal(err)
	}
	g := genesis()
	s := newServer(t, g)
	start(t, home(t, g, s))
	p := s.session()
	reveal := func(d *job.Done) chain.OutputKey {
		t.Helper()
		p.send(attest(d, clusterKey))
		shown := await(p, func(r job.Reveal) bool { return r.Order == d.Receipt.Order })
		if err := d.Receipt.CheckKey(&shown.Key); err != nil {
			t.Fatal(err)
		}
		return shown.Key
	}
	as := p.assignFair(writer("result.txt", "what it found\n"), 1, func(spec *job.Spec) { spec.OutputTo = []string{to} })
	d := p.finish(&as)
	ciphertext := p.take(d.Receipt.Sealed.Output)
	inner, err := io.ReadAll(sdk.SealOutput(bytes.NewReader(ciphertext), reveal(&d)))
	if err != nil || blob.Sum(inner) != d.Output {
		t.Fatalf("it opens to %s, want %s: %v", blob.Sum(inner).Short(), d.Output.Short(), err)
	}
	if bytes.Contains(inner, []byte("what it found")) {
		t.Error("the key alone reads what is encrypted to somebody")
	}
	opened, err := blob.Unseal(bytes.NewReader(inner), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := blob.Unpack(opened, filepath.Join(t.TempDir(), "out"), blob.Limits{MaxEntries: 10, MaxFileBytes: 1 << 20, MaxBytes: 1 << 20}); err != nil {
		t.Error(err)
	}
	nothing := p.assignFair(exiter(3), 2, nil)
	d = p.finish(&nothing)
	if d.Receipt.Sealed == nil || !d.Receipt.Sealed.Output.IsZero() || !d.Output.IsZero() {
		t.Fatalf("work that leaves nothing: %+v", d.Receipt)
	}
	reveal(&d)
}

// payments is a chain that is asked whether claims would be paid, and answers as a test says.
type payments struct {
	*testing.T
	next chan error
}

func (p payments) open(config agent.Config) *agent.Agent {
	a, err := agent.Open(config)
	if err != nil {
		p.Fatal(err)
	}
	a.AskPayable(func(claim *chain.Claim) error {
		if claim.OutputKey == nil || claim.Attestation == (crypto.Signature{}) {
			p.Errorf("the chain is asked about a claim that is not whole: %+v", claim)
		}
		select {
		case err := <-p.next:
			return err
		case <-p.Context().Done():
			return p.Context().Err()
		}
	})
	return a
}

// say answers the next question.
func (p payments) say(err error) {
	p.Helper()
	select {
	case p.next <- err:
	case <-time.After(patience):
		p.Fatal("the chain was not asked")
	}
}

// TestKeysWaitForPay: no server gets the key of an attested output while the chain would not pay for it, or cannot be asked,
// also after a crash; once it would, the key is shown, and when it has the claim already.
func TestKeysWaitForPay(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	answers := payments{t, make(chan error)}
	open := answers.open
	say := answers.say
	a := begin(t, open(config))
	p := s.session()
	as := p.assignFair(exiter(3), 1, nil)
	d := p.finish(&as)
	hidden := func(p *peer, why error) {
		t.Helper()
		for range 2 { // the second is asked about after what came of the first was sent
			p.send(attest(&d, clusterKey))
			say(why)
		}
		p.send(job.Assign{List: []job.Assignment{as}})
		await(p, func(m any) bool { // the receipt is what servers hear, never the key
			if key, is := m.(job.Reveal); is {
				t.Fatalf("key %s was shown: %v", key.Key, why)
			}
			_, is := m.(job.Done)
			return is
		})
	}
	hidden(p, &sdk.UnpayableError{Why: "cost is 2, the escrow holds 1"})
	hidden(p, errors.New("no node of the chain answers"))
	if o := owed(t, config); !o.Complete() {
		t.Error("the attestation is not kept while the key waits")
	}
	crashed := crash(t, config)
	a.stop()

	begin(t, open(crashed))
	p = s.session()
	hidden(p, &sdk.UnpayableError{Why: "cluster is not registered"})
	p.send(attest(&d, clusterKey))
	say(nil)
	shown := await[job.Reveal](p, nil)
	if err := d.Receipt.CheckKey(&shown.Key); err != nil {
		t.Error(err)
	}
	again := p.assignFair(exiter(4), 2, nil)
	d = p.finish(&again)
	p.send(attest(&d, clusterKey))
	say(fmt.Errorf("asked: %w", sdk.ErrClaimed))
	await(p, func(m job.Reveal) bool { return m.Order == again.Order.ID() })
}

// TestAResultThatIsTakenAfterAll: of two servers one may know of no part that this node has in an order, and be wrong.
func TestAResultThatIsTakenAfterAll(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	start(t, home(t, g, s))
	p := s.session()
	as := p.assignFair(exiter(3), 1, nil)
	d := p.finish(&as)
	p.send(job.Ack{Order: d.Receipt.Order, Refuse: "the job was given to others"})
	p.send(attest(&d, clusterKey))
	if shown := await[job.Reveal](p, nil); shown.Order != d.Receipt.Order {
		t.Errorf("the key of %s was shown", shown.Order.Short())
	}
}

// TestAClaimThatIsAskedAboutForLongHoldsNoKeyBack: the chain is asked about others meanwhile.
func TestAClaimThatIsAskedAboutForLongHoldsNoKeyBack(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	a, err := agent.Open(home(t, g, s))
	if err != nil {
		t.Fatal(err)
	}
	var slow atomic.Pointer[crypto.Digest]
	asked := make(chan crypto.Digest, 9)
	a.AskPayable(func(claim *chain.Claim) error {
		asked <- claim.Receipt.Order
		if claim.Receipt.Order == *slow.Load() {
			<-t.Context().Done()
			return t.Context().Err()
		}
		return nil
	})
	begin(t, a)
	p := s.session()
	first := p.assignFair(exiter(3), 1, nil)
	d := p.finish(&first)
	id := d.Receipt.Order
	slow.Store(&id)
	p.send(attest(&d, clusterKey))
	if got := <-asked; got != d.Receipt.Order {
		t.Fatalf("the chain was asked about %s", got.Short())
	}
	second := p.assignFair(exiter(3), 2, nil)
	d = p.finish(&second)
	p.send(attest(&d, clusterKey))
	if shown := await[job.Reveal](p, nil); shown.Order != d.Receipt.Order {
		t.Errorf("the key of %s was shown", shown.Order.Short())
	}
}
