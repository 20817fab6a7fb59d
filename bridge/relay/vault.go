package relay

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
)

// UsageDir is the folder of a private relay's home that holds the records.
const UsageDir = "usage"

// Kept is what a relay keeps of one node's work under one order: the records, which are
// nowhere else, and what the chain was given in their place.
type Kept struct {
	_     struct{} `cbor:",toarray"`
	File  zk.UsageFile
	Batch chain.UsageBatch
	Tx    chain.TxID // that settled it; zero: not yet, as far as the relay knows
}

// MaxKeptBytes bounds a file of usage records: 112 records take some 20 kB.
const MaxKeptBytes = 64 << 10

const keptSuffix = ".usage"

// DecodeKept reads what a relay kept.
func DecodeKept(data []byte) (Kept, error) {
	var k Kept
	if err := codec.Unmarshal(data, &k, MaxKeptBytes); err != nil {
		return Kept{}, fmt.Errorf("relay: usage records: %w", err)
	}
	return k, nil
}

// Encode returns the canonical encoding, which DecodeKept reads.
func (k *Kept) Encode() []byte { return codec.Marshal(*k) }

// vault is a folder of files, one for each order and node. A file is written whole and made
// durable before the chain is given its batch. Of those that are settled as many are kept as
// it was made for, and the oldest go first; what is not settled is never dropped. Safe for
// concurrent use.
type vault struct {
	dir  string
	keep int

	mu      sync.Mutex
	settled []string // names, by when they were settled
}

// openVault opens a folder, or makes it. What a crash left half written is removed.
func openVault(dir string, keep int) (*vault, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("relay: folder of usage records: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("relay: folder of usage records: %w", err)
	}
	v := &vault{dir: dir, keep: keep}
	type aged struct {
		name string
		at   int64
	}
	var settled []aged
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), keptSuffix) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return nil, fmt.Errorf("relay: removing what was half written: %w", err)
			}
			continue
		}
		k, err := v.read(e.Name())
		if err != nil {
			return nil, err
		}
		info, err := e.Info()
		if err != nil {
			return nil, fmt.Errorf("relay: usage records: %w", err)
		}
		if !k.Tx.IsZero() {
			settled = append(settled, aged{e.Name(), info.ModTime().UnixNano()})
		}
	}
	slices.SortFunc(settled, func(a, b aged) int { return cmp.Or(cmp.Compare(a.at, b.at), strings.Compare(a.name, b.name)) })
	for _, s := range settled {
		v.settled = append(v.settled, s.name)
	}
	return v, v.shrink()
}

func keptName(order crypto.Digest, node crypto.PublicKey) string {
	return order.String() + "-" + node.String() + keptSuffix
}

func (v *vault) read(name string) (Kept, error) {
	data, err := os.ReadFile(filepath.Join(v.dir, name))
	if err != nil {
		return Kept{}, fmt.Errorf("relay: usage records: %w", err)
	}
	k, err := DecodeKept(data)
	if err != nil {
		return Kept{}, fmt.Errorf("%s: %w", name, err)
	}
	return k, nil
}

// get returns what is kept of a node's work under an order, and false if nothing is.
func (v *vault) get(order crypto.Digest, node crypto.PublicKey) (Kept, bool, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	k, err := v.read(keptName(order, node))
	if errors.Is(err, fs.ErrNotExist) {
		return Kept{}, false, nil
	}
	return k, err == nil, err
}

// put makes a file durable, whole or not at all.
func (v *vault) put(k *Kept) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	name := keptName(k.File.Order, k.Batch.Summary.Node)
	if err := writeDurably(v.dir, name, k.Encode()); err != nil {
		return fmt.Errorf("relay: keeping usage records: %w", err)
	}
	if k.Tx.IsZero() || slices.Contains(v.settled, name) {
		return nil
	}
	v.settled = append(v.settled, name)
	return v.shrink()
}

// shrink removes the oldest of what is settled.
func (v *vault) shrink() error {
	for len(v.settled) > v.keep {
		if err := os.Remove(filepath.Join(v.dir, v.settled[0])); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("relay: removing old usage records: %w", err)
		}
		v.settled = v.settled[1:]
	}
	return nil
}

// writeDurably writes to another name, syncs, and renames.
func writeDurably(dir, name string, data []byte) error {
	f, err := os.CreateTemp(dir, "part-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
