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
	if _, err := compiler(t).Build(t.Context(), project(strings.Replace(good, `"ask":`, `"tell": [{"n": "u64"}, "text"], "ask":`, 1))); err != nil {
		t.Error(err)
	}
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
		strings.Replace(good, `"instantiate": {}`, `"instantiate": {"n": "u64"}`, 1):              `{"n":1}, and the contract says "JSON: unknown field n"`,
		strings.Replace(good, `"ask":`, `"tell": [{"n": "text"}, "text"], "ask":`, 1):             `{"tell":{"n":"sample-a"}}, and the contract says "JSON: want a number"`,
		strings.Replace(good, `"ask":`, `"tell": [{"m?": "text"}, "text"], "ask":`, 1):            `{"tell":{"m":"sample-a"}}, and the contract says "JSON: no field n"`,
		strings.Replace(good, `"ask":`, `"tell": [{"n": "u32", "m?": "u32"}, "text"], "ask":`, 1): `{"tell":{"m":1,"n":1}}, and the contract says "JSON: unknown field m"`,
		strings.Replace(good, `"ask":`, `"tell": [{"n": ["u32", "text"]}, "text"], "ask":`, 1):    `{"tell":{"n":"sample-a"}}, and the contract says "JSON: want a number"`,
		strings.Replace(good, `"ask":`, `"tell": [{"n": "u64"}, "u64"], "ask":`, 1):               `the contract answers {"tell":{"n":1}} with "yes": the answer to tell: want u64`,
	} {
		if _, err := compiler(t).Build(t.Context(), project(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
