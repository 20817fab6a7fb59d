package job

import "fmt"

// Settings are what an operator may change while a cluster runs. They are part of
// the replicated state: every server has the same at the same entry of the log.
type Settings struct {
	_ struct{} `cbor:",toarray"`

	AuctionWindowMs uint64 `json:"auction_window_ms" doc:"for which bids are awaited"`
	StandardMs      uint64 `json:"standard_ms" doc:"by which a standard job is put behind an urgent one that came at the same time"`
	SpareMs         uint64 `json:"spare_ms" doc:"the same of a spare job"`
	PriorityMs      uint64 `json:"priority_ms" doc:"by which the largest priority fee puts a job before others of its class, and a smaller one by its part; never before the class above"`
	RetryMs         uint64 `json:"retry_ms" doc:"until the next auction of a job that found too few bids; doubled each time"`
	FailureMs       uint64 `json:"failure_ms" doc:"for which an owner whose node lost a job is not asked for it again; doubled each time"`
	RetentionMs     uint64 `json:"retention_ms" doc:"for which a job that has ended is kept, unless it has to make room"`
	MaxAttempts     int    `json:"max_attempts" doc:"assignments of one job that may be lost or refused"`

	MaxPerConsumer int `json:"max_per_consumer" doc:"jobs of one consumer that are kept, ended ones included"`
	MaxActive      int `json:"max_active" doc:"jobs of one consumer in auctions or running at a time; more wait"`
	MaxRequestsOf  int `json:"max_requests_of" doc:"different requests of one consumer that wait for capacity"`
	MaxSpecBytesOf int `json:"max_spec_bytes_of" doc:"bytes of the specifications of one consumer's jobs"`
	MaxOutbox      int `json:"max_outbox" doc:"jobs of all that wait for the chain to settle them; while there are as many, new ones are refused"`
	MaxOutboxOf    int `json:"max_outbox_of" doc:"jobs of one consumer that run or wait for the chain to settle them; more wait to run"`
	MaxPastOf      int `json:"max_past_of" doc:"orders of one consumer that were forgotten to make room and are remembered until their deadlines"`

	Sample     int `json:"sample" doc:"nodes that fit which are looked at for one auction"`
	Candidates int `json:"candidates" doc:"of them that are asked for bids, the best"`

	Strikes  int    `json:"strikes" doc:"assignments that a node may fail, less those that it ends, before it is held back"`
	HoldMs   uint64 `json:"hold_ms" doc:"for which it is; doubled with each strike more"`
	Returns  int    `json:"returns" doc:"times in a row that a node may come back or change what it offers"`
	ReturnMs uint64 `json:"return_ms" doc:"and then once in so long"`
}

// DefaultSettings returns what a cluster begins with.
func DefaultSettings() Settings {
	return Settings{
		AuctionWindowMs: 50, StandardMs: 60_000, SpareMs: 600_000, PriorityMs: 60_000, RetryMs: 1_000, FailureMs: 30_000, RetentionMs: 24 * 3600 * 1000, MaxAttempts: 8,
		MaxPerConsumer: 10_000, MaxActive: 4_000, MaxRequestsOf: 512, MaxSpecBytesOf: 128 << 20, MaxOutbox: 10_000, MaxOutboxOf: 5_000, MaxPastOf: 200_000,
		Sample: 32, Candidates: 16, Strikes: 4, HoldMs: 30_000, Returns: 6, ReturnMs: 5_000,
	}
}

// Check returns an error that names the first setting out of its range.
func (s *Settings) Check() error {
	const day = 24 * 3600 * 1000
	for _, f := range []struct {
		name            string
		value, min, max uint64
	}{
		{"auction_window_ms", s.AuctionWindowMs, 1, 60_000}, {"standard_ms", s.StandardMs, 0, day}, {"spare_ms", s.SpareMs, s.StandardMs, 7 * day},
		{"priority_ms", s.PriorityMs, 0, day},
		{"retry_ms", s.RetryMs, 10, 600_000}, {"failure_ms", s.FailureMs, 1, day}, {"retention_ms", s.RetentionMs, 1_000, 365 * day},
		{"hold_ms", s.HoldMs, 1, day}, {"return_ms", s.ReturnMs, 1, day},
	} {
		if f.value < f.min || f.value > f.max {
			return fmt.Errorf("%s is %d, want %d to %d", f.name, f.value, f.min, f.max)
		}
	}
	for _, f := range []struct {
		name            string
		value, min, max int
	}{
		{"max_attempts", s.MaxAttempts, 1, 1_000}, {"max_per_consumer", s.MaxPerConsumer, 1, 10_000_000}, {"max_active", s.MaxActive, 1, 10_000_000},
		{"max_requests_of", s.MaxRequestsOf, 1, 1_000_000}, {"max_spec_bytes_of", s.MaxSpecBytesOf, MaxSpecBytes, 1 << 40},
		{"max_outbox", s.MaxOutbox, 1, 100_000}, {"max_outbox_of", s.MaxOutboxOf, 1, 10_000_000}, {"max_past_of", s.MaxPastOf, 0, 100_000_000},
		{"sample", s.Sample, 1, 1_024}, {"candidates", s.Candidates, 1, 256}, {"strikes", s.Strikes, 1, 1_000}, {"returns", s.Returns, 0, 1_000},
	} {
		if f.value < f.min || f.value > f.max {
			return fmt.Errorf("%s is %d, want %d to %d", f.name, f.value, f.min, f.max)
		}
	}
	return nil
}
