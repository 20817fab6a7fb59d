package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/devnet"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/wallet"
)

// Names of accounts that a command takes if none is given.
const (
	firstOfWallet = "main"
	firstOfDevnet = "alice"
)

// accountFlags say which account acts: one of a keystore, of a key file, or of
// the network's description.
func accountFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "account", Usage: "`NAME` of the account to act as", DefaultText: firstOfWallet + " of the keystore, " + firstOfDevnet + " of a description"},
		walletFlag(), passphraseFlag(),
		&cli.StringFlag{Name: "key-file", Usage: "`FILE` of the account's key, 64 hexadecimal digits, instead of a keystore", EnvVars: []string{"HYPERMESH_KEY_FILE"}},
	}
}

// openAccount returns the account that the flags name. The description's
// accounts are meant if there are any and no keystore is named.
func openAccount(c *cli.Context, described []devnet.Account) (wallet.Account, error) {
	name := c.String("account")
	if path := c.String("key-file"); path != "" {
		if name != "" {
			return wallet.Account{}, usagef(c, "--key-file is one account by itself: leave out --account")
		}
		key, err := node.ReadKey(path)
		return wallet.NewAccount(filepath.Base(path), key), err
	}
	if len(described) > 0 && !c.IsSet("wallet") {
		return describedAccount(described, name)
	}
	if name == "" {
		name = firstOfWallet
	}
	w, _, err := openWallet(c)
	if err != nil {
		return wallet.Account{}, err
	}
	account, err := w.Account(name)
	if err != nil {
		return account, fmt.Errorf("%w (hypermesh wallet list shows those that are there)", err)
	}
	return account, nil
}

func describedAccount(described []devnet.Account, name string) (wallet.Account, error) {
	if name == "" {
		name = firstOfDevnet
	}
	for i := range described {
		if described[i].Name == name {
			return described[i].Wallet()
		}
	}
	return wallet.Account{}, fmt.Errorf("the network's description has no account %q: name one of a keystore with --wallet and --account", name)
}

// chainFlags say which chain a transaction goes to, and through which nodes.
func chainFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "rpc", Usage: "`URL` of a node", EnvVars: []string{"HYPERMESH_RPC"}},
		&cli.StringFlag{Name: "genesis", Usage: "the chain's genesis `FILE`, which says what to trust", EnvVars: []string{"HYPERMESH_GENESIS"}},
		configFlag(),
		&cli.BoolFlag{Name: "yes", Usage: "sign without asking"},
		jsonFlag(),
	}
}

// sender is an account on a chain that the command trusts by its genesis.
type sender struct {
	genesis *chain.Genesis
	client  *sdk.Client
	account wallet.Account
}

// openSender reads genesis and account. Flags go before the description, the
// description before the genesis file that is at hand.
func openSender(c *cli.Context, genesisAtHand string) (*sender, error) {
	d := devnet.Description{RPC: []string{"http://127.0.0.1:7180"}, Genesis: genesisAtHand}
	if c.String("config") != "" {
		var err error
		if d, err = readDescription(c.String("config")); err != nil {
			return nil, err
		}
	}
	if c.IsSet("rpc") {
		d.RPC = c.StringSlice("rpc")
	}
	if c.IsSet("genesis") {
		d.Genesis = c.String("genesis")
	}
	if d.Genesis == "" {
		return nil, usagef(c, "which chain? Give --genesis FILE and --rpc URL, or --config FILE")
	}
	g, err := node.ReadGenesisFile(d.Genesis)
	if err != nil {
		return nil, err
	}
	client, err := sdk.New(sdk.Config{Nodes: d.RPC, Genesis: g})
	if err != nil {
		return nil, err
	}
	account, err := openAccount(c, d.Accounts)
	return &sender{genesis: g, client: client, account: account}, err
}

// sentResult is a transaction that took effect, in JSON.
type sentResult struct {
	TxID   chain.TxID    `json:"tx_id"`
	Height chain.Height  `json:"height"`
	Fee    chain.Amount  `json:"fee_nhyper"`
	Sender chain.Address `json:"sender"`

	events chain.Events
}

// send shows a transaction in words, asks, submits it and waits until it is
// final.
func (s *sender) send(c *cli.Context, options sdk.BuilderOptions, messages ...chain.Msg) (sentResult, error) {
	out := sentResult{Sender: s.account.Address()}
	tx, err := s.client.NewBuilder(s.account, options).Build(c.Context, messages...)
	if err != nil {
		return out, err
	}
	words, err := wallet.Preview(&tx.Body)
	if err != nil {
		return out, err
	}
	fmt.Fprint(c.App.ErrWriter, words)
	if ok, err := confirm(c, "Send as "+s.account.Name()+"?"); err != nil || !ok {
		return out, errors.Join(errors.New("not sent"), err)
	}
	return s.submit(c.Context, &tx)
}

// submit sends a signed transaction and waits until it is final, and what it did is proven.
func (s *sender) submit(ctx context.Context, tx *chain.Tx) (sentResult, error) {
	out := sentResult{Sender: s.account.Address()}
	verdicts, err := s.client.SubmitTxs(ctx, *tx)
	if err != nil {
		return out, err
	}
	if v := verdicts[0]; !v.Accepted {
		return out, &sdk.RejectedError{TxID: v.TxID, Reason: v.Reason}
	}
	final, err := s.client.WaitFinalOf(ctx, tx)
	if err != nil {
		return out, err
	}
	out.TxID, out.Height = verdicts[0].TxID, final.Height
	if r := final.Receipt; r != nil {
		fee, ok := r.Burned.Add(r.Tip)
		if !ok {
			return out, errors.New("the node shows a fee that does not fit an amount")
		}
		out.Fee, out.events = fee, r.Events
	}
	s.awaitProof(ctx, final.Height)
	return out, nil
}

// proofPatience is how long a command waits for the block after its own.
const proofPatience = 5 * time.Second

// awaitProof waits until the block after one of a height is final, which proves the state that
// this one made: the next command reads what this one did. What was sent is final whether or not it comes.
func (s *sender) awaitProof(ctx context.Context, height chain.Height) {
	ctx, cancel := context.WithTimeout(ctx, proofPatience)
	defer cancel()
	_ = s.client.WaitHeight(ctx, height+1) // the next command says what is wrong
}

// sendMessage sends the one message that make returns, and prints what became of
// it.
func sendMessage(c *cli.Context, genesisAtHand string, make func(*sender) (chain.Msg, error)) error {
	s, err := openSender(c, genesisAtHand)
	if err != nil {
		return err
	}
	message, err := make(s)
	if err != nil {
		return err
	}
	r, err := s.send(c, sdk.BuilderOptions{}, message)
	if err != nil {
		return err
	}
	return printSent(c, r, "done         "+chain.KindOf(message))
}

func printSent(c *cli.Context, r sentResult, what string) error {
	if c.Bool("json") {
		return printJSON(c, r)
	}
	fmt.Fprintf(c.App.Writer, "%s\ntransaction  %s\nblock        %d\nfee          %s\n", what, r.TxID, r.Height, r.Fee)
	return nil
}

func walletSendCommand() *cli.Command {
	return &cli.Command{
		Name: "send", Usage: "pay HYPER to an address, and wait until the payment is final",
		Description: "Shows the transaction in words and asks before it is signed. The amount is in HYPER, with up to nine digits after the point.\n" +
			"Example: hypermesh wallet send --to hyper1… --amount 12.5 --genesis genesis.json --rpc https://node.example:7180",
		Flags: append(append([]cli.Flag{
			&cli.StringFlag{Name: "to", Usage: "`ADDRESS` that is paid", Required: true},
			&cli.StringFlag{Name: "amount", Usage: "`HYPER` to pay, such as 12.5", Required: true},
			&cli.StringFlag{Name: "memo", Usage: "`TEXT` for everybody to read"},
		}, accountFlags()...), chainFlags()...),
		Action: walletSend,
	}
}

func walletSend(c *cli.Context) error {
	to, err := chain.ParseAddress(c.String("to"))
	if err != nil {
		return usagef(c, "--to: %v", err)
	}
	amount, err := parseHyper(c.String("amount"))
	if err != nil {
		return usagef(c, "--amount: %v", err)
	}
	if len(c.String("memo")) > chain.MaxMemo {
		return usagef(c, "--memo has %d bytes, limit %d", len(c.String("memo")), chain.MaxMemo)
	}
	s, err := openSender(c, "")
	if err != nil {
		return err
	}
	r, err := s.send(c, sdk.BuilderOptions{Memo: c.String("memo")}, chain.Transfer{To: to, Amount: amount})
	if err != nil {
		return err
	}
	return printSent(c, r, fmt.Sprintf("paid         %s to %s", amount, to))
}

// parseHyper reads an amount of HYPER, exactly: digits, and up to nine more
// after a point.
func parseHyper(text string) (chain.Amount, error) {
	const decimals = 9 // 10⁹ = chain.NanoPerHyper
	whole, fraction, point := strings.Cut(text, ".")
	if point && (fraction == "" || len(fraction) > decimals) {
		return chain.Amount{}, fmt.Errorf("%.40q has %d digits after the point, want 1 to %d", text, len(fraction), decimals)
	}
	wrong := fmt.Errorf("%.40q is not an amount of HYPER such as 12.5", text)
	w, err := strconv.ParseUint(whole, 10, 64)
	if err != nil {
		return chain.Amount{}, wrong
	}
	f, err := strconv.ParseUint(fraction+strings.Repeat("0", decimals-len(fraction)), 10, 64)
	if err != nil {
		return chain.Amount{}, wrong
	}
	nano, fits := checked.Mul(w, chain.NanoPerHyper)
	sum, ok := checked.Add(nano, f)
	if !fits || !ok || chain.TotalSupply.Less(chain.Nano(sum)) {
		return chain.Amount{}, fmt.Errorf("%.40q is above the total supply, %s", text, chain.TotalSupply)
	}
	return chain.Nano(sum), nil
}

func walletAddressCommand() *cli.Command {
	return &cli.Command{
		Name: "address", Usage: "print an account's address and nothing else",
		Description: "Example: hypermesh wallet address --account main\nExample: hypermesh wallet address --key-file /var/lib/hypermesh/relay/account.key",
		Flags:       append(accountFlags(), jsonFlag()),
		Action: func(c *cli.Context) error {
			account, err := openAccount(c, nil)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(c, accountLine{Name: account.Name(), Address: account.Address(), Path: account.Path()})
			}
			fmt.Fprintln(c.App.Writer, account.Address())
			return nil
		},
	}
}
