package assembly_test

import (
	"encoding/json"
	"os"
	"regexp"
	"testing"
)

// exact is a version that names one release.
var exact = regexp.MustCompile(`^\d+\.\d+\.\d+$`)

// TestLockedVersions: what builds contracts is one release of each package, known by its digest, and is taken from whatever
// registry npm is set to: the lock has no address to download from.
func TestLockedVersions(t *testing.T) {
	var named struct {
		DevDependencies map[string]string `json:"devDependencies"`
	}
	read := func(name string, into any) {
		t.Helper()
		text, err := os.ReadFile("compiler/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatal(err)
		}
	}
	read("package.json", &named)
	for name, version := range named.DevDependencies {
		if !exact.MatchString(version) {
			t.Errorf("%s is of version %s, which may be several", name, version)
		}
	}
	var lock struct {
		Packages map[string]map[string]any
	}
	read("package-lock.json", &lock)
	if len(lock.Packages) < 1+len(named.DevDependencies) {
		t.Errorf("%d packages are locked", len(lock.Packages))
	}
	for path, p := range lock.Packages {
		if path == "" {
			continue // the project itself
		}
		version, _ := p["version"].(string)
		if digest, _ := p["integrity"].(string); digest == "" || version == "" {
			t.Errorf("%s: version %q, digest %q", path, version, digest)
		}
		if address, has := p["resolved"]; has {
			t.Errorf("%s is downloaded from %v", path, address)
		}
	}
}
