package api_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
	"pgregory.net/rapid"
)

type keySigner struct{ crypto.PrivateKey }

func (k keySigner) AccountKey() crypto.AccountKey { return crypto.AccountKeyOf(k.Public()) }

func (k keySigner) Sign(d *crypto.Domain, payload []byte) (crypto.Signature, error) {
	return k.PrivateKey.Sign(d, payload), nil
}

func testKey(n byte) keySigner { return keySigner{crypto.PrivateKeyFromSeed([32]byte{n})} }

func address(n byte) chain.Address { return chain.AddressOf(testKey(n).AccountKey()) }

func policies() []chain.Policy {
	return []chain.Policy{
		chain.PolicyNone{},
		chain.PolicyReplicate{K: 2, N: 3, WindowMs: 60_000},
		chain.PolicyZK{Kernel: "matmul-32", VerifyingKey: crypto.Digest{9}, Inputs: []chain.FieldBytes{{1}, {2}}},
	}
}

func claim(policy chain.Policy) chain.Claim {
	order := chain.Order{
		ChainID: "hyper-test", Consumer: testKey(1).AccountKey(), Nonce: math.MaxUint64, Cluster: testKey(3).Public(), Spec: crypto.Digest{7},
		Policy: chain.PolicyField{Policy: policy}, Caps: []chain.UnitPrice{{Resource: chain.CPU, Price: math.MaxUint64}, {Resource: chain.GPU, Price: 1}},
		FixedCap: chain.Nano(math.MaxUint64), MaxCost: chain.Hyper(3), Deadline: 1 << 60,
	}
	var trace *chain.Trace
	switch policy.(type) {
	case chain.PolicyReplicate, chain.PolicyOptimistic:
		trace = &chain.Trace{Runs: crypto.Digest{1}, Panels: crypto.Digest{2}}
	}
	return chain.Claim{
		Order: order, OrderSig: crypto.Signature{1},
		Acceptance: chain.Acceptance{ChainID: "hyper-test", Order: order.ID(), Cluster: testKey(3).Public(), Sequence: 1 << 55, Outstanding: chain.Hyper(1)},
		Bid:        chain.Bid{ChainID: "hyper-test", Order: order.ID(), Node: testKey(4).Public(), Fixed: chain.Nano(5), Expiry: 77},
		BidSig:     crypto.Signature{3},
		Receipt: chain.UsageReceipt{
			ChainID: "hyper-test", Order: order.ID(), Node: testKey(4).Public(), Sequence: 1,
			Usage: []chain.Usage{{Resource: chain.CPU, Amount: 1000, DurationMs: 5}}, Fuel: math.MaxUint64, Result: crypto.Digest{8},
			Outputs: []chain.FieldBytes{{5}}, Started: 5, Ended: 9, Exit: chain.ExitOK, ExitCode: 3, Trace: trace,
		},
		Attestation: crypto.Signature{4}, Proof: []byte{1, 2, 3},
	}
}

func everyMessage() chain.Msgs {
	settle := chain.Settle{}
	for _, p := range policies() {
		settle.Claims = append(settle.Claims, claim(p))
	}
	key := testKey(4).Public()
	return chain.Msgs{
		chain.Transfer{To: address(2), Amount: chain.Nano(math.MaxUint64)},
		chain.RegisterProvider{Node: key, Possession: crypto.Signature{1}, Bond: chain.Hyper(1), Region: "eu <&>", Millicores: 4000, MemoryMiB: 1 << 24},
		chain.UnbondProvider{Node: key},
		chain.RegisterCluster{Cluster: key, Possession: crypto.Signature{2}, Bond: chain.Hyper(2), FeeBps: 12, Endpoints: []string{"a:1", "b:2"}},
		chain.RegisterCluster{Cluster: key},
		chain.UnbondCluster{Cluster: key},
		chain.Deposit{Cluster: key, Amount: chain.Nano(1)},
		chain.Withdraw{Cluster: key, Amount: chain.Nano(2)},
		settle,
	}
}

func stakingMessages() chain.Msgs {
	key, other := testKey(4).Public(), testKey(5).Public()
	return chain.Msgs{
		chain.Bond{
			ConsensusKey: key, Possession: crypto.Signature{1}, NodeKey: other, NodePossession: crypto.Signature{2},
			Name: "<n>", Endpoint: "a:1", CommissionBps: 10_000, Amount: chain.Nano(math.MaxUint64),
		},
		chain.Delegate{Validator: key, Amount: chain.Nano(1)},
		chain.Undelegate{Validator: key},
		chain.Redelegate{From: key, To: other, Amount: chain.Nano(2)},
		chain.WithdrawRewards{Validator: key, Restake: true},
		chain.SetCommission{Validator: key, Bps: 7},
		chain.RotateKeys{Validator: key, ConsensusKey: other, Possession: crypto.Signature{3}, NodeKey: key, NodePossession: crypto.Signature{4}, Endpoint: "b:2"},
		chain.Unjail{Validator: key},
		chain.Affiliate{Validator: key, Node: other, Consent: crypto.Signature{5}},
		chain.Unaffiliate{Node: other},
		chain.ReportEvidence{Evidence: []byte{0, 1, 255}},
	}
}

func contractMessages() chain.Msgs {
	contract, admin := address(1), address(2)
	return chain.Msgs{
		chain.StoreCode{Checksum: crypto.Digest{1}, Size: math.MaxUint64, Offset: 5, Part: []byte{1, 2, 3}},
		chain.InstantiateContract{Code: math.MaxUint64, Admin: &admin, Label: "l", Msg: []byte("{}"), Funds: chain.Nano(math.MaxUint64), Salt: []byte{9}, MaxDeposit: chain.Nano(math.MaxUint64)},
		chain.InstantiateContract{Code: 1, Label: "l", Msg: []byte{}, Salt: []byte{}},
		chain.ExecuteContract{Contract: contract, Msg: []byte("{}"), Funds: chain.Nano(1), MaxDeposit: chain.Nano(2)},
		chain.MigrateContract{Contract: contract, Code: 2, Msg: []byte("{}"), MaxDeposit: chain.Nano(3)},
		chain.SetContractAdmin{Contract: contract, Admin: &admin}, chain.SetContractAdmin{Contract: contract},
		chain.PinCode{Code: 7, Periods: 30, MaxBurn: chain.Hyper(4)},
	}
}

func leaseMessages() chain.Msgs {
	id := chain.LeaseID{Node: testKey(4).Public(), Order: crypto.Digest{7}}
	order := claim(chain.PolicyNone{}).Order
	order.Term = &chain.Term{Resources: []chain.Quantity{{Resource: chain.CPU, Amount: 1<<48 - 1}, {Resource: chain.GPU, Amount: 1}}, Resizes: crypto.Digest{3}, NoticeMs: 9}
	order.Term.Service = &chain.ServiceTerms{
		EpochMs: math.MaxUint64, AvailabilityBps: 9_999, StartMs: 1, ThroughputKiB: 2, RebateBps: 3, Penalty: chain.Nano(math.MaxUint64), Stake: chain.Nano(1),
	}
	epoch := chain.ServiceEpoch{ChainID: "hyper-test", Lease: id, Terms: crypto.Digest{8}, Epoch: math.MaxUint64}
	first := chain.ServiceReport{Peer: testKey(4).Public(), Sent: math.MaxUint64, Answered: 2, UnstartedMs: 3, ThroughputKiB: 4, Signature: crypto.Signature{5}}
	challenge := chain.HardwareChallenge{ChainID: "hyper-test", Node: id.Node, Seed: crypto.Digest{9}}
	deal := chain.LeaseDeal{
		Order: order, OrderSig: crypto.Signature{1}, Acceptance: claim(chain.PolicyNone{}).Acceptance, AcceptanceSig: crypto.Signature{2},
		Bid: claim(chain.PolicyNone{}).Bid, BidSig: crypto.Signature{3}, AwardSig: crypto.Signature{4},
	}
	deal.Bid.Prices = []chain.UnitPrice{{Resource: chain.CPU, Price: 5}, {Resource: chain.GPU, Price: math.MaxUint64}}
	return chain.Msgs{
		chain.OpenLease{Deal: deal}, chain.ResizeLease{Lease: id, Deal: deal}, chain.ExtendLease{Lease: id, Amount: chain.Nano(math.MaxUint64)},
		chain.CloseLease{Lease: id}, chain.CollectLease{Lease: id},
		chain.ReportMiss{Epoch: epoch, Reports: []chain.ServiceReport{first, {Peer: testKey(5).Public(), Signature: crypto.Signature{6}}}},
		chain.DrawPeers{Lease: id}, chain.LeaveLease{Lease: id}, chain.AccusePeer{Epoch: epoch, First: first, Second: chain.ServiceReport{Peer: first.Peer}},
		chain.ReportHardware{Challenge: challenge, Verdicts: []chain.HardwareVerdict{{Peer: first.Peer, Missing: math.MaxUint64, Signature: crypto.Signature{7}}}},
		chain.DeclareHardware{Node: id.Node, Millicores: 1, MemoryMiB: math.MaxUint64},
		chain.AnnounceHome{Home: chain.NodeHome{ChainID: "hyper-test", Node: id.Node, Cluster: first.Peer, At: math.MaxUint64}, NodeSignature: crypto.Signature{8}, ClusterSignature: crypto.Signature{9}},
	}
}

func channelMessages() chain.Msgs {
	v := chain.Voucher{ChainID: "hyper-test", Channel: crypto.Digest{7}, Lease: crypto.Digest{8}, Total: chain.Nano(math.MaxUint64)}
	return chain.Msgs{
		chain.OpenChannel{Payee: address(2), Nonce: math.MaxUint64, Signer: testKey(4).Public(), Amount: chain.Nano(math.MaxUint64), WindowMs: math.MaxUint64},
		chain.FundChannel{Channel: v.Channel, Amount: chain.Nano(1)}, chain.RedeemVoucher{Voucher: v, Signature: crypto.Signature{1}},
		chain.CloseChannel{Channel: v.Channel},
	}
}

// privateMessages has one of each.
func privateMessages() chain.Msgs {
	deal := leaseMessages()[0].(chain.OpenLease).Deal
	deal.Order.Term = nil
	return chain.Msgs{
		chain.RegisterMeter{Node: testKey(4).Public(), Key: chain.MeterKey{1}, Possession: chain.MeterProof{X: chain.FieldBytes{1}, Y: chain.FieldBytes{2}, S: chain.FieldBytes{3}}},
		chain.SettleBatch{Batch: chain.UsageBatch{
			Order: deal.Order, OrderSig: deal.OrderSig, Acceptance: deal.Acceptance, AcceptanceSig: deal.AcceptanceSig, Bid: deal.Bid, BidSig: deal.BidSig,
			Summary: chain.BatchSummary{
				ChainID: "hyper-test", Order: crypto.Digest{1}, Node: testKey(4).Public(), Meter: chain.MeterKey{1}, After: 1, Last: math.MaxUint64, Count: 112,
				Totals: []chain.BatchTotal{{Resource: chain.GPU, High: 1<<32 - 1, Low: math.MaxUint64}}, Root: chain.FieldBytes{7}, Started: 1, Ended: 2,
			},
			Attestation: crypto.Signature{1}, Kernel: "usage-batch-112", Proof: []byte{1},
		}},
		chain.ReportAcceptance{First: chain.AcceptedOrder{Order: deal.Order, Acceptance: deal.Acceptance, Signature: deal.AcceptanceSig}},
		chain.ReportAcceptance{
			First:  chain.AcceptedOrder{Order: deal.Order, Acceptance: deal.Acceptance, Signature: deal.AcceptanceSig},
			Second: &chain.AcceptedOrder{Order: deal.Order, Acceptance: deal.Acceptance, Signature: deal.AcceptanceSig},
		},
	}
}

func panelMessages() chain.Msgs {
	return chain.Msgs{
		chain.AddBond{Node: testKey(4).Public(), Amount: chain.Nano(math.MaxUint64)},
		chain.CommitVote{Panel: crypto.Digest{1}, Node: testKey(4).Public(), Commitment: crypto.Digest{2}, Signature: crypto.Signature{3}},
		chain.RevealVote{Panel: crypto.Digest{1}, Node: testKey(4).Public(), Testimony: chain.Testimony{Finding: chain.FoundResult, Work: crypto.Digest{4}, Other: crypto.Digest{6}, Link: crypto.Digest{7}}, Salt: crypto.Digest{5}},
		chain.RevealVote{Panel: crypto.Digest{1}, Node: testKey(4).Public(), Testimony: chain.Testimony{Finding: chain.FoundUnstable}},
		chain.Challenge{Order: crypto.Digest{1}, Stake: chain.Nano(math.MaxUint64)},
		chain.Appeal{Order: crypto.Digest{1}, Stake: chain.Nano(7)},
	}
}

// TestMessagesThroughJSON: every message of staking, about leases, channels and panels comes back as it was.
func TestMessagesThroughJSON(t *testing.T) {
	for _, m := range slices.Concat(stakingMessages(), leaseMessages(), channelMessages(), panelMessages(), privateMessages(), contractMessages()) {
		raw, err := json.Marshal(api.Message{Msg: m})
		if err != nil {
			t.Fatal(err)
		}
		var back api.Message
		if err := json.Unmarshal(raw, &back); err != nil || !reflect.DeepEqual(back.Msg, m) {
			t.Errorf("%s\ncame back as %+v, %v", raw, back.Msg, err)
		}
	}
}

func signed(t testing.TB, body chain.TxBody, signers ...chain.Signer) chain.Tx {
	t.Helper()
	tx, err := chain.SignTx(body, signers...)
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

func sampleTx(t testing.TB) chain.Tx {
	payer := address(2)
	return signed(t, chain.TxBody{
		ChainID: "hyper-test", Sender: address(1), Nonce: math.MaxUint64, Expiry: math.MaxUint64, GasLimit: chain.GasUnits(1 << 60),
		MaxFee: chain.PricePerGas(9), Tip: chain.PricePerGas(2), FeePayer: &payer, Messages: everyMessage(), Memo: "“π” & <b>\n",
	}, testKey(1), testKey(2))
}

func throughJSON[T any](t *testing.T, in T) T {
	t.Helper()
	data, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out T
	if err := api.DecodeJSON(data, &out); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	return out
}

func TestTransactionThroughJSONIsExact(t *testing.T) {
	tx := sampleTx(t)
	back, err := api.TxFromJSON(throughJSON(t, api.TxToJSON(tx)))
	if err != nil {
		t.Fatal(err)
	}
	if string(back.Encode()) != string(tx.Encode()) {
		t.Fatalf("bytes differ:\n%x\n%x", back.Encode(), tx.Encode())
	}
}

func TestAnyTransferThroughJSONIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tx := chain.Tx{Body: chain.TxBody{
			ChainID: chain.ChainID(rapid.StringMatching(`[a-z][a-z0-9-]{2,31}`).Draw(t, "chain")),
			Sender:  address(rapid.Byte().Draw(t, "sender")), Nonce: rapid.Uint64().Draw(t, "nonce"),
			Expiry: chain.Height(rapid.Uint64().Draw(t, "expiry")), GasLimit: chain.GasUnits(rapid.Uint64().Draw(t, "gas")),
			MaxFee: chain.PricePerGas(rapid.Uint64().Draw(t, "fee")), Memo: rapid.String().Draw(t, "memo"),
			Messages: chain.Msgs{chain.Transfer{To: address(rapid.Byte().Draw(t, "to")), Amount: chain.Nano(rapid.Uint64().Draw(t, "amount"))}},
		}, Signatures: []chain.TxSignature{{Key: testKey(1).AccountKey(), Signature: crypto.Signature(rapid.SliceOfN(rapid.Byte(), 64, 64).Draw(t, "signature"))}}}
		data, err := json.Marshal(api.TxToJSON(tx))
		if err != nil {
			t.Fatal(err)
		}
		var decoded api.Tx
		if err := api.DecodeJSON(data, &decoded); err != nil {
			t.Fatal(err)
		}
		back, err := api.TxFromJSON(decoded)
		if err != nil || string(back.Encode()) != string(tx.Encode()) {
			t.Fatalf("%v: %s", err, data)
		}
	})
}

func TestHeaderThroughJSONIsExact(t *testing.T) {
	h := chain.Header{Version: 1, ChainID: "hyper-test", Height: 5, Epoch: 1, View: math.MaxUint64, Parent: crypto.Digest{1}, TimeMs: 9, TxRoot: crypto.Digest{2},
		ExtraRoot: crypto.Digest{3}, StateRoot: crypto.Digest{4}, ReceiptRoot: crypto.Digest{5}, Committee: crypto.Digest{6}, NextCommittee: crypto.Digest{7}, Closing: true,
		Proposer: testKey(1).Public(), Finalized: 4, VRFOutput: crypto.Digest{8}, VRFProof: []byte{1, 2}}
	for _, v := range reflect.ValueOf(h).Fields() {
		if v.CanInterface() && v.IsZero() {
			t.Fatalf("the sample leaves a field zero, so that the test would not see it lost: %+v", h)
		}
	}
	back := api.HeaderFromJSON(throughJSON(t, api.HeaderToJSON(h)))
	if back.Digest() != h.Digest() {
		t.Fatalf("%+v\n%+v", back, h)
	}
}

func TestIntegersAreStringsAboveTwoToThe53(t *testing.T) {
	for n, want := range map[api.Uint64]string{0: "0", 1 << 53: "9007199254740992", 1<<53 + 1: `"9007199254740993"`, math.MaxUint64: `"18446744073709551615"`} {
		data, err := json.Marshal(n)
		if err != nil || string(data) != want {
			t.Errorf("%d: %s %v", n, data, err)
		}
	}
	for _, text := range []string{"17", `"17"`} {
		var n api.Uint64
		if err := json.Unmarshal([]byte(text), &n); err != nil || n != 17 {
			t.Errorf("%s: %d %v", text, n, err)
		}
	}
	for _, text := range []string{"-1", "1.5", "1e3", `"0x1"`, `""`, "18446744073709551616", "null", "true"} {
		var n api.Uint64
		if err := n.UnmarshalJSON([]byte(text)); err == nil {
			t.Errorf("%s was read as %d", text, n)
		}
	}
}

func TestDecodeNamesTheField(t *testing.T) {
	good, err := json.Marshal(api.TxToJSON(sampleTx(t)))
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct{ old, new, location string }{
		{`"nonce":"18446744073709551615"`, `"nonce":-1`, "body.nonce"},
		{`"sender":"hyper1`, `"sender":"hypra1`, "body.sender"},
		{`"type":"transfer"`, `"type":"steal"`, "body.messages[0].type"},
		{`"amount_nhyper":1}`, `"amount_nhyper":"x"}`, "body.messages[6].data.amount_nhyper"},
		{`"k":2`, `"k":256`, "body.messages[8].data.claims[1].order.policy.data.k"},
		{`"kernel":`, `"kernal":`, "body.messages[8].data.claims[2].order.policy.data.kernal"},
		{`"fee_bps":12`, `"fee_bps":"many"`, "body.messages[3].data.fee_bps"},
		{`"exit":"ok"`, `"exit":"fine"`, "body.messages[8].data.claims[0].receipt.exit"},
		{`"memo":`, `"note":`, "body.note"},
		{`"signatures":[`, `"signatures":[7,`, "signatures[0]"},
	}
	for _, c := range cases {
		text := strings.Replace(string(good), c.old, c.new, 1)
		if text == string(good) {
			t.Fatalf("%q is not in %s", c.old, good)
		}
		var tx api.Tx
		err := api.DecodeJSON([]byte(text), &tx)
		field, ok := errors.AsType[*api.FieldError](err)
		if !ok || field.Location != c.location {
			t.Errorf("%s → %s: %v, want location %s", c.old, c.new, err, c.location)
		}
	}
	for _, text := range []string{"", "{", "[]", "{} {}", "nul"} {
		var tx api.Tx
		if err := api.DecodeJSON([]byte(text), &tx); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func TestMissingSumsAreRefusedNotEncoded(t *testing.T) {
	var tx api.Tx
	if err := api.DecodeJSON([]byte(`{"body":{"messages":[{"type":"settle","data":{"claims":[{}]}}]}}`), &tx); err == nil || !strings.Contains(err.Error(), "order.policy") {
		t.Fatalf("an order without policy: %v", err)
	}
	if _, err := api.TxFromJSON(api.Tx{Body: api.TxBody{Messages: make([]api.Message, 1)}}); err == nil {
		t.Fatal("a missing message was accepted")
	}
	if _, err := json.Marshal(api.Order{}); err == nil {
		t.Fatal("an order without policy was written")
	}
}

func TestSubmissions(t *testing.T) {
	tx := sampleTx(t)
	raw := tx.Encode()
	asJSON, err := json.Marshal(map[string]any{"txs": []any{api.TxToJSON(tx), map[string]string{"raw": api.Hex(raw).String()}}})
	if err != nil {
		t.Fatal(err)
	}
	for contentType, body := range map[string][]byte{
		api.ContentJSON: asJSON,
		api.ContentCBOR: api.EncodeSubmission([][]byte{raw, raw}),
	} {
		list, err := api.DecodeSubmission(contentType, body)
		if err != nil || len(list) != 2 {
			t.Fatalf("%s: %d %v", contentType, len(list), err)
		}
		for _, item := range list {
			if item.Err != nil || item.ID != crypto.DomainTxID.Hash(raw) || item.Tx.ID() != item.ID {
				t.Errorf("%s: %+v", contentType, item)
			}
		}
	}
}

func TestSubmissionsAreRefusedByName(t *testing.T) {
	many := make([][]byte, chain.MaxBatchTxs+1)
	for i := range many {
		many[i] = []byte{}
	}
	manyJSON := `{"txs":[` + strings.Repeat(`{},`, chain.MaxBatchTxs) + `{}]}`
	cases := []struct{ kind, body, want string }{
		{api.ContentCBOR, string(api.EncodeSubmission(many)), "has 1001 transactions, want 1 to 1000"},
		{api.ContentCBOR, string(api.EncodeSubmission(nil)), "has 0 transactions"},
		{api.ContentCBOR, "\x9f\xff", "indefinite"},
		{api.ContentCBOR, string(make([]byte, api.MaxSubmitBytes+1)), "limit 16777216"},
		{api.ContentJSON, manyJSON, "txs: has 1001 transactions, want 1 to 1000"},
		{api.ContentJSON, `{"txs":[]}`, "txs: has 0"},
		{api.ContentJSON, `{"tx":[]}`, "tx: unknown field"},
		{api.ContentJSON, `{"txs":[{}]}`, "txs[0]: has neither raw nor body"},
		{api.ContentJSON, `{"txs":[{"raw":"00","body":{}}]}`, "txs[0]: has raw and body"},
		{api.ContentJSON, `{"txs":[{"raw":"0G"}]}`, "txs[0].raw: "},
		{api.ContentJSON, `{"txs":[{"raw":"00"},{"body":{"messages":[null]}}]}`, "txs[1].body.messages[0]"},
		{"text/plain", "", "content type \"text/plain\""},
	}
	for _, c := range cases {
		list, err := api.DecodeSubmission(c.kind, []byte(c.body))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60s: %v %v, want %q", c.body, list, err, c.want)
		}
	}
	list, err := api.DecodeSubmission(api.ContentCBOR, api.EncodeSubmission([][]byte{{1}, sampleTx(t).Encode()}))
	if err != nil || list[0].Err == nil || list[1].Err != nil {
		t.Errorf("one bad transaction must not stop the others: %v %v", list, err)
	}
}

func TestVerdictsInCBOR(t *testing.T) {
	verdicts := []api.Verdict{{TxID: crypto.Digest{1}, Accepted: true}, {TxID: crypto.Digest{2}, Reason: "nonce_gap: nonce 70, the next is 5"}}
	raw := api.EncodeVerdicts(verdicts)
	got, err := api.DecodeVerdicts(raw)
	if err != nil || !reflect.DeepEqual(got, verdicts) {
		t.Errorf("%+v, %v", got, err)
	}
	type pair struct {
		_      struct{} `cbor:",toarray"`
		ID     crypto.Digest
		Reason string
	}
	if want := codec.Marshal([]pair{{ID: crypto.Digest{1}}, {ID: crypto.Digest{2}, Reason: verdicts[1].Reason}}); !bytes.Equal(raw, want) {
		t.Errorf("%x, want %x", raw, want)
	}
	for what, body := range map[string][]byte{
		"nothing": nil, "half": raw[:len(raw)-1], "more": append(slices.Clone(raw), 0),
		"too many": codec.Marshal(make([]pair, chain.MaxBatchTxs+1)), "a short id": codec.Marshal([]any{[]any{[]byte{1}, ""}}),
	} {
		if got, err := api.DecodeVerdicts(body); err == nil {
			t.Errorf("%s: read as %v", what, got)
		}
	}
}

func TestCursors(t *testing.T) {
	for _, text := range []string{"0", "7", "7.0", "18446744073709551615", "1.4294967294"} {
		c, err := api.ParseCursor(text)
		if err != nil || c.String() != text {
			t.Errorf("%s: %s %v", text, c, err)
		}
	}
	for _, text := range []string{"", "x", "7.", ".7", "7.4294967295", "7.8.9", "-1", "18446744073709551616", "+7"} {
		if c, err := api.ParseCursor(text); err == nil {
			t.Errorf("%q was read as %s", text, c)
		}
	}
	at, after := api.CursorAt(7, 3), api.CursorAfter(7)
	if at.Before(7, 3) || !at.Before(7, 4) || !at.Before(8, 0) || at.Before(6, 9) || at.Next() != 7 {
		t.Error("a cursor inside a height is misplaced")
	}
	if after.Before(7, 4_000_000_000) || !after.Before(8, 0) || after.Next() != 8 {
		t.Error("a cursor after a height is misplaced")
	}
	if !at.Less(after) || after.Less(at) || at.Less(at) || !after.Less(api.CursorAt(8, 0)) {
		t.Error("cursors are not ordered")
	}
	if (api.Cursor{}).Next() != 0 || !(api.Cursor{}).Before(1, 0) {
		t.Error("the zero cursor is not before everything")
	}
}

func TestStreamEventsCarryChainEvents(t *testing.T) {
	data, err := json.Marshal(chain.Transferred{From: address(1), To: address(2), Amount: chain.Hyper(1_000_000_000)})
	if err != nil {
		t.Fatal(err)
	}
	e := throughJSON(t, api.StreamEvent{Cursor: api.CursorAt(4, 2), Type: "transferred", Height: 4, Data: data})
	got, err := e.ChainEvent()
	if err != nil || got.(chain.Transferred).Amount != chain.Hyper(1_000_000_000) || e.Cursor != api.CursorAt(4, 2) {
		t.Fatalf("%+v %v", got, err)
	}
	if got, err := (&api.StreamEvent{Type: api.EventTx}).ChainEvent(); got != nil || err != nil {
		t.Fatalf("%v %v", got, err)
	}
	if _, err := (&api.StreamEvent{Type: "nothing"}).ChainEvent(); err == nil {
		t.Fatal("an unknown event was accepted")
	}
}

func TestSettlementsAddUp(t *testing.T) {
	s := api.NewSettlements(crypto.Digest{1})
	at := api.SettledClaim{Height: 3, TxID: crypto.Digest{2}}
	for _, event := range []chain.Event{
		chain.ClaimRecorded{Order: crypto.Digest{1}},
		chain.ClaimSettled{Order: crypto.Digest{1}, Cost: chain.Nano(5), Burned: chain.Nano(1)},
		chain.ClaimSettled{Order: crypto.Digest{1}, Cost: chain.Nano(7), Burned: chain.Nano(2)},
		chain.ClaimSettled{Order: crypto.Digest{9}, Cost: chain.Nano(100)},
		chain.ClaimRejected{Order: crypto.Digest{1}},
		chain.Transferred{},
	} {
		if err := s.Add(at, event); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.Settled) != 2 || len(s.Recorded) != 1 || len(s.Rejected) != 1 || s.Cost != chain.Nano(12) || s.Burned != chain.Nano(3) || s.Settled[1].TxID != at.TxID {
		t.Fatalf("%+v", s)
	}
	if err := s.Add(at, chain.ClaimSettled{Order: crypto.Digest{1}, Cost: chain.Nano(math.MaxUint64)}); err == nil {
		t.Fatal("costs wrapped")
	}
}

func wasmSpec() job.Spec {
	return job.Spec{
		Label: "render", Work: job.WorkField{Work: job.Wasm{Module: crypto.Digest{3}, Args: []string{"-n", "4"}, Deterministic: true}},
		InputBytes: 10, Resources: job.Resources{Millicores: 1000, MemoryMiB: 512}, Limits: job.DefaultLimits(), Region: "eu",
	}
}

func kernelSpec() job.Spec {
	s := wasmSpec()
	s.Work.Work = job.Kernel{Name: "matmul-32", Inputs: []crypto.Digest{{1}, {2}}}
	return s
}

func jobRequest(spec job.Spec, policy chain.Policy) api.SubmitJobRequest {
	order := claim(policy).Order
	order.Spec = spec.Digest()
	return api.SubmitJobRequest{Order: api.OrderToJSON(order), Signature: testKey(1).PrivateKey.Sign(crypto.DomainOrder, order.Payload()), Spec: api.SpecToJSON(spec)}
}

func TestJobRequestsThroughJSON(t *testing.T) {
	for _, c := range []struct {
		spec   job.Spec
		policy chain.Policy
	}{{wasmSpec(), policies()[0]}, {wasmSpec(), policies()[1]}, {kernelSpec(), policies()[2]}} {
		request := jobRequest(c.spec, c.policy)
		signed, err := throughJSON(t, request).Verify()
		if err != nil {
			t.Fatalf("%s: %v", c.policy, err)
		}
		spec, order := signed.Spec(), signed.Order()
		if spec.Digest() != c.spec.Digest() || order.Spec != c.spec.Digest() || order.Policy.String() != c.policy.String() || signed.Signature() != request.Signature {
			t.Errorf("%s: %+v", c.policy, signed)
		}
	}
}

func TestJobRequestsAreRefusedByName(t *testing.T) {
	good := func() api.SubmitJobRequest {
		return jobRequest(wasmSpec(), chain.PolicyReplicate{K: 2, N: 3, WindowMs: 60_000})
	}
	for want, change := range map[string]func(r *api.SubmitJobRequest){
		"order_signature": func(r *api.SubmitJobRequest) { r.Order.Nonce++ },
		"order.policy":    func(r *api.SubmitJobRequest) { r.Order.Policy.Policy = nil },
		"order.consumer": func(r *api.SubmitJobRequest) {
			r.Order.Consumer = api.AccountKey{Scheme: 1, Key: append([]byte{1}, make([]byte, 31)...)}
		},
		"order: job: spec": func(r *api.SubmitJobRequest) { r.Spec.Label = "other" },
		"spec: job: specification refused: limits.fuel": func(r *api.SubmitJobRequest) { r.Spec.Limits.Fuel = 0 },
		"spec: job: specification refused: no work":     func(r *api.SubmitJobRequest) { r.Spec.Work.Work = nil },
	} {
		r := good()
		change(&r)
		if signed, err := r.Verify(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v %+v", want, err, signed)
		}
	}
	var s api.Spec
	err := api.DecodeJSON([]byte(`{"work":{"type":"wasm","data":{"module":"zz"}}}`), &s)
	if field, ok := errors.AsType[*api.FieldError](err); !ok || field.Location != "work.data.module" {
		t.Errorf("%v", err)
	}
}

func TestJobReport(t *testing.T) {
	j := api.Job{ID: crypto.Digest{1}, Policy: "none", Status: job.Queued}
	data, err := json.Marshal(j.Report())
	if err != nil || !strings.Contains(string(data), `"providers":[]`) || !strings.Contains(string(data), `"settlement_tx":[]`) || !strings.Contains(string(data), `"output":""`) {
		t.Fatalf("%s %v", data, err)
	}
	j.Output = crypto.Digest{2}
	j.Settlement = &api.JobSettlement{Txs: []crypto.Digest{{3}}, Height: 9, Cost: chain.Nano(8), Burned: chain.Nano(1), Providers: []crypto.PublicKey{{4}}, ProofVerified: true}
	r := j.Report()
	if r.Output != j.Output.String() || r.Height != 9 || r.Cost != chain.Nano(8) || r.Burned != chain.Nano(1) || !r.ProofVerified || len(r.Providers) != 1 || len(r.SettlementTx) != 1 {
		t.Fatalf("%+v", r)
	}
}

func TestProblemInOneLine(t *testing.T) {
	p := &api.Problem{Status: 422, Title: "Unprocessable Entity", Detail: "validation failed", Errors: make([]api.ProblemDetail, 9)}
	p.Errors[0] = api.ProblemDetail{Location: "body.a", Message: "too long"}
	if got := p.Error(); !strings.HasPrefix(got, "422 Unprocessable Entity: validation failed; body.a: too long; ") || !strings.HasSuffix(got, "and 5 more") {
		t.Fatal(got)
	}
}

// Every shape's sum must list every alternative of package chain's.
func TestShapesAreComplete(t *testing.T) {
	names := map[string]bool{}
	for _, shape := range api.Shapes() {
		for _, c := range shape.Cases {
			names[c.Name] = true
		}
	}
	for _, m := range everyMessage() {
		if !names[chain.KindOf(m)] {
			t.Errorf("message %s has no shape", chain.KindOf(m))
		}
	}
	for _, p := range policies() {
		name, _, _ := strings.Cut(p.String(), "(")
		if !names[name] {
			t.Errorf("policy %s has no shape", name)
		}
	}
	known := 0
	for kind := range 256 {
		var events chain.Events
		err := events.UnmarshalCBOR(codec.Marshal([]any{[]any{kind, []any{}}}))
		if err != nil && strings.Contains(err.Error(), "unknown") {
			continue
		}
		known++
	}
	for _, shape := range api.Shapes() {
		if shape.List && len(shape.Cases) != known {
			t.Errorf("%d events have shapes, package chain has %d", len(shape.Cases), known)
		}
	}
}

func FuzzSubmission(f *testing.F) {
	raw := sampleTx(f).Encode()
	f.Add(true, api.EncodeSubmission([][]byte{raw}))
	asJSON, err := json.Marshal(map[string]any{"txs": []any{api.TxToJSON(sampleTx(f))}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(false, asJSON)
	f.Add(false, []byte(`{"txs":[{"body":{"messages":[{"type":"settle","data":{"claims":[{"order":null}]}}]}}]}`))
	f.Fuzz(func(t *testing.T, isCBOR bool, body []byte) {
		kind := api.ContentJSON
		if isCBOR {
			kind = api.ContentCBOR
		}
		list, err := api.DecodeSubmission(kind, body)
		if err != nil {
			if _, ok := errors.AsType[*api.FieldError](err); !ok {
				t.Fatalf("%v is no FieldError", err)
			}
			return
		}
		for i := range list {
			if list[i].Err == nil && list[i].Tx.ID() != list[i].ID {
				t.Fatal("a transaction has two ids")
			}
		}
	})
}

// bounded are the integers of events that rules keep below 2⁵³: of resources,
// and times of the chain's life.
var bounded = map[string]bool{"amount": true, "duration_ms": true, "matures_ms": true, "until_ms": true, "expires_ms": true, "at_ms": true, "ended_ms": true, "timestamp": true}

// TestNoIntegerOfAnEventIsLost: every other integer of every event and receipt is
// a string above 2⁵³, however a stranger chose it, and comes back as it was.
func TestNoIntegerOfAnEventIsLost(t *testing.T) {
	for _, shape := range api.Shapes() {
		if !shape.List {
			continue
		}
		for _, c := range shape.Cases {
			event := reflect.New(c.Type).Elem()
			fill(event)
			data, err := json.Marshal(event.Interface())
			if err != nil {
				t.Fatal(err)
			}
			back := reflect.New(c.Type)
			if err := json.Unmarshal(data, back.Interface()); err != nil || !reflect.DeepEqual(back.Elem().Interface(), event.Interface()) {
				t.Errorf("%s: %s came back as %+v, %v", c.Name, data, back.Elem(), err)
			}
			dec := json.NewDecoder(bytes.NewReader(data))
			dec.UseNumber()
			var document any
			if err := dec.Decode(&document); err != nil {
				t.Fatal(err)
			}
			wantExact(t, c.Name, document)
		}
	}
	var r chain.Receipt
	r.GasUsed, r.Burned, r.Tip = chain.GasUnits(math.MaxUint64), chain.Nano(math.MaxUint64), chain.Nano(math.MaxUint64)
	data, err := json.Marshal(r)
	if err != nil || strings.Count(string(data), `:"18446744073709551615"`) != 3 {
		t.Errorf("a receipt is %s, %v", data, err)
	}
}

// fill makes every integer the greatest of its kind, and every list have one
// item.
func fill(v reflect.Value) {
	switch v.Addr().Interface().(type) {
	case *chain.Amount:
		v.Set(reflect.ValueOf(chain.Nano(math.MaxUint64)))
		return
	case *chain.Resource, *chain.ExitStatus:
		v.SetUint(1)
		return
	}
	switch v.Kind() {
	case reflect.Uint64:
		v.SetUint(math.MaxUint64)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i))
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	default:
	}
}

func wantExact(t *testing.T, path string, document any) {
	switch d := document.(type) {
	case map[string]any:
		for name, value := range d {
			if !bounded[name] {
				wantExact(t, path+"."+name, value)
			}
		}
	case []any:
		for _, value := range d {
			wantExact(t, path, value)
		}
	case json.Number:
		if n, err := strconv.ParseUint(d.String(), 10, 64); err != nil || n > 1<<53 {
			t.Errorf("%s is the number %s, which JSON readers round", path, d)
		}
	}
}
