package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/sdk"
)

// postedDir is where evidence is put that the chain has taken, in the agent's directory for it.
const postedDir = "posted"

// agentEvidenceCommand posts what an agent has seen of clusters that broke their word.
func agentEvidenceCommand() *cli.Command {
	return &cli.Command{
		Name: "evidence", Usage: "acceptances that contradict each other, which the agent has kept",
		Subcommands: []*cli.Command{{
			Name: "post", Usage: "show all of them to the chain, which costs the clusters' bonds",
			Description: "The agent has no account: whoever runs this signs and pays, and gets the reporter's part. Each two acceptances of one cluster,\n" +
				"consumer and sequence are a transaction of their own, shown in words and confirmed before it is signed; what the chain took is put\n" +
				"aside. What others have reported is refused, and costs a fee.\n" +
				"Example: hypermesh agent evidence post --key-file owner.key --rpc https://node.example:7180",
			Flags: append(append([]cli.Flag{agentHomeFlag()}, accountFlags()...), chainFlags()...),
			Action: func(c *cli.Context) error {
				if err := agentHomeThere(c); err != nil {
					return err
				}
				return postEvidence(c, c.String("home"))
			},
		}},
	}
}

// evidence is two acceptances that contradict each other, and their files.
type evidence struct {
	files  [2]string
	report chain.ReportAcceptance
}

// evidenceLine is what became of evidence, in JSON.
type evidenceLine struct {
	Cluster  crypto.PublicKey `json:"cluster"`
	Consumer chain.Address    `json:"consumer"`
	Sequence chain.Number     `json:"sequence"`
	Sent     *sentResult      `json:"sent,omitempty"`
	Refused  string           `json:"refused,omitempty"`
}

// readEvidence finds what contradicts each other among the files of a directory, one for each
// cluster, consumer and sequence.
func readEvidence(dir string) (list []evidence, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json")) // sorted
	if err != nil {
		return nil, err
	}
	type given struct {
		cluster  crypto.PublicKey
		consumer chain.Address
		sequence uint64
	}
	first, found := map[given]evidence{}, map[given]bool{}
	for _, path := range files {
		a, err := readAccepted(path)
		if err != nil {
			return nil, err
		}
		of := given{a.Acceptance.Cluster, a.Order.ConsumerAddress(), a.Acceptance.Sequence}
		e, known := first[of]
		if !known {
			first[of] = evidence{files: [2]string{path}, report: chain.ReportAcceptance{First: a}}
			continue
		}
		if found[of] || conflict(&e.report.First, &a) != nil {
			continue
		}
		e.files[1], e.report.Second, found[of] = path, &a, true
		list = append(list, e)
	}
	return list, nil
}

// postEvidence reports all evidence of a home. What is refused holds up nothing.
func postEvidence(c *cli.Context, home string) error {
	dir := filepath.Join(home, agent.EvidenceDir)
	list, err := readEvidence(dir)
	if err != nil {
		return err
	}
	lines := make([]evidenceLine, 0, len(list))
	if len(list) > 0 {
		s, err := openSender(c, filepath.Join(home, agent.GenesisFile))
		if err != nil {
			return err
		}
		for i := range list {
			line, err := list[i].post(c, s, dir)
			if err != nil {
				return err
			}
			lines = append(lines, line)
		}
	}
	return printEvidence(c, dir, lines)
}

// post reports one broken word.
func (e *evidence) post(c *cli.Context, s *sender, dir string) (evidenceLine, error) {
	a := &e.report.First
	line := evidenceLine{Cluster: a.Acceptance.Cluster, Consumer: a.Order.ConsumerAddress(), Sequence: chain.Number(a.Acceptance.Sequence)}
	if a.Order.ChainID != s.genesis.ChainID {
		line.Refused = fmt.Sprintf("the orders are of chain %.32q, --genesis is of %q", a.Order.ChainID, s.genesis.ChainID)
		return line, nil
	}
	sent, err := s.send(c, sdk.BuilderOptions{}, e.report)
	if rejected, ok := errors.AsType[*sdk.RejectedError](err); ok {
		line.Refused = rejected.Reason
		return line, nil
	}
	if err != nil {
		return line, err
	}
	line.Sent = &sent
	aside := filepath.Join(dir, postedDir)
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return line, err
	}
	for _, path := range e.files {
		if err := os.Rename(path, filepath.Join(aside, filepath.Base(path))); err != nil {
			return line, err
		}
	}
	return line, nil
}

func printEvidence(c *cli.Context, dir string, lines []evidenceLine) error {
	if c.Bool("json") {
		return printJSON(c, lines)
	}
	if len(lines) == 0 {
		fmt.Fprintf(c.App.Writer, "no two acceptances in %s contradict each other\n", dir)
	}
	for _, l := range lines {
		fmt.Fprintf(c.App.Writer, "cluster      %s\nsequence     %d of %s\n", l.Cluster, l.Sequence, l.Consumer)
		if l.Sent == nil {
			fmt.Fprintf(c.App.Writer, "refused      %s\n", l.Refused)
			continue
		}
		fmt.Fprintf(c.App.Writer, "transaction  %s\nblock        %d\nfee          %s\n", l.Sent.TxID, l.Sent.Height, l.Sent.Fee)
	}
	return nil
}
