package api

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// HardwareChallenge names a challenge of a node's hardware.
type HardwareChallenge struct {
	ChainID chain.ChainID    `json:"chain_id"`
	Node    crypto.PublicKey `json:"node"`
	Seed    crypto.Digest    `json:"seed"`
}

// HardwareVerdict is what a peer found missing of a challenged node.
type HardwareVerdict struct {
	Peer      crypto.PublicKey `json:"peer"`
	Missing   Uint64           `json:"missing" doc:"lanes that were asked for and did not show up in time, at least; 0 if silent"`
	Silent    bool             `json:"silent" doc:"it did not answer at all"`
	Signature crypto.Signature `json:"signature"`
}

// ReportHardware is the data of "report_hardware".
type ReportHardware struct {
	Challenge HardwareChallenge `json:"challenge"`
	Verdicts  []HardwareVerdict `json:"verdicts" minItems:"1" maxItems:"5" doc:"each of another peer"`
}

// DeclareHardware is the data of "declare_hardware".
type DeclareHardware struct {
	Node       crypto.PublicKey `json:"node"`
	Millicores Uint64           `json:"millicores"`
	MemoryMiB  Uint64           `json:"memory_mib"`
}

// AnnounceHome is the data of "announce_home".
type AnnounceHome struct {
	ChainID          chain.ChainID    `json:"chain_id"`
	Node             crypto.PublicKey `json:"node"`
	Cluster          crypto.PublicKey `json:"cluster" doc:"to which the node is connected"`
	At               Uint64           `json:"at_ms" doc:"when it was said: the newest counts"`
	NodeSignature    crypto.Signature `json:"node_signature"`
	ClusterSignature crypto.Signature `json:"cluster_signature"`
}

func hardwareCases() []Case {
	return []Case{caseOf[ReportHardware]("report_hardware"), caseOf[DeclareHardware]("declare_hardware"), caseOf[AnnounceHome]("announce_home")}
}

func challengeToJSON(c chain.HardwareChallenge) HardwareChallenge {
	return HardwareChallenge{ChainID: c.ChainID, Node: c.Node, Seed: c.Seed}
}

func (c *HardwareChallenge) chain() chain.HardwareChallenge {
	return chain.HardwareChallenge{ChainID: c.ChainID, Node: c.Node, Seed: c.Seed}
}

func verdictToJSON(v chain.HardwareVerdict) HardwareVerdict {
	return HardwareVerdict{Peer: v.Peer, Missing: Uint64(v.Missing), Silent: v.Silent, Signature: v.Signature}
}

func (v *HardwareVerdict) chain() chain.HardwareVerdict {
	return chain.HardwareVerdict{Peer: v.Peer, Missing: uint64(v.Missing), Silent: v.Silent, Signature: v.Signature}
}

// hardwareData is the data of a message about a node's hardware.
func hardwareData(m any) any {
	switch m := m.(type) {
	case chain.ReportHardware:
		out := ReportHardware{Challenge: challengeToJSON(m.Challenge), Verdicts: make([]HardwareVerdict, len(m.Verdicts))}
		for i, v := range m.Verdicts {
			out.Verdicts[i] = verdictToJSON(v)
		}
		return out
	case chain.DeclareHardware:
		return DeclareHardware{Node: m.Node, Millicores: Uint64(m.Millicores), MemoryMiB: Uint64(m.MemoryMiB)}
	case chain.AnnounceHome:
		h := &m.Home
		return AnnounceHome{ChainID: h.ChainID, Node: h.Node, Cluster: h.Cluster, At: Uint64(h.At), NodeSignature: m.NodeSignature, ClusterSignature: m.ClusterSignature}
	}
	panic(fmt.Sprintf("api: message of type %T", m))
}

// readHardware reads a message about a node's hardware, and is false if the name is of none.
func readHardware(t tagged) (chain.Msg, bool, error) {
	switch t.Type {
	case "report_hardware":
		d, err := dataOf[ReportHardware](t)
		m := chain.ReportHardware{Challenge: d.Challenge.chain()}
		for i := range d.Verdicts {
			m.Verdicts = append(m.Verdicts, d.Verdicts[i].chain())
		}
		return m, true, err
	case "declare_hardware":
		d, err := dataOf[DeclareHardware](t)
		return chain.DeclareHardware{Node: d.Node, Millicores: uint64(d.Millicores), MemoryMiB: uint64(d.MemoryMiB)}, true, err
	case "announce_home":
		d, err := dataOf[AnnounceHome](t)
		h := chain.NodeHome{ChainID: d.ChainID, Node: d.Node, Cluster: d.Cluster, At: chain.TimeMs(d.At)}
		return chain.AnnounceHome{Home: h, NodeSignature: d.NodeSignature, ClusterSignature: d.ClusterSignature}, true, err
	}
	return nil, false, nil
}
