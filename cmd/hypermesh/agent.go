package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/agent"
)

func agentCommand() *cli.Command {
	r := agentRole()
	up := r.command("up", "run the agent in its home until interrupted", "hypermesh agent up")
	up.Flags[0] = agentHomeFlag()
	up.Action = func(c *cli.Context) error {
		if err := agentHomeThere(c); err != nil && !c.IsSet("server") && !c.IsSet("servers") {
			return err
		}
		return r.action(c)
	}
	return &cli.Command{
		Name: "agent", Usage: "sell this machine's idle time: bid, run, meter, sign",
		Subcommands: []*cli.Command{
			agentInitCommand(),
			up,
			agentRegisterCommand(),
			agentPairCommand(),
			agentDeclareCommand(),
			agentMeterCommand(),
			agentEvidenceCommand(),
			agentStatusCommand(),
			agentModeCommand("pause", "take no new work until told to resume; what runs goes on to its end", agent.Mode{Name: agent.ModePaused}),
			agentModeCommand("resume", "take work again", agent.Mode{Name: agent.ModeOpen}),
			agentDrainCommand(),
			agentEarningsCommand(),
			agentHardwareCommand(),
			agentDoctorCommand(),
		},
	}
}

// agentHomeFlag is homeFlag for the one role that people run at home.
func agentHomeFlag() cli.Flag {
	return &cli.StringFlag{Name: "home", Usage: "`DIR` of the agent's config file, keys and data", EnvVars: []string{"HYPERMESH_HOME"}, Value: defaultAgentHome()}
}

func defaultAgentHome() string {
	home, err := os.UserHomeDir()
	if err != nil {
		return "agent"
	}
	return filepath.Join(home, ".hypermesh", "agent")
}

// agentHomeThere refuses a home that nobody has made.
func agentHomeThere(c *cli.Context) error {
	home := c.String("home")
	if _, err := os.Stat(filepath.Join(home, configFile)); err != nil {
		return fmt.Errorf("there is no agent in %s (%w): hypermesh agent init makes one, --home names another place", home, err)
	}
	return nil
}

// agentConfig reads the config of a home that is there.
func agentConfig(c *cli.Context) (agent.Config, error) {
	config := agent.DefaultConfig()
	config.Home, config.Log = c.String("home"), slog.New(slog.DiscardHandler)
	if err := agentHomeThere(c); err != nil {
		return config, err
	}
	return config, decodeConfig(c, &config)
}

func agentStatusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "what the running agent does", Description: "Example: hypermesh agent status",
		Flags: []cli.Flag{agentHomeFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			remote, err := reachAgent(c)
			if err != nil {
				return err
			}
			s, err := remote.Status(c.Context)
			if err != nil {
				return err
			}
			return printAgentStatus(c, &s)
		},
	}
}

// reachAgent returns the agent that runs in the home.
func reachAgent(c *cli.Context) (*agent.Remote, error) {
	config, err := controlledAgent(c)
	if err != nil {
		return nil, err
	}
	remote, err := agent.Reach(c.Context, config.Home)
	if errors.Is(err, agent.ErrNotRunning) {
		return nil, fmt.Errorf("%w, %s (hypermesh agent up runs it)", err, config.Home)
	}
	return remote, err
}

// controlledAgent reads the config of an agent that listens to commands.
func controlledAgent(c *cli.Context) (agent.Config, error) {
	config, err := agentConfig(c)
	if err == nil && config.HTTP == "" {
		err = fmt.Errorf("http is empty in %s: the agent listens to no command; set it and start the agent again", filepath.Join(config.Home, configFile))
	}
	return config, err
}

func printAgentStatus(c *cli.Context, s *agent.Status) error {
	if c.Bool("json") {
		return printJSON(c, s)
	}
	state := "takes work"
	switch {
	case s.Drained:
		state = "drained: nothing runs, and everything is handed over"
	case s.Closed != "":
		state = s.Closed
	case s.NotReadyAs != "":
		state = "not ready: " + s.NotReadyAs
	}
	if s.Mode.DeadlineMs > 0 && !s.Drained {
		state += ", what runs is given up at " + time.UnixMilli(int64(s.Mode.DeadlineMs)).Format(time.DateTime)
	}
	connected := 0
	for _, server := range s.Servers {
		if server.Connected {
			connected++
		}
	}
	w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "node\t%s\nstate\t%s\nservers\t%d of %d connected\n", s.Node, state, connected, len(s.Servers))
	fmt.Fprintf(w, "free\t%d of %d millicores, %d of %d MiB\n", s.Free.Millicores, s.Total.Millicores, s.Free.MemoryMiB, s.Total.MemoryMiB)
	fmt.Fprintf(w, "running\t%d\nto hand over\t%d\n", len(s.Running), len(s.Unacked))
	if h := s.Hardware; h != nil {
		fmt.Fprintf(w, "hardware\tchallenged at %s: %d of %d lanes shown, %d of %d nodes asked for more; %s\n",
			time.UnixMilli(int64(h.SinceMs)).Format(time.DateTime), h.Shown, h.Lanes, h.Asked, h.Peers, h.Note)
	}
	var in, out uint64
	for _, m := range s.Moved {
		in, out = in+m.In, out+m.Out
	}
	fmt.Fprintf(w, "moved\t%s in, %s out\n", agent.BytesText(in), agent.BytesText(out))
	return w.Flush()
}

// agentModeCommand returns a command that changes what the agent does, whether
// it runs or not.
func agentModeCommand(name, usage string, mode agent.Mode) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, Flags: []cli.Flag{agentHomeFlag(), jsonFlag()},
		Description: "It lasts over restarts and crashes, and may be said while the agent does not run.\nExample: hypermesh agent " + name,
		Action: func(c *cli.Context) error {
			_, err := setAgentMode(c, mode)
			return err
		},
	}
}

// setAgentMode changes the mode, says what it is now, and returns the agent if
// it runs.
func setAgentMode(c *cli.Context, mode agent.Mode) (*agent.Remote, error) {
	config, err := controlledAgent(c)
	if err != nil {
		return nil, err
	}
	remote, err := agent.Reach(c.Context, config.Home)
	if errors.Is(err, agent.ErrNotRunning) {
		if err := agent.SetMode(config.Home, mode); err != nil {
			return nil, err
		}
		if c.Bool("json") {
			return nil, printJSON(c, mode)
		}
		fmt.Fprintf(c.App.Writer, "%s, from its next start on: no agent runs in %s\n", mode.Name, config.Home)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s, err := remote.SetMode(c.Context, mode)
	if err != nil {
		return nil, err
	}
	return remote, printAgentStatus(c, &s)
}

// drainPoll is how often a drain looks whether it is over.
const drainPoll = 500 * time.Millisecond

func agentDrainCommand() *cli.Command {
	return &cli.Command{
		Name: "drain", Usage: "take no new work, and wait until nothing runs and everything is handed over",
		Description: "At the deadline what still runs is given up, and the cluster gives it to another node; without one it runs to its end. Ctrl-C ends\n" +
			"the waiting and not the draining, which lasts over restarts until hypermesh agent resume. The exit code is 0 once the agent is drained.\n" +
			"Example: hypermesh agent drain --deadline 30m",
		Flags: []cli.Flag{
			agentHomeFlag(), jsonFlag(),
			&cli.DurationFlag{Name: "deadline", Usage: "`TIME` after which what still runs is given up, such as 30m; left out: never"},
			&cli.BoolFlag{Name: "no-wait", Usage: "do not wait until it is over"},
		},
		Action: agentDrain,
	}
}

func agentDrain(c *cli.Context) error {
	mode := agent.Mode{Name: agent.ModeDraining}
	if c.IsSet("deadline") {
		if c.Duration("deadline") <= 0 {
			return usagef(c, "--deadline is %v, want more than nothing", c.Duration("deadline"))
		}
		mode.DeadlineMs = chain.TimeMs(time.Now().Add(c.Duration("deadline")).UnixMilli())
	}
	remote, err := setAgentMode(c, mode)
	if err != nil || remote == nil || c.Bool("no-wait") {
		return err
	}
	ticker := time.NewTicker(drainPoll)
	defer ticker.Stop()
	for last := ""; ; {
		s, err := remote.Status(c.Context)
		switch {
		case c.Context.Err() != nil:
			return errors.New("no longer waiting; the agent goes on draining")
		case err != nil:
			return err
		case s.Mode.Name != agent.ModeDraining:
			return fmt.Errorf("somebody told the agent otherwise meanwhile: it is %s", s.Mode.Name)
		case s.Drained:
			fmt.Fprintln(c.App.ErrWriter, "drained: the agent may be stopped")
			return nil
		}
		if now := fmt.Sprintf("%d jobs run, %d results wait for the servers", len(s.Running), len(s.Unacked)); now != last {
			fmt.Fprintln(c.App.ErrWriter, now)
			last = now
		}
		select {
		case <-ticker.C:
		case <-c.Context.Done():
		}
	}
}

func agentEarningsCommand() *cli.Command {
	return &cli.Command{
		Name: "earnings", Usage: "what the node's work was paid, is owed and may bring",
		Description: "Settled is proven by the chain; pending is what the signed receipts should bring after fees. The agent keeps the book itself, in its\n" +
			"work directory, from its first job on.\nExample: hypermesh agent earnings --json",
		Flags: []cli.Flag{agentHomeFlag(), jsonFlag()}, Action: agentEarnings,
	}
}

func agentEarnings(c *cli.Context) error {
	config, err := agentConfig(c)
	if err != nil {
		return err
	}
	var e agent.Earnings
	remote, err := agent.Reach(c.Context, config.Home)
	switch {
	case errors.Is(err, agent.ErrNotRunning):
		e, err = agent.ReadEarnings(&config, time.Now())
	case err == nil:
		e, err = remote.Earnings(c.Context)
	}
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c, e)
	}
	w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "settled\t%s\t%d jobs\n  today\t%s\t\n  last 7 days\t%s\t\n", e.Settled, e.SettledJobs, e.Today, e.Week)
	fmt.Fprintf(w, "pending\t%s\t%d jobs\nrunning\t%s at most\t%d jobs\n", e.Pending, e.PendingJobs, e.RunningMost, e.RunningJobs)
	if e.Forecast.IsZero() {
		fmt.Fprintln(w, "forecast\ttoo early to say\t")
	} else {
		fmt.Fprintf(w, "forecast\t%s\tin 30 days, at the pace of the last 7\n", e.Forecast)
	}
	if e.UnpaidJobs > 0 {
		fmt.Fprintf(w, "never paid\t\t%d jobs\n", e.UnpaidJobs)
	}
	if e.Unknown != "" {
		fmt.Fprintf(c.App.ErrWriter, "hypermesh: %s\n", e.Unknown)
	}
	return w.Flush()
}

func agentDoctorCommand() *cli.Command {
	return &cli.Command{
		Name: "doctor", Usage: "look at everything that an agent needs, and say how to mend what is wrong",
		Description: "Looks at config, keys, clock, servers over QUIC, registration and bond, disk, memory, UDP buffers, file limits, containers and the running\n" +
			"agent, and changes nothing. The exit code is 1 if anything is broken, so that no work or no pay would come.\nExample: hypermesh agent doctor --json",
		Flags: []cli.Flag{agentHomeFlag(), jsonFlag()}, Action: agentDoctor,
	}
}

func agentDoctor(c *cli.Context) error {
	config, err := agentConfig(c)
	if err != nil {
		return err
	}
	findings := agent.Diagnose(c.Context, config)
	broken := slices.DeleteFunc(slices.Clone(findings), func(f agent.Finding) bool { return f.Severity != agent.Broken })
	if c.Bool("json") {
		err = printJSON(c, findings)
	} else {
		printFindings(c.App.Writer, findings)
	}
	if len(broken) > 0 {
		return errors.Join(err, fmt.Errorf("%d of %d findings are broken, the first: %s", len(broken), len(findings), broken[0].Check))
	}
	return err
}

func printFindings(w io.Writer, findings []agent.Finding) {
	width := 0
	for _, f := range findings {
		width = max(width, len(f.Check))
	}
	for _, f := range findings {
		fmt.Fprintf(w, "%-7s  %-*s  %s\n", f.Severity, width, f.Check, f.Found)
		if f.Mend != "" {
			fmt.Fprintf(w, "%s→ %s\n", strings.Repeat(" ", 9+width+2), f.Mend)
		}
	}
}
