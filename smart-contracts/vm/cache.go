package vm

import (
	"cmp"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// compiled is what is kept of a module: compiled, or that it cannot be.
type compiled struct {
	*linked // nil: it is refused
	id      crypto.Digest
	bytes   uint64
	users   int  // calls that run it
	gone    bool // out of the cache, to be closed by its last user
}

// maker says who made a piece of native code, of an upload that its id names.
type maker struct {
	pass   byte   // the version of the pass that wrote the module
	image  byte   // of what is made of the engine's code
	engine string // of the engine
}

func (n *compiled) close() {
	if n.linked != nil {
		n.linked.close()
	}
}

// load returns a compiled module, from memory, from disk, or compiled now. Give
// it back with release. Of those that ask at once for what is not there one gets it,
// and the others wait for that.
func (m *Machine) load(code Code) (*compiled, error) {
	for {
		n, underWay := m.find(code.ID)
		if n != nil {
			return n, nil
		}
		if underWay == nil {
			return m.get(code)
		}
		<-underWay
	}
}

// get reads or compiles what find says that nobody else does.
func (m *Machine) get(code Code) (n *compiled, err error) {
	defer m.got(code.ID)
	if n = m.read(code.ID); n == nil {
		if n, err = m.compile(code); err != nil {
			return nil, err
		}
	}
	return m.keep(n), nil
}

// got lets those go on that wait for some code, whether it is there now or not.
func (m *Machine) got(id crypto.Digest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.underWay[id])
	delete(m.underWay, id)
}

// Compile has a contract's code compiled, or read from disk, before it is called.
func (m *Machine) Compile(code Code) error {
	if err := m.begin(0); err != nil {
		return err
	}
	defer m.end()
	n, err := m.load(code)
	if err == nil {
		m.release(n)
	}
	return err
}

// Has reports whether a contract's code is kept, compiled, in memory.
func (m *Machine) Has(id crypto.Digest) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.compiled[id] != nil
}

// find returns what is kept. If nothing is and another gets it, underWay is closed in
// the end; if nobody does, it is the caller's to get.
func (m *Machine) find(id crypto.Digest) (n *compiled, underWay chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n = m.compiled[id]; n == nil {
		if underWay = m.underWay[id]; underWay == nil {
			m.underWay[id] = make(chan struct{})
		}
		return nil, underWay
	}
	n.users++
	if last := len(m.recent) - 1; m.recent[last] != n {
		i := slices.Index(m.recent, n)
		m.recent = append(slices.Delete(m.recent, i, i+1), n)
	}
	return n, nil
}

func (m *Machine) keep(n *compiled) *compiled {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.compiled[n.id] != nil {
		panic("vm: a code is compiled twice at once")
	}
	n.users = 1
	m.compiled[n.id] = n
	m.recent = append(m.recent, n)
	m.bytes += n.bytes
	for m.bytes > m.config.CacheBytes && len(m.recent) > 1 {
		m.drop(m.recent[0])
	}
	return n
}

func (m *Machine) drop(n *compiled) {
	m.recent = slices.Delete(m.recent, 0, 1)
	delete(m.compiled, n.id)
	m.bytes -= n.bytes
	if n.gone = true; n.users == 0 {
		n.close()
	}
}

func (m *Machine) release(n *compiled) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n.users--; n.users == 0 && n.gone {
		n.close()
	}
}

func (m *Machine) compile(code Code) (*compiled, error) {
	prepared, err := code.Load()
	if err != nil {
		return nil, fmt.Errorf("vm: loading code %v: %w", code.ID, err)
	}
	return m.compileText(code.ID, prepared.Code())
}

// maxCompiling is how many modules are compiled at once: one may take hundreds of MiB.
const maxCompiling = 2

// image is the code of a module, as a target runs it.
func (m *Machine) image(t *target, code []byte) ([]byte, error) {
	m.compiling <- struct{}{}
	defer func() { <-m.compiling }()
	return t.image(code)
}

func (m *Machine) compileText(id crypto.Digest, code []byte) (*compiled, error) {
	text, err := m.image(m.native, code)
	if refuses(err) {
		return m.elsewhere(id, code, err)
	}
	if err != nil {
		return nil, fmt.Errorf("vm: compiling code %v: %w", id, err)
	}
	if err := m.write(id, text); err != nil { // it is compiled again after the next start
		m.config.Log.Warn("compiled code of a contract cannot be kept", "code", id, "err", err)
	}
	return m.native.bind(id, text)
}

// The ends of the names of files of native code, and of those that are being written.
const (
	nativeSuffix = ".native"
	newSuffix    = ".new"
)

// tagBytes is the length of what authenticates a file.
const tagBytes = len(crypto.Digest{})

// tag authenticates native code of some id under the node's key. An id names the upload,
// and not what other versions made of it.
func (m *Machine) tag(id crypto.Digest, text []byte) crypto.Digest {
	by := m.config.maker
	return crypto.DomainCompiled.Hash(slices.Concat(m.config.Key[:], id[:], []byte{by.pass, by.image, byte(len(by.engine))}, []byte(by.engine), text))
}

func (m *Machine) path(id crypto.Digest) string {
	return filepath.Join(m.config.Dir, hex.EncodeToString(id[:])+nativeSuffix)
}

// read returns what is on disk of some code, nil if that is nothing that this
// node wrote, this engine runs and the disk can read. The bytes are native code: none is
// looked at before the tag has been.
func (m *Machine) read(id crypto.Digest) *compiled {
	if m.config.Dir == "" {
		return nil
	}
	data, err := os.ReadFile(m.path(id))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.config.Log.Warn("compiled code of a contract cannot be read", "code", id, "err", err)
	}
	if err != nil || len(data) < tagBytes {
		return nil
	}
	text := data[tagBytes:]
	if want := m.tag(id, text); subtle.ConstantTimeCompare(want[:], data[:tagBytes]) != 1 {
		return nil
	}
	n, err := m.native.bind(id, text)
	if err != nil { // of another processor
		return nil
	}
	return n
}

// removeUnfinished removes what was being written when the node went down.
func (m *Machine) removeUnfinished() {
	if m.config.Dir == "" {
		return
	}
	entries, err := os.ReadDir(m.config.Dir)
	for _, entry := range entries {
		if filepath.Ext(entry.Name()) == newSuffix {
			err = errors.Join(err, os.Remove(filepath.Join(m.config.Dir, entry.Name())))
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.config.Log.Warn("unfinished files of compiled contracts cannot be removed", "err", err)
	}
}

// write keeps native code on disk, whole or not at all.
func (m *Machine) write(id crypto.Digest, text []byte) error {
	if m.config.Dir == "" {
		return nil
	}
	if err := os.MkdirAll(m.config.Dir, 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(m.config.Dir, "*"+newSuffix)
	if err != nil {
		return err
	}
	tag := m.tag(id, text)
	_, err = file.Write(slices.Concat(tag[:], text))
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), m.path(id))
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return m.makeRoom(m.path(id), uint64(len(text)+tagBytes))
}

// roomShare is the part of what may be on disk that is made free at once, so that who writes
// one file seldom looks at all: there may be hundreds of thousands.
const roomShare = 64

// makeRoom removes the files that were written first if there are more bytes than there may
// be, but for one, which has just been written and has so many.
func (m *Machine) makeRoom(kept string, bytes uint64) error {
	m.disk.Lock()
	defer m.disk.Unlock()
	if m.onDisk += bytes; m.counted && m.onDisk <= m.config.DirBytes {
		return nil
	}
	type native struct {
		path    string
		bytes   uint64
		written time.Time
	}
	entries, err := os.ReadDir(m.config.Dir)
	if err != nil {
		return err
	}
	var all []native
	total := uint64(0)
	for _, entry := range entries {
		if filepath.Ext(entry.Name()) != nativeSuffix {
			continue
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		total += uint64(info.Size())
		all = append(all, native{filepath.Join(m.config.Dir, entry.Name()), uint64(info.Size()), info.ModTime()})
	}
	slices.SortFunc(all, func(a, b native) int {
		return cmp.Or(a.written.Compare(b.written), strings.Compare(a.path, b.path))
	})
	most := m.config.DirBytes
	if total > most {
		most -= most / roomShare
	}
	for _, one := range all {
		if total <= most {
			break
		}
		if one.path == kept {
			continue
		}
		if err := os.Remove(one.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		total -= one.bytes
	}
	m.onDisk, m.counted = total, true
	return nil
}
