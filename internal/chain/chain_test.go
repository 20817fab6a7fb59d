package chain_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

func TestBech32mVectors(t *testing.T) {
	data, err := os.ReadFile("testdata/bech32m.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Valid   []string
		Invalid [][2]string
	}
	if err := json.Unmarshal(data, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors.Valid) == 0 || len(vectors.Invalid) == 0 {
		t.Fatal("no vectors")
	}
	for _, s := range vectors.Valid {
		hrp, groups, err := chain.DecodeBech32m(s)
		if err != nil {
			t.Errorf("%q: %v", s, err)
			continue
		}
		if again := chain.EncodeBech32m(hrp, groups); again != strings.ToLower(s) {
			t.Errorf("%q encodes again as %q", s, again)
		}
	}
	for _, v := range vectors.Invalid {
		if _, _, err := chain.DecodeBech32m(v[0]); err == nil {
			t.Errorf("%q was taken: %s", v[0], v[1])
		}
	}
}

func TestAddressText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a chain.Address
		copy(a[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "address"))
		s := a.String()
		if !strings.HasPrefix(s, "hyper1") {
			t.Fatalf("address is %s", s)
		}
		back, err := chain.ParseAddress(s)
		if err != nil || back != a {
			t.Fatalf("%s read back as %s, %v", s, back, err)
		}
		i := rapid.IntRange(len("hyper1"), len(s)-1).Draw(t, "position")
		c := rapid.SampledFrom([]byte("qpzry9x8gf2tvdw0s3jn54khce6mua7lb1io")).Draw(t, "character")
		broken := s[:i] + string(c) + s[i+1:]
		if back, err := chain.ParseAddress(broken); err == nil && back != a {
			t.Fatalf("%s was taken as %s", broken, back)
		}
	})
}

func TestDecodeTxRefusesByName(t *testing.T) {
	good := signedTx(t, chain.Msgs{chain.Transfer{To: testKey(4).address(), Amount: chain.Nano(1)}})
	resign := func(change func(*chain.TxBody)) chain.Tx {
		body := good.Body
		change(&body)
		tx, err := chain.SignTx(body, testKey(1), testKey(5))
		if err != nil {
			t.Fatal(err)
		}
		return tx
	}
	sender := testKey(1).address()
	claim := func(change func(*chain.Claim)) chain.Tx {
		c := sampleClaim(replicated)
		change(&c)
		return resign(func(b *chain.TxBody) { b.Messages = chain.Msgs{chain.Settle{Claims: []chain.Claim{c}}} })
	}
	cases := map[string]struct {
		tx   chain.Tx
		want string
	}{
		"chain id":        {resign(func(b *chain.TxBody) { b.ChainID = "X" }), "chain id"},
		"no messages":     {resign(func(b *chain.TxBody) { b.Messages = nil }), "messages has 0"},
		"17 messages":     {resign(func(b *chain.TxBody) { b.Messages = make(chain.Msgs, 0, 17); b.Messages = repeat(17) }), "messages has 17, limit 16"},
		"memo":            {resign(func(b *chain.TxBody) { b.Memo = strings.Repeat("m", 257) }), "memo has 257, limit 256"},
		"tip":             {resign(func(b *chain.TxBody) { b.Tip = chain.PricePerGas(21) }), "tip 21 above max fee 20"},
		"payer is sender": {resign(func(b *chain.TxBody) { b.FeePayer = &sender }), "fee payer is the sender"},
		"payer absent":    {resign(func(b *chain.TxBody) { b.FeePayer = nil }), "2 signatures, want 1"},
		"other sender":    {resign(func(b *chain.TxBody) { b.Sender = testKey(9).address() }), "its key is not that of"},
		"no claims":       {resign(func(b *chain.TxBody) { b.Messages = chain.Msgs{chain.Settle{}} }), "claims has 0"},
		"proof":           {claim(func(c *chain.Claim) { c.Proof = make([]byte, chain.MaxProof+1) }), "proof has 4097"},
		"k above n":       {claim(func(c *chain.Claim) { c.Order.Policy.Policy = chain.PolicyReplicate{K: 4, N: 3, WindowMs: 60_000} }), "replicate 4 of 3"},
		"usage order":     {claim(func(c *chain.Claim) { c.Receipt.Usage = []chain.Usage{{Resource: chain.GPU}, {Resource: chain.CPU}} }), "ascending"},
		"usage amount":    {claim(func(c *chain.Claim) { c.Receipt.Usage = []chain.Usage{{Resource: chain.CPU, Amount: 1 << 48}} }), "usage of CPU"},
		"backwards":       {claim(func(c *chain.Claim) { c.Receipt.Ended = c.Receipt.Started - 1 }), "before its start"},
		"exit":            {claim(func(c *chain.Claim) { c.Receipt.Exit = 0 }), "exit status 0"},
		"region": {resign(func(b *chain.TxBody) {
			b.Messages = chain.Msgs{chain.RegisterProvider{Region: strings.Repeat("r", 33)}}
		}), "region has 33"},
		"weak node key": {resign(func(b *chain.TxBody) { b.Messages = chain.Msgs{chain.RegisterProvider{}} }), "large order"},
		"fee bps":       {resign(func(b *chain.TxBody) { b.Messages = chain.Msgs{chain.RegisterCluster{FeeBps: 2001}} }), "fee_bps has 2001"},
	}
	for name, c := range cases {
		_, err := chain.DecodeTx(c.tx.Encode())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
	raw := good.Encode()
	if _, err := chain.DecodeTx(append(bytes.Clone(raw), 0)); err == nil {
		t.Error("a byte after the transaction was taken")
	}
	if _, err := chain.DecodeTx(make([]byte, chain.MaxTxBytes+1)); !errors.Is(err, codec.ErrTooLarge) {
		t.Errorf("an oversized transaction: %v", err)
	}
}

// TestDecodingManyIsDecodingEach has good and bad ones in one call: each has its own
// id, form and error.
func TestDecodingManyIsDecodingEach(t *testing.T) {
	raws := transferTxs(t)
	other := signedTx(t, allMessages()).Encode()
	foreign := signedTx(t, chain.Msgs{chain.Transfer{To: testKey(4).address(), Amount: chain.Nano(1)}})
	foreign.Body.Sender = testKey(9).address() // not the key's
	payer := signedTx(t, chain.Msgs{chain.Transfer{To: testKey(4).address(), Amount: chain.Nano(1)}})
	wrong := testKey(9).address()
	payer.Body.FeePayer = &wrong
	elsewhere := signedTx(t, chain.Msgs{chain.Transfer{To: testKey(4).address(), Amount: chain.Nano(1)}})
	elsewhere.Body.ChainID = "another-1"
	raws = append(raws, other, foreign.Encode(), raws[0][1:], elsewhere.Encode(), raws[1], payer.Encode(), nil, raws[2])
	txs, errs := chain.DecodeTxs(raws)
	bad := 0
	for i, raw := range raws {
		tx, err := chain.DecodeTx(raw)
		if !reflect.DeepEqual(tx, txs[i]) || fmt.Sprint(err) != fmt.Sprint(errs[i]) {
			t.Errorf("transaction %d is %v, %v among others, and %v, %v alone", i, txs[i], errs[i], tx, err)
		}
		if txs[i].ID() != crypto.DomainTxID.Hash(raw) {
			t.Errorf("transaction %d has another id", i)
		}
		if err != nil {
			bad++
		}
	}
	if bad != 4 {
		t.Errorf("%d are refused, want 4", bad)
	}
}

// TestBlocksEncodeAsTheCodecWould: blocks have an encoder of their own.
func TestBlocksEncodeAsTheCodecWould(t *testing.T) {
	full := sampleBlock(t)
	full.Body.Evidence, full.Body.Finalization, full.Body.LateVotes = [][]byte{{1}, make([]byte, 300), {}}, make([]byte, 70_000), [][]byte{make([]byte, 30)}
	for range 300 {
		full.Body.Txs = append(full.Body.Txs, full.Body.Txs[0])
	}
	for i, b := range []chain.Block{{}, sampleBlock(t), full} {
		if got, want := b.Encode(), codec.Marshal(b); !bytes.Equal(got, want) {
			t.Errorf("block %d encodes as %x, the codec says %x", i, got, want)
		}
	}
}

// TestListRootIsThatOfRFC9162sShape computes it the slow way, for every length up to
// a few lanes.
func TestListRootIsThatOfRFC9162sShape(t *testing.T) {
	var top func(items []crypto.Digest) crypto.Digest
	top = func(items []crypto.Digest) crypto.Digest {
		switch len(items) {
		case 0:
			return crypto.Digest{}
		case 1:
			return crypto.DomainMerkleLeaf.Hash(items[0][:])
		}
		k := 1
		for 2*k < len(items) {
			k *= 2
		}
		return crypto.DomainMerkleInner.HashPair(top(items[:k]), top(items[k:]))
	}
	var items []crypto.Digest
	for n := range 70 {
		want := crypto.DomainTxRoot.Hash(codec.Marshal([]any{n, top(items)}))
		if got := chain.ListRoot(crypto.DomainTxRoot, items); got != want {
			t.Errorf("the root of %d items is %s, want %s", n, got, want)
		}
		items = append(items, crypto.DomainTxID.Hash(fmt.Append(nil, n)))
	}
}

func repeat(n int) chain.Msgs {
	ms := make(chain.Msgs, n)
	for i := range ms {
		ms[i] = chain.Transfer{To: testKey(4).address(), Amount: chain.Nano(1)}
	}
	return ms
}

func TestVerifyTxs(t *testing.T) {
	decode := func(tx chain.Tx) chain.DecodedTx {
		d, err := chain.DecodeTx(tx.Encode())
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	good := signedTx(t, allMessages())
	badSender, badPayer, badClaim := signedTx(t, allMessages()), signedTx(t, allMessages()), allMessages()
	badSender.Signatures[0].Signature[5] ^= 1
	badPayer.Signatures[1].Signature[5] ^= 1
	settle := badClaim[7].(chain.Settle)
	settle.Claims[1].BidSig[9] ^= 1
	for parallelism := range 3 {
		got := chain.VerifyTxs([]chain.DecodedTx{decode(good), decode(badSender), decode(badPayer), decode(signedTx(t, badClaim))}, parallelism)
		if got[0] == nil || got[1] != nil || got[2] != nil || got[3] == nil {
			t.Fatalf("verdicts: %v", got)
		}
		if s := got[0].ClaimsSigned(7); !slices.Equal(s, []chain.Signing{chain.AllSigned, chain.AllSigned, chain.AllSigned}) {
			t.Errorf("good claims: %v", s)
		}
		if s := got[3].ClaimsSigned(7); !slices.Equal(s, []chain.Signing{chain.AllSigned, chain.AllSigned + 3, chain.AllSigned}) {
			t.Errorf("claim 1 is badly signed: %v", s)
		}
	}
}

// TestEveryClaimSignatureCounts, and it is said which does not verify.
func TestEveryClaimSignatureCounts(t *testing.T) {
	found := func(claims ...chain.Claim) []chain.Signing {
		t.Helper()
		tx, err := chain.DecodeTx(signedTx(t, chain.Msgs{chain.Settle{Claims: claims}}).Encode())
		if err != nil {
			t.Fatal(err)
		}
		got := chain.VerifyTxs([]chain.DecodedTx{tx}, 1)
		if got[0] == nil {
			t.Fatal("the transaction's own signature was not taken")
		}
		return got[0].ClaimsSigned(0)
	}
	for name, c := range map[string]struct {
		forge func(*chain.Claim)
		says  string
	}{
		"nothing":          {func(*chain.Claim) {}, ""},
		"order":            {func(c *chain.Claim) { c.OrderSig[3] ^= 1 }, "the order"},
		"acceptance":       {func(c *chain.Claim) { c.AcceptanceSig[3] ^= 1 }, "the acceptance"},
		"bid":              {func(c *chain.Claim) { c.BidSig[3] ^= 1 }, "the bid"},
		"receipt":          {func(c *chain.Claim) { c.ReceiptSig[3] ^= 1 }, "the receipt"},
		"attestation":      {func(c *chain.Claim) { c.Attestation[3] ^= 1 }, "the attestation"},
		"order body":       {func(c *chain.Claim) { c.Order.MaxCost = chain.Hyper(1) }, "the order"},
		"usage":            {func(c *chain.Claim) { c.Receipt.Usage[0].Amount++ }, "the receipt"},
		"all but the bid":  {func(c *chain.Claim) { c.OrderSig[3] ^= 1; c.AcceptanceSig[3] ^= 1; c.ReceiptSig[3] ^= 1 }, "the order"},
		"bid and receipt":  {func(c *chain.Claim) { c.BidSig[3] ^= 1; c.ReceiptSig[3] ^= 1; c.Attestation[3] ^= 1 }, "the bid"},
		"countersignature": {func(c *chain.Claim) { c.Countersigned = true }, "the countersignature"}, // it is its cluster's, as an attestation is
	} {
		good, claim := sampleClaim(chain.PolicyNone{}), sampleClaim(chain.PolicyNone{})
		c.forge(&claim)
		verdicts := found(good, claim, good)
		if says := claim.Unsigned(verdicts[1]); says != c.says || (says == "") != (verdicts[1] == chain.AllSigned) {
			t.Errorf("of a forged %s it says %q, want %q", name, says, c.says)
		}
		if verdicts[0] != chain.AllSigned || verdicts[2] != chain.AllSigned || found(claim)[0] != verdicts[1] {
			t.Errorf("beside a forged %s: %v, alone %v", name, verdicts, found(claim))
		}
	}
}

// TestEveryDealSignatureCounts: also the cluster's under the bid, so that no other node's
// bid is put in its place.
func TestEveryDealSignatureCounts(t *testing.T) {
	for name, forge := range map[string]func(*chain.LeaseDeal){
		"nothing":    nil,
		"order":      func(d *chain.LeaseDeal) { d.OrderSig[3] ^= 1 },
		"acceptance": func(d *chain.LeaseDeal) { d.AcceptanceSig[3] ^= 1 },
		"bid":        func(d *chain.LeaseDeal) { d.BidSig[3] ^= 1 },
		"award":      func(d *chain.LeaseDeal) { d.AwardSig[3] ^= 1 },
		"another's bid": func(d *chain.LeaseDeal) {
			d.Bid.Node = testKey(9).Public()
			d.BidSig = testKey(9).PrivateKey.Sign(crypto.DomainBid, d.Bid.Payload())
		},
	} {
		deal := sampleDeal()
		if forge != nil {
			forge(&deal)
		}
		tx, err := chain.DecodeTx(signedTx(t, chain.Msgs{chain.OpenLease{Deal: deal}}).Encode())
		if err != nil {
			t.Fatal(err)
		}
		if got := chain.VerifyTxs([]chain.DecodedTx{tx}, 1); got[0] == nil || got[0].DealSigned(0) != (forge == nil) {
			t.Errorf("a deal with a forged %s: not as it should be", name)
		}
	}
}

func TestDecodeBlock(t *testing.T) {
	block := sampleBlock(t)
	decoded, err := chain.DecodeBlock(block.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if decoded.Digest() != block.Header.Digest() || len(decoded.Txs()) != 1 {
		t.Error("the decoded block is another")
	}
	for name, change := range map[string]func(*chain.Block){
		"transactions root": func(b *chain.Block) { b.Header.TxRoot[0] ^= 1 },
		"extra root":        func(b *chain.Block) { b.Header.ExtraRoot[0] ^= 1 },
		"missing tx":        func(b *chain.Block) { b.Body.Txs = nil },
		"extra evidence":    func(b *chain.Block) { b.Body.Evidence = [][]byte{{1}} },
		"twice":             func(b *chain.Block) { b.Body.Txs = append(b.Body.Txs, b.Body.Txs[0]) },
	} {
		b := sampleBlock(t)
		change(&b)
		if _, err := chain.DecodeBlock(b.Encode(), nil); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestCostFloorsTheSum(t *testing.T) {
	prices := []chain.UnitPrice{{Resource: chain.CPU, Price: 3}, {Resource: chain.Network, Price: 1_000_000_000}}
	// 1,000 millicores for 500 ms at 3 atto per unit·second: 1,500 atto, far below
	// one nHYPER; 2 MiB moved at 10⁹ atto each: 2 nHYPER whatever the duration.
	usage := []chain.Usage{{Resource: chain.CPU, Amount: 1_000, DurationMs: 500}, {Resource: chain.Network, Amount: 2, DurationMs: 77}}
	got, err := chain.Cost(usage, prices)
	if err != nil || got != chain.Nano(2) {
		t.Errorf("cost is %s, %v", got, err)
	}
	if _, err := chain.Cost([]chain.Usage{{Resource: chain.GPU, Amount: 1, DurationMs: 1}}, prices); err == nil {
		t.Error("a resource without a price was charged")
	}
	big := []chain.Usage{{Resource: chain.CPU, Amount: chain.MaxUsageAmount, DurationMs: chain.MaxUsageMs}}
	if _, err := chain.Cost(big, []chain.UnitPrice{{Resource: chain.CPU, Price: 1<<64 - 1}}); err == nil {
		t.Error("a charge above every amount was taken")
	}
}

func TestGenesis(t *testing.T) {
	good := sampleGenesis()
	data, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	back, err := chain.ReadGenesis(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if back.Digest() != good.Digest() {
		t.Error("genesis changed on its way through JSON")
	}
	for want, change := range map[string]func(*chain.Genesis){
		"bucket community":  func(g *chain.Genesis) { g.Allocations[0].Amount = chain.Hyper(1) },
		"bucket validators": func(g *chain.Genesis) { g.Validators = g.Validators[:3] },
		"must vest":         func(g *chain.Genesis) { g.Allocations[1].Vesting = nil },
		"cliff of one":      func(g *chain.Genesis) { g.Allocations[1].Vesting.CliffMs = 1 },
		"appears twice":     func(g *chain.Genesis) { g.Validators[1].NodeKey = g.Validators[0].NodeKey },
		"is below min_self": func(g *chain.Genesis) { g.Params.MinSelfBond = chain.Hyper(25_000_001) },
		"no validators":     func(g *chain.Genesis) { g.Validators = nil },
		"ceremony":          func(g *chain.Genesis) { g.InsecureKeys = true },
		"is unknown": func(g *chain.Genesis) {
			g.Allocations = append(g.Allocations, chain.Allocation{Bucket: "x"})
		},
		"block_gas is 0":             func(g *chain.Genesis) { g.Params.BlockGas = chain.Gas{} },
		"priority_burn_bps is 2499":  func(g *chain.Genesis) { g.Params.PriorityBurnBps = chain.MinPriorityBurnBps - 1 },
		"priority_burn_bps is 10001": func(g *chain.Genesis) { g.Params.PriorityBurnBps = 10_001 },
		"claim_window_ms":            func(g *chain.Genesis) { g.Params.ClaimWindowMs = g.Params.WithdrawalDelayMs },
		"kernel":                     func(g *chain.Genesis) { g.Kernels = append(g.Kernels, g.Kernels[0]) },
		"fixed_gas is 0":             func(g *chain.Genesis) { g.Kernels[0].FixedGas = chain.Gas{} },
		"1 to block_gas":             func(g *chain.Genesis) { g.Kernels[0].FixedGas = chain.GasUnits(g.Params.BlockGas.Units() + 1) },
		"name has 65":                func(g *chain.Genesis) { g.Validators[1].Name = strings.Repeat("n", 65) },
		"endpoint has":               func(g *chain.Genesis) { g.Validators[1].Endpoint = strings.Repeat("n", 129) },
		"of one address": func(g *chain.Genesis) {
			v := chain.Vesting{DurationMs: 1}
			g.Allocations = append(g.Allocations, slices.Repeat([]chain.Allocation{{Bucket: chain.BucketSale, Vesting: &v}}, 17)...)
		},
		"stake":    func(g *chain.Genesis) { g.Validators[2].Stake = chain.Nano(1) },
		"chain id": func(g *chain.Genesis) { g.ChainID = "" },
	} {
		g := sampleGenesis()
		change(g)
		if err := g.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
	if _, err := chain.ReadGenesis(strings.NewReader(string(data[:len(data)-1]) + `,"extra":1}`)); err == nil {
		t.Error("an unknown field was taken")
	}
}

func TestEventsThroughJSON(t *testing.T) {
	want := sampleReceipts()
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got chain.BlockReceipts
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Encode(), want.Encode()) {
		t.Error("receipts changed on their way through JSON")
	}
}

func TestAmountText(t *testing.T) {
	for nano, want := range map[uint64]string{0: "0 HYPER", 1: "0.000000001 HYPER", 3_200_000_000: "3.2 HYPER", 1_000_000_000_000_000_000: "1000000000 HYPER"} {
		if got := chain.Nano(nano).String(); got != want {
			t.Errorf("%d nHYPER prints as %q, want %q", nano, got, want)
		}
	}
	for nano, want := range map[uint64]string{5: "5", 1 << 53: "9007199254740992", 1<<53 + 1: `"9007199254740993"`} {
		got, err := json.Marshal(chain.Nano(nano))
		if err != nil || string(got) != want {
			t.Errorf("%d nHYPER in JSON is %s, %v", nano, got, err)
		}
		var back chain.Amount
		if err := json.Unmarshal(got, &back); err != nil || back != chain.Nano(nano) {
			t.Errorf("%s reads back as %v, %v", got, back, err)
		}
	}
	for _, bad := range []string{`-1`, `1.5`, `"x"`, `1e3`, `18446744073709551616`, `null`} {
		var a chain.Amount
		if err := json.Unmarshal([]byte(bad), &a); err == nil {
			t.Errorf("%s was taken as an amount", bad)
		}
	}
}

func FuzzTransaction(f *testing.F) {
	f.Add(signedTx(f, allMessages()).Encode())
	f.Add(signedTx(f, stakingMessages()).Encode())
	f.Add(signedTx(f, leaseMessages()).Encode())
	f.Add(signedTx(f, channelMessages()).Encode())
	f.Add(signedTx(f, panelMessages()).Encode())
	f.Add(signedTx(f, hardwareMessages()).Encode())
	f.Add(signedTx(f, contractMessages()).Encode())
	f.Add(signedTx(f, chain.Msgs{chain.Settle{Claims: []chain.Claim{fairClaim()}}}).Encode())
	f.Add([]byte{0x82})
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := chain.DecodeTx(raw)
		if err != nil {
			return
		}
		if !bytes.Equal(d.Tx().Encode(), raw) {
			t.Fatal("decoded transaction encodes otherwise")
		}
		chain.VerifyTxs([]chain.DecodedTx{d}, 1)
	})
}

func FuzzBlock(f *testing.F) {
	block := sampleBlock(f)
	f.Add(block.Encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := chain.DecodeBlock(raw, nil)
		if err == nil && !bytes.Equal(d.Block().Encode(), raw) {
			t.Fatal("decoded block encodes otherwise")
		}
	})
}

func BenchmarkDecodeTransfer(b *testing.B) {
	raw := signedTx(b, chain.Msgs{chain.Transfer{To: testKey(4).address(), Amount: chain.Nano(1)}}).Encode()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := chain.DecodeTx(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeClaim(b *testing.B) {
	raw := signedTx(b, chain.Msgs{chain.Settle{Claims: []chain.Claim{sampleClaim(replicated)}}}).Encode()
	b.ReportAllocs()
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if _, err := chain.DecodeTx(raw); err != nil {
			b.Fatal(err)
		}
	}
}
