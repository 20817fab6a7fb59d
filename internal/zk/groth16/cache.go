package groth16

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/consensys/gnark"
	backend "github.com/consensys/gnark/backend/groth16/bn254"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
)

// ErrDamagedKeys says that a file of stored keys is not what was written.
var ErrDamagedKeys = errors.New("groth16: stored keys are damaged")

// A file of keys is
//
//	digest (32 bytes, DomainProvingKey, of all that follows)
//	length of the format string (4 bytes, big-endian), format string
//	length of the verifying key (4 bytes, big-endian), verifying key
//	the proving key as memory dump, to the end
//
// named by kernel and circuit digest. The dump is read back unchecked, hence
// fast; the digest is what makes that safe against damage. The file is no
// interchange format: the format string pins gnark's version and the machine.
const bufferSize = 1 << 20 // bytes

func cacheFormat() string {
	return fmt.Sprintf("hypermesh groth16 keys 1, gnark %s, %s", gnark.Version, runtime.GOARCH)
}

func cachePath(dir string, c *circuit) string { return cacheFile(dir, c.kernel, c.digest) }

func cacheFile(dir string, kernel zk.Kernel, circuit crypto.Digest) string {
	return filepath.Join(dir, fmt.Sprintf("%s-%s.keys", kernel, circuit))
}

// LoadOrSetup returns the kernel's keys from the directory, making and storing
// them there first if there are none, or none that are intact (progress then
// says so). Processes that share the directory make them once: the others wait.
// The directory is created if need be.
func LoadOrSetup(dir string, kernel zk.Kernel, progress Progress) (*Keys, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { // nothing here is secret
		return nil, fmt.Errorf("groth16: directory of keys: %w", err)
	}
	c, err := storedCircuit(dir, kernel, progress)
	if err != nil {
		return nil, err
	}
	path := cachePath(dir, c)
	keys, err := readKeys(path, c)
	if needsSetup(err) {
		keys, err = setupLocked(dir, c, progress)
	}
	if err != nil {
		return nil, err
	}
	progress.report("keys ready", 1)
	return keys, nil
}

// Load returns the kernel's keys from the directory. The error wraps
// fs.ErrNotExist if there are none, and ErrDamagedKeys if they are not intact.
// It is for whoever needs the keys of an existing network: new ones would not
// fit its genesis. The compiled circuit is kept beside the keys.
func Load(dir string, kernel zk.Kernel) (*Keys, error) {
	digest, err := frozen(kernel)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(cacheFile(dir, kernel, digest)); err != nil {
		return nil, fmt.Errorf("groth16: stored keys: %w", err) // nothing is compiled for keys that are not there
	}
	c, err := storedCircuit(dir, kernel, nil)
	if err != nil {
		return nil, err
	}
	return readKeys(cachePath(dir, c), c)
}

// Stored returns the digest of the verifying key that Load would find, with
// Load's errors. It reads the file through once and keeps none of it, and
// compiles nothing: the circuit's digest is frozen.
func Stored(dir string, kernel zk.Kernel) (digest crypto.Digest, err error) {
	circuit, err := frozen(kernel)
	if err != nil {
		return crypto.Digest{}, err
	}
	path := cacheFile(dir, kernel, circuit)
	f, err := openStored(path, crypto.DomainProvingKey)
	if err != nil {
		return crypto.Digest{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	encoding, err := readHead(f)
	if err != nil {
		return crypto.Digest{}, damaged(path, err)
	}
	key, err := decodeVerifyingKey(kernel, encoding)
	if err != nil {
		return crypto.Digest{}, damaged(path, err)
	}
	if key.circuit != circuit {
		return crypto.Digest{}, damaged(path, fmt.Errorf("of circuit %s, not %s", key.circuit.Short(), circuit.Short()))
	}
	return key.digest, nil
}

func needsSetup(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrDamagedKeys)
}

// setupLocked makes and stores keys while it holds the directory's lock for
// this circuit, unless another process has done so meanwhile.
func setupLocked(dir string, c *circuit, progress Progress) (keys *Keys, err error) {
	path := cachePath(dir, c)
	lock, err := lockFile(path+".lock", func() {
		progress.report("waiting for another process that is making the keys", 0)
	})
	if err != nil {
		return nil, fmt.Errorf("groth16: lock on keys: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()

	keys, err = readKeys(path, c)
	if !needsSetup(err) {
		return keys, err
	}
	if errors.Is(err, ErrDamagedKeys) {
		progress.report(err.Error()+"; making new ones", 0)
	}
	if keys, err = setup(c, progress); err != nil {
		return nil, err
	}
	progress.report("storing the keys", 0.95)
	if err := writeKeys(path, keys); err != nil {
		return nil, fmt.Errorf("groth16: storing keys: %w", err)
	}
	return keys, nil
}

// readKeys reads the file twice: once for its digest, once for its contents. A
// reader's open file is never written to, only replaced by another.
func readKeys(path string, c *circuit) (keys *Keys, err error) {
	f, err := openStored(path, crypto.DomainProvingKey)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	keys, err = parseKeys(bufio.NewReaderSize(f, bufferSize), c)
	if err != nil {
		return nil, damaged(path, err)
	}
	return keys, nil
}

// openStored opens a file whose digest is right, after the digest.
func openStored(path string, domain *crypto.Domain) (file *os.File, err error) {
	f, err := os.Open(path) // the caller's own directory
	if err != nil {
		return nil, fmt.Errorf("groth16: stored keys: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	var want crypto.Digest
	if _, err := io.ReadFull(f, want[:]); err != nil {
		return nil, damaged(path, err)
	}
	h := domain.NewStream()
	if _, err := io.Copy(h, f); err != nil {
		return nil, fmt.Errorf("groth16: stored keys: %w", err)
	}
	if h.Sum() != want {
		return nil, damaged(path, errors.New("digest differs"))
	}
	if _, err := f.Seek(crypto.DigestSize, io.SeekStart); err != nil {
		return nil, fmt.Errorf("groth16: stored keys: %w", err)
	}
	return f, nil
}

func damaged(path string, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrDamagedKeys, filepath.Base(path), err)
}

// readHead reads what stands before the proving key: the format, which must be
// ours, and the verifying key.
func readHead(r io.Reader) ([]byte, error) {
	format, err := readBlock(r)
	if err != nil {
		return nil, fmt.Errorf("format: %w", err)
	}
	if want := cacheFormat(); string(format) != want {
		return nil, fmt.Errorf("format is %q, want %q", format, want)
	}
	encoding, err := readBlock(r)
	if err != nil {
		return nil, fmt.Errorf("verifying key: %w", err)
	}
	return encoding, nil
}

func parseKeys(r *bufio.Reader, c *circuit) (*Keys, error) {
	encoding, err := readHead(r)
	if err != nil {
		return nil, err
	}
	var pk backend.ProvingKey
	if err := pk.ReadDump(r); err != nil {
		return nil, fmt.Errorf("proving key: %w", err)
	}
	return newKeys(c, &pk, encoding)
}

// readBlock reads a length and that many bytes, at most MaxVerifyingKeySize.
func readBlock(r io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > MaxVerifyingKeySize {
		return nil, fmt.Errorf("%d bytes, limit %d", n, MaxVerifyingKeySize)
	}
	block := make([]byte, n)
	_, err := io.ReadFull(r, block)
	return block, err
}

func appendBlock(out, block []byte) []byte {
	out = binary.BigEndian.AppendUint32(out, uint32(len(block))) // a few hundred bytes
	return append(out, block...)
}

// Store keeps the keys in a directory, where Load finds them.
func (k *Keys) Store(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { // nothing here is secret
		return fmt.Errorf("groth16: directory of keys: %w", err)
	}
	if err := writeKeys(cachePath(dir, k.circuit), k); err != nil {
		return fmt.Errorf("groth16: storing keys: %w", err)
	}
	return nil
}

// writeKeys stores the keys at path, whole or not at all.
func writeKeys(path string, keys *Keys) error {
	return writeStored(path, crypto.DomainProvingKey, func(w io.Writer) error {
		head := appendBlock(appendBlock(nil, []byte(cacheFormat())), keys.encoding)
		if _, err := w.Write(head); err != nil {
			return err
		}
		return keys.proving.WriteDump(w)
	})
}

// writeStored stores what contents writes, after its digest, whole or not at all: it goes to a
// temporary file, which is synced and then renamed.
func writeStored(path string, domain *crypto.Domain, contents func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeIfThere(f.Name()))
		}
	}()
	if err := errors.Join(writeHashed(f, domain, contents), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// writeHashed leaves room for the digest, writes the rest while hashing it,
// and then fills in the digest.
func writeHashed(f *os.File, domain *crypto.Domain, contents func(io.Writer) error) error {
	if _, err := f.Seek(crypto.DigestSize, io.SeekStart); err != nil {
		return err
	}
	h := domain.NewStream()
	w := bufio.NewWriterSize(io.MultiWriter(f, h), bufferSize)
	if err := errors.Join(contents(w), w.Flush()); err != nil {
		return err
	}
	digest := h.Sum()
	_, err := f.WriteAt(digest[:], 0)
	return err
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir) // the caller's own directory
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
