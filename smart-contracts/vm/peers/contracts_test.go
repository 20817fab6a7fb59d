package peers

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// wasmOf reads one of the CosmWasm project's contracts, as wasmvm carries it.
func wasmOf(t testing.TB, name string) []byte {
	t.Helper()
	code, err := os.ReadFile(filepath.Join(moduleDir(t, "github.com/CosmWasm/wasmvm/v3"), "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// theirContracts are the modules that wasmvm carries, all of them: by which rule one is refused, with what it lacks or
// has too much, or none if it is taken.
var theirContracts = map[string]struct {
	rule meter.Rule
	says string
}{
	"hackatom.wasm": {}, "queue.wasm": {}, "cyberpunk.wasm": {}, "floaty_2.0.wasm": {},
	"reflect.wasm": {meter.RuleCapability, `"stargate"`}, "ibc_reflect.wasm": {meter.RuleCapability, `"stargate"`},
}

// TestWhatIsRefused: those of their contracts that require what is not offered are refused by its name, and the others
// are taken. None is left out.
func TestWhatIsRefused(t *testing.T) {
	dir := filepath.Join(moduleDir(t, "github.com/CosmWasm/wasmvm/v3"), "testdata")
	files, err := filepath.Glob(filepath.Join(dir, "*.wasm"))
	if err != nil || len(files) != len(theirContracts) {
		t.Errorf("%d of %d modules are known, %v", len(theirContracts), len(files), err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		want, known := theirContracts[name]
		if !known {
			t.Errorf("%s: nobody says whether it is taken", name)
			continue
		}
		_, err := meter.Prepare(wasmOf(t, name), capabilities, meter.WeightsV1())
		r, refused := errors.AsType[*meter.Refusal](err)
		switch {
		case want.rule == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case want.rule != "" && (!refused || r.Rule != want.rule || !strings.Contains(r.Detail, want.says)):
			t.Errorf("%s: %v, want it refused by %s for %s", name, err, want.rule, want.says)
		}
	}
}

// TestWhatIsPublishedIsTaken: of what the CosmWasm project's wasmd carries no contract is refused for a compiler's sake,
// whatever else it asks for that is not offered, and what is taken costs a fraction of a block.
func TestWhatIsPublishedIsTaken(t *testing.T) {
	dir := moduleDir(t, "github.com/CosmWasm/wasmd")
	var files []string
	for _, in := range []string{"x/wasm/keeper/testdata/*.wasm*", "x/wasm/testdata/*.wasm", "x/wasm/types/testdata/*.wasm", "benchmarks/testdata/*.wasm", "tests/e2e/testdata/*.wasm*"} {
		found, err := filepath.Glob(filepath.Join(dir, filepath.FromSlash(in)))
		if err != nil || len(found) == 0 {
			t.Errorf("%s: %d modules, %v", in, len(found), err)
		}
		files = append(files, found...)
	}
	taken := 0
	for _, file := range files {
		code, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(filepath.Base(file), ".gz") {
			if code, err = unzipped(code); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
		name := filepath.Base(file)
		if _, err := meter.Rewrite(code, meter.WeightsV1()); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		module, err := meter.Prepare(code, capabilities, meter.WeightsV1())
		if refusal, is := errors.AsType[*meter.Refusal](err); is && slices.Contains([]meter.Rule{meter.RuleCapability, meter.RuleInterface, meter.RuleImport, meter.RuleExport}, refusal.Rule) {
			continue // it asks for what is not offered
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		taken++
		if spans := module.Spans(); spans > 2_500_000 {
			t.Errorf("%s: %d spans, which cost a third of a block", name, spans)
		}
	}
	if taken < 8 {
		t.Errorf("%d of %d contracts are taken", taken, len(files))
	}
}

// unzipped is what was compressed.
func unzipped(code []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(code))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// TestHackatom takes the contract through its life under both machines.
func TestHackatom(t *testing.T) {
	w := newWorld(t, wasmOf(t, "hackatom.wasm"))
	var points strings.Builder
	for _, c := range []struct {
		entry       meter.Entry
		sender, msg string
		end         vm.End
		has         string // in the answer
	}{
		{meter.Instantiate, "creator", `{}`, vm.Returned, `"error"`},
		{meter.Instantiate, "creator", `{"verifier":"Fred","beneficiary":"bob"}`, vm.Returned, `"error"`},
		{meter.Instantiate, "creator", `{"verifier":"fr","beneficiary":"bob"}`, vm.Returned, `"error"`},
		{meter.Instantiate, "creator", `{"verifier":"fred","beneficiary":"bob"}`, vm.Returned, `"ok"`},
		{meter.Query, "", `{"verifier":{}}`, vm.Returned, `"ok"`},
		{meter.Query, "", `{"nothing":{}}`, vm.Returned, `"error"`},
		{meter.Query, "", `{"other_balance":{"address":"foobar"}}`, vm.Returned, `"ok"`},
		{meter.Query, "", `{"recurse":{"depth":0,"work":50}}`, vm.Returned, `"ok"`},
		{meter.Query, "", `{"get_int":{}}`, vm.Returned, `"ok"`},
		{meter.Execute, "mallory", `{"release":{"denom":"earth"}}`, vm.Returned, `"error"`},
		{meter.Execute, "fred", `{"release":{"denom":"earth"}}`, vm.Returned, `"bank"`},
		{meter.Execute, "fred", `{"release":{}}`, vm.Returned, `"bank"`},
		{meter.Execute, "fred", `{"allocate_large_memory":{"pages":0}}`, vm.Returned, `"ok"`},
		{meter.Execute, "fred", `{"allocate_large_memory":{"pages":1600}}`, vm.Returned, `memory.grow failed`},
		{meter.Execute, "fred", `{"allocate_large_memory":{"pages":400}}`, vm.Returned, `"ok"`},
		{meter.Execute, "fred", `{"panic":{}}`, vm.Aborted, ``},
		{meter.Execute, "fred", `{"user_errors_in_api_calls":{}}`, vm.Aborted, ``}, // our addresses are not those that it expects to be none
		{meter.Execute, "fred", `{"unknown":{}}`, vm.Returned, `"error"`},
		{meter.Execute, "fred", `not JSON`, vm.Returned, `"error"`},
		{meter.Sudo, "", `{"steal_funds":{"recipient":"community-pool","amount":[{"amount":"700","denom":"gold"}]}}`, vm.Returned, `"ok"`},
		{meter.Migrate, "", `{"verifier":"alice"}`, vm.Returned, `"ok"`},
		{meter.Query, "", `{"verifier":{}}`, vm.Returned, `"ok"`},
	} {
		o := w.both(c.entry, c.sender, c.msg)
		if o.End != c.end || !strings.Contains(string(o.Data), c.has) {
			t.Errorf("%s %s: %v %s %s, want %v and %s in it", c.entry, c.msg, o.End, o.Detail, o.Data, c.end, c.has)
		}
		fmt.Fprintf(&points, "%s %s: %v, %d\n", c.entry, c.msg, o.End, o.Points)
	}
	golden.Check(t, "testdata/points.txt", points.String())
}

// TestQueue walks over keys under both machines, both ways, also while many walks
// are open.
func TestQueue(t *testing.T) {
	w := newWorld(t, wasmOf(t, "queue.wasm"))
	w.both(meter.Instantiate, "creator", `{}`)
	for _, msg := range []string{`{"enqueue":{"value":17}}`, `{"enqueue":{"value":22}}`, `{"enqueue":{"value":4}}`, `{"enqueue":{"value":-4}}`, `{"dequeue":{}}`} {
		if o := w.both(meter.Execute, "creator", msg); o.End != vm.Returned || !strings.Contains(string(o.Data), `"ok"`) {
			t.Errorf("%s: %v %s %s", msg, o.End, o.Detail, o.Data)
		}
	}
	for _, msg := range []string{`{"count":{}}`, `{"sum":{}}`, `{"reducer":{}}`, `{"list":{}}`, `{"open_iterators":{"count":500}}`} {
		if o := w.both(meter.Query, "", msg); o.End != vm.Returned || !strings.Contains(string(o.Data), `"ok"`) {
			t.Errorf("%s: %v %s %s", msg, o.End, o.Detail, o.Data)
		}
	}
	if len(w.ourStore) != 3 {
		t.Errorf("%d entries are left", len(w.ourStore))
	}
}

// TestCyberpunk: what the contract is told of its environment is what both tell
// it, and memory-hard work comes to the same.
func TestCyberpunk(t *testing.T) {
	w := newWorld(t, wasmOf(t, "cyberpunk.wasm"))
	w.both(meter.Instantiate, "creator", `{}`)
	for msg, end := range map[string]vm.End{
		`{"mirror_env":{}}`:                        vm.Returned,
		`{"argon2":{"mem_cost":64,"time_cost":1}}`: vm.Returned,
		`{"panic":{}}`:                             vm.Aborted,
		`{"unreachable":{}}`:                       vm.Aborted,
		`{"noop":{}}`:                              vm.Returned,
	} {
		if o := w.both(meter.Execute, "creator", msg); o.End != end {
			t.Errorf("%s: %v %s %s", msg, o.End, o.Detail, o.Data)
		}
	}
	w.both(meter.Query, "", `{"mirror_env":{}}`)
}

// TestFloaty runs every instruction on floats that the contract knows, on
// arguments that it makes of seeds, under both machines: the bits are the same.
func TestFloaty(t *testing.T) {
	w := newWorld(t, wasmOf(t, "floaty_2.0.wasm"))
	w.both(meter.Instantiate, "creator", `{}`)
	ask := func(msg string, into any) {
		t.Helper()
		o := w.both(meter.Query, "", msg)
		var answer struct{ OK []byte }
		if err := json.Unmarshal(o.Data, &answer); err != nil || o.End != vm.Returned {
			t.Fatalf("%s: %v %s %s, %v", msg, o.End, o.Detail, o.Data, err)
		}
		if err := json.Unmarshal(answer.OK, into); err != nil {
			t.Fatalf("%s: %s, %v", msg, answer.OK, err)
		}
	}
	nans := 0
	var instructions []string
	ask(`{"instructions":{}}`, &instructions)
	if len(instructions) < 60 {
		t.Fatalf("%d instructions", len(instructions))
	}
	for _, instruction := range instructions {
		for seed := range 8 {
			var args, result json.RawMessage
			ask(fmt.Sprintf(`{"random_args_for":{"instruction":%q,"seed":%d}}`, instruction, seed), &args)
			msg := fmt.Sprintf(`{"run":{"instruction":%q,"args":%s}}`, instruction, args)
			if nan(t, instruction, args) {
				nans++
				if o := w.ourCall(meter.Query, info(""), []byte(msg)); string(o.Data) != canonicalNaN[instruction] {
					t.Errorf("%s: %s is not the one NaN", msg, o.Data)
				}
				continue
			}
			if o := w.both(meter.Query, "", msg); o.End == vm.Returned {
				result = o.Data
			} else if o.End != vm.Trapped || !strings.Contains(instruction, ".trunc_") {
				t.Errorf("%s: %v %s %s", msg, o.End, o.Detail, result)
			}
		}
	}
	if nans == 0 {
		t.Error("no NaN was converted")
	}
}

// canonicalNaN is what conversions between floats make of a NaN here. wasmvm keeps
// some of its bits, and which ones is up to the processor.
var canonicalNaN = map[string]string{
	"f32.demote_f64":  `{"ok":"` + base64.StdEncoding.EncodeToString([]byte(`{"u32":2143289344}`)) + `"}`,
	"f64.promote_f32": `{"ok":"` + base64.StdEncoding.EncodeToString([]byte(`{"u64":9221120237041090560}`)) + `"}`,
}

// nan reports whether an instruction converts a NaN from one float to the other.
func nan(t *testing.T, instruction string, args []byte) bool {
	var values []struct {
		F32 uint32
		F64 uint64
	}
	if err := json.Unmarshal(args, &values); err != nil {
		t.Fatal(err)
	}
	switch instruction {
	case "f32.demote_f64":
		return math.IsNaN(math.Float64frombits(values[0].F64))
	case "f64.promote_f32":
		return math.IsNaN(float64(math.Float32frombits(values[0].F32)))
	default:
		return false
	}
}

// TestHackatomsLoops: what would go on for ever is stopped at its limit under both machines, has used all that it was
// given here, and leaves nothing; a loop of messages is the chain's to stop, and both answer with the same.
func TestHackatomsLoops(t *testing.T) {
	w := newWorld(t, wasmOf(t, "hackatom.wasm"))
	w.both(meter.Instantiate, "creator", hackatomBegins)
	w.points, w.gas = 200_000_000, 100_000_000_000
	kept := fmt.Sprint(w.ourStore)
	for msg, end := range map[string]vm.End{`{"cpu_loop":{}}`: vm.Spent, `{"storage_loop":{}}`: vm.Spent, `{"memory_loop":{}}`: vm.Spent, `{"message_loop":{}}`: vm.Returned} {
		o := w.both(meter.Execute, "fred", msg)
		t.Logf("%s: %v, %d points %s", msg, o.End, o.Points, o.Detail)
		if o.End != end || o.End == vm.Spent && o.Points != w.points || end != vm.Returned && o.Data != nil {
			t.Errorf("%s: %v at %d points of %d, want %v", msg, o.End, o.Points, w.points, end)
		}
		if got := fmt.Sprint(w.ourStore); got != kept {
			t.Errorf("%s leaves %s", msg, got)
		}
	}
	// With points for all memory that there is, it is the memory that ends the loop.
	w.points, w.gas = ourPoints, 10*theirGas
	if o := w.both(meter.Execute, "fred", `{"memory_loop":{}}`); o.End != vm.Aborted {
		t.Errorf("memory_loop with %d points: %v %s", w.points, o.End, o.Detail)
	}
}

// TestReply hands a contract what became of its submessages, under both machines, and
// asks it for what it kept of that. reflect requires stargate, of which the chain has
// none, so no chain of ours takes it; both machines do, where they offer it.
func TestReply(t *testing.T) {
	w := newWorldWith(t, wasmOf(t, "reflect.wasm"), append(slices.Clone(capabilities), "stargate"))
	const sub = `{"reflect_sub_msg":{"msgs":[{"id":%d,"msg":{"bank":{"send":{"to_address":"friend","amount":[{"denom":"earth","amount":"7"}]}}},"gas_limit":null,"reply_on":"%s"}]}}`
	w.both(meter.Instantiate, "creator", `{}`)
	for id, on := range []string{"always", "success", "error", "never"} {
		if o := w.both(meter.Execute, "creator", fmt.Sprintf(sub, id, on)); o.End != vm.Returned || !strings.Contains(string(o.Data), fmt.Sprintf(`"reply_on":%q`, on)) {
			t.Errorf("%s: %v %s %s", on, o.End, o.Detail, o.Data)
		}
	}
	for id, result := range []string{
		`{"ok":{"events":[],"data":null,"msg_responses":[]}}`,
		`{"ok":{"events":[{"type":"transfer","attributes":[{"key":"amount","value":"7earth"},{"key":"to","value":"\u00e9 \" \\"}]}],"data":"AAEC/w==","msg_responses":[{"type_url":"/cosmos.bank.v1beta1.MsgSendResponse","value":""}]}}`,
		`{"error":"codespace: sdk, code: 5"}`, // an empty one is no reply in wasmvm's types
	} {
		reply := w.ourText("reply", fmt.Appendf(nil, `{"id":%d,"payload":"cGF5bG9hZA==","gas_used":1234567,"result":%s}`, id, result))
		if o := w.both(meter.Reply, "", string(reply)); o.End != vm.Returned || !strings.Contains(string(o.Data), `"ok"`) {
			t.Errorf("%s: %v %s %s", reply, o.End, o.Detail, o.Data)
		}
		if o := w.both(meter.Query, "", fmt.Sprintf(`{"sub_msg_result":{"id":%d}}`, id)); o.End != vm.Returned || !strings.Contains(string(o.Data), `"ok"`) {
			t.Errorf("%d: %v %s %s", id, o.End, o.Detail, o.Data)
		}
	}
	if o := w.both(meter.Query, "", `{"sub_msg_result":{"id":99}}`); !strings.Contains(string(o.Data), `"error"`) {
		t.Errorf("%v %s", o.End, o.Data)
	}
}

// TestHackatomsAddresses: what a contract is told of an address that is none is what
// wasmvm tells it, to the letter.
func TestHackatomsAddresses(t *testing.T) {
	w := newWorld(t, wasmOf(t, "hackatom.wasm"))
	for address, why := range map[string]string{
		"": "Input is empty", "fr": "invalid address", "Fred": "Address is not normalized", "FRED": "Address is not normalized",
		strings.Repeat("a", 65): "invalid address", strings.Repeat("a", 200): "invalid address", "fred": "", "\u00fcber": "",
	} {
		o := w.both(meter.Instantiate, "creator", fmt.Sprintf(`{"verifier":"%s","beneficiary":"bob"}`, address))
		if o.End != vm.Returned || !strings.Contains(string(o.Data), why) || (why == "") != strings.Contains(string(o.Data), `"ok"`) {
			t.Errorf("%.70q: %v %s %s", address, o.End, o.Detail, o.Data)
		}
	}
}
