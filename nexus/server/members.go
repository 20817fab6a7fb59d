package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/hashicorp/raft"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/sdk/api"
)

const (
	serversPath = "/v1/servers"
	// changeTimeout bounds a change of the members, and the time in which one
	// that is added has to read the log.
	changeTimeout = 45 * time.Second
	catchUpPause  = 50 * time.Millisecond
	// A server that is added follows without a vote until it is so close to what
	// the leader has: a member that votes and is far behind holds everybody up.
	catchUpEntries = 64
)

func (s *Server) registerServers(hapi huma.API) {
	huma.Register(hapi, getOperation("list-servers", serversPath, "The servers of the cluster"), s.listServers)
	huma.Register(hapi, huma.Operation{
		OperationID: "change-servers", Method: http.MethodPost, Path: serversPath, Summary: "Add or remove a server, or hand over the leadership",
		Description: "Signed with the cluster's key, for one configuration and one term, so that it cannot be repeated. A server is added once it has " +
			"read the log, and removed once a majority of the others has the blobs that it has. One change is made at a time (raft's), so that any two majorities share a server.",
		RequestBody:  &huma.RequestBody{Content: map[string]*huma.MediaType{api.ContentJSON: {Schema: web.SchemaOf[api.ServerChange](hapi)}}},
		MaxBodyBytes: api.MaxJobRequestBytes, BodyReadTimeout: -1, SkipValidateBody: true,
		Errors: []int{http.StatusForbidden, http.StatusConflict, http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
	}, s.changeServers)
}

func (s *Server) listServers(context.Context, *ReadInput) (*body[api.ServerList], error) {
	out, err := s.serverList()
	if err != nil {
		return nil, web.Busy(err.Error())
	}
	return &body[api.ServerList]{out}, nil
}

func (s *Server) serverList() (api.ServerList, error) {
	future := s.consensus.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return api.ServerList{}, fmt.Errorf("raft has no configuration now: %w", err)
	}
	out := api.ServerList{Index: api.Uint64(future.Index()), Term: api.Uint64(s.consensus.raft.CurrentTerm()), Servers: []api.ServerMember{}}
	leader := s.consensus.leader()
	for _, m := range future.Configuration().Servers {
		addr, err := parseServer(m.Address)
		if err != nil {
			return out, err
		}
		if known, ok := s.roster.addr(addr.ID); ok {
			addr = known
		}
		out.Servers = append(out.Servers, api.ServerMember{ID: addr.ID, Address: addr.Addr, Voter: m.Suffrage == raft.Voter, Leader: addr.ID == leader})
	}
	return out, nil
}

func (s *Server) changeServers(ctx context.Context, in *requestInput) (*body[api.ServerList], error) {
	var change api.ServerChange
	if err := api.DecodeJSON(in.RawBody, &change); err != nil {
		return nil, web.InvalidBody(err)
	}
	payload := api.ServerChangePayload(s.id.genesis.ChainID, s.id.cluster.Public(), &change)
	if !s.id.cluster.Public().Verify(crypto.DomainServers, payload, change.Signature) {
		p := web.NewProblem(http.StatusForbidden, api.ProblemInvalid, "only who has the cluster's key may change its servers")
		p.Errors = []api.ProblemDetail{{Location: "body.signature", Message: "is not the cluster's signature of the change"}}
		return nil, p
	}
	now, err := s.serverList()
	if err != nil {
		return nil, web.Busy(err.Error())
	}
	if change.Index != now.Index || change.Term != now.Term {
		return nil, conflict("signed for configuration %d and term %d, it is %d and %d: look again, and sign again", change.Index, change.Term, now.Index, now.Term)
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	switch change.Action {
	case api.AddServer:
		err = s.addServer(ctx, &change, now.Servers)
	case api.RemoveServer:
		err = s.removeServer(ctx, &change, now.Servers)
	case api.TransferLeadership:
		err = s.transfer(&change, now.Servers)
	default:
		err = web.Invalid("body.action", fmt.Errorf("is %.40q, want %s, %s or %s", change.Action, api.AddServer, api.RemoveServer, api.TransferLeadership))
	}
	if err != nil {
		return nil, err
	}
	s.log.Info("the cluster's servers were changed", "action", change.Action, "subject", change.Server.Short(), "address", change.Address)
	if now, err = s.serverList(); err != nil {
		return nil, web.Busy(err.Error())
	}
	return &body[api.ServerList]{now}, nil
}

func conflict(format string, args ...any) error {
	return web.NewProblem(http.StatusConflict, api.ProblemInvalid, fmt.Sprintf(format, args...))
}

// changed turns raft's answer to a change into ours.
func changed(err error) error {
	if err == nil {
		return nil
	}
	return web.Busy("the change did not come about, or not yet: " + err.Error())
}

func memberOf(id crypto.PublicKey, list []api.ServerMember) (m api.ServerMember, voters int, ok bool) {
	for _, s := range list {
		if s.ID == id {
			m, ok = s, true
		}
		if s.Voter {
			voters++
		}
	}
	return m, voters, ok
}

// addServer makes a server a member: first one that follows, and a voter once it
// has read the log.
func (s *Server) addServer(ctx context.Context, change *api.ServerChange, list []api.ServerMember) error {
	addr, err := transport.ParseNodeAddr(change.Server.String() + "@" + change.Address)
	if err != nil {
		return web.Invalid("body.address", err)
	}
	m, voters, there := memberOf(addr.ID, list)
	switch {
	case there && m.Voter:
		return conflict("server %s is a member", addr.ID.Short())
	case voters >= maxServers:
		return conflict("the cluster has %d servers, its limit: remove one first", voters)
	}
	id, text := serverID(addr.ID), raft.ServerAddress(addr.String())
	s.roster.learn(addr)
	if err := s.refuseCluster(ctx, addr.ID); err != nil {
		return err
	}
	index := uint64(change.Index)
	if !there {
		future := s.consensus.raft.AddNonvoter(id, text, index, applyTimeout)
		if err := future.Error(); err != nil {
			return changed(err)
		}
		index = future.Index()
	}
	if err := s.awaitCatchUp(ctx, addr.ID); err != nil {
		if err := s.refuseCluster(ctx, addr.ID); err != nil {
			return err
		}
		return web.Busy("the server follows and has not read the log yet, try again: " + err.Error())
	}
	return changed(s.consensus.await(s.consensus.raft.AddVoter(id, text, index, applyTimeout)))
}

// refuseCluster returns why a server is not added that says that it has another
// cluster.key. One that does not know this server yet says nothing, and is asked by
// raft.
func (s *Server) refuseCluster(ctx context.Context, id crypto.PublicKey) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if wrong, ok := errors.AsType[*clusterError](s.checkCluster(ctx, id)); ok {
		return conflict("%s", wrong)
	}
	return nil
}

// awaitCatchUp waits until a server has carried out nearly all that this one has.
func (s *Server) awaitCatchUp(ctx context.Context, id crypto.PublicKey) error {
	for {
		at, err := s.askApplied(ctx, id)
		if err == nil && at+catchUpEntries >= s.replica.news.newest() {
			return nil
		}
		if pause(ctx, catchUpPause); ctx.Err() != nil {
			return errors.Join(fmt.Errorf("server %s is at entry %d of %d", id.Short(), at, s.replica.news.newest()), err)
		}
	}
}

func (s *Server) askApplied(ctx context.Context, id crypto.PublicKey) (uint64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, peerURL(id)+appliedPath, nil)
	if err != nil {
		return 0, err
	}
	return s.askNumber(req)
}

// askNumber asks another server for a number.
func (s *Server) askNumber(req *http.Request) (uint64, error) {
	answer, err := s.peers.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, 64))
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		return 0, err
	}
	if answer.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("server %.8s answered %s", req.URL.Host, answer.Status)
	}
	return strconv.ParseUint(string(text), 10, 64)
}

// tellApplied is what askApplied asks for.
func (s *Server) tellApplied(w http.ResponseWriter, _ *http.Request) {
	if _, err := w.Write(strconv.AppendUint(nil, s.replica.news.newest(), 10)); err != nil {
		s.log.Info("answering an index", "error", err)
	}
}

// removeServer ends a membership, once those that stay have what the server has.
func (s *Server) removeServer(ctx context.Context, change *api.ServerChange, list []api.ServerMember) error {
	m, voters, there := memberOf(change.Server, list)
	switch {
	case !there:
		return conflict("server %s is no member", change.Server.Short())
	case change.Server == s.self:
		return conflict("server %s leads: hand the leadership over first", change.Server.Short())
	case m.Voter && voters == 1:
		return conflict("server %s is the last", change.Server.Short())
	}
	missing := s.gather(ctx, change.Server, list)
	if err := refuseToLose(change.Server, missing); err != nil {
		if !change.Force {
			return err
		}
		s.log.Warn("a server is removed that has blobs which the others lack", "server", change.Server.Short(), "blobs", len(missing))
	}
	return changed(s.consensus.await(s.consensus.raft.RemoveServer(serverID(change.Server), uint64(change.Index), applyTimeout)))
}

// transfer hands the leadership to a member, or to the one that raft chooses.
func (s *Server) transfer(change *api.ServerChange, list []api.ServerMember) error {
	if change.Server.IsZero() {
		if len(list) < 2 {
			return conflict("there is no other server")
		}
		return changed(s.consensus.raft.LeadershipTransfer().Error())
	}
	m, _, there := memberOf(change.Server, list)
	switch {
	case !there || !m.Voter:
		return conflict("server %s is no member that votes", change.Server.Short())
	case change.Server == s.self:
		return nil
	}
	address := raft.ServerAddress("")
	for _, r := range s.consensus.raft.GetConfiguration().Configuration().Servers {
		if r.ID == serverID(change.Server) {
			address = r.Address
		}
	}
	return changed(s.consensus.raft.LeadershipTransferToServer(serverID(change.Server), address).Error())
}
