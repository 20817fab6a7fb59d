package main

import (
	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// rule is what can be violated.
type rule string

const (
	ruleI1          rule = "I1"          // one notarize in a view
	ruleI2          rule = "I2"          // never nullify and finalize
	ruleI3          rule = "I3"          // no notarize after nullify
	ruleI4          rule = "I4"          // one N(v), one F(v)
	ruleI5          rule = "I5"          // F(v) excludes X(v)
	ruleI6          rule = "I6"          // skipped views are proven to be nullified
	ruleVote        rule = "vote"        // the other conditions of a vote
	ruleCertificate rule = "certificate" // a quorum of true signatures
	ruleDurable     rule = "durability"  // synced before it leaves
	ruleLog         rule = "log"         // a rewritten log forgets no vote
	ruleAgreement   rule = "agreement"   // one digest at a height
	ruleOrder       rule = "order"       // finalized in chain order
	ruleSlashable   rule = "slashable"   // honest nodes are never convicted
	ruleConviction  rule = "conviction"  // the guilty are
	ruleBlame       rule = "blame"       // honest nodes are never blamed
	ruleLiveness    rule = "liveness"    // all go on when the faults are over
	ruleContract    rule = "contract"    // between replica and driver
	ruleHalt        rule = "halt"        // nobody stops for ever
	rulePanic       rule = "panic"       // nor breaks
)

// witness knows the rules of voting by heart: it reads every honest node's log
// as it is written, sees every vote that leaves, remembers all of it through
// crashes and lost logs, and shares no code with the core: only the decoding of
// votes and certificates.
type witness struct {
	fail    func(r rule, format string, args ...any)
	cast    *cast
	chain   []crypto.Digest // what anybody finalized, by height − 1
	blocks  map[crypto.Digest]toyBlock
	reigns  map[consensus.Epoch]*reign // of the finalized chain
	proofs  map[consensus.Round]*page  // what honest nodes hold certificates of
	left    map[slot]*page             // what ever left honest nodes
	durable map[signedVote]bool        // what was ever durable at honest nodes
	genuine map[signature]bool         // signatures known to hold
	passed  map[crypto.Digest]bool     // certificates found to be good, by encoding
}

// slot is one consensus key in one round.
type slot struct {
	key   crypto.PublicKey
	round consensus.Round
}

type signedVote struct {
	key       crypto.PublicKey
	statement consensus.Statement
}

type signature struct {
	vote signedVote
	sig  crypto.Signature
}

// page is what was said of one view: votes of one key, certificates.
type page struct {
	notarized, finalized *consensus.Proposal
	nullified            bool
	n, f                 *consensus.Proposal
	x                    bool
}

// notebook is one node's log of one epoch as the witness reads it.
type notebook struct {
	key   crypto.PublicKey // that signs in the epoch; zero: none of the node's
	epoch consensus.Epoch
	start crypto.Digest
	pages map[consensus.View]*page
	view  consensus.View // the node's current one
	final consensus.View
	// Own votes and certificates that are written and not synced. An own vote may
	// be in such a certificate: it proves nothing to anybody before the sync.
	unsure   map[consensus.Statement]bool
	unproven []*consensus.Certificate
}

func newWitness(c *cast, r *realm, fail func(rule, string, ...any)) *witness {
	return &witness{
		fail: fail, cast: c, blocks: map[crypto.Digest]toyBlock{},
		reigns:  map[consensus.Epoch]*reign{1: r.first[0], 2: r.first[1]},
		proofs:  map[consensus.Round]*page{},
		left:    map[slot]*page{},
		durable: map[signedVote]bool{},
		genuine: map[signature]bool{},
		passed:  map[crypto.Digest]bool{},
	}
}

// finalized takes a block that an honest node finalizes, in the order of its
// chain, and the state after it.
func (w *witness) finalized(node int, s *state) {
	b := s.block
	switch have := uint64(len(w.chain)); {
	case b.Height == have+1:
		w.chain = append(w.chain, b.Digest)
		w.reigns[s.next.committee.Epoch()] = s.next
	case b.Height == 0 || b.Height > have:
		w.fail(ruleOrder, "node %d finalizes height %d, and nobody height %d", node, b.Height, have+1)
		return
	}
	if other := w.chain[b.Height-1]; other != b.Digest {
		w.fail(ruleAgreement, "node %d finalizes %s at height %d, where %s is final", node, b.Digest.Short(), b.Height, other.Short())
	}
}

// Tags of log records, as the core's log format numbers them.
const (
	tagVote        = 2
	tagCertificate = 3
	tagVerdict     = 4
	tagBlock       = 5
)

type taggedRecord struct {
	_    struct{} `cbor:",toarray"`
	Tag  uint8
	Body codec.Raw
}

type verdictRecord struct {
	_    struct{} `cbor:",toarray"`
	View consensus.View
	OK   bool
}

// maxRecordBytes holds the record of a toy block or of a large certificate.
const maxRecordBytes = consensus.MaxCertificateBytes + 1024

func newNotebook(key crypto.PublicKey, epoch consensus.Epoch, start crypto.Digest) *notebook {
	return &notebook{key: key, epoch: epoch, start: start, view: 1, pages: map[consensus.View]*page{}, unsure: map[consensus.Statement]bool{}}
}

func (n *notebook) page(v consensus.View) *page {
	p := n.pages[v]
	if p == nil {
		p = &page{}
		n.pages[v] = p
	}
	return p
}

// survived says that everything in the notebook is durable: it was read from a
// disk after a crash.
func (w *witness) survived(n *notebook) {
	for v, p := range n.pages { // order-free: a set into a set
		for _, vote := range []struct {
			kind     consensus.Kind
			proposal *consensus.Proposal
		}{{consensus.KindNotarize, p.notarized}, {consensus.KindFinalize, p.finalized}} {
			if vote.proposal != nil {
				w.durable[signedVote{key: n.key, statement: consensus.Statement{Kind: vote.kind, Proposal: *vote.proposal}}] = true
			}
		}
		if p.nullified {
			round := consensus.Round{Epoch: n.epoch, View: v}
			w.durable[signedVote{key: n.key, statement: consensus.Statement{Kind: consensus.KindNullify, Proposal: consensus.Proposal{Round: round}}}] = true
		}
	}
}

// reopen reads a whole log, in whatever order it is.
func (w *witness) reopen(n *notebook, records [][]byte) {
	for _, record := range records {
		w.read(n, record, func(consensus.Vote) {})
	}
	w.prove(n)
	for v, p := range n.pages { // order-free: a maximum
		n.final = max(n.final, viewIf(p.f != nil, v))
		n.view = max(n.view, viewIf(p.notarized != nil || p.nullified || p.finalized != nil, v))
	}
}

func viewIf(is bool, v consensus.View) consensus.View {
	if is {
		return v
	}
	return 0
}

// write reads what a node appends to its log and asks the rules of its votes.
func (w *witness) write(n *notebook, records [][]byte) {
	for _, record := range records {
		w.read(n, record, func(v consensus.Vote) {
			w.ask(n, v.Statement())
			n.unsure[v.Statement()] = true
		})
	}
}

// synced says that everything written so far is durable.
func (w *witness) synced(n *notebook) {
	for s := range n.unsure { // order-free: a set into a set
		w.durable[signedVote{key: n.key, statement: s}] = true
	}
	clear(n.unsure)
	w.prove(n)
}

func (w *witness) prove(n *notebook) {
	for _, c := range n.unproven {
		w.certify(c)
	}
	n.unproven = nil
}

// rewritten compares a log that takes the place of another: no vote above its
// last finalization may be missing, and the finalization is no older.
func (w *witness) rewritten(old *notebook, records [][]byte) {
	fresh := newNotebook(old.key, old.epoch, old.start)
	w.reopen(fresh, records)
	if fresh.final < old.final {
		w.fail(ruleLog, "a rewritten log has finalized view %d, the old one %d", fresh.final, old.final)
	}
	for v, p := range old.pages { // order-free: at most the text of the failure depends on it
		q := fresh.page(v)
		if v > fresh.final && !(same(p.notarized, q.notarized) && p.nullified == q.nullified && same(p.finalized, q.finalized)) {
			w.fail(ruleLog, "a rewritten log forgets a vote in view %d", v)
		}
	}
}

func same(a, b *consensus.Proposal) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}

func (w *witness) read(n *notebook, data []byte, voted func(consensus.Vote)) {
	var r taggedRecord
	err := codec.Unmarshal(data, &r, maxRecordBytes)
	switch {
	case err != nil:
	case r.Tag == tagVote:
		var v consensus.Vote
		if v, err = consensus.DecodeVote(r.Body); err == nil {
			voted(v)
			n.note(v.Statement())
		}
	case r.Tag == tagCertificate:
		var c *consensus.Certificate
		if c, err = consensus.DecodeCertificate(r.Body); err == nil {
			w.checkQuorum(c)
			n.unproven = append(n.unproven, c)
			n.certify(w, c.Statement)
		}
	case r.Tag == tagVerdict:
		var v verdictRecord
		if err = codec.Unmarshal(r.Body, &v, maxRecordBytes); err == nil && v.OK {
			n.view = max(n.view, v.View+1)
		}
	case r.Tag == tagBlock:
		var b consensus.Block
		if err = codec.Unmarshal(r.Body, &b, maxRecordBytes); err == nil {
			w.block(b)
		}
	}
	if err != nil {
		w.fail(ruleLog, "a log record cannot be read: %v", err)
	}
}

// block learns what a digest stands for.
func (w *witness) block(b consensus.Block) {
	if _, known := w.blocks[b.Digest]; !known {
		if toy, err := readToy(b.Payload); err == nil {
			w.blocks[b.Digest] = toy
		}
	}
}

func (n *notebook) note(s consensus.Statement) {
	p, proposal := n.page(s.View()), s.Proposal
	switch s.Kind {
	case consensus.KindNotarize:
		p.notarized = &proposal
	case consensus.KindNullify:
		p.nullified = true
	case consensus.KindFinalize:
		p.finalized = &proposal
	}
}

func (n *notebook) certify(w *witness, s consensus.Statement) {
	p, proposal := n.page(s.View()), s.Proposal
	switch s.Kind {
	case consensus.KindNotarize:
		p.n = &proposal
	case consensus.KindNullify:
		p.x = true
		n.view = max(n.view, s.View()+1)
	case consensus.KindFinalize:
		p.f = &proposal
		n.view, n.final = max(n.view, s.View()+1), max(n.final, s.View())
	}
	p.unique(w, s)
}

// unique asks I4 and I5 of a page.
func (p *page) unique(w *witness, s consensus.Statement) {
	switch {
	case s.Kind != consensus.KindNullify && p.n != nil && p.f != nil && *p.n != *p.f:
		w.fail(ruleI4, "view %d of epoch %d has two certified proposals, %s and %s", s.View(), s.Round().Epoch, p.n.Digest.Short(), p.f.Digest.Short())
	case p.f != nil && p.x:
		w.fail(ruleI5, "view %d of epoch %d is finalized and nullified", s.View(), s.Round().Epoch)
	}
}

// certify takes a certificate that an honest node holds: it must be a true
// quorum's, and fit to all others.
func (w *witness) certify(c *consensus.Certificate) {
	s := c.Statement
	all := w.proofs[s.Round()]
	if all == nil {
		all = &page{}
		w.proofs[s.Round()] = all
	}
	other := func(have **consensus.Proposal) {
		if *have != nil && **have != s.Proposal {
			w.fail(ruleI4, "%q is certified, and %s is too", s, (*have).Digest.Short())
		}
		proposal := s.Proposal
		*have = &proposal
	}
	switch s.Kind {
	case consensus.KindNotarize:
		other(&all.n)
	case consensus.KindNullify:
		all.x = true
	case consensus.KindFinalize:
		other(&all.f)
	}
	all.unique(w, s)
}

// checkQuorum adds up the signatures of a certificate, one by one.
func (w *witness) checkQuorum(c *consensus.Certificate) {
	id := crypto.DomainHeader.Hash(consensus.EncodeCertificate(c))
	if w.passed[id] {
		return
	}
	w.passed[id] = true
	reign := w.reigns[c.Statement.Round().Epoch]
	if reign == nil {
		w.fail(ruleCertificate, "%q of epoch %d, which nobody began", c.Statement, c.Statement.Round().Epoch)
		return
	}
	signed, all, at := uint64(0), uint64(0), 0
	for i, m := range reign.members {
		all += m.weight
		if i/8 >= len(c.Signers) || c.Signers[i/8]>>(i%8)&1 == 0 {
			continue
		}
		if at >= len(c.Signatures) {
			w.fail(ruleCertificate, "%q has fewer signatures than signers", c.Statement)
			return
		}
		key := w.cast.people[m.who].keys[m.version].Public()
		if !w.holds(key, c.Statement, c.Signatures[at]) {
			w.fail(ruleCertificate, "%q has a false signature of signer %d", c.Statement, i)
			return
		}
		signed, at = signed+m.weight, at+1
	}
	if 3*signed <= 2*all {
		w.fail(ruleCertificate, "%q has the weight %d of %d behind it", c.Statement, signed, all)
	}
}

// holds reports whether the signature is good.
func (w *witness) holds(key crypto.PublicKey, s consensus.Statement, sig crypto.Signature) bool {
	id := signature{vote: signedVote{key: key, statement: s}, sig: sig}
	if good, known := w.genuine[id]; known {
		return good
	}
	good := key.Verify(s.Domain(), s.Payload(chainID), sig)
	w.genuine[id] = good
	return good
}

// ask asks the rules of a vote that is about to be written.
func (w *witness) ask(n *notebook, s consensus.Statement) {
	v := s.View()
	p := n.page(v)
	if n.key.IsZero() {
		w.fail(ruleVote, "%q of a node that is no validator", s)
	}
	switch s.Kind {
	case consensus.KindNotarize:
		w.askNotarize(n, p, s)
	case consensus.KindNullify:
		if p.finalized != nil {
			w.fail(ruleI2, "%q after a finalize", s)
		}
		if v != n.view {
			w.fail(ruleVote, "%q in view %d", s, n.view)
		}
	case consensus.KindFinalize:
		if p.nullified {
			w.fail(ruleI2, "%q after a nullify", s)
		}
		if p.finalized != nil || p.n == nil || *p.n != s.Proposal || v <= n.final {
			w.fail(ruleVote, "%q, finalized view %d, without its notarization or a second time", s, n.final)
		}
	}
}

func (w *witness) askNotarize(n *notebook, p *page, s consensus.Statement) {
	v, parent := s.View(), s.Proposal.Parent
	if p.notarized != nil {
		w.fail(ruleI1, "%q after another notarize", s)
	}
	if p.nullified {
		w.fail(ruleI3, "%q after a nullify", s)
	}
	if v != n.view || p.x || p.n != nil && *p.n != s.Proposal || p.f != nil || parent < n.final {
		w.fail(ruleVote, "%q in view %d, finalized view %d, against a certificate", s, n.view, n.final)
	}
	for u := parent + 1; u < v; u++ {
		if !n.page(u).x {
			w.fail(ruleI6, "%q skips view %d, which is not nullified", s, u)
			return
		}
	}
	below := n.start
	if parent > 0 {
		on := n.page(parent)
		switch {
		case on.f != nil:
			below = on.f.Digest
		case on.n != nil:
			below = on.n.Digest
		default:
			w.fail(ruleI6, "%q on view %d, which is not certified", s, parent)
			return
		}
	}
	if again := parent > 0 && w.blocks[below].Closing; again != (s.Proposal.Digest == below) {
		w.fail(ruleVote, "%q on %s: the closing block again: %t", s, below.Short(), again)
	} else if b, known := w.blocks[s.Proposal.Digest]; !again && (!known || b.Parent != below) {
		w.fail(ruleVote, "%q: its block's parent is %s, not %s", s, b.Parent.Short(), below.Short())
	}
}

// leaves takes a vote that leaves an honest node.
func (w *witness) leaves(n *notebook, v consensus.Vote) {
	s := v.Statement()
	_, sig := v.By()
	vote := signedVote{key: n.key, statement: s}
	w.genuine[signature{vote: vote, sig: sig}] = true
	at := slot{key: n.key, round: s.Round()}
	p := w.left[at]
	if p == nil {
		p = &page{}
		w.left[at] = p
	}
	proposal := s.Proposal
	switch s.Kind {
	case consensus.KindNotarize:
		switch {
		case p.notarized != nil && *p.notarized != proposal:
			w.fail(ruleI1, "%q leaves after %s", s, p.notarized.Digest.Short())
		case p.notarized == nil && p.nullified:
			w.fail(ruleI3, "%q leaves after a nullify", s)
		case p.notarized == nil:
			w.askSkipped(n, s)
		}
		p.notarized = &proposal
	case consensus.KindNullify:
		p.nullified = true
	case consensus.KindFinalize:
		if p.finalized != nil && *p.finalized != proposal {
			w.fail(ruleSlashable, "%q leaves after %s", s, p.finalized.Digest.Short())
		}
		p.finalized = &proposal
	}
	if p.nullified && p.finalized != nil {
		w.fail(ruleI2, "%q leaves: nullify and finalize in one view", s)
	}
	if logged := w.inLog(n, s); !logged || n.unsure[s] {
		w.fail(ruleDurable, "%q leaves, written %t, synced %t", s, logged, logged && !n.unsure[s])
	}
}

// askSkipped asks I6 once more, of what really leaves.
func (w *witness) askSkipped(n *notebook, s consensus.Statement) {
	for u := s.Proposal.Parent + 1; u < s.View(); u++ {
		if !n.page(u).x {
			w.fail(ruleI6, "%q leaves and skips view %d, which is not nullified", s, u)
			return
		}
	}
}

func (w *witness) inLog(n *notebook, s consensus.Statement) bool {
	p := n.page(s.View())
	switch s.Kind {
	case consensus.KindNotarize:
		return p.notarized != nil && *p.notarized == s.Proposal
	case consensus.KindFinalize:
		return p.finalized != nil && *p.finalized == s.Proposal
	case consensus.KindNullify:
		return p.nullified
	}
	return false
}

// certificateLeaves takes a certificate that leaves an honest node: if the
// node's own signature is in it, that vote was durable.
func (w *witness) certificateLeaves(who int, c *consensus.Certificate) {
	w.certify(c)
	r := w.reigns[c.Statement.Round().Epoch]
	if r == nil {
		return
	}
	signer, member := r.signer(who)
	if !member || !c.Has(signer) {
		return
	}
	if !w.durable[signedVote{key: r.committee.Validator(signer).Key, statement: c.Statement}] {
		w.fail(ruleDurable, "certificate %q leaves with a vote in it that was never synced", c.Statement)
	}
}
