package simulation

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// TestInvariantsAreAsserted breaks a market in the middle, which then stops and says how.
func TestInvariantsAreAsserted(t *testing.T) {
	cast := NewCast(MaxNodes)
	attack, _ := Find("lazy")
	for want, wrong := range map[string]func(w *world){
		"changed what is held by 1000000000, and what is burned by 0":  func(w *world) { tokens.Credit(w.kv, w.cluster.address, chain.Hyper(1)) },
		"changed what is held by 0, and what is burned by 1000000000":  func(w *world) { tokens.Burn(w.kv, chain.Hyper(1)) },
		"changed what is held by -1000000000, and what is burned by 0": func(w *world) { w.must(nil, tokens.Debit(w.kv, w.cluster.address, chain.Hyper(1), w.env.Now)) },
		"a bond is locked for nothing": func(w *world) {
			p, _ := settlement.ProviderOf(w.kv, w.nodes[0].id)
			p.Locked = chain.Hyper(1)
			state.Save(w.kv, settlement.ProviderKey(w.nodes[0].id), p)
		},
		"a record of kind j is left": func(w *world) { state.Save(w.kv, settlement.PanelKey([32]byte{1}), settlement.Panel{}) },
	} {
		w := newWorld(Market{Cast: cast, Attack: &attack, Terms: Defaults(None), Seed: 1}, conduct{})
		w.send(post{by: w.cluster, do: func(w *world, _ chain.Address) (chain.Events, *chain.Rejection) {
			wrong(w)
			return nil, nil
		}})
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.Contains(got, want) {
					t.Errorf("got %q, want %q", got, want)
				}
			}()
			w.settled()
		}()
	}
}
