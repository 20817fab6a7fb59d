package execution_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/execution"
)

var (
	deriveGas  = flag.Bool("derive-gas", false, "measure every operation anew, and write what the gas table is derived from")
	deriveOnly = flag.String("derive-only", "", "with -derive-gas: measure the operations whose names match alone, and keep the others")
)

// measuredPath holds what version 1 is derived from: nanoseconds of one core per
// transaction of each operation, above an empty block's.
const measuredPath = "testdata/gas_v1_measured.json"

// maxRatio is how much longer than a block of transfers a block of the same gas
// may take, whatever is in it.
const maxRatio = 1.5

// operations returns every way to fill a block on a world that is prepared.
func operations(p prepared) []operation {
	return slices.Concat(basics(), variants(), ofStaking(p), ofSettlement(p), forgeries(p))
}

// signature is a measure of its own: what a signature takes in a batch.
const signature = "signature"

// measureAll takes every operation some times and returns the least of each.
func measureAll(w *gasWorld, rounds int) map[string]float64 {
	ops, out, only := operations(w.prepare()), map[string]float64{}, regexp.MustCompile(*deriveOnly)
	for range rounds {
		empty := w.measure(nil, true)
		for _, o := range ops {
			if only.MatchString(o.name) {
				out[o.name] = least(out, o.name, w.take(o).perTx(empty))
			}
		}
		if only.MatchString(signature) {
			out[signature] = least(out, signature, w.signature())
		}
	}
	if only.MatchString(iteration) {
		w.onStore()
		out[iteration], out[iterationStep] = w.iterate()
	}
	return out
}

func least(known map[string]float64, name string, ns float64) float64 {
	if old, ok := known[name]; ok {
		return min(old, ns)
	}
	return ns
}

// shapes returns what each operation is without its time: gas and bytes.
func shapes(t testing.TB) map[string]work {
	w, out := newGasWorld(t, 100), map[string]work{}
	for _, o := range operations(w.prepare()) {
		out[o.name] = w.take(o)
	}
	return out
}

// derivation makes a table of what was measured. Gas of the state, and of a
// byte, are not derived, for the disk and the wire are not measured here. Half of
// what the state costs is the disk's.
type derivation struct {
	ns     map[string]float64
	shapes map[string]work
	table  execution.GasTable
}

// roundUp rounds gas up to two digits: noise below that makes no other table.
func roundUp(gas float64) uint64 {
	const least = 100
	if gas <= least {
		return least
	}
	unit := math.Pow(10, math.Floor(math.Log10(gas))-1)
	return uint64(math.Ceil(gas/unit) * unit)
}

// gasOf is what an operation's transaction should cost.
func (d *derivation) gasOf(name string) float64 { return d.ns[name] / execution.GasNanos }

// known is what it costs beside its message: its place, bytes and signature, and
// what it does to the state.
func (d *derivation) known(name string) float64 {
	k := d.shapes[name]
	each := func(sum uint64) float64 { return float64(sum) / float64(k.txs) }
	return float64(d.table.Tx+d.table.Signature) + float64(d.table.Byte)*each(k.bytes) + each(k.gas-k.intrinsic)/2
}

// message derives a message's price from the dearest of its operations, each
// with so many of what is priced.
func (d *derivation) message(names map[string]float64) uint64 {
	most := 0.0
	for name, count := range names { // order-free: the most
		most = max(most, (d.gasOf(name)-d.known(name))/count)
	}
	return roundUp(most)
}

// senderRecord is about how long the key and the record of a sender's account
// are, which every transaction writes and no meter counts.
const senderRecord = 46

// place is what a transaction costs for being there: what is left of a transfer,
// or of one that comes to nothing.
func (d *derivation) place() float64 {
	most := 0.0
	for _, name := range []string{"transfer", "transfer/rejected", "transfer/out of gas"} {
		most = max(most, d.gasOf(name)-d.known(name)-float64(d.table.Transfer))
	}
	return most
}

func (d *derivation) derive() execution.GasTable {
	fixed := execution.GasTableV1()
	d.table = execution.GasTable{Byte: fixed.Byte, Read: fixed.Read, ReadByte: fixed.ReadByte, Write: fixed.Write, WriteByte: fixed.WriteByte}
	d.table.Signature = roundUp(d.gasOf(signature))
	d.table.Transfer = roundUp((d.gasOf("transfer/16") - d.gasOf("transfer") - d.known("transfer/16") + d.known("transfer")) / 15)
	d.table.Tx = roundUp(d.place() + float64(fixed.Write+fixed.WriteByte*senderRecord)/2)
	for name, entry := range entries(&d.table) { // order-free: each its own
		names := map[string]float64{name: 1}
		if _, ok := d.ns[name+"/forged"]; ok {
			names[name+"/forged"] = 1
		}
		*entry = d.message(names)
	}
	d.table.Settle = roundUp(0)
	d.table.Claim = d.message(map[string]float64{"claim": 1, "claim/16": 16, "claim/replicated": 2, "claim/one of 32 forged": 1, "claim/forged": 1})
	votes, certificates := "report_evidence", "report_evidence/certificates"
	slope := max(d.slope(votes, certificates), d.slope(votes+"/forged", certificates+"/forged"))
	d.table.EvidenceByte = uint64(math.Ceil(slope))
	d.table.ReportEvidence = d.message(map[string]float64{votes: 1, votes + "/forged": 1})
	return d.table
}

// slope is what the longer of two operations costs more, for each byte.
func (d *derivation) slope(short, long string) float64 {
	length := func(name string) float64 { return float64(d.shapes[name].bytes) / float64(d.shapes[name].txs) }
	return (d.gasOf(long) - d.known(long) - d.gasOf(short) + d.known(short)) / (length(long) - length(short))
}

// entries are the table's messages with one operation of the same name.
func entries(t *execution.GasTable) map[string]*uint64 {
	return map[string]*uint64{
		"register_provider": &t.RegisterProvider, "unbond_provider": &t.UnbondProvider,
		"register_cluster": &t.RegisterCluster, "unbond_cluster": &t.UnbondCluster, "deposit": &t.Deposit, "withdraw": &t.Withdraw,
		"bond": &t.Bond, "delegate": &t.Delegate, "undelegate": &t.Undelegate, "redelegate": &t.Redelegate, "withdraw_rewards": &t.WithdrawRewards,
		"set_commission": &t.SetCommission, "rotate_keys": &t.RotateKeys, "unjail": &t.Unjail, "affiliate": &t.Affiliate, "unaffiliate": &t.Unaffiliate,
	}
}

// TestDeriveGas measures, if it is asked to, and writes what the table is derived
// from. What is pinned stays pinned without it.
func TestDeriveGas(t *testing.T) {
	if *deriveGas {
		w := newGasWorld(t, gasCrowd)
		w.patience = 100 * time.Millisecond
		ns := map[string]float64{}
		if *deriveOnly != "" {
			ns = readMeasured(t)
		}
		for name, value := range measureAll(w, 5) { // order-free: each its own
			ns[name] = math.Round(value/100) * 100
		}
		data, err := json.MarshalIndent(ns, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(measuredPath, append(data, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d := derivation{ns: readMeasured(t), shapes: shapes(t)}
	got, want := asJSON(t, d.derive()), asJSON(t, execution.GasTableV1())
	if got != want {
		t.Errorf("GasTableV1 is not what is derived from %s:\n%s", measuredPath, got)
	}
	if *deriveGas {
		fmt.Println(got)
	}
	for _, name := range []string{iteration, iterationStep} {
		if took := d.ns[name] / execution.GasNanos; took == 0 || took > float64(execution.GasTableV1().Read) {
			t.Errorf("%s takes %.0f gas on a store, and costs that of a read, %d", name, took, execution.GasTableV1().Read)
		}
	}
	average := d.ratio("transfer", 1)
	for _, name := range slices.Sorted(maps.Keys(d.shapes)) {
		k, ratio := d.shapes[name], d.ratio(name, average)
		t.Logf("%-36s %9.0f ns %9d gas, ratio to transfers %.2f", name, d.ns[name], k.gas/uint64(k.txs), ratio)
		if ratio > maxRatio {
			t.Errorf("a block full of %s takes %.2f times as long as one of transfers, limit %.1f", name, ratio, maxRatio)
		}
	}
}

// ratio is nanoseconds per gas of an operation, in some others'.
func (d *derivation) ratio(name string, others float64) float64 {
	k := d.shapes[name]
	return d.ns[name] * float64(k.txs) / float64(k.gas) / others
}

func readMeasured(t testing.TB) map[string]float64 {
	t.Helper()
	data, err := os.ReadFile(measuredPath)
	if err != nil {
		t.Fatal(err)
	}
	var ns map[string]float64
	if err := json.Unmarshal(data, &ns); err != nil {
		t.Fatal(err)
	}
	return ns
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(data) + "\n"
}

// BenchmarkWorstBlock fills blocks with each operation, on a store whose last
// blocks are pending, and reports nanoseconds per gas, and how much that is of a block of transfers: the ratio, which should
// stay below maxRatio for all.
func BenchmarkWorstBlock(b *testing.B) {
	w := newGasWorld(b, gasCrowd)
	w.patience = 100 * time.Millisecond
	ops := operations(w.prepare())
	w.onStore()
	for _, o := range ops {
		b.Run(strings.ReplaceAll(o.name, " ", "_"), func(b *testing.B) {
			ns, ratio := math.Inf(1), math.Inf(1)
			for b.Loop() {
				empty := w.measure(nil, true)
				average := w.take(ops[0]).perGas(empty)
				took := w.take(o).perGas(empty)
				ns, ratio = min(ns, took), min(ratio, took/average)
			}
			b.ReportMetric(ns, "ns/gas")
			b.ReportMetric(ratio, "ratio")
		})
	}
}
