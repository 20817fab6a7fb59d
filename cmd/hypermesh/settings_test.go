package main

import (
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// What is no setting, or no number, is refused by name before anybody is asked.
func TestSettingsArguments(t *testing.T) {
	flags := []string{"nexus", "settings", "set", "--home", t.TempDir(), "--nexus", "http://127.0.0.1:1"}
	for want, args := range map[string][]string{
		"want NAME=NUMBER of at least one":          nil,
		`"sample" is not NAME=NUMBER`:               {"sample"},
		"sample is there twice":                     {"sample=1", "sample=2"},
		`unknown field "samples"`:                   {"samples=1"},
		"want NAME=NUMBER":                          {"sample=many"},
		"cannot unmarshal number -1 into Go struct": {"retry_ms=-1"},
		"cannot unmarshal string into Go struct":    {`sample="1"`},
	} {
		if code, _, messages := invoke(t, append(flags[:len(flags):len(flags)], args...)...); code != exitUsage || !strings.Contains(messages, want) {
			t.Errorf("%q: %q lacks %q", args, messages, want)
		}
	}
	s := job.DefaultSettings()
	if err := setValues(&s, map[string]string{"retry_ms": "5", "max_active": "7"}); err != nil || s.RetryMs != 5 || s.MaxActive != 7 || s.Sample != 32 {
		t.Errorf("%v: %+v", err, s)
	}
}

func TestQuoteText(t *testing.T) {
	free := api.Quote{MaxCost: chain.Nano(5), Start: 1, Bids: []api.QuoteBid{{Node: crypto.PublicKey{1}, Cost: chain.Nano(5)}}, Nodes: 1, Looked: 1}
	if got := quoteText(&free); !strings.Contains(got, "begins            at once") || !strings.Contains(got, "bid  ") {
		t.Errorf("%s", got)
	}
	free.Priority, free.HeadStartMs = chain.Nano(2), 15_000
	if got := quoteText(&free); !strings.Contains(got, "for priority      0.000000002 HYPER of that at most: as if it came 15s earlier than others of its class\n") {
		t.Errorf("%s", got)
	}
	full := api.Quote{Start: 60_000, Ahead: 3, Reason: "no node bid for it", Nodes: 5_000, Looked: 1_000, Excluded: []api.Exclusion{{Reason: "other region", Nodes: 4_999}}}
	for _, want := range []string{"1970-01-01T00:01:00Z, if what runs takes all of its time; 3 queued jobs go first", "about 4999 of 5000 nodes: other region"} {
		if got := quoteText(&full); !strings.Contains(got, want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
	never := api.Quote{Reason: "no node bid for it"}
	if got := quoteText(&never); !strings.Contains(got, "not, as the cluster is") || !strings.Contains(got, "the cluster knows none") {
		t.Errorf("%s", got)
	}
}
