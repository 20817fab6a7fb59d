package devnet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
	"github.com/hypermesh/hypermesh/wallet"
)

const (
	maxAccounts   = 20_000_000
	prefillGas    = benchGas * chain.MaxMessages // of one transaction that makes accounts
	prefillAmount = 1                            // nHYPER an account
	prefillChecks = 64                           // senders that are asked for after each round
	prefillWait   = 5 * time.Minute              // for one round
)

// receiver returns the i-th of the accounts that transfers may go to beside the
// senders. Nobody has its key.
func receiver(i uint64) chain.Address {
	return chain.Address(crypto.DomainAddress.Hash(binary.BigEndian.AppendUint64([]byte("bench receiver"), i)))
}

// scattered maps 0, 1, 2 … to numbers below n as random ones would fall
// (splitmix64: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number
// Generators", 2014).
func scattered(i, n uint64) uint64 {
	z := (i + 1) * 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return (z ^ z>>31) % n
}

// to returns whom transfer i goes to: another sender each time, or one of the
// accounts that were made for it.
func (b *bench) to(i int) chain.Address {
	if n := uint64(b.options.Accounts); n > 0 {
		return receiver(scattered(uint64(i), n))
	}
	return b.senders[partner(i, len(b.senders))].Address()
}

// partner returns which of n senders transfer i goes to.
func partner(i, n int) int { return (i + 1 + i/n) % n }

// rounds is how many transactions each of n senders sends to make the accounts.
func (o *BenchOptions) rounds(n int) int {
	return (o.Accounts + n*chain.MaxMessages - 1) / (n * chain.MaxMessages)
}

// prefill makes the accounts, each by a transfer, in rounds of a transaction a
// sender.
func (b *bench) prefill(ctx context.Context, progress Progress) error {
	rounds := b.options.rounds(len(b.senders))
	for round := range rounds {
		progress(fmt.Sprintf("making %d accounts", b.options.Accounts), 0.1*float64(round)/float64(rounds))
		raws, err := b.prefillRound(ctx, round)
		if err != nil {
			return err
		}
		if err := b.submitAll(ctx, raws); err != nil {
			return err
		}
		every := max(len(raws)/prefillChecks, 1)
		if round == rounds-1 {
			every = 1
		}
		if err := b.await(ctx, uint64(round+1), len(raws), every); err != nil {
			return err
		}
	}
	b.nonce = uint64(rounds)
	return nil
}

// prefillRound signs the transactions of one round, the k-th by sender k. Those of
// the last round that have no more accounts to make pay the first ones again.
func (b *bench) prefillRound(ctx context.Context, round int) ([][]byte, error) {
	status, err := b.clients[0].Status(ctx)
	if err != nil {
		return nil, err
	}
	raws, errs := make([][]byte, len(b.senders)), make([]error, len(b.senders))
	crypto.ForkJoin(len(b.senders), runtime.GOMAXPROCS(0), func(k int) {
		first := (round*len(b.senders) + k) * chain.MaxMessages
		messages := make(chain.Msgs, chain.MaxMessages)
		for m := range messages {
			messages[m] = chain.Transfer{To: receiver(uint64(first+m) % uint64(b.options.Accounts)), Amount: chain.Nano(prefillAmount)}
		}
		raws[k], errs[k] = b.signed(b.senders[k], chain.TxBody{
			Nonce: b.used[k] + uint64(round), Expiry: status.Height + 50_000, GasLimit: chain.GasUnits(prefillGas), Messages: messages,
		})
	})
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return raws, nil
}

// signed fills in what all transactions of the bench have in common and signs.
func (b *bench) signed(signer wallet.Account, body chain.TxBody) ([]byte, error) {
	body.ChainID, body.Sender = b.status.ChainID, signer.Address()
	body.MaxFee = chain.PricePerGas(min(benchMaxFee, 100*b.status.BaseFee.Nano()))
	tx, err := chain.SignTx(body, signer)
	return tx.Encode(), err
}

// submitAll submits transactions, those of a sender to its node.
func (b *bench) submitAll(ctx context.Context, raws [][]byte) error {
	shares := make([][][]byte, len(b.clients))
	for k, raw := range raws {
		shares[k%len(shares)] = append(shares[k%len(shares)], raw)
	}
	errs := make([]error, len(shares))
	var wg sync.WaitGroup
	for node, share := range shares {
		wg.Go(func() {
			errs[node] = submitWhole(ctx, b.clients[node], share)
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// submitWhole submits transactions of as many senders until all are accepted: those
// that a node has no room for come again. No other may be refused.
func submitWhole(ctx context.Context, client *sdk.Client, raws [][]byte) error {
	ctx, cancel := context.WithTimeout(ctx, prefillWait)
	defer cancel()
	for len(raws) > 0 {
		part := raws[:min(len(raws), chain.MaxBatchTxs)]
		verdicts, err := client.SubmitRaw(ctx, part)
		problem, refused := errors.AsType[*api.Problem](err)
		full := refused && problem.Status == http.StatusServiceUnavailable
		if err != nil && !full {
			return err
		}
		var later [][]byte
		for i, raw := range part {
			switch {
			case full || !verdicts[i].Accepted && strings.HasPrefix(verdicts[i].Reason, api.ReasonQueueFull):
				later = append(later, raw)
			case !verdicts[i].Accepted:
				return fmt.Errorf("a transaction was refused: %s", verdicts[i].Reason)
			}
		}
		raws = append(later, raws[len(part):]...)
		if len(later) == 0 {
			continue
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("%d transactions find no room: %w", len(raws), err)
		}
	}
	return nil
}

// await waits until every so-many-th of the first n senders has the nonce.
func (b *bench) await(ctx context.Context, nonce uint64, n, every int) error {
	ctx, cancel := context.WithTimeout(ctx, prefillWait)
	defer cancel()
	for k := 0; k < n; k += every {
		for {
			account, err := b.clients[k%len(b.clients)].Account(ctx, b.senders[k].Address())
			if err != nil {
				return fmt.Errorf("waiting for the transaction of sender %d: %w", k, err)
			}
			if uint64(account.Nonce) >= nonce {
				break
			}
			if err := pause(ctx, 50*time.Millisecond); err != nil {
				return fmt.Errorf("waiting for the transaction of sender %d: %w", k, err)
			}
		}
	}
	return nil
}
