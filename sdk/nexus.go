package sdk

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// NexusStatus returns what a Nexus server says of itself and its cluster.
func (c *Client) NexusStatus(ctx context.Context) (api.NexusStatus, error) {
	return ask[api.NexusStatus](ctx, c, get(c.nexus, "/v1/status", nil))
}

// SignOrder returns the request that submits a job: the order, which names the
// specification and is signed by its consumer. The order's Spec and Consumer
// are filled in.
func SignOrder(order chain.Order, spec job.Spec, consumer chain.Signer) (api.SubmitJobRequest, error) {
	signed, err := Sign(order, spec, consumer)
	if err != nil {
		return api.SubmitJobRequest{}, err
	}
	return api.SubmitJobRequest{Order: api.OrderToJSON(signed.Order), Signature: signed.Signature, Spec: api.SpecToJSON(spec)}, nil
}

// Sign is SignOrder in the form of which SubmitOrders takes many.
func Sign(order chain.Order, spec job.Spec, consumer chain.Signer) (api.SignedOrder, error) {
	order.Consumer, order.Spec = consumer.AccountKey(), spec.Digest()
	if err := job.CheckOrder(&order, &spec); err != nil {
		return api.SignedOrder{}, fmt.Errorf("sdk: order: %w", err)
	}
	signature, err := consumer.Sign(crypto.DomainOrder, order.Payload())
	if err != nil {
		return api.SignedOrder{}, fmt.Errorf("sdk: signing an order: %w", err)
	}
	return api.SignedOrder{Order: order, Signature: signature}, nil
}

// SubmitJob submits a signed order. Its id is the job's, so submitting it again
// is harmless.
func (c *Client) SubmitJob(ctx context.Context, request api.SubmitJobRequest) (api.Job, error) {
	r, err := post(c.nexus, "/v1/jobs", request)
	if err != nil {
		return api.Job{}, err
	}
	r.repeatable = true
	return ask[api.Job](ctx, c, r)
}

// SubmitOrders submits many signed orders of one consumer and returns one verdict
// each, in order. Submitting one again is harmless.
func (c *Client) SubmitOrders(ctx context.Context, orders *api.Orders) ([]api.OrderVerdict, error) {
	out, err := ask[[]api.OrderVerdict](ctx, c, call{
		to: c.nexus, method: http.MethodPost, path: "/v1/orders", body: orders.Encode(), kind: api.ContentCBOR, repeatable: true,
	})
	if err != nil {
		return nil, err
	}
	if len(out) != len(orders.List) {
		return nil, fmt.Errorf("sdk: %d verdicts for %d orders", len(out), len(orders.List))
	}
	return out, nil
}

// Job returns a job.
func (c *Client) Job(ctx context.Context, id crypto.Digest) (api.Job, error) {
	return ask[api.Job](ctx, c, get(c.nexus, "/v1/jobs/"+id.String(), nil))
}

// Jobs yields a consumer's jobs, or everybody's for the zero address, the newest
// first.
func (c *Client) Jobs(ctx context.Context, consumer chain.Address) iter.Seq2[api.Job, error] {
	return func(yield func(api.Job, error) bool) {
		query := url.Values{"limit": {strconv.Itoa(api.MaxJobsPage)}}
		if !consumer.IsZero() {
			query.Set("account", consumer.String())
		}
		for {
			page, err := ask[api.JobList](ctx, c, get(c.nexus, "/v1/jobs", query))
			if err != nil {
				yield(api.Job{}, err)
				return
			}
			for i := range page.Jobs {
				if !yield(page.Jobs[i], nil) {
					return
				}
			}
			if page.Next == "" || len(page.Jobs) == 0 {
				return
			}
			query.Set("cursor", page.Next)
		}
	}
}

// CancelJob ends a job on its consumer's request, and returns it.
func (c *Client) CancelJob(ctx context.Context, id crypto.Digest, consumer chain.Signer, chainID chain.ChainID) (api.Job, error) {
	signature, err := consumer.Sign(crypto.DomainCancel, api.CancelPayload(chainID, id))
	if err != nil {
		return api.Job{}, fmt.Errorf("sdk: signing a cancellation: %w", err)
	}
	return ask[api.Job](ctx, c, call{
		to: c.nexus, method: http.MethodDelete, path: "/v1/jobs/" + id.String(), repeatable: true,
		header: http.Header{http.CanonicalHeaderKey(api.SignatureHeader): {signature.String()}},
	})
}

// The time between two looks at a job: an eighth of the time since it changed.
const (
	minWatchWait = 10 * time.Millisecond
	maxWatchWait = time.Second
)

// WatchJob yields a job whenever its status has changed, from now until it is final.
func (c *Client) WatchJob(ctx context.Context, id crypto.Digest) iter.Seq2[api.Job, error] {
	return func(yield func(api.Job, error) bool) {
		var last job.Status
		changed := time.Now()
		for {
			current, err := c.Job(ctx, id)
			if err == nil && current.ID != id {
				err = refusef("job %s was asked for, the server shows %s", id, current.ID)
			}
			if err != nil {
				yield(api.Job{}, err)
				return
			}
			if current.Status != last {
				last, changed = current.Status, time.Now()
				if !yield(current, nil) {
					return
				}
			}
			if current.Status.Final() {
				return
			}
			if err := sleep(ctx, min(max(time.Since(changed)/8, minWatchWait), maxWatchWait)); err != nil {
				yield(api.Job{}, err)
				return
			}
		}
	}
}

// Logs yields what a job's programs write, each byte once: with follow until the
// job has ended, live, also while servers come and go; else what is kept now.
// Before a piece that is not where the one before it ended, so many bytes as its
// Missed says are lost: servers keep the newest, and nodes do not wait for them.
func (c *Client) Logs(ctx context.Context, id crypto.Digest, follow bool) iter.Seq2[api.JobLog, error] {
	return func(yield func(api.JobLog, error) bool) {
		query := url.Values{"follow": {strconv.FormatBool(follow)}}
		s := &stream{client: c, request: get(c.nexus, "/v1/jobs/"+id.String()+"/logs", query)}
		next := map[logStream]uint64{}
		err := s.follow(ctx, func(m message) (bool, error) {
			if m.id != "" {
				s.lastID = m.id
			}
			if m.name == api.EventEnd {
				return false, nil
			}
			if m.name != api.EventLog {
				return true, nil
			}
			var entry api.JobLog
			if err := json.Unmarshal(m.data, &entry); err != nil {
				return false, fmt.Errorf("sdk: log of job %s: %w", id.Short(), err)
			}
			if !isNews(next, &entry) {
				return true, nil
			}
			return yield(entry, nil), nil
		})
		if err != nil {
			yield(api.JobLog{}, err)
		}
	}
}

// logStream is one stream of a run of a job.
type logStream struct {
	node   crypto.PublicKey
	begun  chain.TimeMs
	stderr bool
}

// maxLogStreams bounds the streams that a server may name.
const maxLogStreams = 4_096

// isNews leaves of a piece what is new, and reports whether anything is.
func isNews(next map[logStream]uint64, entry *api.JobLog) bool {
	of := logStream{entry.Node, entry.Begun, entry.Stderr}
	at, known := next[of]
	if !known && len(next) >= maxLogStreams {
		return false
	}
	begin := uint64(entry.Offset)
	end := begin + uint64(len(entry.Data))
	if end <= at || end < begin {
		return false
	}
	next[of] = end
	if begin < at {
		entry.Offset, entry.Data = api.Uint64(at), entry.Data[at-begin:]
	} else {
		entry.Missed = begin - at
	}
	return true
}

// Nodes returns the cluster's provider nodes, by ascending id.
func (c *Client) Nodes(ctx context.Context) ([]api.NexusNode, error) {
	var out []api.NexusNode
	query := url.Values{}
	for {
		page, err := ask[api.NodeList](ctx, c, get(c.nexus, "/v1/nodes", query))
		if err != nil {
			return nil, err
		}
		out = append(out, page.Nodes...)
		if page.Next == "" || len(page.Nodes) == 0 {
			return out, nil
		}
		query.Set("cursor", page.Next)
	}
}

// Quote returns who would take a job under an order with a priority fee, at which price, and what excludes the
// others. It changes nothing.
func (c *Client) Quote(ctx context.Context, spec job.Spec, policy chain.Policy, fee chain.PriorityFee) (api.Quote, error) {
	r, err := post(c.nexus, "/v1/quotes", api.QuoteRequest{Spec: api.SpecToJSON(spec), Policy: api.Policy{Policy: policy}, PriorityBps: fee})
	if err != nil {
		return api.Quote{}, err
	}
	r.repeatable = true
	return ask[api.Quote](ctx, c, r)
}

// Top returns the cluster at a glance, with at most so many rows in each list (1
// to api.MaxTopRows). The server that is asked shows what it has heard of.
func (c *Client) Top(ctx context.Context, rows int) (api.NexusTop, error) {
	return ask[api.NexusTop](ctx, c, get(c.nexus, "/v1/top", url.Values{"rows": {strconv.Itoa(rows)}}))
}
