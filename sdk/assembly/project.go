package assembly

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

//go:embed kit/*.ts
var kitFiles embed.FS

//go:embed compiler/package.json compiler/package-lock.json
var compilerFiles embed.FS

// Files of a project.
const (
	entryFile = "index.ts"
	testsFile = "tests.ts"
	// schemaFile has what the contract's messages look like, as smart-contracts/schema
	// writes it; a project may be without.
	schemaFile = "schema.json"
	kitDir     = "kit"
	suffix     = ".ts"
)

// Limits of a project: sources are read whole.
const (
	maxFiles     = 1_000
	maxFileBytes = 1 << 20
)

// New makes a project of a template in a directory, which must not be there or be
// empty, and gives it this program's kit.
func New(dir string, template fs.FS) error {
	switch there, err := os.ReadDir(dir); {
	case err == nil && len(there) > 0:
		return fmt.Errorf("%s is not empty", dir)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	sources, err := sourcesOf(template)
	if err != nil {
		return err
	}
	return sources.write(dir)
}

// sources are a project's files by their slashed names.
type sources map[string][]byte

// names are the files in their order.
func (s sources) names() []string {
	names := make([]string, 0, len(s))
	for name := range s { // order-free: sorted below
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// sourcesOf reads a project. One without a kit gets this program's.
func sourcesOf(project fs.FS) (sources, error) {
	s := sources{}
	err := fs.WalkDir(project, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != "." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "node_modules"):
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, suffix) && name != schemaFile:
			return nil
		case len(s) == maxFiles:
			return fmt.Errorf("more than %d files", maxFiles)
		}
		return s.add(project, name, name)
	})
	if err != nil {
		return nil, fmt.Errorf("reading the project: %w", err)
	}
	if s[entryFile] == nil {
		return nil, fmt.Errorf("reading the project: there is no %s", entryFile)
	}
	if s[kitDir+"/abi"+suffix] != nil {
		return s, nil
	}
	kit, err := fs.Glob(kitFiles, kitDir+"/*"+suffix)
	if err != nil {
		return nil, err
	}
	for _, name := range kit {
		if err := s.add(kitFiles, name, name); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s sources) add(from fs.FS, name, as string) error {
	info, err := fs.Stat(from, name)
	if err != nil {
		return err
	}
	if info.Size() > maxFileBytes {
		return fmt.Errorf("%s has %d bytes, limit %d", name, info.Size(), maxFileBytes)
	}
	s[as], err = fs.ReadFile(from, name)
	return err
}

// write puts the files into a directory.
func (s sources) write(dir string) error {
	for _, name := range s.names() {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, s[name], 0o644); err != nil {
			return err
		}
	}
	return nil
}
