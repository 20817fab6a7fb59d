package statesync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// fetch is one state being fetched.
type fetch struct {
	*joiner
	height   chain.Height // of the point
	root     crypto.Digest
	progress *progress
	busy     [segments]time.Time      // since when each is asked for; zero: it is not
	asking   map[crypto.PublicKey]int // requests under way
	results  chan result
	underway int
	begun    []time.Time // when each of these began
	lastGood time.Time   // when a chunk last held, or nobody was there to give one
	some     bool        // a chunk held
}

// result is the end of one request.
type result struct {
	peer     crypto.PublicKey
	segment  int // the first that was asked for
	segments int
	began    time.Time
	got      state.Range
	leaves   []state.Entry
	err      error
}

// fetch fetches the state before a point's block into the sink. It returns false
// if no connected peer has given anything for a while: then a later state may be
// offered. Only a state of which nothing came counts as failed: to turn to another
// is to throw away what there is of this one.
func (j *joiner) fetch(ctx context.Context, at point) (bool, error) {
	header, err := at.header.Header()
	if err != nil {
		return false, err
	}
	stored, err := j.Sink.Begin(at.header)
	if err != nil {
		return false, fmt.Errorf("statesync: beginning with the state before block %d: %w", header.Height, err)
	}
	f := &fetch{
		joiner: j, height: header.Height, root: header.StateRoot,
		asking: map[crypto.PublicKey]int{}, results: make(chan result, maxRequests), lastGood: time.Now(),
	}
	if f.progress, err = decodeProgress(stored); err != nil {
		return false, err
	}
	j.Log.Info("statesync: fetching a state", "height", header.Height-1, "root", header.StateRoot.Short(), "resumed", stored != nil)
	ctx, cancel := context.WithCancel(ctx)
	done, err := f.run(ctx)
	cancel()
	for ; f.underway > 0; f.underway-- {
		<-f.results
	}
	if !done && !f.some {
		j.failed[f.height]++
	}
	return done, err
}

func (f *fetch) run(ctx context.Context) (bool, error) {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		if f.progress.complete() {
			return true, nil
		}
		if len(f.Network.Peers()) == 0 {
			f.lastGood = time.Now()
		}
		if time.Since(f.lastGood) > 2*requestTimeout {
			return false, nil
		}
		if f.assign(ctx) == 0 && f.nobodyOffers() && (f.underway == 0 || !f.some && time.Since(f.lastGood) > unheardFor) {
			return false, nil
		}
		select {
		case r := <-f.results:
			if err := f.take(r); err != nil {
				return false, err
			}
		case <-ticker.C:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

func (p *progress) complete() bool { return p.Done == 1<<segments-1 }

// nobodyOffers reports whether each connected peer has said that it does not
// keep the state, or lets a request for it wait.
func (f *fetch) nobodyOffers() bool {
	peers := f.Network.Peers()
	return len(peers) > 0 && !slices.ContainsFunc(peers, func(peer crypto.PublicKey) bool { return f.offersIt(peer) && f.asking[peer] == 0 })
}

func (f *fetch) offersIt(peer crypto.PublicKey) bool {
	known, asked := f.offers[peer]
	return !asked || slices.Contains(known, f.height)
}

// assign begins requests for segments that nobody works on, a peer's second only
// when every peer has one. It returns how many it began.
func (f *fetch) assign(ctx context.Context) int {
	begun := 0
	for limit := 1; limit <= requestsPerPeer; limit++ {
		for _, peer := range f.giversFirst(f.height) {
			if f.heard() >= maxRequests || f.asking[peer] >= limit || !f.offersIt(peer) {
				continue
			}
			i, n := f.next()
			if n == 0 {
				return begun
			}
			f.begin(ctx, peer, i, n)
			begun++
		}
	}
	return begun
}

// next returns the first segment that nobody works on, and how many to ask for
// together from there on: what is left is spread evenly over the requests that may
// be under way, so that a small state takes few.
func (f *fetch) next() (i, n int) {
	free := 0
	first := -1
	for s := range segments {
		if f.free(s) {
			free++
			if first < 0 {
				first = s
			}
		}
	}
	if free == 0 {
		return 0, 0
	}
	slots := max(min(maxRequests, requestsPerPeer*len(f.Network.Peers()))-f.heard(), 1)
	most := (free + slots - 1) / slots
	for n = 1; n < most && first+n < segments; n++ {
		if s := first + n; !f.free(s) || f.progress.Next[s] != segment(s).From {
			break
		}
	}
	return first, n
}

// heard counts the requests under way that are not unheard for long: peers that are
// silent, however many, do not take the place of others.
func (f *fetch) heard() (n int) {
	for _, began := range f.begun {
		if time.Since(began) <= unheardFor {
			n++
		}
	}
	return n
}

// free reports whether nobody works on a segment, or has for so long that another
// peer may try as well.
func (f *fetch) free(i int) bool {
	return !f.progress.done(i) && (f.busy[i].IsZero() || time.Since(f.busy[i]) > unheardFor)
}

func (f *fetch) begin(ctx context.Context, peer crypto.PublicKey, i, n int) {
	began := time.Now()
	for s := i; s < i+n; s++ {
		f.busy[s] = began
	}
	f.asking[peer]++
	f.underway++
	f.begun = append(f.begun, began)
	asked := chunkRequest{Height: f.height, From: f.progress.Next[i], To: segment(i + n - 1).To}
	go func() {
		r := result{peer: peer, segment: i, segments: n, began: began}
		r.got.From = asked.From
		r.got.To, r.leaves, r.err = f.ask(ctx, peer, asked)
		f.results <- r // each one under way is taken in the end
	}()
}

// ask fetches and verifies one chunk. It touches nothing but its arguments and
// what never changes.
func (f *fetch) ask(ctx context.Context, peer crypto.PublicKey, asked chunkRequest) (crypto.Digest, []state.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	raw, err := f.Network.Request(ctx, peer, ServiceChunk, codec.Marshal(asked))
	if err != nil {
		return crypto.Digest{}, nil, err
	}
	to, leaves, err := decodeChunk(raw, asked, f.root)
	if err != nil {
		return crypto.Digest{}, nil, rubbish{err}
	}
	return to, leaves, nil
}

// take keeps what a request brought.
func (f *fetch) take(r result) error {
	f.underway--
	f.asking[r.peer]--
	i := slices.IndexFunc(f.begun, r.began.Equal)
	f.begun = slices.Delete(f.begun, i, i+1)
	for s := r.segment; s < r.segment+r.segments; s++ {
		if f.busy[s].Equal(r.began) {
			f.busy[s] = time.Time{}
		}
	}
	switch {
	case errors.Is(r.err, context.Canceled):
		return nil
	case r.err != nil:
		f.blame(r.peer, "fetching a state", r.err)
		return nil
	}
	f.lastGood, f.some, f.strikes[r.peer] = time.Now(), true, 0
	f.gave[r.peer] = f.height
	if f.progress.done(r.segment) || f.progress.Next[r.segment] != r.got.From {
		return nil // another peer was quicker
	}
	f.progress.advance(r.segment, r.got.To)
	if err := f.Sink.Put(r.got, r.leaves, codec.Marshal(*f.progress)); err != nil {
		return fmt.Errorf("statesync: keeping a chunk: %w", err)
	}
	return nil
}
