package chain

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Bucket is a share of the genesis distribution (ledger.md, "Genesis").
type Bucket string

// The buckets.
const (
	BucketCommunity  Bucket = "community"
	BucketTeam       Bucket = "team"
	BucketFoundation Bucket = "foundation"
	BucketValidators Bucket = "validators"
	BucketSale       Bucket = "sale"
)

// BucketShare is a bucket's part of the total supply, in percent.
type BucketShare struct {
	Bucket  Bucket `json:"bucket"`
	Percent uint64 `json:"percent"`
}

// Distribution is the whole genesis distribution.
var Distribution = [...]BucketShare{
	{BucketCommunity, 40},
	{BucketTeam, 20},
	{BucketFoundation, 25},
	{BucketValidators, 10},
	{BucketSale, 5},
}

// Vesting of the team's share: linear over four years, nothing in the first.
const (
	TeamCliffMs    = 365 * 24 * 3600 * 1000
	TeamDurationMs = 4 * TeamCliffMs
)

// GenesisValidator is a member of the first committee. Its stake is part of the
// validators' bucket.
type GenesisValidator struct {
	_            struct{}         `cbor:",toarray"`
	Name         string           `json:"name"`
	ConsensusKey crypto.PublicKey `json:"consensus_key"`
	NodeKey      crypto.PublicKey `json:"node_key"`
	Owner        Address          `json:"owner"`
	Stake        Amount           `json:"stake_nhyper"`
	Endpoint     string           `json:"endpoint"` // advertised host:port of its transport
}

// Vesting locks an allocation: nothing is free before Cliff, then what is free
// grows linearly from Start to all of it at Start + Duration.
type Vesting struct {
	_          struct{} `cbor:",toarray"`
	StartMs    TimeMs   `json:"start_ms"`
	CliffMs    uint64   `json:"cliff_ms"`
	DurationMs uint64   `json:"duration_ms"`
}

// Allocation gives a part of a bucket to an account.
type Allocation struct {
	_       struct{} `cbor:",toarray"`
	Bucket  Bucket   `json:"bucket"`
	Address Address  `json:"address"`
	Amount  Amount   `json:"amount_nhyper"`
	Vesting *Vesting `json:"vesting,omitempty"`
}

// GenesisKernel pins a kernel's verifying key.
type GenesisKernel struct {
	_            struct{}      `cbor:",toarray"`
	Name         string        `json:"name"`
	VerifyingKey crypto.Digest `json:"verifying_key"`
	FixedGas     Gas           `json:"fixed_gas"` // of verifying one proof; 1 to the block's gas
}

// Genesis is the first state of a chain and whatever decides its rules.
type Genesis struct {
	_            struct{}           `cbor:",toarray"`
	ChainID      ChainID            `json:"chain_id"`
	TimeMs       TimeMs             `json:"time_ms"`
	Devnet       bool               `json:"devnet"`        // a faucet may run, and keys may be insecure
	InsecureKeys bool               `json:"insecure_keys"` // proving keys come from a plain setup
	Params       Params             `json:"params"`
	Validators   []GenesisValidator `json:"validators"`
	Allocations  []Allocation       `json:"allocations"`
	Kernels      []GenesisKernel    `json:"kernels"`
}

// VerifyingKeys returns the digests of the verifying keys that genesis pins, by kernel.
func (g *Genesis) VerifyingKeys() map[string]crypto.Digest {
	keys := make(map[string]crypto.Digest, len(g.Kernels))
	for _, k := range g.Kernels {
		keys[k.Name] = k.VerifyingKey
	}
	return keys
}

// maxVesting bounds what genesis puts into one record of the state.
const maxVesting = 16 // every transaction of the account looks at its locks

// MaxGenesisBytes bounds a genesis file.
const MaxGenesisBytes = 16 << 20

// ReadGenesis reads and checks a JSON genesis.
func ReadGenesis(r io.Reader) (*Genesis, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxGenesisBytes+1))
	if err != nil {
		return nil, fmt.Errorf("chain: reading genesis: %w", err)
	}
	if len(data) > MaxGenesisBytes {
		return nil, limitError("bytes of genesis", len(data), MaxGenesisBytes)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var g Genesis
	if err := dec.Decode(&g); err != nil {
		return nil, fmt.Errorf("chain: genesis: %w", err)
	}
	if dec.More() {
		return nil, errors.New("chain: genesis: bytes after the object")
	}
	if err := g.Check(); err != nil {
		return nil, err
	}
	return &g, nil
}

// Digest identifies the genesis; block 1's header has it as its parent.
func (g *Genesis) Digest() crypto.Digest { return crypto.DomainGenesis.Hash(codec.Marshal(*g)) }

// Check recomputes the distribution and returns an error that names the first
// thing that is wrong.
func (g *Genesis) Check() error {
	if err := g.ChainID.Check(); err != nil {
		return err
	}
	if g.InsecureKeys && !g.Devnet {
		return errors.New("chain: genesis: insecure_keys without devnet: proving keys must come from a ceremony")
	}
	if err := g.Params.Check(); err != nil {
		return fmt.Errorf("chain: genesis: params: %w", err)
	}
	if err := g.checkValidators(); err != nil {
		return fmt.Errorf("chain: genesis: %w", err)
	}
	for i, v := range g.Validators {
		if v.Stake.Less(g.Params.MinSelfBond) {
			return fmt.Errorf("chain: genesis: validator %d: stake %s is below min_self_bond_nhyper, %s: it would serve for two epochs only", i, v.Stake, g.Params.MinSelfBond)
		}
	}
	if err := g.checkKernels(); err != nil {
		return fmt.Errorf("chain: genesis: %w", err)
	}
	return g.checkDistribution()
}

func (g *Genesis) checkValidators() error {
	if len(g.Validators) == 0 {
		return errors.New("no validators")
	}
	seen := map[crypto.PublicKey]bool{}
	for i, v := range g.Validators {
		if err := errors.Join(checkText("name", v.Name, MaxValidatorName), checkText("endpoint", v.Endpoint, MaxEndpoint)); err != nil {
			return fmt.Errorf("validator %d: %w", i, err)
		}
		for _, key := range []crypto.PublicKey{v.ConsensusKey, v.NodeKey} {
			if err := key.Check(); err != nil {
				return fmt.Errorf("validator %d: %w", i, err)
			}
			if seen[key] {
				return fmt.Errorf("validator %d: key %s appears twice", i, key.Short())
			}
			seen[key] = true
		}
		if v.Stake.Nano() < NanoPerHyper {
			return fmt.Errorf("validator %d: stake %s is below 1 HYPER", i, v.Stake)
		}
	}
	return nil
}

func (g *Genesis) checkKernels() error {
	last := ""
	for _, k := range g.Kernels {
		if k.Name <= last || len(k.Name) > MaxKernelName {
			return fmt.Errorf("kernel %.40q is out of order or too long", k.Name)
		}
		if k.FixedGas.units == 0 || g.Params.BlockGas.Less(k.FixedGas) {
			return fmt.Errorf("kernel %s: fixed_gas is %d, want 1 to block_gas, %d", k.Name, k.FixedGas.units, g.Params.BlockGas.units)
		}
		last = k.Name
	}
	return nil
}

func (g *Genesis) checkDistribution() error {
	for _, line := range g.Explain() {
		if line.Got != line.Want {
			return fmt.Errorf("chain: genesis: bucket %s holds %s, want %s (%d %% of %s)", line.Bucket, line.Got, line.Want, line.Percent, TotalSupply)
		}
	}
	vesting := map[Address]int{}
	for i, a := range g.Allocations {
		if !knownBucket(a.Bucket) {
			return fmt.Errorf("chain: genesis: allocation %d: bucket %.20q is unknown", i, a.Bucket)
		}
		if err := checkVesting(a); err != nil {
			return fmt.Errorf("chain: genesis: allocation %d: %w", i, err)
		}
		if a.Vesting == nil {
			continue
		}
		if vesting[a.Address]++; vesting[a.Address] > maxVesting {
			return fmt.Errorf("chain: genesis: allocation %d: %w", i, limitError("vesting allocations of one address", vesting[a.Address], maxVesting))
		}
	}
	return nil
}

func checkVesting(a Allocation) error {
	v := a.Vesting
	switch {
	case v == nil && a.Bucket == BucketTeam:
		return errors.New("the team's share must vest")
	case v == nil:
		return nil
	case v.DurationMs == 0 || v.CliffMs > v.DurationMs || v.DurationMs > MaxUsageMs:
		return fmt.Errorf("vesting: cliff %d ms, duration %d ms", v.CliffMs, v.DurationMs)
	case a.Bucket == BucketTeam && (v.CliffMs != TeamCliffMs || v.DurationMs != TeamDurationMs):
		return errors.New("the team's share vests over four years with a cliff of one")
	}
	return nil
}

func knownBucket(b Bucket) bool {
	for _, d := range Distribution {
		if d.Bucket == b {
			return true
		}
	}
	return false
}

// BucketLine is one line of the distribution, recomputed.
type BucketLine struct {
	BucketShare
	Want     Amount `json:"want_nhyper"`
	Got      Amount `json:"got_nhyper"`
	Accounts int    `json:"accounts"`
}

// Explain recomputes the distribution from the allocations and stakes. A sum
// that overflows is shown as the largest amount, which no bucket wants.
func (g *Genesis) Explain() []BucketLine {
	lines := make([]BucketLine, len(Distribution))
	for i, share := range Distribution {
		want, _ := TotalSupply.ShareFloor(share.Percent, 100)
		line := BucketLine{BucketShare: share, Want: want}
		add := func(a Amount) {
			sum, ok := line.Got.Add(a)
			if !ok {
				sum = Nano(1<<64 - 1)
			}
			line.Got = sum
			line.Accounts++
		}
		for _, a := range g.Allocations {
			if a.Bucket == share.Bucket {
				add(a.Amount)
			}
		}
		if share.Bucket == BucketValidators {
			for _, v := range g.Validators {
				add(v.Stake)
			}
		}
		lines[i] = line
	}
	return lines
}

// Holders are the accounts that a new genesis gives the buckets to.
type Holders struct {
	Community, Team, Foundation, Validators, Sale Address
}

// NewGenesis returns a genesis that gives every bucket whole to its holder, the
// team's with vesting from the chain's first instant. It lacks validators:
// AddValidator takes their stakes out of the validators' bucket.
func NewGenesis(id ChainID, at TimeMs, params Params, to Holders) *Genesis {
	g := &Genesis{ChainID: id, TimeMs: at, Params: params}
	holders := map[Bucket]Address{
		BucketCommunity: to.Community, BucketTeam: to.Team, BucketFoundation: to.Foundation, BucketValidators: to.Validators, BucketSale: to.Sale,
	}
	for _, share := range Distribution {
		amount, _ := TotalSupply.ShareFloor(share.Percent, 100)
		a := Allocation{Bucket: share.Bucket, Address: holders[share.Bucket], Amount: amount}
		if share.Bucket == BucketTeam {
			a.Vesting = &Vesting{StartMs: at, CliffMs: TeamCliffMs, DurationMs: TeamDurationMs}
		}
		g.Allocations = append(g.Allocations, a)
	}
	return g
}

// AddValidator adds a member of the first committee, whose stake comes out of
// the validators' bucket.
func (g *Genesis) AddValidator(v GenesisValidator) error {
	if err := g.take(BucketValidators, v.Stake); err != nil {
		return fmt.Errorf("chain: genesis: validator %q: %w", v.Name, err)
	}
	g.Validators = append(g.Validators, v)
	if err := g.checkValidators(); err != nil {
		return fmt.Errorf("chain: genesis: %w", err)
	}
	return nil
}

// Give moves a part of a bucket from its first allocation to another account.
func (g *Genesis) Give(b Bucket, to Address, amount Amount) error {
	if err := g.take(b, amount); err != nil {
		return fmt.Errorf("chain: genesis: %w", err)
	}
	g.Allocations = append(g.Allocations, Allocation{Bucket: b, Address: to, Amount: amount})
	return nil
}

// take takes an amount out of the first allocation of a bucket; one that becomes
// empty is left out.
func (g *Genesis) take(b Bucket, amount Amount) error {
	for i := range g.Allocations {
		a := &g.Allocations[i]
		if a.Bucket != b {
			continue
		}
		rest, ok := a.Amount.Sub(amount)
		if !ok {
			return fmt.Errorf("bucket %s has %s left, %s wanted", b, a.Amount, amount)
		}
		a.Amount = rest
		if rest.IsZero() {
			g.Allocations = append(g.Allocations[:i], g.Allocations[i+1:]...)
		}
		return nil
	}
	return fmt.Errorf("bucket %s has nothing left", b)
}
