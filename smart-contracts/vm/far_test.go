package vm_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// trail fills so many MiB, a power of two, with a chain that goes through each line of the
// cache, in an order that no processor foretells; $i is where it begins.
func trail(mib int) string {
	const begin = 128 << 10 // behind what the contract begins with
	bytes := mib << 20
	return fmt.Sprintf(`(drop (memory.grow (i32.const %[1]d)))
		(loop $fill
			(i32.store offset=%[2]d (local.get $i) (i32.add (i32.const %[2]d)
				(i32.and (i32.add (i32.mul (local.get $i) (i32.const 1664525)) (i32.const 64)) (i32.const %[3]d))))
			(br_if $fill (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 64))) (i32.const %[4]d))))
		(local.set $i (i32.const %[2]d))`, bytes>>16, begin, bytes-64, bytes)
}

// pointsOf is what an execute takes, of a contract whose text is changed before.
func pointsOf(t *testing.T, m *vm.Machine, body string, changes ...string) uint64 {
	t.Helper()
	call := execute
	call.Points = 1 << 40
	o, err := m.Run(codeOf(t, strings.NewReplacer(changes...).Replace(source(body, "unreachable"))), call, newWorld())
	if err != nil || o.End != vm.Returned {
		t.Fatalf("%s: %v %s, %v", body, o.End, o.Detail, err)
	}
	return o.Points
}

// TestAccessesInLargeMemories: a load and a store cost what WeightsV1 says of as much memory as
// there is when they run: what the contract begins with, what it has grown by in the same run,
// and what a function has that it calls. With a processor and without.
func TestAccessesInLargeMemories(t *testing.T) {
	for target, m := range map[string]*vm.Machine{"native": newMachine(t, vm.Config{}), "portable": opened(t)(vm.NewPortable(vm.Config{}))} {
		t.Run(target, func(t *testing.T) { accessesInLargeMemories(t, m) })
	}
}

func accessesInLargeMemories(t *testing.T, m *vm.Machine) {
	t.Helper()
	const begins, load, store = `(memory (export "memory") 2)`, "(drop (i32.load (i32.const 64)))", "(i32.store (i32.const 64) (i32.const 1))"
	for _, c := range []struct{ pages, load, store uint64 }{
		{2, 13, 6}, {9, 13, 6}, {12, 13, 6}, {13, 13 + 8, 6 + 1}, {64, 13 + 104, 6 + 13}, {208, 13 + 392, 6 + 49}, {209, 13 + 400, 6 + 50}, {512, 13 + 400, 6 + 50},
	} {
		for name, does := range map[string]struct {
			before string
			change []string
		}{
			"begins with": {"", []string{begins, fmt.Sprintf(`(memory (export "memory") %d)`, c.pages)}},
			"grows":       {fmt.Sprintf("(drop (memory.grow (i32.const %d)))", c.pages-2), nil},
			"has it grow": {fmt.Sprintf("(call $grow (i32.const %d))", c.pages-2), []string{begins, begins + "(func $grow (param i32) (drop (memory.grow (local.get 0))))"}},
		} {
			none := pointsOf(t, m, does.before+msg, does.change...)
			if got := pointsOf(t, m, does.before+strings.Repeat(load, 10)+msg, does.change...) - none; got != 10*c.load {
				t.Errorf("%s %d pages: ten loads cost %d points, want %d", name, c.pages, got, 10*c.load)
			}
			if got := pointsOf(t, m, does.before+strings.Repeat(store, 10)+msg, does.change...) - none; got != 10*c.store {
				t.Errorf("%s %d pages: ten stores cost %d points, want %d", name, c.pages, got, 10*c.store)
			}
		}
	}
}

// BenchmarkFar is what a point takes where the next thing is far from the last: of loads, each
// of which needs the one before, and of stores all over the memory.
func BenchmarkFar(b *testing.B) {
	m := newMachine(b, vm.Config{})
	const times = 5000
	again := fmt.Sprintf("(local.set $env (i32.const %d)) (loop $far %%s (br_if $far (local.tee $env (i32.sub (local.get $env) (i32.const 1)))))", times)
	const to = "(local.tee $i (i32.add (i32.mul (local.get $i) (i32.const 1664525)) (i32.const 1013904223)))"
	for _, mib := range []int{1, 2, 4, 8, 16} {
		load := strings.Repeat("(i32.load ", 100) + "(local.get $i)" + strings.Repeat(")", 100)
		b.Run(fmt.Sprintf("loads %d MiB", mib), func(b *testing.B) {
			priced(b, m, trail(mib)+fmt.Sprintf(again, "(local.set $i "+load+")")+msg, []byte("message"))
		})
		store := strings.Repeat(fmt.Sprintf("(i32.store offset=131072 (i32.and %s (i32.const %d)) (local.get $i))", to, mib<<20-4), 100)
		b.Run(fmt.Sprintf("stores %d MiB", mib), func(b *testing.B) {
			priced(b, m, trail(mib)+fmt.Sprintf(again, store)+msg, []byte("message"))
		})
	}
}
