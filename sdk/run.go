package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// JobRun says what RunJob runs.
type JobRun struct {
	Spec     job.Spec // its blobs and InputBytes are filled in from Blobs
	Blobs    []io.ReadSeeker
	Policy   chain.Policy // of replicate, a zero window or stake is filled in: see ReplicateTerms
	Consumer chain.Signer
	MaxCost  chain.Amount  // zero: what the quote says, with headroom; see mostFor
	Patience time.Duration // until the deadline; zero: 10 minutes
	Fair     bool          // fair exchange: the output travels sealed, and whoever is paid tells the key; see JobOutput

	// PriorityBps is what the job pays above what it costs, in 1/10,000, to be taken up before others of its class. MaxCost includes it.
	PriorityBps chain.PriorityFee

	// Countersignable lets the consumer have the job paid without its cluster, late in the claim
	// window. Its cap stays outstanding until that ends if it is not settled.
	Countersignable bool

	// Bind, if set, is given the ids of Blobs once they are known, and returns
	// the work that runs on them.
	Bind func(ids []crypto.Digest) job.Work
	// Progress, if set, is told each stage, and then each change of the job.
	Progress func(stage string, j *api.Job)
}

// ErrNotSettled is matched by the error of a job that ended without payment.
var ErrNotSettled = errors.New("sdk: job did not settle")

// capHeadroom is how much above the quoted prices an order's caps are: if who is cheapest fails,
// others can bid.
const capHeadroom = 2

// pollEvery is how often a job's status is asked for.
const pollEvery = 100 * time.Millisecond

// RunJob takes a job from its blobs to its settlement: it uploads, asks for a
// quote, deposits what the escrow lacks, submits, follows the job to its end,
// and has the chain's state prove that it was settled as the cluster says. It
// believes the cluster's servers only as to what the job may cost, and that only
// if MaxCost is zero. Errors: job.ErrSpec for work that a panel could not judge in its time;
// ErrTerms before anything was deposited; of a job
// that ended otherwise than settled ErrNotSettled; light.ErrRefused if the chain
// does not show that it was.
func (c *Client) RunJob(ctx context.Context, r JobRun) (api.Job, error) {
	note := r.Progress
	if note == nil {
		note = func(string, *api.Job) {}
	}
	if g := c.config.Genesis; g != nil && r.Policy != nil {
		if err := job.CheckJudged(&chain.Order{Policy: chain.PolicyField{Policy: r.Policy}}, &r.Spec, &g.Params); err != nil {
			return api.Job{}, fmt.Errorf("sdk: order: %w", err)
		}
	}
	note("uploading", nil)
	if err := c.uploadWork(ctx, &r); err != nil {
		return api.Job{}, err
	}
	r.Policy = ReplicateTerms(r.Policy, &r.Spec, r.MaxCost, c.leastBond())
	note("asking for a quote", nil)
	quote, err := c.Quote(ctx, r.Spec, r.Policy, r.PriorityBps)
	if err != nil {
		return api.Job{}, fmt.Errorf("sdk: quote: %w", err)
	}
	if quote.MaxCost.IsZero() {
		return api.Job{}, fmt.Errorf("%w: nobody can take it: %s", ErrNotSettled, quote.Why())
	}
	if r.MaxCost.IsZero() {
		r.MaxCost = mostFor(r.Policy, quote.MaxCost)
		r.Policy = ReplicateTerms(r.Policy, &r.Spec, r.MaxCost, c.leastBond())
	}
	note(fmt.Sprintf("at most %s, bids: %d", r.MaxCost, len(quote.Bids)), nil)
	status, err := c.NexusStatus(ctx)
	if err != nil {
		return api.Job{}, fmt.Errorf("sdk: asking the cluster: %w", err)
	}
	if err := c.CheckTerms(ctx, quote.Cluster, status); err != nil {
		return api.Job{}, err
	}
	if err := c.EnsureEscrow(ctx, r.Consumer, quote.Cluster, r.MaxCost); err != nil {
		return api.Job{}, err
	}
	request, err := SignOrder(orderFor(&r, &quote, status), r.Spec, r.Consumer)
	if err != nil {
		return api.Job{}, err
	}
	note("submitting", nil)
	submitted, err := c.submitCovered(ctx, &r, quote.Cluster, request)
	if err != nil {
		return api.Job{}, fmt.Errorf("sdk: submitting the job: %w", err)
	}
	signed, err := api.OrderFromJSON(request.Order)
	if err != nil {
		return api.Job{}, err
	}
	if signed.ID() != submitted.ID {
		return api.Job{}, refusef("order %s was submitted, the server shows job %s", signed.ID(), submitted.ID)
	}
	done, err := c.Follow(ctx, submitted, note)
	if err != nil {
		return done, err
	}
	return done, c.VerifySettled(ctx, &done)
}

// uploadWork uploads the blobs and fills in what depends on their ids.
func (c *Client) uploadWork(ctx context.Context, r *JobRun) error {
	ids := make([]crypto.Digest, len(r.Blobs))
	r.Spec.InputBytes = 0
	for i, content := range r.Blobs {
		id, size, err := c.PutBlob(ctx, content)
		if err != nil {
			return fmt.Errorf("sdk: uploading blob %d: %w", i, err)
		}
		ids[i] = id
		r.Spec.InputBytes += uint64(size)
	}
	if r.Bind != nil {
		r.Spec.Work = job.WorkField{Work: r.Bind(ids)}
	}
	return r.Spec.Check()
}

// submitCovered submits an order. If the cluster says that the escrow does not
// cover it beside the consumer's other orders, it deposits what they need
// together and tries again: others may run at the same time.
func (c *Client) submitCovered(ctx context.Context, r *JobRun, cluster crypto.PublicKey, request api.SubmitJobRequest) (api.Job, error) {
	const tries = 4
	for try := 1; ; try++ {
		submitted, err := c.SubmitJob(ctx, request)
		if err == nil || try == tries || !isUncovered(err) {
			return submitted, err
		}
		if err := c.EnsureEscrowFor(ctx, r.Consumer, cluster, r.MaxCost); err != nil {
			return api.Job{}, err
		}
	}
}

// EnsureEscrowFor is EnsureEscrow for orders that cost at most an amount, beside
// those of the consumer that its escrow has still to cover.
func (c *Client) EnsureEscrowFor(ctx context.Context, consumer chain.Signer, cluster crypto.PublicKey, amount chain.Amount) error {
	outstanding, err := c.outstanding(ctx, consumer)
	if err != nil {
		return err
	}
	need, ok := outstanding.Add(amount)
	if !ok {
		return refusef("outstanding orders of %s and %s more do not fit an amount", outstanding, amount)
	}
	return c.EnsureEscrow(ctx, consumer, cluster, need)
}

// isUncovered reports whether a cluster refused an order for want of escrow.
func isUncovered(err error) bool {
	p, ok := errors.AsType[*api.Problem](err)
	return ok && len(p.Errors) == 1 && p.Errors[0].Location == "body.order.max_cost_nhyper"
}

// outstanding returns the sum of the caps of a consumer's orders that are not
// final, and of which the cluster does not say that the chain has taken the cap out of the escrow
// already. Only orders that the consumer signed count, whatever the server lists.
func (c *Client) outstanding(ctx context.Context, consumer chain.Signer) (chain.Amount, error) {
	key, err := consumer.AccountKey().Ed25519()
	if err != nil {
		return chain.Amount{}, err
	}
	var sum chain.Amount
	for j, err := range c.Jobs(ctx, chain.AddressOf(consumer.AccountKey())) {
		if err != nil {
			return chain.Amount{}, fmt.Errorf("sdk: listing the orders: %w", err)
		}
		order, err := api.OrderFromJSON(j.Order)
		if err != nil || j.Status.Final() || j.Leased || j.Begun || !key.Verify(crypto.DomainOrder, order.Payload(), j.OrderSig) {
			continue
		}
		next, ok := sum.Add(order.MaxCost)
		if !ok {
			return chain.Amount{}, refusef("the outstanding orders do not fit an amount")
		}
		sum = next
	}
	return sum, nil
}

// depositTries is how often a deposit is sent that is not accepted: others of the account may
// send with the same nonce meanwhile. depositPause is the wait before the second.
const (
	depositTries = 5
	depositPause = 200 * time.Millisecond
)

// EnsureEscrow deposits what a consumer's escrow at a cluster lacks of an
// amount, and waits until it is there.
func (c *Client) EnsureEscrow(ctx context.Context, consumer chain.Signer, cluster crypto.PublicKey, amount chain.Amount) error {
	for try := 1; ; try++ {
		err := c.deposit(ctx, consumer, cluster, amount)
		if rejected, ok := errors.AsType[*RejectedError](err); !ok || rejected.Included || try == depositTries {
			return err
		}
		if err := sleep(ctx, time.Duration(try)*depositPause); err != nil {
			return err
		}
	}
}

// deposit is EnsureEscrow, once.
func (c *Client) deposit(ctx context.Context, consumer chain.Signer, cluster crypto.PublicKey, amount chain.Amount) error {
	value, err := c.VerifiedState(ctx, settlement.EscrowKey(chain.AddressOf(consumer.AccountKey()), cluster))
	if err != nil {
		return fmt.Errorf("sdk: reading the escrow: %w", err)
	}
	var held chain.Amount
	if raw, ok := value.Get(); ok {
		escrow, err := settlement.DecodeEscrow(raw)
		if err != nil {
			return fmt.Errorf("sdk: escrow: %w", err)
		}
		held = escrow.Balance
	}
	lacking, ok := amount.Sub(held)
	if !ok || lacking.IsZero() {
		return nil
	}
	if _, err := c.NewBuilder(consumer, BuilderOptions{}).SendAndWait(ctx, chain.Deposit{Cluster: cluster, Amount: lacking}); err != nil {
		return fmt.Errorf("sdk: depositing %s: %w", lacking, err)
	}
	return nil
}

// mostFor returns what an order may cost that was quoted an amount. Where one node is paid, the
// quote is that of who is cheapest; under replicate it is that of the dearest who may be asked.
func mostFor(policy chain.Policy, quoted chain.Amount) chain.Amount {
	if _, ok := policy.(chain.PolicyReplicate); ok {
		return quoted
	}
	most, ok := quoted.ShareFloor(capHeadroom, 1)
	if !ok {
		return quoted
	}
	if p, ok := policy.(chain.PolicyOptimistic); ok {
		most = chain.Nano(min(most.Nano(), max(quoted.Nano(), p.MostCovered().Nano())))
	}
	return most
}

// orderFor returns the order of a run: caps a little above what was quoted.
func orderFor(r *JobRun, quote *api.Quote, status api.NexusStatus) chain.Order {
	patience := r.Patience
	if patience == 0 {
		patience = 10 * time.Minute
	}
	order := chain.Order{
		ChainID: status.ChainID, Nonce: rand.Uint64(), Cluster: quote.Cluster, Policy: chain.PolicyField{Policy: r.Policy}, MaxCost: r.MaxCost,
		Deadline: status.NowMs + chain.TimeMs(patience.Milliseconds()), Fair: r.Fair, Countersignable: r.Countersignable,
		PriorityBps: r.PriorityBps,
	}
	if _, ok := r.Policy.(chain.PolicyZK); ok {
		order.FixedCap = r.MaxCost
	}
	for _, resource := range chain.Resources {
		highest := uint64(0)
		for _, bid := range quote.Bids {
			for _, p := range bid.Prices {
				if p.Resource == resource {
					highest = max(highest, uint64(p.Price))
				}
			}
		}
		if highest > 0 {
			order.Caps = append(order.Caps, chain.UnitPrice{Resource: resource, Price: capFor(highest, r.PriorityBps)})
		}
	}
	return order
}

// capFor returns an order's cap for what costs a price now: with its headroom and the order's priority fee.
func capFor(price uint64, fee chain.PriorityFee) uint64 {
	room, ok := checked.Mul(capHeadroom, price)
	if !ok {
		return math.MaxUint64
	}
	return fee.Above(room)
}

// Follow reports every change of a job until it is final.
func (c *Client) Follow(ctx context.Context, j api.Job, note func(stage string, j *api.Job)) (api.Job, error) {
	for next, err := range c.WatchJob(ctx, j.ID) {
		if err != nil {
			return j, fmt.Errorf("sdk: following job %s: %w", j.ID.Short(), err)
		}
		j = next
		note(j.Status.String(), &j)
	}
	if j.Status != job.Settled {
		return j, fmt.Errorf("%w: it is %s: %s", ErrNotSettled, j.Status, j.Reason)
	}
	return j, nil
}
