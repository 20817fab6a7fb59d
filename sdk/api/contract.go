package api

import (
	"encoding/json"
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// StoreCode is the data of "store_code".
type StoreCode struct {
	Checksum crypto.Digest `json:"checksum" doc:"SHA-256 of the whole code"`
	Size     Uint64        `json:"size" doc:"bytes of the whole code, at most 819,200"`
	Offset   Uint64        `json:"offset" doc:"of the part; parts come in order, all but the last of 98,304 bytes"`
	Part     []byte        `json:"part"`
}

// InstantiateContract is the data of "instantiate_contract".
type InstantiateContract struct {
	Code       Uint64         `json:"code" doc:"the code's number"`
	Admin      *chain.Address `json:"admin,omitempty" doc:"who may migrate it; none: nobody, for good"`
	Label      string         `json:"label" maxLength:"128"`
	Msg        []byte         `json:"msg" doc:"JSON, for the contract to read"`
	Funds      chain.Amount   `json:"funds_nhyper"`
	Salt       []byte         `json:"salt" doc:"for an address that can be told before; empty: the chain counts"`
	MaxDeposit chain.Amount   `json:"max_deposit_nhyper" doc:"the most that the fee's payer pays for room, less what comes back"`
}

// ExecuteContract is the data of "execute_contract".
type ExecuteContract struct {
	Contract   chain.Address `json:"contract"`
	Msg        []byte        `json:"msg" doc:"JSON, for the contract to read"`
	Funds      chain.Amount  `json:"funds_nhyper"`
	MaxDeposit chain.Amount  `json:"max_deposit_nhyper" doc:"the most that the fee's payer pays for room, less what comes back"`
}

// MigrateContract is the data of "migrate_contract".
type MigrateContract struct {
	Contract   chain.Address `json:"contract"`
	Code       Uint64        `json:"code" doc:"the new code's number"`
	Msg        []byte        `json:"msg" doc:"JSON, for the contract to read"`
	MaxDeposit chain.Amount  `json:"max_deposit_nhyper" doc:"the most that the fee's payer pays for room, less what comes back"`
}

// SetContractAdmin is the data of "set_contract_admin".
type SetContractAdmin struct {
	Contract chain.Address  `json:"contract"`
	Admin    *chain.Address `json:"admin,omitempty" doc:"none: nobody, for good"`
}

// PinCode is the data of "pin_code".
type PinCode struct {
	Code    Uint64       `json:"code" doc:"the code's number"`
	Periods Uint64       `json:"periods" doc:"days of UTC, 1 to 30, behind those that it is pinned for already, or from today on"`
	MaxBurn chain.Amount `json:"max_burn_nhyper" doc:"the most that is burned for it"`
}

// Contract is GET /v1/contracts/{address}: what the chain keeps of a contract.
type Contract struct {
	Address chain.Address  `json:"address"`
	Code    Uint64         `json:"code" doc:"the code's number"`
	Creator chain.Address  `json:"creator"`
	Admin   *chain.Address `json:"admin,omitempty" doc:"who may migrate it; none: nobody, for good"`
	Label   string         `json:"label"`
	Created chain.Height   `json:"created_height"`
	Balance chain.Amount   `json:"balance_nhyper" doc:"as of the same block, and not of the proof"`
	Bytes   Uint64         `json:"bytes" doc:"of room that it takes"`
	Pool    chain.Amount   `json:"pool_nhyper" doc:"that was paid for the room"`
	Height  chain.Height   `json:"height" doc:"as of the end of this block"`
	Proof   *StateProof    `json:"proof,omitempty" doc:"with proof=true: of the contract's record"`
}

// ContractCode is GET /v1/codes/{code}: what the chain keeps of code.
type ContractCode struct {
	Code     Uint64        `json:"code"`
	Creator  chain.Address `json:"creator"`
	Checksum crypto.Digest `json:"checksum" doc:"SHA-256 of the code as it was uploaded"`
	Size     Uint64        `json:"size" doc:"in bytes"`
	Callable chain.Height  `json:"callable_height" doc:"the first at which its contracts run, if it is compiled by then"`
	Ready    Uint64        `json:"ready_progress_ms" doc:"of the chain's progress, which is its time without that in which it stood: from when on it is compiled"`
	Wait     Uint64        `json:"wait_ms" doc:"how much of that progress is missing; as of the latest block, and not of the proof"`
	Native   Uint64        `json:"native_bytes" doc:"that it is held to take in memory, by which it pays for loads and pins; not of the proof"`
	PinnedTo chain.TimeMs  `json:"pinned_until_ms,omitempty" doc:"to when every node keeps it in memory, as of the latest block and not of the proof, and calls go by that from the tenth block after its pin on; none: it is not pinned"`
	Height   chain.Height  `json:"height" doc:"as of the end of this block"`
	Proof    *StateProof   `json:"proof,omitempty" doc:"with proof=true: of the code's record"`
}

// ContractSchema is GET /v1/codes/{code}/schema: what code says that its contracts' messages look like.
type ContractSchema struct {
	Code     Uint64          `json:"code"`
	Checksum crypto.Digest   `json:"checksum" doc:"SHA-256 of the code as it was uploaded, in which the schema is"`
	Schema   json.RawMessage `json:"schema" doc:"JSON Schema (draft 7): what each entry takes under its name, what queries answer under responses"`
	Height   chain.Height    `json:"height" doc:"as of the end of this block"`
}

// ContractAnswer is the answer to POST /v1/contracts/{address}/query.
type ContractAnswer struct {
	Data    []byte       `json:"data" doc:"what the contract answered: mostly JSON"`
	GasUsed chain.Gas    `json:"gas_used" doc:"that the same would cost in a transaction"`
	Height  chain.Height `json:"height" doc:"as of the end of this block"`
}

// MaxContractQuery is how long a query may be, in bytes.
const MaxContractQuery = 64 << 10

func contractCases() []Case {
	return []Case{
		caseOf[StoreCode]("store_code"), caseOf[InstantiateContract]("instantiate_contract"), caseOf[ExecuteContract]("execute_contract"),
		caseOf[MigrateContract]("migrate_contract"), caseOf[SetContractAdmin]("set_contract_admin"), caseOf[PinCode]("pin_code"),
	}
}

// contractData is the data of a message about contracts.
func contractData(m any) any {
	switch m := m.(type) {
	case chain.StoreCode:
		return StoreCode{Checksum: m.Checksum, Size: Uint64(m.Size), Offset: Uint64(m.Offset), Part: m.Part}
	case chain.InstantiateContract:
		return InstantiateContract{Code: Uint64(m.Code), Admin: m.Admin, Label: m.Label, Msg: listOf(m.Msg), Funds: m.Funds, Salt: listOf(m.Salt), MaxDeposit: m.MaxDeposit}
	case chain.ExecuteContract:
		return ExecuteContract{Contract: m.Contract, Msg: listOf(m.Msg), Funds: m.Funds, MaxDeposit: m.MaxDeposit}
	case chain.MigrateContract:
		return MigrateContract{Contract: m.Contract, Code: Uint64(m.Code), Msg: listOf(m.Msg), MaxDeposit: m.MaxDeposit}
	case chain.SetContractAdmin:
		return SetContractAdmin{Contract: m.Contract, Admin: m.Admin}
	case chain.PinCode:
		return PinCode{Code: Uint64(m.Code), Periods: Uint64(m.Periods), MaxBurn: m.MaxBurn}
	}
	panic(fmt.Sprintf("api: message of type %T", m))
}

// readContract reads a message about contracts, and is false if the name is of none.
func readContract(t tagged) (chain.Msg, bool, error) {
	switch t.Type {
	case "store_code":
		d, err := dataOf[StoreCode](t)
		return chain.StoreCode{Checksum: d.Checksum, Size: uint64(d.Size), Offset: uint64(d.Offset), Part: d.Part}, true, err
	case "instantiate_contract":
		d, err := dataOf[InstantiateContract](t)
		return chain.InstantiateContract{Code: uint64(d.Code), Admin: d.Admin, Label: d.Label, Msg: listOf(d.Msg), Funds: d.Funds, Salt: listOf(d.Salt), MaxDeposit: d.MaxDeposit}, true, err
	case "execute_contract":
		d, err := dataOf[ExecuteContract](t)
		return chain.ExecuteContract{Contract: d.Contract, Msg: listOf(d.Msg), Funds: d.Funds, MaxDeposit: d.MaxDeposit}, true, err
	case "migrate_contract":
		d, err := dataOf[MigrateContract](t)
		return chain.MigrateContract{Contract: d.Contract, Code: uint64(d.Code), Msg: listOf(d.Msg), MaxDeposit: d.MaxDeposit}, true, err
	case "set_contract_admin":
		d, err := dataOf[SetContractAdmin](t)
		return chain.SetContractAdmin{Contract: d.Contract, Admin: d.Admin}, true, err
	case "pin_code":
		d, err := dataOf[PinCode](t)
		return chain.PinCode{Code: uint64(d.Code), Periods: uint64(d.Periods), MaxBurn: d.MaxBurn}, true, err
	}
	return nil, false, nil
}
