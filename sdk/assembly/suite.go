package assembly

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// Result is how a test ended.
type Result struct {
	Name   string `json:"name"`
	Failed string `json:"failed,omitempty"` // why; empty: it passed
	Points uint64 `json:"points"`           // that it used
}

// testPoints is what one test may use.
const testPoints = 1 << 40

// maxTests bounds the tests of one module.
const maxTests = 10_000

// Test builds a project's tests and runs each on the machine.
func (c Compiler) Test(ctx context.Context, project fs.FS) (results []Result, err error) {
	s, err := sourcesOf(project)
	if err != nil {
		return nil, err
	}
	if s[testsFile] == nil {
		return nil, fmt.Errorf("the project has no %s", testsFile)
	}
	module, err := c.compile(ctx, s, testsFile)
	if err != nil {
		return nil, err
	}
	if err := check(module); err != nil {
		return nil, err
	}
	machine, err := vm.New(vm.Config{})
	if err != nil {
		return nil, err
	}
	defer machine.Close()
	r := runner{machine, CodeOf(module)}
	names, err := r.list()
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		result, err := r.run(i, name)
		if err != nil {
			return nil, err
		}
		results = append(results, result)
	}
	return results, nil
}

// CodeOf names a module for the machine.
func CodeOf(module []byte) vm.Code {
	return vm.Code{
		ID:   crypto.DomainBlob.Hash(module),
		Load: func() (*meter.Module, error) { return meter.Prepare(module, meter.Capabilities(), meter.WeightsV1()) },
	}
}

type runner struct {
	machine *vm.Machine
	code    vm.Code
}

// answered is what a call answers.
type answered struct {
	OK    json.RawMessage `json:"ok"`
	Error string          `json:"error"`
}

// list asks the module for its tests.
func (r runner) list() ([]string, error) {
	out, err := r.machine.Run(r.code, vm.Call{Entry: meter.Query, Args: [][]byte{[]byte("{}"), []byte("{}")}, Points: testPoints}, NewMemory())
	if err != nil {
		return nil, err
	}
	if out.End != vm.Returned {
		return nil, fmt.Errorf("the tests cannot be listed: %v: %s", out.End, out.Detail)
	}
	var a answered
	var text []byte
	var names []string
	if err := errors.Join(json.Unmarshal(out.Data, &a), json.Unmarshal(a.OK, &text), json.Unmarshal(text, &names)); err != nil {
		return nil, fmt.Errorf("the tests cannot be listed: %w", err)
	}
	if len(names) == 0 || len(names) > maxTests {
		return nil, fmt.Errorf("%d tests, want 1 to %d", len(names), maxTests)
	}
	return names, nil
}

// run runs one test. What it says of a refusal stands in its storage.
func (r runner) run(i int, name string) (Result, error) {
	host := NewMemory()
	msg := fmt.Appendf(nil, `{"run":%d}`, i)
	out, err := r.machine.Run(r.code, vm.Call{Entry: meter.Execute, Args: [][]byte{[]byte("{}"), []byte("{}"), msg}, Points: testPoints}, host)
	if err != nil {
		return Result{}, err
	}
	result := Result{Name: name, Points: out.Points}
	want, refused := host.values[string([]byte{hidden})]
	switch {
	case out.End == vm.Returned && !refused:
	case out.End == vm.Returned:
		result.Failed = fmt.Sprintf("it was not refused, want %q", want)
	case out.End != vm.Aborted:
		result.Failed = fmt.Sprintf("%v: %s", out.End, out.Detail)
	case !refused:
		result.Failed = out.Detail
	case out.Detail != string(want):
		result.Failed = fmt.Sprintf("it was refused with %q, want %q", out.Detail, want)
	}
	return result, nil
}
