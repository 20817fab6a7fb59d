package blob

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

const (
	// ChunkBytes is the size of every chunk but the last.
	ChunkBytes = 256 << 10
	// MaxBytes is the size of the largest blob: 16 GiB. Its outline takes 2 MiB.
	MaxBytes = 16 << 30

	lengthBytes = 8
)

// CorruptError says that bytes are not those that the id names.
type CorruptError struct {
	ID    crypto.Digest
	Chunk int // which chunk, −1 for the outline or the whole
}

func (e *CorruptError) Error() string {
	if e.Chunk < 0 {
		return fmt.Sprintf("blob: %s: the bytes are not those of the blob", e.ID.Short())
	}
	return fmt.Sprintf("blob: %s: chunk %d is corrupt", e.ID.Short(), e.Chunk)
}

// TooLargeError says which bound was broken.
type TooLargeError struct {
	What  string
	Bytes int64 // at least so many
	Limit int64
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("blob: %s of %d bytes or more, limit %d", e.What, e.Bytes, e.Limit)
}

var errOutline = errors.New("blob: malformed outline")

// outline is what verifies a blob chunk by chunk.
type outline struct {
	length int64
	chunks []crypto.Digest // ⌈length / ChunkBytes⌉
}

// chunksOf returns how many chunks a blob of that many bytes has.
func chunksOf(length int64) int { return int((length + ChunkBytes - 1) / ChunkBytes) }

// outlineBytes returns the size of an encoded outline.
func outlineBytes(length int64) int64 {
	return lengthBytes + int64(chunksOf(length))*crypto.DigestSize
}

// StoredBytes returns what a store needs for a blob of so many bytes.
func StoredBytes(length int64) int64 { return length + outlineBytes(length) }

func (o outline) id() crypto.Digest {
	encoded := o.encode()
	list := crypto.DomainBlobList.Hash(encoded[lengthBytes:])
	return crypto.DomainBlob.Hash(append(encoded[:lengthBytes:lengthBytes], list[:]...))
}

// size returns how many bytes chunk i has.
func (o outline) size(i int) int {
	return int(min(ChunkBytes, o.length-int64(i)*ChunkBytes))
}

func (o outline) verifies(i int, chunk []byte) bool {
	return crypto.DomainBlobChunk.Hash(chunk) == o.chunks[i]
}

// encode is the length in 8 bytes, big endian, and the chunks' digests.
func (o outline) encode() []byte {
	out := make([]byte, 0, outlineBytes(o.length))
	out = binary.BigEndian.AppendUint64(out, uint64(o.length))
	for i := range o.chunks {
		out = append(out, o.chunks[i][:]...)
	}
	return out
}

// decodeOutline reads the outline of id. Errors: *TooLargeError if the blob is
// longer than limit, *CorruptError if it is another blob's.
func decodeOutline(data []byte, id crypto.Digest, limit int64) (outline, error) {
	length, err := decodeLength(data)
	if err != nil {
		return outline{}, err
	}
	if int64(len(data)) != outlineBytes(length) {
		return outline{}, fmt.Errorf("%w: %d bytes for a blob of %d bytes", errOutline, len(data), length)
	}
	o := outline{length: length, chunks: make([]crypto.Digest, chunksOf(length))}
	for i := range o.chunks {
		o.chunks[i] = crypto.Digest(data[lengthBytes+i*crypto.DigestSize:])
	}
	if o.id() != id {
		return outline{}, &CorruptError{ID: id, Chunk: -1}
	}
	if length > limit {
		return outline{}, &TooLargeError{What: "blob " + id.Short(), Bytes: length, Limit: limit}
	}
	return o, nil
}

// decodeLength reads the first 8 bytes of an encoded outline.
func decodeLength(data []byte) (int64, error) {
	if len(data) < lengthBytes {
		return 0, fmt.Errorf("%w: %d bytes", errOutline, len(data))
	}
	length := binary.BigEndian.Uint64(data)
	if length > MaxBytes {
		return 0, &TooLargeError{What: "blob", Bytes: int64(min(length, 1<<62)), Limit: MaxBytes}
	}
	return int64(length), nil
}

// Sum returns the id of the blob that data is.
func Sum(data []byte) crypto.Digest {
	o := outline{length: int64(len(data))}
	for len(data) > 0 {
		n := min(len(data), ChunkBytes)
		o.chunks = append(o.chunks, crypto.DomainBlobChunk.Hash(data[:n]))
		data = data[n:]
	}
	return o.id()
}
