package crypto

import (
	"encoding/binary"
	"math/bits"
)

// Arithmetic on edwards25519 (RFC 7748, section 4.1), eight points at a time, for
// the verification of batches: on public values, in variable time.

// field8 is eight elements of the field of 2²⁵⁵ − 19: limb k of element i, of
// weight 2^(51k), is [k][i]. Limbs are below 2⁵¹ + 2¹⁴.
type field8 [5][8]uint64

// point8 is eight points in extended coordinates: x = X/Z, y = Y/Z, xy = T/Z.
type point8 struct{ x, y, z, t field8 }

// niels is an affine point ready to be added: the limbs of y + x, y − x and 2dxy.
type niels [16]uint64

// work8 is where the routines in assembly keep what they are at.
type work8 [10]field8

const limbMask = 1<<51 - 1

// element is one field element; its limbs are as those of field8.
type element [5]uint64

// The constants d, 2d and √−1 (RFC 8032, section 5.1), and one.
var (
	constD      = spread(elementOf(littleEndian("a3785913ca4deb75abd841414d0a700098e879777940c78c73fe6f2bee6c0352")))
	constD2     = spread(elementOf(littleEndian("59f1b226949bd6eb56b183829a14e00030d1f3eef2808e19e7fcdf56dcd90624")))
	constSqrtM1 = spread(elementOf(littleEndian("b0a00e4a271beec478e42fad0618432fa7d7fb3d99004d2b0bdfc14f8024832b")))
	constOne    = spread(element{1})
	identity8   = point8{y: constOne, z: constOne}
	identityRow = niels{0: 1, 5: 1}
)

// baseRows are the generator of the group and its negative.
var baseRows = func() [2]niels {
	var rows [8][2]niels
	if hasFused {
		var d decompressor
		encoded := littleEndian("5866666666666666666666666666666666666666666666666666666666666666")
		d.run([8]*[32]byte{&encoded}, &rows)
	}
	return rows[0]
}()

// littleEndian reads 64 hexadecimal digits.
func littleEndian(text string) (out [32]byte) {
	if err := fixedHex(out[:], []byte(text), "constant"); err != nil {
		panic(err)
	}
	return out
}

// elementOf reads 255 bits; the last is ignored. What is not below the prime is
// taken modulo it, as ZIP-215 has it.
func elementOf(b [32]byte) element {
	w0, w1 := binary.LittleEndian.Uint64(b[0:]), binary.LittleEndian.Uint64(b[8:])
	w2, w3 := binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:])
	return element{
		w0 & limbMask, (w0>>51 | w1<<13) & limbMask, (w1>>38 | w2<<26) & limbMask, (w2>>25 | w3<<39) & limbMask, w3 >> 12 & limbMask,
	}
}

func spread(e element) (out field8) {
	for k := range out {
		for i := range out[k] {
			out[k][i] = e[k]
		}
	}
	return out
}

// lane returns element i in its one canonical form.
func (f *field8) lane(i int) element {
	return element{f[0][i], f[1][i], f[2][i], f[3][i], f[4][i]}.canonical()
}

func (e element) carried() element {
	for k := range 4 {
		e[k+1] += e[k] >> 51
		e[k] &= limbMask
	}
	e[0] += 19 * (e[4] >> 51)
	e[4] &= limbMask
	return e
}

func (e element) canonical() element {
	// The first leaves at most 18 above 2⁵¹, in the lowest limb, and the second nothing:
	// if it carries through all, the lowest is 18 at most before the last 19 come.
	e = e.carried().carried() // the value is below 2²⁵⁵ = p + 19
	more := e
	more[0] += 19
	for k := range 4 {
		more[k+1] += more[k] >> 51
		more[k] &= limbMask
	}
	if more[4]>>51 == 0 { // below the prime
		return e
	}
	more[4] &= limbMask
	return more
}

// decompressor finds points by their encodings, eight at a time.
type decompressor struct {
	x, y, u, v, a, b, c, e field8
}

// run finds the points of up to eight encodings, nil for those that are not wanted,
// by the rules of ZIP-215: y may be above the prime, and the sign of x = 0 may be
// set. It writes each point and its negative, and reports which encodings have one.
// v is never 0, as −1/d is no square; u is 0 for y = ±1, and then so are x and −x,
// of which either sign will do. If u/v is no square, vx² is neither u nor −u, and
// what is written for the encoding is no point.
func (d *decompressor) run(encoded [8]*[32]byte, rows *[8][2]niels) (ok [8]bool) {
	for i, raw := range encoded {
		e := element{1} // what is not wanted has a root all the same
		if raw != nil {
			e = elementOf(*raw)
		}
		for k := range e {
			d.y[k][i] = e[k]
		}
	}
	d.root()
	var yes, no field8
	mul8(&d.a, &d.x, &d.x)
	mul8(&d.a, &d.a, &d.v) // vx²: u if x is the root, −u if √−1 of it is
	sub8(&yes, &d.a, &d.u)
	add8(&no, &d.a, &d.u)
	mul8(&d.b, &d.x, &constSqrtM1)
	var none field8
	sub8(&d.e, &none, &d.x)
	sub8(&d.c, &none, &d.b)
	for i, raw := range encoded {
		if raw == nil {
			continue
		}
		root, negated := &d.x, &d.e
		switch {
		case yes.lane(i) == element{}:
		case no.lane(i) == element{}:
			root, negated = &d.b, &d.c
		default:
			continue
		}
		ok[i] = true
		if byte(root.lane(i)[0]&1) != raw[31]>>7 {
			root = negated
		}
		for k := range root {
			d.x[k][i] = root[k][i]
		}
	}
	d.rows(rows)
	return ok
}

// root sets u = y² − 1, v = dy² + 1 and x = uv³(uv⁷)^((p−5)/8), which is a root of
// u/v or √−1 of one if there is any (RFC 8032, section 5.1.3).
func (d *decompressor) root() {
	mul8(&d.a, &d.y, &d.y)
	sub8(&d.u, &d.a, &constOne)
	mul8(&d.v, &d.a, &constD)
	add8(&d.v, &d.v, &constOne)
	mul8(&d.a, &d.v, &d.v)
	mul8(&d.a, &d.a, &d.v) // v³
	mul8(&d.x, &d.u, &d.a) // uv³
	mul8(&d.a, &d.a, &d.a)
	mul8(&d.a, &d.a, &d.v) // v⁷
	mul8(&d.a, &d.u, &d.a)
	d.power()
	mul8(&d.x, &d.x, &d.a)
}

// power raises a to 2²⁵² − 3, which is (p−5)/8.
func (d *decompressor) power() {
	a, b, c, e := &d.a, &d.b, &d.c, &d.e
	square8(b, a, 1) // 2
	square8(c, b, 2) // 8
	mul8(c, a, c)    // 9
	mul8(b, b, c)    // 11
	square8(b, b, 1) // 22
	mul8(b, c, b)    // 2⁵ − 1
	square8(c, b, 5)
	mul8(b, c, b) // 2¹⁰ − 1
	square8(c, b, 10)
	mul8(c, c, b) // 2²⁰ − 1
	square8(e, c, 20)
	mul8(c, e, c) // 2⁴⁰ − 1
	square8(c, c, 10)
	mul8(b, c, b) // 2⁵⁰ − 1
	square8(c, b, 50)
	mul8(c, c, b) // 2¹⁰⁰ − 1
	square8(e, c, 100)
	mul8(c, e, c) // 2²⁰⁰ − 1
	square8(c, c, 50)
	mul8(b, c, b) // 2²⁵⁰ − 1
	square8(b, b, 2)
	mul8(a, b, a) // 2²⁵² − 3
}

// rows writes the points (x, y) and their negatives.
func (d *decompressor) rows(rows *[8][2]niels) {
	plus, minus, product, negative := &d.a, &d.b, &d.c, &d.e
	add8(plus, &d.y, &d.x)
	sub8(minus, &d.y, &d.x)
	mul8(product, &d.x, &d.y)
	mul8(product, product, &constD2)
	var none field8
	sub8(negative, &none, product)
	for i := range rows {
		for k := range plus {
			rows[i][0][k], rows[i][0][5+k], rows[i][0][10+k] = plus[k][i], minus[k][i], product[k][i]
			rows[i][1][k], rows[i][1][5+k], rows[i][1][10+k] = minus[k][i], plus[k][i], negative[k][i]
		}
	}
}

// multiplier sums up multiples of points (Pippenger's method): in each window of
// the scalars' bits, a point goes to the bucket of its digit. Lane ℓ has the ℓ-th
// eighth of the buckets, so that eight points are added at a time, and what the
// lanes sum up comes together once, at the end.
//
// There are two lists of points, those with long scalars and those with short ones.
// Long point i has row 4i + 4 of the table, its negative the next, short point i row
// 4i + 6. Row 0 is the identity.
type multiplier struct {
	table  []niels
	window int      // bits; 4 to maxWindow
	long   digits   // of scalars of longBits
	short  digits   // of scalars of shortBits
	order  []uint32 // of a window: rows, by rounds of eight
	begin  []uint32 // where a group of buckets begins in order
	sums   [1 << (maxWindow - 1) / 8]point8
	work   work8
}

// digits are those of all points of a list in the lowest window, then in the next.
type digits struct {
	list   []int16
	points int
}

const (
	longBits  = 253
	shortBits = 128
	maxWindow = 9
)

// windowOf returns the best size of window for so many signatures.
func windowOf(signatures int) int {
	return min(max(bits.Len(uint(signatures))-2, 4), maxWindow)
}

// reset makes room for the digits of so many scalars of so many bits.
func (d *digits) reset(points, size, window int) {
	d.points = points
	n := points * (size/window + 1)
	if cap(d.list) < n {
		d.list = make([]int16, n+n/4)
	}
	d.list = d.list[:n]
}

// of returns the digits of all points in a window.
func (d *digits) of(window int) []int16 {
	if window*d.points >= len(d.list) {
		return nil
	}
	return d.list[window*d.points:][:d.points]
}

// set writes the digits of a scalar, from −2^(window−1) + 1 to 2^(window−1). The last
// window has one bit less than others at least, so that a carry into it stays there.
func (d *digits) set(point, window int, scalar *[4]uint64) {
	half, carry := 1<<(window-1), 0
	at := 0
	for place := point; place < len(d.list); place += d.points {
		word, shift := at>>6, uint(at&63)
		raw := scalar[word] >> shift
		if int(shift)+window > 64 && word < 3 {
			raw |= scalar[word+1] << (64 - shift)
		}
		digit := int(raw&(1<<window-1)) + carry
		carry = int(uint(half-digit) >> 63) // 1 if it is above half, as every other is: no branch
		d.list[place] = int16(digit - carry<<window)
		at += window
	}
	if carry != 0 || at < 256 && (scalar[at>>6]>>(at&63) != 0 || at < 192 && scalar[3] != 0) {
		panic("crypto: a scalar has more bits than it may")
	}
}

// isSmallOrder reports whether the sum of all multiples is of small order.
func (m *multiplier) isSmallOrder() bool {
	if rows := max(4*m.long.points+2, 4*m.short.points+4); len(m.table) < rows {
		panic("crypto: the table has fewer points than there are scalars")
	}
	w := m.window
	var sums, weights, sum, run point8
	for j := longBits / w; j >= 0; j-- {
		m.bucket(m.long.of(j), m.short.of(j), &sum, &run)
		if j == longBits/w {
			sums, weights = sum, run
			continue
		}
		doublePoint8(&sums, w, &m.work)
		addPoint8(&sums, &sum, &constD2, &m.work)
		doublePoint8(&weights, w, &m.work)
		addPoint8(&weights, &run, &constD2, &m.work)
	}
	m.weigh(&weights)
	addPoint8(&sums, &weights, &constD2, &m.work)
	for _, apart := range []int{4, 2, 1} {
		other := sums.lanes(func(i int) int { return i ^ apart })
		addPoint8(&sums, &other, &constD2, &m.work)
	}
	doublePoint8(&sums, 3, &m.work) // a multiple of eight is of the group's odd order: x = 0 is the identity alone
	return sums.x.lane(0) == element{} && sums.y.lane(0) == sums.z.lane(0)
}

// groups returns how many buckets a lane has.
func (m *multiplier) groups() int { return 1 << (m.window - 1) / 8 }

// bucket sums up in each lane the points of a window: run all of the lane's
// buckets, and sum each as often as its place in the lane says, from 1 on.
//
// Eight buckets are filled at a time, and take as long as the fullest of them: so
// those of about as many points come together, and each sum goes to its lane
// afterwards. Filled by their places, they would take half as long again.
func (m *multiplier) bucket(long, short []int16, sum, run *point8) {
	groups := m.groups()
	var counts [1<<(maxWindow-1) + 1]uint32
	count(long, &counts)
	count(short, &counts)
	var sorted [1 << (maxWindow - 1)]uint16
	buckets := sorted[:8*groups]
	bySize(buckets, &counts)
	m.begin = append(m.begin[:0], 0)
	total := uint32(0)
	for g := range groups {
		most := uint32(0)
		for i, bucket := range buckets[8*g : 8*g+8] {
			place := &counts[bucket]
			most = max(most, *place)
			*place = total + uint32(i)
		}
		total += 8 * most
		m.begin = append(m.begin, total)
	}
	if cap(m.order) < int(total) {
		m.order = make([]uint32, total+total/4)
	}
	m.order = m.order[:total]
	clear(m.order) // the identity, where a bucket has fewer points than another
	m.place(long, 4, &counts)
	m.place(short, 6, &counts)
	shift := bits.TrailingZeros(uint(groups))
	for g := range groups {
		filled := identity8
		if rounds := int(m.begin[g+1]-m.begin[g]) / 8; rounds > 0 {
			accumulate8(&filled, &m.table[0], &m.order[m.begin[g]], rounds, &m.work)
		}
		for i, bucket := range buckets[8*g : 8*g+8] {
			at := int(bucket) - 1
			m.sums[at&(groups-1)].take(at>>shift, &filled, i)
		}
	}
	*run, *sum = m.sums[groups-1], m.sums[groups-1]
	for g := groups - 2; g >= 0; g-- {
		addPoint8(run, &m.sums[g], &constD2, &m.work)
		addPoint8(sum, run, &constD2, &m.work)
	}
}

// count adds how many points of a list each bucket has.
func count(list []int16, counts *[1<<(maxWindow-1) + 1]uint32) {
	for _, digit := range list {
		negative := digit >> 15
		counts[(digit^negative)-negative]++
	}
}

// bySize writes the buckets, from 1 on, by how many points they have. Those of very many
// count as equal.
func bySize(buckets []uint16, counts *[1<<(maxWindow-1) + 1]uint32) {
	const many = 255
	var places [many + 2]uint16
	for bucket := 1; bucket <= len(buckets); bucket++ {
		places[min(counts[bucket], many)+1]++
	}
	for size := range many {
		places[size+1] += places[size]
	}
	for bucket := 1; bucket <= len(buckets); bucket++ {
		place := &places[min(counts[bucket], many)]
		buckets[*place] = uint16(bucket)
		*place++
	}
}

// take makes lane i of p what lane j of q is.
func (p *point8) take(i int, q *point8, j int) {
	i, j = i&7, j&7
	for k := range 5 {
		p.x[k][i], p.y[k][i], p.z[k][i], p.t[k][i] = q.x[k][j], q.y[k][j], q.z[k][j], q.t[k][j]
	}
}

// place gives the points of a list, whose rows begin at first, their places.
func (m *multiplier) place(list []int16, first uint32, places *[1<<(maxWindow-1) + 1]uint32) {
	for i, digit := range list {
		if digit == 0 {
			continue
		}
		negative := digit >> 15 // −1, or 0: no branch, as every other is
		place := &places[(digit^negative)-negative]
		m.order[*place] = first + 4*uint32(i) - uint32(negative)
		*place += 8
	}
}

// weigh multiplies each lane by its number and by how many buckets a lane has.
func (m *multiplier) weigh(p *point8) {
	out := identity8
	for bit := 2; bit >= 0; bit-- {
		if bit < 2 {
			doublePoint8(&out, 1, &m.work)
		}
		picked := *p
		for i := range 8 {
			if i>>bit&1 == 0 {
				picked.clear(i)
			}
		}
		addPoint8(&out, &picked, &constD2, &m.work)
	}
	if groups := m.groups(); groups > 1 {
		doublePoint8(&out, bits.TrailingZeros(uint(groups)), &m.work)
	}
	*p = out
}

// clear makes the point of a lane the identity.
func (p *point8) clear(i int) {
	for k := range 5 {
		p.x[k][i], p.y[k][i], p.z[k][i], p.t[k][i] = 0, 0, 0, 0
	}
	p.y[0][i], p.z[0][i] = 1, 1
}

// lanes returns p with lane i taken from lane from(i).
func (p *point8) lanes(from func(i int) int) (out point8) {
	for k := range 5 {
		for i := range 8 {
			j := from(i)
			out.x[k][i], out.y[k][i], out.z[k][i], out.t[k][i] = p.x[k][j], p.y[k][j], p.z[k][j], p.t[k][j]
		}
	}
	return out
}
