package schema

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
)

// basic are the types that have a name: how JSON Schema writes each, and what it takes.
var basic = map[string]*struct {
	schema map[string]any
	takes  func(value any) bool
}{
	"any":     {map[string]any{}, func(any) bool { return true }},
	"null":    {map[string]any{"type": "null"}, func(v any) bool { return v == nil }},
	"bool":    {map[string]any{"type": "boolean"}, func(v any) bool { _, ok := v.(bool); return ok }},
	"text":    {map[string]any{"type": "string"}, isText},
	"address": {map[string]any{"type": "string", "minLength": 1}, func(v any) bool { return isText(v) && v != "" }},
	"binary":  {map[string]any{"type": "string", "contentEncoding": "base64"}, isBinary},
	"u32":     {map[string]any{"type": "integer", "minimum": 0, "maximum": json.Number("4294967295")}, whole(32)},
	"u64":     {map[string]any{"type": "integer", "minimum": 0, "maximum": json.Number("18446744073709551615")}, whole(64)},
	"i64":     {map[string]any{"type": "integer", "minimum": json.Number("-9223372036854775808"), "maximum": json.Number("9223372036854775807")}, isSigned},
	"u64text": {map[string]any{"type": "string", "pattern": "^(0|[1-9][0-9]{0,19})$"}, quoted(64)},
	"u128":    {map[string]any{"type": "string", "pattern": "^(0|[1-9][0-9]{0,38})$"}, quoted(128)},
}

func isText(v any) bool { _, ok := v.(string); return ok }

func isBinary(v any) bool {
	text, ok := v.(string)
	_, err := base64.StdEncoding.Strict().DecodeString(text)
	return ok && err == nil
}

func isSigned(v any) bool {
	n, ok := v.(json.Number)
	_, err := strconv.ParseInt(n.String(), 10, 64)
	return ok && err == nil
}

func whole(bits int) func(any) bool {
	return func(v any) bool {
		n, ok := v.(json.Number)
		_, err := strconv.ParseUint(n.String(), 10, bits)
		return ok && err == nil
	}
}

// quoted takes a number of so many bits in quotes, in its shortest form.
func quoted(bits int) func(any) bool {
	return func(v any) bool {
		text, ok := v.(string)
		if !ok || len(text) > 39 {
			return false
		}
		n, ok := new(big.Int).SetString(text, 10)
		return ok && n.Sign() >= 0 && n.BitLen() <= bits && n.String() == text
	}
}

// Check says why a message is none that an entry takes: instantiate, execute, query, migrate or
// sudo. It is not known of an entry of which the schema says nothing.
func (s *Schema) Check(entry string, msg []byte) error {
	value, err := decode(msg)
	if err != nil {
		return err
	}
	if entry != "execute" && entry != "query" {
		if s.entries[entry] == nil {
			return fmt.Errorf("the schema says nothing of %s", entry)
		}
		return s.fitting().fits(s.entries[entry], value, entry)
	}
	object, ok := value.(map[string]any)
	if !ok || len(object) != 1 {
		return errors.New("want an object with one field, the message")
	}
	for name, fields := range object { // order-free: there is one
		f := s.variants(entry)[name]
		if f == nil {
			return fmt.Errorf("there is no message %q", name)
		}
		return s.fitting().fits(f, fields, name)
	}
	panic("schema: one field is none")
}

// CheckAnswer says why something is no answer to a query of a name.
func (s *Schema) CheckAnswer(query string, answer []byte) error {
	if s.answers[query] == nil {
		return fmt.Errorf("there is no query %q", query)
	}
	value, err := decode(answer)
	if err != nil {
		return err
	}
	return s.fitting().fits(s.answers[query], value, "the answer to "+query)
}

// fitting is one value that is held to forms. A form that is one of several may be so again in its fields: how
// often a value is looked at is bounded, and how deep it is.
type fitting struct {
	types map[string]*form
	steps int
	depth int
}

const (
	maxSteps = 1 << 16
	maxForms = 128 // in each other: some three for each value
)

var errTooMuch = errors.New("there is too much to look at")

func (s *Schema) fitting() *fitting { return &fitting{types: s.types} }

func (s *fitting) fits(f *form, value any, at string) error {
	s.steps++
	s.depth++
	defer func() { s.depth-- }()
	if s.steps > maxSteps || s.depth > maxForms {
		return errTooMuch
	}
	if f.name != "" {
		if named := s.types[f.name]; named != nil {
			return s.fits(named, value, at)
		}
		if !basic[f.name].takes(value) {
			return fmt.Errorf("%s: want %s", at, f.name)
		}
		return nil
	}
	switch len(f.of) {
	case 0:
		return s.fitsFields(f, value, at)
	case 1:
		list, ok := value.([]any)
		if !ok {
			return fmt.Errorf("%s: want a list", at)
		}
		for i, one := range list {
			if err := s.fits(f.of[0], one, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
		return nil
	}
	var why error
	for _, one := range f.of {
		err := s.fits(one, value, at)
		if err == nil || errors.Is(err, errTooMuch) {
			return err
		}
		why = errors.Join(why, err)
	}
	return why
}

func (s *fitting) fitsFields(f *form, value any, at string) error {
	object, ok := value.(map[string]any)
	if !ok {
		return fmt.Errorf("%s: want an object", at)
	}
	known := 0
	for _, one := range f.fields {
		v, there := object[one.name]
		if there {
			known++
		}
		if one.optional && v == nil {
			continue
		}
		if !there {
			return fmt.Errorf("%s: no field %s", at, one.name)
		}
		if err := s.fits(one.form, v, at+"."+one.name); err != nil {
			return err
		}
	}
	if known != len(object) {
		return fmt.Errorf("%s: a field that is not known", at)
	}
	return nil
}

// JSON writes the JSON Schema (draft 7): what each entry takes under its name, what queries
// answer under responses.
func (s *Schema) JSON() []byte {
	doc := map[string]any{
		"$schema": "http://json-schema.org/draft-07/schema#", "title": s.contract + " " + s.version,
		"execute": variantsJSON(s.execute), "query": variantsJSON(s.query), "responses": allJSON(s.answers), "definitions": allJSON(s.types),
	}
	for name, f := range s.entries { // order-free: into a map
		doc[name] = f.json()
	}
	out, err := json.Marshal(doc)
	if err != nil {
		panic("schema: a schema that cannot be written: " + err.Error())
	}
	return out
}

func allJSON(forms map[string]*form) map[string]any {
	out := map[string]any{}
	for name, f := range forms { // order-free: into a map
		out[name] = f.json()
	}
	return out
}

// variantsJSON writes objects of one field, of which a message is one.
func variantsJSON(forms map[string]*form) any {
	if len(forms) == 0 {
		return false // nothing is taken
	}
	f := &form{of: []*form{}}
	for _, name := range slices.Sorted(maps.Keys(forms)) {
		f.of = append(f.of, &form{fields: []field{{name: name, form: forms[name]}}})
	}
	if len(f.of) == 1 {
		return f.of[0].json()
	}
	return f.json()
}

func (f *form) json() any {
	switch {
	case f.name != "" && basic[f.name] != nil:
		return basic[f.name].schema
	case f.name != "":
		return map[string]any{"$ref": "#/definitions/" + f.name}
	case len(f.of) == 1:
		return map[string]any{"type": "array", "items": f.of[0].json()}
	case len(f.of) > 1:
		var options []any
		for _, one := range f.of {
			options = append(options, one.json())
		}
		return map[string]any{"anyOf": options}
	}
	properties, required := map[string]any{}, []string{}
	for _, one := range f.fields {
		schema := one.form.json() // once: fields are in each other
		if one.optional {
			schema = map[string]any{"anyOf": []any{schema, basic["null"].schema}}
		} else {
			required = append(required, one.name)
		}
		properties[one.name] = schema
	}
	return map[string]any{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
}
