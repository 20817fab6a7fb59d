package state

// ResidentNodes counts the nodes that a tree holds in memory, and returns how
// many it believes there are.
func ResidentNodes(t *Tree) (counted, believed int) { return t.top.node.resident(), t.memory.resident }
