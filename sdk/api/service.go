package api

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// ServiceTerms is what a node promises of a lease, epoch by epoch.
type ServiceTerms struct {
	EpochMs         Uint64       `json:"epoch_ms" doc:"10 seconds to 7 days"`
	AvailabilityBps uint16       `json:"availability_bps" minimum:"1" maximum:"10000" doc:"of an epoch's probes that are answered, in 1/10,000"`
	StartMs         Uint64       `json:"start_ms" doc:"from when the terms began to when the service runs; at most 24 hours"`
	ThroughputKiB   Uint64       `json:"throughput_kib" doc:"a second, that the node sends to who probes; 0: nothing is promised"`
	RebateBps       uint16       `json:"rebate_bps" minimum:"1" maximum:"10000" doc:"of what a missed epoch costs, that goes back, in 1/10,000"`
	Penalty         chain.Amount `json:"penalty_nhyper" doc:"of the stake, beside, for each missed epoch"`
	Stake           chain.Amount `json:"stake_nhyper" doc:"of the node's bond, locked while the lease lives"`
}

func serviceToJSON(t *chain.ServiceTerms) *ServiceTerms {
	if t == nil {
		return nil
	}
	return &ServiceTerms{
		EpochMs: Uint64(t.EpochMs), AvailabilityBps: t.AvailabilityBps, StartMs: Uint64(t.StartMs), ThroughputKiB: Uint64(t.ThroughputKiB),
		RebateBps: t.RebateBps, Penalty: t.Penalty, Stake: t.Stake,
	}
}

func (t *ServiceTerms) chain() *chain.ServiceTerms {
	if t == nil {
		return nil
	}
	return &chain.ServiceTerms{
		EpochMs: uint64(t.EpochMs), AvailabilityBps: t.AvailabilityBps, StartMs: uint64(t.StartMs), ThroughputKiB: uint64(t.ThroughputKiB),
		RebateBps: t.RebateBps, Penalty: t.Penalty, Stake: t.Stake,
	}
}

// ServiceEpoch names an epoch of a lease.
type ServiceEpoch struct {
	ChainID chain.ChainID `json:"chain_id"`
	Lease   chain.LeaseID `json:"lease"`
	Terms   crypto.Digest `json:"terms" doc:"the order whose terms hold"`
	Epoch   Uint64        `json:"epoch" doc:"from 0 on, since these terms began"`
}

// ServiceReport is what a peer found of a lease in an epoch.
type ServiceReport struct {
	Peer          crypto.PublicKey `json:"peer"`
	Sent          Uint64           `json:"sent" doc:"probes that count"`
	Answered      Uint64           `json:"answered" doc:"of these, in time and by a service that runs"`
	UnstartedMs   Uint64           `json:"unstarted_ms" doc:"since the terms began, the last probe that found no service, while none ever had"`
	ThroughputKiB Uint64           `json:"throughput_kib" doc:"a second, the best of the epoch"`
	Signature     crypto.Signature `json:"signature" doc:"by the peer, over epoch and report"`
}

// ReportMiss is the data of "report_miss".
type ReportMiss struct {
	Epoch   ServiceEpoch    `json:"epoch"`
	Reports []ServiceReport `json:"reports" minItems:"1" maxItems:"5" doc:"each of another peer"`
}

// DrawPeers is the data of "draw_peers".
type DrawPeers struct {
	Lease chain.LeaseID `json:"lease"`
}

// LeaveLease is the data of "leave_lease".
type LeaveLease struct {
	Lease chain.LeaseID `json:"lease"`
}

// AccusePeer is the data of "accuse_peer".
type AccusePeer struct {
	Epoch  ServiceEpoch  `json:"epoch"`
	First  ServiceReport `json:"first"`
	Second ServiceReport `json:"second" doc:"of the same peer, and not the same"`
}

func serviceCases() []Case {
	return []Case{
		caseOf[ReportMiss]("report_miss"), caseOf[DrawPeers]("draw_peers"), caseOf[LeaveLease]("leave_lease"), caseOf[AccusePeer]("accuse_peer"),
	}
}

func epochToJSON(e chain.ServiceEpoch) ServiceEpoch {
	return ServiceEpoch{ChainID: e.ChainID, Lease: e.Lease, Terms: e.Terms, Epoch: Uint64(e.Epoch)}
}

func (e *ServiceEpoch) chain() chain.ServiceEpoch {
	return chain.ServiceEpoch{ChainID: e.ChainID, Lease: e.Lease, Terms: e.Terms, Epoch: uint64(e.Epoch)}
}

func serviceReportToJSON(r chain.ServiceReport) ServiceReport {
	return ServiceReport{
		Peer: r.Peer, Sent: Uint64(r.Sent), Answered: Uint64(r.Answered), UnstartedMs: Uint64(r.UnstartedMs), ThroughputKiB: Uint64(r.ThroughputKiB),
		Signature: r.Signature,
	}
}

func (r *ServiceReport) chain() chain.ServiceReport {
	return chain.ServiceReport{
		Peer: r.Peer, Sent: uint64(r.Sent), Answered: uint64(r.Answered), UnstartedMs: uint64(r.UnstartedMs), ThroughputKiB: uint64(r.ThroughputKiB),
		Signature: r.Signature,
	}
}

// serviceData is the data of a message about what is promised of a lease.
func serviceData(m any) any {
	switch m := m.(type) {
	case chain.ReportMiss:
		out := ReportMiss{Epoch: epochToJSON(m.Epoch), Reports: make([]ServiceReport, len(m.Reports))}
		for i, r := range m.Reports {
			out.Reports[i] = serviceReportToJSON(r)
		}
		return out
	case chain.DrawPeers:
		return DrawPeers{Lease: m.Lease}
	case chain.LeaveLease:
		return LeaveLease{Lease: m.Lease}
	case chain.AccusePeer:
		return AccusePeer{Epoch: epochToJSON(m.Epoch), First: serviceReportToJSON(m.First), Second: serviceReportToJSON(m.Second)}
	}
	panic(fmt.Sprintf("api: message of type %T", m))
}

// readService reads a message about what is promised of a lease, and is false if the name
// is of none.
func readService(t tagged) (chain.Msg, bool, error) {
	switch t.Type {
	case "report_miss":
		d, err := dataOf[ReportMiss](t)
		m := chain.ReportMiss{Epoch: d.Epoch.chain()}
		for i := range d.Reports {
			m.Reports = append(m.Reports, d.Reports[i].chain())
		}
		return m, true, err
	case "draw_peers":
		d, err := dataOf[DrawPeers](t)
		return chain.DrawPeers{Lease: d.Lease}, true, err
	case "leave_lease":
		d, err := dataOf[LeaveLease](t)
		return chain.LeaveLease{Lease: d.Lease}, true, err
	case "accuse_peer":
		d, err := dataOf[AccusePeer](t)
		return chain.AccusePeer{Epoch: d.Epoch.chain(), First: d.First.chain(), Second: d.Second.chain()}, true, err
	}
	return nil, false, nil
}

// PeerMessage is the body of POST /v1/peers, and its answer.
type PeerMessage struct {
	Message []byte `json:"message" doc:"as agents and servers exchange it: a probe or a report, signed by the peer, or what is said in a hardware challenge; in the answer that of the node, or of its cluster, or nothing"`
}
