package templates_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/hypermesh/hypermesh/smart-contracts/schema"
	"github.com/hypermesh/hypermesh/smart-contracts/templates"
)

// TestSchemas: each template has the schema that stands beside it, under its own name. What it says is held to
// the contract by every test that sends a message.
func TestSchemas(t *testing.T) {
	for _, name := range templates.Names() {
		module, _ := load(t, name)
		s, err := schema.Of(module)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		text, err := os.ReadFile(name + "/schema.json")
		if err != nil {
			t.Fatal(err)
		}
		compact, err := schema.Compact(text)
		if err != nil {
			t.Fatal(err)
		}
		beside, err := schema.Parse(compact)
		if err != nil || string(beside.JSON()) != string(s.JSON()) {
			t.Errorf("%s: the schema in the module is another (%v)", name, err)
		}
		var doc struct{ Title string }
		if err := json.Unmarshal(s.JSON(), &doc); err != nil || doc.Title != name+" 1.0.0" {
			t.Errorf("%s: it is of %q (%v)", name, doc.Title, err)
		}
	}
}
