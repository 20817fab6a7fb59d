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
	// Accounts is how many accounts are made before the clock starts, each of which
	// transfers then go to as it falls; 0: the senders pay each other.
	Accounts int
	// Claims is how many claims each transaction settles in place of a transfer; 0: none.
	// All are plain ones, of an order each, under policy none.
	Claims int
	// Token is the code of a cw20 contract, whose tokens each transaction moves in place of
	// the chain's; nil: none. They go from sender to sender.
	Token []byte
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
	case o.Accounts < 0 || o.Accounts > maxAccounts:
		return fmt.Errorf("accounts is %d, want 0 to %d", o.Accounts, maxAccounts)
	case o.Claims < 0 || o.Claims > chain.MaxClaims:
		return fmt.Errorf("claims is %d, want 0 to %d", o.Claims, chain.MaxClaims)
	case o.Token != nil && (o.Claims > 0 || o.Accounts > 0):
		return errors.New("a token moves between the senders alone, and with no claims")
	}
	return nil
}

// gas returns what each transaction of the run may use.
func (o *BenchOptions) gas() chain.Gas {
	if o.Token != nil {
		return chain.GasUnits(tokenGas)
	}
	return chain.GasUnits(benchGas + uint64(o.Claims)*claimGas)
}

// funding returns what a sender needs for each transaction, in nHYPER: fee and amount.
func (o *BenchOptions) funding() uint64 {
	if o.Token != nil {
		return benchFunding * tokenFunding
	}
	return benchFunding * uint64(1+o.Claims*claimFunding)
}

// transactions returns how many the run offers.
func (o *BenchOptions) transactions() int { return o.Rate * (o.Seconds + int(leadIn/time.Second)) }

// inWindow reports whether a time since the run began is measured.
func (o *BenchOptions) inWindow(at time.Duration) bool {
	return at > leadIn && at <= leadIn+time.Duration(o.Seconds)*time.Second
}

// Percentiles of a distribution, in milliseconds.
type Percentiles struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// BenchResult is what a load of transfers measured. The load begins leadIn before the
// window, so that what is under way at the window's end is made up for by what was at
// its beginning: what a network keeps up with is committed at the rate of the offer.
type BenchResult struct {
	OfferedPerSecond   float64     `json:"offered_per_s"`
	CommittedPerSecond float64     `json:"committed_per_s"` // finalized inside the window ÷ seconds
	Finalized          int         `json:"finalized"`       // before, inside and after the window
	Rejected           int         `json:"rejected"`        // submissions by a node, transfers by the chain
	Failed             int         `json:"failed"`          // of those, rejected by the chain
	Finality           Percentiles `json:"finality_ms"`     // from the submission that was accepted to the finalized event
	BlockInterval      Percentiles `json:"block_interval_ms"`
	Seconds            int         `json:"seconds"`
	Claims             int         `json:"claims,omitzero"` // paid, of all that were finalized
}

const (
	maxSenders   = 100_000
	leadIn       = time.Second
	minTick      = 10 * time.Millisecond
	maxTick      = 500 * time.Millisecond
	bulkRate     = 2_000 // transfers a second, from which on they are submitted in bulk
	fullRequest  = chain.MaxBatchTxs
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
	master  wallet.Account // that pays the senders
	senders []wallet.Account
	nonce   uint64   // of every sender's first transfer, beside what it used before
	used    []uint64 // by sender: nonces, for a market

	raws    [][]byte
	sent    []time.Duration // by transfer: when it was submitted, the last time until it was accepted, since began; 0: not yet; guarded by mu
	taken   []bool          // by transfer: accepted by a node; guarded by mu
	waiting int             // how many that are; guarded by mu
	turn    []int           // by sender: how many of its transfers have had their turn; guarded by mu
	index   map[chain.TxID]int
	offered atomic.Int64 // inside the window
	refused atomic.Int64 // by a node
	began   time.Time

	mu     sync.Mutex
	blocks []seenBlock   // guarded by mu
	higher chan struct{} // holds a token when there are more

	finality []float64    // ms
	within   int          // finalized inside the window
	accepted int          // finalized and accepted, whenever
	failed   int          // final, and rejected by the chain
	paid     int          // claims
	market   market       // whom claims are of
	token    token        // whose transfers are offered
	read     chain.Height // up to which blocks were looked through
}

// seenBlock is a finalized block as the event stream told of it.
type seenBlock struct {
	height chain.Height
	timeMs chain.TimeMs
	at     time.Duration // since the bench began
}

// StageSending is the stage of the progress with which the clock starts, StageChecking the one
// with which a load that is checked has ended.
const (
	StageSending  = "sending"
	StageChecking = "checking the balances"
)

// BenchTransfers loads a network with transfers between many accounts, all
// signed before the clock starts.
func BenchTransfers(ctx context.Context, o BenchOptions, progress Progress) (BenchResult, error) {
	if err := o.Check(); err != nil {
		return BenchResult{}, err
	}
	b := &bench{options: o, master: wallet.NewAccount("bench", crypto.GenerateKey()), higher: make(chan struct{}, 1)}
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
	b.used = make([]uint64, len(b.senders))
	if o.Claims > 0 {
		progress("opening a market", 0.05)
		if err := b.openMarket(ctx); err != nil {
			return BenchResult{}, fmt.Errorf("opening a market: %w", err)
		}
	}
	if o.Token != nil {
		progress("giving out tokens", 0.05)
		if err := b.issue(ctx); err != nil {
			return BenchResult{}, fmt.Errorf("giving out tokens: %w", err)
		}
	}
	if err := b.prefill(ctx, progress); err != nil {
		return BenchResult{}, fmt.Errorf("making %d accounts: %w", o.Accounts, err)
	}
	progress("signing the transfers", 0.1)
	if err := b.sign(); err != nil {
		return BenchResult{}, err
	}
	progress(StageSending, 0.3)
	r, err := b.run(ctx)
	if err == nil && o.Token != nil {
		progress(StageChecking, 0.9)
		err = b.checkTokens(ctx)
	}
	return r, err
}

// fund pays every sender out of the faucet, through one account that fans out.
func (b *bench) fund(ctx context.Context) error {
	n := b.options.Senders
	if n == 0 {
		n = min(max(b.options.Rate/8, 32), 1_024)
	}
	each := uint64(b.options.transactions()/n+1)*b.options.funding() + marketFunding(&b.options) + uint64(b.options.rounds(n))*chain.MaxMessages*benchFunding
	total := chain.Nano(each*uint64(n) + uint64(n+1)*chain.NanoPerHyper/100 + issueFunding(&b.options)) // and the fees of fanning out
	if _, err := b.clients[0].Faucet(ctx, b.master.Address(), total); err != nil {
		return err
	}
	for {
		account, err := b.clients[0].Account(ctx, b.master.Address())
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
	for range n {
		b.senders = append(b.senders, wallet.NewAccount("sender", crypto.GenerateKey()))
	}
	return b.fanOut(ctx, sdk.BuilderOptions{ExpiryHeights: 50_000}, func(sender chain.Address) chain.Msg {
		return chain.Transfer{To: sender, Amount: chain.Nano(each)}
	})
}

// fanOut has the account that pays for the run send a message to every sender, and waits
// until the last has taken effect.
func (b *bench) fanOut(ctx context.Context, options sdk.BuilderOptions, message func(sender chain.Address) chain.Msg) error {
	builder := b.clients[0].NewBuilder(b.master, options)
	var messages []chain.Msg
	for i, n := 0, len(b.senders); i < n; i++ {
		messages = append(messages, message(b.senders[i].Address()))
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
	total, n := b.options.transactions(), len(b.senders)
	b.raws, b.sent, b.index = make([][]byte, total), make([]time.Duration, total), make(map[chain.TxID]int, total)
	b.taken, b.turn = make([]bool, total), make([]int, n)
	ids, errs := make([]chain.TxID, total), make([]error, total)
	const part = 256
	crypto.ForkJoin((total+part-1)/part, runtime.GOMAXPROCS(0), func(p int) {
		for i := p * part; i < min((p+1)*part, total); i++ {
			signer := b.senders[i%n]
			b.raws[i], errs[i] = b.signed(signer, chain.TxBody{
				Nonce: b.nonce + b.used[i%n] + uint64(i/n), Expiry: b.status.Height + 90_000, GasLimit: b.options.gas(),
				Messages: chain.Msgs{b.message(i)},
			})
			ids[i] = crypto.DomainTxID.Hash(b.raws[i])
		}
	})
	for i, id := range ids {
		b.index[id] = i
	}
	return errors.Join(errs...)
}

// message returns the message of transaction i.
func (b *bench) message(i int) chain.Msg {
	if b.options.Claims > 0 {
		return b.settlement(i)
	}
	if b.options.Token != nil {
		return b.move(i)
	}
	return chain.Transfer{To: b.to(i), Amount: chain.Nano(1)}
}

// run sends at the rate, listens, and measures. What the listener hears during
// the run is that a block is final; which transfers it holds is asked for
// afterwards, so that asking is no part of the load.
func (b *bench) run(ctx context.Context) (BenchResult, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	status, err := b.clients[0].Status(ctx)
	if err != nil {
		return BenchResult{}, err
	}
	listened := make(chan error, 1)
	whole := leadIn + time.Duration(b.options.Seconds)*time.Second
	b.began, b.read = time.Now(), status.Height
	go func() { listened <- b.listen(ctx, api.CursorAfter(status.Height)) }()
	if err := b.send(ctx); err != nil {
		return BenchResult{}, err
	}
	err = b.collect(ctx, whole, listened)
	cancel()
	if err != nil {
		return BenchResult{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var intervals []float64
	for i := 1; i < len(b.blocks); i++ {
		if b.options.inWindow(b.blocks[i].at) {
			intervals = append(intervals, float64(b.blocks[i].timeMs)-float64(b.blocks[i-1].timeMs))
		}
	}
	seconds := float64(b.options.Seconds)
	return BenchResult{
		OfferedPerSecond: float64(b.offered.Load()) / seconds, CommittedPerSecond: float64(b.within) / seconds, Finalized: b.accepted, Rejected: int(b.refused.Load()) + b.failed, Failed: b.failed,
		Finality: percentiles(b.finality), BlockInterval: percentiles(intervals), Seconds: b.options.Seconds, Claims: b.paid,
	}, nil
}

// tick returns how often transfers are submitted: at low rates as they come, at high
// ones so that a request is well filled.
func (b *bench) tick() time.Duration {
	if b.options.Rate < bulkRate {
		return minTick
	}
	return min(max(fullRequest*time.Second*time.Duration(len(b.clients))/time.Duration(b.options.Rate), minTick), maxTick)
}

// send submits each tick's share of the transfers, to one node after the other.
// A sender's transfers all go to one node, in their order: if one is refused, it has
// the sender's next turn again.
func (b *bench) send(ctx context.Context) error {
	nodes := len(b.clients)
	tick := b.tick()
	apart := nodes // turns of a tick
	if tick == minTick {
		apart = 1
	}
	ticker := time.NewTicker(tick / time.Duration(apart))
	defer ticker.Stop()
	slots := make(chan struct{}, maxInFlight)
	var wg sync.WaitGroup
	defer wg.Wait()
	next := 0
	shares := make([][]int, nodes)
	for turn := 0; ; turn++ {
		due := min(len(b.raws), int(time.Since(b.began).Seconds()*float64(b.options.Rate)))
		last := due == len(b.raws) // the window is over
		b.mu.Lock()
		for ; next < due; next++ {
			sender := next % len(b.senders)
			k := b.turn[sender]*len(b.senders) + sender
			b.turn[sender]++
			shares[sender%nodes] = append(shares[sender%nodes], k)
		}
		b.mu.Unlock()
		for node, share := range shares {
			if apart > 1 && turn%apart != node && !last {
				continue
			}
			for part := range slices.Chunk(share, b.options.batch()) {
				slots <- struct{}{}
				wg.Go(func() {
					b.submit(ctx, b.clients[node], part)
					<-slots
				})
			}
			shares[node] = nil
		}
		if last {
			break
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
	now := time.Since(b.began)
	b.mu.Lock()
	for i, k := range part {
		raws[i] = b.raws[k]
		if !b.taken[k] {
			b.sent[k] = now
		}
	}
	b.mu.Unlock()
	if b.options.inWindow(now) {
		b.offered.Add(int64(len(part)))
	}
	verdicts, err := client.SubmitRaw(ctx, raws)
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, k := range part {
		if err != nil || !verdicts[i].Accepted {
			b.refused.Add(1)
			sender := k % len(b.senders)
			b.turn[sender] = min(b.turn[sender], k/len(b.senders))
		} else if !b.taken[k] {
			b.taken[k] = true
			b.waiting++
		}
	}
}

// listen notes when each block is final.
func (b *bench) listen(ctx context.Context, from api.Cursor) error {
	client := b.clients[len(b.clients)-1]
	for event, err := range client.Events(ctx, sdk.EventFilter{Cursor: &from, Types: []string{api.EventBlock}}) {
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		at := time.Since(b.began)
		b.mu.Lock()
		b.blocks = append(b.blocks, seenBlock{height: event.Height, timeMs: event.TimeMs, at: at})
		b.mu.Unlock()
		select {
		case b.higher <- struct{}{}:
		default:
		}
	}
	return nil
}

// collect reads the blocks that were heard of until all transfers that were not
// rejected are final, or the time for it is over: what is not final then counts
// as not committed.
func (b *bench) collect(ctx context.Context, whole time.Duration, listened <-chan error) error {
	over := time.NewTimer(benchDrain + whole - time.Since(b.began))
	defer over.Stop()
	for read, last := 0, false; ; {
		b.mu.Lock()
		blocks := b.blocks[read:]
		b.mu.Unlock()
		for _, block := range blocks {
			if err := b.count(ctx, block); err != nil {
				return fmt.Errorf("reading block %d: %w", block.height, err)
			}
		}
		read += len(blocks)
		if last || len(b.finality) >= b.waiting { // nothing is submitted any more
			return nil
		}
		select {
		case <-b.higher:
		case <-over.C:
			last = true
		case err := <-listened:
			return fmt.Errorf("listening: %w", err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// count takes the transfers of a final block.
func (b *bench) count(ctx context.Context, block seenBlock) error {
	found, err := b.clients[len(b.clients)-1].Block(ctx, block.height, api.BlockEncoded)
	if b.read = block.height; err != nil || found.TxCount == 0 {
		return err
	}
	receipts, err := chain.DecodeBlockReceipts(found.RawReceipts)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range receipts.Txs {
		receipt := &receipts.Txs[i]
		k, ours := b.index[receipt.TxID]
		if !ours {
			continue
		}
		b.finality = append(b.finality, float64((block.at-b.sent[k]).Microseconds())/1_000)
		if !receipt.Accepted() || b.settled(receipt) < b.options.Claims {
			b.failed++
			continue
		}
		b.accepted++
		b.token.moved(k, len(b.senders))
		if b.options.inWindow(block.at) {
			b.within++
		}
	}
	return nil
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
