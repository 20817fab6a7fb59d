package node

import (
	"sync/atomic"
	"testing"

	"github.com/hypermesh/hypermesh/internal/state"
)

// heldReader reads no node of the tree while it is held.
type heldReader struct {
	state.NodeReader
	held    atomic.Bool
	release chan struct{}
}

func (r *heldReader) AppendNode(dst, key []byte) ([]byte, bool, error) {
	if r.held.Load() {
		<-r.release
	}
	return r.NodeReader.AppendNode(dst, key)
}

// TestABlockIsVotedOnBeforeItsStateIsHashed holds the hashing of a block's
// changes: the block is verified all the same, and its child waits for it.
func TestABlockIsVotedOnBeforeItsStateIsHashed(t *testing.T) {
	g := testGenesis(t)
	leader, voter := newRig(t, g), newRig(t, g)
	tip, _ := voter.store.Latest()
	reader := &heldReader{NodeReader: voter.store, release: make(chan struct{})}
	tree, err := state.OpenTree(reader, tip.Mark(), 0)
	if err != nil {
		t.Fatal(err)
	}
	voter.app.root.tree.Store(tree)
	reader.held.Store(true)

	on := leader.genesisParent()
	b := leader.propose(1, on)
	if err := voter.verify(1, on, b); err != nil {
		t.Fatal(err)
	}
	branch, ok := voter.app.branch(b.Digest)
	if !ok {
		t.Fatal("the block is not known after its verification")
	}
	select {
	case <-branch.hashed:
		t.Fatal("the block's state was hashed before the vote, though no node could be read")
	default:
	}
	child := leader.propose(2, parentOf(1, b))
	verified := make(chan error, 1)
	go func() { verified <- voter.verify(2, parentOf(1, b), child) }()
	reader.held.Store(false)
	close(reader.release)
	if err := <-verified; err != nil {
		t.Errorf("the child, which attests that state: %v", err)
	}
}
