package chain_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// TestStakingMessagesWithinLimits takes every message of staking over each of
// its limits.
func TestStakingMessagesWithinLimits(t *testing.T) {
	bond := stakingMessages()[0].(chain.Bond)
	rotate := stakingMessages()[6].(chain.RotateKeys)
	for name, m := range map[string]chain.Msg{
		"name has 65, limit 64":                    with(bond, func(m *chain.Bond) { m.Name = strings.Repeat("x", 65) }),
		"invalid UTF-8":                            with(bond, func(m *chain.Bond) { m.Name = "\xff" }),
		"endpoint has 129, limit 128":              with(bond, func(m *chain.Bond) { m.Endpoint = strings.Repeat("x", 129) }),
		"commission_bps has 10001, limit 10000":    with(bond, func(m *chain.Bond) { m.CommissionBps = 10_001 }),
		"consensus key: ":                          with(bond, func(m *chain.Bond) { m.ConsensusKey = crypto.PublicKey{} }),
		"node key: ":                               with(bond, func(m *chain.Bond) { m.NodeKey = crypto.PublicKey{} }),
		"rotation has consensus key: ":             with(rotate, func(m *chain.RotateKeys) { m.ConsensusKey = crypto.PublicKey{} }),
		"rotation has endpoint has 129, limit 128": with(rotate, func(m *chain.RotateKeys) { m.Endpoint = strings.Repeat("x", 129) }),
		"commission_bps has 65535, limit 10000":    chain.SetCommission{Bps: 65_535},
		"evidence has 0, limit 49152":              chain.ReportEvidence{},
		"evidence has 49153, limit 49152":          chain.ReportEvidence{Evidence: make([]byte, 49_153)},
		"affiliated key":                           chain.Affiliate{},
	} {
		_, err := chain.DecodeTx(signedTx(t, chain.Msgs{m}).Encode())
		reason := strings.TrimPrefix(name, "rotation has ")
		if err == nil || name != "affiliated key" && !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: %v", name, err)
		}
		if strings.Contains(name, "limit") && !errors.Is(err, chain.ErrLimit) {
			t.Errorf("%s: %v is not ErrLimit", name, err)
		}
	}
}

func with[T any](m T, change func(*T)) T {
	change(&m)
	return m
}

func TestParamsOfStaking(t *testing.T) {
	const day = 24 * 3600 * 1000
	for name, change := range map[string]func(p *chain.Params){
		"epoch_ms":                      func(p *chain.Params) { p.EpochMs = 999 },
		"evidence_window_ms":            func(p *chain.Params) { p.EvidenceWindowMs = 366 * day },
		"jail_ms":                       func(p *chain.Params) { p.JailMs = 366 * day },
		"unbonding takes 504 epochs":    func(p *chain.Params) { p.EpochMs = day / 24 },
		"max_validators is 0":           func(p *chain.Params) { p.MaxValidators = 0 },
		"max_validators is 257":         func(p *chain.Params) { p.MaxValidators = 257 },
		"commission_step_bps is 10001":  func(p *chain.Params) { p.CommissionStepBps = 10_001 },
		"equivocation_bps is 10001":     func(p *chain.Params) { p.EquivocationBps = 10_001 },
		"reporter_bps is 2501":          func(p *chain.Params) { p.ReporterBps = 2_501 },
		"silence_bps is 1001":           func(p *chain.Params) { p.SilenceBps = 1_001 },
		"max_jailed_bps is 3334":        func(p *chain.Params) { p.MaxJailedBps = 3_334 },
		"inflation_bps is 5001":         func(p *chain.Params) { p.InflationBps = 5_001 },
		"inflation_decay_bps is 10001":  func(p *chain.Params) { p.InflationDecayBps = 10_001 },
		"inflation_floor_bps is 501":    func(p *chain.Params) { p.InflationFloorBps = 501 },
		"target_bonded_bps is 10001":    func(p *chain.Params) { p.TargetBondedBps = 10_001 },
		"target_bonded_bps or resource": func(p *chain.Params) { p.TargetBondedBps = 0 },
		"proposer_bps is 10001":         func(p *chain.Params) { p.ProposerBps = 10_001 },
	} {
		p := chain.DefaultParams()
		if err := p.Check(); err != nil {
			t.Fatal(err)
		}
		change(&p)
		if err := p.Check(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := chain.DefaultParams()
	if p.UnbondDelayMs = 0; p.UnbondingMs() <= 2*p.EpochMs+p.EvidenceWindowMs {
		t.Errorf("unbonding of %d ms does not outlast two epochs and the evidence window", p.UnbondingMs())
	}
	if p.ClusterUnbondMs() != 2*p.WithdrawalDelayMs {
		t.Errorf("a cluster that unbonds is liable for %d ms, a promise is evidence for two withdrawal delays of %d", p.ClusterUnbondMs(), p.WithdrawalDelayMs)
	}
}
