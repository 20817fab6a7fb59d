package explorer_test

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// complaints is what the browser says is wrong: console errors, uncaught
// exceptions, violations of the content security policy, and requests to
// anybody else.
type complaints struct {
	mu   sync.Mutex
	list []string
}

func (c *complaints) add(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, fmt.Sprintf(format, args...))
}

func (c *complaints) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.list)
}

func (c *complaints) watch(base string) func(any) {
	return func(event any) {
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			c.add("exception: %s %s:%d", e.ExceptionDetails.Text, e.ExceptionDetails.URL, e.ExceptionDetails.LineNumber)
		case *runtime.EventConsoleAPICalled:
			if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
				c.add("console %s: %+v", e.Type, e.Args)
			}
		case *log.EventEntryAdded:
			if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
				c.add("log %s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL)
			}
		case *network.EventRequestWillBeSent:
			if !strings.HasPrefix(e.Request.URL, base+"/") {
				c.add("request to %s", e.Request.URL)
			}
		}
	}
}

// browser starts a headless Chromium with an empty profile.
func browser(t *testing.T, base string) (context.Context, *complaints) {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("chromium is missing: install Debian's package chromium (apt-get install chromium), or run with -short")
	}
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.WindowSize(1280, 900),
	}
	ctx, cancelAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancelBrowser := chromedp.NewContext(ctx)
	wrong := &complaints{}
	if err := chromedp.Listen(ctx, wrong.watch(base)); err != nil { // it starts the browser
		t.Fatalf("starting %s: %v", path, err)
	}
	limited, cancel := context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(func() {
		cancel()
		if err := chromedp.Cancel(ctx); err != nil {
			t.Logf("closing the browser: %v", err)
		}
		cancelBrowser()
		cancelAllocator()
	})
	return limited, wrong
}

func TestBrowserSeesBlocksArriveAndFindsItsWay(t *testing.T) {
	if testing.Short() {
		t.Skip("a browser is for make e2e")
	}
	node := newFakeChain(t)
	node.story()
	r := start(t, configFor(t.TempDir(), node))
	r.reach(6)
	ctx, wrong := browser(t, r.url)
	do := func(what string, actions ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		if err := chromedp.Do(ctx, actions...); err != nil {
			t.Fatalf("%s: %v; the browser complains: %q", what, err, wrong.all())
		}
	}
	read := func(what string, action chromedp.Action[string]) string {
		t.Helper()
		text, err := chromedp.Run(ctx, action)
		if err != nil {
			t.Fatalf("%s: %v; the browser complains: %q", what, err, wrong.all())
		}
		return text
	}
	do("the overview", chromedp.Navigate(r.url+"/"))
	read("marking the document", chromedp.Evaluate[string]("window.stays = 'the same document'"))
	if height := read("height", chromedp.Text(chromedp.CSS("#now .height"))); height != "6" {
		t.Fatalf("the overview shows height %q", height)
	}
	node.seal(node.transfer(2, 3, chain.Nano(42_000_000_001), hostile))
	do("the new block", chromedp.WaitVisible(chromedp.CSS(`#blocks tr[data-key="7"].fresh`)))
	height := read("height", chromedp.Text(chromedp.CSS("#now .height")))
	if document := read("document", chromedp.Evaluate[string]("window.stays ?? 'another document'")); height != "7" || document != "the same document" {
		t.Fatalf("after the block: height %q in %s", height, document)
	}
	id := node.txID(7, 0).String()
	do("the search", chromedp.SendKeys(chromedp.CSS(`input[name="q"]`), id+"\n"), chromedp.WaitVisible(chromedp.CSS("#h-tree")))
	title, lead := read("title", chromedp.Title()), read("sentence", chromedp.Text(chromedp.CSS(".lead")))
	if !strings.HasPrefix(title, "Transaction "+id[:8]) || !strings.Contains(lead, "pays 42.000000001 HYPER to") {
		t.Fatalf("the search led to %q: %q", title, lead)
	}
	recipient := address(3).String()
	do("the account", chromedp.Click(chromedp.CSS(`.lead a[href="/accounts/`+recipient+`"]`)), chromedp.WaitVisible(chromedp.CSS("#activity")))
	title, page := read("title", chromedp.Title()), read("page", chromedp.Text(chromedp.CSS("#main")))
	if !strings.HasPrefix(title, "Account hyper1") || !strings.Contains(page, recipient) || !strings.Contains(page, "1,234,567.000000001 HYPER") {
		t.Fatalf("the account's page is %q: %s", title, page)
	}
	for _, path := range everyPage(node) {
		do(path, chromedp.Navigate(r.url+path), chromedp.WaitVisible(chromedp.CSS("footer")))
	}
	if found := wrong.all(); len(found) > 0 {
		t.Fatalf("the browser complains:\n%s", strings.Join(found, "\n"))
	}
	// That nothing was found means something: a violation is seen.
	read("an inline style", chromedp.Evaluate[string]("document.body.setAttribute('style', 'color: red'), 'done'"))
	if found := wrong.all(); len(found) == 0 || !strings.Contains(found[0], "Content Security Policy") {
		t.Errorf("an inline style was not refused: %q", found)
	}
}
