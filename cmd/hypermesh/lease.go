package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

func leaseCommand() *cli.Command {
	return &cli.Command{
		Name:  "lease",
		Usage: "keep resources of a node, paid by the millisecond",
		Subcommands: []*cli.Command{
			leaseRequestCommand(),
			leaseOpenCommand(),
			leaseMove("resize", "give a lease other cores and memory, agreed with its node through its cluster, or from a deal of the same parties",
				"--hold 10 --millicores 2000 --memory-mib 1024 --config net.json", leaseResize, resizeFlags()...),
			leaseMove("extend", "add HYPER out of the account to what a lease holds", "--amount 100", leaseExtend, amountFlag(false)),
			leaseMove("close", "give notice of a lease, as its consumer or its provider", "", leaseClose),
			leaseMove("leave", "end a lease with service terms now, as its provider, who gives penalties for the notice", "", leaseLeave),
			leaseMove("draw", "have other peers drawn that probe a lease, as its consumer or its provider", "", leaseDraw),
			leaseMove("collect", "have the provider paid what is due by now", "", leaseCollect),
			leaseShowCommand(),
			leaseProbeCommand(),
		},
	}
}

func dealFlag() *cli.StringFlag {
	return &cli.StringFlag{Name: "deal", Usage: "`FILE` with the signed order, acceptance and bid, as JSON", Required: true}
}

// leaseFlags name a lease.
func leaseFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "node", Usage: "`KEY` of the provider node", Required: true},
		&cli.StringFlag{Name: "order", Usage: "`ID` of the order that the lease was opened with", Required: true},
	}
}

func leaseOpenCommand() *cli.Command {
	return &cli.Command{
		Name: "open", Usage: "open a lease from a deal that consumer, cluster and provider signed",
		Description: "Moves the order's max cost out of the consumer's escrow. Anyone may send it.\nExample: hypermesh lease open --deal deal.json --genesis genesis.json",
		Flags:       append(append([]cli.Flag{dealFlag()}, accountFlags()...), chainFlags()...),
		Action: func(c *cli.Context) error {
			deal, err := readDeal(c)
			if err != nil {
				return err
			}
			return sendMessage(c, "", func(*sender) (chain.Msg, error) { return chain.OpenLease{Deal: deal}, nil })
		},
	}
}

// leaseMove returns a subcommand about one lease.
func leaseMove(name, usage, example string, message func(*cli.Context, chain.LeaseID) (chain.Msg, error), flags ...cli.Flag) *cli.Command {
	if example != "" {
		example = " " + example
	}
	return &cli.Command{
		Name: name, Usage: usage, Flags: append(append(append(leaseFlags(), flags...), accountFlags()...), chainFlags()...),
		Description: "Shows the transaction in words and asks before it is signed.\nExample: hypermesh lease " + name +
			" --node 0a1b… --order 9f86… --genesis genesis.json" + example,
		Action: func(c *cli.Context) error {
			id, err := parseLease(c)
			if err != nil {
				return err
			}
			m, err := message(c, id)
			if err != nil {
				return err
			}
			return sendMessage(c, "", func(*sender) (chain.Msg, error) { return m, nil })
		},
	}
}

func parseLease(c *cli.Context) (id chain.LeaseID, err error) {
	if id.Node, err = parseKey(c, "node"); err != nil {
		return id, err
	}
	if id.Order, err = crypto.ParseDigest(c.String("order")); err != nil {
		return id, usagef(c, "--order: %v", err)
	}
	return id, nil
}

// maxDealBytes bounds a deal's file.
const maxDealBytes = 64 << 10

// readDeal reads the file of --deal, and refuses what no chain takes.
func readDeal(c *cli.Context) (chain.LeaseDeal, error) {
	var form api.LeaseDeal
	if err := readJSONFile(c.String("deal"), maxDealBytes, &form); err != nil {
		return chain.LeaseDeal{}, err
	}
	deal, err := api.DealFromJSON(form)
	if err == nil {
		err = deal.Check()
	}
	if err != nil {
		return chain.LeaseDeal{}, fmt.Errorf("%s: %w", c.String("deal"), err)
	}
	return deal, nil
}

// readJSONFile reads a form out of a file of at most limit bytes.
func readJSONFile(path string, limit int64, form any) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if int64(len(data)) > limit {
		return fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	if err := api.DecodeJSON(data, form); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// resizeFlags are those of a resize beside the lease's name.
func resizeFlags() []cli.Flag {
	deal := dealFlag()
	deal.Required = false
	return []cli.Flag{
		deal,
		&cli.StringFlag{Name: "hold", Usage: "`HYPER` that the lease holds more, without --deal: the lease's cluster asks its node for a bid"},
		&cli.Uint64Flag{Name: "millicores", Usage: "thousandths of a core from then on; 0: as many as now"},
		&cli.Uint64Flag{Name: "memory-mib", Usage: "memory from then on; 0: as much as now"},
		&cli.DurationFlag{Name: "notice", Usage: "from either side's word that the lease shall end to its end; 0: as now"},
	}
}

func leaseResize(c *cli.Context, id chain.LeaseID) (chain.Msg, error) {
	if c.IsSet("deal") == c.IsSet("hold") {
		return nil, usagef(c, "want one of --deal and --hold")
	}
	if c.IsSet("deal") {
		deal, err := readDeal(c)
		return chain.ResizeLease{Lease: id, Deal: deal}, err
	}
	hold, err := parseHyper(c.String("hold"))
	if err != nil {
		return nil, usagef(c, "--hold: %v", err)
	}
	if c.String("config") == "" {
		return nil, usagef(c, "--hold asks the lease's cluster: give --config FILE")
	}
	t, err := openTarget(c)
	if err != nil {
		return nil, err
	}
	deal, err := t.client.RequestResize(c.Context, sdk.ResizeRequest{
		Lease: id, Consumer: t.account, Millicores: c.Uint64("millicores"), MemoryMiB: c.Uint64("memory-mib"), Hold: hold,
		Notice: c.Duration("notice"), Progress: progressLines(c.App.ErrWriter),
	})
	return chain.ResizeLease{Lease: id, Deal: deal}, err
}

func leaseExtend(c *cli.Context, id chain.LeaseID) (chain.Msg, error) {
	amount, err := parseHyper(c.String("amount"))
	if err != nil {
		return nil, usagef(c, "--amount: %v", err)
	}
	return chain.ExtendLease{Lease: id, Amount: amount}, nil
}

func leaseClose(_ *cli.Context, id chain.LeaseID) (chain.Msg, error) {
	return chain.CloseLease{Lease: id}, nil
}

func leaseLeave(_ *cli.Context, id chain.LeaseID) (chain.Msg, error) {
	return chain.LeaveLease{Lease: id}, nil
}

func leaseDraw(_ *cli.Context, id chain.LeaseID) (chain.Msg, error) {
	return chain.DrawPeers{Lease: id}, nil
}

func leaseCollect(_ *cli.Context, id chain.LeaseID) (chain.Msg, error) {
	return chain.CollectLease{Lease: id}, nil
}

func leaseShowCommand() *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "a lease, as the state proves it",
		Description: "Example: hypermesh lease show --node 0a1b… --order 9f86… --genesis genesis.json",
		Flags:       append(append(leaseFlags(), accountFlags()...), chainFlags()...),
		Action:      leaseShow,
	}
}

// leaseLine is a lease in JSON; without Live there is none, or no longer.
type leaseLine struct {
	Lease       chain.LeaseID     `json:"lease"`
	Live        bool              `json:"live"`
	Consumer    chain.Address     `json:"consumer"`
	Provider    chain.Address     `json:"provider"`
	Cluster     crypto.PublicKey  `json:"cluster"`
	Terms       crypto.Digest     `json:"terms"` // the order whose terms hold
	Spec        crypto.Digest     `json:"spec"`
	Resources   []chain.Quantity  `json:"resources"`
	Prices      []chain.UnitPrice `json:"prices"`
	Rate        chain.Number      `json:"rate"` // 10⁻¹⁸ HYPER per second, the priority fee included
	PriorityBps chain.PriorityFee `json:"priority_bps,omitempty"`
	Held        chain.Amount      `json:"held_nhyper"`
	PaidUntil   chain.TimeMs      `json:"paid_until_ms"`
	Expires     chain.TimeMs      `json:"expires_ms"`
	Closing     bool              `json:"closing"`
	Height      chain.Height      `json:"height"`
	Service     *serviceLine      `json:"service,omitempty"`        // what is promised beside
	Former      *serviceLine      `json:"former_service,omitempty"` // before a resize, as long as that may be reported
}

func leaseShow(c *cli.Context) error {
	id, err := parseLease(c)
	if err != nil {
		return err
	}
	s, err := openSender(c, "")
	if err != nil {
		return err
	}
	v, err := s.client.VerifiedLease(c.Context, id)
	if err != nil {
		return err
	}
	l, live := v.Get()
	line := leaseLine{
		Lease: id, Live: live, Consumer: l.Consumer, Provider: l.Provider, Cluster: l.Cluster, Terms: l.Order, Spec: l.Spec,
		Resources: l.Resources, Prices: l.Prices, Rate: chain.Number(l.Rate), PriorityBps: l.PriorityBps, Held: l.Held, PaidUntil: l.Until, Expires: l.Expires, Closing: l.Closing, Height: v.Height(),
	}
	if line.Service, line.Former, err = serviceOf(c, s, &v, id); err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c, line)
	}
	line.print(c.App.Writer)
	return nil
}

// print writes a lease for a person.
func (l *leaseLine) print(w io.Writer) {
	if !l.Live {
		fmt.Fprintf(w, "no lease of order %s on node %s at height %d\n", l.Lease.Order, l.Lease.Node, l.Height)
		l.Service.print(w)
		l.Former.printFormer(w)
		return
	}
	end := "when its money ends"
	if l.Closing {
		end = "upon notice"
	}
	fmt.Fprintf(w, "node        %s\norder       %s\nconsumer    %s\nprovider    %s\ncluster     %s\n", l.Lease.Node, l.Lease.Order, l.Consumer, l.Provider, l.Cluster)
	for _, q := range l.Resources {
		price, _ := chain.PriceOf(l.Prices, q.Resource)                                                          // each has one: Rate asked for it
		fmt.Fprintf(w, "keeps       %s for %s an hour\n", amountText(q), chain.RateCost(q.Amount*price, hourMs)) // no overflow: Rate adds them up
	}
	if l.PriorityBps > 0 {
		fmt.Fprintf(w, "priority    %d bps more than that\n", l.PriorityBps)
	}
	fmt.Fprintf(w, "costs       %s an hour\nholds       %s\npaid until  %s\nends        %s, %s\nheight      %d\n",
		chain.RateCost(uint64(l.Rate), hourMs), l.Held, leaseTime(l.PaidUntil), leaseTime(l.Expires), end, l.Height)
	l.Service.print(w)
	l.Former.printFormer(w)
}

const hourMs = uint64(time.Hour / time.Millisecond)

// amountText says how much of a resource a lease keeps.
func amountText(q chain.Quantity) string {
	unit := map[chain.Resource]string{chain.CPU: "millicores", chain.Memory: "MiB of memory", chain.Storage: "MiB of storage", chain.GPU: "GPU slots"}[q.Resource]
	if unit == "" {
		unit = "of " + q.Resource.String()
	}
	return fmt.Sprintf("%d %s", q.Amount, unit)
}

func leaseTime(t chain.TimeMs) string {
	return time.UnixMilli(int64(t)).UTC().Format("2006-01-02 15:04:05 UTC")
}
