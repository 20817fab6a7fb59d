package wallet

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// english is BIP-39's English word list, in its order, which is alphabetical.
//
//go:embed english.txt
var english string

var words = strings.Fields(english)

const (
	bitsPerWord   = 11
	newPhraseBits = 256
	maxPhraseText = 1 << 10 // bytes; 24 words of 8 letters are 216
	seedRounds    = 2048    // BIP-39, "From mnemonic to seed"
)

// ErrChecksum says that every word of a phrase is on the list but that
// together they are no phrase: one is mistaken for another, or misplaced.
var ErrChecksum = errors.New("wallet: the phrase's checksum does not match: check the words and their order")

// WordError names a word that is not on BIP-39's English list.
type WordError struct {
	Position int // from 1
	Word     string
}

func (e *WordError) Error() string {
	return fmt.Sprintf("wallet: word %d of the phrase, %q, is not on the BIP-39 English list", e.Position, e.Word)
}

// LengthError says that a phrase has a number of words that BIP-39 knows not.
type LengthError struct{ Words int }

func (e *LengthError) Error() string {
	return fmt.Sprintf("wallet: phrase of %d words, want 12, 15, 18, 21 or 24", e.Words)
}

// Phrase is a BIP-39 phrase in English: 12, 15, 18, 21 or 24 words whose
// checksum matches. It prints as "phrase"; Words reveals it. The zero value is
// no phrase.
type Phrase struct{ reveal func() string }

// NewPhrase makes a phrase of 24 words from the system's randomness.
func NewPhrase() Phrase {
	entropy := make([]byte, newPhraseBits/8)
	if _, err := rand.Read(entropy); err != nil {
		panic("wallet: the system has no randomness: " + err.Error())
	}
	return phraseOf(entropy)
}

// PhraseFromEntropy returns the phrase of 16, 20, 24, 28 or 32 bytes (BIP-39,
// "Generating the mnemonic").
func PhraseFromEntropy(entropy []byte) (Phrase, error) {
	if n := len(entropy); n < 16 || n > 32 || n%4 != 0 {
		return Phrase{}, fmt.Errorf("wallet: entropy of %d bytes, want 16, 20, 24, 28 or 32", n)
	}
	return phraseOf(entropy), nil
}

func phraseOf(entropy []byte) Phrase {
	sum := sha256.Sum256(entropy)
	bits := append(slices.Clone(entropy), sum[0])
	out := make([]string, len(entropy)*8*33/32/bitsPerWord)
	for i := range out {
		index := 0
		for j := i * bitsPerWord; j < (i+1)*bitsPerWord; j++ {
			index = index<<1 | int(bits[j/8]>>(7-j%8))&1
		}
		out[i] = words[index]
	}
	text := strings.Join(out, " ")
	return Phrase{reveal: func() string { return text }}
}

// ParsePhrase reads a phrase in any case and with any white space. It returns
// *LengthError, *WordError or ErrChecksum.
func ParsePhrase(text string) (Phrase, error) {
	if len(text) > maxPhraseText {
		return Phrase{}, fmt.Errorf("wallet: phrase of %d bytes, limit %d", len(text), maxPhraseText)
	}
	given := strings.Fields(strings.ToLower(norm.NFKD.String(text)))
	if n := len(given); n < 12 || n > 24 || n%3 != 0 {
		return Phrase{}, &LengthError{Words: n}
	}
	bits := make([]byte, (len(given)*bitsPerWord+7)/8)
	for i, word := range given {
		index, known := slices.BinarySearch(words, word)
		if !known {
			return Phrase{}, &WordError{Position: i + 1, Word: word}
		}
		for j := range bitsPerWord {
			at := i*bitsPerWord + j
			bits[at/8] |= byte(index>>(bitsPerWord-1-j)&1) << (7 - at%8)
		}
	}
	phrase := phraseOf(bits[:len(given)*bitsPerWord*32/33/8])
	if phrase.Words() != strings.Join(given, " ") {
		return Phrase{}, ErrChecksum
	}
	return phrase, nil
}

// Words reveals the phrase, its words in lower case with one space between.
func (p Phrase) Words() string { return p.reveal() }

// IsZero reports whether p is the zero value, which is no phrase.
func (p Phrase) IsZero() bool { return p.reveal == nil }

// String hides the words.
func (Phrase) String() string { return "phrase" }

// GoString hides the words.
func (Phrase) GoString() string { return "phrase" }

// Seed returns the 64 bytes from which keys derive (BIP-39, "From mnemonic to
// seed"). Wallet uses the empty passphrase.
func (p Phrase) Seed(passphrase string) [64]byte {
	salt := "mnemonic" + norm.NFKD.String(passphrase)
	seed, err := pbkdf2.Key(sha512.New, p.Words(), []byte(salt), seedRounds, 64)
	if err != nil {
		panic("wallet: PBKDF2 refused its constants: " + err.Error())
	}
	return [64]byte(seed)
}
