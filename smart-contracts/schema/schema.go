package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/hypermesh/hypermesh/internal/wasm"
)

// Section is the custom section that has a contract's schema.
const Section = "schema"

// Limits.
const (
	MaxBytes = 32 << 10
	maxDepth = 16
	maxName  = 64
)

// ErrNone says that a module has no schema.
var ErrNone = errors.New("schema: the module has none")

// Schema is what the messages of a contract look like. Only Parse makes one.
type Schema struct {
	contract, version string
	entries           map[string]*form // what instantiate, migrate and sudo take
	execute           map[string]*form
	query             map[string]*form // what is asked
	answers           map[string]*form
	types             map[string]*form
}

// form is a type: a name, fields, or one or several forms.
type form struct {
	name   string
	fields []field
	of     []*form // a list of one, or one of several
}

type field struct {
	name     string
	optional bool
	form     *form
}

// Of returns the schema of a module, and ErrNone if it has none. Of several sections the
// first counts.
func Of(module []byte) (*Schema, error) {
	if err := wasm.CheckHeader(module); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	r := wasm.NewReader(module[wasm.HeaderBytes:])
	for !r.Done() {
		s := r.Section()
		if r.Err() != nil || s.ID != wasm.SectionCustom {
			continue
		}
		body := wasm.NewReader(s.Body)
		if body.Name() == Section && body.Err() == nil {
			return Parse(body.Rest())
		}
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	return nil, ErrNone
}

// Compact writes a schema as a section has it. It does not say whether it is one.
func Compact(text []byte) ([]byte, error) {
	value, err := decode(text)
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	return json.Marshal(value)
}

// Parse reads what a section has.
func Parse(text []byte) (*Schema, error) {
	if len(text) > MaxBytes {
		return nil, fmt.Errorf("schema: %d bytes, limit %d", len(text), MaxBytes)
	}
	compact, err := Compact(text)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(compact, text) {
		return nil, errors.New("schema: it has spaces, names in another order, or a name twice")
	}
	value, err := decode(text)
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	s, err := read(value)
	if err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	return s, nil
}

// decode reads one JSON value, with its numbers as they are written.
func decode(text []byte) (value any, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&value); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one value")
	}
	return value, nil
}

// sortedOf returns an object's names in their order, and refuses what is no object.
func sortedOf(value any, what string) ([]string, map[string]any, error) {
	object, ok := value.(map[string]any)
	if !ok {
		return nil, nil, fmt.Errorf("%s: want an object", what)
	}
	names := slices.Sorted(maps.Keys(object))
	for _, name := range names {
		if name == "" || len(name) > maxName {
			return nil, nil, fmt.Errorf("%s: a name has 1 to %d bytes", what, maxName)
		}
	}
	return names, object, nil
}

func read(value any) (*Schema, error) {
	names, object, err := sortedOf(value, "the schema")
	if err != nil {
		return nil, err
	}
	s := &Schema{entries: map[string]*form{}}
	if s.types, err = formsOf(object["types"], "types"); err != nil {
		return nil, err
	}
	for _, name := range names {
		switch name {
		case "contract":
			s.contract, _ = object[name].(string)
		case "version":
			s.version, _ = object[name].(string)
		case "instantiate", "migrate", "sudo":
			s.entries[name], err = formOf(object[name], name, 0)
		case "execute":
			s.execute, err = formsOf(object[name], name)
		case "query":
			err = s.queries(object[name])
		case "types":
		default:
			err = fmt.Errorf("%q is unknown", name)
		}
		if err != nil {
			return nil, err
		}
	}
	if s.contract == "" || s.version == "" || s.entries["instantiate"] == nil {
		return nil, errors.New("want a contract's name, its version, and what instantiate takes")
	}
	return s, s.checkNames()
}

// formsOf reads types by their names; none is none.
func formsOf(value any, what string) (map[string]*form, error) {
	if value == nil {
		return map[string]*form{}, nil
	}
	names, object, err := sortedOf(value, what)
	if err != nil {
		return nil, err
	}
	out := map[string]*form{}
	for _, name := range names {
		if out[name], err = formOf(object[name], what+"."+name, 0); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *Schema) queries(value any) error {
	names, object, err := sortedOf(value, "query")
	if err != nil {
		return err
	}
	s.query, s.answers = map[string]*form{}, map[string]*form{}
	for _, name := range names {
		both, ok := object[name].([]any)
		if !ok || len(both) != 2 {
			return fmt.Errorf("query.%s: want what is asked and what is answered", name)
		}
		if s.query[name], err = formOf(both[0], "query."+name, 0); err != nil {
			return err
		}
		if s.answers[name], err = formOf(both[1], "the answer to "+name, 0); err != nil {
			return err
		}
	}
	return nil
}

func formOf(value any, what string, depth int) (*form, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%s: too deep", what)
	}
	switch v := value.(type) {
	case string:
		return &form{name: v}, nil
	case []any:
		if len(v) == 0 {
			return nil, fmt.Errorf("%s: a list of nothing", what)
		}
		out := &form{}
		for _, one := range v {
			f, err := formOf(one, what, depth+1)
			if err != nil {
				return nil, err
			}
			out.of = append(out.of, f)
		}
		return out, nil
	}
	names, object, err := sortedOf(value, what)
	if err != nil {
		return nil, err
	}
	out := &form{}
	for _, name := range names {
		f, err := formOf(object[name], what+"."+name, depth+1)
		if err != nil {
			return nil, err
		}
		plain, optional := strings.CutSuffix(name, "?")
		if _, twice := object[plain]; plain == "" || optional && twice {
			return nil, fmt.Errorf("%s: a field without a name, or twice", what)
		}
		out.fields = append(out.fields, field{plain, optional, f})
	}
	return out, nil
}

// checkNames refuses types that are not there, that are themselves, and one of several that is one of
// several again: a message is held to few forms.
func (s *Schema) checkNames() error {
	for _, name := range slices.Sorted(maps.Keys(s.types)) {
		if c := name[0]; c < 'A' || c > 'Z' {
			return fmt.Errorf("the type %q does not begin with a capital letter", name)
		}
	}
	for _, forms := range []map[string]*form{s.entries, s.execute, s.query, s.answers, s.types} {
		for _, name := range slices.Sorted(maps.Keys(forms)) {
			if err := s.checkForm(forms[name]); err != nil {
				return err
			}
		}
	}
	return nil
}

// resolve follows the names of types to what they are, through few.
func (s *Schema) resolve(f *form) (*form, error) {
	for range maxDepth + 1 {
		if f.name == "" || basic[f.name] != nil {
			return f, nil
		}
		named := s.types[f.name]
		if named == nil {
			return nil, fmt.Errorf("there is no type %q", f.name)
		}
		f = named
	}
	return nil, fmt.Errorf("the type %q is itself, or behind more than %d names", f.name, maxDepth)
}

func (s *Schema) checkForm(f *form) error {
	if _, err := s.resolve(f); err != nil {
		return err
	}
	for _, one := range f.of {
		if err := s.checkForm(one); err != nil {
			return err
		}
		if to, _ := s.resolve(one); len(f.of) > 1 && len(to.of) > 1 {
			return errors.New("one of several that is one of several again")
		}
	}
	for _, one := range f.fields {
		if err := s.checkForm(one.form); err != nil {
			return err
		}
	}
	return nil
}

// Messages are the names of what a contract can be told or asked, in their order.
func (s *Schema) Messages(entry string) []string {
	return slices.Sorted(maps.Keys(s.variants(entry)))
}

func (s *Schema) variants(entry string) map[string]*form {
	if entry == "query" {
		return s.query
	}
	return s.execute
}
