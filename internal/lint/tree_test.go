package lint

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

// tree is the Go code of a checkout.
type tree struct {
	root   string
	module string
	page   *page
	fset   *token.FileSet
	files  []*file
	loaded []*packages.Package // with types, without tests
	used   map[exception]bool  // exceptions that were of use
	found  []violation
}

// file is one Go file, whatever its build constraints.
type file struct {
	name   string // slashed, from the root
	dir    string
	test   bool
	lines  int
	syntax *ast.File
}

// violation is one thing that a lint found.
type violation struct{ lint, where, what string }

func (v violation) String() string { return v.where + ": " + v.lint + ": " + v.what }

func (t *tree) report(lint, where, format string, args ...any) {
	t.found = append(t.found, violation{lint, where, fmt.Sprintf(format, args...)})
}

// at names a position from the root.
func (t *tree) at(pos token.Pos) string {
	p := t.fset.Position(pos)
	name, err := filepath.Rel(t.root, p.Filename)
	if err != nil {
		name = p.Filename
	}
	return fmt.Sprintf("%s:%d", filepath.ToSlash(name), p.Line)
}

// load reads the page, parses every Go file that git tracks or would track,
// and type-checks the packages.
func load(root string) (*tree, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	t := &tree{root: root, fset: token.NewFileSet(), used: map[exception]bool{}}
	if t.page, err = readPage(root); err != nil {
		return nil, fmt.Errorf("docs/ARCHITECTURE.md: %w", err)
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return nil, err
	}
	match := regexp.MustCompile(`(?m)^module (\S+)$`).FindSubmatch(mod)
	if match == nil {
		return nil, fmt.Errorf("%s/go.mod names no module", root)
	}
	t.module = string(match[1])
	if err := t.parse(); err != nil {
		return nil, err
	}
	return t, t.check()
}

// listed returns the files of the checkout that a pattern of git's names.
func (t *tree) listed(pattern string) ([]string, error) {
	git := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard", pattern)
	git.Dir = t.root
	out, err := git.Output()
	if err != nil {
		return nil, fmt.Errorf("git ls-files: %w", err)
	}
	return strings.Fields(string(out)), nil
}

// parse reads the module's files. A module within it is not of it: nothing here
// can import that.
func (t *tree) parse() error {
	names, err := t.listed("*.go")
	if err != nil {
		return err
	}
	modules, err := t.listed("*/go.mod")
	if err != nil {
		return err
	}
	for _, name := range names {
		elsewhere := func(mod string) bool { return strings.HasPrefix(name, path.Dir(mod)+"/") }
		if slices.Contains(strings.Split(name, "/"), "testdata") || slices.ContainsFunc(modules, elsewhere) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(t.root, filepath.FromSlash(name)))
		if os.IsNotExist(err) {
			continue // deleted, but not yet from the index
		}
		if err != nil {
			return err
		}
		syntax, err := parser.ParseFile(t.fset, filepath.Join(t.root, filepath.FromSlash(name)), text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.report("parse", name, "%s", strings.TrimPrefix(err.Error(), t.root+"/"))
			continue
		}
		t.files = append(t.files, &file{
			name: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"),
			lines: strings.Count(string(text), "\n"), syntax: syntax,
		})
	}
	return nil
}

// check type-checks every package that has more than tests; dependencies come
// from the compiler's export data.
func (t *tree) check() error {
	patterns := map[string]bool{}
	for _, f := range t.files {
		if !f.test {
			patterns["./"+f.dir] = true
		}
	}
	dirs := make([]string, 0, len(patterns))
	for dir := range patterns {
		dirs = append(dirs, dir)
	}
	slices.Sort(dirs)
	loaded, err := packages.Load(&packages.Config{
		Dir: t.root, Fset: t.fset,
		Env: append(os.Environ(), "GOWORK=off"), // a workspace of whoever runs this is not of the tree
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedCompiledGoFiles | packages.NeedImports |
			packages.NeedExportFile | packages.NeedTypes | packages.NeedTypesSizes | packages.NeedSyntax | packages.NeedTypesInfo,
	}, dirs...)
	if err != nil {
		return fmt.Errorf("loading packages: %w", err)
	}
	for _, p := range loaded {
		t.reportErrors(p)
	}
	t.loaded = loaded
	return nil
}

// reportErrors tells why a package does not load: its type errors, or, where
// it has none, what the build says. Packages for other systems are no error.
func (t *tree) reportErrors(p *packages.Package) {
	typed := slices.ContainsFunc(p.Errors, func(e packages.Error) bool { return e.Kind == packages.TypeError })
	for _, e := range p.Errors {
		if typed && e.Kind != packages.TypeError || strings.Contains(e.Msg, "build constraints exclude all Go files") {
			continue
		}
		where := strings.TrimPrefix(e.Pos, t.root+"/")
		if where == "" || where == "-" {
			where = p.PkgPath
		}
		t.report("load", where, "%s", e.Msg)
	}
}

// inModule returns the directory of an import path of this module.
func (t *tree) inModule(importPath string) (string, bool) {
	return strings.CutPrefix(importPath, t.module+"/")
}

// excepted reports whether the page lets a file have what a pure room may not
// hold, and notes that the exception is in use.
func (t *tree) excepted(name, what string) bool {
	e := exception{name, what}
	if !slices.Contains(t.page.exceptions, e) {
		return false
	}
	t.used[e] = true
	return true
}
