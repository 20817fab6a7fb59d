package sdk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/hypermesh/hypermesh/sdk/api"
)

// Bounds of what is read from a server, in bytes.
const (
	maxAnswer  = 8 << 20
	maxBlock   = 128 << 20 // of base64 and JSON, for a block and its receipts
	maxProblem = 64 << 10
	maxBackoff = 5 * time.Second
)

// call is one request to any of some servers.
type call struct {
	to         *servers
	method     string
	path       string
	query      url.Values
	body       []byte
	kind       string // content type of body
	header     http.Header
	limit      int64 // of the answer; 0: maxAnswer
	repeatable bool
}

func get(to *servers, path string, query url.Values) call {
	return call{to: to, method: http.MethodGet, path: path, query: query, repeatable: true}
}

func post(to *servers, path string, body any) (call, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return call{}, fmt.Errorf("sdk: %s: %w", path, err)
	}
	return call{to: to, method: http.MethodPost, path: path, body: data, kind: api.ContentJSON}, nil
}

// do asks until a server answers, and decodes the answer into out.
func (c *Client) do(ctx context.Context, r call, out any) error {
	return c.attempt(ctx, r, func(ctx context.Context, base string) error {
		ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
		defer cancel()
		response, err := c.send(ctx, base, r)
		if err != nil {
			return err
		}
		return readJSON(response, r.limit, out)
	})
}

// attempt tries servers in turn, from the one that answered last on: each request goes by its own turns, since of those that
// are under way together each would else pass over servers that others have just tried. The first round of all servers does not
// wait; later ones back off.
func (c *Client) attempt(ctx context.Context, r call, try func(ctx context.Context, base string) error) error {
	turn := r.to.at.Load()
	for n := 1; ; n, turn = n+1, turn+1 {
		base, err := r.to.of(turn)
		if err != nil {
			return err
		}
		err = try(ctx, base)
		if err == nil {
			c.learn(ctx, r.to, base)
			if r.to.heard.stale.Swap(false) {
				r.to.failed(turn)
			}
			return nil
		}
		err = fmt.Errorf("sdk: %s %s%s: %w", r.method, base, r.path, err)
		if ctx.Err() != nil || n >= c.attempts(r.to) || !mayRepeat(err, r.repeatable) {
			if p, ok := errors.AsType[*api.Problem](err); ok && p.Status >= http.StatusInternalServerError {
				r.to.failed(turn) // whoever comes next asks another
			}
			return err
		}
		r.to.failed(turn)
		if waitErr := c.backOff(ctx, n/r.to.count(), err); waitErr != nil {
			return errors.Join(err, waitErr)
		}
	}
}

// mayRepeat tells whether another attempt could succeed and does no harm.
func mayRepeat(err error, repeatable bool) bool {
	if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "dial" {
		return true // it never reached a server
	}
	if !repeatable {
		return false
	}
	if p, ok := errors.AsType[*api.Problem](err); ok {
		switch p.Status {
		case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return true
		}
		return false
	}
	return !errors.Is(err, errAnswer)
}

// backOff waits before round n of all servers, or for as long as the server
// asked. Round 0 is at once.
func (c *Client) backOff(ctx context.Context, n int, cause error) error {
	wait := time.Duration(0)
	if n > 0 {
		wait = min(c.config.Backoff<<min(n-1, 10), maxBackoff)
		wait = wait/2 + rand.N(wait/2+1)
		if busy, ok := errors.AsType[*busyError](cause); ok {
			wait = max(wait, min(busy.after, maxBackoff))
		}
	}
	return sleep(ctx, wait)
}

func sleep(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// busyError is a problem that says when to come back.
type busyError struct {
	error
	after time.Duration
}

// Unwrap returns the problem.
func (e *busyError) Unwrap() error { return e.error }

// errAnswer says that a server answered, and not what was asked.
var errAnswer = errors.New("unusable answer")

// send sends one request and returns a good answer, whose body the caller
// closes, or the problem.
func (c *Client) send(ctx context.Context, base string, r call) (*http.Response, error) {
	target := base + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, r.method, target, bytes.NewReader(r.body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errAnswer, err)
	}
	for name, values := range r.header {
		request.Header[name] = values
	}
	if r.kind != "" {
		request.Header.Set("Content-Type", r.kind)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	r.to.heard.note(response.Header)
	return goodAnswer(response)
}

func goodAnswer(response *http.Response) (*http.Response, error) {
	if response.StatusCode/100 == 2 {
		return response, nil
	}
	p := problemOf(response)
	err := response.Body.Close()
	if seconds, convErr := strconv.Atoi(response.Header.Get("Retry-After")); convErr == nil && seconds >= 0 && seconds < 1<<20 {
		return nil, errors.Join(&busyError{error: p, after: time.Duration(seconds) * time.Second}, err)
	}
	return nil, errors.Join(p, err)
}

// problemOf makes a problem of a bad answer, whatever its body is.
func problemOf(response *http.Response) error {
	p := &api.Problem{}
	data, err := io.ReadAll(io.LimitReader(response.Body, maxProblem))
	if err != nil || json.Unmarshal(data, p) != nil || p.Title == "" {
		p = &api.Problem{Title: http.StatusText(response.StatusCode), Detail: fmt.Sprintf("the body is no problem document: %.200q", data)}
	}
	p.Status = response.StatusCode
	return p
}

func readJSON(response *http.Response, limit int64, out any) error {
	if limit == 0 {
		limit = maxAnswer
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	err = errors.Join(err, response.Body.Close())
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if int64(len(data)) > limit {
		return fmt.Errorf("%w: more than %d bytes", errAnswer, limit)
	}
	if out == nil {
		return nil
	}
	if verdicts, ok := out.(*[]api.Verdict); ok {
		return decodeVerdicts(response.Header.Get("Content-Type"), data, verdicts)
	}
	if verdicts, ok := out.(*[]api.OrderVerdict); ok {
		if *verdicts, err = api.DecodeOrderVerdicts(data); err != nil {
			return fmt.Errorf("%w: %w", errAnswer, err)
		}
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("%w: %w", errAnswer, err)
	}
	return nil
}

// decodeVerdicts reads the answer to a submission in the form that the server chose.
func decodeVerdicts(kind string, data []byte, out *[]api.Verdict) (err error) {
	if kind == api.ContentCBOR {
		*out, err = api.DecodeVerdicts(data)
	} else {
		var answer api.SubmitResponse
		err = json.Unmarshal(data, &answer)
		*out = answer.Verdicts
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errAnswer, err)
	}
	return nil
}

func ask[T any](ctx context.Context, c *Client, r call) (T, error) {
	var out T
	err := c.do(ctx, r, &out)
	return out, err
}
