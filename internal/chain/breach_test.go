package chain_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// sampleReport is one of a sequence that was given twice.
func sampleReport() chain.ReportAcceptance {
	c := sampleClaim(chain.PolicyNone{})
	other := c.Order
	other.Nonce++
	a := chain.Acceptance{ChainID: testChain, Order: other.ID(), Cluster: other.Cluster, Sequence: 1, Outstanding: other.MaxCost}
	return chain.ReportAcceptance{
		First:  chain.AcceptedOrder{Order: c.Order, Acceptance: c.Acceptance, Signature: c.AcceptanceSig},
		Second: &chain.AcceptedOrder{Order: other, Acceptance: a, Signature: testKey(2).PrivateKey.Sign(crypto.DomainAcceptance, a.Payload())},
	}
}

func TestBreachFixtures(t *testing.T) {
	report := sampleReport()
	alone := chain.ReportAcceptance{First: report.First}
	roundTrip(t, "tx_breach", signedTx(t, chain.Msgs{report, alone}))
	a, node, cluster := testKey(1).address(), testKey(3).Public(), testKey(2).Public()
	events := chain.Events{
		chain.AcceptanceBroken{
			Cluster: cluster, Consumer: a, Sequence: 1, Reporter: testKey(4).address(), Amount: chain.Hyper(10), Held: chain.Hyper(5), Reward: chain.Hyper(1), Burned: chain.Hyper(4), Locked: chain.Hyper(3), Due: 7,
		},
		chain.BondForfeited{
			Cluster: cluster, Subject: crypto.Digest{2}, Reporter: testKey(4).address(), Amount: chain.Hyper(3), Held: chain.Nano(5), Reward: chain.Nano(1), Burned: chain.Nano(4), Locked: chain.Hyper(1),
		},
		chain.ClaimLost{Order: crypto.Digest{2}, Node: node, Sequence: 1, Provider: a, Cluster: cluster, Lost: chain.Nano(9)},
		chain.BreachPaid{Cluster: cluster, Paid: []chain.BreachPayment{{To: a, Lost: chain.Nano(9), Amount: chain.Nano(8)}}},
		chain.BreachClosed{Cluster: cluster, Paid: chain.Nano(8), Burned: chain.Nano(1)},
	}
	roundTrip(t, "events_breach", events)
	text, err := json.Marshal(events)
	if err != nil {
		t.Fatal(err)
	}
	var back chain.Events
	if err := json.Unmarshal(text, &back); err != nil || !bytes.Equal(codec.Marshal(back), codec.Marshal(events)) {
		t.Errorf("%s came back as %+v, %v", text, back, err)
	}
}

// TestReportSignatures: a report counts as signed only if the cluster signed each acceptance
// as it stands.
func TestReportSignatures(t *testing.T) {
	for name, change := range map[string]func(r *chain.ReportAcceptance){
		"":                   func(*chain.ReportAcceptance) {},
		"first signature":    func(r *chain.ReportAcceptance) { r.First.Signature[0] ^= 1 },
		"second signature":   func(r *chain.ReportAcceptance) { r.Second.Signature[0] ^= 1 },
		"first acceptance":   func(r *chain.ReportAcceptance) { r.First.Acceptance.Sequence++ },
		"second acceptance":  func(r *chain.ReportAcceptance) { r.Second.Acceptance.Outstanding = chain.Nano(1) },
		"the other's":        func(r *chain.ReportAcceptance) { r.First.Signature = r.Second.Signature },
		"none of the second": func(r *chain.ReportAcceptance) { r.Second.Signature = crypto.Signature{} },
	} {
		r := sampleReport()
		change(&r)
		decoded, err := chain.DecodeTx(signedTx(t, chain.Msgs{r}).Encode())
		if err != nil {
			t.Fatal(err)
		}
		if got := chain.VerifyTxs([]chain.DecodedTx{decoded}, 1)[0].DealSigned(0); got != (name == "") {
			t.Errorf("%q changed: signed is %v", name, got)
		}
	}
}
