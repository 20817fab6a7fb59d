// Package consensus orders opaque digests: stake-weighted Simplex with
// rotating leaders (Chan and Pass, "Simplex Consensus", TCC 2023), as a state
// machine without I/O.
//
// # Protocol
//
// An epoch has a fixed Committee of total weight W; a quorum is ⌊2W/3⌋ + 1 by
// weight. In each view the leader, a pure function of (committee, view), offers
// a block on the highest certified view below. A validator that finds it valid
// votes notarize; a quorum of those is a notarization N(v). A validator that
// holds N(v), and has the block with all its unfinalized ancestors verified and
// in its log, has certified v: it enters v+1 and, unless it voted nullify in v,
// votes finalize; a quorum of those is a finalization F(v), which commits the
// block and its ancestors. A validator that waited in vain votes nullify; a
// quorum of those is a nullification X(v), and lets everybody enter v+1 too.
// N(v) and X(v) may both exist; certification goes on after X(v). View 0 is the
// start of the epoch. Height is not view: skipped views carry no block.
//
// # Epochs
//
// The application says of a block that it is Closing: the last of its epoch, by
// a rule over its parent's state and its own header, so that all agree. Once
// such a block is certified, the only valid proposal on it is its own digest
// again, in later views; its leader repeats it by its vote alone, nobody asks
// the application, and on any other parent the parent's digest is no proposal.
// A finalization of any of these proposals finalizes the block. The core is then
// closed: it fetches what is missing below, answers with the finalization, and
// is silent. The next epoch is a new Core whose view 0 is that digest.
//
// # Invariants
//
// They hold for every node that runs this code with its own complete log, and
// are asserted: a breach panics. Certificates that break I4 or I5 prove that at
// least a third of the weight is Byzantine; they are evidence, and end the core
// with Halt.
//
//	I1  at most one notarize is signed in a view;
//	I2  nullify and finalize are never both signed in a view;
//	I3  no notarize is signed after nullify;
//	I4  N(v) is unique, and so is F(v);
//	I5  F(v) excludes X(v);
//	I6  a proposal that skips u is notarized only by holders of X(u).
//
// # Safety
//
// Any two quorums share more than W/3, so an honest validator. Two
// notarizations of a view would need one that broke I1; F(v) beside X(v) one
// that broke I2. Suppose F(v) for block B. No X(v) exists, so by I6 no proposal
// notarized above v skips v, and each has a parent in a view at least v. The
// parent in v is B by I4; by induction every block notarized above v descends
// from B. So all finalized blocks are on one chain. Clocks and timeouts are
// nowhere in the argument; neither are leader weights.
//
// Across an epoch's end: let C be a closing block that is finalized by F(v), and
// w the lowest view of the epoch in which C was notarized at or below v on the
// chain of proposals that v ends. Each proposal between repeats C, so the chain
// below is that of w. By the argument above every proposal notarized above v has
// v among its ancestors, and honest validators notarize nothing on C but C: no
// block of this epoch is ever notarized above C, at C's height or higher. If
// nodes finalize through different views v and v', one is the ancestor of the
// other, so both are of C. The next epoch's committee is a function of the state
// after C, and its view 0 is C's digest, not a view or a certificate; a
// signature names its epoch, so that none counts in another. One height
// therefore never has two digests. Who changes committees signs with a log of
// its own for each epoch, and with none signs nothing.
//
// # Liveness
//
// All honest validators keep repeating their nullify and the certificate that
// let them in, so that after the network heals the slowest enters the view of
// the fastest; patience grows by 5/4 per view without finalization, so that an
// honest leader's view eventually completes. Repetition is one vote and one
// certificate per Timing.Retry, whatever the length of a standstill. Every
// missing thing is asked for by name, again and again from another peer, while
// the rules need it.
//
// # Durability
//
// Votes, certificates, verdicts, block bodies and evidence are log records. A
// step's records precede all that leaves the node because of it. Restore replays
// them. A node whose log of an epoch is missing, is another epoch's, or ends
// below what its application has finalized signs nothing in that epoch. An empty
// log is complete only for the keys of Config.Fresh, and none for a key that came
// after it was begun.
//
// # Admission
//
// Votes are taken over their signer's own connection, in the window from
// Retention views below the last finalized one to one above the current one,
// and verified in a batch when they make a quorum; those of finalized views
// still count for who was there. Certificates prove themselves and are taken at
// any view from the last finalized one; below it, while views are kept, only as
// evidence. One offer per view is looked at, however many its leader sends. One
// piece of evidence per signer and epoch is kept.
//
// # Failure modes
//
// Step never fails: input that breaks a rule is dropped, and blamed on the
// connection where that is certain. It panics if an invariant is broken.
// Restore returns an error for a log it cannot read, ErrForeignLog for another
// epoch's.
//
// The package has no goroutine, clock or randomness and iterates over no map:
// equal inputs give equal effects. A Core is not safe for concurrent use; all
// other values are immutable. It does not know blocks, heights, stake or peers'
// addresses, and does not change committees: a new epoch is a new Core, and what
// leads from one to the next is package replica.
package consensus
