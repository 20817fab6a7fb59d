package job

import "fmt"

// Status is where a job is on its way from submission to settlement.
type Status uint8

// The statuses. Settled, Failed and Cancelled are final.
const (
	Queued      Status = iota + 1 // accepted, waiting for a bid that fits
	Bidding                       // an auction is open
	Running                       // assigned to as many nodes as the policy asks for
	Settling                      // done; its claims are on the way to the chain
	Settled                       // paid
	Failed                        // ended without payment; the reason says why
	Cancelled                     // ended on the consumer's request
	statusCount = iota + 1
)

// String names the status in lower case.
func (s Status) String() string {
	names := [statusCount]string{"", "queued", "bidding", "running", "settling", "settled", "failed", "cancelled"}
	if s == 0 || int(s) >= statusCount {
		return fmt.Sprintf("Status(%d)", uint8(s))
	}
	return names[s]
}

// Final reports whether the job stays in this status.
func (s Status) Final() bool { return s == Settled || s == Failed || s == Cancelled }

// MarshalText is String.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a status by its name.
func (s *Status) UnmarshalText(text []byte) error {
	for known := Queued; known < statusCount; known++ {
		if known.String() == string(text) {
			*s = known
			return nil
		}
	}
	return fmt.Errorf("job: status %.20q is unknown", text)
}
