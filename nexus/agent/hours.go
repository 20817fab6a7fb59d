package agent

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// hours are the times of a week within which work is accepted. None at all are
// always.
type hours []span

// span is a part of some days, in minutes after their midnight. One that ends
// before it begins ends on the next day.
type span struct {
	days       [7]bool // by time.Weekday: those on which it begins
	begin, end int     // 0 to 24·60; equal: the whole day
}

const minutesOfDay = 24 * 60

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// errHours says what a span looks like.
var errHours = errors.New("want HH:MM-HH:MM, after a day or a range of days if not all, such as mon-fri 18:00-08:00")

func parseHours(list []string) (hours, error) {
	if len(list) > maxHours {
		return nil, fmt.Errorf("hours has %d entries, limit %d", len(list), maxHours)
	}
	var h hours
	for _, text := range list {
		s, err := parseSpan(strings.ToLower(strings.TrimSpace(text)))
		if err != nil {
			return nil, fmt.Errorf("hours: %.60q: %w", text, err)
		}
		h = append(h, s)
	}
	return h, nil
}

func parseSpan(text string) (s span, err error) {
	days, clock, some := strings.Cut(text, " ")
	if !some {
		days, clock = "sun-sat", text
	}
	if s.days, err = parseDays(days); err != nil {
		return s, err
	}
	begin, end, some := strings.Cut(strings.TrimSpace(clock), "-")
	if !some {
		return s, errHours
	}
	if s.begin, err = parseClock(begin); err != nil {
		return s, err
	}
	s.end, err = parseClock(end)
	return s, err
}

// parseDays reads a day, or a range that may go over a week's end.
func parseDays(text string) (days [7]bool, err error) {
	first, last, some := strings.Cut(text, "-")
	if !some {
		last = first
	}
	from, to := slices.Index(weekdays, first), slices.Index(weekdays, last)
	if from < 0 || to < 0 {
		return days, fmt.Errorf("days are %s: %w", strings.Join(weekdays, " "), errHours)
	}
	for d := from; ; d = (d + 1) % 7 {
		days[d] = true
		if d == to {
			return days, nil
		}
	}
}

// parseClock reads HH:MM, up to 24:00.
func parseClock(text string) (int, error) {
	hour, minute, some := strings.Cut(text, ":")
	h, errHour := strconv.Atoi(hour)
	m, errMinute := strconv.Atoi(minute)
	if !some || len(hour) != 2 || len(minute) != 2 || errHour != nil || errMinute != nil || h < 0 || m < 0 || m > 59 || h*60+m > minutesOfDay {
		return 0, errHours
	}
	return h*60 + m, nil
}

// open reports whether work is accepted at a time, by its own location's clock.
func (h hours) open(t time.Time) bool {
	today, minute := t.Weekday(), t.Hour()*60+t.Minute()
	yesterday := (today + 6) % 7
	return len(h) == 0 || slices.ContainsFunc(h, func(s span) bool {
		if s.begin < s.end {
			return s.days[today] && s.begin <= minute && minute < s.end
		}
		return s.days[today] && s.begin <= minute || s.days[yesterday] && minute < s.end
	})
}
