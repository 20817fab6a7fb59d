package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

const (
	minTopInterval = 200 * time.Millisecond
	onceWidth      = 120 // of a page for no terminal
	maxPageSide    = 1_000
)

func topCommand() *cli.Command {
	return &cli.Command{
		Name: "top", Usage: "watch a cluster: queues and who is next, shares, nodes, auctions",
		Description: "Shows what the first server that answers has heard of; a follower says how far it is behind. Needs no key and changes nothing.\n" +
			"Keys: q or Ctrl-C quits, tab and 1 to 5 choose the page, s sorts, r turns the order round, arrows scroll, p pauses, ? explains.\n" +
			"Without a terminal, or with --once, one page is printed; NO_COLOR is heeded.\n" +
			"Example: hypermesh nexus top --nexus https://nexus.example:7280\n" +
			"Example: hypermesh nexus top --config net.json --once --json",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "nexus", Usage: "`URL` of a server's HTTP API; may be given again", EnvVars: []string{"HYPERMESH_NEXUS"}},
			configFlag(),
			&cli.DurationFlag{Name: "interval", Value: time.Second, Usage: "`TIME` between two looks, 200ms at least"},
			&cli.IntFlag{Name: "rows", Value: 20, Usage: "`N` rows of each list that --once and --json have, 1 to 200"},
			&cli.BoolFlag{Name: "once", Usage: "print one page"},
			jsonFlag(),
		},
		Action: nexusTop,
	}
}

func nexusTop(c *cli.Context) error {
	rows := c.Int("rows")
	switch {
	case c.NArg() > 0:
		return usagef(c, "want no arguments, got %q", c.Args().First())
	case rows < 1 || rows > api.MaxTopRows:
		return usagef(c, "rows is %d, want 1 to %d", rows, api.MaxTopRows)
	case c.Duration("interval") < minTopInterval:
		return usagef(c, "interval is %s, want %s at least", c.Duration("interval"), minTopInterval)
	}
	config, err := topServers(c)
	if err != nil {
		return err
	}
	out, _ := c.App.Writer.(*os.File)
	live := out != nil && term.IsTerminal(int(out.Fd())) && os.Getenv("TERM") != "dumb"
	if live && !c.Bool("once") && !c.Bool("json") {
		config.Attempts, config.Timeout = api.MaxServerAddresses, 3*time.Second
		client, err := clientOf(c.String("config"), config)
		if err != nil {
			return usagef(c, "%v", err)
		}
		s := &screen{out: out, in: os.Stdin, interval: c.Duration("interval"), model: topModel{asked: config.Nexus[0]}, look: lookOf(os.Getenv)}
		return s.run(c.Context, func(ctx context.Context) (api.NexusTop, error) { return client.Top(ctx, api.MaxTopRows) })
	}
	client, err := clientOf(c.String("config"), config)
	if err != nil {
		return usagef(c, "%v", err)
	}
	top, err := client.Top(c.Context, rows)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c, top)
	}
	page := pageTop(&topModel{data: &top}, pageWidth(out, os.Getenv))
	_, err = fmt.Fprintln(c.App.Writer, strings.TrimRight(strings.Join(page.lines(lookOf(os.Getenv).ascii), "\n"), "\n"))
	return err
}

// topServers returns whom to ask: --nexus, or what --config lists.
func topServers(c *cli.Context) (sdk.Config, error) {
	if servers := c.StringSlice("nexus"); len(servers) > 0 {
		return sdk.Config{Nexus: servers}, nil
	}
	if c.String("config") == "" {
		return sdk.Config{}, usagef(c, "want --nexus URL or --config FILE: which cluster?")
	}
	d, err := readDescription(c.String("config"))
	if err != nil {
		return sdk.Config{}, err
	}
	if len(d.Nexus) == 0 {
		return sdk.Config{}, fmt.Errorf("%s lists no server of a cluster (nexus)", c.String("config"))
	}
	return sdk.Config{Nexus: d.Nexus, Cluster: d.Cluster}, nil
}

// lookOf says what a terminal shows, by its environment.
func lookOf(env func(string) string) look {
	locale := env("LC_ALL")
	for _, name := range []string{"LC_CTYPE", "LANG"} {
		if locale == "" {
			locale = env(name)
		}
	}
	locale = strings.ToUpper(locale)
	// No locale at all is a service's or a container's; their readers know UTF-8.
	return look{colour: env("NO_COLOR") == "", ascii: locale != "" && !strings.Contains(locale, "UTF")}
}

// pageWidth is the width of a page that is printed once.
func pageWidth(out *os.File, env func(string) string) int {
	if out != nil {
		if width, _, err := term.GetSize(int(out.Fd())); err == nil && width > 0 {
			return min(width, maxPageSide)
		}
	}
	if n, err := strconv.Atoi(env("COLUMNS")); err == nil && n > 0 {
		return min(n, maxPageSide)
	}
	return onceWidth
}

// screen is a terminal that shows pages until it is told to stop.
type screen struct {
	out, in  *os.File
	interval time.Duration
	look     look
	model    topModel
	answered time.Time // when the data that is shown came
}

// What the terminal is told: another screen without a cursor, and back.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[?7l"
	leaveScreen = "\x1b[?7h\x1b[?25h\x1b[?1049l\x1b[0m"
)

// answer is what a server said.
type answer struct {
	top api.NexusTop
	err error
}

// run shows pages until q, Ctrl-C or the end of ctx, which all are no error, and
// leaves the terminal as it was.
func (s *screen) run(ctx context.Context, ask func(context.Context) (api.NexusTop, error)) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	keys := make(chan string)
	if term.IsTerminal(int(s.in.Fd())) {
		before, err := term.MakeRaw(int(s.in.Fd()))
		if err != nil {
			return fmt.Errorf("the terminal: %w", err)
		}
		defer func() { err = errors.Join(err, term.Restore(int(s.in.Fd()), before)) }()
		go readKeys(ctx, s.in, keys) // ends with the process: a read of a terminal cannot be broken off
	}
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	if _, err := s.out.WriteString(enterScreen); err != nil {
		return fmt.Errorf("the terminal: %w", err)
	}
	defer func() {
		_, failed := s.out.WriteString(leaveScreen)
		err = errors.Join(err, failed)
	}()
	answers := make(chan answer, 1)
	look := func() {
		go func() {
			top, err := ask(ctx)
			answers <- answer{top, err} // has room: one is asked at a time
		}()
	}
	look()
	ticker := time.NewTicker(s.interval)
	defer ticker.Stop()
	asking := true
	for {
		if err := s.draw(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case key := <-keys:
			if s.press(key) {
				return nil
			}
		case <-resized:
		case <-ticker.C:
			if !asking && !s.model.paused {
				asking = true
				look()
			}
		case a := <-answers:
			asking = false
			s.take(a)
		}
	}
}

// take shows an answer, or says why there is none.
func (s *screen) take(a answer) {
	if a.err != nil {
		s.model.trouble = troubleOf(a.err)
		return
	}
	s.model.trouble, s.answered = "", time.Now()
	if !s.model.paused {
		s.model.data = &a.top
	}
}

// troubleOf says in few words why a server did not answer.
func troubleOf(err error) string {
	if inner, ok := errors.AsType[*url.Error](err); ok {
		return inner.Err.Error()
	}
	return err.Error()
}

func (s *screen) draw() error {
	width, height, err := term.GetSize(int(s.out.Fd()))
	if err != nil {
		return fmt.Errorf("the terminal: %w", err)
	}
	if !s.answered.IsZero() {
		s.model.since = time.Since(s.answered)
	}
	page := drawTop(&s.model, max(1, min(width, maxPageSide)), max(1, min(height, maxPageSide)))
	if _, err := s.out.WriteString(page.frame(s.look)); err != nil {
		return fmt.Errorf("the terminal: %w", err)
	}
	return nil
}

// press does what a key asks for, and reports whether it asks for the end.
func (s *screen) press(key string) (quit bool) {
	m := &s.model
	switch key {
	case "q", "Q", keyCtrlC, keyCtrlD:
		return true
	case keyTab, keyRight, "l":
		m.tab, m.scroll = (m.tab+1)%tabCount, 0
	case keyBackTab, keyLeft, "h":
		m.tab, m.scroll = (m.tab+tabCount-1)%tabCount, 0
	case "1", "2", "3", "4", "5":
		m.tab, m.scroll = topTab(key[0]-'1'), 0
	case "s":
		m.sort[m.tab] = (m.sort[m.tab] + 1) % len(topOrders[m.tab])
	case "r":
		m.upside = !m.upside
	case "p", " ":
		m.paused = !m.paused
	case "?":
		m.help = !m.help
	case keyEscape:
		m.help = false
	case keyDown, "j":
		m.scroll++
	case keyUp, "k":
		m.scroll--
	case keyPageDown:
		m.scroll += 10
	case keyPageUp:
		m.scroll -= 10
	case keyHome, "g":
		m.scroll = 0
	case keyEnd, "G":
		m.scroll = api.MaxTopRows
	}
	m.scroll = max(0, min(m.scroll, m.rows()-1))
	return false
}

// rows is how many rows there are to scroll through.
func (m *topModel) rows() int {
	if m.data == nil {
		return 0
	}
	list := m.sections()
	return len(list[len(list)-1].rows)
}

// The keys that are no character.
const (
	keyCtrlC    = "ctrl-c"
	keyCtrlD    = "ctrl-d"
	keyTab      = "tab"
	keyBackTab  = "back-tab"
	keyEscape   = "escape"
	keyUp       = "up"
	keyDown     = "down"
	keyLeft     = "left"
	keyRight    = "right"
	keyHome     = "home"
	keyEnd      = "end"
	keyPageUp   = "page-up"
	keyPageDown = "page-down"
)

// sequences are what terminals send for these keys.
var sequences = map[string]string{
	"\x03": keyCtrlC, "\x04": keyCtrlD, "\t": keyTab, "\x1b[Z": keyBackTab, "\x1b": keyEscape,
	"\x1b[A": keyUp, "\x1b[B": keyDown, "\x1b[C": keyRight, "\x1b[D": keyLeft, "\x1bOA": keyUp, "\x1bOB": keyDown, "\x1bOC": keyRight, "\x1bOD": keyLeft,
	"\x1b[H": keyHome, "\x1b[F": keyEnd, "\x1bOH": keyHome, "\x1bOF": keyEnd, "\x1b[1~": keyHome, "\x1b[4~": keyEnd, "\x1b[5~": keyPageUp, "\x1b[6~": keyPageDown,
}

// parseKeys splits what a terminal sent in one piece into keys. What is no key is
// left out.
func parseKeys(data []byte) []string {
	var out []string
	for len(data) > 0 {
		n := 1
		if data[0] == '\x1b' && len(data) > 1 && (data[1] == '[' || data[1] == 'O') {
			for n = 2; n < len(data) && (data[n] < '@' || data[n] > '~'); n++ {
			}
			n = min(n+1, len(data))
		}
		piece := string(data[:n])
		data = data[n:]
		if name, ok := sequences[piece]; ok {
			out = append(out, name)
		} else if n == 1 && piece[0] >= ' ' && piece[0] < 0x7f {
			out = append(out, piece)
		}
	}
	return out
}

// readKeys sends keys until ctx or the input ends; its end is Ctrl-D.
func readKeys(ctx context.Context, in io.Reader, to chan<- string) {
	buf := make([]byte, 64)
	for {
		n, err := in.Read(buf)
		keys := parseKeys(buf[:n])
		if err != nil {
			keys = append(keys, keyCtrlD)
		}
		for _, key := range keys {
			select {
			case to <- key:
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}
