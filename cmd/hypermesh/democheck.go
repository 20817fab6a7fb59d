package main

import (
	"context"
	"errors"
	"fmt"
	"image/png"
	"os"
	"path/filepath"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/sdk/api"
	"github.com/hypermesh/hypermesh/tokens"
)

// check holds what the servers said against the chain: every value below is
// proven by a Merkle proof against a header that a quorum certified.
func (d *demoRun) check(ctx context.Context) (demoSupply, error) {
	if err := d.checkFractal(); err != nil {
		return demoSupply{}, err
	}
	if err := d.checkProduct(); err != nil {
		return demoSupply{}, err
	}
	var spent, burned chain.Amount
	for i := range d.jobs {
		order, err := d.checkJob(ctx, &d.jobs[i])
		if err != nil {
			return demoSupply{}, fmt.Errorf("job %s: %w", d.jobs[i].ID.Short(), err)
		}
		var okSpent, okBurned bool
		spent, okSpent = spent.Add(order.Spent)
		burned, okBurned = burned.Add(d.jobs[i].Settlement.Burned)
		if !okSpent || !okBurned {
			return demoSupply{}, errors.New("the sums overflow")
		}
	}
	if err := d.checkEscrow(ctx, spent); err != nil {
		return demoSupply{}, err
	}
	return d.checkSupply(ctx, burned)
}

// checkFractal checks the picture that the providers agreed on.
func (d *demoRun) checkFractal() (err error) {
	f, err := os.Open(filepath.Join(d.output(0), "fractal.png"))
	if err != nil {
		return fmt.Errorf("the picture: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	picture, err := png.Decode(f)
	if err != nil {
		return fmt.Errorf("the picture: %w", err)
	}
	if b := picture.Bounds(); b.Dx() != 512 || b.Dy() != 512 {
		return fmt.Errorf("the picture is %d × %d, want 512 × 512", b.Dx(), b.Dy())
	}
	return nil
}

// checkProduct multiplies again and compares.
func (d *demoRun) checkProduct() error {
	data, err := os.ReadFile(filepath.Join(d.output(1), agent.ProductFile))
	if err != nil {
		return fmt.Errorf("the product: %w", err)
	}
	got, err := zk.ParseProductCSV(data)
	if err != nil {
		return fmt.Errorf("the product: %w", err)
	}
	want, err := zk.Multiply(d.left, d.right)
	if err != nil {
		return err
	}
	if zk.ProductDigest(got) != zk.ProductDigest(want) {
		return errors.New("the product is wrong")
	}
	return nil
}

// checkJob checks a job's order and claims on the chain.
func (d *demoRun) checkJob(ctx context.Context, j *api.Job) (settlement.Order, error) {
	raw, err := d.proven(ctx, settlement.OrderKey(j.ID))
	if err != nil {
		return settlement.Order{}, fmt.Errorf("its order: %w", err)
	}
	order, err := settlement.DecodeOrder(raw)
	if err != nil {
		return settlement.Order{}, err
	}
	if !order.Closed || order.Spent != j.Settlement.Cost || order.Consumer != d.target.account.Address() {
		return settlement.Order{}, fmt.Errorf("the chain has it closed %v at %s, the cluster says %s", order.Closed, order.Spent, j.Settlement.Cost)
	}
	owners := map[chain.Address]bool{}
	var cost chain.Amount
	for _, node := range j.Settlement.Providers {
		claim, err := d.checkClaim(ctx, j, &order, node)
		if err != nil {
			return settlement.Order{}, fmt.Errorf("the claim of node %s: %w", node.Short(), err)
		}
		owners[claim.Provider] = true
		var ok bool
		if cost, ok = cost.Add(claim.Cost); !ok {
			return settlement.Order{}, errors.New("the claims' costs do not fit an amount")
		}
	}
	want := 1
	if p, ok := order.Policy.Policy.(chain.PolicyReplicate); ok {
		want = int(p.K)
	}
	if len(owners) != want || cost != order.Spent {
		return settlement.Order{}, fmt.Errorf("%d owners were paid %s, want %d and %s", len(owners), cost, want, order.Spent)
	}
	recorded := 0
	for _, tx := range j.Settlement.Txs {
		receipt, _, err := d.target.client.VerifiedReceipt(ctx, tx)
		if err != nil {
			return settlement.Order{}, fmt.Errorf("settlement transaction: %w", err)
		}
		if !receipt.Accepted() {
			return settlement.Order{}, fmt.Errorf("settlement transaction %s was rejected: %s", tx.Short(), receipt.Rejection)
		}
		for _, e := range receipt.Events {
			if settled, ok := e.(chain.ClaimSettled); ok && settled.Order == j.ID && len(settled.Records) > 0 {
				recorded++
			}
		}
	}
	if recorded != len(j.Settlement.Providers) {
		return settlement.Order{}, fmt.Errorf("%d of %d claims have ResourceTransaction records", recorded, len(j.Settlement.Providers))
	}
	return order, nil
}

func (d *demoRun) checkClaim(ctx context.Context, j *api.Job, order *settlement.Order, node crypto.PublicKey) (settlement.Claim, error) {
	claim, inside := order.ClaimOf(node, 1)
	if !inside {
		raw, err := d.proven(ctx, settlement.ClaimKey(chain.ClaimKey{Order: j.ID, Node: node, Sequence: 1}))
		if err != nil {
			return settlement.Claim{}, err
		}
		if claim, err = settlement.DecodeClaim(raw); err != nil {
			return settlement.Claim{}, err
		}
	}
	switch {
	case !claim.Settled():
		return settlement.Claim{}, errors.New("it is not settled")
	case claim.Result != j.Result:
		return settlement.Claim{}, fmt.Errorf("its result is %s, the job's is %s", claim.Result.Short(), j.Result.Short())
	case claim.ProofVerified != j.Settlement.ProofVerified:
		return settlement.Claim{}, fmt.Errorf("the chain says proof verified %v, the cluster %v", claim.ProofVerified, j.Settlement.ProofVerified)
	}
	sum := claim.Paid
	for _, part := range []chain.Amount{claim.Burned, claim.Treasury, claim.ClusterFee} {
		var ok bool
		if sum, ok = sum.Add(part); !ok {
			return settlement.Claim{}, errors.New("the parts of its cost do not fit an amount")
		}
	}
	if sum != claim.Cost || claim.Paid.IsZero() || claim.Burned.IsZero() {
		return settlement.Claim{}, fmt.Errorf("%s paid, %s burned, %s to the treasury and %s to the cluster are not its cost of %s", claim.Paid, claim.Burned, claim.Treasury, claim.ClusterFee, claim.Cost)
	}
	return claim, nil
}

// checkEscrow checks that the rest of the deposit is the consumer's.
func (d *demoRun) checkEscrow(ctx context.Context, spent chain.Amount) error {
	raw, err := d.proven(ctx, settlement.EscrowKey(d.target.account.Address(), d.cluster))
	if err != nil {
		return fmt.Errorf("the escrow: %w", err)
	}
	escrow, err := settlement.DecodeEscrow(raw)
	if err != nil {
		return err
	}
	if rest, ok := demoEscrow.Sub(spent); !ok || rest != escrow.Balance {
		return fmt.Errorf("the escrow holds %s after %s of %s were spent", escrow.Balance, spent, demoEscrow)
	}
	d.say(fmt.Sprintf("%s spent, %s of the escrow released", spent, escrow.Balance))
	return nil
}

func (d *demoRun) checkSupply(ctx context.Context, burned chain.Amount) (demoSupply, error) {
	raw, err := d.proven(ctx, tokens.SupplyKey())
	if err != nil {
		return demoSupply{}, fmt.Errorf("the supply: %w", err)
	}
	supply, err := tokens.DecodeSupply(raw)
	if err != nil {
		return demoSupply{}, err
	}
	total, ok := supply.Minted.Sub(supply.Burned)
	if !ok || supply.Minted.Less(chain.TotalSupply) || supply.Burned.Less(burned) { // epochs mint
		return demoSupply{}, fmt.Errorf("%s minted and %s burned do not fit %s burned by the jobs", supply.Minted, supply.Burned, burned)
	}
	return demoSupply{Minted: supply.Minted, Burned: supply.Burned, Total: total}, nil
}

// proven returns a value with its proof checked, from a state that is not older
// than the jobs' settlements.
func (d *demoRun) proven(ctx context.Context, key []byte) ([]byte, error) {
	var settled chain.Height
	for i := range d.jobs {
		settled = max(settled, d.jobs[i].Settlement.Height)
	}
	// The receipts of a block are committed to by the next one, which also proves
	// the state after it.
	if _, err := d.target.client.VerifiedReceipts(ctx, settled); err != nil {
		return nil, err
	}
	value, err := d.target.client.VerifiedState(ctx, key)
	if err != nil {
		return nil, err
	}
	if value.Height() < settled {
		return nil, fmt.Errorf("the proven state is of height %d, the jobs settled at %d", value.Height(), settled)
	}
	raw, ok := value.Get()
	if !ok {
		return nil, errors.New("the chain has no such record")
	}
	return raw, nil
}
