package assembly

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/hypermesh/hypermesh/smart-contracts/cosmwasm"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/smart-contracts/schema"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// withSchema returns a module with what its project says of its messages, if it says
// anything, and holds it to that: what the schema takes the contract does not refuse for its form.
func withSchema(module, text []byte) ([]byte, error) {
	if text == nil {
		return module, nil
	}
	compact, err := schema.Compact(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", schemaFile, err)
	}
	s, err := schema.Parse(compact)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", schemaFile, err)
	}
	if err := holds(module, s); err != nil {
		return nil, fmt.Errorf("%s: %w", schemaFile, err)
	}
	return appendSection(module, schema.Section, compact), nil
}

// aboutForms is how the kit begins refusals of messages for their form. Of a text that is no JSON it says other things: a
// contract may look for JSON within a text, of which the schema does not tell.
var aboutForms = []string{
	"unknown message ", "JSON: no field ", "JSON: unknown field ", "JSON: want ", "JSON: not a whole number", "JSON: number out of range", "JSON: not base64",
}

// holds shows the contract what the schema takes: each message without its fields, and samples of all. It refuses them for one
// reason or another, but not for their form; and what it answers to queries is as the schema says.
func holds(module []byte, s *schema.Schema) error {
	machine, err := vm.New(vm.Config{})
	if err != nil {
		return err
	}
	defer machine.Close()
	h := &holding{machine, CodeOf(module), s}
	for _, entry := range []meter.Entry{meter.Execute, meter.Query} {
		for _, name := range s.Messages(string(entry)) {
			out, err := h.call(NewMemory(), entry, fmt.Appendf(nil, `{%q:{}}`, name))
			if err != nil {
				return err
			}
			if out.End == vm.Aborted && out.Detail == "unknown message "+name {
				return fmt.Errorf("it has the message %q, which the contract does not know", name)
			}
		}
	}
	for _, begin := range s.Samples(string(meter.Instantiate)) {
		if _, err := h.begun(begin); err != nil {
			return err
		}
	}
	for _, entry := range []meter.Entry{meter.Execute, meter.Query} {
		for _, sample := range s.Samples(string(entry)) {
			if err := h.takes(entry, sample); err != nil {
				return err
			}
		}
	}
	return nil
}

// holding is a contract that is held to a schema.
type holding struct {
	machine *vm.Machine
	code    vm.Code
	schema  *schema.Schema
}

func (h *holding) call(host *Memory, entry meter.Entry, msg []byte) (vm.Outcome, error) {
	args := [][]byte{
		cosmwasm.Encode(cosmwasm.Env{Block: cosmwasm.Block{Height: 1, Time: 1_700_000_000_000_000_000, ChainID: "test-1"}, Contract: "contract"}),
		cosmwasm.Encode(cosmwasm.MessageInfo{Sender: "nobody"}),
		msg,
	}
	if entry == meter.Query {
		args = [][]byte{args[0], msg}
	}
	return h.machine.Run(h.code, vm.Call{Entry: entry, Args: args, Points: testPoints}, host)
}

// begun makes the contract with a sample; if it does not take it, for what it says, it is not there.
func (h *holding) begun(sample schema.Sample) (*Memory, error) {
	host := NewMemory()
	out, err := h.call(host, meter.Instantiate, sample.JSON)
	if err == nil {
		err = refusedForItsForm(meter.Instantiate, sample, out)
	}
	if err != nil {
		return nil, err
	}
	if out.End != vm.Returned {
		host = NewMemory()
	}
	return host, nil
}

// takes shows the contract a sample, each time as it was made by the first sample that it is made by.
func (h *holding) takes(entry meter.Entry, sample schema.Sample) error {
	host := NewMemory()
	if begins := h.schema.Samples(string(meter.Instantiate)); len(begins) > 0 {
		var err error
		if host, err = h.begun(begins[0]); err != nil {
			return err
		}
	}
	out, err := h.call(host, entry, sample.JSON)
	if err != nil {
		return err
	}
	if err := refusedForItsForm(entry, sample, out); err != nil || entry != meter.Query || out.End != vm.Returned {
		return err
	}
	var answer struct{ OK []byte }
	if err := json.Unmarshal(out.Data, &answer); err != nil {
		return fmt.Errorf("the answer to %s: %w", sample.JSON, err)
	}
	if err := h.schema.CheckAnswer(sample.Message, answer.OK); err != nil {
		return fmt.Errorf("the contract answers %s with %s: %w", sample.JSON, answer.OK, err)
	}
	return nil
}

func refusedForItsForm(entry meter.Entry, sample schema.Sample, out vm.Outcome) error {
	for _, about := range aboutForms {
		if out.End == vm.Aborted && strings.HasPrefix(out.Detail, about) {
			return fmt.Errorf("it takes, for %s, %s, and the contract says %q", entry, sample.JSON, out.Detail)
		}
	}
	return nil
}
