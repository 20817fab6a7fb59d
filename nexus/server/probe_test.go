package server_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/server"
)

// lockedLog is a log that is read while it is written.
type lockedLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedLog) lines(with string) (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, with) {
			out = append(out, line)
		}
	}
	return out
}

// TestProbesAlarmNobody dials a server and leaves, as agent doctor does: it is
// noted for who debugs alone.
func TestProbesAlarmNobody(t *testing.T) {
	log := &lockedLog{}
	c := newClusterWith(t, 1, func(cfg *server.Config) {
		cfg.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	c.waitLeader()
	endpoint, err := transport.Open(transport.Config{Key: key(990), Network: testGenesis(t).Digest(), Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := endpoint.Dial(t.Context(), c.nodeAddrs()[0], job.Protocol)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close(transport.CloseDone, "the doctor has seen enough")
	node := key(990).Public().Short()
	until(t, "a note of the visit", func() bool { return len(log.lines("node="+node)) > 0 })
	if err := endpoint.Close(); err != nil {
		t.Fatal(err)
	}
	for _, line := range log.lines("node=" + node) {
		if !strings.Contains(line, "level=DEBUG") {
			t.Error(line)
		}
	}
}
