package audit_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk/api"
	"github.com/hypermesh/hypermesh/sdk/audit"
)

// epochLength blocks are an epoch of the test's chain, of blockCount blocks.
const (
	epochLength = 6
	blockCount  = 28
)

func key(n int) crypto.PrivateKey { return crypto.PrivateKeyFromSeed([32]byte{byte(n), 5}) }

func owner(n int) chain.Address {
	return chain.AddressOf(crypto.AccountKeyOf(key(n).Public()))
}

func genesis(t testing.TB, id chain.ChainID) *chain.Genesis {
	t.Helper()
	g := &chain.Genesis{ChainID: id, TimeMs: 1, Params: chain.DefaultParams()}
	share := func(of chain.Amount, n, d uint64) chain.Amount {
		out, ok := of.ShareFloor(n, d)
		if !ok {
			t.Fatal("share")
		}
		return out
	}
	each := share(share(chain.TotalSupply, 10, 100), 1, 4)
	for i := range 4 {
		g.Validators = append(g.Validators, chain.GenesisValidator{
			Name: "v", ConsensusKey: key(i).Public(), NodeKey: key(100 + i).Public(), Owner: owner(i), Stake: each,
		})
	}
	for _, d := range chain.Distribution {
		a := chain.Allocation{Bucket: d.Bucket, Address: owner(50), Amount: share(chain.TotalSupply, d.Percent, 100)}
		if d.Bucket == chain.BucketTeam {
			a.Vesting = &chain.Vesting{StartMs: 1, CliffMs: chain.TeamCliffMs, DurationMs: chain.TeamDurationMs}
		}
		if d.Bucket != chain.BucketValidators {
			g.Allocations = append(g.Allocations, a)
		}
	}
	return g
}

// ledger is a source: a finalized chain whose epochs have committees of their own.
type ledger struct {
	testing.TB
	genesis  *chain.Genesis
	headers  []chain.Header
	receipts []chain.BlockReceipts
	direct   int  // every so many blocks have a certificate of their own
	forged   bool // certificates are signed by nobody of the committee
}

func keysOf(epoch consensus.Epoch) []crypto.PrivateKey {
	var keys []crypto.PrivateKey
	for n := range 4 {
		if epoch > 2 {
			n += 10 * int(epoch)
		}
		keys = append(keys, key(n))
	}
	slices.SortFunc(keys, func(a, b crypto.PrivateKey) int { return a.Public().Compare(b.Public()) })
	return keys
}

func (l *ledger) committee(epoch consensus.Epoch) *consensus.Committee {
	l.Helper()
	weight := l.genesis.Validators[0].Stake.Nano() / chain.NanoPerHyper
	var members []consensus.Validator
	for _, k := range keysOf(epoch) {
		members = append(members, consensus.Validator{Key: k.Public(), Weight: weight, LeaderWeight: weight})
	}
	c, err := consensus.NewCommittee(epoch, members)
	if err != nil {
		l.Fatal(err)
	}
	return c
}

// receiptsAt has nothing in most blocks, two claims in one of three transactions
// in some, and the payment of a lease that ends in others.
func receiptsAt(height int) chain.BlockReceipts {
	record := func(n int, r chain.Resource) chain.ResourceTransaction {
		return chain.ResourceTransaction{
			NodeID: key(60 + n).Public(), ResourceType: r, Amount: uint64(1_000 * (n + 1)), DurationMs: uint64(height), PricePerUnit: 1 << 60,
			Consumer: owner(70 + height%2), Provider: owner(80 + n), Timestamp: chain.TimeMs(1_000 * height),
		}
	}
	claim := func(n int) chain.ClaimSettled {
		return chain.ClaimSettled{
			Order: crypto.Digest{byte(height)}, Node: key(60 + n).Public(), Sequence: 1, Consumer: owner(70), Provider: owner(80 + n), Policy: "none",
			Cost: chain.Nano(10), Paid: chain.Nano(10), PriorityBurned: chain.Nano(1), PriorityFee: chain.Nano(2), Records: []chain.ResourceTransaction{record(n, chain.CPU), record(n, chain.Memory)},
		}
	}
	var out chain.BlockReceipts
	switch height % 4 {
	case 1:
		out.Txs = []chain.Receipt{
			{TxID: crypto.Digest{byte(height), 1}}, {TxID: crypto.Digest{byte(height), 2}, Events: chain.Events{claim(0), claim(1)}}, {TxID: crypto.Digest{byte(height), 3}},
		}
	case 2:
		out.Begin = chain.Events{chain.LeasePaid{Lease: chain.LeaseID{Node: key(62).Public(), Order: crypto.Digest{9}}, Cost: chain.Nano(5), Paid: chain.Nano(5), PriorityBurned: chain.Nano(4),
			Records: []chain.ResourceTransaction{record(2, chain.GPU)}}}
		out.Txs = []chain.Receipt{{TxID: crypto.Digest{byte(height), 4}, Rejection: "nonce"}}
	}
	return out
}

func newLedger(t testing.TB, id chain.ChainID, direct int) *ledger {
	return ledgerOf(t, id, direct, receiptsAt)
}

func ledgerOf(t testing.TB, id chain.ChainID, direct int, receiptsAt func(height int) chain.BlockReceipts) *ledger {
	l := &ledger{TB: t, genesis: genesis(t, id), direct: direct}
	parent := l.genesis.Digest()
	for height := 1; height <= blockCount; height++ {
		epoch := consensus.Epoch((height-1)/epochLength + 1)
		h := chain.Header{
			Version: chain.BlockVersion, ChainID: id, Height: chain.Height(height), Epoch: uint64(epoch), View: uint64(height), Parent: parent, TimeMs: chain.TimeMs(1_000 * height),
			Committee: l.committee(epoch).Digest(), NextCommittee: l.committee(epoch + 1).Digest(), Closing: height%epochLength == 0,
		}
		before := chain.BlockReceipts{}
		if height > 1 {
			before = l.receipts[height-2]
		}
		h.ReceiptRoot = before.Root()
		parent = h.Digest()
		l.headers, l.receipts = append(l.headers, h), append(l.receipts, receiptsAt(height))
	}
	return l
}

func (l *ledger) certificate(h chain.Header) []byte {
	s := consensus.Statement{Kind: consensus.KindFinalize, Proposal: consensus.Proposal{
		Round: consensus.Round{Epoch: consensus.Epoch(h.Epoch), View: consensus.View(h.View)}, Parent: consensus.View(h.View) - 1, Digest: h.Digest()}}
	var votes []consensus.Vote
	for i, k := range keysOf(consensus.Epoch(h.Epoch))[:3] {
		if l.forged {
			k = key(200 + i)
		}
		votes = append(votes, consensus.SignVote(k, consensus.Signer(i), string(h.ChainID), s))
	}
	return consensus.EncodeCertificate(consensus.Assemble(l.committee(consensus.Epoch(h.Epoch)), s, votes))
}

// Block implements audit.Source.
func (l *ledger) Block(_ context.Context, height chain.Height, _ string) (api.Block, error) {
	if height == 0 || int(height) > len(l.headers) {
		return api.Block{}, fmt.Errorf("no block %d", height)
	}
	top := int(height)
	var path [][]byte
	for top%l.direct != 0 && top%epochLength != 0 && top < len(l.headers) {
		path = append(path, l.headers[top].Encode())
		top++
	}
	receipts := l.receipts[height-1]
	return api.Block{
		Header: api.HeaderToJSON(l.headers[height-1]), RawReceipts: receipts.Encode(),
		Certificate: api.Certificate{Bytes: l.certificate(l.headers[top-1]), Path: path},
	}, nil
}

// EpochEnd implements audit.Source.
func (l *ledger) EpochEnd(_ context.Context, epoch uint64) (api.EpochEnd, error) {
	h := l.headers[epoch*epochLength-1]
	out := api.EpochEnd{Epoch: epoch, Header: api.HeaderToJSON(h), Digest: h.Digest(), Certificate: l.certificate(h)}
	for i, v := range keysOf(consensus.Epoch(epoch) + 1) {
		member := l.committee(consensus.Epoch(epoch) + 1).Validator(consensus.Signer(i))
		out.Members = append(out.Members, api.EpochMember{ConsensusKey: v.Public(), Weight: api.Uint64(member.Weight), LeaderWeight: api.Uint64(member.LeaderWeight)})
	}
	return out, nil
}

type files struct{ records, proof []byte }

func (l *ledger) export(request audit.Request) files {
	l.Helper()
	var records, proof bytes.Buffer
	of := audit.Chain{ID: l.genesis.ChainID, Genesis: l.genesis.Digest()}
	if _, err := audit.Export(context.Background(), l, of, request, audit.Files{Records: &records, Proof: &proof}); err != nil {
		l.Fatal(err)
	}
	return files{records.Bytes(), proof.Bytes()}
}

func (l *ledger) verify(f files) (audit.Summary, error) {
	return audit.Verify(context.Background(), audit.Trust{Genesis: l.genesis}, bytes.NewReader(f.records), bytes.NewReader(f.proof))
}

func (f files) lines() []string { return strings.SplitAfter(string(f.records), "\n") }

func (f files) with(lines []string) files {
	return files{[]byte(strings.Join(lines, "")), f.proof}
}

func full(format audit.Format) audit.Request {
	return audit.Request{From: 1, To: blockCount - 1, Format: format, Complete: true}
}

func TestExportVerifies(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		request audit.Request
		records uint64
	}{
		"csv":             {full(audit.CSV), 35},
		"json":            {full(audit.JSON), 35},
		"part":            {audit.Request{From: 9, To: 17, Format: audit.CSV, Complete: true}, 14},
		"empty":           {audit.Request{From: 3, To: 4, Format: audit.JSON, Complete: true}, 0},
		"node":            {audit.Request{From: 1, To: 27, Format: audit.CSV, Filter: audit.Filter{Node: key(61).Public()}}, 14},
		"complete node":   {audit.Request{From: 1, To: 27, Format: audit.CSV, Complete: true, Filter: audit.Filter{Node: key(61).Public()}}, 14},
		"consumer":        {audit.Request{From: 1, To: 27, Format: audit.CSV, Filter: audit.Filter{Consumer: owner(70)}}, 7},
		"provider":        {audit.Request{From: 1, To: 27, Format: audit.JSON, Filter: audit.Filter{Provider: owner(82)}}, 7},
		"resource":        {audit.Request{From: 1, To: 27, Format: audit.CSV, Filter: audit.Filter{Resource: chain.Memory}}, 14},
		"time":            {audit.Request{From: 1, To: 27, Format: audit.CSV, Filter: audit.Filter{Since: 5_000, Until: 9_000}}, 5},
		"nothing matches": {audit.Request{From: 1, To: 27, Format: audit.CSV, Filter: audit.Filter{Since: 1 << 40}}, 0},
	}
	for name, c := range cases {
		for _, direct := range []int{1, 3, 6} {
			l := newLedger(t, "audit-test", direct)
			f := l.export(c.request)
			got, err := l.verify(f)
			if err != nil {
				t.Errorf("%s, a certificate each %d: %v", name, direct, err)
			}
			if got.Records != c.records || got.Complete != c.request.Complete || got.From != c.request.From || got.To != c.request.To {
				t.Errorf("%s: %+v, want %d records", name, got, c.records)
			}
			checkReadable(t, c.request.Format, f.records, int(c.records))
		}
	}
}

// checkReadable checks that what others read such files with reads the records.
func checkReadable(t *testing.T, format audit.Format, raw []byte, records int) {
	t.Helper()
	if format == audit.JSON {
		var out []map[string]any
		if err := json.Unmarshal(raw, &out); err != nil || len(out) != records {
			t.Errorf("%d JSON records, want %d: %v", len(out), records, err)
		}
		return
	}
	rows, err := csv.NewReader(bytes.NewReader(raw)).ReadAll()
	if err != nil || len(rows) != records+1 {
		t.Errorf("%d CSV rows, want %d: %v", len(rows), records+1, err)
	}
	kind, priority := slices.Index(rows[0], "kind"), slices.Index(rows[0], "payment_priority_nhyper")
	for _, row := range rows[1:] { // of a claim 1 is burned and 2 are the cluster's, of a lease 4 and nothing
		if want := map[string]string{"claim": "3", "lease": "4"}[row[kind]]; row[priority] != want {
			t.Errorf("the priority fee of a %s is %s, want %s", row[kind], row[priority], want)
		}
	}
}

func TestTamperingIsRefusedByName(t *testing.T) {
	t.Parallel()
	l := newLedger(t, "audit-test", 3)
	for _, format := range []audit.Format{audit.CSV, audit.JSON} {
		f := l.export(full(format))
		lines := f.lines()
		change := func(do func(lines []string) []string) files { return f.with(do(slices.Clone(lines))) }
		cases := map[string]struct {
			files files
			want  error
			text  string
		}{
			"changed amount": {change(func(s []string) []string {
				s[1] = strings.Replace(strings.Replace(s[1], "CPU,1000,", "CPU,1001,", 1), `"amount":1000,`, `"amount":1001,`, 1)
				return s
			}), audit.ErrRecord, "amount is \"1001\", the chain says 1000"},
			"left out":        {change(func(s []string) []string { return slices.Delete(s, 4, 5) }), audit.ErrOrder, "where record 4"},
			"moved":           {change(func(s []string) []string { s[3], s[4] = s[4], s[3]; return s }), audit.ErrOrder, "where record 3"},
			"added":           {change(func(s []string) []string { return slices.Insert(s, 7, s[3]) }), audit.ErrOrder, "where record 7"},
			"rewritten":       {change(func(s []string) []string { s[2] = strings.TrimSuffix(s[2], "\n") + " \n"; return s }), audit.ErrRecord, "record 2"},
			"last ones gone":  {change(func(s []string) []string { return s[:9] }), audit.ErrTruncated, "record 9"},
			"more at the end": {change(func(s []string) []string { return append(s, s[3]) }), audit.ErrOrder, "goes on after"},
			"no record":       {change(func(s []string) []string { s[2] = "rubbish\n"; return s }), audit.ErrRecord, "is no record"},
			"long line":       {change(func(s []string) []string { s[2] = strings.Repeat("x", 9_000) + "\n"; return s }), audit.ErrRecord, "more than 4096 bytes"},
			"no records":      {files{nil, f.proof}, audit.ErrTruncated, "the records end"},
			"cut proof":       {files{f.records, f.proof[:len(f.proof)/2]}, audit.ErrTruncated, "the proof ends"},
			"no end":          {files{f.records, f.proof[:len(f.proof)-30]}, audit.ErrTruncated, "the proof ends"},
			"longer proof":    {files{f.records, append(bytes.Clone(f.proof), 0)}, audit.ErrProof, "goes on after its end"},
			"no proof":        {files{f.records, []byte(strings.Repeat("no proof", 9))}, audit.ErrProof, "does not begin"},
		}
		for name, c := range cases {
			if _, err := l.verify(c.files); !errors.Is(err, c.want) || !errors.Is(err, audit.ErrRefused) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%s, %s: %v, want %v with %q", format, name, err, c.want, c.text)
			}
		}
	}
}

func TestOtherChainIsRefused(t *testing.T) {
	t.Parallel()
	l := newLedger(t, "audit-test", 3)
	other := newLedger(t, "other-test", 3)
	if _, err := other.verify(l.export(full(audit.CSV))); !errors.Is(err, audit.ErrOtherChain) {
		t.Error(err)
	}
	// Of the same name, with another genesis.
	again := &ledger{TB: t, genesis: genesis(t, "audit-test")}
	again.genesis.TimeMs = 2
	if _, err := again.verify(l.export(full(audit.CSV))); !errors.Is(err, audit.ErrOtherChain) {
		t.Error(err)
	}
}

// TestLyingNodeIsFoundOut has the exporter ask nodes that lie: the export is
// written, consistent and with a right checksum, and does not verify.
func TestLyingNodeIsFoundOut(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		lie  func(l *ledger)
		want error
		text string
	}{
		"changed amount": {func(l *ledger) {
			l.receipts[4].Txs[1].Events[0].(chain.ClaimSettled).Records[0].Amount++
		}, audit.ErrProof, "block 5"},
		"left out record":     {func(l *ledger) { l.receipts[4].Txs[1].Events = l.receipts[4].Txs[1].Events[:1] }, audit.ErrProof, "block 5"},
		"left out receipt":    {func(l *ledger) { l.receipts[4].Txs = l.receipts[4].Txs[1:] }, audit.ErrProof, "block 5"},
		"forged certificates": {func(l *ledger) { l.forged = true }, light.ErrRefused, ""},
		"forged history":      {func(l *ledger) { l.headers[9].ReceiptRoot[0] ^= 1 }, audit.ErrProof, "block"},
	}
	for name, c := range cases {
		for _, request := range []audit.Request{full(audit.CSV), {From: 1, To: 27, Format: audit.CSV, Filter: audit.Filter{Node: key(60).Public()}}} {
			l := newLedger(t, "audit-test", 3)
			c.lie(l)
			_, err := l.verify(l.export(request))
			if !errors.Is(err, c.want) && !errors.Is(err, light.ErrRefused) || !strings.Contains(fmt.Sprint(err), c.text) {
				t.Errorf("%s, complete %v: %v, want %v", name, request.Complete, err, c.want)
			}
		}
	}
}

// TestEveryChangedByteIsRefused changes bytes of either file, each in turn at
// random places, and cuts both.
func TestEveryChangedByteIsRefused(t *testing.T) {
	t.Parallel()
	l := newLedger(t, "audit-test", 3)
	random := rand.New(rand.NewPCG(1, 2))
	for _, request := range []audit.Request{
		{From: 8, To: 15, Format: audit.CSV, Complete: true},
		{From: 8, To: 15, Format: audit.JSON, Filter: audit.Filter{Node: key(61).Public()}},
	} {
		f := l.export(request)
		for range 400 {
			bad := files{bytes.Clone(f.records), bytes.Clone(f.proof)}
			which := &bad.proof
			if random.IntN(2) == 0 {
				which = &bad.records
			}
			at, bit := random.IntN(len(*which)), byte(1)<<random.IntN(8)
			(*which)[at] ^= bit
			if _, err := l.verify(bad); !errors.Is(err, audit.ErrRefused) && !errors.Is(err, light.ErrRefused) {
				t.Fatalf("byte %d changed by %#x of %d: %v", at, bit, len(*which), err)
			}
			*which = (*which)[:at]
			if _, err := l.verify(bad); !errors.Is(err, audit.ErrRefused) && !errors.Is(err, light.ErrRefused) {
				t.Fatalf("cut at %d of %d: %v", at, len(*which), err)
			}
		}
	}
}

// TestFramesInAnotherOrderAreRefused drops, doubles and swaps whole frames of a
// proof: what is left decodes, and does not prove.
func TestFramesInAnotherOrderAreRefused(t *testing.T) {
	t.Parallel()
	l := newLedger(t, "audit-test", 1)
	for _, request := range []audit.Request{full(audit.CSV), {From: 1, To: 27, Format: audit.CSV, Filter: audit.Filter{Node: key(60).Public()}}} {
		f := l.export(request)
		head, frames := audit.SplitFrames(f.proof)
		if len(frames) < 15 {
			t.Fatalf("%d frames", len(frames))
		}
		try := func(what string, list [][]byte) {
			t.Helper()
			bad := files{f.records, audit.JoinFrames(head, list)}
			if _, err := l.verify(bad); !errors.Is(err, audit.ErrRefused) && !errors.Is(err, light.ErrRefused) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if _, err := l.verify(files{f.records, audit.JoinFrames(head, frames)}); err != nil {
			t.Fatal(err)
		}
		for i := range len(frames) - 1 {
			// The end of epoch 1 is there for checkpoints alone, that of epoch 5 too.
			if audit.IsEpoch(frames[i]) {
				continue
			}
			try(fmt.Sprint("without frame ", i), slices.Delete(slices.Clone(frames), i, i+1))
			try(fmt.Sprint("frame twice ", i), slices.Insert(slices.Clone(frames), i, frames[i]))
			swapped := slices.Clone(frames)
			swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
			if i+2 < len(frames) && !audit.IsEpoch(frames[i+1]) {
				try(fmt.Sprint("swapped frame ", i), swapped)
			}
		}
	}
}

func TestCheckpoint(t *testing.T) {
	t.Parallel()
	l := newLedger(t, "audit-test", 3)
	at := func(epoch int) *light.Checkpoint {
		h := l.headers[epoch*epochLength-1]
		return &light.Checkpoint{ChainID: h.ChainID, Epoch: consensus.Epoch(epoch), Height: h.Height, TimeMs: h.TimeMs, Digest: h.Digest(), NextCommittee: h.NextCommittee}
	}
	f := l.export(audit.Request{From: 20, To: 27, Format: audit.CSV, Complete: true})
	verify := func(c *light.Checkpoint, now chain.TimeMs) error {
		_, err := audit.Verify(context.Background(), audit.Trust{Genesis: l.genesis, Checkpoint: c, Now: now}, bytes.NewReader(f.records), bytes.NewReader(f.proof))
		return err
	}
	for epoch := 1; epoch <= 3; epoch++ {
		if err := verify(at(epoch), 30_000); err != nil {
			t.Errorf("from the end of epoch %d: %v", epoch, err)
		}
	}
	if err := verify(at(4), 30_000); !errors.Is(err, audit.ErrProof) && !errors.Is(err, light.ErrRefused) {
		t.Errorf("from a checkpoint after the first block: %v", err)
	}
	forged := at(2)
	forged.Digest[0] ^= 1
	if err := verify(forged, 30_000); !errors.Is(err, light.ErrRefused) {
		t.Errorf("from a checkpoint of another history: %v", err)
	}
	if err := verify(at(2), 1<<50); !errors.Is(err, light.ErrStale) {
		t.Errorf("from an old checkpoint: %v", err)
	}
}

// TestEveryByteIsProven changes bytes of headers, certificates and receipts and
// mends the checksum: it is the proof that refuses.
func TestEveryByteIsProven(t *testing.T) {
	t.Parallel()
	l := newLedger(t, "audit-test", 3)
	random := rand.New(rand.NewPCG(3, 4))
	for _, request := range []audit.Request{
		{From: 8, To: 15, Format: audit.CSV, Complete: true},
		{From: 8, To: 15, Format: audit.JSON, Filter: audit.Filter{Node: key(61).Public()}},
	} {
		f := l.export(request)
		head, frames := audit.SplitFrames(f.proof)
		for range 400 {
			list := slices.Clone(frames)
			which := 1 + random.IntN(len(list)-2)
			if audit.IsEpoch(list[which]) {
				continue // the first epochs' are not needed from genesis
			}
			list[which] = bytes.Clone(list[which])
			at, bit := 5+random.IntN(len(list[which])-5), byte(1)<<random.IntN(8)
			list[which][at] ^= bit
			_, err := l.verify(files{f.records, audit.JoinFrames(head, list)})
			if !errors.Is(err, audit.ErrRefused) && !errors.Is(err, light.ErrRefused) {
				t.Fatalf("byte %d of frame %d changed by %#x: %v", at, which, bit, err)
			}
		}
	}
}

// TestWhatIsClaimedIsShown has proofs claim more than they show.
func TestWhatIsClaimedIsShown(t *testing.T) {
	t.Parallel()
	l := newLedger(t, "audit-test", 3)
	part := audit.Request{From: 8, To: 15, Format: audit.CSV, Complete: true}
	some := audit.Request{From: 8, To: 15, Format: audit.CSV, Filter: audit.Filter{Node: key(61).Public()}}
	for name, c := range map[string]struct {
		request audit.Request
		claim   func(*audit.Request)
	}{
		"earlier":                {part, func(r *audit.Request) { r.From-- }},
		"later start":            {part, func(r *audit.Request) { r.From++ }},
		"later":                  {part, func(r *audit.Request) { r.To++ }},
		"shorter":                {part, func(r *audit.Request) { r.To-- }},
		"of one node":            {part, func(r *audit.Request) { r.Filter.Node = key(61).Public() }},
		"completeness":           {some, func(r *audit.Request) { r.Complete = true }},
		"everything":             {some, func(r *audit.Request) { r.Filter = audit.Filter{} }},
		"everything, completely": {some, func(r *audit.Request) { r.Filter, r.Complete = audit.Filter{}, true }},
		"another format":         {part, func(r *audit.Request) { r.Format = audit.JSON }},
		"no format":              {part, func(r *audit.Request) { r.Format = "xml" }},
		"no range":               {part, func(r *audit.Request) { r.From, r.To = 9, 8 }},
	} {
		f := l.export(c.request)
		f.proof = audit.WithRequest(f.proof, c.claim)
		if got, err := l.verify(f); !errors.Is(err, audit.ErrRefused) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// FuzzVerify checks that nothing panics, and that a proof that is accepted has one
// records file.
func FuzzVerify(f *testing.F) {
	l := newLedger(f, "audit-test", 3)
	good := l.export(audit.Request{From: 8, To: 10, Format: audit.CSV, Complete: true})
	f.Add(good.records, good.proof)
	f.Add([]byte{}, good.proof[:200])
	f.Fuzz(func(t *testing.T, records, proof []byte) {
		if _, err := l.verify(files{records, proof}); err != nil {
			return
		}
		for _, other := range [][]byte{append(bytes.Clone(records), 'x'), records[:len(records)-1]} {
			if _, err := l.verify(files{other, proof}); err == nil {
				t.Errorf("both %q and %q are accepted", records, other)
			}
		}
	})
}
