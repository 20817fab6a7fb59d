package harness

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
	"github.com/hypermesh/hypermesh/tokens"
)

// The names of errors.
var (
	ErrConfig      = errors.New("harness: invalid config")
	ErrNotIncluded = errors.New("harness: no block may have the transaction")
	ErrTime        = errors.New("harness: time goes by whole milliseconds, forwards")
	ErrSnapshot    = errors.New("harness: no snapshot of this chain that still stands")
	ErrMessage     = errors.New("harness: a message that cannot be written as JSON")
	ErrScript      = errors.New("harness: a script answers what no contract can")
)

// What the chain's own messages and Go's are made of, by names that can be used from anywhere.
type (
	Address   = chain.Address
	Digest    = crypto.Digest
	PublicKey = crypto.PublicKey
)

// Hyper is a HYPER in nHYPER, in which all amounts are.
const Hyper = chain.NanoPerHyper

// Config is what a chain begins with. The zero value is one to begin with.
type Config struct {
	// ChainID is the chain's name ["harness-1"].
	ChainID string
	// Start is the time of genesis [2026-01-01 UTC].
	Start time.Time
	// BlockTime is how much later than the last a block is [1 s].
	BlockTime time.Duration
	// Custom stands in for messages and queries that only this chain has; what it leaves is the chain's.
	Custom Custom
	// Machine runs the contracts, and is not closed; nil: one of the harness' own.
	Machine *vm.Machine
	// Genesis may change the chain's beginning: parameters, kernels, allocations.
	Genesis func(g *chain.Genesis)
	// Proofs verifies proofs of compute, one by one whatever else it can, so that each call is made once; nil: there
	// are no true ones.
	Proofs zk.Verifier
}

// firstTime is when chains begin.
const firstTime = 1_767_225_600_000

func (c *Config) withDefaults() error {
	if c.ChainID == "" {
		c.ChainID = "harness-1"
	}
	if c.Start.IsZero() {
		c.Start = time.UnixMilli(firstTime)
	}
	if c.BlockTime == 0 {
		c.BlockTime = time.Second
	}
	if c.Proofs == nil {
		c.Proofs = noProofs{}
	}
	switch {
	case c.Start.UnixMilli() <= 0 || c.Start.UnixMilli() > lastTime:
		return fmt.Errorf("%w: Start is %s, want a time since 1970 and before 2200", ErrConfig, c.Start)
	case c.BlockTime < time.Millisecond || c.BlockTime > maxPass:
		return fmt.Errorf("%w: BlockTime is %s, want %s to %s", ErrConfig, c.BlockTime, time.Millisecond, maxPass)
	}
	return nil
}

// Bounds of time: within them all that the chain computes of it fits.
const (
	lastTime = 7_258_118_400_000 // the beginning of 2200
	maxPass  = 366 * 24 * time.Hour
)

type noProofs struct{}

func (noProofs) Verify(zk.Statement, []byte) error { return zk.ErrFalseProof }

// oneByOne is a verifier that verifies no proofs together. The executor would suppose that the proofs of several transactions
// hold, and make all their calls again where one does not: what Results tell, and what Go code is asked, would be of both runs.
type oneByOne struct{ zk.Verifier }

// Harness is a simulated chain.
type Harness struct {
	config   Config
	executor *execution.Executor
	machine  *traced
	own      *vm.Machine // to be closed
	state    *state.Overlay
	saved    []*Snapshot
	proposer Account
	treasury Account
}

// New returns a chain at its genesis. Close it.
func New(config Config) (*Harness, error) {
	if err := config.withDefaults(); err != nil {
		return nil, err
	}
	h := &Harness{config: config, proposer: keyed("validator"), treasury: keyed("treasury")}
	g, err := h.genesis()
	if err != nil {
		return nil, err
	}
	h.state = state.NewOverlay(state.NewMemoryBackend())
	if err := execution.Genesis(h.state, g); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	machine := config.Machine
	if machine == nil {
		if machine, err = vm.New(vm.Config{}); err != nil {
			return nil, err
		}
		h.own = machine
	}
	h.machine = &traced{vm: machine, scripts: map[crypto.Digest]Script{}}
	h.executor = execution.New(g, oneByOne{config.Proofs}, h.machine).WithHost(config.Custom.over)
	return h, nil
}

// genesis has one validator, and all money that nobody stakes at the treasury.
func (h *Harness) genesis() (*chain.Genesis, error) {
	all := h.treasury.Address()
	at := chain.TimeMs(h.config.Start.UnixMilli())
	g := chain.NewGenesis(chain.ChainID(h.config.ChainID), at, chain.DefaultParams(), chain.Holders{
		Community: all, Team: keyed("team").Address(), Foundation: all, Validators: all, Sale: all,
	})
	g.Devnet = true
	if err := g.AddValidator(chain.GenesisValidator{
		Name: "harness", ConsensusKey: h.proposer.PublicKey(), NodeKey: keyed("node").PublicKey(),
		Owner: h.proposer.Address(), Stake: chain.Hyper(1_000_000), Endpoint: "127.0.0.1:1",
	}); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if h.config.Genesis != nil {
		h.config.Genesis(g)
	}
	return g, nil
}

// Close gives back what the harness has taken.
func (h *Harness) Close() {
	if h.own != nil {
		h.own.Close()
		h.own = nil
	}
}

// Account is who sends transactions: a key.
type Account struct{ key crypto.PrivateKey }

// AccountOf returns the account of a name, which is the same on every chain. It has nothing
// until it gets something.
func AccountOf(name string) Account { return keyed("account " + name) }

// keyed is the account of a text, of AccountOf or of the harness' own.
func keyed(text string) Account {
	return Account{crypto.PrivateKeyFromSeed(sha256.Sum256([]byte("hypermesh harness " + text)))}
}

// Treasury returns the account that has the chain's money, and pays fees.
func (h *Harness) Treasury() Account { return h.treasury }

// Address returns its address.
func (a Account) Address() Address { return chain.AddressOf(a.AccountKey()) }

// String returns the address as text.
func (a Account) String() string { return a.Address().String() }

// MarshalText writes it as contracts read it: by its address.
func (a Account) MarshalText() ([]byte, error) { return a.Address().MarshalText() }

// PublicKey returns its key.
func (a Account) PublicKey() PublicKey { return a.key.Public() }

// AccountKey and Sign make it a signer of transactions.
func (a Account) AccountKey() crypto.AccountKey { return crypto.AccountKeyOf(a.key.Public()) }

// Sign signs the domain's digest of payload.
func (a Account) Sign(d *crypto.Domain, payload []byte) (crypto.Signature, error) {
	return a.key.Sign(d, payload), nil
}

// head is the chain's last block.
func (h *Harness) head() execution.Head {
	head, err := execution.HeadOf(h.state)
	if err != nil {
		panic("harness: a chain without a head: " + err.Error())
	}
	return head
}

// Height returns the last block's height.
func (h *Harness) Height() uint64 { return uint64(h.head().Height) }

// Time returns the last block's time.
func (h *Harness) Time() time.Time { return time.UnixMilli(int64(h.head().TimeMs)).UTC() }

// Balance returns what an account has, in nHYPER.
func (h *Harness) Balance(of Address) uint64 { return tokens.AccountOf(h.state, of).Balance.Nano() }

// State returns the chain's state, to be read with what other packages know of it. It is of
// use until the next block.
func (h *Harness) State() state.Reader { return h.state }

// Snapshot is what a chain was.
type Snapshot struct{ state *state.Overlay }

// Snapshot remembers the chain as it is. It costs little; what was changed since is what it keeps.
func (h *Harness) Snapshot() *Snapshot {
	s := &Snapshot{h.state}
	h.saved = append(h.saved, s)
	h.state = state.NewOverlay(s.state)
	return s
}

// Rollback makes the chain what it was at a snapshot, which is used up by it, with those that were taken since. What
// Go code remembers (scripts, Config.Custom) stays as it is.
func (h *Harness) Rollback(s *Snapshot) error {
	i := slices.Index(h.saved, s)
	if i < 0 {
		return ErrSnapshot
	}
	clear(h.saved[i:])
	h.saved, h.state = h.saved[:i], s.state
	return nil
}
