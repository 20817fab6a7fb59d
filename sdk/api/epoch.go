package api

import "github.com/hypermesh/hypermesh/internal/crypto"

// EpochEnd is GET /v1/epochs/{epoch}: what leads a client that knows the epoch's
// committee to the next one.
type EpochEnd struct {
	Epoch       uint64        `json:"epoch"`
	Header      Header        `json:"header" doc:"of the block that closed the epoch; next_committee is the digest of the members"`
	Digest      crypto.Digest `json:"digest" doc:"of the header"`
	Certificate []byte        `json:"certificate" doc:"canonical bytes; of that very header, by the epoch's committee"`
	Members     []EpochMember `json:"members" maxItems:"256" doc:"the next epoch's committee, by index"`
}

// EpochMember is a member of a committee, as its digest covers it.
type EpochMember struct {
	ConsensusKey crypto.PublicKey `json:"consensus_key"`
	Weight       Uint64           `json:"weight" doc:"voting weight"`
	LeaderWeight Uint64           `json:"leader_weight" doc:"share of the views led"`
}
