package execution_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/cpuid/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/execution"
)

var (
	measureGas = flag.Bool("measure-gas", false, "measure every operation on this build's way to verify signatures, and write what the gas table is derived from")
	checkGas   = flag.Bool("check-gas", false, "measure every operation anew, and hold it against the gas table as it is")
	gasAgain   = flag.Bool("gas-again", false, "with -measure-gas: keep the lesser of what was measured before and now, for a machine that is not quiet")
	gasOnly    = flag.String("gas-only", "", "with -measure-gas or -check-gas: measure the operations whose names match alone")
)

// measuredPath holds what version 1 is derived from, for each make of processor and way to
// verify signatures: nanoseconds of one core per transaction of each operation, above an empty block's.
const measuredPath = "testdata/gas_v1_measured.json"

// The ways to verify signatures: the library's, and eight lanes wide.
const (
	library = "library"
	wide    = "wide"
)

// way is a make of processor and how signatures are verified on it: "GenuineIntel/wide".
type way string

// thisWay is the way of this build on this processor.
func thisWay() way { return way(cpuid.CPU.VendorString + "/" + gasWay) }

// on returns how signatures are verified otherwise on the same processor.
func (w way) on(signatures string) way {
	vendor, _, _ := strings.Cut(string(w), "/")
	return way(vendor + "/" + signatures)
}

// measures are what each operation takes, on each way.
type measures map[way]map[string]float64

// maxRatio is how much longer than an average block a block of the same gas may take,
// whatever is in it.
const (
	maxRatio = 1.5
	// partRatio is the same of a read or a write by itself, which no message does without
	// what else it pays for.
	partRatio = 2
	// maxQueues is the share of a full block's time that the work of all queues at the
	// beginning of a block may take, and maxClose what closing an epoch may.
	maxQueues = 1.0 / 2
	maxClose  = 1.0 / 3
)

// average is the average block: of a thousand transactions so many of each operation. Most
// are transfers, as of every chain that people use; a twentieth is of the work that
// this one is for, and of staking.
var average = map[string]float64{
	"transfer": 790, "transfer/new account": 50, "transfer/cold": 100, "transfer/16": 5, "claim": 20, "claim/16": 1, "deposit": 8, "withdraw": 4,
	"delegate": 8, "undelegate": 3, "withdraw_rewards": 10, "register_provider": 1,
}

// operations returns every way to fill a block on a world that is prepared.
func operations(p prepared) []operation {
	return slices.Concat(basics(), variants(), ofStaking(p), ofSettlement(p), ofLeases(p), ofChannels(p), ofPanels(p), ofServices(p), ofHardware(p), ofBreaches(p), ofDisputes(), ofRuns(p), ofBatches(p), ofContracts(p), forgeries(p), deepOnes(p))
}

// signature is a measure of its own: what a signature takes in a batch.
const signature = "signature"

// gasBench is a world on a store, and what was measured there.
type gasBench struct {
	*gasWorld
	ops  []operation
	disk disk
	out  map[string]float64
}

// newGasBench builds the store, and measures the disk and whatever is no operation.
func newGasBench(t testing.TB) *gasBench {
	b := &gasBench{gasWorld: newGasWorld(t, gasCrowd), out: map[string]float64{}}
	b.patience = 100 * time.Millisecond
	b.ops = operations(b.prepare())
	s := b.onStore()
	b.out[readCold], b.out[iteration], b.out[iterationStep] = b.reads()
	b.disk = s.disk()
	for name, value := range b.disk.named() { // order-free: each its own
		b.out[name] = *value
	}
	maps.Copy(b.out, b.queued(b.disk))
	maps.Copy(b.out, b.scattered(b.disk))
	return b
}

// round takes every operation once, and keeps the least of each.
func (b *gasBench) round(only func(name string) bool) {
	empty := b.measure(nil, accepted, 1<<30)
	for _, o := range b.ops {
		if only(o.name) {
			b.out[o.name] = least(b.out, o.name, b.take(o).perTx(empty, b.disk))
		}
	}
	if only(signature) {
		b.out[signature] = least(b.out, signature, b.signature())
	}
}

func least(known map[string]float64, name string, ns float64) float64 {
	if old, ok := known[name]; ok {
		return min(old, ns)
	}
	return ns
}

// shapes returns what each operation is without its time: gas and bytes.
func shapes(t testing.TB) map[string]work {
	w, out := newGasWorld(t, warm), map[string]work{}
	for _, o := range operations(w.prepare()) {
		k := w.take(o)
		if out[o.name] = k; o.says != "" && k.events[o.says] != k.txs {
			t.Fatalf("%s: %d of %d transactions say %s", o.name, k.events[o.says], k.txs, o.says)
		}
	}
	return out
}

// derivation makes a table of what was measured. What reads, writes and bytes cost is not
// derived, but held against what they take.
type derivation struct {
	ns       measures
	shapes   map[string]work
	transfer float64 // the gas of a transfer, that others are in proportion to
	measure  string  // the operation of that: a warm transfer, and then the dearest that costs so much
	table    execution.GasTable
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

// due is what a queue does for an operation in a block to come, so many times.
type due struct {
	queue string
	times float64
}

// later is what an operation makes blocks to come do, and pays for itself.
func later(name string) []due {
	switch name {
	case "claim/lost": // and what is lost is divided, so many at a time
		return []due{{queueExpired, 1}, {queueBreach, 1.0 / lostAtOnce}}
	case "report_acceptance/forged", "open_lease/forged", "report_hardware/forged", "claim/forged", "claim/16 forged":
		return nil
	}
	switch base, _, _ := strings.Cut(name, "/"); base {
	case "withdraw", "unbond_provider", "unbond_cluster":
		return []due{{queueMatured, 1}}
	case "undelegate":
		return []due{{queueReleased, 1}}
	case "claim":
		return []due{{queueExpired, countOf(name)}}
	case "open_lease":
		return []due{{queueExpired, 1}, {queueLease, 1}}
	case "open_promised_lease":
		return []due{{queueExpired, 1}, {queueLease, 1}, {queuePeers, 1}}
	case "draw_peers":
		return []due{{queuePeers, 1}}
	case "declare_hardware", "register_provider":
		return []due{{queueDraw, 0.8}, {queueHardware, 1}} // as the draw of a challenge counts
	case "report_hardware": // five peers and a node are slashed, where runs of sixteen nodes are that
		return []due{{queueRuns, 0.5}}
	case "report_acceptance": // the division of a breach that nobody lost by: those who did pay for theirs
		return []due{{queueBreach, 1}}
	case "close_channel":
		return []due{{queueChannel, 1}}
	case "resize_lease", "settle_batch", "begin_run":
		return []due{{queueExpired, 1}}
	case "reveal_run": // a claim of an order that is there
		return []due{{queueExpired, 1.0 / 3}}
	}
	return nil
}

// countOf is how many of what is priced an operation has.
func countOf(name string) float64 {
	switch name {
	case "claim/16", "claim/16 one of 192 forged", "claim/16 one of each forged", "claim/16 forged":
		return 16
	case "claim/2 one of 64 forged":
		return 2
	}
	return 1
}

// nanos is what an operation's transaction takes on a way.
func (d *derivation) nanos(w way, name string) float64 {
	all := d.ns[w]
	ns, ok := all[name]
	if !ok {
		panic("not measured " + string(w) + ": " + name)
	}
	if ns <= 0 {
		return ns
	}
	for _, l := range later(name) {
		ns += l.times * all[l.queue]
	}
	return ns
}

// mix is what an average transaction takes on a way, and its gas.
func (d *derivation) mix(w way) (ns, gas float64) {
	total := 0.0
	for _, name := range slices.Sorted(maps.Keys(average)) { // sums in one order are one sum
		k := d.shapes[name]
		ns += average[name] * d.nanos(w, name)
		gas += average[name] * float64(k.gas) / float64(k.txs)
		total += average[name]
	}
	return ns / total, gas / total
}

// transferGas is what a plain transfer would cost if nothing in it were priced for the
// worst that can be done with it. Prices are in parts of it, so that it does not matter
// how fast a machine is.
const transferGas = 2_800

// Messages that are rare in an average block, fewer than common in a thousand, and what they
// put into queues cost so much more than in proportion to a cold transfer, which is as far above
// an average block as anything may be: others become no dearer by it.
const (
	common = 20
	margin = 1.2
)

// unit is how many nanoseconds a unit of gas stands for on a way, if what others are in
// proportion to costs so much.
func (d *derivation) unit(w way) float64 { return d.nanos(w, d.measure) / d.transfer }

// gasOf is what a measure should cost: the most of what it is on each way.
func (d *derivation) gasOf(ns func(w way) float64) float64 {
	most := 0.0
	for w := range d.ns { // order-free: the most
		most = max(most, ns(w)/d.unit(w))
	}
	return most
}

// costs is what an operation's transaction should cost, by the makes that it was measured on.
func (d *derivation) costs(name string) float64 {
	measured := false
	most := d.gasOf(func(w way) float64 {
		if _, here := d.ns[w][name]; !here {
			return 0
		}
		measured = true
		return d.nanos(w, name)
	})
	if !measured {
		panic("measured nowhere: " + name)
	}
	return most
}

// known is what it costs beside its messages: its place, bytes and signature, and
// what it does to the state.
func (d *derivation) known(name string) float64 {
	k := d.shapes[name]
	each := func(sum uint64) float64 { return float64(sum) / float64(k.txs) }
	return float64(d.table.Tx+d.table.Signature) + float64(d.table.Byte)*each(k.bytes) + each(k.gas-k.intrinsic)
}

// message derives a message's price from the dearest of its operations.
func (d *derivation) message(names []string) uint64 {
	most := 0.0
	for _, name := range names {
		costs := d.costs(name)
		if base, _, _ := strings.Cut(name, "/"); average[base] < common {
			costs *= margin
		}
		most = max(most, (costs-d.known(name))/countOf(name))
	}
	return roundUp(most)
}

// named returns the operations of a message.
func (d *derivation) named(message string) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(d.shapes)) {
		if base, _, _ := strings.Cut(name, "/"); base == message {
			names = append(names, name)
		}
	}
	return names
}

// place is what a transaction costs for being there: what is left of a transfer,
// or of one that comes to nothing. Its sender's account may be a cold one.
func (d *derivation) place() float64 {
	most := 0.0
	for _, name := range []string{"transfer", "transfer/cold", "transfer/rejected", "transfer/out of gas"} {
		most = max(most, d.costs(name)-d.known(name))
	}
	return most + d.gasOf(d.read)
}

// read is what reading a cold account takes: on each way of a processor the same, so the lesser.
func (d *derivation) read(w way) float64 {
	return min(d.ns[w.on(library)][readCold], d.ns[w.on(wide)][readCold])
}

func (d *derivation) derive() execution.GasTable {
	fixed := execution.GasTableV1()
	d.table = execution.GasTable{Byte: fixed.Byte, Read: fixed.Read, ReadByte: fixed.ReadByte, Write: fixed.Write, WriteByte: fixed.WriteByte, Insert: fixed.Insert}
	d.transfer, d.measure = transferGas, "transfer"
	d.table.Signature = roundUp(d.gasOf(func(w way) float64 { return d.ns[w][signature] }))
	d.table.Tx = roundUp(d.place())
	d.transfer = d.known("transfer") // and what it costs in fact, all others are in proportion to
	sixteenth := func(of string) float64 {
		return (d.costs(of) - d.costs("transfer") - d.known(of) + d.known("transfer")) / 15
	}
	d.table.Transfer = roundUp(max(sixteenth("transfer/16"), sixteenth("transfer/16 cold")))
	d.transfer, d.measure = d.known("transfer")+float64(d.table.Transfer), "transfer/cold"
	for name, entry := range entries(&d.table) { // order-free: each its own
		*entry = d.message(d.named(name))
	}
	for name, entry := range weights(&d.table) { // order-free: the dearest of what an entry may be
		*entry = max(*entry, roundUp(margin*d.gasOf(func(w way) float64 { return d.ns[w][name] / recordsOf(name) })))
	}
	d.table.Settle = roundUp(0)
	beyond := func(name string) float64 { return d.costs(name) - d.known(name) }
	forged := []string{"claim/forged", "claim/16 forged", "claim/16 one of each forged"}
	settled := slices.DeleteFunc(d.named("claim"), func(name string) bool { return slices.Contains(forged, name) })
	d.table.Claim = d.message(forged)
	d.table.ClaimSettled = d.table.Claim - min(d.table.Claim, d.message(settled))
	bid := max(beyond("begin_run/16")-beyond("begin_run"), beyond("begin_run/16 forged")-beyond("begin_run/forged")) / 15
	d.table.SlateBid = roundUp(bid)
	d.table.BeginRun = roundUp(max(beyond("begin_run"), beyond("begin_run/forged")) - bid)
	votes, certificates := "report_evidence", "report_evidence/certificates"
	slope := max(d.slope(votes, certificates), d.slope(votes+"/forged", certificates+"/forged"))
	d.table.EvidenceByte = uint64(math.Ceil(slope))
	byVotes := slices.DeleteFunc(d.named(votes), func(name string) bool { return strings.HasPrefix(name, certificates) })
	d.table.ReportEvidence = d.message(byVotes)
	return d.table
}

// slope is what the longer of two operations costs more, for each byte.
func (d *derivation) slope(short, long string) float64 {
	length := func(name string) float64 { return float64(d.shapes[name].bytes) / float64(d.shapes[name].txs) }
	return (d.costs(long) - d.known(long) - d.costs(short) + d.known(short)) / (length(long) - length(short))
}

// entries are the table's messages with one operation of the same name.
func entries(t *execution.GasTable) map[string]*uint64 {
	return map[string]*uint64{
		"register_provider": &t.RegisterProvider, "unbond_provider": &t.UnbondProvider,
		"register_cluster": &t.RegisterCluster, "unbond_cluster": &t.UnbondCluster, "deposit": &t.Deposit, "withdraw": &t.Withdraw,
		"bond": &t.Bond, "delegate": &t.Delegate, "undelegate": &t.Undelegate, "redelegate": &t.Redelegate, "withdraw_rewards": &t.WithdrawRewards,
		"set_commission": &t.SetCommission, "rotate_keys": &t.RotateKeys, "unjail": &t.Unjail, "affiliate": &t.Affiliate, "unaffiliate": &t.Unaffiliate,
		"open_lease": &t.OpenLease, "resize_lease": &t.ResizeLease, "extend_lease": &t.ExtendLease, "close_lease": &t.CloseLease, "collect_lease": &t.CollectLease,
		"open_channel": &t.OpenChannel, "fund_channel": &t.FundChannel, "redeem_voucher": &t.RedeemVoucher, "close_channel": &t.CloseChannel,
		"register_meter": &t.RegisterMeter, "settle_batch": &t.SettleBatch,
		"add_bond": &t.AddBond, "commit_vote": &t.CommitVote, "reveal_vote": &t.RevealVote,
		"challenge": &t.Challenge, "appeal": &t.Appeal,
		"report_miss": &t.ReportMiss, "draw_peers": &t.DrawPeers, "leave_lease": &t.LeaveLease, "accuse_peer": &t.AccusePeer,
		"report_hardware": &t.ReportHardware, "declare_hardware": &t.DeclareHardware, "announce_home": &t.AnnounceHome,
		"report_acceptance": &t.ReportAcceptance,
		"commit_run":        &t.CommitRun, "reveal_run": &t.RevealRun, "collect_run": &t.CollectRun,
	}
}

// weights are what entries of queues weigh, by what may be measured of them.
func weights(t *execution.GasTable) map[string]*uint64 {
	return map[string]*uint64{
		queueMatured: &t.QueueMatured, queueReleased: &t.QueueReleased, queueExpired: &t.QueueExpired, queueLease: &t.QueueLease, queueChannel: &t.QueueChannel,
		queueDraw: &t.QueueDraw, queuePeers: &t.QueueDraw, queueBreach: &t.QueueDeadline, queueRuns: &t.QueueDeadline, queueOwed: &t.QueueDeadline, queueHardware: &t.QueueDeadline,
	}
}

// recordsOf is how many entries of a queue what is measured of it has.
func recordsOf(name string) float64 {
	if name == queueExpired { // an order with its claim, and its entry
		return 2
	}
	return 1
}

// TestMeasureGas measures, if it is asked to, and writes what the table is derived
// from.
func TestMeasureGas(t *testing.T) {
	if !*measureGas {
		return
	}
	b := newGasBench(t)
	only := regexp.MustCompile(*gasOnly).MatchString
	for range 3 {
		b.round(only)
	}
	for range 4 { // what all others are held against, and what reads all over the disk
		b.round(func(name string) bool {
			return only(name) && (average[name] > 0 || strings.HasPrefix(name, "transfer"))
		})
	}
	all := readMeasured(t)
	known := all[thisWay()]
	if known == nil || *gasOnly == "" && !*gasAgain {
		known = map[string]float64{}
	}
	for name, value := range b.out { // order-free: each its own
		unit := math.Pow(10, math.Floor(math.Log10(max(value, 1)))-2)
		value = math.Round(value/unit) * unit
		if *gasAgain {
			value = least(known, name, value)
		}
		known[name] = value
	}
	all[thisWay()] = known
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(measuredPath, append(data, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestGasTable derives the table from what was measured, and holds every operation
// against the limit. What is pinned stays pinned.
func TestGasTable(t *testing.T) {
	d := derivation{ns: readMeasured(t), shapes: shapes(t)}
	for w := range d.ns { // order-free: each its own
		if len(d.ns[w.on(wide)]) != len(d.ns[w.on(library)]) {
			t.Fatalf("%s: measured on one way alone", w)
		}
		if d.ns[w.on(wide)][signature] >= d.ns[w.on(library)][signature] {
			t.Fatalf("%s: signatures were not measured eight lanes wide: this needs a processor with AVX-512 IFMA", w)
		}
	}
	if got, want := asJSON(t, d.derive()), asJSON(t, execution.GasTableV1()); got != want {
		t.Errorf("GasTableV1 is not what is derived from %s:\n%s", measuredPath, got)
	}
	d.contractPrices(t)
	for _, w := range slices.Sorted(maps.Keys(d.ns)) {
		for _, r := range d.ratios(t, w) {
			if r.ratio > maxRatio {
				t.Errorf("%s: a block full of %s takes %.2f times as long as an average one; limit %.1f", w, r.name, r.ratio, maxRatio)
			}
		}
		d.checkState(t, w)
	}
}

// checkState holds against what they take the prices of reads and writes, and what blocks
// do that nobody pays for in them against an average block's gas.
func (d *derivation) checkState(t *testing.T, w way) {
	t.Helper()
	ns, gas := d.mix(w)
	table, measured := execution.GasTableV1(), d.ns[w]
	for name, price := range map[string]uint64{ // order-free: each its own
		readCold: table.Read, iteration: table.Read, iterationStep: table.Read,
		"disk/update": table.Write + table.WriteByte*accountBytes, "disk/insert": table.Write + table.Insert + table.WriteByte*accountBytes,
		"disk/delete": table.Write + table.Insert, "disk/byte": table.WriteByte, "disk/record byte": table.Byte,
	} {
		took, ok := measured[name]
		for _, signatures := range []string{library, wide} { // the ways of a processor differ in signatures
			if other, both := d.ns[w.on(signatures)][name]; both {
				took = min(took, other)
			}
		}
		ratio := took / float64(price) / (ns / gas)
		t.Logf("%-20s %-34s %9.1f ns, ratio to its price %.2f", w, name, took, ratio)
		if !ok || ratio > partRatio {
			t.Errorf("%s: %s takes %.0f ns, and costs %d gas: %.2f of what that is in an average block", w, name, took, price, ratio)
		}
	}
	full := float64(chain.DefaultParams().BlockGas.Units()) * ns / gas
	budget, most := float64(execution.QueueGas(chain.DefaultParams().BlockGas).Units()), 0.0
	for name, weight := range weights(&table) { // order-free: each its own
		took := measured[name] / recordsOf(name)
		share := budget / float64(*weight) * took / full
		most = max(most, share)
		t.Logf("%-20s %-34s %9.0f ns, weighs %d: queues full of it take %.2f of a full average block", w, name, took, *weight, share)
	}
	if most > maxQueues {
		t.Errorf("%s: the queues that begin a block take %.2f of a full one, limit %.2f", w, most, maxQueues)
	}
	if share := measured[epochClose] / full; share > maxClose {
		t.Errorf("%s: closing an epoch takes %.2f of a full block, limit %.2f", w, share, maxClose)
	}
}

// ratio is how much longer a block full of an operation takes than an average one of the
// same gas.
type ratio struct {
	name  string
	ratio float64
}

// ratios prints all of a way, the highest last.
func (d *derivation) ratios(t *testing.T, w way) []ratio {
	t.Helper()
	ns, gas := d.mix(w)
	perGas := func(name string) float64 {
		return d.nanos(w, name) * float64(d.shapes[name].txs) / float64(d.shapes[name].gas)
	}
	var out []ratio
	for name := range d.shapes { // order-free: sorted below
		if _, measured := d.ns[w][name]; !measured {
			t.Logf("%-20s %-34s was not measured", w, name)
			continue
		}
		out = append(out, ratio{name, perGas(name) / (ns / gas)})
	}
	slices.SortFunc(out, func(a, b ratio) int { return cmp.Or(cmp.Compare(a.ratio, b.ratio), strings.Compare(a.name, b.name)) })
	t.Logf("%-20s an average transaction takes %.0f ns for %.0f gas, %.2f ns each; transfers %.2f of that", w, ns, gas, ns/gas, perGas("transfer")/(ns/gas))
	for _, r := range out {
		k := d.shapes[r.name]
		t.Logf("%-20s %-34s %9.0f ns %9d gas, ratio %.2f, to transfers %.2f", w, r.name, d.nanos(w, r.name), k.gas/uint64(k.txs), r.ratio, perGas(r.name)/perGas("transfer"))
	}
	return out
}

// TestCheckGas measures every operation anew, if it is asked to, and holds it against the
// table as it is. What is above the limit is measured again: what disturbs only adds.
func TestCheckGas(t *testing.T) {
	if !*checkGas {
		return
	}
	b := newGasBench(t)
	d := derivation{ns: measures{thisWay(): b.out}, shapes: shapes(t)}
	only := regexp.MustCompile(*gasOnly)
	b.round(func(name string) bool { return only.MatchString(name) || average[name] > 0 || name == signature })
	b.round(func(name string) bool { return average[name] > 0 })
	maps.DeleteFunc(d.shapes, func(name string, _ work) bool { _, measured := b.out[name]; return !measured })
	var above []ratio
	for range 3 {
		above = d.ratios(t, thisWay())
		if above = slices.DeleteFunc(above, func(r ratio) bool { return r.ratio <= maxRatio }); len(above) == 0 {
			break
		}
		b.round(func(name string) bool {
			return slices.ContainsFunc(above, func(r ratio) bool { return r.name == name })
		})
	}
	above = slices.DeleteFunc(d.ratios(t, thisWay()), func(r ratio) bool { return r.ratio <= maxRatio })
	for _, r := range above {
		t.Errorf("%s: a block full of %s takes %.2f times as long as an average one, limit %.1f", thisWay(), r.name, r.ratio, maxRatio)
	}
	d.checkState(t, thisWay())
}

func readMeasured(t testing.TB) measures {
	t.Helper()
	data, err := os.ReadFile(measuredPath)
	if errors.Is(err, fs.ErrNotExist) && *measureGas {
		return measures{}
	}
	if err != nil {
		t.Fatal(err)
	}
	var ns measures
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
