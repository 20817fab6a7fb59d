package state

import "math/bits"

// spanSet is a set of spans, of which the least is found by a look at a few words.
type spanSet struct {
	words []uint64 // a bit for each span
	some  []uint64 // a bit for each of these words that is not zero
	first int      // of some, the words before it are zero
	count int
}

// add adds a span, if it is not there.
func (s *spanSet) add(span uint32) {
	w := int(span / 64)
	for len(s.words) <= w {
		s.words = append(s.words, 0)
	}
	for len(s.some) <= w/64 {
		s.some = append(s.some, 0)
	}
	bit := uint64(1) << (span % 64)
	if s.words[w]&bit != 0 {
		return
	}
	s.words[w] |= bit
	s.some[w/64] |= 1 << (w % 64)
	s.first = min(s.first, w/64)
	s.count++
}

// remove takes a span away, if it is there.
func (s *spanSet) remove(span uint32) {
	w := int(span / 64)
	bit := uint64(1) << (span % 64)
	if w >= len(s.words) || s.words[w]&bit == 0 {
		return
	}
	s.count--
	if s.words[w] &^= bit; s.words[w] == 0 {
		s.some[w/64] &^= 1 << (w % 64)
	}
}

// least returns the first span, and false if there is none.
func (s *spanSet) least() (uint32, bool) {
	if s.count == 0 {
		return 0, false
	}
	for s.some[s.first] == 0 {
		s.first++
	}
	w := 64*s.first + bits.TrailingZeros64(s.some[s.first])
	return uint32(64*w + bits.TrailingZeros64(s.words[w])), true
}
