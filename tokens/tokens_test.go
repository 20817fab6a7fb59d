package tokens_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

const year = 365 * 24 * 3600 * 1000

func address(n byte) chain.Address { return chain.Address{n, 0xad} }

// ledger mints 1,000 nHYPER to each of accounts 1 … 3 and 4,000 to account 4,
// which vest over four years with a cliff of one.
func ledger(t testing.TB) state.KV {
	t.Helper()
	kv := state.NewMemoryBackend()
	allocations := []chain.Allocation{
		{Address: address(1), Amount: chain.Nano(1_000)},
		{Address: address(2), Amount: chain.Nano(1_000)},
		{Address: address(3), Amount: chain.Nano(1_000)},
		{Address: address(4), Amount: chain.Nano(4_000), Vesting: &chain.Vesting{StartMs: 1_000, CliffMs: year, DurationMs: 4 * year}},
	}
	if err := tokens.Genesis(kv, allocations, chain.Nano(500)); err != nil {
		t.Fatal(err)
	}
	return kv
}

func balance(kv state.KV, n byte) uint64 { return tokens.AccountOf(kv, address(n)).Balance.Nano() }

func wantRejection(t *testing.T, why *chain.Rejection, part string) {
	t.Helper()
	if why == nil {
		t.Errorf("accepted, want a rejection with %q", part)
	} else if !strings.Contains(why.Reason(), part) {
		t.Errorf("rejected with %q, want %q in it", why.Reason(), part)
	}
}

func TestGenesisMintsOnce(t *testing.T) {
	kv := ledger(t)
	if s := tokens.SupplyOf(kv); s.Minted != chain.Nano(7_500) || !s.Burned.IsZero() {
		t.Errorf("supply %+v, want 7500 minted", s)
	}
	if err := tokens.Genesis(kv, nil, chain.Amount{}); err == nil {
		t.Error("minted twice")
	}
	double := []chain.Allocation{{Amount: chain.Nano(math.MaxUint64)}, {Amount: chain.Nano(1)}}
	if err := tokens.Genesis(state.NewMemoryBackend(), double, chain.Amount{}); err == nil {
		t.Error("a supply beyond 64 bits was minted")
	}
}

func TestTransfer(t *testing.T) {
	kv := ledger(t)
	transfer := func(from, to byte, amount uint64) *chain.Rejection {
		_, why := tokens.Transfer(kv, address(from), chain.Transfer{To: address(to), Amount: chain.Nano(amount)}, 0)
		return why
	}
	if why := transfer(1, 2, 400); why != nil {
		t.Fatal(why.Reason())
	}
	if why := transfer(2, 2, 1_400); why != nil {
		t.Fatal("to oneself: ", why.Reason())
	}
	if a, b := balance(kv, 1), balance(kv, 2); a != 600 || b != 1_400 {
		t.Errorf("balances %d and %d, want 600 and 1400", a, b)
	}
	wantRejection(t, transfer(1, 2, 601), "can spend 0.0000006 HYPER, needs 0.000000601 HYPER")
	wantRejection(t, transfer(1, 1, 601), "can spend")
	wantRejection(t, transfer(1, 2, math.MaxUint64), "can spend")
	wantRejection(t, transfer(9, 2, 1), "can spend 0 HYPER")
	wantRejection(t, transfer(1, 2, 0), "transfer of zero")
	_, why := tokens.Transfer(kv, address(1), chain.Transfer{Amount: chain.Nano(1)}, 0)
	wantRejection(t, why, "zero address")
	if a, b := balance(kv, 1), balance(kv, 2); a != 600 || b != 1_400 {
		t.Errorf("rejections changed balances to %d and %d", a, b)
	}
}

func TestNonceOutlivesTheBalance(t *testing.T) {
	kv := ledger(t)
	tokens.SpendNonce(kv, address(1))
	tokens.SpendNonce(kv, address(1))
	if why := tokens.Debit(kv, address(1), chain.Nano(1_000), 0); why != nil {
		t.Fatal(why.Reason())
	}
	if a := tokens.AccountOf(kv, address(1)); a.Nonce != 2 || !a.Balance.IsZero() {
		t.Errorf("account %+v, want nonce 2 and nothing else", a)
	}
}

// TestIncludingIsSpendingTheNonceAndTheFee for a sender who pays and for one for whom
// another does, with enough and without.
func TestIncludingIsSpendingTheNonceAndTheFee(t *testing.T) {
	for _, payer := range []byte{1, 2} {
		for _, amount := range []uint64{0, 1, 1_000, 1_001} {
			got, want := ledger(t), ledger(t)
			tokens.Credit(got, address(2), chain.Nano(1_000))
			tokens.Credit(want, address(2), chain.Nano(1_000))
			why := tokens.Include(got, address(1), address(payer), chain.Nano(amount), 5)
			tokens.SpendNonce(want, address(1))
			wanted := tokens.Debit(want, address(payer), chain.Nano(amount), 5)
			if (why == nil) != (wanted == nil) || why != nil && why.Reason() != wanted.Reason() {
				t.Errorf("payer %d, amount %d: %v, want %v", payer, amount, why, wanted)
			}
			if why != nil {
				continue // whoever asks has checked
			}
			for _, who := range []byte{1, 2} {
				if a, b := tokens.AccountOf(got, address(who)), tokens.AccountOf(want, address(who)); !reflect.DeepEqual(a, b) {
					t.Errorf("payer %d, amount %d: account %d is %+v, want %+v", payer, amount, who, a, b)
				}
			}
		}
	}
}

func TestVesting(t *testing.T) {
	for _, c := range []struct {
		now  chain.TimeMs
		free uint64
	}{
		{0, 0}, {1_000, 0}, {1_000 + year - 1, 0}, {1_000 + year, 1_000}, {1_000 + 2*year, 2_000},
		{1_000 + 2*year + 1, 2_000}, {1_000 + 4*year - 1, 3_999}, {1_000 + 4*year, 4_000}, {math.MaxUint64, 4_000},
	} {
		kv := ledger(t)
		if got := tokens.AccountOf(kv, address(4)).Spendable(c.now).Nano(); got != c.free {
			t.Errorf("at %d: spendable %d, want %d", c.now, got, c.free)
		}
		if why := tokens.Debit(kv, address(4), chain.Nano(c.free+1), c.now); why == nil {
			t.Errorf("at %d: %d were taken", c.now, c.free+1)
		}
		if why := tokens.Debit(kv, address(4), chain.Nano(c.free), c.now); why != nil {
			t.Errorf("at %d: %s", c.now, why.Reason())
		}
	}
}

func TestVestedAccountReceivesFreely(t *testing.T) {
	kv := ledger(t)
	tokens.Credit(kv, address(4), chain.Nano(77))
	if free := tokens.AccountOf(kv, address(4)).Spendable(5_000).Nano(); free != 77 {
		t.Errorf("spendable %d, want what was received, 77", free)
	}
	end := chain.TimeMs(1_000 + 4*year)
	if why := tokens.Debit(kv, address(4), chain.Nano(77), end); why != nil {
		t.Fatal(why.Reason())
	}
	if a := tokens.AccountOf(kv, address(4)); len(a.Locks) != 0 || a.Balance != chain.Nano(4_000) {
		t.Errorf("after the end: %+v, want no lock", a)
	}
}

func TestVestingNeverFallsAndRoundsAgainstTheHolder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		duration := rapid.Uint64Range(1, 1<<40).Draw(t, "duration")
		lock := tokens.Lock{Amount: chain.Nano(rapid.Uint64Range(0, 1e18).Draw(t, "amount")), Vesting: chain.Vesting{
			StartMs: chain.TimeMs(rapid.Uint64Range(0, 1<<41).Draw(t, "start")),
			CliffMs: rapid.Uint64Range(0, duration).Draw(t, "cliff"), DurationMs: duration,
		}}
		early := chain.TimeMs(rapid.Uint64Range(0, 1<<42).Draw(t, "early"))
		late := early + chain.TimeMs(rapid.Uint64Range(0, 1<<41).Draw(t, "wait"))
		if lock.Locked(early).Less(lock.Locked(late)) {
			t.Fatalf("locked %v at %d, %v at %d", lock.Locked(early), early, lock.Locked(late), late)
		}
		if late < lock.Vesting.StartMs+chain.TimeMs(duration) && !lock.Amount.IsZero() && lock.Locked(late).IsZero() {
			t.Fatal("all of it was free before the end")
		}
	})
}

func TestQueueReleasesInOrderWithinItsBound(t *testing.T) {
	kv := ledger(t)
	put := func(at chain.TimeMs, origin string, to byte, amount uint64) {
		if why := tokens.Debit(kv, address(1), chain.Nano(amount), 0); why != nil {
			t.Fatal(why.Reason())
		}
		tokens.Mature(kv, at, []byte(origin), tokens.Maturing{To: address(to), Amount: chain.Nano(amount)})
	}
	put(300, "a", 5, 3)
	put(100, "b", 5, 10)
	put(100, "a", 6, 20)
	put(100, "b", 5, 5) // adds up
	put(101, "c", 5, 7)
	if got := tokens.MaturingOf(kv, 100, []byte("b")); got != chain.Nano(15) {
		t.Errorf("queued %v, want 15", got)
	}
	release := func(now chain.TimeMs, limit int, want ...chain.Event) {
		t.Helper()
		got := tokens.ReleaseMatured(kv, now, limit)
		if !bytes.Equal(codec.Marshal(got), codec.Marshal(chain.Events(want))) {
			t.Errorf("at %d: released %v, want %v", now, got, want)
		}
	}
	release(99, 9)
	release(101, 2, chain.Matured{To: address(6), Amount: chain.Nano(20)}, chain.Matured{To: address(5), Amount: chain.Nano(15)})
	release(101, 2, chain.Matured{To: address(5), Amount: chain.Nano(7)})
	release(299, 2)
	release(300, 2, chain.Matured{To: address(5), Amount: chain.Nano(3)})
	release(math.MaxUint64-1, 2)
	if a, b := balance(kv, 5), balance(kv, 6); a != 25 || b != 20 {
		t.Errorf("balances %d and %d, want 25 and 20", a, b)
	}
}

func TestTakeMaturing(t *testing.T) {
	kv := ledger(t)
	origin := []byte("o")
	tokens.Mature(kv, 10, origin, tokens.Maturing{To: address(1), Amount: chain.Nano(100)})
	for _, c := range []struct{ ask, got, left uint64 }{{30, 30, 70}, {71, 70, 0}, {1, 0, 0}} {
		if got := tokens.TakeMaturing(kv, 10, origin, chain.Nano(c.ask)); got != chain.Nano(c.got) {
			t.Errorf("took %v of %d, want %d", got, c.ask, c.got)
		}
		if left := tokens.MaturingOf(kv, 10, origin); left != chain.Nano(c.left) {
			t.Errorf("%v left, want %d", left, c.left)
		}
	}
	tokens.Mature(kv, 10, origin, tokens.Maturing{To: address(1)})
	if _, ok := kv.Get(tokens.MaturingKey(10, origin)); ok {
		t.Error("an entry without value is in the queue")
	}
}

// Equal times and origins add up, so an amount that is on its way to one account
// must never be added to another's.
func TestQueueKeepsAccountsApart(t *testing.T) {
	kv := ledger(t)
	tokens.Mature(kv, 10, []byte("o"), tokens.Maturing{To: address(1), Amount: chain.Nano(100)})
	defer func() {
		if _, ok := recover().(*state.Fault); !ok {
			t.Error("an amount changed its account on the way")
		}
	}()
	tokens.Mature(kv, 10, []byte("o"), tokens.Maturing{To: address(2), Amount: chain.Nano(1)})
}

// TestValueIsWhereValueOfSays sums ValueOf over random operations and compares
// with the supply: what this package takes and gives is what it counts.
func TestValueIsWhereValueOfSays(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		kv := ledger(t)
		outside := uint64(500) // staked at genesis
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			who, amount := byte(rapid.IntRange(1, 5).Draw(rt, "who")), rapid.Uint64Range(0, 1_500).Draw(rt, "amount")
			at := chain.TimeMs(rapid.Uint64Range(1, 5).Draw(rt, "at"))
			switch rapid.IntRange(0, 4).Draw(rt, "operation") {
			case 0:
				if why := tokens.Debit(kv, address(who), chain.Nano(amount), at); why == nil {
					outside += amount
				}
			case 1:
				if amount <= outside {
					tokens.Credit(kv, address(who), chain.Nano(amount))
					outside -= amount
				}
			case 2:
				if amount <= outside {
					tokens.Mature(kv, at, []byte{who}, tokens.Maturing{To: address(who), Amount: chain.Nano(amount)})
					outside -= amount
				}
			case 3:
				outside += tokens.TakeMaturing(kv, at, []byte{who}, chain.Nano(amount)).Nano()
			case 4:
				tokens.ReleaseMatured(kv, at, 2)
				if amount <= outside {
					tokens.Burn(kv, chain.Nano(amount))
					outside -= amount
				}
			}
		}
		sum := outside
		for key, value := range kv.Iterate([]byte{tokens.Prefix}, []byte{tokens.Prefix + 1}) {
			_, amount := tokens.ValueOf(key, value)
			sum += amount.Nano()
		}
		if s := tokens.SupplyOf(kv); sum != s.Minted.Nano()-s.Burned.Nano() {
			rt.Fatalf("holdings %d, minted %v, burned %v", sum, s.Minted, s.Burned)
		}
	})
}

func TestAccountsOwnEncodingIsTheCodecs(t *testing.T) {
	sizes := []uint64{0, 23, 24, 255, 256, 65_535, 65_536, math.MaxUint32, math.MaxUint32 + 1, math.MaxUint64}
	rapid.Check(t, func(rt *rapid.T) {
		number := rapid.OneOf(rapid.Uint64(), rapid.SampledFrom(sizes))
		want := tokens.Account{Nonce: number.Draw(rt, "nonce"), Balance: chain.Nano(number.Draw(rt, "balance"))}
		if rapid.Bool().Draw(rt, "locked") {
			want.Locks = []tokens.Lock{{Amount: chain.Nano(5), Vesting: chain.Vesting{DurationMs: 9}}}
		}
		raw := tokens.EncodeAccount(want)
		if !bytes.Equal(raw, codec.Marshal(want)) {
			rt.Fatalf("own encoding %x, codec's %x", raw, codec.Marshal(want))
		}
		kv := state.NewMemoryBackend()
		kv.Set(tokens.AccountKey(address(1)), raw)
		got := tokens.AccountOf(kv, address(1))
		decoded, err := tokens.DecodeAccount(raw)
		if err != nil || !bytes.Equal(codec.Marshal(got), raw) || !bytes.Equal(codec.Marshal(decoded), raw) {
			rt.Fatalf("read back as %+v and %+v (%v), want %+v", got, decoded, err, want)
		}
	})
}

func TestBrokenRecordsAreFaults(t *testing.T) {
	for _, raw := range []string{"", "00", "83", "830018", "83181700 80", "83001817 80", "8300008000", "83000081", "8300"} {
		value, err := hex.DecodeString(strings.ReplaceAll(raw, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		kv := state.NewMemoryBackend()
		kv.Set(tokens.AccountKey(address(1)), value)
		func() {
			defer func() {
				if _, fault := recover().(*state.Fault); !fault {
					t.Errorf("account %q was read", raw)
				}
			}()
			tokens.AccountOf(kv, address(1))
		}()
		if _, err := tokens.DecodeAccount(value); err == nil {
			t.Errorf("account %q decoded", raw)
		}
	}
	kv := ledger(t)
	defer func() {
		fault, ok := recover().(*state.Fault)
		if !ok || errors.Unwrap(fault) == nil {
			t.Error("a balance beyond every supply was made")
		}
	}()
	tokens.Credit(kv, address(1), chain.Nano(math.MaxUint64))
}

// TestGolden freezes keys and records: proofs expose them.
func TestGolden(t *testing.T) {
	kv := ledger(t)
	tokens.SpendNonce(kv, address(1))
	tokens.Mature(kv, 1_790_000_000_000, []byte("origin"), tokens.Maturing{To: address(2), Amount: chain.Nano(9)})
	tokens.Burn(kv, chain.Nano(300))
	var got strings.Builder
	for key, value := range kv.Iterate([]byte{0}, nil) {
		got.WriteString(hex.EncodeToString(key) + " " + hex.EncodeToString(value) + "\n")
	}
	golden.Check(t, "testdata/records.hex", got.String())
	if _, err := tokens.DecodeSupply([]byte{0x80}); err == nil {
		t.Error("a supply without figures decoded")
	}
}

func BenchmarkAccountRecord(b *testing.B) {
	account := tokens.Account{Nonce: 7, Balance: chain.Hyper(1_000)}
	kv := state.NewMemoryBackend()
	b.Run("own", func(b *testing.B) {
		for b.Loop() {
			kv.Set(tokens.AccountKey(address(1)), tokens.EncodeAccount(account))
			tokens.AccountOf(kv, address(1))
		}
	})
	b.Run("codec", func(b *testing.B) {
		for b.Loop() {
			state.Save(kv, tokens.AccountKey(address(1)), account)
			state.Load[tokens.Account](kv, tokens.AccountKey(address(1)))
		}
	})
}
