package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/nexus/match"
	"github.com/hypermesh/hypermesh/nexus/server"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// fakeNode serves a chain of real headers, certificates, proofs and receipts,
// and says of settlements whatever it is told to.
type fakeNode struct {
	t         testing.TB
	genesis   *chain.Genesis
	committee *consensus.Committee

	mu       sync.Mutex
	flat     *state.MemoryBackend
	trees    []*state.Tree // by height, after the block
	blocks   []*chain.DecodedBlock
	receipts []chain.BlockReceipts
	said     api.Settlements
	lie      bool // about values
}

func newFakeNode(t testing.TB, records map[string]any) (*fakeNode, server.Chain) {
	t.Helper()
	n := &fakeNode{t: t, genesis: testGenesis(t), flat: state.NewMemoryBackend()}
	var err error
	if n.committee, err = light.GenesisCommittee(n.genesis, light.FirstEpoch); err != nil {
		t.Fatal(err)
	}
	overlay := state.NewOverlay(n.flat)
	overlay.Set([]byte("x"), []byte("y")) // so that the tree is not empty
	for key, record := range records {
		overlay.Set([]byte(key), codec.Marshal(record))
	}
	tree, err := state.NewTree(n.flat, 1_000).Next(0, overlay.Changes(), 1)
	if err != nil {
		t.Fatal(err)
	}
	overlay.Flush(n.flat)
	n.trees = []*state.Tree{tree}
	n.seal(chain.BlockReceipts{})
	web := httptest.NewServer(n)
	t.Cleanup(web.Close)
	c, err := server.NewSDKChain([]string{web.URL}, n.genesis, key(clusterKey))
	if err != nil {
		t.Fatal(err)
	}
	return n, c
}

// seal finalizes a block with these transactions and receipts.
func (n *fakeNode) seal(made chain.BlockReceipts, txs ...chain.DecodedTx) {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	height := chain.Height(len(n.blocks) + 1)
	h := chain.Header{
		Version: chain.BlockVersion, ChainID: testChain, Height: height, Epoch: 1, View: uint64(height), TimeMs: chain.TimeMs(height * 1_000),
		Parent: n.genesis.Digest(), StateRoot: n.trees[0].Root(), Committee: n.committee.Digest(), NextCommittee: n.committee.Digest(),
	}
	before := chain.BlockReceipts{}
	if height > 1 {
		h.Parent, before = n.blocks[height-2].Digest(), n.receipts[height-2]
	}
	h.ReceiptRoot = before.Root()
	block := chain.Block{Header: h}
	var ids []crypto.Digest
	for i := range txs {
		ids = append(ids, txs[i].ID())
		block.Body.Txs = append(block.Body.Txs, codec.Raw(txs[i].Raw()))
	}
	block.Header.TxRoot, block.Header.ExtraRoot = chain.ListRoot(crypto.DomainTxRoot, ids), block.Body.ExtraRoot()
	decoded, err := chain.DecodeBlock(block.Encode(), nil)
	if err != nil {
		n.t.Fatal(err)
	}
	n.blocks, n.receipts = append(n.blocks, decoded), append(n.receipts, made)
}

func (n *fakeNode) certificate(height int) api.Certificate {
	b := n.blocks[height-1]
	s := consensus.Statement{Kind: consensus.KindFinalize, Proposal: consensus.Proposal{
		Round: consensus.Round{Epoch: 1, View: consensus.View(b.Header().View)}, Digest: b.Digest(),
	}}
	var votes []consensus.Vote
	for i := range 3 {
		for v := range 4 {
			if k := key(300 + v); k.Public() == n.committee.Validator(consensus.Signer(i)).Key {
				votes = append(votes, consensus.SignVote(k, consensus.Signer(i), string(testChain), s))
			}
		}
	}
	return api.Certificate{Bytes: consensus.EncodeCertificate(consensus.Assemble(n.committee, s, votes))}
}

// ServeHTTP answers as a node does.
func (n *fakeNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	head, tail, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/"), "/")
	var out any
	switch head {
	case "status":
		out = api.Status{ChainID: testChain, Height: chain.Height(len(n.blocks))}
	case "settlements":
		out = n.said
	case "state":
		out = n.state(tail)
	case "txs":
		out = n.tx(tail)
	case "blocks":
		height, err := strconv.Atoi(tail)
		if err != nil || height > len(n.blocks) {
			http.NotFound(w, r)
			return
		}
		b := n.blocks[height-1]
		out = api.Block{
			Header: api.HeaderToJSON(*b.Header()), Digest: b.Digest(), Certificate: n.certificate(height),
			Raw: b.Raw(), RawReceipts: n.receipts[height-1].Encode(),
		}
	default:
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", api.ContentJSON)
	if err := json.NewEncoder(w).Encode(out); err != nil {
		n.t.Error(err)
	}
}

func (n *fakeNode) state(tail string) api.State {
	var k api.Hex
	if err := k.UnmarshalText([]byte(tail)); err != nil {
		n.t.Error(err)
	}
	proof, err := n.trees[0].Prove(k)
	if err != nil {
		n.t.Error(err)
	}
	value, ok := n.flat.Get(k)
	p := &api.StateProof{Key: k, Value: bytes.Clone(value), Present: ok, Proof: proof.Encode(), Header: api.HeaderToJSON(*n.blocks[0].Header()), Certificate: n.certificate(1)}
	if n.lie && ok {
		p.Value[len(p.Value)-1] ^= 1
	}
	return api.State{Key: k, Proof: p}
}

func (n *fakeNode) tx(tail string) api.TxLookup {
	for i, b := range n.blocks {
		for j, tx := range b.Txs() {
			if tx.ID().String() == tail {
				return api.TxLookup{TxID: tx.ID(), Status: api.TxIncluded, Height: chain.Height(i + 1), Receipt: &n.receipts[i].Txs[j]}
			}
		}
	}
	return api.TxLookup{Status: api.TxPending}
}

func TestChainIsBelievedWithProof(t *testing.T) {
	consumer, node, gone := address(consumerKey), key(agentKeys).Public(), key(agentKeys+1).Public()
	var record match.Record
	record.Add(1_000, match.FactFailed, chain.Hyper(1))
	owing := record.At(1_000)
	n, c := newFakeNode(t, map[string]any{
		string(settlement.EscrowKey(consumer, key(clusterKey).Public())): settlement.Escrow{Balance: chain.Hyper(3)},
		string(settlement.ProviderKey(node)):                             settlement.Provider{Owner: address(ownerKeys), Bond: chain.Hyper(3), Locked: chain.Hyper(1), Record: record},
		string(settlement.ProviderKey(gone)):                             settlement.Provider{Owner: address(ownerKeys), UnbondedMs: 5},
		string(settlement.ClusterKey(key(clusterKey).Public())):          settlement.Cluster{Operator: address(9), FeeBps: 70},
	})
	ctx := context.Background()
	if e, err := c.Escrow(ctx, consumer); err != nil || e.Balance != chain.Hyper(3) || e.TimeMs != 1_000 {
		t.Errorf("escrow: %+v %v", e, err)
	}
	if e, err := c.Escrow(ctx, address(55)); err != nil || !e.Balance.IsZero() {
		t.Errorf("no escrow: %+v %v", e, err)
	}
	if p, err := c.Provider(ctx, node); err != nil || p.Premium <= match.Premium(match.Neutral) || p != (server.Provider{Owner: address(ownerKeys), Premium: match.Premium(owing.Score()), Free: chain.Hyper(2)}) {
		t.Errorf("provider: %+v %v", p, err)
	}
	for name, stranger := range map[string]crypto.PublicKey{"unknown": key(55).Public(), "unbonded": gone} {
		if _, err := c.Provider(ctx, stranger); !errors.Is(err, server.ErrNotRegistered) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if own, err := c.Own(ctx); err != nil || own.FeeBps != 70 {
		t.Errorf("the cluster's record: %+v %v", own, err)
	}
	n.lie = true
	if _, err := c.Escrow(ctx, consumer); !errors.Is(err, light.ErrRefused) {
		t.Errorf("a lie about an escrow: %v", err)
	}
	if _, err := c.Provider(ctx, node); !errors.Is(err, light.ErrRefused) {
		t.Errorf("a lie about an owner: %v", err)
	}
}

// claimOf returns the claim of an agent for an order.
func claimOf(t testing.TB, order chain.Order, agent int) chain.Claim {
	order.Consumer = accountOf(consumerKey)
	id := order.ID()
	receipt := chain.UsageReceipt{ChainID: testChain, Order: id, Node: key(agentKeys + agent).Public(), Sequence: 1, Exit: chain.ExitOK}
	if receipt.CheckTrace(order.Policy.Policy) != nil {
		receipt.Trace = &chain.Trace{Runs: crypto.Digest{1}, Panels: crypto.Digest{2}}
	}
	return chain.Claim{
		Order: order, Acceptance: chain.Acceptance{ChainID: testChain, Order: id, Cluster: order.Cluster, Sequence: 1, Outstanding: order.MaxCost},
		Bid:     chain.Bid{ChainID: testChain, Order: id, Node: key(agentKeys + agent).Public(), Prices: prices(1), Expiry: order.Deadline},
		Receipt: receipt,
	}
}

// posted returns a transaction that posts claims.
func posted(t testing.TB, nonce uint64, claims ...chain.Claim) chain.DecodedTx {
	t.Helper()
	tx, err := chain.SignTx(chain.TxBody{
		ChainID: testChain, Sender: address(50), Nonce: nonce, Expiry: 100, GasLimit: chain.GasUnits(1), MaxFee: chain.PricePerGas(1),
		Messages: chain.Msgs{chain.Settle{Claims: claims}},
	}, signer{key(50)})
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := chain.DecodeTx(tx.Encode())
	if err != nil {
		t.Fatal(err)
	}
	return decoded
}

func paidEvent(c *chain.Claim) chain.ClaimSettled {
	return chain.ClaimSettled{Order: c.Receipt.Order, Node: c.Receipt.Node, Sequence: 1, Exit: chain.ExitOK, Cost: chain.Nano(100), Burned: chain.Nano(2), ClusterFee: chain.Nano(5), PriorityBurned: chain.Nano(1), PriorityFee: chain.Nano(3)}
}

func refusedEvent(c *chain.Claim) chain.ClaimRejected {
	return chain.ClaimRejected{Order: c.Receipt.Order, Node: c.Receipt.Node, Sequence: 1, Reason: "the proof does not verify"}
}

// TestOutcome has a node say this and that of two claims, which is believed as
// far as receipts show it.
func TestOutcome(t *testing.T) {
	order := testOrder(chain.PolicyReplicate{K: 2, N: 2, WindowMs: 60_000})
	first, second := claimOf(t, order, 0), claimOf(t, order, 1)
	claims, id := []chain.Claim{first, second}, first.Receipt.Order
	forged := second
	forged.Receipt.Fuel++
	paid, refused := posted(t, 1, first, second), posted(t, 2, second)
	strange, transfer := posted(t, 3, forged), posted(t, 4, first)
	n, c := newFakeNode(t, nil)
	receipts := chain.BlockReceipts{Txs: []chain.Receipt{
		{TxID: paid.ID(), Events: chain.Events{paidEvent(&first), paidEvent(&second)}},
		{TxID: refused.ID(), Events: chain.Events{refusedEvent(&second)}},
		{TxID: strange.ID(), Events: chain.Events{refusedEvent(&forged)}},
		{TxID: transfer.ID()},
	}}
	n.seal(receipts, paid, refused, strange, transfer)
	n.seal(chain.BlockReceipts{})
	settled := func(tx chain.DecodedTx, c *chain.Claim) api.SettledClaim {
		return api.SettledClaim{Height: 2, TxID: tx.ID(), Claim: paidEvent(c)}
	}
	rejected := func(tx chain.DecodedTx, c *chain.Claim) api.RefusedClaim {
		return api.RefusedClaim{Height: 2, TxID: tx.ID(), Claim: refusedEvent(c)}
	}
	recorded := api.WaitingClaim{Height: 2, TxID: refused.ID(), Claim: chain.ClaimRecorded{Order: id, Node: second.Receipt.Node, Sequence: 1}}
	ask := func(said api.Settlements) server.Outcome {
		t.Helper()
		said.Order = id
		n.mu.Lock()
		n.said = said
		n.mu.Unlock()
		out, err := c.Outcome(context.Background(), id, claims)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if out := ask(api.Settlements{}); out.Settled || out.Refused != "" {
		t.Errorf("nothing yet: %+v", out)
	}
	out := ask(api.Settlements{Settled: []api.SettledClaim{settled(paid, &first), settled(paid, &second)}})
	if r := out.Record; !out.Settled || r.Cost != chain.Nano(200) || r.Burned != chain.Nano(4) || r.Priority != chain.Nano(8) || r.Height != 2 || len(r.Nodes) != 2 || len(r.Txs) != 1 {
		t.Errorf("paid: %+v", out)
	}
	if out := ask(api.Settlements{Settled: []api.SettledClaim{settled(transfer, &first), settled(transfer, &second)}}); out.Settled {
		t.Errorf("said to be paid by a transaction that paid nobody: %+v", out)
	}
	if out := ask(api.Settlements{Rejected: []api.RefusedClaim{rejected(strange, &second)}}); out.Refused != "" {
		t.Errorf("another claim of the same name was refused: %+v", out)
	}
	if out := ask(api.Settlements{Rejected: []api.RefusedClaim{rejected(transfer, &second)}}); out.Refused != "" {
		t.Errorf("said to be refused by a transaction without it: %+v", out)
	}
	if out := ask(api.Settlements{Rejected: []api.RefusedClaim{rejected(refused, &second)}, Recorded: []api.WaitingClaim{recorded}}); out.Refused != "" {
		t.Errorf("recorded, and refused when posted again: %+v", out)
	}
	if out := ask(api.Settlements{Rejected: []api.RefusedClaim{rejected(strange, &second), rejected(refused, &second)}}); out.Refused != "the proof does not verify" {
		t.Errorf("refused: %+v", out)
	}
	for i := range claims {
		claims[i].Order.Deadline = chain.TimeMs(time.Now().Add(-24 * time.Hour).UnixMilli())
	}
	if out := ask(api.Settlements{}); out.Refused != "the claim window has passed" {
		t.Errorf("long past: %+v", out)
	}
}

// TestOutcomeOfRunsThatABlockPaid: no transaction has a receipt of it. The records of the order's runs say who was paid, with a proof, whatever the node says.
func TestOutcomeOfRunsThatABlockPaid(t *testing.T) {
	for name, c := range map[string]struct {
		unpaid bool // one of those who are owed, as the order has it
		lie    bool
	}{"paid": {}, "one is not": {unpaid: true}, "a lie": {lie: true}} {
		t.Run(name, func(t *testing.T) {
			order := testOrder(chain.PolicyReplicate{K: 2, N: 3, WindowMs: 60_000})
			id := order.ID()
			book := settlement.Order{Consumer: order.ConsumerAddress(), Cluster: order.Cluster, Policy: order.Policy, MaxCost: order.MaxCost, Closed: true, Finding: chain.RunJudged, Payees: 2}
			records := map[string]any{}
			for at := range 3 {
				node := claimOf(t, order, at).Receipt.Node
				record := settlement.Claim{Node: node, Sequence: 1, Height: chain.Height(7 + at), Cost: chain.Nano(100), Burned: chain.Nano(2), PriorityBurned: chain.Nano(1)}
				if at == 2 || at == 1 && c.unpaid {
					record = settlement.Claim{Node: node, Sequence: 1, Height: 7, Pending: &settlement.Replica{}}
				}
				records[string(settlement.ClaimKey(chain.ClaimKey{Order: id, Node: node, Sequence: 1}))] = record
				book.Assignments = append(book.Assignments, settlement.Assignment{Node: node, Next: 2})
			}
			records[string(settlement.OrderKey(id))] = book
			n, sdk := newFakeNode(t, records)
			n.lie = c.lie
			_, out, err := sdk.Replication(t.Context(), &order)
			if c.lie {
				if err == nil {
					t.Errorf("believed without a proof: %+v", out)
				}
				return
			}
			if r := out.Record; err != nil || out.Refused != "" || out.Settled == c.unpaid || !c.unpaid && (r.Cost != chain.Nano(200) || r.Burned != chain.Nano(4) || r.Priority != chain.Nano(2) || r.Height != 8 || len(r.Nodes) != 2 || len(r.Txs) != 0) {
				t.Errorf("%+v, %v", out, err)
			}
		})
	}
}

// TestOutcomeWithoutAFreeBond: a claim that the chain refuses because a bond has too little free is posted again, and its job waits
// for that: who ran it is not paid else.
func TestOutcomeWithoutAFreeBond(t *testing.T) {
	order := testOrder(chain.PolicyOptimistic{WindowMs: 60_000, Bond: chain.Hyper(40)})
	claim := claimOf(t, order, 0)
	wants, wrong := posted(t, 1, claim), posted(t, 2, claim)
	n, c := newFakeNode(t, nil)
	short := refusedEvent(&claim)
	short.Reason = "provider has 3 HYPER free of its bond, the job locks 40 HYPER"
	if !settlement.WantsBond(short.Reason) {
		t.Fatal("the chain says it otherwise")
	}
	n.seal(chain.BlockReceipts{Txs: []chain.Receipt{
		{TxID: wants.ID(), Events: chain.Events{short}},
		{TxID: wrong.ID(), Events: chain.Events{refusedEvent(&claim)}},
	}}, wants, wrong)
	n.seal(chain.BlockReceipts{})
	rejected := []api.RefusedClaim{{Height: 2, TxID: wants.ID(), Claim: short}, {Height: 2, TxID: wrong.ID(), Claim: refusedEvent(&claim)}}
	mistold := []api.RefusedClaim{rejected[0]}
	mistold[0].Claim = refusedEvent(&claim)
	for name, want := range map[string]struct {
		said    []api.RefusedClaim
		refused string
	}{"never": {nil, ""}, "for want of a bond": {rejected[:1], ""}, "as well for what it is": {rejected, "the proof does not verify"}, "for what a node makes up": {mistold, ""}} {
		n.mu.Lock()
		n.said = api.Settlements{Order: claim.Receipt.Order, Rejected: want.said}
		n.mu.Unlock()
		out, err := c.Outcome(context.Background(), claim.Receipt.Order, []chain.Claim{claim})
		if err != nil || out.Settled || out.Refused != want.refused {
			t.Errorf("refused %s: %+v, %v, want %q", name, out, err, want.refused)
		}
	}
}

// TestOutcomeOfALostClaim: one that was paid in part, and of which the rest is lost, is over,
// and not settled; it is believed as far as receipts show it.
func TestOutcomeOfALostClaim(t *testing.T) {
	order := testOrder(chain.PolicyNone{})
	claim := claimOf(t, order, 0)
	id := claim.Receipt.Order
	lost, other := posted(t, 1, claim), posted(t, 2, claim)
	event := chain.ClaimLost{Order: id, Node: claim.Receipt.Node, Sequence: 1, Lost: chain.Nano(7)}
	n, c := newFakeNode(t, nil)
	n.seal(chain.BlockReceipts{Txs: []chain.Receipt{{TxID: lost.ID(), Events: chain.Events{paidEvent(&claim), event}}, {TxID: other.ID()}}}, lost, other)
	n.seal(chain.BlockReceipts{})
	for tx, want := range map[chain.TxID]bool{lost.ID(): true, other.ID(): false} {
		n.mu.Lock()
		n.said = api.Settlements{
			Order: id, Settled: []api.SettledClaim{{Height: 2, TxID: tx, Claim: paidEvent(&claim)}}, Lost: []api.LostClaim{{Height: 2, TxID: tx, Claim: event}},
		}
		n.mu.Unlock()
		out, err := c.Outcome(context.Background(), id, []chain.Claim{claim})
		if err != nil || out.Settled || strings.Contains(out.Refused, "the escrow does not cover it") != want {
			t.Errorf("%+v, %v, want lost: %v", out, err, want)
		}
	}
}

// TestPanelsAreLookedForByTime: a server that begins looks as far back as a panel may be open,
// however many blocks that is, and no further than its node has kept them; at 2,000 blocks at least.
func TestPanelsAreLookedForByTime(t *testing.T) {
	genesis := testGenesis(t)
	back := 2 * settlement.PanelMs(&genesis.Params)
	if back%8_000 != 0 {
		t.Fatalf("%d ms are not 8,000 blocks of one length", back)
	}
	for name, test := range map[string]struct{ height, blockMs, pruned, want uint64 }{
		"quick blocks": {height: 20_000, blockMs: back / 8_000, want: 20_000 - 8_000 - 1},
		"slow blocks":  {height: 20_000, blockMs: back / 10, want: 20_000 - 2_000 - 1},
		"few are kept": {height: 20_000, blockMs: back / 8_000, pruned: 15_000, want: 15_000},
		"a new chain":  {height: 50, blockMs: 1},
		"none yet":     {},
	} {
		t.Run(name, func(t *testing.T) {
			web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var out any = api.Status{Height: chain.Height(test.height), BlockTimeMs: chain.TimeMs(test.height * test.blockMs)}
				if _, text, ok := strings.Cut(r.URL.Path, "/v1/blocks/"); ok {
					height, err := strconv.ParseUint(text, 10, 64)
					if err != nil {
						t.Error(err)
					}
					var block api.Block
					block.Header.Height, block.Header.TimeMs = chain.Height(height), chain.TimeMs(height*test.blockMs)
					out = block
					if height <= test.pruned {
						w.WriteHeader(http.StatusGone)
						out = api.Problem{Type: api.ProblemPruned, Title: "Gone", Status: http.StatusGone}
					}
				}
				if err := json.NewEncoder(w).Encode(out); err != nil {
					t.Error(err)
				}
			}))
			defer web.Close()
			c, err := server.NewSDKChain([]string{web.URL}, genesis, key(clusterKey))
			if err != nil {
				t.Fatal(err)
			}
			got, err := server.BeforePanels(t.Context(), c)
			if err != nil || got != chain.Height(test.want) {
				t.Errorf("looked for after block %d, want %d: %v", got, test.want, err)
			}
		})
	}
}
