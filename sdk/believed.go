package sdk

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// besideAfter is after how long without an answer of one node the next is asked as well.
const besideAfter = time.Second

// poll asks each node for the same. One that lies, errs or is behind is asked once, one that is away as often as
// ever, and one that does not answer has the next asked beside it: none of them holds up what another tells.
type poll[T any] struct {
	client  *Client
	call    call
	urls    []string
	turn    uint64 // of the one that is asked first
	most    int    // times that one is asked
	answers chan answer[T]
}

// answer is what one node said, or why it says nothing.
type answer[T any] struct {
	nth   int // of those that are asked
	said  T
	err   error
	again bool // it is asked again
}

// believed asks the nodes in turn until take believes what one of them says. Calls of take do not overlap.
func believed[T any](ctx context.Context, c *Client, r call, take func(T) error) error {
	urls := *r.to.urls.Load()
	if len(urls) == 0 {
		_, _, err := r.to.current()
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	p := &poll[T]{client: c, call: r, urls: urls, turn: r.to.at.Load(), most: max(1, (c.attempts(r.to)+len(urls)-1)/len(urls)), answers: make(chan answer[T])}
	asked := 0
	next := func() {
		if nth := asked; nth < len(urls) {
			asked++
			wg.Go(func() { p.ask(ctx, nth) })
		}
	}
	next()
	beside := time.NewTicker(besideAfter)
	defer beside.Stop()
	why := make([]error, len(urls))
	for left := len(urls); left > 0; {
		select {
		case a := <-p.answers:
			if a.err == nil {
				a.err = take(a.said)
			}
			if a.err == nil {
				r.to.prefer(p.turn, uint64(a.nth))
				return nil
			}
			r.to.failed(p.turn + uint64(a.nth))
			why[a.nth] = fmt.Errorf("sdk: %s %s%s: %w", r.method, p.base(a.nth), r.path, a.err)
			if !a.again {
				left--
			}
			next()
		case <-beside.C:
			next()
		case <-ctx.Done():
			return errors.Join(append(why, context.Cause(ctx))...)
		}
	}
	return errors.Join(why...)
}

func (p *poll[T]) base(nth int) string { return p.urls[(p.turn+uint64(nth))%uint64(len(p.urls))] }

// ask asks one node until it answers.
func (p *poll[T]) ask(ctx context.Context, nth int) {
	for n := 1; ; n++ {
		a := answer[T]{nth: nth}
		a.said, a.err = askOne[T](ctx, p.client, p.call, p.base(nth))
		a.again = a.err != nil && n < p.most && mayRepeat(a.err, true)
		select {
		case p.answers <- a:
		case <-ctx.Done():
			return
		}
		if !a.again || p.client.backOff(ctx, n, a.err) != nil {
			return
		}
	}
}

// askOne asks one server once.
func askOne[T any](ctx context.Context, c *Client, r call, base string) (out T, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	response, err := c.send(ctx, base, r)
	if err != nil {
		return out, err
	}
	return out, readJSON(response, r.limit, &out)
}
