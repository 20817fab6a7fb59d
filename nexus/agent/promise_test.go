package agent_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// TestASequenceGivenTwiceIsKept: an agent that is given two assignments with one sequence keeps
// both acceptances as they are reported; those that contradict nothing, and the same again, are
// not kept.
func TestASequenceGivenTwiceIsKept(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	config := home(t, g, s)
	start(t, config)
	p := s.session()
	spec := wasmSpec(crypto.Digest{1}, 100)
	give := func(nonce, sequence uint64) job.Assignment {
		as := assignmentOf(orderOf(&spec, nonce), spec)
		as.Acceptance.Sequence = sequence
		as = sign(as)
		p.send(job.Assign{List: []job.Assignment{as}})
		await(p, func(r job.AssignReply) bool { return r.Order == as.Order.ID() })
		return as
	}
	files := func() []string {
		list, err := filepath.Glob(filepath.Join(config.Home, agent.EvidenceDir, "*.json"))
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	first := give(1, 7)
	p.send(job.Assign{List: []job.Assignment{first}}) // servers repeat
	give(2, 8)
	if list := files(); len(list) != 0 {
		t.Fatalf("kept %v", list)
	}
	second := give(3, 7)
	kept := map[crypto.Digest]chain.Acceptance{}
	for _, path := range files() {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var form struct {
			Order         api.Order        `json:"order"`
			Acceptance    api.Acceptance   `json:"acceptance"`
			AcceptanceSig crypto.Signature `json:"acceptance_signature"`
		}
		if err := json.Unmarshal(text, &form); err != nil {
			t.Fatal(err)
		}
		o, err := api.OrderFromJSON(form.Order)
		if err != nil {
			t.Fatal(err)
		}
		acceptance := api.AcceptanceFromJSON(form.Acceptance)
		if !clusterKey.Public().Verify(crypto.DomainAcceptance, acceptance.Payload(), form.AcceptanceSig) {
			t.Errorf("%s is not signed", path)
		}
		kept[o.ID()] = acceptance
	}
	if len(kept) != 2 || kept[first.Order.ID()] != first.Acceptance || kept[second.Order.ID()] != second.Acceptance {
		t.Errorf("kept %+v", kept)
	}
}
