package explorer_test

import (
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/explorer"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// TestWordsOfStaking: everything that staking does has words, which name whom it
// is about and how much.
func TestWordsOfStaking(t *testing.T) {
	v, other := crypto.PublicKey{0xaa}, crypto.PublicKey{0xbb}
	who := chain.Address{1}
	five := chain.Hyper(5)
	for m, want := range map[chain.Msg][]string{
		chain.Bond{ConsensusKey: v, Name: "north", Amount: five}: {"becomes validator", v.Short(), "north", "5"},
		chain.Delegate{Validator: v, Amount: five}:               {"delegates", "5", v.Short()},
		chain.Undelegate{Validator: v}:                           {"takes everything out of", v.Short()},
		chain.Redelegate{From: v, To: other, Amount: five}:       {"moves", "5", v.Short(), other.Short()},
		chain.WithdrawRewards{Validator: v}:                      {"withdraws rewards", v.Short()},
		chain.SetCommission{Validator: v, Bps: 250}:              {"commission", v.Short(), "2.50 %"},
		chain.RotateKeys{Validator: v}:                           {"changes the keys", v.Short()},
		chain.Unjail{Validator: v}:                               {"unjails", v.Short()},
		chain.Affiliate{Validator: v, Node: other}:               {"affiliates", v.Short()},
		chain.Unaffiliate{Node: other}:                           {"ends the affiliation"},
	} {
		wantWords(t, explorer.MessageWords(who, m), append(want, who.Short()))
	}
	lease := chain.LeaseID{Node: other, Order: crypto.Digest{1}}
	for m, want := range map[chain.Msg][]string{
		chain.ExtendLease{Lease: lease, Amount: five}: {"adds", "5", "lease", other.Short()},
		chain.CloseLease{Lease: lease}:                {"gives notice", other.Short()},
		chain.CollectLease{Lease: lease}:              {"collects", other.Short()},
	} {
		wantWords(t, explorer.MessageWords(who, m), append(want, who.Short()))
	}
	channel := crypto.Digest{0xcc}
	for m, want := range map[chain.Msg][]string{
		chain.OpenChannel{Payee: chain.Address{2}, Amount: five}:                   {"opens a payment channel", "5"},
		chain.FundChannel{Channel: channel, Amount: five}:                          {"adds", "5", channel.Short()},
		chain.RedeemVoucher{Voucher: chain.Voucher{Channel: channel, Total: five}}: {"redeems", "5", channel.Short()},
		chain.CloseChannel{Channel: channel}:                                       {"closes", channel.Short()},
	} {
		wantWords(t, explorer.MessageWords(who, m), append(want, who.Short()))
	}
	wantWords(t, explorer.MessageWords(who, chain.OpenLease{}), []string{who.Short(), "opens a lease"})
	wantWords(t, explorer.MessageWords(who, chain.ResizeLease{Lease: lease}), []string{who.Short(), "changes the terms", other.Short()})
	wantWords(t, explorer.EventWords(chain.LeasePaid{Lease: lease, Provider: who, Paid: five}), []string{other.Short(), who.Short(), "5"})
	wantWords(t, explorer.MessageWords(who, chain.ReportEvidence{Evidence: []byte{1}}), []string{who.Short(), "reports evidence"})
	for e, want := range map[chain.Event][]string{
		chain.ValidatorBonded{Validator: v, Owner: who, Amount: five}:               {v.Short(), who.Short(), "5"},
		chain.Delegated{Validator: v, Delegator: who, Amount: five}:                 {v.Short(), who.Short(), "5"},
		chain.Undelegated{Validator: v, Delegator: who, Amount: five}:               {"unbonds", v.Short(), who.Short(), "5"},
		chain.Redelegated{From: v, To: other, Delegator: who, Amount: five}:         {v.Short(), other.Short(), who.Short(), "5"},
		chain.RewardsWithdrawn{Validator: v, Account: who, Amount: five}:            {v.Short(), who.Short(), "5"},
		chain.CommissionSet{Validator: v, Bps: 250, Epoch: 7}:                       {v.Short(), "2.50 % from epoch 7"},
		chain.KeysRotated{Validator: v, ConsensusKey: other}:                        {v.Short(), other.Short()},
		chain.ValidatorUnjailed{Validator: v}:                                       {v.Short(), "unjailed"},
		chain.NodeAffiliated{Validator: v, Node: other}:                             {v.Short(), "counts for"},
		chain.NodeUnaffiliated{Validator: v, Node: other}:                           {v.Short(), "no longer counts"},
		chain.ValidatorSlashed{Validator: v, Epoch: 7, Amount: five, Reporter: who}: {v.Short(), "epoch 7", "5", who.Short()},
		chain.ValidatorJailed{Validator: v, Epoch: 7, Amount: five}:                 {v.Short(), "silent in epoch 7", "5"},
		chain.LeaseOpened{Lease: lease, Consumer: who, Held: five}:                  {other.Short(), who.Short(), "5"},
		chain.LeaseChanged{Lease: lease, Held: five, Closing: true}:                 {other.Short(), "5", "upon notice"},
		chain.ChannelChanged{Channel: channel, Payer: who, Held: five}:              {channel.Short(), who.Short(), "5"},
		chain.VoucherRedeemed{Channel: channel, Payee: who, Paid: five}:             {channel.Short(), who.Short(), "5"},
		chain.ChannelClosed{Channel: channel, Payer: who, Refunded: five}:           {channel.Short(), who.Short(), "5"},
		chain.LeaseEnded{Lease: lease, Refunded: five}:                              {other.Short(), "5", "when its money ends"},
		chain.EpochClosed{Epoch: 7, Minted: five, Rewards: five}:                    {"Epoch 7 ended", "5"},
	} {
		wantWords(t, explorer.EventWords(e), want)
	}
}

// TestWordsOfPanels does so for bonds and panels.
func TestWordsOfPanels(t *testing.T) {
	who, other, five, channel := chain.Address{1}, crypto.PublicKey{0xbb}, chain.Hyper(5), crypto.Digest{0xcc}
	for m, want := range map[chain.Msg][]string{
		chain.AddBond{Node: other, Amount: five}:                                                                   {"adds", "5", other.Short()},
		chain.CommitVote{Panel: channel, Node: other}:                                                              {"sealed vote", other.Short(), channel.Short()},
		chain.RevealVote{Panel: channel, Node: other, Testimony: chain.Testimony{Finding: chain.FoundUnavailable}}: {"cannot be had", other.Short()},
	} {
		wantWords(t, explorer.MessageWords(who, m), append(want, who.Short()))
	}
	for e, want := range map[chain.Event][]string{
		chain.BondAdded{Node: other, Amount: five}:               {other.Short(), "5"},
		chain.BondSlashed{Node: other, Owner: who, Amount: five}: {other.Short(), who.Short(), "5"},
		chain.PanelRevealing{Panel: channel}:                     {channel.Short(), "votes"},
		chain.PanelDecided{Panel: channel}:                       {channel.Short(), "no result"},
	} {
		wantWords(t, explorer.EventWords(e), want)
	}
}

func wantWords(t *testing.T, got string, want []string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("%q lacks %q", got, w)
		}
	}
}

// TestWordsOfPrivateSettlement: a batch's words name node, provider and amount.
func TestWordsOfPrivateSettlement(t *testing.T) {
	who, other, five := chain.Address{1}, crypto.PublicKey{0xbb}, chain.Hyper(5)
	wantWords(t, explorer.MessageWords(who, chain.RegisterMeter{Node: other, Key: chain.MeterKey{0xdd}}), []string{who.Short(), other.Short(), crypto.Digest{0xdd}.Short()})
	wantWords(t, explorer.MessageWords(who, chain.SettleBatch{Batch: chain.UsageBatch{Summary: chain.BatchSummary{Count: 7}}}), []string{who.Short(), "7 usage records"})
	wantWords(t, explorer.EventWords(chain.MeterRegistered{Node: other, Key: chain.MeterKey{0xdd}}), []string{other.Short(), crypto.Digest{0xdd}.Short()})
	wantWords(t, explorer.EventWords(chain.BatchSettled{Node: other, Provider: who, Count: 7, Paid: five}), []string{"7 usage records", other.Short(), who.Short(), "5"})
}

// TestWordsOfBreaches: they name the cluster, and who lost or got what.
func TestWordsOfBreaches(t *testing.T) {
	who, cluster, five := chain.Address{1}, crypto.PublicKey{0xbb}, chain.Hyper(5)
	report := chain.ReportAcceptance{First: chain.AcceptedOrder{Acceptance: chain.Acceptance{Cluster: cluster}}}
	wantWords(t, explorer.MessageWords(who, report), []string{who.Short(), cluster.Short()})
	wantWords(t, explorer.EventWords(chain.AcceptanceBroken{Cluster: cluster, Consumer: who, Amount: five}), []string{cluster.Short(), who.Short(), "5"})
	wantWords(t, explorer.EventWords(chain.AcceptanceBroken{Cluster: cluster, Consumer: who, Locked: five}), []string{"5", "more will follow"})
	wantWords(t, explorer.EventWords(chain.BondForfeited{Cluster: cluster, Subject: crypto.Digest{0xcc}, Reporter: who, Amount: five, Reward: chain.Hyper(3)}),
		[]string{cluster.Short(), crypto.Digest{0xcc}.Short(), who.Short(), "5", "3"})
	wantWords(t, explorer.EventWords(chain.ClaimLost{Cluster: cluster, Provider: who, Lost: five}), []string{cluster.Short(), who.Short(), "5"})
	wantWords(t, explorer.EventWords(chain.KeyRevealed{Order: crypto.Digest{0xcc}, Node: cluster, Key: chain.OutputKey{0xab, 0xcd}}), []string{cluster.Short(), crypto.Digest{0xcc}.Short(), "abcd"})
	wantWords(t, explorer.EventWords(chain.BreachPaid{Cluster: cluster, Paid: make([]chain.BreachPayment, 2)}), []string{cluster.Short(), "2 providers"})
	wantWords(t, explorer.EventWords(chain.BreachClosed{Cluster: cluster, Paid: chain.Hyper(3), Burned: five}), []string{cluster.Short(), "3", "5"})
}

// TestWordsOfDisputes does so for claims in their windows.
func TestWordsOfDisputes(t *testing.T) {
	who, other, five, order := chain.Address{1}, crypto.PublicKey{0xbb}, chain.Hyper(5), crypto.Digest{0xcc}
	for m, want := range map[chain.Msg][]string{
		chain.Challenge{Order: order}: {"challenges", order.Short()},
		chain.Appeal{Order: order}:    {"appeals", order.Short()},
	} {
		wantWords(t, explorer.MessageWords(who, m), append(want, who.Short()))
	}
	for e, want := range map[chain.Event][]string{
		chain.ClaimPending{Order: order, Node: other, Held: five}:                   {other.Short(), "in its window", "5"},
		chain.ClaimChallenged{Order: order, By: who}:                                {who.Short(), "challenged"},
		chain.ClaimChallenged{Order: order, By: who, Appeal: true}:                  {who.Short(), "appealed"},
		chain.ClaimJudged{Order: order}:                                             {"judged", "no result"},
		chain.ClaimClosed{Order: order, Node: other, Consumer: who, Refunded: five}: {other.Short(), "closed", "5", who.Short()},
	} {
		wantWords(t, explorer.EventWords(e), want)
	}
}

func TestWordsOfHardware(t *testing.T) {
	who, peer, node, five := chain.Address{1}, crypto.PublicKey{2}, crypto.PublicKey{3}, chain.Hyper(5)
	c := chain.HardwareChallenge{Node: node}
	report := chain.ReportHardware{Challenge: c, Verdicts: make(chain.HardwareVerdicts, 3)}
	wantWords(t, explorer.MessageWords(who, report), []string{who.Short(), "3 peers", "hardware", node.Short()})
	wantWords(t, explorer.MessageWords(who, chain.DeclareHardware{Node: node, Millicores: 8_000, MemoryMiB: 99}), []string{who.Short(), node.Short(), "8000 millicores", "99 MiB"})
	drawn := chain.HardwareChallenged{Node: node, Lanes: 8, MemoryMiB: 77, Peers: []crypto.PublicKey{peer}}
	wantWords(t, explorer.EventWords(drawn), []string{node.Short(), "8 cores", "77 MiB", "1 node", peer.Short()})
	judged := chain.HardwareJudged{Node: node, Owner: who, Finding: "short", Missing: 4, Millicores: 4_000, MemoryMiB: 99, Burned: five, Owed: chain.Hyper(3)}
	wantWords(t, explorer.EventWords(judged), []string{node.Short(), "short", "4 lanes", "4000 millicores", "99 MiB", "5", "3", "owed"})
	wantWords(t, explorer.EventWords(chain.ProviderUnbonded{Node: node, Owner: who, Bond: five, Burned: chain.Hyper(3)}), []string{node.Short(), "5", "3", "owed"})
	wantWords(t, explorer.EventWords(chain.HardwareDeclared{Node: node, Owner: who, Millicores: 8_000}), []string{who.Short(), node.Short(), "8000 millicores"})
	wantWords(t, explorer.MessageWords(who, chain.AnnounceHome{Home: chain.NodeHome{Node: node, Cluster: peer}}), []string{who.Short(), node.Short(), peer.Short(), "at home"})
	wantWords(t, explorer.EventWords(chain.HomeAnnounced{Node: node, Cluster: peer}), []string{node.Short(), peer.Short(), "at home"})
}

func TestWordsOfServices(t *testing.T) {
	who, v, node, five := chain.Address{1}, crypto.PublicKey{2}, crypto.PublicKey{3}, chain.Hyper(5)
	lease := chain.LeaseID{Node: node, Order: crypto.Digest{1}}
	missed := chain.ReportMiss{Epoch: chain.ServiceEpoch{Lease: lease, Epoch: 7}, Reports: make(chain.ServiceReports, 3)}
	wantWords(t, explorer.MessageWords(who, missed), []string{who.Short(), "3 peers", "epoch 7", node.Short()})
	accused := chain.AccusePeer{Epoch: chain.ServiceEpoch{Lease: lease}, First: chain.ServiceReport{Peer: v}}
	for m, want := range map[chain.Msg][]string{
		chain.DrawPeers{Lease: lease}:  {"other peers drawn"},
		chain.LeaveLease{Lease: lease}: {"leaves", "without notice"},
		accused:                        {"two reports", v.Short()},
	} {
		wantWords(t, explorer.MessageWords(who, m), append(want, who.Short(), node.Short()))
	}
	wantWords(t, explorer.EventWords(chain.PeersDrawn{Lease: lease, Peers: []crypto.PublicKey{v}}), []string{"1 node", node.Short(), v.Short()})
	repriced := chain.ServiceMissed{Lease: lease, Terms: crypto.Digest{0xab}, Consumer: who, Epoch: 7, Finding: "start", Rebate: five}
	wantWords(t, explorer.EventWords(repriced), []string{node.Short(), "start in epoch 7", crypto.Digest{0xab}.Short(), who.Short(), "5"})
	wantWords(t, explorer.EventWords(chain.ServiceClosed{Lease: lease, Consumer: who, Stake: five}), []string{node.Short(), "over", "free", "5"})
	judged := chain.JurorsPaid{Consumer: who, Jurors: make([]chain.Address, 3), Each: five}
	wantWords(t, explorer.EventWords(judged), []string{who.Short(), "each of 3 jurors", "5"})
	wantWords(t, explorer.EventWords(chain.TermsClosed{Lease: lease, Consumer: who, Stake: five}), []string{node.Short(), "before it was resized", "free", "5"})
	wantWords(t, explorer.EventWords(chain.LeaseLeft{Lease: lease, Consumer: who, FromStake: five}), []string{node.Short(), "without notice", who.Short(), "5"})
}
