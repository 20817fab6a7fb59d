package templates_test

import (
	"bytes"
	"io/fs"
	"testing"

	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/sdk/assembly"
	"github.com/hypermesh/hypermesh/smart-contracts/templates"
)

func compiler(t *testing.T) assembly.Compiler {
	return assembly.Compiler{Tools: "../../bin/tools/assembly", Progress: t.Output()}
}

// TestModulesAreOfTheirSources needs no compiler: a module says what it was built of.
func TestModulesAreOfTheirSources(t *testing.T) {
	for _, name := range templates.Names() {
		module, project := load(t, name)
		if ok, err := assembly.IsOf(module, project); err != nil || !ok {
			t.Errorf("%s.wasm is of other sources, of another kit or compiler: go test ./smart-contracts/templates -run TestModulesAreBuiltOfTheirSources -update (%v)", name, err)
		}
		changed := bytes.Replace(module, []byte("source"), []byte("sourcf"), 1)
		if ok, err := assembly.IsOf(changed, project); err != nil || ok {
			t.Errorf("%s: another module passes, %v", name, err)
		}
	}
}

// TestModulesAreBuiltOfTheirSources builds each template again: byte for byte the same.
func TestModulesAreBuiltOfTheirSources(t *testing.T) {
	if testing.Short() && !golden.Updating() {
		t.Skip("needs the compiler, as make e2e has it")
	}
	for _, name := range templates.Names() {
		sources, err := templates.Sources(name)
		if err != nil {
			t.Fatal(err)
		}
		built, err := compiler(t).Build(t.Context(), sources)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		golden.Check(t, name+"/"+name+".wasm", built)
	}
}

// TestUnits runs the templates' own tests.
func TestUnits(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the compiler, as make e2e has it")
	}
	for _, name := range templates.Names() {
		t.Run(name, func(t *testing.T) {
			sources, err := templates.Sources(name)
			if err != nil {
				t.Fatal(err)
			}
			results, err := compiler(t).Test(t.Context(), sources)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range results {
				if r.Failed != "" {
					t.Errorf("%s: %s", r.Name, r.Failed)
				}
			}
			t.Logf("%d tests", len(results))
		})
	}
}

// load returns a template's module and project.
func load(t *testing.T, name string) ([]byte, fs.FS) {
	t.Helper()
	module, err := templates.Module(name)
	if err != nil {
		t.Fatal(err)
	}
	sources, err := templates.Sources(name)
	if err != nil {
		t.Fatal(err)
	}
	return module, sources
}
