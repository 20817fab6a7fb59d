package agent_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/nexus/agent"
)

func TestHours(t *testing.T) {
	// 2026-11-20 is a Friday.
	at := func(day int, clock string) time.Time {
		moment, err := time.Parse("15:04", clock)
		if err != nil {
			t.Fatal(err)
		}
		return time.Date(2026, 11, day, moment.Hour(), moment.Minute(), 59, 0, time.UTC)
	}
	for _, c := range []struct {
		hours string // separated by ;
		day   int
		clock string
		open  bool
	}{
		{"", 20, "03:00", true},
		{"08:00-18:00", 20, "07:59", false}, {"08:00-18:00", 20, "08:00", true}, {"08:00-18:00", 22, "17:59", true}, {"08:00-18:00", 20, "18:00", false},
		{"22:00-06:00", 20, "23:00", true}, {"22:00-06:00", 20, "05:59", true}, {"22:00-06:00", 20, "06:00", false}, {"22:00-06:00", 20, "21:59", false},
		{"fri 22:00-06:00", 20, "22:00", true}, {"fri 22:00-06:00", 21, "05:59", true}, {"fri 22:00-06:00", 20, "05:00", false}, {"fri 22:00-06:00", 21, "22:00", false},
		{"mon-fri 18:00-08:00", 21, "07:00", true}, {"mon-fri 18:00-08:00", 22, "07:00", false}, {"mon-fri 18:00-08:00", 23, "07:00", false},
		{"mon-fri 18:00-08:00;sat-sun 00:00-24:00", 22, "12:00", true}, {"mon-fri 18:00-08:00;sat-sun 00:00-24:00", 23, "12:00", false},
		{"FRI-MON 00:00-00:00", 20, "00:00", true}, {"fri-mon 00:00-00:00", 23, "23:59", true}, {"fri-mon 00:00-00:00", 25, "00:00", false},
	} {
		var list []string
		if c.hours != "" {
			list = strings.Split(c.hours, ";")
		}
		open, err := agent.HoursOpen(list, at(c.day, c.clock))
		if err != nil || open != c.open {
			t.Errorf("%q on November %d at %s: open %v, %v, want %v", c.hours, c.day, c.clock, open, err, c.open)
		}
	}
	for _, bad := range []string{"", "8:00-18:00", "08:00", "08:00-25:00", "08:00-24:01", "08:60-09:00", "-1:00-08:00", "noon-13:00", "holiday 08:00-18:00", "mon- 08:00-18:00", "mon 08:00 18:00"} {
		if _, err := agent.HoursOpen([]string{bad}, at(20, "12:00")); err == nil || !strings.Contains(err.Error(), "hours: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := agent.HoursOpen(make([]string, 33), at(20, "12:00")); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("33 spans: %v", err)
	}
}
