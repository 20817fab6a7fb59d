package api

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// wholeHeight is the index of a cursor that has seen a whole height.
const wholeHeight = math.MaxUint32

// Cursor is a place in the stream of finalized events: right after the event
// Index of a height's stream, or after the whole height. In text it is
// "height.index" or "height". The zero Cursor is "0.0", before everything.
type Cursor struct {
	height chain.Height
	index  uint32
}

// CursorAt returns the place after event index of a height.
func CursorAt(height chain.Height, index uint32) Cursor { return Cursor{height: height, index: index} }

// CursorAfter returns the place after a whole height.
func CursorAfter(height chain.Height) Cursor { return Cursor{height: height, index: wholeHeight} }

// Height returns the height whose events were seen, in part or as a whole.
func (c Cursor) Height() chain.Height { return c.height }

// Next returns the first height that may hold an event after the cursor.
func (c Cursor) Next() chain.Height {
	if c.index == wholeHeight && c.height < math.MaxUint64 {
		return c.height + 1
	}
	return c.height
}

// Before reports whether the event index of a height comes after the cursor.
func (c Cursor) Before(height chain.Height, index uint32) bool {
	return c.Less(CursorAt(height, index))
}

// Less reports whether the cursor is an earlier place than another.
func (c Cursor) Less(other Cursor) bool {
	return c.height < other.height || c.height == other.height && c.index < other.index
}

// String returns the cursor's text.
func (c Cursor) String() string {
	height := strconv.FormatUint(uint64(c.height), 10)
	if c.index == wholeHeight {
		return height
	}
	return height + "." + strconv.FormatUint(uint64(c.index), 10)
}

// ParseCursor reads a cursor's text.
func ParseCursor(text string) (Cursor, error) {
	head, tail, split := strings.Cut(text, ".")
	height, err := strconv.ParseUint(head, 10, 64)
	if err != nil {
		return Cursor{}, fmt.Errorf("cursor %.40q is not height or height.index", text)
	}
	if !split {
		return CursorAfter(chain.Height(height)), nil
	}
	index, err := strconv.ParseUint(tail, 10, 32)
	if err != nil || index == wholeHeight {
		return Cursor{}, fmt.Errorf("cursor %.40q is not height or height.index", text)
	}
	return CursorAt(chain.Height(height), uint32(index)), nil
}

// MarshalText is String.
func (c Cursor) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText is ParseCursor.
func (c *Cursor) UnmarshalText(text []byte) error {
	parsed, err := ParseCursor(string(text))
	if err == nil {
		*c = parsed
	}
	return err
}
