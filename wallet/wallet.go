package wallet

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

const (
	maxAccounts = 1_000
	maxName     = 32
)

var (
	// ErrNoAccount says that a wallet has no account of a name.
	ErrNoAccount = errors.New("wallet: no such account")
	// ErrDuplicate says that a wallet has an account of that name or address.
	ErrDuplicate = errors.New("wallet: account exists already")
)

// Account is a named key of a wallet. It is a chain.Signer. It prints as its
// name and address.
type Account struct {
	name  string
	path  string // empty if imported
	index uint32 // of a derived account
	key   crypto.PrivateKey
}

var _ chain.Signer = Account{}

// NewAccount returns an account of a key that belongs to no wallet, such as
// one from a configuration file.
func NewAccount(name string, key crypto.PrivateKey) Account {
	return Account{name: name, key: key}
}

// Name returns the account's name.
func (a Account) Name() string { return a.name }

// Path returns the derivation path, or the empty string of an imported key.
func (a Account) Path() string { return a.path }

// AccountKey returns the public key, tagged with its scheme.
func (a Account) AccountKey() crypto.AccountKey { return crypto.AccountKeyOf(a.key.Public()) }

// Address returns the account's address.
func (a Account) Address() chain.Address { return chain.AddressOf(a.AccountKey()) }

// Sign signs the domain's digest of payload. The error is always nil: the key
// is at hand.
func (a Account) Sign(domain *crypto.Domain, payload []byte) (crypto.Signature, error) {
	return a.key.Sign(domain, payload), nil
}

// PrivateKey reveals the key.
func (a Account) PrivateKey() crypto.PrivateKey { return a.key }

// String returns the name and the address.
func (a Account) String() string { return a.name + " (" + a.Address().String() + ")" }

// Wallet is a phrase and accounts in the order of their making.
type Wallet struct {
	phrase   Phrase
	coin     func() node // the parent of derived accounts, computed once
	accounts []Account
}

// New returns a wallet of the phrase, with no accounts yet.
func New(phrase Phrase) *Wallet {
	return &Wallet{phrase: phrase, coin: sync.OnceValue(func() node { return coinNode(phrase) })}
}

// Phrase returns the phrase.
func (w *Wallet) Phrase() Phrase { return w.phrase }

// Accounts returns the accounts in the order of their making.
func (w *Wallet) Accounts() []Account { return slices.Clone(w.accounts) }

// Account returns the account of a name, or ErrNoAccount.
func (w *Wallet) Account(name string) (Account, error) {
	for _, a := range w.accounts {
		if a.name == name {
			return a, nil
		}
	}
	return Account{}, fmt.Errorf("%w: %q", ErrNoAccount, name)
}

// Add derives the next account and gives it a name: 1 to 32 of a–z, 0–9, '-',
// '_' and '.', which no other account has.
func (w *Wallet) Add(name string) (Account, error) {
	var next uint32
	for _, a := range w.accounts {
		if a.path != "" {
			next = max(next, a.index+1)
		}
	}
	return w.insert(w.derived(name, next))
}

// Import adds a key of its own under a name as Add takes it. The phrase does
// not bring it back: only the keystore has it.
func (w *Wallet) Import(name string, key crypto.PrivateKey) (Account, error) {
	return w.insert(Account{name: name, key: key})
}

func (w *Wallet) derived(name string, index uint32) Account {
	key := crypto.PrivateKeyFromSeed(w.coin().child(index).key)
	return Account{name: name, path: PathOf(index), index: index, key: key}
}

func (w *Wallet) insert(a Account) (Account, error) {
	if err := checkName(a.name); err != nil {
		return Account{}, err
	}
	if len(w.accounts) >= maxAccounts {
		return Account{}, fmt.Errorf("wallet: %d accounts, limit %d", len(w.accounts)+1, maxAccounts)
	}
	for _, b := range w.accounts {
		if a.name == b.name {
			return Account{}, fmt.Errorf("%w: name %q", ErrDuplicate, a.name)
		}
		if a.key.Public() == b.key.Public() {
			return Account{}, fmt.Errorf("%w: %s is %q", ErrDuplicate, a.Address(), b.name)
		}
	}
	w.accounts = append(w.accounts, a)
	return a, nil
}

func checkName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("wallet: account name of %d characters, want 1 to %d", len(name), maxName)
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return fmt.Errorf("wallet: account name has %q at position %d, want a–z, 0–9, '-', '_' or '.'", c, i+1)
		}
	}
	return nil
}
