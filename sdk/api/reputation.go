package api

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/match"
)

// Reputation is GET /v1/reputation/{of}: what settlements say of a node, or of an account
// as the owner of nodes and as a consumer.
type Reputation struct {
	Height   chain.Height   `json:"height" doc:"as of the end of this block"`
	TimeMs   chain.TimeMs   `json:"time_ms" doc:"up to which everything has aged: that block's"`
	Provider *Facts         `json:"provider" doc:"of the node, or of all the account's nodes together; null: there is none"`
	Consumer *Facts         `json:"consumer" doc:"of the account at all its home clusters together; null: it has no escrow"`
	Nodes    []NodeFacts    `json:"nodes" maxItems:"256"`
	Clusters []ClusterFacts `json:"clusters" maxItems:"256"`
	More     bool           `json:"more" doc:"there are more nodes or clusters than are listed and counted"`
}

// NodeFacts is what settlements say of one node.
type NodeFacts struct {
	Node  crypto.PublicKey `json:"node"`
	Facts Facts            `json:"facts"`
}

// ClusterFacts is what settlements say of a consumer at one home cluster.
type ClusterFacts struct {
	Cluster crypto.PublicKey `json:"cluster"`
	Facts   Facts            `json:"facts"`
}

// Facts is aged facts and the score that follows from them. A fact counts half after 32
// days.
type Facts struct {
	Score     Uint64       `json:"score" doc:"in parts of a million: 500000 of whoever is not known, 0 the worst"`
	Completed Uint64       `json:"completed_millionths" doc:"settled work that ended well, aged, in parts of a million"`
	Failed    Uint64       `json:"failed_millionths"`
	Late      Uint64       `json:"late_millionths" doc:"ended by its time limit"`
	Disputed  Uint64       `json:"disputed_millionths" doc:"results that others, who agree, contradict"`
	Slashed   Uint64       `json:"slashed_millionths"`
	Credit    chain.Amount `json:"credit_nhyper" doc:"fees that were burned with what went well, aged"`
	Debt      chain.Amount `json:"debt_nhyper" doc:"fees that were burned with what did not, aged"`
}

// FactsOf writes facts with their score.
func FactsOf(f match.Facts) Facts {
	return Facts{
		Score: Uint64(f.Score()), Completed: Uint64(f.Completed), Failed: Uint64(f.Failed), Late: Uint64(f.Late),
		Disputed: Uint64(f.Disputed), Slashed: Uint64(f.Slashed), Credit: f.Credit, Debt: f.Debt,
	}
}

// Scored returns the facts with the score that follows from them, whatever was said of it.
func (f Facts) Scored() Facts {
	return FactsOf(match.Facts{
		Completed: uint64(f.Completed), Failed: uint64(f.Failed), Late: uint64(f.Late),
		Disputed: uint64(f.Disputed), Slashed: uint64(f.Slashed), Credit: f.Credit, Debt: f.Debt,
	})
}
