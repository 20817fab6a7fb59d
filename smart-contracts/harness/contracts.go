package harness

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
)

// Store puts code on the chain, waits until contracts of it run, and returns its number. The
// treasury sends it.
func (h *Harness) Store(module []byte) (code uint64, err error) {
	for at := 0; at == 0 || at < len(module); at += chain.MaxCodePart {
		part := module[at:min(at+chain.MaxCodePart, len(module))]
		r, err := h.Do(h.treasury, chain.StoreCode{Checksum: sha256.Sum256(module), Size: uint64(len(module)), Offset: uint64(at), Part: part})
		if err != nil {
			return 0, err
		}
		code = r.Code
	}
	if err := h.Blocks(contract.CallableAfter); err != nil {
		return 0, err
	}
	for {
		stored, _ := contract.CodeOf(h.state, code)
		if stored.WaitMs(h.head().ProgressMs) == 0 {
			return code, nil
		}
		if err := h.Blocks(1); err != nil {
			return 0, err
		}
	}
}

// mostForRoom is what the harness pays for the room of a call: more than there is gas for.
var mostForRoom = chain.Hyper(1_000_000)

// Making is how a contract is made. The zero value is enough for most.
type Making struct {
	Label string   // for people ["contract"]
	Admin *Address // who may migrate it; nil: nobody
	Funds uint64   // nHYPER that it gets
	Salt  []byte   // for an address that can be told before; none: the chain counts
}

// Instantiate makes a contract of code. Its address is in the Result.
func (h *Harness) Instantiate(from Account, code uint64, msg any, how Making) (*Result, error) {
	text, err := textOf(msg)
	if err != nil {
		return nil, err
	}
	if how.Label == "" {
		how.Label = "contract"
	}
	return h.Do(from, chain.InstantiateContract{
		Code: code, Admin: how.Admin, Label: how.Label, Msg: text, Funds: chain.Nano(how.Funds), Salt: how.Salt,
		MaxDeposit: mostForRoom,
	})
}

// Execute calls a contract with a message: JSON as a string or bytes, or what is written as JSON. Amounts in nHYPER are
// sent with it.
func (h *Harness) Execute(from Account, to Address, msg any, funds ...uint64) (*Result, error) {
	text, err := textOf(msg)
	if err != nil {
		return nil, err
	}
	sum := chain.Amount{}
	for _, nano := range funds {
		var ok bool
		if sum, ok = sum.Add(chain.Nano(nano)); !ok {
			return nil, fmt.Errorf("%w: funds beyond every amount", ErrNotIncluded)
		}
	}
	return h.Do(from, chain.ExecuteContract{Contract: to, Msg: text, Funds: sum, MaxDeposit: mostForRoom})
}

// Migrate gives a contract other code, as its admin.
func (h *Harness) Migrate(from Account, of Address, code uint64, msg any) (*Result, error) {
	text, err := textOf(msg)
	if err != nil {
		return nil, err
	}
	return h.Do(from, chain.MigrateContract{Contract: of, Code: code, Msg: text, MaxDeposit: mostForRoom})
}

// SetAdmin gives a contract another admin, or none, as its admin.
func (h *Harness) SetAdmin(from Account, of Address, admin *Address) (*Result, error) {
	return h.Do(from, chain.SetContractAdmin{Contract: of, Admin: admin})
}

// Pin has every node keep code in memory for some periods more, and burns what that costs.
func (h *Harness) Pin(from Account, code, periods uint64) (*Result, error) {
	return h.Do(from, chain.PinCode{Code: code, Periods: periods, MaxBurn: contract.PinCost(contract.PinnedBytes, chain.MaxPinPeriods)})
}

// Answer is what a contract answered to a query.
type Answer struct {
	JSON  []byte
	Gas   uint64
	Calls []Call // of the contract that was asked, and of those that it asked
}

// Query asks a contract, as of the last block. It is a *Refused if there is no answer.
func (h *Harness) Query(of Address, msg any) (Answer, error) {
	text, err := textOf(msg)
	if err != nil {
		return Answer{}, err
	}
	h.machine.begin()
	answer, gas, why, err := h.executor.AskContract(context.Background(), h.state, of, text)
	calls := h.machine.end()
	if err != nil {
		return Answer{}, err
	}
	if why != nil {
		return Answer{}, refusedOf(why.Reason(), gas.Units(), calls)
	}
	return Answer{JSON: answer, Gas: gas.Units(), Calls: calls}, nil
}

// QueryInto asks a contract and reads its answer.
func (h *Harness) QueryInto(of Address, msg, into any) error {
	answer, err := h.Query(of, msg)
	if err != nil {
		return err
	}
	return json.Unmarshal(answer.JSON, into)
}

// Raw returns what a contract keeps under a key, nil if that is nothing.
func (h *Harness) Raw(of Address, key []byte) []byte {
	if len(key) > contract.MaxKeyBytes {
		return nil
	}
	value, _ := h.state.Get(contract.StorageKey(of, key))
	return value
}

// Contract returns what the chain keeps of a contract, and false if there is none.
func (h *Harness) Contract(of Address) (contract.Contract, bool) {
	return contract.ContractOf(h.state, of)
}

// textOf is a message as the chain takes it. What is given as text goes as it is: contracts
// are to be tested with what is no JSON, too.
func textOf(msg any) ([]byte, error) {
	switch m := msg.(type) {
	case string:
		return []byte(m), nil
	case []byte:
		return m, nil
	}
	text, err := json.Marshal(msg)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	return text, nil
}
