package staking_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

const (
	testChain = "staking-test"
	second    = 1_000
)

// failer is what testing and rapid have in common.
type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// world is staking without a chain around it: blocks of operations on a state.
type world struct {
	failer
	kv     *state.Overlay
	params chain.Params
	height chain.Height
	now    chain.TimeMs
	view   consensus.View // of the next block, in its epoch
	log    strings.Builder
}

// quick are parameters with epochs of ten seconds.
func quick() chain.Params {
	p := chain.DefaultParams()
	p.EpochMs, p.UnbondDelayMs, p.EvidenceWindowMs, p.JailMs = 10*second, 60*second, 20*second, 15*second
	p.MinSelfBond = chain.Hyper(100)
	return p
}

// newWorld has a validator for each stake in HYPER, owned by accounts 0, 1, …,
// and gives accounts 0 to 49 a million HYPER each.
func newWorld(t failer, params chain.Params, stakes ...uint64) *world {
	t.Helper()
	w := &world{failer: t, kv: state.NewOverlay(state.NewMemoryBackend()), params: params, now: genesisMs, view: 1}
	for i := range stakes {
		stakes[i] *= hyper
	}
	g := genesis(stakes...)
	g.Params = params
	for i := range g.Validators {
		g.Validators[i].Owner = account(i)
	}
	for n := range 50 {
		g.Allocations = append(g.Allocations, chain.Allocation{Address: account(n), Amount: chain.Hyper(1_000_000)})
	}
	staked, err := staking.Genesis(w.kv, g)
	if err != nil {
		t.Fatal(err)
	}
	if err := tokens.Genesis(w.kv, g.Allocations, staked); err != nil {
		t.Fatal(err)
	}
	return w
}

func account(n int) chain.Address { return chain.Address{'a', byte(n)} }

func id(n int) staking.ID { return keyOf('c', n).Public() }

func (w *world) env() *staking.Env {
	return &staking.Env{ChainID: testChain, Height: w.height, Now: w.now, Epoch: staking.EpochOf(w.kv).Number, Params: w.params}
}

// begin starts a block, afterMs after the last, with the extras of consensus,
// and returns what was refused of them.
func (w *world) begin(afterMs uint64, x staking.Extras) error {
	w.Helper()
	w.height, w.now = w.height+1, w.now+chain.TimeMs(afterMs)
	env := w.env()
	w.say("begin", staking.Release(w.kv, env, 1_000)...)
	committee, members, _ := staking.CommitteeOf(w.kv, env.Epoch)
	b := &staking.Block{Env: *env, View: w.view, Proposer: committee.Leader(w.view), Members: members}
	w.view++
	_, events, err := staking.TakeExtras(w.kv, b, x)
	w.say("begin", events...)
	return err
}

// end ends the block, and the epoch if it is over.
func (w *world) end() {
	w.Helper()
	env, epoch := w.env(), staking.EpochOf(w.kv)
	if epoch.Closes(w.now, &w.params) {
		w.say("end", staking.CloseEpoch(w.kv, env)...)
		w.view = 1
	}
}

// block is an empty block.
func (w *world) block(afterMs uint64) {
	w.Helper()
	if err := w.begin(afterMs, staking.Extras{}); err != nil {
		w.Fatal(err)
	}
	w.end()
}

// epochs closes n epochs with one block each.
func (w *world) epochs(n int) {
	w.Helper()
	for range n {
		w.block(w.params.EpochMs)
	}
}

// finalization is the certificate of a view by the given members, or by all if
// there are none.
func (w *world) finalization(view consensus.View, signers ...int) *consensus.Certificate {
	w.Helper()
	committee, members, _ := staking.CommitteeOf(w.kv, w.env().Epoch)
	s := finalize(consensus.Round{Epoch: committee.Epoch(), View: view}, byte(view))
	var list []consensus.Vote
	for i := range members {
		if len(signers) == 0 || contains(signers, i) {
			list = append(list, consensus.SignVote(w.keyOf(members[i].ConsensusKey), consensus.Signer(i), testChain, s))
		}
	}
	return consensus.Assemble(committee, s, list)
}

func contains(list []int, n int) bool {
	for _, m := range list {
		if m == n {
			return true
		}
	}
	return false
}

var privateKeys = func() map[crypto.PublicKey]crypto.PrivateKey {
	keys := map[crypto.PublicKey]crypto.PrivateKey{}
	for n := range 64 {
		keys[keyOf('c', n).Public()] = keyOf('c', n)
	}
	return keys
}()

func (w *world) keyOf(key crypto.PublicKey) crypto.PrivateKey {
	private, ok := privateKeys[key]
	if !ok {
		w.Fatalf("no private key of %s", key.Short())
	}
	return private
}

func finalize(r consensus.Round, content byte) consensus.Statement {
	return consensus.Statement{Kind: consensus.KindFinalize, Proposal: consensus.Proposal{Round: r, Parent: r.View - 1, Digest: crypto.Digest{content}}}
}

func notarize(r consensus.Round, content byte) consensus.Statement {
	s := finalize(r, content)
	s.Kind = consensus.KindNotarize
	return s
}

func nullify(r consensus.Round) consensus.Statement {
	return consensus.Statement{Kind: consensus.KindNullify, Proposal: consensus.Proposal{Round: r}}
}

// signer returns where a validator is in an epoch's committee.
func (w *world) signer(e consensus.Epoch, v staking.ID) (consensus.Signer, staking.Member, bool) {
	_, members, _ := staking.CommitteeOf(w.kv, e)
	for i, m := range members {
		if m.ID == v {
			return consensus.Signer(i), m, true
		}
	}
	return 0, staking.Member{}, false
}

// double is evidence that a validator notarized two proposals of a round.
func (w *world) double(v staking.ID, r consensus.Round) consensus.Evidence {
	w.Helper()
	s, m, ok := w.signer(r.Epoch, v)
	if !ok {
		w.Fatalf("%s is not in the committee of epoch %d", v.Short(), r.Epoch)
	}
	key := w.keyOf(m.ConsensusKey)
	return consensus.Evidence{Votes: [2]consensus.Vote{
		consensus.SignVote(key, s, testChain, notarize(r, 1)), consensus.SignVote(key, s, testChain, notarize(r, 2)),
	}}
}

func (w *world) report(from int, e consensus.Evidence) string {
	w.Helper()
	return w.do(func() (chain.Events, *chain.Rejection) {
		return staking.ReportEvidence(w.kv, w.env(), account(from), chain.ReportEvidence{Evidence: consensus.EncodeEvidence(e)})
	})
}

// do is a transaction: a rejection discards what it changed. It returns the
// rejection's reason, empty if there is none.
func (w *world) do(op func() (chain.Events, *chain.Rejection)) string {
	block := w.kv
	w.kv = state.NewOverlay(block)
	events, why := op()
	tx := w.kv
	if w.kv = block; why != nil {
		return why.Reason()
	}
	tx.Flush(w.kv)
	w.say("tx", events...)
	return ""
}

// send executes a message of an account.
func (w *world) send(from int, m chain.Msg) string {
	return w.do(func() (chain.Events, *chain.Rejection) {
		event, why := dispatch(w.kv, w.env(), account(from), m)
		return chain.Events{event}, why
	})
}

// must sends a message that is accepted.
func (w *world) must(from int, m chain.Msg) {
	w.Helper()
	if why := w.send(from, m); why != "" {
		w.Fatalf("%s of %d: %s", chain.KindOf(m), from, why)
	}
}

// refused sends a message whose rejection has a reason with a text in it.
func (w *world) refused(from int, m chain.Msg, reason string) {
	w.Helper()
	if why := w.send(from, m); !strings.Contains(why, reason) || why == "" {
		w.Fatalf("%s of %d: %q, want %q", chain.KindOf(m), from, why, reason)
	}
}

func dispatch(kv state.KV, env *staking.Env, from chain.Address, m chain.Msg) (chain.Event, *chain.Rejection) {
	switch m := m.(type) {
	case chain.Bond:
		return staking.Bond(kv, env, from, m)
	case chain.Delegate:
		return staking.Delegate(kv, env, from, m)
	case chain.Undelegate:
		return staking.Undelegate(kv, env, from, m)
	case chain.Redelegate:
		return staking.Redelegate(kv, env, from, m)
	case chain.WithdrawRewards:
		return staking.WithdrawRewards(kv, env, from, m)
	case chain.SetCommission:
		return staking.SetCommission(kv, env, from, m)
	case chain.RotateKeys:
		return staking.RotateKeys(kv, env, from, m)
	case chain.Unjail:
		return staking.Unjail(kv, env, from, m)
	case chain.Affiliate:
		return staking.Affiliate(kv, env, from, m)
	case chain.Unaffiliate:
		return staking.Unaffiliate(kv, from, chain.Address{}, m)
	case chain.Transfer, chain.RegisterProvider, chain.UnbondProvider, chain.RegisterCluster, chain.UnbondCluster, chain.Deposit, chain.Withdraw,
		chain.Settle, chain.ReportEvidence, chain.OpenLease, chain.ResizeLease, chain.ExtendLease, chain.CloseLease, chain.CollectLease, chain.ReportMiss, chain.DrawPeers, chain.LeaveLease, chain.AccusePeer,
		chain.OpenChannel, chain.FundChannel, chain.RedeemVoucher, chain.CloseChannel, chain.RegisterMeter, chain.SettleBatch:
	}
	panic(fmt.Sprintf("not a message of this test: %T", m))
}

func (w *world) bondOf(owner, n int, amount chain.Amount) chain.Bond {
	consensusKey, node := keyOf('c', n), keyOf('n', n)
	payload := chain.PossessionPayload(testChain, account(owner))
	return chain.Bond{
		ConsensusKey: consensusKey.Public(), Possession: consensusKey.Sign(crypto.DomainPossession, payload),
		NodeKey: node.Public(), NodePossession: node.Sign(crypto.DomainPossession, payload),
		Name: fmt.Sprint("v", n), Endpoint: "localhost:1", CommissionBps: 1_000, Amount: amount,
	}
}

func (w *world) rotationOf(owner, v, consensusKey, node int) chain.RotateKeys {
	b := w.bondOf(owner, consensusKey, chain.Amount{})
	n := w.bondOf(owner, node, chain.Amount{})
	return chain.RotateKeys{
		Validator: id(v), ConsensusKey: b.ConsensusKey, Possession: b.Possession, NodeKey: n.NodeKey, NodePossession: n.NodePossession, Endpoint: "localhost:2",
	}
}

func (w *world) validator(n int) staking.Validator {
	w.Helper()
	v, ok := staking.ValidatorOf(w.kv, id(n))
	if !ok {
		w.Fatalf("validator %d is not bonded", n)
	}
	return v
}

func (w *world) balance(n int) chain.Amount { return tokens.AccountOf(w.kv, account(n)).Balance }

// say keeps events for transcripts.
func (w *world) say(where string, events ...chain.Event) {
	for _, e := range events {
		raw, err := json.Marshal(e)
		if err != nil {
			w.Fatal(err)
		}
		fmt.Fprintf(&w.log, "%d %s %s %s\n", w.height, where, chain.EventName(e), raw)
	}
}

// audit checks every sum of the package, and that supply is conserved.
func (w *world) audit() {
	w.Helper()
	if err := staking.Audit(w.kv, 10_000); err != nil {
		w.Fatal(err)
	}
}

// dump is the whole state.
func dump(r state.Reader) string {
	var b strings.Builder
	for key, value := range r.Iterate([]byte{0}, nil) {
		fmt.Fprintf(&b, "%x %x\n", key, value)
	}
	return b.String()
}

func wantAmount(t *testing.T, what string, got, want chain.Amount) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %s, want %s", what, got, want)
	}
}
