package meter_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
)

// TestGoldenWeights: the table of version 1 does not change.
func TestGoldenWeights(t *testing.T) {
	text, err := json.MarshalIndent(meter.WeightsV1(), "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "testdata/weights_v1.json", string(text)+"\n")
}

// TestGoldenRewriting: what the pass makes of every sort of instruction does not
// change.
func TestGoldenRewriting(t *testing.T) {
	var out strings.Builder
	for _, c := range []struct {
		name string
		code []byte
	}{
		{"nothing", nil},
		{"a straight run", []byte{0x41, 1, 0x41, 2, 0x6a, 0x1a}},
		{"a block that nobody leaves", []byte{0x41, 1, 0x02, 0x40, 0x01, 0x0b, 0x1a}},
		{"a block that is left", []byte{0x02, 0x40, 0x41, 1, 0x0d, 0, 0x41, 2, 0x1a, 0x0b, 0x41, 3, 0x1a}},
		{"a loop", []byte{0x03, 0x40, 0x41, 1, 0x0d, 0, 0x0b, 0x41, 3, 0x1a}},
		{"two arms", []byte{0x41, 1, 0x04, 0x40, 0x41, 2, 0x1a, 0x05, 0x01, 0x0b}},
		{"a table of branches", []byte{0x02, 0x40, 0x02, 0x40, 0x41, 1, 0x0e, 1, 0, 1, 0x41, 9, 0x1a, 0x0b, 0x0b}},
		{"a call and a return", []byte{0x10, 2, 0x41, 1, 0x04, 0x40, 0x0f, 0x01, 0x0b, 0x10, 2}},
		{"a return without a call", []byte{0x41, 1, 0x04, 0x40, 0x0f, 0x0b}},
		{"a trap", []byte{0x00, 0x41, 1, 0x1a, 0x02, 0x40, 0x0b}},
		{"growth", []byte{0x41, 1, 0x40, 0, 0x3f, 0, 0x6a, 0x1a}},
		{"loads and stores", []byte{0x41, 0, 0x41, 8, 0x28, 2, 0, 0x36, 2, 0, 0x41, 0, 0x31, 0, 0, 0x1a}},
		{"floats", []byte{0x43, 0, 0, 0x80, 0x3f, 0x91, 0xfc, 0, 0x1a}},
	} {
		m, err := prepare(contract(c.code...).bytes())
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		fmt.Fprintf(&out, "%s\n%s\n", c.name, hex.EncodeToString(m.Code()))
	}
	golden.Check(t, "testdata/rewriting_v1.txt", out.String())
}

// TestWeightsOfSlowNumbers: what a processor takes some 50 ns for if a number is next to
// 0 costs as much on any, and a function's locals cost something each.
func TestWeightsOfSlowNumbers(t *testing.T) {
	w := meter.WeightsV1()
	for _, op := range []byte{0x91, 0x92, 0x93, 0x94, 0x95, 0x9f, 0xa0, 0xa1, 0xa2, 0xa3, 0xb6, 0xbb} {
		if w.Plain[op] < 200 {
			t.Errorf("instruction 0x%02x costs %d points", op, w.Plain[op])
		}
	}
	if w.Local == 0 {
		t.Error("locals cost nothing")
	}
}
