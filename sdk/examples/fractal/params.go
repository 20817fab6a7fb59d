package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// maxParamBytes bounds the parameter file.
const maxParamBytes = 4096

// params describe a picture.
type params struct {
	width, height    int     // pixels, 16 to 2048
	centerX, centerY float64 // the point in the middle, −2 to 2
	zoom             float64 // 1 shows the whole set, at most 10¹²
	iterations       int     // 1 to 10,000
	palette          string  // a key of palettes
}

var defaults = params{width: 512, height: 512, centerX: -0.6, zoom: 1, iterations: 500, palette: "ember"}

// parse reads lines of "name = value"; "#" begins a comment. What is not given
// has its default, what is given twice or unknown is refused.
func parse(text string) (params, error) {
	p := defaults
	if len(text) > maxParamBytes {
		return p, fmt.Errorf("more than %d bytes", maxParamBytes)
	}
	given := map[string]bool{}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return p, fmt.Errorf("line %d: %q is not name = value", number, line)
		}
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if given[name] {
			return p, fmt.Errorf("line %d: %s is given twice", number, name)
		}
		given[name] = true
		if err := p.set(name, value); err != nil {
			return p, fmt.Errorf("line %d: %w", number, err)
		}
	}
	return p, nil
}

func (p *params) set(name, value string) error {
	switch name {
	case "width":
		return whole(&p.width, name, value, 16, 2048)
	case "height":
		return whole(&p.height, name, value, 16, 2048)
	case "iterations":
		return whole(&p.iterations, name, value, 1, 10_000)
	case "center_x":
		return decimal(&p.centerX, name, value, -2, 2)
	case "center_y":
		return decimal(&p.centerY, name, value, -2, 2)
	case "zoom":
		return decimal(&p.zoom, name, value, 0.5, 1e12)
	case "palette":
		if _, ok := palettes[value]; !ok {
			return fmt.Errorf("palette is %q, want one of %v", value, slices.Sorted(maps.Keys(palettes)))
		}
		p.palette = value
		return nil
	}
	return fmt.Errorf("%q is not a parameter", name)
}

func whole(to *int, name, value string, least, most int) error {
	n, err := strconv.Atoi(value)
	if err != nil || n < least || n > most {
		return fmt.Errorf("%s is %q, want a whole number from %d to %d", name, value, least, most)
	}
	*to = n
	return nil
}

func decimal(to *float64, name, value string, least, most float64) error {
	x, err := strconv.ParseFloat(value, 64)
	if err != nil || math.IsNaN(x) || x < least || x > most {
		return fmt.Errorf("%s is %q, want a number from %v to %v", name, value, least, most)
	}
	*to = x
	return nil
}
