package meter

import (
	"slices"
	"strings"

	"github.com/hypermesh/hypermesh/internal/wasm"
)

// checkContract holds a decoded module to the contract interface, and returns
// what its exports say.
func checkContract(m *module, offered []string) (found map[Entry]int, requires []string, err error) {
	if err := checkImports(m); err != nil {
		return nil, nil, err
	}
	functions := map[string]functionType{}
	marked := false
	memory := false
	for _, e := range m.exports {
		marked = marked || e.name == interfaceMarker
		if e.kind == wasm.KindFunction {
			functions[e.name] = m.types[m.functions[e.index]]
			if int(e.index) < len(m.imports) && called(e.name) {
				return nil, nil, refuse(RuleExport, "%q is an import", e.name)
			}
		}
		memory = memory || e.kind == wasm.KindMemory && e.name == exportMemory
		switch {
		case strings.HasPrefix(e.name, interfacePrefix) && e.name != interfaceMarker:
			return nil, nil, refuse(RuleInterface, "%s, want %s", clipped(e.name), interfaceMarker)
		case strings.HasPrefix(e.name, requiresPrefix):
			requires = append(requires, strings.TrimPrefix(e.name, requiresPrefix))
		}
	}
	if !m.hasMemory {
		return nil, nil, refuse(RuleMemory, "module has no memory")
	}
	if !memory {
		return nil, nil, refuse(RuleExport, "no memory is exported as %q", exportMemory)
	}
	if !marked {
		return nil, nil, refuse(RuleInterface, "%s is not exported", interfaceMarker)
	}
	for _, want := range required {
		if of, there := functions[want.name]; !there {
			return nil, nil, refuse(RuleExport, "no function is exported as %q", want.name)
		} else if !of.equal(want.of) {
			return nil, nil, refuse(RuleExport, "%q has another type", want.name)
		}
	}
	if found, err = checkEntries(functions); err != nil {
		return nil, nil, err
	}
	slices.Sort(requires)
	for _, name := range requires {
		if !slices.Contains(offered, name) {
			return nil, nil, refuse(RuleCapability, "%s is not offered", clipped(name))
		}
	}
	return found, requires, nil
}

// called tells whether the host calls an export of that name. What it calls is the
// contract's own: an import would run without a frame that is counted, and could be
// the one that has it called.
func called(name string) bool {
	return Entry(name).Known() || slices.ContainsFunc(required, func(r requirement) bool { return r.name == name })
}

func checkEntries(functions map[string]functionType) (map[Entry]int, error) {
	found := map[Entry]int{}
	for _, entry := range entries {
		of, there := functions[string(entry)]
		if !there {
			continue
		}
		if !entry.params(len(of.params)) || !of.equal(typeOf(len(of.params), wasm.I32)) {
			return nil, refuse(RuleExport, "%q has another type", string(entry))
		}
		found[entry] = len(of.params)
	}
	return found, nil
}

func checkImports(m *module) error {
	for _, in := range m.imports {
		want, known := hostCallType(in.name)
		if in.from != importModule || !known {
			return refuse(RuleImport, "%s %s is not there", clipped(in.from), clipped(in.name))
		}
		if !m.types[in.of].equal(want) {
			return refuse(RuleImport, "%q has another type", in.name)
		}
	}
	return nil
}

// unsupported names the proposal that an instruction is from.
func unsupported(u *wasm.Unsupported) error {
	rule := RuleInstructions
	switch {
	case u.Prefix == 0xfd:
		rule = RuleSIMD
	case u.Prefix != 0:
	case u.Code == 0xfe:
		rule = RuleThreads
	case u.Code == 0x12 || u.Code == 0x13 || u.Code == 0x15:
		rule = RuleTailCalls
	case u.Code >= 0x06 && u.Code <= 0x0a || u.Code == 0x18 || u.Code == 0x19 || u.Code == 0x1f:
		rule = RuleExceptions
	}
	return refuse(rule, "%v", u)
}

// checkOp refuses instructions of WebAssembly 2.0 that are not of the dialect.
func checkOp(op wasm.Op) error {
	switch {
	case op.Vector():
		return refuse(RuleSIMD, "instruction 0x%04x", uint16(op))
	case op >= wasm.OpMemoryInit && op <= wasm.OpMemoryFill:
		return refuse(RuleBulkMemory, "instruction 0x%04x", uint16(op))
	case op >= wasm.OpTableInit && op <= wasm.OpTableFill,
		op == wasm.OpTableGet, op == wasm.OpTableSet, op == wasm.OpSelectTyped,
		op == wasm.OpRefNull, op == wasm.OpRefIsNull, op == wasm.OpRefFunc:
		return refuse(RuleReferences, "instruction 0x%02x", uint16(op))
	default:
		return nil
	}
}
