package lint

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// page is what the tables of docs/ARCHITECTURE.md say.
type page struct {
	rooms      map[string]string   // package → kind
	programs   []string            // patterns of path.Match
	imports    map[string][]string // package or program pattern → what it may import
	owners     []owner
	exceptions []exception
	limits     limits
}

type owner struct {
	name     string   // of the dependency
	prefixes []string // of import paths
	rooms    []string
}

type exception struct{ file, what string }

type limits struct{ rooms, fileLines, functionLines, parameters int }

// The kinds of rooms that the lints treat apart from the others.
const (
	kindPure       = "pure"
	kindPureVerify = "pure verify"
)

// readPage reads the tables, known by their headings.
func readPage(root string) (*page, error) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "ARCHITECTURE.md"))
	if err != nil {
		return nil, err
	}
	tables := tablesOf(string(text))
	p := &page{rooms: map[string]string{}, imports: map[string][]string{}}
	for _, row := range tables["package | its sentence | kind"] {
		p.rooms[only(row[0])] = row[2]
	}
	for _, row := range tables["program | what it is"] {
		p.programs = append(p.programs, only(row[0]))
	}
	for _, row := range tables["package | may import"] {
		p.imports[only(row[0])] = quoted(row[1])
	}
	for _, row := range tables["heavy dependency | import path | owners"] {
		p.owners = append(p.owners, owner{name: row[0], prefixes: quoted(row[1]), rooms: quoted(row[2])})
	}
	for _, row := range tables["file | what | why"] {
		p.exceptions = append(p.exceptions, exception{file: only(row[0]), what: only(row[1])})
	}
	if len(p.rooms) == 0 || len(p.imports) == 0 || len(p.owners) == 0 {
		return nil, fmt.Errorf("%d rooms, %d rows of imports, %d owners: a table is missing", len(p.rooms), len(p.imports), len(p.owners))
	}
	return p, p.readLimits(tables["what | at most"])
}

func (p *page) readLimits(rows [][]string) error {
	fields := map[string]*int{
		"rooms": &p.limits.rooms, "lines of a file": &p.limits.fileLines,
		"lines of a function": &p.limits.functionLines, "parameters of a function": &p.limits.parameters,
	}
	for _, row := range rows {
		field := fields[row[0]]
		if field == nil {
			return fmt.Errorf("limit %q is unknown", row[0])
		}
		n, err := strconv.Atoi(row[1])
		if err != nil {
			return fmt.Errorf("limit of %s: %w", row[0], err)
		}
		*field = n
	}
	for name, field := range fields {
		if *field == 0 {
			return fmt.Errorf("no limit of %s", name)
		}
	}
	return nil
}

// tablesOf returns the rows of every Markdown table under its heading's text,
// "a | b | c".
func tablesOf(text string) map[string][][]string {
	tables := map[string][][]string{}
	heading := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			heading = ""
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case heading == "":
			heading = strings.Join(cells, " | ")
		case strings.HasPrefix(cells[0], "---"):
		default:
			tables[heading] = append(tables[heading], cells)
		}
	}
	return tables
}

var inBackquotes = regexp.MustCompile("`([^`]+)`")

// quoted returns what a cell has in backquotes.
func quoted(cell string) []string {
	var out []string
	for _, m := range inBackquotes.FindAllStringSubmatch(cell, -1) {
		out = append(out, m[1])
	}
	return out
}

// only is quoted for a cell of one entry; a cell of none gives itself.
func only(cell string) string {
	if all := quoted(cell); len(all) > 0 {
		return all[0]
	}
	return cell
}

// entry returns the row of imports that is dir's: its own, or its program
// pattern's.
func (p *page) entry(dir string) (string, bool) {
	if _, ok := p.rooms[dir]; ok {
		return dir, true
	}
	for _, pattern := range p.programs {
		if ok, err := path.Match(pattern, dir); ok && err == nil {
			return pattern, true
		}
	}
	return "", false
}

// reachable returns everything that a package may import.
func (p *page) reachable(dir string) map[string]bool {
	seen := map[string]bool{}
	var walk func(string)
	walk = func(name string) {
		for _, next := range p.imports[name] {
			if !seen[next] {
				seen[next] = true
				walk(next)
			}
		}
	}
	walk(dir)
	return seen
}

// pureFile reports whether the bans of pure rooms hold in a file.
func (p *page) pureFile(f *file) bool {
	switch p.rooms[f.dir] {
	case kindPure:
		return !f.test
	case kindPureVerify:
		return !f.test && strings.HasPrefix(path.Base(f.name), "verify")
	}
	return false
}
