package explorer

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// money is an amount cut for display; nothing is rounded.
type money struct{ Whole, Fraction string }

func moneyOf(a chain.Amount) money {
	m := money{Whole: grouped(a.Nano() / chain.NanoPerHyper)}
	if rest := a.Nano() % chain.NanoPerHyper; rest != 0 {
		m.Fraction = "." + strings.TrimRight(fmt.Sprintf("%09d", rest), "0")
	}
	return m
}

// String is the amount with its unit, as text.
func (m money) String() string { return m.Whole + m.Fraction + " HYPER" }

// grouped writes a number with commas between its thousands.
func grouped[T ~int | ~int64 | ~uint64 | ~uint32](n T) string {
	digits := strconv.FormatUint(uint64(n), 10)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

// link is an identifier: where it leads, in short and in full.
type link struct {
	Href  string // empty: nowhere
	Short string
	Full  string
	What  string // for those who hear the page
}

func shortDigest(d [32]byte) string {
	text := crypto.Digest(d).String()
	return text[:8] + "…" + text[len(text)-4:]
}

func linkAddress(a chain.Address) link {
	return link{Href: "/accounts/" + a.String(), Short: a.Short(), Full: a.String(), What: "address"}
}

func linkTx(id crypto.Digest) link {
	return link{Href: "/txs/" + id.String(), Short: shortDigest(id), Full: id.String(), What: "transaction id"}
}

func linkJob(id crypto.Digest) link {
	return link{Href: "/jobs/" + id.String(), Short: shortDigest(id), Full: id.String(), What: "order id"}
}

func linkNode(key crypto.PublicKey) link {
	return link{Href: "/nodes/" + key.String(), Short: shortDigest(key), Full: key.String(), What: "node id"}
}

func linkBlock(height chain.Height) link {
	text := strconv.FormatUint(uint64(height), 10)
	return link{Href: "/blocks/" + text, Short: grouped(height), Full: text, What: "height"}
}

func plainDigest(d crypto.Digest, what string) link {
	return link{Short: shortDigest(d), Full: d.String(), What: what}
}

func plainKey(k crypto.PublicKey, what string) link {
	return link{Short: shortDigest(k), Full: k.String(), What: what}
}

// moment is a time for display.
type moment struct{ Machine, Absolute, Relative string }

// year9999 is where calendars that people read end.
const year9999 = 253_402_300_800_000

func momentOf(t chain.TimeMs, now time.Time) moment {
	if t == 0 {
		return moment{Absolute: "unknown", Relative: "unknown"}
	}
	if t >= year9999 {
		text := fmt.Sprintf("%d ms after 1970", t)
		return moment{Absolute: text, Relative: text}
	}
	at := time.UnixMilli(int64(t)).UTC()
	return moment{Machine: at.Format("2006-01-02T15:04:05.000Z"), Absolute: at.Format("2006-01-02 15:04:05.000 UTC"), Relative: relative(now.Sub(at))}
}

// relative says how long ago something was, or how far ahead it is.
func relative(ago time.Duration) string {
	if ago < 0 {
		return "in " + span(-ago)
	}
	if ago < time.Second {
		return "now"
	}
	return span(ago) + " ago"
}

func span(d time.Duration) string {
	day := 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/day)
}

// lasting writes a duration of work exactly enough to compare two.
func lasting(ms uint64) string {
	switch {
	case ms < 1_000:
		return fmt.Sprintf("%d ms", ms)
	case ms < 60_000:
		return fmt.Sprintf("%.2f s", float64(ms)/1_000)
	case ms < 3_600_000:
		return fmt.Sprintf("%d min %d s", ms/60_000, ms/1_000%60)
	}
	return fmt.Sprintf("%s h %d min", grouped(ms/3_600_000), ms/60_000%60)
}

// quoted writes what a stranger chose so that it cannot pose as text of the
// page: in quotes, on one line, with signs that show nothing spelled out.
func quoted(s string) string {
	var out strings.Builder
	out.WriteRune('“')
	for _, r := range s {
		if unicode.IsPrint(r) {
			out.WriteRune(r)
		} else {
			quotedRune := strconv.QuoteRuneToASCII(r)
			out.WriteString(quotedRune[1 : len(quotedRune)-1])
		}
	}
	out.WriteRune('”')
	return out.String()
}

// bytesText writes a size.
func bytesText(n int) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

// resourceAmount writes a usage's amount with its unit.
func resourceAmount(r chain.Resource, amount uint64) string {
	unit := "?"
	switch r {
	case chain.CPU:
		unit = "millicores"
	case chain.Memory:
		unit = "MiB"
	case chain.Storage:
		unit = "MiB stored"
	case chain.Network:
		unit = "MiB moved"
	case chain.GPU:
		unit = "GPU slots"
	}
	return grouped(amount) + " " + unit
}

// millionths writes parts of a million with two digits after the point.
func millionths(n uint64) string { return fmt.Sprintf("%d.%02d", n/1_000_000, n%1_000_000/10_000) }
