package scheduler_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// TestForm holds what servers write to their disks against what was written down when its version was given. Where they
// differ the version is to be raised, and the file rewritten with -update: a server refuses a disk of another version
// by name, and misreads one of the same.
func TestForm(t *testing.T) {
	path := filepath.Join("testdata", "form.golden")
	var d describer
	d.describe(reflect.TypeFor[scheduler.Snapshot]())
	for kind, command := range scheduler.CommandTypes() {
		d.describe(command)
		d.lines = append(d.lines, fmt.Sprintf("command %02d: %s", kind, command))
	}
	slices.Sort(d.lines)
	now := strings.Join(d.lines, "\n") + "\n"
	raw, err := os.ReadFile(path)
	if err != nil && !golden.Updating() {
		t.Fatal(err)
	}
	first, was, _ := strings.Cut(string(raw), "\n")
	version := "form " + scheduler.Form
	switch {
	case was == now && first == version:
		return
	case was != now && first == version:
		t.Fatalf("what servers keep has changed, and is called %s as before: raise scheduler.Form.\nNow:\n%s", version, now)
	case !golden.Updating():
		t.Fatalf("%s is of %s, this is %s: rewrite it with -update", path, first, version)
	}
	if err := os.WriteFile(path, []byte(version+"\n"+now), 0o644); err != nil {
		t.Fatal(err)
	}
}

// describer lists the structures that values of types are encoded as, one a line: the kinds of their fields in order. A
// type of a codec of its own is named.
type describer struct {
	seen  []reflect.Type
	lines []string
}

func (d *describer) describe(t reflect.Type) {
	if slices.Contains(d.seen, t) {
		return
	}
	d.seen = append(d.seen, t)
	switch _, own := t.MethodByName("MarshalCBOR"); {
	case own:
	case t.Kind() == reflect.Pointer, t.Kind() == reflect.Slice, t.Kind() == reflect.Array:
		d.describe(t.Elem())
	case t.Kind() == reflect.Map:
		d.describe(t.Key())
		d.describe(t.Elem())
	case t.Kind() == reflect.Struct:
		var fields []string
		for f := range t.Fields() {
			if f.IsExported() {
				fields = append(fields, f.Name+" "+f.Type.String())
				d.describe(f.Type)
			}
		}
		d.lines = append(d.lines, t.String()+": "+strings.Join(fields, ", "))
	case t.PkgPath() != "":
		d.lines = append(d.lines, t.String()+": "+t.Kind().String())
	}
}
