package rpc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/rpc"
	"github.com/hypermesh/hypermesh/sdk/api"
)

type keySigner struct{ crypto.PrivateKey }

func (k keySigner) AccountKey() crypto.AccountKey { return crypto.AccountKeyOf(k.Public()) }

func (k keySigner) Sign(d *crypto.Domain, payload []byte) (crypto.Signature, error) {
	return k.PrivateKey.Sign(d, payload), nil
}

func testKey(n byte) keySigner { return keySigner{crypto.PrivateKeyFromSeed([32]byte{n})} }

func address(n byte) chain.Address { return chain.AddressOf(testKey(n).AccountKey()) }

func transfer(t testing.TB, nonce uint64) chain.DecodedTx {
	t.Helper()
	tx, err := chain.SignTx(chain.TxBody{
		ChainID: "hyper-test", Sender: address(1), Nonce: nonce, Expiry: 100, GasLimit: chain.GasUnits(1000), MaxFee: chain.PricePerGas(5),
		Messages: chain.Msgs{chain.Transfer{To: address(2), Amount: chain.Nano(nonce + 1)}},
	}, testKey(1))
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := chain.DecodeTx(tx.Encode())
	if err != nil {
		t.Fatal(err)
	}
	return decoded
}

// fakeNode is a chain in memory. Its errors and its panics are set by tests.
type fakeNode struct {
	t         testing.TB
	mu        sync.Mutex
	blocks    []rpc.Block // height 1 first
	pruned    chain.Height
	changed   chan struct{}
	submitted []chain.DecodedTx
	dropped   map[chain.TxID]api.Dropped
	status    api.Status
	fail      error
	explode   bool
	hold      chan struct{} // if set, Status waits for it
	entered   chan struct{} // if set, told when Status begins
}

func newFakeNode(t testing.TB) *fakeNode {
	return &fakeNode{t: t, changed: make(chan struct{}), status: api.Status{ChainID: "hyper-test", Version: "test"}}
}

// seal finalizes a block with the transactions; every second one is rejected.
func (n *fakeNode) seal(txs ...chain.DecodedTx) {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	block := chain.Block{Header: chain.Header{Version: 1, ChainID: "hyper-test", Height: chain.Height(len(n.blocks) + 1), Epoch: 1, View: uint64(len(n.blocks) + 3), TimeMs: chain.TimeMs(1000 * (len(n.blocks) + 1))}}
	receipts := chain.BlockReceipts{Begin: chain.Events{chain.Matured{To: address(7), Amount: chain.Nano(1)}}}
	ids := []crypto.Digest{}
	for i := range txs {
		block.Body.Txs = append(block.Body.Txs, codec.Raw(txs[i].Raw()))
		ids = append(ids, txs[i].ID())
		receipt := chain.Receipt{TxID: txs[i].ID(), GasUsed: chain.GasUnits(10), Burned: chain.Nano(20)}
		if i%2 == 0 {
			receipt.Events = chain.Events{chain.Transferred{From: address(1), To: address(2), Amount: chain.Nano(uint64(i))}}
		} else {
			receipt.Rejection = "balance 1 is below 2"
		}
		receipts.Txs = append(receipts.Txs, receipt)
	}
	block.Header.TxRoot = chain.ListRoot(crypto.DomainTxRoot, ids)
	block.Header.ExtraRoot = block.Body.ExtraRoot()
	decoded, err := chain.DecodeBlock(block.Encode(), nil)
	if err != nil {
		n.t.Fatal(err)
	}
	n.blocks = append(n.blocks, rpc.Block{Decoded: decoded, Receipts: receipts, Certificate: api.Certificate{Bytes: []byte{1}, Epoch: 1, View: 9, Digest: decoded.Digest()}})
	close(n.changed)
	n.changed = make(chan struct{})
}

func (n *fakeNode) Status(ctx context.Context) (api.Status, error) {
	if n.explode {
		panic("the fake node explodes")
	}
	if n.entered != nil {
		n.entered <- struct{}{}
	}
	if n.hold != nil {
		<-n.hold
	}
	return n.status, n.fail
}

func (n *fakeNode) Hold(context.Context) {}

func (n *fakeNode) Submit(_ context.Context, txs []chain.DecodedTx) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.submitted = append(n.submitted, txs...)
	reasons := make([]string, len(txs))
	for i := range txs {
		if txs[i].Tx().Body.Nonce == 13 {
			reasons[i] = "nonce 13 is unlucky"
		}
		if txs[i].Tx().Body.Nonce == 14 {
			reasons[i] = api.ReasonQueueFull + ": 9 wait"
		}
	}
	return reasons, n.fail
}

func (n *fakeNode) Tx(_ context.Context, id chain.TxID) (api.TxLookup, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, b := range n.blocks {
		for i, tx := range b.Decoded.Txs() {
			if tx.ID() == id {
				asJSON := api.TxToJSON(*tx.Tx())
				return api.TxLookup{TxID: id, Status: api.TxIncluded, Tx: &asJSON, Height: b.Decoded.Header().Height, Index: uint32(i), Receipt: &b.Receipts.Txs[i]}, n.fail
			}
		}
	}
	if why, ok := n.dropped[id]; ok {
		return api.TxLookup{TxID: id, Status: api.TxDropped, Dropped: &why}, n.fail
	}
	return api.TxLookup{}, fmt.Errorf("transaction %s: %w", id.Short(), rpc.ErrNotFound)
}

func (n *fakeNode) Dropped(id chain.TxID) (api.Dropped, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	why, ok := n.dropped[id]
	return why, ok
}

// drop has a transaction leave the mempool.
func (n *fakeNode) drop(id chain.TxID, why api.Dropped) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dropped = map[chain.TxID]api.Dropped{id: why}
}

func (n *fakeNode) Block(_ context.Context, height chain.Height) (rpc.Block, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if height == 0 || int(height) > len(n.blocks) {
		return rpc.Block{}, fmt.Errorf("block %d: %w", height, rpc.ErrNotFound)
	}
	if height <= n.pruned {
		return rpc.Block{}, fmt.Errorf("block %d, the oldest is %d: %w", height, n.pruned+1, rpc.ErrPruned)
	}
	return n.blocks[height-1], n.fail
}

func (n *fakeNode) Outcome(ctx context.Context, height chain.Height) (rpc.Outcome, error) {
	b, err := n.Block(ctx, height)
	if err != nil {
		return rpc.Outcome{}, err
	}
	return rpc.Outcome{Header: *b.Decoded.Header(), Digest: b.Decoded.Digest(), Receipts: b.Receipts}, nil
}

func (n *fakeNode) Finalized() (chain.Height, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return chain.Height(len(n.blocks)), n.changed
}

func (n *fakeNode) Account(_ context.Context, a chain.Address, prove bool) (api.Account, error) {
	account := api.Account{Address: a, Balance: chain.Hyper(500_000_000), Spendable: chain.Nano(5), Nonce: 3}
	if prove {
		account.Proof = rpc.Proven{Key: []byte{1}, Value: []byte{2}, Present: true, Header: chain.Header{ChainID: "hyper-test", Height: 9}}.JSON()
	}
	return account, n.fail
}

func (n *fakeNode) State(_ context.Context, key []byte, prove bool) (api.State, error) {
	value := api.State{Key: key, Value: []byte("value"), Present: true}
	if prove {
		value.Proof = rpc.Proven{Key: key, Value: []byte("value"), Present: true}.JSON()
	}
	return value, n.fail
}

func (n *fakeNode) Settlements(_ context.Context, order crypto.Digest) (api.Settlements, error) {
	s := api.NewSettlements(order)
	err := s.Add(api.SettledClaim{Height: 4}, chain.ClaimSettled{Order: order, Exit: chain.ExitOK, Cost: chain.Nano(8)})
	return s, err
}

func (n *fakeNode) NodeReputation(_ context.Context, node crypto.PublicKey) (api.Reputation, error) {
	if node != testKey(1).Public() {
		return api.Reputation{}, fmt.Errorf("node %s: %w", node.Short(), rpc.ErrNotFound)
	}
	return api.Reputation{Nodes: []api.NodeFacts{{Node: node, Facts: api.Facts{Score: 7}}}, Clusters: []api.ClusterFacts{}}, n.fail
}

func (n *fakeNode) AccountReputation(_ context.Context, a chain.Address) (api.Reputation, error) {
	return api.Reputation{Nodes: []api.NodeFacts{}, Clusters: []api.ClusterFacts{}, Consumer: &api.Facts{Score: 9}}, n.fail
}

func (n *fakeNode) Validators(_ context.Context, epoch uint64) (api.Validators, error) {
	if epoch > 2 {
		return api.Validators{}, fmt.Errorf("epoch %d: %w", epoch, rpc.ErrNotFound)
	}
	return api.Validators{Epoch: max(epoch, 1), Validators: []api.Validator{{Name: "v0"}}}, n.fail
}

func (n *fakeNode) Epoch(_ context.Context, epoch uint64) (api.EpochEnd, error) {
	if epoch > 7 {
		return api.EpochEnd{}, fmt.Errorf("epoch %d: %w", epoch, rpc.ErrNotFound)
	}
	if epoch == 0 {
		epoch = 7
	}
	return api.EpochEnd{Epoch: epoch, Members: []api.EpochMember{{Weight: 5}}}, n.fail
}

func (n *fakeNode) Supply(_ context.Context, verify bool) (api.Supply, error) {
	out := api.Supply{Height: 3, Minted: chain.Nano(10), Burned: chain.Nano(4), Total: chain.Nano(6)}
	if verify {
		out.Parts = &api.SupplyParts{Balances: chain.Nano(6), Sum: chain.Nano(6)}
	}
	return out, nil
}

func (n *fakeNode) Params(context.Context) (api.ChainParams, error) {
	return api.ChainParams{Params: chain.DefaultParams()}, n.fail
}

func (n *fakeNode) Faucet(_ context.Context, to chain.Address, amount chain.Amount) (chain.TxID, error) {
	return crypto.Digest(to), n.fail
}

// served is an API over a fake node.
type served struct {
	t       testing.TB
	node    *fakeNode
	handler http.Handler
	url     string
	logs    *lockedBuffer
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func serve(t testing.TB, config rpc.Config) *served {
	t.Helper()
	s := &served{t: t, node: newFakeNode(t), logs: &lockedBuffer{}}
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if _, err := io.WriteString(w, "height 3\n"); err != nil {
			t.Error(err)
		}
	})
	handler, err := rpc.NewHandler(config, s.node, metrics, slog.New(slog.NewTextHandler(s.logs, nil)))
	if err != nil {
		t.Fatal(err)
	}
	s.handler = handler
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

func (s *served) do(method, path, contentType string, body io.Reader) answer {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	return readAnswer(s.t, response)
}

func readAnswer(t testing.TB, response *http.Response) answer {
	t.Helper()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return answer{status: response.StatusCode, header: response.Header, body: data}
}

func (s *served) get(path string) answer {
	s.t.Helper()
	return s.do(http.MethodGet, path, "", nil)
}

// into decodes a good answer strictly.
func into[T any](t testing.TB, a answer) T {
	t.Helper()
	var out T
	if a.status != http.StatusOK {
		t.Fatalf("%d: %s", a.status, a.body)
	}
	if err := api.DecodeJSON(a.body, &out); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
	return out
}

// problem decodes a bad answer.
func problem(t testing.TB, a answer, status int) api.Problem {
	t.Helper()
	var p api.Problem
	if err := json.Unmarshal(a.body, &p); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
	if a.status != status || p.Status != status || a.header.Get("Content-Type") != api.ContentProblem {
		t.Fatalf("%d %s, want %d: %s", a.status, a.header.Get("Content-Type"), status, a.body)
	}
	return p
}

func (n *fakeNode) Contract(_ context.Context, a chain.Address, prove bool) (api.Contract, error) {
	if a != address(1) {
		return api.Contract{}, fmt.Errorf("contract %s: %w", a.Short(), rpc.ErrNotFound)
	}
	out := api.Contract{Address: a, Code: 3, Creator: address(2), Label: "shop", Bytes: 600, Height: 3}
	if prove {
		out.Proof = rpc.Proven{Key: []byte{1}, Value: []byte{2}, Present: true}.JSON()
	}
	return out, n.fail
}

func (n *fakeNode) ContractState(ctx context.Context, a chain.Address, key []byte, prove bool) (api.State, error) {
	return n.State(ctx, append(a[:], key...), prove)
}

func (n *fakeNode) ContractCode(_ context.Context, code uint64, _ bool) (api.ContractCode, error) {
	if code > 3 {
		return api.ContractCode{}, fmt.Errorf("code %d: %w", code, rpc.ErrNotFound)
	}
	return api.ContractCode{Code: api.Uint64(code), Creator: address(2), Size: 99}, n.fail
}

func (n *fakeNode) ContractSchema(_ context.Context, code uint64) (api.ContractSchema, error) {
	if code > 3 {
		return api.ContractSchema{}, fmt.Errorf("code %d: %w", code, rpc.ErrNotFound)
	}
	return api.ContractSchema{Code: api.Uint64(code), Schema: json.RawMessage(`{"execute":false}`), Height: 3}, n.fail
}

func (n *fakeNode) AskContract(_ context.Context, a chain.Address, query []byte) (api.ContractAnswer, error) {
	if string(query) == "busy" {
		return api.ContractAnswer{}, fmt.Errorf("4 are being asked: %w", rpc.ErrBusy)
	}
	if a != address(1) {
		return api.ContractAnswer{}, &rpc.ContractError{Why: "wasm 22: no contract"}
	}
	return api.ContractAnswer{Data: append([]byte("answer to "), query...), GasUsed: chain.GasUnits(7), Height: 3}, n.fail
}
