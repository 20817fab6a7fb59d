package meter

import (
	"errors"
	"fmt"
)

// Rule names what a module is refused for. The names are part of what uploads
// answer with, and do not change.
type Rule string

// The rules that a module is held to.
const (
	RuleFormat       Rule = "format"            // the bytes are no module
	RuleInvalid      Rule = "invalid"           // WebAssembly's own rules
	RuleSize         Rule = "size"              // something is larger or more than it may be
	RuleStart        Rule = "start_function"    // code would run while it is instantiated
	RuleMemory       Rule = "memory"            // not exactly one memory of its own
	RuleTable        Rule = "table"             // more than one table, or of another type
	RuleImport       Rule = "import"            // nothing of that name or type is there to import
	RuleExport       Rule = "export"            // something is not exported, or as another type
	RuleInterface    Rule = "interface_version" // made for another interface
	RuleCapability   Rule = "capability"        // requires what this chain does not offer
	RuleSIMD         Rule = "simd"              // 128-bit vectors
	RuleBulkMemory   Rule = "bulk_memory"       // copies and fills of any length in one instruction
	RuleReferences   Rule = "reference_types"   // values that refer to functions or to the host
	RuleThreads      Rule = "threads"           // shared memory and atomics
	RuleTailCalls    Rule = "tail_calls"        // calls in place of the caller
	RuleExceptions   Rule = "exceptions"        // throwing and catching
	RuleInstructions Rule = "instruction"       // any other instruction that is not of the dialect
)

// Refusal says why a module is not taken. It is an error of whoever made the
// module, and the same on every node.
type Refusal struct {
	Rule   Rule
	Detail string
}

func (r *Refusal) Error() string { return string(r.Rule) + ": " + r.Detail }

func refuse(rule Rule, format string, args ...any) error {
	return &Refusal{rule, fmt.Sprintf(format, args...)}
}

// clipped is a name in a refusal.
func clipped(name string) string {
	const most = 64
	if len(name) <= most {
		return fmt.Sprintf("%q", name)
	}
	return fmt.Sprintf("%q…", name[:most])
}

// within says in which function a refusal's reason is.
func within(function int, err error) error {
	r, ok := errors.AsType[*Refusal](err)
	if !ok {
		panic("meter: an error that is no refusal: " + err.Error())
	}
	return refuse(r.Rule, "function %d: %s", function, r.Detail)
}
