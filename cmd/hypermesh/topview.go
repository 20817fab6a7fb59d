package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// topTab is a page of the view.
type topTab int

const (
	tabAll topTab = iota
	tabQueues
	tabConsumers
	tabNodes
	tabAuctions
	tabCount
)

func (t topTab) name() string {
	return [tabCount]string{"overview", "queues", "consumers", "nodes", "auctions"}[t]
}

// topModel is all that a page is drawn from: drawTop is a function of it and of
// the size.
type topModel struct {
	asked   string // whom
	data    *api.NexusTop
	trouble string        // why there is no newer answer; empty: there is
	since   time.Duration // of the answer that is shown, in trouble
	tab     topTab
	sort    [tabCount]int
	upside  bool // the sort is turned round
	scroll  int
	paused  bool
	help    bool
}

// topOrders are what each page may be sorted by; the first is the server's order.
var topOrders = [tabCount][]string{
	tabAll: {"rank"}, tabQueues: {"rank", "waited", "class", "consumer"}, tabConsumers: {"share", "active", "waiting", "outstanding"},
	tabNodes: {"busy", "running", "bids", "strikes", "id"}, tabAuctions: {"newest", "price", "waited", "bids"},
}

// drawTop draws a page.
func drawTop(m *topModel, width, height int) *canvas {
	c := newCanvas(width, height)
	y := drawTitle(c, m)
	body := height - 1
	switch {
	case m.data == nil:
		c.put(1, y+1, width-1, cmp.Or(m.trouble, "asking "+m.asked+" …"), dim)
	case m.help:
		drawHelp(c, y)
	default:
		if height >= 16 {
			y = drawRoom(c, y, m.data)
		}
		if height >= 14 {
			drawTabs(c, y, m)
			y++
		}
		drawBody(c, m, area{0, y, width, body - y})
	}
	drawFoot(c, m)
	return c
}

// drawTitle draws who answers, and how fast work goes, and returns the next line.
func drawTitle(c *canvas, m *topModel) int {
	c.fill(0, 0, c.w, title)
	x := c.put(1, 0, c.w, "HYPERMESH", title)
	d := m.data
	if d == nil {
		return 1
	}
	clock := time.UnixMilli(int64(d.NowMs)).UTC().Format("15:04:05")
	c.put(c.w-len(clock)-1, 0, len(clock), clock, title)
	end := c.w - len(clock) - 3
	for _, part := range titleParts(d) {
		if x+2+textWidth(part) <= end {
			x = c.put(x+2, 0, end-x, part, title)
		}
	}
	if m.trouble != "" {
		text := fmt.Sprintf("NO ANSWER for %s: %s", span(m.since), m.trouble)
		c.fill(0, 1, c.w, bad)
		c.put(1, 1, c.w-2, text, bad)
		return 2
	}
	drawRates(c, &d.Rates)
	return 2
}

func titleParts(d *api.NexusTop) []string {
	behind := "this server leads"
	switch {
	case d.Leader.IsZero():
		behind = "NO LEADER"
	case d.Leader != d.Server:
		behind = "leader " + d.Leader.Short() + ", asked " + d.Server.Short() + " " + millis(uint64(d.AgeMs)) + " behind"
	}
	reached, most := 0, uint64(0)
	for _, s := range d.Servers {
		if s.Reached {
			reached++
		}
		most = max(most, uint64(s.Applied))
	}
	lag := uint64(0)
	for _, s := range d.Servers {
		if s.Reached {
			lag = max(lag, most-uint64(s.Applied))
		}
	}
	servers := fmt.Sprintf("%d of %d servers", reached, len(d.Servers))
	if len(d.Servers) > 1 {
		servers += fmt.Sprintf(", lag %s", plural(lag, "entry", "entries"))
	}
	return []string{behind, fmt.Sprintf("term %d", d.Term), servers, "chain " + string(d.ChainID), "cluster " + d.Cluster.Short()}
}

// drawRates draws line 1.
func drawRates(c *canvas, r *api.TopRates) {
	x := 1
	chart := 0
	if c.w >= 80 {
		chart = min(24, (c.w-68)/3+6)
	}
	for _, rate := range []struct {
		name  string
		value float64
		of    func(api.TopRate) float64
		style style
	}{
		{"accepted", r.PerS.Accepted, func(t api.TopRate) float64 { return t.Accepted }, standardStyle},
		{"placed", r.PerS.Placed, func(t api.TopRate) float64 { return t.Placed }, urgentStyle},
		{"completed", r.PerS.Completed, func(t api.TopRate) float64 { return t.Completed }, good},
	} {
		name := rate.name
		if c.w < 60 {
			name = name[:3]
		}
		x = c.put(x, 1, c.w-x, name+" ", dim)
		x = c.put(x, 1, c.w-x, perSecond(rate.value), bold)
		if chart > 0 {
			values := make([]float64, len(r.History))
			for i := range r.History {
				values[i] = rate.of(r.History[i])
			}
			c.spark(x+1, 1, chart, values, rate.style)
			x += chart + 1
		}
		x += 2
	}
	if r.Placed > 0 && x+20 <= c.w {
		x = c.put(x, 1, c.w-x, "wait ", dim)
		c.put(x, 1, c.w-x, millis(uint64(r.WaitP50Ms))+", p99 "+millis(uint64(r.WaitP99Ms)), bold)
	}
}

// drawRoom draws how much of the cluster is in use.
func drawRoom(c *canvas, y int, d *api.NexusTop) int {
	t := &d.Totals
	x := c.put(1, y, c.w, fmt.Sprintf("%d of %d nodes take work", t.Accepting, t.Nodes), plain)
	width := max(6, min(16, (c.w-72)/2))
	for _, room := range []struct {
		name       string
		used, have uint64
		text       string
	}{
		{"cpu", t.Used.Millicores, t.Total.Millicores, cores(t.Used.Millicores) + "/" + cores(t.Total.Millicores)},
		{"mem", t.Used.MemoryMiB, t.Total.MemoryMiB, gib(t.Used.MemoryMiB) + "/" + gib(t.Total.MemoryMiB) + "G"},
		{"gpu", t.Used.GPUMilli, 1_000 * t.Total.GPUs, fmt.Sprintf("%.1f/%d", float64(t.Used.GPUMilli)/1_000, t.Total.GPUs)},
	} {
		if room.have == 0 || x+8+width+len(room.text) > c.w {
			continue
		}
		part := float64(room.used) / float64(room.have)
		x = c.put(x+2, y, c.w, room.name+" ", dim)
		c.bar(x, y, width, part, heat(part))
		x = c.put(x+width+1, y, c.w-x, room.text, plain)
	}
	jobs := plural(uint64(d.OpenJobs), "open job", "open jobs")
	if d.Looked < d.OpenJobs {
		jobs += ", the first " + count(uint64(d.Looked)) + " counted"
	}
	if x+2+len(jobs) <= c.w {
		c.put(x+2, y, c.w-x, jobs, plain)
	}
	return y + 1
}

func drawTabs(c *canvas, y int, m *topModel) {
	x := 1
	for t := range tabCount {
		s := dim
		if t == m.tab {
			s = title
		}
		x = c.put(x, y, c.w-x, fmt.Sprintf(" %d %s ", int(t)+1, t.name()), s) + 1
	}
}

func drawFoot(c *canvas, m *topModel) {
	text := "q quit  tab page  s sort  r turn  ↑↓ scroll  p pause  ? help"
	if orders := topOrders[m.tab]; len(orders) > 1 {
		text = "by " + orders[m.sort[m.tab]%len(orders)] + "   " + text
	}
	x := 1
	if m.paused {
		x = c.put(x, c.h-1, c.w, "PAUSED", warn) + 3
	}
	c.put(x, c.h-1, c.w-x-1, text, dim)
}

func drawHelp(c *canvas, y int) {
	for i, line := range strings.Split(topLegend, "\n") {
		if y+1+i < c.h-1 {
			c.put(2, y+1+i, c.w-3, line, plain)
		}
	}
}

const topLegend = `tab, 1 to 5     pages          s, r   sort, and turn the order round
↑ ↓ PgUp PgDn   scroll         p      pause       q, Ctrl-C   quit

Classes age: a standard job goes before urgent ones that come a minute
after it, a spare one after ten (the bar fills up till then). A priority
fee is a head start before others of the class, a minute at most.
quota    waits for the same consumer's own jobs to end
held     waits for orders before it, or for its gang
no bids  found too few bids, and is auctioned again
strikes  assignments that a node lost: they count against its bids
won      of the bids that this server has seen since it started
price    what the work costs at its worst; winners are paid as they bid`

// drawBody draws the tab's tables.
func drawBody(c *canvas, m *topModel, to area) {
	list := m.sections()
	switch {
	case m.tab == tabAll && to.w >= 170:
		left, right := to, to
		left.w = (to.w - 3) * 11 / 25
		right.x, right.w = left.w+3, to.w-left.w-3
		drawStack(c, list[:3], left)
		drawStack(c, list[3:], right)
		return
	case m.tab == tabAll && to.h < 12:
		list = slices.Delete(list, 1, 2) // who is next has a page of its own
		drawStack(c, list, to)
		return
	case m.tab == tabAll:
		drawStack(c, list, to)
		return
	}
	last := &list[len(list)-1]
	for i := range list[:len(list)-1] {
		list[i].draw(c, to, 0)
		to = to.from(list[i].height() + 1)
	}
	last.draw(c, to, max(0, min(m.scroll, len(last.rows)-(to.h-1))))
}

func drawStack(c *canvas, list []section, to area) {
	spread := share(list, to.h)
	spare := to.h
	for _, h := range spread {
		spare -= h
	}
	for i, h := range spread {
		list[i].draw(c, area{to.x, to.y, to.w, h}, 0)
		to = to.from(h)
		if spare > 0 && h > 0 {
			to = to.from(1)
			spare--
		}
	}
}

// pageTop draws everything that there is, for a reader who does not look again.
func pageTop(m *topModel, width int) *canvas {
	list := m.sections()
	height := 3
	for i := range list {
		height += list[i].height() + 1
	}
	c := newCanvas(width, height)
	drawTitle(c, m)
	y := drawRoom(c, 2, m.data)
	for i := range list {
		y++
		list[i].draw(c, area{0, y, width, list[i].height()}, 0)
		y += list[i].height()
	}
	return c
}

// sections returns the tables of the tab; the last one scrolls.
func (m *topModel) sections() []section {
	d := m.data
	switch m.tab {
	case tabQueues:
		return []section{classSection(d), nextSection(d, m.order(tabQueues))}
	case tabConsumers:
		return []section{consumerSection(d, m.order(tabConsumers))}
	case tabNodes:
		return []section{nodeSection(d, m.order(tabNodes))}
	case tabAuctions:
		return []section{auctionSection(d, m.order(tabAuctions))}
	default:
		return []section{classSection(d), nextSection(d, order{}), consumerSection(d, order{}), nodeSection(d, order{}), auctionSection(d, order{})}
	}
}

// order is how a table is sorted: by the n-th of topOrders, 0 for as it came.
type order struct {
	by     int
	upside bool
}

func (m *topModel) order(t topTab) order { return order{m.sort[t] % len(topOrders[t]), m.upside} }

// sorted returns a list in an order whose keys are those beside the first.
func sorted[T any](list []T, o order, keys ...func(x, y *T) int) []T {
	list = slices.Clone(list)
	if o.by > 0 {
		slices.SortStableFunc(list, func(x, y T) int { return keys[o.by-1](&x, &y) })
	}
	if o.upside {
		slices.Reverse(list)
	}
	return list
}

func classStyle(class job.Class) style {
	switch class {
	case job.Urgent:
		return urgentStyle
	case job.Spare:
		return spareStyle
	default:
		return standardStyle
	}
}

func classSection(d *api.NexusTop) section {
	s := section{least: 3, columns: []column{
		{title: "QUEUES", width: 9},
		{title: "waits", width: 6, right: true},
		{title: "no bids", width: 7, right: true, drop: 5},
		{title: "held", width: 5, right: true, drop: 7},
		{title: "quota", width: 6, right: true, drop: 1},
		{title: "bidding", width: 7, right: true, drop: 4},
		{title: "running", width: 7, right: true},
		{title: "settling", width: 8, right: true, drop: 6},
		{title: "oldest", width: 7, right: true, drop: 2},
		{title: "aging", width: 8, drop: 3, flex: 1},
		{title: "aged", width: 5, right: true, drop: 2},
	}}
	for _, k := range d.Classes {
		waited, oldest := uint64(0), "–"
		if k.Oldest > 0 {
			waited = since(d.NowMs, k.Oldest)
			oldest = millis(waited)
		}
		aging := say("at once", dim)
		if k.DelayMs > 0 {
			aging = gauge(float64(waited)/float64(k.DelayMs), classStyle(k.Class))
		}
		aged := say(count(uint64(k.Aged)), plain)
		if k.Aged > 0 && k.DelayMs > 0 {
			aged.style = warn
		}
		s.rows = append(s.rows, []field{
			say(k.Class.String(), classStyle(k.Class)), num(k.Queued, bold), num(k.Backing, plain), num(k.Held, plain), num(k.Parked, warn),
			num(k.Bidding, plain), num(k.Running, good), num(k.Settling, plain), say(oldest, plain), aging, aged,
		})
	}
	return s
}

func nextSection(d *api.NexusTop, o order) section {
	s := section{least: 2, empty: "nobody waits for capacity", columns: []column{
		{title: "NEXT", width: 8},
		{title: "class", width: 8},
		{title: "label", width: 10, flex: 1, drop: 2},
		{title: "consumer", width: 12, drop: 5},
		{title: "waited", width: 7, right: true},
		{title: "aging", width: 8, drop: 3},
		{title: "alike", width: 5, right: true, drop: 4},
		{title: "asks for", width: 13, drop: 1},
		{title: "why it waits", width: 16, flex: 4, drop: 6},
	}}
	list := sorted(d.Next, o,
		func(x, y *api.TopWaiting) int { return cmp.Compare(x.SubmittedMs, y.SubmittedMs) },
		func(x, y *api.TopWaiting) int {
			return cmp.Compare(since(x.AgedMs, x.SubmittedMs), since(y.AgedMs, y.SubmittedMs))
		},
		func(x, y *api.TopWaiting) int { return x.Consumer.Compare(y.Consumer) })
	for i := range list {
		w := &list[i]
		waited, delay := since(d.NowMs, w.SubmittedMs), since(w.AgedMs, w.SubmittedMs)
		aging := say("at once", dim)
		switch {
		case delay > 0 && waited >= delay:
			aging = say("aged", warn)
		case delay > 0:
			aging = gauge(float64(waited)/float64(delay), classStyle(w.Class))
		}
		alike := "–"
		if w.Alike > 0 {
			alike = "+" + count(uint64(w.Alike))
		}
		why := w.Reason
		if w.RetryMs > 0 {
			why += ", again in " + millis(since(w.RetryMs, d.NowMs))
		}
		s.rows = append(s.rows, []field{
			say(w.ID.Short(), plain), say(w.Class.String(), classStyle(w.Class)), say(w.Label, plain), say(shortAddress(w.Consumer), dim),
			say(millis(waited), plain), aging, say(alike, dim), say(asks(&w.Resources), plain), say(why, dim),
		})
	}
	return s
}

func consumerSection(d *api.NexusTop, o order) section {
	s := section{least: 2, empty: "no consumer has an open job", columns: []column{
		{title: "CONSUMERS", width: 12},
		{title: "share of what runs", width: 8, flex: 1, drop: 2},
		{title: "%", width: 5, right: true},
		{title: "cores", width: 6, right: true, drop: 3},
		{title: "active/quota", width: 12, right: true},
		{title: "waits", width: 6, right: true},
		{title: "quota", width: 6, right: true, drop: 1},
		{title: "settling", width: 8, right: true, drop: 5},
		{title: "kept/quota", width: 13, right: true, drop: 7},
		{title: "caps", width: 7, right: true, drop: 6},
	}}
	list := sorted(d.Consumers, o,
		func(x, y *api.TopConsumer) int { return cmp.Compare(y.Active, x.Active) },
		func(x, y *api.TopConsumer) int { return cmp.Compare(y.Queued+y.Parked, x.Queued+x.Parked) },
		func(x, y *api.TopConsumer) int { return y.Outstanding.Cmp(x.Outstanding) })
	for i := range list {
		u := &list[i]
		active := say(fmt.Sprintf("%s/%s", count(uint64(u.Active)), count(uint64(d.MaxActive))), plain)
		if u.Active >= d.MaxActive {
			active.style = warn
		}
		s.rows = append(s.rows, []field{
			say(shortAddress(u.Consumer), plain), gauge(float64(u.ShareBps)/10_000, barStyle), say(fmt.Sprintf("%.1f", float64(u.ShareBps)/100), bold),
			say(cores(u.Used.Millicores), plain), active, num(u.Queued, plain), num(u.Parked, warn), num(u.Settling, plain),
			say(fmt.Sprintf("%s/%s", count(uint64(u.Kept)), count(uint64(d.MaxKept))), dim), say(hyper(u.Outstanding), dim),
		})
	}
	if d.Others > 0 {
		row := make([]field, len(s.columns))
		row[0] = say(fmt.Sprintf("and %s more", count(uint64(d.Others))), dim)
		s.rows = append(s.rows, row)
	}
	return s
}

// nodeState says in a word what a node does.
func nodeState(n *api.TopNode) field {
	switch {
	case !n.Connected:
		return say("away", bad)
	case !n.Accepting:
		return say("paused", warn)
	case n.Running > 0:
		return say("working", good)
	}
	return say("idle", plain)
}

func nodeSection(d *api.NexusTop, o order) section {
	s := section{least: 2, empty: "no node has come", columns: []column{
		{title: "NODES", width: 8},
		{title: "owner", width: 12, drop: 6},
		{title: "region", width: 6, drop: 5},
		{title: "state", width: 7},
		{title: "cpu", width: 6, flex: 1, drop: 1},
		{title: "cores", width: 9, right: true},
		{title: "mem GiB", width: 9, right: true, drop: 3},
		{title: "gpu", width: 4, right: true, drop: 7},
		{title: "runs", width: 4, right: true},
		{title: "won/bids", width: 11, right: true, drop: 2},
		{title: "done", width: 6, right: true, drop: 4},
		{title: "strikes", width: 7, right: true},
	}}
	list := sorted(d.Nodes, o,
		func(x, y *api.TopNode) int { return cmp.Compare(y.Running, x.Running) },
		func(x, y *api.TopNode) int { return cmp.Compare(y.Bids, x.Bids) },
		func(x, y *api.TopNode) int { return cmp.Compare(y.Lost, x.Lost) },
		func(x, y *api.TopNode) int { return x.ID.Compare(y.ID) })
	for i := range list {
		n := &list[i]
		part := float64(n.Used.Millicores) / float64(max(1, n.Total.Millicores))
		strikes := num(int(n.Lost), bad)
		gpu := "–"
		if n.Total.GPUs > 0 {
			gpu = fmt.Sprintf("%.0f/%d", float64(n.Used.GPUMilli)/1_000, n.Total.GPUs)
		}
		s.rows = append(s.rows, []field{
			say(n.ID.Short(), plain), say(shortAddress(n.Owner), dim), say(n.Region, dim), nodeState(n), gauge(part, heat(part)),
			say(cores(n.Used.Millicores)+"/"+cores(n.Total.Millicores), plain), say(gib(n.Used.MemoryMiB)+"/"+gib(n.Total.MemoryMiB), plain), say(gpu, plain),
			num(n.Running, good), say(count(uint64(n.Won))+"/"+count(uint64(n.Bids)), plain), say(count(uint64(n.Finished)), plain), strikes,
		})
	}
	return s
}

func auctionSection(d *api.NexusTop, o order) section {
	s := section{least: 3, empty: "no auction has been held", columns: []column{
		{title: "AUCTIONS", width: 10},
		{title: "job", width: 8},
		{title: "label", width: 8, flex: 1, drop: 3},
		{title: "class", width: 8, drop: 4},
		{title: "bids", width: 6, right: true},
		{title: "price", width: 7, right: true, drop: 1},
		{title: "lowest–highest", width: 14, right: true, drop: 5},
		{title: "waited", width: 7, right: true, drop: 6},
		{title: "winner", width: 11},
		{title: "why", width: 12, flex: 2, drop: 2},
	}}
	for i := range d.Auctions {
		a := &d.Auctions[i]
		bids, state := "sealed", say("open "+millis(since(d.NowMs, a.SinceMs)), warn)
		if a.Bids >= 0 {
			bids = count(uint64(a.Bids))
		}
		if a.Picked {
			state = say("won", good)
		}
		s.rows = append(s.rows, []field{
			state, say(a.ID.Short(), plain), say(a.Label, plain), say(a.Class.String(), classStyle(a.Class)), say(bids, plain), say("sealed", dim),
			say("–", dim), say("–", dim), say("wants "+count(uint64(a.Want)), dim), say(fmt.Sprintf("room is kept on %s", plural(uint64(a.Places), "node", "nodes")), dim),
		})
	}
	list := sorted(d.Closed, o,
		func(x, y *api.TopClosed) int { return y.Price.Cmp(x.Price) },
		func(x, y *api.TopClosed) int { return cmp.Compare(y.WaitMs, x.WaitMs) },
		func(x, y *api.TopClosed) int { return cmp.Compare(y.Bids, x.Bids) })
	for i := range list {
		s.rows = append(s.rows, closedRow(d, &list[i]))
	}
	return s
}

func closedRow(d *api.NexusTop, a *api.TopClosed) []field {
	winner, price, spread := say("nobody", warn), "–", "–"
	if len(a.Winners) > 0 {
		winner = say(a.Winners[0].Short(), good)
		if len(a.Winners) > 1 {
			winner.text += fmt.Sprintf(" +%d", len(a.Winners)-1)
		}
		price = hyper(a.Price)
	}
	if a.Bids > 0 {
		spread = hyper(a.Lowest) + "–" + hyper(a.Highest)
	}
	bids := count(uint64(a.Bids))
	if a.Declined > 0 {
		bids += fmt.Sprintf("-%d", a.Declined)
	}
	return []field{
		say(millis(since(d.NowMs, a.AtMs)), dim), say(a.ID.Short(), plain), say(a.Label, plain), say(a.Class.String(), classStyle(a.Class)), say(bids, plain),
		say(price, bold), say(spread, dim), say(millis(uint64(a.WaitMs)), plain), winner, say(a.Reason, dim),
	}
}

// num is a number; zero is not worth a colour.
func num(n int, s style) field {
	if n == 0 {
		return say("0", dim)
	}
	return say(count(uint64(n)), s)
}

func heat(part float64) style {
	switch {
	case part >= 0.9:
		return urgentStyle
	case part >= 0.6:
		return warn
	}
	return barStyle
}

// since is how long before a time another was, 0 if it was not: the clocks of two
// machines differ.
func since(now, then chain.TimeMs) uint64 {
	if then > now {
		return 0
	}
	return uint64(now - then)
}

// millis writes a time in at most seven columns.
func millis(ms uint64) string {
	switch {
	case ms < 1_000:
		return fmt.Sprintf("%d ms", ms)
	case ms < 60_000:
		return fmt.Sprintf("%.1f s", float64(ms)/1_000)
	case ms < 3_600_000:
		return fmt.Sprintf("%d min", ms/60_000)
	case ms < 48*3_600_000:
		return fmt.Sprintf("%d h", ms/3_600_000)
	}
	return fmt.Sprintf("%d d", ms/86_400_000)
}

func span(d time.Duration) string { return millis(uint64(d.Milliseconds())) }

// count writes a number: in full up to 99,999, then its thousands, millions and
// so on.
func count(n uint64) string {
	switch {
	case n < 1_000:
		return fmt.Sprint(n)
	case n < 100_000:
		return fmt.Sprintf("%d,%03d", n/1_000, n%1_000)
	case n < 1_000_000:
		return fmt.Sprintf("%dk", n/1_000)
	case n < 1_000_000_000:
		return fmt.Sprintf("%.1fM", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1fG", float64(n)/1e9)
}

func plural(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(n) + " " + many
}

func perSecond(rate float64) string {
	if rate < 100 {
		return fmt.Sprintf("%.1f/s", rate)
	}
	return count(uint64(rate)) + "/s"
}

func cores(milli uint64) string {
	if milli >= 100_000 {
		return count(milli / 1_000)
	}
	return fmt.Sprintf("%.1f", float64(milli)/1_000)
}

func gib(mib uint64) string {
	if mib >= 100<<10 {
		return count(mib >> 10)
	}
	return fmt.Sprintf("%.1f", float64(mib)/1_024)
}

// asks says what a job needs of a node.
func asks(r *job.Resources) string {
	text := fmt.Sprintf("%sc %sG", cores(r.Millicores), gib(r.MemoryMiB))
	if r.GPUs > 0 {
		text += fmt.Sprintf(" %dg", r.GPUs)
	}
	return text
}

// hyper writes HYPER in at most six columns.
func hyper(a chain.Amount) string {
	n := float64(a.Nano())
	for _, unit := range []struct {
		size float64
		name string
	}{{1e18, "G"}, {1e15, "M"}, {1e12, "k"}, {1e9, ""}, {1e6, "m"}, {1e3, "µ"}} {
		if n >= unit.size {
			return fmt.Sprintf("%.3g%s", n/unit.size, unit.name)
		}
	}
	if n == 0 {
		return "0"
	}
	return fmt.Sprintf("%.0fn", n)
}

// shortAddress keeps of an address what tells two apart.
func shortAddress(a chain.Address) string {
	text := a.String()
	_, data, _ := strings.Cut(text, "1")
	if len(data) < 12 {
		return text
	}
	return data[:5] + "…" + data[len(data)-6:]
}
