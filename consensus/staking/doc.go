// Package staking is bonds, delegations, committees, evidence, slashing and
// rewards (consensus.md §3; docs/adr/0011-staking.md says why each is so).
//
// A validator bonds with a consensus key and is named by that key for ever.
// Its delegators, its owner among them, hold shares of one sum of stake, and
// rewards are an index per share: a slash or an income changes one or two
// records, whatever the number of delegators. Epochs end by the clock. The last
// block of epoch e chooses, from the stakes after it, the committee of e + 2, so
// that the committees of an epoch and of the next are known in every state.
//
// It is a typed view over the keys that begin with Prefix. Epochs and views are
// 8 bytes, signers 2; a star marks records that hold value.
//
//	'v' 'e'                                   → Epoch: where the next block stands
//	'v' 'm' ‖ epoch                           → []Member: the epoch's committee
//	'v' 'h' ‖ epoch                           → when the epoch ended
//	'v' 'c' ‖ validator                       → Validator *
//	'v' 'p' ‖ validator                       → Purse: rewards not withdrawn *
//	'v' 'k' ‖ consensus or node key           → the validator whose it is or was
//	'v' 'l' ‖ validator                       → on the roll: stands for committees
//	'v' 'i'                                   → how many do
//	'v' 'y' ‖ validator ‖ epoch               → the index from which shares that joined
//	                                            in the epoch earn, until all are counted
//	'v' 'd' ‖ account ‖ validator             → Delegation
//	'v' 'n' ‖ account                         → how many 'd' and 'g' it has
//	'v' 'u' ‖ validator ‖ epoch               → Pool: stake that left in the epoch *
//	'v' 'q' ‖ epoch ‖ validator ‖ account     → shares of that pool: the queue
//	'v' 'o' ‖ from ‖ epoch ‖ to               → stake that moved in the epoch
//	'v' 'g' ‖ account ‖ to ‖ epoch ‖ from     → units of that
//	'v' 'f' ‖ validator                       → Fault
//	'v' 'a' ‖ provider node                   → the validator it is affiliated with
//	'v' 'x' ‖ provider node ‖ validator       → the node took its consent back
//	'v' 'b' ‖ validator                       → Resource: what affiliated nodes burned
//	'v' 'r'                                   → the pot: to be given out *
//	'v' 's', 'v' 'w' ‖ view, 'v' 't' ‖ signer → who was seen in the epoch, who finalized
//	                                            in a view, a proposer's credit and tips *
//
// Invariants:
//
//  1. The shares of a validator are the sum of its delegations' and of those of
//     the pools of stake that moved to it; those of a pool are the sum of its
//     parts. Where there is a share there is stake: a slash leaves a nHYPER.
//  2. What a purse holds is at least the sum of what its delegators can
//     withdraw, and more by rounding alone. A share that was issued in epoch e
//     earns from the end of e + 2 on, whose committee its stake was weighed for:
//     who joins takes no part of what others' weight earned.
//  3. Value is neither made nor lost, but for inflation, which tokens.Mint
//     counts, and slashes, which tokens.Burn counts. ValueOf says so to the check
//     of every block.
//  4. A committee is never empty and never changes; each member weighs at least
//     1 (whole HYPER), and the total fits 64 bits because the supply does. Voting
//     weight is stake alone; the resource factor touches leader weight only.
//  5. Stake that leaves a validator in epoch e serves to the end of e + 1, and
//     is liable for chain.Params.UnbondingMs after that: longer than two epochs
//     and the evidence window. Evidence of an epoch is taken for as long after its
//     end, to the millisecond.
//  6. A validator has one conviction, and no fault after that costs it more for
//     being another: the rate rises with the weight at fault, which is what a
//     fault endangers, and that is the same however often it is done. A convicted
//     validator serves to the end of the next epoch at most; whoever breaks the rules
//     beside it then is in its company, and raises the rate for both. So what is
//     reported of it later changes the record only if it is worse: of an earlier
//     or a later epoch, or with more of the weight. Neither the order in which
//     faults become known, nor a small or old fault that is reported to cover
//     another, changes what is lost. Whether
//     two signed statements exclude each other is package consensus' to say: it
//     compares content, never signature bytes, and only within one round.
//  7. Stake that moved is liable for both validators, and cannot move on, or
//     leave, while it is.
//  8. The queue gives each part to its account in order of epoch, validator and
//     account, up to the caller's bound of entries per block.
//
// Rounding is against whoever asks: shares issued, rewards and the worth of
// shares are rounded down, shares taken for an amount and slashes up. What
// rounding leaves stays with the shares that remain, or in the pot; a reward's
// index has 64 fractional bits, so that a step leaves less than a nHYPER.
//
// Everything is bounded: MaxRegistered validators on the roll (a committee's
// members are on it, others while they could serve), MaxPositions of an account,
// MaxTargets of redelegation per validator and epoch, 64 epochs of unbonding
// (chain.Params.Check), MaxAffiliates, MaxEvidence per block, one entry of the
// queue per account, validator and epoch.
//
// Failure modes: a *chain.Rejection is what a sender did wrong, after which the
// caller discards the message's changes. TakeExtras says which consensus item
// may not stand in a block. Genesis returns an error that names what is wrong. A
// record that does not decode, or that contradicts another, panics with
// *state.Fault.
//
// Everything is a pure function of its arguments; a KV belongs to one goroutine.
// The package knows nothing of gas, fees, providers or claims: execution passes
// on what verified claims burned, and who owns a node.
package staking
