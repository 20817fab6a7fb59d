package state

// ResidentNodes counts the nodes that a tree holds in memory, and returns how
// many it believes there are.
func ResidentNodes(t *Tree) (counted, believed int) {
	return t.arena.resident(&t.top), t.memory.resident
}

// RunLengths returns how long an overlay's runs are.
func RunLengths(o *Overlay) (lengths []int) {
	for i := range o.runs {
		lengths = append(lengths, len(o.runs[i].entries))
	}
	return lengths
}

// ArenaBytes returns what the blocks of a tree's arena take: those in use, and those that
// the tree has.
func ArenaBytes(t *Tree) (used, own int) {
	a := t.arena
	used, _ = a.Bytes()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.pockets {
		for class, free := range p.free {
			used -= len(free) * classUnits(class) * unitBytes
		}
	}
	return used, a.resident(&t.top)
}

// Forget releases a version as if nobody had a tree of it any more.
func Forget(t *Tree) { t.hold.v.forget() }

// RootNode returns a function that reads the root node as long as it is there, and
// returns its slots.
func RootNode(t *Tree) func() uint16 {
	return func() uint16 {
		n := t.arena.node(t.top.node, uint64(t.top.version))
		return n.used
	}
}

// NotedBytes returns what a tree keeps of its version beside the changes.
func NotedBytes(t *Tree) int {
	i := t.layerOf(t.mark.Version)
	if i < 0 {
		return 0
	}
	return t.layers[i].noted()
}
