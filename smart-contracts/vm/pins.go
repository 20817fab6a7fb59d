package vm

import "slices"

// pins are what is kept in memory until its time is over, whatever else runs.
type pins struct {
	most   uint64 // bytes
	bytes  uint64
	codes  []*compiled
	period uint64 // that it is
}

// Pin has a contract's code in memory until a period begins: beside what ran last, of which nothing goes for it. What is
// pinned already stays longer; what there is no room for is not pinned, and runs as all else does.
func (m *Machine) Pin(code Code, until uint64) error {
	if err := m.begin(0); err != nil {
		return err
	}
	defer m.end()
	for {
		if m.isOver(until) {
			return nil
		}
		n, err := m.load(code, pinning)
		if err != nil {
			return err
		}
		done := m.pin(n, until)
		if m.release(n); done {
			return nil
		}
	}
}

func (m *Machine) isOver(period uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return period <= m.pins.period
}

// pin pins what was loaded for it. It is false if that has gone from memory meanwhile.
func (m *Machine) pin(n *compiled, until uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := &m.pins
	switch {
	case m.compiled[n.id] != n:
		return false
	case n.until > 0:
		n.until = max(n.until, until)
		return true
	case until > p.period && p.bytes+n.bytes <= p.most:
		n.until = until
		p.codes = append(p.codes, n)
		p.bytes += n.bytes
		if n.shelf == &m.asked {
			m.asked.take(n)
		}
		return true
	case until > p.period:
		m.config.Log.Warn("there is no room to pin code of a contract", "code", n.id, "bytes", n.bytes, "pinned", p.bytes)
	}
	if n.shelf == nil {
		m.place(n, &m.asked)
	}
	return true
}

// Unpin says which period it is: what is pinned no longer than to its begin stays as long as all else
// does that ran as long ago.
func (m *Machine) Unpin(period uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := &m.pins
	if period <= p.period {
		return
	}
	p.period = period
	p.codes = slices.DeleteFunc(p.codes, func(n *compiled) bool {
		if n.until > period {
			return false
		}
		n.until = 0
		if p.bytes -= n.bytes; n.shelf == nil {
			m.forget(n)
		}
		return true
	})
}
