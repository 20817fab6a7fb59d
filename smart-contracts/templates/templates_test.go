package templates_test

import (
	"bytes"
	"flag"
	"io/fs"
	"os"
	"testing"

	"github.com/hypermesh/hypermesh/sdk/assembly"
	"github.com/hypermesh/hypermesh/smart-contracts/cosmwasm"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/smart-contracts/templates"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

var update = flag.Bool("update", false, "build the templates anew")

func compiler(t *testing.T) assembly.Compiler {
	return assembly.Compiler{Tools: "../../bin/tools/assembly", Progress: t.Output()}
}

// TestModulesAreOfTheirSources needs no compiler: a module says what it was built of.
func TestModulesAreOfTheirSources(t *testing.T) {
	for _, name := range templates.Names() {
		module, project := load(t, name)
		if ok, err := assembly.IsOf(module, project); err != nil || !ok {
			t.Errorf("%s.wasm is of other sources, of another kit or compiler: go test ./smart-contracts/templates -run TestModulesAreBuiltOfTheirSources -update (%v)", name, err)
		}
		changed := bytes.Replace(module, []byte("source"), []byte("sourcf"), 1)
		if ok, err := assembly.IsOf(changed, project); err != nil || ok {
			t.Errorf("%s: another module passes, %v", name, err)
		}
	}
}

// TestModulesAreBuiltOfTheirSources builds each template again: byte for byte the same.
func TestModulesAreBuiltOfTheirSources(t *testing.T) {
	if testing.Short() && !*update {
		t.Skip("needs the compiler, as make e2e has it")
	}
	for _, name := range templates.Names() {
		sources, err := templates.Sources(name)
		if err != nil {
			t.Fatal(err)
		}
		built, err := compiler(t).Build(t.Context(), sources)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if *update {
			if err := os.WriteFile(name+"/"+name+".wasm", built, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if module, _ := load(t, name); !bytes.Equal(module, built) {
			t.Errorf("%s.wasm is not what its sources build: -update writes it anew", name)
		}
	}
}

// TestUnits runs the templates' own tests.
func TestUnits(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the compiler, as make e2e has it")
	}
	for _, name := range templates.Names() {
		t.Run(name, func(t *testing.T) {
			sources, err := templates.Sources(name)
			if err != nil {
				t.Fatal(err)
			}
			results, err := compiler(t).Test(t.Context(), sources)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range results {
				if r.Failed != "" {
					t.Errorf("%s: %s", r.Name, r.Failed)
				}
			}
			t.Logf("%d tests", len(results))
		})
	}
}

// contract is a template on the machine, with a storage and a clock of its own.
type contract struct {
	machine *vm.Machine
	code    vm.Code
	host    *assembly.Memory
	seconds uint64 // of the block
	points  uint64 // that the last call used
}

// load returns a template's module and project.
func load(t *testing.T, name string) ([]byte, fs.FS) {
	t.Helper()
	module, err := templates.Module(name)
	if err != nil {
		t.Fatal(err)
	}
	sources, err := templates.Sources(name)
	if err != nil {
		t.Fatal(err)
	}
	return module, sources
}

func deploy(t *testing.T, name string) *contract {
	t.Helper()
	module, _ := load(t, name)
	machine, err := vm.New(vm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(machine.Close)
	return &contract{machine: machine, code: assembly.CodeOf(module), host: assembly.NewMemory(), seconds: 1_700_000_000}
}

// run calls an entry. Why it was refused is the second value. A refused call leaves
// nothing, as on a chain.
func (c *contract) run(t *testing.T, entry meter.Entry, args ...[]byte) (data []byte, refusal string) {
	t.Helper()
	env := cosmwasm.Encode(cosmwasm.Env{
		Block:       cosmwasm.Block{Height: 12, Time: c.seconds * 1e9, ChainID: "test-1"},
		Transaction: &cosmwasm.Transaction{Index: 3}, Contract: "contract",
	})
	before := c.host.Clone()
	out, err := c.machine.Run(c.code, vm.Call{Entry: entry, Args: append([][]byte{env}, args...), Points: 1 << 32}, c.host)
	if err != nil {
		t.Fatal(err)
	}
	switch c.points = out.Points; out.End {
	case vm.Returned:
		return out.Data, ""
	case vm.Aborted:
		c.host = before
		return nil, out.Detail
	default:
		t.Fatalf("%s%s: %v: %s", entry, args, out.End, out.Detail)
		return nil, ""
	}
}

func (c *contract) answer(t *testing.T, entry meter.Entry, args ...[]byte) (cosmwasm.Response, string) {
	t.Helper()
	data, refusal := c.run(t, entry, args...)
	if refusal != "" {
		return cosmwasm.Response{}, refusal
	}
	answer, err := cosmwasm.DecodeAnswer(data)
	if err != nil {
		t.Fatalf("%s%s answers %s: %v", entry, args, data, err)
	}
	return answer.(cosmwasm.Response), ""
}

func info(sender string, funds []cosmwasm.Coin) []byte {
	return cosmwasm.Encode(cosmwasm.MessageInfo{Sender: sender, Funds: funds})
}

func (c *contract) instantiate(t *testing.T, sender, msg string) (cosmwasm.Response, string) {
	t.Helper()
	return c.answer(t, meter.Instantiate, info(sender, nil), []byte(msg))
}

func (c *contract) execute(t *testing.T, sender, msg string, funds ...cosmwasm.Coin) (cosmwasm.Response, string) {
	t.Helper()
	return c.answer(t, meter.Execute, info(sender, funds), []byte(msg))
}

// must executes what is not refused.
func (c *contract) must(t *testing.T, sender, msg string, funds ...cosmwasm.Coin) cosmwasm.Response {
	t.Helper()
	response, refusal := c.execute(t, sender, msg, funds...)
	if refusal != "" {
		t.Fatalf("%s: %s: %s", sender, msg, refusal)
	}
	return response
}

// refused executes what is refused, with those words.
func (c *contract) refused(t *testing.T, sender, msg, want string, funds ...cosmwasm.Coin) {
	t.Helper()
	if _, refusal := c.execute(t, sender, msg, funds...); refusal != want {
		t.Errorf("%s: %s: refused with %q, want %q", sender, msg, refusal, want)
	}
}

// query returns an answer's JSON, or why there is none.
func (c *contract) query(t *testing.T, msg string) string {
	t.Helper()
	data, refusal := c.run(t, meter.Query, []byte(msg))
	if refusal != "" {
		return refusal
	}
	answer, err := cosmwasm.DecodeQueryAnswer(data)
	if err != nil {
		t.Fatalf("%s answers %s: %v", msg, data, err)
	}
	return string(answer.(cosmwasm.Data).Bytes)
}

// answers holds an answer against what it should be.
func (c *contract) answers(t *testing.T, msg, want string) {
	t.Helper()
	if got := c.query(t, msg); got != want {
		t.Errorf("%s answers %s, want %s", msg, got, want)
	}
}
