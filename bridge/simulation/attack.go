package simulation

import "slices"

// Attack is a way to cheat.
type Attack struct {
	Name string
	// What and Why are for people: what the hand does, and why it loses, or when it does not.
	What, Why string
	// Policies under which it is something else than under the others of their kind, or at all.
	Policies []Policy
	play     conduct
	nodes    func(Terms) int // of the hand
	relay    relay
	buys     bool   // the hand orders the jobs that count
	sells    bool   // and works for them
	size     uint64 // of the hand's jobs; 0: 1
	idle     bool   // if it were honest it would do nothing
	cluster  bool   // it is the cluster too
	broke    bool   // it orders without a deposit
	rogues   bool   // somebody else claims wrong results
	crowd    int    // jobs of others for each of the hand's; 0: 1
	fresh    bool   // nobody has a record
	// Pays lists the policies under which it is known to pay, which Why says the reason of.
	Pays []Policy
	// Idle lists the policies under which it changes nothing but when things happen: its expectation is zero by
	// design, and not below.
	Idle []Policy
}

func one(Terms) int      { return 1 }
func nobody(Terms) int   { return 0 }
func shared(t Terms) int { return max(2, t.Nodes*t.Share/100) }

// verified are the policies under which somebody may look again.
var verified = []Policy{TwoOfThree, ThreeOfFive, Optimistic}

var replicated = []Policy{TwoOfThree, ThreeOfFive}

// unverified are the policies under which nobody does.
var unverified = []Policy{None, Batch}

// Attacks lists all.
var Attacks = []Attack{
	{
		Name: "lazy", nodes: one, Policies: Policies, Pays: unverified, play: conduct{asPrimary: guess, asReplica: guess},
		What: "A node claims a result that it made up, and runs nothing.",
		Why:  "It saves the cost of a run until somebody runs the job again, and then loses a stake worth many; under zk there is no proof.",
	},
	{
		Name: "silent", nodes: one, Policies: replicated, play: conduct{asPrimary: guess, asReplica: guess, hides: true},
		What: "A lazy node is silent when the order is checked: it never shows the receipt that it is bound to.",
		Why:  "Whoever is bound and shows nothing counts as one who dissents, and loses its stake to the panel.",
	},
	{
		Name: "late", nodes: one, Policies: replicated, play: conduct{asPrimary: guess, asReplica: guess, late: true},
		What: "The same, but it shows its receipt when all others have shown theirs and a panel is drawn.",
		Why:  "What it shows is what it was bound to before. It is heard until the panel has decided, and judged by that as anybody.",
	},
	{
		Name: "copying", nodes: shared, Policies: []Policy{ThreeOfFive}, fresh: true, play: conduct{asReplica: copies},
		What: "A bidder that is drawn to check runs nothing and binds itself to what the primary is bound to.",
		Why:  "A commitment names its node and has a salt: the copy cannot be shown, and its stake goes as that of one who is silent. With two of three it is the roll that checks, and what it is bound to is a vote.",
	},
	{
		Name: "colluding", nodes: shared, Policies: verified, play: conduct{asPrimary: conspire, allied: true},
		What: "Nodes of one hand claim the same wrong result, as primaries, replicas, auditors and jurors.",
		Why:  "Who checks is drawn after they are bound, by bond; they lose unless all that are drawn are theirs, and a stake pays for many such hits.",
	},
	{
		Name: "opportunist", nodes: shared, Policies: replicated, play: conduct{asPrimary: conspire, allied: true, picks: true},
		What: "The same, and they cheat only in jobs of which the chain does not say that a check is certain: with a good record, and not when the last ones went unchecked.",
		Why:  "The chance of a check that is left is at least v/(v + s): what is staked pays for it. It is the least that colluders lose, and with more of the bonds they lose less.",
	},
	{
		Name: "sybil", nodes: shared, Policies: verified, play: conduct{asPrimary: conspire, allied: true, returns: true},
		What: "The same, and a node that is slashed takes the rest of its bond and comes back under a new key and owner.",
		Why:  "What is slashed is gone whatever the name; who is new has no record, and under replicate all that it does is checked.",
	},
	{
		Name: "packed slate", nodes: shared, Policies: replicated, play: conduct{asPrimary: conspire, allied: true, packs: true}, cluster: true,
		What: "A cluster lists its own nodes alone as bidders, so that whoever is drawn among them to check is an accomplice.",
		Why:  "Bidders are whom the cluster's signed list names. One of those who check is drawn from the roll of all nodes, when the others are bound: as often as it is none of the hand's, a panel finds all of them out.",
	},
	{
		Name: "shielding", nodes: one, Policies: verified, play: conduct{asPrimary: guess, shields: true}, cluster: true,
		What: "A cluster shows nobody who is drawn from the roll, and no juror or auditor, the jobs of its own lazy node.",
		Why:  "The cluster's bond answers for the data: a slice of it as large as what a juror stakes, or a claim under optimistic, is lost if nobody who is to look can have it; under replicate by the word of nine, after that of three.",
	},
	{
		Name: "packed and shielded", nodes: shared, Policies: replicated, play: conduct{asPrimary: conspire, allied: true, packs: true, shields: true}, cluster: true,
		What: "Both: bidders are accomplices, and nobody else is shown the job.",
		Why:  "Whoever is drawn from the roll says that it could not have the data, which is no agreement: three judge, then nine, and the cluster's slice is lost.",
	},
	{
		Name: "framing", nodes: shared, Policies: verified, fresh: true, play: conduct{asReplica: conspire, asJuror: conspire, allied: true, frames: true},
		What: "Nodes of one hand dissent from right results or challenge them, and judge so if they are drawn, for a share of what honest nodes lose.",
		Why:  "Panels are mostly others', an appeal triples the panel, and whoever a panel contradicts loses more than a share of a stake.",
	},
	{
		Name: "follower", nodes: shared, Policies: verified, play: conduct{asJuror: follows}, rogues: true, crowd: 6, fresh: true,
		What: "A juror or an auditor runs nothing and would vote for what is claimed, or for what most have shown, with a link of the run that it makes up.",
		Why:  "A vote is what follows from the link that is shown, and only a run gives links: one that was made up is a vote for what nobody else finds. An auditor has challenged a right claim by it.",
	},
	{
		Name: "parrot", nodes: shared, Policies: verified, play: conduct{asJuror: repeats}, rogues: true, crowd: 6, fresh: true,
		What: "The same, and where a panel has shown links before, it shows one of these.",
		Why:  "Each panel asks for a link that follows from none that was shown before its jurors were bound.",
	},
	{
		Name: "absent juror", nodes: shared, Policies: verified, play: conduct{asJuror: absent}, rogues: true, crowd: 6, fresh: true,
		What: "A juror or an auditor never votes.",
		Why:  "It loses a part of its slice, which is more than a run costs.",
	},
	{
		Name: "sealed vote", nodes: shared, Policies: verified, play: conduct{asJuror: guess, seals: true}, rogues: true, crowd: 6, fresh: true,
		What: "A juror or an auditor runs nothing, commits to anything, and does not show it when it sees the others' votes.",
		Why:  "A vote that was committed to and not shown costs what a wrong one does.",
	},
	{
		Name: "crying juror", nodes: shared, Policies: verified, play: conduct{asJuror: cries}, rogues: true, crowd: 6, fresh: true,
		What: "A hand's jurors and auditors run nothing and say of every job that its data cannot be had, so that its cluster pays.",
		Why:  "Where two others had the data it is a wrong vote. Two of a panel of three are outvoted by nine, upon the cluster's appeal: then they lose nothing and win nothing.",
	},
	{
		Name: "bought jurors", nodes: one, Policies: verified, play: conduct{asPrimary: guess, bribes: true},
		What: "A lazy node buys two of the three jurors of each panel about its work, for what a wrong vote costs them; they say that the data cannot be had.",
		Why:  "Under optimistic the cluster, which would pay, appeals. Under replicate two votes cost as much as half of a stake, and checks are as frequent as if they cost all of it.",
	},
	{
		Name: "false alarm", nodes: nobody, Policies: []Policy{Optimistic}, play: conduct{alarms: true},
		What: "Somebody challenges right claims and buys two of the three jurors, who say that the data cannot be had, so that the cluster loses its slice.",
		Why:  "The cluster appeals. Both bear the jurors' fees by halves, 5/32 of the bond at most, and who challenged has paid for the votes besides.",
	},
	{
		Name: "self-dealing", nodes: shared, Policies: Policies, play: conduct{trivial: true}, buys: true, sells: true, idle: true,
		What: "A hand orders from its own nodes, which run nothing and agree, to earn reputation, jurors' and auditors' fees.",
		Why:  "Fees are burned and paid of every charge, and an honest auditor or replica takes the stake; reputation is worth no more than what was burned for it.",
	},
	{
		Name: "exit scam", nodes: one, Policies: Policies, Pays: unverified, play: conduct{asPrimary: guess, farms: 500}, size: 10,
		What: "A node buys itself a record by trading with itself, and then cheats in jobs ten times as large as the others.",
		Why:  "The chance of a check and the stake grow with the job: v/(v + s) is a bound from below whatever the record, and the farming is paid for.",
	},
	{
		Name: "spoofed hardware", nodes: one, Policies: Policies, play: conduct{spoofs: true},
		What: "A node declares twice the cores and the memory that it has, and is given twice the work, which it does half as fast.",
		Why:  "What is declared anew is challenged eight blocks later by nodes that the chain draws, where the network has challenges: what does not show up is cut, and a part of the bond is burned.",
	},
	{
		Name: "padding", Pays: unverified, Idle: []Policy{ZK}, nodes: one, Policies: Policies, play: conduct{pads: true},
		What: "A node runs the job, and reports all the time that the order's max cost allows.",
		Why:  "Under none and batches only the cluster attests to the time, which is no more than passed, and no more than the consumer allowed: what it wins is the slack of the max cost. What deterministic work uses is judged with its result, and under zk the price is fixed.",
	},
	{
		Name: "padding together", nodes: shared, Policies: verified, play: conduct{pads: true, allied: true},
		What: "The same by nodes of one hand, which as replicas, auditors and jurors agree on the larger usage.",
		Why:  "They are drawn by bond: it is a wrong claim as one of another result is, of which colluders win less.",
	},
	{
		Name: "starving", nodes: shared, Policies: replicated, play: conduct{starves: true}, buys: true, fresh: true,
		What: "A consumer's own nodes, drawn as replicas of its order, report next to no usage, so that the others are paid for no more.",
		Why:  "Runs agree on what was used too, or a panel judges. Who says less than the program takes is contradicted by it, and loses its stake.",
	},
	{
		Name: "griefing", nodes: nobody, Policies: verified, play: conduct{flaky: true}, buys: true,
		What: "A consumer orders a program whose result differs from run to run, so that honest nodes disagree.",
		Why:  "Nobody is slashed for what no panel can find, and the consumer pays the runs for a result that is worth nothing.",
	},
	{
		Name: "withholding", nodes: nobody, Policies: verified, play: conduct{flaky: true, withholds: true}, buys: true, cluster: true, fresh: true,
		What: "A cluster and its consumer order what differs from run to run, use the results, and show no juror the job, so as not to pay.",
		Why:  "Under optimistic the cluster has a stake and pays. Under replicate the consumer pays for what was shown, up to k runs.",
	},
	{
		Name: "overdraft", nodes: nobody, Policies: Policies, Idle: Policies, play: conduct{withdraws: true}, buys: true,
		What: "A consumer takes its escrow back as soon as an order is accepted.",
		Why:  "A withdrawal matures after every order's claim window, and pays claims until then.",
	},
	{
		Name: "overcommitting", nodes: nobody, Policies: Policies, buys: true, broke: true, cluster: true,
		What: "A cluster accepts orders of its own consumer that no escrow covers.",
		Why:  "Claims are refused when the escrow is empty. An acceptance beyond what the cluster can have seen in the escrow, in the two withdrawal delays before, is signed evidence: whoever shows it takes the cluster's free bond, of which providers get half and a reporter its part.",
	},
	{
		Name: "dropping", nodes: one, Policies: Policies, Idle: Policies, relay: relay{drops: true},
		What: "A relay carries its own node's messages alone.",
		Why:  "Anybody may post what it signed or was given: others post their own some blocks later, within every window.",
	},
	{
		Name: "replaying", nodes: one, Policies: Policies, Idle: Policies, relay: relay{replays: true},
		What: "A relay posts its own node's messages again and again.",
		Why:  "A sequence is paid once, and the state remembers it for longer than claims are taken.",
	},
	{
		Name: "reordering", nodes: one, Policies: Policies, Idle: Policies, relay: relay{reorders: true},
		What: "A relay holds others' messages back and shuffles all.",
		Why:  "Draws are made from later blocks than what they are about, and no message is worth more for being first.",
	},
}

// Find returns the attack of a name.
func Find(name string) (Attack, bool) {
	i := slices.IndexFunc(Attacks, func(a Attack) bool { return a.Name == name })
	if i < 0 {
		return Attack{}, false
	}
	return Attacks[i], true
}
