package explorer

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// jobLine is a job in a list, as far as the chain knows it or its cluster does.
type jobLine struct {
	ID       crypto.Digest
	Label    string
	Status   string
	Consumer chain.Address
	Policy   string
	Cost     chain.Amount // paid so far
	MaxCost  chain.Amount
	When     moment
}

func lineOfOrder(o *orderRow, r *request) jobLine {
	status := "lost" // nothing else has neither
	switch {
	case o.Settled > 0:
		status = "settled"
	case o.Recorded > 0:
		status = "recorded"
	}
	return jobLine{ID: o.ID, Status: status, Consumer: o.Consumer, Policy: o.Policy, Cost: o.Cost, MaxCost: o.MaxCost, When: momentOf(o.LastTime, r.now)}
}

func lineOfJob(j *api.Job, r *request) jobLine {
	out := jobLine{
		ID: j.ID, Label: j.Spec.Label, Status: j.Status.String(), Consumer: j.Consumer, Policy: j.Policy, MaxCost: j.Order.MaxCost,
		When: momentOf(j.ChangedMs, r.now),
	}
	if j.Settlement != nil {
		out.Cost = j.Settlement.Cost
	}
	return out
}

// jobLines returns jobs whose last claim is before a place, and before them, on
// the first page, those that the cluster has and the chain does not show yet.
func (s *site) jobLines(r *request, before place, limit int) (lines []jobLine, next place, err error) {
	orders, err := r.view.ordersBefore(before, limit)
	if err != nil {
		return nil, 0, err
	}
	if len(orders) >= limit {
		next = orders[len(orders)-1].Last
	}
	labels := map[crypto.Digest]string{}
	if before == endOfTime {
		// What a cluster that does not answer knows is left out.
		jobs, nexusErr := s.nexusJobs(r.ctx)
		for i := range jobs {
			labels[jobs[i].ID] = jobs[i].Spec.Label
			_, err := r.view.order(jobs[i].ID)
			if nexusErr == nil && errors.Is(err, sql.ErrNoRows) {
				lines = append(lines, lineOfJob(&jobs[i], r))
			}
		}
	}
	for i := range orders {
		line := lineOfOrder(&orders[i], r)
		line.Label = labels[line.ID]
		lines = append(lines, line)
	}
	return lines, next, nil
}

type jobsPage struct {
	Jobs      []jobLine
	Next      place
	First     bool
	HasNexus  bool
	NexusDown bool
}

func (s *site) jobList(r *request) (*answer, error) {
	before, err := r.before()
	if err != nil {
		return nil, err
	}
	page := jobsPage{First: place(before) == endOfTime, HasNexus: len(s.config.Nexus) > 0}
	if page.Jobs, page.Next, err = s.jobLines(r, place(before), pageRows); err != nil {
		return nil, err
	}
	if page.First {
		_, nexusErr := s.nexusJobs(r.ctx)
		page.NexusDown = nexusErr != nil
	}
	return &answer{template: "jobs", title: "Jobs", live: page.First, body: page}, nil
}

// claimLine is what became of a posted claim, in words.
type claimLine struct {
	claimRow
	When    moment
	Verdict string // settled, recorded, lost or refused
	Said    sentence
}

func (r *request) claimLines(rows []claimRow) []claimLine {
	out := make([]claimLine, len(rows))
	for i, row := range rows {
		out[i] = claimLine{claimRow: row, When: momentOf(row.Time, r.now), Said: sayEvent(row.Event)}
		switch row.Event.(type) {
		case chain.ClaimSettled:
			out[i].Verdict = "settled"
		case chain.ClaimRecorded:
			out[i].Verdict = "recorded"
		case chain.ClaimRejected:
			out[i].Verdict = "refused"
		case chain.ClaimLost:
			out[i].Verdict = "lost"
		case chain.Transferred, chain.ProviderRegistered, chain.ProviderUnbonded, chain.ClusterRegistered, chain.ClusterUnbonded,
			chain.Deposited, chain.WithdrawalStarted, chain.Matured:
			out[i].Verdict = chain.EventName(row.Event)
		case chain.ValidatorBonded, chain.Delegated, chain.Undelegated, chain.Redelegated, chain.RewardsWithdrawn, chain.CommissionSet, chain.KeysRotated,
			chain.ValidatorUnjailed, chain.NodeAffiliated, chain.NodeUnaffiliated, chain.ValidatorSlashed, chain.ValidatorJailed, chain.EpochClosed:
		case chain.LeaseOpened, chain.LeaseChanged, chain.LeasePaid, chain.LeaseEnded,
			chain.ChannelChanged, chain.VoucherRedeemed, chain.ChannelClosed, chain.BondAdded, chain.BondSlashed, chain.PanelDrawn, chain.PanelRevealing, chain.PanelDecided, chain.MeterRegistered, chain.BatchSettled,
			chain.ClaimPending, chain.ClaimChallenged, chain.ClaimJudged, chain.ClaimClosed, chain.KeyRevealed,
			chain.RunBegun, chain.RunsDrawn, chain.RunCommitted, chain.RunsRevealing, chain.RunEnded, chain.JurorsPaid,
			chain.AcceptanceBroken, chain.BondForfeited, chain.BreachPaid, chain.BreachClosed,
			chain.PeersDrawn, chain.ServiceMissed, chain.LeaseLeft, chain.ServiceClosed, chain.TermsClosed,
			chain.HardwareChallenged, chain.HardwareJudged, chain.HardwareDeclared, chain.HomeAnnounced,
			chain.CodeUploaded, chain.CodeStored, chain.ContractInstantiated, chain.ContractExecuted, chain.ContractMigrated, chain.ContractAdminSet,
			chain.ContractReplied, chain.ContractEmitted, chain.ContractStored, chain.ContractBurned, chain.CodePinned:
		}
	}
	return out
}

// runLine is a job's run on one node.
type runLine struct {
	Node    crypto.PublicKey
	Owner   *chain.Address
	Stage   string
	Since   moment
	Prices  []api.UnitPrice
	Fixed   chain.Amount
	Receipt *api.UsageReceipt
	Started moment
	Ended   moment
	Took    string
	Detail  string
}

// step is a stop on a job's way.
type step struct {
	Name  string
	State string // done, now, ahead, failed
	When  moment
	Known bool // When is
}

// part is a share of what a job cost.
type part struct {
	Name   string
	Amount chain.Amount
	X      int // of 1,000, where its bar begins
	Width  int // of 1,000
}

type jobPage struct {
	ID        crypto.Digest
	Nexus     *api.Job  // nil: the cluster no longer knows it, or does not tell
	Order     *orderRow // nil: no claim of it is on chain
	Terms     *api.Order
	Label     string
	Status    string
	Reason    string
	Steps     []step
	Runs      []runLine
	Result    crypto.Digest
	Output    crypto.Digest
	Claims    []claimLine
	Settled   []settledLine
	Split     []part
	Rest      chain.Amount // of the max cost, not spent
	HasNexus  bool
	NexusDown bool
	SpecTree  *branch
	OrderTree *branch
}

// settledLine is a paid claim.
type settledLine struct {
	chain.ClaimSettled
	TxID crypto.Digest
	When moment
	At   chain.Height
}

func (s *site) job(r *request) (*answer, error) {
	id, err := crypto.ParseDigest(r.PathValue("id"))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%s is no order id: want 64 hexadecimal digits.", quoted(bounded(r.PathValue("id"), 80)))
	}
	page := &jobPage{ID: id, HasNexus: len(s.config.Nexus) > 0}
	if page.HasNexus {
		ctx, cancel := context.WithTimeout(r.ctx, s.config.AskTimeout)
		defer cancel()
		known, err := s.client.Job(ctx, id)
		if page.NexusDown = err != nil && !isAbsent(err); err == nil {
			page.Nexus = &known
		}
	}
	claims, err := r.view.claimsOf(id, maxClaims)
	if err != nil {
		return nil, err
	}
	if page.Nexus == nil && len(claims) == 0 {
		return nil, refuse(http.StatusNotFound, "No claim of this order is on chain, and no cluster that this explorer asks knows it.")
	}
	if order, err := r.view.order(id); err == nil {
		page.Order = &order
	} else if !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	page.Claims = r.claimLines(claims)
	if err := page.fill(r, claims); err != nil {
		return nil, err
	}
	return &answer{template: "job", title: "Job " + shortDigest(id), live: page.Status != "settled", body: page}, nil
}

// fill puts together what the chain and the cluster know.
func (p *jobPage) fill(r *request, claims []claimRow) error {
	p.Status = "posted"
	if p.Order != nil {
		p.Status = lineOfOrder(p.Order, r).Status
	}
	if j := p.Nexus; j != nil {
		p.Terms, p.Label, p.Reason, p.Result, p.Output = &j.Order, j.Spec.Label, j.Reason, j.Result, j.Output
		if p.Status != "settled" { // the chain is ahead of its cluster
			p.Status = j.Status.String()
		}
		tree, err := treeOf("specification", j.Spec)
		if err != nil {
			return err
		}
		p.SpecTree = &tree
	}
	for i := range claims {
		p.takeClaim(r, &claims[i])
		if _, lost := claims[i].Event.(chain.ClaimLost); lost {
			p.Status = "lost" // also if a part was paid
		}
	}
	if p.Nexus != nil {
		for i := range p.Nexus.Runs {
			p.takeRun(r, &p.Nexus.Runs[i])
		}
	}
	for i := range p.Runs {
		for j := range p.Settled {
			if p.Settled[j].Node == p.Runs[i].Node {
				p.Runs[i].Owner = &p.Settled[j].Provider
			}
		}
	}
	if p.Terms != nil {
		tree, err := treeOf("order", p.Terms)
		if err != nil {
			return err
		}
		p.OrderTree = &tree
	}
	p.split()
	p.way(r)
	return nil
}

// takeClaim adds a posted claim's run and what the chain made of it.
func (p *jobPage) takeClaim(r *request, c *claimRow) {
	if settled, ok := c.Event.(chain.ClaimSettled); ok {
		p.Settled = append(p.Settled, settledLine{ClaimSettled: settled, TxID: c.TxID, When: momentOf(c.Time, r.now), At: c.Place.Height()})
		p.Result = settled.Result
	}
	if c.Claim == nil {
		return
	}
	if p.Terms == nil {
		terms := api.OrderToJSON(c.Claim.Order)
		p.Terms = &terms
	}
	if slices.ContainsFunc(p.Runs, func(r runLine) bool { return r.Node == c.Node }) {
		return // recorded by one claim's event, settled by another's
	}
	bid, receipt := api.BidToJSON(c.Claim.Bid), api.ReceiptToJSON(c.Claim.Receipt)
	p.addRun(r, runLine{Node: c.Node, Stage: "ended", Prices: bid.Prices, Fixed: bid.Fixed, Receipt: &receipt})
}

// takeRun adds what the cluster knows of a run to what the chain does.
func (p *jobPage) takeRun(r *request, known *api.JobRun) {
	run := runLine{
		Node: known.Node, Owner: &known.Owner, Stage: known.Stage, Since: momentOf(known.SinceMs, r.now),
		Prices: known.Prices, Fixed: known.Fixed, Receipt: known.Receipt, Detail: known.Detail,
	}
	for i := range p.Runs {
		if p.Runs[i].Node == known.Node {
			p.Runs[i].Owner, p.Runs[i].Stage, p.Runs[i].Since, p.Runs[i].Detail = run.Owner, run.Stage, run.Since, run.Detail
			return
		}
	}
	p.addRun(r, run)
}

func (p *jobPage) addRun(r *request, run runLine) {
	if receipt := run.Receipt; receipt != nil {
		run.Started, run.Ended = momentOf(chain.TimeMs(receipt.StartedMs), r.now), momentOf(chain.TimeMs(receipt.EndedMs), r.now)
		if receipt.EndedMs >= receipt.StartedMs {
			run.Took = lasting(uint64(receipt.EndedMs - receipt.StartedMs))
		}
	}
	p.Runs = append(p.Runs, run)
}

// split divides the bar of the job's cost.
func (p *jobPage) split() {
	if p.Order == nil {
		return
	}
	o := p.Order
	if rest, ok := o.MaxCost.Sub(o.Cost); ok {
		p.Rest = rest
	}
	x := 0
	for _, share := range []part{
		{Name: "providers", Amount: o.Paid}, {Name: "burned", Amount: o.Burned}, {Name: "treasury", Amount: o.Treasury}, {Name: "cluster", Amount: o.ClusterFee},
	} {
		share.X = x
		if !o.Cost.IsZero() {
			share.Width = int(1000 * float64(share.Amount.Nano()) / float64(o.Cost.Nano()))
		}
		x += share.Width
		p.Split = append(p.Split, share)
	}
}

// way lists the stops from order to settlement with their times, as far as
// they are known.
func (p *jobPage) way(r *request) {
	var ordered, auctioned, ran, finished, posted, settled chain.TimeMs
	status := job.Settling
	if p.Nexus != nil {
		ordered, status = p.Nexus.SubmittedMs, p.Nexus.Status
	}
	if len(p.Settled) > 0 {
		status = job.Settled
	}
	for i := range p.Runs {
		receipt := p.Runs[i].Receipt
		if receipt == nil {
			continue
		}
		if started := chain.TimeMs(receipt.StartedMs); ran == 0 || started < ran {
			auctioned, ran = started, started
		}
		finished = max(finished, chain.TimeMs(receipt.EndedMs))
	}
	if len(p.Claims) > 0 {
		posted = p.Claims[0].Time
	}
	if p.Order != nil && p.Order.Settled > 0 {
		settled = p.Order.LastTime
	}
	reached := map[job.Status]int{job.Queued: 1, job.Bidding: 1, job.Running: 2, job.Settling: 4, job.Settled: 7, job.Failed: 2, job.Cancelled: 1}[status]
	if status == job.Settling && posted > 0 {
		reached = 5
	}
	times := []chain.TimeMs{ordered, auctioned, ran, finished, posted, settled}
	for i, name := range []string{"Ordered", "Auctioned", "Run", "Result", "Claimed", "Settled"} {
		state := "ahead"
		switch {
		case i < reached:
			state = "done"
		case i == reached && (status == job.Failed || status == job.Cancelled):
			state = "failed"
		case i == reached:
			state = "now"
		}
		p.Steps = append(p.Steps, step{Name: name, State: state, When: momentOf(times[i], r.now), Known: times[i] > 0 && state == "done"})
	}
}

type recordsPage struct {
	Records []recordLine
	Next    place
}

type recordLine struct {
	recordRow
	When moment
}

func (s *site) recordList(r *request) (*answer, error) {
	before, err := r.before()
	if err != nil {
		return nil, err
	}
	rows, err := r.view.recordsBefore(place(before), 2*pageRows)
	if err != nil {
		return nil, err
	}
	page := recordsPage{}
	if len(rows) >= 2*pageRows {
		page.Next = rows[len(rows)-1].Place
	}
	for _, row := range rows {
		page.Records = append(page.Records, recordLine{recordRow: row, When: momentOf(row.Record.Timestamp, r.now)})
	}
	return &answer{template: "records", title: "Resource records", live: place(before) == endOfTime, body: page}, nil
}
