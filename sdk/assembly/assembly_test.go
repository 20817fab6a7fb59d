package assembly_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/sdk/assembly"
)

const (
	probeDir  = "testdata/probe"
	probeFile = probeDir + "/probe.wasm"
)

func compiler(t *testing.T) assembly.Compiler {
	return assembly.Compiler{Tools: "../../bin/tools/assembly", Progress: t.Output()}
}

// TestProbeIsOfItsSources needs no compiler: without -short the next one has it.
func TestProbeIsOfItsSources(t *testing.T) {
	module, err := os.ReadFile(probeFile)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := assembly.IsOf(module, os.DirFS(probeDir)); err != nil || !ok {
		t.Errorf("%s is of other sources: go test ./sdk/assembly -run TestProbeIsBuilt -update (%v)", probeFile, err)
	}
}

func TestProbeIsBuilt(t *testing.T) {
	if testing.Short() && !golden.Updating() {
		t.Skip("needs the compiler, as make e2e has it")
	}
	built, err := compiler(t).Build(t.Context(), os.DirFS(probeDir))
	if err != nil {
		t.Fatal(err)
	}
	golden.Check(t, probeFile, built)
}

// TestRunner has tests that fail, and they do, each for its reason.
func TestRunner(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the compiler, as make e2e has it")
	}
	results, err := compiler(t).Test(t.Context(), os.DirFS(probeDir))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"passes: ", "is refused as it says: ", "fails: got a, want b", `is not refused: it was not refused, want "stop"`,
		`is refused otherwise: it was refused with "go", want "stop"`, "traps: trapped: ", "asks the chain: ", "asks of a lease: ",
	}
	for i, r := range results {
		if i >= len(want) || !strings.HasPrefix(r.Name+": "+r.Failed, want[i]) || (r.Failed == "") != slices.Contains([]int{0, 1, 6, 7}, i) {
			t.Errorf("test %d: %+v", i, r)
		}
	}
	if len(results) != len(want) {
		t.Errorf("%d tests, want %d", len(results), len(want))
	}
}

// TestMistakes is what a developer does wrong.
func TestMistakes(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the compiler, as make e2e has it")
	}
	project := func(text string) fs.FS { return fstest.MapFS{"index.ts": {Data: []byte(text)}} }
	const exports = "export { allocate, deallocate, interface_version_8 } from \"./kit/abi\";\n"
	for text, want := range map[string]string{
		exports + "export function query(a: usize, b: usize): usize { return c; }":                                                               "Cannot find name 'c'",
		"import { Bytes } from \"./kit/abi\";\nexport function query(a: usize, b: usize): usize { return Bytes.of(\"a\").at; }":                  "interface_version",
		exports + "export function query(a: usize): usize { return a; }":                                                                         `"query" has another type`,
		exports + "let n = 5; n = n + <i32>__heap_base;":                                                                                         "start_function",
		exports + "@external(\"env\", \"fs\") declare function fs(): void;\nexport function sudo(a: usize, b: usize): usize { fs(); return a; }": `"fs" is not there`,
	} {
		if _, err := compiler(t).Build(t.Context(), project(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	if _, err := compiler(t).Build(t.Context(), project("what is this")); !errors.Is(err, assembly.ErrCompile) {
		t.Errorf("no program: %v", err)
	}
	if _, err := compiler(t).Test(t.Context(), project(exports)); err == nil || !strings.Contains(err.Error(), "no tests.ts") {
		t.Errorf("no tests: %v", err)
	}
	if _, err := compiler(t).Build(t.Context(), fstest.MapFS{}); err == nil || !strings.Contains(err.Error(), "no index.ts") {
		t.Errorf("no project: %v", err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := compiler(t).Build(over, project(exports)); !errors.Is(err, context.Canceled) {
		t.Errorf("broken off: %v", err)
	}
}

// TestNoTools is a machine without Node.js.
func TestNoTools(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := compiler(t).Build(t.Context(), os.DirFS(probeDir))
	if err == nil || !strings.Contains(err.Error(), "needs node") {
		t.Errorf("without node: %v", err)
	}
}

// TestNew makes a project, which has a kit, and does not write over another.
func TestNew(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mine")
	if err := assembly.New(dir, os.DirFS(probeDir)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"index.ts", "tests.ts", "kit/abi.ts", "kit/testing.ts"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	module, err := os.ReadFile(probeFile)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := assembly.IsOf(module, os.DirFS(dir)); err != nil || !ok {
		t.Errorf("the project is not the template: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "kit", "abi.ts"), []byte("// mine\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if ok, err := assembly.IsOf(module, os.DirFS(dir)); err != nil || ok {
		t.Errorf("another kit makes no difference: %v", err)
	}
	if err := assembly.New(dir, os.DirFS(probeDir)); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("over another: %v", err)
	}
}
