package devnet

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// errQuiet ends a run of which nothing was heard any more.
var errQuiet = errors.New("no job was accepted and none ended for a while")

func benchHTTP() *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: jobSenders + 8, IdleConnTimeout: 30 * time.Second, TLSHandshakeTimeout: 10 * time.Second,
	}}
}

// run submits every job and waits until all have ended, or nothing happens any
// more: what is missing then is lost. The error is of what cannot go on.
func (b *jobBench) run(ctx context.Context) error {
	ctx, b.cancel = context.WithCancelCause(ctx)
	defer b.cancel(nil)
	b.began = time.Now()
	b.news = b.began
	var sending, following sync.WaitGroup
	for range min(jobSenders, b.options.InFlight) {
		sending.Go(func() { b.send(ctx) })
	}
	sent := make(chan struct{})
	go func() { // ends with the senders
		sending.Wait()
		close(sent)
	}()
	for _, f := range []func(context.Context, <-chan struct{}){b.follow, b.look} {
		following.Go(func() { f(ctx, sent) })
	}
	following.Wait()
	<-sent
	if err := context.Cause(ctx); err != nil && !errors.Is(err, errQuiet) {
		return err
	}
	return nil
}

// send submits jobs until there is none left, as many together as a sender's
// share of what may be in flight.
func (b *jobBench) send(ctx context.Context) {
	share := min(max(1, b.options.InFlight/(2*jobSenders)), api.MaxOrders/2)
	for {
		list := b.pick(ctx, share)
		if len(list) == 0 {
			return
		}
		if err := b.submit(ctx, list); err != nil {
			b.cancel(fmt.Errorf("submitting jobs: %w", err))
			return
		}
	}
}

// pick takes jobs that are not submitted yet, at most so many and as many as may
// be in flight now, and at least one unless there is none left or ctx ends.
func (b *jobBench) pick(ctx context.Context, most int) (list []*benchJob) {
	select {
	case b.slots <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	n := 1
	for full := false; n < most && !full; {
		select {
		case b.slots <- struct{}{}:
			n++
		default:
			full = true
		}
	}
	b.mu.Lock()
	list = b.jobs[b.next:min(b.next+n, len(b.jobs))]
	b.next += len(list)
	b.open += len(list)
	at := time.Since(b.began)
	for _, j := range list {
		j.sent = at
	}
	b.mu.Unlock()
	for range n - len(list) {
		<-b.slots
	}
	return list
}

// submit submits jobs until all are accepted. While the cluster is busy, full or
// away it tries again, for as long as anything happens.
func (b *jobBench) submit(ctx context.Context, list []*benchJob) error {
	for {
		orders := api.Orders{Specs: []job.Spec{b.spec}, List: make([]api.SignedOrder, len(list))}
		for i, j := range list {
			orders.List[i] = j.order
		}
		verdicts, err := b.client.SubmitOrders(ctx, &orders)
		var left []*benchJob
		if err == nil {
			left, err = b.noteAccepted(list, verdicts)
			if err != nil {
				return err
			}
		} else {
			left = list
		}
		if len(left) == 0 {
			return nil
		}
		list = left
		b.mu.Lock()
		quiet := time.Since(b.news) > jobQuiet
		b.mu.Unlock()
		if err == nil && quiet {
			err = errQuiet
		}
		if problem, ok := errors.AsType[*api.Problem](err); ctx.Err() != nil || quiet || ok && problem.Status/100 == 4 && problem.Status != http.StatusTooManyRequests {
			return err
		}
		if err := pause(ctx, jobPause); err != nil {
			return err
		}
	}
}

// noteAccepted notes which jobs were accepted, and returns those to submit again.
func (b *jobBench) noteAccepted(list []*benchJob, verdicts []api.OrderVerdict) (left []*benchJob, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	for i, j := range list {
		switch v := &verdicts[i]; {
		case v.ID != j.id:
			return nil, fmt.Errorf("order %s was submitted, the server's verdict is of %s", j.id, v.ID)
		case v.Rule == "":
			b.news = now
			j.accepted = max(1, now.Sub(b.began))
		case v.Again():
			left = append(left, j)
		default:
			return nil, fmt.Errorf("order %s: %s: %s", j.id, v.Rule, v.Reason)
		}
	}
	return left, nil
}

// pause waits, and returns why if ctx ends before.
func pause(ctx context.Context, wait time.Duration) error {
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// done reports whether every job was sent and has ended.
func (b *jobBench) done(sent <-chan struct{}) bool {
	select {
	case <-sent:
	default:
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open == 0
}

// follow takes receipts from the outbox as they come.
func (b *jobBench) follow(ctx context.Context, sent <-chan struct{}) {
	for ctx.Err() == nil && !b.done(sent) {
		page, err := b.client.Outbox(ctx, b.cursor, outboxPage, outboxWait)
		if err != nil {
			if pause(ctx, jobPause) != nil {
				return
			}
			continue // a cluster without a leader, or ctx: look says when it is enough
		}
		at := time.Now()
		b.mu.Lock()
		for _, item := range page.Items {
			b.cursor = uint64(item.Cursor)
			if j := b.byID[item.Order]; j != nil {
				j.claims = append(j.claims, item.Claims...)
				b.end(j, at)
			}
		}
		b.mu.Unlock()
	}
}

// end notes that a job has ended. The caller holds b.mu.
func (b *jobBench) end(j *benchJob, at time.Time) {
	b.news = at
	if j.ended != 0 {
		return
	}
	j.ended = max(1, at.Sub(b.began))
	b.open--
	<-b.slots
}

// look asks for jobs one by one when there has been no news for a while: one that
// failed comes to no outbox, and another may have left it unseen. It ends the
// run when nothing happens any more.
func (b *jobBench) look(ctx context.Context, sent <-chan struct{}) {
	for ctx.Err() == nil && !b.done(sent) {
		if pause(ctx, jobPause) != nil {
			return
		}
		b.mu.Lock()
		quiet := time.Since(b.news)
		var waiting []*benchJob
		for _, j := range b.jobs[:b.next] {
			if j.accepted != 0 && j.ended == 0 && len(waiting) < jobLookMost {
				waiting = append(waiting, j)
			}
		}
		b.mu.Unlock()
		switch {
		case quiet > jobQuiet:
			b.cancel(errQuiet)
			return
		case quiet > jobLook:
			b.lookAt(ctx, waiting)
			if pause(ctx, jobLook) != nil {
				return
			}
		}
	}
}

func (b *jobBench) lookAt(ctx context.Context, waiting []*benchJob) {
	for _, j := range waiting {
		said, err := b.client.Job(ctx, j.id)
		if err != nil {
			continue // asked again, until it is enough
		}
		shown := receiptsOf(&said)
		if len(shown) == 0 && !said.Status.Final() {
			continue
		}
		b.mu.Lock()
		if j.ended == 0 {
			j.shown = shown
			b.end(j, time.Now())
		}
		b.mu.Unlock()
	}
}
