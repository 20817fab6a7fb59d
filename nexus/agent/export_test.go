package agent

import "time"

// HoursOpen reports whether work is accepted at a time by a config's hours.
func HoursOpen(list []string, t time.Time) (bool, error) {
	h, err := parseHours(list)
	return h.open(t), err
}
