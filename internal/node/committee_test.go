package node

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// possession shows that a key belongs to a user.
func possession(key crypto.PrivateKey, owner int) crypto.Signature {
	return key.Sign(crypto.DomainPossession, chain.PossessionPayload(testChain, user(owner).address()))
}

// load keeps one transfer after the other under way through node 0, until the
// context ends, and returns how many were final and the longest time between two
// blocks.
func (l *loopback) load(ctx context.Context) (transfers uint64, stall time.Duration) {
	m, last := l.members[0], time.Now()
	tx := transfer(l, 1, 0, user(70).address())
	for {
		if reasons, err := m.Submit(ctx, []chain.DecodedTx{tx}); err != nil || reasons[0] != "" {
			l.Errorf("transfer %d: %v %v", transfers, reasons, err)
			return transfers, stall
		}
		for included := false; !included; {
			_, higher := m.Finalized()
			found, err := m.Tx(ctx, tx.ID())
			if included = err == nil && found.Status == api.TxIncluded; included {
				break
			}
			select {
			case <-ctx.Done():
				return transfers, stall
			case <-higher:
				stall, last = max(stall, time.Since(last)), time.Now()
			}
		}
		transfers++
		tx = transfer(l, 1, transfers, user(70).address())
	}
}

// TestTheCommitteeChangesUnderLoad is one life story over real stores and short
// epochs: a validator joins by bonding, one rotates its key, one leaves, one loses
// its logs, and each but the first restarts.
func TestTheCommitteeChangesUnderLoad(t *testing.T) {
	g := shortEpochs(t)
	g.Params.MinSelfBond = chain.Hyper(100)
	for _, owner := range []int{62, 63} {
		if err := g.Give(chain.BucketCommunity, user(owner).address(), chain.Hyper(10)); err != nil {
			t.Fatal(err)
		}
	}
	l := newLoopbackOf(t, g)
	rotated := keyOf(102, 'c')
	l.keys = map[int][]crypto.PrivateKey{2: {rotated}, 4: {keyOf(4, 'c')}}
	l.start(0, 1, 2, 3, 4)
	l.members[0].reach(2)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		transfers, stall := l.load(ctx)
		t.Logf("%d transfers one after the other, at most %v without a block", transfers, stall.Round(time.Millisecond))
		if transfers == 0 || stall > 10*time.Second {
			t.Errorf("%d transfers, %v without a block", transfers, stall)
		}
	})
	bond := signedBy(t, 8, 0, chain.Bond{
		ConsensusKey: keyOf(4, 'c').Public(), Possession: possession(keyOf(4, 'c'), 8), NodeKey: keyOf(4, 't').Public(),
		NodePossession: possession(keyOf(4, 't'), 8), Name: "joins", Endpoint: l.members[4].listen, CommissionBps: 500, Amount: chain.Hyper(500),
	})
	nodeKey := keyOf(2, 't')
	rotate := signedBy(t, 62, 0, chain.RotateKeys{
		Validator: keyOf(2, 'c').Public(), ConsensusKey: rotated.Public(), Possession: possession(rotated, 62),
		NodeKey: nodeKey.Public(), NodePossession: possession(nodeKey, 62), Endpoint: "127.0.0.1:1",
	})
	leave := signedBy(t, 63, 0, chain.Undelegate{Validator: keyOf(3, 'c').Public()})
	l.members[1].submit(bond)
	l.members[2].submit(rotate)
	l.members[3].submit(leave)
	for _, tx := range []chain.DecodedTx{bond, rotate, leave} {
		l.members[0].has(tx.ID())
		found, err := l.members[0].Tx(t.Context(), tx.ID())
		if err != nil || !found.Receipt.Accepted() {
			t.Fatalf("%T: %+v %v", tx.Tx().Body.Messages[0], found.Receipt, err)
		}
	}
	changed := l.members[0].engine.Status().Epoch + 2
	for i := 4; i > 0; i-- {
		l.halt(i)
		if i == 1 {
			l.loseLogs(i)
		}
		l.start(i)
		l.members[i].epoch(l.members[0].engine.Status().Epoch)
	}
	for i, signs := range []bool{true, true, true, false, true} {
		l.members[i].epoch(changed + 1)
		l.members[i].signs(signs)
	}
	stop()
	wg.Wait()
	l.checkCommittee(changed+1, rotated.Public(), keyOf(4, 'c').Public())
	l.agree()
}

// loseLogs takes a halted member's consensus logs away.
func (l *loopback) loseLogs(i int) {
	l.Helper()
	d := Deps{Log: quiet(), Logs: l.logs(l.members[i])}
	epochs, err := d.Logs.Epochs()
	if err != nil || len(epochs) == 0 {
		l.Fatalf("no logs to lose: %v %v", epochs, err)
	}
	for _, epoch := range epochs {
		if err := d.Logs.Delete(epoch); err != nil {
			l.Fatal(err)
		}
	}
	if err := d.Logs.Close(); err != nil {
		l.Fatal(err)
	}
}

// checkCommittee compares what the API says of an epoch with who shall be in it.
func (l *loopback) checkCommittee(epoch consensus.Epoch, in ...crypto.PublicKey) {
	l.Helper()
	var status api.Status
	l.members[4].fetch("/v1/status", &status)
	if status.Epoch < uint64(epoch) || status.CommitteeSize != 4 || !status.Signs {
		l.Errorf("status of the one that joined: %+v", status)
	}
	var committee api.Validators
	l.members[0].fetch("/v1/validators", &committee)
	keys := map[crypto.PublicKey]bool{}
	for _, v := range committee.Validators {
		keys[v.ConsensusKey] = true
	}
	for _, key := range in {
		if !keys[key] {
			l.Errorf("%s is not in the committee of epoch %d", key.Short(), committee.Epoch)
		}
	}
	for _, i := range []int{2, 3} {
		if keys[keyOf(i, 'c').Public()] {
			l.Errorf("the old key of validator %d is in the committee of epoch %d", i, committee.Epoch)
		}
	}
}
