package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/hypermesh/hypermesh/internal/codec"
)

// SplitFrames takes a proof apart; JoinFrames puts one together, with a checksum
// that is right.
func SplitFrames(proof []byte) (head []byte, frames [][]byte) {
	head, rest := proof[:len(magic)], proof[len(magic):]
	for len(rest) > 0 {
		n := 5 + int(binary.BigEndian.Uint32(rest[1:]))
		frames, rest = append(frames, rest[:n]), rest[n:]
	}
	return head, frames
}

func JoinFrames(head []byte, frames [][]byte) []byte {
	out := slices.Concat(append([][]byte{head}, frames[:len(frames)-1]...)...)
	var e ending
	last := frames[len(frames)-1]
	if err := codec.Unmarshal(last[5:], &e, len(last)); err != nil || last[0] != frameEnd {
		return append(out, last...)
	}
	sum := sha256.Sum256(out)
	e.Sum = sum[:]
	var b bytes.Buffer
	w := &proofWriter{to: &b}
	if err := w.frame(frameEnd, e); err != nil {
		panic(err)
	}
	return append(out, b.Bytes()...)
}

// WithRequest returns a proof that says that another thing was asked for.
func WithRequest(proof []byte, change func(*Request)) []byte {
	head, frames := SplitFrames(proof)
	var s start
	if err := codec.Unmarshal(frames[0][5:], &s, len(frames[0])); err != nil {
		panic(err)
	}
	change(&s.Request)
	var b bytes.Buffer
	w := &proofWriter{to: &b}
	if err := w.frame(frameStart, s); err != nil {
		panic(err)
	}
	frames[0] = b.Bytes()
	return JoinFrames(head, frames)
}

func IsEpoch(frame []byte) bool { return frame[0] == frameEpoch }
