package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// Mode is what the owner wants of the agent. It is kept in the home, over
// restarts and crashes.
type Mode struct {
	// Name is ModeOpen, ModePaused or ModeDraining.
	Name string `json:"mode"`
	// DeadlineMs is when draining gives up what still runs; 0: never.
	DeadlineMs chain.TimeMs `json:"deadline_ms,omitempty"`
}

// What an agent may be told to do.
const (
	ModeOpen     = "open"     // takes work
	ModePaused   = "paused"   // takes nothing new; what runs goes on
	ModeDraining = "draining" // takes nothing new, and gives up at the deadline what still runs
)

func (m Mode) check() error {
	switch {
	case m.Name != ModeOpen && m.Name != ModePaused && m.Name != ModeDraining:
		return fmt.Errorf("mode is %.20q, want %s, %s or %s", m.Name, ModeOpen, ModePaused, ModeDraining)
	case m.Name != ModeDraining && m.DeadlineMs != 0:
		return fmt.Errorf("mode %s has a deadline", m.Name)
	}
	return nil
}

// errDrained ends work that is not done at the deadline of a drain.
var errDrained = errors.New("the node is drained, and its deadline has passed")

// readMode returns the mode that a home was left in. A file that says nothing
// is taken as a pause: to take work that nobody wants is worse.
func readMode(home string) (Mode, error) {
	data, err := os.ReadFile(filepath.Join(home, modeFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Mode{Name: ModeOpen}, nil
	}
	if err != nil {
		return Mode{Name: ModePaused}, fmt.Errorf("agent: reading the mode: %w", err)
	}
	var m Mode
	err = json.Unmarshal(data, &m)
	if err == nil {
		err = m.check()
	}
	if err != nil {
		return Mode{Name: ModePaused}, fmt.Errorf("agent: %s: %w; it counts as %s", modeFile, err, ModePaused)
	}
	return m, nil
}

// SetMode changes the mode of a home whose agent does not run.
func SetMode(home string, m Mode) error {
	if err := m.check(); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	data, err := json.Marshal(m)
	if err != nil {
		panic("agent: a mode does not encode: " + err.Error())
	}
	if err := writeFile(filepath.Join(home, modeFile), append(data, '\n')); err != nil {
		return fmt.Errorf("agent: remembering the mode: %w", err)
	}
	return nil
}

// setMode changes what the running agent does, once it is on disk.
func (a *Agent) setMode(m Mode) error {
	a.modeWrite.Lock()
	defer a.modeWrite.Unlock()
	if err := SetMode(a.config.Home, m); err != nil {
		return err
	}
	a.mode.Store(&m)
	a.log.Info("agent: mode changed", "mode", m.Name, "deadline_ms", m.DeadlineMs)
	select {
	case a.modeChanged <- struct{}{}:
	default: // keepMode has one waiting already
	}
	return nil
}

// closed says why the agent takes no work, or returns nothing.
func (a *Agent) closed() string {
	switch m := a.mode.Load(); {
	case m.Name == ModePaused:
		return "paused"
	case m.Name == ModeDraining:
		return "draining"
	case a.measured.Load():
		return "showing the chain its hardware"
	case !a.hours.open(a.config.Now()):
		return "outside of the hours within which this node takes work"
	}
	return ""
}

// modeTick is how often the hours are looked at: clocks are set, and zones
// change.
const modeTick = 20 * time.Second

// keepMode tells the servers when the agent begins or ceases to take work, and
// gives up what runs at the deadline of a drain.
func (a *Agent) keepMode(ctx context.Context) {
	ticker := time.NewTicker(modeTick)
	defer ticker.Stop()
	said := a.closed()
	for {
		deadline := a.drainDeadline()
		select {
		case <-ctx.Done():
			return
		case <-a.modeChanged:
		case <-ticker.C:
		case <-deadline:
			a.giveUp()
			sleep(ctx, time.Second) // what is cancelled needs a moment; what was taken just before is ended next time
		}
		if closed := a.closed(); closed != said {
			if (closed == "") != (said == "") {
				a.sayLoad()
			}
			said = closed
		}
	}
}

// drainDeadline returns a channel that fires when the work that runs has to be
// given up; nil: never.
func (a *Agent) drainDeadline() <-chan time.Time {
	m := a.mode.Load()
	if m.Name != ModeDraining || m.DeadlineMs == 0 || a.held() == 0 {
		return nil
	}
	return time.After(max(time.Until(timeOf(m.DeadlineMs)), 0))
}

// held counts the assignments that were taken and have not ended.
func (a *Agent) held() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.tasks)
}

// giveUp ends all work. Each assignment is refused, so that the cluster gives it
// to another node.
func (a *Agent) giveUp() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range a.tasks {
		t.cancel(errDrained)
	}
}

// drained reports whether nothing is left to do or to hand over.
func (a *Agent) drained() bool {
	return a.mode.Load().Name == ModeDraining && a.held() == 0 && a.spool.count() == 0
}
