package sdk

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// maxEventBytes bounds one line of an event stream.
const maxEventBytes = 4 << 20

// EventFilter says which events to yield.
type EventFilter struct {
	Cursor *api.Cursor // begin after it; nil: with the next block
	Types  []string    // nil: all
	TxID   chain.TxID  // zero: all; else only what this transaction caused
}

// Events yields finalized events in order, each once. It resumes on any node
// when the stream breaks, and ends with an error: a refusal, such as a cursor
// that the nodes no longer have, or ctx's. With a TxID it also yields
// api.EventDropped, which is not final and may come again.
//
// Events are what nodes say. VerifiedReceipts shows them.
func (c *Client) Events(ctx context.Context, filter EventFilter) iter.Seq2[api.StreamEvent, error] {
	return func(yield func(api.StreamEvent, error) bool) {
		query := url.Values{}
		if len(filter.Types) > 0 {
			query.Set("types", strings.Join(filter.Types, ","))
		}
		if !filter.TxID.IsZero() {
			query.Set("tx_id", filter.TxID.String())
		}
		var cursor api.Cursor
		if filter.Cursor != nil {
			cursor = *filter.Cursor
		} else {
			status, err := c.Status(ctx)
			if err != nil {
				yield(api.StreamEvent{}, err)
				return
			}
			cursor = api.CursorAfter(status.Height)
		}
		s := &stream{client: c, request: get(c.nodes, "/v1/events", query), lastID: cursor.String()}
		stopped := false
		err := s.follow(ctx, func(m message) (bool, error) {
			next, more, err := takeEvent(m, &cursor, yield)
			stopped = !more && err == nil
			s.lastID = next
			return more, err
		})
		if !stopped {
			yield(api.StreamEvent{}, err)
		}
	}
}

// takeEvent yields a message's event if it is after the cursor, which it moves,
// and returns the id to resume after.
func takeEvent(m message, cursor *api.Cursor, yield func(api.StreamEvent, error) bool) (resume string, more bool, err error) {
	if m.data == nil { // the cursor moved past what the filter leaves out
		at, err := api.ParseCursor(m.id)
		if err == nil && cursor.Less(at) {
			*cursor = at
		}
		return cursor.String(), true, err
	}
	var event api.StreamEvent
	if err := json.Unmarshal(m.data, &event); err != nil {
		return cursor.String(), false, fmt.Errorf("sdk: event %.40q: %w: %w", m.id, errAnswer, err)
	}
	if event.Type == api.EventDropped { // nothing final: it has no place of its own
		return cursor.String(), yield(event, nil), nil
	}
	if !cursor.Less(event.Cursor) {
		return cursor.String(), true, nil
	}
	*cursor = event.Cursor
	return cursor.String(), yield(event, nil), nil
}

// message is one server-sent event, or a bare id.
type message struct {
	id   string
	name string
	data []byte // nil: a bare id
}

// stream is an event stream that is begun anew when it breaks.
type stream struct {
	client  *Client
	request call
	lastID  string
}

// follow reads messages until take returns false or an error, a server refuses,
// or ctx ends. Its error is nil only if take ended it.
func (s *stream) follow(ctx context.Context, take func(message) (more bool, err error)) error {
	c := s.client
	for failures := 0; ; {
		base, turn, err := s.request.to.current()
		if err != nil {
			return err
		}
		before := s.lastID
		more, err := s.read(ctx, base, take)
		if !more {
			return err
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errTaken):
			return err
		case err != nil && !mayRepeat(err, true):
			return fmt.Errorf("sdk: GET %s%s: %w", base, s.request.path, err)
		}
		s.request.to.failed(turn)
		if failures++; s.lastID != before {
			failures = 0
		}
		if waitErr := c.backOff(ctx, failures/s.request.to.count(), err); waitErr != nil {
			return waitErr
		}
	}
}

// errTaken marks an error of the taker, which ends the stream.
var errTaken = errors.New("sdk: event refused")

// read reads one connection's messages. It returns false if take ended it, and
// else why the connection ended.
func (s *stream) read(ctx context.Context, base string, take func(message) (bool, error)) (more bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	quiet := time.AfterFunc(s.client.config.StreamQuiet, cancel)
	defer quiet.Stop()
	request := s.request
	request.header = http.Header{"Accept": {api.ContentEventStream}}
	if s.lastID != "" {
		request.header.Set("Last-Event-ID", s.lastID)
	}
	response, err := s.client.send(ctx, base, request)
	if err != nil {
		return true, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(make([]byte, 0, 64<<10), maxEventBytes)
	var m message
	for lines.Scan() {
		quiet.Reset(s.client.config.StreamQuiet)
		if !m.add(lines.Text()) {
			continue
		}
		if m.name == "error" {
			return true, streamProblem(m.data)
		}
		more, err := take(m)
		if err != nil {
			return true, fmt.Errorf("%w: %w", errTaken, err)
		}
		if !more {
			return false, nil
		}
		m = message{}
	}
	if err := lines.Err(); err != nil {
		return true, err
	}
	return true, io.ErrUnexpectedEOF
}

// add adds a line and tells whether the message is complete (HTML Standard,
// §9.2.6).
func (m *message) add(line string) bool {
	field, value, _ := strings.Cut(line, ":")
	value = strings.TrimPrefix(value, " ")
	switch field {
	case "id":
		m.id = value
	case "event":
		m.name = value
	case "data":
		if m.data != nil {
			m.data = append(m.data, '\n')
		}
		m.data = append(m.data, value...)
	case "":
		return line == "" && (m.id != "" || m.data != nil)
	}
	return false
}

func streamProblem(data []byte) error {
	p := &api.Problem{}
	if err := json.Unmarshal(data, p); err != nil {
		return fmt.Errorf("%w: %w", errAnswer, err)
	}
	return p
}
