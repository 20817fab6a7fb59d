package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/sdk"
)

func contractPinCommand() *cli.Command {
	return &cli.Command{
		Name: "pin", Usage: "have every validator keep code in memory, for some days", ArgsUsage: "CODE",
		Description: "From the tenth block on calls of pinned code never pay for having it loaded. Anybody may pin any code, and pay for it; what `contract code` shows for a day is\n" +
			"burned for each, also for what is left of today. Days come behind those that it is pinned for already.\n\n" +
			"Example: hypermesh contract pin 1 --periods 7 --max-burn 5 --config net.json",
		Flags: append(append([]cli.Flag{
			&cli.Uint64Flag{Name: "periods", Value: 1, Usage: "`DAYS` of UTC, at most 30 in all"},
			&cli.StringFlag{Name: "max-burn", Usage: "the most `HYPER` that is burned for it", Required: true},
			gasFlag(),
		}, accountFlags()...), chainFlags()...),
		Action: contractPin,
	}
}

func contractCodeCommand() *cli.Command {
	return &cli.Command{
		Name: "code", Usage: "show what the chain keeps of code, and until when it is pinned", ArgsUsage: "CODE",
		Description: "Example: hypermesh contract code 1 --config net.json",
		Flags:       []cli.Flag{rpcFlag(), configFlag(), jsonFlag()},
		Action:      contractCode,
	}
}

func gasFlag() cli.Flag {
	return &cli.Uint64Flag{Name: "gas", Usage: "`GAS` that it may use; what it does not use is not paid for", DefaultText: "as much as most calls take"}
}

// withGas is how a transaction is built that may use as much gas as --gas says.
func withGas(c *cli.Context) (options sdk.BuilderOptions) {
	if c.IsSet("gas") {
		options.GasLimit = chain.GasUnits(c.Uint64("gas"))
	}
	return options
}

// codeNumber is the one argument: a code's number.
func codeNumber(c *cli.Context) (uint64, error) {
	if c.NArg() != 1 {
		return 0, usagef(c, "want one CODE, got %d arguments", c.NArg())
	}
	code, err := strconv.ParseUint(c.Args().First(), 10, 64)
	if err != nil || code == 0 {
		return 0, usagef(c, "CODE is a number from 1 on, not %.20q", c.Args().First())
	}
	return code, nil
}

func contractPin(c *cli.Context) error {
	code, err := codeNumber(c)
	if err != nil {
		return err
	}
	m := chain.PinCode{Code: code, Periods: c.Uint64("periods")}
	if m.Periods == 0 || m.Periods > chain.MaxPinPeriods {
		return usagef(c, "--periods: want 1 to %d", chain.MaxPinPeriods)
	}
	if m.MaxBurn, err = parseHyper(c.String("max-burn")); err != nil {
		return usagef(c, "--max-burn: %v", err)
	}
	s, err := openSender(c, "")
	if err != nil {
		return err
	}
	if err := s.awaitCode(c, code); err != nil {
		return err
	}
	r, err := s.send(c, withGas(c), m)
	if err != nil {
		return err
	}
	pinned, ok := eventOf[chain.CodePinned](r.events)
	if !ok {
		return fmt.Errorf("the node shows no pin of code %d", code)
	}
	return printContract(c, r, fmt.Sprintf("pinned       code %d until %s\nburned       %s", code, utc(pinned.Until), pinned.Burned), struct {
		sentResult
		Until  chain.TimeMs `json:"pinned_until_ms"`
		Burned chain.Amount `json:"pin_burned_nhyper"`
	}{r, pinned.Until, pinned.Burned})
}

func contractCode(c *cli.Context) error {
	code, err := codeNumber(c)
	if err != nil {
		return err
	}
	client, err := queryClient(c)
	if err != nil {
		return err
	}
	found, err := client.ContractCode(c.Context, code)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c, found)
	}
	pinned, day := "no", "more than nodes keep"
	if found.PinnedTo > 0 {
		pinned = "until " + utc(found.PinnedTo)
	}
	if cost, err := sdk.PinCost(&found, 1); err == nil {
		day = cost.String() + " a day"
	}
	fmt.Fprintf(c.App.Writer, "code         %d\ncreator      %s\nchecksum     %s\nsize         %d bytes\nin memory    %d bytes\ncallable     from block %d\npinned       %s\npinning it   %s\n",
		found.Code, found.Creator, found.Checksum, found.Size, found.Native, found.Callable, pinned, day)
	return nil
}

func utc(t chain.TimeMs) string { return time.UnixMilli(int64(t)).UTC().Format(time.DateTime) + " UTC" }
