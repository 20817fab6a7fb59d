package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"sort"
)

var errChangeList = errors.New("state: list of changes is corrupt")

// ChangeList is changes in one piece, as they wait for the disk by the hundred
// thousand: a change takes its bytes and four more, and has no pointer for the garbage
// collector to follow. It never changes. The piece is for each change the key's length
// (uvarint), the key, the value's length plus one (uvarint; zero: deleted), the value.
type ChangeList struct {
	data []byte
	at   []uint32 // where each begins
}

// NewChangeList returns a copy of changes.
func NewChangeList(changes []Change) ChangeList {
	size := 0
	for i := range changes {
		c := &changes[i]
		size += uvarintSize(len(c.Key)) + len(c.Key) + 1
		if !c.Deleted {
			size += uvarintSize(len(c.Value)+1) - 1 + len(c.Value)
		}
	}
	if uint64(size) > math.MaxUint32 {
		panic(fmt.Sprintf("state: changes of %d bytes", size))
	}
	l := ChangeList{data: make([]byte, 0, size), at: make([]uint32, len(changes))}
	for i := range changes {
		c := &changes[i]
		l.at[i] = uint32(len(l.data))
		l.data = append(binary.AppendUvarint(l.data, uint64(len(c.Key))), c.Key...)
		if c.Deleted {
			l.data = binary.AppendUvarint(l.data, 0)
			continue
		}
		l.data = append(binary.AppendUvarint(l.data, uint64(len(c.Value))+1), c.Value...)
	}
	if len(l.data) != size {
		panic("state: a list of changes is not as long as it was to be")
	}
	return l
}

// ReadChangeList returns the list whose bytes are data, which it keeps. It is an error if
// they are none's.
func ReadChangeList(data []byte) (ChangeList, error) {
	l := ChangeList{data: data}
	if uint64(len(data)) > math.MaxUint32 {
		return l, fmt.Errorf("%w: %d bytes", errChangeList, len(data))
	}
	for rest := data; len(rest) > 0; {
		l.at = append(l.at, uint32(len(data)-len(rest)))
		var ok bool
		if _, rest, ok = cutBytes(rest, 0); !ok {
			return ChangeList{}, fmt.Errorf("%w: key of change %d", errChangeList, len(l.at)-1)
		}
		if len(rest) > 0 && rest[0] == 0 {
			rest = rest[1:]
		} else if _, rest, ok = cutBytes(rest, 1); !ok {
			return ChangeList{}, fmt.Errorf("%w: value of change %d", errChangeList, len(l.at)-1)
		}
	}
	return l, nil
}

// Bytes returns the piece. It must not be modified.
func (l ChangeList) Bytes() []byte { return l.data }

// Len returns how many changes there are.
func (l ChangeList) Len() int { return len(l.at) }

// At returns the i-th change, whose key and value are parts of the list.
func (l ChangeList) At(i int) Change { return l.AtPlace(l.at[i]) }

// Key returns the key of the i-th change, a part of the list.
func (l ChangeList) Key(i int) []byte { return l.KeyOf(l.at[i]) }

// Place names the i-th change for AtPlace, KeyOf and Look, which read the piece alone.
func (l ChangeList) Place(i int) uint32 { return l.at[i] }

// AtPlace is At of the change that a Place names.
func (l ChangeList) AtPlace(place uint32) (c Change) {
	rest := l.data[place:]
	c.Key, rest, _ = cutBytes(rest, 0)
	if c.Deleted = rest[0] == 0; !c.Deleted {
		c.Value, _, _ = cutBytes(rest, 1)
	}
	return c
}

// KeyOf is Key of the change that a Place names.
func (l ChangeList) KeyOf(place uint32) []byte {
	key, _, _ := cutBytes(l.data[place:], 0)
	return key
}

// Look reads where the change is that a Place names: who is going to need many has the
// processor wait for them together. The result says nothing.
func (l ChangeList) Look(place uint32) (seen byte) {
	last := min(int(place)+lineBytes, len(l.data)) - 1
	return l.data[place] ^ l.data[last]
}

// Changes returns all changes, parts of the list.
func (l ChangeList) Changes() []Change {
	out := make([]Change, l.Len())
	for i := range out {
		out[i] = l.At(i)
	}
	return out
}

// From returns the index of the first change at or after a key, if keys ascend.
func (l ChangeList) From(key []byte) int {
	return sort.Search(l.Len(), func(i int) bool { return bytes.Compare(l.Key(i), key) >= 0 })
}

func uvarintSize(n int) int { return (bits.Len64(uint64(n)|1) + 6) / 7 }

// cutBytes cuts off a string of bytes that begins with its length plus more.
func cutBytes(data []byte, more uint64) (cut, rest []byte, ok bool) {
	length, size := binary.Uvarint(data)
	if size <= 0 || length < more || length-more > uint64(len(data)-size) {
		return nil, nil, false
	}
	end := size + int(length-more)
	return data[size:end:end], data[end:], true
}
