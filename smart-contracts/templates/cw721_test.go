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

func newCW721(t *testing.T) *contract {
	t.Helper()
	c := deploy(t, "cw721")
	if _, refusal := c.instantiate(t, "alice", `{"name":"Sights","symbol":"SEE","minter":"@mint"}`); refusal != "" {
		t.Fatal(refusal)
	}
	c.must(t, "mint", `{"mint":{"token_id":"one","owner":"@alice","token_uri":"ipfs://x","extension":{"name":"One","image":"y"}}}`)
	c.must(t, "mint", `{"mint":{"token_id":"two","owner":"@alice","token_uri":null,"extension":null}}`)
	return c
}

// TestCW721 goes through the messages of the published interface.
func TestCW721(t *testing.T) {
	c := newCW721(t)
	c.answers(t, `{"contract_info":{}}`, `{"name":"Sights","symbol":"SEE"}`)
	c.answers(t, `{"minter":{}}`, `{"minter":"@mint"}`)
	c.answers(t, `{"num_tokens":{}}`, `{"count":2}`)
	c.answers(t, `{"nft_info":{"token_id":"one"}}`, `{"token_uri":"ipfs://x","extension":{"image":"y","name":"One"}}`)
	c.answers(t, `{"nft_info":{"token_id":"two"}}`, `{"token_uri":null,"extension":null}`)
	r := c.must(t, "alice", `{"transfer_nft":{"recipient":"@bob","token_id":"one"}}`)
	if got := fmt.Sprint(r.Attributes); got != "[{action transfer_nft} {sender @alice} {recipient @bob} {token_id one}]" {
		t.Error(got)
	}
	c.answers(t, `{"tokens":{"owner":"@alice"}}`, `{"tokens":["two"]}`)
	c.answers(t, `{"tokens":{"owner":"@bob","start_after":"one"}}`, `{"tokens":[]}`)
	c.answers(t, `{"all_tokens":{"limit":1}}`, `{"tokens":["one"]}`)
	c.answers(t, `{"all_tokens":{"start_after":"one"}}`, `{"tokens":["two"]}`)
	shop := shopOf(t, c)
	c.must(t, "bob", `{"send_nft":{"contract":"@shop","token_id":"one","msg":"e30="}}`)
	shop.got(t, `{"receive_nft":{"sender":"@bob","token_id":"one","msg":"e30="}}`)
	c.answers(t, `{"owner_of":{"token_id":"one"}}`, `{"owner":"@shop","approvals":[]}`)
	c.must(t, "alice", `{"burn":{"token_id":"two"}}`)
	c.answers(t, `{"num_tokens":{}}`, `{"count":1}`)
	c.answers(t, `{"owner_of":{"token_id":"two"}}`, "tokens not found")
	c.refused(t, "bob", `{"burn":{"token_id":"one"}}`, "only the owner, or who is approved, may")
	c.refused(t, "mint", `{"mint":{"token_id":"one","owner":"@bob"}}`, "there is a token of that name")
	c.refused(t, "mint", `{"mint":{"token_id":"","owner":"@bob"}}`, "a token's name has 1 to 128 letters")
	c.refused(t, "mint", `{"mint":{"token_id":"x","owner":"@bob","extension":{"colour":"red"}}}`, "JSON: unknown field colour")
	c.refused(t, "bob", `{"mint":{"token_id":"x","owner":"@bob"}}`, "only the minter may")
	r = c.must(t, "mint", `{"mint":{"token_id":"x","owner":"@bob","extension":{"attributes":[{"trait_type":"hat","value":"red","display_type":null},{"trait_type":"\u00e9","value":"2"}]}}}`)
	if got := fmt.Sprint(r.Attributes); got != "[{action mint} {minter @mint} {owner @bob} {token_id x}]" {
		t.Error(got)
	}
	c.answers(t, `{"nft_info":{"token_id":"x"}}`,
		`{"token_uri":null,"extension":{"attributes":[{"trait_type":"hat","value":"red","display_type":null},{"trait_type":"\u00e9","value":"2"}]}}`)
	c.must(t, "bob", `{"transfer_nft":{"recipient":"@alice","token_id":"x"}}`) // what was kept is read
	for list, want := range map[string]string{
		`[{"trait_type":"hat"}]`:                       "JSON: no field value",
		`[{"trait_type":"hat","value":5}]`:             "JSON: want a text",
		`[{"trait_type":"h","value":"","rarity":"1"}]`: "JSON: unknown field rarity",
		`{}`: "JSON: want a list",
	} {
		c.refused(t, "mint", `{"mint":{"token_id":"y","owner":"@bob","extension":{"attributes":`+list+`}}}`, want)
	}
}

// TestCW721Withdraw: what was sent to the collection's address goes to where its owner says.
func TestCW721Withdraw(t *testing.T) {
	c := newCW721(t)
	const three = `{"withdraw_funds":{"amount":{"denom":"nhyper","amount":"3"}}}`
	if err := c.Fund(c.at, 5); err != nil {
		t.Fatal(err)
	}
	c.answers(t, `{"get_withdraw_address":{}}`, "null")
	c.refused(t, "bob", three, "withdraw_address not found")
	c.refused(t, "mint", `{"remove_withdraw_address":{}}`, "withdraw_address not found")
	c.refused(t, "bob", `{"set_withdraw_address":{"address":"@bob"}}`, "only the minter may")
	c.refused(t, "mint", `{"set_withdraw_address":{"address":"Bob"}}`, "address: invalid address")
	r := c.must(t, "mint", `{"set_withdraw_address":{"address":"@ann"}}`)
	if got := fmt.Sprint(r.Attributes); got != "[{action set_withdraw_address} {address @ann}]" {
		t.Error(got)
	}
	c.answers(t, `{"get_withdraw_address":{}}`, `"@ann"`)
	r = c.must(t, "bob", three)
	if got := fmt.Sprint(r.Attributes); got != "[{action withdraw_funds} {amount 3} {denom nhyper}]" || c.has("ann") != 3 || c.has("it") != 2 {
		t.Errorf("%s, ann has %d, the collection %d", got, c.has("ann"), c.has("it"))
	}
	if _, refusal := c.execute(t, "bob", three); refusal == "" || c.has("it") != 2 {
		t.Errorf("more than there is: %q", refusal)
	}
	c.refused(t, "ann", `{"remove_withdraw_address":{}}`, "only the minter may")
	c.must(t, "mint", `{"remove_withdraw_address":{}}`)
	c.refused(t, "bob", three, "withdraw_address not found")
	if _, refusal := c.instantiate(t, "alice", `{"name":"Sights","symbol":"SEE","withdraw_address":"@carol"}`); refusal != "" {
		t.Fatal(refusal)
	}
	c.answers(t, `{"get_withdraw_address":{}}`, `"@carol"`)
	c.answers(t, `{"minter":{}}`, `{"minter":"@alice"}`)
}

// TestCW721Forms: messages in all the forms that cw721-base 0.18 publishes, and what it does not take.
func TestCW721Forms(t *testing.T) {
	c := newCW721(t)
	if r := c.must(t, "bob", `{"extension":{"msg":{}}}`); len(r.Attributes) != 0 || len(r.Messages) != 0 {
		t.Errorf("an extension: %+v", r)
	}
	c.answers(t, `{"extension":{"msg":{}}}`, "null")
	c.refused(t, "bob", `{"extension":{"msg":{"a":1}}}`, "JSON: unknown field a")
	c.refused(t, "bob", `{"extension":{}}`, "JSON: no field msg")
	c.must(t, "mint", `{"mint":{"token_id":"plain","owner":"@bob","extension":{}}}`)
	c.answers(t, `{"nft_info":{"token_id":"plain"}}`, `{"token_uri":null,"extension":{}}`)
	for _, msg := range []string{
		`{"owner_of":{"token_id":"one","include_expired":null}}`, `{"all_nft_info":{"token_id":"one","include_expired":false}}`,
		`{"approvals":{"token_id":"one","include_expired":null}}`, `{"all_operators":{"owner":"@bob","include_expired":null,"start_after":null,"limit":null}}`,
		`{"tokens":{"owner":"@bob","start_after":null,"limit":null}}`, `{"all_tokens":{"start_after":null,"limit":4294967295}}`,
		`{"approval":{"token_id":"one","spender":"@alice","include_expired":null}}`,
	} {
		if got := c.query(t, msg); !strings.HasPrefix(got, "{") {
			t.Errorf("%s: %s", msg, got)
		}
	}
	for _, msg := range []string{
		`{"operator":{"owner":"Bob","operator":"@bob"}}`, `{"operator":{"owner":"@bob","operator":"Bob"}}`, `{"tokens":{"owner":"Bob"}}`,
		`{"all_operators":{"owner":"Bob"}}`, `{"all_operators":{"owner":"@bob","start_after":"Bob"}}`,
	} {
		c.answers(t, msg, "address: invalid address")
	}
	for i := range 120 {
		c.must(t, "mint", fmt.Sprintf(`{"mint":{"token_id":"n%03d","owner":"@carol","extension":null}}`, i))
	}
	for limit, want := range map[string]int{"null": 10, "0": 0, "100": 100, "101": 100} {
		for _, msg := range []string{`{"tokens":{"owner":"@carol","limit":%s}}`, `{"all_tokens":{"limit":%s}}`} {
			if got := c.query(t, fmt.Sprintf(msg, limit)); strings.Count(got, `"`) != 2+2*want {
				t.Errorf("limit %s: %s", limit, got)
			}
		}
	}
}

// TestCW721Ownership: the collection goes to who accepts it, as clients of cw-ownable have it.
func TestCW721Ownership(t *testing.T) {
	c := newCW721(t)
	const mine, x = "only the minter may", `{"mint":{"token_id":"x","owner":"@bob"}}`
	offer := func(to, until string) string {
		return fmt.Sprintf(`{"update_ownership":{"transfer_ownership":{"new_owner":%q,"expiry":%s}}}`, to, until)
	}
	const accept, renounce = `{"update_ownership":"accept_ownership"}`, `{"update_ownership":"renounce_ownership"}`
	c.answers(t, `{"ownership":{}}`, `{"owner":"@mint","pending_owner":null,"pending_expiry":null}`)
	for msg, want := range map[string]string{
		offer("@ann", "null"): mine, renounce: mine, accept: "the collection is not offered to the sender",
		`{"update_ownership":"burn"}`: "unknown action burn", `{"update_ownership":{"steal":{}}}`: "unknown action steal", `{"update_ownership":5}`: "JSON: want an object with one field",
	} {
		c.stateful().refused(t, "ann", msg, want)
	}
	c.refused(t, "mint", offer("Ann", "null"), "address: invalid address")
	until := fmt.Sprintf(`{"at_time":"%d"}`, c.Time().Add(time.Minute).UnixNano())
	r := c.must(t, "mint", offer("@ann", until))
	want := fmt.Sprintf("[{owner @mint} {pending_owner @ann} {pending_expiry expiration time: %d.%09d}]", c.Time().Add(time.Minute).Unix(), c.Time().Nanosecond()-int(time.Millisecond))
	if got := fmt.Sprint(r.Attributes); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	c.answers(t, `{"ownership":{}}`, `{"owner":"@mint","pending_owner":"@ann","pending_expiry":`+until+`}`)
	c.refused(t, "ann", x, mine)
	c.refused(t, "bob", accept, "the collection is not offered to the sender")
	c.pass(t, time.Minute)
	c.refused(t, "ann", accept, "the offer is over")
	c.must(t, "mint", offer("@bob", `{"never":{}}`))
	c.refused(t, "ann", accept, "the collection is not offered to the sender") // another offer, and no two
	r = c.must(t, "mint", offer("@ann", fmt.Sprintf(`{"at_height":%d}`, c.Height()+9)))
	if got, want := said(r, "pending_expiry"), fmt.Sprintf("expiration height: %d", c.Height()+8); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	r = c.must(t, "ann", accept)
	if got := fmt.Sprint(r.Attributes); got != "[{owner @ann} {pending_owner none} {pending_expiry none}]" {
		t.Error(got)
	}
	if value := c.Raw(c.at, []byte("ownership")); c.names(string(value)) != `{"owner":"@ann","pending_owner":null,"pending_expiry":null}` {
		t.Errorf("it keeps %s", value)
	}
	c.refused(t, "ann", accept, "the collection is not offered to the sender")
	c.refused(t, "mint", x, mine)
	c.must(t, "ann", x)
	// Nobody accepts what was offered before nobody had it.
	if got := said(c.must(t, "ann", offer("@bob", `{"never":{}}`)), "pending_expiry"); got != "expiration: never" {
		t.Error(got)
	}
	c.must(t, "ann", renounce)
	c.refused(t, "bob", accept, "the collection is not offered to the sender")
	c.refused(t, "ann", offer("@ann", "null"), mine)
	c.refused(t, "ann", `{"mint":{"token_id":"z","owner":"@bob"}}`, mine)
	c.answers(t, `{"minter":{}}`, `{"minter":null}`)
	c.answers(t, `{"ownership":{}}`, `{"owner":null,"pending_owner":null,"pending_expiry":null}`)
}

func TestCW721Rights(t *testing.T) {
	c := newCW721(t)
	soon := fmt.Sprintf(`{"at_time":"%d"}`, c.Time().Add(time.Minute).UnixNano())
	c.must(t, "alice", `{"approve":{"spender":"@bob","token_id":"one","expires":`+soon+`}}`)
	c.must(t, "alice", `{"approve":{"spender":"@carol","token_id":"one"}}`)
	c.answers(t, `{"approvals":{"token_id":"one"}}`, `{"approvals":[{"spender":"@bob","expires":`+soon+`},{"spender":"@carol","expires":{"never":{}}}]}`)
	c.answers(t, `{"approval":{"token_id":"one","spender":"@bob"}}`, `{"approval":{"spender":"@bob","expires":`+soon+`}}`)
	c.refused(t, "bob", `{"approve":{"spender":"@dave","token_id":"one"}}`, "only the owner may")
	c.refused(t, "bob", `{"transfer_nft":{"recipient":"@bob","token_id":"two"}}`, "only the owner, or who is approved, may")
	c.refused(t, "alice", fmt.Sprintf(`{"approve":{"spender":"@dave","token_id":"one","expires":{"at_height":%d}}}`, c.Height()+1), "it would be over already")
	c.pass(t, time.Minute)
	later := fmt.Sprintf(`{"at_height":%d}`, c.Height()+50)
	c.answers(t, `{"approvals":{"token_id":"one"}}`, `{"approvals":[{"spender":"@carol","expires":{"never":{}}}]}`)
	c.answers(t, `{"approval":{"token_id":"one","spender":"@bob"}}`, "no approval")
	c.answers(t, `{"approval":{"token_id":"one","spender":"@bob","include_expired":true}}`, `{"approval":{"spender":"@bob","expires":`+soon+`}}`)
	c.refused(t, "bob", `{"transfer_nft":{"recipient":"@bob","token_id":"one"}}`, "only the owner, or who is approved, may")
	c.must(t, "alice", `{"revoke":{"spender":"@carol","token_id":"one"}}`)
	c.refused(t, "carol", `{"transfer_nft":{"recipient":"@bob","token_id":"one"}}`, "only the owner, or who is approved, may")
	c.must(t, "alice", `{"approve_all":{"operator":"@dave","expires":`+later+`}}`)
	c.answers(t, `{"all_operators":{"owner":"@alice"}}`, `{"operators":[{"spender":"@dave","expires":`+later+`}]}`)
	c.answers(t, `{"operator":{"owner":"@alice","operator":"@dave"}}`, `{"approval":{"spender":"@dave","expires":`+later+`}}`)
	c.must(t, "dave", `{"approve":{"spender":"@dave","token_id":"two"}}`)
	c.must(t, "dave", `{"transfer_nft":{"recipient":"@dave","token_id":"one"}}`)
	c.must(t, "alice", `{"revoke_all":{"operator":"@dave"}}`)
	c.answers(t, `{"operator":{"owner":"@alice","operator":"@dave"}}`, "no approval")
	c.must(t, "dave", `{"transfer_nft":{"recipient":"@erin","token_id":"two"}}`) // approved for it still
	c.refused(t, "dave", `{"transfer_nft":{"recipient":"@dave","token_id":"two"}}`, "only the owner, or who is approved, may")
	for i := range 16 {
		c.must(t, "erin", fmt.Sprintf(`{"approve":{"spender":"@user%02d","token_id":"two"}}`, i))
	}
	c.must(t, "erin", `{"approve":{"spender":"@user03","token_id":"two"}}`)
	c.refused(t, "erin", `{"approve":{"spender":"@mint","token_id":"two"}}`, "too many may move the token")
}

// TestCW721Owners moves tokens at random: each has one owner, and the lists agree.
func TestCW721Owners(t *testing.T) {
	c := newCW721(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	owner := map[string]string{"one": "alice", "two": "alice"}
	names := []string{"alice", "bob", "carol"}
	for i := range 300 {
		id := fmt.Sprintf("n%d", r.IntN(12))
		who, to := names[r.IntN(3)], names[r.IntN(3)]
		switch has, there := owner[id]; {
		case !there:
			c.must(t, "mint", fmt.Sprintf(`{"mint":{"token_id":%q,"owner":"@%s"}}`, id, to))
			owner[id] = to
		case has != who:
			c.refused(t, who, fmt.Sprintf(`{"transfer_nft":{"recipient":"@%s","token_id":%q}}`, who, id), "only the owner, or who is approved, may")
		case r.IntN(4) == 0:
			c.must(t, who, fmt.Sprintf(`{"burn":{"token_id":%q}}`, id))
			delete(owner, id)
		default:
			c.must(t, who, fmt.Sprintf(`{"transfer_nft":{"recipient":"@%s","token_id":%q}}`, to, id))
			owner[id] = to
		}
		if i%10 > 0 {
			continue
		}
		for _, name := range names {
			var mine []string
			for _, id := range slices.Sorted(maps.Keys(owner)) {
				if owner[id] == name {
					mine = append(mine, fmt.Sprintf("%q", id))
				}
			}
			c.answers(t, fmt.Sprintf(`{"tokens":{"owner":"@%s","limit":100}}`, name), `{"tokens":[`+strings.Join(mine, ",")+`]}`)
		}
		c.answers(t, `{"num_tokens":{}}`, fmt.Sprintf(`{"count":%d}`, len(owner)))
	}
}
