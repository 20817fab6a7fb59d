package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk/assembly"
	"github.com/hypermesh/hypermesh/smart-contracts/templates"
)

func contractCommand() *cli.Command {
	return &cli.Command{
		Name:  "contract",
		Usage: "write, build and test smart contracts, put them on the chain and call them",
		Subcommands: []*cli.Command{
			{
				Name: "new", Usage: "begin a contract in a new directory", ArgsUsage: "DIR",
				Description: "It has what a template has, and the kit beside it: all of it is yours to change. docs/CONTRACTS.md goes on from there.\n\n" +
					"Example: hypermesh contract new mine --template counter",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "template", Value: "counter", Usage: "`NAME` of what to begin with: " + strings.Join(templates.Names(), ", ")},
				},
				Action: contractNew,
			},
			{
				Name: "build", Usage: "build a contract's module, and hold it to what the chain takes", ArgsUsage: "DIR",
				Description: "Needs Node.js 20 or later; the compiler, of an exact version, is installed once with npm. The same sources give\n" +
					"the same module, byte for byte, on every machine.\n\n" +
					"Example: hypermesh contract build mine --out mine.wasm",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "out", Usage: "`FILE` of the module [DIR/contract.wasm]"},
					toolsFlag(), jsonFlag(),
				},
				Action: contractBuild,
			},
			{
				Name: "test", Usage: "run a contract's tests on the machine that the chain has", ArgsUsage: "DIR",
				Description: "The tests are in DIR/tests.ts. Each has a storage of its own. The exit code is 1 if one fails.\n\n" +
					"Example: hypermesh contract test mine",
				Flags:  []cli.Flag{toolsFlag(), jsonFlag()},
				Action: contractTest,
			},
			contractStoreCommand(), contractInstantiateCommand(), contractExecuteCommand(), contractQueryCommand(), contractSchemaCommand(), contractMigrateCommand(),
			contractCodeCommand(), contractPinCommand(),
		},
	}
}

func toolsFlag() cli.Flag {
	return &cli.StringFlag{Name: "tools", Value: assembly.DefaultTools(), Usage: "`DIR` where the compiler is kept"}
}

// contractDir is the one argument of these commands.
func contractDir(c *cli.Context) (string, error) {
	if c.NArg() != 1 {
		return "", usagef(c, "want one DIR, got %d arguments", c.NArg())
	}
	return c.Args().First(), nil
}

func contractNew(c *cli.Context) error {
	dir, err := contractDir(c)
	if err != nil {
		return err
	}
	template, err := templates.Sources(c.String("template"))
	if err != nil {
		return usagef(c, "--template: %v", err)
	}
	if err := assembly.New(dir, template); err != nil {
		return err
	}
	fmt.Fprintf(c.App.ErrWriter, "%s is a contract: what it does is in contract.ts. Next: hypermesh contract test %s\n", dir, dir)
	return nil
}

// compiler is the one that --tools names.
func compiler(c *cli.Context) assembly.Compiler {
	return assembly.Compiler{Tools: c.String("tools"), Progress: c.App.ErrWriter}
}

// compilerSays prints what the compiler says of a mistake as it says it, in several lines.
func compilerSays(c *cli.Context, err error) error {
	if !errors.Is(err, assembly.ErrCompile) {
		return err
	}
	fmt.Fprintln(c.App.ErrWriter, "hypermesh:", err)
	return &exitCode{exitFailed}
}

func contractBuild(c *cli.Context) error {
	dir, err := contractDir(c)
	if err != nil {
		return err
	}
	module, err := compiler(c).Build(c.Context, os.DirFS(dir))
	if err != nil {
		return compilerSays(c, err)
	}
	out := c.String("out")
	if out == "" {
		out = filepath.Join(dir, "contract.wasm")
	}
	if err := os.WriteFile(out, module, 0o644); err != nil {
		return err
	}
	digest := crypto.DomainBlob.Hash(module)
	if c.Bool("json") {
		return printJSON(c, struct {
			File   string        `json:"file"`
			Bytes  int           `json:"bytes"`
			Digest crypto.Digest `json:"digest"`
		}{out, len(module), digest})
	}
	fmt.Fprintf(c.App.Writer, "%s: %d bytes, %s\n", out, len(module), digest)
	return nil
}

func contractTest(c *cli.Context) error {
	dir, err := contractDir(c)
	if err != nil {
		return err
	}
	results, err := compiler(c).Test(c.Context, os.DirFS(dir))
	if err != nil {
		return compilerSays(c, err)
	}
	failed := 0
	for _, r := range results {
		if r.Failed != "" {
			failed++
		}
	}
	if c.Bool("json") {
		if err := printJSON(c, results); err != nil {
			return err
		}
	} else {
		printResults(c.App.Writer, results)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d tests failed", failed, len(results))
	}
	return nil
}

func printResults(w io.Writer, results []assembly.Result) {
	for _, r := range results {
		if r.Failed == "" {
			fmt.Fprintf(w, "ok    %s\n", r.Name)
		} else {
			fmt.Fprintf(w, "FAIL  %s: %s\n", r.Name, r.Failed)
		}
	}
	fmt.Fprintf(w, "%d tests\n", len(results))
}
