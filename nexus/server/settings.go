package server

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// How a cluster schedules is in its log, the same on every server. What a
// server's configuration file says of it is where a cluster begins: the first
// leader puts its own into the log.

const settingsPath = "/v1/settings"

func (s *Server) registerSettings(hapi huma.API) {
	huma.Register(hapi, getOperation("get-settings", settingsPath, "How the cluster schedules"), s.getSettings)
	huma.Register(hapi, huma.Operation{
		OperationID: "change-settings", Method: http.MethodPost, Path: settingsPath, Summary: "Change how the cluster schedules",
		Description:  "Signed with the cluster's key, for one version, so that it cannot be repeated. Every server goes by it from the same entry of the log on.",
		RequestBody:  &huma.RequestBody{Content: map[string]*huma.MediaType{api.ContentJSON: {Schema: web.SchemaOf[api.SettingsChange](hapi)}}},
		MaxBodyBytes: api.MaxJobRequestBytes, BodyReadTimeout: -1, SkipValidateBody: true,
		Errors: []int{http.StatusForbidden, http.StatusConflict, http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
	}, s.changeSettings)
}

func (s *Server) getSettings(context.Context, *ReadInput) (*body[api.ClusterSettings], error) {
	settings, version := s.settings()
	return &body[api.ClusterSettings]{api.ClusterSettings{Version: api.Uint64(version), Settings: settings}}, nil
}

// settings returns those in force here.
func (s *Server) settings() (settings job.Settings, version uint64) {
	s.replica.view(func(state *scheduler.State) { settings, version = state.Settings() })
	return settings, version
}

func (s *Server) changeSettings(ctx context.Context, in *requestInput) (*body[api.ClusterSettings], error) {
	var change api.SettingsChange
	if err := api.DecodeJSON(in.RawBody, &change); err != nil {
		return nil, web.InvalidBody(err)
	}
	payload := api.SettingsChangePayload(s.id.genesis.ChainID, s.id.cluster.Public(), &change)
	if !s.id.cluster.Public().Verify(crypto.DomainSettings, payload, change.Signature) {
		p := web.NewProblem(http.StatusForbidden, api.ProblemInvalid, "only who has the cluster's key may change its settings")
		p.Errors = []api.ProblemDetail{{Location: "body.signature", Message: "is not the cluster's signature of the change"}}
		return nil, p
	}
	if err := change.Settings.Check(); err != nil {
		return nil, web.Invalid("body.settings", err)
	}
	err := s.propose(scheduler.SetSettings{Version: uint64(change.Version), Settings: change.Settings})
	if rejected, ok := errors.AsType[*scheduler.Rejection](err); ok {
		return nil, conflict("%s", rejected.Text)
	}
	if err != nil {
		return nil, s.answer(ctx, "changing the settings", err)
	}
	s.log.Info("the cluster's settings were changed", "version", change.Version+1)
	return &body[api.ClusterSettings]{api.ClusterSettings{Version: change.Version + 1, Settings: change.Settings}}, nil
}

// adopt puts into the log what this server's configuration says, if nobody has
// set anything yet.
func (r *reign) adopt() {
	settings, version := r.settings()
	if version > 0 {
		return
	}
	settings.AuctionWindowMs = uint64(r.cfg.AuctionWindow.Milliseconds())
	settings.RetentionMs = uint64(r.cfg.Retention.Milliseconds())
	settings.MaxOutbox = r.cfg.MaxOutbox
	r.report("first settings", r.propose(scheduler.SetSettings{Settings: settings}))
}
