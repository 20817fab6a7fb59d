package consensus_test

import (
	"fmt"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
)

// A Byzantine leader can let its own views take nearly as long as they are
// waited for, again and again. Less than a third of the weight must not teach
// the others patience by that.
func TestASlowMinorityOfLeadersTeachesNoPatience(t *testing.T) {
	const views = 400
	s := newScript(t, 3)
	s.do("start")
	patience := func() consensus.Micros {
		at, ok := s.core.Deadline()
		if !ok || at < s.now {
			t.Fatalf("in view %d there is no deadline ahead", s.core.View())
		}
		return at - s.now
	}
	first := patience()
	for v := 1; v <= views; v++ {
		block, slow := fmt.Sprintf("B%d", v), s.committee.Leader(consensus.View(v)) == 0
		on := "0 genesis"
		if v > 1 {
			on = fmt.Sprintf("%d B%d", v-1, v-1)
		}
		if s.committee.Leader(consensus.View(v)) == 3 {
			s.do("built " + block)
		} else {
			wait := patience()
			s.do(fmt.Sprintf("offer %s %d on %s", block, v, on))
			if slow {
				s.now += wait * 9 / 10
			}
			s.do("valid")
		}
		s.do("notarize " + block + " from 0 1 2")
		s.do("finalize " + block + " from 0 1 2")
		if f, _ := s.core.LastFinalized(); f != consensus.View(v) {
			t.Fatalf("view %d is not finalized", v)
		}
		s.do("durable " + block)
	}
	if last := patience(); last > 2*first {
		t.Errorf("after %d views a leader is waited for %d ms, at first %d", views, last/ms, first/ms)
	}
}
