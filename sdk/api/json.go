package api

import (
	"bytes"
	"encoding"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Content types of requests and answers.
const (
	ContentJSON        = "application/json"
	ContentCBOR        = "application/cbor"
	ContentProblem     = "application/problem+json"
	ContentEventStream = "text/event-stream"
	ContentBlob        = "application/octet-stream"
)

// maxJSONInteger is the largest integer that every JSON reader keeps exact.
const maxJSONInteger = 1 << 53

// Uint64 is an unsigned integer that is a number up to 2⁵³ in JSON and a
// decimal string above; either form is read.
type Uint64 uint64

// MarshalJSON writes a number or, above 2⁵³, a string.
func (n Uint64) MarshalJSON() ([]byte, error) {
	text := strconv.AppendUint(nil, uint64(n), 10)
	if n > maxJSONInteger {
		return strconv.AppendQuote(nil, string(text)), nil
	}
	return text, nil
}

// UnmarshalJSON reads a number or a decimal string.
func (n *Uint64) UnmarshalJSON(data []byte) error {
	text := string(data)
	if strings.HasPrefix(text, `"`) {
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
	}
	v, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return fmt.Errorf("%.40q is not an unsigned 64-bit integer", text)
	}
	*n = Uint64(v)
	return nil
}

// Hex is bytes as lower-case hexadecimal.
type Hex []byte

// String returns the hexadecimal digits.
func (h Hex) String() string { return hex.EncodeToString(h) }

// MarshalText is String.
func (h Hex) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads lower-case hexadecimal digits.
func (h *Hex) UnmarshalText(text []byte) error {
	if bytes.ContainsAny(text, "ABCDEF") {
		return errors.New("upper-case hexadecimal digits")
	}
	out, err := hex.DecodeString(string(text))
	if err != nil {
		return err
	}
	*h = out
	return nil
}

// FieldError says which part of a document was refused, and why.
type FieldError struct {
	Location string // a path such as "txs[3].body.sender"; empty: the whole
	Message  string
}

// Error returns the location and the message.
func (e *FieldError) Error() string {
	if e.Location == "" {
		return e.Message
	}
	return e.Location + ": " + e.Message
}

// Within returns the error as seen from a document that holds this one at
// prefix.
func (e *FieldError) Within(prefix string) *FieldError {
	return &FieldError{Location: joinPath(prefix, e.Location), Message: e.Message}
}

func joinPath(prefix, path string) string {
	switch {
	case prefix == "" || path == "":
		return prefix + path
	case path[0] == '[':
		return prefix + path
	}
	return prefix + "." + path
}

// DecodeJSON decodes exactly one JSON value into the value that v points to. It
// refuses unknown fields and whatever follows the value. The error is a
// *FieldError that names the first field that was refused.
func DecodeJSON(data []byte, v any) error {
	err := decodeStrict(data, v)
	if err == nil {
		return nil
	}
	if found := locate(data, reflect.TypeOf(v).Elem()); found != nil {
		return found
	}
	return &FieldError{Message: err.Error()}
}

func decodeStrict(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		if errors.Is(err, io.EOF) {
			return errors.New("no JSON value")
		}
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("bytes after the JSON value")
	}
	return nil
}

var (
	jsonUnmarshaler = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// locate walks a refused document along its type and returns the first part
// that does not decode, or nil if every part decodes alone.
func locate(data []byte, t reflect.Type) *FieldError {
	null := bytes.Equal(bytes.TrimSpace(data), []byte("null"))
	if null && t.Kind() == reflect.Pointer {
		return nil
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	own := reflect.PointerTo(t)
	if null && !own.Implements(jsonUnmarshaler) {
		return nil
	}
	if own.Implements(jsonUnmarshaler) || own.Implements(textUnmarshaler) {
		return locateLeaf(data, t)
	}
	if t.Kind() == reflect.Struct {
		return locateStruct(data, t)
	}
	if t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8 {
		return locateSlice(data, t)
	}
	return locateLeaf(data, t)
}

func locateLeaf(data []byte, t reflect.Type) *FieldError {
	err := json.Unmarshal(data, reflect.New(t).Interface())
	if err == nil {
		return nil
	}
	if inner, ok := errors.AsType[*FieldError](err); ok {
		return inner
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return &FieldError{Message: fmt.Sprintf("a JSON %s does not fit %s", wrong.Value, wrong.Type)}
	}
	return &FieldError{Message: err.Error()}
}

func locateStruct(data []byte, t reflect.Type) *FieldError {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return &FieldError{Message: "not a JSON object"}
	}
	known := map[string]reflect.Type{}
	for f := range t.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); f.IsExported() && name != "-" {
			known[name] = f.Type
		}
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		field, ok := known[name]
		if !ok {
			return &FieldError{Location: fmt.Sprintf("%.40s", name), Message: "unknown field"}
		}
		if found := locate(fields[name], field); found != nil {
			return found.Within(name)
		}
	}
	return nil
}

func locateSlice(data []byte, t reflect.Type) *FieldError {
	var items []json.RawMessage
	if err := json.Unmarshal(data, &items); err != nil {
		return &FieldError{Message: "not a JSON array"}
	}
	for i, item := range items {
		if found := locate(item, t.Elem()); found != nil {
			return found.Within(fmt.Sprintf("[%d]", i))
		}
	}
	return nil
}
