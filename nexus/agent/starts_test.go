package agent_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hypermesh/hypermesh/nexus/agent"
)

// TestWorkBeginsAFewAtATime sees as many works begin as there are processors, the
// next when one has ended or has taken its share, and none while many bids are
// asked for, but not for ever.
func TestWorkBeginsAFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := agent.NewStarts()
		slots := runtime.GOMAXPROCS(0)
		var leaves []func()
		began := time.Now()
		for range slots {
			leave, err := s.Enter(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			leaves = append(leaves, leave)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("the first waited %v", took)
		}
		if _, err := s.Enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != agent.StartShare {
			t.Errorf("one that comes beside long work waited %v, want %v", took, agent.StartShare)
		}
		for _, leave := range leaves {
			leave() // which gives back nothing twice
		}
		time.Sleep(agent.StartShare)
		began = time.Now()
		for range slots {
			leave, err := s.Enter(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer leave()
		}
		short, cancel := context.WithTimeoutCause(t.Context(), agent.StartShare/2, errors.New("enough"))
		defer cancel()
		if _, err := s.Enter(short); err == nil || err.Error() != "enough" || time.Since(began) != agent.StartShare/2 {
			t.Errorf("more began at once than there are processors: %v", err)
		}
	})
}

func TestWorkYieldsToOffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := agent.NewStarts()
		enter := func() time.Duration {
			began := time.Now()
			leave, err := s.Enter(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			leave()
			return time.Since(began)
		}
		s.Yield(agent.ManyOffers - 1)
		if took := enter(); took != 0 {
			t.Errorf("few offers held work up for %v", took)
		}
		s.Yield(agent.ManyOffers)
		if took := enter(); took != agent.StartYield {
			t.Errorf("many offers held work up for %v, want %v", took, agent.StartYield)
		}
		time.Sleep(agent.StartYield)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 10 * agent.MaxYield / agent.StartYield {
				s.Yield(agent.ManyOffers)
				time.Sleep(agent.StartYield / 2)
			}
		}()
		synctest.Wait()
		if took := enter(); took != agent.MaxYield {
			t.Errorf("offers without end held work up for %v, want %v", took, agent.MaxYield)
		}
		<-done
	})
}
