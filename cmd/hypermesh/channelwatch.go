package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk"
)

func channelWatchCommand() *cli.Command {
	return &cli.Command{
		Name: "watch", Usage: "a watch-tower: redeem the newest vouchers of channels that are being closed",
		Description: "Looks at the chain every while, and at the directory for vouchers that came, one in a file that ends in .json; the payee is paid, whoever\n" +
			"runs this. A channel's window must be well above what the machine may be away for. Ends with Ctrl-C.\n" +
			"Example: hypermesh channel watch --vouchers ./vouchers --genesis genesis.json",
		Flags: append(append([]cli.Flag{
			&cli.StringFlag{Name: "vouchers", Usage: "`DIR` with the vouchers", Required: true},
			&cli.DurationFlag{Name: "every", Usage: "`TIME` between two looks", Value: 5 * time.Second},
			&cli.BoolFlag{Name: "once", Usage: "look once, and end"},
			&cli.BoolFlag{Name: "redeem-all", Usage: "redeem vouchers of channels that nobody closes too"},
		}, accountFlags()...), chainFlags()...),
		Action: channelWatch,
	}
}

// maxVouchers bounds the files that are looked at in one directory.
const maxVouchers = 100_000

func channelWatch(c *cli.Context) error {
	if c.Duration("every") < 100*time.Millisecond {
		return usagef(c, "--every is %v, want 100ms or more", c.Duration("every"))
	}
	s, err := openSender(c, "")
	if err != nil {
		return err
	}
	w := s.watchTower(c.String("vouchers"))
	w.all, w.say = c.Bool("redeem-all"), func(format string, args ...any) { fmt.Fprintf(c.App.Writer, format+"\n", args...) }
	if c.Bool("once") {
		return w.look(c.Context)
	}
	tick := time.NewTicker(c.Duration("every"))
	defer tick.Stop()
	w.watch(c.Context, tick.C)
	return nil
}

// watchTower knows nothing between two looks: what it does follows from the vouchers and
// the state.
type watchTower struct {
	chainID chain.ChainID
	dir     string // of vouchers
	all     bool   // also redeem where nobody closes
	say     func(format string, args ...any)

	channel func(ctx context.Context, id chain.ChannelID) (settlement.Channel, bool, error) // as a proven state has it
	post    func(ctx context.Context, m chain.RedeemVoucher) (chain.Height, error)
}

// watchTower returns one that pays for what it posts.
func (s *sender) watchTower(dir string) *watchTower {
	return &watchTower{
		chainID: s.genesis.ChainID, dir: dir,
		channel: func(ctx context.Context, id chain.ChannelID) (settlement.Channel, bool, error) {
			v, err := s.client.VerifiedChannel(ctx, id)
			if err != nil {
				return settlement.Channel{}, false, err
			}
			ch, open := v.Get()
			return ch, open, nil
		},
		post: func(ctx context.Context, m chain.RedeemVoucher) (chain.Height, error) {
			tx, err := s.client.NewBuilder(s.account, sdk.BuilderOptions{}).Build(ctx, m)
			if err != nil {
				return 0, err
			}
			sent, err := s.submit(ctx, &tx)
			if err != nil {
				return 0, err
			}
			return sent.Height, nil
		},
	}
}

// watch looks at once, and at every tick until ctx ends.
func (w *watchTower) watch(ctx context.Context, tick <-chan time.Time) {
	for {
		if err := w.look(ctx); err != nil && ctx.Err() == nil {
			w.say("will look again: %v", err) // a node that is away comes back; a file that is bad stays named
		}
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
	}
}

// look redeems what has to be redeemed now. A voucher that is not good, and a channel that
// cannot be looked at, keep no other from being redeemed.
func (w *watchTower) look(ctx context.Context) error {
	newest, errs := w.vouchers()
	for _, id := range slices.SortedFunc(maps.Keys(newest), crypto.Digest.Compare) {
		if err := w.redeem(ctx, newest[id]); err != nil {
			errs = append(errs, fmt.Errorf("channel %s: %w", id.Short(), err))
		}
	}
	return errors.Join(errs...)
}

// vouchers reads the directory: the vouchers of each channel, those with the highest totals
// first. Which of them its signer signed, only the state can say.
func (w *watchTower) vouchers() (map[chain.ChannelID][]chain.RedeemVoucher, []error) {
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return nil, []error{err}
	}
	var errs []error
	if len(entries) > maxVouchers {
		errs = append(errs, fmt.Errorf("%s has %d files, the first %d are looked at", w.dir, len(entries), maxVouchers))
		entries = entries[:maxVouchers]
	}
	all := map[chain.ChannelID][]chain.RedeemVoucher{}
	for _, e := range entries {
		if e.IsDir() || !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		v, err := readVoucher(filepath.Join(w.dir, e.Name()))
		if err == nil && v.Voucher.ChainID != w.chainID {
			err = fmt.Errorf("%s: voucher is of chain %.32q, this is %q", e.Name(), v.Voucher.ChainID, w.chainID)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all[v.Voucher.Channel] = append(all[v.Voucher.Channel], v)
	}
	for _, list := range all { // order-free: each by itself
		slices.SortStableFunc(list, func(a, b chain.RedeemVoucher) int {
			if a.Voucher.Total.Less(b.Voucher.Total) {
				return 1
			}
			if b.Voucher.Total.Less(a.Voucher.Total) {
				return -1
			}
			return 0
		})
	}
	return all, errs
}

// redeem posts the newest voucher of a channel that is being closed.
func (w *watchTower) redeem(ctx context.Context, vouchers []chain.RedeemVoucher) error {
	id := vouchers[0].Voucher.Channel
	ch, open, err := w.channel(ctx, id)
	if err != nil || !open || ch.Ends == 0 && !w.all {
		return err
	}
	most, ok := ch.Held.Add(ch.Redeemed)
	if !ok {
		return errors.New("it holds more than there is")
	}
	for _, r := range vouchers {
		if !ch.Redeemed.Less(r.Voucher.Total) {
			return nil // and so are those after it
		}
		if most.Less(r.Voucher.Total) || !ch.Signer.Verify(crypto.DomainVoucher, r.Voucher.Payload(), r.Signature) {
			continue
		}
		height, err := w.post(ctx, r)
		if err != nil {
			return err
		}
		w.say("redeemed %s in all of channel %s for %s, in block %d", r.Voucher.Total, id, ch.Payee, height)
		return nil
	}
	return nil
}
