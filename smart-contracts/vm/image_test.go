package vm_test

import (
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// TestImagesAreSmall: native code is kept without what is read only for people, and
// runs and traps as it does with it.
func TestImagesAreSmall(t *testing.T) {
	code := codeOf(t, source(strings.Repeat("(i32.store offset=8192 (i32.and (local.tee $i (i32.add (local.get $i) (i32.const 68))) (i32.const 0xfffc)) (local.get $i))", 3000)+msg, "unreachable"))
	module, err := code.Load()
	if err != nil {
		t.Fatal(err)
	}
	whole, kept, err := vm.Images(newMachine(t, vm.Config{}), module)
	if err != nil {
		t.Fatal(err)
	}
	if len(kept) > len(whole)*3/4 || len(kept) > 4*len(module.Code()) {
		t.Errorf("%d bytes of %d are kept, of a module of %d", len(kept), len(whole), len(module.Code()))
	}
	for name, spoilt := range map[string][]byte{"nothing": nil, "no ELF": []byte("rubbish"), "a part": whole[:len(whole)/2], "a header": whole[:64]} {
		if got := vm.WithoutAddresses(spoilt); string(got) != string(spoilt) {
			t.Errorf("%s becomes %d bytes", name, len(got))
		}
	}
}
