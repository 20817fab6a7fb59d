package audit_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/sdk/audit"
)

const settledAt = 9 // whose block settles the batch

var batchOrder = crypto.Digest{42}

// batchWork are records of a batch after sequence 10.
func batchWork(t testing.TB, seed byte) *zk.UsageWork {
	t.Helper()
	secret := zk.NewMeterSecret([32]byte{seed})
	file := zk.UsageFile{Order: batchOrder, Key: secret.Public(), After: 10}
	of, err := zk.UsageContext(file.Order, file.Key)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(7) {
		r := zk.UsageRecord{Sequence: 12 + 2*i, Resource: uint8(i % 5), Amount: 100 + i, DurationMs: 1_000, EndedMs: 1_790_000_000_000}
		file.Records = append(file.Records, zk.SignedUsage{Record: r, Signature: secret.Sign(of, r)})
	}
	work, err := zk.NewUsageWork(32, file)
	if err != nil {
		t.Fatal(err)
	}
	return work
}

// batchLedger settles the batch in one of several transactions of a block.
func batchLedger(t testing.TB, id chain.ChainID) *ledger {
	work := batchWork(t, 1)
	totals := work.Totals()
	return ledgerOf(t, id, 3, func(height int) chain.BlockReceipts {
		out := receiptsAt(height)
		if height == settledAt {
			out.Txs = append(out.Txs, chain.Receipt{TxID: crypto.Digest{7}, Events: chain.Events{chain.BatchSettled{
				Order: batchOrder, Node: key(60).Public(), Consumer: owner(70), Provider: owner(80), Meter: chain.MeterKey(work.File().Key),
				After: 10, Last: chain.Number(totals.Last), Count: totals.Count, Root: chain.FieldBytes(totals.Root), Kernel: "usage-batch-32",
				Totals: []chain.BatchTotal{{Resource: chain.CPU, Low: 1}, {Resource: chain.Memory, Low: 1}}, Ended: 1_000_000,
			}}})
		}
		return out
	})
}

func disclose(t testing.TB, work *zk.UsageWork, index int) audit.Disclosure {
	t.Helper()
	opening, err := work.Open(index)
	if err != nil {
		t.Fatal(err)
	}
	return audit.Disclosure{Order: batchOrder, Node: key(60).Public(), Opening: opening}
}

func (l *ledger) opening(height chain.Height, d audit.Disclosure) ([]byte, error) {
	var out bytes.Buffer
	of := audit.Chain{ID: l.genesis.ChainID, Genesis: l.genesis.Digest()}
	err := audit.WriteOpening(context.Background(), l, audit.Settled{Chain: of, Height: height}, d, &out)
	return out.Bytes(), err
}

func (l *ledger) open(raw []byte) (audit.Opened, error) {
	return audit.VerifyOpening(context.Background(), audit.Trust{Genesis: l.genesis}, bytes.NewReader(raw))
}

func TestOpeningShowsOneRecord(t *testing.T) {
	t.Parallel()
	l, work := batchLedger(t, "audit-test"), batchWork(t, 1)
	for i, signed := range work.File().Records {
		raw, err := l.opening(settledAt, disclose(t, work, i))
		if err != nil {
			t.Fatal(err)
		}
		got, err := l.open(raw)
		if err != nil {
			t.Fatal(err)
		}
		r := signed.Record
		if got.Height != settledAt || got.TxID != (crypto.Digest{7}) || got.Order != batchOrder || uint64(got.Sequence) != r.Sequence || got.Amount != r.Amount ||
			got.Resource != chain.CPU+chain.Resource(r.Resource) || got.Records != 7 || got.Provider != owner(80) {
			t.Errorf("record %d: %+v", i, got)
		}
		for other, s := range work.File().Records {
			if x := s.Signature.S; other != i && bytes.Contains(raw, x[:]) {
				t.Errorf("the opening of record %d shows record %d", i, other)
			}
		}
		if !audit.IsOpening(raw) || audit.IsOpening([]byte("hypermesh audit proof\n")) {
			t.Error("an opening is not told from an export")
		}
	}
	if _, err := l.opening(settledAt-1, disclose(t, work, 0)); err == nil || !strings.Contains(err.Error(), "settled no such batch") {
		t.Errorf("of another block: %v", err)
	}
}

// TestChangedOpeningIsRefusedByName changes what is shown, field by field.
// TestCompleteExportCountsBatches: that no record is left out does not say that there was
// no other usage.
func TestCompleteExportCountsBatches(t *testing.T) {
	t.Parallel()
	l := batchLedger(t, "audit-test")
	for name, c := range map[string]struct {
		complete bool
		filter   audit.Filter
		batches  uint64
	}{
		"complete":         {true, audit.Filter{}, 1},
		"its node":         {true, audit.Filter{Node: key(60).Public()}, 1},
		"its resource":     {true, audit.Filter{Resource: chain.Memory}, 1},
		"another node":     {true, audit.Filter{Node: key(61).Public()}, 0},
		"another resource": {true, audit.Filter{Resource: chain.GPU}, 0},
		"later":            {true, audit.Filter{Since: 2_000_000}, 0},
		"not complete":     {false, audit.Filter{Node: key(60).Public()}, 0},
	} {
		got, err := l.verify(l.export(audit.Request{From: 1, To: blockCount - 1, Format: audit.CSV, Complete: c.complete, Filter: c.filter}))
		if err != nil || got.Batches != c.batches {
			t.Errorf("%s: %d batches, want %d: %v", name, got.Batches, c.batches, err)
		}
	}
}

func TestChangedOpeningIsRefusedByName(t *testing.T) {
	t.Parallel()
	l, work := batchLedger(t, "audit-test"), batchWork(t, 1)
	for name, c := range map[string]struct {
		change func(d *audit.Disclosure)
		text   string
	}{
		"amount":    {func(d *audit.Disclosure) { d.Opening.Signed.Record.Amount++ }, "is not signed by key"},
		"duration":  {func(d *audit.Disclosure) { d.Opening.Signed.Record.DurationMs-- }, "is not signed by key"},
		"resource":  {func(d *audit.Disclosure) { d.Opening.Signed.Record.Resource ^= 1 }, "is not signed by key"},
		"end":       {func(d *audit.Disclosure) { d.Opening.Signed.Record.EndedMs++ }, "is not signed by key"},
		"sequence":  {func(d *audit.Disclosure) { d.Opening.Signed.Record.Sequence++ }, "is not signed by key"},
		"signature": {func(d *audit.Disclosure) { d.Opening.Signed.Signature.S[31] ^= 1 }, "is not signed by key"},
		"bounds":    {func(d *audit.Disclosure) { d.Opening.Signed.Record.Amount = 1 << 48 }, "usage record of amount"},
		"index":     {func(d *audit.Disclosure) { d.Opening.Index++ }, "is not on its path"},
		"size":      {func(d *audit.Disclosure) { d.Opening.Size = 112 }, "with a path of"},
		"path":      {func(d *audit.Disclosure) { d.Opening.Path[1][3][31] ^= 1 }, "is not on its path at level 2"},
		"top":       {func(d *audit.Disclosure) { d.Opening.Path[2][1][31] ^= 1 }, "is not under root"},
		"leaf":      {func(d *audit.Disclosure) { d.Opening.Path[0][2][31] ^= 1 }, "is not on its path at level 0"},
		"no path":   {func(d *audit.Disclosure) { d.Opening.Path = nil }, "with a path of 0"},
		"another's": {func(d *audit.Disclosure) { *d = disclose(t, batchWork(t, 2), 2) }, "is not signed by key"},
	} {
		d := disclose(t, work, 2)
		d.Opening.Path = slices.Clone(d.Opening.Path)
		c.change(&d)
		raw, err := l.opening(settledAt, d)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := l.open(raw); !errors.Is(err, audit.ErrRecord) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %q", name, err, c.text)
		}
	}
	// A record of another order or node, or whose sequence is in no batch, is not found in
	// the receipt that was shown.
	raw, err := l.opening(settledAt, disclose(t, work, 2))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(d *audit.Disclosure){
		"order":    func(d *audit.Disclosure) { d.Order[0] ^= 1 },
		"node":     func(d *audit.Disclosure) { d.Node = key(61).Public() },
		"sequence": func(d *audit.Disclosure) { d.Opening.Signed.Record.Sequence = 10 },
	} {
		d := disclose(t, work, 2)
		change(&d)
		if _, err := l.open(withRecord(t, raw, d)); !errors.Is(err, audit.ErrRecord) || !strings.Contains(err.Error(), "settles no batch") {
			t.Errorf("%s: %v", name, err)
		}
	}
	other := batchLedger(t, "other-test")
	if _, err := other.open(raw); !errors.Is(err, audit.ErrOtherChain) {
		t.Errorf("on another chain: %v", err)
	}
	forged := batchLedger(t, "audit-test")
	forged.forged = true
	if raw, err := forged.opening(settledAt, disclose(t, work, 2)); err != nil {
		t.Error(err)
	} else if _, err := l.open(raw); err == nil {
		t.Error("a certificate that nobody signed was taken")
	}
}

// withRecord puts another record's frame in place of the one that is there.
func withRecord(t *testing.T, raw []byte, d audit.Disclosure) []byte {
	t.Helper()
	const kind = 7
	for at := len("hypermesh audit opening\n"); at < len(raw); {
		size := int(binary.BigEndian.Uint32(raw[at+1:]))
		if raw[at] == kind {
			frame := codec.Marshal(d)
			out := append(bytes.Clone(raw[:at]), kind)
			out = append(binary.BigEndian.AppendUint32(out, uint32(len(frame))), frame...)
			return append(out, raw[at+5+size:]...)
		}
		at += 5 + size
	}
	t.Fatal("the opening has no record")
	return nil
}

// TestEveryByteOfAnOpeningCounts flips and cuts.
func TestEveryByteOfAnOpeningCounts(t *testing.T) {
	t.Parallel()
	l, work := batchLedger(t, "audit-test"), batchWork(t, 1)
	raw, err := l.opening(settledAt, disclose(t, work, 2))
	if err != nil {
		t.Fatal(err)
	}
	step := 1
	if testing.Short() {
		step = 17
	}
	for i := 0; i < len(raw); i += step {
		changed := bytes.Clone(raw)
		changed[i] ^= 1 << (i % 8)
		if _, err := l.open(changed); err == nil {
			t.Errorf("byte %d of %d can be changed", i, len(raw))
		}
		if _, err := l.open(raw[:i]); err == nil {
			t.Errorf("the first %d bytes of %d are enough", i, len(raw))
		}
	}
	if _, err := l.open(append(bytes.Clone(raw), 0)); !errors.Is(err, audit.ErrProof) {
		t.Errorf("a byte more: %v", err)
	}
}
