package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

const (
	raftProtocol  = "hypermesh/nexus-raft/" + scheduler.Form // servers of two forms say nothing to each other
	raftPool      = 3                                        // idle streams kept to each server
	raftIOTimeout = 3 * time.Second                          // of one exchange
	walSegment    = 8 * mebibyte
	keptSnapshots = 2

	// A snapshot is taken when so many entries came since the last one.
	snapshotEntries = 8_192
	snapshotEvery   = 30 * time.Second
)

// consensus is this server's part in raft.
type consensus struct {
	raft *raft.Raft
	self raft.ServerID
	acks *acks // of the network
	log  *wal.WAL
	meta *metadb.BoltMetaDB // the log's; its Close leaves it open

	stopping sync.Once
	stopped  raft.Future
	gone     chan struct{} // closed when raft has ended
}

// serverID is a server's name in raft. Those that began the cluster have it as
// their address too, since where they are reached is in every configuration file;
// of those that were added later raft's configuration says it.
func serverID(id crypto.PublicKey) raft.ServerID { return raft.ServerID(id.String()) }

// openRaft starts raft on the log below dir, or begins it with the given
// members.
func openRaft(cfg *Config, members []transport.NodeAddr, layer *streamLayer, fsm *replica) (_ *consensus, err error) {
	logger := hclogTo(cfg.Log)
	dir := filepath.Join(cfg.Home, dataDir, raftDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("server: raft: %w", err)
	}
	if err := checkForm(dir); err != nil {
		return nil, fmt.Errorf("server: raft: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "log"), 0o700); err != nil {
		return nil, fmt.Errorf("server: raft: %w", err)
	}
	c := &consensus{self: serverID(layer.pool.endpoint.ID()), meta: &metadb.BoltMetaDB{}, gone: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("server: raft: %w", err), c.close(func() error { return nil }))
		}
	}()
	if c.log, err = openLog(filepath.Join(dir, "log"), c.meta, logger); err != nil {
		return nil, err
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, keptSnapshots, logger)
	if err != nil {
		return nil, err
	}
	fsm.dir, fsm.entries, fsm.snapshots = dir, c.log, snapshots
	if fsm.aside, err = readAsides(dir); err != nil {
		return nil, err
	}
	c.acks = newAcks(raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: layer, MaxPool: raftPool, Timeout: raftIOTimeout, Logger: logger, MsgpackUseNewTimeFormat: true,
	}))
	known, err := raft.HasExistingState(c.log, c.log, snapshots)
	if err != nil {
		return nil, err
	}
	config := raftConfig(cfg, layer.pool.endpoint.ID(), logger)
	if !known && !cfg.Join {
		if err := raft.BootstrapCluster(config, c.log, c.log, snapshots, c.acks, membership(members)); err != nil {
			return nil, err
		}
	}
	if c.raft, err = startRaft(config, fsm, c.log, snapshots, c.acks); err != nil {
		return nil, err
	}
	return c, nil
}

// startRaft starts raft. A log that cannot be read is an error: raft panics at
// what the log answers, and the log at bytes that are no entry, before anything
// was started.
func startRaft(config *raft.Config, fsm raft.FSM, log *wal.WAL, snapshots raft.SnapshotStore, net raft.Transport) (r *raft.Raft, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("what is on the disk cannot be read: %v", v)
		}
	}()
	return raft.NewRaft(config, fsm, log, log, snapshots, net)
}

// raftConfig derives every time from the heartbeat: a follower that has heard
// nothing for one to two of them stands for election. At 700 ms another leader
// acts within two seconds, and a machine may stall for half a second before
// its leader steps down.
func raftConfig(cfg *Config, self crypto.PublicKey, logger hclog.Logger) *raft.Config {
	config := raft.DefaultConfig()
	config.LocalID = serverID(self)
	config.HeartbeatTimeout = cfg.Heartbeat
	config.ElectionTimeout = cfg.Heartbeat
	config.LeaderLeaseTimeout = cfg.Heartbeat * 3 / 4
	config.CommitTimeout = max(10*time.Millisecond, cfg.Heartbeat/14)
	config.SnapshotInterval = snapshotEvery
	config.SnapshotThreshold = snapshotEntries
	config.TrailingLogs = snapshotEntries
	config.BatchApplyCh = true
	config.ShutdownOnRemove = false // raft is stopped by stop alone, which waits for it
	config.Logger = logger
	return config
}

func membership(members []transport.NodeAddr) raft.Configuration {
	var out raft.Configuration
	for _, m := range members {
		id := serverID(m.ID)
		out.Servers = append(out.Servers, raft.Server{Suffrage: raft.Voter, ID: id, Address: raft.ServerAddress(id)})
	}
	return out
}

// leader returns the leader that this server knows of, or zero.
func (c *consensus) leader() crypto.PublicKey {
	_, id := c.raft.LeaderWithID()
	if id == "" {
		return crypto.PublicKey{}
	}
	key, err := crypto.ParsePublicKey(string(id))
	if err != nil {
		panic(fmt.Sprintf("server: raft names a server %q", id)) // membership named them all
	}
	return key
}

// confirm waits until a majority has confirmed that this server led in a term
// after a question was asked. What it returns otherwise wraps errNoLeader, or is
// ctx's cause.
//
// Each of the majority followed in that term when it answered, so none had yet
// voted for another, and nothing was decided by a later leader before the question.
func (c *consensus) confirm(ctx context.Context, r *reign, question uint64) error {
	if term := c.raft.CurrentTerm(); term != r.term {
		return fmt.Errorf("%w: it reigns since term %d, and this is %d", errNoLeader, r.term, term)
	}
	var voters []raft.ServerID
	for _, m := range c.raft.GetConfiguration().Configuration().Servers {
		if m.Suffrage == raft.Voter {
			voters = append(voters, m.ID)
		}
	}
	ok, more := c.acks.confirmed(c.self, voters, r.term, question)
	if ok {
		return nil // it votes alone
	}
	verdict := make(chan error, 1)
	go func() { verdict <- c.raft.VerifyLeader().Error() }() // it sends beats; a raft that is shut down may never answer
	for !ok {
		select {
		case err := <-verdict:
			if err != nil {
				return fmt.Errorf("%w: %w", errNoLeader, err)
			}
		case <-more:
		case <-r.ctx.Done():
			return errNoLeader
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		ok, more = c.acks.confirmed(c.self, voters, r.term, question)
	}
	return nil
}

// handOver gives the leadership to another server, if this one has it.
func (c *consensus) handOver(log *slog.Logger) {
	if c.raft.State() != raft.Leader {
		return
	}
	if err := c.raft.LeadershipTransfer().Error(); err != nil {
		log.Info("leadership not handed over", "error", err)
	}
}

// stop has raft stop; what it returns waits until raft has. Of raft's own
// Shutdown only the first answer waits: whoever stops it a second time, and then
// closes the log, may take it away from raft while that still reads it.
func (c *consensus) stop() raft.Future {
	c.stopping.Do(func() {
		c.stopped = c.raft.Shutdown()
		go func() {
			defer close(c.gone)
			_ = c.stopped.Error() // close tells it
		}()
	})
	return c.stopped
}

// await waits for raft's answer, or for its end: what it was asked just as it was shut down
// it never answers.
func (c *consensus) await(future raft.Future) error {
	answered := make(chan error, 1)
	go func() { answered <- future.Error() }()
	select {
	case err := <-answered:
		return err
	case <-c.gone:
	}
	select {
	case err := <-answered:
		return err
	default:
		return raft.ErrRaftShutdown
	}
}

// close stops raft and closes its files. cut ends whatever raft waits for on
// the network.
func (c *consensus) close(cut func() error) error {
	var failures []error
	if c.raft != nil {
		stopped := c.stop()
		failures = append(failures, cut(), c.acks.cutPipes(), stopped.Error())
	}
	if c.acks != nil {
		failures = append(failures, c.acks.Close())
		c.acks.beats.close()
	}
	if c.log != nil {
		failures = append(failures, c.log.Close())
	}
	failures = append(failures, c.meta.Close())
	return errors.Join(failures...)
}

// streamLayer is raft's network: streams of our transport.
type streamLayer struct {
	*inbox
	pool *pool
	same func(context.Context, crypto.PublicKey) error // why nothing is said to a server, or nil
}

var _ raft.StreamLayer = (*streamLayer)(nil)

// Dial opens a stream to the server that the address names.
func (l *streamLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	addr, err := parseServer(address)
	if err != nil {
		return nil, fmt.Errorf("server: raft names a server %q: %w", address, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := l.same(ctx, addr.ID); err != nil {
		return nil, err
	}
	return l.pool.openStream(ctx, addr.ID)
}

// hclogTo returns a logger in raft's form that writes to log.
func hclogTo(log *slog.Logger) hclog.Logger {
	out := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Debug})
	out.RegisterSink(logSink{log: log.With("part", "raft")})
	return out
}

type logSink struct{ log *slog.Logger }

// Accept implements hclog.SinkAdapter. What raft calls information is a
// server's detail: elections show in the server's own lines.
func (s logSink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	if level == hclog.Warn {
		to = slog.LevelInfo
	} else if level == hclog.Error {
		to = slog.LevelWarn // a server that is gone is an error to raft
	}
	s.log.Log(context.Background(), to, msg, args...)
}
