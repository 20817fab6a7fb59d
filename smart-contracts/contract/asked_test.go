package contract_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
)

// asking is what has contracts query each other, each waiting for the next, and the last for nobody.
func (c *called) asking(contracts ...int) string {
	msg := `{}`
	for i := len(contracts) - 1; i > 0; i-- {
		msg = fmt.Sprintf(`{"do":[{"query":{"wasm":{"smart":{"contract_addr":"%s","msg":"%s"}}}}]}`, c.made[contracts[i]], base64.StdEncoding.EncodeToString([]byte(msg)))
	}
	return msg
}

// TestWhoAsksLoadsSoMuch: a query from outside, for whose loads nobody pays, has one code read from disk of any size,
// and of several so many bytes; with more it ends by name, whatever its contracts make of that. What counts as
// kept or is pinned does not count, nor does what it has called before, and a transaction pays for each.
func TestWhoAsksLoadsSoMuch(t *testing.T) {
	const mib = 1 << 20
	c := withCodes(t)
	c.env.Tx = nil
	for name, q := range map[string]struct {
		native uint64 // of each
		asked  []int
		why    string
	}{
		"one, of any size":                        {contract.KeptBytes / 4, []int{0}, ""},
		"one, of any size, often":                 {contract.KeptBytes / 4, []int{0, 0, 0, 0}, ""},
		"one of any size, and any other":          {contract.KeptBytes / 4, []int{0, 1}, "a query that has 2 codes read from disk, of 134217728 bytes, limit 33554432"},
		"nine of people's":                        {contract.AskedBytes / 9, []int{0, 1, 2, 3, 4, 5, 6, 7, 8}, ""},
		"nine that are larger":                    {contract.AskedBytes/9 + 1, []int{0, 1, 2, 3, 4, 5, 6, 7, 8}, "a query that has 9 codes read from disk, of 33554439 bytes, limit 33554432"},
		"nine, of which four are called again":    {6 * mib, []int{0, 1, 2, 3, 0, 1, 2, 3, 0}, ""},
		"nine, of which the last but one is much": {4 * mib, []int{0, 1, 2, 3, 4, 5, 6, 7, 8}, "a query that has 9 codes read from disk, of 37748736 bytes, limit 33554432"},
	} {
		w := c.anew(func(int) uint64 { return q.native })
		w.env.Tx = nil
		msg := []byte(w.asking(q.asked...))
		_, _, why := contract.Ask(w.state, &w.env, w.made[q.asked[0]], msg, blockGas)
		if q.why == "" && why != nil || q.why != "" && (why == nil || !strings.Contains(why.Reason(), q.why)) {
			t.Errorf("%s: %v", name, why)
		}
		for i := range w.codes { // they count as kept, as little as is asked for
			w.loadedAt(w.codes[i], 1<<40, 1<<40, q.native)
		}
		if _, _, why := contract.Ask(w.state, &w.env, w.made[q.asked[0]], msg, blockGas); why != nil {
			t.Errorf("%s, that are kept: %s", name, why.Reason())
		}
	}
	pinned := c.anew(func(int) uint64 { return contract.KeptBytes / 4 })
	pinned.env.Tx = nil
	for _, code := range pinned.codes {
		_, last := pinned.loaded(code)
		last.PinnedTo, last.PinnedFrom = contract.PinPeriod(pinned.env.Now)+1, pinned.env.Height
		state.Save(pinned.state, contract.LoadedKey(sha256.Sum256(code)), last)
	}
	all := []byte(pinned.asking(0, 1, 2, 3, 4, 5, 6, 7, 8))
	if _, _, why := contract.Ask(pinned.state, &pinned.env, pinned.made[0], all, blockGas); why != nil {
		t.Errorf("what is pinned: %s", why.Reason())
	}
	pinned.env.Now = contract.PinsBegin(contract.PinPeriod(pinned.env.Now) + 1)
	if _, _, why := contract.Ask(pinned.state, &pinned.env, pinned.made[0], all, blockGas); why == nil || !strings.Contains(why.Reason(), "a query that has 2 codes") {
		t.Errorf("what is pinned no more: %v", why)
	}
	w := c.anew(func(int) uint64 { return 4 * mib })
	msg := w.asking(0, 1, 2, 3, 4, 5, 6, 7, 8)
	if did := w.do(person("alice"), chain.ExecuteContract{Contract: w.made[0], Msg: []byte(msg)}, blockGas); did.Why != nil || did.Gas < 9*4*1024*w.env.Prices.LoadKiB {
		t.Errorf("in a transaction: %d gas, %v", did.Gas, did.Why)
	}
}
