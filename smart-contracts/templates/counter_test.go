package templates_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/smart-contracts/cosmwasm"
)

// counterBytes is how large the counter may be.
const counterBytes = 8 << 10

func TestCounter(t *testing.T) {
	module, _ := load(t, "counter")
	if len(module) > counterBytes {
		t.Errorf("the counter has %d bytes, limit %d", len(module), counterBytes)
	}
	c := deploy(t, "counter")
	if _, refusal := c.instantiate(t, "alice", `{"count":-1}`); refusal != "JSON: not a whole number" {
		t.Errorf("a counter from -1: %q", refusal)
	}
	response, refusal := c.instantiate(t, "alice", ` {"count" : 5} `)
	if want := []cosmwasm.Attribute{{Key: "action", Value: "instantiate"}}; refusal != "" || !slices.Equal(response.Attributes, want) {
		t.Fatalf("%+v, %q", response, refusal)
	}
	c.must(t, "bob", `{"increment":{}}`)
	c.answers(t, `{"count":{}}`, `{"count":6}`)
	c.refused(t, "bob", `{"reset":{"count":0}}`, "only the owner may")
	c.must(t, "alice", `{"reset":{"count":18446744073709551615}}`)
	c.answers(t, `{"count":{}}`, `{"count":18446744073709551615}`)
	c.refused(t, "bob", `{"increment":{}}`, "the counter is full")
	if err := c.Fund(account("bob").Address(), 1); err != nil {
		t.Fatal(err)
	}
	c.refused(t, "bob", `{"increment":{}}`, "no funds are taken", 1)
	if c.Balance(account("bob").Address()) != 1 || c.Balance(c.at) != 0 {
		t.Errorf("bob has %d, the counter %d", c.Balance(account("bob").Address()), c.Balance(c.at))
	}
	c.answers(t, `{"total":{}}`, "unknown message total")
	t.Logf("%d bytes, a call takes %d gas", len(module), c.gas)
}

// TestMalformed gives the counter what is no message of its.
func TestMalformed(t *testing.T) {
	c := deploy(t, "counter")
	if _, refusal := c.instantiate(t, "alice", `{"count":5}`); refusal != "" {
		t.Fatal(refusal)
	}
	for msg, want := range map[string]string{
		``:                                            "JSON: malformed",
		`{"increment":{}`:                             "JSON: malformed",
		`{"increment":{}}x`:                           "JSON: malformed",
		`{"increment":{},}`:                           "JSON: malformed",
		`{"increment":{}}` + "\x00":                   "JSON: malformed",
		`{"increment":{"a":1,"a":1}}`:                 "JSON: a field twice",
		`{"increment":{"by":1}}`:                      "JSON: unknown field by",
		`{"increment":[]}`:                            "JSON: want an object",
		`{"increment":{},"reset":{}}`:                 "JSON: want an object with one field",
		`{}`:                                          "JSON: want an object with one field",
		`"increment"`:                                 "JSON: want an object with one field",
		`{"reset":{}}`:                                "JSON: no field count",
		`{"reset":{"count":null}}`:                    "JSON: no field count",
		`{"reset":{"count":"5"}}`:                     "JSON: want a number",
		`{"reset":{"count":05}}`:                      "JSON: malformed",
		`{"reset":{"count":5.0}}`:                     "JSON: not a whole number",
		`{"reset":{"count":1e3}}`:                     "JSON: not a whole number",
		`{"reset":{"count":-0}}`:                      "JSON: not a whole number",
		`{"reset":{"count":+5}}`:                      "JSON: malformed",
		`{"reset":{"count":18446744073709551616}}`:    "JSON: number out of range",
		`{"reset":{"count":99999999999999999999999}}`: "JSON: number out of range",
		`{"\u0069ncrement":{}}`:                       "JSON: an escape in a name",
		"{\"incr\x80ement\":{}}":                      "JSON: not UTF-8",
		"{\"a\":\"\xed\xa0\x80\"}":                    "JSON: not UTF-8",
		`{"a":"` + "\n" + `"}`:                        "JSON: malformed",
		`{"a":"\x"}`:                                  "JSON: malformed",
		`{"a":"\u12"}`:                                "JSON: malformed",
		`{"a":tru}`:                                   "JSON: malformed",
		`{"a":nul`:                                    "JSON: malformed",
		`{"a":.5}`:                                    "JSON: malformed",
		`{"a":1.}`:                                    "JSON: malformed",
		`{"a":1e}`:                                    "JSON: malformed",
		`{"a":[1,]}`:                                  "JSON: malformed",
		`{"b":` + strings.Repeat("[", 40):             "JSON: too deep",
		`{"a":[1,{"b":true,"c":[false,null,-1.5E+3,"\u00e9\n"]}]}`: "unknown message a",
	} {
		c.refused(t, "alice", msg, want)
	}
}
