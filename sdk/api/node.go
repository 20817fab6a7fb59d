package api

import (
	"encoding/json"
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Status is GET /v1/status.
type Status struct {
	ChainID       chain.ChainID    `json:"chain_id"`
	Height        chain.Height     `json:"height" doc:"of the latest finalized block; 0: genesis"`
	Digest        crypto.Digest    `json:"digest" doc:"of that block's header, or of genesis"`
	Epoch         uint64           `json:"epoch"`
	FinalizedView uint64           `json:"finalized_view" doc:"of the epoch"`
	CommitteeSize int              `json:"committee_size" doc:"validators of the epoch"`
	Signs         bool             `json:"signs" doc:"the node votes in the epoch"`
	Observes      string           `json:"observes,omitempty" doc:"why the node does not vote in the epoch and only observes; left out: it votes"`
	Evidence      int              `json:"evidence" doc:"proven breaches of the rules that wait for a block of this node"`
	BlockTimeMs   chain.TimeMs     `json:"block_time_ms" doc:"of that block"`
	BaseFee       chain.GasPrice   `json:"base_fee_nhyper" doc:"per gas, of the next block"`
	Peers         int              `json:"peers"`
	MempoolTxs    int              `json:"mempool_txs"`
	MempoolBytes  int              `json:"mempool_bytes"`
	Syncing       bool             `json:"syncing" doc:"the node knows that it is behind"`
	Devnet        bool             `json:"devnet" doc:"a faucet may run, and keys may be insecure"`
	GenesisDigest crypto.Digest    `json:"genesis_digest"`
	NodeKey       crypto.PublicKey `json:"node_key" doc:"pins the node in its transport"`
	Version       string           `json:"version"`
}

// Header is a block's header. StateRoot and ReceiptRoot are of the parent's
// execution.
type Header struct {
	Version       uint16           `json:"version"`
	ChainID       chain.ChainID    `json:"chain_id"`
	Height        chain.Height     `json:"height"`
	Epoch         Uint64           `json:"epoch"`
	View          Uint64           `json:"view"`
	Parent        crypto.Digest    `json:"parent"`
	TimeMs        chain.TimeMs     `json:"time_ms"`
	TxRoot        crypto.Digest    `json:"tx_root"`
	ExtraRoot     crypto.Digest    `json:"extra_root"`
	StateRoot     crypto.Digest    `json:"state_root" doc:"after the parent"`
	ReceiptRoot   crypto.Digest    `json:"receipt_root" doc:"of the parent's receipts"`
	Committee     crypto.Digest    `json:"committee"`
	NextCommittee crypto.Digest    `json:"next_committee" doc:"of the next epoch"`
	Closing       bool             `json:"closing" doc:"the epoch's last block"`
	Proposer      crypto.PublicKey `json:"proposer" doc:"consensus key"`
	Finalized     chain.Height     `json:"finalized" doc:"highest finalization that the proposer knew"`
	VRFOutput     crypto.Digest    `json:"vrf_output"`
	VRFProof      Hex              `json:"vrf_proof"`
}

// HeaderToJSON returns the header as JSON has it.
func HeaderToJSON(h chain.Header) Header {
	return Header{
		Version: h.Version, ChainID: h.ChainID, Height: h.Height, Epoch: Uint64(h.Epoch), View: Uint64(h.View), Parent: h.Parent,
		TimeMs: h.TimeMs, TxRoot: h.TxRoot, ExtraRoot: h.ExtraRoot, StateRoot: h.StateRoot, ReceiptRoot: h.ReceiptRoot,
		Committee: h.Committee, NextCommittee: h.NextCommittee, Closing: h.Closing, Proposer: h.Proposer, Finalized: h.Finalized,
		VRFOutput: h.VRFOutput, VRFProof: h.VRFProof,
	}
}

// HeaderFromJSON returns the header of package chain.
func HeaderFromJSON(h Header) chain.Header {
	return chain.Header{
		Version: h.Version, ChainID: h.ChainID, Height: h.Height, Epoch: uint64(h.Epoch), View: uint64(h.View), Parent: h.Parent,
		TimeMs: h.TimeMs, TxRoot: h.TxRoot, ExtraRoot: h.ExtraRoot, StateRoot: h.StateRoot, ReceiptRoot: h.ReceiptRoot,
		Committee: h.Committee, NextCommittee: h.NextCommittee, Closing: h.Closing, Proposer: h.Proposer, Finalized: h.Finalized,
		VRFOutput: h.VRFOutput, VRFProof: h.VRFProof,
	}
}

// Certificate shows that a quorum finalized a block. The certificate may be of
// a descendant: then Path leads to it.
type Certificate struct {
	Bytes   []byte             `json:"bytes" doc:"canonical bytes, which is what a client checks"`
	Epoch   uint64             `json:"epoch"`
	View    uint64             `json:"view"`
	Digest  crypto.Digest      `json:"digest" doc:"of the certified header"`
	Signers []crypto.PublicKey `json:"signers" doc:"consensus keys, by their index in the committee"`
	Path    [][]byte           `json:"path,omitempty" maxItems:"256" doc:"canonical headers, from this header's child up to the certified one; left out: the certificate is of this header"`
}

// MaxPath bounds Certificate.Path.
const MaxPath = 256

// BlockTx is a transaction of a block and what became of it.
type BlockTx struct {
	TxID    crypto.Digest `json:"tx_id"`
	Tx      Tx            `json:"tx"`
	Receipt chain.Receipt `json:"receipt"`
}

// The details of a block that GET /v1/blocks/{height} can give.
const (
	BlockFull    = "full"    // the transactions, decoded
	BlockHeader  = "header"  // header and certificate alone
	BlockEncoded = "encoded" // the canonical bytes of block and receipts, for checking
)

// Block is GET /v1/blocks/{height}.
type Block struct {
	Header      Header        `json:"header"`
	Digest      crypto.Digest `json:"digest"`
	TxCount     int           `json:"tx_count"`
	Certificate Certificate   `json:"certificate"`
	Txs         []BlockTx     `json:"txs,omitempty"`
	BeginEvents chain.Events  `json:"begin_events,omitempty" doc:"of the begin-block list"`
	EndEvents   chain.Events  `json:"end_events,omitempty" doc:"of the end-block list"`
	Raw         []byte        `json:"raw,omitempty" doc:"detail=encoded: the block's canonical bytes"`
	RawReceipts []byte        `json:"raw_receipts,omitempty" doc:"detail=encoded: its receipts' canonical bytes, whose root is in the next header"`
}

// StateProof is what a certified state says of a key. The header carries the
// root of its parent's state, so the value is as of height header.height − 1.
type StateProof struct {
	Key         Hex         `json:"key"`
	Value       []byte      `json:"value,omitempty"`
	Present     bool        `json:"present"`
	Proof       []byte      `json:"proof" doc:"canonical bytes"`
	Header      Header      `json:"header"`
	Certificate Certificate `json:"certificate"`
}

// State is GET /v1/state/{key}. With ?proof=true, value and height are those
// that the proof is about.
type State struct {
	Key     Hex          `json:"key"`
	Value   []byte       `json:"value,omitempty"`
	Present bool         `json:"present"`
	Height  chain.Height `json:"height" doc:"the value is as of the end of this block"`
	Proof   *StateProof  `json:"proof,omitempty"`
}

// Account is GET /v1/accounts/{address}. An address that the chain has never
// seen has an empty account. With ?proof=true, everything is as of the state
// that the proof is about.
type Account struct {
	Address   chain.Address `json:"address"`
	Balance   chain.Amount  `json:"balance_nhyper"`
	Spendable chain.Amount  `json:"spendable_nhyper" doc:"the balance less what vesting holds back"`
	Nonce     Uint64        `json:"nonce" doc:"included transactions so far"`
	Pending   Uint64        `json:"pending_nonce" doc:"the nonce after those that wait in this node's mempool"`
	Height    chain.Height  `json:"height" doc:"as of the end of this block"`
	Proof     *StateProof   `json:"proof,omitempty"`
}

// SettledClaim is a paid claim and the transaction that brought it.
type SettledClaim struct {
	Height chain.Height       `json:"height"`
	TimeMs chain.TimeMs       `json:"time_ms"`
	TxID   crypto.Digest      `json:"tx_id"`
	Claim  chain.ClaimSettled `json:"claim"`
}

// WaitingClaim is a recorded claim that waits for others to agree with it.
type WaitingClaim struct {
	Height chain.Height        `json:"height"`
	TxID   crypto.Digest       `json:"tx_id"`
	Claim  chain.ClaimRecorded `json:"claim"`
}

// RefusedClaim is a claim that was refused.
type RefusedClaim struct {
	Height chain.Height        `json:"height"`
	TxID   crypto.Digest       `json:"tx_id"`
	Claim  chain.ClaimRejected `json:"claim"`
}

// LostClaim is a claim that its escrow did not cover, because of a broken acceptance. What
// was paid of it, if anything, is among the settled.
type LostClaim struct {
	Height chain.Height    `json:"height"`
	TxID   crypto.Digest   `json:"tx_id"`
	Claim  chain.ClaimLost `json:"claim"`
}

// Settlements is GET /v1/settlements/{order}: everything that claims of an
// order did on chain. An order lives off chain, so one without claims is not
// an error.
type Settlements struct {
	Order    crypto.Digest  `json:"order"`
	Settled  []SettledClaim `json:"settled"`
	Recorded []WaitingClaim `json:"recorded"`
	Rejected []RefusedClaim `json:"rejected"`
	Lost     []LostClaim    `json:"lost" doc:"for want of money in the escrow, after a broken acceptance of the cluster: nothing more is paid but a part in the cluster's bond"`
	Batches  []SettledBatch `json:"batches" doc:"of usage records that stay off chain"`
	Cost     chain.Amount   `json:"cost_nhyper" doc:"over all settled claims and batches"`
	Burned   chain.Amount   `json:"burned_nhyper" doc:"over all settled claims and batches"`
}

// NewSettlements returns those of an order without claims.
func NewSettlements(order crypto.Digest) Settlements {
	return Settlements{Order: order, Settled: []SettledClaim{}, Recorded: []WaitingClaim{}, Rejected: []RefusedClaim{}, Lost: []LostClaim{}, Batches: []SettledBatch{}}
}

// Add adds a claim's event to the list that it belongs to, and to the sums.
// Other events are left alone.
func (s *Settlements) Add(at SettledClaim, event chain.Event) error {
	if settled, ok := event.(chain.ClaimSettled); ok && settled.Order == s.Order {
		if err := s.add(settled.Cost, settled.Burned); err != nil {
			return err
		}
		at.Claim = settled
		s.Settled = append(s.Settled, at)
	}
	if settled, ok := event.(chain.BatchSettled); ok && settled.Order == s.Order {
		if err := s.add(settled.Cost, settled.Burned); err != nil {
			return err
		}
		s.Batches = append(s.Batches, SettledBatch{Height: at.Height, TimeMs: at.TimeMs, TxID: at.TxID, Batch: settled})
	}
	if recorded, ok := event.(chain.ClaimRecorded); ok && recorded.Order == s.Order {
		s.Recorded = append(s.Recorded, WaitingClaim{Height: at.Height, TxID: at.TxID, Claim: recorded})
	}
	if rejected, ok := event.(chain.ClaimRejected); ok && rejected.Order == s.Order {
		s.Rejected = append(s.Rejected, RefusedClaim{Height: at.Height, TxID: at.TxID, Claim: rejected})
	}
	if lost, ok := event.(chain.ClaimLost); ok && lost.Order == s.Order {
		s.Lost = append(s.Lost, LostClaim{Height: at.Height, TxID: at.TxID, Claim: lost})
	}
	return nil
}

func (s *Settlements) add(cost, burned chain.Amount) error {
	var okCost, okBurned bool
	s.Cost, okCost = s.Cost.Add(cost)
	if s.Burned, okBurned = s.Burned.Add(burned); !okCost || !okBurned {
		return fmt.Errorf("api: the settlements of order %s do not fit an amount", s.Order.Short())
	}
	return nil
}

// Validator is a member of the committee.
type Validator struct {
	Index        int              `json:"index" doc:"in the committee"`
	Name         string           `json:"name"`
	ConsensusKey crypto.PublicKey `json:"consensus_key"`
	NodeKey      crypto.PublicKey `json:"node_key"`
	Owner        chain.Address    `json:"owner"`
	Stake        chain.Amount     `json:"stake_nhyper" doc:"in whole HYPER, as the committee was made"`
	Weight       Uint64           `json:"weight" doc:"voting weight"`
	LeaderWeight Uint64           `json:"leader_weight" doc:"share of the views led"`
	Endpoint     string           `json:"endpoint" doc:"host:port of its transport"`
}

// Validators is GET /v1/validators.
type Validators struct {
	Epoch       uint64        `json:"epoch"`
	Committee   crypto.Digest `json:"committee"`
	TotalWeight Uint64        `json:"total_weight"`
	Quorum      Uint64        `json:"quorum" doc:"weight that a certificate needs"`
	Validators  []Validator   `json:"validators"`
}

// ChainParams is GET /v1/params.
type ChainParams struct {
	Height       chain.Height          `json:"height" doc:"as of the end of this block"`
	Params       chain.Params          `json:"params"`
	Kernels      []chain.GenesisKernel `json:"kernels" doc:"verifying keys that genesis pins"`
	InsecureKeys bool                  `json:"insecure_keys" doc:"proving keys come from a plain setup"`
}

// Supply is GET /v1/supply.
type Supply struct {
	Height chain.Height `json:"height" doc:"as of the end of this block"`
	Minted chain.Amount `json:"minted_nhyper"`
	Burned chain.Amount `json:"burned_nhyper"`
	Total  chain.Amount `json:"total_nhyper" doc:"minted less burned"`
	Parts  *SupplyParts `json:"parts,omitempty" doc:"with verify=true: recomputed from every record of the state"`
}

// SupplyParts says where the supply is.
type SupplyParts struct {
	Balances  chain.Amount `json:"balances_nhyper"`
	Escrow    chain.Amount `json:"escrow_nhyper"`
	Bonds     chain.Amount `json:"bonds_nhyper"`
	Stakes    chain.Amount `json:"stakes_nhyper"`
	Unbonding chain.Amount `json:"unbonding_nhyper" doc:"stake that left its validator and is still liable"`
	Rewards   chain.Amount `json:"rewards_nhyper" doc:"of staking, earned and not withdrawn, or to be given out"`
	Maturing  chain.Amount `json:"maturing_nhyper"`
	Deposits  chain.Amount `json:"deposits_nhyper" doc:"for the room that contracts take"`
	Sum       chain.Amount `json:"sum_nhyper" doc:"of the parts; it is the total"`
}

// FaucetRequest is the body of POST /v1/faucet.
type FaucetRequest struct {
	Address chain.Address `json:"address"`
	Amount  chain.Amount  `json:"amount_nhyper" doc:"at most the faucet's limit"`
}

// FaucetResponse names the transaction that pays.
type FaucetResponse struct {
	TxID crypto.Digest `json:"tx_id"`
}

// Health is GET /healthz.
type Health struct {
	Status string `json:"status" enum:"ok,syncing"`
}

// The events that the stream adds to those of package chain.
const (
	EventBlock = "block" // data is BlockEvent
	EventTx    = "tx"    // data is TxEvent
	// EventDropped says that a transaction left the node's mempool: data is Dropped. Only
	// the stream of one transaction (?tx_id=) has it, and for the node alone, as it is
	// nothing final: it comes at the stream's begin, if the node knows of it then, or as it
	// happens, has the cursor of what came before it, and may come again after a
	// reconnection.
	EventDropped = "dropped"
)

// StreamEvent is the data of one server-sent event of GET /v1/events. Its SSE
// id is the cursor and its SSE event name the type. Every finalized height
// gives, in this order: "block"; the begin-block list's events; for each
// transaction "tx" and then its events; the end-block list's events.
type StreamEvent struct {
	Cursor Cursor          `json:"cursor"`
	Type   string          `json:"type"`
	Height chain.Height    `json:"height"`
	TimeMs chain.TimeMs    `json:"time_ms" doc:"block time"`
	TxID   crypto.Digest   `json:"tx_id,omitzero" doc:"of the transaction that caused the event"`
	Data   json.RawMessage `json:"data" doc:"by type: BlockEvent, TxEvent, Dropped, or the event of the chain"`
}

// BlockEvent says that a block was finalized.
type BlockEvent struct {
	Digest   crypto.Digest    `json:"digest"`
	Epoch    Uint64           `json:"epoch"`
	View     Uint64           `json:"view"`
	Proposer crypto.PublicKey `json:"proposer"`
	TxCount  int              `json:"tx_count"`
	GasUsed  chain.Gas        `json:"gas_used"`
	Burned   chain.Amount     `json:"burned_nhyper"`
}

// TxEvent says that a transaction is final.
type TxEvent struct {
	Index     uint32       `json:"index" doc:"in the block"`
	Accepted  bool         `json:"accepted"`
	Rejection string       `json:"rejection,omitempty"`
	GasUsed   chain.Gas    `json:"gas_used"`
	Burned    chain.Amount `json:"burned_nhyper"`
	Tip       chain.Amount `json:"tip_nhyper"`
}

// ChainEvent returns the event of package chain that the stream event carries,
// or nil for "block", "tx" and "dropped".
func (e *StreamEvent) ChainEvent() (chain.Event, error) {
	if e.Type == EventBlock || e.Type == EventTx || e.Type == EventDropped {
		return nil, nil
	}
	list, err := json.Marshal([]tagged{{Type: e.Type, Data: e.Data}})
	if err != nil {
		return nil, fmt.Errorf("api: event %s: %w", e.Cursor, err)
	}
	var events chain.Events
	if err := json.Unmarshal(list, &events); err != nil {
		return nil, fmt.Errorf("api: event %s: %w", e.Cursor, err)
	}
	return events[0], nil
}
