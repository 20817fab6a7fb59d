package transport_test

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/iotest"
	"time"

	"github.com/hypermesh/hypermesh/internal/transport"
)

func TestMessages(t *testing.T) {
	for _, size := range []int{0, 1, 65_535, 65_536, 65_537, 300_000, transport.MaxMessageBytes} {
		message := bytes.Repeat([]byte{7}, size)
		var wire bytes.Buffer
		if err := transport.WriteMessage(&wire, message); err != nil {
			t.Fatal(err)
		}
		got, err := transport.ReadMessage(bytes.NewReader(wire.Bytes()), size)
		if err != nil || !bytes.Equal(got, message) {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if size == 0 {
			continue
		}
		tooLarge, ok := errors.AsType[*transport.MessageTooLargeError](second(transport.ReadMessage(&wire, size-1)))
		if !ok || tooLarge.Bytes != uint64(size) || tooLarge.Limit != size-1 {
			t.Fatalf("%d bytes, limit one less: %v", size, tooLarge)
		}
	}
	for wire, want := range map[string]error{
		"":                         io.EOF,
		"\x00\x00":                 io.ErrUnexpectedEOF,
		"\x00\x00\x00\x02":         io.ErrUnexpectedEOF,
		"\x00\x00\x00\x02a":        io.ErrUnexpectedEOF,
		"\x00\x01\x00\x00" + "abc": io.ErrUnexpectedEOF,
	} {
		if _, err := transport.ReadMessage(iotest.OneByteReader(bytes.NewReader([]byte(wire))), 1<<20); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", wire, err, want)
		}
	}
}

// TestAPrefixAloneAllocatesLittle announces 16 MiB and sends nothing.
func TestAPrefixAloneAllocatesLittle(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 16 {
		if _, err := transport.ReadMessage(bytes.NewReader([]byte{1, 0, 0, 0}), transport.MaxMessageBytes); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
		t.Fatalf("16 empty promises allocated %d bytes", grown)
	}
}

func FuzzReadMessage(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 7}, 10)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, 10)
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 2, 1, 2, 0}, 2)
	f.Fuzz(func(t *testing.T, wire []byte, limit int) {
		r := bytes.NewReader(wire)
		var again bytes.Buffer
		for {
			message, err := transport.ReadMessage(r, limit)
			if err != nil {
				break
			}
			if len(message) > max(0, limit) {
				t.Fatalf("%d bytes, limit %d", len(message), limit)
			}
			if err := transport.WriteMessage(&again, message); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.HasPrefix(wire, again.Bytes()) {
			t.Fatalf("%x reads and writes as %x", wire, again.Bytes())
		}
	})
}

// wire hands a stream out in pieces.
type wire struct {
	data  []byte
	piece int
	armed int // deadlines set and not lifted
}

func (w *wire) Read(p []byte) (int, error) {
	if len(w.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), w.piece)], w.data)
	w.data = w.data[n:]
	return n, nil
}

func (w *wire) SetReadDeadline(at time.Time) error {
	w.armed = 0
	if !at.IsZero() {
		w.armed = 1
	}
	return nil
}

// FuzzFrames reads a channel's stream in pieces of any size: the same messages
// as ReadMessage, and the same end.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 7, 0, 0, 0, 0}, 10, 1)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, 10, 3)
	f.Add(append([]byte{0, 0, 0x20, 0}, make([]byte, 9000)...), 1<<20, 100)
	f.Add([]byte{0, 0, 0, 2, 1}, 2, 5)
	f.Fuzz(func(t *testing.T, data []byte, limit, piece int) {
		w := &wire{data: data, piece: max(1, piece)}
		limit = min(limit, transport.MaxMessageBytes)
		got, end := transport.ReadFrames(w, time.Second, limit)
		plain := bytes.NewReader(data)
		for i := 0; ; i++ {
			want, err := transport.ReadMessage(plain, limit)
			if err != nil {
				if i != len(got) || errors.Is(end, io.EOF) != errors.Is(err, io.EOF) || errors.Is(end, io.ErrUnexpectedEOF) != errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatalf("%d messages and %v, want %d and %v", len(got), end, i, err)
				}
				return
			}
			if i >= len(got) || !bytes.Equal(got[i], want) {
				t.Fatalf("message %d differs", i)
			}
		}
	})
}

// FuzzCertificate parses what a stranger presents before it is known.
func FuzzCertificate(f *testing.F) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	ours, err := transport.CertificateOf(key(1))
	if err != nil {
		f.Fatal(err)
	}
	if id, err := transport.CheckCertificate(ours, now); err != nil || id != key(1).Public() {
		f.Fatalf("our own certificate: %v", err)
	}
	f.Add(ours)
	f.Add([]byte{0x30, 0x03, 2, 1, 1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		id, err := transport.CheckCertificate(raw, now)
		if err == nil && id.Check() != nil {
			t.Fatalf("the unsound key %s is accepted", id)
		}
		if err != nil && !errors.Is(err, transport.ErrCertificate) {
			t.Fatalf("error %v", err)
		}
	})
}

// FuzzNodeAddr reads addresses, which come from chain and configuration.
func FuzzNodeAddr(f *testing.F) {
	f.Add(key(1).Public().String() + "@127.0.0.1:7000")
	f.Add("@:")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := transport.ParseNodeAddr(s)
		if err == nil && a.String() != s {
			t.Fatalf("%q reads as %s", s, a)
		}
	})
}
