package main

import (
	"strings"
	"unicode"
)

// A style is how a cell looks; what it stands for, not which colour it is.
type style uint8

const (
	plain style = iota
	bold
	dim
	head  // a table's head
	title // of the page, and the tab that is shown
	good
	warn
	bad
	urgentStyle
	standardStyle
	spareStyle
	barStyle
	styleCount
)

// sgr are the styles' parameters of SGR (ECMA-48, 8.3.117): with colours, and
// where NO_COLOR (no-color.org) asks for none.
var sgr = [styleCount]struct{ colour, mono string }{
	plain: {"", ""}, bold: {"1", "1"}, dim: {"38;5;245", "2"}, head: {"1;4;38;5;110", "1;4"}, title: {"1;38;5;231;48;5;24", "1;7"},
	good: {"38;5;114", ""}, warn: {"38;5;221", "1"}, bad: {"1;38;5;203", "1;7"},
	urgentStyle: {"38;5;209", ""}, standardStyle: {"38;5;117", ""}, spareStyle: {"38;5;146", ""}, barStyle: {"38;5;79", ""},
}

// cell is one column of one line; a wide rune has an empty cell behind it.
type cell struct {
	r rune // 0: behind a wide rune
	s style
}

// canvas is a page of text, drawn before anything is written.
type canvas struct {
	w, h  int
	cells []cell
}

func newCanvas(w, h int) *canvas {
	c := &canvas{w: w, h: h, cells: make([]cell, w*h)}
	for i := range c.cells {
		c.cells[i].r = ' '
	}
	return c
}

// set sets a cell if the page has it.
func (c *canvas) set(x, y int, to cell) {
	if x >= 0 && x < c.w && y >= 0 && y < c.h {
		c.cells[y*c.w+x] = to
	}
}

// put writes text from (x, y) on within so many columns, cut off with an
// ellipsis, and returns the column behind it. What others wrote passes clean.
func (c *canvas) put(x, y, width int, text string, s style) int {
	width = min(width, c.w-x)
	text = clean(text)
	if textWidth(text) > width {
		text = cut(text, width)
	}
	for _, r := range text {
		w := runeWidth(r)
		c.set(x, y, cell{r, s})
		if w == 2 {
			c.set(x+1, y, cell{0, s})
		}
		x += w
	}
	return x
}

// fill gives so many cells of a line a style.
func (c *canvas) fill(x, y, width int, s style) {
	for i := max(0, x); i < min(x+width, c.w) && y < c.h; i++ {
		c.cells[y*c.w+i].s = s
	}
}

// bar draws a line that is heavy up to a fraction.
func (c *canvas) bar(x, y, width int, fraction float64, s style) {
	fraction = max(0, min(1, fraction))
	halves := int(fraction*float64(2*width) + 0.5)
	for i := range width {
		r, rs := '─', dim
		switch {
		case halves >= 2*i+2:
			r, rs = '━', s
		case halves == 2*i+1:
			r, rs = '╸', s
		}
		c.set(x+i, y, cell{r, rs})
	}
}

var sparks = []rune("▁▂▃▄▅▆▇█")

// spark draws the last values that fit, the highest of all as high as can be.
func (c *canvas) spark(x, y, width int, values []float64, s style) {
	values = values[max(0, len(values)-width):]
	top := 0.0
	for _, v := range values {
		top = max(top, v)
	}
	for i, v := range values {
		out := cell{sparks[0], dim}
		if v > 0 {
			out = cell{sparks[min(len(sparks)-1, int(v/top*float64(len(sparks))))], s}
		}
		c.set(x+i, y, out)
	}
}

// lines returns the page as plain text, without blanks at the ends of lines.
func (c *canvas) lines(ascii bool) []string {
	out := make([]string, c.h)
	for y := range out {
		var b strings.Builder
		for _, cell := range c.cells[y*c.w : (y+1)*c.w] {
			if cell.r != 0 {
				b.WriteRune(glyph(cell.r, ascii))
			}
		}
		out[y] = strings.TrimRight(b.String(), " ")
	}
	return out
}

// look says how a terminal is written to.
type look struct {
	colour bool
	ascii  bool // no UTF-8
}

// frame returns the page as one write that replaces what is on the screen, line by
// line, without clearing it before: so it does not flicker.
func (c *canvas) frame(l look) string {
	var b strings.Builder
	b.WriteString("\x1b[?2026h\x1b[H")
	for y := range c.h {
		if y > 0 {
			b.WriteString("\r\n")
		}
		at := plain
		for _, cell := range c.cells[y*c.w : (y+1)*c.w] {
			if cell.r == 0 {
				continue
			}
			if cell.s != at {
				at = cell.s
				b.WriteString(l.escape(at))
			}
			b.WriteRune(glyph(cell.r, l.ascii))
		}
		if at != plain {
			b.WriteString(l.escape(plain))
		}
		b.WriteString("\x1b[K")
	}
	b.WriteString("\x1b[J\x1b[?2026l")
	return b.String()
}

func (l look) escape(s style) string {
	parameters := sgr[s].mono
	if l.colour {
		parameters = sgr[s].colour
	}
	if parameters == "" {
		return "\x1b[0m"
	}
	return "\x1b[0;" + parameters + "m"
}

// glyph returns a rune that the terminal can show.
func glyph(r rune, ascii bool) rune {
	if !ascii || r < 0x80 {
		return r
	}
	switch r {
	case '━', '╸':
		return '='
	case '─':
		return '-'
	case '…', '·':
		return '.'
	case 'µ':
		return 'u'
	case '–':
		return '-'
	case '↑', '↓':
		return '|'
	case '▁':
		return '_'
	case '▂', '▃':
		return '.'
	case '▄', '▅':
		return '-'
	case '▆', '▇', '█':
		return '#'
	}
	return '?'
}

// clean returns text that moves no cursor, changes no colour and turns no line
// around: whatever is no printable character, or combines with others, is a dot.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || unicode.IsPrint(r) && !unicode.In(r, unicode.M, unicode.C, unicode.Z) && r != unicode.ReplacementChar {
			return r
		}
		return '·'
	}, text)
}

// runeWidth returns how many columns a printable rune takes: two if it is wide by
// Unicode's annex 11, in the blocks where nearly all such are.
func runeWidth(r rune) int {
	for _, b := range [...][2]rune{
		{0x1100, 0x115f}, {0x2e80, 0x303e}, {0x3041, 0xa4cf}, {0xa960, 0xa97f}, {0xac00, 0xd7a3}, {0xf900, 0xfaff}, {0xfe30, 0xfe6f},
		{0xff00, 0xff60}, {0xffe0, 0xffe6}, {0x1f300, 0x1faff}, {0x20000, 0x3fffd},
	} {
		if r >= b[0] && r <= b[1] {
			return 2
		}
	}
	return 1
}

func textWidth(text string) int {
	n := 0
	for _, r := range text {
		n += runeWidth(r)
	}
	return n
}

// cut returns as much of a text as fits, and an ellipsis.
func cut(text string, width int) string {
	if width <= 0 {
		return ""
	}
	n := 0
	for i, r := range text {
		if n += runeWidth(r); n > width-1 {
			return text[:i] + "…"
		}
	}
	return text
}
