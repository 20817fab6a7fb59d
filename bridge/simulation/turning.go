package simulation

import "github.com/hypermesh/hypermesh/internal/chain"

// Turning is what checking costs and finds in a market under replicate in which one node in a
// hundred, all of them with records, turns and claims made-up results from then on.
type Turning struct {
	Seed  uint64  `json:"seed"`
	Jobs  int     `json:"jobs"`
	Runs  int     `json:"runs"`       // of programs: by primaries, replicas and jurors
	Work  float64 `json:"work"`       // runs for each job
	After int     `json:"jobs_after"` // the job, counted from its turning on, of which the node was caught; 0: never
}

const (
	turningNodes = 100
	turningJobs  = 60 // of each node
	warmJobs     = 20 // of each node: by then checks come as they will
	sideBySide   = 4  // jobs that begin in a block
)

// Turn runs such a market.
func Turn(cast *Cast, policy Policy, seed uint64) Turning {
	terms := Defaults(policy)
	terms.Nodes = turningNodes
	w := newWorld(Market{Cast: cast, Terms: terms, Seed: seed}, conduct{})
	w.fund(w.owners[consumerAt], chain.Hyper(deposited))
	w.remember()
	out := Turning{Seed: seed}
	bad := w.nodes[w.rand.Below(turningNodes)]
	turns := warmJobs + w.rand.Below(turningJobs-warmJobs-20)
	tried := map[*job]int{}
	begun := 0
	for round := range turningJobs {
		if round == warmJobs {
			w.runs, begun = 0, 0
		}
		for i, n := range w.nodes[:turningNodes] {
			j := w.newJob(w.owners[consumerAt], n, 1)
			if n == bad && round >= turns && out.After == 0 {
				n.asPrimary = guess
				tried[j] = round - turns + 1
			}
			w.offer(j)
			begun++
			if n == bad {
				n.asPrimary = honest
			}
			if i%sideBySide == sideBySide-1 {
				w.block(blockMs)
			}
			for _, e := range w.caught {
				if e.Node == bad.id && out.After == 0 {
					out.After = tried[w.jobs[e.Subject]]
				}
			}
		}
	}
	w.settled()
	out.Jobs, out.Runs = begun, w.runs
	out.Work = float64(w.runs) / float64(begun)
	return out
}
