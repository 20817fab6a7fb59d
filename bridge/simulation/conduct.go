package simulation

// work is how a node does what it is asked for.
type work uint8

// The ways.
const (
	honest   work = iota
	guess         // a result that it made up
	conspire      // the result that its accomplices claim as well
	copies        // bind itself to another's commitment
	follows       // as a juror: what most have shown, or what is claimed
	absent        // nothing
)

// conduct is what is not honest about a node, a consumer, a relay or a cluster.
type conduct struct {
	asPrimary work
	asReplica work // for an order whose primary is not an accomplice
	asJuror   work // likewise

	allied    bool   // for accomplices' orders it conspires as a replica and as a juror
	hides     bool   // as a primary it shows nothing once it is checked
	pads      bool   // as a primary it says that it used all that the order allows
	returns   bool   // once slashed it comes back as another
	frames    bool   // conspires against right results: challenges them, and judges for it
	packs     bool   // the cluster lists accomplices alone as bidders
	flaky     bool   // orders what gives other results from run to run
	trivial   bool   // orders what costs nothing to run
	withholds bool   // the cluster shows the jobs of its consumer to no juror
	withdraws bool   // takes its escrow back once an order is accepted
	farms     uint64 // the size of the work that it buys of itself before, in jobs
}
