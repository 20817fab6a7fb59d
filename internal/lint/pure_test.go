package lint

import (
	"go/ast"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

// impure is what pure rooms do not import, with what lies below it.
var impure = []string{"os", "net", "syscall", "runtime", "log", "sync", "math/rand", "crypto/rand"}

// durations is what pure rooms may use of package time.
var durations = []string{"Duration", "Nanosecond", "Microsecond", "Millisecond", "Second", "Minute", "Hour", "ParseDuration"}

// pure: what a pure room may not hold, by syntax.
func (t *tree) lintPure() {
	for _, f := range t.files {
		if !t.page.pureFile(f) {
			continue
		}
		for _, spec := range f.syntax.Imports {
			name := importPath(spec)
			bans := func(prefix string) bool { return within(name, prefix) }
			if slices.ContainsFunc(impure, bans) && !t.excepted(f.name, name) {
				t.report("pure", t.at(spec.Pos()), "import of %s", name)
			}
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				if !t.excepted(f.name, "go") {
					t.report("pure", t.at(n.Pos()), "go statement")
				}
			case *ast.SelectStmt:
				if !t.excepted(f.name, "select") {
					t.report("pure", t.at(n.Pos()), "select statement")
				}
			}
			return true
		})
	}
}

// lintStaleExceptions demands that every exception of the page is in use. It
// runs after the lints that use them.
func (t *tree) lintStaleExceptions() {
	for _, e := range t.page.exceptions {
		if !t.used[e] {
			t.report("exceptions", "docs/ARCHITECTURE.md", "%s no longer needs %s", e.file, e.what)
		}
	}
}

// pureSyntax calls visit with every file of a pure room that has types.
func (t *tree) pureSyntax(visit func(p *packages.Package, f *file, syntax *ast.File)) {
	byName := map[string]*file{}
	for _, f := range t.files {
		byName[f.name] = f
	}
	for _, p := range t.loaded {
		for _, syntax := range p.Syntax {
			name, err := filepath.Rel(t.root, t.fset.Position(syntax.Package).Filename)
			if err != nil {
				continue
			}
			if f := byName[filepath.ToSlash(name)]; f != nil && t.page.pureFile(f) {
				visit(p, f, syntax)
			}
		}
	}
}

// clock: of package time, durations alone.
func (t *tree) lintClock() {
	t.pureSyntax(func(p *packages.Package, f *file, syntax *ast.File) {
		ast.Inspect(syntax, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok || packageOf(p.TypesInfo, sel) != "time" || slices.Contains(durations, sel.Sel.Name) {
				return true
			}
			if what := "time." + sel.Sel.Name; !t.excepted(f.name, what) {
				t.report("clock", t.at(sel.Pos()), "%s", what)
			}
			return true
		})
	})
}

// packageOf returns the import path of the package whose name sel qualifies.
func packageOf(info *types.Info, sel *ast.SelectorExpr) string {
	id, ok := sel.X.(*ast.Ident)
	if !ok {
		return ""
	}
	name, ok := info.Uses[id].(*types.PkgName)
	if !ok {
		return ""
	}
	return name.Imported().Path()
}

// map-order: no walk over a map whose order can show.
func (t *tree) lintMapOrder() {
	t.pureSyntax(func(p *packages.Package, f *file, syntax *ast.File) {
		w := mapWalk{tree: t, info: p.TypesInfo, reasons: reasonLines(t.fset, syntax), fine: map[ast.Node]bool{}}
		ast.Inspect(syntax, w.visit)
	})
}

const reasonPrefix = "// order-free: "

// reasonLines returns the lines with a comment that gives a reason.
func reasonLines(fset *token.FileSet, syntax *ast.File) map[int]bool {
	out := map[int]bool{}
	for _, group := range syntax.Comments {
		for _, c := range group.List {
			if reason, ok := strings.CutPrefix(c.Text, reasonPrefix); ok && strings.TrimSpace(reason) != "" {
				// A reason may go on over the lines of its group.
				out[fset.Position(group.End()).Line] = true
			}
		}
	}
	return out
}

type mapWalk struct {
	tree    *tree
	info    *types.Info
	reasons map[int]bool
	fine    map[ast.Node]bool // walks whose result is sorted at once
}

// visit sees a parent before its children, so that sorting excuses a walk
// before the walk is met.
func (w *mapWalk) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.BlockStmt:
		w.excuseCollected(n.List)
	case *ast.CaseClause:
		w.excuseCollected(n.Body)
	case *ast.CallExpr:
		if sel, ok := n.Fun.(*ast.SelectorExpr); ok {
			w.call(n, sel)
		}
	case *ast.RangeStmt:
		tv, ok := w.info.Types[n.X]
		if !ok || tv.Type == nil || n.Key == nil && n.Value == nil {
			return true
		}
		if _, isMap := tv.Type.Underlying().(*types.Map); isMap {
			w.demand(n, "range over a map")
		}
	}
	return true
}

func (w *mapWalk) call(n *ast.CallExpr, sel *ast.SelectorExpr) {
	switch packageOf(w.info, sel) {
	case "slices":
		if strings.HasPrefix(sel.Sel.Name, "Sorted") && len(n.Args) > 0 {
			w.fine[n.Args[0]] = true
		}
	case "maps":
		if slices.Contains([]string{"Keys", "Values", "All"}, sel.Sel.Name) {
			w.demand(n, "maps."+sel.Sel.Name)
		}
	}
}

func (w *mapWalk) demand(n ast.Node, what string) {
	line := w.tree.fset.Position(n.Pos()).Line
	if !w.fine[n] && !w.reasons[line] && !w.reasons[line-1] {
		w.tree.report("map-order", w.tree.at(n.Pos()), "%s: sort the result at once, or say why with %swhy", what, reasonPrefix)
	}
}

// excuseCollected finds loops that only collect into a slice which the next
// statement sorts.
func (w *mapWalk) excuseCollected(list []ast.Stmt) {
	for i := range len(list) - 1 {
		loop, ok := list[i].(*ast.RangeStmt)
		if !ok || len(loop.Body.List) != 1 {
			continue
		}
		into := appendedTo(loop.Body.List[0])
		if into != "" && into == w.sorted(list[i+1]) {
			w.fine[loop] = true
		}
	}
}

// appendedTo returns x of `x = append(x, …)`.
func appendedTo(s ast.Stmt) string {
	assign, ok := s.(*ast.AssignStmt)
	if !ok || len(assign.Lhs) != 1 || len(assign.Rhs) != 1 {
		return ""
	}
	into, ok := assign.Lhs[0].(*ast.Ident)
	if !ok {
		return ""
	}
	call, ok := assign.Rhs[0].(*ast.CallExpr)
	if !ok || len(call.Args) == 0 {
		return ""
	}
	fun, ok := call.Fun.(*ast.Ident)
	first, ok2 := call.Args[0].(*ast.Ident)
	if !ok || !ok2 || fun.Name != "append" || first.Name != into.Name {
		return ""
	}
	return into.Name
}

// sorted returns x of `slices.Sort…(x, …)`.
func (w *mapWalk) sorted(s ast.Stmt) string {
	expr, ok := s.(*ast.ExprStmt)
	if !ok {
		return ""
	}
	call, ok := expr.X.(*ast.CallExpr)
	if !ok || len(call.Args) == 0 {
		return ""
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	arg, ok2 := call.Args[0].(*ast.Ident)
	if !ok || !ok2 || packageOf(w.info, sel) != "slices" || !strings.HasPrefix(sel.Sel.Name, "Sort") {
		return ""
	}
	return arg.Name
}
