package contract_test

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/cosmwasm"
)

// TestPredictableAddress: the addresses that CosmWasm's chains and clients publish for instantiate2, of
// creators of 20 and of 32 bytes and short and long salts, where the message does not count.
func TestPredictableAddress(t *testing.T) {
	bytes := func(text string) []byte { return must(hex.DecodeString(text)) }
	const (
		one, two    = "13a1fc994cc6d1c81b746ee0c0ff6f90043875e0bf1d9be6b7d779fc978dc2a5", "1da6c16de2cbaf7ad8cbb66f0925ba33f5c278cb2491762d04658c1480ea229b"
		brief, full = "9999999999aaaaaaaaaabbbbbbbbbbcccccccccc", "9999999999aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffff"
		a           = "61"
		long        = "aabbccddeeffffeeddbbccddaa66551155aaaabbcc787878789900aabbccddeeffffeeddbbccddaa66551155aaaabbcc787878789900aabbbbcc221100acadae"
	)
	for _, v := range []struct{ checksum, creator, salt, want string }{
		{one, brief, a, "5e865d3e45ad3e961f77fd77d46543417ced44d924dc3e079b5415ff6775f847"},
		{one, brief, long, "9384c6248c0bb171e306fd7da0993ec1e20eba006452a3a9e078883eb3594564"},
		{one, full, a, "9725e94f528d8b78d33c25f3dfcd60e6142d8be60ab36f6a5b59036fd51560db"},
		{one, full, long, "0aaf1c31c5d529d21d898775bc35b3416f47bfd99188c334c6c716102cbd3101"},
		{two, brief, a, "b95c467218d408a0f93046f227b6ece7fe18133ff30113db4d2a7becdfeca141"},
		{two, brief, long, "67a3ab6384729925fdb144574628ce96836fe098d2c6be4e84ac106b2728d96c"},
		{two, full, a, "547a743022f4f1af05b102f57bf1c1c7d7ee81bae427dc20d36b2c4ec57612ae"},
		{two, full, long, "d8af856a6a04852d19b647ad6d4336eb26e077f740aef1a0331db34d299a885a"},
	} {
		got := contract.Predictable(bytes(v.checksum), bytes(v.creator), bytes(v.salt))
		if hex.EncodeToString(got[:]) != v.want {
			t.Errorf("of %+v is %x", v, got[:])
		}
		if v.creator == full { // as long as addresses here are
			if got := contract.PredictableAddress(crypto.Digest(bytes(v.checksum)), chain.Address(bytes(v.creator)), bytes(v.salt)); hex.EncodeToString(got[:]) != v.want {
				t.Errorf("the contract of %+v is %x", v, got[:])
			}
		}
	}
}

// customs are a custom message or query of each kind.
var customs = []string{
	`{"deposit":{"cluster":"%[1]s","amount":"1"}}`, `{"withdraw":{"cluster":"%[1]s","amount":"1"}}`,
	`{"open_channel":{"payee":"%[2]s","nonce":"1","signer":"%[1]s","amount":"1","window_ms":"60000"}}`,
	`{"fund_channel":{"channel":"%[1]s","amount":"1"}}`, `{"close_channel":{"channel":"%[1]s"}}`, `{"extend_lease":{"node":"%[1]s","order":"%[1]s","amount":"1"}}`,
	`{"escrow":{"consumer":"%[2]s","cluster":"%[1]s"}}`, `{"order":{"id":"%[1]s"}}`, `{"lease":{"node":"%[1]s","order":"%[1]s"}}`, `{"node":{"id":"%[1]s"}}`,
	`{"verify_proof":{"kernel":"k","inputs":["%[1]s"],"outputs":["%[1]s","%[1]s"],"bind":"%[1]s","proof":"AQI="}}`,
}

func customText(form string) string {
	return fmt.Sprintf(form, "0100000000000000000000000000000000000000000000000000000000000000", person("bob"))
}

func read(text string) (message, question bool) {
	raw, err := cosmwasm.ParseRaw([]byte(text))
	if err != nil {
		return false, false
	}
	m, message := contract.ReadCustom(raw)
	if message {
		_ = chain.CheckMsg(m)
		_ = chain.KindOf(m)
	}
	_, question = contract.ReadQuestion(raw)
	return message, question
}

// TestCustomTexts: each is read, as a message or as a query, and as nothing once a byte of its
// names or of its digits is another.
func TestCustomTexts(t *testing.T) {
	for i, form := range customs {
		text := customText(form)
		if message, question := read(text); message != (i < 6) || question != (i >= 6) {
			t.Errorf("%s: %v %v", text, message, question)
		}
		for at := range len(text) - 1 {
			if message, question := read(text[:at] + text[at+1:]); message || question {
				if c := text[at]; c != '1' && c != '6' && c != '0' && c != 'k' { // of a number, or a name
					t.Errorf("%s without byte %d is read", text, at)
				}
			}
		}
	}
}

// TestCustomTextsHaveOneForm: what encoding/json takes beside it is refused.
func TestCustomTextsHaveOneForm(t *testing.T) {
	proof := customText(customs[len(customs)-1])
	for _, c := range [][2]string{{`"AQI="`, `"AQ\nI="`}, {`"AQI="`, `"AQJ="`}, {`"AQI="`, `null`}, {`"AQI="`, `[1]`}, {`"k"`, `null`}} {
		if _, question := read(strings.Replace(proof, c[0], c[1], 1)); question {
			t.Errorf("%s for %s is read", c[1], c[0])
		}
	}
	for _, text := range []string{`{"order":null}`, `{"order":{"id":null}}`, `{"order":[]}`, `[]`, `{}`, `{"order":{"id":"00"},"node":{"id":"00"}}`} {
		if message, question := read(text); message || question {
			t.Errorf("%s is read", text)
		}
	}
}

func FuzzCustom(f *testing.F) {
	for _, form := range customs {
		f.Add(customText(form))
	}
	f.Fuzz(func(t *testing.T, text string) {
		if message, question := read(text); message && question {
			t.Errorf("%q is both", text)
		}
	})
}
