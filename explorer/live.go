package explorer

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/hypermesh/hypermesh/sdk/api"
)

const (
	// livePace is the least time between two events of a live stream: more
	// would not be calm, and every event makes its page ask for itself again.
	livePace      = 500 * time.Millisecond
	liveHeartbeat = 15 * time.Second
)

// live tells a page, as server-sent events, that the index has moved: event
// "head" with the height. The page then asks for itself again and shows what
// changed.
func (s *site) live(w http.ResponseWriter, r *http.Request) {
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		w.Header().Set("Retry-After", "10")
		http.Error(w, "too many live streams", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", api.ContentEventStream)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	heartbeat := time.NewTicker(liveHeartbeat)
	defer heartbeat.Stop()
	control := http.NewResponseController(w)
	for {
		_, changed := s.index.now()
		now := s.status(time.Now())
		line := fmt.Sprintf("id: %d\nevent: head\ndata: {\"height\":%d,\"behind\":%d}\n\n", now.Height, now.Height, now.Behind)
		if err := sendLive(w, control, line); err != nil {
			s.log.DebugContext(r.Context(), "live stream ended", slog.Any("error", err))
			return
		}
		if !s.pause(r, livePace) {
			return
		}
		for waiting := true; waiting; {
			select {
			case <-r.Context().Done():
				return
			case <-s.closing:
				return
			case <-changed:
				waiting = false
			case <-heartbeat.C:
				if err := sendLive(w, control, ": still here\n\n"); err != nil {
					s.log.DebugContext(r.Context(), "live stream ended", slog.Any("error", err))
					return
				}
			}
		}
	}
}

// pause waits, and reports whether the stream goes on.
func (s *site) pause(r *http.Request, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-r.Context().Done():
		return false
	case <-s.closing:
		return false
	case <-timer.C:
		return true
	}
}

// sendLive writes a piece that the client must take within writeTimeout.
func sendLive(w http.ResponseWriter, control *http.ResponseController, piece string) error {
	if err := control.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := w.Write([]byte(piece)); err != nil {
		return err
	}
	return control.Flush()
}
