package peers

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/smart-contracts/harness"
	"github.com/hypermesh/hypermesh/smart-contracts/templates"
)

// publishedCW20 is SHA-256 of cw20-base as the wasmd module carries it, which is of version 0.10.
const publishedCW20 = "1da7691c9c08ac74e59cf354b1e0573d7dd259ed872c6fac97a9ffb467487752"

// published reads the token that the CosmWasm project publishes, as its wasmd carries it.
func published(t *testing.T) []byte {
	t.Helper()
	code, err := os.ReadFile(filepath.Join(moduleDir(t, "github.com/CosmWasm/wasmd"), "benchmarks", "testdata", "cw20_base.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(code); hex.EncodeToString(sum[:]) != publishedCW20 {
		t.Fatalf("cw20_base.wasm is of SHA-256 %x", sum)
	}
	return code
}

// token is a token on a chain of its own, with a shop that notes what it is told.
type token struct {
	*harness.Harness
	at    harness.Address
	shop  harness.Address
	code  uint64
	heard []string
}

func newToken(t *testing.T, code []byte) *token {
	t.Helper()
	h, err := harness.New(harness.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	k := &token{Harness: h}
	if k.code, err = h.Store(code); err != nil {
		t.Fatal(err)
	}
	shop, err := h.StoreScript(func(s *harness.Scene) (any, error) {
		if s.Entry != "execute" {
			return nil, nil
		}
		if strings.Contains(string(s.Msg), `"amount":"13"`) {
			return nil, errors.New("not for thirteen")
		}
		k.heard = append(k.heard, s.Info.Sender+" "+string(s.Msg))
		return nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	made, err := h.Instantiate(h.Treasury(), shop, `{}`, harness.Making{})
	if err != nil {
		t.Fatal(err)
	}
	k.shop = made.Contract
	return k
}

// both is the template and the published token, which get the same calls.
type both struct {
	ours, theirs *token
}

func newBoth(t *testing.T) *both {
	t.Helper()
	module, err := templates.Module("cw20")
	if err != nil {
		t.Fatal(err)
	}
	b := &both{newToken(t, module), newToken(t, published(t))}
	for _, pair := range [][2]*token{{b.ours, b.theirs}, {b.theirs, b.ours}} { // the larger code takes more blocks
		if behind := pair[1].Height(); behind > pair[0].Height() {
			if err := pair[0].Blocks(int(behind - pair[0].Height())); err != nil {
				t.Fatal(err)
			}
		}
	}
	return b
}

// refusal says why a call was refused, and that it was: what is no refusal is a fault.
func refusal(t *testing.T, err error) (why string, refused bool) {
	t.Helper()
	r, ok := errors.AsType[*harness.Refused](err)
	if err != nil && !ok {
		t.Fatal(err)
	}
	if !ok {
		return "", false
	}
	return r.Text, true
}

// same holds what both say of a call against each other, and reports whether it took effect.
func (b *both) same(t *testing.T, msg string, call func(k *token) (*harness.Result, error)) bool {
	t.Helper()
	ours, err := call(b.ours)
	why, refused := refusal(t, err)
	theirs, err := call(b.theirs)
	if whyToo, too := refusal(t, err); refused != too {
		t.Fatalf("%s: ours %q, theirs %q", msg, why, whyToo)
	}
	if refused {
		return false
	}
	if ours.Contract != theirs.Contract {
		t.Fatalf("%s: of %s and %s", msg, ours.Contract, theirs.Contract)
	}
	one, two := ours.Attributes(ours.Contract), theirs.Attributes(theirs.Contract)
	if !slices.Equal(one, two) || string(ours.Data) != string(theirs.Data) || !slices.Equal(b.ours.heard, b.theirs.heard) {
		t.Fatalf("%s:\nours   %v %q %q\ntheirs %v %q %q", msg, one, ours.Data, b.ours.heard, two, theirs.Data, b.theirs.heard)
	}
	b.ours.at, b.theirs.at = ours.Contract, theirs.Contract
	return true
}

func (b *both) instantiate(t *testing.T, msg string) bool {
	t.Helper()
	return b.same(t, msg, func(k *token) (*harness.Result, error) {
		return k.Instantiate(harness.AccountOf("alice"), k.code, msg, harness.Making{})
	})
}

func (b *both) execute(t *testing.T, who, msg string) bool {
	t.Helper()
	return b.same(t, who+": "+msg, func(k *token) (*harness.Result, error) { return k.Execute(harness.AccountOf(who), k.at, msg) })
}

// ask returns both answers, nil where there is none.
func (b *both) ask(t *testing.T, msg string) (ours, theirs any) {
	t.Helper()
	of := func(k *token) (value any) {
		answer, err := k.Query(k.at, msg)
		if _, refused := refusal(t, err); refused {
			return errors.ErrUnsupported
		}
		if err := json.Unmarshal(answer.JSON, &value); err != nil {
			t.Fatalf("%s: %s: %v", msg, answer.JSON, err)
		}
		return value
	}
	return of(b.ours), of(b.theirs)
}

// agree holds both answers against each other.
func (b *both) agree(t *testing.T, msg string) {
	t.Helper()
	if ours, theirs := b.ask(t, msg); !reflect.DeepEqual(ours, theirs) {
		t.Fatalf("%s:\nours   %v\ntheirs %v", msg, ours, theirs)
	}
}

// kept holds what both keep under a key against each other.
func (b *both) kept(t *testing.T, key string) {
	t.Helper()
	var one, two any
	ours, theirs := b.ours.Raw(b.ours.at, []byte(key)), b.theirs.Raw(b.theirs.at, []byte(key))
	if ours == nil && theirs == nil {
		return
	}
	if json.Unmarshal(ours, &one) != nil || json.Unmarshal(theirs, &two) != nil || !reflect.DeepEqual(one, two) {
		t.Fatalf("under %q:\nours   %s\ntheirs %s", key, ours, theirs)
	}
}

var cast = []string{"alice", "bob", "carol", "dave"}

func addressOf(name string) string { return harness.AccountOf(name).String() }

// beginning is a token of alice and bob, whom carol may make more of, and dave present.
func beginning() string {
	return fmt.Sprintf(`{"name":"Test token","symbol":"TEST","decimals":6,"initial_balances":[{"address":%q,"amount":"1000"},{"address":%q,"amount":"1"}],`+
		`"mint":{"minter":%q,"cap":"100000"},"marketing":{"project":"p","description":null,"marketing":%q,"logo":{"url":"https://x"}}}`,
		addressOf("alice"), addressOf("bob"), addressOf("carol"), addressOf("dave"))
}

// TestPublishedTokenBegins: the template takes and refuses what cw20-base does when it is made. Not compared is what it refuses
// alone: fields that are not known, amounts that are not in their shortest form, and an account twice, as later versions do.
func TestPublishedTokenBegins(t *testing.T) {
	b := newBoth(t)
	good, took := beginning(), 0
	for _, change := range [][2]string{
		{"", ""}, {`"Test token"`, `"ab"`}, {`"Test token"`, `"` + strings.Repeat("a", 50) + `"`}, {`"Test token"`, `"` + strings.Repeat("a", 51) + `"`},
		{`"Test token"`, `"` + strings.Repeat("é", 25) + `"`}, {`"Test token"`, `"` + strings.Repeat("é", 26) + `"`}, {`"TEST"`, `"TE"`}, {`"TEST"`, `"TES-tz"`}, {`"TEST"`, `"TEST1"`},
		{`"TEST"`, `"ABCDEFGHIJKL"`}, {`"TEST"`, `"ABCDEFGHIJKLM"`}, {`"TEST"`, `"TE[T"`}, {`"TEST"`, `"TE@T"`}, {`"TEST"`, `"TE{T"`}, {`"decimals":6`, `"decimals":18`}, {`"decimals":6`, `"decimals":19`},
		{`"decimals":6`, `"decimals":256`}, {`"decimals":6`, `"decimals":"6"`}, {`"decimals":6,`, ``}, {`"100000"`, `"1001"`}, {`"100000"`, `"1000"`}, {`"100000"`, `null`}, {`,"cap":"100000"`, ``},
		{addressOf("bob"), "bob"}, {addressOf("carol"), "carol"}, {addressOf("dave"), "dave"}, {addressOf("bob"), strings.ToUpper(addressOf("bob"))},
		{addressOf("bob"), harness.Address{}.String()}, {`"project":"p",`, ``}, {`{"url":"https://x"}`, `null`}, {`{"url":"https://x"}`, `{"embedded":{"png":"AAAA"}}`},
		{`{"url":"https://x"}`, `{"embedded":{"svg":"PD94bWwgPz4="}}`}, {`{"url":"https://x"}`, `{"embedded":{"svg":"PD94bWwgPg=="}}`}, {`{"url":"https://x"}`, `{"embedded":{"png":"iVBORw0KGgo="}}`},
		{`{"url":"https://x"}`, `{"embedded":{"png":"iVBORw0KGgs="}}`}, {`{"url":"https://x"}`, `{"embedded":{"gif":"AAAA"}}`},
		{`"amount":"1"`, `"amount":"340282366920938463463374607431768211455"`}, {`"amount":"1"`, `"amount":1`},
	} {
		if b.instantiate(t, strings.Replace(good, change[0], change[1], 1)) {
			took++
			for _, query := range []string{`{"token_info":{}}`, `{"minter":{}}`, `{"marketing_info":{}}`, `{"all_accounts":{}}`, `{"download_logo":{}}`} {
				b.agree(t, query)
			}
			b.kept(t, "token_info")
		}
	}
	if took < 10 {
		t.Errorf("of those only %d took effect", took)
	}
}

// TestPublishedTokenPages: lists have the same pages.
func TestPublishedTokenPages(t *testing.T) {
	b := newBoth(t)
	var all, names []string
	for i := range 35 {
		names = append(names, fmt.Sprintf("holder %d", i))
		all = append(all, fmt.Sprintf(`{"address":%q,"amount":"%d"}`, addressOf(names[i]), i+1))
	}
	if !b.instantiate(t, fmt.Sprintf(`{"name":"Test token","symbol":"TEST","decimals":0,"initial_balances":[%s]}`, strings.Join(all, ","))) {
		t.Fatal("refused")
	}
	for _, name := range names {
		b.execute(t, "alice", fmt.Sprintf(`{"increase_allowance":{"spender":%q,"amount":"5"}}`, addressOf(name)))
	}
	for _, page := range []string{"", `"limit":null`, `"limit":0`, `"limit":7`, `"limit":30`, `"limit":31`, `"limit":4294967295`, `"limit":4294967296`, `"limit":-1`, `"limit":"7"`, `"start_after":null`} {
		for _, after := range append(names[:4:4], "nobody", "") {
			more := page
			if after != "" && !strings.Contains(page, "start_after") {
				more = strings.Trim(page+fmt.Sprintf(`,"start_after":%q`, addressOf(after)), ",")
			}
			b.agree(t, `{"all_accounts":{`+more+`}}`)
			b.agree(t, fmt.Sprintf(`{"all_allowances":{%s}}`, strings.Trim(fmt.Sprintf(`"owner":%q,%s`, addressOf("alice"), more), ",")))
		}
	}
}

// TestPublishedToken: a random history of the same calls has the same effects, attributes and answers in the template as in cw20-base, and
// what both keep is the same. Not compared is what docs/TEMPLATES.md says is different, accounts and allowances without tokens, and in
// what later versions differ from this one: amounts of nothing, and rights that are over when they are given.
func TestPublishedToken(t *testing.T) {
	b := newBoth(t)
	if !b.instantiate(t, beginning()) {
		t.Fatal("refused")
	}
	steps := 1_500
	if testing.Short() {
		steps = 250
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	took, refused := map[string]int{}, map[string]int{}
	for i := range steps {
		who, msg := b.drawn(t, r)
		verb := strings.SplitN(msg, `"`, 3)[1]
		if b.execute(t, who, msg) {
			took[verb]++
		} else {
			refused[verb]++
		}
		if r.IntN(20) == 0 {
			if err := errors.Join(b.ours.Pass(time.Minute), b.theirs.Pass(time.Minute)); err != nil {
				t.Fatal(err)
			}
		}
		if i%10 == 9 {
			b.compare(t)
		}
	}
	t.Logf("took effect: %v, were refused: %v", took, refused)
	for _, verb := range []string{"transfer", "send", "burn", "mint", "increase_allowance", "decrease_allowance", "transfer_from", "send_from", "burn_from", "update_marketing", "upload_logo"} {
		if !testing.Short() && (took[verb] == 0 || refused[verb] == 0) {
			t.Errorf("of %s %d took effect and %d were refused", verb, took[verb], refused[verb])
		}
	}
	if took["transfer"] == 0 || took["increase_allowance"] == 0 || refused["transfer_from"] == 0 {
		t.Error("nothing much came to pass")
	}
}

// drawn is a call by somebody.
func (b *both) drawn(t *testing.T, r *rand.Rand) (who, msg string) {
	t.Helper()
	one := func() string { return cast[r.IntN(len(cast))] }
	account := func() string {
		if r.IntN(15) == 0 {
			return "nobody"
		}
		return addressOf(one())
	}
	who = one()
	owner, other := one(), account()
	n := 1 + r.Uint64N(1+r.Uint64N(400))
	few := []uint64{13, 1 + r.Uint64N(20), 1 + r.Uint64N(20), 1 + r.Uint64N(20)}[r.IntN(4)] // the shop refuses 13
	payload := base64.StdEncoding.EncodeToString([]byte(`{"buy":{}}`)[:r.IntN(11)])
	expires := func() string {
		return []string{`{"never":{}}`, fmt.Sprintf(`{"at_height":%d}`, b.ours.Height()+2+r.Uint64N(60)), fmt.Sprintf(`{"at_time":"%d"}`, b.ours.Time().Add(time.Duration(2+r.IntN(300))*time.Second).UnixNano())}[r.IntN(3)]
	}
	optional := func(name string) string {
		return []string{"", fmt.Sprintf(`,%q:null`, name), fmt.Sprintf(`,%q:""`, name), fmt.Sprintf(`,%q:"  "`, name), fmt.Sprintf(`,%q:"words %d"`, name, r.IntN(9))}[r.IntN(5)]
	}
	switch r.IntN(13) {
	case 0, 1, 2:
		return who, fmt.Sprintf(`{"transfer":{"recipient":%q,"amount":"%d"}}`, other, n)
	case 3:
		return who, fmt.Sprintf(`{"send":{"contract":%q,"amount":"%d","msg":%q}}`, b.ours.shop, few, payload)
	case 4:
		return who, fmt.Sprintf(`{"burn":{"amount":"%d"}}`, n)
	case 5:
		if r.IntN(2) == 0 {
			who = "carol"
		}
		return who, fmt.Sprintf(`{"mint":{"recipient":%q,"amount":"%d"}}`, other, n*[]uint64{1, 1, 1, 1000}[r.IntN(4)])
	case 6, 7:
		return who, fmt.Sprintf(`{"increase_allowance":{"spender":%q,"amount":"%d","expires":%s}}`, other, n, expires())
	case 8:
		_, has := b.ask(t, fmt.Sprintf(`{"allowance":{"owner":%q,"spender":%q}}`, addressOf(who), other))
		if is, ok := has.(map[string]any); ok && is["allowance"] == "0" {
			other = addressOf(who) // ours has forgotten one that was used up
		}
		more := []string{"", `,"expires":null`, `,"expires":` + expires()}[r.IntN(3)]
		return who, fmt.Sprintf(`{"decrease_allowance":{"spender":%q,"amount":"%d"%s}}`, other, n, more)
	case 9:
		return who, fmt.Sprintf(`{"transfer_from":{"owner":%q,"recipient":%q,"amount":"%d"}}`, addressOf(owner), other, n)
	case 10:
		return who, fmt.Sprintf(`{"send_from":{"owner":%q,"contract":%q,"amount":"%d","msg":%q}}`, addressOf(owner), b.ours.shop, few, payload)
	case 11:
		return who, fmt.Sprintf(`{"burn_from":{"owner":%q,"amount":"%d"}}`, addressOf(owner), n)
	}
	if r.IntN(2) == 0 {
		who = "dave"
	}
	if r.IntN(2) == 0 {
		return who, `{"update_marketing":{` + strings.TrimPrefix(optional("project")+optional("description"), ",") + `}}`
	}
	logos := []string{
		`{"url":"https://y"}`, `{"embedded":{"svg":"PD94bWwgdmVyc2lvbj0iMS4wIj8+PHN2Zy8+"}}`, `{"embedded":{"png":"iVBORw0KGgoA"}}`, `{"embedded":{"png":"iVBORw0K"}}`, `{"embedded":{"svg":"PHN2Zy8+"}}`,
		fmt.Sprintf(`{"embedded":{"png":%q}}`, base64.StdEncoding.EncodeToString(append([]byte("\x89PNG\r\n\x1a\n"), make([]byte, 5<<10-8+r.IntN(2))...))),
	}
	return who, `{"upload_logo":` + logos[r.IntN(len(logos))] + `}`
}

// compare holds all that both say and keep against each other.
func (b *both) compare(t *testing.T) {
	t.Helper()
	for _, query := range []string{`{"token_info":{}}`, `{"minter":{}}`, `{"marketing_info":{}}`, `{"download_logo":{}}`, `{"balance":{"address":"nobody"}}`, `{"allowance":{"owner":"nobody","spender":"nobody"}}`} {
		b.agree(t, query)
	}
	b.kept(t, "token_info")
	b.kept(t, "logo")
	holders := append(slices.Clone(cast), "the shop")
	for _, name := range holders {
		address := addressOf(name)
		if name == "the shop" {
			address = b.ours.shop.String()
		}
		b.agree(t, fmt.Sprintf(`{"balance":{"address":%q}}`, address))
		if string(b.theirs.Raw(b.theirs.at, []byte("\x00\x07balance"+address))) != `"0"` {
			b.kept(t, "\x00\x07balance"+address)
		}
		for _, spender := range cast {
			query := fmt.Sprintf(`{"allowance":{"owner":%q,"spender":%q}}`, address, addressOf(spender))
			ours, theirs := b.ask(t, query)
			if theirs.(map[string]any)["allowance"] == "0" {
				theirs = map[string]any{"allowance": "0", "expires": map[string]any{"never": map[string]any{}}} // ours has forgotten it
			} else {
				b.kept(t, "\x00\x09allowance\x00"+string(rune(len(address)))+address+addressOf(spender))
			}
			if !reflect.DeepEqual(ours, theirs) {
				t.Fatalf("%s:\nours   %v\ntheirs %v", query, ours, theirs)
			}
		}
		b.agreeBut(t, fmt.Sprintf(`{"all_allowances":{"owner":%q,"limit":30}}`, address), "allowances", func(one any) bool { return one.(map[string]any)["allowance"] == "0" })
	}
	b.agreeBut(t, `{"all_accounts":{"limit":30}}`, "accounts", func(one any) bool {
		return string(b.theirs.Raw(b.theirs.at, fmt.Appendf(nil, "\x00\x07balance%s", one))) == `"0"`
	})
}

// agreeBut holds two lists against each other, but for what theirs has and ours forgets.
func (b *both) agreeBut(t *testing.T, msg, name string, forgotten func(one any) bool) {
	t.Helper()
	ours, theirs := b.ask(t, msg)
	list := slices.DeleteFunc(theirs.(map[string]any)[name].([]any), forgotten)
	if got := ours.(map[string]any)[name].([]any); len(got)+len(list) > 0 && !reflect.DeepEqual(got, list) {
		t.Fatalf("%s:\nours   %v\ntheirs %v", msg, got, list)
	}
}
