package main

// point is a place where a node may die.
type point int

const (
	pointReplayed      point = iota // the log is read, nothing else
	pointIdle                       // between two events
	pointBeforeAppend               // the step is made, its records are not written
	pointNewLog                     // the first record of a new epoch's log is written
	pointAppended                   // records are written, not synced
	pointUnmarked                   // a new epoch's log is synced, and the marker names the one before
	pointSynced                     // synced, nothing has left
	pointBetween                    // between two effects: after a broadcast, say
	pointBeforeCommit               // before a finalized block is written
	pointBlockWritten               // it is written, not synced
	pointBlockSynced                // it is synced, and the replica does not know
	pointRewritten                  // the log is replaced, not synced
	pointRewriteSynced              // and synced
	pointDropped                    // an old epoch's log is deleted
	points
)

var pointNames = [points]string{
	"log replayed", "between events", "before append", "new log begun", "appended", "log not marked", "synced", "between effects", "before commit",
	"block written", "block synced", "log rewritten", "rewrite synced", "old log dropped",
}

func (p point) String() string { return pointNames[p] }

// doom is when a node is to die: at a point of one kind, or of any.
type doom struct {
	in   int // at this one of the points to come; 0: never
	only bool
	at   point
}

// maxAway bounds how many points a death is away.
const maxAway = 60

// draw lets the node crash soon, or not.
func (d *doom) draw(n *node) {
	*d = doom{}
	if n.world.storm&faultCrash == 0 || n.rand.Below(2) == 0 {
		return
	}
	d.in = 1 + n.rand.Below(maxAway)
	if d.only = n.rand.Below(2) == 0; d.only {
		d.at, d.in = point(n.rand.Below(int(points))), 1+n.rand.Below(3)
	}
}

// survives reports whether the node lives on at a point where it may die.
func (n *node) survives(p point) bool {
	d := &n.doom
	if d.in == 0 || d.only && d.at != p {
		return true
	}
	if d.in--; d.in > 0 {
		return true
	}
	n.world.tracef("node %d crashes: %v", n.index, p)
	n.world.out.crashes[p]++
	n.end()
	n.loseLog()
	n.world.clock.After(n.rand.Between(restartMin, restartMax), n.start)
	return false
}
