package devnet

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
	"github.com/hypermesh/hypermesh/wallet"
)

// BenchOptions say how a network is loaded with transfers.
type BenchOptions struct {
	RPC     []string // URLs of nodes; senders are spread over them
	Rate    int      // transfers per second, 1 to 50,000
	Seconds int      // 1 to 600
	Senders int      // accounts that send; 0: chosen by the rate
}

// Check returns an error that names the first option out of range.
func (o *BenchOptions) Check() error {
	switch {
	case len(o.RPC) == 0:
		return errors.New("rpc is empty")
	case o.Rate < 1 || o.Rate > 50_000:
		return fmt.Errorf("rate is %d, want 1 to 50000", o.Rate)
	case o.Seconds < 1 || o.Seconds > 600:
		return fmt.Errorf("seconds is %d, want 1 to 600", o.Seconds)
	case o.Senders < 0 || o.Senders > maxSenders:
		return fmt.Errorf("senders is %d, want 0 to %d", o.Senders, maxSenders)
	}
	return nil
}

// Percentiles of a distribution, in milliseconds.
type Percentiles struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// BenchResult is what a load of transfers measured.
type BenchResult struct {
	OfferedPerSecond   float64     `json:"offered_per_s"`
	CommittedPerSecond float64     `json:"committed_per_s"` // finalized inside the window ÷ seconds
	Rejected           int         `json:"rejected"`        // by a node or by the chain
	Finality           Percentiles `json:"finality_ms"`     // from submission to the finalized event
	BlockInterval      Percentiles `json:"block_interval_ms"`
	Seconds            int         `json:"seconds"`
}

const (
	maxSenders   = 4_096
	benchTick    = 10 * time.Millisecond
	benchDrain   = 10 * time.Second // after the window, for what is under way
	maxInFlight  = 256              // submissions
	benchFunding = 10_000_000       // nHYPER a transfer, for its fee and amount
	benchGas     = 10_000
	benchMaxFee  = 1_000 // nHYPER per gas
)

// bench is one run.
type bench struct {
	options BenchOptions
	clients []*sdk.Client
	status  api.Status
	senders []crypto.PrivateKey

	sent     []time.Time // by transfer: when it was submitted; guarded by mu
	index    map[chain.TxID]int
	raws     [][]byte
	rejected atomic.Int64
	offered  atomic.Int64

	mu       sync.Mutex
	finality []float64 // ms
	within   int       // finalized inside the window
	blocks   []float64 // block times inside the window, ms
	seen     int
	began    time.Time
}

// BenchTransfers loads a network with transfers from many accounts, all signed
// before the clock starts.
func BenchTransfers(ctx context.Context, o BenchOptions, progress Progress) (BenchResult, error) {
	if err := o.Check(); err != nil {
		return BenchResult{}, err
	}
	b := &bench{options: o}
	for _, url := range o.RPC {
		client, err := sdk.New(sdk.Config{Nodes: []string{url}, Attempts: 1})
		if err != nil {
			return BenchResult{}, err
		}
		b.clients = append(b.clients, client)
	}
	var err error
	if b.status, err = b.clients[0].Status(ctx); err != nil {
		return BenchResult{}, fmt.Errorf("asking %s: %w", o.RPC[0], err)
	}
	progress("funding the senders", 0)
	if err := b.fund(ctx); err != nil {
		return BenchResult{}, fmt.Errorf("funding the senders: %w", err)
	}
	progress("signing the transfers", 0.1)
	if err := b.sign(); err != nil {
		return BenchResult{}, err
	}
	progress("sending", 0.3)
	return b.run(ctx)
}

// fund pays every sender out of the faucet, through one account that fans out.
func (b *bench) fund(ctx context.Context) error {
	n := b.options.Senders
	if n == 0 {
		n = min(max(b.options.Rate/8, 32), 1_024)
	}
	each := uint64(b.options.Rate*b.options.Seconds/n+1) * benchFunding
	master := wallet.NewAccount("bench", crypto.GenerateKey())
	total := chain.Nano(each*uint64(n) + chain.NanoPerHyper)
	if _, err := b.clients[0].Faucet(ctx, master.Address(), total); err != nil {
		return err
	}
	for {
		account, err := b.clients[0].Account(ctx, master.Address())
		if err != nil {
			return err
		}
		if !account.Balance.IsZero() {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	builder := b.clients[0].NewBuilder(master, sdk.BuilderOptions{ExpiryHeights: 50_000})
	var messages []chain.Msg
	for i := range n {
		key := crypto.GenerateKey()
		b.senders = append(b.senders, key)
		messages = append(messages, chain.Transfer{To: chain.AddressOf(crypto.AccountKeyOf(key.Public())), Amount: chain.Nano(each)})
		if len(messages) < chain.MaxMessages && i < n-1 {
			continue
		}
		send := builder.Send
		if i == n-1 || (i/chain.MaxMessages)%32 == 31 { // stay below the nonce window
			send = func(ctx context.Context, messages ...chain.Msg) (sdk.Sent, error) {
				_, err := builder.SendAndWait(ctx, messages...)
				return sdk.Sent{}, err
			}
		}
		if _, err := send(ctx, messages...); err != nil {
			return err
		}
		messages = nil
	}
	return nil
}

// sign makes every transfer of the run: transfer i is the (i / senders)-th of
// sender i mod senders.
func (b *bench) sign() error {
	total := b.options.Rate * b.options.Seconds
	b.raws, b.sent, b.index = make([][]byte, total), make([]time.Time, total), make(map[chain.TxID]int, total)
	ids, errs := make([]chain.TxID, total), make([]error, total)
	to := chain.ModuleAddress("bench")
	crypto.ForkJoin(total, runtime.GOMAXPROCS(0), func(i int) {
		signer := wallet.NewAccount("sender", b.senders[i%len(b.senders)])
		tx, err := chain.SignTx(chain.TxBody{
			ChainID: b.status.ChainID, Sender: signer.Address(), Nonce: uint64(i / len(b.senders)), Expiry: b.status.Height + 90_000,
			GasLimit: chain.GasUnits(benchGas), MaxFee: chain.PricePerGas(min(benchMaxFee, 100*b.status.BaseFee.Nano())),
			Messages: chain.Msgs{chain.Transfer{To: to, Amount: chain.Nano(1)}},
		}, signer)
		b.raws[i] = tx.Encode()
		ids[i], errs[i] = crypto.DomainTxID.Hash(b.raws[i]), err
	})
	for i, id := range ids {
		b.index[id] = i
	}
	return errors.Join(errs...)
}

// run sends at the rate, listens, and measures.
func (b *bench) run(ctx context.Context) (BenchResult, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	status, err := b.clients[0].Status(ctx)
	if err != nil {
		return BenchResult{}, err
	}
	listened := make(chan error, 1)
	window := time.Duration(b.options.Seconds) * time.Second
	b.began = time.Now()
	go func() { listened <- b.listen(ctx, api.CursorAfter(status.Height), window) }()
	if err := b.send(ctx); err != nil {
		return BenchResult{}, err
	}
	select {
	case err := <-listened:
		if err != nil {
			return BenchResult{}, fmt.Errorf("listening: %w", err)
		}
	case <-time.After(benchDrain + window - time.Since(b.began)):
		cancel() // what is not final counts as not committed
		if err := <-listened; err != nil {
			return BenchResult{}, fmt.Errorf("listening: %w", err)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	intervals := make([]float64, 0, len(b.blocks))
	for i := 1; i < len(b.blocks); i++ {
		intervals = append(intervals, b.blocks[i]-b.blocks[i-1])
	}
	seconds := float64(b.options.Seconds)
	return BenchResult{
		OfferedPerSecond: float64(b.offered.Load()) / seconds, CommittedPerSecond: float64(b.within) / seconds, Rejected: int(b.rejected.Load()),
		Finality: percentiles(b.finality), BlockInterval: percentiles(intervals), Seconds: b.options.Seconds,
	}, nil
}

// send submits each tick's share of the transfers. A sender's transfers all go
// to one node, in their order.
func (b *bench) send(ctx context.Context) error {
	ticker := time.NewTicker(benchTick)
	defer ticker.Stop()
	slots := make(chan struct{}, maxInFlight)
	var wg sync.WaitGroup
	defer wg.Wait()
	next := 0
	for next < len(b.raws) {
		due := min(len(b.raws), int(time.Since(b.began).Seconds()*float64(b.options.Rate)))
		if time.Since(b.began) > time.Duration(b.options.Seconds)*time.Second {
			break // what could not be offered in the window is not offered
		}
		shares := make([][]int, len(b.clients))
		for ; next < due; next++ {
			node := next % len(b.senders) % len(b.clients)
			shares[node] = append(shares[node], next)
		}
		for node, share := range shares {
			for part := range slices.Chunk(share, chain.MaxBatchTxs) {
				slots <- struct{}{}
				wg.Go(func() {
					b.submit(ctx, b.clients[node], part)
					<-slots
				})
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (b *bench) submit(ctx context.Context, client *sdk.Client, part []int) {
	raws := make([][]byte, len(part))
	now := time.Now()
	b.mu.Lock()
	for i, k := range part {
		raws[i], b.sent[k] = b.raws[k], now
	}
	b.mu.Unlock()
	b.offered.Add(int64(len(part)))
	verdicts, err := client.SubmitRaw(ctx, raws)
	if err != nil {
		b.rejected.Add(int64(len(part)))
		return
	}
	for _, v := range verdicts {
		if !v.Accepted {
			b.rejected.Add(1)
		}
	}
}

// listen follows the finalized events until all transfers are final.
func (b *bench) listen(ctx context.Context, from api.Cursor, window time.Duration) error {
	client := b.clients[len(b.clients)-1]
	for event, err := range client.Events(ctx, sdk.EventFilter{Cursor: &from, Types: []string{api.EventTx, api.EventBlock}}) {
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if b.note(event, time.Now(), window) {
			return nil
		}
	}
	return nil
}

// note counts one event, and reports whether it was the last.
func (b *bench) note(event api.StreamEvent, now time.Time, window time.Duration) (last bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	inside := now.Sub(b.began) <= window
	if event.Type == api.EventBlock {
		if inside {
			b.blocks = append(b.blocks, float64(event.TimeMs))
		}
		return false
	}
	k, ours := b.index[event.TxID]
	if !ours {
		return false
	}
	b.seen++
	b.finality = append(b.finality, float64(now.Sub(b.sent[k]).Microseconds())/1_000)
	if inside {
		b.within++
	}
	return b.seen == len(b.raws)
}

// percentiles returns the median and the 99th percentile by nearest rank.
func percentiles(values []float64) Percentiles {
	if len(values) == 0 {
		return Percentiles{}
	}
	slices.Sort(values)
	at := func(p float64) float64 {
		rank := int(math.Ceil(p*float64(len(values)))) - 1
		return math.Round(values[max(rank, 0)]*10) / 10
	}
	return Percentiles{P50: at(0.50), P99: at(0.99)}
}
