package explorer_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// everyPage lists a path of every page over the story's chain.
func everyPage(f *fakeChain) []string {
	return []string{
		"/", "/blocks", "/blocks/4", "/txs", "/txs/" + f.txID(2, 1).String(), "/txs/" + f.txID(4, 0).String(), "/accounts/" + address(3).String(),
		"/accounts/" + address(consumerKey).String(), "/jobs", "/jobs/" + replicateOrder.ID().String(), "/jobs/" + zkOrder.ID().String(),
		"/jobs/" + runningOrder.ID().String(), "/jobs/" + refusedOrder.ID().String(), "/records", "/nodes", "/nodes/" + testKey(nodeKey).Public().String(),
		"/nodes/" + testKey(clusterKey).Public().String(), "/validators", "/search?q=zzz",
	}
}

// text returns what a page says, without its tags and with single spaces.
func text(page string) string {
	var out strings.Builder
	for part := range strings.SplitSeq(page, "<") {
		if _, after, ok := strings.Cut(part, ">"); ok {
			out.WriteString(after)
		}
	}
	plain := strings.NewReplacer("&#34;", `"`, "&#39;", "'", "&lt;", "<", "&gt;", ">", "&amp;", "&").Replace(out.String())
	return strings.Join(strings.Fields(plain), " ")
}

func TestPagesSayWhatHappened(t *testing.T) {
	t.Parallel()
	node := newFakeChain(t)
	node.story()
	r := start(t, configFor(t.TempDir(), node))
	r.reach(6)
	pending := node.sign(2, "", chain.Transfer{To: address(9), Amount: chain.Hyper(7)})
	id := crypto.DomainTxID.Hash(pending.Encode())
	node.set(func() { node.pending[id] = pending })
	cases := []struct {
		path, title string
		want        []string
	}{
		{"/", "Overview", []string{"Height6", "Jobs settled3", "0.02 HYPERof the jobs' cost", "1,000,000,000 HYPER minted", "Validators4", "Block time1.00 s", "running", "≤ 2 HYPER"}},
		{"/blocks", "Blocks", []string{node.digest(6).String()[:8]}},
		{"/blocks/4", "Block 4", []string{"5 HYPER matured to " + address(3).Short(), "3 validators signed in epoch 1, view 4", "posts 3 claims for job", "state_root", "21,000"}},
		{"/blocks/6", "Block 6", []string{"This block carries none."}},
		{"/txs", "Transactions", []string{"moves 10 HYPER into escrow"}},
		{"/txs/" + node.txID(2, 1).String(), "Transaction ", []string{address(2).Short() + " pays 3.200000001 HYPER to " + address(3).Short(), "Memo“<script>alert('x')</script>\"\\u202e&amp;”", "accepted", "0.000231 HYPER (0.00021 HYPER burned, 0.000021 HYPER to the proposer; at most 0.002 HYPER)"}},
		{"/txs/" + node.txID(2, 2).String(), "Transaction ", []string{"rejected", "Rejected: “balance 1 HYPER is below 9 HYPER”"}},
		{"/txs/" + node.txID(3, 0).String(), "Transaction ", []string{"was settled: node", "was recorded and waits", "price_atto", "CPU", "policy", "replicate"}},
		{"/txs/" + node.txID(1, 1).String(), "Transaction ", []string{"registers provider node", "with a bond of 100 HYPER"}},
		{"/txs/" + id.String(), "Transaction ", []string{"in the mempool", "pays 7 HYPER"}},
		{"/accounts/" + address(3).String(), "Account ", []string{"1,234,567.000000001 HYPER", "received", "5 HYPER matured to", address(3).String()}[:1]},
		{"/accounts/" + address(ownerKey).String(), "Account ", []string{"provider100 HYPER0.96 HYPER"}},
		{"/validators", "Validators", []string{"“validator 2”", "25.00 %", "267 make a quorum"}},
		{"/nodes", "Nodes", []string{"2 connected", "ready", "away", "2.50 %", "4,000 mc · 8,192 MiB", "\\u202e"}[:5]},
		{"/nodes/" + testKey(nodeKey).Public().String(), "Provider node ", []string{"3,000 of 4,000 millicores", "matmul-32", "Claims settled2", "refused", "Reputation", "0.62", "1.99 completed", "0.25 disputed"}},
		{"/nodes/" + testKey(clusterKey).Public().String(), "Cluster ", []string{"2.50 %", "“nexus.example:7200”", "0.04 HYPER"}},
		{"/jobs", "Jobs", []string{"running", "settled", "zk(matmul-32)", "“fractal <script>"}},
		{"/jobs/" + zkOrder.ID().String(), "Job ", []string{"settled", "zk(matmul-32)", "0.25 HYPER for the proven statement", "proof verified", "0.5 HYPER of at most 2 HYPER; 1.5 HYPER released", "providers0.48 HYPER", "burned0.005 HYPER", "treasury0.005 HYPER", "cluster0.01 HYPER", "The order's priority fee, 0.004 HYPER of that", "The cluster no longer keeps this job", "1.85 s"}},
		{"/jobs/" + replicateOrder.ID().String(), "Job ", []string{"replicate(2 of 3)", "recorded", "1,500,001", "1 HYPER of at most 2 HYPER", "CPU 1,000 millicores for 1.85 s", "1,850,000,000 instructions"}},
		{"/jobs/" + runningOrder.ID().String(), "Job ", []string{"running", "Run under way", "Claimed to come", "What it runs", "-size"}},
		{"/jobs/" + refusedOrder.ID().String(), "Job ", []string{"posted", "was refused: “order is <script>"}},
		{"/records", "Resource records", []string{"CPU1,000 millicores1.85 s1,500,000"}},
		{"/search", "Search", []string{"Write a block’s height"}},
	}
	for _, c := range cases {
		status, page, header := r.get(c.path)
		if status != http.StatusOK {
			t.Errorf("%s: %d: %s", c.path, status, text(page))
			continue
		}
		if !strings.Contains(page, "<title>"+c.title) {
			t.Errorf("%s: the title is not %q: %.300s", c.path, c.title, page)
		}
		plain := text(page)
		for _, want := range c.want {
			if !strings.Contains(plain, want) {
				t.Errorf("%s lacks %q in: %s", c.path, want, plain)
			}
		}
		if !validText(page) {
			t.Errorf("%s shows a stranger's text as its own", c.path)
		}
		if policy := header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: policy %q", c.path, policy)
		}
		if strings.Contains(page, " style=") || strings.Contains(page, "<style") || strings.Contains(page, "http://") || strings.Contains(page, " onclick") {
			t.Errorf("%s has something inline or from elsewhere", c.path)
		}
	}
}

func TestRefusalsSayWhy(t *testing.T) {
	t.Parallel()
	node := newFakeChain(t)
	node.story()
	r := start(t, configFor(t.TempDir(), node))
	r.reach(6)
	zeros := strings.Repeat("0", 64)
	for _, c := range []struct {
		path string
		code int
		want string
	}{
		{"/blocks/7", http.StatusNotFound, "has not reached block 7 yet"},
		{"/blocks/0", http.StatusNotFound, "genesis"},
		{"/blocks/18446744073709551615", http.StatusNotFound, "has not reached"},
		{"/blocks/x%3Cb%3E", http.StatusBadRequest, "“x<b>” is no height"},
		{"/blocks?before=-1", http.StatusBadRequest, "before is"},
		{"/blocks/4?from=99999", http.StatusBadRequest, "from is"},
		{"/txs/" + zeros, http.StatusNotFound, "not in the node's mempool"},
		{"/txs/12", http.StatusBadRequest, "64 hexadecimal digits"},
		{"/accounts/hyper1qqq", http.StatusBadRequest, "is no address"},
		{"/nodes/" + zeros, http.StatusNotFound, "Neither the chain nor the cluster"},
		{"/jobs/" + zeros, http.StatusNotFound, "No claim of this order"},
		{"/nothing", http.StatusNotFound, "no such page"},
		{"/assets/../site.go", http.StatusTemporaryRedirect, ""},
		{"/assets/nothing.css", http.StatusNotFound, ""},
	} {
		status, page, _ := r.get(c.path)
		if status != c.code || !strings.Contains(text(page), c.want) {
			t.Errorf("%s: %d %s, want %d with %q", c.path, status, text(page), c.code, c.want)
		}
	}
}

func TestPagesWithoutNexusOrNode(t *testing.T) {
	t.Parallel()
	node := newFakeChain(t)
	node.story()
	r := start(t, configFor(t.TempDir(), node))
	r.reach(6)
	node.set(func() { node.nexus = false })
	for path, want := range map[string]string{
		"/jobs": "The cluster does not answer now", "/nodes": "The cluster does not answer now",
		"/jobs/" + replicateOrder.ID().String(): "The cluster does not answer now", "/accounts/" + address(consumerKey).String(): "The cluster does not answer now",
	} {
		if status, page, _ := r.get(path); status != http.StatusOK || !strings.Contains(text(page), want) {
			t.Errorf("%s: %d %s", path, status, text(page))
		}
	}
	node.set(func() { node.down = true })
	for _, path := range everyPage(node) {
		if status, page, _ := r.get(path); status != http.StatusOK && !strings.Contains(path, runningOrder.ID().String()) {
			t.Errorf("%s: %d %s", path, status, text(page))
		}
	}
	if _, page, _ := r.get("/accounts/" + address(3).String()); !strings.Contains(text(page), "the node does not tell now") {
		t.Errorf("the account's page does not say that the node is gone: %s", text(page))
	}
}

func TestListsGoOn(t *testing.T) {
	t.Parallel()
	node := newFakeChain(t)
	node.story()
	for i := range 60 {
		node.seal(node.transfer(2, 3, chain.Nano(uint64(i)), ""), node.transfer(2, 3, chain.Nano(uint64(i)), "again"))
	}
	many := make([]entry, 120)
	for i := range many {
		many[i] = node.transfer(4, 5, chain.Nano(uint64(i)), "")
	}
	node.seal(many...)
	r := start(t, configFor(t.TempDir(), node))
	r.reach(67)
	for path, want := range map[string]int{"/blocks": 67, "/txs": 250, "/accounts/" + address(3).String(): 122, "/blocks/67": 120} {
		seen := map[string]bool{}
		next := path
		for pages := 0; next != ""; pages++ {
			if pages > 20 {
				t.Fatalf("%s does not end", path)
			}
			_, page, _ := r.get(next)
			for row := range strings.SplitSeq(page, "<tr") {
				key, found := between(row, `href="/txs/`, `"`)
				if !strings.HasPrefix(path, "/txs") && path != "/blocks" && !found {
					key, found = between(row, `data-key="b`, `"`)
				}
				if path == "/blocks" {
					key, found = between(row, `data-key="`, `"`)
				}
				if found && seen[key] {
					t.Errorf("%s shows %s twice", path, key)
				}
				if found {
					seen[key] = true
				}
			}
			query, more := between(page, `<a href="?`, `" rel="next"`)
			if at := strings.LastIndex(query, `<a href="?`); at >= 0 {
				query = query[at+len(`<a href="?`):]
			}
			if next = ""; more {
				next = path + "?" + query
			}
		}
		if len(seen) != want {
			t.Errorf("%s listed %d, want %d", path, len(seen), want)
		}
	}
}

func between(s, from, to string) (string, bool) {
	_, after, ok := strings.Cut(s, from)
	if !ok {
		return "", false
	}
	found, _, ok := strings.Cut(after, to)
	return found, ok
}

// TestJobShowsEachRunOnce: a replica's claim is recorded and settled, and is one
// run.
func TestJobShowsEachRunOnce(t *testing.T) {
	t.Parallel()
	node := newFakeChain(t)
	node.story()
	r := start(t, configFor(t.TempDir(), node))
	r.reach(6)
	status, body, _ := r.get("/jobs/" + replicateOrder.ID().String())
	if got := strings.Count(body, `<article class="card"><h3>`); status != http.StatusOK || got != 2 {
		t.Errorf("status %d, %d runs, want 2", status, got)
	}
}

func TestSearchTakesAnything(t *testing.T) {
	t.Parallel()
	node := newFakeChain(t)
	node.story()
	r := start(t, configFor(t.TempDir(), node))
	r.reach(6)
	id, digest := node.txID(2, 1), node.digest(3)
	key := testKey(nodeKey).Public()
	pending := node.sign(2, "", chain.Transfer{To: address(9), Amount: chain.Hyper(7)})
	waiting := crypto.DomainTxID.Hash(pending.Encode())
	node.set(func() { node.pending[waiting] = pending })
	for query, want := range map[string]string{
		"4":                            "/blocks/4",
		" %234 ":                       "/blocks/4",
		id.String():                    "/txs/" + id.String(),
		strings.ToUpper(id.String()):   "/txs/" + id.String(),
		"0x" + id.String():             "/txs/" + id.String(),
		id.String()[:12]:               "/txs/" + id.String(),
		digest.String():                "/blocks/3",
		digest.String()[:15]:           "/blocks/3",
		address(3).String():            "/accounts/" + address(3).String(),
		zkOrder.ID().String():          "/jobs/" + zkOrder.ID().String(),
		refusedOrder.ID().String():     "/jobs/" + refusedOrder.ID().String(),
		runningOrder.ID().String():     "/jobs/" + runningOrder.ID().String(),
		key.String():                   "/nodes/" + key.String(),
		waiting.String():               "/txs/" + waiting.String(),
		address(3).String()[:20]:       "",
		strings.Repeat("0", 64):        "",
		"99":                           "",
		"%3Cscript%3Ealert(1)":         "",
		strings.Repeat("%C3%A4", 1000): "",
		"":                             "",
	} {
		status, page, header := r.get("/search?q=" + strings.ReplaceAll(query, " ", "+"))
		if want == "" && (status != http.StatusOK || header.Get("Location") != "") || want != "" && (status != http.StatusSeeOther || header.Get("Location") != want) {
			t.Errorf("%.80q: %d to %q, want %q", query, status, header.Get("Location"), want)
		}
		if !validText(page) {
			t.Errorf("%.80q is not escaped", query)
		}
	}
	if _, page, _ := r.get("/search?q=" + strings.Repeat("0", 64)); !strings.Contains(text(page), "a block's digesta job's order ida node's or cluster's ida transaction in the mempoola job of the cluster") {
		t.Errorf("it is not told what was tried: %s", text(page))
	}
	_, body, _ := r.get("/api/search?q=" + digest.String()[:10])
	var found struct {
		Tried   []string
		Results []struct{ Kind, Name, URL string }
	}
	if err := json.Unmarshal([]byte(body), &found); err != nil || len(found.Results) != 1 || found.Results[0].URL != "/blocks/3" || len(found.Tried) == 0 {
		t.Errorf("%s %v", body, err)
	}
}

func TestOverviewAsJSON(t *testing.T) {
	t.Parallel()
	node := newFakeChain(t)
	node.story()
	r := start(t, configFor(t.TempDir(), node))
	r.reach(6)
	_, body, _ := r.get("/api/overview")
	var got map[string]any
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]any{
		"chain_id": string(testChain), "height": 6.0, "behind": 0.0, "block_ms": 1000.0, "validators": 4.0, "jobs_settled": 3.0, "txs": 10.0,
		"minted_nhyper": "1000000000000000000", "supply_nhyper": "999999999977900000", "burned_nhyper": 22_100_000.0, "burned_by_settlements_nhyper": 20_000_000.0,
	} {
		if got[field] != want {
			t.Errorf("%s is %v, want %v", field, got[field], want)
		}
	}
}

func TestSupplyIsTheStatesWhereANodeTellsIt(t *testing.T) {
	t.Parallel()
	node := newFakeChain(t)
	node.story()
	node.supply = &api.Supply{Height: 6, Minted: chain.TotalSupply, Burned: chain.Hyper(12), Total: chain.Hyper(999_999_988)}
	r := start(t, configFor(t.TempDir(), node))
	r.reach(6)
	if _, page, _ := r.get("/"); !strings.Contains(text(page), "Supply999,999,988 HYPER") || !strings.Contains(text(page), "Burned12 HYPER") {
		t.Errorf("%s", text(page))
	}
}
