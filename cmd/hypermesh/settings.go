package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/server"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// settingsCommand shows and changes how a running cluster schedules.
func settingsCommand() *cli.Command {
	return &cli.Command{
		Name: "settings", Usage: "show or change how a running cluster schedules",
		Subcommands: []*cli.Command{
			{
				Name: "show", Usage: "show the settings, what each is, and their version", Flags: []cli.Flag{nexusURLFlag(), jsonFlag()},
				Description: "Example: hypermesh nexus settings show --nexus https://nexus.example:7280",
				Action: func(c *cli.Context) error {
					client, err := sdk.New(sdk.Config{Nexus: c.StringSlice("nexus")})
					if err != nil {
						return err
					}
					now, err := client.Settings(c.Context)
					if err != nil {
						return err
					}
					return printSettings(c, now)
				},
			},
			{
				Name: "set", Usage: "change settings on all servers", ArgsUsage: "NAME=NUMBER...", Flags: []cli.Flag{homeFlag(), nexusURLFlag(), jsonFlag()},
				Description: "The home holds the cluster's key, which signs the change, and genesis.json. The change goes through the log: every server goes by it\n" +
					"from the same entry on, whatever its configuration file says, and one that another change overtook is refused.\n" +
					"Example: hypermesh nexus settings set --home /var/lib/hypermesh/nexus --nexus http://127.0.0.1:7280 auction_window_ms=20 max_active=1000",
				Action: setSettings,
			},
		},
	}
}

func setSettings(c *cli.Context) error {
	values := map[string]string{}
	for _, arg := range c.Args().Slice() {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			return usagef(c, "%q is not NAME=NUMBER", arg)
		}
		if _, twice := values[name]; twice {
			return usagef(c, "%s is there twice", name)
		}
		values[name] = value
	}
	if len(values) == 0 {
		return usagef(c, "want NAME=NUMBER of at least one setting: hypermesh nexus settings show lists them")
	}
	if err := setValues(&job.Settings{}, values); err != nil { // what is wrong whatever the others are
		return usagef(c, "%v", err)
	}
	key, err := node.ReadKey(filepath.Join(c.String("home"), server.ClusterKeyFile))
	if err != nil {
		return err
	}
	genesis, err := node.ReadGenesisFile(filepath.Join(c.String("home"), server.GenesisFile))
	if err != nil {
		return err
	}
	client, err := sdk.New(sdk.Config{Nexus: c.StringSlice("nexus"), Timeout: changeTime, Attempts: 1})
	if err != nil {
		return err
	}
	now, err := client.ChangeSettings(c.Context, genesis.ChainID, key, func(s *job.Settings) error {
		if err := setValues(s, values); err != nil {
			return err
		}
		return s.Check()
	})
	if err != nil {
		return err
	}
	return printSettings(c, now)
}

// setValues sets settings by their names.
func setValues(s *job.Settings, values map[string]string) error {
	text := map[string]json.RawMessage{}
	for name, value := range values {
		text[name] = json.RawMessage(value)
	}
	raw, err := json.Marshal(text)
	if err != nil {
		return fmt.Errorf("want NAME=NUMBER: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	return d.Decode(s)
}

func printSettings(c *cli.Context, now api.ClusterSettings) error {
	if c.Bool("json") {
		return printJSON(c, now)
	}
	if _, err := fmt.Fprintf(c.App.Writer, "version %d\n", now.Version); err != nil {
		return err
	}
	values := reflect.ValueOf(now.Settings)
	for i, f := range reflect.VisibleFields(values.Type()) {
		if !f.IsExported() {
			continue
		}
		if _, err := fmt.Fprintf(c.App.Writer, "%-18s %12v  %s\n", f.Tag.Get("json"), values.Field(i), f.Tag.Get("doc")); err != nil {
			return err
		}
	}
	return nil
}
