package assembly_test

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
)

// TestSignedKeys: entries with whole numbers as keys come in the order of the numbers, those below zero first, in walks over all of them and
// from the middle, and lie where cw-storage-plus has them.
func TestSignedKeys(t *testing.T) {
	p := newProbe(t)
	for _, bits := range []uint{8, 16, 32, 64} {
		kind := fmt.Sprintf("i%d", bits)
		least, most := int64(-1)<<(bits-1), int64(1)<<(bits-1)-1
		keys := []int64{most, -1, 0, least, 1, least + 1, most - 1, -127, 127}
		for _, key := range keys {
			p.must(t, fmt.Sprintf(`{"place":{"kind":%q,"under":[],"key":%d,"value":"v%d"}}`, kind, key, key))
		}
		slices.Sort(keys)
		keys = slices.Compact(keys)
		list := func(keys []int64, down bool) string {
			var out []string
			for _, key := range keys {
				out = append(out, fmt.Sprintf(`[%d,"v%d"]`, key, key))
			}
			if down {
				slices.Reverse(out)
			}
			return "[" + strings.Join(out, ",") + "]"
		}
		p.expect(t, fmt.Sprintf(`{"place":{"kind":%q,"under":[],"up":true}}`, kind), list(keys, false))
		p.expect(t, fmt.Sprintf(`{"place":{"kind":%q,"under":[],"up":false}}`, kind), list(keys, true))
		for i, key := range keys {
			p.expect(t, fmt.Sprintf(`{"place":{"kind":%q,"under":[],"after":%d}}`, kind, key), list(keys[i+1:], false))
			p.expect(t, fmt.Sprintf(`{"place":{"kind":%q,"under":[],"before":%d}}`, kind, key), list(keys[:i], true))
			p.expect(t, fmt.Sprintf(`{"place":{"kind":%q,"under":[],"key":%d}}`, kind, key), fmt.Sprintf(`"v%d"`, key))
		}
		raw := binary.BigEndian.AppendUint64(nil, uint64(least)^uint64(1)<<(bits-1)) // zeros
		at := "\x00\x05keyed\x00" + string(rune(len(kind))) + kind + string(raw[8-bits/8:])
		if value, _, err := p.host.Read([]byte(at)); err != nil || string(value) != fmt.Sprintf(`"v%d"`, least) {
			t.Errorf("%s: the least number's value is not at %q but %q (%v)", kind, at, value, err)
		}
		for _, beyond := range []*big.Int{new(big.Int).Sub(big.NewInt(least), big.NewInt(1)), new(big.Int).Add(big.NewInt(most), big.NewInt(1))} {
			p.expect(t, fmt.Sprintf(`{"place":{"kind":%q,"under":[],"key":%d}}`, kind, beyond), "!JSON: number out of range")
		}
	}
	for _, bits := range []uint{8, 16, 32, 64} {
		kind, most := fmt.Sprintf("u%d", bits), ^uint64(0)>>(64-bits)
		for _, key := range []uint64{most, 0, most>>1 + 1, most >> 1, 1} {
			p.must(t, fmt.Sprintf(`{"place":{"kind":%q,"under":[],"key":%d,"value":"v%d"}}`, kind, key, key))
		}
		p.expect(t, fmt.Sprintf(`{"place":{"kind":%q,"under":[],"up":true}}`, kind),
			fmt.Sprintf(`[[0,"v0"],[1,"v1"],[%d,"v%d"],[%d,"v%d"],[%d,"v%d"]]`, most>>1, most>>1, most>>1+1, most>>1+1, most, most))
	}
}

// TestKeysOfParts: what lies under one part of a key is not seen from another, whatever bytes the parts have, and the parts come in the order
// that cw-storage-plus gives them: shorter ones first.
func TestKeysOfParts(t *testing.T) {
	p := newProbe(t)
	type entry struct {
		under string // JSON
		raw   string
	}
	part := func(b string) string { return string([]byte{byte(len(b) >> 8), byte(len(b))}) + b }
	long := strings.Repeat("l", 300)
	entries := []entry{
		{`[]`, ""}, {`["a"]`, part("a")}, {`["aa"]`, part("aa")}, {`["b"]`, part("b")}, {`[""]`, part("")}, {`["a","a"]`, part("a") + part("a")},
		{`["\u0000"]`, part("\x00")}, {`["\u0000\u0001a"]`, part("\x00\x01a")}, {`["é"]`, part("é")}, {`["` + long + `"]`, part(long)},
		{`[-1]`, part("\x7f\xff\xff\xff")}, {`[0]`, part("\x80\x00\x00\x00")}, {`[-2147483648]`, part("\x00\x00\x00\x00")}, {`["a",-1,"b"]`, part("a") + part("\x7f\xff\xff\xff") + part("b")},
	}
	const root = "\x00\x05keyed\x00\x03i16"
	for i, e := range entries {
		for _, key := range []int{-1, 2} {
			p.must(t, fmt.Sprintf(`{"place":{"kind":"i16","under":%s,"key":%d,"value":"%d of %d"}}`, e.under, key, key, i))
		}
	}
	for i, e := range entries {
		if slices.ContainsFunc(entries, func(o entry) bool { return o.raw != e.raw && strings.HasPrefix(o.raw, e.raw) }) {
			continue // whose keys lie among those of its parts
		}
		p.expect(t, fmt.Sprintf(`{"place":{"kind":"i16","under":%s,"before":2}}`, e.under), fmt.Sprintf(`[[-1,"-1 of %d"]]`, i))
		if value, _, err := p.host.Read([]byte(root + e.raw + "\x7f\xff")); err != nil || string(value) != fmt.Sprintf(`"-1 of %d"`, i) {
			t.Errorf("%s: %q (%v)", e.under, value, err)
		}
	}
	// The order in which a walk over everything meets them.
	walk, _, err := p.host.Scan([]byte(root), nil, 1, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	var met, want []string
	for {
		key, _, _, err := walk.Next()
		if err != nil {
			t.Fatal(err)
		}
		if key == nil {
			break
		}
		met = append(met, string(key))
	}
	for _, e := range entries {
		want = append(want, root+e.raw+"\x7f\xff", root+e.raw+"\x80\x02")
	}
	slices.SortFunc(want, func(a, b string) int { return bytes.Compare([]byte(a), []byte(b)) })
	if !slices.Equal(met, want) {
		t.Errorf("met  %q\nwant %q", met, want)
	}
	shorter := slices.Index(met, root+part("b")+"\x7f\xff")
	if longer := slices.Index(met, root+part("aa")+"\x7f\xff"); shorter > longer || shorter < 0 {
		t.Errorf("b is met at %d, aa at %d", shorter, longer)
	}
	p.expect(t, `{"place":{"kind":"i16","under":["`+strings.Repeat("x", 65_536)+`"],"key":1}}`, "!a part of a key is too long")
}

// edges are numbers at which carries, borrows and quotients of words of 32, 64 and 128 bits change.
func edges(bits int) []*big.Int {
	one, top := big.NewInt(1), new(big.Int).Lsh(big.NewInt(1), uint(bits))
	var out []*big.Int
	for _, power := range []uint{0, 1, 31, 32, 63, 64, 95, 96, 127, 128, 191, 192, 255, 256} {
		n := new(big.Int).Lsh(one, power)
		out = append(out, n, new(big.Int).Sub(n, one), new(big.Int).Add(n, one))
	}
	for _, digits := range []int64{9, 18, 19, 20, 38, 77} { // at which printing goes on with another word
		n := new(big.Int).Exp(big.NewInt(10), big.NewInt(digits), nil)
		out = append(out, n, new(big.Int).Sub(n, one))
	}
	out = slices.DeleteFunc(out, func(n *big.Int) bool { return n.Cmp(top) >= 0 })
	slices.SortFunc(out, (*big.Int).Cmp)
	return slices.CompactFunc(out, func(a, b *big.Int) bool { return a.Cmp(b) == 0 })
}

// TestIntegerEdges: every operation on every pair of numbers at which something changes, against math/big: overflow, division by zero, and
// how they are read and written.
func TestIntegerEdges(t *testing.T) {
	p := newProbe(t)
	for _, bits := range []int{128, 256} {
		kind, came := fmt.Sprintf("u%d", bits), map[string]int{}
		all := edges(bits)
		for i, a := range all {
			for _, b := range all {
				for k, op := range []string{"+", "-", "*", "/", "%", "compare"} {
					if bits == 256 && (i+k)%3 > 0 {
						continue // a third of them: a division takes 256 steps
					}
					want := arithmetic(op, a, b, bits)
					came[cmp.Or(strings.TrimLeft(want, "!"), "")]++
					p.expect(t, fmt.Sprintf(`{%q:{"op":%q,"a":"%v","b":"%v"}}`, kind, op, a, b), want)
				}
			}
		}
		for _, what := range []string{"overflow", "division by zero"} {
			if came[what] == 0 {
				t.Errorf("%s: never %s", kind, what)
			}
		}
		most := all[len(all)-1]
		if most.BitLen() != bits || came[`"`+most.String()+`"`] == 0 {
			t.Errorf("%s: the greatest is %v, and came %d times", kind, most, came[`"`+most.String()+`"`])
		}
		for _, bad := range []string{
			"", "-1", "-0", "01", "00", "1e3", "1.0", " 1", "1 ", "+1", "0x1", "1_0", "1,0", "٣", "１", "/", ":", "9/", "9:", `\u0031`, `1\n`,
			new(big.Int).Add(most, big.NewInt(1)).String(), most.String() + "0", strings.Repeat("9", 100), "1" + strings.Repeat("0", 10_000), strings.Repeat("0", 100),
		} {
			if got := p.query(t, fmt.Sprintf(`{%q:{"op":"+","a":"%s","b":"0"}}`, kind, bad)); got[0] != '!' {
				t.Errorf("%s: %.50q is taken as %s", kind, bad, got)
			}
		}
		p.expect(t, fmt.Sprintf(`{%q:{"op":"+","a":1,"b":"0"}}`, kind), "!JSON: want a number in quotes")
	}
	for _, c := range [][4]string{
		{"340282366920938463463374607431768211455", "340282366920938463463374607431768211455", "340282366920938463463374607431768211455", `"340282366920938463463374607431768211455"`},
		{"340282366920938463463374607431768211455", "2", "1", "!overflow"}, {"7", "1", "0", "!division by zero"}, {"0", "0", "0", "!division by zero"}, {"7", "3", "2", `"10"`},
	} {
		p.expect(t, fmt.Sprintf(`{"u128":{"op":"share","a":%q,"b":%q,"c":%q}}`, c[0], c[1], c[2]), c[3])
	}
}

// TestHostileJSON: what is no JSON, or more than the kit reads, is refused by its name, and what is JSON is taken as encoding/json takes it.
func TestHostileJSON(t *testing.T) {
	p := newProbe(t)
	asked := func(text string) string {
		return p.query(t, `{"echo":[{"inner":"`+base64.StdEncoding.EncodeToString([]byte(text))+`"}]}`)
	}
	nested := func(n int, open, end string) string { return strings.Repeat(open, n) + "1" + strings.Repeat(end, n) }
	fields := func(n int) string {
		var out []string
		for i := range n {
			out = append(out, fmt.Sprintf(`"f%d":%d`, i, i))
		}
		return "{" + strings.Join(out, ",") + "}"
	}
	const malformed, notText = "!JSON: malformed", "!JSON: not UTF-8"
	for text, want := range map[string]string{
		"": malformed, " ": malformed, "\x00": malformed, "1\x00": malformed, "\ufeff1": malformed, "1 2": malformed, "1,": malformed, "}": malformed, "]": malformed, ":": malformed,
		"tru": malformed, "truee": malformed, "True": malformed, "fals": malformed, "f": malformed, "nul": malformed, "nulL": malformed, "undefined": malformed, "NaN": malformed, "Infinity": malformed,
		"-": malformed, "--1": malformed, "+1": malformed, ".5": malformed, "1.": malformed, "1.e1": malformed, "1e": malformed, "1e+": malformed, "01": malformed, "-01": malformed, "0x10": malformed, "1_000": malformed, "1f": malformed,
		`"`: malformed, `"a`: malformed, `"\`: malformed, `"\"`: malformed, `"\x"`: malformed, `"\u"`: malformed, `"\u00g0"`: malformed, `"\u123"`: malformed, "\"\n\"": malformed, "\"\x1f\"": malformed, "\"\x00\"": malformed, `'a'`: malformed,
		"[": malformed, "[1": malformed, "[1,": malformed, "[1,]": malformed, "[,1]": malformed, "[1 1]": malformed, "[1}": malformed, "[1;1]": malformed, "// a\n1": malformed, "/* a */1": malformed,
		"{": malformed, `{"a"`: malformed, `{"a":`: malformed, `{"a":1`: malformed, `{"a":1,`: malformed, `{"a":1,}`: malformed, `{,}`: malformed, `{a:1}`: malformed, `{1:1}`: malformed, `{"a" 1}`: malformed, `{"a":1]`: malformed,
		`{"a":1 "b":1}`: malformed, `{"a":}`: malformed, "1\v": malformed, "1\f": malformed, "1\u00a0": malformed, "[\u20281]": malformed,
		"\"\xff\"": notText, "\"\xc0\x80\"": notText, "\"\xe0\x80\x80\"": notText, "\"\xed\xa0\x80\"": notText, "\"\xf4\x90\x80\x80\"": notText, "\"\xc3\"": notText, "\"\xf0\x9f\x98": notText,
		`{"a":1,"a":1}`: "!JSON: a field twice", `{"":1,"":2}`: "!JSON: a field twice", `{"a":{"b":1,"b":2}}`: "!JSON: a field twice",
		`{"\u0061":1}`: "!JSON: an escape in a name", `{"a\"":1}`: "!JSON: an escape in a name",
		fields(257): "!JSON: too many fields", nested(33, "[", "]"): "!JSON: too deep", nested(33, `{"a":`, "}"): "!JSON: too deep", strings.Repeat("[", 20_000): "!JSON: too deep", strings.Repeat(`{"a":`, 10_000): "!JSON: too deep",
		fields(256): "", nested(32, "[", "]"): "", nested(32, `{"a":`, "}"): "", "[" + strings.Repeat("1,", 5_000) + "1]": "", `"` + strings.Repeat("é", 20_000) + `"`: "",
		`{"":0}`: "", "-0": "", "1E+400": "", "-1.5e-7": "", " \t\r\n[ 1 , { \"a\" : null } ] \n": "", `"\ud83d\ude00"`: "", "\"\x7f\"": "", "\"\U0010ffff\"": "", `{"a":[],"b":{},"c":""}`: "",
	} {
		got := asked(text)
		if want == "" {
			want = "[" + strings.Trim(text, " \t\r\n") + "]"
		}
		if got != want {
			t.Errorf("%.60q: %.200s, want %.200s", text, got, want)
		}
		if valid := json.Valid([]byte(text)); valid != (got[0] != '!') && (got == malformed || !valid) {
			t.Errorf("%.60q: encoding/json says %v, the kit %.200s", text, valid, got)
		}
	}
	for msg, want := range map[string]string{
		`{"u64":18446744073709551615}`: "[18446744073709551615]", `{"u64":18446744073709551616}`: "!JSON: number out of range", `{"u64":99999999999999999999}`: "!JSON: number out of range",
		`{"u64":1e3}`: "!JSON: not a whole number", `{"u64":1.0}`: "!JSON: not a whole number", `{"u64":-0}`: "!JSON: not a whole number", `{"u64":"1"}`: "!JSON: want a number", `{"u64":null}`: "!JSON: want a number",
		`{"u64":true}`: "!JSON: want a number", `{"u64":[1]}`: "!JSON: want a number", `{"i64":1e3}`: "!JSON: not a whole number", `{"i64":-}`: malformed,
		`{"quoted":"00"}`: "!JSON: not a whole number", `{"quoted":""}`: "!JSON: not a whole number", `{"quoted":"-1"}`: "!JSON: not a whole number", `{"quoted":"18446744073709551616"}`: "!JSON: number out of range",
		`{"text":1}`: "!JSON: want a text", `{"text":null}`: "!JSON: want a text", `{"text":["a"]}`: "!JSON: want a text", `{"text":"\udc00\ud800"}`: malformed, `{"text":"\ud800\ud800"}`: malformed, `{"text":"\ud800x"}`: malformed,
		`{"bool":"true"}`: "!JSON: want true or false", `{"bool":null}`: "!JSON: want true or false", `{"bytes":"A"}`: "!JSON: not base64", `{"bytes":"AAA"}`: "!JSON: not base64", `{"bytes":"AAAA\n"}`: "!JSON: not base64",
		`{"bytes":" AAA"}`: "!JSON: not base64", `{"bytes":"A=AA"}`: "!JSON: not base64", `{"bytes":"éA"}`: "!JSON: not base64", `{"bytes":""}`: `[""]`, `{"bytes":"\u0041AAA"}`: `["AAAA"]`,
		`{}`: "!JSON: want an object with one field", `{"a":1,"b":2}`: "!JSON: want an object with one field", `[]`: "!JSON: want an object with one field", `5`: "!JSON: want an object with one field",
		`{"u256":"115792089237316195423570985008687907853269984665640564039457584007913129639935"}`: `["115792089237316195423570985008687907853269984665640564039457584007913129639935"]`,
		`{"u256":"115792089237316195423570985008687907853269984665640564039457584007913129639936"}`: "!overflow",
	} {
		p.expect(t, `{"echo":[`+msg+`]}`, want)
	}
	p.expect(t, `{"echo":{}}`, "!JSON: want a list")
	p.expect(t, `{"echo":null}`, "!JSON: want a list")
}
