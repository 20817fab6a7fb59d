package transport_test

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/iotest"

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
