package crypto

// looseBound is what every limb stays below.
const looseBound = 1<<51 + 1<<14

func mustBeBounded(f *field8) {
	for k := range f {
		for _, limb := range f[k] {
			if limb >= looseBound {
				panic("a limb leaves its bound")
			}
		}
	}
}

// Reduce returns what is found for limbs as the routines leave them: the canonical
// form.
func Reduce(limbs [5]uint64) [5]uint64 { return element(limbs).canonical() }

// ComputeOne is one of the four operations of Compute, where the others may not take
// such limbs.
func ComputeOne(operation int, a, b *Lanes) (out [8][5]uint64) {
	var result field8
	switch operation {
	case 0:
		mul8(&result, a, b)
	case 1:
		add8(&result, a, b)
	case 2:
		sub8(&result, a, b)
	default:
		square8(&result, a, 1)
	}
	mustBeBounded(&result)
	for i := range out {
		out[i] = result.lane(i)
	}
	return out
}

// Decompress returns for each encoding whether it has a point, and of that and its
// negative y + x, y − x and 2dxy in canonical form.
func Decompress(encoded [8]*[32]byte) (ok [8]bool, rows [8][2][3][5]uint64) {
	var d decompressor
	var found [8][2]niels
	ok = d.run(encoded, &found)
	for i := range found {
		for sign := range found[i] {
			for c := range 3 {
				e := element(found[i][sign][5*c:])
				for _, limb := range e {
					if limb >= looseBound {
						panic("a limb leaves its bound")
					}
				}
				rows[i][sign][c] = e.canonical()
			}
		}
	}
	return ok, rows
}

// BaseRows returns the generator and its negative as Decompress does.
func BaseRows() (rows [2][3][5]uint64) {
	for sign := range baseRows {
		for c := range 3 {
			rows[sign][c] = element(baseRows[sign][5*c:]).canonical()
		}
	}
	return rows
}

// Points are eight points in extended coordinates x, y, z and t.
type Points [4]Lanes

func (p *Points) inside() *point8 { return &point8{x: p[0], y: p[1], z: p[2], t: p[3]} }

func outside(p *point8) (out [8][4][5]uint64) {
	for c, f := range []*field8{&p.x, &p.y, &p.z, &p.t} {
		mustBeBounded(f)
		for i := range out {
			out[i][c] = f.lane(i)
		}
	}
	return out
}

// AddPoints returns p + q, coordinates in canonical form.
func AddPoints(p, q *Points) [8][4][5]uint64 {
	var work work8
	sum := p.inside()
	addPoint8(sum, q.inside(), &constD2, &work)
	return outside(sum)
}

// DoublePoints returns 2^times · p.
func DoublePoints(p *Points, times int) [8][4][5]uint64 {
	var work work8
	out := p.inside()
	doublePoint8(out, times, &work)
	return outside(out)
}

// AccumulatePoints adds to p the rows of the table that order names, eight at a
// time; a row is y + x, y − x and 2dxy.
func AccumulatePoints(p *Points, table [][3][5]uint64, order []uint32) [8][4][5]uint64 {
	var work work8
	rows := make([]niels, len(table))
	for i := range table {
		for c := range 3 {
			copy(rows[i][5*c:], table[i][c][:])
		}
	}
	out := p.inside()
	accumulate8(out, &rows[0], &order[0], len(order)/8, &work)
	return outside(out)
}

// BelowOrder reports whether a number in 32 bytes is below the group's order.
func BelowOrder(s [32]byte) bool { return belowOrder(s[:]) }

// Digits returns the digits of a scalar, the lowest first, as they are written for a
// list of so many points.
func Digits(point, points, window int, long bool, scalar [4]uint64) (out []int) {
	var d digits
	size := shortBits
	if long {
		size = longBits
	}
	d.reset(points, size, window)
	d.set(point, window, &scalar)
	for w := 0; d.of(w) != nil; w++ {
		out = append(out, int(d.of(w)[point]))
	}
	return out
}

// VerifyFused verifies a batch by one multiplication eight lanes wide, without
// looking further if it has bad ones: it returns the verdicts, and whether they are
// final.
func VerifyFused(items []Signed) (verdicts []bool, final bool) {
	verdicts = make([]bool, len(items))
	return verdicts, verifyFused(messagesOf(items), verdicts)
}

// FailedMultiplications is how many multiplications of a batch did not say which
// signatures are bad.
func FailedMultiplications(items []Signed) int {
	var s search
	s.verify(messagesOf(items), make([]bool, len(items)))
	return s.failed
}

// SumOfNothing sums up so many multiples, all by zero, of a table with so many rows.
func SumOfNothing(long, short, rows int) {
	m := &multiplier{window: 4, table: make([]niels, rows)}
	m.table[0] = identityRow
	m.long.reset(long, longBits, m.window)
	m.short.reset(short, shortBits, m.window)
	if !m.isSmallOrder() {
		panic("nothing is something")
	}
}

// KnowGoodFromBad is what is checked before the first batch; with a constant of one
// lane changed if asked to.
func KnowGoodFromBad(wrong bool) {
	if wrong {
		constD2[4][5] ^= 1 << 50
		defer func() { constD2[4][5] ^= 1 << 50 }()
	}
	knowGoodFromBad()
}

// IsChecked reports whether a batch asks for the check before it is verified.
func IsChecked(items []Signed) (asked bool) {
	had := checkFused
	defer func() { checkFused = had }()
	checkFused = func() { asked = true }
	VerifyFused(items)
	return asked
}
