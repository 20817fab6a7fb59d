package vm

import (
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// compiled is what is kept of a module: compiled, or that it cannot be.
type compiled struct {
	*linked // nil: it is refused
	id      crypto.Digest
	bytes   uint64
	shelf   *shelf // that it is on; nil once it is off, to be closed by its last user if it is not pinned
	users   int    // calls that run it
	until   uint64 // the period in which it is pinned no more; 0: it is not pinned
}

func (n *compiled) close() {
	if n.linked != nil {
		n.linked.close()
	}
}

// shelf is what is kept in memory of compiled modules.
type shelf struct {
	most   uint64      // bytes; one module is kept whatever it takes
	recent []*compiled // the most recently used last
	bytes  uint64
}

func (s *shelf) put(n *compiled) {
	s.recent = append(s.recent, n)
	s.bytes += n.bytes
	n.shelf = s
}

func (s *shelf) take(n *compiled) {
	i := slices.Index(s.recent, n)
	s.recent = slices.Delete(s.recent, i, i+1)
	s.bytes -= n.bytes
	n.shelf = nil
}

// touch notes that a module is used now.
func (s *shelf) touch(n *compiled) {
	if s.recent[len(s.recent)-1] != n {
		s.take(n)
		s.put(n)
	}
}

// purpose is what compiled code is wanted for.
type purpose byte

// The purposes.
const (
	paidCall   purpose = iota
	unpaidCall         // nobody pays for having it loaded
	pinning            // to be kept on no shelf
)

// load returns a compiled module, from memory, from disk, or compiled now. Give
// it back with release. Of those that ask at once for what is not there one gets it,
// and the others wait for that.
func (m *Machine) load(code Code, to purpose) (*compiled, error) {
	for {
		n, underWay := m.find(code.ID, to)
		if n != nil {
			return n, nil
		}
		if underWay == nil {
			return m.get(code, to)
		}
		<-underWay
	}
}

// get reads or compiles what find says that nobody else does.
func (m *Machine) get(code Code, to purpose) (n *compiled, err error) {
	defer m.got(code.ID)
	if n = m.read(code.ID); n == nil {
		if n, err = m.compile(code); err != nil {
			return nil, err
		}
	}
	return m.keep(n, to), nil
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
	n, err := m.load(code, paidCall)
	if err == nil {
		m.release(n)
	}
	return err
}

// Ready has a contract's code compiled and kept on disk, if it is not, so that no call has to
// wait for a compiler; where there is no disk, in memory.
func (m *Machine) Ready(code Code) error {
	if m.config.Dir != "" {
		if _, err := os.Stat(m.path(code.ID)); err == nil {
			return nil
		}
	}
	return m.Compile(code)
}

// Check looks at what is on disk of a contract's code, and has the code compiled anew if that is not what this node wrote:
// who calls it finds out too, and waits for a compiler. Without a disk it does nothing.
func (m *Machine) Check(code Code) error {
	if m.config.Dir == "" {
		return nil
	}
	if err := m.begin(0); err != nil {
		return err
	}
	defer m.end()
	if m.content(code.ID) != nil {
		return nil
	}
	m.config.Log.Warn("compiled code of a contract is damaged on disk: it is compiled anew", "code", code.ID)
	prepared, err := code.Load()
	if err != nil {
		return fmt.Errorf("vm: loading code %v: %w", code.ID, err)
	}
	as, text, err := m.made(code.ID, prepared.Code())
	if err != nil {
		return err
	}
	return m.write(code.ID, as, text)
}

// Has reports whether a contract's code is kept, compiled, in memory.
func (m *Machine) Has(id crypto.Digest) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.compiled[id] != nil
}

// find returns what is kept. If nothing is and another gets it, underWay is closed in
// the end; if nobody does, it is the caller's to get. Who does not pay changes nothing on the
// shelf of those who do; what he had loaded becomes theirs when one of them calls it.
func (m *Machine) find(id crypto.Digest, to purpose) (n *compiled, underWay chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n = m.compiled[id]; n == nil {
		if underWay = m.underWay[id]; underWay == nil {
			m.underWay[id] = make(chan struct{})
		}
		return nil, underWay
	}
	n.users++
	switch {
	case n.shelf != nil && n.shelf == m.shelf(to):
		n.shelf.touch(n)
	case to == paidCall:
		if n.shelf != nil { // else it is pinned, or to be
			n.shelf.take(n)
		}
		m.place(n, &m.paid)
	}
	return n, nil
}

// shelf is where what is loaded for a purpose is kept, nil if that is on none.
func (m *Machine) shelf(to purpose) *shelf {
	switch to {
	case paidCall:
		return &m.paid
	case unpaidCall:
		return &m.asked
	case pinning:
	}
	return nil
}

// keep keeps a module that nobody had, for one user.
func (m *Machine) keep(n *compiled, to purpose) *compiled {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.compiled[n.id] != nil {
		panic("vm: a code is compiled twice at once")
	}
	n.users = 1
	m.compiled[n.id] = n
	if on := m.shelf(to); on != nil {
		m.place(n, on)
	}
	return n
}

// place puts a module on a shelf, and takes off what there is no room for any more.
func (m *Machine) place(n *compiled, on *shelf) {
	on.put(n)
	for on.bytes > on.most && len(on.recent) > 1 {
		m.drop(on.recent[0])
	}
}

func (m *Machine) drop(n *compiled) {
	n.shelf.take(n)
	if n.until == 0 {
		m.forget(n)
	}
}

// forget leaves what is neither on a shelf nor pinned to its last user.
func (m *Machine) forget(n *compiled) {
	delete(m.compiled, n.id)
	if n.users == 0 {
		n.close()
	}
}

func (m *Machine) release(n *compiled) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n.users--; n.users == 0 && n.shelf == nil && n.until == 0 {
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
	as, text, err := m.made(id, code)
	if err != nil {
		return nil, err
	}
	if err := m.write(id, as, text); err != nil { // it is compiled again whenever memory has had no room for it
		m.config.Log.Warn("compiled code of a contract cannot be kept", "code", id, "err", err)
	}
	return m.bind(id, as, text)
}

// The ends of the names of files of compiled code, and of those that are being written.
const (
	nativeSuffix = ".native"
	newSuffix    = ".new"
)

// tagBytes is the length of what authenticates a file. Its form and its code follow.
const tagBytes = len(crypto.Digest{})

// maker says who makes compiled code, of an upload that its id names.
type maker struct {
	pass   byte   // the version of the pass that wrote the module
	image  byte   // of what is made of the engine's code
	engine string // of the engine
}

// emptyModule has no sections.
var emptyModule = []byte("\x00asm\x01\x00\x00\x00")

// openDir makes the names and the key of what this machine keeps on disk: of its maker, of the
// processor, which the engine describes in whatever it makes, and of the node's key. It removes what is of no
// use.
func (m *Machine) openDir() error {
	if m.config.Dir == "" {
		return nil
	}
	nothing, err := m.native.image(emptyModule)
	if err != nil {
		return fmt.Errorf("vm: compiling nothing: %w", err)
	}
	by, processor := &m.config.maker, crypto.DomainCompiled.Hash(nothing)
	m.key = crypto.DomainCompiled.Hash(slices.Concat(m.config.Key[:], []byte{by.pass, by.image}, processor[:], []byte(by.engine)))
	name := crypto.DomainCompiled.Hash(m.key[:])
	m.suffix = "." + hex.EncodeToString(name[:8]) + nativeSuffix
	m.removeUseless()
	return nil
}

// tag authenticates what is kept of the code of some id. An id names the upload, and not what
// other versions made of it.
func (m *Machine) tag(id crypto.Digest, content []byte) crypto.Digest {
	return crypto.DomainCompiled.Hash(slices.Concat(m.key[:], id[:], content))
}

func (m *Machine) path(id crypto.Digest) string {
	return filepath.Join(m.config.Dir, hex.EncodeToString(id[:])+m.suffix)
}

// read returns what is on disk of some code, nil if that is nothing that this
// node wrote, this engine runs and the disk can read. The bytes are native code: none is
// looked at before the tag has been.
func (m *Machine) read(id crypto.Digest) *compiled {
	content := m.content(id)
	if content == nil {
		return nil
	}
	n, err := m.bind(id, form(content[0]), content[1:])
	if err != nil {
		m.config.Log.Warn("compiled code of a contract is of no use", "code", id, "err", err)
		return nil
	}
	return n
}

// content returns what is on disk of some code, nil if that is nothing that this node wrote.
func (m *Machine) content(id crypto.Digest) []byte {
	if m.config.Dir == "" {
		return nil
	}
	data, err := os.ReadFile(m.path(id))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			m.config.Log.Warn("compiled code of a contract cannot be read", "code", id, "err", err)
		}
		return nil
	}
	if len(data) <= tagBytes {
		return nil
	}
	content := data[tagBytes:]
	if want := m.tag(id, content); subtle.ConstantTimeCompare(want[:], data[:tagBytes]) != 1 {
		return nil
	}
	return content
}

// removeUseless removes what was being written when the node went down, and what this machine
// would not read. Nothing else is ever removed: the state lists that code for good, and a call of it
// pays for a read and not for a compiler.
func (m *Machine) removeUseless() {
	entries, err := os.ReadDir(m.config.Dir)
	for _, entry := range entries {
		name := entry.Name()
		if ext := filepath.Ext(name); ext == newSuffix || ext == nativeSuffix && !strings.HasSuffix(name, m.suffix) {
			err = errors.Join(err, os.Remove(filepath.Join(m.config.Dir, name)))
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.config.Log.Warn("useless files of compiled contracts cannot be removed", "err", err)
	}
}

// write keeps what has become of code on disk, whole or not at all.
func (m *Machine) write(id crypto.Digest, as form, text []byte) error {
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
	content := append([]byte{byte(as)}, text...)
	tag := m.tag(id, content)
	_, err = file.Write(slices.Concat(tag[:], content))
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		err = os.Rename(file.Name(), m.path(id))
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}
