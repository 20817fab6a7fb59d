package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Sample is a message that a schema takes, to be shown to the contract.
type Sample struct {
	Message string // its name; of instantiate, migrate and sudo the entry's
	JSON    []byte
}

// Bounds of samples.
const (
	maxOptions   = 8     // of one of several
	sampleDepth  = 24    // of values in each other: deeper ones are left out
	sampleValues = 1_024 // of one sample
)

// Samples returns messages that an entry takes by what the schema says: of each message one with all fields and
// one with those that must be there, for each of several forms. There is none of a message with something that may be anything, or
// that never ends. Texts and addresses are all different: sample-a, sample-b, …
func (s *Schema) Samples(entry string) []Sample {
	var out []Sample
	add := func(name string, f *form, wrap bool) {
		for i := range s.options(f) {
			for _, bare := range []bool{false, true} {
				m := sampler{types: s.types, option: i, bare: bare}
				value, err := m.value(f, 0)
				if err != nil {
					continue
				}
				if wrap {
					value = map[string]any{name: value}
				}
				text, err := json.Marshal(value)
				if err != nil {
					panic("schema: a sample that cannot be written: " + err.Error())
				}
				if !slices.ContainsFunc(out, func(o Sample) bool { return o.Message == name && string(o.JSON) == string(text) }) {
					out = append(out, Sample{name, text})
				}
			}
		}
	}
	if entry == "execute" || entry == "query" {
		forms := s.variants(entry)
		for _, name := range slices.Sorted(maps.Keys(forms)) {
			add(name, forms[name], true)
		}
	} else if f := s.entries[entry]; f != nil {
		add(entry, f, false)
	}
	return out
}

// options is the most forms that something within a form, or within any type, may have.
func (s *Schema) options(f *form) int {
	most := f.options()
	for _, named := range s.types { // order-free: the greatest
		most = max(most, named.options())
	}
	return min(most, maxOptions)
}

func (f *form) options() int {
	most := max(1, len(f.of))
	for _, one := range f.of {
		most = max(most, one.options())
	}
	for _, one := range f.fields {
		most = max(most, one.form.options())
	}
	return most
}

var (
	errAnything = errors.New("it may be anything")
	errEndless  = errors.New("it is in itself")
)

// sampler makes one sample.
type sampler struct {
	types  map[string]*form
	option int  // which of several forms it has
	bare   bool // without what may be left out
	texts  int  // so far
	values int
}

// text is another one each time.
func (m *sampler) text() string {
	text := "sample-"
	for n := m.texts; ; n = n/26 - 1 {
		text += string(rune('a' + n%26))
		if n < 26 {
			break
		}
	}
	m.texts++
	return text
}

func (m *sampler) value(f *form, depth int) (any, error) {
	if m.values++; depth > sampleDepth || m.values > sampleValues {
		return nil, errEndless
	}
	if named := m.types[f.name]; named != nil {
		return m.value(named, depth+1)
	}
	switch {
	case f.name != "":
		return m.basic(f.name)
	case len(f.of) == 1:
		one, err := m.value(f.of[0], depth+1)
		if errors.Is(err, errEndless) {
			return []any{}, nil
		}
		return []any{one}, err
	case len(f.of) > 1:
		return m.value(f.of[m.option%len(f.of)], depth+1)
	}
	object := map[string]any{}
	for _, one := range f.fields {
		if one.optional && m.bare {
			continue
		}
		value, err := m.value(one.form, depth+1)
		if one.optional && errors.Is(err, errEndless) {
			continue
		}
		if err != nil {
			return nil, err
		}
		object[one.name] = value
	}
	return object, nil
}

func (m *sampler) basic(name string) (any, error) {
	switch name {
	case "any":
		return nil, errAnything
	case "null":
		return nil, nil
	case "bool":
		return true, nil
	case "text", "address":
		return m.text(), nil
	case "binary":
		return []byte("x"), nil // which is no JSON: what is within is not told of
	case "u32", "u64", "i64":
		return 1, nil
	case "u64text", "u128":
		return "1", nil
	}
	panic(fmt.Sprintf("schema: no sample of %q", name))
}
