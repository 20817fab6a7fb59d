package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/engine"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/consensus/replica"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/store"
)

const (
	// maxDecoded and maxDecodedBytes bound the decoded blocks that are kept for a
	// second look.
	maxDecoded      = 32
	maxDecodedBytes = 32 << 20
	// maxSpeculation is how far above the highest finalization that its leader
	// knew a block may carry transactions (ledger.md, "State tree").
	maxSpeculation = 8
	// maxAhead is how many finalized blocks may wait for the disk before this node
	// proposes and checks nothing more. With the three that may be on their way to be
	// final it stays below maxSpeculation: a disk that is slower than consensus slows
	// blocks down, and does not make them empty.
	maxAhead = maxSpeculation - 4
	// defaultRoomPatience is how long a leader waits, before a block that is empty for
	// being too far above what is durable here, for that to change: a small part of the
	// least patience that the others have with it.
	defaultRoomPatience = 150 * time.Millisecond
	// maxOpenViews is how many views may pass without finalization before this
	// node proposes empty blocks: those that come to nothing stay in memory, and
	// in the log, until one is final.
	maxOpenViews = 64
	// pace is the least time between two blocks while fewer than fullPace
	// transactions wait: at low load, more blocks cost more and say no more.
	pace     = chain.FastestPaceMs * time.Millisecond
	fullPace = 64
	// busyPace is the least time between two blocks while busyRate transactions a second
	// or more come in, and at lower rates as much less as they are: what a block costs
	// each node whatever it carries is then spread over as many more.
	busyPace = 50 * time.Millisecond
	busyRate = 13_000
	// maxClockLead is how far a block's time may be ahead of the local clock.
	maxClockLead = 500 * time.Millisecond
)

var (
	errInvalid    = errors.New("node: invalid block")
	errSuperseded = errors.New("node: the block does not descend from the last finalized one")
)

// application makes, checks and keeps blocks: the engine.App of a node.
type application struct {
	genesis    *chain.Genesis
	committees *committees
	keys       []crypto.PrivateKey // consensus keys; none: an observer
	executor   *execution.Executor
	store      *store.Store
	pool       *pool
	evidence   *evidencePool
	peering    peering
	metrics    *metrics
	log        *slog.Logger
	faults     chan error        // the first one; the node stops
	trusted    *light.Checkpoint // what the end of its epoch has to be; nil: none
	hashing    sync.WaitGroup
	auditor    *auditor
	foresight  foresight
	compiler   compiler
	recent     recent
	load       load
	// roomPatience is how long awaitRoom waits: defaultRoomPatience but in tests.
	roomPatience time.Duration

	mu           sync.Mutex
	root         *branch                   // last finalized
	base         *store.Snapshot           // the state after root, under all branches
	retired      []*store.Snapshot         // earlier bases, which executions may still read
	executing    int                       // executions under way
	proven       *state.Tree               // before root: what root's header proves; nil if that is not at hand
	branches     map[crypto.Digest]*branch // the root and whatever was executed on it
	decoded      map[crypto.Digest]*chain.DecodedBlock
	order        []crypto.Digest // of decoded, the oldest first
	decodedBytes int
	advanced     chan struct{} // closed and replaced when root moves
}

var _ engine.App = (*application)(nil)

// openApplication reads the state that the store holds; a new store is given the
// genesis state first.
func openApplication(g *chain.Genesis, executor *execution.Executor, st *store.Store) (*application, error) {
	if _, ok := st.Latest(); !ok {
		if _, version, joining, err := st.ImportGoal(); err != nil || joining {
			return nil, errors.Join(fmt.Errorf("node: the data directory has a part of the state after block %d, from a join that did not end: "+
				"start with its checkpoint, or remove the data directory to replay from genesis", version), err)
		}
		if err := commitGenesis(g, st); err != nil {
			return nil, err
		}
	}
	tip, ok := st.Latest()
	if !ok {
		return nil, errors.New("node: the store is empty after genesis")
	}
	first, ok, err := st.Tip(0)
	if err != nil || !ok || first.Digest != g.Digest() {
		return nil, errors.Join(errors.New("node: the data directory belongs to another genesis"), err)
	}
	root, err := storedBranch(g, st, tip)
	if err != nil {
		return nil, err
	}
	var proven *state.Tree
	if tip.Height > 0 {
		// The store writes the tree every few blocks. If it did so with the last
		// one, the version before is not there, and proofs wait for the next block.
		if proven, err = st.OpenTree(tip.Height - 1); err != nil && !errors.Is(err, state.ErrNoVersion) {
			return nil, fmt.Errorf("opening the state tree: %w", err)
		}
	}
	base, err := st.Snapshot()
	if err != nil {
		return nil, err
	}
	root.state = newLayer(base, nil)
	a := &application{
		genesis: g, executor: executor, store: st, root: root, base: base, proven: proven,
		branches: map[crypto.Digest]*branch{root.digest: root}, decoded: map[crypto.Digest]*chain.DecodedBlock{}, advanced: make(chan struct{}),
		roomPatience: defaultRoomPatience, faults: make(chan error, 1), committees: newCommittees(st.State()), evidence: newEvidencePool(),
	}
	a.auditor, a.foresight.fault = newAuditor(a.fault), a.fault
	a.compiler.fault, a.compiler.log = a.fault, slog.New(slog.DiscardHandler)
	a.compiler.open = func() (closableState, error) { return st.Snapshot() }
	return a, nil
}

// peering is told whom to be connected with.
type peering interface {
	follow(members []staking.Member)
}

// storedBranch returns the last committed block as a branch without a state.
func storedBranch(g *chain.Genesis, st *store.Store, tip store.Tip) (*branch, error) {
	tree, err := st.OpenTree(tip.Height)
	if err != nil {
		return nil, fmt.Errorf("opening the state tree: %w", err)
	}
	b := &branch{digest: tip.Digest, height: tip.Height, timeMs: g.TimeMs, hashed: make(chan struct{})}
	b.tree.Store(tree)
	close(b.hashed)
	if b.receiptRoot, err = storedReceiptRoot(st, tip.Height); err != nil {
		return nil, err
	}
	if tip.Height > 0 {
		header, err := storedHeader(st, tip.Height)
		if err != nil {
			return nil, err
		}
		b.timeMs = header.TimeMs
	}
	return b, nil
}

func commitGenesis(g *chain.Genesis, st *store.Store) error {
	overlay := state.NewOverlay(st.State())
	if err := execution.Genesis(overlay, g); err != nil {
		return err
	}
	changes := overlay.Changes()
	tree, err := st.NewTree().Next(0, changes, runtime.GOMAXPROCS(0))
	if err != nil {
		return fmt.Errorf("hashing the genesis state: %w", err)
	}
	return st.Commit(store.Finalized{Height: 0, Digest: g.Digest(), Changes: changes, Tree: tree})
}

func storedReceiptRoot(st *store.Store, height chain.Height) (crypto.Digest, error) {
	raw, ok, err := st.Receipts(height)
	if err != nil {
		return crypto.Digest{}, err
	}
	if !ok {
		return (&chain.BlockReceipts{}).Root(), nil
	}
	root, err := chain.ReceiptsRoot(raw)
	if err != nil {
		return crypto.Digest{}, fmt.Errorf("receipts of block %d: %w", height, err)
	}
	return root, nil
}

func storedHeader(st *store.Store, height chain.Height) (chain.Header, error) {
	raw, ok, err := st.Header(height)
	if err != nil || !ok {
		return chain.Header{}, errors.Join(fmt.Errorf("header of block %d is not stored", height), err)
	}
	return chain.DecodeHeader(raw)
}

// Last returns the durable floor.
func (a *application) Last() (replica.Floor, error) {
	tip, _ := a.store.Latest()
	reigns, err := a.reigns()
	if err != nil {
		return replica.Floor{}, err
	}
	floor := replica.Floor{Height: uint64(tip.Height), Digest: tip.Digest, Reigns: reigns}
	if tip.Height == 0 {
		return floor, nil
	}
	proven, ok, err := a.Finalized(uint64(tip.Height))
	if err != nil || !ok {
		return replica.Floor{}, errors.Join(fmt.Errorf("block %d is not stored whole", tip.Height), err)
	}
	block, err := a.decode(proven.Payload)
	if err != nil {
		return replica.Floor{}, err
	}
	floor.Certificate, floor.Empty, floor.Closing = proven.Certificate, block.Block().IsEmpty(), block.Header().Closing
	return floor, nil
}

// Evidence keeps evidence for a block that this node leads.
func (a *application) Evidence(e consensus.Evidence) { a.evidence.add(e) }

// Enter makes the members of the epoch's committee and of the next one's the
// peers to be connected with.
func (a *application) Enter(reign, next replica.Reign) {
	var members []staking.Member
	for _, r := range []replica.Reign{reign, next} {
		if r.Committee == nil {
			continue
		}
		if c, ok := a.committees.of(r.Committee.Epoch()); ok {
			members = append(members, c.members...)
		}
	}
	a.peering.follow(members)
}

// Finalized returns a finalized block by height.
func (a *application) Finalized(height uint64) (engine.Proven, bool, error) {
	tip, ok, err := a.store.Tip(chain.Height(height))
	if err != nil || !ok {
		return engine.Proven{}, false, err
	}
	payload, ok, err := a.store.Block(chain.Height(height))
	if err != nil || !ok {
		return engine.Proven{}, false, err
	}
	raw, ok, err := a.store.Certificate(chain.Height(height))
	if err != nil || !ok {
		return engine.Proven{}, false, err
	}
	certificate, err := consensus.DecodeCertificate(raw)
	if err != nil {
		return engine.Proven{}, false, fmt.Errorf("certificate of block %d: %w", height, err)
	}
	return engine.Proven{Digest: tip.Digest, Payload: payload, Certificate: certificate}, true, nil
}

// FinalizedByDigest returns the payload of a finalized block.
func (a *application) FinalizedByDigest(digest crypto.Digest) ([]byte, bool, error) {
	height, ok, err := a.store.HeightOf(digest)
	if err != nil || !ok || height == 0 {
		return nil, false, err
	}
	return a.store.Block(height)
}

// Inspect reads a payload.
func (a *application) Inspect(payload []byte) (consensus.Block, error) {
	block, err := a.decode(payload)
	if err != nil {
		return consensus.Block{}, err
	}
	return consensusBlock(block), nil
}

func consensusBlock(b *chain.DecodedBlock) consensus.Block {
	return consensus.Block{
		Digest: b.Digest(), Parent: b.Header().Parent, Height: uint64(b.Header().Height), Empty: b.Block().IsEmpty(), Closing: b.Header().Closing, Payload: b.Raw(),
	}
}

func (a *application) decode(payload []byte) (*chain.DecodedBlock, error) {
	block, err := chain.DecodeBlock(payload, a.pool.Get)
	if err != nil {
		return nil, err
	}
	a.remember(block)
	return block, nil
}

// remember keeps a decoded block for the looks that usually follow.
func (a *application) remember(block *chain.DecodedBlock) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.decoded[block.Digest()] != nil {
		return
	}
	a.decoded[block.Digest()] = block
	a.order = append(a.order, block.Digest())
	a.decodedBytes += len(block.Raw())
	for len(a.order) > maxDecoded || a.decodedBytes > maxDecodedBytes {
		a.decodedBytes -= len(a.decoded[a.order[0]].Raw())
		delete(a.decoded, a.order[0])
		a.order = a.order[1:]
	}
}

// forget lets go of decoded blocks up to a height: they are final, or will never be.
func (a *application) forget(height chain.Height) {
	a.mu.Lock()
	defer a.mu.Unlock()
	kept := a.order[:0]
	for _, digest := range a.order {
		if block := a.decoded[digest]; block.Header().Height > height {
			kept = append(kept, digest)
		} else {
			a.decodedBytes -= len(block.Raw())
			delete(a.decoded, digest)
		}
	}
	a.order = kept
}

func (a *application) decodedBlock(b consensus.Block) (*chain.DecodedBlock, error) {
	a.mu.Lock()
	block := a.decoded[b.Digest]
	a.mu.Unlock()
	if block != nil {
		return block, nil
	}
	return a.decode(b.Payload)
}

func (a *application) branch(digest crypto.Digest) (*branch, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b, ok := a.branches[digest]
	return b, ok
}

// Propose builds a block on an executed parent.
func (a *application) Propose(ctx context.Context, r engine.ProposeRequest) (consensus.Block, error) {
	parent, ok := a.branch(r.Parent.Digest)
	if !ok {
		return consensus.Block{}, fmt.Errorf("node: parent %s is not executed", r.Parent.Digest.Short())
	}
	key, ok := a.leaderKey(r.Round)
	if !ok {
		return consensus.Block{}, fmt.Errorf("node: this node does not lead view %d of epoch %d", r.Round.View, r.Round.Epoch)
	}
	room := r.Round.View <= r.LastFinalized.View+maxOpenViews && a.awaitRoom(ctx, parent)
	content := content{
		budget: a.load.budget(r.Round.View, r.Parent.View), included: a.includedIn(parent),
		extras: staking.Extras{Finalization: r.Finalization, LateVotes: r.Late},
	}
	if !room {
		content.budget = execution.Budget{}
	} else {
		content.extras.Evidence = a.evidence.offer(a.store.State())
		waits, err := a.drawsWait(parent)
		if err != nil {
			return consensus.Block{}, err
		}
		news := len(parent.outcome.Receipts.Begin) > 0 // that this block's header proves
		if len(content.extras.Evidence) == 0 && !waits && !news {
			a.pool.await(ctx, r.Idle, 1, content.included)
		}
		if rest := pace - time.Since(time.UnixMilli(int64(parent.timeMs))); rest > 0 {
			a.pool.await(ctx, min(rest, pace), fullPace, content.included)
		}
		awaitBusy(ctx, parent, a.pool.ready()-content.included.count)
	}
	if err := ctx.Err(); err != nil {
		return consensus.Block{}, err
	}
	defer a.enter()()
	if _, ok := a.branch(r.Parent.Digest); !ok {
		return consensus.Block{}, errSuperseded
	}
	tree, receiptRoot, err := parent.roots(ctx)
	if err != nil {
		return consensus.Block{}, err
	}
	header := a.header(r.Round, key, parent)
	header.StateRoot, header.ReceiptRoot = tree.Root(), receiptRoot
	block, outcome, err := a.build(parent, header, content)
	if err != nil {
		return consensus.Block{}, err
	}
	a.remember(block)
	if _, err := a.addBranch(newBranch(parent, block, outcome)); err != nil {
		return consensus.Block{}, err
	}
	return consensusBlock(block), nil
}

// awaitBusy waits until the time between parent and its child is what it should be at
// the rate at which transactions came since parent, of which so many wait.
func awaitBusy(ctx context.Context, parent *branch, waiting int) {
	since := time.Since(time.UnixMilli(int64(parent.timeMs)))
	rest := paceOf(waiting, since) - since
	if rest <= 0 {
		return
	}
	timer := time.NewTimer(min(rest, busyPace))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// paceOf returns the time between two blocks at which so many transactions wait so long
// after the first.
func paceOf(waiting int, since time.Duration) time.Duration {
	rate := float64(waiting) / max(since, pace).Seconds()
	return time.Duration(min(max(rate/busyRate, 0), 1) * float64(busyPace))
}

// drawsWait reports whether the child of parent is to follow at once, for the sake of draws.
func (a *application) drawsWait(parent *branch) (bool, error) {
	defer a.enter()()
	if _, ok := a.branch(parent.digest); !ok {
		return false, errSuperseded
	}
	return execution.DrawsWait(parent.state, parent.height)
}

// content is what a leader has to put into a block.
type content struct {
	budget   execution.Budget
	extras   staking.Extras
	included inclusion // by the blocks that it stands on
}

// inclusion tells which transactions stand in blocks that are not final, and how
// many there are.
type inclusion struct {
	has   func(chain.TxID) bool
	count int
}

// awaitRoom reports whether the child of parent may carry transactions, and waits
// for that for a while: where blocks are made durable more slowly than they are agreed
// on, an empty one in the place of each that has to wait would be no quicker, and
// transactions would not get in as long as that lasts.
func (a *application) awaitRoom(ctx context.Context, parent *branch) bool {
	timer := time.NewTimer(a.roomPatience)
	defer timer.Stop()
	for {
		a.mu.Lock()
		root, advanced := a.root.height, a.advanced
		a.mu.Unlock()
		if parent.height+1 < root+maxSpeculation {
			return true
		}
		select {
		case <-advanced:
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

func (a *application) header(round consensus.Round, key crypto.PrivateKey, parent *branch) chain.Header {
	a.mu.Lock()
	finalized := a.root.height
	a.mu.Unlock()
	epoch, view := uint64(round.Epoch), uint64(round.View)
	return chain.Header{
		Version: chain.BlockVersion, ChainID: a.genesis.ChainID, Height: parent.height + 1, Epoch: epoch, View: view,
		Parent: parent.digest, TimeMs: max(chain.TimeMs(time.Now().UnixMilli()), parent.timeMs+1),
		Proposer: key.Public(), Finalized: min(finalized, parent.height),
		VRFProof: key.VRFProve(crypto.DomainVRFInput, chain.VRFInput(a.genesis.ChainID, epoch, view)),
	}
}

// build selects, executes and encodes.
func (a *application) build(parent *branch, header chain.Header, c content) (*chain.DecodedBlock, execution.Outcome, error) {
	output, err := crypto.VRFOutput(header.VRFProof)
	if err != nil {
		return nil, execution.Outcome{}, err
	}
	header.VRFOutput = output
	began := time.Now()
	if err := a.executor.Prepare(parent.state, &header); err != nil {
		return nil, execution.Outcome{}, a.fault(fmt.Errorf("preparing block %d: %w", header.Height, err))
	}
	params, err := execution.ParamsOf(parent.state)
	if err != nil {
		return nil, execution.Outcome{}, a.fault(fmt.Errorf("preparing block %d: %w", header.Height, err))
	}
	next, count := a.pool.selection(2*c.budget.Txs, params.BlockGas, c.included.has)
	c.budget.Txs = min(c.budget.Txs, count)
	built, err := a.executor.Build(parent.state, &header, c.budget, c.extras, next)
	if err != nil {
		err = fmt.Errorf("building block %d: %w", header.Height, err)
		if !errors.Is(err, execution.ErrInvalidBlock) {
			return nil, execution.Outcome{}, a.fault(err)
		}
		return nil, execution.Outcome{}, err
	}
	a.metrics.execution.Observe(time.Since(began).Seconds())
	a.load.observe(len(built.Included), time.Since(began))
	a.pool.refused(built.Dropped)
	block := chain.Block{Header: header}
	txs, ids := make([]chain.DecodedTx, len(built.Included)), make([]crypto.Digest, len(built.Included))
	for i, tx := range built.Included {
		txs[i], ids[i] = tx.DecodedTx, tx.ID()
	}
	built.Extras.Put(&block.Body)
	block.Header.TxRoot = chain.ListRoot(crypto.DomainTxRoot, ids)
	block.Header.ExtraRoot = block.Body.ExtraRoot()
	decoded, err := chain.AssembleBlock(block.Encode(), txs)
	if err != nil {
		return nil, execution.Outcome{}, fmt.Errorf("assembling the block just built: %w", err)
	}
	return decoded, built.Outcome, nil
}

// includedIn reports for a transaction whether a block between the root and
// parent has it already.
func (a *application) includedIn(parent *branch) inclusion {
	var chainOf []*branch
	count := 0
	for b := parent; b != nil; b = b.above(a) {
		chainOf = append(chainOf, b)
		count += len(b.ids)
	}
	return inclusion{count: count, has: func(id chain.TxID) bool {
		for _, b := range chainOf {
			if b.ids[id] {
				return true
			}
		}
		return false
	}}
}

// stands reports whether a block that is not final yet has a transaction.
func (a *application) stands(id chain.TxID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, b := range a.branches { // order-free: any
		if b != a.root && b.ids[id] {
			return true
		}
	}
	return false
}

// above returns the branch's parent, nil for the root.
func (b *branch) above(a *application) *branch {
	a.mu.Lock()
	defer a.mu.Unlock()
	return b.parent
}

// addBranch makes an executed block known and begins to hash it. A block that
// is known already stays as it is. It is errSuperseded if the block's parent is
// not known any more.
func (a *application) addBranch(b *branch) (*branch, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if known := a.branches[b.digest]; known != nil {
		return known, nil
	}
	if a.branches[b.parent.digest] != b.parent {
		return nil, errSuperseded
	}
	a.branches[b.digest] = b
	a.hashing.Go(b.hash)
	return b, nil
}

// enter says that an execution looks up its parent and reads its state from now
// on until the returned function is called: for so long the snapshots that the
// parent's layers stand on stay open, whatever is finalized meanwhile.
func (a *application) enter() (leave func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.executing++
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.executing--
		a.release()
	}
}

// release closes the snapshots that nothing reads any more. The caller holds
// a.mu.
func (a *application) release() {
	if a.executing > 0 {
		return
	}
	var errs []error
	for _, s := range a.retired {
		errs = append(errs, s.Close())
	}
	a.retired = nil
	if err := errors.Join(errs...); err != nil {
		a.raise(fmt.Errorf("closing a snapshot: %w", err))
	}
}

// close waits for the hashing that is under way, ends an audit, and lets go of
// the store. No other method may run or be called.
func (a *application) close() error {
	a.hashing.Wait()
	a.auditor.close()
	a.foresight.work.Wait()
	a.compiler.stop()
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	for _, s := range append(a.retired, a.base) {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}
