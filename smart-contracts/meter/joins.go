package meter

import "math/bits"

// joins counts how many values may meet where ways meet: for each loop, each arm of an
// if and each block that a branch leaves, the locals that are used inside. A compiler
// may make a value for each of them, and its time grows with the square of those.
type joins struct {
	words  int      // of 64 locals
	used   []uint64 // locals that an open block uses, the innermost last
	values int      // that meet
	set    []uint64 // locals that an open block sets, the innermost last
	moves  int      // of values, at the ends of all ways that meet
}

func (j *joins) begin(locals int) { j.words = (locals + 63) / 64 }

func (j *joins) open() {
	j.used = append(j.used, make([]uint64, j.words)...)
	j.set = append(j.set, make([]uint64, j.words)...)
}

func (j *joins) mark(local uint64, set bool) {
	at, bit := len(j.used)-j.words+int(local/64), uint64(1)<<(local%64)
	if j.used[at] |= bit; set {
		j.set[at] |= bit
	}
}

// shut ends the innermost block. What it uses the one around it uses too. ways are how many
// come to where they meet: at the end of each a compiler may move each local that is set inside.
func (j *joins) shut(meet bool, ways int) {
	from := len(j.used) - j.words
	for i, set := range j.used[from:] {
		if meet {
			j.values += bits.OnesCount64(set)
			j.moves += ways * bits.OnesCount64(j.set[from+i])
		}
		if outer := from - j.words; outer >= 0 {
			j.used[outer+i] |= set
			j.set[outer+i] |= j.set[from+i]
		}
	}
	j.used, j.set = j.used[:from], j.set[:from]
}

// sets returns what the innermost block sets.
func (j *joins) sets() []uint64 { return j.set[len(j.set)-j.words:] }
