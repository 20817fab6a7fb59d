package templates_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/smart-contracts/templates"
)

// TestTemplatesPage holds docs/TEMPLATES.md to the templates that there are, and to
// how large they are.
func TestTemplatesPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/TEMPLATES.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range templates.Names() {
		module, _ := load(t, name)
		row := fmt.Sprintf("\n| `%s` | %d,%03d | ", name, len(module)/1000, len(module)%1000)
		if !strings.Contains(string(page), row) {
			t.Errorf("the page has no row that begins with %q", row)
		}
		if name != "counter" && !strings.Contains(string(page), "\n## "+name+"\n") {
			t.Errorf("the page has no section %s", name)
		}
	}
}
