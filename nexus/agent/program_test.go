package agent_test

import (
	"bytes"
	"encoding/binary"
)

// Programs of the tests, assembled by hand: each is one function _start, with
// one page of memory.

// importFn is a function of WASI: its parameters ('i' is i32, 'I' is i64), and
// whether it returns an i32.
type importFn struct {
	name   string
	params string
	result bool
}

var (
	fdWrite  = importFn{"fd_write", "iiii", true}
	pathOpen = importFn{"path_open", "iiiiiIIii", true}
	procExit = importFn{"proc_exit", "i", false}
)

func leb(n int) []byte {
	return binary.AppendUvarint(nil, uint64(n))
}

// constant is i32.const n, for 0 ≤ n < 2³⁰.
func constant(n int) []byte {
	out := []byte{0x41}
	for ; n >= 0x40; n >>= 7 {
		out = append(out, byte(n)|0x80)
	}
	return append(out, byte(n))
}

func vector(items ...[]byte) []byte {
	return append(leb(len(items)), bytes.Join(items, nil)...)
}

func name(s string) []byte { return append(leb(len(s)), s...) }

func section(id byte, content []byte) []byte {
	return append(append([]byte{id}, leb(len(content))...), content...)
}

// program assembles a module with the functions imported, in order, and data at
// address 0.
func program(imports []importFn, data string, code ...[]byte) []byte {
	valueType := map[rune]byte{'i': 0x7f, 'I': 0x7e}
	types := [][]byte{{0x60, 0, 0}} // of _start
	var imported [][]byte
	for i, f := range imports {
		signature := append([]byte{0x60}, leb(len(f.params))...)
		for _, p := range f.params {
			signature = append(signature, valueType[p])
		}
		if f.result {
			signature = append(signature, 1, 0x7f)
		} else {
			signature = append(signature, 0)
		}
		types = append(types, signature)
		imported = append(imported, bytes.Join([][]byte{name("wasi_snapshot_preview1"), name(f.name), {0x00}, leb(i + 1)}, nil))
	}
	body := append([]byte{0}, append(bytes.Join(code, nil), 0x0b)...) // no locals, end
	out := append([]byte("\x00asm"), 1, 0, 0, 0)
	out = append(out, section(1, vector(types...))...)
	out = append(out, section(2, vector(imported...))...)
	out = append(out, section(3, vector([]byte{0}))...)
	out = append(out, section(5, vector([]byte{0, 1}))...)
	out = append(out, section(7, vector(append(name("memory"), 2, 0), append(append(name("_start"), 0), leb(len(imports))...)))...)
	out = append(out, section(10, vector(append(leb(len(body)), body...)))...)
	return append(out, section(11, vector(append([]byte{0, 0x41, 0, 0x0b}, name(data)...)))...)
}

func call(function int) []byte { return append([]byte{0x10}, leb(function)...) }

func drop() []byte { return []byte{0x1a} }

// writeTo is the code of fd_write(fd, …) for text at an address; it uses the
// memory from 1,024 on.
func writeTo(fd []byte, at, length int) []byte {
	store := func(address, value int) []byte {
		return bytes.Join([][]byte{constant(address), constant(value), {0x36, 2, 0}}, nil)
	}
	return bytes.Join([][]byte{
		store(1024, at), store(1028, length),
		fd, constant(1024), constant(1), constant(1032), call(0), drop(),
	}, nil)
}

// writer is a program that writes text to a file of that name in /out, and to
// stdout.
func writer(file, text string) []byte {
	all := bytes.Repeat([]byte{0x7f}, 1)
	i64 := append([]byte{0x42}, all...) // i64.const −1
	open := bytes.Join([][]byte{
		constant(4), constant(0), constant(0), constant(len(file)), constant(1), i64, i64, constant(0), constant(2048),
		call(1), drop(),
	}, nil)
	opened := append(constant(2048), 0x28, 2, 0) // i32.load
	return program([]importFn{fdWrite, pathOpen}, file+text,
		open, writeTo(opened, len(file), len(text)), writeTo(constant(1), len(file), len(text)))
}

// spinner is a program that loops for ever.
func spinner() []byte {
	return program(nil, "", []byte{0x03, 0x40, 0x0c, 0, 0x0b}) // loop, br 0, end
}

// exiter is a program that exits with a code.
func exiter(code int) []byte {
	return program([]importFn{procExit}, "", constant(code), call(0))
}
