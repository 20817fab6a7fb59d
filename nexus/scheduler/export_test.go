package scheduler

// Samples returns how often the state has drawn nodes so far.
func (s *State) Samples() uint64 { return s.samples }
