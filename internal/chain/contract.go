package chain

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Limits of what is said to contracts and by them.
const (
	// MaxCodeBytes is the largest module that is stored.
	MaxCodeBytes = 800 << 10
	// MaxCodePart is how much of one a message brings: a transaction holds no more.
	MaxCodePart = 96 << 10
	// MaxContractLabel bounds the name that people know a contract by.
	MaxContractLabel = 128
	// MaxContractSalt bounds what makes a predictable address.
	MaxContractSalt = 64
	// MaxPinPeriods is for how many periods, from that of its block on, code is pinned at most.
	MaxPinPeriods = 30
)

// StoreCode brings a part of a contract's code, the whole if it is as long as Size. Parts come
// in order; each is of the sender's one upload, and one at offset 0 begins it anew. The last
// makes the code, under the chain's next number.
type StoreCode struct {
	_        struct{}      `cbor:",toarray"`
	Checksum crypto.Digest // SHA-256 of the whole
	Size     uint64        // bytes of the whole; 1 to MaxCodeBytes
	Offset   uint64        // of the part
	Part     []byte        // 1 to MaxCodePart bytes
}

// InstantiateContract makes a contract of code.
type InstantiateContract struct {
	_          struct{} `cbor:",toarray"`
	Code       uint64
	Admin      *Address // who may migrate it; nil: nobody, for good
	Label      string   // 1 to MaxContractLabel bytes
	Msg        []byte   // JSON, for the contract to read
	Funds      Amount
	Salt       []byte // ≤ MaxContractSalt bytes, for an address that can be told before; none: the chain counts
	MaxDeposit Amount // the most that the fee's payer pays for room, less what comes back
}

// ExecuteContract calls a contract.
type ExecuteContract struct {
	_          struct{} `cbor:",toarray"`
	Contract   Address
	Msg        []byte // JSON, for the contract to read
	Funds      Amount
	MaxDeposit Amount // the most that the fee's payer pays for room, less what comes back
}

// MigrateContract gives a contract other code. Its admin sends it.
type MigrateContract struct {
	_          struct{} `cbor:",toarray"`
	Contract   Address
	Code       uint64
	Msg        []byte // JSON, for the contract to read
	MaxDeposit Amount // the most that the fee's payer pays for room, less what comes back
}

// SetContractAdmin gives a contract another admin, or none, for good. Its admin sends it.
type SetContractAdmin struct {
	_        struct{} `cbor:",toarray"`
	Contract Address
	Admin    *Address // nil: nobody
}

// PinCode has every node keep code in memory for some periods more, which its sender pays for. Anybody
// may pin any code.
type PinCode struct {
	_       struct{} `cbor:",toarray"`
	Code    uint64
	Periods uint64 // 1 to MaxPinPeriods, behind those that it is pinned for already, or from that of the block on
	MaxBurn Amount // the most that is burned for it
}

func (StoreCode) sealedMsg()           {}
func (InstantiateContract) sealedMsg() {}
func (ExecuteContract) sealedMsg()     {}
func (MigrateContract) sealedMsg()     {}
func (SetContractAdmin) sealedMsg()    {}
func (PinCode) sealedMsg()             {}

// Kinds of contracts' messages and events, among others' numbers.
const (
	kindStoreCode           uint8 = 45
	kindInstantiateContract uint8 = 46
	kindExecuteContract     uint8 = 51
	kindMigrateContract     uint8 = 52
	kindSetContractAdmin    uint8 = 53
	kindPinCode             uint8 = 55

	kindCodeUploaded         uint8 = 60
	kindCodeStored           uint8 = 62
	kindContractInstantiated uint8 = 64
	kindContractExecuted     uint8 = 65
	kindContractMigrated     uint8 = 66
	kindContractAdminSet     uint8 = 67
	kindContractReplied      uint8 = 68
	kindContractEmitted      uint8 = 69
	kindContractStored       uint8 = 70
	kindContractBurned       uint8 = 71
	kindCodePinned           uint8 = 77
)

// CodeUploaded says that a part of an upload is there, and others are missing.
type CodeUploaded struct {
	_        struct{}      `cbor:",toarray"`
	Uploader Address       `json:"uploader"`
	Checksum crypto.Digest `json:"checksum"`
	Have     Number        `json:"have_bytes"`
	Size     Number        `json:"size_bytes"`
	Burned   Amount        `json:"burned_nhyper"` // for the room that the part takes
}

// CodeStored says that code has a number.
type CodeStored struct {
	_        struct{}      `cbor:",toarray"`
	Code     Number        `json:"code"`
	Creator  Address       `json:"creator"`
	Checksum crypto.Digest `json:"checksum"` // SHA-256
	Size     Number        `json:"size_bytes"`
	Callable Number        `json:"callable_height"` // the first at which contracts of it run
	Wait     Number        `json:"wait_ms"`         // of the chain's progress after this block, which nodes have to compile it
	Burned   Amount        `json:"burned_nhyper"`   // for the room that it takes
}

// ContractInstantiated says that there is a contract.
type ContractInstantiated struct {
	_        struct{} `cbor:",toarray"`
	Contract Address  `json:"contract"`
	Code     Number   `json:"code"`
	Creator  Address  `json:"creator"`
	Admin    *Address `json:"admin,omitempty"`
	Label    string   `json:"label"`
	Funds    Amount   `json:"funds_nhyper"`
	Data     []byte   `json:"data"` // that it answered
}

// ContractExecuted says that a contract was called.
type ContractExecuted struct {
	_        struct{} `cbor:",toarray"`
	Contract Address  `json:"contract"`
	Sender   Address  `json:"sender"`
	Funds    Amount   `json:"funds_nhyper"`
	Data     []byte   `json:"data"` // that it answered
}

// ContractMigrated says that a contract has other code.
type ContractMigrated struct {
	_        struct{} `cbor:",toarray"`
	Contract Address  `json:"contract"`
	Sender   Address  `json:"sender"`
	From     Number   `json:"from_code"`
	Code     Number   `json:"code"`
	Data     []byte   `json:"data"` // that it answered
}

// ContractAdminSet says that a contract has another admin, or none any more.
type ContractAdminSet struct {
	_        struct{} `cbor:",toarray"`
	Contract Address  `json:"contract"`
	Admin    *Address `json:"admin,omitempty"`
}

// ContractReplied says that a contract was told how its submessage ended.
type ContractReplied struct {
	_        struct{} `cbor:",toarray"`
	Contract Address  `json:"contract"`
	ID       Number   `json:"id"`
	Failure  string   `json:"failure"` // codespace and code of the submessage that failed; empty: it took effect
}

// ContractAttribute is a word of what a contract says.
type ContractAttribute struct {
	_     struct{} `cbor:",toarray"`
	Key   string   `json:"key"`
	Value string   `json:"value"`
}

// ContractEmitted is what a contract says that happened.
type ContractEmitted struct {
	_          struct{}            `cbor:",toarray"`
	Contract   Address             `json:"contract"`
	Type       string              `json:"type"` // "wasm", or the contract's own behind "wasm-"
	Attributes []ContractAttribute `json:"attributes"`
}

// ContractStored says that what a contract keeps takes more room, or less, and who paid for it
// or got a part of what had been paid.
type ContractStored struct {
	_        struct{} `cbor:",toarray"`
	Contract Address  `json:"contract"`
	Payer    Address  `json:"payer"` // of the transaction's fee
	Bytes    Number   `json:"bytes"` // that it keeps now
	Pool     Amount   `json:"pool_nhyper"`
	Paid     Amount   `json:"paid_nhyper"`
	Refunded Amount   `json:"refunded_nhyper"`
}

// ContractBurned says that a contract destroyed a part of what it has.
type ContractBurned struct {
	_        struct{} `cbor:",toarray"`
	Contract Address  `json:"contract"`
	Amount   Amount   `json:"amount_nhyper"`
}

// CodePinned says that every node keeps code in memory, and until when.
type CodePinned struct {
	_        struct{}      `cbor:",toarray"`
	Code     Number        `json:"code"`
	Checksum crypto.Digest `json:"checksum"` // of all code that is the same, SHA-256
	Sender   Address       `json:"sender"`
	Native   Number        `json:"native_bytes"`
	Until    TimeMs        `json:"until_ms"` // the end of its last period
	Burned   Amount        `json:"burned_nhyper"`
}

func (CodeUploaded) sealedEvent()         {}
func (CodeStored) sealedEvent()           {}
func (ContractInstantiated) sealedEvent() {}
func (ContractExecuted) sealedEvent()     {}
func (ContractMigrated) sealedEvent()     {}
func (ContractAdminSet) sealedEvent()     {}
func (ContractReplied) sealedEvent()      {}
func (ContractEmitted) sealedEvent()      {}
func (ContractStored) sealedEvent()       {}
func (ContractBurned) sealedEvent()       {}
func (CodePinned) sealedEvent()           {}

// checkContract checks the form of a message about contracts.
func checkContract(m any) error {
	switch m := m.(type) {
	case StoreCode:
		return m.check()
	case InstantiateContract:
		return m.check()
	case MigrateContract:
		return m.check()
	case PinCode:
		return m.check()
	}
	return nil
}

func (m *StoreCode) check() error {
	switch {
	case m.Size == 0 || m.Size > MaxCodeBytes:
		return fmt.Errorf("%w: size is %d, want 1 to %d", ErrLimit, m.Size, MaxCodeBytes)
	case len(m.Part) == 0 || len(m.Part) > MaxCodePart:
		return fmt.Errorf("%w: part has %d bytes, want 1 to %d", ErrLimit, len(m.Part), MaxCodePart)
	case m.Offset >= m.Size || m.Size-m.Offset < uint64(len(m.Part)):
		return fmt.Errorf("%w: part at %d of %d bytes reaches beyond %d", ErrLimit, m.Offset, len(m.Part), m.Size)
	case m.Offset%MaxCodePart != 0 || uint64(len(m.Part)) != min(m.Size-m.Offset, MaxCodePart):
		return fmt.Errorf("%w: parts but the last have %d bytes", ErrLimit, MaxCodePart)
	}
	return nil
}

func (m *InstantiateContract) check() error {
	switch {
	case m.Code == 0:
		return fmt.Errorf("%w: code 0", ErrLimit)
	case m.Label == "":
		return fmt.Errorf("%w: the label is empty", ErrLimit)
	case len(m.Salt) > MaxContractSalt:
		return limitError("salt", len(m.Salt), MaxContractSalt)
	}
	return checkText("label", m.Label, MaxContractLabel)
}

func (m *MigrateContract) check() error {
	if m.Code == 0 {
		return fmt.Errorf("%w: code 0", ErrLimit)
	}
	return nil
}

func (m *PinCode) check() error {
	switch {
	case m.Code == 0:
		return fmt.Errorf("%w: code 0", ErrLimit)
	case m.Periods == 0 || m.Periods > MaxPinPeriods:
		return fmt.Errorf("%w: %d periods, want 1 to %d", ErrLimit, m.Periods, MaxPinPeriods)
	}
	return nil
}
