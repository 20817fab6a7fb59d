package execution

import (
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/zk"
)

// A wave is a stretch of a block whose proofs are verified together: its transactions run
// on an overlay of their own as if every proof held, and then all proofs are verified. If one is
// false, the overlay is thrown away and the wave runs again with the verdicts; after
// that the block's other proofs are verified one by one. So what a false proof costs beyond its own price is one wave
// at most, once a block, and every proof that is verified was paid for.
const (
	waveProofs = 16 // at which a wave ends
	waveShare  = 8  // a wave ends when it has used this part of a block's gas
)

// proofs is the verifier of one block: the executor's, or what is supposed of it in a wave.
type proofs struct {
	verifier zk.Verifier
	together zk.BatchVerifier // nil: proofs are verified one by one
	wave     *wave            // the one that runs, if any
	known    map[proven]error // verdicts of the wave that runs again
}

// proven names a proof of a statement.
type proven struct {
	statement crypto.Digest
	proof     string
}

func newProofs(v zk.Verifier) *proofs {
	together, _ := v.(zk.BatchVerifier)
	return &proofs{verifier: v, together: together}
}

func (p *proofs) Verify(s zk.Statement, proof []byte) error {
	if p.wave != nil {
		p.wave.claims = append(p.wave.claims, zk.Claim{Statement: s, Proof: proof})
		return nil
	}
	if verdict, ok := p.known[proven{s.Digest(), string(proof)}]; ok {
		return verdict
	}
	return p.verifier.Verify(s, proof)
}

// wave is the transactions that were executed on an overlay, and where the block was before
// them.
type wave struct {
	txs    []*chain.VerifiedTx
	claims []zk.Claim // what the messages asked for

	block    *state.Overlay
	at       position
	burned   chain.Amount
	tips     chain.Amount
	receipts int
	restore  func() // the caller's part
}

// steps is how a block's transactions are executed.
type steps struct {
	next func() (*chain.VerifiedTx, bool)
	do   func(tx *chain.VerifiedTx) (more bool) // nil stands for one whose signatures do not verify
	// mark returns what brings back whatever do has changed since, beside the run.
	mark func() (restore func())
}

// all does what next returns, until do or next says that there is no more: next says so twice if
// a wave is open.
func (r *run) all(s *steps) {
	for more := true; more; {
		tx, ok := s.next()
		if !ok && r.proofs.wave == nil {
			break
		}
		if !ok { // there may be more: what runs again may leave room that it was held to take
			more = r.endWave(s.do, true)
			continue
		}
		if r.proofs.together != nil && r.proofs.wave == nil && hasProof(tx) {
			r.beginWave(s.mark())
		}
		more = s.do(tx)
		if w := r.proofs.wave; w != nil {
			w.txs = append(w.txs, tx)
			if !more || r.waveIsFull() {
				more = r.endWave(s.do, more)
			}
		}
	}
}

// hasProof reports whether a message of a transaction may ask for a proof's verdict.
func hasProof(tx *chain.VerifiedTx) bool {
	if tx == nil {
		return false
	}
	return slices.ContainsFunc(tx.Tx().Body.Messages, func(m chain.Msg) bool {
		if _, ok := m.(chain.SettleBatch); ok {
			return true
		}
		settle, ok := m.(chain.Settle)
		return ok && slices.ContainsFunc(settle.Claims, func(c chain.Claim) bool { return len(c.Proof) > 0 })
	})
}

func (r *run) beginWave(restore func()) {
	r.proofs.wave = &wave{
		block: r.block, at: r.at, burned: r.burned, tips: r.tips, receipts: len(r.receipts.Txs), restore: restore,
	}
	r.on(state.NewOverlay(r.block))
}

// on has transactions change an overlay from now on.
func (r *run) on(block *state.Overlay) {
	r.block, r.tx = block, state.NewOverlay(block)
	r.kv.kv = r.tx
}

func (r *run) waveIsFull() bool {
	w := r.proofs.wave
	used := must(r.at.used.Sub(w.at.used))
	return len(w.claims) >= waveProofs || used.Units() >= r.at.blockGas.Units()/waveShare
}

// endWave keeps what the wave did if its proofs hold, and runs it again with their verdicts if
// not. more is what do said of its last transaction; endWave returns what it says in the end.
func (r *run) endWave(do func(tx *chain.VerifiedTx) bool, more bool) bool {
	w := r.proofs.wave
	r.proofs.wave = nil
	held := true
	verdicts := r.proofs.together.VerifyAll(w.claims)
	for _, verdict := range verdicts {
		held = held && verdict == nil
	}
	if held {
		r.block.Flush(w.block)
		r.on(w.block)
		return more
	}
	clear(r.receipts.Txs[w.receipts:])
	r.receipts.Txs = r.receipts.Txs[:w.receipts]
	r.at, r.burned, r.tips = w.at, w.burned, w.tips
	r.on(w.block)
	w.restore()
	r.proofs.together, r.proofs.known = nil, make(map[proven]error, len(w.claims))
	for i, c := range w.claims {
		r.proofs.known[proven{c.Statement.Digest(), string(c.Proof)}] = verdicts[i]
	}
	for _, tx := range w.txs {
		if more = do(tx); !more {
			break
		}
	}
	r.proofs.known = nil
	return more
}
