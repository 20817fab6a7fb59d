package statesync_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/statesync"
	"github.com/hypermesh/hypermesh/internal/transport"
)

// joining is a Join on a fake network.
type joining struct {
	*history
	network *memory
	sink    *sink
	log     *notes
	from    int // the checkpoint's epoch
}

func newJoining(t *testing.T, epochs, peers int) *joining {
	h := newHistory(t, epochs)
	return &joining{history: h, network: newMemory(peers, h), sink: &sink{history: h}, log: &notes{}, from: 1}
}

func (j *joining) config() statesync.Config {
	return statesync.Config{
		Genesis: j.genesis, Checkpoint: j.checkpoint(j.from), Network: j.network, Sink: j.sink, Log: slog.New(slog.NewTextHandler(j.log, nil)),
	}
}

func (j *joining) join(t *testing.T) statesync.Result {
	t.Helper()
	result, err := statesync.Join(t.Context(), j.config())
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// checkResult checks that everything of an epoch's end was fetched.
func (j *joining) checkResult(t *testing.T, result statesync.Result, epoch int) {
	t.Helper()
	j.whole(j.sink, chain.Height(10*epoch))
	last := result.Ends[len(result.Ends)-1]
	if len(result.Ends) != epoch-j.from+1 || last.Closing.Height() != chain.Height(10*epoch) || result.Block.Header() != last.Closing {
		t.Fatalf("%d ends, the last closes at %d", len(result.Ends), last.Closing.Height())
	}
	if int(result.Verifier.Newest()) <= epoch {
		t.Errorf("the verifier knows the committees up to epoch %d", result.Verifier.Newest())
	}
}

func TestJoinFetchesTheLastStateOffered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJoining(t, 25, 3)
		j.checkResult(t, j.join(t), 25)
		for i := range 3 {
			if j.network.asked[peerID(i)] < 3 {
				t.Errorf("peer %d was asked %d times", i, j.network.asked[peerID(i)])
			}
		}
	})
}

// Each liar's answers fail in another place; the one honest peer replaces it.
func TestLyingPeerIsNamedAndReplaced(t *testing.T) {
	for name, tamper := range map[string]func(service uint8, answer []byte) []byte{
		"changed leaves": func(service uint8, answer []byte) []byte {
			if service == statesync.ServiceChunk {
				answer[len(answer)/3] ^= 1
			}
			return answer
		},
		"no state at all": func(service uint8, answer []byte) []byte {
			if service == statesync.ServiceChunk {
				return []byte("rubbish")
			}
			return answer
		},
		"another block": func(service uint8, answer []byte) []byte {
			if service == statesync.ServiceBlock {
				answer[len(answer)/2] ^= 1
			}
			return answer
		},
		"a forged epoch": func(service uint8, answer []byte) []byte {
			if service == statesync.ServiceEnds {
				answer[len(answer)/2] ^= 1
			}
			return answer
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := newJoining(t, 6, 2)
				liar := j.network.Peers()[0]
				j.network.tamper[liar] = func(_ context.Context, service uint8, answer []byte, err error) ([]byte, error) {
					return tamper(service, append([]byte{}, answer...)), err
				}
				j.checkResult(t, j.join(t), 6)
				if j.network.blocked[liar] == "" || len(j.network.blocked) != 1 {
					t.Errorf("blocked are %v", j.network.blocked)
				}
				if text := j.log.String(); !strings.Contains(text, "rubbish") || !strings.Contains(text, liar.String()) {
					t.Errorf("the log does not name the liar:\n%s", text)
				}
			})
		})
	}
}

// The checkpoint's digest covers the header and the next committee, not the
// certificate beside them; the node's store and other joiners rely on that one.
func TestForgedCertificateOfTheCheckpointIsNotKept(t *testing.T) {
	for name, c := range map[string]struct {
		epochs    int
		all       bool // peers lie
		forgotten bool // by the state: who served then
		ends      int
		blocked   int
	}{
		"the checkpoint's state":      {epochs: 1, ends: 1, blocked: 1},
		"a later state":               {epochs: 2, ends: 2, blocked: 1},
		"nobody tells the truth":      {epochs: 2, all: true, ends: 1, blocked: 2},
		"nobody can judge it anymore": {epochs: 2, forgotten: true, ends: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := newJoining(t, c.epochs, 3)
				j.forgotten = c.forgotten
				signature := j.epochs[0].transition.Certificate[100:]
				liars := j.network.Peers()[:1]
				if c.all {
					liars = j.network.Peers()[:2]
				}
				for _, liar := range liars {
					j.network.tamper[liar] = func(_ context.Context, _ uint8, answer []byte, err error) ([]byte, error) {
						forged := bytes.Clone(signature)
						forged[0] ^= 1
						return bytes.ReplaceAll(answer, signature, forged), err
					}
				}
				if c.all { // the third one knows nothing of the checkpoint
					last := j.network.Peers()[2]
					j.network.tamper[last] = func(_ context.Context, service uint8, answer []byte, err error) ([]byte, error) {
						if service == statesync.ServiceEnds {
							return statesync.WithoutEpoch1(answer), err
						}
						return answer, err
					}
				}
				result := j.join(t)
				j.whole(j.sink, chain.Height(10*c.epochs))
				if len(result.Ends) != c.ends || len(j.network.blocked) != c.blocked {
					t.Fatalf("%d ends, blocked are %v", len(result.Ends), j.network.blocked)
				}
				for _, end := range result.Ends {
					kept, err := light.DecodeTransition(end.Transition)
					if err != nil {
						t.Fatal(err)
					}
					h, err := end.Closing.Header()
					if err != nil {
						t.Fatal(err)
					}
					if err := end.Closing.VerifyCertificate(j.committee(int(h.Epoch)), kept.Certificate); err != nil {
						t.Errorf("the end of epoch %d is kept with a certificate that does not hold: %v", h.Epoch, err)
					}
				}
			})
		})
	}
}

// Who is interrupted goes on with what it has, even if another state is offered.
func TestInterruptionsThrowNothingAway(t *testing.T) {
	for name, interrupt := range map[string]func() error{
		"busy":       func() error { return &transport.RefusedError{Reason: "busy: as many peers as this node serves"} },
		"no answers": func() error { return transport.ErrNotConnected },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := newJoining(t, 3, 2)
				var since atomic.Pointer[time.Time]
				var chunks atomic.Int32
				for _, peer := range j.network.Peers() {
					j.network.tamper[peer] = func(_ context.Context, service uint8, answer []byte, err error) ([]byte, error) {
						if service != statesync.ServiceChunk || chunks.Add(1) < 20 {
							return answer, err
						}
						now := time.Now()
						since.CompareAndSwap(nil, &now)
						if now.Sub(*since.Load()) < 70*time.Second {
							return nil, interrupt()
						}
						return answer, err
					}
				}
				j.checkResult(t, j.join(t), 3)
				if j.sink.resets != 1 {
					t.Errorf("%d states were begun", j.sink.resets)
				}
			})
		})
	}
}

func TestSilentPeerIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJoining(t, 3, 2)
		mute := j.network.Peers()[0]
		j.network.tamper[mute] = func(ctx context.Context, service uint8, answer []byte, err error) ([]byte, error) {
			if service == statesync.ServiceChunk {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return answer, err
		}
		began := time.Now()
		j.checkResult(t, j.join(t), 3)
		if took := time.Since(began); took > 2*time.Minute {
			t.Errorf("it took %v", took)
		}
		if len(j.network.blocked) != 0 {
			t.Errorf("blocked are %v", j.network.blocked)
		}
	})
}

func TestJoinGoesOnAfterAKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJoining(t, 3, 2)
		j.sink.failAt = 4
		if _, err := statesync.Join(t.Context(), j.config()); !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		before := len(j.sink.leaves)
		j.sink.failAt = 0
		j.checkResult(t, j.join(t), 3)
		if before == 0 || j.sink.puts > 4+8 {
			t.Errorf("%d leaves before the kill, %d chunks in all", before, j.sink.puts)
		}
	})
}

// A state that fits into one chunk takes no more requests than may be under way.
func TestSmallStateTakesFewRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJoining(t, 1, 3)
		j.grow(40)
		var chunks atomic.Int32
		for _, id := range j.network.Peers() {
			j.network.tamper[id] = func(_ context.Context, service uint8, answer []byte, err error) ([]byte, error) {
				if service == statesync.ServiceChunk {
					chunks.Add(1)
				}
				return answer, err
			}
		}
		j.checkResult(t, j.join(t), 2)
		if n := chunks.Load(); n > 2*3+1 {
			t.Errorf("%d chunks", n)
		}
	})
}

// Peers that no longer keep a state are asked for what they keep now, as often as it
// happens: that is no fault, for which they were left alone for longer and longer.
// One that lets every request wait meanwhile does not hold the others up for long.
func TestStatesThatGoQuicklyDoNotTireThePeers(t *testing.T) {
	for name, c := range map[string]struct {
		gone  int // how often a peer is asked what it offers until it keeps the state
		hangs bool
		most  time.Duration
	}{
		"often":                     {gone: 8, most: 3 * time.Second},
		"once, and one peer hangs":  {gone: 3, hangs: true, most: 12 * time.Second},
		"never, and one peer hangs": {hangs: true, most: 6 * time.Second}, // it has a part of the state to give
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := newJoining(t, 1, 3)
				slow := j.network.Peers()[1]
				asked := map[crypto.PublicKey]int{}
				var mu sync.Mutex
				for _, id := range j.network.Peers() {
					j.network.tamper[id] = func(ctx context.Context, service uint8, answer []byte, err error) ([]byte, error) {
						mu.Lock()
						if service == statesync.ServiceEnds {
							asked[id]++
						}
						gone := asked[id] < c.gone
						mu.Unlock()
						switch {
						case service != statesync.ServiceChunk:
						case id == slow && c.hangs:
							<-ctx.Done()
							return nil, ctx.Err()
						case gone:
							return nil, &transport.RefusedError{Reason: "the state before block 10: not kept"}
						}
						return answer, err
					}
				}
				began := time.Now()
				j.checkResult(t, j.join(t), 1)
				if took := time.Since(began); took > c.most {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

// While a state is fetched the epochs go on and it is no longer kept: a later one
// is taken.
func TestStateThatIsNoLongerKeptIsReplacedByALaterOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJoining(t, 3, 2)
		j.grow(20_000) // many more chunks than are asked for at a time
		var chunks atomic.Int32
		for _, id := range j.network.Peers() {
			j.network.tamper[id] = func(_ context.Context, service uint8, answer []byte, err error) ([]byte, error) {
				if service == statesync.ServiceChunk && chunks.Add(1) == 3 {
					j.grow(100)
					j.grow(200)
				}
				return answer, err
			}
		}
		j.checkResult(t, j.join(t), 6)
		if j.sink.resets < 2 {
			t.Error("the state that was no longer kept had been fetched before")
		}
	})
}

func TestPeerThatComesLateIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJoining(t, 3, 0)
		time.AfterFunc(5*time.Second, func() {
			j.network.mu.Lock()
			defer j.network.mu.Unlock()
			j.network.add(0, j.history)
		})
		j.checkResult(t, j.join(t), 3)
	})
}

func TestWrongCheckpointIsRefusedInBoundedTime(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*light.Checkpoint)
		peers  int
		want   []string
	}{
		"a digest that nobody has": {func(x *light.Checkpoint) { x.Digest[0] ^= 1 }, 3, []string{"no peer confirms the checkpoint", "3 peers were asked", "the checkpoint names"}},
		"an epoch to come":         {func(x *light.Checkpoint) { x.Epoch = 77 }, 3, []string{"no peer confirms the checkpoint", "does not know how epoch 77 ended"}},
		"no peers":                 {func(*light.Checkpoint) {}, 0, []string{"no peer was reached"}},
		"another chain":            {func(x *light.Checkpoint) { x.ChainID = "elsewhere" }, 3, []string{"the checkpoint is of chain \"elsewhere\""}},
		"too old":                  {func(x *light.Checkpoint) { x.TimeMs -= 22 * 24 * 3600 * 1000 }, 3, []string{"too old", "stake unbonds in 504h"}},
		"a committee of its own":   {func(x *light.Checkpoint) { x.NextCommittee[0] ^= 1 }, 3, []string{"contradicts itself"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := newJoining(t, 2, c.peers)
				config := j.config()
				c.change(&config.Checkpoint)
				began := time.Now()
				_, err := statesync.Join(t.Context(), config)
				for _, want := range c.want {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("%v, want %q in it", err, want)
					}
				}
				if took := time.Since(began); took > time.Minute {
					t.Errorf("it took %v", took)
				}
				if len(j.network.blocked) != 0 {
					t.Errorf("blocked for another opinion: %v", j.network.blocked)
				}
			})
		})
	}
}

func TestJoinEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJoining(t, 2, 0)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if _, err := statesync.Join(ctx, j.config()); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

// A server gives one peer its bytes at a bounded rate, and forgets peers that
// are gone.
func TestServerBoundsWhatItGives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t, 1)
		mesh := statesync.NewServer(h, slog.New(slog.DiscardHandler)).Mesh()
		var chunk transport.Service
		for _, s := range mesh.Services {
			if s.ID == statesync.ServiceChunk {
				chunk = s
			}
		}
		request := statesync.ChunkRequest(10, 0)
		began, sent := time.Now(), 0
		for sent < 120<<20 {
			answer, err := chunk.Respond(t.Context(), peerID(1), request)
			if err != nil {
				t.Fatal(err)
			}
			sent += len(answer)
		}
		if rate := float64(sent-8<<20) / time.Since(began).Seconds(); rate > 1.1*statesync.PeerBytesPerSecond {
			t.Errorf("%d bytes in %v", sent, time.Since(began))
		}
		for i := range 200 {
			if _, err := chunk.Respond(t.Context(), peerID(i), request); err != nil {
				if !strings.Contains(err.Error(), "as many peers as this node serves") {
					t.Fatal(err)
				}
				time.Sleep(time.Minute) // on the fake clock: the earlier ones are idle by then
				if _, err := chunk.Respond(t.Context(), peerID(i), request); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// busy counts the chunks that are made of it.
type busy struct {
	*history
	made atomic.Int32
}

func (b *busy) Tree(height chain.Height) (*state.Tree, bool, error) {
	b.made.Add(1)
	return b.history.Tree(height)
}

// Work for somebody who asks and goes away counts as if it had been taken.
func TestServerBoundsWhatItMakesInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &busy{history: newHistory(t, 1)}
		var chunk transport.Service
		for _, s := range statesync.NewServer(source, slog.New(slog.DiscardHandler)).Mesh().Services {
			if s.ID == statesync.ServiceChunk {
				chunk = s
			}
		}
		var request, largest []byte
		for i := range 64 {
			answer, err := chunk.Respond(t.Context(), peerID(0), statesync.ChunkRequest(10, i))
			if err != nil {
				t.Fatal(err)
			}
			if len(answer) > len(largest) {
				request, largest = statesync.ChunkRequest(10, i), answer
			}
		}
		source.made.Store(0)
		const seconds = 2
		for range 500 * seconds {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			if _, err := chunk.Respond(ctx, peerID(1), request); err == nil && ctx.Err() != nil {
				t.Error("an answer comes too late")
			}
			cancel()
			time.Sleep(time.Millisecond)
		}
		if most := (8<<20+seconds*statesync.PeerBytesPerSecond)/len(largest) + 4; int(source.made.Load()) > most {
			t.Errorf("%d chunks of %d bytes were made in %d seconds, want at most %d", source.made.Load(), len(largest), seconds, most)
		}
	})
}

// slow is a source whose chunks take some time to make.
type slow struct {
	*history
	took time.Duration
	at   atomic.Int32
}

func (s *slow) Tree(height chain.Height) (*state.Tree, bool, error) {
	if s.at.Add(1) > 1 {
		return nil, false, errors.New("two at a time")
	}
	defer s.at.Add(-1)
	time.Sleep(s.took)
	return s.history.Tree(height)
}

// Chunks are made one at a time, with as long a rest after each as it took: whoever
// asks, half of a core is left for blocks.
func TestServerRestsBetweenChunks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &slow{history: newHistory(t, 1), took: 20 * time.Millisecond}
		var chunk transport.Service
		for _, s := range statesync.NewServer(source, slog.New(slog.DiscardHandler)).Mesh().Services {
			if s.ID == statesync.ServiceChunk {
				chunk = s
			}
		}
		began := time.Now()
		const peers, each = 5, 4
		var wg sync.WaitGroup
		for p := range peers {
			wg.Go(func() {
				for i := range each {
					if _, err := chunk.Respond(t.Context(), peerID(p), statesync.ChunkRequest(10, i)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		const chunks = peers * each
		if took := time.Since(began); took < (2*chunks-1)*source.took || took > 2*chunks*source.took {
			t.Errorf("%d chunks took %v, each %v", chunks, took, source.took)
		}
	})
}

func TestServerRefusesBadRequests(t *testing.T) {
	h := newHistory(t, 3)
	for _, s := range statesync.NewServer(h, slog.New(slog.DiscardHandler)).Mesh().Services {
		for _, request := range [][]byte{nil, []byte("rubbish"), statesync.ChunkRequest(10, 5), statesync.ChunkRequest(90, 5)} {
			if answer, err := s.Respond(t.Context(), peerID(0), request); err == nil {
				t.Errorf("%s: %x is answered with %d bytes", s.Name, request, len(answer))
			}
		}
	}
}

func FuzzAnswers(f *testing.F) {
	h := newHistory(f, 1)
	for _, s := range statesync.NewServer(h, slog.New(slog.DiscardHandler)).Mesh().Services {
		for _, request := range [][]byte{statesync.EndsRequest(1), statesync.ChunkRequest(10, 5), statesync.ProofRequest(10)} {
			if answer, err := s.Respond(f.Context(), peerID(0), request); err == nil {
				f.Add(answer)
			}
		}
	}
	root := h.epochs[0].tree.Root()
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := statesync.DecodeEnds(raw); err == nil && len(raw) > 1<<20 {
			t.Fatal("an answer beyond its bound is read")
		}
		leaves, honest, err := statesync.DecodeChunk(raw, root)
		if err == nil && !honest(h.epochs[0].tree) {
			t.Fatalf("%d leaves were forged", leaves)
		}
	})
}
