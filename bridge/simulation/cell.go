package simulation

import (
	"fmt"
	"math"
)

// Cell is what an attack came to under some terms, over several seeds.
type Cell struct {
	Attack   string    `json:"attack"`
	Terms    Terms     `json:"terms"`
	Seeds    int       `json:"seeds"` // that were run
	Tries    int       `json:"tries"`
	Caught   int       `json:"caught"`
	Profit   float64   `json:"profit"`   // the mean of the seeds', in jobs' worth for each try
	Interval float64   `json:"interval"` // the half of the 95 % confidence interval
	Harm     float64   `json:"harm"`     // likewise
	Outcomes []Outcome `json:"outcomes,omitempty"`
}

// Sign says what is known of an expectation.
type Sign string

// The signs.
const (
	Loses   Sign = "loses"
	Nothing Sign = "nothing" // the interval has zero in it, and is no wider than what others' draws, which differ from market to market, come to
	Pays    Sign = "pays"
	Unknown Sign = "unknown" // the interval has zero in it
)

// nothing is below what is told as anything, if zero is in the interval.
const nothing = 0.02

// Sum makes a cell of the outcomes of seeds. Seeds in which nothing was tried do not count.
func Sum(a *Attack, terms Terms, outcomes []Outcome) Cell {
	c := Cell{Attack: a.Name, Terms: terms, Outcomes: outcomes}
	n, squares := 0.0, 0.0
	for _, o := range outcomes {
		c.Tries += o.Tries
		c.Caught += o.Caught
		c.Seeds++
		if o.Tries > 0 {
			n++
			c.Profit += o.Profit
			c.Harm += o.Harm
		}
	}
	if n == 0 {
		return c
	}
	c.Profit, c.Harm = c.Profit/n, c.Harm/n
	for _, o := range outcomes {
		if o.Tries > 0 {
			squares += (o.Profit - c.Profit) * (o.Profit - c.Profit)
		}
	}
	if n > 1 {
		c.Interval = student(int(n)-1) * math.Sqrt(squares/(n-1)/n)
	}
	return c
}

// student is the two-sided 95 % quantile of Student's distribution, or a little more.
func student(freedom int) float64 {
	table := [...]float64{12.71, 4.31, 3.19, 2.78, 2.58, 2.45, 2.37, 2.31, 2.27, 2.23}
	switch {
	case freedom <= len(table):
		return table[freedom-1]
	case freedom < 20:
		return 2.21
	case freedom < 40:
		return 2.09
	}
	return 2.03
}

// Sign says whether the attack pays.
func (c *Cell) Sign() Sign {
	switch {
	case c.Profit+c.Interval < 0:
		return Loses
	case c.Profit-c.Interval > 0:
		return Pays
	case math.Abs(c.Profit)+c.Interval < nothing:
		return Nothing
	}
	return Unknown
}

// String is the profit with its interval.
func (c *Cell) String() string {
	switch {
	case c.Tries == 0:
		return "never tried"
	case c.Sign() == Nothing:
		return "0"
	case c.Interval < 0.005:
		return signed(c.Profit)
	}
	return fmt.Sprintf("%s ± %.2f", signed(c.Profit), c.Interval)
}

func signed(x float64) string {
	text := fmt.Sprintf("%+.2f", x)
	if x < 0 {
		return "−" + text[1:]
	}
	return text
}
