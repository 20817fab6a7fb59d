package assembly

import (
	"fmt"

	"github.com/hypermesh/hypermesh/smart-contracts/cosmwasm"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/smart-contracts/schema"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// withSchema returns a module with what its project says of its messages, if it says
// anything, and holds it to that: the contract knows every message that is told of.
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
	if err := known(module, s); err != nil {
		return nil, fmt.Errorf("%s: %w", schemaFile, err)
	}
	return appendSection(module, schema.Section, compact), nil
}

// known gives the contract each message without its fields. It is refused for one reason or another, but
// not as one that the contract does not know.
func known(module []byte, s *schema.Schema) error {
	machine, err := vm.New(vm.Config{})
	if err != nil {
		return err
	}
	defer machine.Close()
	code := CodeOf(module)
	env := cosmwasm.Encode(cosmwasm.Env{Block: cosmwasm.Block{Height: 1, Time: 1_700_000_000_000_000_000, ChainID: "test-1"}, Contract: "contract"})
	info := cosmwasm.Encode(cosmwasm.MessageInfo{Sender: "nobody"})
	for _, entry := range []meter.Entry{meter.Execute, meter.Query} {
		for _, name := range s.Messages(string(entry)) {
			args := [][]byte{env, info, fmt.Appendf(nil, `{%q:{}}`, name)}
			if entry == meter.Query {
				args = [][]byte{env, args[2]}
			}
			out, err := machine.Run(code, vm.Call{Entry: entry, Args: args, Points: testPoints}, NewMemory())
			if err != nil {
				return err
			}
			if out.End == vm.Aborted && out.Detail == "unknown message "+name {
				return fmt.Errorf("it has the message %q, which the contract does not know", name)
			}
		}
	}
	return nil
}
