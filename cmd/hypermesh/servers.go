package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/nexus/server"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// changeTime bounds a change of a cluster's servers: one that is added reads the
// log first.
const changeTime = time.Minute

func nexusURLFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "nexus", Usage: "`URL` of a server's HTTP API; may be given again", EnvVars: []string{"HYPERMESH_NEXUS"}, Required: true}
}

// clusterURLFlag is nexusURLFlag for commands that may also be told by --config.
func clusterURLFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "nexus", Usage: "`URL` of a server of the cluster; may be given again", EnvVars: []string{"HYPERMESH_NEXUS"}}
}

// clusterURLs returns the servers that the command line names, or the network's description.
func clusterURLs(c *cli.Context) ([]string, error) {
	nexus := c.StringSlice("nexus")
	if path := c.String("config"); len(nexus) == 0 && path != "" {
		described, err := readDescription(path)
		if err != nil {
			return nil, err
		}
		nexus = described.Nexus
	}
	if len(nexus) == 0 {
		return nil, usagef(c, "which cluster? Give --nexus URL, or --config FILE")
	}
	return nexus, nil
}

// serverCommands change a running cluster.
func serverCommands() []*cli.Command {
	signed := func() []cli.Flag { return []cli.Flag{homeFlag(), nexusURLFlag(), jsonFlag()} }
	const key = "The home holds the cluster's key, which signs the change, and genesis.json.\n"
	return []*cli.Command{
		{
			Name: "servers", Usage: "list the servers of a cluster", Action: listServers, Flags: []cli.Flag{nexusURLFlag(), jsonFlag()},
			Description: "Example: hypermesh nexus servers --nexus https://nexus.example:7280",
		},
		{
			Name: "add-server", Usage: "add a server to a running cluster", ArgsUsage: "NODEID@HOST:PORT", Flags: signed(),
			Description: key + "The new server runs with join = true, the cluster's key and genesis, and servers that lists itself and the others. It is made a\n" +
				"member once it has read the log, and the others tell the agents of it: HOST:PORT is where these reach it too.\n" +
				"Example: hypermesh nexus add-server --home /var/lib/hypermesh/nexus --nexus http://127.0.0.1:7280 NODEID@nexus-4.example:7200",
			Action: func(c *cli.Context) error {
				addr, err := transport.ParseNodeAddr(c.Args().First())
				if err != nil || c.NArg() != 1 {
					return usagef(c, "want one NODEID@HOST:PORT, got %q", c.Args().Slice())
				}
				return changeServers(c, api.ServerChange{Action: api.AddServer, Server: addr.ID, Address: addr.Addr})
			},
		},
		{
			Name: "remove-server", Usage: "remove a server from a running cluster", ArgsUsage: "NODEID",
			Flags: append(signed(), &cli.BoolFlag{Name: "force", Usage: "even if blobs of jobs are lost that no majority of the other servers has"}),
			Description: key + "One that leads is not removed: hand the leadership over first. The servers that stay fetch what they lack of its blobs before;\n" +
				"if no majority of them can have one, it is refused, and says which. Stop the server afterwards.\n" +
				"Example: hypermesh nexus remove-server --home /var/lib/hypermesh/nexus --nexus http://127.0.0.1:7280 NODEID",
			Action: func(c *cli.Context) error {
				id, err := crypto.ParsePublicKey(c.Args().First())
				if err != nil || c.NArg() != 1 {
					return usagef(c, "want one NODEID, got %q", c.Args().Slice())
				}
				return changeServers(c, api.ServerChange{Action: api.RemoveServer, Server: id, Force: c.Bool("force")})
			},
		},
		{
			Name: "transfer", Usage: "hand the leadership of a cluster over", ArgsUsage: "[NODEID]", Flags: signed(),
			Description: key + "Without a NODEID the server that is the furthest leads next. A server that is stopped in order hands over by itself.\n" +
				"Example: hypermesh nexus transfer --home /var/lib/hypermesh/nexus --nexus http://127.0.0.1:7280",
			Action: func(c *cli.Context) error {
				change := api.ServerChange{Action: api.TransferLeadership}
				if c.NArg() > 0 {
					var err error
					if change.Server, err = crypto.ParsePublicKey(c.Args().First()); err != nil || c.NArg() != 1 {
						return usagef(c, "want one NODEID, got %q", c.Args().Slice())
					}
				}
				return changeServers(c, change)
			},
		},
		settingsCommand(),
	}
}

func listServers(c *cli.Context) error {
	client, err := sdk.New(sdk.Config{Nexus: c.StringSlice("nexus")})
	if err != nil {
		return err
	}
	list, err := client.Servers(c.Context)
	if err != nil {
		return err
	}
	return printServers(c, list)
}

func changeServers(c *cli.Context, change api.ServerChange) error {
	key, err := node.ReadKey(filepath.Join(c.String("home"), server.ClusterKeyFile))
	if err != nil {
		return err
	}
	genesis, err := node.ReadGenesisFile(filepath.Join(c.String("home"), server.GenesisFile))
	if err != nil {
		return err
	}
	list, err := askForChange(c, genesis, key, change)
	if err != nil {
		return err
	}
	return printServers(c, list)
}

func askForChange(c *cli.Context, genesis *chain.Genesis, key crypto.PrivateKey, change api.ServerChange) (api.ServerList, error) {
	client, err := sdk.New(sdk.Config{Nexus: c.StringSlice("nexus"), Timeout: changeTime, Attempts: 1})
	if err != nil {
		return api.ServerList{}, err
	}
	return client.ChangeServers(c.Context, genesis.ChainID, key, change)
}

func printServers(c *cli.Context, list api.ServerList) error {
	if c.Bool("json") {
		return printJSON(c, list)
	}
	for _, s := range list.Servers {
		role := "follows"
		switch {
		case s.Leader:
			role = "leads"
		case !s.Voter:
			role = "reads the log, has no vote yet"
		}
		if _, err := fmt.Fprintf(c.App.Writer, "%s@%s  %s\n", s.ID, s.Address, role); err != nil {
			return err
		}
	}
	return nil
}
