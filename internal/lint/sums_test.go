package lint

import (
	"go/ast"
	"go/types"
	"strings"

	"golang.org/x/tools/go/packages"
)

// sums: a type switch over a sealed interface of this module names every
// implementation and has no default.
func (t *tree) lintSums() {
	for _, p := range t.loaded {
		for _, syntax := range p.Syntax {
			ast.Inspect(syntax, func(n ast.Node) bool {
				if s, ok := n.(*ast.TypeSwitchStmt); ok {
					t.lintSwitch(p, s)
				}
				return true
			})
		}
	}
}

func (t *tree) lintSwitch(p *packages.Package, s *ast.TypeSwitchStmt) {
	sum, sealed := t.sealed(p.TypesInfo.TypeOf(switched(s)))
	if sealed == nil {
		return
	}
	where, name := t.at(s.Pos()), sum.Obj().Pkg().Name()+"."+sum.Obj().Name()
	var listed []types.Type
	for _, clause := range s.Body.List {
		c := clause.(*ast.CaseClause)
		if c.List == nil {
			t.report("sums", where, "switch over the sealed %s has a default", name)
		}
		for _, expr := range c.List {
			if tv := p.TypesInfo.Types[expr]; tv.Type != nil && !tv.IsNil() {
				listed = append(listed, tv.Type)
			}
		}
	}
	var missing []string
	for _, member := range members(sum, sealed) {
		if !covered(member, listed) {
			missing = append(missing, member.Obj().Name())
		}
	}
	if len(missing) > 0 {
		t.report("sums", where, "switch over the sealed %s lacks %s", name, strings.Join(missing, ", "))
	}
}

// switched returns the expression of `switch x.(type)`.
func switched(s *ast.TypeSwitchStmt) ast.Expr {
	switch a := s.Assign.(type) {
	case *ast.ExprStmt:
		return a.X.(*ast.TypeAssertExpr).X
	case *ast.AssignStmt:
		return a.Rhs[0].(*ast.TypeAssertExpr).X
	}
	panic("lint: a type switch without an assertion")
}

// sealed returns the interface of a type that is a named interface of this
// module with an unexported method of its own package.
func (t *tree) sealed(typ types.Type) (*types.Named, *types.Interface) {
	named, ok := types.Unalias(typ).(*types.Named)
	if !ok || named.Obj().Pkg() == nil {
		return nil, nil
	}
	if _, ours := t.inModule(named.Obj().Pkg().Path()); !ours {
		return nil, nil
	}
	iface, ok := named.Underlying().(*types.Interface)
	if !ok || sealingMethod(iface) == nil {
		return nil, nil
	}
	return named, iface
}

func sealingMethod(iface *types.Interface) *types.Func {
	for m := range iface.Methods() {
		if !m.Exported() {
			return m
		}
	}
	return nil
}

// members lists the concrete types of the interface's package that implement
// it by a method of their own: a struct that embeds the interface is a holder
// of the sum, not a member.
func members(sum *types.Named, iface *types.Interface) []*types.Named {
	seal := sealingMethod(iface)
	scope := sum.Obj().Pkg().Scope()
	var out []*types.Named
	for _, name := range scope.Names() {
		obj, ok := scope.Lookup(name).(*types.TypeName)
		if !ok || obj.IsAlias() {
			continue
		}
		named, ok := obj.Type().(*types.Named)
		if !ok || types.IsInterface(named) || named.TypeParams().Len() > 0 {
			continue
		}
		pointer := types.NewPointer(named)
		if !types.Implements(pointer, iface) {
			continue
		}
		if _, index, _ := types.LookupFieldOrMethod(pointer, true, seal.Pkg(), seal.Name()); len(index) == 1 {
			out = append(out, named)
		}
	}
	return out
}

// covered reports whether a case lists the type, its pointer, or an interface
// that either implements.
func covered(member *types.Named, listed []types.Type) bool {
	pointer := types.NewPointer(member)
	for _, l := range listed {
		if types.Identical(l, member) || types.Identical(l, pointer) {
			return true
		}
		if iface, ok := l.Underlying().(*types.Interface); ok && types.Implements(pointer, iface) {
			return true
		}
	}
	return false
}
