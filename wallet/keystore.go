package wallet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"filippo.io/age"
	"golang.org/x/text/unicode/norm"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// The scrypt work factor of a keystore: base-2 logarithm of N, with r = 8 and
// p = 1, so that 18 takes 256 MiB and about a second.
const (
	MinWorkFactor     = 10
	DefaultWorkFactor = 18
	MaxWorkFactor     = 20
)

const (
	keystoreFormat  = "hypermesh-keystore"
	keystoreVersion = 1
	maxFileBytes    = 1 << 20
)

var (
	// ErrPassphrase says that a passphrase does not open a keystore.
	ErrPassphrase = errors.New("wallet: wrong passphrase")
	// ErrNoPassphrase says that a passphrase is empty.
	ErrNoPassphrase = errors.New("wallet: the passphrase is empty")
	// ErrNoKeystore says that there is no file; it matches fs.ErrNotExist too.
	ErrNoKeystore = errors.New("wallet: no keystore")
	// ErrKeystoreExists says that Create found a file; it matches fs.ErrExist
	// too.
	ErrKeystoreExists = errors.New("wallet: keystore exists already")
)

// FormatError says what is wrong with a file that is no keystore, a damaged
// one, or one of another version.
type FormatError struct {
	Path string
	Err  error
}

func (e *FormatError) Error() string { return fmt.Sprintf("wallet: keystore %s: %v", e.Path, e.Err) }

// Unwrap returns what is wrong.
func (e *FormatError) Unwrap() error { return e.Err }

// Keystore is a file that holds a wallet under a passphrase. Passphrases count
// in Unicode's form NFKC, so that keyboards agree.
type Keystore struct {
	Path       string
	WorkFactor int // of writing; 0 is DefaultWorkFactor
}

// keystoreFile is what age encrypts.
type keystoreFile struct {
	Format   string            `json:"format"`
	Version  int               `json:"version"`
	Phrase   string            `json:"phrase"`
	Accounts []keystoreAccount `json:"accounts"`
}

type keystoreAccount struct {
	Name       string  `json:"name"`
	Index      *uint32 `json:"index,omitempty"`       // of a derived account
	PrivateKey string  `json:"private_key,omitempty"` // of an imported one
}

// Create writes a new file with the wallet. It is ErrKeystoreExists if there
// is a file already.
func (k Keystore) Create(passphrase string, w *Wallet) error {
	return k.write(passphrase, w, func(temporary string) error {
		err := os.Link(temporary, k.Path)
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%w: %w", ErrKeystoreExists, fs.ErrExist)
		}
		return errors.Join(err, os.Remove(temporary))
	})
}

// Save writes the wallet in place of the file, which may be absent.
func (k Keystore) Save(passphrase string, w *Wallet) error {
	return k.write(passphrase, w, func(temporary string) error { return os.Rename(temporary, k.Path) })
}

// Load opens the file. It is ErrNoKeystore, ErrPassphrase or *FormatError if
// that cannot be.
func (k Keystore) Load(passphrase string) (*Wallet, error) {
	if passphrase == "" {
		return nil, ErrNoPassphrase
	}
	sealed, err := readBounded(k.Path)
	if err != nil {
		return nil, err
	}
	plain, err := open(sealed, passphrase)
	if errors.Is(err, age.ErrIncorrectIdentity) {
		return nil, fmt.Errorf("%w for %s", ErrPassphrase, k.Path)
	}
	if err != nil {
		return nil, &FormatError{Path: k.Path, Err: err}
	}
	w, err := decodeWallet(plain)
	if err != nil {
		return nil, &FormatError{Path: k.Path, Err: err}
	}
	return w, nil
}

func readBounded(path string) (data []byte, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrNoKeystore, err)
	}
	if err != nil {
		return nil, fmt.Errorf("wallet: opening the keystore: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data, err = io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("wallet: reading the keystore: %w", err)
	}
	if len(data) > maxFileBytes {
		return nil, &FormatError{Path: path, Err: fmt.Errorf("it has more than %d bytes", maxFileBytes)}
	}
	return data, nil
}

func open(sealed []byte, passphrase string) ([]byte, error) {
	identity, err := age.NewScryptIdentity(norm.NFKC.String(passphrase))
	if err != nil {
		return nil, err
	}
	identity.SetMaxWorkFactor(MaxWorkFactor)
	plain, err := age.Decrypt(bytes.NewReader(sealed), identity)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(plain)
}

func seal(plain []byte, passphrase string, workFactor int) ([]byte, error) {
	recipient, err := age.NewScryptRecipient(norm.NFKC.String(passphrase))
	if err != nil {
		return nil, err
	}
	recipient.SetWorkFactor(workFactor)
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, recipient)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return sealed.Bytes(), nil
}

func encodeWallet(w *Wallet) ([]byte, error) {
	file := keystoreFile{Format: keystoreFormat, Version: keystoreVersion, Phrase: w.phrase.Words()}
	for i := range w.accounts {
		a := &w.accounts[i]
		entry := keystoreAccount{Name: a.name}
		if a.path != "" {
			entry.Index = &a.index
		} else {
			entry.PrivateKey = a.key.Hex()
		}
		file.Accounts = append(file.Accounts, entry)
	}
	return json.MarshalIndent(file, "", "  ")
}

func decodeWallet(plain []byte) (*Wallet, error) {
	var file keystoreFile
	// The version comes first: another one may have other fields.
	if err := json.Unmarshal(plain, &file); err != nil {
		return nil, fmt.Errorf("its content is no keystore: %w", err)
	}
	if file.Format != keystoreFormat || file.Version != keystoreVersion {
		return nil, fmt.Errorf("it is %.40q version %d; this program reads %q version %d",
			file.Format, file.Version, keystoreFormat, keystoreVersion)
	}
	strict := json.NewDecoder(bytes.NewReader(plain))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&file); err != nil {
		return nil, fmt.Errorf("its content is no keystore: %w", err)
	}
	phrase, err := ParsePhrase(file.Phrase)
	if err != nil {
		return nil, err
	}
	w := New(phrase)
	for i, entry := range file.Accounts {
		if err := w.restore(entry); err != nil {
			return nil, fmt.Errorf("account %d: %w", i, err)
		}
	}
	return w, nil
}

func (w *Wallet) restore(entry keystoreAccount) error {
	if (entry.Index == nil) == (entry.PrivateKey == "") {
		return errors.New("it needs an index or a private key, and not both")
	}
	if entry.Index == nil {
		key, err := crypto.ParsePrivateKey(entry.PrivateKey)
		if err != nil {
			return err
		}
		_, err = w.Import(entry.Name, key)
		return err
	}
	if *entry.Index >= maxAccounts {
		return fmt.Errorf("index %d, limit %d", *entry.Index, maxAccounts-1)
	}
	_, err := w.insert(w.derived(entry.Name, *entry.Index))
	return err
}

// write puts the sealed wallet into a synced file beside its place and lets
// place move it there. Whatever fails, nothing is left beside.
func (k Keystore) write(passphrase string, w *Wallet, place func(temporary string) error) (err error) {
	if passphrase == "" {
		return ErrNoPassphrase
	}
	workFactor := k.WorkFactor
	if workFactor == 0 {
		workFactor = DefaultWorkFactor
	}
	if workFactor < MinWorkFactor || workFactor > MaxWorkFactor {
		return fmt.Errorf("wallet: work factor %d, want %d to %d", workFactor, MinWorkFactor, MaxWorkFactor)
	}
	plain, err := encodeWallet(w)
	if err != nil {
		return fmt.Errorf("wallet: encoding: %w", err)
	}
	sealed, err := seal(plain, passphrase, workFactor)
	if err != nil {
		return fmt.Errorf("wallet: encrypting: %w", err)
	}
	dir := filepath.Dir(k.Path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("wallet: making the keystore's folder: %w", err)
	}
	temporary, err := writeTemporary(dir, sealed)
	if err == nil {
		err = place(temporary)
	}
	if err != nil {
		if temporary != "" {
			err = errors.Join(err, removeIfThere(temporary))
		}
		return fmt.Errorf("wallet: writing %s: %w", k.Path, err)
	}
	return syncDir(dir)
}

// writeTemporary returns the name of a new synced file of mode 0600; on error
// the name is empty if no file was made.
func writeTemporary(dir string, data []byte) (name string, err error) {
	f, err := os.CreateTemp(dir, ".keystore-*") // its mode is 0600
	if err != nil {
		return "", err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	return f.Name(), errors.Join(err, f.Close())
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("wallet: syncing %s: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("wallet: syncing %s: %w", dir, err)
	}
	return nil
}
