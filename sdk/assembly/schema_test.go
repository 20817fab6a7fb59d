package assembly_test

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/hypermesh/hypermesh/sdk/assembly"
	"github.com/hypermesh/hypermesh/smart-contracts/schema"
)

// TestSchemaOfAProject: what a project says of its messages goes into the module, if the contract knows them.
func TestSchemaOfAProject(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the compiler, as make e2e has it")
	}
	source, err := os.ReadFile("testdata/said/index.ts")
	if err != nil {
		t.Fatal(err)
	}
	project := func(text string) fstest.MapFS {
		return fstest.MapFS{"index.ts": {Data: source}, "schema.json": {Data: []byte(text)}}
	}
	const good = `{"contract": "c", "version": "1", "instantiate": {}, "execute": {"go": {}}, "query": {"ask": [{}, "text"]}}`
	module, err := compiler(t).Build(t.Context(), project(good))
	if err != nil {
		t.Fatal(err)
	}
	if s, err := schema.Of(module); err != nil || s.Messages("execute")[0] != "go" {
		t.Errorf("the module's schema: %v", err)
	}
	if ok, err := assembly.IsOf(module, project(good)); err != nil || !ok {
		t.Errorf("the module is not of its sources: %v", err)
	}
	if ok, err := assembly.IsOf(module, project(strings.Replace(good, "1", "2", 1))); err != nil || ok {
		t.Errorf("another schema makes no difference: %v", err)
	}
	for text, want := range map[string]string{
		strings.Replace(good, `"go": {}`, `"go": {}, "stop": {}`, 1):  `schema.json: it has the message "stop", which the contract does not know`,
		strings.Replace(good, `"ask":`, `"beg": [{}, {}], "ask":`, 1): `schema.json: it has the message "beg", which the contract does not know`,
		strings.Replace(good, `"text"`, `"txt"`, 1):                   `schema.json: schema: there is no type "txt"`,
		`{`: "schema.json: schema: unexpected EOF",
	} {
		if _, err := compiler(t).Build(t.Context(), project(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
