package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// A marker beside each consensus key, outside of the data directory, says on
// which chain the key was used (consensus.md §1: without the complete log of an
// epoch a node signs nothing in it). If a used key's logs are gone, the marker
// says so from then on, and the node signs again only in an epoch that begins
// after its start.
const (
	markerSuffix = ".signed"
	unused       = "unused" // where the key was made
	lostLog      = " log lost"

	// maxClockError is what the clocks of this machine and of the chain may differ
	// by: an epoch that begins so soon after the start may be one that an earlier
	// life of the node has seen begin.
	maxClockError = 5 * time.Second
)

// keyFile is a consensus key with its marker.
type keyFile struct {
	key    crypto.PrivateKey
	marker string // path
	used   string // the marker's line; empty if there is none
}

// openKeys reads the consensus keys and decides what they may do: see guard.
func (d *Deps) openKeys(home string, names []string) error {
	var files []keyFile
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
		f := keyFile{key: key, marker: strings.TrimSuffix(path, ".key") + markerSuffix}
		if f.used, err = readMarker(f.marker); err != nil {
			return err
		}
		files = append(files, f)
		d.ConsensusKeys = append(d.ConsensusKeys, key)
	}
	d.Since = chain.TimeMs(time.Now().Add(maxClockError).UnixMilli())
	return d.guard(files)
}

// guard keeps a key from signing without the log of what it signed. Keys that
// were made in this home and never used on this chain, in a home whose logs hold
// nothing, are fresh: they may begin the log of the first epoch. A key without a
// marker came from elsewhere, a backup perhaps, and nothing here tells what it
// signed. The markers are written after that log is
// made, so that a crash between the two costs nothing. A key that came into a home
// with logs needs no guard: a log names the keys that it is complete for.
func (d *Deps) guard(files []keyFile) error {
	if len(files) == 0 {
		return nil
	}
	digest := d.Genesis.Digest().String()
	epochs, err := d.Logs.Epochs()
	if err != nil {
		return err
	}
	tip, _ := d.Store.Latest()
	// With the log of a later epoch there and no blocks, these were lost.
	d.Fresh = tip.Height == 0 && (len(epochs) == 0 || epochs[len(epochs)-1] <= staking.FirstEpoch)
	for i := range files {
		f := &files[i]
		switch {
		case f.used == digest+lostLog:
			d.Fresh = false
		case f.used == "" && len(epochs) == 0:
			d.Fresh = false
			d.Log.Warn("a consensus key was not made in this home, and may have signed elsewhere: this node votes from the next epoch on", "marker", f.marker)
			if err := f.mark(digest + lostLog); err != nil {
				return err
			}
		case f.used == digest && len(epochs) == 0:
			d.Fresh = false
			d.Log.Warn("a consensus key was used and its logs are gone: this node votes from the next epoch on", "marker", f.marker)
			if err := f.mark(digest + lostLog); err != nil {
				return err
			}
		}
	}
	if d.Fresh {
		if _, err := d.Logs.Open(staking.FirstEpoch); err != nil {
			return err
		}
	}
	for i := range files {
		f := &files[i]
		if f.used != digest && f.used != digest+lostLog {
			if err := f.mark(digest); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *keyFile) mark(line string) error {
	f.used = line
	if err := writeDurably(f.marker, line+"\n"); err != nil {
		return fmt.Errorf("marking a consensus key: %w", err)
	}
	return nil
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
	f := keyFile{marker: strings.TrimSuffix(path, ".key") + markerSuffix}
	return key, f.mark(unused)
}

// readMarker returns the marker's line, empty if there is none.
func readMarker(marker string) (string, error) {
	used, err := os.ReadFile(marker)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("reading the marker of a used consensus key: %w", err)
	}
	return strings.TrimSpace(string(used)), nil
}
