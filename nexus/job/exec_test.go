package job_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

func signedExec(command ...string) job.SignedExec {
	s := job.SignedExec{Request: job.ExecRequest{ChainID: "fixture-1", Order: crypto.Digest{1}, Node: consumer.Public(), Expires: 5, Command: command}}
	s.Signature = consumer.Sign(crypto.DomainExec, s.Request.Payload([32]byte{9}))
	return s
}

func TestExecForms(t *testing.T) {
	s := signedExec("/bin/sh", "-c", "true")
	frozen(t, "exec_signed", s.Encode())
	frozen(t, "exec_payload", s.Request.Payload([32]byte{9}))
	frozen(t, "exec_ticket", job.ExecTicketPayload("fixture-1", crypto.Digest{1}, consumer.Public(), 5))
	again, err := job.DecodeSignedExec(s.Encode())
	if err != nil || !bytes.Equal(again.Encode(), s.Encode()) {
		t.Errorf("%+v, %v", again, err)
	}
	payload := s.Request.Payload([32]byte{9})
	for name, other := range map[string][]byte{
		"of another connection": s.Request.Payload([32]byte{8}),
		"of a ticket":           job.ExecTicketPayload("fixture-1", crypto.Digest{1}, consumer.Public(), 5),
	} {
		if bytes.Equal(payload, other) || consumer.Public().Verify(crypto.DomainExec, other, s.Signature) {
			t.Errorf("the signature counts for a payload %s", name)
		}
	}
	if consumer.Public().Verify(crypto.DomainExecTicket, payload, s.Signature) {
		t.Error("the signature counts as a ticket")
	}
}

func TestExecRefusesByName(t *testing.T) {
	for want, command := range map[string][]string{
		"the command is empty":         {},
		"has 257 words, limit 256":     strings.Fields(strings.Repeat("w ", 257)),
		"word 1 of the command":        {"a", "b\x00"},
		"has 16385 bytes, limit 16384": {strings.Repeat("x", 16_385)},
	} {
		s := signedExec(command...)
		if _, err := job.DecodeSignedExec(s.Encode()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	size := job.TerminalSize{Columns: 80, Rows: 24}
	for want, terminal := range map[string]job.Terminal{
		"":                               {Type: "xterm-256color", Size: size},
		"type has 0 bytes, want 1 to 64": {Size: size},
		"type has 65 bytes":              {Type: strings.Repeat("x", 65), Size: size},
		`type is "x\nLD_PRELOAD=y"`:      {Type: "x\nLD_PRELOAD=y", Size: size},
		"of 0 columns and 24 rows":       {Type: "x", Size: job.TerminalSize{Rows: 24}},
		"of 80 columns and 10001 rows":   {Type: "x", Size: job.TerminalSize{Columns: 80, Rows: 10_001}},
	} {
		s := signedExec("/bin/sh")
		s.Request.Terminal = terminal
		again, err := job.DecodeSignedExec(s.Encode())
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) || err == nil && again.Request.Terminal != terminal {
			t.Errorf("%+v: %v, want %q", terminal, err, want)
		}
	}
	for _, data := range [][]byte{nil, {0, 80, 0}, {0, 0, 0, 24}, {0xff, 0xff, 0, 24}} {
		if got, err := job.DecodeTerminalSize(data); err == nil {
			t.Errorf("%x: %+v", data, got)
		}
	}
	if got, err := job.DecodeTerminalSize(size.Encode()); err != nil || got != size {
		t.Errorf("%+v, %v", got, err)
	}
	s := signedExec(strings.Repeat("x", 1<<20))
	if _, err := job.DecodeSignedExec(s.Encode()); err == nil {
		t.Error("a megabyte was decoded")
	}
	for _, c := range []struct {
		expires, now chain.TimeMs
		want         string
	}{{10, 11, "expired at 10, it is 11"}, {100_000, 10, "expires in 99990 ms, limit 60000"}, {60_010, 10, ""}, {10, 10, ""}} {
		if err := job.CheckTicketTime(c.expires, c.now); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%d at %d: %v, want %q", c.expires, c.now, err, c.want)
		}
	}
}

func TestExecFrames(t *testing.T) {
	var all bytes.Buffer
	var buf []byte
	big := bytes.Repeat([]byte{7}, job.MaxExecFrame)
	for _, data := range [][]byte{nil, []byte("x"), big} {
		if err := job.WriteExecFrame(&all, job.ExecStdout, data); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range [][]byte{nil, []byte("x"), big} {
		kind, data, err := job.ReadExecFrame(&all, &buf)
		if err != nil || kind != job.ExecStdout || !bytes.Equal(data, want) {
			t.Errorf("%d, %d bytes, %v", kind, len(data), err)
		}
	}
	if err := job.WriteExecFrame(&all, job.ExecStdout, append(big, 1)); err == nil {
		t.Error("too long a frame was written")
	}
	frame := func(kind byte, length uint32) io.Reader {
		return bytes.NewReader(append(binary.BigEndian.AppendUint32([]byte{kind}, length), 1, 2))
	}
	for want, r := range map[string]io.Reader{
		"kind 0, which is none":            frame(0, 0),
		"kind 10, which is none":           frame(10, 0),
		"kind 4 has 32769 bytes":           frame(byte(job.ExecStdout), job.MaxExecFrame+1),
		"kind 3 has 1 bytes, limit 0":      frame(byte(job.ExecStdinEnd), 1),
		"kind 7 has 4294967295 bytes":      frame(byte(job.ExecRefuse), 1<<32-1),
		"a frame is cut off: unexpected E": frame(byte(job.ExecStdin), 3),
	} {
		if _, _, err := job.ReadExecFrame(r, &buf); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, _, err := job.ReadExecFrame(bytes.NewReader(nil), &buf); !errors.Is(err, io.EOF) {
		t.Errorf("nothing: %v", err)
	}
}
