package consensus_test

import (
	"fmt"
	"strings"
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

// A leader may wait for transactions on an empty block. Who entered the view by a
// finalization and has not got the block yet cannot know: it must not give the view
// up before the others, least of all its own.
func TestAnUnknownTipIsWaitedForLikeAnEmptyOne(t *testing.T) {
	for _, self := range []int{2, 3} {
		s := newScript(t, self)
		s.do("start")
		s.do("define A 1 on 0 genesis empty")
		s.do("certificate finalize A")
		if v := s.core.View(); v != 2 {
			t.Fatalf("in view %d", v)
		}
		if said := s.do(fmt.Sprintf("tick %d", (testTime.Idle+2*testTime.DeltaMin)/ms-1)); strings.Contains(said, "nullify") {
			t.Errorf("signer %d gives the view up before its leader's time is over:\n%s", self, said)
		}
		s.mustSay("tick 1", "broadcast vote nullify 2")
	}
}

// When everything has become slow, views fail until patience has grown, view by view.
// Two that were final are enough not to begin from the least patience again; one alone,
// which may be a traitor's, is not, and neither may they ask for too much.
func TestPatienceFollowsTwoSlowViewsAtOnce(t *testing.T) {
	for _, c := range []struct {
		took     []consensus.Micros // by the latest views
		patience consensus.Micros   // for a proposal
	}{
		{took: []consensus.Micros{0, 0}, patience: 2 * testTime.DeltaMin},
		{took: []consensus.Micros{100 * ms}, patience: 2 * testTime.DeltaMin},
		{took: []consensus.Micros{100 * ms, 0}, patience: 2 * testTime.DeltaMin},
		{took: []consensus.Micros{0, 100 * ms}, patience: 2 * testTime.DeltaMin},
		{took: []consensus.Micros{100 * ms, 80 * ms}, patience: 2 * 2 * 80 * ms},
		{took: []consensus.Micros{140 * ms, 140 * ms, 400 * ms, 450 * ms}, patience: 2 * 8 * testTime.DeltaMin},
	} {
		s := newScript(t, 3)
		s.do("start")
		on, v := "0 genesis", 1
		view := func(took consensus.Micros) {
			block := fmt.Sprintf("B%d", v)
			if s.committee.Leader(consensus.View(v)) == 3 {
				s.do("built " + block)
			} else {
				s.do(fmt.Sprintf("offer %s %d on %s", block, v, on))
				s.do("valid")
			}
			s.now += took
			for _, vote := range []string{"notarize ", "finalize "} {
				s.do(vote + block + " from 0 1 2")
			}
			s.do("durable " + block)
			if f, _ := s.core.LastFinalized(); f != consensus.View(v) {
				t.Fatalf("view %d is not finalized", v)
			}
			on, v = fmt.Sprintf("%d %s", v, block), v+1
		}
		for range 20 {
			view(0)
		}
		for _, took := range c.took {
			view(took)
		}
		view(0) // the next one is entered before this one is final
		if at, ok := s.core.Deadline(); !ok || at-s.now != c.patience {
			t.Errorf("after views that took %v µs a leader is waited for %d ms, want %d", c.took, (at-s.now)/ms, c.patience/ms)
		}
	}
}
