package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hypermesh/hypermesh/bridge/simulation"
)

// sweep is a table of one attack, whose terms differ from column to column.
type sweep struct {
	attack   string
	policies []simulation.Policy
	what     string
	columns  []string
	change   func(t *simulation.Terms, column int)
}

var sweeps = []sweep{
	{
		attack: "colluding", policies: []simulation.Policy{simulation.TwoOfThree, simulation.ThreeOfFive, simulation.Optimistic},
		what: "share of all bonds that colludes", columns: []string{"10 %", "20 %", "33 %"},
		change: func(t *simulation.Terms, column int) { t.Share = []int{10, 20, 33}[column] },
	},
	{
		attack: "opportunist", policies: []simulation.Policy{simulation.TwoOfThree, simulation.ThreeOfFive},
		what: "share of all bonds that colludes", columns: []string{"10 %", "20 %", "33 %"},
		change: func(t *simulation.Terms, column int) { t.Share = []int{10, 20, 33}[column] },
	},
	{
		attack: "sybil", policies: []simulation.Policy{simulation.TwoOfThree, simulation.Optimistic},
		what: "share of all bonds that colludes", columns: []string{"10 %", "20 %", "33 %"},
		change: func(t *simulation.Terms, column int) { t.Share = []int{10, 20, 33}[column] },
	},
	{
		attack: "colluding", policies: []simulation.Policy{simulation.TwoOfThree, simulation.ThreeOfFive},
		what: "stake that an order asks for, in max costs", columns: []string{"1", "5", "19", "100"},
		change: func(t *simulation.Terms, column int) { t.Stake = []uint64{1, 5, 19, 100}[column] },
	},
	{
		attack: "lazy", policies: []simulation.Policy{simulation.TwoOfThree},
		what: "jobs that the node was paid for before", columns: []string{"0", "20", "200", "10,000"},
		change: func(t *simulation.Terms, column int) { t.Record = []uint64{0, 20, 200, 10_000}[column] },
	},
	{
		attack: "colluding", policies: []simulation.Policy{simulation.Optimistic},
		what: "bond of a claim, in max costs", columns: []string{"32", "100", "300"},
		change: func(t *simulation.Terms, column int) { t.Bond = []uint64{32, 100, 300}[column] },
	},
	{
		attack: "lazy", policies: []simulation.Policy{simulation.TwoOfThree, simulation.Optimistic},
		what: "others who, as jurors and auditors, vote without a run", columns: []string{"0 %", "25 %", "50 %", "75 %"},
		change: func(t *simulation.Terms, column int) { t.Follow = []int{0, 25, 50, 75}[column] },
	},
	{
		attack: "follower", policies: []simulation.Policy{simulation.TwoOfThree, simulation.Optimistic},
		what: "claims that are wrong", columns: []string{"1 %", "5 %", "20 %"},
		change: func(t *simulation.Terms, column int) { t.Wrong = []int{1, 5, 20}[column] },
	},
	{
		attack: "padding", policies: []simulation.Policy{simulation.None, simulation.TwoOfThree},
		what: "max cost, of what a job should cost", columns: []string{"100 %", "125 %", "200 %"},
		change: func(t *simulation.Terms, column int) { t.Slack = []int{100, 125, 200}[column] },
	},
	{
		attack: "lazy", policies: []simulation.Policy{simulation.TwoOfThree, simulation.Optimistic, simulation.ZK},
		what: "cost of a run, of what the job is worth", columns: []string{"50 %", "85 %", "100 %"},
		change: func(t *simulation.Terms, column int) { t.Cost = []int{50, 85, 100}[column] },
	},
}

// stalls are the cells of a sweep, row by row.
func (s *sweep) stalls() (list []stall) {
	attack, ok := simulation.Find(s.attack)
	if !ok {
		panic("hypersim: a sweep of no attack: " + s.attack)
	}
	for _, p := range s.policies {
		for i := range s.columns {
			terms := simulation.Defaults(p)
			s.change(&terms, i)
			list = append(list, stall{&attack, terms})
		}
	}
	return list
}

// mainStalls are the cells of the first table, attack by attack.
func mainStalls() (list []stall) {
	for i := range simulation.Attacks {
		attack := &simulation.Attacks[i]
		for _, p := range attack.Policies {
			list = append(list, stall{attack, simulation.Defaults(p)})
		}
	}
	return list
}

// markdown is the part of docs/ECONOMICS.md that is generated.
func (b *bazaar) markdown(ctx context.Context) (string, error) {
	stalls := mainStalls()
	for i := range sweeps {
		stalls = append(stalls, sweeps[i].stalls()...)
	}
	cells := b.play(ctx, stalls)
	turned := b.turn(ctx, min(b.seeds, turningSeeds))
	if ctx.Err() != nil {
		return "", errors.New("interrupted: the tables would lack seeds")
	}
	var text strings.Builder
	fmt.Fprintf(&text, "Seeds %d to %d.\n\n", b.first, b.first+uint64(b.seeds)-1)
	rest := mainTable(&text, cells)
	for i := range sweeps {
		rest = sweeps[i].table(&text, rest)
	}
	fmt.Fprintf(&text, "%s\n\n", turningLine(turned))
	explained(&text)
	return text.String(), nil
}

// explained says what each attack is, and why it loses or does not.
func explained(text *strings.Builder) {
	row(text, "attack", "what the hand does", "what comes of it")
	row(text, "---", "---", "---")
	for i := range simulation.Attacks {
		attack := &simulation.Attacks[i]
		row(text, attack.Name, attack.What, attack.Why)
	}
}

// row writes one of a table.
func row(text *strings.Builder, cells ...string) {
	fmt.Fprintf(text, "| %s |\n", strings.Join(cells, " | "))
}

// bold has an expectation stand out that is not below zero.
func bold(c *simulation.Cell) string {
	if c.Sign() == simulation.Pays || c.Sign() == simulation.Unknown {
		return "**" + c.String() + "**"
	}
	return c.String()
}

// mainTable writes what each attack earns under each policy, and returns the cells that are
// not of it.
func mainTable(text *strings.Builder, cells []simulation.Cell) []simulation.Cell {
	head := []string{"attack"}
	for _, p := range simulation.Policies {
		head = append(head, "`"+string(p)+"`")
	}
	row(text, head...)
	row(text, slices.Repeat([]string{"---"}, len(head))...)
	for i := range simulation.Attacks {
		attack := &simulation.Attacks[i]
		line := []string{attack.Name}
		for _, p := range simulation.Policies {
			if !slices.Contains(attack.Policies, p) {
				line = append(line, "")
				continue
			}
			line, cells = append(line, bold(&cells[0])), cells[1:]
		}
		row(text, line...)
	}
	fmt.Fprintln(text)
	return cells
}

func (s *sweep) table(text *strings.Builder, cells []simulation.Cell) []simulation.Cell {
	row(text, append([]string{s.attack + "; " + s.what}, s.columns...)...)
	row(text, slices.Repeat([]string{"---"}, len(s.columns)+1)...)
	for _, p := range s.policies {
		line := []string{"`" + string(p) + "`"}
		for range s.columns {
			line, cells = append(line, bold(&cells[0])), cells[1:]
		}
		row(text, line...)
	}
	fmt.Fprintln(text)
	return cells
}
