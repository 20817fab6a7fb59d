package main

import (
	_ "embed" // the built-in round trips
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hypermesh/hypermesh/internal/sim"
)

// cloudRegions is the round trips between ten cloud regions; testdata/README.md
// says where they come from.
//
//go:embed testdata/wan_rtt_ms.csv
var cloudRegions string

// builtInAtlas is the name of cloudRegions on the command line.
const builtInAtlas = "cloud"

// atlas is the regions that validators live in, in turn, and how far apart they
// are.
type atlas struct {
	name    string
	regions []string
	oneWay  [][]time.Duration // by region and region: half the round trip
}

// openAtlas reads a file of round trips, or the built-in ones.
func openAtlas(name string) (*atlas, error) {
	if name == builtInAtlas {
		return readAtlas(name, strings.NewReader(cloudRegions))
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	a, err := readAtlas(name, file)
	if closing := file.Close(); err == nil {
		err = closing
	}
	return a, err
}

const (
	maxRegions     = 256
	maxRoundTripMs = 60_000
)

// readAtlas reads a square table: a head of "region" and the regions' names,
// then for each region its name and the round trips to all in milliseconds.
func readAtlas(name string, from io.Reader) (*atlas, error) {
	rows, err := csv.NewReader(from).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(rows) < 2 || len(rows) > maxRegions+1 || len(rows[0]) != len(rows) {
		return nil, fmt.Errorf("%s: %d rows, want a head and one for each of its regions, at most %d", name, len(rows), maxRegions)
	}
	a := &atlas{name: name, regions: rows[0][1:]}
	for i, row := range rows[1:] {
		if row[0] != a.regions[i] {
			return nil, fmt.Errorf("%s: row %d is of %q, want %q", name, i+2, row[0], a.regions[i])
		}
		var spans []time.Duration
		for _, text := range row[1:] {
			roundTrip, err := strconv.ParseFloat(text, 64)
			if err != nil || !(roundTrip >= 0 && roundTrip <= maxRoundTripMs) { // nor what is no number
				return nil, fmt.Errorf("%s: row %d: round trip of %q ms, want 0 to %d", name, i+2, text, maxRoundTripMs)
			}
			spans = append(spans, time.Duration(roundTrip*float64(ms)/2))
		}
		a.oneWay = append(a.oneWay, spans)
	}
	return a, nil
}

func (a *atlas) distance(from, to int) time.Duration {
	return a.oneWay[from%len(a.regions)][to%len(a.regions)]
}

// weather is fair over distances: up to 5 % of each as jitter, and what a
// machine room adds.
func (a *atlas) weather() sim.Weather {
	return sim.Weather{DelayMin: 100 * time.Microsecond, DelayMax: ms / 2, Jitter: 50, InOrder: true}
}
