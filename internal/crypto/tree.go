package crypto

// A long input whose tree is full, as a blob's chunk is, is hashed sixteen of
// Blake3's chunks at a time, and sixteen of the tree's inner nodes, where the
// processor can.

const (
	flagParent = 1 << 2
	// maxTreeChunks bounds what hashTree keeps: 256 KiB of input.
	maxTreeChunks = 256
)

var (
	chunkFlags = func() (flags [chunkBytes / blockBytes]uint32) {
		for i := range flags {
			flags[i] = flagMaterial
		}
		flags[0] |= flagChunkStart
		flags[len(flags)-1] |= flagChunkEnd
		return flags
	}()
	pairLength, parentFlags, rootFlags = func() (length, parent, root [lanes]uint32) {
		for i := range lanes {
			length[i] = 2 * DigestSize
			parent[i] = flagMaterial | flagParent
			root[i] = flagMaterial | flagParent | flagRoot
		}
		return length, parent, root
	}()
)

// hashTree is Hash of 16, 32, 64, 128 or 256 whole chunks, and false for any other
// input and where there are no lanes.
func (d *Domain) hashTree(data []byte) (Digest, bool) {
	n := len(data) / chunkBytes
	if len(data)%chunkBytes != 0 || n < lanes || n > maxTreeChunks || n&(n-1) != 0 {
		return Digest{}, false
	}
	key, ok := d.chainKey()
	if !ok {
		return Digest{}, false
	}
	var values [maxTreeChunks / lanes][lanes]Digest // of the level, from the left
	var counter [lanes]uint32
	for i := range n / lanes {
		for lane := range counter {
			counter[lane] = uint32(i*lanes + lane)
		}
		chain := *key
		chunks16(&chain, (*[lanes * chunkBytes]byte)(data[i*lanes*chunkBytes:]), &counter, &chunkFlags)
		digests16(&chain, &values[i])
	}
	for n > 1 {
		n /= 2
		flags := &parentFlags
		if n == 1 {
			flags = &rootFlags
		}
		for i := 0; i < n; i += lanes {
			var blocks [lanes][blockBytes]byte
			for lane := range min(lanes, n-i) {
				at := 2 * (i + lane)
				copy(blocks[lane][:DigestSize], values[at/lanes][at%lanes][:])
				copy(blocks[lane][DigestSize:], values[at/lanes][at%lanes+1][:])
			}
			chain := *key
			compress16(&chain, &blocks, &pairLength, flags)
			digests16(&chain, &values[i/lanes])
		}
	}
	return values[0][0], true
}
