package vm

import (
	"encoding/binary"
	"slices"
)

// A region describes bytes in a contract's memory: offset, capacity and length,
// 32 bits each, little-endian. A pointer to it crosses the boundary. What is in
// it is the contract's word, and checked each time.
const regionBytes = 12

type region struct{ offset, capacity, length uint32 }

// region reads the description at a pointer.
func (r *run) region(at int32, what string) (region, []byte, error) {
	memory := r.native.memory()
	from := uint64(uint32(at))
	if from == 0 || from+regionBytes > uint64(len(memory)) {
		return region{}, nil, r.misused("%s is described at %d, in a memory of %d", what, from, len(memory))
	}
	text := memory[from : from+regionBytes]
	g := region{binary.LittleEndian.Uint32(text), binary.LittleEndian.Uint32(text[4:]), binary.LittleEndian.Uint32(text[8:])}
	switch {
	case g.offset == 0:
		return region{}, nil, r.misused("%s is at 0", what)
	case g.length > g.capacity:
		return region{}, nil, r.misused("%s has %d bytes of %d", what, g.length, g.capacity)
	case uint64(g.offset)+uint64(g.capacity) > uint64(len(memory)):
		return region{}, nil, r.misused("%s is at %d and has room for %d, in a memory of %d", what, g.offset, g.capacity, len(memory))
	}
	return g, memory, nil
}

// take reads a region of at most some bytes, which are paid for.
func (r *run) take(at int32, most uint32, what string) ([]byte, error) {
	g, memory, err := r.region(at, what)
	if err != nil {
		return nil, err
	}
	if g.length > most {
		return nil, r.misused("%s has %d bytes, limit %d", what, g.length, most)
	}
	if !r.charge(uint64(g.length) * priceByte) {
		return nil, errStopped
	}
	return slices.Clone(memory[g.offset : uint64(g.offset)+uint64(g.length)]), nil
}

// put writes bytes into a region that the contract has made.
func (r *run) put(at int32, data []byte, what string) error {
	if !r.charge(uint64(len(data)) * priceByte) {
		return errStopped
	}
	g, memory, err := r.region(at, what)
	if err != nil {
		return err
	}
	if uint64(len(data)) > uint64(g.capacity) {
		return r.misused("%s has room for %d bytes of %d", what, g.capacity, len(data))
	}
	copy(memory[g.offset:], data)
	binary.LittleEndian.PutUint32(memory[uint32(at)+8:], uint32(len(data)))
	return nil
}

// give has the contract make a region, and writes into it.
func (r *run) give(data []byte) (int32, error) {
	at, err := r.enter(allocate, int32(len(data)))
	if err != nil {
		return 0, err
	}
	return at, r.put(at, data, "an allocated region")
}

// sections writes some bytes one after the other, each before its length.
func sections(all ...[]byte) (out []byte) {
	for _, one := range all {
		out = append(out, one...)
		out = binary.BigEndian.AppendUint32(out, uint32(len(one)))
	}
	return out
}

// unsection is the inverse of sections. It returns at most some.
func unsection(data []byte, most int) (out [][]byte, ok bool) {
	for len(data) > 0 {
		if len(data) < 4 || len(out) == most {
			return nil, false
		}
		end := len(data) - 4
		length := uint64(binary.BigEndian.Uint32(data[end:]))
		if length > uint64(end) {
			return nil, false
		}
		out = append(out, data[uint64(end)-length:end])
		data = data[:uint64(end)-length]
	}
	slices.Reverse(out)
	return out, true
}
