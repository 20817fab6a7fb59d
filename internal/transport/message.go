package transport

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// MaxMessageBytes is the largest message any channel may carry: 16 MiB.
const MaxMessageBytes = 16 << 20

const (
	lengthBytes = 4
	// readStep is how much is allocated on the word of a length prefix alone;
	// the rest is allocated as bytes arrive.
	readStep = 64 << 10
)

// MessageTooLargeError says that a message is longer than its limit.
type MessageTooLargeError struct {
	What  string // what the message was for
	Bytes uint64
	Limit int
}

func (e *MessageTooLargeError) Error() string {
	return fmt.Sprintf("transport: %s of %d bytes, limit %d", e.What, e.Bytes, e.Limit)
}

// appendMessage appends the frame of message to dst: its length in 4 bytes, big
// endian, and itself.
func appendMessage(dst, message []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(message)))
	return append(dst, message...)
}

// WriteMessage writes the length of message in 4 bytes, big endian, and then
// the message.
func WriteMessage(w io.Writer, message []byte) error {
	if uint64(len(message)) > math.MaxUint32 {
		return &MessageTooLargeError{What: "message", Bytes: uint64(len(message)), Limit: math.MaxUint32}
	}
	if len(message) <= readStep {
		_, err := w.Write(appendMessage(make([]byte, 0, lengthBytes+len(message)), message))
		return err
	}
	if _, err := w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(message)))); err != nil {
		return err
	}
	_, err := w.Write(message)
	return err
}

// ReadMessage reads one message of WriteMessage, at most limit bytes long; a
// negative limit is 0. It returns io.EOF if the stream ends before a message
// begins, io.ErrUnexpectedEOF if it ends within one, and *MessageTooLargeError,
// without reading on, if the length is above the limit.
func ReadMessage(r io.Reader, limit int) ([]byte, error) {
	var header [lengthBytes]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(header[:])
	if uint64(length) > uint64(max(0, limit)) {
		return nil, &MessageTooLargeError{What: "message", Bytes: uint64(length), Limit: limit}
	}
	total := int(length)
	message := make([]byte, min(total, readStep))
	for filled := 0; ; {
		n, err := io.ReadFull(r, message[filled:])
		filled += n
		if err == io.EOF && total > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		if filled == total {
			return message, nil
		}
		grown := make([]byte, min(total, 2*filled))
		copy(grown, message)
		message = grown
	}
}
