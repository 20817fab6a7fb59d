package contract_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/tokens"
)

// world is a chain of nothing but accounts and contracts.
type world struct {
	state *state.Overlay
	vm    *scripted
	env   contract.Env
	made  []chain.Address
	tx    byte
}

const testGas = 5_000_000

func prices() contract.Prices {
	p := contract.PricesV1()
	p.Read, p.ReadByte, p.Write, p.Insert, p.WriteByte = 800, 1, 1_000, 800, 4
	return p
}

var people = []string{"alice", "bob", "carol", "payer"}

func person(name string) chain.Address { return chain.ModuleAddress(name) }

func newWorld() *world {
	w := &world{state: state.NewOverlay(state.NewMemoryBackend()), vm: &scripted{}}
	w.env = contract.Env{ChainID: "hyper-test", Height: 1, Now: 1_790_000_000_000, Payer: person("payer"), Prices: prices(), VM: w.vm}
	var total chain.Amount
	for _, name := range people {
		tokens.Credit(w.state, person(name), chain.Hyper(100))
		total, _ = total.Add(chain.Hyper(100))
	}
	tokens.Mint(w.state, total)
	return w
}

// do does a message as the transaction of its own that it would be.
func (w *world) do(from chain.Address, m chain.Msg, gas uint64) contract.Result {
	return w.doFor(from, m, gas, chain.Hyper(50))
}

// doFor has the payer pay at most so much for room.
func (w *world) doFor(from chain.Address, m chain.Msg, gas uint64, most chain.Amount) contract.Result {
	switch call := m.(type) {
	case chain.InstantiateContract:
		call.MaxDeposit = most
		m = call
	case chain.ExecuteContract:
		call.MaxDeposit = most
		m = call
	case chain.MigrateContract:
		call.MaxDeposit = most
		m = call
	}
	w.tx++
	w.env.Tx = &contract.Tx{Index: 3, ID: chain.TxID{w.tx}}
	layer := state.NewOverlay(w.state)
	did := contract.Do(layer, &w.env, from, m, gas)
	if did.Why != nil {
		return did
	}
	layer.Flush(w.state)
	for _, e := range did.Events {
		if made, ok := e.(chain.ContractInstantiated); ok {
			w.made = append(w.made, made.Contract)
		}
	}
	return did
}

// store stores code, and lets the blocks pass until it runs.
func (w *world) store(from chain.Address, code []byte) contract.Result {
	did := w.upload(from, code)
	w.compiled()
	return did
}

// upload stores code.
func (w *world) upload(from chain.Address, code []byte) contract.Result {
	return w.do(from, chain.StoreCode{Checksum: sha256.Sum256(code), Size: uint64(len(code)), Part: code}, testGas)
}

// compiled lets blocks pass until all code runs.
func (w *world) compiled() {
	w.env.Height += contract.CallableAfter
	w.env.ProgressMs = max(w.env.ProgressMs, w.debt().Until)
}

func (w *world) debt() contract.Debt {
	debt, _ := state.Load[contract.Debt](w.state, contract.DebtKey()) // none: zero
	return debt
}

// held is all that there is, which is what was minted and not burned.
func (w *world) held() (total chain.Amount) {
	for key, value := range w.state.Iterate([]byte{0}, nil) {
		amount := chain.Amount{}
		switch key[0] {
		case tokens.Prefix:
			_, amount = tokens.ValueOf(key, value)
		case contract.Prefix:
			_, amount = contract.ValueOf(key, value)
		}
		total, _ = total.Add(amount)
	}
	return total
}

func (w *world) conserved() error {
	supply := tokens.SupplyOf(w.state)
	if want, _ := supply.Minted.Sub(supply.Burned); w.held() != want {
		return fmt.Errorf("there is %s, and was minted and not burned %s", w.held(), want)
	}
	return w.pins()
}

// pins is an error if what is said to be pinned is not what is.
func (w *world) pins() error {
	pins := contract.PinsOfState()
	for key, value := range w.state.Iterate([]byte{contract.Prefix}, []byte{contract.Prefix + 1}) {
		pins.Add(key, value)
	}
	return pins.Differs()
}

// names writes names for addresses, and addresses for $names.
func (w *world) names(text string, in bool) string {
	swap := func(name string, a chain.Address) {
		if in {
			text = strings.ReplaceAll(text, "$"+name+"$", a.String())
		} else {
			text = strings.ReplaceAll(strings.ReplaceAll(text, a.String(), name), a.Short(), name)
		}
	}
	for _, name := range people {
		swap(name, person(name))
	}
	for i, a := range w.made {
		swap(fmt.Sprintf("c%d", i+1), a)
	}
	return text
}

// inBase64 writes what stands in << and >> as base64, the innermost first.
func inBase64(text string) string {
	for {
		at := strings.LastIndex(text, "<<")
		if at < 0 {
			return text
		}
		inner, rest, _ := strings.Cut(text[at+2:], ">>")
		text = text[:at] + `"` + base64.StdEncoding.EncodeToString([]byte(inner)) + `"` + rest
	}
}

func (w *world) address(name string) chain.Address {
	if n, err := strconv.Atoi(strings.TrimPrefix(name, "c")); err == nil && n <= len(w.made) {
		return w.made[n-1]
	}
	return person(name)
}

// command does one line of a transcript and says what came of it.
func (w *world) command(line string) string {
	line, msg, _ := strings.Cut(line, " <- ")
	words := strings.Fields(line)
	options := map[string]string{}
	words = slices.DeleteFunc(words, func(word string) bool {
		name, value, ok := strings.Cut(word, "=")
		if ok {
			options[name] = value
		}
		return ok
	})
	number := func(name string, otherwise uint64) uint64 {
		if n, err := strconv.ParseUint(options[name], 10, 64); err == nil {
			return n
		}
		return otherwise
	}
	most := chain.Nano(number("most", chain.Hyper(50).Nano()))
	do := func(from chain.Address, m chain.Msg, gas uint64) contract.Result { return w.doFor(from, m, gas, most) }
	funds, gas := chain.Nano(number("funds", 0)), number("gas", testGas)
	text := []byte(inBase64(w.names(msg, true)))
	switch words[0] {
	case "store":
		return w.outcome(w.store(person(words[1]), moduleCode(words[2])))
	case "upload":
		return w.outcome(w.upload(person(words[1]), moduleCode(words[2])))
	case "pin", "later", "loaded", "pinned":
		return w.pinCommand(words, gas, number)
	case "pass":
		w.env.Height += chain.Height(number("blocks", 1))
		w.env.ProgressMs += number("ms", 0)
		return fmt.Sprintf("height %d, progress %d ms, compiled at %d ms\n", w.env.Height, w.env.ProgressMs, w.debt().Until)
	case "owes":
		state.Save(w.state, contract.DebtKey(), contract.Debt{Until: w.env.ProgressMs + number("ms", 0)})
		return "so be it\n"
	case "instantiate":
		m := chain.InstantiateContract{Code: number("code", 1), Label: "of " + words[1], Msg: text, Funds: funds, Salt: []byte(options["salt"])}
		if name, ok := options["admin"]; ok {
			a := w.address(name)
			m.Admin = &a
		}
		return w.outcome(do(person(words[1]), m, gas))
	case "execute":
		return w.outcome(do(w.address(words[1]), chain.ExecuteContract{Contract: w.address(words[2]), Msg: text, Funds: funds}, gas))
	case "migrate":
		return w.outcome(do(w.address(words[1]), chain.MigrateContract{Contract: w.address(words[2]), Code: number("code", 1), Msg: text}, gas))
	case "admin":
		m := chain.SetContractAdmin{Contract: w.address(words[2])}
		if name, ok := options["to"]; ok {
			a := w.address(name)
			m.Admin = &a
		}
		return w.outcome(do(w.address(words[1]), m, gas))
	case "query":
		answer, _, why := contract.Ask(w.state, &w.env, w.address(words[1]), text, gas)
		if why != nil {
			return "refused: " + why.Reason() + "\n"
		}
		return string(answer) + "\n"
	case "keeps":
		return w.keeps(w.address(words[1]))
	case "has":
		return tokens.AccountOf(w.state, w.address(words[1])).Balance.String() + "\n"
	}
	return "unknown command\n"
}

func (w *world) keeps(a chain.Address) string {
	var out strings.Builder
	c, _ := contract.ContractOf(w.state, a)
	fmt.Fprintf(&out, "%d bytes for %s\n", c.Bytes, c.Pool)
	prefix := contract.StorageKey(a, nil)
	for key, value := range w.state.Iterate(prefix, append(slices.Clone(prefix), 0xff)) {
		fmt.Fprintf(&out, "%s=%s\n", key[len(prefix):], value)
	}
	return out.String()
}

func (w *world) outcome(did contract.Result) string {
	var out strings.Builder
	if did.Spent {
		fmt.Fprintf(&out, "spent %d\n", did.Gas)
	} else if did.Why != nil {
		fmt.Fprintf(&out, "refused for %d gas: %s\n", did.Gas, did.Why.Reason())
	} else {
		fmt.Fprintf(&out, "done for %d gas\n", did.Gas)
	}
	for _, e := range did.Events {
		text := string(must(json.Marshal(e)))
		text = strings.ReplaceAll(text, `,"data":null`, "")
		fmt.Fprintf(&out, "%s %s\n", chain.EventName(e), text)
	}
	return out.String()
}

// TestTranscripts does what stands in testdata/*.txt: commands, each followed by what came
// of it.
func TestTranscripts(t *testing.T) {
	golden.Scripts(t, "testdata/*.txt", func(t *testing.T, script string) string {
		w, got := newWorld(), strings.Builder{}
		lines := bufio.NewScanner(strings.NewReader(script))
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			line := lines.Text()
			if strings.HasPrefix(line, "> ") {
				fmt.Fprintln(&got, line)
				for said := range strings.Lines(w.names(w.command(line[2:]), false)) {
					got.WriteString("    " + said)
				}
				if err := w.conserved(); err != nil {
					t.Fatalf("%s: %v", line, err)
				}
			} else if !strings.HasPrefix(line, "    ") {
				fmt.Fprintln(&got, line)
			}
		}
		return got.String()
	})
}
