package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/web"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// maxEventTypes bounds the filter of one stream.
const maxEventTypes = 16

type eventsInput struct {
	Cursor      string `query:"cursor" maxLength:"31" doc:"height or height.index: begin after it; left out: with the next block. 0 is everything that is kept"`
	LastEventID string `header:"Last-Event-ID" maxLength:"31" doc:"as EventSource sends it when it reconnects; wins over cursor"`
	Types       string `query:"types" maxLength:"512" doc:"comma-separated event types; left out: all"`
	TxID        string `query:"tx_id" maxLength:"64" doc:"only what this transaction caused"`
}

// subscription is what one client wants to see.
type subscription struct {
	cursor api.Cursor
	types  []string
	txID   crypto.Digest // zero: all
	told   bool          // that the transaction left the mempool
}

func (s *service) registerEvents(hapi huma.API) {
	huma.Register(hapi, huma.Operation{
		OperationID: "stream-events", Method: http.MethodGet, Path: eventsPath,
		Summary: "Finalized events, in order, as server-sent events",
		Description: "Each event's id is its cursor and its data a StreamEvent. For every height: block; the begin-block list's events; for each " +
			"transaction tx and then its events; the end-block list's events. Resume with Last-Event-ID or ?cursor= and nothing is lost or repeated. " +
			"The stream of one transaction (tx_id) also has the event dropped, without an id, if that left this node's mempool without being final. " +
			"A comment, with the cursor if it moved, comes when nothing else does; an event named error, whose data is a problem, is the stream's last.",
		Responses: map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{
			api.ContentEventStream: {Schema: web.SchemaOf[api.StreamEvent](hapi)},
		}}},
		Errors: []int{http.StatusGone, http.StatusServiceUnavailable},
	}, s.events)
	// The data of the events that package chain does not have.
	web.SchemaOf[api.BlockEvent](hapi)
	web.SchemaOf[api.TxEvent](hapi)
	web.SchemaOf[api.Dropped](hapi)
}

func (s *service) events(ctx context.Context, in *eventsInput) (*huma.StreamResponse, error) {
	sub, err := s.subscribe(in)
	if err != nil {
		return nil, err
	}
	// A height that is gone is refused before the stream begins.
	if height, _ := s.node.Finalized(); sub.cursor.Next() > 0 && sub.cursor.Next() <= height {
		if _, err := s.cache.get(ctx, sub.cursor.Next()); err != nil {
			return nil, s.answer(ctx, "reading events", err)
		}
	}
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		_, w := humago.Unwrap(hctx)
		s.stream(hctx.Context(), w, sub)
	}}, nil
}

func (s *service) subscribe(in *eventsInput) (subscription, error) {
	height, _ := s.node.Finalized()
	sub := subscription{cursor: api.CursorAfter(height)}
	at, text := "query.cursor", in.Cursor
	if in.LastEventID != "" {
		at, text = "header.Last-Event-ID", in.LastEventID
	}
	if text != "" {
		cursor, err := api.ParseCursor(text)
		if err != nil {
			return sub, web.Invalid(at, err)
		}
		sub.cursor = cursor
	}
	if in.Types != "" {
		sub.types = strings.Split(in.Types, ",")
		if len(sub.types) > maxEventTypes {
			return sub, web.Invalid("query.types", fmt.Errorf("has %d types, limit %d", len(sub.types), maxEventTypes))
		}
		for _, name := range sub.types {
			if !slices.Contains(eventNames(), name) {
				return sub, web.Invalid("query.types", fmt.Errorf("event type %.40q is unknown, want %s", name, strings.Join(eventNames(), ", ")))
			}
		}
	}
	if in.TxID != "" {
		id, err := crypto.ParseDigest(in.TxID)
		if err != nil {
			return sub, web.Invalid("query.tx_id", err)
		}
		sub.txID = id
	}
	return sub, nil
}

func eventNames() []string {
	names := []string{api.EventBlock, api.EventTx, api.EventDropped}
	for _, shape := range api.Shapes() {
		if shape.List {
			for _, c := range shape.Cases {
				names = append(names, c.Name)
			}
		}
	}
	return names
}

// stream writes events until the client goes, is too slow, or the server ends.
func (s *service) stream(ctx context.Context, w http.ResponseWriter, sub subscription) {
	w.Header().Set("Content-Type", api.ContentEventStream)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	out := &eventWriter{w: w, control: http.NewResponseController(w), timeout: s.config.WriteTimeout}
	heartbeat := time.NewTicker(s.config.Heartbeat)
	defer heartbeat.Stop()
	written := sub.cursor
	err := out.send([]byte(": hypermesh events\n\n"))
	for err == nil {
		height, higher := s.node.Finalized()
		for err == nil && sub.cursor.Next() <= height && ctx.Err() == nil {
			var moved bool
			if moved, err = s.sendHeight(ctx, out, &sub); moved {
				written = sub.cursor
			}
		}
		if err == nil {
			err = s.sendDropped(out, &sub, height)
		}
		if err != nil {
			break
		}
		select {
		case <-ctx.Done():
			return
		case <-s.closing:
			return
		case <-higher:
		case <-heartbeat.C:
			line := ": still here\n\n"
			if sub.cursor != written {
				line = fmt.Sprintf(": still here\nid: %s\n\n", sub.cursor)
				written = sub.cursor
			}
			err = out.send([]byte(line))
		}
	}
	s.log.DebugContext(ctx, "event stream ended", slog.String("cursor", sub.cursor.String()), slog.Any("error", err))
}

// sendHeight writes what the subscription wants of the next height, in one
// piece, and moves its cursor. It tells whether anything was written.
func (s *service) sendHeight(ctx context.Context, out *eventWriter, sub *subscription) (bool, error) {
	next := max(sub.cursor.Next(), 1)
	events, err := s.wanted(ctx, sub, next)
	if err != nil {
		return false, errors.Join(err, out.sendProblem(s.answer(ctx, "reading events", err)))
	}
	var piece bytes.Buffer
	for i := range events {
		if sub.wants(&events[i], next) {
			piece.Write(events[i].encoded)
		}
	}
	sub.cursor = api.CursorAfter(next)
	if piece.Len() == 0 {
		return false, nil
	}
	return true, out.send(piece.Bytes())
}

// sendDropped tells the stream of one transaction that it left the mempool. It is asked
// after each block, when most do; and nothing is said twice until it is back.
func (s *service) sendDropped(out *eventWriter, sub *subscription, height chain.Height) error {
	if sub.txID.IsZero() || len(sub.types) > 0 && !slices.Contains(sub.types, api.EventDropped) {
		return nil
	}
	why, dropped := s.node.Dropped(sub.txID)
	if !dropped || sub.told {
		sub.told = dropped
		return nil
	}
	sub.told = true
	data, err := json.Marshal(why)
	if err != nil {
		return fmt.Errorf("rpc: encoding why a transaction was dropped: %w", err)
	}
	whole, err := json.Marshal(api.StreamEvent{Cursor: sub.cursor, Type: api.EventDropped, Height: height, TxID: sub.txID, Data: data})
	if err != nil {
		return fmt.Errorf("rpc: encoding why a transaction was dropped: %w", err)
	}
	return out.send(fmt.Appendf(nil, "event: %s\ndata: %s\n\n", api.EventDropped, whole))
}

// wanted returns those events of a height among which the wanted ones are.
func (s *service) wanted(ctx context.Context, sub *subscription, height chain.Height) ([]encodedEvent, error) {
	events, err := s.cache.get(ctx, height)
	if err != nil {
		return nil, err
	}
	if len(sub.types) == 1 && sub.types[0] == api.EventBlock {
		return []encodedEvent{events.block}, nil
	}
	return s.cache.all(events)
}

func (s *subscription) wants(e *encodedEvent, height chain.Height) bool {
	return s.cursor.Before(height, e.index) &&
		(len(s.types) == 0 || slices.Contains(s.types, e.name)) &&
		(s.txID.IsZero() || e.txID == s.txID)
}

// eventWriter writes to a client that must take each piece within a time.
type eventWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
}

func (e *eventWriter) send(piece []byte) error {
	if err := e.control.SetWriteDeadline(time.Now().Add(e.timeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("rpc: write deadline: %w", err)
	}
	if _, err := e.w.Write(piece); err != nil {
		return fmt.Errorf("rpc: writing events: %w", err)
	}
	if err := e.control.Flush(); err != nil {
		return fmt.Errorf("rpc: writing events: %w", err)
	}
	return nil
}

// sendProblem ends a stream with its reason.
func (e *eventWriter) sendProblem(why error) error {
	p, ok := errors.AsType[*api.Problem](why)
	if !ok {
		return nil
	}
	data, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("rpc: encoding a problem: %w", err)
	}
	return e.send(fmt.Appendf(nil, "event: error\ndata: %s\n\n", data))
}
