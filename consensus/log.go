package consensus

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// ErrForeignLog says that a log is of another chain, epoch or start: an old
// epoch's log must never speak in a new one.
var ErrForeignLog = errors.New("consensus: log of another epoch")

// Tags of the records [tag, body].
const (
	recordHeader uint8 = iota + 1
	recordVote
	recordCertificate
	recordVerdict
	recordBlock
	recordEvidence
)

// logHeader opens a log and names what it is a log of.
type logHeader struct {
	_       struct{} `cbor:",toarray"`
	ChainID string
	Epoch   Epoch
	Start   crypto.Digest
	// Complete are the keys whose every vote of the epoch is in the log. With
	// another, one that came into its node later, or when the log began after the
	// epoch did, a node only observes.
	Complete []crypto.PublicKey
}

type logVerdict struct {
	_    struct{} `cbor:",toarray"`
	View View
	OK   bool
}

// maxRecordBytes holds a block record.
const maxRecordBytes = MaxPayloadBytes + 128

func record(tag uint8, body []byte) []byte {
	return codec.Marshal(envelope{Tag: tag, Body: body})
}

func headerRecord(h logHeader) []byte { return record(recordHeader, codec.Marshal(h)) }
func voteRecord(v Vote) []byte        { return record(recordVote, EncodeVote(v)) }
func certificateRecord(cert *Certificate) []byte {
	return record(recordCertificate, EncodeCertificate(cert))
}

// blockRecord is record(recordBlock, codec.Marshal(b)) without the copies of the
// payload in between: every validator writes every block.
func blockRecord(b Block) []byte {
	const heads = 128 // digests, numbers and heads take less
	out := codec.AppendArray(make([]byte, 0, heads+len(b.Payload)), 2)
	out = codec.AppendUint(out, uint64(recordBlock))
	out = codec.AppendArray(out, 6)
	out = codec.AppendBytes(out, b.Digest[:])
	out = codec.AppendBytes(out, b.Parent[:])
	out = codec.AppendUint(out, b.Height)
	out = codec.AppendBool(out, b.Empty)
	out = codec.AppendBool(out, b.Closing)
	return codec.AppendBytes(out, b.Payload)
}

func verdictRecord(v View, ok bool) []byte {
	return record(recordVerdict, codec.Marshal(logVerdict{View: v, OK: ok}))
}

func evidenceRecord(e Evidence) []byte { return record(recordEvidence, EncodeEvidence(e)) }

func (c *Core) log(rec []byte) {
	if !c.halted {
		c.records = append(c.records, rec)
	}
}

// logVerdict writes down how a certification ended, once.
func (c *Core) logVerdict(vs *viewState, ok bool) {
	if vs.verdict == nil {
		vs.verdict = &ok
		c.log(verdictRecord(vs.view, ok))
	} else if *vs.verdict != ok {
		panic(fmt.Sprintf("consensus: the certification of view %d was %t and is %t: the application is not deterministic", vs.view, *vs.verdict, ok))
	}
}

// logBlock puts a held block into the log, once.
func (c *Core) logBlock(d crypto.Digest) {
	if b := c.blocks[d]; b != nil && !b.logged {
		b.logged = true
		c.log(blockRecord(b.Block))
	}
}

// Floor is what the application has made durable. The zero certificate stands
// for the epoch's start, with Config.Start as its digest.
type Floor struct {
	Digest      crypto.Digest
	Empty       bool
	Closing     bool         // the block is the last of its epoch
	Certificate *Certificate // finalizes the block or, by descent, one above it
}

// Restore makes the core of an epoch from its log and the application's floor.
// Without records the log is begun; unless the configuration says that the key is
// Fresh, or if the floor is above the epoch's start, the node only observes in
// this epoch: it lost its log and with it the memory of what it signed. The same
// holds if the log ends below the floor: it is an old copy; and for a key that was
// not the node's when the log was begun: it may have signed elsewhere. The floor's certificate must have
// been verified.
func Restore(cfg Config, floor Floor, records [][]byte) (*Core, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	c := &Core{
		cfg:       cfg,
		blocks:    map[crypto.Digest]*heldBlock{},
		heard:     make([]Micros, cfg.Committee.Len()),
		blocked:   make([]bool, cfg.Committee.Len()),
		accused:   make([]bool, cfg.Committee.Len()),
		delivered: floor.Digest, durable: floor.Digest,
		durableEmpty: floor.Empty, deliveredClosing: floor.Closing, durableClosing: floor.Closing,
		leaderAt: never, certifyAt: never, retryAt: never,
	}
	if c.cfg.Verify == nil {
		c.cfg.Verify = verifyAlone
	}
	member := false
	if !cfg.Key.IsZero() {
		c.self, member = cfg.Committee.IndexOf(cfg.Key.Public())
	}
	header := logHeader{ChainID: cfg.ChainID, Epoch: cfg.Committee.Epoch(), Start: cfg.Start, Complete: []crypto.PublicKey{}}
	if len(records) == 0 {
		if floor.Certificate == nil {
			header.Complete = both(cfg.Fresh, cfg.Keys)
		}
		c.header, c.carried, c.evidence = &header, cfg.Carried, slices.Clone(cfg.Carried)
	} else {
		complete, err := c.replay(header, records)
		if err != nil {
			return nil, err
		}
		header.Complete = both(complete, cfg.Keys)
		if len(header.Complete) < len(complete) { // a key is gone, and may sign elsewhere from now on
			c.header = &header
		}
	}
	if f := floor.Certificate; f != nil {
		if f.Statement.Kind != KindFinalize || f.Statement.Round().Epoch != cfg.Committee.Epoch() {
			return nil, fmt.Errorf("consensus: floor: %q of epoch %d does not finalize in epoch %d", f.Statement, f.Statement.Round().Epoch, cfg.Committee.Epoch())
		}
		if f.View() > c.lastFinalized {
			if len(header.Complete) > 0 { // an old copy of the log
				header.Complete = []crypto.PublicKey{}
				c.header = &header
			}
			c.at(f.View()).finalization, c.floored = f, f
			c.lastFinalized, c.final = f.View(), f
		}
	} else if floor.Digest != cfg.Start {
		return nil, fmt.Errorf("consensus: floor: digest %s without a certificate is not the start %s", floor.Digest.Short(), cfg.Start.Short())
	}
	c.complete = header.Complete
	c.signs = member && slices.Contains(c.complete, cfg.Key.Public())
	c.resume()
	return c, nil
}

// both returns the keys that are in the two lists.
func both(a, b []crypto.PublicKey) []crypto.PublicKey {
	common := []crypto.PublicKey{}
	for _, k := range a {
		if slices.Contains(b, k) && !slices.Contains(common, k) {
			common = append(common, k)
		}
	}
	return common
}

func (cfg Config) check() error {
	if len(cfg.ChainID) == 0 || len(cfg.ChainID) > maxChainIDBytes {
		return fmt.Errorf("consensus: chain id of %d bytes, want 1 to %d", len(cfg.ChainID), maxChainIDBytes)
	}
	if cfg.Committee == nil {
		return errors.New("consensus: no committee")
	}
	if cfg.Retention == 0 {
		return errors.New("consensus: retention of 0 views, want at least 1")
	}
	return cfg.Timing.check()
}

// replay applies the records and returns the keys for which the log is complete.
// A later header can only take completeness away.
func (c *Core) replay(want logHeader, records [][]byte) ([]crypto.PublicKey, error) {
	var complete []crypto.PublicKey
	for i, rec := range records {
		var e envelope
		if err := codec.Unmarshal(rec, &e, maxRecordBytes); err != nil {
			return nil, fmt.Errorf("consensus: log record %d: %w", i, err)
		}
		if i == 0 && e.Tag != recordHeader {
			return nil, fmt.Errorf("%w: record 0 has tag %d, not the header's", ErrForeignLog, e.Tag)
		}
		if e.Tag == recordHeader {
			var h logHeader
			if err := codec.Unmarshal(e.Body, &h, maxRecordBytes); err != nil {
				return nil, fmt.Errorf("consensus: log record %d: %w", i, err)
			}
			if h.ChainID != want.ChainID || h.Epoch != want.Epoch || h.Start != want.Start {
				return nil, fmt.Errorf("%w: chain %q epoch %d start %s, want chain %q epoch %d start %s", ErrForeignLog,
					h.ChainID, h.Epoch, h.Start.Short(), want.ChainID, want.Epoch, want.Start.Short())
			}
			if i == 0 {
				complete = h.Complete
			}
			complete = both(complete, h.Complete)
			continue
		}
		if err := c.apply(e); err != nil {
			return nil, fmt.Errorf("consensus: log record %d: %w", i, err)
		}
	}
	return complete, nil
}

func (c *Core) apply(e envelope) error {
	switch e.Tag {
	case recordVote:
		v, err := DecodeVote(e.Body)
		if err == nil {
			err = c.applyVote(v)
		}
		return err
	case recordCertificate:
		cert, err := DecodeCertificate(e.Body)
		if err == nil {
			c.applyCertificate(cert)
		}
		return err
	case recordVerdict:
		var v logVerdict
		if err := codec.Unmarshal(e.Body, &v, maxRecordBytes); err != nil {
			return err
		}
		c.at(v.View).verdict = &v.OK
		if v.OK {
			c.current = max(c.current, v.View+1)
		}
		return nil
	case recordBlock:
		var b Block
		if err := codec.Unmarshal(e.Body, &b, maxRecordBytes); err != nil {
			return err
		}
		c.hold(b, 0).logged = true
		return nil
	case recordEvidence:
		return c.applyEvidence(e.Body)
	}
	return fmt.Errorf("tag %d is unknown", e.Tag)
}

func (c *Core) applyVote(v Vote) error {
	s := v.Statement()
	signer, _ := v.By()
	if c.cfg.Key.IsZero() || int(signer) >= c.cfg.Committee.Len() ||
		c.cfg.Committee.Validator(signer).Key != c.cfg.Key.Public() {
		return fmt.Errorf("%w: vote by signer %d is not this node's", ErrForeignLog, signer)
	}
	vs := c.at(s.View())
	p := s.Proposal
	switch s.Kind {
	case KindNotarize:
		vs.notarized = &p
	case KindNullify:
		vs.nullified = true
	case KindFinalize:
		vs.finalized = &p
	}
	c.current = max(c.current, s.View())
	return nil
}

func (c *Core) applyCertificate(cert *Certificate) {
	vs := c.at(cert.View())
	switch cert.Statement.Kind {
	case KindNotarize:
		vs.notarization = cert
	case KindNullify:
		vs.nullification = cert
		c.current = max(c.current, cert.View()+1)
	case KindFinalize:
		vs.finalization = cert
		if cert.View() > c.lastFinalized {
			c.lastFinalized, c.final = cert.View(), cert
		}
	}
}

func (c *Core) applyEvidence(body []byte) error {
	e, err := DecodeEvidence(body)
	if err != nil {
		return err
	}
	c.evidence = append(c.evidence, e)
	if e.Votes[0] == nil || e.Round().Epoch != c.cfg.Committee.Epoch() {
		return nil
	}
	signer, _ := e.Votes[0].By()
	if int(signer) >= c.cfg.Committee.Len() {
		return fmt.Errorf("evidence against signer %d of a committee of %d", signer, c.cfg.Committee.Len())
	}
	c.accused[signer] = true
	a, b := e.statements()
	if v := e.Round().View; a.Kind == KindNotarize && b.Kind == KindNotarize && c.cfg.Committee.Leader(v) == signer {
		c.at(v).equivocated = true
	}
	return nil
}

// resume derives the current view and names the views of the blocks.
func (c *Core) resume() {
	c.current = max(c.current, c.lastFinalized+1)
	for _, vs := range c.views {
		if n := vs.notarization; n != nil {
			if b := c.blocks[n.Statement.Proposal.Digest]; b != nil {
				b.view = max(b.view, vs.view)
			}
		}
		if p := vs.notarized; p != nil {
			vs.offered, vs.offer, vs.offeredAt = true, *p, never
			if n := vs.notarization; n != nil && n.Statement.Proposal != *p {
				vs.equivocated = true
			}
			if b := c.blocks[p.Digest]; b != nil {
				b.view = max(b.view, vs.view)
			}
		}
	}
	c.entry = c.final
	if before, ok := c.find(c.current - 1); ok && c.lastFinalized < c.current-1 {
		if before.nullification != nil {
			c.entry = before.nullification
		} else if before.notarization != nil {
			c.entry = before.notarization
		}
	}
}

// onStart arms the current view. Own votes from the log go to the local tallies
// again, and those of the current view to the peers, who may never have seen
// them.
func (c *Core) onStart() {
	if c.started {
		return
	}
	c.started = true
	if c.header != nil {
		c.log(headerRecord(*c.header))
		for _, e := range c.carried {
			c.log(evidenceRecord(e))
		}
		c.header, c.carried = nil, nil
	}
	if c.floored != nil { // so that the log is never below what is finalized because of it
		c.log(certificateRecord(c.floored))
		c.floored = nil
	}
	for i := range c.heard {
		c.heard[i] = c.now
		if len(c.cfg.Heard) == len(c.heard) {
			c.heard[i] = min(c.cfg.Heard[i], c.now)
		}
	}
	if c.cfg.Patience > 0 {
		c.samples.add(c.cfg.Patience)
	}
	c.prune()
	for _, e := range c.evidence {
		c.emit(e)
		if e.Certificates[0] != nil && e.Round().Epoch == c.cfg.Committee.Epoch() {
			c.halt("consensus: the log holds certificates that exclude each other: " + e.String())
		}
	}
	for _, vs := range append([]*viewState(nil), c.since(c.lastFinalized)...) {
		if c.signs && !c.closed() {
			c.recount(vs)
		}
	}
	c.arm()
}

func (c *Core) recount(vs *viewState) {
	if vs.notarized != nil {
		vote := c.signature(Statement{Kind: KindNotarize, Proposal: *vs.notarized})
		if vs.view == c.current {
			c.emit(Broadcast{Message: c.spoken(vote)})
		}
		c.count(vote, true)
	}
	if vs.nullified {
		c.count(c.signature(nullifyStatement(c.round(vs.view))), true)
	}
	if vs.finalized != nil {
		vote := c.signature(Statement{Kind: KindFinalize, Proposal: *vs.finalized})
		c.emit(Broadcast{Message: vote})
		c.count(vote, true)
	}
}

// Snapshot returns a log that restores to the same core: the header, the
// highest finalization, which is the floor below which nothing is ever signed
// again, and everything above it. The driver may put it in the place of the
// whole log.
func (c *Core) Snapshot() [][]byte {
	header := logHeader{ChainID: c.cfg.ChainID, Epoch: c.cfg.Committee.Epoch(), Start: c.cfg.Start, Complete: c.complete}
	records := [][]byte{headerRecord(header)}
	for _, e := range c.evidence {
		records = append(records, evidenceRecord(e))
	}
	if c.final != nil {
		records = append(records, certificateRecord(c.final))
	}
	// The chain that is finalized and not yet durable, then what is above it.
	for b := c.blocks[c.finalDigest()]; b != nil && b.logged; b = c.blocks[b.Parent] {
		records = append(records, blockRecord(b.Block))
	}
	for _, vs := range c.since(c.lastFinalized) {
		records = append(records, c.snapshotView(vs)...)
	}
	return records
}

func (c *Core) snapshotView(vs *viewState) [][]byte {
	var records [][]byte
	proposals := []*Proposal{vs.notarized}
	if vs.notarization != nil {
		records = append(records, certificateRecord(vs.notarization))
		proposals = append(proposals, &vs.notarization.Statement.Proposal)
	}
	if vs.nullification != nil {
		records = append(records, certificateRecord(vs.nullification))
	}
	for i, p := range proposals {
		if p == nil || i > 0 && proposals[0] != nil && proposals[0].Digest == p.Digest {
			continue
		}
		if b := c.blocks[p.Digest]; b != nil && b.logged {
			records = append(records, blockRecord(b.Block))
		}
	}
	if vs.verdict != nil {
		records = append(records, verdictRecord(vs.view, *vs.verdict))
	}
	if vs.notarized != nil {
		records = append(records, voteRecord(c.signature(Statement{Kind: KindNotarize, Proposal: *vs.notarized})))
	}
	if vs.nullified {
		records = append(records, voteRecord(c.signature(nullifyStatement(c.round(vs.view)))))
	}
	if vs.finalized != nil {
		records = append(records, voteRecord(c.signature(Statement{Kind: KindFinalize, Proposal: *vs.finalized})))
	}
	return records
}
