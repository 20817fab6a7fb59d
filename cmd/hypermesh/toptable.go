package main

// column is a column of a table.
type column struct {
	title string
	width int
	right bool
	flex  int // parts that it takes of what is left over
	drop  int // which columns go first where there is no room: the highest; 0 stays
}

// field is what a table has in a row and a column: text, or a bar.
type field struct {
	text  string
	style style
	bar   bool
	part  float64 // of the bar that is heavy
}

func say(text string, s style) field { return field{text: text, style: s} }

func gauge(part float64, s style) field { return field{bar: true, part: part, style: s} }

// area is a part of a page.
type area struct{ x, y, w, h int }

// from returns the area without its first lines.
func (a area) from(lines int) area { return area{a.x, a.y + lines, a.w, a.h - lines} }

// section is a table, of which as many rows are shown as there is
// room for.
type section struct {
	columns []column
	rows    [][]field
	empty   string // said in place of rows
	least   int    // rows that it wants before others have more
}

// height is what the section takes if all of it is shown.
func (s *section) height() int { return 1 + max(1, len(s.rows)) }

const columnGap = 1

// widths returns the width of each column within so many, −1 of those that are
// left out.
func (s *section) widths(room int) []int {
	out := make([]int, len(s.columns))
	used, flexes := -columnGap, 0
	for i, c := range s.columns {
		out[i] = c.width
		used += c.width + columnGap
	}
	for used > room {
		first := -1
		for i, c := range s.columns {
			if out[i] >= 0 && c.drop > 0 && (first < 0 || c.drop > s.columns[first].drop) {
				first = i
			}
		}
		if first < 0 {
			break
		}
		used -= out[first] + columnGap
		out[first] = -1
	}
	for i, c := range s.columns {
		if out[i] >= 0 {
			flexes += c.flex
		}
	}
	for i, c := range s.columns {
		if c.flex > 0 && out[i] >= 0 && used < room {
			more := (room - used) * c.flex / flexes
			out[i] += more
			used += more
			flexes -= c.flex
		}
	}
	return out
}

// draw draws the section's head, and rows from the first on.
func (s *section) draw(c *canvas, to area, first int) {
	if to.h < 1 {
		return
	}
	widths := s.widths(to.w)
	c.fill(to.x, to.y, to.w, head)
	s.line(c, to, widths, func(i int) field { return say(s.columns[i].title, head) })
	if len(s.rows) == 0 && to.h > 1 {
		c.put(to.x, to.y+1, to.w, s.empty, dim)
	}
	for i := range min(to.h-1, len(s.rows)-first) {
		row := s.rows[first+i]
		s.line(c, to.from(1+i), widths, func(k int) field { return row[k] })
	}
}

// line draws a row in the first line of an area.
func (s *section) line(c *canvas, to area, widths []int, at func(i int) field) {
	x, y, end := to.x, to.y, to.x+to.w
	for i, w := range widths {
		if w < 0 || x >= end {
			continue
		}
		w = min(w, end-x)
		f := at(i)
		switch {
		case f.bar:
			c.bar(x, y, w, f.part, f.style)
		case s.columns[i].right:
			text := clean(f.text)
			c.put(x+max(0, w-textWidth(text)), y, w, text, f.style)
		default:
			c.put(x, y, w, f.text, f.style)
		}
		x += w + columnGap
	}
}

// share divides so many lines among sections, in order: first each has its head
// and the least that it wants, then those that want more have one more in turn.
func share(list []section, lines int) []int {
	out := make([]int, len(list))
	left := lines
	for i := range list {
		want := min(1+max(1, list[i].least), list[i].height())
		if want > left {
			want = 0
			if left >= 2 {
				want = left
			}
		}
		out[i] = want
		left -= want
	}
	for given := true; given && left > 0; {
		given = false
		for i := range list {
			if left > 0 && out[i] > 0 && out[i] < list[i].height() {
				out[i]++
				left--
				given = true
			}
		}
	}
	return out
}
