package agent_test

import (
	"io"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// TestOutputIsEncryptedToItsConsumer runs an order that names a recipient: what
// the agent stores and serves is ciphertext, which the recipient's key opens.
func TestOutputIsEncryptedToItsConsumer(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	start(t, home(t, g, s))
	p := s.session()
	file, recipient, err := blob.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	key, err := blob.ParseIdentities(strings.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	const secret = "what nobody else may read\n"
	a := p.assign(writer("result.txt", secret), 1, func(s *job.Spec) { s.OutputTo = []string{recipient} })
	d := p.finish(&a)
	if d.Receipt.Exit != chain.ExitOK || d.OutputSize == 0 {
		t.Fatalf("exit %s, %q, %d bytes", d.Receipt.Exit, d.Detail, d.OutputSize)
	}
	files := p.opened(d, func(b io.Reader) (io.Reader, error) { return blob.Unseal(b, key) })
	if len(files) != 1 || files["result.txt"] != secret {
		t.Errorf("the opened output has %q", files)
	}
	kept, err := s.blobs.Open(d.Output)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(kept)
	if err != nil || strings.Contains(string(raw), secret) {
		t.Errorf("%d bytes are stored, the secret among them: %v", len(raw), err)
	}
	if err := kept.Close(); err != nil {
		t.Error(err)
	}
}

// TestRecipientThatIsNone has a recipient of the right form that is no key.
func TestRecipientThatIsNone(t *testing.T) {
	g := genesis()
	s := newServer(t, g)
	start(t, home(t, g, s))
	p := s.session()
	a := p.assign(writer("result.txt", "x"), 1, func(s *job.Spec) { s.OutputTo = []string{"age1qqqq"} })
	d := p.finish(&a)
	if d.Receipt.Exit != chain.ExitInvalid || !strings.Contains(d.Detail, "output_to") || !d.Output.IsZero() {
		t.Errorf("exit %s, %q, output %s", d.Receipt.Exit, d.Detail, d.Output)
	}
}
