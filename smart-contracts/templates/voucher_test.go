package templates_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const promise = `"unit":"hour","text":"of work","refundable":true,"confirm_seconds":600,"arbitration_seconds":3600`

// newVouchers has ivy promise ten hours, which three people judge, and sell them to bob for 101.
func newVouchers(t *testing.T) *contract {
	t.Helper()
	c := deploy(t, "voucher")
	if _, refusal := c.instantiate(t, "owner", `{"denom":"nhyper"}`); refusal != "" {
		t.Fatal(refusal)
	}
	c.fund(t, 1000, "bob", "carol", "ivy", "ned")
	c.must(t, "ivy", `{"mint":{`+promise+`,"units":"10","arbiters":["@ann","@art","@ada"],"expires":{"at_time":"1700100000000000000"}}}`)
	c.must(t, "ivy", `{"list":{"voucher":1,"price":"101"}}`)
	c.must(t, "bob", `{"buy":{"voucher":1,"listing":1}}`, 101)
	return c
}

// TestVoucher goes through the life of vouchers.
func TestVoucher(t *testing.T) {
	c := newVouchers(t)
	c.answers(t, `{"voucher":{"voucher":1}}`, `{"issuer":"@ivy","owner":"@bob","terms":1,"units":"10","backing":"101","expires":{"at_time":"1700100000000000000"},`+
		`"parent":0,"entries":2,"listing":1,"price":"0","discount_expires":{"never":{}},"offer":0}`)
	c.answers(t, `{"terms":{"terms":1}}`, `{"issuer":"@ivy","unit":"hour","text":"of work","refundable":true,"arbiters":["@ann","@art","@ada"],"confirm_seconds":600,"arbitration_seconds":3600}`)
	c.must(t, "bob", `{"redeem":{"voucher":1,"units":"3","note":"on monday"}}`)
	c.answers(t, `{"redemption":{"redemption":1}}`, `{"voucher":1,"terms":1,"holder":"@bob","issuer":"@ivy","units":"3","amount":"30","stage":"claimed","since":1700000000,"note":"on monday","for_holder":0,"for_issuer":0}`)
	c.must(t, "bob", `{"split":{"voucher":1,"units":"2"}}`)
	c.must(t, "bob", `{"transfer":{"voucher":2,"recipient":"@carol"}}`)
	c.must(t, "carol", `{"redeem":{"voucher":2,"units":"2","note":""}}`)
	c.must(t, "carol", `{"dispute":{"redemption":2,"reason":"nobody came"}}`)
	c.must(t, "ann", `{"vote":{"redemption":2,"for_holder":true}}`)
	c.must(t, "ada", `{"vote":{"redemption":2,"for_holder":true}}`)
	if c.has("carol") != 1020 {
		t.Errorf("for two of seven hours that 71 are left for carol has %d", c.has("carol"))
	}
	c.pass(t, 600*time.Second)
	c.must(t, "anyone", `{"confirm":{"redemption":1}}`)
	c.must(t, "bob", `{"redeem":{"voucher":1,"units":"5","note":""}}`)
	c.must(t, "ivy", `{"give_back":{"redemption":3}}`)
	if b := c.bank("bob", "carol", "ivy", "ned"); b["ivy"] != 1030 || b["bob"] != 899+51 || b[safe] != 0 || b.total() != 4000 {
		t.Errorf("in the end there is %v", b)
	}
	c.answers(t, `{"history":{"voucher":1}}`, `{"owners":[{"owner":"@ivy","how":"mint","time":1700000000,"price":"0"},{"owner":"@bob","how":"sale","time":1700000000,"price":"101"}]}`)
	c.answers(t, `{"history":{"voucher":2,"start_after":0}}`, `{"owners":[{"owner":"@carol","how":"transfer","time":1700000000,"price":"0"}]}`)
	c.answers(t, `{"redemptions":{"party":"@ivy","limit":2}}`, `{"redemptions":[1,2]}`)
	c.answers(t, `{"vouchers":{"owner":"@bob"}}`, `{"vouchers":[]}`)
	c.answers(t, `{"held":{}}`, `{"denom":"nhyper","amount":"0"}`)
}

// TestVoucherOffers: cash and vouchers for a voucher, and a discount for what they are worth more.
func TestVoucherOffers(t *testing.T) {
	c := newVouchers(t)
	mint := `{"mint":{` + promise + `,"units":"5","arbiters":[]}}`
	c.must(t, "ned", mint, 7) // with a pledge
	c.must(t, "ned", `{"list":{"voucher":2,"price":"80","discount_expires":{"at_time":"1700000900000000000"}}}`)
	c.must(t, "bob", `{"offer":{"voucher":2,"listing":1,"vouchers":[{"voucher":1,"value":"90"}]}}`, 5)
	c.answers(t, `{"offer":{"offer":1}}`, `{"voucher":2,"listing":1,"buyer":"@bob","price":"80","cash":"5","value":"95","expires":{"never":{}},"vouchers":[{"voucher":1,"value":"90"}]}`)
	c.must(t, "carol", `{"offer":{"voucher":2,"listing":1,"vouchers":[]}}`, 81)
	c.answers(t, `{"offers":{"voucher":2}}`, `{"offers":[1,2]}`)
	c.answers(t, `{"listed":{}}`, `{"vouchers":[2]}`)
	r := c.must(t, "ned", `{"accept":{"offer":1}}`)
	if got := fmt.Sprint(r.Attributes, len(r.Messages)); got != "[{action accept} {offer 1} {voucher 2} {discount 3}] 0" {
		t.Error(got)
	}
	t.Logf("an acceptance takes %d gas", c.gas)
	c.answers(t, `{"voucher":{"voucher":3}}`, `{"issuer":"@ned","owner":"@bob","terms":0,"units":"15","backing":"0","expires":{"at_time":"1700000900000000000"},`+
		`"parent":0,"entries":1,"listing":0,"price":"0","discount_expires":{"never":{}},"offer":0}`)
	if owned, held := c.query(t, `{"vouchers":{"owner":"@ned"}}`), c.query(t, `{"held":{}}`); owned != `{"vouchers":[1]}` || held != `{"denom":"nhyper","amount":"194"}` {
		t.Error(owned, held) // 101 in the first, 7 and 5 in the second, 81 in an offer
	}
	c.refused(t, "ned", `{"accept":{"offer":2}}`, "the voucher is not for sale")
	c.must(t, "carol", `{"withdraw":{"offer":2}}`)
	c.must(t, "ned", mint)
	c.must(t, "ned", `{"list":{"voucher":4,"price":"10"}}`)
	c.must(t, "bob", `{"buy":{"voucher":4,"listing":1,"discounts":[3]}}`)
	if got := c.query(t, `{"vouchers":{"owner":"@bob"}}`); got != `{"vouchers":[2,3,4]}` {
		t.Error(got) // 5 of the discount are left
	}
	c.pass(t, 900*time.Second)
	c.must(t, "ned", mint)
	c.must(t, "ned", `{"list":{"voucher":5,"price":"10"}}`)
	c.refused(t, "bob", `{"buy":{"voucher":5,"listing":1,"discounts":[3]}}`, "the voucher is over", 5)
	c.must(t, "anyone", `{"expire":{"voucher":3}}`)
	if b := c.bank("carol"); b["carol"] != 1000 || b[safe] != 113 {
		t.Errorf("there is %v", b)
	}
}

// TestVoucherDiscountInTime: nobody is given a discount for the difference that is over.
func TestVoucherDiscountInTime(t *testing.T) {
	c := newVouchers(t)
	const over = "the discount would be over already"
	c.refused(t, "bob", fmt.Sprintf(`{"list":{"voucher":1,"price":"80","discount_expires":{"at_height":%d}}}`, c.Height()+1), over)
	c.must(t, "bob", `{"list":{"voucher":1,"price":"80","discount_expires":{"at_time":"1700000060000000000"}}}`)
	for _, sent := range []uint64{80, 81, 90} {
		c.must(t, "carol", `{"offer":{"voucher":1,"listing":2,"vouchers":[]}}`, sent)
	}
	c.pass(t, time.Minute)
	c.refused(t, "bob", `{"accept":{"offer":2}}`, over)
	c.refused(t, "bob", `{"accept":{"offer":3}}`, over)
	c.must(t, "carol", `{"withdraw":{"offer":3}}`)
	c.must(t, "bob", `{"accept":{"offer":1}}`) // which has no difference
	c.must(t, "carol", `{"withdraw":{"offer":2}}`)
	if b := c.bank("bob", "carol"); b["bob"] != 1000-101+80 || b["carol"] != 1000-80 || b[safe] != 101 {
		t.Errorf("there is %v", b)
	}
}

func TestVoucherRefusals(t *testing.T) {
	c := newVouchers(t)
	mint := func(more string) string { return `{"mint":{` + promise + `,` + more + `}}` }
	for msg, want := range map[string]string{
		mint(`"units":"0","arbiters":[]`):                     "no units",
		mint(`"units":"1","arbiters":["@ann","@art"]`):        "an even number of arbiters",
		mint(`"units":"1","arbiters":["@ann","@ann","@art"]`): "an arbiter twice",
		mint(`"units":"1","arbiters":["@bob"]`):               "the issuer is no arbiter",
		mint(`"units":"1","arbiters":["@user00","@user01","@user02","@user03","@user04","@user05","@user06","@user07"]`): "at most 7 arbiters",
		mint(`"units":"1","arbiters":["A"]`):                                                   "address: invalid address",
		mint(`"units":"1","arbiters":[],"colour":"red"`):                                       "JSON: unknown field colour",
		`{"list":{"voucher":1,"price":"0"}}`:                                                   "a price of nothing",
		`{"list":{"voucher":9,"price":"1"}}`:                                                   "vouchers not found",
		`{"split":{"voucher":1,"units":"10"}}`:                                                 "a part is less than all",
		`{"split":{"voucher":1,"units":"0"}}`:                                                  "no units",
		`{"redeem":{"voucher":1,"units":"0","note":""}}`:                                       "no units",
		`{"redeem":{"voucher":1,"units":"11","note":""}}`:                                      "more units than there are",
		`{"unlist":{"voucher":1}}`:                                                             "the voucher is not for sale",
		`{"buy":{"voucher":1,"listing":1}}`:                                                    "the voucher is not for sale",
		`{"accept":{"offer":1}}`:                                                               "offers not found",
		`{"confirm":{"redemption":1}}`:                                                         "redemptions not found",
		`{"steal":{}}`:                                                                         "unknown message steal",
		`{"expire":{"voucher":1}}`:                                                             "the voucher is not over yet",
		`{"transfer":{"voucher":1,"recipient":"B"}}`:                                           "address: invalid address",
		fmt.Sprintf(`{"redeem":{"voucher":1,"units":"1","note":"%01025d"}}`, 0):                "a text is too long",
		`{"mint":{"unit":"x","text":"","refundable":false,"arbiters":[],"confirm_seconds":5}}`: "a period has 60 seconds to 10 years",
	} {
		c.refused(t, "bob", msg, want)
	}
	c.refused(t, "bob", mint(fmt.Sprintf(`"units":"1","arbiters":[],"expires":{"at_height":%d}`, c.Height()+1)), "it would be over already")
	c.refused(t, "bob", `{"list":{"voucher":1,"price":"1"}}`, "no funds are taken", 1)
	c.must(t, "ned", mint(`"units":"1","arbiters":[]`))
	c.must(t, "ned", `{"list":{"voucher":2,"price":"10"}}`)
	buy := func(discounts string) string {
		return `{"buy":{"voucher":2,"listing":1,"discounts":[` + discounts + `]}}`
	}
	c.refused(t, "bob", buy(""), "to be paid is 10, sent was 9", 9)
	c.refused(t, "bob", buy("1"), "that is no discount of the seller", 9)
	c.refused(t, "ned", buy(""), "it is the buyer's already", 10)
	c.refused(t, "bob", `{"buy":{"voucher":2,"listing":2}}`, "that sale is over", 10)
	offer := func(vouchers string) string {
		return `{"offer":{"voucher":2,"listing":1,"vouchers":[` + vouchers + `]}}`
	}
	c.refused(t, "bob", offer(""), "an offer of nothing")
	c.refused(t, "bob", offer(`{"voucher":1,"value":"1"},{"voucher":1,"value":"1"}`), "the voucher is in an offer")
	c.refused(t, "bob", offer(`{"voucher":1,"value":"340282366920938463463374607431768211455"}`), "overflow", 1)
	c.refused(t, "bob", offer(`{"voucher":2,"value":"1"}`), "only the owner may")
	parts := `{"voucher":1,"value":"1"}`
	for i := range 9 {
		c.must(t, "bob", `{"split":{"voucher":1,"units":"1"}}`)
		parts += fmt.Sprintf(`,{"voucher":%d,"value":"1"}`, i+3)
	}
	c.must(t, "bob", mint(`"units":"1","arbiters":[]`))
	c.refused(t, "bob", offer(parts+`,{"voucher":12,"value":"1"}`), "an offer has at most 10 vouchers")
	c.must(t, "bob", offer(parts))
	c.refused(t, "ivy", `{"withdraw":{"offer":1}}`, "only the buyer may")
	c.refused(t, "ivy", `{"accept":{"offer":1}}`, "only the seller may")
	c.refused(t, "bob", `{"expire":{"voucher":1}}`, "the voucher is not over yet")
}

// voucherState is what the contract says of a voucher, of an offer and of a redemption.
type voucherState struct {
	Issuer, Owner  string
	Terms, Listing uint64
	Units, Backing amount
	Price          amount
	Offer          uint64
	Expires        struct {
		Time string `json:"at_time"`
	}
}

func (v voucherState) over(now uint64) bool {
	at, err := strconv.ParseUint(v.Expires.Time, 10, 64)
	return err == nil && now*1e9 >= at
}

type offerState struct {
	Voucher, Listing uint64
	Buyer            string
	Cash, Value      amount
	Vouchers         []struct {
		Voucher uint64
		Value   amount
	}
}

type redemptionState struct {
	Voucher, Terms, Since uint64
	Holder, Issuer, Stage string
	Units, Amount         amount
	ForHolder             int `json:"for_holder"`
	ForIssuer             int `json:"for_issuer"`
}

func (c redemptionState) held() bool { return c.Stage == "claimed" || c.Stage == "disputed" }

// amount is a number in quotes.
type amount uint64

func (a *amount) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 10, 64)
	*a = amount(n)
	return err
}

// read returns what a query answers, and false if there is nothing.
func read[T any](t *testing.T, c *contract, format string, args ...any) (v T, ok bool) {
	t.Helper()
	text := strings.ReplaceAll(c.query(t, fmt.Sprintf(format, args...)), `"@`, `"`)
	if text == "" || text[0] != '{' {
		return v, false
	}
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v, true
}

// traders are who has money in a market.
var traders = []string{"ann", "bob", "carol", "ivy", "ned"}

// market is random moves with vouchers, and what is to come of them.
type market struct {
	c        *contract
	r        *rand.Rand
	who      string
	vouchers uint64 // that there have been
	offers   uint64
	claims   uint64
	minted   map[uint64]uint64 // units, by terms
	gone     map[uint64]uint64 // units that expired
	voted    map[string]bool
	came     map[string]int // what came to pass
}

func (m *market) pick(n uint64) uint64 { return 1 + m.r.Uint64N(max(n, 1)) }

// of picks mostly one of a list of vouchers, and any of all if there is none.
func (m *market) of(t *testing.T, query string) uint64 {
	t.Helper()
	list, ok := read[struct{ Vouchers []uint64 }](t, m.c, "%s", query)
	if !ok || len(list.Vouchers) == 0 || m.r.IntN(5) == 0 {
		return m.pick(m.vouchers)
	}
	return list.Vouchers[m.r.IntN(len(list.Vouchers))]
}

func (m *market) listed(t *testing.T) uint64 { return m.of(t, `{"listed":{"limit":100}}`) }

func (m *market) mine(t *testing.T) uint64 {
	return m.of(t, fmt.Sprintf(`{"vouchers":{"owner":"@%s","limit":100}}`, m.who))
}

func (m *market) voucher(t *testing.T, id uint64) voucherState {
	t.Helper()
	v, ok := read[voucherState](t, m.c, `{"voucher":{"voucher":%d}}`, id)
	if !ok {
		t.Fatalf("there is no voucher %d", id)
	}
	return v
}

// good and free say why a voucher may not be sold, and not be used by somebody.
func (m *market) good(v voucherState) string {
	return first(holds(v.Units > 0), "the voucher is used up", holds(!v.over(m.c.seconds())), "the voucher is over")
}

func (m *market) free(v voucherState, who string) string {
	if why := m.good(v); why != "" {
		return why
	}
	return first(holds(v.Owner == who), "only the owner may", holds(v.Price == 0), "the voucher is for sale", holds(v.Offer == 0), "the voucher is in an offer")
}

// try does a move, which is refused as it should be, or goes through.
func (m *market) try(t *testing.T, msg string, sent uint64, want string) bool {
	t.Helper()
	if _, got := m.c.execute(t, m.who, msg, sent); got != want {
		t.Fatalf("%s: %s with %d: refused with %q, want %q", m.who, msg, sent, got, want)
	}
	return want == ""
}

func (m *market) mint(t *testing.T) {
	units := 1 + m.r.Uint64N(30)
	msg := fmt.Sprintf(`{"mint":{"unit":"hour","text":"","refundable":%v,"confirm_seconds":60,"arbitration_seconds":90,"units":"%d","arbiters":["@ann","@art","@ada"],"expires":{"at_time":"%d"}}}`,
		m.r.IntN(2) == 0, units, (m.c.seconds()+200+m.r.Uint64N(2000))*1e9)
	m.try(t, msg, m.r.Uint64N(20), "")
	m.vouchers++
	m.minted[m.voucher(t, m.vouchers).Terms] = units
}

func (m *market) own(t *testing.T) {
	id := m.mine(t)
	v := m.voucher(t, id)
	units := m.r.Uint64N(25)
	why := m.free(v, m.who)
	parts := func(more ...string) string { return first(append([]string{holds(why == ""), why}, more...)...) }
	switch m.r.IntN(9) {
	default:
		m.try(t, fmt.Sprintf(`{"list":{"voucher":%d,"price":"%d"}}`, id, units), 0, parts(holds(units > 0), "a price of nothing"))
	case 2:
		m.try(t, fmt.Sprintf(`{"unlist":{"voucher":%d}}`, id), 0, first(holds(v.Owner == m.who), "only the owner may", holds(v.Price > 0), "the voucher is not for sale"))
	case 3:
		m.try(t, fmt.Sprintf(`{"transfer":{"voucher":%d,"recipient":"@bob"}}`, id), 0, why)
	case 4:
		if m.try(t, fmt.Sprintf(`{"split":{"voucher":%d,"units":"%d"}}`, id, units), 0, parts(holds(units < uint64(v.Units)), "a part is less than all", holds(units > 0), "no units")) {
			m.vouchers++
		}
	case 5:
		over := v.over(m.c.seconds())
		if m.try(t, fmt.Sprintf(`{"expire":{"voucher":%d}}`, id), 0, first(holds(v.Units > 0), "the voucher is used up", holds(over), "the voucher is not over yet")) && v.Terms > 0 {
			m.gone[v.Terms] += uint64(v.Units)
		}
	}
}

// sale says why a voucher is not sold to somebody.
func (m *market) sale(v voucherState, listing uint64, buyer string) string {
	if why := m.good(v); why != "" {
		return why
	}
	return first(holds(v.Price > 0), "the voucher is not for sale", holds(v.Listing == listing), "that sale is over", holds(v.Owner != buyer), "it is the buyer's already")
}

// discount looks for a discount that is of use, and for what it is of use for: whoever has it goes on.
func (m *market) discount(t *testing.T, id, discount uint64) (uint64, uint64) {
	for d := m.vouchers; d > 0; d-- {
		v := m.voucher(t, d)
		if v.Terms > 0 || v.Units == 0 {
			continue
		}
		for i := m.vouchers; i > 0; i-- {
			if sold := m.voucher(t, i); sold.Price > 0 && sold.Owner == v.Issuer {
				m.who = v.Owner
				return i, d
			}
		}
	}
	return id, discount
}

func (m *market) buy(t *testing.T) {
	id, discount := m.listed(t), m.mine(t)
	if m.r.IntN(2) == 0 {
		id, discount = m.discount(t, id, discount)
	}
	v, d := m.voucher(t, id), m.voucher(t, discount)
	why, left, list := m.sale(v, v.Listing, m.who), uint64(v.Price), ""
	if m.r.IntN(2) == 0 {
		list = fmt.Sprintf(`,"discounts":[%d]`, discount)
		if free := m.free(d, m.who); why == "" {
			why = first(holds(free == ""), free, holds(d.Terms == 0 && d.Issuer == v.Owner), "that is no discount of the seller")
		}
		left -= min(left, uint64(d.Units))
	}
	sent := left
	if m.r.IntN(8) == 0 {
		sent++
	}
	if why == "" && sent != left {
		why = fmt.Sprintf("to be paid is %d, sent was %d", left, sent)
	}
	if m.try(t, fmt.Sprintf(`{"buy":{"voucher":%d,"listing":%d%s}}`, id, v.Listing, list), sent, why) {
		m.came["bought"]++
		if list != "" {
			m.came["with a discount"]++
		}
	}
}

func (m *market) offer(t *testing.T) {
	id := m.listed(t)
	v := m.voucher(t, id)
	listing := v.Listing
	if m.r.IntN(8) == 0 {
		listing++
	}
	why, sent, list := m.sale(v, listing, m.who), m.r.Uint64N(10), ""
	seen := map[uint64]bool{}
	for i := range m.r.IntN(3) {
		part := m.mine(t)
		if i > 0 {
			list += ","
		}
		list += fmt.Sprintf(`{"voucher":%d,"value":"%d"}`, part, m.r.Uint64N(30))
		given := m.voucher(t, part)
		if seen[part] {
			given.Offer = 1
		}
		if free := m.free(given, m.who); why == "" {
			why = free
		}
		seen[part] = true
	}
	if why == "" && sent == 0 && list == "" {
		why = "an offer of nothing"
	}
	if m.try(t, fmt.Sprintf(`{"offer":{"voucher":%d,"listing":%d,"vouchers":[%s]}}`, id, listing, list), sent, why) {
		m.offers++
	}
}

func (m *market) answer(t *testing.T) {
	id := m.pick(m.offers)
	o, there := read[offerState](t, m.c, `{"offer":{"offer":%d}}`, id)
	if !there {
		m.try(t, fmt.Sprintf(`{"withdraw":{"offer":%d}}`, id), 0, "offers not found")
		m.try(t, fmt.Sprintf(`{"accept":{"offer":%d}}`, id), 0, "offers not found")
		return
	}
	if m.r.IntN(5) == 0 {
		if m.try(t, fmt.Sprintf(`{"withdraw":{"offer":%d}}`, id), 0, first(holds(o.Buyer == m.who), "only the buyer may")) {
			m.came["withdrawn"]++
		}
		return
	}
	v := m.voucher(t, o.Voucher)
	if m.r.IntN(2) == 0 {
		m.who = v.Owner
	}
	sale := m.sale(v, o.Listing, o.Buyer)
	why := first(holds(sale == ""), sale, holds(v.Owner == m.who), "only the seller may")
	for _, part := range o.Vouchers {
		if good := m.good(m.voucher(t, part.Voucher)); why == "" {
			why = good
		}
	}
	if m.try(t, fmt.Sprintf(`{"accept":{"offer":%d}}`, id), 0, why) {
		m.came["accepted"]++
		if o.Value > v.Price {
			m.came["with a difference"]++
			m.vouchers++
		}
	}
}

func (m *market) redeem(t *testing.T) {
	id, units := m.mine(t), m.r.Uint64N(9)
	v := m.voucher(t, id)
	free := m.free(v, m.who)
	why := first(holds(free == ""), free, holds(v.Terms > 0), "a discount is used when something is bought", holds(units > 0), "no units", holds(units <= uint64(v.Units)), "more units than there are")
	if m.try(t, fmt.Sprintf(`{"redeem":{"voucher":%d,"units":"%d","note":""}}`, id, units), 0, why) {
		m.claims++
	}
}

// claim picks a redemption: mostly one that is held, sometimes one that is not there yet.
func (m *market) claim(t *testing.T) uint64 {
	for id := m.claims; id > 0 && m.r.IntN(10) > 0; id-- {
		if c, _ := read[redemptionState](t, m.c, `{"redemption":{"redemption":%d}}`, id); c.held() && m.r.IntN(2) == 0 {
			return id
		}
	}
	return m.pick(m.claims + 1)
}

// court is all that comes after a redemption.
func (m *market) court(t *testing.T) {
	id := m.claim(t)
	c, there := read[redemptionState](t, m.c, `{"redemption":{"redemption":%d}}`, id)
	held, is := holds(c.held()), "the redemption is "+c.Stage
	if !there {
		held, is = "no", "redemptions not found"
	}
	if m.r.IntN(4) > 0 && there {
		m.who = []string{c.Holder, c.Holder, c.Issuer, "ann", "art", "ada"}[m.r.IntN(6)]
	}
	holder, issuer, age := m.who == c.Holder, m.who == c.Issuer, m.c.seconds()-c.Since
	msg := func(verb, more string) string { return fmt.Sprintf(`{%q:{"redemption":%d%s}}`, verb, id, more) }
	claimed, disputed := holds(c.Stage == "claimed"), holds(c.Stage == "disputed")
	switch m.r.IntN(20) {
	case 0:
		m.try(t, msg("confirm", ""), 0, first(held, is, holds(holder || c.Stage == "claimed"), is, holds(holder || age >= 60), "the holder may look at it still"))
	case 1:
		m.try(t, msg("give_back", ""), 0, first(held, is, holds(issuer), "only the issuer may"))
	case 2, 3, 4, 5, 6, 7, 8, 9:
		m.try(t, msg("dispute", `,"reason":""`), 0, first(held, is, claimed, is, holds(holder), "only the holder may", holds(age < 60), "the time to look at it is over"))
	case 10, 11, 12, 13:
		judge := slices.Contains([]string{"ann", "art", "ada"}, m.who)
		key := fmt.Sprint(id, m.who)
		if m.try(t, msg("vote", fmt.Sprintf(`,"for_holder":%v`, m.r.IntN(2) == 0)), 0, first(held, is, disputed, is, holds(judge), "only an arbiter may",
			holds(!holder), "nobody judges for themselves", holds(!m.voted[key]), "the arbiter has voted")) {
			m.voted[key] = true
			m.came["voted"]++
		}
	default:
		settled := m.try(t, msg("settle", ""), 0, first(held, is, disputed, is, holds(holder || issuer), "only the holder or the issuer may", holds(age >= 90), "the arbiters have time still"))
		if settled {
			m.came["settled"]++
		}
	}
}

// audit holds the contract's books against the bank: no money and no unit is made or lost, and each voucher is in its owner's list.
func (m *market) audit(t *testing.T) {
	t.Helper()
	sum, units, lists := uint64(0), maps.Clone(m.gone), map[string]string{}
	for id := uint64(1); id <= m.vouchers; id++ {
		v := m.voucher(t, id)
		sum += uint64(v.Backing)
		units[v.Terms] += uint64(v.Units)
		if v.Units > 0 {
			lists[v.Owner] += fmt.Sprintf(",%d", id)
		}
		if v.Terms == 0 && v.Backing > 0 || v.Units == 0 && v.Backing > 0 {
			t.Fatalf("voucher %d: %+v", id, v)
		}
	}
	for id := uint64(1); id <= m.offers; id++ {
		o, _ := read[offerState](t, m.c, `{"offer":{"offer":%d}}`, id)
		sum += uint64(o.Cash)
	}
	for id := uint64(1); id <= m.claims; id++ {
		c, _ := read[redemptionState](t, m.c, `{"redemption":{"redemption":%d}}`, id)
		if units[c.Terms] += uint64(c.Units); c.held() {
			sum += uint64(c.Amount)
		}
	}
	delete(units, 0)
	if !maps.Equal(units, m.minted) {
		t.Fatalf("there are units %v, want %v", units, m.minted)
	}
	if have := m.c.bank(traders...); sum != have[safe] || have.total() != 5*10_000 {
		t.Fatalf("the books have %d, the bank %v", sum, have)
	}
	m.c.answers(t, `{"held":{}}`, fmt.Sprintf(`{"denom":"nhyper","amount":"%d"}`, sum))
	for owner, list := range lists { // order-free: each for itself
		if len(list) < 300 {
			m.c.answers(t, fmt.Sprintf(`{"vouchers":{"owner":"@%s","limit":100}}`, owner), `{"vouchers":[`+list[1:]+`]}`)
		}
	}
}

// TestVoucherHistories makes random moves. The first history is always the same, and all comes to pass in it.
func TestVoucherHistories(t *testing.T) {
	for i, seed := range []uint64{1, rand.Uint64()} {
		t.Logf("seed %d", seed)
		m := history(t, seed, 1_500-500*i)
		t.Logf("%d vouchers, %d offers, %d redemptions, %d held: %v", m.vouchers, m.offers, m.claims, m.c.has(safe), m.came)
		for _, what := range []string{"bought", "with a discount", "withdrawn", "accepted", "with a difference", "settled", "voted"} {
			if i == 0 && m.came[what] == 0 {
				t.Errorf("nothing was %s", what)
			}
		}
	}
}

func history(t *testing.T, seed uint64, steps int) *market {
	c := deploy(t, "voucher")
	if _, refusal := c.instantiate(t, "owner", `{"denom":"nhyper"}`); refusal != "" {
		t.Fatal(refusal)
	}
	m := &market{
		c: c, r: rand.New(rand.NewPCG(seed, 0)),
		minted: map[uint64]uint64{}, gone: map[uint64]uint64{}, voted: map[string]bool{}, came: map[string]int{},
	}
	c.fund(t, 10_000, traders...)
	m.who = "ivy"
	m.mint(t)
	moves := []func(*testing.T){m.own, m.own, m.own, m.buy, m.buy, m.offer, m.offer, m.answer, m.answer, m.redeem, m.redeem, m.court, m.court, m.court, m.court}
	for step := range steps {
		c.pass(t, time.Duration(m.r.Uint64N(6))*time.Second)
		m.who = traders[m.r.IntN(len(traders))]
		if step%15 == 0 && m.who != "ann" { // an arbiter promises nothing
			m.mint(t)
		}
		moves[m.r.IntN(len(moves))](t)
		if step%100 == 0 {
			m.audit(t)
		}
	}
	m.audit(t)
	return m
}
