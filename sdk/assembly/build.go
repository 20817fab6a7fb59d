package assembly

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/hypermesh/hypermesh/smart-contracts/meter"
)

// Compiler builds contracts with the AssemblyScript compiler, which it installs
// with npm once.
type Compiler struct {
	// Tools is where the compiler is kept.
	Tools string
	// Progress is told of what takes long.
	Progress io.Writer
}

// DefaultTools is where the compiler is kept if nothing else is said.
func DefaultTools() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "hypermesh", "assembly")
}

// ErrCompile is a mistake in a contract: what the compiler says of it is in the error.
var ErrCompile = errors.New("the contract does not compile")

// options are the compiler's. Nothing of them lets the compiler see where it runs.
// Memory is the kit's, and so is what throw does.
var options = []string{
	"--runtime", "stub", "--optimizeLevel", "3", "--shrinkLevel", "2", "--converge", "--noAssert",
	"--disable", "bulk-memory,nontrapping-f2i,mutable-globals",
	"--use", "abort=kit/abi/abort", "--use", "__alloc=kit/runtime/allocate",
	"--use", "__new=kit/runtime/create", "--use", "__renew=kit/runtime/enlarge",
}

const (
	buildTime   = 10 * time.Minute
	installTime = 10 * time.Minute
)

// sourceSection is the custom section with the digest of a module's sources.
const sourceSection = "source"

// Build returns the module of a project, which the chain's checks take.
func (c Compiler) Build(ctx context.Context, project fs.FS) ([]byte, error) {
	s, err := contractOf(project)
	if err != nil {
		return nil, err
	}
	module, err := c.compile(ctx, s, entryFile)
	if err != nil {
		return nil, err
	}
	if err := check(module); err != nil {
		return nil, err
	}
	if module, err = withSchema(module, s[schemaFile]); err != nil {
		return nil, err
	}
	digest := s.digest()
	module = appendSection(module, sourceSection, digest[:])
	return module, check(module)
}

// contractOf reads a project without its tests.
func contractOf(project fs.FS) (sources, error) {
	s, err := sourcesOf(project)
	if err != nil {
		return nil, err
	}
	delete(s, testsFile)
	delete(s, kitDir+"/testing"+suffix)
	return s, nil
}

// check holds a module to what the chain takes.
func check(module []byte) error {
	if _, err := meter.Prepare(module, meter.Capabilities(), meter.WeightsV1()); err != nil {
		return fmt.Errorf("the chain would refuse the contract: %w", err)
	}
	return nil
}

// IsOf reports whether a module was built of a project's sources as they are, with
// this program's compiler and options.
func IsOf(module []byte, project fs.FS) (bool, error) {
	s, err := contractOf(project)
	if err != nil {
		return false, err
	}
	digest := s.digest()
	return bytes.HasSuffix(module, appendSection(nil, sourceSection, digest[:])), nil
}

// digest is of the files, the compiler's version, the options, and what is done to what it compiles to.
func (s sources) digest() [sha256.Size]byte {
	h := sha256.New()
	part := func(text []byte) {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(text))))
		h.Write(text)
	}
	lock, err := compilerFiles.ReadFile("compiler/package-lock.json")
	if err != nil {
		panic("assembly: no lock file: " + err.Error())
	}
	part(lock)
	part([]byte(strings.Join(options, " ") + " " + blockRule))
	for _, name := range s.names() {
		part([]byte(name))
		part(s[name])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// appendSection adds a custom section to a module.
func appendSection(module []byte, name string, data []byte) []byte {
	body := binary.AppendUvarint(nil, uint64(len(name)))
	body = append(append(body, name...), data...)
	module = append(module, 0)
	module = binary.AppendUvarint(module, uint64(len(body)))
	return append(module, body...)
}

// compile runs the compiler over a copy of the sources.
func (c Compiler) compile(ctx context.Context, s sources, entry string) (module []byte, err error) {
	asc, err := c.install(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "hypermesh-contract-*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := s.write(dir); err != nil {
		return nil, err
	}
	const out = "out.wasm"
	if text, err := runTool(ctx, buildTime, dir, "node", append([]string{asc, entry, "-o", out}, options...)...); err != nil {
		return nil, fmt.Errorf("%w: %w\n%s", ErrCompile, err, text)
	}
	if module, err = os.ReadFile(filepath.Join(dir, out)); err != nil {
		return nil, err
	}
	return withoutBlockSizes(module), nil
}

// install returns the compiler's program, and installs it if it is not there.
func (c Compiler) install(ctx context.Context) (program string, err error) {
	lock, err := compilerFiles.ReadFile("compiler/package-lock.json")
	if err != nil {
		return "", err
	}
	digest := sha256.Sum256(lock)
	tools, err := filepath.Abs(c.Tools)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(tools, fmt.Sprintf("%x", digest[:8]))
	program = filepath.Join(dir, "node_modules", "assemblyscript", "bin", "asc.js")
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "", fmt.Errorf("building contracts needs %s (Node.js 20 or later, https://nodejs.org): %w", tool, err)
		}
	}
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	fmt.Fprintln(c.Progress, "installing the AssemblyScript compiler with npm, once, in", tools)
	if err := os.MkdirAll(tools, 0o755); err != nil {
		return "", err
	}
	made, err := os.MkdirTemp(tools, "new-*")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(made)) }()
	for _, name := range []string{"package.json", "package-lock.json"} {
		text, err := compilerFiles.ReadFile("compiler/" + name)
		if err == nil {
			err = os.WriteFile(filepath.Join(made, name), text, 0o644)
		}
		if err != nil {
			return "", err
		}
	}
	if text, err := runTool(ctx, installTime, made, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"); err != nil {
		return "", fmt.Errorf("npm did not install the compiler: %w\n%s", err, text)
	}
	if err := os.Rename(made, dir); err != nil {
		if _, there := os.Stat(program); there != nil { // nobody else was faster
			return "", err
		}
	}
	return program, nil
}

// runTool runs a program in a directory, and returns what it says.
func runTool(ctx context.Context, most time.Duration, dir, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return strings.TrimSpace(string(out)), err
}
