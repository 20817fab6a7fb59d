package scheduler

import "github.com/hypermesh/hypermesh/nexus/job"

// Settings returns the settings that are in force, and their version: 0 until
// they are set, and then one more each time.
func (s *State) Settings() (settings job.Settings, version uint64) {
	return s.config.Settings, s.settingsVersion
}

// setSettings puts settings in force. What is sorted by them is sorted again,
// which looks at every job: it is an operator's rare command.
func (s *State) setSettings(c SetSettings) error {
	if c.Version != s.settingsVersion {
		return reject("stale", "the settings are of version %d, the change is of version %d: look again", s.settingsVersion, c.Version)
	}
	if err := c.Settings.Check(); err != nil {
		return reject("settings", "%v", err)
	}
	var waiting []*group
	s.queue.each(func(g *group) bool {
		waiting = append(waiting, g)
		return true
	})
	for _, g := range waiting {
		s.leaveQueue(g)
	}
	ranks := map[*Job]place{}
	for _, j := range s.jobs { // order-free: each has its own place
		if j.group != nil || j.Parked {
			ranks[j] = s.rankOf(j)
		}
	}
	s.config.Settings = c.Settings
	s.settingsVersion++
	for j, rank := range ranks { // order-free: what is sorted does not depend on the order in which it came
		list := &s.accounts[j.consumer].parked
		if j.group != nil {
			list = &j.group.jobs
		}
		list.drop(rank)
		list.put(s.rankOf(j), j)
	}
	for _, g := range waiting {
		s.joinQueue(g)
	}
	s.all.each(func(j *Job) bool {
		s.reschedule(j)
		if a := s.accounts[j.consumer]; a.parked.n > 0 && j.Parked { // it may have room now
			s.freed = append(s.freed, a)
		}
		return true
	})
	return nil
}
