package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
)

// apiRow matches a row of docs/API.md: a request and its summary.
var apiRow = regexp.MustCompile("^\\| `([A-Z]+ /\\S*)` \\| (.*) \\|$")

// apiPage returns the requests and summaries below a heading of docs/API.md.
func apiPage(t *testing.T, heading string) map[string]string {
	t.Helper()
	page, err := os.ReadFile("../../docs/API.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("docs/API.md has no heading %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	rows := map[string]string{}
	for line := range strings.Lines(section) {
		if row := apiRow.FindStringSubmatch(strings.TrimSpace(line)); row != nil {
			rows[row[1]] = row[2]
		}
	}
	return rows
}

// checkAPIPage compares what is below a heading of docs/API.md with an OpenAPI
// document.
func checkAPIPage(t *testing.T, heading string, document []byte) {
	t.Helper()
	var api struct {
		Paths map[string]map[string]struct {
			Summary string `json:"summary"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(document, &api); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for path, methods := range api.Paths {
		for method, operation := range methods {
			want[strings.ToUpper(method)+" "+path] = operation.Summary
		}
	}
	if got := apiPage(t, heading); len(want) == 0 || !maps.Equal(got, want) {
		t.Errorf("docs/API.md, %s:\n%q\nthe OpenAPI document:\n%q", heading, got, want)
	}
}

// TestAPIPageOfANode checks the page against the node's document, which
// internal/rpc holds to what it serves.
func TestAPIPageOfANode(t *testing.T) {
	document, err := os.ReadFile("../../internal/rpc/testdata/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	checkAPIPage(t, "A node", document)
}

// TestAPIPageOfProcesses checks the page against what a network serves.
func TestAPIPageOfProcesses(t *testing.T) {
	endToEnd(t)
	d := startDevnet(t, "--validators", "1", "--servers", "1", "--agents", "0", "--no-explorer").describe(t)
	for heading, base := range map[string]string{"A node": d.RPC[0], "A Nexus server": d.Nexus[0]} {
		response, err := http.Get(base + "/openapi.json")
		if err != nil {
			t.Fatal(err)
		}
		var document json.RawMessage
		err = json.NewDecoder(response.Body).Decode(&document)
		if closed := response.Body.Close(); err != nil || closed != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s %v %v", base, response.Status, err, closed)
		}
		checkAPIPage(t, heading, document)
	}
}
