package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// maxAcceptedBytes bounds the file of an acceptance: a job is the largest that has one.
const maxAcceptedBytes = 1 << 20

func claimReportCommand() *cli.Command {
	return &cli.Command{
		Name: "report-acceptance", Usage: "show that a cluster broke its word, which costs its bond",
		Flags: append(append([]cli.Flag{
			&cli.StringFlag{Name: "first", Usage: "`FILE` with an order and its cluster's acceptance, as JSON", Required: true},
			&cli.StringFlag{Name: "second", Usage: "`FILE` with another of the same cluster, consumer and sequence; without it the first must promise more than the escrow held"},
		}, accountFlags()...), chainFlags()...),
		Description: "Two things are evidence: two acceptances of one consumer with one sequence, and one that promises more than the balance of the\n" +
			"consumer's escrow was since its order can have been accepted. Half of the cluster's bond is held for who lost by it, the reporter\n" +
			"gets its part, and the rest is burned; what claims lock of it follows when they end. A file is a job as GET /v1/jobs/ID of a\n" +
			"server tells it, a lease's deal, or an object with order, acceptance and acceptance_signature. Shows the transaction in words and asks before it is signed.\n" +
			"Example: hypermesh claim report-acceptance --first one.json --second other.json --genesis genesis.json",
		Action: claimReport,
	}
}

func claimReport(c *cli.Context) error {
	report := chain.ReportAcceptance{}
	var err error
	if report.First, err = readAccepted(c.String("first")); err != nil {
		return err
	}
	if c.IsSet("second") {
		second, err := readAccepted(c.String("second"))
		if err == nil {
			err = ofFile(c.String("second"), conflict(&report.First, &second))
		}
		if err != nil {
			return err
		}
		report.Second = &second
	}
	return sendMessage(c, "", func(s *sender) (chain.Msg, error) {
		if id := report.First.Order.ChainID; id != s.genesis.ChainID {
			return nil, fmt.Errorf("%s: the order is of chain %.32q, --genesis is of %q", c.String("first"), id, s.genesis.ChainID)
		}
		return report, nil
	})
}

// acceptedForm is what a job, a deal and a bare acceptance have in common. What else is in
// the file does not matter.
type acceptedForm struct {
	Order         api.Order        `json:"order"`
	Acceptance    api.Acceptance   `json:"acceptance"`
	AcceptanceSig crypto.Signature `json:"acceptance_signature"`
}

// readAccepted reads an order with its acceptance, and refuses what no chain takes.
func readAccepted(path string) (a chain.AcceptedOrder, err error) {
	file, err := os.Open(path)
	if err != nil {
		return a, err
	}
	data, err := io.ReadAll(io.LimitReader(file, maxAcceptedBytes+1))
	if err = errors.Join(err, file.Close()); err != nil {
		return a, err
	}
	if len(data) > maxAcceptedBytes {
		return a, fmt.Errorf("%s has more than %d bytes", path, maxAcceptedBytes)
	}
	var form acceptedForm
	if err := json.Unmarshal(data, &form); err != nil {
		return a, fmt.Errorf("%s: %w", path, err)
	}
	if a.Order, err = api.OrderFromJSON(form.Order); err == nil {
		err = a.Order.Check()
	}
	if err != nil {
		return a, fmt.Errorf("%s: order: %w", path, err)
	}
	a.Acceptance, a.Signature = api.AcceptanceFromJSON(form.Acceptance), form.AcceptanceSig
	return a, ofFile(path, checkAcceptance(&a))
}

func ofFile(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", path, err)
}

// checkAcceptance demands that the cluster of an order signed its acceptance.
func checkAcceptance(a *chain.AcceptedOrder) error {
	id := a.Order.ID()
	switch {
	case a.Acceptance.Order != id:
		return fmt.Errorf("the acceptance is of order %s, the order is %s", a.Acceptance.Order, id)
	case a.Acceptance.Cluster != a.Order.Cluster:
		return fmt.Errorf("the acceptance is by cluster %s, the order's is %s", a.Acceptance.Cluster, a.Order.Cluster)
	case a.Acceptance.ChainID != a.Order.ChainID:
		return fmt.Errorf("the acceptance is of chain %.32q, the order of %.32q", a.Acceptance.ChainID, a.Order.ChainID)
	case !a.Acceptance.Cluster.Verify(crypto.DomainAcceptance, a.Acceptance.Payload(), a.Signature):
		return errors.New("acceptance_signature is not the cluster's")
	}
	return nil
}

// conflict demands that two acceptances cannot both be of a cluster that keeps its word.
func conflict(a, b *chain.AcceptedOrder) error {
	x, y := &a.Acceptance, &b.Acceptance
	switch {
	case x.Cluster != y.Cluster:
		return fmt.Errorf("it is by cluster %s, the first by %s: want acceptances of one", y.Cluster, x.Cluster)
	case a.Order.ConsumerAddress() != b.Order.ConsumerAddress():
		return fmt.Errorf("it is of consumer %s, the first of %s: want acceptances of one", b.Order.ConsumerAddress(), a.Order.ConsumerAddress())
	case x.Sequence != y.Sequence:
		return fmt.Errorf("its sequence is %d, the first's %d: a cluster gives each once, which these do not break", y.Sequence, x.Sequence)
	case x.Order == y.Order && x.Outstanding == y.Outstanding:
		return errors.New("it says the same as the first")
	}
	return nil
}
