package meter

import "math/bits"

// joins counts how many values may meet where ways meet: for each loop, each arm of an
// if and each block that a branch leaves, the locals that are used inside. A compiler
// may make a value for each of them, and its time grows with the square of those.
type joins struct {
	words  int      // of 64 locals
	used   []uint64 // locals that an open block uses, the innermost last
	values int      // that meet
}

func (j *joins) begin(locals int) { j.words = (locals + 63) / 64 }

func (j *joins) open() { j.used = append(j.used, make([]uint64, j.words)...) }

func (j *joins) mark(local uint64) {
	j.used[len(j.used)-j.words+int(local/64)] |= 1 << (local % 64)
}

// shut ends the innermost block. What it uses the one around it uses too.
func (j *joins) shut(meet bool) {
	inner := j.used[len(j.used)-j.words:]
	j.used = j.used[:len(j.used)-j.words]
	for i, set := range inner {
		if meet {
			j.values += bits.OnesCount64(set)
		}
		if outer := len(j.used) - j.words; outer >= 0 {
			j.used[outer+i] |= set
		}
	}
}
