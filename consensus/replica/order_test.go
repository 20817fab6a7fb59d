package replica_test

import (
	"reflect"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/replica"
)

// TestOrder splits the effects of two steps: builds and checks begin at once, a
// Finalize waits for the records that its certificate may rest upon, and nothing
// goes before an Enter that came first.
func TestOrder(t *testing.T) {
	first, second := replica.Append{Epoch: 1}, replica.Append{Epoch: 2}
	check, build := replica.Check{}, replica.Build{}
	cancelCheck, cancelBuild := replica.CancelCheck{}, replica.CancelBuild{}
	vote, final := replica.Broadcast{Message: consensus.Notarize{}}, replica.Finalize{}
	enter := replica.Enter{}
	for name, test := range map[string]struct {
		effects []replica.Effect
		want    replica.Ordered
	}{
		"nothing": {},
		"two steps": {
			effects: []replica.Effect{first, vote, check, final, second, cancelCheck, cancelBuild, build, vote},
			want: replica.Ordered{
				Own:     []replica.Effect{check, cancelCheck, cancelBuild, build},
				Appends: []replica.Append{first, second},
				Rest:    []replica.Effect{vote, final, vote},
			},
		},
		"an epoch begins": {
			effects: []replica.Effect{cancelBuild, first, enter, build, second, check},
			want: replica.Ordered{
				Own:     []replica.Effect{cancelBuild},
				Appends: []replica.Append{first, second},
				Rest:    []replica.Effect{enter, build, check},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := replica.Order(test.effects); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}
