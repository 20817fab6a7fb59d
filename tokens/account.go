package tokens

import (
	"encoding/binary"
	"errors"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/state"
)

// Prefix begins every key of this package.
const Prefix = 't'

const (
	kindAccount = 'a'
	kindSupply  = 's'
	kindQueue   = 'q'
)

// AccountKey returns the key of an account's record.
func AccountKey(a chain.Address) []byte {
	return AppendAccountKey(make([]byte, 0, AccountKeyBytes), a)
}

// AccountKeyBytes is the length of the key of an account.
const AccountKeyBytes = 2 + len(chain.Address{})

// AppendAccountKey appends the key of an account.
func AppendAccountKey(to []byte, a chain.Address) []byte {
	return append(append(to, Prefix, kindAccount), a[:]...)
}

// Account is what the chain keeps of an address. An address without a record
// has the zero Account.
type Account struct {
	_       struct{} `cbor:",toarray"`
	Nonce   uint64   // included transactions so far
	Balance chain.Amount
	Locks   []Lock // of vesting allocations, those that are over left out
}

// Lock holds back a part of a vesting allocation.
type Lock struct {
	_       struct{} `cbor:",toarray"`
	Amount  chain.Amount
	Vesting chain.Vesting
}

// Locked returns what the lock holds back at a block time: all of it before
// start + cliff, then ⌈the part that is not yet linear in time since start⌉,
// nothing from start + duration on.
func (l Lock) Locked(now chain.TimeMs) chain.Amount {
	elapsed, started := checked.Sub(uint64(now), uint64(l.Vesting.StartMs))
	switch {
	case !started || elapsed < l.Vesting.CliffMs:
		return l.Amount
	case elapsed >= l.Vesting.DurationMs:
		return chain.Amount{}
	}
	locked, ok := l.Amount.ShareCeil(l.Vesting.DurationMs-elapsed, l.Vesting.DurationMs)
	if !ok {
		panic("tokens: a share of less than the whole does not fit")
	}
	return locked
}

// Spendable returns the balance less what locks hold back at a block time.
func (a Account) Spendable(now chain.TimeMs) chain.Amount {
	free := a.Balance
	for _, l := range a.Locks {
		rest, ok := free.Sub(l.Locked(now))
		if !ok {
			return chain.Amount{}
		}
		free = rest
	}
	return free
}

// AccountOf returns the account of an address.
func AccountOf(r state.Reader, a chain.Address) Account { return load(r, AccountKey(a)) }

func load(r state.Reader, key []byte) Account {
	value, ok := r.Get(key)
	if !ok {
		return Account{}
	}
	return decodeAccount(key, value)
}

// DecodeAccount decodes an account's record, for those who checked its proof.
func DecodeAccount(value []byte) (Account, error) {
	var account Account
	err := codec.Unmarshal(value, &account, state.MaxValueBytes)
	return account, err
}

// SpendNonce counts one more included transaction of an account.
func SpendNonce(kv state.KV, a chain.Address) {
	key := AccountKey(a)
	account := load(kv, key)
	account.Nonce++
	save(kv, key, account)
}

// Include is SpendNonce of the sender and Debit of the payer, who may be the sender:
// then both with one look at the record, and one write.
func Include(kv state.KV, sender, payer chain.Address, amount chain.Amount, now chain.TimeMs) *chain.Rejection {
	if sender != payer {
		SpendNonce(kv, sender)
		return Debit(kv, payer, amount, now)
	}
	return IncludeKnown(kv, sender, AccountOf(kv, sender), amount, now)
}

// IncludeKnown is Include of a sender who pays, with the account that the state has of
// him now.
func IncludeKnown(kv state.KV, sender chain.Address, account Account, amount chain.Amount, now chain.TimeMs) *chain.Rejection {
	account.Nonce++
	if why := account.debit(sender, amount, now); why != nil {
		return why
	}
	save(kv, AccountKey(sender), account)
	return nil
}

// Debit takes an amount out of the spendable balance. What becomes of it is the
// caller's duty.
func Debit(kv state.KV, a chain.Address, amount chain.Amount, now chain.TimeMs) *chain.Rejection {
	key := AccountKey(a)
	account := load(kv, key)
	if why := account.debit(a, amount, now); why != nil {
		return why
	}
	save(kv, key, account)
	return nil
}

func (a *Account) debit(of chain.Address, amount chain.Amount, now chain.TimeMs) *chain.Rejection {
	if free := a.Spendable(now); free.Less(amount) {
		return chain.Reject("%s can spend %s, needs %s", of.Short(), free, amount)
	}
	a.Balance, _ = a.Balance.Sub(amount) // spendable ≤ balance
	a.Locks = stillLocked(a.Locks, now)
	return nil
}

func stillLocked(locks []Lock, now chain.TimeMs) []Lock {
	var rest []Lock
	for _, l := range locks {
		if !l.Locked(now).IsZero() {
			rest = append(rest, l)
		}
	}
	return rest
}

// Credit adds an amount, which the caller took from somewhere, to a balance.
func Credit(kv state.KV, a chain.Address, amount chain.Amount) {
	if amount.IsZero() {
		return // no record comes into being for nothing
	}
	key := AccountKey(a)
	account := load(kv, key)
	account.Balance = mustAdd(account.Balance, amount, "crediting a balance")
	save(kv, key, account)
}

// Transfer moves an amount between accounts, which may be one.
func Transfer(kv state.KV, from chain.Address, m chain.Transfer, now chain.TimeMs) (chain.Event, *chain.Rejection) {
	if m.Amount.IsZero() {
		return nil, chain.Reject("transfer of zero")
	}
	if m.To.IsZero() {
		return nil, chain.Reject("transfer to the zero address")
	}
	if why := Debit(kv, from, m.Amount, now); why != nil {
		return nil, why
	}
	Credit(kv, m.To, m.Amount)
	return chain.Transferred{From: from, To: m.To, Amount: m.Amount}, nil
}

func save(kv state.KV, key []byte, account Account) { kv.Set(key, encodeAccount(account)) }

// mustAdd adds what cannot overflow while the ledger is sound, since the whole
// supply fits an Amount.
func mustAdd(a, b chain.Amount, op string) chain.Amount {
	sum, ok := a.Add(b)
	if !ok {
		panic(&state.Fault{Op: op, Err: errors.New("the sum exceeds every supply")})
	}
	return sum
}

// Most accounts have no lock, and reflection over them takes ten times as long
// as this (BenchmarkAccountRecord). So [nonce, balance, []] has its own
// writer and reader; everything else goes through the codec, and a test holds
// the two equal.

const (
	cborArray3     = 0x83
	cborEmptyArray = 0x80
)

func encodeAccount(a Account) []byte {
	if len(a.Locks) > 0 {
		return codec.Marshal(a)
	}
	out := append(make([]byte, 0, 20), cborArray3)
	out = appendUint(out, a.Nonce)
	out = appendUint(out, a.Balance.Nano())
	return append(out, cborEmptyArray)
}

func decodeAccount(key, value []byte) Account {
	if len(value) > 1 && value[0] == cborArray3 {
		nonce, rest, ok := readUint(value[1:])
		if ok {
			var balance uint64
			balance, rest, ok = readUint(rest)
			if ok && len(rest) == 1 && rest[0] == cborEmptyArray {
				return Account{Nonce: nonce, Balance: chain.Nano(balance)}
			}
		}
	}
	return state.Decode[Account](key, value)
}

// appendUint appends the shortest form of an unsigned integer (RFC 8949 §3.1,
// §4.2.1).
func appendUint(out []byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(out, byte(n))
	case n < 1<<8:
		return append(out, 24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(out, 25), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(out, 26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(out, 27), n)
}

// readUint reads an unsigned integer in its shortest form and returns what
// follows; false means that the codec should have a look.
func readUint(in []byte) (n uint64, rest []byte, ok bool) {
	if len(in) == 0 {
		return 0, nil, false
	}
	head, in := in[0], in[1:]
	if head < 24 {
		return uint64(head), in, true
	}
	if head > 27 {
		return 0, nil, false
	}
	size := 1 << (head - 24)
	if len(in) < size {
		return 0, nil, false
	}
	for _, b := range in[:size] {
		n = n<<8 | uint64(b)
	}
	shortest := n >= 24 && (size == 1 || n>>(4*size) != 0)
	return n, in[size:], shortest
}
