package chain_test

import (
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// TestFormsOfHardwareMessages: what no state makes right is refused when it is decoded, by
// name.
func TestFormsOfHardwareMessages(t *testing.T) {
	good := hardwareMessages()
	report, declared := good[0].(chain.ReportHardware), good[1].(chain.DeclareHardware)
	with := func(change func(r *chain.ReportHardware, d *chain.DeclareHardware) chain.Msg) chain.Msg {
		r, d := report, declared
		r.Verdicts = append(chain.HardwareVerdicts{}, r.Verdicts...)
		return change(&r, &d)
	}
	for part, m := range map[string]chain.Msg{
		"verdicts: 0": with(func(r *chain.ReportHardware, _ *chain.DeclareHardware) chain.Msg {
			r.Verdicts = nil
			return *r
		}),
		"verdicts": with(func(r *chain.ReportHardware, _ *chain.DeclareHardware) chain.Msg {
			for len(r.Verdicts) <= chain.MaxHardwarePeers {
				r.Verdicts = append(r.Verdicts, r.Verdicts[0])
			}
			return *r
		}),
		"two verdicts of": with(func(r *chain.ReportHardware, _ *chain.DeclareHardware) chain.Msg {
			r.Verdicts[1] = r.Verdicts[0]
			return *r
		}),
		"nothing is to be said": with(func(r *chain.ReportHardware, _ *chain.DeclareHardware) chain.Msg {
			r.Verdicts[1].Missing, r.Verdicts[1].Silent = 0, false
			return *r
		}),
		"a silent node's missing": with(func(r *chain.ReportHardware, _ *chain.DeclareHardware) chain.Msg {
			r.Verdicts[0].Silent = true
			return *r
		}),
		"missing is": with(func(r *chain.ReportHardware, _ *chain.DeclareHardware) chain.Msg {
			r.Verdicts[0].Missing = chain.MaxMillicores + 1
			return *r
		}),
		"chain": with(func(r *chain.ReportHardware, _ *chain.DeclareHardware) chain.Msg {
			r.Challenge.ChainID = ""
			return *r
		}),
		"millicores is": with(func(_ *chain.ReportHardware, d *chain.DeclareHardware) chain.Msg {
			d.Millicores = chain.MaxMillicores + 1
			return *d
		}),
		"memory_mib is": with(func(_ *chain.ReportHardware, d *chain.DeclareHardware) chain.Msg {
			d.MemoryMiB = chain.MaxMemoryMiB + 1
			return *d
		}),
		"chain id": chain.AnnounceHome{},
	} {
		tx := signedTx(t, chain.Msgs{m})
		name, _, _ := strings.Cut(part, ":")
		if _, err := chain.DecodeTx(tx.Encode()); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%T: %v, want %q", m, err, part)
		}
	}
}

// TestRegistrationsAreBounded: a node registers with no more than a challenge can ask for.
func TestRegistrationsAreBounded(t *testing.T) {
	for part, m := range map[string]chain.RegisterProvider{
		"millicores is": {Node: testKey(3).Public(), Millicores: chain.MaxMillicores + 1},
		"memory_mib is": {Node: testKey(3).Public(), MemoryMiB: chain.MaxMemoryMiB + 1},
	} {
		tx := signedTx(t, chain.Msgs{m})
		if _, err := chain.DecodeTx(tx.Encode()); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v, want %q", err, part)
		}
	}
}

// TestHardwareParams: what would have a challenge be certain in a block, or be judged while its
// benchmark runs, is refused by name.
func TestHardwareParams(t *testing.T) {
	for part, change := range map[string]func(p *chain.Params){
		"hardware_every_ms":   func(p *chain.Params) { p.HardwareEveryMs = 2*p.IdleMs - 1 },
		"hardware_ms is 9999": func(p *chain.Params) { p.HardwareMs = 9_999 },
		"hardware_lane_mib":   func(p *chain.Params) { p.HardwareLaneMiB = chain.MaxHardwareLaneMiB + 1 },
		"hardware_step_ns":    func(p *chain.Params) { p.HardwareStepNs = 99 },
		"a lane of":           func(p *chain.Params) { p.HardwareMs = 60_000 },
	} {
		p := chain.DefaultParams()
		if err := p.Check(); err != nil {
			t.Fatal(err)
		}
		if change(&p); p.Check() == nil || !strings.Contains(p.Check().Error(), part) {
			t.Errorf("%v, want %q", p.Check(), part)
		}
	}
}
