package explorer

import (
	"context"
	"net/http"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// partyLine is a registered provider node or cluster, with what its cluster
// knows of it now.
type partyLine struct {
	partyRow
	When     moment
	GoneWhen moment
	Provider *chain.RegisterProvider // nil: a cluster, or hidden by a gap
	Cluster  *chain.RegisterCluster  // nil: a provider, or hidden by a gap
	Live     *api.NexusNode          // nil: its cluster does not know it, or does not tell
}

func (r *request) partyLines(rows []partyRow, live []api.NexusNode) []partyLine {
	out := make([]partyLine, len(rows))
	for i, row := range rows {
		out[i] = partyLine{partyRow: row, When: momentOf(row.Time, r.now), GoneWhen: momentOf(row.Gone, r.now)}
		for _, m := range row.Message {
			if p, ok := m.(chain.RegisterProvider); ok {
				out[i].Provider = &p
			}
			if c, ok := m.(chain.RegisterCluster); ok {
				out[i].Cluster = &c
			}
		}
		if at := slices.IndexFunc(live, func(n api.NexusNode) bool { return n.ID == row.Key }); at >= 0 && row.Kind == partyProvider {
			out[i].Live = &live[at]
		}
	}
	return out
}

// IsProvider tells templates what it is.
func (p partyLine) IsProvider() bool { return p.Kind == partyProvider }

type nodesPage struct {
	Providers []partyLine
	Clusters  []partyLine
	Strangers []api.NexusNode // which the cluster knows and the chain does not
	Connected int
	NexusDown bool
	HasNexus  bool
}

func (s *site) nodeList(r *request) (*answer, error) {
	providers, err := r.view.parties(partyProvider, maxParties)
	if err != nil {
		return nil, err
	}
	clusters, err := r.view.parties(partyCluster, maxParties)
	if err != nil {
		return nil, err
	}
	live, err := s.nexusNodes(r.ctx)
	page := nodesPage{
		Providers: r.partyLines(providers, live), Clusters: r.partyLines(clusters, nil),
		NexusDown: err != nil, HasNexus: len(s.config.Nexus) > 0,
	}
	for _, n := range live {
		if n.Connected {
			page.Connected++
		}
		if !slices.ContainsFunc(providers, func(p partyRow) bool { return p.Key == n.ID }) {
			page.Strangers = append(page.Strangers, n)
		}
	}
	return &answer{template: "nodes", title: "Nodes", live: true, body: page}, nil
}

type partyPage struct {
	Key    crypto.PublicKey
	Line   *partyLine     // nil: the chain does not know it
	Live   *api.NexusNode // nil: the cluster does not know it, or does not tell
	Claims []claimLine
	Facts  *api.Facts // nil: a cluster, or the node does not tell now
}

func (s *site) party(r *request) (*answer, error) {
	key, err := crypto.ParsePublicKey(r.PathValue("id"))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%s is no node id: want 64 hexadecimal digits.", quoted(bounded(r.PathValue("id"), 80)))
	}
	page := partyPage{Key: key}
	live, nexusErr := s.nexusNodes(r.ctx)
	if at := slices.IndexFunc(live, func(n api.NexusNode) bool { return n.ID == key }); nexusErr == nil && at >= 0 {
		page.Live = &live[at]
	}
	row, err := r.view.party(key)
	if err == nil {
		page.Line = &r.partyLines([]partyRow{row}, live)[0]
	} else if err = found(err, "Neither the chain nor the cluster knows a node or cluster with this key."); page.Live == nil {
		return nil, err
	}
	claims, err := r.view.claimsBy(key, pageRows)
	if err != nil {
		return nil, err
	}
	page.Claims = r.claimLines(claims)
	if page.Line != nil && page.Line.IsProvider() {
		ctx, cancel := context.WithTimeout(r.ctx, s.config.AskTimeout)
		defer cancel()
		if said, err := s.client.Reputation(ctx, key.String()); err == nil {
			page.Facts = said.Provider
		}
	}
	title := "Provider node "
	if page.Line != nil && !page.Line.IsProvider() {
		title = "Cluster "
	}
	return &answer{template: "node", title: title + shortDigest(key), live: true, body: page}, nil
}
