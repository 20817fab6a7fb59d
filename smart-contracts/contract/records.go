package contract

import (
	"encoding/binary"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// Prefix begins every key of this package.
const Prefix = 'w'

const (
	kindNumbers  = 'n'
	kindCode     = 'k'
	kindBytes    = 'b'
	kindDebt     = 'd'
	kindLoads    = 'l'
	kindLoaded   = 'r'
	kindPinned   = 'm'
	kindUpload   = 'u'
	kindPart     = 'p'
	kindContract = 'c'
	kindStorage  = 's'

	storageKeyBytes = 2 + len(chain.Address{})
)

// Numbers are how many codes and contracts there have been.
type Numbers struct {
	_         struct{} `cbor:",toarray"`
	Codes     uint64
	Contracts uint64
}

// Code is what the chain keeps of code that contracts are made of.
type Code struct {
	_        struct{} `cbor:",toarray"`
	Creator  chain.Address
	Checksum crypto.Digest // SHA-256 of the code as it was uploaded
	Size     uint64
	Callable chain.Height // the first at which it runs, if it is ready by then
	Ready    uint64       // of Env.ProgressMs, from which on every node has compiled it
}

// Upload is code that its sender has begun to bring.
type Upload struct {
	_        struct{} `cbor:",toarray"`
	Checksum crypto.Digest
	Size     uint64
	Have     uint64
}

// Contract is what the chain keeps of a contract.
type Contract struct {
	_       struct{} `cbor:",toarray"`
	Code    uint64
	Creator chain.Address
	Admin   *chain.Address // who may migrate it; nil: nobody, for good
	Label   string
	Created chain.Height
	Bytes   uint64       // of room that it takes
	Pool    chain.Amount // that was paid for it
	Epoch   uint64       // of RemovedBlocks blocks, the last in which keys were removed
	Removed uint64       // keys, in that epoch
	Before  uint64       // keys, in the epoch before it
}

// removedAt is how many removed keys a walk over the contract's is held to pass at a height.
func (c *Contract) removedAt(h chain.Height) uint64 {
	switch c.epochsSince(h) {
	case 0:
		return c.Removed + c.Before
	case 1:
		return c.Removed
	default:
		return 0
	}
}

// remove notes removed keys.
func (c *Contract) remove(h chain.Height, keys uint64) {
	switch c.epochsSince(h) {
	case 0:
		c.Removed += keys
	case 1:
		c.Removed, c.Before = keys, c.Removed
	default:
		c.Removed, c.Before = keys, 0
	}
	c.Epoch = uint64(h) / RemovedBlocks
}

func (c *Contract) epochsSince(h chain.Height) uint64 {
	epoch := uint64(h) / RemovedBlocks
	if epoch < c.Epoch {
		panic("contract: a record of a height to come")
	}
	return epoch - c.Epoch
}

func key(kind byte, parts ...[]byte) []byte {
	return slices.Concat(append([][]byte{{Prefix, kind}}, parts...)...)
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// NumbersKey returns the key of the Numbers.
func NumbersKey() []byte { return key(kindNumbers) }

// CodeKey returns the key of code.
func CodeKey(code uint64) []byte { return key(kindCode, number(code)) }

// BytesKey returns the key of the bytes of code.
func BytesKey(checksum crypto.Digest) []byte { return key(kindBytes, checksum[:]) }

// DebtKey returns the key of the Debt.
func DebtKey() []byte { return key(kindDebt) }

// LoadsKey returns the key of the Loads.
func LoadsKey() []byte { return key(kindLoads) }

// LoadedKey returns the key of when code was loaded last.
func LoadedKey(checksum crypto.Digest) []byte { return key(kindLoaded, checksum[:]) }

// PinnedKey returns the key of how much native code is pinned.
func PinnedKey() []byte { return key(kindPinned) }

// UploadKey returns the key of what somebody has begun to bring.
func UploadKey(of chain.Address) []byte { return key(kindUpload, of[:]) }

func partKey(of chain.Address, part byte) []byte { return key(kindPart, of[:], []byte{part}) }

// ContractKey returns the key of a contract.
func ContractKey(a chain.Address) []byte { return key(kindContract, a[:]) }

// StorageKey returns the key of what a contract keeps under a key of its own.
func StorageKey(a chain.Address, own []byte) []byte { return key(kindStorage, a[:], own) }

// CodeOf returns code, and false if there is none of that number.
func CodeOf(r state.Reader, code uint64) (Code, bool) { return state.Load[Code](r, CodeKey(code)) }

// ContractOf returns the contract of an address, and false if there is none.
func ContractOf(r state.Reader, a chain.Address) (Contract, bool) {
	return state.Load[Contract](r, ContractKey(a))
}

// NumbersOf returns how many codes and contracts there have been.
func NumbersOf(r state.Reader) Numbers {
	numbers, _ := state.Load[Numbers](r, NumbersKey()) // none: zero
	return numbers
}

// DecodeContract decodes a contract's record, for those who checked its proof.
func DecodeContract(value []byte) (c Contract, err error) {
	err = codec.Unmarshal(value, &c, state.MaxValueBytes)
	return c, err
}

// DecodeCode decodes a code's record, for those who checked its proof.
func DecodeCode(value []byte) (c Code, err error) {
	err = codec.Unmarshal(value, &c, state.MaxValueBytes)
	return c, err
}

// ValueOf says what the record under a key of this package holds.
func ValueOf(k, value []byte) (tokens.Class, chain.Amount) {
	if k[1] != kindContract {
		return tokens.HoldsNothing, chain.Amount{}
	}
	return tokens.HoldsDeposit, state.Decode[Contract](k, value).Pool
}
