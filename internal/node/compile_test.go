package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
)

// openState is a state that nobody needs to close.
type openState struct{ state.Reader }

func (openState) Close() error { return nil }

// slowCompiler compiles when it may.
type slowCompiler struct {
	may      chan struct{}
	refuses  crypto.Digest
	compiled []crypto.Digest
	ready    []crypto.Digest
	checked  []crypto.Digest
	pinned   []pinned // whatever the period is
	period   uint64
	done     []string // of pins and periods
}

func (c *slowCompiler) Ready(code contract.Program) error {
	<-c.may
	c.ready = append(c.ready, code.ID)
	return nil
}

func (c *slowCompiler) Compile(code contract.Program) error {
	<-c.may
	if code.ID == c.refuses {
		return errors.New("it does not like it")
	}
	c.compiled = append(c.compiled, code.ID)
	return nil
}

func (c *slowCompiler) Check(code contract.Program) error {
	c.checked = append(c.checked, code.ID)
	if code.ID == c.refuses {
		return errors.New("the disk is full")
	}
	return nil
}

// pinned is code that is pinned until a period.
type pinned struct {
	id    crypto.Digest
	until uint64
}

func (c *slowCompiler) Pin(code contract.Program, until uint64) error {
	if until > c.period {
		c.done = append(c.done, fmt.Sprint("pinned to ", until))
		c.pinned = append(c.pinned, pinned{code.ID, until})
	}
	return nil
}

func (c *slowCompiler) Unpin(period uint64) {
	c.period, c.done = period, append(c.done, fmt.Sprint("it is ", period))
}

func (c *slowCompiler) Close() {}

// today is the period of pins that is in the state.
const today = 20_000

// withCodes is a state with so many codes, of a MiB of native code each, and their programs.
func withCodes(codes int) (state.KV, []crypto.Digest) {
	const native = 1 << 20
	kv := state.NewOverlay(state.NewMemoryBackend())
	var ids []crypto.Digest
	for id := range codes {
		code := contract.Code{Checksum: crypto.Digest{byte(id), byte(id >> 8)}, Size: 1}
		state.Save(kv, contract.CodeKey(uint64(id)+1), code)
		state.Save(kv, contract.LoadedKey(code.Checksum), contract.Loaded{At: (uint64(id) + 1) * native, Native: native})
		ids = append(ids, code.Program(kv).ID)
	}
	state.Save(kv, contract.NumbersKey(), contract.Numbers{Codes: uint64(codes)})
	state.Save(kv, execution.HeadKey(), execution.Head{TimeMs: contract.PinsBegin(today)})
	state.Save(kv, contract.LoadsKey(), contract.Loads{Bytes: uint64(codes) * native})
	return kv, ids
}

// TestCompilerLeavesNothingOut: however many blocks store code while one is compiled; and what the
// machine refuses stops nothing.
func TestCompilerLeavesNothingOut(t *testing.T) {
	const blocks = 60
	kv, ids := withCodes(2 * blocks)
	machine, said := &slowCompiler{may: make(chan struct{}), refuses: ids[7]}, new(bytes.Buffer)
	c := compiler{
		vm: machine, open: func() (closableState, error) { return openState{kv}, nil }, log: slog.New(slog.NewTextHandler(said, nil)),
		fault: func(err error) error { t.Error(err); return err },
	}
	for b := range blocks {
		c.begin(contract.PinsBegin(today), &chain.BlockReceipts{Txs: []chain.Receipt{{Events: chain.Events{chain.CodeStored{Code: chain.Number(2*b + 1)}, chain.CodeStored{Code: chain.Number(2*b + 2)}}}}})
	}
	close(machine.may)
	c.work.Wait()
	if want := slices.Delete(slices.Clone(ids), 7, 8); !slices.Equal(machine.compiled, want) {
		t.Errorf("%d of %d are compiled", len(machine.compiled), len(want))
	}
	if !strings.Contains(said.String(), "code=8") {
		t.Errorf("of what is refused it says %q", said)
	}
	c.stop()
	c.add(today, []uint64{1}, nil)
	if c.work.Wait(); len(machine.compiled) != 2*blocks-1 {
		t.Error("one that was stopped goes on")
	}
}

// TestAllIsCompiledBefore: a node that has joined waits until what the state lists is compiled, unless
// it is to stop.
func TestAllIsCompiledBefore(t *testing.T) {
	kv, ids := withCodes(5)
	machine := &slowCompiler{may: make(chan struct{}, len(ids))}
	c := compiler{
		vm: machine, open: func() (closableState, error) { return openState{kv}, nil }, log: quiet(),
		fault: func(err error) error { t.Error(err); return err },
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.all(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("to stop: %v", err)
	}
	for range 2 * len(ids) { // those that it goes on with, and those that it is given again
		go func() { machine.may <- struct{}{} }()
	}
	if err := c.all(t.Context()); err != nil || !slices.Equal(machine.compiled, append(slices.Clone(ids), ids...)) {
		t.Errorf("%v, %d of %d are compiled", err, len(machine.compiled), 2*len(ids))
	}
	if err := (&compiler{}).all(t.Context()); err != nil {
		t.Errorf("without a machine: %v", err)
	}
}

// TestOnlyWhatIsKeptIsRead: a node that begins reads what counts as kept, the last loaded last, and of all
// else only sees to it that it is on disk: a start takes as long as that and the number of codes let it,
// however many there are. What is on disk is looked at when the node has begun, until it stops.
func TestOnlyWhatIsKeptIsRead(t *testing.T) {
	const codes, kept = 255, contract.CacheBytes / 2 >> 20
	kv, ids := withCodes(codes + kept)
	machine, said := &slowCompiler{may: make(chan struct{}), refuses: ids[7]}, new(bytes.Buffer)
	close(machine.may)
	c := compiler{
		vm: machine, open: func() (closableState, error) { return openState{kv}, nil }, log: slog.New(slog.NewTextHandler(said, nil)),
		fault: func(err error) error { t.Error(err); return err },
	}
	if err := c.all(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(machine.ready, ids[:codes]) || !slices.Equal(machine.compiled, ids[codes:]) {
		t.Errorf("%d are on disk, want %d; %d in memory, want %d", len(machine.ready), codes, len(machine.compiled), kept)
	}
	if c.work.Wait(); !slices.Equal(machine.checked, ids[:codes]) || !strings.Contains(said.String(), "damaged on disk") || !strings.Contains(said.String(), "code=8") {
		t.Errorf("%d are looked at, want %d; of what cannot be mended it says %q", len(machine.checked), codes, said)
	}
	c.stop()
	if c.check([]uint64{1}); len(machine.checked) != codes {
		t.Error("one that was stopped looks at more")
	}
}

// TestPinsAreKept: what a block pins is in memory when it is final, and what the state has as pinned when the node begins, for
// as long as that says; the machine is told the time of each block, so that it lets go what is over.
func TestPinsAreKept(t *testing.T) {
	kv, ids := withCodes(contract.CacheBytes/2>>20 + 2) // the first two do not count as kept
	pin := func(id int, until uint64) {
		code, _ := contract.CodeOf(kv, uint64(id)+1)
		last, _ := state.Load[contract.Loaded](kv, contract.LoadedKey(code.Checksum))
		last.PinnedTo = until
		state.Save(kv, contract.LoadedKey(code.Checksum), last)
	}
	pin(0, today)
	pin(1, today+1)
	pin(5, today+30)
	machine := &slowCompiler{may: make(chan struct{})}
	close(machine.may)
	c := compiler{
		vm: machine, open: func() (closableState, error) { return openState{kv}, nil }, log: quiet(),
		fault: func(err error) error { t.Error(err); return err },
	}
	if err := c.all(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []pinned{{ids[1], today + 1}, {ids[5], today + 30}}; !slices.Equal(machine.pinned, want) || machine.period != today {
		t.Errorf("as it begins it pins %v in period %d", machine.pinned, machine.period)
	}
	if !slices.Equal(machine.ready, ids[:2]) {
		t.Errorf("%d are on disk and do not count as kept", len(machine.ready))
	}
	machine.pinned = nil
	pin(0, today+7)
	c.begin(contract.PinsBegin(today+3), &chain.BlockReceipts{Txs: []chain.Receipt{
		{Events: chain.Events{chain.CodePinned{Code: 2}, chain.CodePinned{Code: 1}}}, {Rejection: "no"}, {Events: chain.Events{chain.CodePinned{Code: 6}}},
	}})
	c.work.Wait()
	if want := []pinned{{ids[0], today + 7}, {ids[5], today + 30}}; !slices.Equal(machine.pinned, want) || machine.period != today+3 {
		t.Errorf("of a block it pins %v in period %d", machine.pinned, machine.period)
	}
	(&compiler{}).begin(1, &chain.BlockReceipts{Txs: []chain.Receipt{{Events: chain.Events{chain.CodePinned{Code: 1}}}}}) // without a machine
}

// TestPinsDoNotLapse: code that stays pinned does not go from memory when a period ends before the node has come to what the last block
// of that has pinned.
func TestPinsDoNotLapse(t *testing.T) {
	kv, _ := withCodes(1)
	code, _ := contract.CodeOf(kv, 1)
	last, _ := state.Load[contract.Loaded](kv, contract.LoadedKey(code.Checksum))
	last.PinnedTo = today + 2
	state.Save(kv, contract.LoadedKey(code.Checksum), last)
	machine := &slowCompiler{may: make(chan struct{})}
	c := compiler{
		vm: machine, open: func() (closableState, error) { return openState{kv}, nil }, log: quiet(),
		fault: func(err error) error { t.Error(err); return err },
	}
	c.begin(contract.PinsBegin(today), &chain.BlockReceipts{Txs: []chain.Receipt{{Events: chain.Events{chain.CodePinned{Code: 1}}}}})
	for range 2 {
		c.begin(contract.PinsBegin(today+1), &chain.BlockReceipts{})
	}
	close(machine.may)
	c.work.Wait()
	if want := []string{fmt.Sprint("it is ", today), fmt.Sprint("pinned to ", today+2), fmt.Sprint("it is ", today+1)}; !slices.Equal(machine.done, want) {
		t.Errorf("%q, want %q", machine.done, want)
	}
}

// TestPinsDoNotWaitForCompilers: code that is pinned is in memory before what was stored earlier is compiled, but for one
// code that is: so ten blocks do for pins, however much there is to compile.
func TestPinsDoNotWaitForCompilers(t *testing.T) {
	const codes = 300
	kv, ids := withCodes(codes)
	machine := &slowCompiler{may: make(chan struct{})}
	c := compiler{
		vm: machine, open: func() (closableState, error) { return openState{kv}, nil }, log: quiet(),
		fault: func(err error) error { t.Error(err); return err },
	}
	stored := make([]chain.Event, codes-1)
	for i := range stored {
		stored[i] = chain.CodeStored{Code: chain.Number(i + 1)}
	}
	c.begin(contract.PinsBegin(today), &chain.BlockReceipts{Txs: []chain.Receipt{{Events: stored}}})
	c.begin(contract.PinsBegin(today), &chain.BlockReceipts{Txs: []chain.Receipt{{Events: chain.Events{chain.CodePinned{Code: codes}}}}})
	close(machine.may)
	c.work.Wait()
	if done := len(machine.ready) + len(machine.compiled); done != codes || slices.Index(machine.compiled, ids[codes-1]) != 0 || len(machine.ready) == 0 {
		t.Errorf("%d are done; what is pinned is number %d of %d that are kept", done, slices.Index(machine.compiled, ids[codes-1]), len(machine.compiled))
	}
}

// TestWhatCannotBeReadIsAFault: a store that fails while it is read what there is to compile is an error, which the node
// stops by, and no panic.
func TestWhatCannotBeReadIsAFault(t *testing.T) {
	broken := &brokenState{}
	c := compiler{
		vm:   &slowCompiler{},
		open: func() (closableState, error) { return broken, nil },
		log:  quiet(),
	}
	for name, read := range map[string]func() error{
		"all": func() error { return c.all(context.Background()) },
		"one": func() error { return c.one(1) },
	} {
		if fault, is := errors.AsType[*state.Fault](read()); !is || !strings.Contains(fault.Error(), "the disk is gone") {
			t.Errorf("%s: %v", name, fault)
		}
	}
	if closed := broken.closed.Load(); closed != 2 {
		t.Errorf("%d snapshots of 2 are closed", closed)
	}
}
