package statesync_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/statesync"
	"github.com/hypermesh/hypermesh/internal/transport"
)

// checkBegin checks that everything of a block within an epoch was fetched.
func (j *joining) checkBegin(t *testing.T, result statesync.Result, height chain.Height) {
	t.Helper()
	j.whole(j.sink, height)
	h, err := result.Block.Header().Header()
	if err != nil || h.Height != height {
		t.Fatalf("it begins with block %d, want %d: %v", h.Height, height, err)
	}
	last := result.Ends[len(result.Ends)-1].Closing
	if len(result.Ends) != int(h.Epoch)-j.from || last.Height() > height || int(last.Height()) != 10*int(h.Epoch-1) {
		t.Errorf("%d ends, the last closes at %d", len(result.Ends), last.Height())
	}
	b, _ := j.point(height)
	if string(result.Certificate) != string(b.proof.Certificate) || string(result.Raw) != string(b.block) {
		t.Error("another block or certificate is returned")
	}
}

func TestJoinBeginsWithinAnEpoch(t *testing.T) {
	for name, from := range map[string]int{"from an earlier epoch": 1, "from the last end": 3} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := newJoining(t, 3, 3)
				j.from = from
				j.goOn(5, 3000)
				j.checkBegin(t, j.join(t), 35)
			})
		})
	}
}

// A joiner that is killed half-way through a state within an epoch goes on with it.
func TestJoinWithinAnEpochGoesOnAfterAKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJoining(t, 2, 2)
		j.goOn(4, 3000)
		j.sink.failAt = 4
		if _, err := statesync.Join(t.Context(), j.config()); !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		before := len(j.sink.leaves)
		j.sink.failAt = 0
		j.checkBegin(t, j.join(t), 24)
		if before == 0 || j.sink.resets != 1 {
			t.Errorf("%d leaves before the kill, %d states begun", before, j.sink.resets)
		}
	})
}

// What does not prove a block is refused by name, and the peer that sent it blocked;
// what may become true is not held against the peer.
func TestProofsThatDoNotHold(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(j *joining, e *light.Evidence)
		want    string
		blocked int
	}{
		"another block's":     {func(j *joining, e *light.Evidence) { *e = j.points[2].proof }, "is of block 23", 1},
		"a forged header":     {func(_ *joining, e *light.Evidence) { e.Header[len(e.Header)/2] ^= 1 }, "proof of block 25", 1},
		"a forged path":       {func(_ *joining, e *light.Evidence) { e.Path[1][len(e.Path[1])/2] ^= 1 }, "proof of block 25", 1},
		"an endless path":     {func(_ *joining, e *light.Evidence) { e.Path = slices.Repeat(e.Path, light.MaxPath) }, "limit", 1},
		"no path":             {func(_ *joining, e *light.Evidence) { e.Path = nil }, "the certificate finalizes", 1},
		"a forged signature":  {func(_ *joining, e *light.Evidence) { e.Certificate[len(e.Certificate)-1] ^= 1 }, "proof of block 25", 1},
		"nothing":             {func(_ *joining, e *light.Evidence) { *e = light.Evidence{} }, "proof of block 25", 1},
		"of an epoch to come": {func(j *joining, e *light.Evidence) { *e = j.ahead() }, "ahead of what was followed", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := newJoining(t, 2, 2)
				j.goOn(3, 100)
				j.goOn(5, 3000)
				liar := j.network.Peers()[0]
				j.network.tamper[liar] = func(_ context.Context, service uint8, answer []byte, err error) ([]byte, error) {
					if service == statesync.ServiceProof {
						return statesync.WithProof(answer, func(e *light.Evidence) { c.change(j, e) }), err
					}
					return answer, err
				}
				j.checkBegin(t, j.join(t), 25)
				if len(j.network.blocked) != c.blocked {
					t.Errorf("blocked are %v", j.network.blocked)
				}
				if text := j.log.String(); c.blocked > 0 && (!strings.Contains(text, c.want) || !strings.Contains(text, liar.String())) {
					t.Errorf("the log does not name the liar and %q:\n%s", c.want, text)
				}
			})
		})
	}
}

// ahead proves a block of an epoch whose committee the joiner does not know.
func (h *history) ahead() light.Evidence {
	h.Helper()
	header := chain.Header{Version: chain.BlockVersion, ChainID: testChain, Height: 95, Epoch: 9, View: 3, Committee: h.committee(9).Digest()}
	return light.Evidence{Header: header.Encode(), Certificate: h.certify(&header)}
}

// choosing is a peer that serves some points only.
type choosing struct {
	*history
	heights []chain.Height
}

func (c *choosing) Offers() ([]chain.Height, error) { return c.heights, nil }

func (c *choosing) Tree(height chain.Height) (*state.Tree, bool, error) {
	if !slices.Contains(c.heights, height) {
		return nil, false, nil
	}
	return c.history.Tree(height)
}

// Peers need not agree: what most of them offer is fetched from all of those, and
// what one alone offers if nobody else offers anything.
func TestPeersThatOfferDifferentPoints(t *testing.T) {
	for name, c := range map[string]struct {
		offers [][]chain.Height
		want   chain.Height
	}{
		"most agree":            {[][]chain.Height{{27}, {25}, {25}}, 25},
		"all differ":            {[][]chain.Height{{23}, {27}, {25}}, 27},
		"an archive among them": {[][]chain.Height{{27, 25, 23}, {23}, {25}}, 25},
		"one alone":             {[][]chain.Height{nil, nil, {23}}, 23},
		"from before":           {[][]chain.Height{{5}, {5}, {23}}, 23},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := newJoining(t, 2, 0)
				j.kept = 9
				for _, blocks := range []int{3, 5, 7} {
					j.goOn(blocks, 1000)
				}
				for i, heights := range c.offers {
					j.network.add(i, &choosing{j.history, heights})
				}
				j.checkBegin(t, j.join(t), c.want)
				if len(j.network.blocked) > 0 {
					t.Errorf("blocked are %v", j.network.blocked)
				}
			})
		})
	}
}

// A peer that offers one block after another, each of which is final, and gives no
// state, costs a moment: it is believed less than one whose state was not asked for.
func TestOffersInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJoining(t, 2, 0)
		j.kept = 99
		for blocks := 2; blocks < 10; blocks++ {
			j.goOn(blocks, 200)
		}
		j.network.add(0, &choosing{j.history, []chain.Height{22}})
		j.network.add(1, j.history)
		var mu sync.Mutex
		asked := 2
		j.network.tamper[peerID(1)] = func(_ context.Context, service uint8, answer []byte, err error) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			switch service {
			case statesync.ServiceEnds:
				asked = min(asked+1, 9)
				return statesync.WithOffers(answer, chain.Height(20+asked)), err
			case statesync.ServiceChunk:
				return nil, &transport.RefusedError{Reason: "not kept"}
			}
			return answer, err
		}
		began := time.Now()
		j.checkBegin(t, j.join(t), 22)
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}
