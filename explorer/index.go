package explorer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

const (
	indexFile = "index.db"
	// schemaVersion names the tables below and what is in them. An index of
	// another version is built again.
	schemaVersion = 3
	readers       = 4 // connections for pages
)

// A place in the chain is one number: height · 2¹⁶ + position, where position 0
// is the block's own events and n the n-th transaction, from 1. MaxBlockTxs is
// below 2¹⁶. Amounts are nHYPER, as signed 64-bit integers of the same bits.
const schema = `
CREATE TABLE tip (
  one INTEGER PRIMARY KEY CHECK (one = 1), chain_id TEXT NOT NULL, genesis BLOB NOT NULL,
  height INTEGER NOT NULL, digest BLOB NOT NULL, time_ms INTEGER NOT NULL, first INTEGER NOT NULL,
  txs INTEGER NOT NULL, rejected INTEGER NOT NULL, fees_burned INTEGER NOT NULL, tips INTEGER NOT NULL,
  claims INTEGER NOT NULL, jobs INTEGER NOT NULL, settled_cost INTEGER NOT NULL, settled_burned INTEGER NOT NULL
) STRICT;
CREATE TABLE gaps (first INTEGER PRIMARY KEY, last INTEGER NOT NULL) STRICT;
CREATE TABLE blocks (
  height INTEGER PRIMARY KEY, digest BLOB NOT NULL, time_ms INTEGER NOT NULL, proposer BLOB NOT NULL, txs INTEGER NOT NULL,
  gas INTEGER NOT NULL, burned INTEGER NOT NULL, bytes INTEGER NOT NULL, header BLOB NOT NULL,
  begin_events BLOB NOT NULL, end_events BLOB NOT NULL
) STRICT;
CREATE INDEX blocks_by_digest ON blocks (digest);
CREATE TABLE txs (place INTEGER PRIMARY KEY, id BLOB NOT NULL, raw BLOB NOT NULL, receipt BLOB NOT NULL) STRICT;
CREATE INDEX txs_by_id ON txs (id);
CREATE TABLE activity (address BLOB NOT NULL, place INTEGER NOT NULL, PRIMARY KEY (address, place)) STRICT, WITHOUT ROWID;
CREATE TABLE orders (
  id BLOB PRIMARY KEY, consumer BLOB NOT NULL, cluster BLOB NOT NULL, policy TEXT NOT NULL, max_cost INTEGER NOT NULL,
  first INTEGER NOT NULL, first_ms INTEGER NOT NULL, last INTEGER NOT NULL, last_ms INTEGER NOT NULL,
  recorded INTEGER NOT NULL, settled INTEGER NOT NULL, cost INTEGER NOT NULL, paid INTEGER NOT NULL, burned INTEGER NOT NULL,
  treasury INTEGER NOT NULL, cluster_fee INTEGER NOT NULL, priority INTEGER NOT NULL, proven INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX orders_by_last ON orders (last);
CREATE TABLE claims (
  place INTEGER NOT NULL, number INTEGER NOT NULL, order_id BLOB NOT NULL, node BLOB NOT NULL, time_ms INTEGER NOT NULL,
  tx_id BLOB NOT NULL, event BLOB NOT NULL, claim BLOB NOT NULL, PRIMARY KEY (place, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX claims_by_order ON claims (order_id, place, number);
CREATE INDEX claims_by_node ON claims (node, place, number);
CREATE TABLE records (
  place INTEGER NOT NULL, number INTEGER NOT NULL, line INTEGER NOT NULL, order_id BLOB NOT NULL, record BLOB NOT NULL,
  node BLOB NOT NULL, consumer BLOB NOT NULL, provider BLOB NOT NULL, resource INTEGER NOT NULL, time_ms INTEGER NOT NULL, lease INTEGER NOT NULL,
  PRIMARY KEY (place, number, line)
) STRICT, WITHOUT ROWID;
CREATE INDEX records_by_time ON records (time_ms);
CREATE INDEX records_by_node ON records (node, time_ms);
CREATE INDEX records_by_consumer ON records (consumer, time_ms);
CREATE INDEX records_by_provider ON records (provider, time_ms);
CREATE INDEX records_by_resource ON records (resource, time_ms);
CREATE TABLE parties (
  kind INTEGER NOT NULL, key BLOB NOT NULL, owner BLOB NOT NULL, bond INTEGER NOT NULL, message BLOB NOT NULL,
  since INTEGER NOT NULL, since_ms INTEGER NOT NULL, gone_ms INTEGER NOT NULL, claims INTEGER NOT NULL, earned INTEGER NOT NULL,
  PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;
`

// place is where something is in the chain.
type place int64

const positionBits = 16

func placeOf(height chain.Height, position int) place {
	return place(uint64(height)<<positionBits | uint64(position))
}

// Height returns the block.
func (p place) Height() chain.Height { return chain.Height(p >> positionBits) }

// Index returns the transaction's index in its block, from 0; −1 for the
// block's own events.
func (p place) Index() int { return int(p&(1<<positionBits-1)) - 1 }

// tip is how far the index is, and the sums over all that it has seen.
type tip struct {
	ChainID chain.ChainID
	Genesis crypto.Digest
	Height  chain.Height
	Digest  crypto.Digest
	Time    chain.TimeMs
	First   chain.Height // the lowest height that it ever saw; 0: none yet

	Txs, Rejected uint64
	FeesBurned    chain.Amount
	Tips          chain.Amount
	Claims        uint64 // settled ones
	Jobs          uint64 // with a settled claim
	SettledCost   chain.Amount
	SettledBurned chain.Amount
}

// index is the database. One goroutine writes; any number reads.
type index struct {
	path  string
	log   *slog.Logger
	write *sql.DB
	read  *sql.DB

	mu      sync.Mutex
	tip     tip           // guarded by mu
	changed chan struct{} // closed when tip changes; guarded by mu
}

// openIndex opens the index of a home, or makes it. What is damaged or of
// another schema is built again.
func openIndex(ctx context.Context, config *Config, log *slog.Logger) (*index, error) {
	if err := os.MkdirAll(config.Home, 0o700); err != nil {
		return nil, fmt.Errorf("explorer: home: %w", err)
	}
	x := &index{path: filepath.Join(config.Home, indexFile), log: log, changed: make(chan struct{})}
	err := x.connect(ctx, config.CacheMiB)
	if err == nil {
		return x, nil
	}
	log.Warn("the index cannot be used and is built again", slog.Any("error", err))
	if err := errors.Join(x.close(), x.remove()); err != nil {
		return nil, err
	}
	if err := x.connect(ctx, config.CacheMiB); err != nil {
		return nil, errors.Join(err, x.close())
	}
	return x, nil
}

func (x *index) connect(ctx context.Context, cacheMiB int) error {
	pragmas := fmt.Sprintf("?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=cache_size(-%d)", cacheMiB<<10/2)
	var err error
	if x.write, err = sql.Open("sqlite", "file:"+x.path+pragmas+"&_txlock=immediate"); err != nil {
		return fmt.Errorf("explorer: opening the index: %w", err)
	}
	x.write.SetMaxOpenConns(1)
	if x.read, err = sql.Open("sqlite", "file:"+x.path+pragmas+"&_pragma=query_only(1)"); err != nil {
		return fmt.Errorf("explorer: opening the index: %w", err)
	}
	x.read.SetMaxOpenConns(readers)
	x.read.SetMaxIdleConns(readers)
	var version int
	if err := x.write.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return fmt.Errorf("explorer: reading the index: %w", err)
	}
	if version != schemaVersion {
		return x.wipe(ctx, "", crypto.Digest{})
	}
	return x.load(ctx)
}

func (x *index) close() error {
	var err error
	for _, db := range []*sql.DB{x.read, x.write} {
		if db != nil {
			err = errors.Join(err, db.Close())
		}
	}
	if err != nil {
		return fmt.Errorf("explorer: closing the index: %w", err)
	}
	return nil
}

func (x *index) remove() error {
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(x.path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("explorer: removing the index: %w", err)
		}
	}
	return nil
}

// wipe makes every table anew, for a chain.
func (x *index) wipe(ctx context.Context, id chain.ChainID, genesis crypto.Digest) error {
	err := x.transaction(ctx, func(tx *sql.Tx) error {
		names, err := tableNames(ctx, tx)
		if err != nil {
			return err
		}
		for _, name := range names {
			if _, err := tx.ExecContext(ctx, `DROP TABLE "`+name+`"`); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, schema+fmt.Sprintf("PRAGMA user_version = %d;", schemaVersion)); err != nil {
			return err
		}
		return insertTip(ctx, tx, id, genesis)
	})
	if err != nil {
		return fmt.Errorf("explorer: making the index: %w", err)
	}
	return x.load(ctx)
}

func insertTip(ctx context.Context, tx *sql.Tx, id chain.ChainID, genesis crypto.Digest) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO tip VALUES (1, ?, ?, 0, ?, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)", string(id), genesis[:], genesis[:])
	return err
}

func tableNames(ctx context.Context, tx *sql.Tx) ([]string, error) {
	rows, err := tx.QueryContext(ctx, "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
	if err != nil {
		return nil, err
	}
	return scanRows(rows, scanOne[string])
}

// load reads the tip and tells everybody.
func (x *index) load(ctx context.Context) error {
	t, err := readTip(ctx, x.write)
	if err != nil {
		return err
	}
	x.publish(t)
	return nil
}

func (x *index) publish(t tip) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.tip = t
	close(x.changed)
	x.changed = make(chan struct{})
}

// now returns the tip and a channel that is closed when it moves.
func (x *index) now() (tip, <-chan struct{}) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.tip, x.changed
}

// transaction runs do in one write transaction.
func (x *index) transaction(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := x.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		if rollback := tx.Rollback(); rollback != nil && !errors.Is(rollback, sql.ErrTxDone) {
			err = errors.Join(err, rollback)
		}
		return err
	}
	return tx.Commit()
}

// view runs do on one unchanging state of the index.
func (x *index) view(ctx context.Context, do func(*view) error) error {
	tx, err := x.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("explorer: reading the index: %w", err)
	}
	err = do(&view{ctx: ctx, tx: tx, now: time.Now()})
	if rollback := tx.Rollback(); rollback != nil && !errors.Is(rollback, sql.ErrTxDone) {
		err = errors.Join(err, rollback)
	}
	return err
}

// rowReader is what both a database and a transaction can do.
type rowReader interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func readTip(ctx context.Context, db rowReader) (tip, error) {
	var t tip
	var fees, tips, cost, burned int64
	err := db.QueryRowContext(ctx, `SELECT chain_id, genesis, height, digest, time_ms, first, txs, rejected, fees_burned, tips,
		claims, jobs, settled_cost, settled_burned FROM tip`).Scan(&t.ChainID, fixed(t.Genesis[:]), &t.Height, fixed(t.Digest[:]), &t.Time, &t.First,
		&t.Txs, &t.Rejected, &fees, &tips, &t.Claims, &t.Jobs, &cost, &burned)
	if err != nil {
		return tip{}, fmt.Errorf("explorer: reading the index's tip: %w", err)
	}
	t.FeesBurned, t.Tips, t.SettledCost, t.SettledBurned = amountOf(fees), amountOf(tips), amountOf(cost), amountOf(burned)
	return t, nil
}

func amountOf(n int64) chain.Amount      { return chain.Nano(uint64(n)) }
func columnOf(amount chain.Amount) int64 { return int64(amount.Nano()) }

// fixedBytes reads a BLOB of a known length.
type fixedBytes struct{ to []byte }

func fixed(to []byte) fixedBytes { return fixedBytes{to} }

// Scan implements sql.Scanner.
func (f fixedBytes) Scan(value any) error {
	raw, ok := value.([]byte)
	if !ok || len(raw) != len(f.to) {
		return fmt.Errorf("column holds %T of another length than %d bytes", value, len(f.to))
	}
	copy(f.to, raw)
	return nil
}
