package statesync_test

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/statesync"
	"github.com/hypermesh/hypermesh/internal/transport"
)

// Most peers answer what is cheap, and are silent on one service. They are asked
// first, since they have chosen their keys. One honest peer is enough all the same.
func TestMostPeersAreSilent(t *testing.T) {
	const silent = 24
	for name, c := range map[string]struct {
		service uint8
		offers  []chain.Height // what they claim; nil: what the honest one does
		most    time.Duration
	}{
		"on chunks":                     {statesync.ServiceChunk, nil, 2 * time.Minute},
		"on proofs":                     {statesync.ServiceProof, nil, 10 * time.Second},
		"on proofs of blocks not there": {statesync.ServiceProof, []chain.Height{29, 28, 27, 26}, 40 * time.Second},
		"on the block":                  {statesync.ServiceBlock, nil, 40 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := newJoining(t, 2, silent+1)
				j.kept = 1
				j.goOn(5, 3000)
				peers := j.network.Peers()
				for _, peer := range peers[:silent] {
					j.network.tamper[peer] = func(ctx context.Context, service uint8, answer []byte, err error) ([]byte, error) {
						switch {
						case service == c.service:
							<-ctx.Done()
							return nil, context.Cause(ctx)
						case service == statesync.ServiceEnds && c.offers != nil:
							return statesync.WithOffers(answer, slices.Clone(c.offers)...), err
						}
						return answer, err
					}
				}
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
				defer cancel()
				result, err := statesync.Join(ctx, j.config())
				if err != nil {
					t.Fatal(err)
				}
				j.checkBegin(t, result, 25)
				if took := time.Since(began); took > c.most {
					t.Errorf("it took %v, want no more than %v", took, c.most)
				}
				if j.sink.resets != 1 {
					t.Errorf("%d states were begun", j.sink.resets)
				}
			})
		})
	}
}

// Answers of a few bytes cost the server more than these: their number is bounded too.
func TestServerBoundsHowOftenItSaysWhatItOffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t, 1)
		services := statesync.NewServer(h, slog.New(slog.DiscardHandler)).Mesh().Services
		i := slices.IndexFunc(services, func(s transport.Service) bool { return s.ID == statesync.ServiceEnds })
		request := codec.Marshal([]any{uint64(99)})
		began, asked := time.Now(), 0
		for time.Since(began) < 2*time.Second && asked < 100_000 {
			if _, err := services[i].Respond(t.Context(), peerID(1), request); err != nil {
				t.Fatal(err)
			}
			asked++
		}
		if asked > 2000 {
			t.Errorf("%d answers in %v", asked, time.Since(began))
		}
	})
}
