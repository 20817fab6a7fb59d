package contract_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
)

// blockGas is all that a block has.
var blockGas = chain.DefaultParams().BlockGas.Units()

// withOne is a world with one contract.
func withOne(t *testing.T) (*world, chain.Address) {
	t.Helper()
	w := newWorld()
	w.store(person("alice"), moduleCode("x"))
	if did := w.do(person("alice"), chain.InstantiateContract{Code: 1, Label: "l", Msg: []byte(`{}`)}, testGas); did.Why != nil {
		t.Fatal(did.Why.Reason())
	}
	return w, w.made[0]
}

// reaching is a VM whose contracts do what a test says with what they reach.
type reaching func(call contract.Call, reach contract.Reach) contract.Outcome

func (v reaching) Run(_ contract.Program, call contract.Call, reach contract.Reach) (contract.Outcome, error) {
	return v(call, reach), nil
}

var saysNothing = []byte(`{"ok":{"messages":[],"attributes":[],"events":[]}}`)

// processor is what the process has taken of the processor.
func processor(t *testing.T) time.Duration {
	t.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// repeated is a list of n times the same.
func repeated(n int, element string) string {
	return strings.TrimSuffix(strings.Repeat(element+",", n), ",")
}

// telling is what a contract is to do to send itself n messages, which tell so much each.
func telling(to chain.Address, n int, each, replyOn string) string {
	message := fmt.Sprintf(`{"id":1,"msg":{"wasm":{"execute":{"contract_addr":"%s","msg":<<%s>>,"funds":[]}}},"payload":<<{}>>,"gas_limit":null,"reply_on":"%s"}`, to, each, replyOn)
	return `{"ok":{"messages":[` + repeated(n, inBase64(message)) + `],"attributes":[],"events":[]}}`
}

// TestEventsAreBounded: what the contracts of a transaction make known has a bound, for all its
// messages together; what has failed does not count.
func TestEventsAreBounded(t *testing.T) {
	w, a := withOne(t)
	events := `"attributes":[],"events":[` + repeated(256, `{"type":"aa","attributes":[]}`) + `]`
	said := contract.Said{}
	w.env.Said = &said
	do := func(msg string) contract.Result {
		w.tx++
		return contract.Do(state.NewOverlay(w.state), &w.env, person("alice"), chain.ExecuteContract{Contract: a, Msg: []byte(msg)}, blockGas)
	}
	const half = contract.MaxTxEvents / 2 / 256
	did := do(telling(a, half-1, `{"ok":{"messages":[],`+events+`}}`, "never"))
	if did.Why != nil || len(did.Events) != (half-1)*257+1 || said.Events != len(did.Events) {
		t.Fatalf("%v, %d events, %d counted", did.Why, len(did.Events), said.Events)
	}
	failing := `{"ok":{"messages":[{"id":1,"msg":{"bank":{"burn":{"amount":[]}}},"gas_limit":null,"reply_on":"never"}],` + events + `}}`
	if did := do(telling(a, 2*half, failing, "error")); did.Why != nil || len(did.Events) != 2*2*half+1 {
		t.Fatalf("who fails, and is told so: %v, %d events", did.Why, len(did.Events))
	}
	before := said
	if did := do(telling(a, half+1, `{"ok":{"messages":[],`+events+`}}`, "never")); did.Why == nil || !strings.Contains(did.Why.Reason(), "more than 8192 events") || said != before {
		t.Errorf("more than a transaction has: %v, %d events", did.Why, len(did.Events))
	}
	w.env.Said = nil
	wordy := `{"ok":{"messages":[],"events":[],"attributes":[` + repeated(20, `{"key":"k","value":"`+strings.Repeat("v", 16<<10)+`"}`) + `]}}`
	if did := do(telling(a, 1, wordy, "never")); did.Why != nil {
		t.Errorf("one that says much: %v", did.Why)
	}
	var thrice []string
	for range 4 {
		thrice = append(thrice, wordy)
	}
	said, w.env.Said = contract.Said{}, &said
	for i, msg := range thrice {
		if did := do(msg); (did.Why != nil) != (i == 3) {
			t.Errorf("message %d that says 320 KiB: %v", i, did.Why)
		}
	}
}

// patience is how long a call may take before the machine holds the node to be broken.
const patience = time.Minute

// TestQueriesArePaidFor: all of a query is paid for before it is read, and what a block's gas buys
// of the dearest is far from the machine's patience.
func TestQueriesArePaidFor(t *testing.T) {
	w, a := withOne(t)
	for _, element := range []string{`[]`, `{}`, `{"":0}`, `0`, `"\u0001"`, `[[[[[[[[[[]]]]]]]]]]`} {
		for _, form := range []string{`{"custom":[%s]}`, `{"custom":{"escrow":[%s]}}`, `{"custom":{"node":{"id":[%s]}}}`, `{"wasm":{"x":[%s]}}`, `[%s]`} {
			for _, most := range []int{64 << 10, 8 << 10} {
				query := fmt.Appendf(nil, form, repeated((most-100)/(len(element)+1), element))
				var points uint64
				least := patience
				w.env.VM = reaching(func(call contract.Call, reach contract.Reach) contract.Outcome {
					for range 5 {
						before := processor(t)
						_, points, _ = reach.Query(query, call.Points)
						least = min(least, processor(t)-before)
					}
					if _, spent, _ := reach.Query(query, uint64(len(query))*200); spent <= uint64(len(query))*200 {
						t.Errorf("%.40s: read without gas for its bytes", query)
					}
					return contract.Outcome{End: contract.Returned, Data: saysNothing}
				})
				if did := w.do(person("alice"), chain.ExecuteContract{Contract: a}, blockGas); did.Why != nil {
					t.Fatal(did.Why.Reason())
				}
				if gas := points / w.env.Prices.Points; least*time.Duration(blockGas/gas) > patience/4 {
					t.Errorf("%.40s: %v for %d gas, %v in a block", query, least, gas, least*time.Duration(blockGas/gas))
				}
			}
		}
	}
}

// TestLongCustomTexts: what is longer than any that there is is not read.
func TestLongCustomTexts(t *testing.T) {
	w, a := withOne(t)
	host := &asked{}
	w.env.Host = host
	for _, long := range []bool{false, true} {
		proof := strings.Repeat("A", 5460)
		if long {
			proof = strings.Repeat("A", 8<<10)
		}
		digest := strings.Repeat("00", 32)
		query := fmt.Appendf(nil, `{"custom":{"verify_proof":{"kernel":"k","inputs":[%s],"outputs":[%s],"bind":"%s","proof":"%s"}}}`,
			repeated(chain.MaxFields, `"`+digest+`"`), repeated(chain.MaxFields, `"`+digest+`"`), digest, proof)
		w.env.VM = reaching(func(call contract.Call, reach contract.Reach) contract.Outcome {
			answer, _, _ := reach.Query(query, call.Points)
			if lacks := strings.Contains(string(answer), "unsupported_request"); lacks != long {
				t.Errorf("%d bytes: %s", len(query), answer)
			}
			return contract.Outcome{End: contract.Returned, Data: saysNothing}
		})
		if did := w.do(person("alice"), chain.ExecuteContract{Contract: a}, blockGas); did.Why != nil {
			t.Fatal(did.Why.Reason())
		}
	}
	if host.questions != 1 {
		t.Errorf("%d questions", host.questions)
	}
}

// asked is a chain that counts what it is asked.
type asked struct{ questions int }

func (h *asked) Message(*state.Overlay, chain.Address, chain.Msg, uint64) contract.Result {
	return contract.Result{}
}

func (h *asked) Query(state.Reader, contract.Question, uint64) (any, uint64) {
	h.questions++
	return contract.ProofAnswer{}, 0
}

// TestWalksPayForWhatIsGone: a walk pays for each key that its contract has removed in this epoch of removed
// keys and in the one before, once, wherever those may still be; and each has paid for one pass when it went.
func TestWalksPayForWhatIsGone(t *testing.T) {
	const keys = 1_000
	if prices().Passed < 12 { // a layer takes 70 ns to pass one, and a unit of gas is 4 in an average block
		t.Errorf("%d gas for a removed key", prices().Passed)
	}
	for _, order := range []contract.Order{contract.Ascending, contract.Descending} {
		got := walkedPast(t, keys, false, order)
		bare := got[len(got)-1]
		for i, gone := range []uint64{keys - 1, keys - 1, keys - 1, keys - 1, keys, 1, 0, 0} {
			if want := bare + prices().Passed*gone; got[i] != want {
				t.Errorf("order %d, walk %d: %d gas, want %d", order, i, got[i], want)
			}
		}
		if flat := walkedPast(t, keys, true, order); !slices.Equal(flat, got) {
			t.Errorf("order %d: %v gas, %v where nothing is left of what was removed", order, got, flat)
		}
	}
}

// walkedPast is what walks cost that pass removed keys, while they are removed and as blocks come, on a layer or on a
// store that has forgotten what was removed.
func walkedPast(t *testing.T, keys int, flat bool, order contract.Order) (gas []uint64) {
	w, a := withOne(t)
	do := func(what func(reach contract.Reach) uint64) (used uint64) {
		w.env.VM = reaching(func(_ contract.Call, reach contract.Reach) contract.Outcome {
			used = what(reach)
			return contract.Outcome{End: contract.Returned, Data: saysNothing, Points: used}
		})
		if did := w.do(person("alice"), chain.ExecuteContract{Contract: a}, blockGas); did.Why != nil {
			t.Fatal(did.Why.Reason())
		}
		if flat { // as a store that has forgotten what was removed
			below := state.NewMemoryBackend()
			for key, value := range w.state.Iterate([]byte{0}, nil) {
				below.Set(key, value)
			}
			w.state = state.NewOverlay(below)
		}
		return used / w.env.Prices.Points
	}
	walk := func(reach contract.Reach) uint64 {
		walk, used, _ := reach.Scan(nil, nil, order, 1<<40)
		for at, steps := 0, 3; at < steps; at++ { // one key, its end, and again
			key, _, points, _ := walk.Next()
			if used += points; (key != nil) != (at == 0) {
				t.Errorf("step %d gives %q", at, key)
			}
		}
		return used
	}
	do(func(reach contract.Reach) (used uint64) {
		for i := range keys {
			points, _ := reach.Write(fmt.Appendf(nil, "k%06d", i), []byte("v"))
			used += points
		}
		return used
	})
	do(func(reach contract.Reach) (used uint64) {
		for i := range keys - 1 {
			points, _ := reach.Remove(fmt.Appendf(nil, "k%06d", i))
			used += points
		}
		gas = append(gas, walk(reach)/w.env.Prices.Points)
		return used
	})
	gas = append(gas, do(walk), do(walk))
	w.env.Height += contract.RemovedBlocks
	gas = append(gas, do(walk))
	do(func(reach contract.Reach) (used uint64) { // which does not make the others count for longer
		used, _ = reach.Remove(fmt.Appendf(nil, "k%06d", keys-1))
		more, _ := reach.Write(fmt.Appendf(nil, "k%06d", keys-1), []byte("v"))
		return used + more
	})
	gas = append(gas, do(walk))
	for _, epochs := range []chain.Height{1, 1, 70} {
		w.env.Height += contract.RemovedBlocks * epochs
		gas = append(gas, do(walk))
	}
	return gas
}

// littered is a contract over whose keys somebody walks, and among which somebody writes and removes others.
type littered struct {
	*world
	t  *testing.T
	at chain.Address
}

func (l *littered) call(what func(reach contract.Reach) uint64) uint64 {
	l.t.Helper()
	l.env.VM = reaching(func(_ contract.Call, reach contract.Reach) contract.Outcome {
		return contract.Outcome{End: contract.Returned, Data: saysNothing, Points: what(reach)}
	})
	did := l.do(person("alice"), chain.ExecuteContract{Contract: l.at}, 3*blockGas)
	if did.Why != nil {
		l.t.Fatal(did.Why.Reason())
	}
	return did.Gas
}

// walk is what a walk costs that looks for the first key.
func (l *littered) walk() uint64 {
	l.t.Helper()
	return l.call(func(reach contract.Reach) uint64 {
		walk, used, _ := reach.Scan(nil, nil, contract.Ascending, 1<<40)
		_, _, points, _ := walk.Next()
		return used + points
	})
}

// litter writes and removes so many thousand keys, and returns what that costs.
func (l *littered) litter(thousands int) (paid uint64) {
	l.t.Helper()
	for n := range thousands {
		paid += l.call(func(reach contract.Reach) (used uint64) {
			for i := range 1_000 {
				points, _ := reach.Write(fmt.Appendf(nil, "k%06d", 1_000*n+i), []byte("v"))
				more, _ := reach.Remove(fmt.Appendf(nil, "k%06d", 1_000*n+i))
				used += points + more
			}
			return used
		})
	}
	return paid
}

// TestWhoMakesWalksDearPaysMore: somebody writes and removes ten thousand keys where a contract walks, and it
// walks a thousand times after that. What the walks pay more, all together, is less than what he has paid; and
// 64 blocks later a walk pays what it would have without him.
func TestWhoMakesWalksDearPaysMore(t *testing.T) {
	const keys, walks = 10_000, 1_000
	for _, perBlock := range []int{1, 4, walks} {
		w, a := withOne(t)
		l := &littered{w, t, a}
		bare := l.walk()
		paid, more := l.litter(keys/1_000), uint64(0)
		began := w.env.Height
		for i := range walks {
			if i%perBlock == 0 {
				w.env.Height++
			}
			more += l.walk() - bare
		}
		t.Logf("%d walks a block: %d gas was paid for %d keys, the next %d walks pay %d more", perBlock, paid, keys, walks, more)
		blocks := uint64(min(walks/perBlock, 2*contract.RemovedBlocks))
		if most := blocks * uint64(perBlock) * keys * prices().Passed; more > most {
			t.Errorf("%d walks a block: the walks pay %d more, want %d at most", perBlock, more, most)
		}
		if perBlock <= 4 && more > paid {
			t.Errorf("%d walks a block: the walks pay %d more, who made them pay it paid %d", perBlock, more, paid)
		}
		if w.env.Height = began + 64; l.walk() != bare {
			t.Errorf("64 blocks later a walk still pays %d, bare %d", l.walk(), bare)
		}
	}
}

// TestWhoGoesOnMakingWalksDearIsBounded: somebody writes and removes keys in every second epoch, so that each walk pays for them,
// of however many. A walk pays more by a ninetieth at most of what he has paid in the last sixteen blocks, so all walks of a
// block together by more than he pays a block only from the sixth on.
func TestWhoGoesOnMakingWalksDearIsBounded(t *testing.T) {
	const thousands, epochs, ninetieth = 2, 8, 90
	for _, perBlock := range []uint64{1, 5, 6, 20} {
		w, a := withOne(t)
		l := &littered{w, t, a}
		bare, paid, more := l.walk(), uint64(0), uint64(0)
		w.env.Height = (w.env.Height/contract.RemovedBlocks + 1) * contract.RemovedBlocks // an epoch begins
		for block := range epochs * contract.RemovedBlocks {
			if block%(2*contract.RemovedBlocks) == 0 {
				last := l.litter(thousands)
				if each := l.walk() - bare; each == 0 || each > last/ninetieth {
					t.Errorf("a walk pays %d more where %d was paid", each, last)
				}
				paid += last
			}
			more += perBlock * (l.walk() - bare)
			w.env.Height++
		}
		t.Logf("%d walks a block: %d gas was paid, and %d by those who walk: %.2f of it", perBlock, paid, more, float64(more)/float64(paid))
		if (more > paid) != (perBlock > 5) || more > 2*contract.RemovedBlocks*perBlock*paid/ninetieth {
			t.Errorf("%d walks a block pay %d more where %d was paid", perBlock, more, paid)
		}
		if w.env.Height += contract.RemovedBlocks; l.walk() != bare {
			t.Errorf("an epoch later a walk still pays %d, bare %d", l.walk(), bare)
		}
	}
}

// TestWalksThatRemove: a walk pays once for what goes while it walks.
func TestWalksThatRemove(t *testing.T) {
	w, a := withOne(t)
	const keys = 100
	var walked uint64
	w.env.VM = reaching(func(_ contract.Call, reach contract.Reach) contract.Outcome {
		used := uint64(0)
		for i := range keys {
			points, _ := reach.Write(fmt.Appendf(nil, "k%06d", i), []byte("v"))
			used += points
		}
		walk, points, _ := reach.Scan(nil, nil, contract.Ascending, 1<<40)
		for walked = points; ; {
			key, _, points, _ := walk.Next()
			if walked += points; key == nil {
				points, _ = reach.Write([]byte("z"), []byte("v"))
				if key, _, _, _ := walk.Next(); key != nil {
					t.Error("a walk goes on behind its end")
				}
				used += points
				return contract.Outcome{End: contract.Returned, Data: saysNothing, Points: used + walked}
			}
			points, _ = reach.Remove(key)
			used += points
		}
	})
	if did := w.do(person("alice"), chain.ExecuteContract{Contract: a}, blockGas); did.Why != nil {
		t.Fatal(did.Why.Reason())
	}
	p := prices()
	at := uint64(len(contract.StorageKey(a, []byte("k000000"))) + 1)
	if want := 2*p.Read + keys*(p.Read+p.Step+at*p.ReadByte+p.Passed); walked != want*p.Points {
		t.Errorf("%d gas, want %d", walked/p.Points, want)
	}
	if c, _ := contract.ContractOf(w.state, a); c.Removed != keys {
		t.Errorf("%d keys are noted", c.Removed)
	}
}

// TestToldIsPaidFor: what replies tell is paid for at each level, by the event and by the byte, as
// often as it is told.
func TestToldIsPaidFor(t *testing.T) {
	const events, bytes = 100, 300
	w, a := withOne(t)
	said := `{"ok":{"messages":[],"attributes":[],"events":[` + repeated(events, `{"type":"aa","attributes":[{"key":"k","value":"`+strings.Repeat("v", bytes)+`"}]}`) + `]}}`
	used := func(levels int, replyOn string) uint64 {
		depth := 0
		w.env.VM = reaching(func(call contract.Call, _ contract.Reach) contract.Outcome {
			out := contract.Outcome{End: contract.Returned, Data: saysNothing, Points: 1_000}
			if call.Entry == meter.Execute {
				if depth++; depth == levels+1 {
					out.Data = []byte(said)
				} else {
					out.Data = []byte(telling(a, 1, "{}", replyOn))
				}
			}
			return out
		})
		did := w.do(person("alice"), chain.ExecuteContract{Contract: a}, blockGas)
		if did.Why != nil {
			t.Fatal(did.Why.Reason())
		}
		return did.Gas
	}
	p := prices()
	for levels := 1; levels < 5; levels++ {
		told := used(levels, "success") - used(levels, "never")
		if least := uint64(levels) * events * (p.Event + 2*bytes*p.ReadByte); told < least || told > least*3/2 {
			t.Errorf("%d levels: %d gas for what is told, want %d or some more", levels, told, least)
		}
	}
}

// TestCallsEnd: who asks from outside may end a call, which learns it where it reaches for something.
func TestCallsEnd(t *testing.T) {
	w, a := withOne(t)
	w.do(person("alice"), chain.ExecuteContract{Contract: a, Msg: []byte(`{"do":[{"write":["k","v"]},{"write":["l","v"]}]}`)}, testGas)
	gone := errors.New("nobody waits")
	ask := func(checks int, msg string) (ended error) {
		defer func() {
			if p := recover(); p != nil {
				ended = p.(*state.Fault)
			}
		}()
		env := w.env
		env.Ended = func() error {
			if checks--; checks < 0 {
				return gone
			}
			return nil
		}
		if _, _, why := contract.Ask(w.state, &env, a, []byte(msg), testGas); why != nil {
			t.Error(why.Reason())
		}
		return nil
	}
	for msg, checks := range map[string]int{
		`{}`: 1, `{"do":[{"read":"k"}]}`: 2, `{"do":[{"scan":["up","",""]}]}`: 5, `{"do":[{"scan":["down","",""]}]}`: 5,
		`{"do":[{"query":{"bank":{"supply":{"denom":"nhyper"}}}}]}`: 2,
	} {
		for n := range checks {
			if err := ask(n, msg); !errors.Is(err, gone) {
				t.Errorf("%s goes on at %d: %v", msg, n, err)
			}
		}
		if err := ask(checks, msg); err != nil {
			t.Errorf("%s: %v", msg, err)
		}
	}
}

// TestRepliesLeadOn: the messages that a reply sends are of those that lead to each other.
func TestRepliesLeadOn(t *testing.T) {
	w, a := withOne(t)
	calls := 0
	w.env.VM = reaching(func(call contract.Call, _ contract.Reach) contract.Outcome {
		out := contract.Outcome{End: contract.Returned, Data: saysNothing, Points: 1_000}
		if calls++; call.Entry == meter.Reply || calls == 1 {
			out.Data = []byte(telling(a, 1, "{}", "success"))
		}
		return out
	})
	did := w.do(person("alice"), chain.ExecuteContract{Contract: a}, blockGas)
	if did.Why == nil || !strings.Contains(did.Why.Reason(), "wasm 30: more than 64 messages") || calls > 2*contract.MaxDepth+1 {
		t.Errorf("replies that send messages: %v, after %d calls", did.Why, calls)
	}
}

// TestUploadsBegunAnew: the parts that are forgotten are paid for.
func TestUploadsBegunAnew(t *testing.T) {
	w := newWorld()
	parts := partsOf(append(moduleCode("x"), customSection(5*chain.MaxCodePart)...))
	first := w.do(person("alice"), parts[0], testGas)
	for i := range parts[:4] {
		if i > 0 {
			w.do(person("alice"), parts[i], testGas)
		}
	}
	p := prices()
	anew := w.do(person("alice"), parts[0], testGas)
	if want := first.Gas + 4*(p.Write+p.Insert); anew.Why != nil || anew.Gas != want {
		t.Errorf("%d gas, want %d", anew.Gas, want)
	}
}

// TestWalksBackwardsStop: where what is left is used up, whatever the call had in the beginning.
func TestWalksBackwardsStop(t *testing.T) {
	w, a := withOne(t)
	for i := range 1_000 {
		w.state.Set(contract.StorageKey(a, fmt.Appendf(nil, "k%06d", i)), []byte("v"))
	}
	pairs := 0
	w.state = state.NewOverlay(&counting{w.state, &pairs})
	for _, left := range []uint64{0, 799, 5_000, 20_000} {
		w.env.VM = reaching(func(_ contract.Call, reach contract.Reach) contract.Outcome {
			pairs = 0
			if _, points, _ := reach.Scan(nil, nil, contract.Descending, left*w.env.Prices.Points); points <= left*w.env.Prices.Points {
				t.Errorf("a walk for %d points of %d", points, left*w.env.Prices.Points)
			}
			return contract.Outcome{End: contract.Returned, Data: saysNothing}
		})
		if did := w.do(person("alice"), chain.ExecuteContract{Contract: a}, blockGas); did.Why != nil {
			t.Fatal(did.Why.Reason())
		}
		if most := int(left/prices().Read) + 1; pairs > most {
			t.Errorf("with %d gas left it looks at %d pairs", left, pairs)
		}
	}
}

// TestMaxDepositIsAnyAmount: who agrees to more than there is has not made a sum that no node can
// have, when something comes back.
func TestMaxDepositIsAnyAmount(t *testing.T) {
	w, a := withOne(t)
	write := `{"do":[{"write":["k","0123456789"]}]}`
	if did := w.do(person("alice"), chain.ExecuteContract{Contract: a, Msg: []byte(write)}, testGas); did.Why != nil {
		t.Fatal(did.Why.Reason())
	}
	msg := fmt.Sprintf(`{"do":[{"remove":"k"}],"ok":{"messages":[{"id":1,"msg":{"wasm":{"execute":{"contract_addr":"%s","msg":<<%s>>,"funds":[]}}},"gas_limit":null,"reply_on":"never"}],"attributes":[],"events":[]}}`, a, write)
	did := w.doFor(person("alice"), chain.ExecuteContract{Contract: a, Msg: []byte(inBase64(msg))}, testGas, chain.Nano(math.MaxUint64))
	if did.Why != nil {
		t.Fatal(did.Why.Reason())
	}
	if err := w.conserved(); err != nil {
		t.Error(err)
	}
}

// TestShortCodeIsPaidFor: what a block's gas buys of the shortest code is compiled in the time of
// the blocks that pass before it runs, at more than twice the 2 ms that it takes.
func TestShortCodeIsPaidFor(t *testing.T) {
	w := newWorld()
	did := w.store(person("alice"), moduleCode(""))
	if did.Why != nil {
		t.Fatal(did.Why.Reason())
	}
	if took := time.Duration(blockGas/did.Gas) * 5 * time.Millisecond; took > 3*time.Second {
		t.Errorf("a block stores %d codes, for %d gas each, which are compiled for %v", blockGas/did.Gas, did.Gas, took)
	}
}
