package harness_test

import (
	"os"
	"strings"
	"testing"
)

// TestPage: the Go of docs/CONTRACTS.md is that of an example, which runs.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/CONTRACTS.md")
	if err != nil {
		t.Fatal(err)
	}
	examples, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(page), "\n```go\n")[1:]
	if len(blocks) == 0 {
		t.Fatal("the page has no Go")
	}
	for _, block := range blocks {
		code, _, ok := strings.Cut(block, "```")
		code = strings.ReplaceAll(code, `"counter.wasm"`, `"../templates/counter/counter.wasm"`)
		if !ok || !strings.Contains(string(examples), code) {
			t.Errorf("no example has these lines:\n%s", code)
		}
	}
}
