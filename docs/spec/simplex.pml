/*
 * Simplex as HyperMesh runs it: the safety of one epoch, by exhaustive search.
 *
 * Four validators of equal weight, one of them Byzantine; three make a quorum.
 * docs/CONSENSUS.md has the rules in words, docs/spec/run the runs and what each
 * must find.
 *
 * WHAT IS MODELLED
 *
 * The state is what the three honest validators have signed. A step is one more
 * vote that the rules allow. All else is abstracted so that the model can do more
 * than any real execution, never less:
 *
 *  - The network. A certificate is a fact from the moment when its votes exist. A
 *    validator acts on a fact at once, later or never, and no rule asks for the
 *    absence of a message: that is delay, loss, duplication, reordering and
 *    partition. Where the code refrains from a vote because of a message it holds
 *    (it does not finalize beside a nullification, say), that is one run of many.
 *  - Time. Every timeout fires whenever nullify is legal, or never.
 *  - The Byzantine validator. Each of its votes, for any statement, is there when
 *    somebody counts it, shown to one and hidden from another. So a certificate
 *    exists as soon as two honest validators signed; with three it exists as well.
 *    With -DEXPLICIT it casts its votes as steps of its own instead, in any order,
 *    contradicting itself, and may leave any of them out.
 *  - Leaders. In every view, not in the Byzantine validator's alone, the leader
 *    offers anything on any certified parent, and different things to different
 *    validators. An honest leader is the case in which it offers one thing.
 *  - Verdicts. The application may refuse or lose any block: nobody has to vote.
 *  - Crashes. A node that restarts with its log is a node that paused; one that
 *    lost its log signs nothing, like one that stopped.
 *
 * HOW IT STAYS SMALL, and why nothing is lost by that
 *
 *  - The honest validators obey equal rules and no rule names one, so permuting
 *    them turns runs into runs: of six equal states one is kept, the sorted one
 *    (-DNAMED keeps all, for counterexamples that people can follow).
 *  - A block exists from its first honest vote: without one it is never certified,
 *    so never a parent. Two blocks a view suffice: a certificate needs two honest
 *    notarizes of one block, so in a view where three blocks have one each, none
 *    is certified and the vote for the third did nothing but use up its voter's
 *    right. The run without that vote has all the other steps. (With a broken
 *    rule this hides some counterexamples, never all: the runs show one for each.)
 *  - Entering a view is no step. What lets a validator in is a certificate, which
 *    stays; so entering can wait for the first vote in the view.
 *  - -DORDERED casts all votes of a view before those of later views and then
 *    remembers certificates and certified blocks alone. A vote in v depends on
 *    votes of views up to v; what can forbid it is a vote of its own signer in v,
 *    or that its signer went on to a later view. Moving the votes of lower views
 *    to the front, in their order, so turns any run into an ordered one with the
 *    same votes, and every assertion is about votes and their order inside a view.
 *
 * PARAMETERS: VIEWS; ORDERED, EXPLICIT, NAMED; CLOSING (a block may close the
 * epoch); BREAK_x (the rule behind x is broken); ONLY with CHECK_x (that assertion
 * alone); ONLY with REACH_x (assert that something good never happens: a model
 * that can do nothing is safe too).
 */

#ifndef VIEWS
#define VIEWS 3 /* at most 6 */
#endif

#ifndef ONLY
#define CHECK_AGREEMENT
#define CHECK_I1
#define CHECK_I2
#define CHECK_I3
#define CHECK_I4
#define CHECK_I5
#define CHECK_I6
#define CHECK_EPOCH
#endif

/*
 * Sets of statements, five bits a view. Block 0 of a view is the one that an
 * honest validator voted for first, block 1 another offer of the same leader.
 */
#define N(v, k) (1 << (5 * ((v)-1) + (k))) /* notarize block k of view v */
#define X(v)    (4 << (5 * ((v)-1)))       /* nullify view v */
#define F(v, k) (8 << (5 * ((v)-1) + (k))) /* finalize block k of view v */
#define EACH    34636833                   /* bit 0 of every view */
#define BELOW(v) ((1 << (5 * ((v)-1))) - 1) /* all statements of the views below v */

/* The number of a block: 2v−1 or 2v; 0 is the block that the epoch starts from. */
#define BLOCK(v, k) (2 * (v)-1 + (k))
#define VIEW(b)     (((b) + 1) / 2)
#define BLOCKS      (2 * VIEWS + 1)
#define NONE        255

#ifdef EXPLICIT
#define VALIDATORS 4
#else
#define VALIDATORS 3
#endif

int votes[VALIDATORS];      /* what each signed; number 3 is Byzantine */
int certs;                  /* what a quorum signed */
byte parent[BLOCKS] = NONE; /* by block; NONE: nobody voted for it */
#ifdef ORDERED
byte front = 1;             /* the view that votes are cast in */
#endif
#ifdef CLOSING
bool closes[BLOCKS];        /* the block is the last of its epoch */
byte digest[BLOCKS];        /* the content: the number of the block that had it first */
#endif

/* The quorum: three of four. ONE, TWO, ALL: signed by so many honest validators. */
#define ONE (votes[0] | votes[1] | votes[2])
#define TWO ((votes[0] & votes[1]) | (votes[0] & votes[2]) | (votes[1] & votes[2]))
#define ALL (votes[0] & votes[1] & votes[2])

#define HONEST 3
#if defined(BREAK_AGREEMENT) /* two are Byzantine: one of two honest votes suffices */
#undef HONEST
#define HONEST 2
#define QUORUM ONE
#elif defined(BREAK_I4)      /* two votes notarize */
#define QUORUM (TWO | (ONE & (3 * EACH)))
#elif defined(BREAK_I5)      /* two votes nullify */
#define QUORUM (TWO | (ONE & (4 * EACH)))
#elif defined(EXPLICIT)
#define QUORUM (ALL | (TWO & votes[3]))
#else
#define QUORUM TWO
#endif

/* ---- rules -------------------------------------------------------------- */

#define NOTARIZED(h, v) (votes[h] & (N(v, 0) | N(v, 1)))
#define NULLIFIED(h, v) (votes[h] & X(v))
#define FINALIZED(h, v) (votes[h] & (F(v, 0) | F(v, 1)))

#define CERTIFIED(b) (b == 0 || (certs & N(VIEW(b), (b + 1) % 2)))
#define FINAL(b)     (certs & F(VIEW(b), (b + 1) % 2))

/* Every view between p and v is nullified. */
#define BETWEEN(p, v) (BELOW(v) & ~BELOW((p) + 1) & (4 * EACH))
#define SKIPS(p, v)   ((certs & BETWEEN(p, v)) == BETWEEN(p, v))

#ifdef ORDERED
#define TURN(v)  (v >= front)
#define STILL(v) (v == front)
#else
#define TURN(v)  true
#define STILL(v) true
#endif

/*
 * h is in view v or can enter it: it signed nothing in a later view, and the view
 * before is over. Certificates let it jump.
 */
#define OVER(v)  (v == 0 || (certs & (N(v, 0) | N(v, 1) | X(v) | F(v, 0) | F(v, 1))))
#define IN(h, v) (TURN(v) && !(votes[h] >> (5 * v)) && OVER(v - 1))

#ifdef BREAK_I1
#define RULE_I1(h, v) true
#else
#define RULE_I1(h, v) !NOTARIZED(h, v)
#endif
#ifdef BREAK_I2
#define RULE_I2(h, v) true
#else
#define RULE_I2(h, v) !FINALIZED(h, v)
#endif
#ifdef BREAK_I3
#define RULE_I3(h, v) true
#else
#define RULE_I3(h, v) !NULLIFIED(h, v)
#endif
#ifdef BREAK_I6
#define RULE_I6(p, v) true
#else
#define RULE_I6(p, v) SKIPS(p, v)
#endif

/* Who finalized in v certified it, and is beyond. */
#define MAY_NOTARIZE(h, v)    (IN(h, v) && RULE_I1(h, v) && RULE_I3(h, v) && !FINALIZED(h, v))
#define MAY_NULLIFY(h, v)     (IN(h, v) && RULE_I2(h, v) && !NULLIFIED(h, v))
#define MAY_FINALIZE(h, v, k) (STILL(v) && (certs & N(v, k)) && !FINALIZED(h, v) && !NULLIFIED(h, v))

/*
 * On a closing parent only the same content may be offered again; twice in a view
 * that is one block, not two.
 */
#ifndef CLOSING
#define RULE_EPOCH(p, v, k) true
#elif defined(BREAK_EPOCH)
#define RULE_EPOCH(p, v, k) true
#define FRESH(p) true
#else
#define RULE_EPOCH(p, v, k) !(closes[p] && k == 1 && parent[BLOCK(v, 0)] == p)
#define FRESH(p) !closes[p]
#endif

/* ---- assertions --------------------------------------------------------- */

/* What honest validator h signed in view v. */
inline check_votes() {
#ifdef CHECK_I1
	assert(h == 3 || !((votes[h] & N(v, 0)) && (votes[h] & N(v, 1))));
#endif
#ifdef CHECK_I2
	assert(h == 3 || !(NULLIFIED(h, v) && FINALIZED(h, v)));
#endif
	skip
}

/* The certificates of view v. */
inline check_certificates() {
#ifdef CHECK_I4
	assert(!((certs & N(v, 0)) && (certs & N(v, 1))));
	assert(!((certs & F(v, 0)) && (certs & F(v, 1))));
#endif
#ifdef CHECK_I5
	assert(!((certs & X(v)) && (certs & (F(v, 0) | F(v, 1)))));
#endif
	skip
}

/* All final blocks are on one chain: the later descends from the earlier. */
inline check_chains() {
	b = 1;
	do
	:: b < BLOCKS && !FINAL(b) -> b++
	:: b < BLOCKS && FINAL(b) ->
		a = 1;
		do
		:: a < b && !FINAL(a) -> a++
		:: a < b && FINAL(a) ->
			up = b;
			do
			:: VIEW(up) > VIEW(a) -> up = parent[up]
			:: else -> break
			od;
#ifdef CHECK_AGREEMENT
			assert(up == a);
#endif
#if defined(CLOSING) && defined(CHECK_EPOCH)
			/* What follows a closing block is that block: one content at its height, none above. */
			assert(!closes[a] || digest[b] == digest[a]);
#endif
			a++
		:: else -> break
		od;
		b++
	:: else -> break
	od;
	a = 0; b = 0; up = 0
}

inline check_reach() {
#ifdef REACH_CHAIN /* the blocks of three views are final */
	assert(!(FINAL(BLOCK(1, 0)) && FINAL(BLOCK(2, 0)) && FINAL(BLOCK(3, 0))));
#endif
#ifdef REACH_BOTH  /* view 1 is notarized and nullified, and a final block builds on it */
	assert(!((certs & X(1)) && FINAL(BLOCK(2, 0)) && parent[BLOCK(2, 0)] == BLOCK(1, 0)));
#endif
#ifdef REACH_SKIP  /* view 1 is notarized, and skipped for good */
	assert(!((certs & N(1, 0)) && FINAL(BLOCK(2, 0)) && parent[BLOCK(2, 0)] == 0));
#endif
#ifdef REACH_EPOCH /* view 1 is nullified, and its block closes the epoch through view 2 */
	assert(!((certs & X(1)) && FINAL(BLOCK(2, 0)) && digest[BLOCK(2, 0)] == BLOCK(1, 0)));
#endif
	skip
}

/* ---- steps -------------------------------------------------------------- */

inline order(x, y) {
#ifndef NAMED
	if
	:: votes[x] > votes[y] -> s = votes[x]; votes[x] = votes[y]; votes[y] = s
	:: else
	fi
#endif
	skip
}

/* The front moves to v: votes below are forgotten, and blocks that they did not certify. */
inline advance() {
	b = 0;
	do
	:: b < VALIDATORS -> votes[b] = votes[b] & ~BELOW(v); b++
	:: else -> break
	od;
	b = 1;
	do
	:: b < BLOCK(v, 0) && CERTIFIED(b) -> b++
	:: b < BLOCK(v, 0) && !CERTIFIED(b) ->
		parent[b] = NONE;
#ifdef CLOSING
		digest[b] = 0; closes[b] = false;
#endif
		b++
	:: else -> break
	od;
	b = 0
}

/* h signs the statement in view v; if that makes a quorum, it is certified. */
inline sign(statement) {
	d_step {
#ifdef ORDERED
		if
		:: v > front -> front = v; advance()
		:: else
		fi;
#endif
		votes[h] = votes[h] | (statement);
		check_votes();
		s = certs;
		certs = certs | QUORUM;
		if
		:: s != certs -> check_certificates(); check_chains(); check_reach()
		:: else
		fi;
		order(0, 1); order(1, 2); order(0, 1);
		s = 0
	}
}

inline nullify() {
	printf("validator %d nullifies view %d\n", h, v);
	sign(X(v))
}

inline finalize() {
	printf("validator %d finalizes block %d of view %d\n", h, k, v);
	sign(F(v, k))
}

inline notarize() {
	printf("validator %d notarizes block %d of view %d on block %d\n", h, k, v, parent[BLOCK(v, k)]);
#ifdef CHECK_I3
	assert(!NULLIFIED(h, v));
#endif
#ifdef CHECK_I6
	assert(SKIPS(VIEW(parent[BLOCK(v, k)]), v));
#endif
	sign(N(v, k))
}

/* The leader of v offers block k, on some certified parent, and h is the first to vote for it. */
inline offer() {
	do
	:: p < BLOCK(v, 0) - 1 -> p++
	:: break
	od;
	if
	:: CERTIFIED(p) && RULE_I6(VIEW(p), v) && RULE_EPOCH(p, v, k) ->
		parent[BLOCK(v, k)] = p;
#ifdef CLOSING
		if
		:: closes[p] -> digest[BLOCK(v, k)] = digest[p]; closes[BLOCK(v, k)] = true
		:: FRESH(p) -> digest[BLOCK(v, k)] = BLOCK(v, k)
		:: FRESH(p) -> digest[BLOCK(v, k)] = BLOCK(v, k); closes[BLOCK(v, k)] = true
		fi;
#endif
		notarize()
	:: else
	fi
}

#define OFFERED(v, k) (parent[BLOCK(v, k)] != NONE)

active proctype simplex() {
	byte h, v, k, p; /* who votes, in which view, for which block, on which parent */
	byte a, b, up;   /* for the assertions */
	int s;

	do
	:: atomic {
		do
		:: h < HONEST - 1 -> h++
		:: break
		od;
		v = 1;
		do
		:: v < VIEWS -> v++
		:: break
		od;
		if
		:: MAY_NULLIFY(h, v) -> nullify()
		:: MAY_FINALIZE(h, v, 0) -> finalize()
		:: MAY_FINALIZE(h, v, 1) -> k = 1; finalize()
		:: MAY_NOTARIZE(h, v) && OFFERED(v, 0) && !(votes[h] & N(v, 0)) -> notarize()
		:: MAY_NOTARIZE(h, v) && OFFERED(v, 1) && !(votes[h] & N(v, 1)) -> k = 1; notarize()
		:: MAY_NOTARIZE(h, v) && !OFFERED(v, 0) -> offer()
		:: MAY_NOTARIZE(h, v) && OFFERED(v, 0) && !OFFERED(v, 1) -> k = 1; offer()
#ifdef EXPLICIT
		:: TURN(v) -> h = 3; sign(N(v, 0))
		:: TURN(v) -> h = 3; sign(N(v, 1))
		:: TURN(v) -> h = 3; sign(X(v))
		:: TURN(v) -> h = 3; sign(F(v, 0))
		:: TURN(v) -> h = 3; sign(F(v, 1))
#endif
		:: else
		fi;
		h = 0; v = 0; k = 0; p = 0
	}
	od
}
