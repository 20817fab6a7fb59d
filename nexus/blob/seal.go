package blob

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// MaxIdentityBytes bounds what ParseIdentities reads.
const MaxIdentityBytes = 64 << 10

// ErrSealed says that none of the identities opens what is sealed, or that it was
// changed.
var ErrSealed = errors.New("blob: cannot be unsealed")

// Seal returns content encrypted to recipients (age1…, of which any one can open
// it), in the binary form of the age format, https://age-encryption.org/v1. The
// reader must be closed; it has a goroutine of its own until then. What is sealed
// is longer than its content by less than SealedBytes says, and different each
// time.
func Seal(content io.Reader, recipients []string) (io.ReadCloser, error) {
	parsed, err := parseRecipients(recipients)
	if err != nil {
		return nil, err
	}
	from, to := io.Pipe()
	s := &sealing{PipeReader: from, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		w, err := age.Encrypt(to, parsed...)
		if err == nil {
			_, err = io.Copy(w, content)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			err = fmt.Errorf("blob: sealing: %w", err)
		}
		to.CloseWithError(err) // documented never to fail; nil is the end
	}()
	return s, nil
}

// sealing is the reading end of what a goroutine encrypts.
type sealing struct {
	*io.PipeReader
	done chan struct{}
}

// Close ends the goroutine: it does not read on.
func (s *sealing) Close() error {
	err := s.PipeReader.Close()
	<-s.done
	return err
}

// SealedBytes returns a bound of the size of size bytes once sealed.
func SealedBytes(size int64) int64 { return size + size>>11 + 64<<10 }

// CheckRecipients returns an error that names the first string that is no age
// recipient. There must be one.
func CheckRecipients(recipients []string) error {
	_, err := parseRecipients(recipients)
	return err
}

func parseRecipients(recipients []string) ([]age.Recipient, error) {
	if len(recipients) == 0 {
		return nil, errors.New("blob: sealing for nobody")
	}
	var out []age.Recipient
	for _, text := range recipients {
		parsed, err := age.ParseRecipients(bytes.NewReader([]byte(text)))
		if err != nil || len(parsed) != 1 {
			return nil, fmt.Errorf("blob: recipient %.80q is none: %w", text, errors.Join(err))
		}
		out = append(out, parsed...)
	}
	return out, nil
}

// Identities are keys that open what is sealed.
type Identities struct{ list []age.Identity }

// ParseIdentities reads a key file as age-keygen writes it: a key on a line,
// comments and empty lines between.
func ParseIdentities(r io.Reader) (Identities, error) {
	list, err := age.ParseIdentities(io.LimitReader(r, MaxIdentityBytes))
	if err != nil {
		// The error may quote the line, which may be most of a key.
		return Identities{}, errors.New("blob: this is no age key file: want lines AGE-SECRET-KEY-1…")
	}
	return Identities{list: list}, nil
}

// NewIdentity makes a key, and returns the text of its file and its recipient.
func NewIdentity() (file, recipient string, err error) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		return "", "", fmt.Errorf("blob: making a key: %w", err)
	}
	recipient = key.Recipient().String()
	return fmt.Sprintf("# recipient: %s\n%s\n", recipient, key), recipient, nil
}

// Unseal returns the content of what is sealed. Its bytes are authentic as they
// come, in pieces of 64 KiB; that they are all is known at io.EOF. Errors match
// ErrSealed.
func Unseal(sealed io.Reader, with Identities) (io.Reader, error) {
	r, err := age.Decrypt(sealed, with.list...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSealed, err)
	}
	return &unsealing{r: r}, nil
}

type unsealing struct{ r io.Reader }

// Read implements io.Reader.
func (u *unsealing) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: %w", ErrSealed, err)
	}
	return n, err
}
