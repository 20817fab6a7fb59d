package chain

import (
	"errors"
	"fmt"
)

// Params are the rules' numbers that governance may change. A part of 1/10,000
// is a basis point, bps.
type Params struct {
	_                 struct{} `cbor:",toarray"`
	BlockGas          Gas      `json:"block_gas"`             // limit of one block
	TargetGasPerSec   Gas      `json:"target_gas_per_second"` // at which the base fee rests
	BaseFeeFloor      GasPrice `json:"base_fee_floor_nhyper"`
	ProtocolFeeBps    uint16   `json:"protocol_fee_bps"`  // of a claim's cost, in 1/10,000
	BurnBps           uint16   `json:"burn_bps"`          // of the protocol fee; the rest goes to the treasury
	PriorityBurnBps   uint16   `json:"priority_burn_bps"` // of an order's priority fee; the rest goes to its cluster
	WithdrawalDelayMs uint64   `json:"withdrawal_delay_ms"`
	ClaimWindowMs     uint64   `json:"claim_window_ms"`      // after an order's deadline
	UnbondDelayMs     uint64   `json:"unbond_delay_ms"`      // of bonds and stake; stake waits longer if UnbondingMs says so, a cluster if ClusterUnbondMs does
	ProviderBond      Amount   `json:"provider_bond_nhyper"` // the least
	ClusterBond       Amount   `json:"cluster_bond_nhyper"`  // the least
	IdleMs            uint64   `json:"idle_ms"`              // between blocks of an idle chain

	// Epochs and committees.
	EpochMs          uint64 `json:"epoch_ms"`           // the first block this long after an epoch's start closes it
	EvidenceWindowMs uint64 `json:"evidence_window_ms"` // the least time that evidence is taken after its epoch ended
	MaxValidators    uint16 `json:"max_validators"`     // of a committee; 1 to MaxCommittee
	MinSelfBond      Amount `json:"min_self_bond_nhyper"`

	// Faults.
	CommissionStepBps uint16 `json:"commission_step_bps"` // the most that a commission changes by in an epoch
	EquivocationBps   uint16 `json:"equivocation_bps"`    // the least slash of a fault; company raises it
	ReporterBps       uint16 `json:"reporter_bps"`        // of a slash, to whoever brought the evidence; the rest is burned
	SilenceBps        uint16 `json:"silence_bps"`         // slash of a validator that is jailed for silence
	MaxJailedBps      uint16 `json:"max_jailed_bps"`      // of the committee's weight, jailed for silence in one epoch
	JailMs            uint64 `json:"jail_ms"`             // before a validator may unjail itself

	// Rewards.
	ResourceHalf      Amount `json:"resource_half_nhyper"` // burned fees of an epoch that give half of the largest resource factor
	InflationBps      uint16 `json:"inflation_bps"`        // of the supply, in the chain's first year
	InflationDecayBps uint16 `json:"inflation_decay_bps"`  // by which the inflation falls from year to year
	InflationFloorBps uint16 `json:"inflation_floor_bps"`  // where it stops falling
	TargetBondedBps   uint16 `json:"target_bonded_bps"`    // of the supply; above it, inflation falls as its inverse
	ProposerBps       uint16 `json:"proposer_bps"`         // of an epoch's rewards, to proposers for the votes they carried

	// Verified work.
	JurorSlice Amount `json:"juror_slice_nhyper"` // of its bond, that a juror stakes on its vote
	CommitMs   uint64 `json:"commit_ms"`          // of the chain's progress: for running a job again
	RevealMs   uint64 `json:"reveal_ms"`          // of the chain's progress: for showing what was committed to

	// Declared hardware.
	HardwareEveryMs uint64 `json:"hardware_every_ms"` // of the chain's progress, from one challenge to the next on average; 0: there are none
	HardwareMs      uint64 `json:"hardware_ms"`       // of the chain's progress, after which a challenge is judged
	HardwareBps     uint16 `json:"hardware_bps"`      // of the bond, that a node loses of whose hardware nothing shows up; else its part
	HardwareStepNs  uint64 `json:"hardware_step_ns"`  // a step of the benchmark, at which a core counts as one
	HardwareLaneMiB uint64 `json:"hardware_lane_mib"` // that a core fills, at most
}

// MaxCommittee is the largest committee, consensus.MaxValidators.
const MaxCommittee = 256

// DefaultParams are a main network's.
func DefaultParams() Params {
	const day = 24 * 3600 * 1000
	return Params{
		BlockGas:          GasUnits(60_000_000),
		TargetGasPerSec:   GasUnits(30_000_000),
		BaseFeeFloor:      PricePerGas(1),
		ProtocolFeeBps:    200,
		BurnBps:           5_000,
		PriorityBurnBps:   5_000,
		WithdrawalDelayMs: day,
		ClaimWindowMs:     day / 4,
		UnbondDelayMs:     21 * day,
		ProviderBond:      Hyper(100),
		ClusterBond:       Hyper(1_000),
		IdleMs:            1_000,
		EpochMs:           day,
		EvidenceWindowMs:  14 * day,
		MaxValidators:     100,
		MinSelfBond:       Hyper(10_000),
		CommissionStepBps: 100,
		EquivocationBps:   500,
		ReporterBps:       500,
		SilenceBps:        10,
		MaxJailedBps:      1_000,
		JailMs:            day,
		ResourceHalf:      Hyper(10_000),
		InflationBps:      500,
		InflationDecayBps: 1_500,
		InflationFloorBps: 100,
		TargetBondedBps:   5_000,
		ProposerBps:       1_000,
		JurorSlice:        Hyper(5),
		CommitMs:          600_000,
		RevealMs:          120_000,

		HardwareEveryMs: 0, // until networks ask for it
		HardwareMs:      900_000,
		HardwareBps:     2_000,
		HardwareStepNs:  12_000,
		HardwareLaneMiB: MaxHardwareLaneMiB,
	}
}

// UnbondingMs is how long stake stays liable after its weight has left the
// committee: the unbonding delay, and in any case more than two epochs beyond
// the evidence window. Evidence of an epoch is taken for as long after its end.
func (p *Params) UnbondingMs() uint64 {
	return max(p.UnbondDelayMs, 2*p.EpochMs+p.EvidenceWindowMs+1) // Check bounds each by a year
}

// ClusterUnbondMs is how long a cluster's bond stays liable after it unbonded: the unbonding
// delay, and in any case for as long as an acceptance of before can be shown to be broken.
func (p *Params) ClusterUnbondMs() uint64 {
	return max(p.UnbondDelayMs, 2*p.WithdrawalDelayMs) // Check bounds each by a year
}

const (
	// maxParamGas keeps the arithmetic of fees within 64 bits.
	maxParamGas = 1_000_000_000_000
	// maxUnbondingEpochs bounds what a slash has to reach: a pool of unbonding
	// stake for each epoch.
	maxUnbondingEpochs = 64
	wholeBps           = 10_000
)

// MaxReporterBps bounds ReporterBps: half of a cluster's lost bond goes to providers who may be
// its own, and a quarter of it is burned even if its operator reports it.
const MaxReporterBps = 2_500

// MinPriorityBurnBps bounds PriorityBurnBps: a cluster gets the rest, and pays at least this much for places that it gives
// to orders of its own.
const MinPriorityBurnBps = 2_500

// Check returns an error that names the first parameter out of range.
func (p *Params) Check() error {
	const (
		day  = 24 * 3600 * 1000
		year = 365 * day
	)
	switch {
	case p.BlockGas.units == 0 || p.BlockGas.units > maxParamGas:
		return fmt.Errorf("block_gas is %d, want 1 to %d", p.BlockGas.units, uint64(maxParamGas))
	case p.TargetGasPerSec.units == 0 || p.TargetGasPerSec.units > maxParamGas:
		return fmt.Errorf("target_gas_per_second is %d, want 1 to %d", p.TargetGasPerSec.units, uint64(maxParamGas))
	case p.BaseFeeFloor.nano == 0:
		return errors.New("base_fee_floor_nhyper is 0")
	case p.ProtocolFeeBps > 5_000:
		return fmt.Errorf("protocol_fee_bps is %d, limit 5000", p.ProtocolFeeBps)
	case p.BurnBps > wholeBps:
		return fmt.Errorf("burn_bps is %d, limit 10000", p.BurnBps)
	case p.PriorityBurnBps < MinPriorityBurnBps || p.PriorityBurnBps > wholeBps:
		return fmt.Errorf("priority_burn_bps is %d, want %d to 10000", p.PriorityBurnBps, MinPriorityBurnBps)
	case p.WithdrawalDelayMs > year || p.ClaimWindowMs > year || p.UnbondDelayMs > year:
		return errors.New("a delay is above a year")
	case p.ClaimWindowMs >= p.WithdrawalDelayMs:
		return fmt.Errorf("claim_window_ms is %d and must be below withdrawal_delay_ms, %d", p.ClaimWindowMs, p.WithdrawalDelayMs)
	case p.IdleMs < 10 || p.IdleMs > 60_000:
		return fmt.Errorf("idle_ms is %d, want 10 to 60000", p.IdleMs)
	case p.EpochMs < 1_000 || p.EpochMs > year || p.EvidenceWindowMs > year || p.JailMs > year:
		return errors.New("epoch_ms is not within a second and a year, or evidence_window_ms or jail_ms is above a year")
	case p.UnbondingMs()/p.EpochMs > maxUnbondingEpochs:
		return fmt.Errorf("unbonding takes %d epochs, limit %d", p.UnbondingMs()/p.EpochMs, maxUnbondingEpochs)
	case p.CommitMs < 1_000 || p.CommitMs > day || p.RevealMs < 1_000 || p.RevealMs > day:
		return errors.New("commit_ms or reveal_ms is not within a second and a day")
	case p.MaxValidators == 0 || p.MaxValidators > MaxCommittee:
		return fmt.Errorf("max_validators is %d, want 1 to %d", p.MaxValidators, MaxCommittee)
	}
	if err := p.checkHardware(); err != nil {
		return err
	}
	return p.checkShares()
}

// checkHardware demands that a challenge is never certain in a block, as its odds would then go by
// how many blocks there are, and that the benchmark is over long before it is judged.
func (p *Params) checkHardware() error {
	const day = 24 * 3600 * 1000
	most := p.HardwareLaneMiB * HardwareStepsPerMiB * p.HardwareStepNs / 1_000_000 // each bounded below
	switch {
	case p.HardwareEveryMs != 0 && (p.HardwareEveryMs < 2*p.IdleMs || p.HardwareEveryMs > 365*day):
		return fmt.Errorf("hardware_every_ms is %d, want 0, or %d to %d", p.HardwareEveryMs, 2*p.IdleMs, uint64(365*day))
	case p.HardwareMs < 10_000 || p.HardwareMs > day:
		return fmt.Errorf("hardware_ms is %d, want 10000 to %d", p.HardwareMs, uint64(day))
	case p.HardwareStepNs < 100 || p.HardwareStepNs > 1_000_000:
		return fmt.Errorf("hardware_step_ns is %d, want 100 to 1000000", p.HardwareStepNs)
	case p.HardwareLaneMiB < 1 || p.HardwareLaneMiB > MaxHardwareLaneMiB:
		return fmt.Errorf("hardware_lane_mib is %d, want 1 to %d", p.HardwareLaneMiB, MaxHardwareLaneMiB)
	case most > p.HardwareMs/2:
		return fmt.Errorf("hardware_ms is %d, and a lane of %d MiB takes up to %d ms: want half of hardware_ms at most", p.HardwareMs, p.HardwareLaneMiB, most)
	}
	return nil
}

func (p *Params) checkShares() error {
	for _, share := range []struct {
		name  string
		value uint16
		limit uint16
	}{
		{"commission_step_bps", p.CommissionStepBps, wholeBps},
		{"equivocation_bps", p.EquivocationBps, wholeBps},
		{"reporter_bps", p.ReporterBps, MaxReporterBps}, // a guilty reporter must lose most of it
		{"silence_bps", p.SilenceBps, 1_000},
		{"max_jailed_bps", p.MaxJailedBps, 3_333}, // below a third: what is left is a quorum
		{"inflation_bps", p.InflationBps, 5_000},
		{"inflation_decay_bps", p.InflationDecayBps, wholeBps},
		{"inflation_floor_bps", p.InflationFloorBps, p.InflationBps},
		{"target_bonded_bps", p.TargetBondedBps, wholeBps},
		{"proposer_bps", p.ProposerBps, wholeBps},
		{"hardware_bps", p.HardwareBps, wholeBps},
	} {
		if share.value > share.limit {
			return fmt.Errorf("%s is %d, limit %d", share.name, share.value, share.limit)
		}
	}
	if p.TargetBondedBps == 0 || p.ResourceHalf.IsZero() {
		return errors.New("target_bonded_bps or resource_half_nhyper is 0")
	}
	return nil
}
