package statesync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/transport"
)

// ErrCheckpoint says that no peer confirms the checkpoint.
var ErrCheckpoint = errors.New("statesync: no peer confirms the checkpoint")

// Network is the joiner's way to its peers: a *transport.Mesh of JoinerMesh,
// whose connections somebody runs.
type Network interface {
	// Peers returns the keys of the connected peers.
	Peers() []crypto.PublicKey
	// Request asks a peer; ctx has a deadline.
	Request(ctx context.Context, to crypto.PublicKey, service uint8, request []byte) ([]byte, error)
	// Block ends the connection with a peer and has none for a while.
	Block(peer crypto.PublicKey, duration time.Duration, reason string)
}

// Sink keeps what is fetched.
type Sink interface {
	// Begin begins with the state before a block, or goes on with it, and returns the
	// progress last kept, nil at the beginning. Whatever there is of another state is
	// thrown away.
	Begin(first light.Header) (progress []byte, err error)
	// Put keeps all leaves of a range together with the progress. It may keep them
	// in memory for a while, the progress with them.
	Put(r state.Range, leaves []state.Entry, progress []byte) error
	// Committee returns the committee of an epoch, as the state says that was put
	// whole, and false if it does not say.
	Committee(epoch consensus.Epoch) (*consensus.Committee, bool, error)
}

// Config is what Join works with.
type Config struct {
	Genesis    *chain.Genesis
	Checkpoint light.Checkpoint
	Network    Network
	Sink       Sink
	Log        *slog.Logger
	Patience   time.Duration // until the checkpoint is confirmed; 0: 30 s
}

const (
	defaultPatience = 30 * time.Second
	requestTimeout  = 25 * time.Second // longer than a server's
	endsTimeout     = 5 * time.Second
	blockFor        = 10 * time.Minute // a peer whose answer did not hold
	restFor         = time.Second      // a peer that refused or did not answer, doubling to
	maxRest         = time.Minute
	unheardFor      = 5 * time.Second // a request; then another peer is asked as well
	pollEvery       = 50 * time.Millisecond
	requestsPerPeer = 2 // chunks at a time
	maxRequests     = 8 // chunks at a time from all
)

// End is how an epoch ended, verified.
type End struct {
	Closing    light.Header
	Transition []byte // encoded
}

// Result is what Join has fetched, beside the state in the Sink.
type Result struct {
	Verifier *light.Verifier
	// Ends are those from the checkpoint's on, without gaps, to the last one up to the
	// block. If there are several and the checkpoint's own certificate could not be had
	// or judged, they begin with the one after it.
	Ends        []End
	Block       light.Block
	Raw         []byte // the block's canonical bytes
	Certificate []byte // of the block, or of a later one of its epoch
}

// Join fetches the state before a block that peers offer to begin with, and the
// block.
func Join(ctx context.Context, config Config) (Result, error) {
	if config.Patience == 0 {
		config.Patience = defaultPatience
	}
	j := &joiner{
		Config: config, tired: map[crypto.PublicKey]time.Time{}, strikes: map[crypto.PublicKey]int{},
		offers: map[crypto.PublicKey][]chain.Height{}, vain: map[crypto.PublicKey]int{}, gave: map[crypto.PublicKey]chain.Height{}, failed: map[chain.Height]int{}, proven: map[chain.Height]point{},
	}
	if err := config.Checkpoint.Check(config.Genesis, now()); err != nil {
		return Result{}, err
	}
	if err := j.confirm(ctx); err != nil {
		return Result{}, err
	}
	for {
		if err := j.follow(ctx); err != nil {
			return Result{}, err
		}
		at, ok := j.choose(ctx)
		if !ok {
			if err := pause(ctx, restFor); err != nil {
				return Result{}, err
			}
			continue
		}
		offering := j.offering(at.header.Height())
		done, err := j.fetch(ctx, at)
		if err != nil {
			return Result{}, err
		}
		if !done {
			for _, peer := range offering {
				j.vain[peer]++
			}
			j.Log.Info("statesync: nobody gives the state, choosing again", "height", at.header.Height())
			continue
		}
		ends, err := j.certified(ctx, j.ends[:at.ends])
		if err != nil {
			return Result{}, err
		}
		if ends == nil {
			continue
		}
		if result, ok, err := j.fetchBlock(ctx, at); ok || err != nil {
			result.Ends = ends
			return result, err
		}
	}
}

func now() chain.TimeMs { return chain.TimeMs(time.Now().UnixMilli()) }

// joiner is one Join. Its fields belong to Join's own goroutine.
type joiner struct {
	Config
	verifier *light.Verifier
	ends     []End
	first    light.Transition                    // of the checkpoint, whose certificate nobody has verified
	shownBy  crypto.PublicKey                    // the peer that showed it; zero once the certificate holds
	tired    map[crypto.PublicKey]time.Time      // until when a peer is left alone
	strikes  map[crypto.PublicKey]int            // times in a row that a peer gave no answer
	offers   map[crypto.PublicKey][]chain.Height // as the peers claim
	vain     map[crypto.PublicKey]int            // times that a peer offered a state which was not had, or said nothing to prove it
	gave     map[crypto.PublicKey]chain.Height   // of whose state a peer last gave a chunk
	failed   map[chain.Height]int                // times that nobody gave anything of the state
	proven   map[chain.Height]point
}

// rubbish is an answer that does not hold.
type rubbish struct{ error }

func (r rubbish) Unwrap() error { return r.error }

// fresh returns the connected peers that are not left alone.
func (j *joiner) fresh() []crypto.PublicKey {
	var out []crypto.PublicKey
	for _, id := range j.Network.Peers() {
		if !time.Now().Before(j.tired[id]) {
			out = append(out, id)
		}
	}
	return out
}

// blame blocks a peer whose answer does not hold, and leaves one alone that gave
// none. One that does not keep what it was asked for has done nothing wrong: what it
// offers has changed, and it is asked for that.
func (j *joiner) blame(peer crypto.PublicKey, doing string, err error) {
	if notKept(err) {
		j.offers[peer], j.tired[peer] = nil, time.Now().Add(pollEvery)
		j.Log.Debug("statesync: a peer does not keep this", "peer", peer.Short(), "doing", doing, "error", err)
		return
	}
	j.tired[peer] = time.Now().Add(min(maxRest, restFor<<min(j.strikes[peer], 10)))
	j.strikes[peer]++
	if bad, ok := errors.AsType[rubbish](err); ok {
		j.Log.Warn("statesync: a peer sent rubbish and is blocked", "peer", peer.String(), "doing", doing, "reason", bad.error)
		j.Network.Block(peer, blockFor, bad.Error())
		return
	}
	j.Log.Debug("statesync: a peer did not answer", "peer", peer.Short(), "doing", doing, "error", err)
}

func (j *joiner) request(ctx context.Context, to crypto.PublicKey, service uint8, request any) ([]byte, error) {
	timeout := requestTimeout
	if service == ServiceEnds || service == ServiceProof {
		timeout = endsTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return j.Network.Request(ctx, to, service, codec.Marshal(request))
}

// askEnds asks a peer for the transitions of an epoch and those after it.
func (j *joiner) askEnds(ctx context.Context, peer crypto.PublicKey, from consensus.Epoch) ([]light.Transition, error) {
	raw, err := j.request(ctx, peer, ServiceEnds, endsRequest{From: from})
	if err != nil {
		return nil, err
	}
	answer, err := decodeEnds(raw)
	if err != nil {
		return nil, rubbish{err}
	}
	j.offers[peer] = answer.Offers
	j.strikes[peer] = 0
	out := make([]light.Transition, len(answer.Transitions))
	for i, raw := range answer.Transitions {
		if out[i], err = light.DecodeTransition(raw); err != nil {
			return nil, rubbish{err}
		}
	}
	return out, nil
}

// confirm finds a peer that shows the checkpoint's block.
func (j *joiner) confirm(ctx context.Context) error {
	said := map[crypto.PublicKey]string{}
	for began := time.Now(); time.Since(began) < j.Patience; {
		for _, peer := range j.fresh() {
			shown, err := j.askEnds(ctx, peer, j.Checkpoint.Epoch)
			switch {
			case err != nil:
				j.blame(peer, "confirming the checkpoint", err)
			case len(shown) == 0:
				err = fmt.Errorf("it does not know how epoch %d ended", j.Checkpoint.Epoch)
			default:
				var closing light.Header
				if j.verifier, closing, err = light.At(j.Genesis, j.Checkpoint, shown[0], now()); err == nil {
					j.ends = []End{{Closing: closing, Transition: shown[0].Encode()}}
					j.first, j.shownBy = shown[0], peer
					return nil
				}
				if errors.Is(err, light.ErrStale) {
					return err
				}
			}
			// Whether the peer or the checkpoint is wrong is not known.
			said[peer], j.tired[peer] = err.Error(), time.Now().Add(restFor)
		}
		if err := pause(ctx, pollEvery); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w %s within %s: %s", ErrCheckpoint, j.Checkpoint, j.Patience, summary(said))
}

// summary tells what the peers said.
func summary(said map[crypto.PublicKey]string) string {
	if len(said) == 0 {
		return "no peer was reached"
	}
	counts := map[string]int{}
	most := ""
	for _, reason := range said { // order-free: the greatest by count, then by text
		counts[reason]++
		if n := counts[reason] - counts[most]; most == "" || n > 0 || n == 0 && reason < most {
			most = reason
		}
	}
	return fmt.Sprintf("%d peers were asked, and %d of them say: %s", len(said), counts[most], most)
}

// enoughSilent is how many peers in a row that know of no later epoch end the
// search for one.
const enoughSilent = 3

// follow verifies the ends of epochs until peers know no later one.
func (j *joiner) follow(ctx context.Context) error {
	silent := map[crypto.PublicKey]bool{}
	for {
		if err := j.verifier.Check(now()); err != nil {
			return err
		}
		peers := j.fresh()
		asked := 0
		for _, peer := range peers {
			if silent[peer] {
				continue
			}
			asked++
			n, err := j.followBy(ctx, peer)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil {
				j.blame(peer, "following the epochs", err)
			}
			if n > 0 {
				clear(silent)
			} else if err == nil {
				silent[peer] = true
			}
		}
		if len(silent) >= enoughSilent || len(silent) > 0 && asked == 0 {
			return nil
		}
		if asked == 0 {
			if err := pause(ctx, pollEvery); err != nil {
				return err
			}
		}
	}
}

// followBy takes the steps that a peer shows and returns how many they were.
func (j *joiner) followBy(ctx context.Context, peer crypto.PublicKey) (int, error) {
	shown, err := j.askEnds(ctx, peer, j.verifier.Newest())
	if err != nil {
		return 0, err
	}
	for i, transition := range shown {
		next, closing, err := j.verifier.Step(transition, now())
		if err != nil {
			return i, rubbish{fmt.Errorf("the end of epoch %d: %w", j.verifier.Newest(), err)}
		}
		if next == j.verifier {
			return i, rubbish{fmt.Errorf("the end of epoch %d was asked for, and an earlier one shown", j.verifier.Newest())}
		}
		j.verifier = next
		j.ends = append(j.ends, End{Closing: closing, Transition: transition.Encode()})
	}
	return len(shown), nil
}

// certified returns the ends, the first of which is the checkpoint's, once that
// has a certificate that holds. The checkpoint alone did not tell: the committee
// that made it is in the state. The node's store keeps the certificate, consensus
// begins with it, and other joiners are shown it, so a peer's rubbish in its place
// would be ours from then on. If no peer gives a good one it is nil, or, if there
// are later ends, these.
func (j *joiner) certified(ctx context.Context, ends []End) ([]End, error) {
	if j.shownBy.IsZero() {
		return ends, nil
	}
	committee, known, err := j.Sink.Committee(j.Checkpoint.Epoch)
	switch {
	case err != nil:
		return nil, fmt.Errorf("statesync: reading the committee of epoch %d: %w", j.Checkpoint.Epoch, err)
	case !known && len(ends) == 1:
		return nil, fmt.Errorf("statesync: the state before the end of epoch %d does not know the epoch's committee", j.Checkpoint.Epoch)
	case !known:
		return ends[1:], nil
	}
	closing := ends[0].Closing
	judge := func(peer crypto.PublicKey, certificate []byte) bool {
		if err := closing.VerifyCertificate(committee, certificate); err != nil {
			j.blame(peer, "certifying the checkpoint", rubbish{err})
			return false
		}
		j.first.Certificate, j.shownBy = certificate, crypto.PublicKey{}
		j.ends[0].Transition = j.first.Encode() // ends are a part of j.ends
		return true
	}
	if judge(j.shownBy, j.first.Certificate) {
		return ends, nil
	}
	for began := time.Now(); time.Since(began) < requestTimeout; {
		for _, peer := range j.fresh() {
			shown, err := j.askEnds(ctx, peer, j.Checkpoint.Epoch)
			if err != nil {
				j.blame(peer, "certifying the checkpoint", err)
			} else if len(shown) > 0 && judge(peer, shown[0].Certificate) {
				return ends, nil
			}
		}
		if err := pause(ctx, pollEvery); err != nil {
			return nil, err
		}
	}
	if len(ends) > 1 {
		return ends[1:], nil
	}
	return nil, nil
}

// pause waits, or returns why it need not.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// notKept reports whether a peer said that it does not keep what was asked for. Any
// other refusal is of the moment: it is busy, or we ask too much of it.
func notKept(err error) bool {
	refused, ok := errors.AsType[*transport.RefusedError](err)
	return ok && strings.HasSuffix(refused.Reason, errNotKept.Error())
}
