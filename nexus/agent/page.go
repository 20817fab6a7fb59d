package agent

import (
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"ago":   ago,
	"bytes": mebibytesOf,
	"moved": BytesText,
	"count": countOf,
}).Parse(pageText))

// FloorText says what a config asks at least, in units that people use.
func FloorText(c *Config) string {
	const anHour, atto = 3_600, 1e18
	return fmt.Sprintf("%.4g HYPER a core·hour, %.4g a GiB·hour, %.4g a GiB moved",
		float64(c.CPUPriceAtto)*1_000*anHour/atto, float64(c.MemoryPriceAtto)*1_024*anHour/atto, float64(c.NetworkPriceAtto)*1_024/atto)
}

// countOf is a number of things.
func countOf(n uint64, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// pageData is what the page shows.
type pageData struct {
	Status
	Earnings Earnings
	Floor    string
	Config   *Config
	State    string // one or two words
	Good     bool
	Used     struct{ Millicores, MemoryMiB uint64 }
}

// page is GET /.
func (a *Agent) page(w http.ResponseWriter, _ *http.Request) {
	d := pageData{Status: a.status(), Earnings: a.earnings(), Floor: FloorText(&a.config), Config: &a.config}
	d.Used.Millicores, d.Used.MemoryMiB = d.Total.Millicores-d.Free.Millicores, d.Total.MemoryMiB-d.Free.MemoryMiB
	switch {
	case d.Drained:
		d.State = "drained"
	case d.Closed != "":
		d.State = d.Closed
	case d.NotReadyAs != "":
		d.State = d.NotReadyAs
	default:
		d.State, d.Good = "takes work", true
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	if err := pageTemplate.Execute(w, d); err != nil {
		a.log.Debug("agent: the page was not sent", "error", err)
	}
}

// ago says how long before now a time was.
func ago(now, t chain.TimeMs) string {
	if t == 0 || t > now {
		return "now"
	}
	d := time.Duration(now-t) * time.Millisecond
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 2*day:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d/day))
}

// BytesText is a number of bytes in a unit that people use.
func BytesText(n uint64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

func mebibytesOf(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
