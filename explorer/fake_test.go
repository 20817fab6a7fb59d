package explorer_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
)

const (
	testChain = chain.ChainID("fake-chain")
	hostile   = "<script>alert('x')</script>\"\u202e&amp;"
	startMs   = 1_700_000_000_000
)

type keySigner struct{ crypto.PrivateKey }

func (k keySigner) AccountKey() crypto.AccountKey { return crypto.AccountKeyOf(k.Public()) }

func (k keySigner) Sign(d *crypto.Domain, payload []byte) (crypto.Signature, error) {
	return k.PrivateKey.Sign(d, payload), nil
}

func testKey(n int) keySigner {
	return keySigner{crypto.PrivateKeyFromSeed([32]byte{byte(n), byte(n >> 8), 7})}
}

func address(n int) chain.Address { return chain.AddressOf(testKey(n).AccountKey()) }

// Keys of the fake chain's parties.
const (
	consumerKey = 1
	clusterKey  = 50
	nodeKey     = 60 // and the next
	ownerKey    = 70 // and the next
	proposerKey = 90 // and the next
)

// fakeChain serves the HTTP API of a node and of a Nexus server, with a chain
// that the test makes grow.
type fakeChain struct {
	t      testing.TB
	server *httptest.Server
	step   uint64 // ms between blocks

	mu       sync.Mutex
	genesis  crypto.Digest
	blocks   []*chain.DecodedBlock
	receipts []chain.BlockReceipts
	lowest   chain.Height // below it, blocks are gone
	pending  map[crypto.Digest]chain.Tx
	jobs     []api.Job
	supply   *api.Supply // nil: not told
	down     bool        // every request fails
	nexus    bool        // false: Nexus' requests fail
	servers  []string    // URLs that it knows of the cluster's servers; nil: it does not tell
	asked    map[string]int
	nonces   map[chain.Address]uint64
	changed  chan struct{}
	start    uint64
}

func newFakeChain(t testing.TB) *fakeChain {
	f := &fakeChain{
		t: t, step: 1_000, start: startMs, genesis: crypto.Digest{9}, pending: map[crypto.Digest]chain.Tx{}, asked: map[string]int{},
		nonces: map[chain.Address]uint64{}, changed: make(chan struct{}), lowest: 1, nexus: true,
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", f.status)
	mux.HandleFunc("GET /v1/blocks/{height}", f.block)
	mux.HandleFunc("GET /v1/events", f.events)
	mux.HandleFunc("GET /v1/txs/{id}", f.tx)
	mux.HandleFunc("GET /v1/accounts/{address}", f.account)
	mux.HandleFunc("GET /v1/validators", f.validators)
	mux.HandleFunc("GET /v1/reputation/{of}", f.reputation)
	mux.HandleFunc("GET /v1/supply", f.supplyNow)
	mux.HandleFunc("GET /v1/nodes", f.nodes)
	mux.HandleFunc("GET /v1/jobs", f.jobList)
	mux.HandleFunc("GET /v1/jobs/{id}", f.job)
	mux.HandleFunc("GET /v1/addresses", f.addresses)
	f.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		down := f.down
		f.asked[r.URL.Path]++
		if f.servers != nil {
			w.Header().Set(api.ServersHeader, strconv.Itoa(len(f.servers)))
		}
		f.mu.Unlock()
		if down {
			f.problem(w, http.StatusInternalServerError)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(f.server.Close)
	return f
}

func (f *fakeChain) json(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		f.t.Log(err)
	}
}

func (f *fakeChain) problem(w http.ResponseWriter, code int) {
	w.Header().Set("Content-Type", api.ContentProblem)
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(api.Problem{Status: code, Title: http.StatusText(code)}); err != nil {
		f.t.Log(err)
	}
}

func (f *fakeChain) status(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.json(w, api.Status{ChainID: testChain, Height: chain.Height(len(f.blocks)), GenesisDigest: f.genesis, Version: "fake"})
}

func (f *fakeChain) block(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	height, err := strconv.Atoi(r.PathValue("height"))
	if err != nil || height < int(f.lowest) || height > len(f.blocks) {
		f.problem(w, http.StatusGone)
		return
	}
	block := f.blocks[height-1]
	out := api.Block{Header: api.HeaderToJSON(*block.Header()), Digest: block.Digest(), TxCount: len(block.Txs()), Certificate: api.Certificate{
		Bytes: []byte{1}, Epoch: 1, View: uint64(height), Digest: block.Digest(), Signers: []crypto.PublicKey{testKey(proposerKey).Public(), testKey(proposerKey + 1).Public(), testKey(proposerKey + 2).Public()},
	}}
	if r.URL.Query().Get("detail") == api.BlockEncoded {
		out.Raw, out.RawReceipts = block.Raw(), f.receipts[height-1].Encode()
	}
	f.json(w, out)
}

func (f *fakeChain) events(w http.ResponseWriter, r *http.Request) {
	text := r.Header.Get("Last-Event-ID")
	if text == "" {
		text = r.URL.Query().Get("cursor")
	}
	cursor, err := api.ParseCursor(text)
	if err != nil {
		f.problem(w, http.StatusUnprocessableEntity)
		return
	}
	w.Header().Set("Content-Type", api.ContentEventStream)
	w.WriteHeader(http.StatusOK)
	next := max(cursor.Next(), 1)
	for {
		f.mu.Lock()
		height, changed, down := chain.Height(len(f.blocks)), f.changed, f.down
		f.mu.Unlock()
		if down {
			return
		}
		for ; next <= height; next++ {
			event := api.StreamEvent{Cursor: api.CursorAt(next, 0), Type: api.EventBlock, Height: next, Data: json.RawMessage("{}")}
			data, err := json.Marshal(event)
			if err != nil {
				f.t.Error(err)
			}
			fmt.Fprintf(w, "id: %s\nevent: block\ndata: %s\n\n", event.Cursor, data)
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		}
	}
}

func (f *fakeChain) tx(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id, err := crypto.ParseDigest(r.PathValue("id"))
	tx, ok := f.pending[id]
	if err != nil || !ok {
		f.problem(w, http.StatusNotFound)
		return
	}
	out := api.TxToJSON(tx)
	f.json(w, api.TxLookup{TxID: id, Status: api.TxPending, Tx: &out})
}

func (f *fakeChain) account(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, err := chain.ParseAddress(r.PathValue("address"))
	if err != nil {
		f.problem(w, http.StatusUnprocessableEntity)
		return
	}
	f.json(w, api.Account{Address: a, Balance: chain.Nano(1_234_567_000_000_001), Spendable: chain.Hyper(1_234_000), Nonce: api.Uint64(f.nonces[a]), Pending: api.Uint64(f.nonces[a]), Height: chain.Height(len(f.blocks))})
}

func (f *fakeChain) validators(w http.ResponseWriter, _ *http.Request) {
	out := api.Validators{Epoch: 1, Committee: crypto.Digest{5}, TotalWeight: 400, Quorum: 267}
	for i := range 4 {
		out.Validators = append(out.Validators, api.Validator{
			Index: i, Name: "validator " + strconv.Itoa(i), ConsensusKey: testKey(proposerKey + i).Public(), NodeKey: testKey(95 + i).Public(), Owner: address(80 + i),
			Stake: chain.Hyper(25_000_000), Weight: 100, LeaderWeight: 100, Endpoint: "127.0.0.1:710" + strconv.Itoa(i),
		})
	}
	f.json(w, out)
}

func (f *fakeChain) supplyNow(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.supply == nil {
		f.problem(w, http.StatusNotFound)
		return
	}
	f.json(w, f.supply)
}

func (f *fakeChain) nodes(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.nexus {
		f.problem(w, http.StatusInternalServerError)
		return
	}
	var out api.NodeList
	for i := range 3 {
		out.Nodes = append(out.Nodes, api.NexusNode{
			ID: testKey(nodeKey + i).Public(), Owner: address(ownerKey + i), Region: "eu-west", Total: job.Resources{Millicores: 4_000, MemoryMiB: 8_192},
			Used: job.Resources{Millicores: 1_000, MemoryMiB: 512}, Kernels: []string{"matmul-32"}, Connected: i < 2, Accepting: true, Finished: 12,
		})
	}
	f.json(w, out)
}

func (f *fakeChain) jobList(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.nexus {
		f.problem(w, http.StatusInternalServerError)
		return
	}
	out := api.JobList{Jobs: []api.Job{}}
	for _, j := range f.jobs {
		if a := r.URL.Query().Get("account"); a == "" || a == j.Consumer.String() {
			out.Jobs = append(out.Jobs, j)
		}
	}
	f.json(w, out)
}

func (f *fakeChain) job(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.nexus {
		f.problem(w, http.StatusInternalServerError)
		return
	}
	for _, j := range f.jobs {
		if j.ID.String() == r.PathValue("id") {
			f.json(w, j)
			return
		}
	}
	f.problem(w, http.StatusNotFound)
}

// addresses lists the cluster's servers, signed.
func (f *fakeChain) addresses(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := api.ServerAddresses{ChainID: testChain, Index: api.Uint64(len(f.servers)), SignedMs: 1}
	for i, url := range f.servers {
		list.Servers = append(list.Servers, api.ServerAddress{ID: testKey(i).Public(), URL: url})
	}
	by := testKey(clusterKey).PrivateKey
	list.Signature = by.Sign(crypto.DomainAddresses, api.ServerAddressesPayload(by.Public(), &list))
	f.json(w, list)
}

// entry is a transaction to be sealed and what becomes of it.
type entry struct {
	tx        chain.Tx
	events    chain.Events
	rejection string
}

// sign returns a signed transaction of an account with its next nonce.
func (f *fakeChain) sign(from int, memo string, msgs ...chain.Msg) chain.Tx {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	sender := address(from)
	tx, err := chain.SignTx(chain.TxBody{
		ChainID: testChain, Sender: sender, Nonce: f.nonces[sender], Expiry: 1_000_000, GasLimit: chain.GasUnits(100_000),
		MaxFee: chain.PricePerGas(20), Tip: chain.PricePerGas(1), Messages: msgs, Memo: memo,
	}, testKey(from))
	if err != nil {
		f.t.Fatal(err)
	}
	f.nonces[sender]++
	return tx
}

func (f *fakeChain) transfer(from, to int, amount chain.Amount, memo string) entry {
	return entry{
		tx:     f.sign(from, memo, chain.Transfer{To: address(to), Amount: amount}),
		events: chain.Events{chain.Transferred{From: address(from), To: address(to), Amount: amount}},
	}
}

// seal finalizes a block and returns it.
func (f *fakeChain) seal(entries ...entry) *chain.DecodedBlock {
	f.t.Helper()
	return f.sealWith(nil, entries...)
}

func (f *fakeChain) sealWith(begin chain.Events, entries ...entry) *chain.DecodedBlock {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	height := chain.Height(len(f.blocks) + 1)
	parent := f.genesis
	if height > 1 {
		parent = f.blocks[height-2].Digest()
	}
	block := chain.Block{Header: chain.Header{
		Version: 1, ChainID: testChain, Height: height, Epoch: 1, View: uint64(height), Parent: parent, TimeMs: chain.TimeMs(f.start + f.step*uint64(height)),
		Proposer: testKey(proposerKey + int(height)%4).Public(), StateRoot: crypto.Digest{byte(height)}, Finalized: height - 1,
	}}
	receipts := chain.BlockReceipts{Begin: begin}
	var ids []crypto.Digest
	for _, e := range entries {
		raw := e.tx.Encode()
		id := crypto.DomainTxID.Hash(raw)
		block.Body.Txs = append(block.Body.Txs, codec.Raw(raw))
		ids = append(ids, id)
		receipts.Txs = append(receipts.Txs, chain.Receipt{
			TxID: id, Rejection: e.rejection, GasUsed: chain.GasUnits(21_000), Burned: chain.Nano(210_000), Tip: chain.Nano(21_000), Events: e.events,
		})
		delete(f.pending, id)
	}
	block.Header.TxRoot = chain.ListRoot(crypto.DomainTxRoot, ids)
	block.Header.ExtraRoot = block.Body.ExtraRoot()
	decoded, err := chain.DecodeBlock(block.Encode(), nil)
	if err != nil {
		f.t.Fatal(err)
	}
	f.blocks = append(f.blocks, decoded)
	f.receipts = append(f.receipts, receipts)
	f.tell()
	return decoded
}

func (f *fakeChain) tell() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// set changes the fake under its lock and wakes its streams.
func (f *fakeChain) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	f.tell()
}

// order returns an order of the consumer.
func order(nonce uint64, policy chain.Policy) chain.Order {
	return chain.Order{
		ChainID: testChain, Consumer: testKey(consumerKey).AccountKey(), Nonce: nonce, Cluster: testKey(clusterKey).Public(), Spec: crypto.Digest{byte(nonce), 3},
		Policy: chain.PolicyField{Policy: policy}, Caps: []chain.UnitPrice{{Resource: chain.CPU, Price: 2_000_000}, {Resource: chain.Memory, Price: 1_000_000}},
		FixedCap: chain.Hyper(1), MaxCost: chain.Hyper(2), Deadline: startMs + 3_600_000,
	}
}

// claim returns a claim of the n-th provider.
func claim(o chain.Order, n int) chain.Claim {
	node := testKey(nodeKey + n).Public()
	bid := chain.Bid{ChainID: testChain, Order: o.ID(), Node: node, Expiry: startMs + 60_000}
	usage := []chain.Usage{{Resource: chain.CPU, Amount: 1_000, DurationMs: 1_850}, {Resource: chain.Memory, Amount: 256, DurationMs: 1_850}}
	if _, zk := o.Policy.Policy.(chain.PolicyZK); zk {
		bid.Fixed = chain.Nano(250_000_000)
	} else {
		bid.Prices = []chain.UnitPrice{{Resource: chain.CPU, Price: 1_500_000 + uint64(n)}, {Resource: chain.Memory, Price: 600_000}}
	}
	c := chain.Claim{
		Order: o, Acceptance: chain.Acceptance{ChainID: testChain, Order: o.ID(), Cluster: o.Cluster, Sequence: 1, Outstanding: o.MaxCost}, Bid: bid,
		Receipt: chain.UsageReceipt{
			ChainID: testChain, Order: o.ID(), Node: node, Sequence: 1, Usage: usage, Fuel: 1_850_000_000, Result: crypto.Digest{byte(o.Nonce), 8},
			Started: startMs + 2_000, Ended: startMs + 3_850, Exit: chain.ExitOK,
		},
	}
	if c.Receipt.CheckTrace(o.Policy.Policy) != nil {
		c.Receipt.Trace = &chain.Trace{Runs: crypto.Digest{1}, Panels: crypto.Digest{2}}
	}
	return c
}

func settled(o chain.Order, n int) chain.ClaimSettled {
	_, proven := o.Policy.Policy.(chain.PolicyZK)
	out := chain.ClaimSettled{
		Order: o.ID(), Node: testKey(nodeKey + n).Public(), Sequence: 1, Consumer: o.ConsumerAddress(), Provider: address(ownerKey + n), Cluster: o.Cluster,
		Policy: o.Policy.String(), Result: crypto.Digest{byte(o.Nonce), 8}, Cost: chain.Nano(500_000_000), Paid: chain.Nano(480_000_000), Burned: chain.Nano(5_000_000),
		Treasury: chain.Nano(5_000_000), ClusterFee: chain.Nano(10_000_000), ProofVerified: proven,
	}
	if proven { // it was in a hurry
		out.PriorityBurned, out.PriorityFee = chain.Nano(2_000_000), chain.Nano(2_000_000)
	}
	for _, u := range claim(o, n).Receipt.Usage {
		out.Records = append(out.Records, chain.ResourceTransaction{
			NodeID: out.Node, ResourceType: u.Resource, Amount: u.Amount, DurationMs: u.DurationMs, PricePerUnit: 1_500_000, Consumer: out.Consumer, Provider: out.Provider, Timestamp: startMs + 3_850,
		})
	}
	return out
}

func recorded(o chain.Order, n int) chain.ClaimRecorded {
	return chain.ClaimRecorded{Order: o.ID(), Node: testKey(nodeKey + n).Public(), Sequence: 1, Result: crypto.Digest{byte(o.Nonce), 8}}
}

var (
	plainOrder     = order(1, chain.PolicyNone{})
	replicateOrder = order(2, chain.PolicyReplicate{K: 2, N: 3, WindowMs: 60_000})
	zkOrder        = order(3, chain.PolicyZK{Kernel: "matmul-32", VerifyingKey: crypto.Digest{1}, Inputs: []chain.FieldBytes{{1}}})
	runningOrder   = order(4, chain.PolicyReplicate{K: 2, N: 3, WindowMs: 60_000})
	refusedOrder   = order(5, chain.PolicyNone{})
)

// story makes a chain that shows everything: parties, transfers, three settled
// jobs, a refused claim and a refused transaction. It is six blocks long.
func (f *fakeChain) story() {
	cluster := testKey(clusterKey).Public()
	register := []entry{{
		tx:     f.sign(51, "", chain.RegisterCluster{Cluster: cluster, Bond: chain.Hyper(1_000), FeeBps: 250, Endpoints: []string{"nexus.example:7200", hostile}}),
		events: chain.Events{chain.ClusterRegistered{Cluster: cluster, Operator: address(51), Bond: chain.Hyper(1_000)}},
	}}
	for i := range 3 {
		node := testKey(nodeKey + i).Public()
		register = append(register, entry{
			tx:     f.sign(ownerKey+i, "", chain.RegisterProvider{Node: node, Bond: chain.Hyper(100), Region: hostile[:32], Millicores: 4_000, MemoryMiB: 8_192}),
			events: chain.Events{chain.ProviderRegistered{Node: node, Owner: address(ownerKey + i), Bond: chain.Hyper(100)}},
		})
	}
	f.seal(register...)
	f.seal(
		entry{
			tx:     f.sign(consumerKey, "", chain.Deposit{Cluster: cluster, Amount: chain.Hyper(10)}),
			events: chain.Events{chain.Deposited{Consumer: address(consumerKey), Cluster: cluster, Amount: chain.Hyper(10)}},
		},
		f.transfer(2, 3, chain.Nano(3_200_000_001), hostile),
		entry{tx: f.sign(4, "", chain.Transfer{To: address(5), Amount: chain.Hyper(9)}), rejection: "balance 1 HYPER is below 9 HYPER"},
	)
	settle := func(events chain.Events, claims ...chain.Claim) entry {
		return entry{tx: f.sign(40, "", chain.Settle{Claims: claims}), events: events}
	}
	f.seal(settle(chain.Events{settled(plainOrder, 0), recorded(replicateOrder, 0)}, claim(plainOrder, 0), claim(replicateOrder, 0)))
	f.sealWith(chain.Events{chain.Matured{To: address(3), Amount: chain.Hyper(5)}},
		settle(chain.Events{settled(replicateOrder, 0), settled(replicateOrder, 1), settled(zkOrder, 2)}, claim(replicateOrder, 0), claim(replicateOrder, 1), claim(zkOrder, 2)))
	f.seal(settle(chain.Events{chain.ClaimRejected{Order: refusedOrder.ID(), Node: testKey(nodeKey).Public(), Sequence: 1, Reason: "order is " + hostile}}, claim(refusedOrder, 0)))
	f.seal()
	f.set(func() { f.jobs = []api.Job{nexusJob(runningOrder, job.Running), nexusJob(replicateOrder, job.Settled)} })
}

// nexusJob returns an order as its cluster knows it.
func nexusJob(o chain.Order, status job.Status) api.Job {
	out := api.Job{
		ID: o.ID(), Status: status, Policy: o.Policy.String(), Consumer: o.ConsumerAddress(), Order: api.OrderToJSON(o),
		Acceptance: api.Acceptance{ChainID: testChain, Order: o.ID(), Cluster: o.Cluster, Sequence: 1, Outstanding: o.MaxCost},
		Spec: api.SpecToJSON(job.Spec{
			Label: "fractal " + hostile[:20], Work: job.WorkField{Work: job.Wasm{Module: crypto.Digest{4}, Args: []string{"-size", "512"}, Deterministic: true}},
			Resources: job.Resources{Millicores: 1_000, MemoryMiB: 256}, Limits: job.DefaultLimits(),
		}),
		SubmittedMs: startMs + 1_000, ChangedMs: startMs + 4_000,
		Runs: []api.JobRun{{Node: testKey(nodeKey).Public(), Owner: address(ownerKey), Stage: "live", SinceMs: startMs + 2_000, Prices: []api.UnitPrice{{Resource: chain.CPU, Price: 1_500_000}}}},
	}
	if status == job.Settled {
		out.Output = crypto.Digest{7}
		out.Runs[0].Stage = "ended"
	}
	return out
}

// ids of the story's transactions, by block and index.
func (f *fakeChain) txID(height, index int) crypto.Digest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.blocks[height-1].Txs()[index].ID()
}

func (f *fakeChain) digest(height int) crypto.Digest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.blocks[height-1].Digest()
}

// validText reports whether a page shows a stranger's text as text alone.
func validText(page string) bool {
	return !strings.Contains(page, "<script>alert") && !strings.Contains(page, "\u202e")
}

// reputation says a score that does not follow from the facts, which are worth 0.62.
func (f *fakeChain) reputation(w http.ResponseWriter, _ *http.Request) {
	facts := &api.Facts{Score: 990_000, Completed: 1_990_000, Disputed: 250_000, Credit: chain.Nano(322_789_474), Debt: chain.Nano(7_000_000)}
	f.json(w, api.Reputation{Provider: facts, Consumer: facts, Nodes: []api.NodeFacts{}, Clusters: []api.ClusterFacts{}})
}
