package crypto

import (
	"sync"

	"github.com/zeebo/blake3"
)

// Domain is one purpose of hashing or signing: a Blake3 key-derivation
// context. Compare domains by pointer.
type Domain struct {
	context string
	pool    sync.Pool // of *blake3.Hasher, keyed by the context

	wide sync.Once
	key  *[8][lanes]uint32 // set by wide: see chainKey
}

const contextPrefix = "hypermesh 2026-11 v1 "

var contexts = map[string]bool{}

// newDomain registers a context. It runs only while package variables are
// initialised, so the map needs no lock and is never written again.
func newDomain(purpose string) *Domain {
	context := contextPrefix + purpose
	if contexts[context] {
		panic("crypto: two domains named " + context)
	}
	contexts[context] = true
	return domainOf(context)
}

func domainOf(context string) *Domain {
	d := &Domain{context: context}
	d.pool.New = func() any { return blake3.NewDeriveKey(context) }
	return d
}

// Context returns the full Blake3 context string.
func (d *Domain) Context() string { return d.context }

// Every domain there is. Adding one is cheap; changing one forks the chain.
var (
	// Ledger.
	DomainTxBody      = newDomain("transaction body, signed")
	DomainTxID        = newDomain("transaction id")
	DomainHeader      = newDomain("block header")
	DomainTxRoot      = newDomain("transactions root")
	DomainReceiptRoot = newDomain("receipts root")
	DomainExtra       = newDomain("block extra")
	DomainAddress     = newDomain("account address")
	DomainModule      = newDomain("module address")
	DomainGenesis     = newDomain("genesis")
	DomainStateKey    = newDomain("state key, leaf position")
	DomainStateValue  = newDomain("state value")
	DomainStateLeaf   = newDomain("state leaf node")
	DomainStateInner  = newDomain("state inner node")
	DomainMerkleLeaf  = newDomain("list leaf")
	DomainMerkleInner = newDomain("list inner node")
	DomainPossession  = newDomain("node key possession")
	DomainAffiliation = newDomain("provider node affiliation")
	DomainReceipt     = newDomain("receipt")
	DomainVRFInput    = newDomain("vrf input")
	DomainParams      = newDomain("parameters")

	// Storage.
	DomainStoreFile   = newDomain("database file")
	DomainStateExport = newDomain("state export file")

	// Consensus.
	DomainNotarize  = newDomain("consensus NOTARIZE")
	DomainNullify   = newDomain("consensus NULLIFY")
	DomainFinalize  = newDomain("consensus FINALIZE")
	DomainCommittee = newDomain("consensus committee")
	DomainDelegate  = newDomain("consensus sentry delegation")

	// Settlement.
	DomainOrder       = newDomain("order")
	DomainAcceptance  = newDomain("order acceptance")
	DomainBid         = newDomain("bid")
	DomainUsage       = newDomain("usage receipt")
	DomainAttestation = newDomain("cluster attestation")
	DomainCountersign = newDomain("consumer's countersignature of a receipt")
	DomainOutputKey   = newDomain("key of a sealed output")
	DomainClaim       = newDomain("claim")
	DomainResult      = newDomain("job result")
	DomainJobSpec     = newDomain("job spec")
	DomainCancel      = newDomain("order cancellation")
	DomainChannel     = newDomain("payment channel")
	DomainVoucher     = newDomain("payment voucher")
	DomainMix         = newDomain("randomness mix")
	DomainAward       = newDomain("lease award")
	DomainBatch       = newDomain("usage batch attestation")
	DomainMeter       = newDomain("metering key possession")
	DomainDraw        = newDomain("draw of nodes")
	DomainPanel       = newDomain("panel")
	DomainVote        = newDomain("panel vote")
	DomainUsageFetch  = newDomain("request for usage records")
	DomainSlate       = newDomain("slate of bidders")
	DomainRun         = newDomain("commitment to a run, signed")
	DomainCommitment  = newDomain("commitment to a run")
	DomainService     = newDomain("peer's report of a lease, signed")
	DomainProbe       = newDomain("answer to a probe, signed")
	DomainHardware    = newDomain("verdict about a node's hardware, signed")
	DomainLane        = newDomain("lane of a hardware benchmark")
	DomainLaneTree    = newDomain("inner node over a hardware benchmark")
	DomainShown       = newDomain("answer to a hardware challenge, signed")
	DomainQuestion    = newDomain("question to a challenged node, signed")
	DomainOpened      = newDomain("opening of a hardware challenge, signed")
	DomainHome        = newDomain("home cluster of a node, signed")
	DomainEvidence    = newDomain("mark of reported evidence")
	DomainYield       = newDomain("result and usage of a run")
	DomainMemory      = newDomain("memory that a run ends with")
	DomainStrand      = newDomain("secret of a run, for an order")
	DomainLink        = newDomain("link of a run's trace")
	DomainTrace       = newDomain("what a run gives, with its trace")

	// Proofs.
	DomainStatement    = newDomain("proof statement")
	DomainBind         = newDomain("proof binding")
	DomainVerifyingKey = newDomain("verifying key")
	DomainProvingKey   = newDomain("proving key file")
	DomainCircuit      = newDomain("circuit")
	DomainCircuitFile  = newDomain("circuit file")
	DomainMeterNonce   = newDomain("metering key and nonce")
	DomainProofBatch   = newDomain("proof batch factors")
	DomainCeremony     = newDomain("ceremony file")

	// Nexus.
	DomainBlob      = newDomain("blob")
	DomainBlobChunk = newDomain("blob chunk")
	DomainBlobList  = newDomain("blob chunk list")
	DomainNexusTie  = newDomain("auction tie break")
	DomainWalletKey = newDomain("wallet derived key")
	DomainServers   = newDomain("change of a cluster's servers")
	DomainSettings  = newDomain("change of a cluster's settings")
	DomainAddresses = newDomain("where a cluster's servers answer")

	// Contracts.
	DomainCompiled = newDomain("compiled contract, on disk")
	// DomainCompiledKey makes the key that compiled contracts are authenticated with out of
	// the node's.
	DomainCompiledKey = newDomain("compiled contracts, a node's key")
	// DomainContractCode names a contract's code and the weights it is prepared with.
	DomainContractCode = newDomain("contract code, prepared")

	// Commands in containers.
	DomainExecTicket = newDomain("way to a node that runs a job")
	DomainExec       = newDomain("command in a container")

	// Transport.
	DomainStatelessReset = newDomain("transport stateless reset key")
)
