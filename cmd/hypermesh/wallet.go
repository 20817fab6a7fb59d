package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/sdk/api"
	"github.com/hypermesh/hypermesh/wallet"
)

func walletCommand() *cli.Command {
	file, passphrase := walletFlag(), passphraseFlag()
	return &cli.Command{
		Name:  "wallet",
		Usage: "keys at rest, and signing",
		Subcommands: []*cli.Command{
			{
				Name: "create", Usage: "make a keystore with a new phrase and a first account, and print the phrase once",
				Description: "Example: hypermesh wallet create --account main",
				Flags:       []cli.Flag{file, passphrase, &cli.StringFlag{Name: "account", Value: "main", Usage: "`NAME` of the first account"}, jsonFlag()},
				Action:      walletCreate,
			},
			{
				Name: "restore", Usage: "make a keystore from a phrase on standard input",
				Description: "Example: hypermesh wallet restore --accounts 2 < phrase.txt",
				Flags:       []cli.Flag{file, passphrase, &cli.IntFlag{Name: "accounts", Value: 1, Usage: "`N` accounts to derive, named account-0 and on"}, jsonFlag()},
				Action:      walletRestore,
			},
			{
				Name: "add", Usage: "derive the next account", ArgsUsage: "NAME",
				Description: "Example: hypermesh wallet add savings",
				Flags:       []cli.Flag{file, passphrase, jsonFlag()}, Action: walletAdd,
			},
			{
				Name: "list", Usage: "list accounts and their addresses",
				Description: "Example: hypermesh wallet list --json",
				Flags:       []cli.Flag{file, passphrase, jsonFlag()}, Action: walletList,
			},
			walletAddressCommand(),
			walletSendCommand(),
			{
				Name: "sign", Usage: "show a transaction in words, and sign it", ArgsUsage: "BODY.json",
				Description: "Reads a transaction body (JSON as in POST /v1/txs), prints what it does on standard error, and the signed transaction on standard output.\n" +
					"Example: hypermesh wallet sign --account main --yes body.json > tx.json",
				Flags: []cli.Flag{file, passphrase, &cli.StringFlag{Name: "account", Value: "main", Usage: "`NAME` of the signing account"},
					&cli.BoolFlag{Name: "yes", Usage: "sign without asking"}},
				Action: walletSign,
			},
		},
	}
}

func walletFlag() *cli.StringFlag {
	return &cli.StringFlag{Name: "wallet", Usage: "keystore `FILE`", Value: defaultWallet(), EnvVars: []string{"HYPERMESH_WALLET"}}
}

func passphraseFlag() *cli.StringFlag {
	return &cli.StringFlag{Name: "passphrase-file", Usage: "read the passphrase from `FILE` instead of the terminal", EnvVars: []string{"HYPERMESH_PASSPHRASE_FILE"}}
}

func defaultWallet() string {
	home, err := os.UserHomeDir()
	if err != nil {
		return "wallet.age"
	}
	return filepath.Join(home, ".hypermesh", "wallet.age")
}

// readPassphrase takes the passphrase from the file that the flag names, or asks
// on the terminal; a new one is asked for twice.
func readPassphrase(c *cli.Context, fresh bool) (string, error) {
	if path := c.String("passphrase-file"); path != "" {
		data, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("reading the passphrase: %w", err)
		}
		return strings.TrimRight(string(data), "\r\n"), nil
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return "", usagef(c, "no terminal to ask for the passphrase: give --passphrase-file")
	}
	first, err := askHidden(c, "Passphrase: ")
	if err != nil || !fresh {
		return first, err
	}
	second, err := askHidden(c, "Again: ")
	if err == nil && first != second {
		err = errors.New("the two passphrases differ")
	}
	return first, err
}

func askHidden(c *cli.Context, prompt string) (string, error) {
	fmt.Fprint(c.App.ErrWriter, prompt)
	text, err := askTerminal(c, func() (string, error) {
		text, err := term.ReadPassword(int(os.Stdin.Fd()))
		return string(text), err
	})
	if errors.Is(err, errInterrupted) {
		return "", err
	}
	fmt.Fprintln(c.App.ErrWriter)
	if err != nil {
		return "", fmt.Errorf("reading the passphrase: %w", err)
	}
	return text, nil
}

func keystore(c *cli.Context) wallet.Keystore { return wallet.Keystore{Path: c.String("wallet")} }

// openWallet loads the keystore.
func openWallet(c *cli.Context) (*wallet.Wallet, string, error) {
	passphrase, err := readPassphrase(c, false)
	if err != nil {
		return nil, "", err
	}
	w, err := keystore(c).Load(passphrase)
	return w, passphrase, err
}

// accountLine is an account in JSON.
type accountLine struct {
	Name    string        `json:"name"`
	Address chain.Address `json:"address"`
	Path    string        `json:"path,omitempty"`
}

func accountLines(w *wallet.Wallet) []accountLine {
	var out []accountLine
	for _, a := range w.Accounts() {
		out = append(out, accountLine{Name: a.Name(), Address: a.Address(), Path: a.Path()})
	}
	return out
}

func printAccounts(c *cli.Context, w *wallet.Wallet) error {
	lines := accountLines(w)
	if c.Bool("json") {
		return printJSON(c, lines)
	}
	for _, l := range lines {
		fmt.Fprintf(c.App.Writer, "%-16s  %s  %s\n", l.Name, l.Address, l.Path)
	}
	return nil
}

func createWith(c *cli.Context, phrase wallet.Phrase, names ...string) (*wallet.Wallet, error) {
	w := wallet.New(phrase)
	for _, name := range names {
		if _, err := w.Add(name); err != nil {
			return nil, err
		}
	}
	passphrase, err := readPassphrase(c, true)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(c.String("wallet")), 0o700); err != nil {
		return nil, fmt.Errorf("making the wallet's directory: %w", err)
	}
	return w, keystore(c).Create(passphrase, w)
}

func walletCreate(c *cli.Context) error {
	phrase := wallet.NewPhrase()
	w, err := createWith(c, phrase, c.String("account"))
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c, map[string]any{"phrase": phrase.Words(), "accounts": accountLines(w)})
	}
	fmt.Fprintf(c.App.Writer, "Write these words down. They are the only backup:\n\n  %s\n\n", phrase.Words())
	return printAccounts(c, w)
}

func walletRestore(c *cli.Context) error {
	const most, maxPhrase = 100, 1 << 10
	n := c.Int("accounts")
	if n < 1 || n > most {
		return usagef(c, "--accounts is %d, want 1 to %d", n, most)
	}
	text, err := io.ReadAll(io.LimitReader(os.Stdin, maxPhrase))
	if err != nil {
		return fmt.Errorf("reading the phrase: %w", err)
	}
	phrase, err := wallet.ParsePhrase(string(text))
	if err != nil {
		return err
	}
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("account-%d", i)
	}
	w, err := createWith(c, phrase, names...)
	if err != nil {
		return err
	}
	return printAccounts(c, w)
}

func walletAdd(c *cli.Context) error {
	if c.NArg() != 1 {
		return usagef(c, "want one NAME, got %d", c.NArg())
	}
	w, passphrase, err := openWallet(c)
	if err != nil {
		return err
	}
	if _, err := w.Add(c.Args().First()); err != nil {
		return err
	}
	if err := keystore(c).Save(passphrase, w); err != nil {
		return err
	}
	return printAccounts(c, w)
}

func walletList(c *cli.Context) error {
	w, _, err := openWallet(c)
	if err != nil {
		return err
	}
	return printAccounts(c, w)
}

func walletSign(c *cli.Context) error {
	if c.NArg() != 1 {
		return usagef(c, "want one BODY.json, got %d arguments", c.NArg())
	}
	data, err := os.ReadFile(c.Args().First())
	if err != nil {
		return fmt.Errorf("reading the body: %w", err)
	}
	if len(data) > chain.MaxTxBytes {
		return fmt.Errorf("the body has %d bytes, limit %d", len(data), chain.MaxTxBytes)
	}
	var body api.TxBody
	if err := api.DecodeJSON(data, &body); err != nil {
		return fmt.Errorf("%s: %w", c.Args().First(), err)
	}
	unsigned, err := api.TxFromJSON(api.Tx{Body: body})
	if err != nil {
		return err
	}
	words, err := wallet.Preview(&unsigned.Body)
	if err != nil {
		return err
	}
	fmt.Fprintln(c.App.ErrWriter, words)
	w, _, err := openWallet(c)
	if err != nil {
		return err
	}
	account, err := w.Account(c.String("account"))
	if err != nil {
		return err
	}
	if ok, err := confirm(c, "Sign as "+account.Name()+"?"); err != nil || !ok {
		return errors.Join(errors.New("not signed"), err)
	}
	tx, err := chain.SignTx(unsigned.Body, account)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(c.App.Writer)
	return enc.Encode(api.TxToJSON(tx))
}

// confirm asks a yes-or-no question on a terminal; --yes answers it.
func confirm(c *cli.Context, question string) (bool, error) {
	if c.Bool("yes") {
		return true, nil
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return false, usagef(c, "no terminal to ask on: give --yes")
	}
	fmt.Fprintf(c.App.ErrWriter, "%s [y/N] ", question)
	line, err := askTerminal(c, func() (string, error) { return bufio.NewReader(os.Stdin).ReadString('\n') })
	if errors.Is(err, errInterrupted) {
		return false, err
	}
	if err != nil {
		return false, fmt.Errorf("reading the answer: %w", err)
	}
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes", nil
}
