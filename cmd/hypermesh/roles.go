package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/bridge/relay"
	"github.com/hypermesh/hypermesh/explorer"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/nexus/server"
)

// role is a long-running process with a config file in its home.
type role[C any] struct {
	name     string
	defaults func() C
	// bind sets what the command knows: home, program version, logger.
	bind  func(config *C, home string, log *slog.Logger)
	level func(config *C) string
	run   func(context.Context, C) error
}

// command returns the role's subcommand that runs it.
func (r role[C]) command(verb, usage, example string) *cli.Command {
	return &cli.Command{
		Name: verb, Usage: usage, Description: "Example: " + example,
		Flags:  append([]cli.Flag{homeFlag()}, configFlags(r.name, r.defaults())...),
		Action: r.action,
	}
}

func (r role[C]) action(c *cli.Context) error {
	config, err := r.config(c)
	if err != nil {
		return err
	}
	log, err := newLogger(c, r.level(&config))
	if err != nil {
		return err
	}
	r.bind(&config, c.String("home"), log)
	return r.run(c.Context, config)
}

func (r role[C]) config(c *cli.Context) (C, error) {
	config := r.defaults()
	r.bind(&config, c.String("home"), nil)
	checked, ok := any(&config).(checker)
	if !ok {
		panic(fmt.Sprintf("config of role %s does not check itself", r.name))
	}
	return config, readConfig(c, checked)
}

// initCommand returns the subcommand that makes a home with its config file and
// the named keys.
func (r role[C]) initCommand(example string, keys ...string) *cli.Command {
	return &cli.Command{
		Name: "init", Usage: "make a home: keys and config file", Description: "Example: " + example,
		Flags: append([]cli.Flag{homeFlag(), jsonFlag()}, configFlags(r.name, r.defaults())...),
		Action: func(c *cli.Context) error {
			config := r.defaults()
			r.bind(&config, c.String("home"), nil)
			applyConfig(c, &config)
			if err := initHome(c.String("home"), config); err != nil {
				return err
			}
			made := map[string]crypto.PublicKey{}
			for _, name := range keys {
				key, err := makeKey(filepath.Join(c.String("home"), name))
				if err != nil {
					return err
				}
				made[name] = key.Public()
			}
			return printKeys(c, made, keys)
		},
	}
}

func printKeys(c *cli.Context, made map[string]crypto.PublicKey, order []string) error {
	if c.Bool("json") {
		return printJSON(c, map[string]any{"home": c.String("home"), "keys": made})
	}
	fmt.Fprintf(c.App.Writer, "%-12s %s\n", "home", c.String("home"))
	for _, name := range order {
		fmt.Fprintf(c.App.Writer, "%-12s %s\n", name, made[name])
	}
	return nil
}

func serverRole() role[server.Config] {
	return role[server.Config]{
		name: "nexus", defaults: server.DefaultConfig,
		run: func(ctx context.Context, c server.Config) error {
			spareCollector(ctx)
			return server.Run(ctx, c)
		},
		bind:  func(c *server.Config, home string, log *slog.Logger) { c.Home, c.Version, c.Log = home, version(), log },
		level: func(c *server.Config) string { return c.LogLevel },
	}
}

func agentRole() role[agent.Config] {
	return role[agent.Config]{
		name: "agent", defaults: agent.DefaultConfig, run: agent.Run,
		bind: func(c *agent.Config, home string, log *slog.Logger) {
			c.Home, c.Log, c.Compiler = home, log, compilerCommand()
		},
		level: func(c *agent.Config) string { return c.LogLevel },
	}
}

func relayRole() role[relay.Config] {
	return role[relay.Config]{
		name: "relay", defaults: relay.DefaultConfig, run: relay.Run,
		bind:  func(c *relay.Config, home string, log *slog.Logger) { c.Home, c.Log = home, log },
		level: func(c *relay.Config) string { return c.LogLevel },
	}
}

func explorerRole() role[explorer.Config] {
	return role[explorer.Config]{
		name: "explorer", defaults: explorer.DefaultConfig, run: explorer.Run,
		bind: func(c *explorer.Config, home string, log *slog.Logger) {
			c.Home, c.Version, c.Log = home, version(), log
		},
		level: func(c *explorer.Config) string { return c.LogLevel },
	}
}

func nexusCommand() *cli.Command {
	r := serverRole()
	return &cli.Command{
		Name: "nexus", Usage: "run a server of a cluster: scheduler, auctions, agents' sessions",
		Subcommands: append([]*cli.Command{
			r.initCommand("hypermesh nexus init --home /var/lib/hypermesh/nexus --listen 0.0.0.0:7200", node.NodeKeyFile, "cluster.key"),
			r.command("run", "run the server in its home until interrupted", "hypermesh nexus run --home /var/lib/hypermesh/nexus"),
			nexusRegisterCommand(),
			topCommand(),
		}, serverCommands()...),
	}
}

func relayCommand() *cli.Command {
	r := relayRole()
	run := r.command("run", "run the relay in its home until interrupted", "hypermesh relay run --home /var/lib/hypermesh/relay")
	return &cli.Command{
		Name: "relay", Usage: "carry claims from a cluster to the chain",
		Description: "With --private it settles the metered work of its own nodes by proofs over usage records, which their agents sign and which stay off the chain.\n" +
			"Example: hypermesh relay --private --home /var/lib/hypermesh/relay --nodes KEY@http://127.0.0.1:7380",
		Subcommands: []*cli.Command{
			r.initCommand("hypermesh relay init --home /var/lib/hypermesh/relay --nexus https://nexus.example:7280 --rpc https://node.example:7180", "account.key"),
			run,
		},
	}
}

func explorerCommand() *cli.Command {
	r := explorerRole()
	return &cli.Command{
		Name: "explorer", Usage: "an index of the chain and its web pages",
		Subcommands: []*cli.Command{
			r.initCommand("hypermesh explorer init --home /var/lib/hypermesh/explorer --rpc https://node.example:7180"),
			r.command("run", "run the explorer in its home until interrupted", "hypermesh explorer run --home /var/lib/hypermesh/explorer"),
		},
	}
}
