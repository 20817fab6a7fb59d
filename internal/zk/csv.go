package zk

import (
	"bytes"
	"fmt"
	"strconv"
)

// MaxCSVSize is the longest matrix file, in bytes: a product of 128 × 128 at
// its widest takes some 230,000.
const MaxCSVSize = 1 << 18

// ParseMatrixCSV reads a square matrix: one line a row, entries separated by
// commas, each a decimal integer from −32768 to 32767 without spaces, plus sign
// or leading zeros; lines end in LF or CRLF, the last may end without. The
// first row decides the size, which must have a kernel. Errors name row and
// column, from 1.
func ParseMatrixCSV(data []byte) (Matrix, error) {
	n, cells, err := parseCSV(data, MatmulFactorBits)
	if err != nil {
		return Matrix{}, err
	}
	m := Matrix{n: n, cells: make([]int16, len(cells))}
	for i, v := range cells {
		m.cells[i] = int16(v) // parsed at 16 bits
	}
	return m, nil
}

// ParseProductCSV reads a product in the form of ParseMatrixCSV, entries from
// −2³⁹ to 2³⁹ − 1.
func ParseProductCSV(data []byte) (Product, error) {
	n, cells, err := parseCSV(data, MatmulProductBits)
	if err != nil {
		return Product{}, err
	}
	return Product{n: n, cells: cells}, nil
}

// CSV returns the form that ParseMatrixCSV reads, with LF line ends.
func (m Matrix) CSV() []byte {
	return formatCSV(m.n, func(i int) int64 { return int64(m.cells[i]) })
}

// CSV returns the form that ParseProductCSV reads, with LF line ends.
func (p Product) CSV() []byte {
	return formatCSV(p.n, func(i int) int64 { return p.cells[i] })
}

func formatCSV(n int, at func(i int) int64) []byte {
	var out []byte
	for row := range n {
		for col := range n {
			if col > 0 {
				out = append(out, ',')
			}
			out = strconv.AppendInt(out, at(row*n+col), 10)
		}
		out = append(out, '\n')
	}
	return out
}

// parseCSV returns the size and the entries, each within bits, signed.
func parseCSV(data []byte, bits int) (int, []int64, error) {
	if len(data) > MaxCSVSize {
		return 0, nil, fmt.Errorf("zk: matrix file of %d bytes, limit %d", len(data), MaxCSVSize)
	}
	text := bytes.TrimSuffix(data, []byte("\n"))
	n := bytes.Count(firstLine(text), []byte(",")) + 1
	if _, err := MatmulKernel(n); err != nil {
		return 0, nil, fmt.Errorf("zk: matrix row 1: %w", err)
	}
	if rows := bytes.Count(text, []byte("\n")) + 1; rows != n {
		return 0, nil, fmt.Errorf("zk: matrix of %d rows, want %d as in row 1's columns", rows, n)
	}
	cells := make([]int64, 0, n*n)
	row := 0
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		row++
		line = bytes.TrimSuffix(line, []byte("\r"))
		if cols := bytes.Count(line, []byte(",")) + 1; cols != n {
			return 0, nil, fmt.Errorf("zk: matrix row %d has %d columns, want %d", row, cols, n)
		}
		col := 0
		for entry := range bytes.SplitSeq(line, []byte(",")) {
			col++
			v, err := parseEntry(string(entry), bits)
			if err != nil {
				return 0, nil, fmt.Errorf("zk: matrix row %d column %d: %w", row, col, err)
			}
			cells = append(cells, v)
		}
	}
	return n, cells, nil
}

func firstLine(text []byte) []byte {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	return line
}

func parseEntry(entry string, bits int) (int64, error) {
	const shown = 24
	v, err := strconv.ParseInt(entry, 10, bits)
	if err != nil || strconv.FormatInt(v, 10) != entry {
		return 0, fmt.Errorf("%q is not a plain integer from %d to %d",
			entry[:min(len(entry), shown)], -(int64(1) << (bits - 1)), int64(1)<<(bits-1)-1)
	}
	return v, nil
}
