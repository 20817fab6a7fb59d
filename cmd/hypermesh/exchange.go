package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// maxClaimFile bounds the file of a claim.
const maxClaimFile = 1 << 20

// checkExchange refuses terms that the policy does not go with.
func checkExchange(c *cli.Context, run *sdk.JobRun) error {
	for flag, asked := range map[string]bool{"fair-exchange": run.Fair, "countersignable": run.Countersignable} {
		switch run.Policy.(type) {
		case chain.PolicyReplicate, chain.PolicyOptimistic:
			if asked {
				return usagef(c, "--%s is for --verify none and zk: others check or judge the result of such a job, and have to see it before it is paid", flag)
			}
		case chain.PolicyNone, chain.PolicyZK:
		}
	}
	return nil
}

func jobOutputCommand() *cli.Command {
	return &cli.Command{
		Name: "output", Usage: "fetch the output of a settled job", ArgsUsage: "JOB",
		Description: "Checks it against the id in the receipt that was paid. The output of a job under fair exchange is opened with the key that the\n" +
			"payment made known; if what was sealed is not what the receipt names, that is said.\n" +
			"Example: hypermesh job output 5f3a… --out result --config net.json",
		Flags: append(networkFlags(),
			&cli.StringFlag{Name: "out", Usage: "`DIR`, new or empty", Required: true},
			&cli.StringFlag{Name: "identity", Usage: "key `FILE` that opens an output that was encrypted with --encrypt-to"}),
		Action: jobOutput,
	}
}

func jobOutput(c *cli.Context) error {
	id, err := parseJobID(c)
	if err != nil {
		return err
	}
	to := output{dir: c.String("out")}
	if err := checkOutDir(to.dir); err != nil {
		return usagef(c, "--out: %v", err)
	}
	t, err := openTarget(c)
	if err != nil {
		return err
	}
	j, err := t.client.Job(c.Context, id)
	if err != nil {
		return err
	}
	if j.ID != id {
		return fmt.Errorf("job %s was asked for, the server shows %s", id, j.ID)
	}
	if len(j.Spec.OutputTo) > 0 {
		if c.String("identity") == "" {
			return usagef(c, "the output is encrypted: give --identity")
		}
		key, err := readIdentities(c.String("identity"))
		if err != nil {
			return err
		}
		to.key = &key
	}
	if j.Settlement == nil {
		return fmt.Errorf("job %s is %s: there is no output before it is settled", id, j.Status)
	}
	if err := t.client.VerifySettled(c.Context, &j); err != nil {
		return err
	}
	return fetchOutput(c.Context, t.client, &j, to)
}

func jobCountersignCommand() *cli.Command {
	return &cli.Command{
		Name: "countersign", Usage: "sign that a receipt is right, so that the work is paid without the cluster",
		Flags: append(append([]cli.Flag{
			&cli.StringFlag{Name: "claim", Usage: "`FILE` of the claim, as the node's owner has it from claim export", Required: true},
			&cli.StringFlag{Name: "out", Usage: "`FILE` to write the countersigned claim to", Required: true},
		}, accountFlags()...), chainFlags()...),
		Description: "For a job that was ordered with --countersignable and whose cluster is gone, or does not attest to the receipt: the claim is paid out of\n" +
			"your escrow there, late in the order's claim window, whoever posts it then (claim post). Says what it costs, and asks.\n" +
			"Example: hypermesh job countersign --claim claim.json --out signed.json --genesis genesis.json",
		Action: jobCountersign,
	}
}

func jobCountersign(c *cli.Context) error {
	claim, err := readClaim(c.String("claim"))
	if err != nil {
		return err
	}
	s, err := openSender(c, "")
	if err != nil {
		return err
	}
	cost, err := countersignable(&claim, s)
	if err != nil {
		return fmt.Errorf("%s: %w", c.String("claim"), err)
	}
	receipt := &claim.Receipt
	fmt.Fprintf(c.App.ErrWriter, "The receipt of node %s for job %s, which ended with %q, is right:\n  %s out of the escrow of %s at cluster %s\n",
		receipt.Node, receipt.Order, receipt.Exit, cost, s.account.Address(), claim.Order.Cluster)
	if ok, err := confirm(c, "Sign as "+s.account.Name()+"?"); err != nil || !ok {
		return errors.Join(errors.New("not signed"), err)
	}
	if claim.Attestation, err = s.account.Sign(crypto.DomainCountersign, chain.CountersignPayload(s.genesis.ChainID, receipt.Digest())); err != nil {
		return err
	}
	claim.Countersigned, claim.OutputKey = true, nil
	from := s.genesis.Params.CountersignedFrom(claim.Order.Deadline)
	fmt.Fprintf(c.App.ErrWriter, "It is taken from %s on.\n", time.UnixMilli(int64(min(from, 1<<52))).UTC().Format(time.RFC3339))
	return writeClaim(c.String("out"), &claim)
}

// countersignable returns what a claim costs that the account may countersign, or why it may not,
// or should not.
func countersignable(claim *chain.Claim, s *sender) (chain.Amount, error) {
	receipt, order := &claim.Receipt, claim.Order.ID()
	switch {
	case claim.Order.ChainID != s.genesis.ChainID || receipt.ChainID != s.genesis.ChainID:
		return chain.Amount{}, fmt.Errorf("it is of chain %.32q, this is %q", claim.Order.ChainID, s.genesis.ChainID)
	case claim.Order.ConsumerAddress() != s.account.Address():
		return chain.Amount{}, fmt.Errorf("the order is %s's, you are %s", claim.Order.ConsumerAddress(), s.account.Address())
	case !claim.Order.Countersignable:
		return chain.Amount{}, errors.New("the order does not allow it: job run --countersignable does")
	case receipt.Order != order || claim.Bid.Order != order || claim.Acceptance.Order != order:
		return chain.Amount{}, fmt.Errorf("not all of its parts are of order %s", order)
	case receipt.Node != claim.Bid.Node:
		return chain.Amount{}, errors.New("bid and receipt are of different nodes")
	case !receipt.Node.Verify(crypto.DomainUsage, receipt.Payload(), claim.ReceiptSig):
		return chain.Amount{}, fmt.Errorf("the receipt is not signed by node %s", receipt.Node)
	}
	return claim.Cost()
}

func claimExportCommand() *cli.Command {
	return &cli.Command{
		Name: "export", Usage: "write a claim that an agent keeps to a file, without the key of a sealed output",
		Description: "For the consumer to countersign. The agent may run or not.\n" +
			"Example: hypermesh claim export --home agent --order 9f86… --out claim.json",
		Flags: []cli.Flag{agentHomeFlag(), claimOrderFlag(), &cli.StringFlag{Name: "out", Usage: "`FILE`", Required: true}},
		Action: func(c *cli.Context) error {
			order, err := parseClaimOrder(c)
			if err != nil {
				return err
			}
			owed, err := owedBy(c, order)
			if err != nil {
				return err
			}
			owed[0].Claim.OutputKey = nil
			return writeClaim(c.String("out"), &owed[0].Claim)
		},
	}
}

// owedBy returns the claims that the agent in --home keeps, or the one of an order.
func owedBy(c *cli.Context, order crypto.Digest) ([]agent.Owed, error) {
	config, err := agentConfig(c)
	if err != nil {
		return nil, err
	}
	list, err := agent.ReadOwed(&config)
	if err != nil || order.IsZero() {
		return list, err
	}
	for i := range list {
		if list[i].Claim.Receipt.Order == order {
			return list[i : i+1], nil
		}
	}
	return nil, fmt.Errorf("the agent in %s keeps no claim of order %s: it has none, or it was paid", config.Home, order)
}

func claimPostCommand() *cli.Command {
	return &cli.Command{
		Name: "post", Usage: "post claims that are not paid: those that an agent keeps, or one of a file",
		Flags: append(append([]cli.Flag{
			agentHomeFlag(),
			&cli.StringFlag{Name: "order", Usage: "`ID` of one order; else all that an agent keeps and that have everything that the chain asks for"},
			&cli.StringFlag{Name: "claim", Usage: "`FILE` of a claim, such as the consumer has countersigned; of a sealed output the key is taken from --home"},
		}, accountFlags()...), chainFlags()...),
		Description: "Relays do this. It is for a provider whose cluster is gone, or keeps its claims to itself: an agent keeps what its claims need until they are\n" +
			"paid, and of an output under fair exchange it shows the key to nobody before. A claim that shows a key is posted only if the chain\n" +
			"does not have it already and the consumer's escrow covers it. Shows the transaction in words and asks before it is signed.\n" +
			"Example: hypermesh claim post --home agent --key-file owner.key --genesis genesis.json --rpc https://node.example:7180",
		Action: claimPost,
	}
}

func claimPost(c *cli.Context) error {
	s, err := openSender(c, "")
	if err != nil {
		return err
	}
	claims, err := claimsToPost(c)
	if err != nil {
		return err
	}
	var worth []chain.Claim
	for i := range claims {
		if err := worthPosting(c, s, &claims[i]); err != nil {
			fmt.Fprintf(c.App.ErrWriter, "hypermesh: order %s is left out: %v\n", claims[i].Receipt.Order, err)
			continue
		}
		if worth = append(worth, claims[i]); len(worth) == chain.MaxClaims {
			break // the rest with the next call
		}
	}
	if len(worth) == 0 {
		return errors.New("there is no claim to post")
	}
	r, err := s.send(c, sdk.BuilderOptions{}, chain.Settle{Claims: worth})
	if err != nil {
		return err
	}
	receipt, _, err := s.client.VerifiedReceipt(c.Context, r.TxID)
	if err != nil {
		return err
	}
	for _, event := range receipt.Events {
		if rejected, ok := event.(chain.ClaimRejected); ok {
			err = errors.Join(err, fmt.Errorf("the claim of order %s is refused: %s", rejected.Order, rejected.Reason))
		}
	}
	return errors.Join(printSent(c, r, fmt.Sprintf("posted       %d claims", len(worth))), err)
}

// claimsToPost returns the claims that the flags name, with all that the chain asks for.
func claimsToPost(c *cli.Context) ([]chain.Claim, error) {
	var order crypto.Digest
	var err error
	if c.IsSet("order") {
		if order, err = parseClaimOrder(c); err != nil {
			return nil, err
		}
	}
	if path := c.String("claim"); path != "" {
		claim, err := readClaim(path)
		if err != nil {
			return nil, err
		}
		if claim.Receipt.Sealed != nil && claim.OutputKey == nil {
			owed, err := owedBy(c, claim.Receipt.Order)
			if err != nil {
				return nil, fmt.Errorf("the key of the sealed output: %w", err)
			}
			claim.OutputKey = owed[0].Claim.OutputKey
		}
		return []chain.Claim{claim}, nil
	}
	owed, err := owedBy(c, order)
	if err != nil {
		return nil, err
	}
	var out []chain.Claim
	for i := range owed {
		if owed[i].Complete() {
			out = append(out, owed[i].Claim)
		} else if !order.IsZero() {
			return nil, fmt.Errorf("the claim of order %s has no attestation of its cluster: if the order allows it, the consumer may countersign it (claim export, job countersign)", order)
		}
	}
	return out, nil
}

// worthPosting looks at what would have the chain refuse a claim: a key that it shows is known
// from then on, whether it is paid or not.
func worthPosting(c *cli.Context, s *sender, claim *chain.Claim) error {
	if err := claim.Check(); err != nil {
		return err
	}
	if err := claim.Receipt.CheckKey(claim.OutputKey); err != nil {
		return err
	}
	if from := s.genesis.Params.CountersignedFrom(claim.Order.Deadline); claim.Countersigned && chain.TimeMs(time.Now().UnixMilli()) < from {
		return fmt.Errorf("it is countersigned, and taken from %s on", time.UnixMilli(int64(min(from, 1<<52))).UTC().Format(time.RFC3339))
	}
	if claim.OutputKey != nil {
		return s.client.CheckPayable(c.Context, claim)
	}
	value, err := s.client.VerifiedState(c.Context, settlement.OrderKey(claim.Receipt.Order))
	if err != nil {
		return err
	}
	if _, known := value.Get(); known {
		return errors.New("the chain has a claim of it already")
	}
	return nil
}

func readClaim(path string) (chain.Claim, error) {
	file, err := os.Open(path)
	if err != nil {
		return chain.Claim{}, err
	}
	data, err := io.ReadAll(io.LimitReader(file, maxClaimFile+1))
	if err = errors.Join(err, file.Close()); err != nil {
		return chain.Claim{}, err
	}
	if len(data) > maxClaimFile {
		return chain.Claim{}, fmt.Errorf("%s has more than %d bytes", path, maxClaimFile)
	}
	var form api.Claim
	if err := api.DecodeJSON(data, &form); err != nil {
		return chain.Claim{}, fmt.Errorf("%s: %w", path, err)
	}
	claim, err := api.ClaimFromJSON(form)
	if err == nil {
		err = claim.Check()
	}
	return claim, ofFile(path, err)
}

// writeClaim writes a claim where nothing is yet.
func writeClaim(path string, claim *chain.Claim) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(api.ClaimToJSON(*claim), "", "  ")
	if err == nil {
		_, err = file.Write(append(data, '\n'))
	}
	return errors.Join(err, file.Close())
}
