package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
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
// were never used on this chain, in a home whose logs hold nothing, are fresh: they
// may begin the log of the first epoch. The markers are written after that log is
// made, so that a crash between the two costs nothing.
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
	d.Fresh = tip.Height == 0
	strange := false
	for i := range files {
		f := &files[i]
		switch {
		case f.used == digest+lostLog:
			d.Fresh = false
		case f.used != digest:
			moved, err := d.movedHere(f.key, epochs)
			if err != nil {
				return err
			}
			strange = strange || moved
		case len(epochs) == 0:
			d.Fresh = false
			d.Log.Warn("a consensus key was used and its logs are gone: this node votes from the next epoch on", "marker", f.marker)
			if err := f.mark(digest + lostLog); err != nil {
				return err
			}
		}
	}
	if strange {
		d.Fresh = false
		d.Log.Warn("a consensus key of the running committee is new in this home, and may have signed elsewhere: this node votes from the next epoch on")
		if err := d.dropLogs(epochs); err != nil {
			return err
		}
	}
	if d.Fresh {
		if _, err := d.Logs.Open(staking.FirstEpoch); err != nil {
			return err
		}
	}
	for i := range files {
		f := &files[i]
		line := digest
		if strange {
			line += lostLog
		}
		if f.used != digest && f.used != digest+lostLog {
			if err := f.mark(line); err != nil {
				return err
			}
		}
	}
	return nil
}

// movedHere reports whether a key that was never used in this home may have
// signed, elsewhere, in the epoch that the home's logs are of.
func (d *Deps) movedHere(key crypto.PrivateKey, epochs []consensus.Epoch) (bool, error) {
	errRecord := errors.New("a record")
	for _, epoch := range epochs {
		err := d.Logs.Replay(epoch, func([]byte) error { return errRecord })
		if errors.Is(err, errRecord) {
			return d.serves(key), nil
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

// serves reports whether a key is in the committee of the running epoch, or that
// cannot be known here.
func (d *Deps) serves(key crypto.PrivateKey) bool {
	if _, ok := d.Store.Latest(); !ok {
		return true
	}
	members, ok := staking.MembersOf(d.Store.State(), staking.EpochOf(d.Store.State()).Number)
	for _, m := range members {
		if m.ConsensusKey == key.Public() {
			return true
		}
	}
	return !ok
}

func (d *Deps) dropLogs(epochs []consensus.Epoch) error {
	var err error
	for _, epoch := range epochs {
		err = errors.Join(err, d.Logs.Delete(epoch))
	}
	return err
}

func (f *keyFile) mark(line string) error {
	f.used = line
	if err := writeDurably(f.marker, line+"\n"); err != nil {
		return fmt.Errorf("marking a consensus key: %w", err)
	}
	return nil
}

// readMarker returns the marker's line, empty if there is none.
func readMarker(marker string) (string, error) {
	used, err := os.ReadFile(marker)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("reading the marker of a used consensus key: %w", err)
	}
	return strings.TrimSpace(string(used)), nil
}
