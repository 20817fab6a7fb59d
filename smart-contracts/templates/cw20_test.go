package templates_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

const cw20Begin = `{"name":"Test token","symbol":"TEST","decimals":6,"initial_balances":[{"address":"@alice","amount":"1000"},{"address":"@bob","amount":"1"}],` +
	`"mint":{"minter":"@mint","cap":"340282366920938463463374607431768211454"},` +
	`"marketing":{"project":"p","description":null,"marketing":"@ann","logo":{"url":"https://x"}}}`

func newCW20(t *testing.T) *contract {
	t.Helper()
	c := deploy(t, "cw20")
	if _, refusal := c.instantiate(t, "alice", cw20Begin); refusal != "" {
		t.Fatal(refusal)
	}
	return c
}

// TestCW20 goes through the messages of the published interface.
func TestCW20(t *testing.T) {
	c := newCW20(t)
	c.answers(t, `{"token_info":{}}`, `{"name":"Test token","symbol":"TEST","decimals":6,"total_supply":"1001"}`)
	c.answers(t, `{"minter":{}}`, `{"minter":"@mint","cap":"340282366920938463463374607431768211454"}`)
	c.answers(t, `{"marketing_info":{}}`, `{"project":"p","description":null,"logo":{"url":"https://x"},"marketing":"@ann"}`)
	r := c.must(t, "alice", `{"transfer":{"recipient":"@carol","amount":"10"}}`)
	if got := fmt.Sprint(r.Attributes); got != "[{action transfer} {from @alice} {to @carol} {amount 10}]" {
		t.Error(got)
	}
	t.Logf("a transfer takes %d gas", c.gas)
	c.must(t, "alice", `{"burn":{"amount":"90"}}`)
	c.answers(t, `{"all_accounts":{}}`, `{"accounts":["@alice","@bob","@carol"]}`)
	c.answers(t, `{"all_accounts":{"start_after":"@alice","limit":1}}`, `{"accounts":["@bob"]}`)
	shop := shopOf(t, c)
	c.must(t, "alice", `{"send":{"contract":"@shop","amount":"5","msg":"eyJidXkiOnt9fQ=="}}`)
	shop.got(t, `{"receive":{"sender":"@alice","amount":"5","msg":"eyJidXkiOnt9fQ=="}}`)
	shop.closed = true
	c.refused(t, "alice", `{"send":{"contract":"@shop","amount":"5","msg":""}}`, "the shop is closed")
	c.must(t, "mint", `{"mint":{"recipient":"@carol","amount":"7"}}`)
	c.answers(t, `{"token_info":{}}`, `{"name":"Test token","symbol":"TEST","decimals":6,"total_supply":"918"}`)
	c.answers(t, `{"all_accounts":{}}`, `{"accounts":`+c.inOrder("@alice", "@bob", "@carol", "@shop")+`}`)
	c.must(t, "mint", `{"update_minter":{"new_minter":"@ann"}}`)
	c.refused(t, "mint", `{"mint":{"recipient":"@carol","amount":"7"}}`, "only the minter may")
	c.refused(t, "ann", `{"update_minter":{"new_minter":""}}`, "address: Input is empty") // which is none, and not nobody
	c.must(t, "ann", `{"update_minter":{}}`)
	c.refused(t, "ann", `{"mint":{"recipient":"@carol","amount":"7"}}`, "only the minter may")
	c.answers(t, `{"minter":{}}`, "null")
	// What clients read of the storage of cw20-base.
	for key, want := range map[string]string{"\x00\x07balance@alice": `"895"`, "contract_info": `{"contract":"hypermesh:cw20","version":"1.0.0"}`} {
		if value := c.Raw(c.at, []byte(c.text(key))); string(value) != want {
			t.Errorf("%q has %q, want %q", key, value, want)
		}
	}
}

func TestCW20Allowances(t *testing.T) {
	c := newCW20(t)
	shop := shopOf(t, c)
	until := fmt.Sprintf(`{"at_height":%d}`, c.Height()+20)
	c.must(t, "alice", `{"increase_allowance":{"spender":"@bob","amount":"100","expires":`+until+`}}`)
	c.must(t, "alice", `{"increase_allowance":{"spender":"@bob","amount":"20","expires":null}}`)
	c.must(t, "alice", `{"decrease_allowance":{"spender":"@bob","amount":"10"}}`)
	c.must(t, "alice", `{"increase_allowance":{"spender":"@dave","amount":"1"}}`)
	c.answers(t, `{"allowance":{"owner":"@alice","spender":"@bob"}}`, `{"allowance":"110","expires":`+until+`}`)
	c.answers(t, `{"allowance":{"owner":"@bob","spender":"@alice"}}`, `{"allowance":"0","expires":{"never":{}}}`)
	c.answers(t, `{"all_allowances":{"owner":"@alice"}}`,
		`{"allowances":[{"spender":"@bob","allowance":"110","expires":`+until+`},{"spender":"@dave","allowance":"1","expires":{"never":{}}}]}`)
	c.answers(t, `{"all_allowances":{"owner":"@alice","start_after":"@bob","limit":100}}`, `{"allowances":[{"spender":"@dave","allowance":"1","expires":{"never":{}}}]}`)
	c.answers(t, `{"all_spender_allowances":{"spender":"@bob"}}`, `{"allowances":[{"owner":"@alice","allowance":"110","expires":`+until+`}]}`)
	r := c.must(t, "bob", `{"transfer_from":{"owner":"@alice","recipient":"@carol","amount":"10"}}`)
	if got := fmt.Sprint(r.Attributes); got != "[{action transfer_from} {from @alice} {to @carol} {by @bob} {amount 10}]" {
		t.Error(got)
	}
	c.must(t, "bob", `{"send_from":{"owner":"@alice","contract":"@shop","amount":"20","msg":""}}`)
	shop.got(t, `{"receive":{"sender":"@bob","amount":"20","msg":""}}`)
	c.must(t, "bob", `{"burn_from":{"owner":"@alice","amount":"30"}}`)
	c.refused(t, "bob", `{"burn_from":{"owner":"@alice","amount":"51"}}`, "not allowed so much")
	c.must(t, "bob", `{"burn_from":{"owner":"@alice","amount":"50"}}`)
	for _, msg := range []string{ // nothing, in the name of somebody else
		`{"transfer_from":{"owner":"@alice","recipient":"@bob","amount":"0"}}`, `{"burn_from":{"owner":"@alice","amount":"0"}}`,
		`{"send_from":{"owner":"@alice","contract":"@shop","amount":"0","msg":""}}`,
	} {
		c.refused(t, "bob", msg, "not allowed so much")
	}
	c.answers(t, `{"all_spender_allowances":{"spender":"@bob"}}`, `{"allowances":[]}`)
	c.refused(t, "alice", `{"increase_allowance":{"spender":"@alice","amount":"1"}}`, "an allowance for oneself")
	c.refused(t, "alice", fmt.Sprintf(`{"increase_allowance":{"spender":"@bob","amount":"1","expires":{"at_height":%d}}}`, c.Height()+1), "it would be over already")
	c.must(t, "alice", `{"decrease_allowance":{"spender":"@dave","amount":"5"}}`)
	c.answers(t, `{"all_allowances":{"owner":"@alice"}}`, `{"allowances":[]}`)
	c.must(t, "alice", fmt.Sprintf(`{"increase_allowance":{"spender":"@bob","amount":"1","expires":{"at_time":"%d"}}}`, c.Time().Add(time.Hour).UnixNano()))
	c.pass(t, time.Hour)
	c.refused(t, "bob", `{"burn_from":{"owner":"@alice","amount":"1"}}`, "the allowance is over")
}

func TestCW20Refusals(t *testing.T) {
	for msg, want := range map[string]string{
		`{"name":"ab","symbol":"TEST","decimals":6,"initial_balances":[]}`:                                                                                                      "a name has 3 to 50 bytes",
		`{"name":"` + strings.Repeat("é", 25) + `x","symbol":"TTT","decimals":6,"initial_balances":[]}`:                                                                         "a name has 3 to 50 bytes",
		`{"name":"abc","symbol":"T1T","decimals":6,"initial_balances":[]}`:                                                                                                      "a symbol has letters and hyphens",
		`{"name":"abc","symbol":"T[T","decimals":6,"initial_balances":[]}`:                                                                                                      "a symbol has letters and hyphens",
		`{"name":"abc","symbol":"TT","decimals":6,"initial_balances":[]}`:                                                                                                       "a symbol has 3 to 12 letters",
		`{"name":"abc","symbol":"TTT","decimals":19,"initial_balances":[]}`:                                                                                                     "too many decimals",
		`{"name":"abc","symbol":"TTT","decimals":6,"initial_balances":[{"address":"@ann","amount":"1"},{"address":"@ann","amount":"1"}]}`:                                       "an account twice",
		`{"name":"abc","symbol":"TTT","decimals":6,"initial_balances":[{"address":"Ann","amount":"1"}]}`:                                                                        "address: invalid address",
		`{"name":"abc","symbol":"TTT","decimals":6,"initial_balances":[{"address":"@ann","amount":"340282366920938463463374607431768211455"},{"address":"@bob","amount":"1"}]}`: "overflow",
		`{"name":"abc","symbol":"TTT","decimals":6,"initial_balances":[{"address":"@ann","amount":"2"}],"mint":{"minter":"@bob","cap":"1"}}`:                                    "there is more than the cap already",
		`{"name":"abc","symbol":"TTT","decimals":6,"initial_balances":[],"extra":1}`:                                                                                            "JSON: unknown field extra",
		`{"name":"abc","symbol":"TTT","decimals":6,"initial_balances":[],"marketing":{"logo":{"embedded":{"png":"AAAA"}}}}`:                                                     "the logo is not what it says",
	} {
		c := deploy(t, "cw20")
		if _, refusal := c.instantiate(t, "alice", msg); refusal != want {
			t.Errorf("%s: %q, want %q", msg, refusal, want)
		}
	}
	c := newCW20(t)
	c.refused(t, "alice", `{"transfer":{"recipient":"@bob","amount":"1001"}}`, "not enough tokens")
	c.refused(t, "alice", `{"transfer":{"recipient":"@bob","amount":"-1"}}`, "not a whole number")
	c.refused(t, "alice", `{"transfer":{"recipient":"@bob","amount":1}}`, "JSON: want a number in quotes")
	c.refused(t, "alice", `{"transfer":{"recipient":"@bob","amount":"1","memo":""}}`, "JSON: unknown field memo")
	c.refused(t, "mint", `{"mint":{"recipient":"@bob","amount":"340282366920938463463374607431768211455"}}`, "overflow")
	c.refused(t, "mint", `{"mint":{"recipient":"@bob","amount":"340282366920938463463374607431768210454"}}`, "more than the cap")
	c.refused(t, "bob", `{"update_marketing":{"project":"q"}}`, "only the marketing account may")
	c.must(t, "ann", `{"update_marketing":{"project":"","description":"words"}}`)
	svg := base64Of(`<?xml version="1.0"?><svg/>`)
	c.must(t, "ann", `{"upload_logo":{"embedded":{"svg":"`+svg+`"}}}`)
	c.answers(t, `{"marketing_info":{}}`, `{"project":null,"description":"words","logo":"embedded","marketing":"@ann"}`)
	c.answers(t, `{"download_logo":{}}`, `{"mime_type":"image/svg+xml","data":"`+svg+`"}`)
	const png = "\x89PNG\r\n\x1a\n"
	for _, bad := range [][2]string{
		{"svg", "<?xml version="}, {"svg", `<?xml version="1.0"><svg/>`}, {"svg", "<svg/>"}, {"svg", "<?xml >"}, {"svg", ""},
		{"png", "\x89PNG"}, {"png", "\x88" + png[1:]}, {"png", png[:7] + "\r"}, {"png", ""},
	} {
		c.refused(t, "ann", fmt.Sprintf(`{"upload_logo":{"embedded":{%q:%q}}}`, bad[0], base64Of(bad[1])), "the logo is not what it says")
	}
	c.refused(t, "ann", fmt.Sprintf(`{"upload_logo":{"embedded":{"png":%q}}}`, base64Of(png+strings.Repeat("x", 5<<10-7))), "a logo has 5 KiB at most")
	c.must(t, "ann", fmt.Sprintf(`{"upload_logo":{"embedded":{"png":%q}}}`, base64Of(png+strings.Repeat("x", 5<<10-8))))
	c.must(t, "ann", `{"update_marketing":{"project":"q","description":" \t"}}`)
	c.answers(t, `{"marketing_info":{}}`, `{"project":"q","description":null,"logo":"embedded","marketing":"@ann"}`)
	c.must(t, "ann", `{"update_marketing":{"marketing":" "}}`)
	c.refused(t, "ann", `{"update_marketing":{"project":"r"}}`, "only the marketing account may")
	for _, msg := range []string{
		`{"balance":{"address":"Ann"}}`, `{"allowance":{"owner":"Ann","spender":"@ann"}}`, `{"allowance":{"owner":"@ann","spender":"Ann"}}`,
		`{"all_allowances":{"owner":"Ann"}}`, `{"all_spender_allowances":{"spender":"Ann"}}`,
	} {
		c.answers(t, msg, "address: invalid address")
	}
}

// TestCW20Pages: lists have 10 entries unless they are asked for more, and 30 at most.
func TestCW20Pages(t *testing.T) {
	c := newCW20(t)
	for i := range 16 {
		for _, who := range []string{"alice", "mint", "ann"} {
			c.must(t, who, fmt.Sprintf(`{"increase_allowance":{"spender":"@user%02d","amount":"1"}}`, i))
		}
	}
	for i, name := range slices.Sorted(maps.Keys(people())) {
		c.must(t, "mint", fmt.Sprintf(`{"mint":{"recipient":"@%s","amount":"%d"}}`, name, i+1))
	}
	for _, page := range []struct {
		query string
		all   int
	}{
		{`{"all_accounts":{"limit":%s}}`, 31}, {`{"all_allowances":{"owner":"@alice","limit":%s}}`, 16}, {`{"all_spender_allowances":{"spender":"@user03","limit":%s}}`, 3},
	} {
		for limit, most := range map[string]int{"null": 10, "0": 0, "7": 7, "30": 30, "31": 30, "4294967295": 30} {
			if got := strings.Count(c.query(t, fmt.Sprintf(page.query, limit)), "@"); got != min(most, page.all) {
				t.Errorf("%s with limit %s has %d entries of %d", page.query, limit, got, page.all)
			}
		}
	}
}

// TestCW20Supply moves tokens at random: there are never more or fewer than the supply says.
func TestCW20Supply(t *testing.T) {
	c := newCW20(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	have := map[string]uint64{"alice": 1000, "bob": 1, "carol": 0}
	names := []string{"alice", "bob", "carol"}
	supply := uint64(1001)
	for range 300 {
		from, to, n := names[r.IntN(3)], names[r.IntN(3)], r.Uint64N(500)
		msg := fmt.Sprintf(`{"transfer":{"recipient":"@%s","amount":"%d"}}`, to, n)
		op := r.IntN(6)
		switch op {
		case 0:
			msg = fmt.Sprintf(`{"burn":{"amount":"%d"}}`, n)
		case 1:
			have[to], supply = have[to]+n, supply+n
			c.must(t, "mint", fmt.Sprintf(`{"mint":{"recipient":"@%s","amount":"%d"}}`, to, n))
			continue
		}
		if have[from] < n {
			c.refused(t, from, msg, "not enough tokens")
			continue
		}
		c.must(t, from, msg)
		have[from] -= n
		if op == 0 {
			supply -= n
		} else {
			have[to] += n
		}
	}
	for name, n := range have { // order-free: each for itself
		c.answers(t, fmt.Sprintf(`{"balance":{"address":"@%s"}}`, name), fmt.Sprintf(`{"balance":"%d"}`, n))
	}
	c.answers(t, `{"token_info":{}}`, fmt.Sprintf(`{"name":"Test token","symbol":"TEST","decimals":6,"total_supply":"%d"}`, supply))
}
