package harness

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/cosmwasm"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
)

// Script is a contract in Go, which stands beside the one that is tested: one that receives what it sends, calls it back, or
// refuses. To the chain it is a contract as every other.
//
// It answers a query with what is written as JSON, and every other call with a cosmwasm.Response, or nil for an empty one. An
// error is its refusal. A script is as deterministic as it is written.
type Script func(s *Scene) (answer any, err error)

// Scene is what a script is called with, and reaches.
type Scene struct {
	Entry string // "instantiate", "execute", "migrate", "reply", "query"
	Env   cosmwasm.Env
	Info  cosmwasm.MessageInfo // of instantiate and execute
	Msg   []byte               // JSON; of a reply a cosmwasm.Reply

	reach contract.Reach
	left  uint64 // points
}

// scriptPoints is what a call of a script costs, beside what it reaches.
const scriptPoints = 10_000

// What a scene's methods end a call with.
type (
	sceneSpent   struct{}
	sceneMisused struct{ why string }
	sceneFault   struct{ err error }
)

// StoreScript puts a script on the chain, as code of a number.
func (h *Harness) StoreScript(s Script) (code uint64, err error) {
	module := blank(uint64(len(h.machine.scripts)))
	of := contract.Code{Checksum: sha256.Sum256(module)}
	h.machine.scripts[of.Program(nil).ID] = s
	return h.Store(module)
}

// blankModule is a module of the contract interface whose functions do nothing.
const blankModule = "0061736d01000000011a0560017f017f60017f0060000060037f7f7f017f60027f7f017f03090800010203030404040503010001076a0908616c6c6f6361746500000a6465616c6c6f63617465000113696e746572666163655f76657273696f6e5f3800020b696e7374616e74696174650003076578656375746500040571756572790005076d6967726174650006057265706c790007066d656d6f727902000a21080300000b0300000b0300000b0300000b0300000b0300000b0300000b0300000b0b07010041080b0178"

// blank is such a module, of a checksum of its own.
func blank(number uint64) []byte {
	module, err := hex.DecodeString(blankModule)
	if err != nil {
		panic("harness: " + err.Error())
	}
	const name = "script"
	section := append([]byte{byte(len(name))}, name...)
	section = binary.BigEndian.AppendUint64(section, number)
	return append(append(module, 0, byte(len(section))), section...)
}

// run runs a script as the machine runs code.
func (s Script) run(call *contract.Call, reach contract.Reach) (out contract.Outcome, err error) {
	if call.Points < scriptPoints {
		return contract.Outcome{End: contract.Spent, Points: call.Points}, nil
	}
	scene := &Scene{Entry: string(call.Entry), Msg: msgOf(call), reach: reach, left: call.Points - scriptPoints}
	if scene.Env, err = cosmwasm.Decode[cosmwasm.Env](call.Args[0]); err != nil {
		return out, err
	}
	if call.Entry == meter.Instantiate || call.Entry == meter.Execute {
		if scene.Info, err = cosmwasm.Decode[cosmwasm.MessageInfo](call.Args[1]); err != nil {
			return out, err
		}
	}
	defer func() {
		switch p := recover().(type) {
		case nil:
		case sceneSpent:
			out = contract.Outcome{End: contract.Spent, Points: call.Points}
		case sceneMisused:
			out = contract.Outcome{End: contract.Misused, Points: call.Points - scene.left, Detail: p.why}
		case sceneFault:
			out, err = contract.Outcome{}, p.err
		default:
			panic(p)
		}
	}()
	answer, refusal := s(scene)
	data, err := scene.answered(answer, refusal)
	return contract.Outcome{End: contract.Returned, Data: data, Points: call.Points - scene.left}, err
}

// answered is an answer as contracts write it.
func (s *Scene) answered(answer any, refusal error) ([]byte, error) {
	if s.Entry == string(meter.Query) {
		if refusal != nil {
			return cosmwasm.EncodeQueryAnswer(cosmwasm.Failure{Text: refusal.Error()}), nil
		}
		text, err := json.Marshal(answer)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrScript, err)
		}
		return cosmwasm.EncodeQueryAnswer(cosmwasm.Data{Bytes: text}), nil
	}
	if refusal != nil {
		return cosmwasm.EncodeAnswer(cosmwasm.Failure{Text: refusal.Error()}), nil
	}
	switch a := answer.(type) {
	case nil:
		return cosmwasm.EncodeAnswer(cosmwasm.Response{}), nil
	case cosmwasm.Response:
		return cosmwasm.EncodeAnswer(a), nil
	}
	return nil, fmt.Errorf("%w: to %s it is a %T, want a cosmwasm.Response", ErrScript, s.Entry, answer)
}

// paid takes points for what was reached, and ends the call if it may not go on.
func (s *Scene) paid(points uint64, err error) {
	if misuse, ok := errors.AsType[*contract.Misuse](err); ok {
		panic(sceneMisused{misuse.Why})
	}
	if err != nil {
		panic(sceneFault{err})
	}
	if points > s.left {
		panic(sceneSpent{})
	}
	s.left -= points
}

// Get returns what the contract keeps under a key, nil if that is nothing.
func (s *Scene) Get(key string) []byte {
	value, points, err := s.reach.Read([]byte(key))
	s.paid(points, err)
	return value
}

// Set keeps a value under a key, or nothing if the value is empty. A query may not.
func (s *Scene) Set(key string, value []byte) {
	if s.Entry == string(meter.Query) {
		panic(sceneMisused{"a query that writes"})
	}
	var points uint64
	var err error
	if len(value) == 0 {
		points, err = s.reach.Remove([]byte(key))
	} else {
		points, err = s.reach.Write([]byte(key), value)
	}
	s.paid(points, err)
}

// Ask asks another contract, or the chain, and returns what it answered, as JSON. A query is a
// cosmwasm.Query, or JSON as messages are.
func (s *Scene) Ask(query any) ([]byte, error) {
	var text []byte
	var err error
	if q, ok := query.(cosmwasm.Query); ok {
		text = cosmwasm.EncodeQuery(q)
	} else if text, err = textOf(query); err != nil {
		return nil, err
	}
	text, points, err := s.reach.Query(text, s.left)
	s.paid(points, err)
	reached, err := cosmwasm.DecodeReached(text)
	if err != nil {
		panic(sceneFault{err})
	}
	answered, ok := reached.(cosmwasm.Answered)
	if !ok {
		return nil, fmt.Errorf("nobody was asked: %s", text)
	}
	if failed, ok := answered.Answer.(cosmwasm.Failure); ok {
		return nil, errors.New(failed.Text)
	}
	return answered.Answer.(cosmwasm.Data).Bytes, nil
}

var _ contract.VM = (*traced)(nil)
