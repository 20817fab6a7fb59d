package chain_test

import (
	"path/filepath"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/golden"
)

// keySigner is a chain.Signer over a key in memory.
type keySigner struct{ crypto.PrivateKey }

func (k keySigner) AccountKey() crypto.AccountKey { return crypto.AccountKeyOf(k.Public()) }

func (k keySigner) Sign(d *crypto.Domain, payload []byte) (crypto.Signature, error) {
	return k.PrivateKey.Sign(d, payload), nil
}

func (k keySigner) address() chain.Address { return chain.AddressOf(k.AccountKey()) }

func testKey(n byte) keySigner {
	return keySigner{crypto.PrivateKeyFromSeed([32]byte{n, 1, 2, 3})}
}

const testChain chain.ChainID = "fixture-1"

func sampleOrder(policy chain.Policy) chain.Order {
	return chain.Order{
		ChainID: testChain, Consumer: testKey(1).AccountKey(), Nonce: 7, Cluster: testKey(2).Public(),
		Spec: crypto.DomainJobSpec.Hash([]byte("spec")), Policy: chain.PolicyField{Policy: policy},
		Caps:     []chain.UnitPrice{{Resource: chain.CPU, Price: 5_000}, {Resource: chain.Memory, Price: 70}},
		FixedCap: chain.Nano(900), MaxCost: chain.Nano(123_456_789), Deadline: 1_800_000_000_000,
	}
}

func sampleClaim(policy chain.Policy) chain.Claim {
	consumer, cluster, node := testKey(1), testKey(2), testKey(3)
	order := sampleOrder(policy)
	acceptance := chain.Acceptance{ChainID: testChain, Order: order.ID(), Cluster: cluster.Public(), Sequence: 1, Outstanding: order.MaxCost}
	bid := chain.Bid{ChainID: testChain, Order: order.ID(), Node: node.Public(), Prices: order.Caps, Fixed: chain.Nano(800), Expiry: 1_799_999_999_000}
	receipt := chain.UsageReceipt{
		ChainID: testChain, Order: order.ID(), Node: node.Public(), Sequence: 1,
		Usage: []chain.Usage{{Resource: chain.CPU, Amount: 1_000, DurationMs: 1_500}, {Resource: chain.Memory, Amount: 64, DurationMs: 1_500}},
		Fuel:  1_500_000_000, Result: crypto.DomainResult.Hash([]byte("result")), Outputs: []chain.FieldBytes{{31: 9}},
		Started: 1_799_999_990_000, Ended: 1_799_999_991_500, Exit: chain.ExitOK,
	}
	if receipt.CheckTrace(policy) != nil {
		trace := chain.SecretOf(receipt.Order, crypto.Digest{11}).Trace(0)
		receipt.Trace = &trace
	}
	return chain.Claim{
		Order: order, OrderSig: consumer.PrivateKey.Sign(crypto.DomainOrder, order.Payload()),
		Acceptance: acceptance, AcceptanceSig: cluster.PrivateKey.Sign(crypto.DomainAcceptance, acceptance.Payload()),
		Bid: bid, BidSig: node.PrivateKey.Sign(crypto.DomainBid, bid.Payload()),
		Receipt: receipt, ReceiptSig: node.PrivateKey.Sign(crypto.DomainUsage, receipt.Payload()),
		Attestation: cluster.PrivateKey.Sign(crypto.DomainAttestation, chain.AttestationPayload(testChain, receipt.Digest())),
		Proof:       []byte{1, 2, 3},
	}
}

func allMessages() chain.Msgs {
	node, cluster := testKey(3), testKey(2)
	owner := testKey(1).address()
	possession := chain.PossessionPayload(testChain, owner)
	return chain.Msgs{
		chain.Transfer{To: testKey(4).address(), Amount: chain.Hyper(3)},
		chain.RegisterProvider{
			Node: node.Public(), Possession: node.PrivateKey.Sign(crypto.DomainPossession, possession),
			Bond: chain.Hyper(100), Region: "eu-north", Millicores: 8_000, MemoryMiB: 16_384,
		},
		chain.UnbondProvider{Node: node.Public()},
		chain.RegisterCluster{
			Cluster: cluster.Public(), Possession: cluster.PrivateKey.Sign(crypto.DomainPossession, possession),
			Bond: chain.Hyper(1_000), FeeBps: 100, Endpoints: []string{"https://nexus.example:8443"},
		},
		chain.UnbondCluster{Cluster: cluster.Public()},
		chain.Deposit{Cluster: cluster.Public(), Amount: chain.Hyper(10)},
		chain.Withdraw{Cluster: cluster.Public(), Amount: chain.Hyper(2)},
		chain.Settle{Claims: []chain.Claim{
			sampleClaim(chain.PolicyNone{}),
			sampleClaim(replicated),
			sampleClaim(chain.PolicyZK{Kernel: "matmul-32", VerifyingKey: crypto.Digest{1}, Inputs: []chain.FieldBytes{{31: 1}, {31: 2}}}),
		}},
	}
}

// stakingMessages has one of each; no transaction holds all messages.
func stakingMessages() chain.Msgs {
	consensusKey, node := testKey(6), testKey(7)
	possession := chain.PossessionPayload(testChain, testKey(1).address())
	return chain.Msgs{
		chain.Bond{
			ConsensusKey: consensusKey.Public(), Possession: consensusKey.PrivateKey.Sign(crypto.DomainPossession, possession),
			NodeKey: node.Public(), NodePossession: node.PrivateKey.Sign(crypto.DomainPossession, possession),
			Name: "hält", Endpoint: "validator.example:7100", CommissionBps: 500, Amount: chain.Hyper(10_000),
		},
		chain.Delegate{Validator: consensusKey.Public(), Amount: chain.Hyper(5)},
		chain.Undelegate{Validator: consensusKey.Public(), Amount: chain.Hyper(4)},
		chain.Redelegate{From: consensusKey.Public(), To: testKey(8).Public()},
		chain.WithdrawRewards{Validator: consensusKey.Public(), Restake: true},
		chain.SetCommission{Validator: consensusKey.Public(), Bps: 600},
		chain.RotateKeys{
			Validator: consensusKey.Public(), ConsensusKey: node.Public(), Possession: node.PrivateKey.Sign(crypto.DomainPossession, possession),
			NodeKey: consensusKey.Public(), NodePossession: consensusKey.PrivateKey.Sign(crypto.DomainPossession, possession), Endpoint: "10.0.0.1:1",
		},
		chain.Unjail{Validator: consensusKey.Public()},
		chain.Affiliate{
			Validator: consensusKey.Public(), Node: node.Public(),
			Consent: node.PrivateKey.Sign(crypto.DomainAffiliation, chain.AffiliationPayload(testChain, consensusKey.Public())),
		},
		chain.Unaffiliate{Node: node.Public()},
		chain.ReportEvidence{Evidence: []byte{1, 2, 3}},
	}
}

// sampleDeal is a signed deal about a lease.
func sampleDeal() chain.LeaseDeal {
	consumer, cluster, node := testKey(1), testKey(2), testKey(3)
	order := sampleOrder(chain.PolicyNone{})
	order.Term = &chain.Term{Resources: []chain.Quantity{{Resource: chain.CPU, Amount: 2_000}, {Resource: chain.Memory, Amount: 4_096}}, NoticeMs: 3_600_000}
	order.Term.Service = &chain.ServiceTerms{
		EpochMs: 60_000, AvailabilityBps: 9_900, StartMs: 30_000, ThroughputKiB: 512, RebateBps: 5_000, Penalty: chain.Hyper(1), Stake: chain.Hyper(10),
	}
	acceptance := chain.Acceptance{ChainID: testChain, Order: order.ID(), Cluster: cluster.Public(), Sequence: 1, Outstanding: order.MaxCost}
	bid := chain.Bid{ChainID: testChain, Order: order.ID(), Node: node.Public(), Prices: order.Caps, Expiry: 1_799_999_999_000}
	return chain.LeaseDeal{
		Order: order, OrderSig: consumer.PrivateKey.Sign(crypto.DomainOrder, order.Payload()),
		Acceptance: acceptance, AcceptanceSig: cluster.PrivateKey.Sign(crypto.DomainAcceptance, acceptance.Payload()),
		Bid: bid, BidSig: node.PrivateKey.Sign(crypto.DomainBid, bid.Payload()),
		AwardSig: cluster.PrivateKey.Sign(crypto.DomainAward, bid.Payload()),
	}
}

// leaseMessages has one of each.
func leaseMessages() chain.Msgs {
	id := chain.LeaseID{Node: testKey(3).Public(), Order: crypto.Digest{9}}
	return chain.Msgs{
		chain.OpenLease{Deal: sampleDeal()}, chain.ResizeLease{Lease: id, Deal: sampleDeal()},
		chain.ExtendLease{Lease: id, Amount: chain.Hyper(3)}, chain.CloseLease{Lease: id}, chain.CollectLease{Lease: id},
	}
}

// serviceMessages has one of each.
func serviceMessages() chain.Msgs {
	e := chain.ServiceEpoch{ChainID: testChain, Lease: chain.LeaseID{Node: testKey(3).Public(), Order: crypto.Digest{9}}, Terms: crypto.Digest{10}, Epoch: 11}
	signed := func(r chain.ServiceReport, by byte) chain.ServiceReport {
		r.Peer = testKey(by).Public()
		r.Signature = testKey(by).PrivateKey.Sign(crypto.DomainService, chain.ServicePayload(e, r))
		return r
	}
	first := signed(chain.ServiceReport{Sent: 12, Answered: 5, UnstartedMs: 1_000, ThroughputKiB: 99}, 4)
	return chain.Msgs{
		chain.ReportMiss{Epoch: e, Reports: chain.ServiceReports{first, signed(chain.ServiceReport{Sent: 10}, 5)}},
		chain.DrawPeers{Lease: e.Lease}, chain.LeaveLease{Lease: e.Lease},
		chain.AccusePeer{Epoch: e, First: first, Second: signed(chain.ServiceReport{Sent: 12, Answered: 12}, 4)},
	}
}

// hardwareMessages has one of each.
func hardwareMessages() chain.Msgs {
	c := chain.HardwareChallenge{ChainID: testChain, Node: testKey(3).Public(), Seed: crypto.Digest{12}}
	signed := func(v chain.HardwareVerdict, by byte) chain.HardwareVerdict {
		v.Peer = testKey(by).Public()
		v.Signature = testKey(by).PrivateKey.Sign(crypto.DomainHardware, chain.HardwarePayload(c, v))
		return v
	}
	return chain.Msgs{
		chain.ReportHardware{Challenge: c, Verdicts: chain.HardwareVerdicts{signed(chain.HardwareVerdict{Missing: 3}, 4), signed(chain.HardwareVerdict{Silent: true}, 5)}},
		chain.DeclareHardware{Node: c.Node, Millicores: 8_000, MemoryMiB: 16_384},
		announcedHome(),
	}
}

// announcedHome is signed by the node and by the cluster.
func announcedHome() chain.AnnounceHome {
	h := chain.NodeHome{ChainID: testChain, Node: testKey(3).Public(), Cluster: testKey(6).Public(), At: 1_700_000_000_000}
	return chain.AnnounceHome{
		Home:             h,
		NodeSignature:    testKey(3).PrivateKey.Sign(crypto.DomainHome, chain.HomePayload(h)),
		ClusterSignature: testKey(6).PrivateKey.Sign(crypto.DomainHome, chain.HomePayload(h)),
	}
}

// channelMessages has one of each.
func channelMessages() chain.Msgs {
	v := chain.Voucher{ChainID: testChain, Channel: crypto.Digest{9}, Lease: crypto.Digest{8}, Total: chain.Hyper(2)}
	return chain.Msgs{
		chain.OpenChannel{Payee: testKey(4).address(), Nonce: 5, Signer: testKey(1).Public(), Amount: chain.Hyper(3), WindowMs: 60_000},
		chain.FundChannel{Channel: v.Channel, Amount: chain.Hyper(1)},
		chain.RedeemVoucher{Voucher: v, Signature: testKey(1).PrivateKey.Sign(crypto.DomainVoucher, v.Payload())},
		chain.CloseChannel{Channel: v.Channel},
	}
}

// panelMessages has one of each.
func panelMessages() chain.Msgs {
	panel, node := crypto.Digest{6}, testKey(2)
	found, salt := chain.SecretOf(crypto.Digest{9}, crypto.Digest{10}).Testify(crypto.Digest{7}, chain.Link{Strand: chain.StrandPanels, Depth: 2}), crypto.Digest{8}
	commitment := found.Commitment(panel, node.Public(), salt)
	return chain.Msgs{
		chain.AddBond{Node: node.Public(), Amount: chain.Hyper(1)},
		chain.CommitVote{Panel: panel, Node: node.Public(), Commitment: commitment, Signature: node.PrivateKey.Sign(crypto.DomainVote, chain.VotePayload(testChain, panel, commitment))},
		chain.RevealVote{Panel: panel, Node: node.Public(), Testimony: found, Salt: salt},
	}
}

func signedTx(t testing.TB, messages chain.Msgs) chain.Tx {
	t.Helper()
	sender, payer := testKey(1), testKey(5)
	payerAddress := payer.address()
	tx, err := chain.SignTx(chain.TxBody{
		ChainID: testChain, Sender: sender.address(), Nonce: 3, Expiry: 1_000, GasLimit: chain.GasUnits(100_000),
		MaxFee: chain.PricePerGas(20), Tip: chain.PricePerGas(1), FeePayer: &payerAddress, Messages: messages, Memo: "grüße",
	}, sender, payer)
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

func sampleHeader() chain.Header {
	proposer := testKey(6)
	proof := proposer.VRFProve(crypto.DomainVRFInput, chain.VRFInput(testChain, 1, 42))
	output, err := crypto.VRFOutput(proof)
	if err != nil {
		panic(err)
	}
	return chain.Header{
		Version: chain.BlockVersion, ChainID: testChain, Height: 40, Epoch: 1, View: 42, Parent: crypto.Digest{1},
		TimeMs: 1_800_000_000_000, StateRoot: crypto.Digest{4}, ReceiptRoot: crypto.Digest{5}, Committee: crypto.Digest{6},
		NextCommittee: crypto.Digest{6}, Proposer: proposer.Public(), Finalized: 38, VRFOutput: output, VRFProof: proof,
	}
}

func sampleBlock(t testing.TB) chain.Block {
	t.Helper()
	tx := signedTx(t, allMessages())
	raw := tx.Encode()
	decoded, err := chain.DecodeTx(raw)
	if err != nil {
		t.Fatal(err)
	}
	block := chain.Block{Header: sampleHeader(), Body: chain.Body{Txs: []codec.Raw{raw}}}
	block.Header.TxRoot = chain.ListRoot(crypto.DomainTxRoot, []crypto.Digest{decoded.ID()})
	block.Header.ExtraRoot = block.Body.ExtraRoot()
	return block
}

func sampleReceipts() chain.BlockReceipts {
	a, b, node, cluster := testKey(1).address(), testKey(4).address(), testKey(3).Public(), testKey(2).Public()
	record := chain.ResourceTransaction{NodeID: node, ResourceType: chain.CPU, Amount: 1_000, DurationMs: 1_500, PricePerUnit: 5_000, Consumer: a, Provider: b, Timestamp: 1_800_000_000_000}
	return chain.BlockReceipts{
		Begin: chain.Events{chain.Matured{To: a, Amount: chain.Nano(5)}},
		Txs: []chain.Receipt{
			{TxID: crypto.Digest{1}, GasUsed: chain.GasUnits(1_200), Burned: chain.Nano(1_200), Tip: chain.Nano(7), Events: chain.Events{
				chain.Transferred{From: a, To: b, Amount: chain.Nano(9)},
				chain.ProviderRegistered{Node: node, Owner: b, Bond: chain.Hyper(100)},
				chain.ProviderUnbonded{Node: node, Owner: b, Bond: chain.Hyper(100), Matures: 9},
				chain.ClusterRegistered{Cluster: cluster, Operator: b, Bond: chain.Hyper(1_000)},
				chain.ClusterUnbonded{Cluster: cluster, Operator: b, Bond: chain.Hyper(1_000), Matures: 9},
				chain.Deposited{Consumer: a, Cluster: cluster, Amount: chain.Nano(10)},
				chain.WithdrawalStarted{Consumer: a, Cluster: cluster, Amount: chain.Nano(10), Matures: 11},
				chain.ClaimRecorded{Order: crypto.Digest{2}, Node: node, Sequence: 1, Result: crypto.Digest{3}},
				chain.ClaimSettled{
					Order: crypto.Digest{2}, Node: node, Sequence: 1, Consumer: a, Provider: b, Cluster: cluster, Policy: "none", Result: crypto.Digest{3}, Exit: chain.ExitFuel,
					Cost: chain.Nano(100), Paid: chain.Nano(97), Burned: chain.Nano(1), Treasury: chain.Nano(1), ClusterFee: chain.Nano(1),
					Records: []chain.ResourceTransaction{record},
				},
				chain.ClaimRejected{Order: crypto.Digest{2}, Node: node, Sequence: 1, Reason: "sequence 1 is settled"},
				chain.ValidatorBonded{Validator: node, Owner: b, Amount: chain.Hyper(10_000), CommissionBps: 500},
				chain.Delegated{Validator: node, Delegator: a, Amount: chain.Nano(12)},
				chain.Undelegated{Validator: node, Delegator: a, Amount: chain.Nano(12), Epoch: 4},
				chain.Redelegated{From: node, To: cluster, Delegator: a, Amount: chain.Nano(12), Epoch: 4},
				chain.RewardsWithdrawn{Validator: node, Account: b, Amount: chain.Nano(13), Commission: chain.Nano(3), Restaked: true},
				chain.CommissionSet{Validator: node, Bps: 600, Epoch: 5},
				chain.KeysRotated{Validator: node, ConsensusKey: cluster, NodeKey: node, Endpoint: "10.0.0.1:1"},
				chain.ValidatorUnjailed{Validator: node},
				chain.NodeAffiliated{Validator: node, Node: cluster},
				chain.NodeUnaffiliated{Validator: node, Node: cluster},
				chain.LeaseOpened{Lease: chain.LeaseID{Node: node, Order: crypto.Digest{2}}, Consumer: a, Provider: b, Cluster: cluster, Spec: crypto.Digest{5}, Rate: 7, Held: chain.Nano(8), Expires: 12},
				chain.LeaseChanged{Lease: chain.LeaseID{Node: node, Order: crypto.Digest{2}}, Order: crypto.Digest{4}, Rate: 7, Held: chain.Nano(8), Expires: 12, Closing: true},
				chain.LeasePaid{
					Lease: chain.LeaseID{Node: node, Order: crypto.Digest{2}}, Consumer: a, Provider: b, Cluster: cluster, Until: 11,
					Cost: chain.Nano(100), Paid: chain.Nano(97), Burned: chain.Nano(1), Treasury: chain.Nano(1), ClusterFee: chain.Nano(1),
					Records: []chain.ResourceTransaction{record},
				},
				chain.LeaseEnded{Lease: chain.LeaseID{Node: node, Order: crypto.Digest{2}}, At: 12, Closed: true, Refunded: chain.Nano(3)},
				chain.ChannelChanged{Channel: crypto.Digest{2}, Payer: a, Payee: b, Held: chain.Nano(8), EndsMs: 12},
				chain.VoucherRedeemed{Channel: crypto.Digest{2}, Payer: a, Payee: b, Lease: crypto.Digest{4}, Total: chain.Nano(8), Paid: chain.Nano(6), Burned: chain.Nano(1), Treasury: chain.Nano(1)},
				chain.ChannelClosed{Channel: crypto.Digest{2}, Payer: a, Payee: b, Refunded: chain.Nano(3)},
				chain.BondAdded{Node: testKey(2).Public(), Owner: a, Amount: chain.Nano(1), Bond: chain.Nano(3)},
				chain.BondSlashed{Node: testKey(2).Public(), Owner: a, Subject: crypto.Digest{2}, Amount: chain.Nano(3), Burned: chain.Nano(2)},
				chain.PanelDrawn{Panel: crypto.Digest{2}, Subject: crypto.Digest{3}, Jurors: []crypto.PublicKey{testKey(2).Public()}, CommitBy: 5},
				chain.PanelRevealing{Panel: crypto.Digest{2}, RevealBy: 6},
				chain.PanelDecided{Panel: crypto.Digest{2}, Subject: crypto.Digest{3}, Verdict: &chain.Vote{Finding: chain.FoundUnstable}},
				chain.ValidatorSlashed{Validator: node, Epoch: 4, View: 9, RatePpm: 50_000, Amount: chain.Nano(20), Reporter: a, Reward: chain.Nano(1)},
			}},
			{TxID: crypto.Digest{2}, Rejection: "balance 3 is below 4", GasUsed: chain.GasUnits(900), Burned: chain.Nano(900)},
		},
		End: chain.Events{
			chain.ValidatorJailed{Validator: node, Epoch: 4, Amount: chain.Nano(2), UntilMs: 11},
			chain.EpochClosed{Epoch: 4, Minted: chain.Nano(50), Rewards: chain.Nano(49), Committee: crypto.Digest{8}, Validators: 4, Weight: 100},
		},
	}
}

func sampleGenesis() *chain.Genesis {
	g := &chain.Genesis{
		ChainID: testChain, TimeMs: 1_790_000_000_000, Params: chain.DefaultParams(),
		Kernels: []chain.GenesisKernel{{Name: "matmul-32", VerifyingKey: crypto.Digest{7}, FixedGas: chain.GasUnits(300_000)}},
	}
	for i := range byte(4) {
		g.Validators = append(g.Validators, chain.GenesisValidator{
			Name: "v", ConsensusKey: testKey(10 + i).Public(), NodeKey: testKey(20 + i).Public(), Owner: testKey(30 + i).address(),
			Stake: chain.Hyper(25_000_000), Endpoint: "127.0.0.1:1",
		})
	}
	give := func(b chain.Bucket, n uint64, v *chain.Vesting) {
		g.Allocations = append(g.Allocations, chain.Allocation{Bucket: b, Address: testKey(40).address(), Amount: chain.Hyper(n), Vesting: v})
	}
	give(chain.BucketCommunity, 400_000_000, nil)
	give(chain.BucketTeam, 200_000_000, &chain.Vesting{StartMs: g.TimeMs, CliffMs: chain.TeamCliffMs, DurationMs: chain.TeamDurationMs})
	give(chain.BucketFoundation, 250_000_000, nil)
	give(chain.BucketSale, 50_000_000, nil)
	return g
}

// frozen holds an encoding to its fixture.
func frozen(t *testing.T, name string, got []byte) {
	t.Helper()
	golden.CheckHex(t, filepath.Join("testdata", name+".hex"), got)
}

// roundTrip decodes an encoding into a fresh value and encodes it again.
func roundTrip[T any](t *testing.T, name string, value T) {
	t.Helper()
	raw := codec.Marshal(value)
	frozen(t, name, raw)
	var again T
	if err := codec.Unmarshal(raw, &again, len(raw)); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

func TestFixtures(t *testing.T) {
	tx := signedTx(t, allMessages())
	roundTrip(t, "tx", tx)
	staking := signedTx(t, stakingMessages())
	roundTrip(t, "tx_staking", staking)
	if _, err := chain.DecodeTx(staking.Encode()); err != nil {
		t.Error(err)
	}
	channels := signedTx(t, channelMessages())
	roundTrip(t, "tx_channels", channels)
	if _, err := chain.DecodeTx(channels.Encode()); err != nil {
		t.Error(err)
	}
	panels := signedTx(t, panelMessages())
	roundTrip(t, "tx_panels", panels)
	if _, err := chain.DecodeTx(panels.Encode()); err != nil {
		t.Error(err)
	}
	leases := signedTx(t, append(leaseMessages(), serviceMessages()...))
	roundTrip(t, "tx_leases", leases)
	if _, err := chain.DecodeTx(leases.Encode()); err != nil {
		t.Error(err)
	}
	hardware := signedTx(t, hardwareMessages())
	roundTrip(t, "tx_hardware", hardware)
	if _, err := chain.DecodeTx(hardware.Encode()); err != nil {
		t.Error(err)
	}
	roundTrip(t, "header", sampleHeader())
	roundTrip(t, "block", sampleBlock(t))
	roundTrip(t, "receipts", sampleReceipts())
	roundTrip(t, "genesis", *sampleGenesis())
	for name, policy := range map[string]chain.Policy{
		"order_none":      chain.PolicyNone{},
		"order_replicate": replicated,
		"order_zk":        chain.PolicyZK{Kernel: "matmul-32", VerifyingKey: crypto.Digest{1}, Inputs: []chain.FieldBytes{{31: 1}}},
	} {
		roundTrip(t, name, sampleOrder(policy))
	}
	claim := sampleClaim(chain.PolicyNone{})
	roundTrip(t, "claim", claim)
	roundTrip(t, "acceptance", claim.Acceptance)
	roundTrip(t, "bid", claim.Bid)
	roundTrip(t, "usage_receipt", claim.Receipt)
	header, genesis, receipts := sampleHeader(), sampleGenesis(), sampleReceipts()
	decoded, err := chain.DecodeTx(tx.Encode())
	if err != nil {
		t.Fatal(err)
	}
	var digests []byte
	for _, d := range []crypto.Digest{
		decoded.ID(), header.Digest(), genesis.Digest(), receipts.Root(), claim.Order.ID(), claim.Receipt.Digest(),
		chain.ListRoot(crypto.DomainTxRoot, nil), chain.ListRoot(crypto.DomainTxRoot, make([]crypto.Digest, 5)),
		crypto.Digest(chain.ModuleAddress("treasury")), crypto.Digest(testKey(1).address()),
	} {
		digests = append(digests, d[:]...)
	}
	frozen(t, "digests", digests)
}

// runMessages has one of each.
func runMessages() chain.Msgs {
	c, other := sampleClaim(replicated), testKey(4)
	id, salt := c.Order.ID(), [32]byte{5}
	commitment := chain.RunCommitment(c.Receipt.Digest(), c.Receipt.Node, salt)
	bid := chain.Bid{ChainID: testChain, Order: id, Node: other.Public(), Prices: c.Bid.Prices[:1], Expiry: c.Bid.Expiry}
	first := c.Bid
	first.Fixed = chain.Amount{}
	slate := chain.Slate{
		chain.SlateBidOf(&first, testKey(3).PrivateKey.Sign(crypto.DomainBid, first.Payload())),
		chain.SlateBidOf(&bid, other.PrivateKey.Sign(crypto.DomainBid, bid.Payload())),
	}
	return chain.Msgs{
		chain.BeginRun{
			Order: c.Order, OrderSig: c.OrderSig, Acceptance: c.Acceptance, AcceptanceSig: c.AcceptanceSig,
			Slate: slate, SlateSig: testKey(2).PrivateKey.Sign(crypto.DomainSlate, chain.SlatePayload(testChain, id, slate)),
			Commitment: commitment, Signature: testKey(3).PrivateKey.Sign(crypto.DomainRun, chain.RunPayload(testChain, id, commitment, 0)),
		},
		chain.CommitRun{
			ChainID: testChain, Order: id, Node: other.Public(), Commitment: commitment, Place: 1,
			Signature: other.PrivateKey.Sign(crypto.DomainRun, chain.RunPayload(testChain, id, commitment, 1)),
		},
		chain.RevealRun{Receipt: c.Receipt, ReceiptSig: c.ReceiptSig, Salt: salt, Cluster: testKey(2).Public(), Attestation: c.Attestation},
		chain.CollectRun{Order: id},
	}
}
