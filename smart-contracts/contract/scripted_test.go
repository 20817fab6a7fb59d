package contract_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/wasm"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
)

// scripted is a VM whose contracts do what they are told: a message, or the payload
// of a reply, is a script.
type scripted struct {
	fault  error
	depth  int  // the deepest call
	unpaid bool // of the last call
}

// script is what a contract does when it is called, and what it answers.
type script struct {
	Do     []step          `json:"do"`
	Ok     json.RawMessage `json:"ok"`    // of its answer
	Error  *string         `json:"error"` // its answer instead
	Raw    *string         `json:"raw"`   // what it answers, whatever that is
	Answer string          `json:"answer"`
	Again  bool            `json:"again"` // it calls itself with the same, or asks itself
}

type step struct {
	Write  []string        `json:"write"` // key, value
	Read   *string         `json:"read"`
	Remove *string         `json:"remove"`
	Scan   []string        `json:"scan"` // order, start, end; "" is no bound
	Query  json.RawMessage `json:"query"`
	Spend  uint64          `json:"spend"` // points
	End    string          `json:"end"`   // how the call ends here
	Long   int             `json:"long"`  // a key of so many bytes is written
}

const scriptPoints = 1_000

// Run does what the last argument says; of a reply, what its payload says.
func (v *scripted) Run(code contract.Program, call contract.Call, reach contract.Reach) (contract.Outcome, error) {
	if v.fault != nil {
		return contract.Outcome{}, v.fault
	}
	if _, err := code.Load(); err != nil {
		return contract.Outcome{}, err
	}
	v.depth, v.unpaid = max(v.depth, call.Depth), call.Unpaid
	text := call.Args[len(call.Args)-1]
	if call.Entry == meter.Migrate {
		text = call.Args[1]
	}
	told := ""
	if call.Entry == meter.Reply {
		var reply struct {
			Payload []byte          `json:"payload"`
			Result  json.RawMessage `json:"result"`
		}
		if err := json.Unmarshal(text, &reply); err != nil {
			return contract.Outcome{}, err
		}
		told, text = string(reply.Result), reply.Payload
	}
	var s script
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return contract.Outcome{End: contract.Aborted, Points: min(scriptPoints, call.Points)}, nil
	}
	if s.Again && call.Entry == meter.Query {
		s.Do = append(s.Do, step{Query: fmt.Appendf(nil, `{"wasm":{"smart":{"contract_addr":%s,"msg":%s}}}`, itself(call), must(json.Marshal(text)))})
	} else if s.Again {
		s.Ok = fmt.Appendf(nil, `{"messages":[{"id":1,"msg":{"wasm":{"execute":{"contract_addr":%s,"msg":%s,"funds":[]}}},"gas_limit":null,"reply_on":"never"}],"attributes":[],"events":[]}`,
			itself(call), must(json.Marshal(text)))
	}
	m := &scriptRun{reach: reach, left: call.Points, query: call.Entry == meter.Query}
	m.spend(scriptPoints)
	for i := range s.Do {
		if m.end != 0 || m.err != nil {
			break
		}
		m.step(&s.Do[i])
	}
	if m.err != nil {
		return contract.Outcome{}, m.err
	}
	out := contract.Outcome{End: m.end, Points: call.Points - m.left}
	if s.Error != nil {
		out.Detail = *s.Error // of an end that is no answer
	}
	switch m.end {
	case 0:
		out.End, out.Data = contract.Returned, m.answer(&s, told, call.Entry)
		return out, nil
	case contract.Aborted, contract.Misused:
		return out, nil
	default:
		out.Points = call.Points
		return out, nil
	}
}

// itself is the address of who is called, in quotes.
func itself(call contract.Call) []byte {
	var env struct {
		Contract struct {
			Address json.RawMessage `json:"address"`
		} `json:"contract"`
	}
	if err := json.Unmarshal(call.Args[0], &env); err != nil {
		panic(err)
	}
	return env.Contract.Address
}

type scriptRun struct {
	reach contract.Reach
	left  uint64
	end   contract.End
	err   error
	query bool
	seen  []string
}

// answer is JSON; of {"seen"} in it, what the steps have seen becomes of it.
func (m *scriptRun) answer(s *script, told string, entry meter.Entry) []byte {
	switch {
	case s.Raw != nil:
		return []byte(*s.Raw)
	case s.Error != nil:
		return fmt.Appendf(nil, `{"error":%s}`, quote(*s.Error))
	case entry == meter.Query:
		data, _ := json.Marshal([]byte(fmt.Sprintf("{\"answer\":%s,\"seen\":%s}", quote(s.Answer), list(m.seen))))
		return fmt.Appendf(nil, `{"ok":%s}`, data)
	case s.Ok == nil:
		attributes := ""
		if told != "" {
			attributes = fmt.Sprintf(`{"key":"told","value":%s}`, quote(told))
		}
		for _, seen := range m.seen {
			if attributes != "" {
				attributes += ","
			}
			attributes += fmt.Sprintf(`{"key":"seen","value":%s}`, quote(seen))
		}
		return fmt.Appendf(nil, `{"ok":{"messages":[],"attributes":[%s],"events":[]}}`, attributes)
	default:
		return fmt.Appendf(nil, `{"ok":%s}`, s.Ok)
	}
}

func quote(s string) string { return string(must(json.Marshal(s))) }

func list(s []string) string { return string(must(json.Marshal(append([]string{}, s...)))) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (m *scriptRun) spend(points uint64) {
	if points > m.left {
		m.left, m.end = 0, contract.Spent
		return
	}
	m.left -= points
}

// paid is as the machine has it.
func (m *scriptRun) paid(points uint64, err error) bool {
	if _, ok := errors.AsType[*contract.Misuse](err); ok {
		m.end = contract.Misused
		return false
	}
	if m.err = err; err == nil {
		m.spend(points)
	}
	return err == nil && m.end == 0
}

func (m *scriptRun) step(s *step) {
	switch {
	case s.Write != nil:
		points, err := m.reach.Write([]byte(s.Write[0]), []byte(s.Write[1]))
		m.paid(points, err)
	case s.Long > 0:
		points, err := m.reach.Write(bytes.Repeat([]byte{'k'}, s.Long), []byte("v"))
		m.paid(points, err)
	case s.Read != nil:
		value, points, err := m.reach.Read([]byte(*s.Read))
		if m.paid(points, err) {
			m.seen = append(m.seen, *s.Read+" is "+string(value))
		}
	case s.Remove != nil:
		points, err := m.reach.Remove([]byte(*s.Remove))
		m.paid(points, err)
	case s.Scan != nil:
		m.scan(s)
	case s.Query != nil:
		answer, points, err := m.reach.Query(s.Query, m.left)
		if m.paid(points, err) {
			m.seen = append(m.seen, string(answer))
		}
	case s.Spend > 0:
		m.spend(s.Spend)
	case s.End != "":
		for end := contract.Aborted; end <= contract.Refused; end++ {
			if end.String() == s.End {
				m.end = end
			}
		}
	}
}

func bound(text string) []byte {
	if text == "" {
		return nil
	}
	return []byte(text)
}

func (m *scriptRun) scan(s *step) {
	order := contract.Ascending
	if s.Scan[0] == "down" {
		order = contract.Descending
	}
	walk, points, err := m.reach.Scan(bound(s.Scan[1]), bound(s.Scan[2]), order, m.left)
	if !m.paid(points, err) {
		return
	}
	defer walk.Close()
	var seen []string
	for {
		key, value, points, err := walk.Next()
		if !m.paid(points, err) {
			return
		}
		if key == nil {
			break
		}
		seen = append(seen, string(key)+"="+string(value))
	}
	m.seen = append(m.seen, strings.Join(seen, " "))
}

// moduleCode is a module of the interface, whose functions do nothing: the VM here does not
// run it. note tells several apart.
func moduleCode(note string) []byte {
	types := [][]byte{
		{0x60, 1, wasm.I32, 1, wasm.I32}, {0x60, 1, wasm.I32, 0}, {0x60, 0, 0},
		{0x60, 3, wasm.I32, wasm.I32, wasm.I32, 1, wasm.I32}, {0x60, 2, wasm.I32, wasm.I32, 1, wasm.I32},
	}
	functions := []struct {
		name string
		of   byte
	}{
		{"allocate", 0}, {"deallocate", 1}, {"interface_version_8", 2}, {"instantiate", 3}, {"execute", 3}, {"query", 4}, {"migrate", 4}, {"reply", 4},
	}
	named := func(name string, rest ...byte) []byte {
		return append(append([]byte{byte(len(name))}, name...), rest...)
	}
	count := func(n int, items ...byte) []byte { return append([]byte{byte(n)}, items...) }
	var ofs, exports, bodies []byte
	for i, f := range functions {
		ofs = append(ofs, f.of)
		exports = append(exports, named(f.name, 0, byte(i))...)
		bodies = append(bodies, 3, 0, 0x00, 0x0b)
	}
	exports = append(exports, named("memory", 2, 0)...)
	data := append([]byte{0, 0x41, 8, 0x0b, byte(len(note))}, note...)
	out := []byte("\x00asm\x01\x00\x00\x00")
	out = wasm.AppendSection(out, 1, count(len(types), bytes.Join(types, nil)...))
	out = wasm.AppendSection(out, 3, count(len(functions), ofs...))
	out = wasm.AppendSection(out, 5, []byte{1, 0, 1})
	out = wasm.AppendSection(out, 7, count(len(functions)+1, exports...))
	out = wasm.AppendSection(out, 10, count(len(functions), bodies...))
	return wasm.AppendSection(out, 11, count(1, data...))
}

var errNoMemory = errors.New("no memory")

// customSection is a section that nobody reads.
func customSection(bytes int) []byte {
	return wasm.AppendSection(nil, 0, append([]byte{1, 'x'}, make([]byte, bytes)...))
}

func partsOf(code []byte) (out []chain.StoreCode) {
	for at := 0; at < len(code); at += chain.MaxCodePart {
		out = append(out, chain.StoreCode{Checksum: sha256.Sum256(code), Size: uint64(len(code)), Offset: uint64(at), Part: code[at:min(at+chain.MaxCodePart, len(code))]})
	}
	return out
}
