package scheduler_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// TestForm holds what servers write to their disks against what was written down when its version was given. Where they
// differ the version is to be raised, and the file rewritten with -update: a server refuses a disk of another version
// by name, and misreads one of the same.
func TestForm(t *testing.T) {
	path := filepath.Join("testdata", "form.golden")
	d := describer{TB: t}
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

// ofOwnCodec is what types of a codec of their own are made of: of a sum a value of each kind, of any other some.
var ofOwnCodec = map[reflect.Type][]any{
	reflect.TypeFor[chain.Amount](): {chain.Nano(0), chain.Nano(math.MaxUint64)},
	reflect.TypeFor[chain.PolicyField](): {
		chain.PolicyField{Policy: chain.PolicyNone{}}, chain.PolicyField{Policy: chain.PolicyReplicate{}},
		chain.PolicyField{Policy: chain.PolicyZK{}}, chain.PolicyField{Policy: chain.PolicyOptimistic{}},
	},
	reflect.TypeFor[job.WorkField](): {job.WorkField{Work: job.Wasm{}}, job.WorkField{Work: job.Kernel{}}, job.WorkField{Work: job.Container{}}},
}

// describer lists the structures that values of types are encoded as, one a line: the kinds of their fields in order. A
// type of a codec of its own is listed by what it makes of some values.
type describer struct {
	testing.TB
	seen  []reflect.Type
	lines []string
}

// kindOf is how sums are encoded.
type kindOf struct {
	_    struct{} `cbor:",toarray"`
	Kind uint8
	Body codec.Raw
}

// own lists a type of a codec of its own.
func (d *describer) own(t reflect.Type) {
	values := ofOwnCodec[t]
	if len(values) == 0 {
		d.Errorf("%s has a codec of its own: say in ofOwnCodec what it is made of", t)
	}
	var kinds []uint8
	for _, v := range values {
		raw := codec.Marshal(v)
		if t.Kind() != reflect.Struct || t.NumField() != 1 || t.Field(0).Type.Kind() != reflect.Interface {
			d.lines = append(d.lines, fmt.Sprintf("%s: %v is %x", t, v, raw))
			continue
		}
		var sum kindOf
		if err := codec.Unmarshal(raw, &sum, len(raw)); err != nil {
			d.Fatalf("%s is no sum: %v", t, err)
		}
		kinds = append(kinds, sum.Kind)
		variant := reflect.ValueOf(v).Field(0).Elem().Type()
		d.lines = append(d.lines, fmt.Sprintf("%s: %d is %s", t, sum.Kind, variant))
		d.describe(variant)
	}
	if len(kinds) == 0 {
		return
	}
	for kind := range uint8(math.MaxUint8) {
		raw := codec.Marshal(kindOf{Kind: kind, Body: codec.Marshal(struct{}{})})
		err := codec.Unmarshal(raw, reflect.New(t).Interface(), len(raw))
		if known := err == nil || !strings.Contains(err.Error(), fmt.Sprintf("kind %d is unknown", kind)); known != slices.Contains(kinds, kind) {
			d.Errorf("%s of kind %d: decoded %t (%v), and in ofOwnCodec %t", t, kind, known, err, !known)
		}
	}
}

func (d *describer) describe(t reflect.Type) {
	if slices.Contains(d.seen, t) {
		return
	}
	d.seen = append(d.seen, t)
	switch _, own := t.MethodByName("MarshalCBOR"); {
	case own:
		d.own(t)
	case t.Kind() == reflect.Array:
		d.lines = append(d.lines, fmt.Sprintf("%s: %d of %s", t, t.Len(), t.Elem()))
		d.describe(t.Elem())
	case t.Kind() == reflect.Pointer, t.Kind() == reflect.Slice:
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
