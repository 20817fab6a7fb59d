package blob_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/hypermesh/hypermesh/nexus/blob"
)

// keys returns a key and its recipient.
func keys(t *testing.T) (blob.Identities, string) {
	t.Helper()
	file, recipient, err := blob.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	identities, err := blob.ParseIdentities(strings.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	return identities, recipient
}

func sealed(t *testing.T, data []byte, recipients ...string) []byte {
	t.Helper()
	r, err := blob.Seal(bytes.NewReader(data), recipients)
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return out
}

func unsealed(data []byte, with blob.Identities) ([]byte, error) {
	r, err := blob.Unseal(bytes.NewReader(data), with)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func TestSeal(t *testing.T) {
	alice, toAlice := keys(t)
	bob, toBob := keys(t)
	eve, _ := keys(t)
	for _, size := range []int{0, 1, 64 << 10, 1<<20 + 7} {
		data := content(size)
		got := sealed(t, data, toAlice, toBob)
		if int64(len(got)) > blob.SealedBytes(int64(size)) || size > 64 && bytes.Contains(got, data[:64]) {
			t.Fatalf("%d bytes became %d", size, len(got))
		}
		for _, who := range []blob.Identities{alice, bob} {
			if back, err := unsealed(got, who); err != nil || !bytes.Equal(back, data) {
				t.Fatalf("%d bytes: %d back, %v", size, len(back), err)
			}
		}
		if _, err := unsealed(got, eve); !errors.Is(err, blob.ErrSealed) {
			t.Fatalf("a stranger: %v", err)
		}
		for _, damaged := range [][]byte{got[:len(got)-1], append(bytes.Clone(got[:len(got)-1]), got[len(got)-1]^1), got[:20], nil} {
			if _, err := unsealed(damaged, alice); !errors.Is(err, blob.ErrSealed) {
				t.Fatalf("%d bytes of %d: %v", len(damaged), len(got), err)
			}
		}
	}
}

func TestSealRefuses(t *testing.T) {
	_, to := keys(t)
	for _, bad := range [][]string{nil, {""}, {to, "age1"}, {to + "\n" + to}, {"AGE-SECRET-KEY-1" + to}, {strings.ToUpper(to)[:20]}} {
		if err := blob.CheckRecipients(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if _, err := blob.ParseIdentities(strings.NewReader("AGE-SECRET-KEY-1QQQ\n")); err == nil || strings.Contains(err.Error(), "QQQ") {
		t.Errorf("a broken key: %v", err)
	}
	broken := errors.New("broken")
	r, err := blob.Seal(iotest.ErrReader(broken), []string{to})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, broken) {
		t.Errorf("a broken source: %v", err)
	}
	r, err = blob.Seal(bytes.NewReader(content(1<<20)), []string{to})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil { // ends the goroutine that writes
		t.Error(err)
	}
}
