package lint

import (
	"go/ast"
	"path"
	"slices"
	"strconv"
	"strings"
)

// rooms: every directory with code is a room or a program of the page, every
// room has a row of imports, and there are not too many.
func (t *tree) lintRooms() {
	const lint, where = "rooms", "docs/ARCHITECTURE.md"
	p := t.page
	if n := len(p.rooms); n > p.limits.rooms {
		t.report(lint, where, "%d rooms, limit %d", n, p.limits.rooms)
	}
	for room := range p.rooms {
		if _, ok := p.imports[room]; !ok {
			t.report(lint, where, "room %s has no row of imports", room)
		}
	}
	for name, may := range p.imports {
		if _, ok := p.entry(name); !ok && !slices.Contains(p.programs, name) {
			t.report(lint, where, "row of imports for %s, which is no room", name)
		}
		for _, dir := range may {
			kind, ok := p.rooms[dir]
			if !ok {
				t.report(lint, where, "%s may import %s, which is no room", name, dir)
			}
			if p.rooms[name] == kindPure && kind != kindPure {
				t.report(lint, where, "%s is pure and may import %s, which is not", name, dir)
			}
		}
		if p.reachable(name)[name] {
			t.report(lint, where, "%s may import itself, by a cycle", name)
		}
	}
	for _, dir := range t.dirs() {
		if _, ok := p.entry(dir); !ok {
			t.report(lint, dir, "no room of docs/ARCHITECTURE.md")
		}
	}
}

// dirs lists the directories with Go files.
func (t *tree) dirs() []string {
	var out []string
	for _, f := range t.files {
		out = append(out, f.dir)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// forTests are the rooms that every test may import.
var forTests = []string{"internal/sim", "internal/netem", "internal/golden"}

// measuredOn is what tests of a room may use as well: gas is measured on what reads cost on
// the disk, and with contracts that run; contracts that pay for proofs are shown true ones.
var measuredOn = map[string][]string{
	"internal/execution":        {"internal/store", "smart-contracts/vm", "smart-contracts/templates"},
	"smart-contracts/templates": {"internal/zk/groth16"},
}

// imports: a package imports what its row lists and what is reachable from
// that. Tests may add the rooms that are for tests alone.
func (t *tree) lintImports() {
	for _, f := range t.files {
		entry, ok := t.page.entry(f.dir)
		if !ok {
			continue // lintRooms says so
		}
		reachable := t.page.reachable(entry)
		for _, spec := range f.syntax.Imports {
			dir, ours := t.inModule(importPath(spec))
			if !ours || reachable[dir] || f.test && (dir == f.dir || slices.Contains(forTests, dir) || slices.Contains(measuredOn[entry], dir)) {
				continue
			}
			t.report("imports", t.at(spec.Pos()), "%s may not import %s", f.dir, dir)
		}
	}
}

// owners: a heavy dependency is imported by its owners alone, tests included.
func (t *tree) lintOwners() {
	for _, f := range t.files {
		for _, spec := range f.syntax.Imports {
			name := importPath(spec)
			for _, o := range t.page.owners {
				of := func(prefix string) bool { return within(name, prefix) }
				if slices.ContainsFunc(o.prefixes, of) && !slices.Contains(o.rooms, f.dir) {
					t.report("owners", t.at(spec.Pos()), "%s belongs to %s", o.name, strings.Join(o.rooms, ", "))
				}
			}
		}
	}
}

func importPath(spec *ast.ImportSpec) string {
	name, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		panic("lint: the parser let an import path through: " + err.Error())
	}
	return name
}

// within reports whether an import path is prefix or below it.
func within(name, prefix string) bool {
	rest, ok := strings.CutPrefix(name, prefix)
	return ok && (rest == "" || rest[0] == '/')
}

// package-comment: exactly one file of a package has the package comment.
func (t *tree) lintPackageComments() {
	holders := map[string][]string{}
	for _, f := range t.files {
		if f.syntax.Doc == nil {
			continue
		}
		if f.test {
			t.report("package-comment", f.name, "a test has a package comment")
			continue
		}
		holders[f.dir] = append(holders[f.dir], f.name)
		first, _, _ := strings.Cut(f.syntax.Doc.Text(), "\n")
		want := "Package " + f.syntax.Name.Name + " "
		if f.syntax.Name.Name == "main" {
			want = "Command " + path.Base(f.dir) + " "
		}
		if !strings.HasPrefix(first, want) {
			t.report("package-comment", f.name, "it begins with %q, want %q", first, want+"…")
		}
	}
	for _, dir := range t.dirs() {
		if n := len(holders[dir]); n != 1 {
			t.report("package-comment", dir, "%d package comments, want 1 %v", n, holders[dir])
		}
	}
}

// names: no junk drawers.
func (t *tree) lintNames() {
	banned := []string{"utils", "util", "common", "helpers", "helper", "types", "misc"}
	for _, f := range t.files {
		name := strings.TrimSuffix(f.syntax.Name.Name, "_test")
		if slices.Contains(banned, name) || slices.Contains(banned, path.Base(f.dir)) {
			t.report("names", f.name, "package %s in %s: a junk drawer's name", name, f.dir)
		}
	}
}

// file-size, function-size, parameters, bools, init.
func (t *tree) lintSizes() {
	for _, f := range t.files {
		if ast.IsGenerated(f.syntax) {
			continue
		}
		if f.lines > t.page.limits.fileLines {
			t.report("file-size", f.name, "%d lines, limit %d", f.lines, t.page.limits.fileLines)
		}
		for _, d := range f.syntax.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				t.lintFunction(fn)
			}
		}
	}
}

func (t *tree) lintFunction(fn *ast.FuncDecl) {
	where, name := t.at(fn.Pos()), fn.Name.Name
	if n := t.fset.Position(fn.End()).Line - t.fset.Position(fn.Pos()).Line + 1; n > t.page.limits.functionLines {
		t.report("function-size", where, "%s has %d lines, limit %d", name, n, t.page.limits.functionLines)
	}
	if fn.Recv == nil && name == "init" {
		t.report("init", where, "no init: call what is needed where it is needed")
	}
	count, lastBool := 0, false
	for _, field := range fn.Type.Params.List {
		ident, ok := field.Type.(*ast.Ident)
		isBool := ok && ident.Name == "bool"
		for range max(1, len(field.Names)) {
			if isBool && lastBool {
				t.report("bools", where, "%s has two bools side by side", name)
			}
			lastBool = isBool
			count++
		}
	}
	if count > t.page.limits.parameters {
		t.report("parameters", where, "%s has %d parameters, limit %d", name, count, t.page.limits.parameters)
	}
}
