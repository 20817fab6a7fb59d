package schema_test

import (
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/smart-contracts/schema"
)

// texts are samples as text.
func texts(samples []schema.Sample) string {
	var out []string
	for _, one := range samples {
		out = append(out, one.Message+" "+string(one.JSON))
	}
	return strings.Join(out, "\n")
}

// TestSamples: each form that a message may have, with all fields and with few; the schema takes them all.
func TestSamples(t *testing.T) {
	s := parse(t, `{"contract":"c","version":"1","instantiate":{"a":"address","b?":"text","c?":["bool",{"d":"binary"},"null"]},"migrate":"u32",`+
		`"execute":{"deep":"List","ever":"Ever","many":{"x":["u64"],"y":"i64","z":"u64text","w":"u128"},"no":"any","off":{"one":["any"]},"some":{"one?":"any"}},`+
		`"query":{"q":["null","text"]},"types":{"List":{"next?":"List","n":"u32"},"Ever":{"next":"Ever"}}}`)
	for entry, want := range map[string]string{
		"instantiate": `instantiate {"a":"sample-a","b":"sample-b","c":true}` + "\n" + `instantiate {"a":"sample-a"}` + "\n" +
			`instantiate {"a":"sample-a","b":"sample-b","c":{"d":"eA=="}}` + "\n" + `instantiate {"a":"sample-a","b":"sample-b","c":null}`,
		"migrate": "migrate 1", "sudo": "", "query": `q {"q":null}`,
	} {
		if got := texts(s.Samples(entry)); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", entry, got, want)
		}
	}
	executes := s.Samples("execute")
	got := texts(executes)
	for _, want := range []string{`deep {"deep":{"n":1}}`, `many {"many":{"w":"1","x":[1],"y":1,"z":"1"}}`, `some {"some":{}}`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	for _, none := range []string{"ever", "no", "off"} {
		if strings.Contains(got, none+" {") {
			t.Errorf("a sample of %s:\n%s", none, got)
		}
	}
	for _, entry := range []string{"instantiate", "migrate", "execute", "query"} {
		for _, one := range s.Samples(entry) {
			if err := s.Check(entry, one.JSON); err != nil {
				t.Errorf("%s: %s: %v", entry, one.JSON, err)
			}
		}
	}
	if texts := strings.Count(got, `"deep":{"n":1,"next"`); texts != 1 {
		t.Errorf("%d samples that go deep:\n%s", texts, got)
	}
}
