package explorer

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

const (
	maxQuery    = 128 // bytes of a search
	leastPrefix = 4   // hexadecimal digits
	maxHits     = 5   // of one kind
)

// hit is something that a search found.
type hit struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	URL  string `json:"url"`
}

// finding is what a search tried and found.
type finding struct {
	Query string   `json:"query"`
	Tried []string `json:"tried"`
	Hits  []hit    `json:"results"`
}

// bounded cuts a stranger's text.
func bounded(text string, limit int) string {
	if len(text) > limit {
		return strings.ToValidUTF8(text[:limit], "")
	}
	return text
}

// find looks for a text in everything that has a name: a height, an id, a
// digest, an address, a key, or the begin of one.
func (s *site) find(ctx context.Context, v *view, query string) (finding, error) {
	text := strings.TrimSpace(bounded(query, maxQuery))
	out := finding{Query: text, Tried: []string{}, Hits: []hit{}}
	plain := strings.ReplaceAll(strings.TrimPrefix(text, "#"), ",", "")
	if height, err := strconv.ParseUint(plain, 10, 64); err == nil {
		out.Tried = append(out.Tried, "a block's height")
		if b, err := v.block(chain.Height(height)); err == nil {
			out.add("block", "Block "+grouped(b.Height), linkBlock(b.Height).Href)
		} else if !errors.Is(err, sql.ErrNoRows) {
			return out, err
		}
	}
	if strings.HasPrefix(strings.ToLower(text), chain.AddressPrefix+"1") {
		out.Tried = append(out.Tried, "an account's address")
		if address, err := chain.ParseAddress(text); err == nil {
			out.add("account", address.Short(), linkAddress(address).Href)
		} else {
			out.Tried[len(out.Tried)-1] += " (its checksum or form is wrong)"
		}
	}
	digits := strings.ToLower(strings.TrimPrefix(text, "0x"))
	if len(digits) < leastPrefix || len(digits) > 64 || strings.Trim(digits, "0123456789abcdef") != "" {
		return out, nil
	}
	out.Tried = append(out.Tried, "a transaction's id", "a block's digest", "a job's order id", "a node's or cluster's id")
	if err := v.byPrefix(digits, &out); err != nil {
		return out, err
	}
	if len(digits) == 64 && len(out.Hits) == 0 {
		s.askAround(ctx, digits, &out)
	}
	return out, nil
}

func (f *finding) add(kind, name, url string) {
	item := hit{Kind: kind, Name: name, URL: url}
	if !slices.Contains(f.Hits, item) {
		f.Hits = append(f.Hits, item)
	}
}

// byPrefix adds everything in the index whose id begins with hexadecimal
// digits.
func (v *view) byPrefix(digits string, out *finding) error {
	low, errLow := hex.DecodeString(digits + strings.Repeat("0", 64-len(digits)))
	high, errHigh := hex.DecodeString(digits + strings.Repeat("f", 64-len(digits)))
	if errLow != nil || errHigh != nil {
		return nil // not hexadecimal: nothing has such an id
	}
	for _, kind := range []struct{ name, query, title, path string }{
		{"transaction", "SELECT id, '' FROM txs WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?", "Transaction ", "/txs/"},
		{"block", "SELECT digest, height FROM blocks WHERE digest BETWEEN ? AND ? ORDER BY digest LIMIT ?", "Block ", "/blocks/"},
		{"job", "SELECT DISTINCT order_id, '' FROM claims WHERE order_id BETWEEN ? AND ? ORDER BY order_id LIMIT ?", "Job ", "/jobs/"},
		{"node", "SELECT key, '' FROM parties WHERE kind IN (1, 2) AND key BETWEEN ? AND ? ORDER BY key LIMIT ?", "Node ", "/nodes/"},
	} {
		hits, err := collect(v, func(scan func(...any) error) (hit, error) {
			var id crypto.Digest
			var height string
			err := scan(fixed(id[:]), &height)
			name, target := kind.title+shortDigest(id), kind.path+id.String()
			if height != "" {
				name, target = kind.title+height, kind.path+height
			}
			return hit{Kind: kind.name, Name: name, URL: target}, err
		}, kind.query, low, high, maxHits)
		if err != nil {
			return err
		}
		for _, h := range hits {
			out.add(h.Kind, h.Name, h.URL)
		}
	}
	return nil
}

// askAround asks those who know what the index does not: the mempool and the
// cluster.
func (s *site) askAround(ctx context.Context, digits string, out *finding) {
	id, err := crypto.ParseDigest(digits)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.AskTimeout)
	defer cancel()
	out.Tried = append(out.Tried, "a transaction in the mempool")
	if _, err := s.client.Tx(ctx, id); err == nil {
		out.add("transaction", "Transaction "+shortDigest(id), linkTx(id).Href)
	}
	if len(s.config.Nexus) == 0 {
		return
	}
	out.Tried = append(out.Tried, "a job of the cluster", "a node of the cluster")
	if _, err := s.client.Job(ctx, id); err == nil {
		out.add("job", "Job "+shortDigest(id), linkJob(id).Href)
	}
	nodes, err := s.nexusNodes(ctx)
	for i := range nodes {
		if err == nil && nodes[i].ID == crypto.PublicKey(id) {
			out.add("node", "Node "+shortDigest(id), linkNode(nodes[i].ID).Href)
		}
	}
}

func (s *site) search(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query().Get("q")
	var found finding
	err := s.index.view(r.Context(), func(v *view) (err error) {
		found, err = s.find(r.Context(), v, query)
		return err
	})
	if err == nil && len(found.Hits) == 1 {
		http.Redirect(w, r, found.Hits[0].URL, http.StatusSeeOther)
		return
	}
	s.finish(w, r, &answer{template: "search", title: "Search", body: found}, err)
}

func (s *site) apiSearch(w http.ResponseWriter, r *http.Request) {
	var found finding
	err := s.index.view(r.Context(), func(v *view) (err error) {
		found, err = s.find(r.Context(), v, r.URL.Query().Get("q"))
		return err
	})
	s.answerJSON(w, r, found, err)
}

func (s *site) apiOverview(w http.ResponseWriter, r *http.Request) {
	var figures overviewFigures
	err := s.index.view(r.Context(), func(v *view) error {
		t, err := v.tip()
		if err != nil {
			return err
		}
		figures, err = s.figures(r.Context(), v, &t)
		return err
	})
	s.answerJSON(w, r, figures, err)
}
