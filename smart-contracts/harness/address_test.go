package harness_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/smart-contracts/harness"
)

// TestAddresses: the zero address is none, in whatever way a contract asks, as no message may name it.
func TestAddresses(t *testing.T) {
	h := fresh(t, harness.Config{})
	at := scripted(t, h, puppet)
	probe, err := h.Store(must(os.ReadFile("../../sdk/assembly/testdata/probe/probe.wasm")))
	if err != nil {
		t.Fatal(err)
	}
	made, err := h.Instantiate(h.Treasury(), probe, `{}`, harness.Making{})
	if err != nil {
		t.Fatal(err)
	}
	alice := harness.AccountOf("alice")
	if answer, err := h.Query(made.Contract, fmt.Sprintf(`{"address":%q}`, alice)); err != nil || !strings.Contains(string(answer.JSON), alice.String()) {
		t.Errorf("%s, %v", answer.JSON, err)
	}
	zero := harness.Address{}
	for verb, text := range map[string]string{"address": zero.String(), "canonical": zero.String(), "human": base64.StdEncoding.EncodeToString(zero[:])} {
		_, err := h.Query(made.Contract, fmt.Sprintf(`{%q:%q}`, verb, text))
		if r := refused(t, err, "address: invalid address"); r.Contract != made.Contract {
			t.Errorf("%s is refused by %s", verb, r.Contract)
		}
	}
	r, err := h.Execute(alice, at, fmt.Sprintf(`send {"wasm":{"execute":{"contract_addr":%q,"msg":"","funds":[]}}}`, zero))
	if err != nil || r.Attribute(at, "failed") != "true" {
		t.Errorf("a message to nobody: %+v, %v", r, err)
	}
}
