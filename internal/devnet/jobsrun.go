package devnet

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

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

// send submits jobs until there is none left.
func (b *jobBench) send(ctx context.Context) {
	for {
		select {
		case b.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		b.mu.Lock()
		if b.next == len(b.jobs) {
			b.mu.Unlock()
			<-b.slots
			return
		}
		j := b.jobs[b.next]
		b.next++
		b.open++
		j.sent = time.Since(b.began)
		b.mu.Unlock()
		if err := b.submit(ctx, j); err != nil {
			b.cancel(fmt.Errorf("submitting a job: %w", err))
			return
		}
	}
}

// submit submits a job until it is accepted. While the cluster is busy, full or
// away it tries again, for as long as anything happens.
func (b *jobBench) submit(ctx context.Context, j *benchJob) error {
	for {
		answer, err := b.client.SubmitJob(ctx, j.request)
		b.mu.Lock()
		if err == nil {
			if answer.ID != j.id {
				b.mu.Unlock()
				return fmt.Errorf("order %s was submitted, the server shows job %s", j.id, answer.ID)
			}
			b.news = time.Now()
			j.accepted = max(1, b.news.Sub(b.began))
		}
		quiet := time.Since(b.news) > jobQuiet
		b.mu.Unlock()
		if err == nil {
			return nil
		}
		if problem, ok := errors.AsType[*api.Problem](err); ctx.Err() != nil || quiet || ok && problem.Status/100 == 4 && problem.Status != http.StatusTooManyRequests {
			return err
		}
		if err := pause(ctx, jobPause); err != nil {
			return err
		}
	}
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
