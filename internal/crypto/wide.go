package crypto

import "encoding/binary"

// Many short inputs are hashed sixteen at a time where the processor can: the
// same Blake3 at a tenth of the cost. Where it cannot, and for few or long
// inputs, each is hashed alone.

const (
	lanes      = 16
	blockBytes = 64
	chunkBytes = 1024 // longer inputs are trees of chunks
	// fewInputs is how many cost as much alone as in sixteen lanes.
	fewInputs = 2

	// Flags of Blake3, section 2.1.
	flagChunkStart = 1 << 0
	flagChunkEnd   = 1 << 1
	flagRoot       = 1 << 3
	flagContext    = 1 << 5
	flagMaterial   = 1 << 6
)

var blake3Start = [8]uint32{0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19}

// chainKey returns the domain's key in every lane, and false if it has none: if
// the processor has no lanes, or the context is longer than a block.
func (d *Domain) chainKey() (*[8][lanes]uint32, bool) {
	d.wide.Do(func() {
		if !hasWide || len(d.context) > blockBytes {
			return
		}
		var chain [8][lanes]uint32
		var blocks [lanes][blockBytes]byte
		var length, flags [lanes]uint32
		copy(blocks[0][:], d.context)
		for i := range blake3Start {
			chain[i][0] = blake3Start[i]
		}
		length[0], flags[0] = uint32(len(d.context)), flagContext|flagChunkStart|flagChunkEnd|flagRoot
		compress16(&chain, &blocks, &length, &flags)
		for i := range chain {
			for lane := 1; lane < lanes; lane++ {
				chain[i][lane] = chain[i][0]
			}
		}
		d.key = &chain
	})
	return d.key, d.key != nil
}

// Join is an inner node: where its two children are, and where its own digest goes.
type Join struct{ Left, Right, To *Digest }

// HashJoins computes each of joins, as HashPair does. Where one's digest goes, that one
// and those before it may have their children, and none after it.
func (d *Domain) HashJoins(joins []Join) {
	key, ok := d.chainKey()
	for len(joins) > fewInputs && ok {
		if len(joins) >= lanes {
			joins16(key, (*[lanes]Join)(joins))
			joins = joins[lanes:]
			continue
		}
		var some [lanes]Join
		var waste Digest
		for i := copy(some[:], joins); i < lanes; i++ {
			some[i] = Join{joins[0].Left, joins[0].Right, &waste}
		}
		joins16(key, &some)
		return
	}
	for i := range joins {
		*joins[i].To = d.HashPair(*joins[i].Left, *joins[i].Right)
	}
}

// HashMany is Hash of each of in, into out.
func (d *Domain) HashMany(out []Digest, in [][]byte) {
	key, ok := d.chainKey()
	for len(in) > 0 {
		n := min(lanes, len(in))
		longest := 0
		for i := range n {
			longest = max(longest, len(in[i]))
		}
		if !ok || n <= fewInputs || longest > chunkBytes {
			for i := range n {
				out[i] = d.Hash(in[i])
			}
		} else {
			hashLanes(*key, out[:n], in[:n])
		}
		out, in = out[n:], in[n:]
	}
}

// hashLanes hashes up to sixteen inputs of at most a chunk each.
func hashLanes(chain [8][lanes]uint32, out []Digest, in [][]byte) {
	var blocks [lanes][blockBytes]byte
	var length, flags [lanes]uint32
	for at, left := 0, len(in); left > 0; at += blockBytes {
		ended := false
		for i := range in {
			if at > 0 && at >= len(in[i]) {
				continue
			}
			size := copy(blocks[i][:], in[i][at:])
			clear(blocks[i][size:])
			length[i], flags[i] = uint32(size), flagMaterial
			if at == 0 {
				flags[i] |= flagChunkStart
			}
			if at+blockBytes >= len(in[i]) {
				flags[i] |= flagChunkEnd | flagRoot
				ended = true
			}
		}
		compress16(&chain, &blocks, &length, &flags)
		if !ended {
			continue
		}
		for i := range in {
			if flags[i]&flagRoot != 0 && (at == 0 || at < len(in[i])) {
				for k := range chain {
					binary.LittleEndian.PutUint32(out[i][4*k:], chain[k][i])
				}
				left--
			}
		}
	}
}
