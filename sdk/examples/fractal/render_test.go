package main

import (
	"image"
	"os"
	"strings"
	"testing"
)

func TestDefaultParametersAreValid(t *testing.T) {
	text, err := os.ReadFile("params.txt")
	if err != nil {
		t.Fatal(err)
	}
	p, err := parse(string(text))
	if err != nil || p.width != 512 || p.height != 512 {
		t.Errorf("params.txt: %+v, %v; want 512×512", p, err)
	}
}

func TestBadParametersNameTheLineAndTheBound(t *testing.T) {
	for text, want := range map[string]string{
		"width = 8":               "line 1: width is \"8\", want a whole number from 16 to 2048",
		"# x\n\nzoom = Inf":       "line 3: zoom is \"Inf\", want a number from 0.5 to 1e+12",
		"center_x = two":          "from -2 to 2",
		"palette = plaid":         "[ember moss ocean slate]",
		"iterations":              "not name = value",
		"= 3":                     "not a parameter",
		"zoom = 1\nzoom = 1":      "line 2: zoom is given twice",
		strings.Repeat("x", 4097): "more than 4096 bytes",
	} {
		if _, err := parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("parse(%q): %v, want %q", text, err, want)
		}
	}
}

func TestEveryPaletteRendersTheSet(t *testing.T) {
	for name := range palettes {
		p := defaults
		p.width, p.height, p.palette = 64, 64, name
		img := render(p)
		if c := img.RGBAAt(32, 32); max(c.R, c.G, c.B) > 24 {
			t.Errorf("%s: the middle of the set is %v", name, c)
		}
		if n := colors(img); n < 200 {
			t.Errorf("%s: %d colours, want a picture", name, n)
		}
	}
}

func colors(img *image.RGBA) int {
	seen := map[[4]byte]bool{}
	for i := 0; i < len(img.Pix); i += 4 {
		seen[[4]byte(img.Pix[i:])] = true
	}
	return len(seen)
}
