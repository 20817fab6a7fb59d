package zk_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/zk"
)

func TestCSVRoundTrips(t *testing.T) {
	rng := seeded(t)
	for _, n := range []int{4, 32, 128} {
		m := randomMatrix(rng, n)
		for name, text := range map[string][]byte{
			"as written":     m.CSV(),
			"CRLF":           bytes.ReplaceAll(m.CSV(), []byte("\n"), []byte("\r\n")),
			"no end of line": bytes.TrimSuffix(m.CSV(), []byte("\n")),
		} {
			back, err := zk.ParseMatrixCSV(text)
			if err != nil || back.Size() != n || !slices.Equal(back.Cells(), m.Cells()) {
				t.Errorf("n = %d, %s: %v", n, name, err)
			}
		}
	}
	for _, fill := range []int16{-32768, 32767} {
		p, err := zk.Multiply(filledMatrix(128, -32768), filledMatrix(128, fill))
		if err != nil {
			t.Fatal(err)
		}
		back, err := zk.ParseProductCSV(p.CSV())
		if err != nil || !slices.Equal(back.Cells(), p.Cells()) {
			t.Errorf("product of %d: %v", fill, err)
		}
	}
}

func TestCSVRefusesByRowAndColumn(t *testing.T) {
	good := "1,2,3,4\n5,6,7,8\n9,10,11,12\n13,14,15,16\n"
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "row 1"},
		{"one entry", "7\n", "1 × 1"},
		{"a size without kernel", "1,2,3\n4,5,6\n7,8,9\n", "3 × 3"},
		{"three rows", "1,2,3,4\n5,6,7,8\n9,10,11,12\n", "3 rows, want 4"},
		{"five rows", good + "1,2,3,4\n", "5 rows, want 4"},
		{"empty line at the end", good + "\n", "5 rows, want 4"},
		{"short row", strings.Replace(good, "7,8", "7", 1), "row 2 has 3 columns, want 4"},
		{"long row", strings.Replace(good, "12", "12,0", 1), "row 3 has 5 columns, want 4"},
		{"too large", strings.Replace(good, "11", "32768", 1), `row 3 column 3: "32768"`},
		{"too small", strings.Replace(good, "16", "-32769", 1), `row 4 column 4: "-32769"`},
		{"fraction", strings.Replace(good, "2", "2.0", 1), `row 1 column 2: "2.0"`},
		{"space", strings.Replace(good, "2,3", "2, 3", 1), `row 1 column 3: " 3"`},
		{"plus", strings.Replace(good, "6", "+6", 1), `row 2 column 2: "+6"`},
		{"leading zero", strings.Replace(good, "6", "06", 1), `row 2 column 2: "06"`},
		{"minus zero", strings.Replace(good, "6", "-0", 1), `row 2 column 2: "-0"`},
		{"empty entry", strings.Replace(good, "6", "", 1), `row 2 column 2: ""`},
		{"byte order mark", "\ufeff" + good, "row 1 column 1"},
		{"lone CR", strings.Replace(good, "6", "6\r", 1), "row 2 column 2"},
		{"too long", strings.Repeat("1,", zk.MaxCSVSize), "limit 262144"},
	} {
		_, err := zk.ParseMatrixCSV([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want it to name %q", c.name, err, c.want)
		}
	}
	over := strings.Replace(good, "11", "549755813888", 1) // 2³⁹
	if _, err := zk.ParseProductCSV([]byte(over)); err == nil || !strings.Contains(err.Error(), "row 3 column 3") {
		t.Errorf("a product's entry of 2³⁹: %v", err)
	}
}

func FuzzParseMatrixCSV(f *testing.F) {
	f.Add(countedMatrix(4, -3).CSV())
	f.Add([]byte("1,2\r\n3,4"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := zk.ParseMatrixCSV(data)
		if err != nil {
			return
		}
		again, err := zk.ParseMatrixCSV(m.CSV())
		if err != nil || !slices.Equal(again.Cells(), m.Cells()) {
			t.Errorf("%q reads back otherwise: %v", data, err)
		}
	})
}
