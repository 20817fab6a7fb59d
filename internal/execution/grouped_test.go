package execution

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// What follows measures whether transfers would be executed faster in groups at
// a time (docs/adr/0014-serial-execution.md). It is the most that any parallel
// execution of transfers could gain: groups share no account, so that nothing is
// speculated, recorded, checked or done again.

// groups divides transfers into lists of indices, in the block's order, such
// that no account is in two; the lists are as even as may be.
func groups(txs []*chain.VerifiedTx, n int) [][]int {
	ids, parent := map[chain.Address]int{}, []int{}
	find := func(i int) int {
		for parent[i] != i {
			parent[i] = parent[parent[i]]
			i = parent[i]
		}
		return i
	}
	id := func(a chain.Address) int {
		i, ok := ids[a]
		if !ok {
			i = len(parent)
			ids[a], parent = i, append(parent, i)
		}
		return find(i)
	}
	of := make([]int, len(txs))
	for i, tx := range txs {
		b := &tx.Tx().Body
		of[i] = id(b.Sender)
		parent[id(b.Payer())] = find(of[i])
		for _, m := range b.Messages {
			parent[id(m.(chain.Transfer).To)] = find(of[i])
		}
	}
	members, first := map[int][]int{}, []int{}
	for i := range txs {
		root := find(of[i])
		if members[root] == nil {
			first = append(first, root)
		}
		members[root] = append(members[root], i)
	}
	slices.SortStableFunc(first, func(a, b int) int { return len(members[b]) - len(members[a]) })
	out := make([][]int, n)
	for _, root := range first {
		least := 0
		for g := range out {
			if len(out[g]) < len(out[least]) {
				least = g
			}
		}
		out[least] = append(out[least], members[root]...)
	}
	for g := range out {
		slices.Sort(out[g])
	}
	return out
}

// phases is where the time of a block in groups goes.
type phases struct {
	divide time.Duration   // into groups
	groups []time.Duration // that could run at a time
	join   time.Duration   // their changes and receipts, and the end of the block
}

// critical is how long the block would take with a core for each group.
func (p *phases) critical() time.Duration { return p.divide + slices.Max(p.groups) + p.join }

// applyGrouped is Apply for a block of transfers in which nothing matures. The
// groups run one after the other: so each is measured by itself, whatever else
// the machine does.
func (x *Executor) applyGrouped(parent state.Reader, h *chain.Header, txs []*chain.VerifiedTx, n int) (Outcome, phases, error) {
	took, begun := phases{groups: make([]time.Duration, n)}, time.Now()
	parts, runs := groups(txs, n), make([]*run, n)
	took.divide = time.Since(begun)
	for g := range runs {
		begun = time.Now()
		r, err := x.begin(parent, h, 0)
		if err != nil {
			return Outcome{}, took, err
		}
		if _, _, refused := staking.TakeExtras(r.block, &r.stakes, staking.Extras{}); refused != nil {
			return Outcome{}, took, refused
		}
		for _, i := range parts[g] {
			if refusal := r.execute(txs[i]); refusal != nil {
				return Outcome{}, took, refusal
			}
		}
		runs[g], took.groups[g] = r, time.Since(begun)
	}
	begun = time.Now()
	whole, receipts := runs[0], make([]chain.Receipt, len(txs))
	for g, r := range runs {
		for k, i := range parts[g] {
			receipts[i] = r.receipts.Txs[k]
		}
		if g == 0 {
			continue
		}
		whole.at.used = must(whole.at.used.Add(r.at.used))
		whole.burned, whole.tips = must(whole.burned.Add(r.burned)), must(whole.tips.Add(r.tips))
		r.block.Flush(whole.block)
	}
	whole.receipts.Txs = receipts
	out, err := whole.end()
	took.join = time.Since(begun)
	return out, took, err
}

// crowdKey is an account of the measured chain.
func crowdKey(i int) crypto.PrivateKey {
	return crypto.PrivateKeyFromSeed([32]byte{byte(i), byte(i >> 8), 'p'})
}

type plainSigner struct{ crypto.PrivateKey }

func (s plainSigner) AccountKey() crypto.AccountKey { return crypto.AccountKeyOf(s.Public()) }

func (s plainSigner) Sign(d *crypto.Domain, payload []byte) (crypto.Signature, error) {
	return s.PrivateKey.Sign(d, payload), nil
}

// transfers are random transfers among accounts.
func transfers(b testing.TB, genesis *chain.Genesis, accounts, n int) []*chain.VerifiedTx {
	random := rand.New(rand.NewPCG(1, uint64(n)))
	nonces, decoded := make([]uint64, accounts), make([]chain.DecodedTx, n)
	for i := range decoded {
		from, to := random.IntN(accounts), random.IntN(accounts)
		tx, err := chain.SignTx(chain.TxBody{
			ChainID: genesis.ChainID, Sender: addressOf(from), Nonce: nonces[from], Expiry: 100, GasLimit: chain.GasUnits(10_000),
			MaxFee: chain.PricePerGas(10), Messages: []chain.Msg{chain.Transfer{To: addressOf(to), Amount: chain.Nano(1)}},
		}, plainSigner{crowdKey(from)})
		if err != nil {
			b.Fatal(err)
		}
		nonces[from]++
		if decoded[i], err = chain.DecodeTx(tx.Encode()); err != nil {
			b.Fatal(err)
		}
	}
	return chain.VerifyTxs(decoded, 2)
}

func addressOf(i int) chain.Address { return chain.AddressOf(plainSigner{crowdKey(i)}.AccountKey()) }

// crowded is a chain of one validator on which so many accounts have a HYPER.
func crowded(b testing.TB, accounts int) (*Executor, *chain.Genesis, state.Reader, *chain.Header) {
	owner := chain.AddressOf(plainSigner{crowdKey(0)}.AccountKey())
	validator := crowdKey(1 << 15)
	g := &chain.Genesis{
		ChainID: "grouped", TimeMs: 1_790_000_000_000, Devnet: true, InsecureKeys: true, Params: chain.DefaultParams(),
		Validators: []chain.GenesisValidator{{
			Name: "one", ConsensusKey: validator.Public(), NodeKey: crowdKey(1<<15 + 1).Public(), Owner: owner, Stake: chain.Hyper(100_000_000), Endpoint: "127.0.0.1:1",
		}},
	}
	g.Params.BlockGas, g.Params.TargetGasPerSec = chain.GasUnits(1e11), chain.GasUnits(1e11)
	team := &chain.Vesting{StartMs: g.TimeMs, CliffMs: chain.TeamCliffMs, DurationMs: chain.TeamDurationMs}
	g.Allocations = append(g.Allocations,
		chain.Allocation{Bucket: chain.BucketTeam, Address: chain.Address{'t'}, Amount: chain.Hyper(200_000_000), Vesting: team},
		chain.Allocation{Bucket: chain.BucketFoundation, Address: chain.Address{'f'}, Amount: chain.Hyper(250_000_000)},
		chain.Allocation{Bucket: chain.BucketSale, Address: chain.Address{'s'}, Amount: chain.Hyper(50_000_000)},
		chain.Allocation{Bucket: chain.BucketCommunity, Address: chain.Address{'c'}, Amount: chain.Hyper(400_000_000 - uint64(accounts))})
	for i := range accounts {
		g.Allocations = append(g.Allocations, chain.Allocation{Bucket: chain.BucketCommunity, Address: addressOf(i), Amount: chain.Hyper(1)})
	}
	x, overlay, backend := New(g, nil, nil), state.NewOverlay(state.NewMemoryBackend()), state.NewMemoryBackend()
	if err := Genesis(overlay, g); err != nil {
		b.Fatal(err)
	}
	overlay.Flush(backend)
	h := &chain.Header{Version: chain.BlockVersion, ChainID: g.ChainID, Height: 1, Epoch: 1, View: 1, TimeMs: g.TimeMs + 500, Proposer: validator.Public()}
	if err := x.Prepare(backend, h); err != nil {
		b.Fatal(err)
	}
	return x, g, backend, h
}

// TestGroupedIsSerial: what is measured is the same work.
func TestGroupedIsSerial(t *testing.T) {
	x, g, parent, h := crowded(t, 50)
	for _, n := range []int{1, 20, 200} {
		txs := transfers(t, g, 50, n)
		one, err1 := x.Apply(parent, h, staking.Extras{}, txs)
		two, _, err2 := x.applyGrouped(parent, h, txs, 2)
		if err1 != nil || err2 != nil || !bytes.Equal(one.Receipts.Encode(), two.Receipts.Encode()) || fmt.Sprint(one.Changes) != fmt.Sprint(two.Changes) {
			t.Errorf("%d transfers in groups have another outcome: %v, %v", n, err1, err2)
		}
	}
}

// BenchmarkGroupedTransfers compares serial execution of transfers among 10,000
// accounts with two groups, by turns: how much faster two free cores could be at
// most, and what part of the time each phase takes.
func BenchmarkGroupedTransfers(b *testing.B) {
	x, g, parent, h := crowded(b, 10_000)
	for _, n := range []int{500, 2_000, 5_000, 10_000} {
		txs := transfers(b, g, 10_000, n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			serial, best := time.Hour, phases{divide: time.Hour, groups: []time.Duration{time.Hour, time.Hour}, join: time.Hour}
			for b.Loop() {
				begun := time.Now()
				if _, err := x.Apply(parent, h, staking.Extras{}, txs); err != nil {
					b.Fatal(err)
				}
				serial = min(serial, time.Since(begun))
				_, took, err := x.applyGrouped(parent, h, txs, 2)
				if err != nil {
					b.Fatal(err)
				}
				best.divide, best.join = min(best.divide, took.divide), min(best.join, took.join)
				for i := range took.groups {
					best.groups[i] = min(best.groups[i], took.groups[i])
				}
			}
			part := func(d time.Duration) float64 { return float64(d) / float64(serial) }
			b.ReportMetric(float64(serial.Nanoseconds())/float64(n), "serial-ns/tx")
			b.ReportMetric(1/part(best.critical()), "faster-at-most")
			b.ReportMetric(part(best.divide+best.groups[0]+best.groups[1]+best.join), "work")
			b.ReportMetric(part(best.divide), "divide")
			b.ReportMetric(part(slices.Max(best.groups)), "longer-group")
			b.ReportMetric(part(best.join), "join")
		})
	}
}
