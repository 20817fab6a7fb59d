package groth16

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"

	"github.com/consensys/gnark"
	bn254cs "github.com/consensys/gnark/constraint/bn254"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
)

// A file of a compiled circuit is
//
//	digest (32 bytes, DomainCircuitFile, of all that follows)
//	length of the format string (4 bytes, big-endian), format string
//	the constraint system as gnark writes it, to the end
//
// named by kernel and circuit digest. The digest of the circuit that was read is counted again, as of one that was just
// compiled, and must be the frozen one: no other constraints are proven, whoever wrote the file. How wires are solved
// that digest leaves out; a wrong solution makes no proof. A file that is not there, not intact or of another
// version costs the time to compile, and is written anew.

// maxCircuitFile bounds a file of a circuit; the largest kernel's has 63 MB.
const maxCircuitFile = 256 << 20

func circuitFormat() string {
	return fmt.Sprintf("hypermesh circuit 1, gnark %s, %s", gnark.Version, runtime.GOARCH)
}

func circuitFile(dir string, kernel zk.Kernel, circuit crypto.Digest) string {
	return filepath.Join(dir, fmt.Sprintf("%s-%s.circuit", kernel, circuit))
}

// storedCircuit returns a kernel's circuit from the directory, or compiles it and keeps it there for the next time, if
// the directory is there and can be written to.
func storedCircuit(dir string, kernel zk.Kernel, progress Progress) (*circuit, error) {
	digest, err := frozen(kernel)
	if err != nil {
		return nil, err
	}
	path := circuitFile(dir, kernel, digest)
	progress.report("reading the circuit", 0)
	c, err := readCircuit(path, kernel, digest)
	if err == nil {
		return c, nil
	}
	progress.report("compiling the circuit", 0)
	if c, err = compile(kernel); err != nil {
		return nil, err
	}
	if c.digest != digest {
		panic(fmt.Sprintf("groth16: kernel %s compiles to circuit %s, frozen is %s", kernel, c.digest, digest))
	}
	if err := writeCircuit(path, c); err != nil {
		progress.report("the circuit is not kept: "+err.Error(), 0)
	}
	return c, nil
}

func writeCircuit(path string, c *circuit) error {
	return writeStored(path, crypto.DomainCircuitFile, func(w io.Writer) error {
		if _, err := w.Write(appendBlock(nil, []byte(circuitFormat()))); err != nil {
			return err
		}
		_, err := c.system.WriteTo(w)
		return err
	})
}

// readCircuit reads a circuit that must have a digest. Errors: fs.ErrNotExist, ErrDamagedKeys.
func readCircuit(path string, kernel zk.Kernel, digest crypto.Digest) (c *circuit, err error) {
	f, err := openStored(path, crypto.DomainCircuitFile)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	c, err = parseCircuit(bufio.NewReaderSize(io.LimitReader(f, maxCircuitFile), bufferSize), kernel)
	if err != nil {
		return nil, damaged(path, err)
	}
	if c.digest != digest {
		return nil, damaged(path, fmt.Errorf("of circuit %s, not %s", c.digest.Short(), digest.Short()))
	}
	return c, nil
}

// parseCircuit reads a circuit whatever it is: what gnark or the count of its digest cannot do with is an error.
func parseCircuit(r io.Reader, kernel zk.Kernel) (c *circuit, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			c, err = nil, fmt.Errorf("it is no circuit: %v", fault)
		}
	}()
	format, err := readBlock(r)
	if err != nil {
		return nil, fmt.Errorf("format: %w", err)
	}
	if want := circuitFormat(); string(format) != want {
		return nil, fmt.Errorf("format is %q, want %q", format, want)
	}
	quiet()
	system := new(bn254cs.R1CS)
	if _, err := system.ReadFrom(r); err != nil {
		return nil, fmt.Errorf("circuit: %w", err)
	}
	return newCircuit(kernel, system), nil
}
