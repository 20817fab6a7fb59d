//go:build !wasip1

package main

import (
	"os"
	"strings"
	"testing"
)

// TestTraining: whatever a machine's rounding, the trained model is right about
// 48 of the 50 irises that it has not seen, and the file holds the data.
func TestTraining(t *testing.T) {
	data, err := os.ReadFile("iris.csv")
	if err != nil {
		t.Fatal(err)
	}
	flowers, err := parse(data)
	if err != nil || len(flowers) != 150 {
		t.Fatalf("%d flowers, %v", len(flowers), err)
	}
	learn, hold := split(flowers)
	m := quantize(train(learn))
	t.Logf("%d of %d, %d of %d", m.right(learn), len(learn), m.right(hold), len(hold))
	if len(hold) != 50 || m.right(hold) < 48 || m.right(learn) < 96 {
		t.Errorf("%d of %d in training, %d of %d others", m.right(learn), len(learn), m.right(hold), len(hold))
	}
	if lines := strings.Count(string(m.text()), "\n"); lines != 1+hidden+classes {
		t.Errorf("a model of %d lines", lines)
	}
}

// TestDataIsFishers holds the measurements to the means that are known of each
// species, as sums over 50 flowers in mm.
func TestDataIsFishers(t *testing.T) {
	data, err := os.ReadFile("iris.csv")
	if err != nil {
		t.Fatal(err)
	}
	flowers, err := parse(data)
	if err != nil {
		t.Fatal(err)
	}
	var sums [classes][features]int
	for _, f := range flowers {
		for k, x := range f.x {
			sums[f.class][k] += x
		}
	}
	want := [classes][features]int{{2503, 1714, 731, 123}, {2968, 1385, 2130, 663}, {3294, 1487, 2776, 1013}}
	if sums != want {
		t.Errorf("sums %v, want %v", sums, want)
	}
}

func TestBadDataIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"a,b,c,d,e\n":                   "no rows",
		"h\n1,2,3,setosa\n":             "row 1 has 4 columns",
		"h\n1,2,3,4,rose\n":             "species",
		"h\n1,2,3,x,setosa\n":           `"x" is no length`,
		"h\n1,2,3,4,setosa\n1,2,3,99,x": "row 2",
	} {
		if _, err := parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want it to name %q", text, err, want)
		}
	}
}
