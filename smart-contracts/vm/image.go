package vm

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
)

// addresses is the section of a compiled module that says which instruction of the
// module each of its own is from. It is two fifths of the whole, and read only to
// write where a trap was.
const addresses = ".wasmtime.addrmap"

// imageVersion is that of what is made here of the engine's modules: another is due
// whenever that changes.
const imageVersion = 1

// Where fields are in an ELF file of 64 bits, and in the header of a section.
const (
	elfSections      = 0x28
	elfPrograms      = 0x38
	elfHeader        = 0x40
	sectionOffset    = 0x18
	sectionSize      = 0x20
	sectionHeader    = 0x40
	sectionAlignment = 4096 // at most
)

// withoutAddresses returns a serialized module without that section, or as it is if it
// is not written as expected.
func withoutAddresses(image []byte) []byte {
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil || file.Class != elf.ELFCLASS64 || file.ByteOrder != binary.LittleEndian || len(image) < elfHeader {
		return image
	}
	at := uint64(0)
	size := uint64(0)
	for _, s := range file.Sections {
		if s.Name == addresses {
			at, size = s.Offset, s.FileSize
		}
	}
	// Whole pages go, so that all behind them is aligned as it was.
	cut := size / sectionAlignment * sectionAlignment
	table := binary.LittleEndian.Uint64(image[elfSections:])
	if cut == 0 || at+size > table || binary.LittleEndian.Uint16(image[elfPrograms:]) != 0 {
		return image
	}
	out := append(bytes.Clone(image[:at]), image[at+cut:]...)
	binary.LittleEndian.PutUint64(out[elfSections:], table-cut)
	for i, s := range file.Sections {
		header := out[table-cut+uint64(i)*sectionHeader:]
		switch {
		case s.Name == addresses:
			binary.LittleEndian.PutUint64(header[sectionSize:], 0)
		case s.Offset > at:
			binary.LittleEndian.PutUint64(header[sectionOffset:], s.Offset-cut)
		}
	}
	return out
}
