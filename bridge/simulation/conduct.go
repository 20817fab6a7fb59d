package simulation

// work is how a node does what it is asked for.
type work uint8

// The ways.
const (
	honest   work = iota
	guess         // a result that it made up
	conspire      // a result that its accomplices claim as well
	backs         // what its accomplice claims, who is the primary
	copies        // bind itself to another's commitment
	follows       // as a juror: what is claimed, or most have shown, with a link of the run that it made up
	repeats       // as a juror: what one of a panel before has shown, link and all; else as follows
	cries         // as a juror: that the job's data cannot be had
	absent        // nothing
)

// conduct is what is not honest about a node, a consumer, a relay or a cluster.
type conduct struct {
	asPrimary work
	asReplica work // for an order whose primary is not an accomplice
	asJuror   work // likewise

	allied    bool   // it backs accomplices' claims as a replica and as a juror
	picks     bool   // as a primary it cheats only if no check of it is certain
	hides     bool   // it shows no result that it made up once it is checked
	late      bool   // the same, until a panel is drawn
	seals     bool   // as a juror it commits to a vote, and never shows it
	pads      bool   // as a primary it says that it used all that the order allows
	starves   bool   // as a replica of its own consumer's order it says that it used next to nothing
	spoofs    bool   // it declares twice the hardware that it has, and is given work for it
	returns   bool   // once slashed it comes back as another
	frames    bool   // conspires against right results: challenges them, and judges for it
	alarms    bool   // challenges right claims, and buys jurors who say that there is no data
	bribes    bool   // buys jurors of panels about its nodes' work, who say the same
	packs     bool   // the cluster lists accomplices alone as bidders
	shields   bool   // the cluster shows the jobs of its nodes to no juror
	flaky     bool   // orders what gives other results from run to run
	trivial   bool   // orders what costs nothing to run
	withholds bool   // the cluster shows the jobs of its consumer to no juror
	withdraws bool   // takes its escrow back once an order is accepted
	farms     uint64 // the size of the work that it buys of itself before, in jobs
}
