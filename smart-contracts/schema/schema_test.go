package schema_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/wasm"
	"github.com/hypermesh/hypermesh/smart-contracts/schema"
)

const shop = `{"contract":"shop","version":"1.0.0",
	"instantiate":{"owner":"address","open?":"bool"},
	"migrate":"null",
	"execute":{"buy":{"what":["Thing"],"until?":"When","note":["null","text"]},"close":{}},
	"query":{"stock":[{"limit?":"u32"},["Thing"]],"raw":["any",{"data":"binary","low":"i64"}]},
	"types":{"Thing":{"id":"u64","price":"u128","parts?":["Thing"]},"When":[{"at":"u64text"},{"never":{}}],"Same":"Thing"}}`

func parse(t *testing.T, text string) *schema.Schema {
	t.Helper()
	compact, err := schema.Compact([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	s, err := schema.Parse(compact)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestCheck: messages that a contract of this schema takes, and what is wrong with others.
func TestCheck(t *testing.T) {
	s := parse(t, shop)
	for _, c := range []struct{ entry, msg, want string }{
		{"instantiate", `{"owner":"a"}`, ""},
		{"instantiate", `{"owner":"a","open":true}`, ""},
		{"instantiate", `{"owner":"a","open":null}`, ""},
		{"instantiate", `{"owner":"a","open":1}`, "instantiate.open: want bool"},
		{"instantiate", `{"owner":""}`, "instantiate.owner: want address"},
		{"instantiate", `{"open":true}`, "instantiate: no field owner"},
		{"instantiate", `{"owner":"a","age":1}`, "instantiate: a field that is not known"},
		{"instantiate", `[]`, "instantiate: want an object"},
		{"instantiate", `{"owner":"a"}}`, "more than one value"},
		{"instantiate", `{"owner":"a"} 1`, "more than one value"},
		{"instantiate", `{"owner"`, "unexpected EOF"},
		{"migrate", `null`, ""},
		{"migrate", `{}`, "migrate: want null"},
		{"sudo", `{}`, "the schema says nothing of sudo"},
		{"execute", `{"close":{}}`, ""},
		{"execute", `{"steal":{}}`, `there is no message "steal"`},
		{"execute", `{"close":{},"buy":{}}`, "want an object with one field, the message"},
		{"execute", `"close"`, "want an object with one field, the message"},
		{"execute", `{"buy":{"what":[],"note":null}}`, ""},
		{"execute", `{"buy":{"what":[{"id":18446744073709551615,"price":"340282366920938463463374607431768211455","parts":[{"id":0,"price":"0"}]}],"note":"x","until":{"at":"5"}}}`, ""},
		{"execute", `{"buy":{"what":[{"id":1,"price":"1"},{"id":18446744073709551616,"price":"1"}],"note":null}}`, "buy.what[1].id: want u64"},
		{"execute", `{"buy":{"what":[{"id":1.0,"price":"1"}],"note":null}}`, "buy.what[0].id: want u64"},
		{"execute", `{"buy":{"what":[{"id":1,"price":"01"}],"note":null}}`, "buy.what[0].price: want u128"},
		{"execute", `{"buy":{"what":[{"id":1,"price":"340282366920938463463374607431768211456"}],"note":null}}`, "buy.what[0].price: want u128"},
		{"execute", `{"buy":{"what":[{"id":1,"price":"-1"}],"note":null}}`, "buy.what[0].price: want u128"},
		{"execute", `{"buy":{"what":[{"id":1,"price":1}],"note":null}}`, "buy.what[0].price: want u128"},
		{"execute", `{"buy":{"what":{},"note":null}}`, "buy.what: want a list"},
		{"execute", `{"buy":{"what":[]}}`, "buy: no field note"},
		{"execute", `{"buy":{"what":[],"note":5}}`, "buy.note: want null\nbuy.note: want text"},
		{"execute", `{"buy":{"what":[],"note":null,"until":{"at":"18446744073709551616"}}}`, "buy.until.at: want u64text\nbuy.until: no field never"},
		{"query", `{"stock":{}}`, ""},
		{"query", `{"stock":{"limit":4294967296}}`, "stock.limit: want u32"},
		{"query", `{"raw":[1,{"a":2}]}`, ""},
	} {
		got := ""
		if err := s.Check(c.entry, []byte(c.msg)); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s %s: %q, want %q", c.entry, c.msg, got, c.want)
		}
	}
	for answer, want := range map[string]string{
		`{"data":"AQI=","low":-9223372036854775808}`: "",
		`{"data":"AQI","low":0}`:                     "the answer to raw.data: want binary",
		`{"data":"","low":-9223372036854775809}`:     "the answer to raw.low: want i64",
	} {
		err := s.CheckAnswer("raw", []byte(answer))
		if (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("%s: %v, want %q", answer, err, want)
		}
	}
	if err := s.CheckAnswer("rare", []byte("{}")); err == nil {
		t.Error("an answer to nothing is taken")
	}
}

// TestRefused: what is no schema.
func TestRefused(t *testing.T) {
	deep := strings.Repeat(`[`, 40) + `"u64"` + strings.Repeat(`]`, 40)
	with := func(more string) string {
		return `{"contract":"c","version":"1","instantiate":{}` + more + `}`
	}
	for text, want := range map[string]string{
		``:                               "EOF",
		`[]`:                             "the schema: want an object",
		`{}`:                             "want a contract's name",
		`{"contract":"c","version":"1"}`: "what instantiate takes",
		with(`,"colour":1`):              `"colour" is unknown`,
		with(`,"execute":[]`):            "execute: want an object",
		with(`,"execute":{"a":"u65"}`):   `there is no type "u65"`,
		with(`,"execute":{"a":[]}`):      "a list of nothing",
		with(`,"execute":{"a":5}`):       "want an object",
		with(`,"execute":{"a":{"b?":"u64","b":"u64"}}`):                       "twice",
		with(`,"execute":{"a":{"?":"u64"}}`):                                  "without a name",
		with(`,"execute":{"":{}}`):                                            "a name has 1 to 64 bytes",
		with(`,"execute":{"a":` + deep + `}`):                                 "too deep",
		with(`,"query":{"a":{}}`):                                             "want what is asked and what is answered",
		with(`,"query":{"a":[{},"B"]}`):                                       `there is no type "B"`,
		with(`,"types":{"a":"u64"}`):                                          "does not begin with a capital letter",
		with(`,"types":{"A":"A"}`):                                            `the type "A" is itself`,
		with(`,"types":{` + chain(40) + `}`):                                  "behind more than 16 names",
		with(`,"types":{"A":"B","B":"C","C":"A"}`):                            "is itself",
		with(`,"types":{"A":["null","B"],"B":["A","text"]}`):                  "one of several that is one of several again",
		with(`,"types":{"A":"` + strings.Repeat("u", schema.MaxBytes) + `"}`): "limit 32768",
	} {
		compact, err := schema.Compact([]byte(text))
		if err == nil {
			_, err = schema.Parse(compact)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: %v, want %q", text, err, want)
		}
	}
	parse(t, with(``))
	for _, text := range []string{with(` `), with(`,"contract":"d"`), `{"version":"1","contract":"c","instantiate":{}}`} {
		if _, err := schema.Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), "another order") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// chain is so many types of which each is the next.
func chain(n int) string {
	var types []string
	for i := range n {
		types = append(types, fmt.Sprintf(`"T%03d":"T%03d"`, i, i+1))
	}
	return strings.Join(append(types, fmt.Sprintf(`"T%03d":"u64"`, n)), ",")
}

// TestFieldsInEachOther: to write a schema takes as long as it is, however its fields are in each other.
func TestFieldsInEachOther(t *testing.T) {
	nested := func(name string) *schema.Schema {
		fields := `"u64"`
		for range 14 {
			fields = fmt.Sprintf(`{%q:%s}`, name, fields)
		}
		return parse(t, `{"contract":"c","version":"1","instantiate":`+fields+`}`)
	}
	must, may := nested("a"), nested("a?")
	one := testing.AllocsPerRun(1, func() { must.JSON() })
	if two := testing.AllocsPerRun(1, func() { may.JSON() }); two > 10*one {
		t.Errorf("fields that may be left out take %v allocations, those that may not %v", two, one)
	}
	if out := string(may.JSON()); strings.Count(out, `"a":`) != 14 || !json.Valid([]byte(out)) {
		t.Errorf("%s", out)
	}
}

// TestCheckIsBounded: a type that is one of several again and again in its fields is no reason to look for ever.
func TestCheckIsBounded(t *testing.T) {
	s := parse(t, `{"contract":"c","version":"1","instantiate":"A","types":{"A":["bool",{"a":"A"},{"a":"A","b?":"text"}],"L":["L"]},"execute":{"l":"L"}}`)
	deep := func(n int, end string) []byte {
		return []byte(strings.Repeat(`{"a":`, n) + end + strings.Repeat(`}`, n))
	}
	if err := s.Check("instantiate", deep(12, "true")); err != nil {
		t.Error(err)
	}
	if err := s.Check("instantiate", deep(3, "5")); err == nil || strings.Contains(err.Error(), "too much") {
		t.Error(err)
	}
	for _, n := range []int{25, 60, 9_000} {
		if err := s.Check("instantiate", deep(n, "5")); err == nil || err.Error() != "there is too much to look at" {
			t.Errorf("%d in each other: %.200v", n, err)
		}
	}
	if err := s.Check("execute", []byte(`{"l":`+strings.Repeat("[", 9_000)+strings.Repeat("]", 9_000)+`}`)); err == nil || err.Error() != "there is too much to look at" {
		t.Errorf("%.200v", err)
	}
}

// TestJSON is the document that clients get.
func TestJSON(t *testing.T) {
	s := parse(t, `{"contract":"c","version":"1","instantiate":{"n?":"u32"},"execute":{"a":{},"b":"T"},"query":{"q":["T",["T"]]},"types":{"T":{"x":"bool"}}}`)
	const want = `{"$schema":"http://json-schema.org/draft-07/schema#",` +
		`"definitions":{"T":{"additionalProperties":false,"properties":{"x":{"type":"boolean"}},"required":["x"],"type":"object"}},` +
		`"execute":{"anyOf":[{"additionalProperties":false,"properties":{"a":{"additionalProperties":false,"properties":{},"required":[],"type":"object"}},"required":["a"],"type":"object"},` +
		`{"additionalProperties":false,"properties":{"b":{"$ref":"#/definitions/T"}},"required":["b"],"type":"object"}]},` +
		`"instantiate":{"additionalProperties":false,"properties":{"n":{"anyOf":[{"maximum":4294967295,"minimum":0,"type":"integer"},{"type":"null"}]}},"required":[],"type":"object"},` +
		`"query":{"additionalProperties":false,"properties":{"q":{"$ref":"#/definitions/T"}},"required":["q"],"type":"object"},` +
		`"responses":{"q":{"items":{"$ref":"#/definitions/T"},"type":"array"}},"title":"c 1"}`
	if got := string(s.JSON()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func module(sections ...[]byte) []byte {
	out := []byte("\x00asm\x01\x00\x00\x00")
	for _, s := range sections {
		out = wasm.AppendSection(out, wasm.SectionCustom, s)
	}
	return out
}

func named(name, text string) []byte {
	return append(append([]byte{byte(len(name))}, name...), text...)
}

// TestOf finds the section.
func TestOf(t *testing.T) {
	compact, err := schema.Compact([]byte(shop))
	if err != nil {
		t.Fatal(err)
	}
	good := named("schema", string(compact))
	s, err := schema.Of(module(named("name", "x"), good, named("source", "y")))
	if err != nil || len(s.Messages("execute")) != 2 || len(s.Messages("query")) != 2 {
		t.Fatalf("%v %v", s, err)
	}
	if _, err := schema.Of(module(named("name", "x"))); !errors.Is(err, schema.ErrNone) {
		t.Errorf("without one: %v", err)
	}
	for _, bad := range [][]byte{nil, []byte("\x00asm"), module(good)[:20], module(named("schema", "{")), module(named("schema", shop))} {
		if _, err := schema.Of(bad); err == nil || errors.Is(err, schema.ErrNone) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// FuzzParse: what is a schema is written as JSON that is not much longer, and holds any text against itself.
func FuzzParse(f *testing.F) {
	compact, err := schema.Compact([]byte(shop))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(compact, []byte(`{"buy":{"what":[],"note":null}}`))
	f.Add([]byte(`{"contract":"c","instantiate":"any","types":{"A":["A"]},"version":"1"}`), []byte(`[[[]]]`))
	f.Fuzz(func(t *testing.T, text, msg []byte) {
		s, err := schema.Parse(text)
		if err != nil {
			return
		}
		if out := s.JSON(); !json.Valid(out) || len(out) > 100*(len(text)+10) {
			t.Errorf("%d bytes of %d", len(out), len(text))
		}
		for _, entry := range []string{"instantiate", "execute", "query"} {
			_ = s.Check(entry, msg)
			for _, one := range s.Samples(entry) {
				if err := s.Check(entry, one.JSON); err != nil && err.Error() != "there is too much to look at" {
					t.Errorf("%s: the schema does not take its sample %s: %v", entry, one.JSON, err)
				}
			}
		}
	})
}
