package wallet_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/wallet"
)

func add(t testing.TB, w *wallet.Wallet, name string) wallet.Account {
	t.Helper()
	a, err := w.Add(name)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func testKey(n byte) crypto.PrivateKey { return crypto.PrivateKeyFromSeed([32]byte{n}) }

func TestAccounts(t *testing.T) {
	w := wallet.New(parse(t, zeroPhrase))
	first := add(t, w, "main")
	imported, err := w.Import("cold.1", testKey(1))
	if err != nil {
		t.Fatal(err)
	}
	second := add(t, w, "savings")
	for i, want := range []struct {
		account wallet.Account
		path    string
		key     crypto.PrivateKey
	}{
		{first, "m/44'/1213812818'/0'", wallet.DeriveKey(w.Phrase(), 0)},
		{imported, "", testKey(1)},
		{second, "m/44'/1213812818'/1'", wallet.DeriveKey(w.Phrase(), 1)},
	} {
		got := w.Accounts()[i]
		if got.Address() != want.account.Address() || got.Path() != want.path || got.PrivateKey().Public() != want.key.Public() {
			t.Errorf("account %d: %s at %q, want %s at %q", i, got, got.Path(), want.account, want.path)
		}
		named, err := w.Account(got.Name())
		if err != nil || named.Address() != got.Address() {
			t.Errorf("Account(%q) = %s, %v", got.Name(), named, err)
		}
		if got.Address() != chain.AddressOf(crypto.AccountKeyOf(want.key.Public())) {
			t.Errorf("account %d: address %s is not of its key", i, got.Address())
		}
	}
	if _, err := w.Account("none"); !errors.Is(err, wallet.ErrNoAccount) {
		t.Errorf("absent account: %v, want ErrNoAccount", err)
	}
}

func TestWalletRefuses(t *testing.T) {
	w := wallet.New(parse(t, zeroPhrase))
	add(t, w, "main")
	for _, name := range []string{"", strings.Repeat("a", 33), "Main", "a b", "a/b", "ä", "a\x00"} {
		if _, err := w.Add(name); err == nil || !strings.Contains(err.Error(), "account name") {
			t.Errorf("name %q: %v, want an error about the name", name, err)
		}
	}
	if _, err := w.Add("main"); !errors.Is(err, wallet.ErrDuplicate) {
		t.Errorf("name twice: %v, want ErrDuplicate", err)
	}
	if _, err := w.Import("other", wallet.DeriveKey(w.Phrase(), 0)); !errors.Is(err, wallet.ErrDuplicate) {
		t.Errorf("key twice: %v, want ErrDuplicate", err)
	}
	if n := len(w.Accounts()); n != 1 {
		t.Errorf("%d accounts after refusals, want 1", n)
	}
	for i := 1; i < 1_000; i++ {
		add(t, w, fmt.Sprint("a", i))
	}
	if _, err := w.Add("one-more"); err == nil || !strings.Contains(err.Error(), "limit 1000") {
		t.Errorf("account 1,001: %v, want an error that names the limit", err)
	}
}

// TestAccountSignsTransactions takes a signature through the chain's own
// check.
func TestAccountSignsTransactions(t *testing.T) {
	w := wallet.New(parse(t, zeroPhrase))
	sender, payer := add(t, w, "sender"), add(t, w, "payer")
	payerAddress := payer.Address()
	body := sampleBody(sender.Address())
	body.FeePayer = &payerAddress
	tx, err := chain.SignTx(body, sender, payer)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := chain.DecodeTx(tx.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if chain.VerifyTxs([]chain.DecodedTx{decoded}, 1)[0] == nil {
		t.Error("the chain refuses the wallet's signatures")
	}
}

func sampleBody(sender chain.Address) chain.TxBody {
	return chain.TxBody{
		ChainID: "hyper-test", Sender: sender, Nonce: 6, Expiry: 1000,
		GasLimit: chain.GasUnits(50_000), MaxFee: chain.PricePerGas(20), Tip: chain.PricePerGas(1),
		Messages: chain.Msgs{chain.Transfer{To: chain.ModuleAddress("treasury"), Amount: chain.Nano(3_200_000_000)}},
		Memo:     "rent\n  fee at most 0 HYPER",
	}
}

// hardwareMessages has one of each.
func hardwareMessages(node crypto.PublicKey) chain.Msgs {
	c := chain.HardwareChallenge{Node: node}
	return chain.Msgs{
		chain.ReportHardware{Challenge: c, Verdicts: make(chain.HardwareVerdicts, 3)}, chain.DeclareHardware{Node: node, Millicores: 8_000, MemoryMiB: 16_384},
		chain.AnnounceHome{Home: chain.NodeHome{Node: node, Cluster: testKey(4).Public()}},
	}
}

func TestPreviewIsFrozen(t *testing.T) {
	sender := wallet.NewAccount("a", testKey(1)).Address()
	payer := wallet.NewAccount("b", testKey(2)).Address()
	node := testKey(3).Public()
	body := sampleBody(sender)
	body.FeePayer = &payer
	body.Messages = append(body.Messages,
		chain.RegisterProvider{Node: node, Bond: chain.Hyper(100), Region: "eu\n", Millicores: 4000, MemoryMiB: 8192},
		chain.UnbondProvider{Node: node},
		chain.RegisterCluster{Cluster: node, Bond: chain.Hyper(1000), FeeBps: 205, Endpoints: []string{"a:1", "b:2"}},
		chain.UnbondCluster{Cluster: node},
		chain.Deposit{Cluster: node, Amount: chain.Hyper(5)},
		chain.Withdraw{Cluster: node, Amount: chain.Nano(1)},
		chain.Settle{Claims: make([]chain.Claim, 2)}, chain.Settle{Claims: []chain.Claim{{OutputKey: &chain.OutputKey{1}}}},
	)
	text, err := wallet.Preview(&body)
	if err != nil {
		t.Fatal(err)
	}
	body.Messages = stakingMessages(node)
	staking, err := wallet.Preview(&body)
	if err != nil {
		t.Fatal(err)
	}
	text += staking
	lease := chain.LeaseID{Node: node, Order: crypto.Digest{8}}
	body.Messages = append(hardwareMessages(node), chain.Msgs{
		chain.OpenLease{}, chain.ResizeLease{Lease: lease}, chain.ExtendLease{Lease: lease, Amount: chain.Hyper(2)},
		chain.CloseLease{Lease: lease}, chain.CollectLease{Lease: lease},
		chain.ReportMiss{Epoch: chain.ServiceEpoch{Lease: lease, Epoch: 3}}, chain.DrawPeers{Lease: lease}, chain.LeaveLease{Lease: lease},
		chain.AccusePeer{Epoch: chain.ServiceEpoch{Lease: lease, Epoch: 3}, First: chain.ServiceReport{Peer: node}},
	}...)
	leases, err := wallet.Preview(&body)
	if err != nil {
		t.Fatal(err)
	}
	text += leases
	body.Messages = chain.Msgs{
		chain.OpenChannel{Payee: payer, Signer: node, Amount: chain.Hyper(2), WindowMs: 60_000}, chain.FundChannel{Channel: crypto.Digest{8}, Amount: chain.Hyper(1)},
		chain.RedeemVoucher{Voucher: chain.Voucher{Channel: crypto.Digest{8}, Total: chain.Hyper(3)}}, chain.CloseChannel{Channel: crypto.Digest{8}},
		chain.Challenge{Order: crypto.Digest{8}, Stake: chain.Hyper(3)}, chain.Appeal{Order: crypto.Digest{8}, Stake: chain.Hyper(3)},
	}
	channels, err := wallet.Preview(&body)
	if err != nil {
		t.Fatal(err)
	}
	text += channels
	body.Messages = chain.Msgs{
		chain.RegisterMeter{Node: node, Key: chain.MeterKey{7}}, chain.SettleBatch{Batch: chain.UsageBatch{Summary: chain.BatchSummary{Node: node, Order: crypto.Digest{8}, Count: 5}}},
		chain.ReportAcceptance{First: chain.AcceptedOrder{
			Order: chain.Order{Consumer: crypto.AccountKeyOf(node)}, Acceptance: chain.Acceptance{Cluster: node, Sequence: 3},
		}},
	}
	private, err := wallet.Preview(&body)
	if err != nil {
		t.Fatal(err)
	}
	text += private
	order := chain.Order{
		ChainID: "hyper-test", Consumer: crypto.AccountKeyOf(testKey(1).Public()), Cluster: node,
		Policy: chain.PolicyField{Policy: chain.PolicyReplicate{K: 2, N: 3, WindowMs: 60_000}}, MaxCost: chain.Hyper(7), Deadline: 1_800_000_000_000,
	}
	late, long := order, order
	late.Deadline, late.PriorityBps = 1<<64-1, 2_550
	long.PriorityBps = 10_000
	long.Policy, long.Term = chain.PolicyField{Policy: chain.PolicyNone{}}, &chain.Term{
		Resources: []chain.Quantity{{Resource: chain.CPU, Amount: 2_000}, {Resource: chain.Memory, Amount: 4_096}}, NoticeMs: 60_000,
	}
	golden.Check(t, "testdata/preview.txt", text+wallet.PreviewOrder(&order)+wallet.PreviewOrder(&late)+wallet.PreviewOrder(&long))
}

func stakingMessages(key crypto.PublicKey) chain.Msgs {
	return chain.Msgs{
		chain.Bond{ConsensusKey: key, NodeKey: key, Name: "n\n", Endpoint: "a:1", CommissionBps: 505, Amount: chain.Hyper(10_000)},
		chain.Delegate{Validator: key, Amount: chain.Hyper(5)},
		chain.Undelegate{Validator: key, Amount: chain.Hyper(4)},
		chain.Undelegate{Validator: key},
		chain.Redelegate{From: key, To: key, Amount: chain.Hyper(3)},
		chain.WithdrawRewards{Validator: key},
		chain.WithdrawRewards{Validator: key, Restake: true},
		chain.SetCommission{Validator: key, Bps: 1_000},
		chain.RotateKeys{Validator: key, ConsensusKey: key, NodeKey: key, Endpoint: "b:2"},
		chain.Unjail{Validator: key},
		chain.Affiliate{Validator: key, Node: key},
		chain.Unaffiliate{Node: key},
		chain.ReportEvidence{Evidence: make([]byte, 300)},
	}
}

func TestPreviewRefusesFeeBeyondAmounts(t *testing.T) {
	body := sampleBody(chain.Address{})
	body.GasLimit, body.MaxFee = chain.GasUnits(1<<40), chain.PricePerGas(1<<40)
	if text, err := wallet.Preview(&body); err == nil {
		t.Errorf("previewed as %q", text)
	}
}
