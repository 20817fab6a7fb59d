package execution

import (
	"errors"
	"fmt"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/tokens"
)

// ErrInvalidBlock says that a block breaks the rules of blocks: no honest
// leader makes it, and no honest validator votes for it.
var ErrInvalidBlock = errors.New("execution: invalid block")

// Executor is what decides the result of a block beside the state: all of it is
// pinned by genesis.
type Executor struct {
	chainID  chain.ChainID
	gas      GasTable
	kernels  map[string]crypto.Digest
	proofGas map[zk.Kernel]chain.Gas
	verifier zk.Verifier
	vm       contract.VM
	prices   contract.Prices
	over     func(contract.Host) contract.Host // what contracts reach instead; nil: the chain
}

// New returns the executor of a chain.
func New(g *chain.Genesis, verifier zk.Verifier, vm contract.VM) *Executor {
	x := &Executor{
		chainID: g.ChainID, gas: GasTableV1(), verifier: verifier, vm: vm, prices: ContractPricesV1(),
		kernels: map[string]crypto.Digest{}, proofGas: map[zk.Kernel]chain.Gas{},
	}
	for _, k := range g.Kernels {
		x.kernels[k.Name] = k.VerifyingKey
		x.proofGas[zk.Kernel(k.Name)] = k.FixedGas
	}
	return x
}

// WithHost returns an executor whose contracts reach what over makes of the chain. It is for
// simulated chains: no node has one.
func (x *Executor) WithHost(over func(contract.Host) contract.Host) *Executor {
	simulated := *x
	simulated.over = over
	return &simulated
}

// Outcome is the result of a block.
type Outcome struct {
	Changes  []state.Change // by ascending key
	Receipts chain.BlockReceipts
	GasUsed  chain.Gas
}

// Prepare fills in what the parent's state and the block's time decide of a
// header whose version, chain, height, epoch, time and proposer are set:
// Closing, Committee and NextCommittee.
func (x *Executor) Prepare(parent state.Reader, h *chain.Header) (err error) {
	defer recoverFault(&err)
	params, err := ParamsOf(parent)
	if err != nil {
		return err
	}
	epoch := staking.EpochOf(parent)
	h.Closing = epoch.Closes(h.TimeMs, &params)
	h.Committee, h.NextCommittee = epoch.Committee, epoch.Next
	return nil
}

// Apply executes a block on its parent's state: a header, what consensus put
// into the body, and the body's transactions. Of the header it reads version,
// chain, height, epoch, view, time, proposer, and what Prepare fills in.
func (x *Executor) Apply(parent state.Reader, h *chain.Header, extras staking.Extras, txs []*chain.VerifiedTx) (out Outcome, err error) {
	defer recoverFault(&err)
	if len(txs) > chain.MaxBlockTxs {
		return Outcome{}, fmt.Errorf("%w: %d transactions, limit %d", ErrInvalidBlock, len(txs), chain.MaxBlockTxs)
	}
	r, err := x.begin(parent, h, len(txs))
	if err != nil {
		return Outcome{}, err
	}
	state.Ahead(parent, accountsOf(txs))
	_, events, refused := staking.TakeExtras(r.block, &r.stakes, extras)
	if refused != nil {
		return Outcome{}, fmt.Errorf("%w: %w", ErrInvalidBlock, refused)
	}
	r.receipts.Begin = append(r.receipts.Begin, events...)
	at := 0 // of the transaction that comes next
	r.all(&steps{
		next: func() (*chain.VerifiedTx, bool) {
			if at == len(txs) {
				return nil, false
			}
			at++
			return txs[at-1], true
		},
		do: func(tx *chain.VerifiedTx) bool {
			i := len(r.receipts.Txs) // every transaction has a receipt
			if tx == nil {
				err = fmt.Errorf("%w: transaction %d: its signatures do not verify", ErrInvalidBlock, i)
			} else if refusal := r.execute(tx); refusal != nil {
				err = fmt.Errorf("%w: transaction %d: %w", ErrInvalidBlock, i, refusal)
			}
			return err == nil
		},
		mark: func() func() { return func() { err = nil } },
	})
	if err != nil {
		return Outcome{}, err
	}
	return r.end()
}

// accountsOf returns the keys of the accounts that transactions read: who sends and pays,
// and who is paid by transfers.
func accountsOf(txs []*chain.VerifiedTx) [][]byte {
	keys, room := make([][]byte, 0, 2*len(txs)), make([]byte, 0, 2*len(txs)*tokens.AccountKeyBytes)
	add := func(a chain.Address) {
		from := len(room)
		room = tokens.AppendAccountKey(room, a) // where there is no room any more, the keys before stay where they are
		keys = append(keys, room[from:len(room):len(room)])
	}
	for _, tx := range txs {
		if tx == nil {
			continue
		}
		b := &tx.Tx().Body
		if add(b.Sender); b.FeePayer != nil {
			add(*b.FeePayer)
		}
		for _, m := range b.Messages {
			if transfer, ok := m.(chain.Transfer); ok {
				add(transfer.To)
			}
		}
	}
	return keys
}

// recoverFault turns the panic of a broken state into an error. Every other
// panic is a broken program and goes on.
func recoverFault(err *error) {
	switch p := recover().(type) {
	case nil:
	case *state.Fault:
		*err = fmt.Errorf("execution: %w", p)
	default:
		panic(p)
	}
}

// run is the execution of one block.
type run struct {
	x        *Executor
	parent   state.Reader
	block    *state.Overlay // what the block changed so far
	tx       *state.Overlay // on block: what the current transaction changed
	meter    *meter         // of the current transaction
	kv       *meteredKV     // tx, metered
	env      settlement.Env // with the verifier metered
	said     contract.Said  // by the contracts of the current transaction
	proofs   *proofs        // which that asks
	stakes   staking.Block
	closing  bool // the epoch's last block
	at       position
	burned   chain.Amount // base fees of the block so far
	tips     chain.Amount // of the block so far
	receipts chain.BlockReceipts
}

// begin returns the run of a block, with room for what so many transactions read and
// leave.
func (x *Executor) begin(parent state.Reader, h *chain.Header, txs int) (*run, error) {
	head, err := HeadOf(parent)
	if err != nil {
		return nil, err
	}
	switch {
	case h.Version != chain.BlockVersion:
		return nil, fmt.Errorf("%w: version %d, want %d", ErrInvalidBlock, h.Version, chain.BlockVersion)
	case h.ChainID != x.chainID:
		return nil, fmt.Errorf("%w: chain %q, want %q", ErrInvalidBlock, h.ChainID, x.chainID)
	case h.Height != head.Height+1:
		return nil, fmt.Errorf("%w: height %d on a state after %d", ErrInvalidBlock, h.Height, head.Height)
	case h.TimeMs <= head.TimeMs:
		return nil, fmt.Errorf("%w: time %d ms, the parent's is %d", ErrInvalidBlock, h.TimeMs, head.TimeMs)
	}
	params, err := ParamsOf(parent)
	if err != nil {
		return nil, err
	}
	stakes, err := x.checkEpoch(parent, h, &params)
	if err != nil {
		return nil, err
	}
	block := state.NewRemembering(parent, 2*txs+16) // mostly two accounts each
	tx, m := state.NewOverlay(block), &meter{table: &x.gas}
	verdicts := newProofs(x.verifier)
	r := &run{
		x: x, parent: parent, block: block, tx: tx, meter: m, kv: &meteredKV{kv: tx, meter: m}, proofs: verdicts,
		at: position{head: head, height: h.Height, now: h.TimeMs, blockGas: params.BlockGas},
		env: settlement.Env{
			ChainID: x.chainID, Height: h.Height, Now: h.TimeMs, ProgressMs: progress(&head, h.TimeMs, &params), Mix: mixed(head.Mix, h.VRFOutput), Params: params,
			Last: head.TimeMs, LastProgressMs: head.ProgressMs,
			Kernels: x.kernels, Verifier: &meteredVerifier{verifier: verdicts, prices: x.proofGas, meter: m},
		},
		stakes: *stakes, closing: h.Closing, receipts: chain.BlockReceipts{Txs: make([]chain.Receipt, 0, txs)},
	}
	r.env.Ahead = r.ahead
	r.workOff()
	return r, nil
}

// DrawsWait reports whether the state after a block waits for blocks to come, and not for time: a chain
// does not idle meanwhile.
func DrawsWait(r state.Reader, last chain.Height) (waits bool, err error) {
	defer recoverFault(&err)
	return settlement.DrawsWait(r, last), nil
}

// progress is the chain's progress at a block: what the time since the last block adds is
// bounded, so that a chain that stood does not make windows end.
func progress(last *Head, now chain.TimeMs, params *chain.Params) uint64 {
	return last.ProgressMs + min(uint64(now-last.TimeMs), 2*params.IdleMs)
}

// mixed adds a block's VRF output to those before it.
func mixed(mix, output crypto.Digest) crypto.Digest {
	return crypto.DomainMix.Hash(append(mix[:], output[:]...))
}

// checkEpoch checks what a header says of its epoch, and returns where the block
// stands in it.
func (x *Executor) checkEpoch(parent state.Reader, h *chain.Header, params *chain.Params) (*staking.Block, error) {
	epoch := staking.EpochOf(parent)
	switch {
	case h.Epoch != uint64(epoch.Number):
		return nil, fmt.Errorf("%w: epoch %d, want %d", ErrInvalidBlock, h.Epoch, epoch.Number)
	case h.Committee != epoch.Committee:
		return nil, fmt.Errorf("%w: committee %s, want %s", ErrInvalidBlock, h.Committee.Short(), epoch.Committee.Short())
	case h.NextCommittee != epoch.Next:
		return nil, fmt.Errorf("%w: next committee %s, want %s", ErrInvalidBlock, h.NextCommittee.Short(), epoch.Next.Short())
	case h.Closing != epoch.Closes(h.TimeMs, params):
		return nil, fmt.Errorf("%w: closing is %v, %d ms into an epoch of %d", ErrInvalidBlock, h.Closing, h.TimeMs-epoch.StartMs, params.EpochMs)
	}
	members, _ := staking.MembersOf(parent, epoch.Number) // none: nobody proposes
	for i := range members {
		if members[i].ConsensusKey == h.Proposer {
			env := staking.Env{ChainID: x.chainID, Height: h.Height, Now: h.TimeMs, Epoch: epoch.Number, Params: *params}
			return &staking.Block{Env: env, View: consensus.View(h.View), Proposer: consensus.Signer(i), Members: members}, nil
		}
	}
	return nil, fmt.Errorf("%w: proposer %s is not in the committee", ErrInvalidBlock, h.Proposer.Short())
}

func (r *run) end() (Outcome, error) {
	staking.Tip(r.block, &r.stakes, r.tips)
	tokens.Burn(r.block, r.burned)
	if r.closing {
		r.receipts.End = staking.CloseEpoch(r.block, &r.stakes.Env)
	}
	head := Head{Height: r.at.height, TimeMs: r.at.now, ProgressMs: r.env.ProgressMs, Mix: r.env.Mix}
	sinceMs := uint64(r.at.now - r.at.head.TimeMs)
	head.BaseFee = nextBaseFee(r.at.head.BaseFee, r.at.used, sinceMs, &r.env.Params)
	state.Save(r.block, HeadKey(), head)
	out := Outcome{Changes: r.block.Changes(), Receipts: r.receipts, GasUsed: r.at.used}
	if err := checkConserved(r.parent, out.Changes, r.block.Before); err != nil {
		return Outcome{}, err
	}
	if err := checkLocks(r.parent, r.block, out.Changes, r.block.Before); err != nil {
		return Outcome{}, err
	}
	return out, nil
}

// message executes message i of the current transaction. It is the one place
// that knows every module.
func (r *run) message(tx *chain.VerifiedTx, i int) (chain.Events, *chain.Rejection) {
	kv, env, from := r.kv, &r.env, tx.Tx().Body.Sender
	switch m := tx.Tx().Body.Messages[i].(type) {
	case chain.Transfer:
		return one(tokens.Transfer(kv, from, m, env.Now))
	case chain.RegisterProvider:
		return one(settlement.RegisterProvider(kv, env, from, m))
	case chain.UnbondProvider:
		return one(settlement.UnbondProvider(kv, env, from, m))
	case chain.RegisterCluster:
		return one(settlement.RegisterCluster(kv, env, from, m))
	case chain.UnbondCluster:
		return one(settlement.UnbondCluster(kv, env, from, m))
	case chain.Deposit:
		return one(settlement.Deposit(kv, env, from, m))
	case chain.Withdraw:
		return one(settlement.Withdraw(kv, env, from, m))
	case chain.Settle:
		return r.settle(m, tx.ClaimsSigned(i)), nil
	case chain.OpenLease:
		return one(settlement.OpenLease(kv, env, m, tx.DealSigned(i)))
	case chain.ResizeLease:
		return settlement.ResizeLease(kv, env, m, tx.DealSigned(i))
	case chain.ExtendLease:
		return one(settlement.ExtendLease(kv, env, from, m))
	case chain.CloseLease:
		return one(settlement.CloseLease(kv, env, from, m))
	case chain.CollectLease:
		return settlement.CollectLease(kv, env, m)
	case chain.OpenChannel:
		return one(settlement.OpenChannel(kv, env, from, m))
	case chain.FundChannel:
		return one(settlement.FundChannel(kv, env, from, m))
	case chain.RedeemVoucher:
		return one(settlement.RedeemVoucher(kv, env, m))
	case chain.CloseChannel:
		return one(settlement.CloseChannel(kv, env, from, m))
	case chain.RegisterMeter:
		return one(settlement.RegisterMeter(kv, env, from, m))
	case chain.SettleBatch:
		return one(settlement.SettleBatch(kv, env, m, tx.DealSigned(i)))
	case chain.AddBond:
		return one(settlement.AddBond(kv, env, from, m))
	case chain.ReportAcceptance:
		return one(settlement.ReportAcceptance(kv, env, from, m, tx.DealSigned(i)))
	case chain.Challenge:
		return one(settlement.Challenge(kv, env, from, m))
	case chain.Appeal:
		return one(settlement.Appeal(kv, env, from, m))
	case chain.CommitVote:
		return settlement.CommitVote(kv, env, m)
	case chain.RevealVote:
		return settlement.RevealVote(kv, env, m)
	case chain.BeginRun, chain.CommitRun, chain.RevealRun, chain.CollectRun:
		return r.runMessage(m, tx.DealSigned(i))
	case chain.ReportMiss, chain.DrawPeers, chain.LeaveLease, chain.AccusePeer:
		return r.serviceMessage(m, from, tx.DealSigned(i))
	case chain.ReportHardware, chain.DeclareHardware, chain.AnnounceHome:
		return r.hardwareMessage(m, from, tx.DealSigned(i))
	case chain.StoreCode, chain.InstantiateContract, chain.ExecuteContract, chain.MigrateContract, chain.SetContractAdmin, chain.PinCode:
		return r.contractMessage(tx, m)
	case chain.ReportEvidence, chain.Bond, chain.Delegate, chain.Undelegate, chain.Redelegate, chain.WithdrawRewards,
		chain.SetCommission, chain.RotateKeys, chain.Unjail, chain.Affiliate, chain.Unaffiliate:
		return r.stakingMessage(m, from)
	}
	panic("execution: a message outside the sealed sum")
}

// settle executes a message with claims, and gives back what those that are settled did not take.
func (r *run) settle(m chain.Settle, signed []chain.Signing) chain.Events {
	events := settlement.Settle(r.kv, &r.env, m, signed)
	if !r.meter.exceeded() { // by a proof that was not paid for, which metered finds
		r.meter.used -= r.x.gas.settled(signed, events) // a part of the message's own price, which was charged before
	}
	countBurned(r.kv, events)
	return events
}

// runMessage executes a message about a replicated run.
func (r *run) runMessage(m any, signed bool) (events chain.Events, why *chain.Rejection) {
	switch m := m.(type) {
	case chain.BeginRun:
		return settlement.BeginRun(r.kv, &r.env, m, signed)
	case chain.CommitRun:
		return settlement.CommitRun(r.kv, &r.env, m, signed)
	case chain.RevealRun:
		events, why = settlement.RevealRun(r.kv, &r.env, m, signed)
	case chain.CollectRun:
		events, why = settlement.CollectRun(r.kv, &r.env, m)
	}
	countBurned(r.kv, events)
	return events, why
}

// serviceMessage executes a message about what is promised of a lease.
func (r *run) serviceMessage(m any, from chain.Address, signed bool) (chain.Events, *chain.Rejection) {
	switch m := m.(type) {
	case chain.ReportMiss:
		return settlement.ReportMiss(r.kv, &r.env, m, signed)
	case chain.DrawPeers:
		return nil, settlement.DrawPeers(r.kv, &r.env, from, m)
	case chain.LeaveLease:
		return settlement.LeaveLease(r.kv, &r.env, from, m)
	case chain.AccusePeer:
		return one(settlement.AccusePeer(r.kv, &r.env, from, m, signed))
	}
	panic("execution: a message that is not of a lease's service")
}

// hardwareMessage executes a message about what a node declares of its hardware.
func (r *run) hardwareMessage(m any, from chain.Address, signed bool) (chain.Events, *chain.Rejection) {
	switch m := m.(type) {
	case chain.ReportHardware:
		return nil, settlement.ReportHardware(r.kv, &r.env, m, signed)
	case chain.DeclareHardware:
		return one(settlement.DeclareHardware(r.kv, &r.env, from, m))
	case chain.AnnounceHome:
		return one(settlement.AnnounceHome(r.kv, &r.env, m, signed))
	}
	panic("execution: a message that is not of hardware")
}

// stakingMessage executes a message of staking.
func (r *run) stakingMessage(m any, from chain.Address) (chain.Events, *chain.Rejection) {
	kv, stakes := r.kv, &r.stakes.Env
	switch m := m.(type) {
	case chain.ReportEvidence:
		return staking.ReportEvidence(kv, stakes, from, m)
	case chain.Bond:
		return one(staking.Bond(kv, stakes, from, m))
	case chain.Delegate:
		return one(staking.Delegate(kv, stakes, from, m))
	case chain.Undelegate:
		return one(staking.Undelegate(kv, stakes, from, m))
	case chain.Redelegate:
		return one(staking.Redelegate(kv, stakes, from, m))
	case chain.WithdrawRewards:
		return one(staking.WithdrawRewards(kv, stakes, from, m))
	case chain.SetCommission:
		return one(staking.SetCommission(kv, stakes, from, m))
	case chain.RotateKeys:
		return one(staking.RotateKeys(kv, stakes, from, m))
	case chain.Unjail:
		return one(staking.Unjail(kv, stakes, from, m))
	case chain.Affiliate:
		if p, ok := settlement.ProviderOf(kv, m.Node); !ok || p.UnbondedMs != 0 {
			return nil, chain.Reject("provider %s is not registered", m.Node.Short())
		}
		return one(staking.Affiliate(kv, stakes, from, m))
	case chain.Unaffiliate:
		p, _ := settlement.ProviderOf(kv, m.Node) // none: nobody's
		return one(staking.Unaffiliate(kv, from, p.Owner, m))
	}
	panic("execution: a message that is not of staking")
}

// countBurned tells staking what verified claims burned. Others do not count:
// whoever owns a node and its cluster attests as much work as it likes.
func countBurned(kv state.KV, events chain.Events) {
	for _, e := range events {
		if settled, ok := e.(chain.ClaimSettled); ok && settlement.Verified(&settled) {
			staking.CountBurned(kv, settled.Node, settled.FeeBurned())
		}
	}
}

func one(event chain.Event, why *chain.Rejection) (chain.Events, *chain.Rejection) {
	if why != nil {
		return nil, why
	}
	return chain.Events{event}, nil
}
