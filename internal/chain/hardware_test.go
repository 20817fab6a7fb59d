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
	report, declared, accused := good[0].(chain.ReportHardware), good[1].(chain.DeclareHardware), good[2].(chain.AccuseMeasurer)
	with := func(change func(r *chain.ReportHardware, d *chain.DeclareHardware, a *chain.AccuseMeasurer) chain.Msg) chain.Msg {
		r, d, a := report, declared, accused
		r.Verdicts = append(chain.HardwareVerdicts{}, r.Verdicts...)
		return change(&r, &d, &a)
	}
	for part, m := range map[string]chain.Msg{
		"verdicts: 0": with(func(r *chain.ReportHardware, _ *chain.DeclareHardware, _ *chain.AccuseMeasurer) chain.Msg {
			r.Verdicts = nil
			return *r
		}),
		"verdicts": with(func(r *chain.ReportHardware, _ *chain.DeclareHardware, _ *chain.AccuseMeasurer) chain.Msg {
			for len(r.Verdicts) <= chain.MaxHardwarePeers {
				r.Verdicts = append(r.Verdicts, r.Verdicts[0])
			}
			return *r
		}),
		"two verdicts of": with(func(r *chain.ReportHardware, _ *chain.DeclareHardware, _ *chain.AccuseMeasurer) chain.Msg {
			r.Verdicts[1] = r.Verdicts[0]
			return *r
		}),
		"short and silent": with(func(r *chain.ReportHardware, _ *chain.DeclareHardware, _ *chain.AccuseMeasurer) chain.Msg {
			r.Verdicts[1].Missing, r.Verdicts[1].Silent = 0, true
			return *r
		}),
		"a silent node's missing": with(func(r *chain.ReportHardware, _ *chain.DeclareHardware, _ *chain.AccuseMeasurer) chain.Msg {
			r.Verdicts[0].Silent = true
			return *r
		}),
		"missing is": with(func(r *chain.ReportHardware, _ *chain.DeclareHardware, _ *chain.AccuseMeasurer) chain.Msg {
			r.Verdicts[0].Missing = chain.MaxUsageAmount + 1
			return *r
		}),
		"chain": with(func(r *chain.ReportHardware, _ *chain.DeclareHardware, _ *chain.AccuseMeasurer) chain.Msg {
			r.Challenge.ChainID = ""
			return *r
		}),
		"millicores is": with(func(_ *chain.ReportHardware, d *chain.DeclareHardware, _ *chain.AccuseMeasurer) chain.Msg {
			d.Millicores = chain.MaxUsageAmount + 1
			return *d
		}),
		"memory_mib is": with(func(_ *chain.ReportHardware, d *chain.DeclareHardware, _ *chain.AccuseMeasurer) chain.Msg {
			d.MemoryMiB = chain.MaxUsageAmount + 1
			return *d
		}),
		"verdicts of two peers": with(func(_ *chain.ReportHardware, _ *chain.DeclareHardware, a *chain.AccuseMeasurer) chain.Msg {
			a.Second.Peer = testKey(5).Public()
			return *a
		}),
		"do not differ": with(func(_ *chain.ReportHardware, _ *chain.DeclareHardware, a *chain.AccuseMeasurer) chain.Msg {
			a.Second = a.First
			return *a
		}),
	} {
		tx := signedTx(t, chain.Msgs{m})
		name, _, _ := strings.Cut(part, ":")
		if _, err := chain.DecodeTx(tx.Encode()); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%T: %v, want %q", m, err, part)
		}
	}
}
