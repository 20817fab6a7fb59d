package scheduler_test

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// TestTranscripts runs the scripts under testdata: commands, each block of them followed by
// "----" and what came of it; -update rewrites that. It is what the leader shall do, what was
// refused and why, and every job and node of which something changed. Orders' ids decide what is
// drawn: a script has nothing come of that which it shows.
//
//	config active=N attempts=N           before all else: the settings
//	up NODE [owner=O] [cpu=M] [mem=MIB] [region=R] [gpus=N] [kind=K]   an agent comes, or comes back
//	down NODE                            it is away for too long
//	load NODE open|paused
//	submit JOB [by=CONSUMER] [policy=P] [cpu=M] [mem=MIB] [region=R] [gpus=N] [kind=K] [class=C]
//	       [preemptible=1] [gang=NAME/SIZE] [after=JOB,JOB] [input=JOB]   policy: none, zk, optimistic, or K/N of replicate
//	bids JOB [NODE=PRICE …]              its auction ends with these
//	refuse JOB NODE WHY
//	done JOB NODE                        the node's signed end
//	cancel JOB
//	paid JOB
//	refuted JOB NODE                     the chain found the node's claim wrong
//	unjudged JOB NODE COST               it was challenged, and not judged; the chain kept so much
//	wait MS                              time passes, and a tick
func TestTranscripts(t *testing.T) {
	golden.Scripts(t, "testdata/*.txt", runScript)
}

// story is one run of a transcript.
type story struct {
	*testing.T
	*world
	config scheduler.Config
	jobs   []string // in the order in which they were accepted
	ids    map[string]crypto.Digest
	said   map[string]string // the last line of each job and node
	nonce  uint64
}

func runScript(t *testing.T, text string) string {
	s := &story{T: t, config: config(), ids: map[string]crypto.Digest{}, said: map[string]string{}}
	s.world = worldWith(s.config)
	var out strings.Builder
	for _, block := range strings.Split(strings.TrimSpace(text), "\n\n") {
		commands, _, _ := strings.Cut(block, "\n----")
		fmt.Fprintf(&out, "%s\n----\n", commands)
		for line := range strings.Lines(commands) {
			if words := strings.Fields(line); len(words) > 0 && words[0] != "#" {
				out.WriteString(s.run(words))
			}
		}
		fmt.Fprintf(&out, "%s\n", s.changes())
	}
	s.replay()
	said := out.String()
	for name, id := range s.ids { // order-free: no id has another in it
		said = strings.ReplaceAll(said, id.Short(), name)
	}
	return strings.TrimSuffix(said, "\n")
}

// replay holds the state against one that was made of the same log.
func (s *story) replay() {
	again := scheduler.New(s.config)
	for _, e := range s.entries {
		again.Apply(e)
	}
	if !bytes.Equal(again.Encode(), s.state.Encode()) {
		s.Error("the same log gives another state")
	}
}

func (s *story) number(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		s.Fatal(err)
	}
	return n
}

// nodeNumber is the number of a node that is written n1.
func (s *story) nodeNumber(name string) int { return int(s.number(strings.TrimPrefix(name, "n"))) }

func (s *story) id(name string) crypto.Digest {
	id, ok := s.ids[name]
	if !ok {
		s.Fatalf("there is no job %q", name)
	}
	return id
}

func (s *story) job(name string) *scheduler.Job {
	j, ok := s.state.Job(s.id(name))
	if !ok {
		s.Fatalf("job %q was not accepted", name)
	}
	return j
}

// run carries a command out and returns what the leader shall do.
func (s *story) run(words []string) string {
	if words[0] == "config" {
		s.configure(words[1:])
		return ""
	}
	c := s.command(words)
	submitted, submits := c.(scheduler.Submit)
	if submits {
		s.ids[words[1]] = submitted.Order.ID()
	}
	if err := s.apply(c); err != nil {
		s.Logf("%q: %v", words, err)
		return fmt.Sprintf("refused: %v\n", err)
	}
	if submits {
		s.jobs = append(s.jobs, words[1])
	}
	var out strings.Builder
	for _, e := range s.effects {
		fmt.Fprintln(&out, s.tell(e))
	}
	return out.String()
}

func (s *story) configure(options []string) {
	for _, o := range options {
		switch name, value, _ := strings.Cut(o, "="); name {
		case "active":
			s.config.MaxActive = int(s.number(value))
		case "attempts":
			s.config.MaxAttempts = int(s.number(value))
		default:
			s.Fatalf("no setting %q", o)
		}
	}
	s.world = worldWith(s.config)
}

func (s *story) command(words []string) scheduler.Command {
	switch words[0] {
	case "up":
		return s.up(words[1:])
	case "down":
		return scheduler.NodeDown{Node: key(s.nodeNumber(words[1])).Public()}
	case "load":
		return scheduler.NodeLoad{Node: key(s.nodeNumber(words[1])).Public(), Accepting: words[2] == "open"}
	case "submit":
		return s.submission(words[1], words[2:])
	case "bids":
		return s.bids(words[1], words[2:])
	case "refuse":
		return scheduler.Refused{Order: s.id(words[1]), Node: key(s.nodeNumber(words[2])).Public(), Reason: strings.Join(words[3:], " ")}
	case "done":
		j := s.job(words[1])
		if _, zk := j.Order.Policy.Policy.(chain.PolicyZK); zk {
			return proof(j.ID(), s.nodeNumber(words[2]))
		}
		if _, judged := j.Order.Policy.Policy.(chain.PolicyOptimistic); judged {
			return traced(j.ID(), s.nodeNumber(words[2]), 7)
		}
		return done(j.ID(), s.nodeNumber(words[2]), 7)
	case "cancel":
		return scheduler.CancelJob{Order: s.id(words[1])}
	case "paid":
		return scheduler.Confirmed{Order: s.id(words[1]), Outcome: scheduler.SettlementRecord{Height: 9, Cost: chain.Nano(5)}}
	case "refuted":
		return refuted(s.id(words[1]), s.nodeNumber(words[2]), true, 0)
	case "unjudged":
		return refuted(s.id(words[1]), s.nodeNumber(words[2]), false, s.number(words[3]))
	case "wait":
		s.now += chain.TimeMs(s.number(words[1]))
		return scheduler.Tick{}
	}
	s.Fatalf("no command %q", words)
	return nil
}

func (s *story) up(words []string) scheduler.Command {
	n := s.nodeNumber(words[0])
	h := hello(n)
	for _, o := range words[1:] {
		switch name, value, _ := strings.Cut(o, "="); name {
		case "owner":
			h.Owner = hello(int(s.number(value))).Owner
		case "cpu":
			h.Total.Millicores = s.number(value)
		case "mem":
			h.Total.MemoryMiB = s.number(value)
		case "region":
			h.Region = value
		case "gpus":
			h.Total.GPUs = s.number(value)
		case "kind":
			h.GPUKind = value
		default:
			s.Fatalf("no option %q of a node", o)
		}
	}
	return scheduler.NodeUp{Node: s.node(n, n), Hello: h}
}

func (s *story) submission(name string, options []string) scheduler.Command {
	if _, twice := s.ids[name]; twice {
		s.Fatalf("job %q is there", name)
	}
	s.nonce++
	made := submit(s.nonce, chain.PolicyNone{})
	for _, o := range options {
		switch option, value, _ := strings.Cut(o, "="); option {
		case "by":
			made.Order.Consumer = crypto.AccountKeyOf(key(3_000 + int(s.number(value))).Public())
		case "priority":
			prioritize(&made.Order, chain.PriorityFee(s.number(value)))
		case "policy":
			policy := s.policy(value)
			work := submit(s.nonce, policy)
			made.Order.Policy, made.Spec.Work = work.Order.Policy, work.Spec.Work
		default:
			s.specify(&made.Spec, option, value)
		}
	}
	if made.Spec.Resources.GPUs > 0 {
		made.Order.Caps = append(made.Order.Caps[:3:3], chain.UnitPrice{Resource: chain.GPU, Price: 5})
	}
	slices.SortFunc(made.Spec.Scheduling.After, crypto.Digest.Compare)
	made.Order.Spec, made.TimeMs, made.Height = made.Spec.Digest(), s.now, 1_000
	return made
}

func (s *story) policy(text string) chain.Policy {
	switch text {
	case "none":
		return chain.PolicyNone{}
	case "zk":
		return proven
	case "optimistic":
		return disputable
	}
	k, n, _ := strings.Cut(text, "/")
	return chain.PolicyReplicate{K: uint8(s.number(k)), N: uint8(s.number(n)), WindowMs: 60_000}
}

// specify changes a specification by one of a submission's options.
func (s *story) specify(to *job.Spec, option, value string) {
	switch option {
	case "cpu":
		to.Resources.Millicores = s.number(value)
	case "mem":
		to.Resources.MemoryMiB = s.number(value)
	case "region":
		to.Region = value
	case "gpus":
		to.Resources.GPUs, to.Resources.GPUMilli = s.number(value), job.GPUWhole
	case "kind":
		to.Scheduling.GPUKind = value
	case "class":
		if err := to.Scheduling.Class.UnmarshalText([]byte(value)); err != nil {
			s.Fatal(err)
		}
	case "preemptible":
		to.Scheduling.Preemptible = value == "1"
	case "gang":
		name, size, _ := strings.Cut(value, "/")
		to.Scheduling.Gang = job.Gang{ID: crypto.DomainBlob.Hash([]byte(name)), Size: s.number(size)}
	case "after":
		for name := range strings.SplitSeq(value, ",") {
			to.Scheduling.After = append(to.Scheduling.After, s.id(name))
		}
	case "input":
		to.Scheduling.InputOf, to.InputBytes = s.id(value), 1<<20
		to.Scheduling.After = append(to.Scheduling.After, to.Scheduling.InputOf)
	default:
		s.Fatalf("no option %s=%s of a job", option, value)
	}
}

func (s *story) bids(name string, list []string) scheduler.Command {
	j := s.job(name)
	out := scheduler.CloseAuction{Order: j.ID(), Auction: j.Auction}
	for _, word := range list {
		node, price, _ := strings.Cut(word, "=")
		n := s.nodeNumber(node)
		b := bid(j.ID(), n, s.number(price))
		if _, zk := j.Order.Policy.Policy.(chain.PolicyZK); zk {
			b = fixedBid(j.ID(), n)
			b.Bid.Fixed = chain.Nano(s.number(price))
		}
		if j.Spec.Resources.GPUs > 0 {
			b.Bid.Prices = append(b.Bid.Prices, chain.UnitPrice{Resource: chain.GPU, Price: 5})
		}
		out.Bids = append(out.Bids, b)
	}
	return out
}

// nameOf is a job's name in the script.
func (s *story) nameOf(id crypto.Digest) string {
	for name, known := range s.ids { // order-free: ids are of one job each
		if known == id {
			return name
		}
	}
	s.Fatalf("the leader is told of job %s, which is not known", id.Short())
	return ""
}

// tell says what the leader shall do.
func (s *story) tell(e scheduler.Effect) string {
	switch e := e.(type) {
	case scheduler.OpenAuction:
		among := make([]string, len(e.Candidates))
		for i, c := range e.Candidates {
			among[i] = s.names[c]
		}
		slices.Sort(among)
		return fmt.Sprintf("→ auction %d of %s for %d among %s", e.Auction, s.nameOf(e.Order), e.Want, strings.Join(among, " "))
	case scheduler.SendAssign:
		line := fmt.Sprintf("→ assign %s to %s", s.nameOf(e.Assignment.Order.ID()), s.names[e.Node])
		if len(e.Assignment.Devices) > 0 {
			line += fmt.Sprintf(", devices %v", e.Assignment.Devices)
		}
		if input := e.Assignment.Input; !input.IsZero() {
			line += ", with input " + input.Short()
		}
		return line
	case scheduler.SendCancel:
		return fmt.Sprintf("→ cancel %s on %s: %s", s.nameOf(e.Order), s.names[e.Node], e.Reason)
	case scheduler.SendAck:
		return strings.TrimSuffix(fmt.Sprintf("→ ack %s to %s: %s", s.nameOf(e.Order), s.names[e.Node], e.Refuse), ": ")
	case scheduler.Post:
		return fmt.Sprintf("→ post %d", e.Cursor)
	}
	s.Fatalf("effect %T", e)
	return ""
}

// changes lists the jobs and nodes of which something changed since it was asked last.
func (s *story) changes() string {
	var out strings.Builder
	note := func(name, line string) {
		if s.said[name] != line {
			s.said[name] = line
			fmt.Fprintf(&out, "%s %s\n", name, line)
		}
	}
	for _, name := range s.jobs {
		if j, ok := s.state.Job(s.ids[name]); ok {
			note(name, s.jobLine(j))
		} else {
			note(name, "is forgotten")
		}
	}
	nodes := s.state.Nodes()
	slices.SortFunc(nodes, func(a, b *scheduler.Node) int {
		return cmp.Compare(s.nodeNumber(s.names[a.ID]), s.nodeNumber(s.names[b.ID]))
	})
	for _, n := range nodes {
		line := fmt.Sprintf("has %d of %d millicores and %d of %d MiB in use", n.Used.Millicores, n.Total.Millicores, n.Used.MemoryMiB, n.Total.MemoryMiB)
		if n.Total.GPUs > 0 {
			line += fmt.Sprintf(", %d thousandths of %d %s", n.Used.GPUMilli, n.Total.GPUs, n.GPUKind)
		}
		switch {
		case !n.Connected:
			line += ", is away"
		case !n.Accepting:
			line += ", is paused"
		case n.Strikes > 0:
			line += fmt.Sprintf(", %d strikes", n.Strikes)
		}
		note(s.names[n.ID], line)
	}
	return out.String()
}

func (s *story) jobLine(j *scheduler.Job) string {
	line := j.Status.String()
	reason := j.Reason
	if j.Status == job.Queued {
		reason = s.state.Reason(j)
	}
	if reason != "" {
		line += " (" + reason + ")"
	}
	if j.RetryAt > s.now {
		line += fmt.Sprintf(", again in %d ms", j.RetryAt-s.now)
	}
	for i := range j.Runs {
		run := &j.Runs[i]
		line += fmt.Sprintf("; %s on %s", run.Stage, s.names[run.Node])
		if run.Reason != "" {
			line += " (" + run.Reason + ")"
		}
	}
	return line
}
