package store

import (
	"encoding/binary"
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// The first byte of every key in the database. Numbers in keys are 8 or 4
// bytes, big endian, so that keys ascend with them.
const (
	tableMeta        = 'm' // name → value
	tableTip         = 'l' // height → block digest ‖ state root ‖ bytes of the blocks up to it
	tableHeader      = 'h' // height → header
	tableBlock       = 'b' // height → block
	tableCertificate = 'c' // height → certificate
	tableReceipts    = 'r' // height → receipts
	tableDigest      = 'd' // block digest → height
	tableTx          = 't' // transaction id → height ‖ index, up to the version of the state
	tableOrder       = 'o' // order id ‖ height ‖ index → nothing
	tableState       = 's' // key → value; no key → version of these, and of the tree
	tableNode        = 'n' // node key → record of the tree
	tableStale       = 'x' // version ‖ part → keys of the nodes that it made stale
	tableHeld        = 'y' // version of a state that is kept ‖ version ‖ part → keys of nodes that version made stale and that state needs
	tableChanges     = 'k' // height → changes, after the version of the state
	tableBlockTxs    = 'i' // height → ids of the block's transactions, after the version of the state
	tableEpoch       = 'e' // epoch → height of its last block ‖ what shows its end
	tablePoint       = 'p' // height → bytes of the blocks before it
)

// Names in tableMeta.
const (
	metaFormat = "format" // → formatVersion, one byte
	metaLatest = "latest" // → height
	metaPruned = "pruned" // → first version that is still whole
	metaGoal   = "goal"   // → version ‖ goal of the import under way
	metaImport = "import" // → its progress
)

// formatVersion is the version of this layout. A Store refuses any other, but for
// the two before it, and marks those as this one from then on: formatAllTxs has all
// transactions in tableTx, formatNoPoints besides no points, and tips without bytes.
const (
	formatVersion  = 5
	formatAllTxs   = 4
	formatNoPoints = 3
)

// tipBytes is how long a tip is without the bytes of the blocks.
const tipBytes = 2 * crypto.DigestSize

func metaKey(name string) []byte { return append([]byte{tableMeta}, name...) }

func heightKey(table byte, height chain.Height) []byte {
	return binary.BigEndian.AppendUint64([]byte{table}, uint64(height))
}

func digestKey(table byte, id crypto.Digest) []byte { return append([]byte{table}, id[:]...) }

func stateKey(key []byte) []byte {
	return append(append(make([]byte, 0, 1+len(key)), tableState), key...)
}

const positionBytes = 12

// Position is where a transaction is.
type Position struct {
	Height chain.Height
	Index  uint32 // in the block, from 0
}

// appendPosition appends height ‖ index.
func appendPosition(dst []byte, p Position) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(dst, uint64(p.Height)), p.Index)
}

func positionOf(data []byte) (Position, error) {
	if len(data) != positionBytes {
		return Position{}, fmt.Errorf("%w: position of %d bytes", ErrCorrupt, len(data))
	}
	return Position{
		Height: chain.Height(binary.BigEndian.Uint64(data)),
		Index:  binary.BigEndian.Uint32(data[8:]),
	}, nil
}

func numberOf(data []byte) (uint64, error) {
	if len(data) != 8 {
		return 0, fmt.Errorf("%w: number of %d bytes", ErrCorrupt, len(data))
	}
	return binary.BigEndian.Uint64(data), nil
}

func numberBytes(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
