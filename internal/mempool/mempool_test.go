package mempool_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/mempool"
)

type account struct{ crypto.PrivateKey }

func (a account) AccountKey() crypto.AccountKey { return crypto.AccountKeyOf(a.Public()) }

func (a account) Sign(d *crypto.Domain, payload []byte) (crypto.Signature, error) {
	return a.PrivateKey.Sign(d, payload), nil
}

func (a account) address() chain.Address { return chain.AddressOf(a.AccountKey()) }

func user(n int) account {
	return account{crypto.PrivateKeyFromSeed([32]byte{byte(n), byte(n >> 8), 7})}
}

// draft is what a test says of a transaction; the rest is alike.
type draft struct {
	user   int
	nonce  uint64
	tip    uint64
	max    uint64 // price ceiling; 0: plenty
	expiry chain.Height
	payer  int // 0: none
	memo   int // length, to vary the size
}

var made = map[draft]*chain.VerifiedTx{}

func makeTx(d draft) *chain.VerifiedTx {
	if tx := made[d]; tx != nil {
		return tx
	}
	ceiling := d.max
	if ceiling == 0 {
		ceiling = 100 + 2*d.tip
	}
	body := chain.TxBody{
		ChainID: "test-1", Sender: user(d.user).address(), Nonce: d.nonce, Expiry: max(d.expiry, 1), GasLimit: chain.GasUnits(1),
		MaxFee: chain.PricePerGas(ceiling), Tip: chain.PricePerGas(d.tip), Memo: strings.Repeat("m", d.memo),
		Messages: chain.Msgs{chain.Transfer{To: user(99).address(), Amount: chain.Nano(1)}},
	}
	signers := []chain.Signer{user(d.user)}
	if d.payer != 0 {
		payer := user(d.payer).address()
		body.FeePayer = &payer
		signers = append(signers, user(d.payer))
	}
	tx, err := chain.SignTx(body, signers...)
	if err != nil {
		panic(err)
	}
	decoded, err := chain.DecodeTx(tx.Encode())
	if err != nil {
		panic(err)
	}
	made[d] = chain.VerifyTxs([]chain.DecodedTx{decoded}, 1)[0]
	return made[d]
}

// plenty is more than all that a test sends may cost.
var plenty = chain.Nano(math.MaxUint64)

// ledger is every account's next nonce.
type ledger map[chain.Address]uint64

func (l ledger) add(p *mempool.Pool, d draft) error {
	tx := makeTx(d)
	return p.Add(tx, mempool.Standing{Next: l[tx.Tx().Body.Sender], Funds: plenty})
}

var floor = chain.PricePerGas(1)

func none(chain.TxID) bool { return false }

func all(*chain.VerifiedTx) bool { return true }

// drain lists what the pool would put into a block, as "user/nonce".
func drain(p *mempool.Pool, included func(chain.TxID) bool) string {
	var out []string
	next := p.Select(included, all)
	for tx, ok := next(); ok; tx, ok = next() {
		body := tx.Tx().Body
		for n := range 10 {
			if user(n).address() == body.Sender {
				out = append(out, fmt.Sprintf("%d/%d", n, body.Nonce))
			}
		}
	}
	return strings.Join(out, " ")
}

func mustAdd(t *testing.T, p *mempool.Pool, l ledger, drafts ...draft) {
	t.Helper()
	for _, d := range drafts {
		if err := l.add(p, d); err != nil {
			t.Fatalf("%+v: %v", d, err)
		}
	}
}

func TestSelectionGoesByTipAndNonce(t *testing.T) {
	p, l := mempool.New(mempool.DefaultConfig()), ledger{}
	mustAdd(t, p, l, draft{user: 1, nonce: 1, tip: 90}, draft{user: 2, tip: 5}, draft{user: 1, tip: 1}, draft{user: 3, tip: 5}, draft{user: 4, nonce: 1, tip: 99})
	if got, want := drain(p, none), "2/0 3/0 1/0 1/1"; got != want {
		t.Errorf("selection is %s, want %s", got, want)
	}
	first := makeTx(draft{user: 1, tip: 1}).ID()
	if got, want := drain(p, func(id chain.TxID) bool { return id == first }), "1/1 2/0 3/0"; got != want {
		t.Errorf("with 1/0 included, selection is %s, want %s", got, want)
	}
}

func TestRefusals(t *testing.T) {
	config := mempool.Config{MaxBytes: chain.MaxTxBytes, MaxSenderBytes: chain.MaxTxBytes, MaxPerSender: 2, MaxPerPayer: 1}
	p, l := mempool.New(config), ledger{user(5).address(): 4}
	mustAdd(t, p, l, draft{user: 1, tip: 10}, draft{user: 1, nonce: 1, tip: 10}, draft{user: 2, payer: 9})
	for name, c := range map[string]struct {
		draft draft
		want  error
	}{
		"again":         {draft{user: 1, tip: 10}, mempool.ErrKnown},
		"old nonce":     {draft{user: 5, nonce: 3}, mempool.ErrNonceTooLow},
		"third":         {draft{user: 1, nonce: 2, tip: 10}, mempool.ErrSenderFull},
		"payer":         {draft{user: 3, payer: 9}, mempool.ErrPayerFull},
		"cheap replace": {draft{user: 1, nonce: 1, tip: 11}, mempool.ErrUnderpriced},
	} {
		if err := l.add(p, c.draft); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if p.Len() != 3 {
		t.Errorf("%d pending, want 3", p.Len())
	}
	mustAdd(t, p, l, draft{user: 1, nonce: 1, tip: 30})
	if _, ok := p.Get(makeTx(draft{user: 1, nonce: 1, tip: 10}).ID()); ok || p.Len() != 3 {
		t.Error("the replaced transaction is still there")
	}
}

func TestFullPoolEvictsTheCheapest(t *testing.T) {
	p, l := mempool.New(mempool.Config{MaxBytes: chain.MaxTxBytes, MaxSenderBytes: chain.MaxTxBytes, MaxPerSender: 4_096}), ledger{}
	size := len(makeTx(draft{user: 1, tip: 20, memo: 200}).Raw())
	fits := chain.MaxTxBytes / (size + 2)
	for n := range fits {
		mustAdd(t, p, l, draft{user: 1, nonce: uint64(n), tip: 20, memo: 200})
	}
	for p.Bytes()+size <= chain.MaxTxBytes {
		mustAdd(t, p, l, draft{user: 1, nonce: uint64(p.Len()), tip: 20, memo: 200})
	}
	before := p.Len()
	for tip, want := range map[uint64]error{19: mempool.ErrFull, 20: mempool.ErrFull, 22: mempool.ErrFull, 23: nil} {
		if err := p.Refuses(&makeTx(draft{user: 2, tip: tip, memo: 200}).DecodedTx); !errors.Is(err, want) {
			t.Errorf("foretold of a tip of %d: %v, want %v", tip, err, want)
		}
	}
	if err := l.add(p, draft{user: 2, tip: 20, memo: 200}); !errors.Is(err, mempool.ErrFull) {
		t.Errorf("an equal tip: %v, want ErrFull", err)
	}
	if p.Len() != before {
		t.Errorf("a refusal evicted %d", before-p.Len())
	}
	mustAdd(t, p, l, draft{user: 3, tip: 23, memo: 200})
	if p.Bytes() > chain.MaxTxBytes {
		t.Errorf("%d bytes, limit %d", p.Bytes(), chain.MaxTxBytes)
	}
	if got := drain(p, none); !strings.HasPrefix(got, "3/0 1/0 1/1 ") {
		t.Errorf("selection begins %.20s", got)
	}
}

func TestFinalizeAndExpiry(t *testing.T) {
	p, l := mempool.New(mempool.DefaultConfig()), ledger{}
	mustAdd(t, p, l, draft{user: 1, expiry: 50}, draft{user: 1, nonce: 1, expiry: 50}, draft{user: 1, nonce: 2, expiry: 50}, draft{user: 2, expiry: 5}, draft{user: 3, expiry: 6})
	p.Finalize(5, floor, []chain.DecodedTx{makeTx(draft{user: 1, expiry: 50}).DecodedTx, makeTx(draft{user: 1, nonce: 1, tip: 3, expiry: 50}).DecodedTx})
	if got, want := drain(p, none), "1/2 3/0"; got != want {
		t.Errorf("selection is %s, want %s", got, want)
	}
	p.Drop(makeTx(draft{user: 3, expiry: 6}).ID(), mempool.Funds)
	if got, want := drain(p, none), "1/2"; got != want {
		t.Errorf("selection is %s, want %s", got, want)
	}
}

// TestWaitingIsBounded: transactions above a gap may never pay, so they have
// only a part of the pool; closing the gap, or opening one, moves them.
func TestWaitingIsBounded(t *testing.T) {
	const limit = chain.MaxTxBytes / 8
	p, l := mempool.New(mempool.Config{MaxBytes: chain.MaxTxBytes, MaxSenderBytes: chain.MaxTxBytes, MaxPerSender: 64}), ledger{}
	var waiting []draft
	for n := 0; ; n++ {
		d := draft{user: 1 + n/60, nonce: 1 + uint64(n%60), tip: 99, expiry: 50, memo: 200}
		err := l.add(p, d)
		if errors.Is(err, mempool.ErrWaitingFull) {
			break
		}
		if err != nil || n > 1000 {
			t.Fatalf("%+v: %v", d, err)
		}
		waiting = append(waiting, d)
	}
	size := len(makeTx(waiting[0]).Raw())
	if got := p.WaitingBytes(); got > limit || got < limit-2*size {
		t.Errorf("%d bytes wait, limit %d", got, limit)
	}
	if got := drain(p, none); got != "" {
		t.Errorf("%s is offered above a gap", got)
	}
	first := draft{user: 1, expiry: 50}
	mustAdd(t, p, l, draft{user: 8, expiry: 50}, draft{user: 8, nonce: 1, expiry: 50}, first)
	before := p.WaitingBytes()
	if before > limit-20*size {
		t.Errorf("%d bytes wait after the gap is closed", before)
	}
	mustAdd(t, p, l, draft{user: 9, nonce: 1, expiry: 50})
	p.Finalize(1, floor, []chain.DecodedTx{makeTx(first).DecodedTx})
	mustAdd(t, p, l, draft{user: 7, nonce: 2, expiry: 9}, draft{user: 7, nonce: 1, expiry: 50}, draft{user: 7, expiry: 50})
	one := len(makeTx(draft{user: 9, nonce: 1, expiry: 50}).Raw())
	if got := p.WaitingBytes(); got != before+one {
		t.Errorf("%d bytes wait, want %d", got, before+one)
	}
	p.Finalize(9, floor, nil) // 7/2 expires and leaves no gap behind
	if got := p.WaitingBytes(); got != before+one {
		t.Errorf("%d bytes wait after an expiry, want %d", got, before+one)
	}
	p.Finalize(100, floor, nil)
	if p.WaitingBytes() != 0 || p.Bytes() != 0 || p.Len() != 0 {
		t.Errorf("%d transactions, %d bytes, %d of them waiting, want none", p.Len(), p.Bytes(), p.WaitingBytes())
	}
}

// TestTheStateMayBeAheadOfFinalize: a block may be committed before the pool is
// told; its transactions must leave all the same.
func TestTheStateMayBeAheadOfFinalize(t *testing.T) {
	p, l := mempool.New(mempool.DefaultConfig()), ledger{}
	included := draft{user: 1, expiry: 1_000}
	mustAdd(t, p, l, included)
	l[user(1).address()] = 1
	mustAdd(t, p, l, draft{user: 1, nonce: 1, expiry: 1_000})
	p.Finalize(1, floor, []chain.DecodedTx{makeTx(included).DecodedTx})
	if p.Len() != 1 {
		t.Errorf("%d pending, want 1", p.Len())
	}
	if got := drain(p, none); got != "1/1" {
		t.Errorf("selection is %s, want 1/1", got)
	}
}

func TestAReplacementTakesItsOwnPlaceWithThePayer(t *testing.T) {
	p, l := mempool.New(mempool.Config{MaxBytes: chain.MaxTxBytes, MaxSenderBytes: chain.MaxTxBytes, MaxPerSender: 2, MaxPerPayer: 1}), ledger{}
	mustAdd(t, p, l, draft{user: 1, tip: 1, payer: 9}, draft{user: 1, tip: 50, payer: 9})
	if err := l.add(p, draft{user: 1, nonce: 1, tip: 1, payer: 9}); !errors.Is(err, mempool.ErrPayerFull) {
		t.Errorf("a second one of the payer: %v, want ErrPayerFull", err)
	}
	mustAdd(t, p, l, draft{user: 1, tip: 90}, draft{user: 2, payer: 9})
}

// TestNoRoomIsMadeOfWhatComesBefore: a transaction must not evict its sender's
// earlier one, without which it cannot be included.
func TestNoRoomIsMadeOfWhatComesBefore(t *testing.T) {
	p, l := mempool.New(mempool.Config{MaxBytes: chain.MaxTxBytes, MaxSenderBytes: chain.MaxTxBytes, MaxPerSender: 4_096}), ledger{}
	mustAdd(t, p, l, draft{user: 1, tip: 1, memo: 200})
	size := len(makeTx(draft{user: 2, nonce: 300, tip: 20, memo: 200}).Raw())
	for n := uint64(0); p.Bytes()+size <= chain.MaxTxBytes; n++ {
		mustAdd(t, p, l, draft{user: 2, nonce: n, tip: 20, memo: 200})
	}
	if err := l.add(p, draft{user: 1, nonce: 1, tip: 90, memo: 200}); !errors.Is(err, mempool.ErrFull) {
		t.Errorf("%v, want ErrFull", err)
	}
	if _, ok := p.Get(makeTx(draft{user: 1, tip: 1, memo: 200}).ID()); !ok {
		t.Error("the earlier transaction is gone")
	}
}

// TestAgreesWithModel holds the pool against a plain list that is sorted anew
// for each selection.
func TestAgreesWithModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, l := mempool.New(mempool.DefaultConfig()), ledger{}
		var model []draft
		base := uint64(0)
		find := func(user int, nonce uint64) int {
			return slices.IndexFunc(model, func(m draft) bool { return m.user == user && m.nonce == nonce })
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			d := draft{user: rapid.IntRange(1, 4).Draw(t, "user"), nonce: uint64(rapid.IntRange(0, 5).Draw(t, "nonce")), tip: uint64(rapid.IntRange(0, 12).Draw(t, "tip"))}
			address := user(d.user).address()
			if rapid.IntRange(0, 4).Draw(t, "kind") == 0 {
				i := find(d.user, l[address])
				if i < 0 {
					continue
				}
				p.Finalize(1, floor, nil)
				p.Finalize(0, floor, []chain.DecodedTx{makeTx(withExpiry(model[i])).DecodedTx})
				model = slices.Delete(model, i, i+1)
				l[address]++
				base = floor.Nano()
				continue
			}
			i := find(d.user, d.nonce)
			want := d.nonce >= l[address] && (i < 0 || d.tip >= model[i].tip+(model[i].tip+base)/10+1 && 2*d.tip+100 >= (2*model[i].tip+100)*11/10+1)
			err := l.add(p, withExpiry(d))
			if (err == nil) != want {
				t.Fatalf("%+v: %v, want taken %v", d, err, want)
			}
			if err == nil && i >= 0 {
				model = slices.Delete(model, i, i+1)
			}
			if err == nil {
				model = append(model, d)
			}
		}
		if got, want := drain(p, none), selectPlainly(model, l); got != want {
			t.Fatalf("selection is %s, want %s", got, want)
		}
		waiting := 0
		for _, d := range model {
			for nonce := l[user(d.user).address()]; nonce < d.nonce; nonce++ {
				if find(d.user, nonce) < 0 {
					waiting += len(makeTx(withExpiry(d)).Raw())
					break
				}
			}
		}
		if got := p.WaitingBytes(); got != waiting {
			t.Fatalf("%d bytes wait, want %d", got, waiting)
		}
	})
}

func withExpiry(d draft) draft {
	d.expiry = 1_000
	return d
}

func selectPlainly(model []draft, l ledger) string {
	next := map[int]uint64{}
	for n := range 10 {
		next[n] = l[user(n).address()]
	}
	var out []string
	for {
		best := -1
		for i, d := range model {
			if d.nonce == next[d.user] && (best < 0 || d.tip > model[best].tip) {
				best = i
			}
		}
		if best < 0 {
			return strings.Join(out, " ")
		}
		out = append(out, fmt.Sprintf("%d/%d", model[best].user, model[best].nonce))
		next[model[best].user]++
	}
}

func BenchmarkAddSelectFinalize(b *testing.B) {
	const senders = 1_000
	var txs []*chain.VerifiedTx
	for n := range senders {
		txs = append(txs, makeTx(draft{user: n, expiry: 10, tip: uint64(n % 7)}))
	}
	b.ReportAllocs()
	for b.Loop() {
		p, l := mempool.New(mempool.DefaultConfig()), ledger{}
		for _, tx := range txs {
			if err := p.Add(tx, mempool.Standing{Next: l[tx.Tx().Body.Sender], Funds: plenty}); err != nil {
				b.Fatal(err)
			}
		}
		var block []chain.DecodedTx
		next := p.Select(none, all)
		for tx, ok := next(); ok; tx, ok = next() {
			block = append(block, tx.DecodedTx)
		}
		p.Finalize(1, floor, block)
		if p.Len() != 0 {
			b.Fatal("transactions are left")
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/senders, "ns/tx")
}

// TestPayerPaysForAllThatWaits: what waits is charged together to whoever pays for it, its
// own transactions and those of others; what is replaced, or leaves, is not.
func TestPayerPaysForAllThatWaits(t *testing.T) {
	p := mempool.New(mempool.DefaultConfig())
	add := func(d draft, funds uint64) error {
		return p.Add(makeTx(d), mempool.Standing{Funds: chain.Nano(funds)})
	}
	wants := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	own := draft{user: 9, max: 100, tip: 1, expiry: 5} // each may cost 100
	wants("one that costs all", add(own, 100), nil)
	second := own
	second.nonce = 1
	wants("a second one, with the funds for one", add(second, 199), mempool.ErrPayerFunds)
	wants("one of another that it pays for", add(draft{user: 1, max: 100, tip: 1, payer: 9, expiry: 9}, 199), mempool.ErrPayerFunds)
	wants("the same with the funds for both", add(draft{user: 1, max: 100, tip: 1, payer: 9, expiry: 9}, 200), nil)
	wants("its own second one now", add(second, 200), mempool.ErrPayerFunds)
	wants("another's own, who has nothing to do with it", add(draft{user: 2, max: 100, tip: 1}, 100), nil)
	dearer := draft{user: 1, max: 150, tip: 30, payer: 9, expiry: 9}
	wants("a replacement beyond the funds", add(dearer, 249), mempool.ErrPayerFunds)
	wants("a replacement within them", add(dearer, 250), nil)
	p.Finalize(5, chain.PricePerGas(1), nil) // the first expires
	wants("after one has left", add(draft{user: 3, max: 50, tip: 1, payer: 9, expiry: 9}, 200), nil)
	wants("and no more", add(draft{user: 4, max: 100, tip: 1, payer: 9, expiry: 9}, 200), mempool.ErrPayerFunds)
	p.Finalize(9, chain.PricePerGas(1), nil)
	wants("after all have left", add(draft{user: 4, max: 200, tip: 1, payer: 9, expiry: 20}, 200), nil)
}
