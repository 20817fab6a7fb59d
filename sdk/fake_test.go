package sdk_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
	"github.com/hypermesh/hypermesh/tokens"
)

const testChain chain.ChainID = "sdk-test"

type keySigner struct{ crypto.PrivateKey }

func (k keySigner) AccountKey() crypto.AccountKey { return crypto.AccountKeyOf(k.Public()) }

func (k keySigner) Sign(d *crypto.Domain, payload []byte) (crypto.Signature, error) {
	return k.PrivateKey.Sign(d, payload), nil
}

func testKey(n int) keySigner { return keySigner{crypto.PrivateKeyFromSeed([32]byte{byte(n), 5})} }

func address(n int) chain.Address { return chain.AddressOf(testKey(n).AccountKey()) }

func percent(n uint64) chain.Amount {
	share, ok := chain.TotalSupply.ShareFloor(n, 100)
	if !ok {
		panic("a share of less than the whole does not fit")
	}
	return share
}

func testGenesis() *chain.Genesis {
	g := &chain.Genesis{ChainID: testChain, TimeMs: 1, Params: chain.DefaultParams()}
	for i := range 4 {
		g.Validators = append(g.Validators, chain.GenesisValidator{
			ConsensusKey: testKey(200 + i).Public(), NodeKey: testKey(210 + i).Public(), Owner: address(200), Stake: chain.Hyper(25_000_000),
		})
	}
	for _, d := range chain.Distribution {
		a := chain.Allocation{Bucket: d.Bucket, Address: address(220), Amount: percent(d.Percent)}
		if d.Bucket == chain.BucketTeam {
			a.Vesting = &chain.Vesting{StartMs: 1, CliffMs: chain.TeamCliffMs, DurationMs: chain.TeamDurationMs}
		}
		if d.Bucket != chain.BucketValidators {
			g.Allocations = append(g.Allocations, a)
		}
	}
	return g
}

// fakeChain is a chain with real headers, certificates, trees and receipts: what
// a node would serve, without the node. Blocks are added by seal.
type fakeChain struct {
	t       testing.TB
	genesis *chain.Genesis

	mu       sync.Mutex
	flat     *state.MemoryBackend
	tree     *state.Tree
	trees    []*state.Tree // by height, after the block; 0 is genesis
	blocks   []*chain.DecodedBlock
	receipts []chain.BlockReceipts
	pool     []chain.DecodedTx
	changed  chan struct{}
	requests []string                   // method, path and query, in order
	lie      func(body any)             // changes an answer before it is sent
	cut      int                        // event streams end after so many events; 0: never
	dropped  map[chain.TxID]api.Dropped // of the pool
	reject   string                     // verdict on submissions; empty: accepted
	refuse   func(string) int           // status to answer a path with; 0: properly
	records  map[string][]byte          // that the next block writes
	epoch    uint64                     // of the next block
	base     chain.TimeMs               // time of the genesis that is not there
	closing  bool                       // the next block closes its epoch
	codes    map[string]*fakeCode       // by number
}

// committee has the same members in every epoch.
func (c *fakeChain) committee(epoch uint64) *consensus.Committee {
	genesis, err := light.GenesisCommittee(c.genesis, light.FirstEpoch)
	if err != nil {
		c.t.Fatal(err)
	}
	members := make([]consensus.Validator, genesis.Len())
	for i := range members {
		members[i] = genesis.Validator(consensus.Signer(i))
	}
	committee, err := consensus.NewCommittee(consensus.Epoch(epoch), members)
	if err != nil {
		c.t.Fatal(err)
	}
	return committee
}

// endEpoch finalizes a block that closes the epoch.
func (c *fakeChain) endEpoch() {
	c.set(func() { c.closing = true })
	c.seal()
	c.set(func() { c.closing, c.epoch = false, c.epoch+1 })
}

// epochEnd is what a node answers; nil if the epoch goes on.
func (c *fakeChain) epochEnd(epoch uint64) *api.EpochEnd {
	for i, b := range c.blocks {
		if h := b.Header(); h.Closing && h.Epoch == epoch {
			out := &api.EpochEnd{Epoch: epoch, Header: api.HeaderToJSON(*h), Digest: b.Digest(), Certificate: c.certificate(chain.Height(i + 1)).Bytes}
			next := c.committee(epoch + 1)
			for n := range next.Len() {
				v := next.Validator(consensus.Signer(n))
				out.Members = append(out.Members, api.EpochMember{ConsensusKey: v.Key, Weight: api.Uint64(v.Weight), LeaderWeight: api.Uint64(v.LeaderWeight)})
			}
			return out
		}
	}
	return nil
}

func newFakeChain(t testing.TB) *fakeChain {
	t.Helper()
	g := testGenesis()
	c := &fakeChain{t: t, genesis: g, epoch: 1, flat: state.NewMemoryBackend(), changed: make(chan struct{})}
	tree, err := state.NewTree(c.flat, 1000).Next(0, []state.Change{{Key: []byte("x"), Value: []byte("y")}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	c.tree, c.trees = tree, []*state.Tree{tree}
	return c
}

// seal finalizes a block. Its transactions credit 7 nHYPER to each transfer's
// receiver; a transfer of zero is rejected.
func (c *fakeChain) seal(txs ...chain.DecodedTx) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	height := chain.Height(len(c.blocks) + 1)
	h := chain.Header{
		Version: chain.BlockVersion, ChainID: testChain, Height: height, Epoch: c.epoch, View: uint64(height) * 2, Closing: c.closing, TimeMs: c.base + chain.TimeMs(height*1000),
		Parent: c.genesis.Digest(), StateRoot: c.tree.Root(), Committee: c.committee(c.epoch).Digest(), NextCommittee: c.committee(c.epoch + 1).Digest(),
	}
	before := chain.BlockReceipts{}
	if height > 1 {
		h.Parent, before = c.blocks[height-2].Digest(), c.receipts[height-2]
	}
	h.ReceiptRoot = before.Root()
	block := chain.Block{Header: h}
	var made chain.BlockReceipts
	ids := []crypto.Digest{}
	overlay := state.NewOverlay(c.flat)
	for i := range txs {
		ids = append(ids, txs[i].ID())
		block.Body.Txs = append(block.Body.Txs, codec.Raw(txs[i].Raw()))
		transfer := txs[i].Tx().Body.Messages[0].(chain.Transfer)
		tokens.SpendNonce(overlay, txs[i].Tx().Body.Sender)
		receipt := chain.Receipt{TxID: txs[i].ID(), GasUsed: chain.GasUnits(9)}
		if transfer.Amount.IsZero() {
			receipt.Rejection = "transfer of zero"
		} else {
			tokens.Credit(overlay, transfer.To, chain.Nano(7))
			receipt.Events = chain.Events{chain.Transferred{To: transfer.To, Amount: chain.Nano(7)}}
		}
		made.Txs = append(made.Txs, receipt)
	}
	for key, value := range c.records {
		overlay.Set([]byte(key), value)
	}
	c.records = nil
	block.Header.TxRoot, block.Header.ExtraRoot = chain.ListRoot(crypto.DomainTxRoot, ids), block.Body.ExtraRoot()
	decoded, err := chain.DecodeBlock(block.Encode(), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	next, err := c.tree.Next(uint64(height), overlay.Changes(), 1)
	if err != nil {
		c.t.Fatal(err)
	}
	overlay.Flush(c.flat)
	c.tree, c.trees = next, append(c.trees, next)
	c.blocks, c.receipts = append(c.blocks, decoded), append(c.receipts, made)
	close(c.changed)
	c.changed = make(chan struct{})
}

// certificate shows a block by the certificate of the newest one of its epoch.
func (c *fakeChain) certificate(height chain.Height) api.Certificate {
	epoch, last := c.blocks[height-1].Header().Epoch, len(c.blocks)
	for c.blocks[last-1].Header().Epoch > epoch {
		last--
	}
	top, committee := c.blocks[last-1], c.committee(epoch)
	s := consensus.Statement{Kind: consensus.KindFinalize, Proposal: consensus.Proposal{
		Round: consensus.Round{Epoch: consensus.Epoch(epoch), View: consensus.View(top.Header().View)}, Digest: top.Digest(),
	}}
	var votes []consensus.Vote
	for i := range 3 {
		for n := range 4 {
			if key := testKey(200 + n); key.Public() == committee.Validator(consensus.Signer(i)).Key {
				votes = append(votes, consensus.SignVote(key.PrivateKey, consensus.Signer(i), string(testChain), s))
			}
		}
	}
	out := api.Certificate{Bytes: consensus.EncodeCertificate(consensus.Assemble(committee, s, votes))}
	for _, b := range c.blocks[height:last] {
		out.Path = append(out.Path, b.Header().Encode())
	}
	return out
}

func (c *fakeChain) prove(key []byte) *api.StateProof {
	height := chain.Height(len(c.blocks))
	tree := c.trees[height-1]
	p, err := tree.Prove(key)
	if err != nil {
		c.t.Error(err)
	}
	out := &api.StateProof{Key: key, Proof: p.Encode(), Header: api.HeaderToJSON(*c.blocks[height-1].Header()), Certificate: c.certificate(height)}
	// The flat state is of the newest block: the test seals an empty one first.
	value, ok := c.flat.Get(key)
	out.Value, out.Present = bytes.Clone(value), ok // tests lie by changing it
	return out
}

func (c *fakeChain) find(id chain.TxID) (api.TxLookup, bool) {
	for i, b := range c.blocks {
		for j, tx := range b.Txs() {
			if tx.ID() == id {
				return api.TxLookup{TxID: id, Status: api.TxIncluded, Height: chain.Height(i + 1), Index: uint32(j), Receipt: &c.receipts[i].Txs[j]}, true
			}
		}
	}
	if why, ok := c.dropped[id]; ok {
		return api.TxLookup{TxID: id, Status: api.TxDropped, Dropped: &why}, true
	}
	for _, tx := range c.pool {
		if tx.ID() == id {
			return api.TxLookup{TxID: id, Status: api.TxPending}, true
		}
	}
	return api.TxLookup{}, false
}

func (c *fakeChain) send(w http.ResponseWriter, body any) {
	if c.lie != nil {
		c.lie(body)
	}
	w.Header().Set("Content-Type", api.ContentJSON)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		c.t.Error(err)
	}
}

func sendProblem(t testing.TB, w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", api.ContentProblem)
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(api.Problem{Title: http.StatusText(status), Status: status, Detail: "as the test wants"}); err != nil {
		t.Error(err)
	}
}

// ServeHTTP answers as a node does.
func (c *fakeChain) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.requests = append(c.requests, r.Method+" "+r.URL.RequestURI())
	if c.refuse != nil {
		if status := c.refuse(r.URL.Path); status != 0 {
			c.mu.Unlock()
			sendProblem(c.t, w, status)
			return
		}
	}
	c.mu.Unlock()
	if r.URL.Path == "/v1/events" {
		c.events(w, r)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	head, tail, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/"), "/")
	switch head {
	case "status":
		c.send(w, &api.Status{ChainID: testChain, Height: chain.Height(len(c.blocks)), BaseFee: chain.PricePerGas(3)})
	case "txs":
		c.txs(w, r, tail)
	case "accounts":
		c.account(w, r, tail)
	case "state":
		var key api.Hex
		if err := key.UnmarshalText([]byte(tail)); err != nil {
			c.t.Error(err)
		}
		c.send(w, &api.State{Key: key, Proof: c.prove(key)})
	case "blocks":
		c.block(w, r, tail)
	case "epochs":
		c.epochs(w, tail)
	case "contracts", "codes":
		c.contracts(w, head, tail)
	case "faucet":
		c.send(w, &api.FaucetResponse{TxID: crypto.Digest{9}})
	default:
		sendProblem(c.t, w, http.StatusNotFound)
	}
}

func (c *fakeChain) txs(w http.ResponseWriter, r *http.Request, tail string) {
	if r.Method == http.MethodPost {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			c.t.Error(err)
		}
		list, err := api.DecodeSubmission(r.Header.Get("Content-Type"), data)
		if err != nil {
			c.t.Error(err)
		}
		out := &api.SubmitResponse{}
		for _, item := range list {
			if item.Err != nil {
				c.t.Error(item.Err)
			}
			if c.reject == "" {
				c.pool = append(c.pool, item.Tx)
			}
			out.Verdicts = append(out.Verdicts, api.Verdict{TxID: item.ID, Accepted: c.reject == "", Reason: c.reject})
		}
		c.send(w, out)
		return
	}
	id, err := crypto.ParseDigest(tail)
	if err != nil {
		c.t.Error(err)
	}
	found, ok := c.find(id)
	if !ok {
		sendProblem(c.t, w, http.StatusNotFound)
		return
	}
	c.send(w, &found)
}

func (c *fakeChain) epochs(w http.ResponseWriter, tail string) {
	epoch, err := strconv.ParseUint(tail, 10, 64)
	if tail == "latest" {
		epoch, err = c.epoch-1, nil
	}
	end := c.epochEnd(epoch)
	if err != nil || end == nil {
		sendProblem(c.t, w, http.StatusNotFound)
		return
	}
	c.send(w, end)
}

func (c *fakeChain) account(w http.ResponseWriter, r *http.Request, tail string) {
	a, err := chain.ParseAddress(tail)
	if err != nil {
		c.t.Error(err)
	}
	account := tokens.AccountOf(c.flat, a)
	out := &api.Account{Address: a, Balance: account.Balance, Nonce: api.Uint64(account.Nonce)}
	for _, tx := range c.pool {
		if tx.Tx().Body.Sender == a {
			out.Pending = max(out.Pending, api.Uint64(tx.Tx().Body.Nonce+1))
		}
	}
	if r.URL.Query().Get("proof") == "true" {
		out.Proof = c.prove(tokens.AccountKey(a))
	}
	c.send(w, out)
}

func (c *fakeChain) block(w http.ResponseWriter, r *http.Request, tail string) {
	n, err := strconv.Atoi(tail)
	if err != nil || n < 1 || n > len(c.blocks) {
		sendProblem(c.t, w, http.StatusNotFound)
		return
	}
	b := c.blocks[n-1]
	out := &api.Block{Header: api.HeaderToJSON(*b.Header()), Digest: b.Digest(), Certificate: c.certificate(chain.Height(n))}
	if r.URL.Query().Get("detail") == api.BlockEncoded {
		out.Raw, out.RawReceipts = b.Raw(), c.receipts[n-1].Encode()
	}
	c.send(w, out)
}

// stream lists the events of a height as a node numbers them.
func (c *fakeChain) stream(height int) []api.StreamEvent {
	data := json.RawMessage("{}")
	out := []api.StreamEvent{{Type: api.EventBlock, Data: data}}
	for i, tx := range c.blocks[height-1].Txs() {
		out = append(out, api.StreamEvent{Type: api.EventTx, TxID: tx.ID(), Data: data})
		for range c.receipts[height-1].Txs[i].Events {
			out = append(out, api.StreamEvent{Type: "transferred", TxID: tx.ID(), Data: data})
		}
	}
	for i := range out {
		out[i].Cursor, out[i].Height = api.CursorAt(chain.Height(height), uint32(i)), chain.Height(height)
	}
	return out
}

func (c *fakeChain) events(w http.ResponseWriter, r *http.Request) {
	cursor, err := api.ParseCursor(r.Header.Get("Last-Event-ID"))
	if err != nil {
		c.t.Errorf("Last-Event-ID: %v", err)
	}
	w.Header().Set("Content-Type", api.ContentEventStream)
	sent := 0
	for {
		c.mu.Lock()
		height, changed, cut := len(c.blocks), c.changed, c.cut
		var list []api.StreamEvent
		for id, why := range c.dropped {
			data, err := json.Marshal(why)
			if err != nil {
				c.t.Error(err)
			}
			list = append(list, api.StreamEvent{Cursor: cursor, Type: api.EventDropped, TxID: id, Data: data})
		}
		for h := max(1, int(cursor.Next())); h <= height; h++ {
			list = append(list, c.stream(h)...)
		}
		c.mu.Unlock()
		for _, e := range list {
			types, id := r.URL.Query().Get("types"), r.URL.Query().Get("tx_id")
			if e.Type == api.EventDropped && id == e.TxID.String() {
				if _, err := fmt.Fprintf(w, "event: dropped\ndata: %s\n\n", marshal(c.t, e)); err != nil {
					return
				}
				continue
			}
			if !cursor.Less(e.Cursor) || types != "" && !strings.Contains(types, e.Type) || id != "" && id != e.TxID.String() {
				continue
			}
			data, err := json.Marshal(e)
			if err != nil {
				c.t.Error(err)
			}
			if _, err := fmt.Fprintf(w, "id: %s\nevent: %s\ndata: %s\n\n", e.Cursor, e.Type, data); err != nil {
				return
			}
			if sent++; sent == cut {
				return
			}
		}
		cursor = api.CursorAfter(chain.Height(height))
		if _, err := fmt.Fprintf(w, ": still here\nid: %s\n\n", cursor); err != nil {
			return
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

func marshal(t testing.TB, v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		t.Error(err)
	}
	return data
}

// drop has a transaction leave the pool.
func (c *fakeChain) drop(id chain.TxID, why api.Dropped) {
	c.set(func() {
		c.dropped = map[chain.TxID]api.Dropped{id: why}
		close(c.changed)
		c.changed = make(chan struct{})
	})
}

func (c *fakeChain) count(prefix string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, r := range c.requests {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}

func (c *fakeChain) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

func server(t testing.TB, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL
}

// dead is the URL of a server that is no more.
func dead(t testing.TB) string {
	t.Helper()
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	return s.URL
}

func newClient(t testing.TB, config sdk.Config) *sdk.Client {
	t.Helper()
	config.Backoff = time.Millisecond
	client, err := sdk.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// connect returns a client that trusts the chain's genesis.
func connect(t testing.TB, c *fakeChain) *sdk.Client {
	t.Helper()
	return newClient(t, sdk.Config{Nodes: []string{server(t, c)}, Genesis: c.genesis})
}

func transferTx(t testing.TB, nonce uint64, amount chain.Amount) chain.DecodedTx {
	t.Helper()
	tx, err := chain.SignTx(chain.TxBody{
		ChainID: testChain, Sender: address(1), Nonce: nonce, Expiry: 100, GasLimit: chain.GasUnits(1000), MaxFee: chain.PricePerGas(5),
		Messages: chain.Msgs{chain.Transfer{To: address(2), Amount: amount}},
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
