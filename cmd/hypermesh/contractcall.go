package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/sdk"
)

func contractStoreCommand() *cli.Command {
	return &cli.Command{
		Name: "store", Usage: "put a contract's code on the chain, and wait until it can be used", ArgsUsage: "FILE",
		Description: "Code of more than 96 KiB goes in several transactions. Validators compile what is new before anybody may use it: for ten blocks, and for as long as what is\n" +
			"new takes them, of some seconds for a large contract and ten minutes if others store much.\n\n" +
			"Example: hypermesh contract store mine.wasm --config net.json --yes",
		Flags:  append(accountFlags(), chainFlags()...),
		Action: contractStore,
	}
}

func contractInstantiateCommand() *cli.Command {
	return &cli.Command{
		Name: "instantiate", Usage: "make a contract of code that is on the chain", ArgsUsage: "MSG",
		Description: "MSG is JSON, for the contract to read. Without --admin nobody can ever change the contract's code.\n\n" +
			"Example: hypermesh contract instantiate --code 1 --label counter --config net.json '{\"count\":5}'",
		Flags: callFlags(
			&cli.Uint64Flag{Name: "code", Usage: "`NUMBER` of the code", Required: true},
			&cli.StringFlag{Name: "label", Usage: "`NAME` that people know the contract by", Required: true},
			&cli.StringFlag{Name: "admin", Usage: "`ADDRESS` of who may migrate it; nobody if it is not given"},
			&cli.StringFlag{Name: "salt", Usage: "`HEX` for an address that can be told before"},
			fundsFlag(),
		),
		Action: contractInstantiate,
	}
}

func contractExecuteCommand() *cli.Command {
	return &cli.Command{
		Name: "execute", Usage: "call a contract", ArgsUsage: "MSG",
		Description: "MSG is JSON, for the contract to read.\n\n" +
			"Example: hypermesh contract execute --contract hyper1… --config net.json '{\"increment\":{}}'",
		Flags:  callFlags(whichFlag(), fundsFlag()),
		Action: contractExecute,
	}
}

func contractMigrateCommand() *cli.Command {
	return &cli.Command{
		Name: "migrate", Usage: "give a contract other code, as its admin", ArgsUsage: "MSG",
		Description: "MSG is JSON, for the new code's migrate to read.\n\n" +
			"Example: hypermesh contract migrate --contract hyper1… --code 2 --config net.json '{}'",
		Flags:  callFlags(whichFlag(), &cli.Uint64Flag{Name: "code", Usage: "`NUMBER` of the new code", Required: true}),
		Action: contractMigrate,
	}
}

func contractQueryCommand() *cli.Command {
	return &cli.Command{
		Name: "query", Usage: "have a contract answer, without a transaction", ArgsUsage: "MSG",
		Description: "MSG is JSON, for the contract to read. The answer is a node's word, as of the block that --json names.\n\n" +
			"Example: hypermesh contract query --contract hyper1… --config net.json '{\"count\":{}}'",
		Flags: []cli.Flag{
			whichFlag(), rpcFlag(), configFlag(), jsonFlag(),
		},
		Action: contractQuery,
	}
}

func contractSchemaCommand() *cli.Command {
	return &cli.Command{
		Name: "schema", Usage: "show what a contract's messages look like",
		Description: "It is JSON Schema, as the contract's author says: contracts that were built without it have none.\n\n" +
			"Example: hypermesh contract schema --contract hyper1… --config net.json",
		Flags: []cli.Flag{
			whichFlag(), rpcFlag(), configFlag(), jsonFlag(),
		},
		Action: contractSchema,
	}
}

func callFlags(flags ...cli.Flag) []cli.Flag {
	flags = append(flags, gasFlag(),
		&cli.StringFlag{Name: "max-deposit", Value: "0.1", Usage: "the most `HYPER` that contracts may take for room, less what comes back; 0.1 is for 10,000 bytes"})
	return append(append(flags, accountFlags()...), chainFlags()...)
}

func whichFlag() cli.Flag {
	return &cli.StringFlag{Name: "contract", Usage: "`ADDRESS` of the contract", Required: true}
}

func rpcFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "rpc", Value: cli.NewStringSlice("http://127.0.0.1:7180"), Usage: "`URL` of a node", EnvVars: []string{"HYPERMESH_RPC"}}
}

func fundsFlag() cli.Flag {
	return &cli.StringFlag{Name: "funds", Usage: "`HYPER` that goes to the contract with the call, such as 12.5"}
}

// contractMsg is the one argument of a call: JSON.
func contractMsg(c *cli.Context) ([]byte, error) {
	if c.NArg() != 1 {
		return nil, usagef(c, "want one MSG, got %d arguments", c.NArg())
	}
	msg := []byte(c.Args().First())
	if !json.Valid(msg) {
		return nil, usagef(c, "MSG is not JSON: %.60q", msg)
	}
	return msg, nil
}

func whichContract(c *cli.Context) (chain.Address, error) {
	a, err := chain.ParseAddress(c.String("contract"))
	if err != nil {
		return a, usagef(c, "--contract: %v", err)
	}
	return a, nil
}

func contractFunds(c *cli.Context) (chain.Amount, error) {
	if !c.IsSet("funds") {
		return chain.Amount{}, nil
	}
	funds, err := parseHyper(c.String("funds"))
	if err != nil {
		return funds, usagef(c, "--funds: %v", err)
	}
	return funds, nil
}

// mostForRoom is what contracts may take for room.
func mostForRoom(c *cli.Context) (chain.Amount, error) {
	most, err := parseHyper(c.String("max-deposit"))
	if err != nil {
		return most, usagef(c, "--max-deposit: %v", err)
	}
	return most, nil
}

func contractStore(c *cli.Context) error {
	if c.NArg() != 1 {
		return usagef(c, "want one FILE, got %d arguments", c.NArg())
	}
	code, err := os.ReadFile(c.Args().First())
	if err != nil {
		return err
	}
	parts, err := sdk.CodeParts(code)
	if err != nil {
		return err
	}
	s, err := openSender(c, "")
	if err != nil {
		return err
	}
	for i := range parts {
		r, err := s.sendPart(c, parts[i])
		if err != nil {
			return err
		}
		stored, ok := eventOf[chain.CodeStored](r.events)
		if !ok {
			continue
		}
		if err := s.awaitCode(c, uint64(stored.Code)); err != nil {
			return err
		}
		return printContract(c, r, fmt.Sprintf("code         %d", stored.Code), struct {
			sentResult
			Code chain.Number `json:"code"`
		}{r, stored.Code})
	}
	return errors.New("the node shows no code: the last part was not stored")
}

// sendPart sends a part of code, and again when there is time to compile it: who began anew would burn HYPER for all
// parts once more.
func (s *sender) sendPart(c *cli.Context, part chain.StoreCode) (sentResult, error) {
	for {
		r, err := s.send(c, sdk.BuilderOptions{}, part)
		wait, later := sdk.StoreAgainIn(err)
		if !later {
			return r, err
		}
		wait = max(wait, time.Second)
		fmt.Fprintf(c.App.ErrWriter, "%v\nit is sent again in %s\n", err, wait)
		select {
		case <-time.After(wait):
		case <-c.Context.Done():
			return r, context.Cause(c.Context)
		}
	}
}

// awaitCode waits until contracts of code run, and says so if that takes time.
func (s *sender) awaitCode(c *cli.Context, code uint64) error {
	return s.client.AwaitCode(c.Context, code, func(wait time.Duration) {
		fmt.Fprintf(c.App.ErrWriter, "validators compile code %d: it can be used in about %s\n", code, wait)
	})
}

// eventOf returns the first event of a type.
func eventOf[T chain.Event](events chain.Events) (found T, ok bool) {
	for _, e := range events {
		if found, ok = e.(T); ok {
			return found, true
		}
	}
	return found, false
}

func contractInstantiate(c *cli.Context) error {
	msg, err := contractMsg(c)
	if err != nil {
		return err
	}
	m := chain.InstantiateContract{Code: c.Uint64("code"), Label: c.String("label"), Msg: msg}
	if m.Funds, err = contractFunds(c); err != nil {
		return err
	}
	if m.MaxDeposit, err = mostForRoom(c); err != nil {
		return err
	}
	if c.IsSet("admin") {
		admin, err := chain.ParseAddress(c.String("admin"))
		if err != nil {
			return usagef(c, "--admin: %v", err)
		}
		m.Admin = &admin
	}
	if m.Salt, err = hex.DecodeString(c.String("salt")); err != nil || len(m.Salt) > chain.MaxContractSalt {
		return usagef(c, "--salt: want at most %d bytes in hexadecimal digits", chain.MaxContractSalt)
	}
	if m.Label == "" || len(m.Label) > chain.MaxContractLabel {
		return usagef(c, "--label: want 1 to %d bytes", chain.MaxContractLabel)
	}
	return callContract(c, m, m.Code)
}

func contractExecute(c *cli.Context) error {
	msg, err := contractMsg(c)
	if err != nil {
		return err
	}
	m := chain.ExecuteContract{Msg: msg}
	if m.Contract, err = whichContract(c); err != nil {
		return err
	}
	if m.Funds, err = contractFunds(c); err != nil {
		return err
	}
	if m.MaxDeposit, err = mostForRoom(c); err != nil {
		return err
	}
	return callContract(c, m)
}

func contractMigrate(c *cli.Context) error {
	msg, err := contractMsg(c)
	if err != nil {
		return err
	}
	m := chain.MigrateContract{Code: c.Uint64("code"), Msg: msg}
	if m.Contract, err = whichContract(c); err != nil {
		return err
	}
	if m.MaxDeposit, err = mostForRoom(c); err != nil {
		return err
	}
	return callContract(c, m, m.Code)
}

// callContract sends a call, once codes that it names can be used, and prints what contracts said of it.
func callContract(c *cli.Context, m chain.Msg, codes ...uint64) error {
	s, err := openSender(c, "")
	if err != nil {
		return err
	}
	for _, code := range codes {
		if err := s.awaitCode(c, code); err != nil {
			return err
		}
	}
	r, err := s.send(c, withGas(c), m)
	if err != nil {
		return err
	}
	lines := []string{"done         " + chain.KindOf(m)}
	out := struct {
		sentResult
		Contract *chain.Address          `json:"contract,omitempty"`
		Said     []chain.ContractEmitted `json:"said"`
	}{sentResult: r, Said: []chain.ContractEmitted{}}
	if made, ok := eventOf[chain.ContractInstantiated](r.events); ok {
		out.Contract = &made.Contract
		lines = append(lines, "contract     "+made.Contract.String())
	}
	for _, e := range r.events {
		said, ok := e.(chain.ContractEmitted)
		if !ok {
			continue
		}
		out.Said = append(out.Said, said)
		for _, a := range said.Attributes {
			lines = append(lines, fmt.Sprintf("said         %s: %s = %s", said.Type, a.Key, a.Value))
		}
	}
	return printContract(c, r, strings.Join(lines, "\n"), out)
}

func printContract(c *cli.Context, r sentResult, what string, out any) error {
	if c.Bool("json") {
		return printJSON(c, out)
	}
	return printSent(c, r, what)
}

func contractQuery(c *cli.Context) error {
	msg, err := contractMsg(c)
	if err != nil {
		return err
	}
	which, err := whichContract(c)
	if err != nil {
		return err
	}
	client, err := queryClient(c)
	if err != nil {
		return err
	}
	answer, err := client.QueryContract(c.Context, which, msg)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c, answer)
	}
	fmt.Fprintf(c.App.Writer, "%s\n", answer.Data)
	return nil
}

func contractSchema(c *cli.Context) error {
	if c.NArg() != 0 {
		return usagef(c, "want no arguments, got %d", c.NArg())
	}
	which, err := whichContract(c)
	if err != nil {
		return err
	}
	client, err := queryClient(c)
	if err != nil {
		return err
	}
	found, err := client.Contract(c.Context, which)
	if err != nil {
		return err
	}
	said, err := client.ContractSchema(c.Context, uint64(found.Code))
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c, said)
	}
	var text bytes.Buffer
	if err := json.Indent(&text, said.Schema, "", "  "); err != nil {
		return fmt.Errorf("the node's schema: %w", err)
	}
	fmt.Fprintln(c.App.Writer, text.String())
	return nil
}
