// Command hypermesh is the people's cloud in one binary: chain node, Nexus
// server, provider agent, relay, explorer, wallet, and the tools around them.
//
// Data goes to standard output, messages to standard error. The exit code is 0
// if the command did what was asked, 1 if it failed, 2 if it was asked wrongly,
// and 130 if Ctrl-C or SIGTERM came before it was done.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/sdk/api"
)

const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130 // as shells have it, of Ctrl-C
)

func main() {
	if isNodeRun(os.Args) { // first of all, in the first thread, and before signals are caught, which the new program would not hear of
		if err := slacken(); err != nil {
			fmt.Fprintln(os.Stderr, "hypermesh:", err)
		}
	}
	// The buffers are as large as an unprivileged process may have them; the
	// library's advice for the system's administrator is in docs/DEPLOY.md.
	if err := os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true"); err != nil {
		fmt.Fprintln(os.Stderr, "hypermesh:", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// isNodeRun reports whether a command line is that of a node.
func isNodeRun(args []string) bool { return len(args) > 2 && args[1] == "node" && args[2] == "run" }

// run runs one command line and returns its exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	app := newApp(stdout, stderr)
	args, err := flagsFirst(app, args)
	if err == nil {
		err = app.RunContext(ctx, args)
	}
	if err == nil {
		return 0
	}
	if ended, ok := errors.AsType[*exitCode](err); ok {
		return ended.code
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) && !errors.Is(err, errInterrupted) {
		err = fmt.Errorf("%w while %w", errBrokenOff, err)
	}
	// One line, however many errors were joined: logs and scripts read the last one.
	fmt.Fprintln(stderr, "hypermesh:", strings.ReplaceAll(err.Error(), "\n", "; "))
	if wrong, ok := errors.AsType[*usageError](err); ok {
		fmt.Fprintf(stderr, "Try: hypermesh %s--help\n", wrong.command)
		return exitUsage
	}
	if errors.Is(err, errInterrupted) || errors.Is(err, errBrokenOff) {
		return exitInterrupted
	}
	return exitFailed
}

// exitCode ends the program with a code that is not its own, and without a word.
type exitCode struct{ code int }

func (e *exitCode) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// usageError says that a command was asked wrongly.
type usageError struct {
	command string // with a trailing space, or empty
	err     error
}

func (e *usageError) Error() string { return e.err.Error() }

func (e *usageError) Unwrap() error { return e.err }

// usagef returns the error of a command line that cannot be carried out.
func usagef(c *cli.Context, format string, args ...any) error {
	return &usageError{command: commandPath(c), err: fmt.Errorf(format, args...)}
}

func commandPath(c *cli.Context) string {
	if c == nil || c.Command == nil || c.Command.HelpName == "" {
		return ""
	}
	path := c.Command.HelpName
	if len(path) > len(programName) && path[:len(programName)+1] == programName+" " {
		return path[len(programName)+1:] + " "
	}
	return ""
}

const programName = "hypermesh"

func newApp(stdout, stderr io.Writer) *cli.App {
	onUsage := func(c *cli.Context, err error, _ bool) error { return usagef(c, "%v", err) }
	app := &cli.App{
		Name:                 programName,
		Usage:                "the people's cloud: sell and buy compute that the chain itself verifies",
		Version:              version(),
		Writer:               stdout,
		ErrWriter:            stderr,
		EnableBashCompletion: true,
		Suggest:              true,
		ExitErrHandler:       func(*cli.Context, error) {}, // run prints and chooses the code
		OnUsageError:         onUsage,
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usagef(nil, "%q is no command", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
		Commands: commands(),
	}
	setUsageErrors(app.Commands, onUsage)
	setHints(app.Commands)
	return app
}

// setUsageErrors gives every command the handler that turns a wrong flag into
// exit code 2, and every group an answer to a subcommand that it does not have.
func setUsageErrors(list []*cli.Command, handler cli.OnUsageErrorFunc) {
	for _, command := range list {
		command.OnUsageError = handler
		if command.Action == nil {
			command.Action = func(c *cli.Context) error {
				if c.NArg() > 0 {
					return usagef(c, "%q is no subcommand of %q", c.Args().First(), c.Command.Name)
				}
				return cli.ShowSubcommandHelp(c)
			}
		}
		setUsageErrors(command.Subcommands, handler)
	}
}

// setHints has every command that asks somebody say what to do where nobody listens.
func setHints(list []*cli.Command) {
	for _, command := range list {
		setHints(command.Subcommands)
		action := command.Action
		command.Action = func(c *cli.Context) error { return inWords(c, action(c)) }
	}
}

// inWords makes of what a server says that it does not know, and of an address where nobody
// listens, what a person can go by.
func inWords(c *cli.Context, err error) error {
	p, ok := errors.AsType[*api.Problem](err)
	if ok && p.Type == api.ProblemNotFound && p.Detail != "" && strings.HasPrefix(commandPath(c), "job ") {
		return errors.New(p.Detail)
	}
	return nobodyListens(c, err)
}

// nobodyListens says of an address that refused a connection how to name another.
func nobodyListens(c *cli.Context, err error) error {
	dial, ok := errors.AsType[*net.OpError](err)
	if !ok || dial.Op != "dial" || dial.Addr == nil || !errors.Is(dial, syscall.ECONNREFUSED) {
		return err
	}
	has := func(name string) bool {
		return slices.ContainsFunc(c.Command.Flags, func(f cli.Flag) bool { return f.Names()[0] == name })
	}
	var ways []string
	for _, way := range [][2]string{{"rpc", "--rpc URL names another node"}, {"nexus", "--nexus URL names another server"}, {"config", "--config FILE names another network"}} {
		if has(way[0]) {
			ways = append(ways, way[1])
		}
	}
	if len(ways) == 0 || has("home") || c.Context.Err() != nil { // who runs a role knows whom it asks
		return err
	}
	return fmt.Errorf("nobody listens at %s (%w): %s, and hypermesh devnet up starts a network on this machine", dial.Addr, syscall.ECONNREFUSED, strings.Join(ways, ", "))
}

// version names the build, as the Go toolchain recorded it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "devel"
	}
	return info.Main.Version
}

// jsonFlag asks for one JSON value on standard output instead of text.
func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "print JSON on standard output"}
}

// printJSON writes one indented JSON value.
func printJSON(c *cli.Context, v any) error {
	enc := json.NewEncoder(c.App.Writer)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// newLogger logs to standard error at the given level.
func newLogger(c *cli.Context, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, usagef(c, "log level %q: want debug, info, warn or error", level)
	}
	return slog.New(slog.NewTextHandler(c.App.ErrWriter, &slog.HandlerOptions{Level: l})), nil
}
