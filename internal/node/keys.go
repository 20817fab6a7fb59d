package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/store"
)

// A marker beside each consensus key, outside of the data directory, says on
// which chains the key was used and up to which epoch (consensus.md §1: without the
// complete log of an epoch a node signs nothing in it), a line each:
//
//	<public key> unused                          when it was made here: on no chain that has no line
//	<public key> <genesis digest> epoch <number> the highest epoch whose log was begun
//
// The number only rises, and does so before the first vote of the epoch leaves the
// node. If the log of that epoch is not there, it was lost.
const (
	markerSuffix = ".signed"
	unused       = "unused"

	// maxClockError is what the clocks of this machine and of the chain may differ
	// by: an epoch that begins so soon after the start may be one that an earlier
	// life of the node has seen begin.
	maxClockError = 5 * time.Second
)

// keyFile is a consensus key with its marker.
type keyFile struct {
	key    crypto.PrivateKey
	marker string          // path
	known  bool            // the marker says what the key did on this chain
	begun  consensus.Epoch // there; 0: nothing
	others []string        // its other lines: a key may come back to a chain
}

// openKeys reads the consensus keys and decides what they may do: see guard.
func (d *Deps) openKeys(home string, names []string) error {
	var files []*keyFile
	digest := d.Genesis.Digest().String()
	for _, name := range names {
		path := name
		if !filepath.IsAbs(path) {
			path = filepath.Join(home, name)
		}
		key, err := ReadKey(path)
		if name == ConsensusKeyFile && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		f := &keyFile{key: key, marker: strings.TrimSuffix(path, ".key") + markerSuffix}
		if err := f.read(digest); err != nil {
			return err
		}
		files = append(files, f)
		d.ConsensusKeys = append(d.ConsensusKeys, key)
	}
	d.live()
	return d.guard(digest, files)
}

// live notes that what was signed up to now may have been signed by an earlier
// life.
func (d *Deps) live() {
	d.Noted = time.Now()
	d.Since = chain.TimeMs(d.Noted.Add(maxClockError).UnixMilli())
}

// guard keeps a key from signing without the log of what it signed. Keys that
// were made in this home and never used on this chain, in a home that has no logs,
// are fresh: they may begin the log of the first epoch. A key without a marker of
// its own came from elsewhere, a backup perhaps, and nothing here tells what it
// signed. One that came into a home with logs needs no guard: a log names the keys
// that it is complete for.
func (d *Deps) guard(digest string, files []*keyFile) error {
	if len(files) == 0 {
		return nil
	}
	logged, err := lastLog(d.Logs)
	if err != nil {
		return err
	}
	d.Begun = logged
	for _, f := range files {
		switch {
		case f.known:
			d.Begun = max(d.Begun, f.begun)
		case logged == 0:
			d.Begun = max(d.Begun, staking.FirstEpoch)
			d.Log.Warn("a consensus key was not made in this home, and may have signed elsewhere: this node votes from the first epoch on that begins after its start",
				"key", f.key.Public(), "marker", f.marker)
		}
	}
	if d.Begun > logged {
		d.Log.Warn("the consensus log of an epoch is lost: this node votes from the first epoch on that begins after its start", "epoch", d.Begun, "last", logged)
	}
	d.Fresh = d.Begun == 0
	d.marks = &markers{digest: digest, files: files}
	return d.marks.begin(d.Begun)
}

// lastLog returns the highest epoch that has a log with anything in it; 0: none.
func lastLog(logs *store.Logs) (last consensus.Epoch, err error) {
	epochs, err := logs.Epochs()
	for _, epoch := range epochs {
		if err == nil {
			err = logs.Replay(epoch, func([]byte) error {
				last = epoch
				return nil
			})
		}
	}
	return last, err
}

// markers are those of a node's keys, which say all the same from its start on.
type markers struct {
	digest string
	files  []*keyFile
	begun  consensus.Epoch
}

// begin has the markers name the epoch, durably, unless they name a later one.
func (m *markers) begin(epoch consensus.Epoch) error {
	m.begun = max(m.begun, epoch)
	for _, f := range m.files {
		if m.begun == 0 || f.known && f.begun >= m.begun {
			continue
		}
		if err := f.write(m.digest + " epoch " + strconv.FormatUint(uint64(m.begun), 10)); err != nil {
			return err
		}
		f.known, f.begun = true, m.begun
	}
	return nil
}

// markedLogs are the consensus logs with their markers.
type markedLogs struct {
	*store.Logs
	marks *markers // nil: a node without keys
}

// Append makes records durable in an epoch's log, and then the markers name the
// epoch: a crash between the two costs nothing, as the log is there, and nothing
// has left the node.
func (l markedLogs) Append(epoch consensus.Epoch, records [][]byte) error {
	if err := l.Logs.Append(epoch, records); err != nil {
		return err
	}
	if l.marks == nil || len(records) == 0 || epoch <= l.marks.begun {
		return nil
	}
	return l.marks.begin(epoch)
}

// read reads what the marker says of a chain. One that is not there, that names
// another key, or of which a line cannot be understood tells nothing of this key.
func (f *keyFile) read(digest string) error {
	text, err := os.ReadFile(f.marker)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the marker of a consensus key: %w", err)
	}
	here, begun, others := false, consensus.Epoch(0), []string(nil)
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != f.key.Public().String() {
			return nil
		}
		if len(words) == 2 && words[1] == unused {
			here, others = true, append(others, unused)
			continue
		}
		if len(words) != 4 || words[2] != "epoch" {
			return nil
		}
		epoch, err := strconv.ParseUint(words[3], 10, 64)
		if err != nil {
			return nil
		}
		if words[1] == digest {
			begun = max(begun, consensus.Epoch(epoch))
		} else {
			others = append(others, strings.Join(words[1:], " "))
		}
	}
	f.known, f.begun, f.others = here || begun > 0, begun, others
	return nil
}

// write has the marker say something of this chain, beside what it says of others.
func (f *keyFile) write(what string) error {
	var text strings.Builder
	for _, line := range append(slices.Clone(f.others), what) {
		text.WriteString(f.key.Public().String() + " " + line + "\n")
	}
	err := writeDurably(f.marker, text.String())
	if err == nil {
		return nil
	}
	kind := store.ErrDisk
	if errors.Is(err, syscall.ENOSPC) {
		kind = store.ErrDiskFull
	}
	return fmt.Errorf("marking a consensus key: %w: %w", kind, err)
}

// MakeConsensusKey makes a consensus key in a home, or reads the one that is
// there. A new one gets a marker that says that it has signed nothing.
func MakeConsensusKey(home string) (crypto.PrivateKey, error) {
	path := filepath.Join(home, ConsensusKeyFile)
	if key, err := ReadKey(path); !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	key := crypto.GenerateKey()
	if err := WriteKey(path, key); err != nil {
		return key, err
	}
	f := keyFile{key: key, marker: strings.TrimSuffix(path, ".key") + markerSuffix}
	return key, f.write(unused)
}
