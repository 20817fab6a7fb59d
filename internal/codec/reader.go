package codec

// Reader reads canonical bytes by hand, for the few shapes that a node decodes
// so often that the general decoder's price shows. It takes only shortest heads
// (RFC 8949 §4.2.1) and definite lengths, so that what it takes to its end has no
// second encoding. The first mismatch makes every later read return zero, and
// Done false: whoever uses it hands the bytes to Unmarshal then.
type Reader struct {
	data []byte
	at   int
	bad  bool
}

// NewReader returns a reader of data, of which what Bytes returns is a part.
func NewReader(data []byte) *Reader { return &Reader{data: data} }

// At returns how many bytes have been read.
func (r *Reader) At() int { return r.at }

// Done reports whether everything was read as expected, to the last byte.
func (r *Reader) Done() bool { return !r.bad && r.at == len(r.data) }

// head reads a head of the major type and returns its argument.
func (r *Reader) head(major byte) uint64 {
	if r.bad || r.at >= len(r.data) || r.data[r.at]>>5 != major {
		r.bad = true
		return 0
	}
	info := r.data[r.at] & 0x1f
	r.at++
	if info < 24 {
		return uint64(info)
	}
	size := 1 << (info - 24)
	if info > 27 || len(r.data)-r.at < size {
		r.bad = true
		return 0
	}
	var n uint64
	for _, b := range r.data[r.at : r.at+size] {
		n = n<<8 | uint64(b)
	}
	r.at += size
	if least := [...]uint64{24, 1 << 8, 1 << 16, 1 << 32}[info-24]; n < least {
		r.bad = true
		return 0
	}
	return n
}

// Uint reads an unsigned integer.
func (r *Reader) Uint() uint64 { return r.head(majorUint) }

// Array reads the head of an array of exactly n elements.
func (r *Reader) Array(n int) {
	if r.head(majorArray) != uint64(n) {
		r.bad = true
	}
}

// Length reads the head of an array of at most limit elements.
func (r *Reader) Length(limit int) int {
	n := r.head(majorArray)
	if n > uint64(limit) {
		r.bad = true
		return 0
	}
	return int(n)
}

// Bool reads a truth value.
func (r *Reader) Bool() bool {
	const no, yes = 0xf4, 0xf5
	if r.bad || r.at >= len(r.data) || r.data[r.at] != no && r.data[r.at] != yes {
		r.bad = true
		return false
	}
	r.at++
	return r.data[r.at-1] == yes
}

// Null reads a null, if one is next.
func (r *Reader) Null() bool {
	const null = 0xf6
	if r.bad || r.at >= len(r.data) || r.data[r.at] != null {
		return false
	}
	r.at++
	return true
}

// Bytes reads a byte string of at most limit bytes, which stays a part of the
// data.
func (r *Reader) Bytes(limit int) []byte { return r.take(majorBytes, limit) }

// Fixed reads a byte string of exactly dst's length.
func (r *Reader) Fixed(dst []byte) {
	if got := r.take(majorBytes, len(dst)); len(got) == len(dst) {
		copy(dst, got)
	} else {
		r.bad = true
	}
}

// Text reads a text string of at most limit bytes. Whether it is UTF-8 is left
// to the caller.
func (r *Reader) Text(limit int) string { return string(r.take(majorText, limit)) }

// LikelyText is Text of what is likely this text, which then is not copied.
func (r *Reader) LikelyText(limit int, likely string) string {
	if text := r.take(majorText, limit); string(text) != likely {
		return string(text)
	}
	return likely
}

func (r *Reader) take(major byte, limit int) []byte {
	n := r.head(major)
	if r.bad || n > uint64(limit) || n > uint64(len(r.data)-r.at) {
		r.bad = true
		return nil
	}
	out := r.data[r.at : r.at+int(n) : r.at+int(n)]
	r.at += int(n)
	return out
}

// Skip passes over one value, however deep and long it is, but for maps, tags and floats.
func (r *Reader) Skip() {
	for left := uint64(1); left > 0 && !r.bad; left-- {
		if r.at >= len(r.data) {
			r.bad = true
			return
		}
		switch major := r.data[r.at] >> 5; major {
		case majorUint, majorNegative:
			r.head(major)
		case majorBytes, majorText:
			r.take(major, len(r.data))
		case majorArray:
			n := r.head(major)
			if n > uint64(len(r.data)-r.at) { // each takes a byte
				r.bad = true
			}
			left += n
		default:
			if !r.Null() {
				r.Bool()
			}
		}
	}
}
