package zk_test

import (
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/zk"
)

// TestMLPAccuracy states what the shipped model is worth: sdk/examples/iris
// trained it on 100 of Fisher's 150 irises, and it is right about 147 of all and
// about 49 of the 50 that it never saw.
func TestMLPAccuracy(t *testing.T) {
	const folder = "../../sdk/examples/iris/"
	text, err := os.ReadFile(folder + "model.csv")
	if err != nil {
		t.Fatal(err)
	}
	model, err := zk.ParseMLPModel(text)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(folder + "iris.csv")
	if err != nil {
		t.Fatal(err)
	}
	species := []string{"setosa", "versicolor", "virginica"}
	right, unseen := 0, 0
	for i, row := range strings.Split(strings.TrimSpace(string(data)), "\n")[1:] {
		parts := strings.Split(row, ",")
		var sample zk.MLPSample
		for k := range sample {
			cm, err := strconv.ParseFloat(parts[k], 64)
			if err != nil {
				t.Fatal(err)
			}
			sample[k] = int8(math.Round(10 * cm)) // below 8 cm
		}
		if model.Infer(sample).Class == slices.Index(species, parts[len(sample)]) {
			right++
			if i%3 == 2 {
				unseen++
			}
		}
	}
	if right != 147 || unseen != 49 {
		t.Errorf("right about %d of 150, and about %d of the 50 unseen; want 147 and 49", right, unseen)
	}
}
