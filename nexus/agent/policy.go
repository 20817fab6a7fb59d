package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// Bounds of price_program.
const (
	maxPrograms    = 4 // at a time; further offers are declined
	maxAnswerBytes = 16 << 10
	maxComplaint   = 256 // of its standard error, in a reason
)

// PriceRequest is what price_program reads from its standard input: one JSON
// object.
type PriceRequest struct {
	Order       crypto.Digest    `json:"order"`
	Consumer    chain.Address    `json:"consumer"`
	Cluster     crypto.PublicKey `json:"cluster"`
	Policy      string           `json:"policy"` // how the result is verified
	Label       string           `json:"label"`
	Class       job.Class        `json:"class"`
	Preemptible bool             `json:"preemptible"`
	Resources   job.Resources    `json:"resources"`
	Limits      job.Limits       `json:"limits"`
	InputBytes  uint64           `json:"input_bytes"`
	DeadlineMs  chain.TimeMs     `json:"deadline_ms"`
	MaxCost     chain.Amount     `json:"max_cost_nhyper"`
	// Caps are the most that the order pays for a unit, and Table what the node's own
	// table asks, surcharge included; prices below Floor are refused.
	Caps  PriceAnswer `json:"caps"`
	Table PriceAnswer `json:"table"`
	Floor PriceAnswer `json:"floor"`
	// LoadPermille is the larger share of CPU or memory that is taken, in thousandths.
	LoadPermille uint64 `json:"load_permille"`
}

// PriceAnswer is what price_program writes to its standard output: one JSON
// object. Metered work has prices, a proven statement a fixed price, and Decline
// says why there is no bid.
type PriceAnswer struct {
	CPUPriceAtto     chain.Number `json:"cpu_price_atto,omitempty"`
	MemoryPriceAtto  chain.Number `json:"memory_price_atto,omitempty"`
	NetworkPriceAtto chain.Number `json:"network_price_atto,omitempty"`
	GPUPriceAtto     chain.Number `json:"gpu_price_atto,omitempty"`
	ProofPriceNHyper chain.Number `json:"proof_price_nhyper,omitempty"`
	Decline          string       `json:"decline,omitempty"`
}

// floor is the table without its surcharge.
func (a *Agent) floor() PriceAnswer {
	c := &a.config
	return PriceAnswer{
		CPUPriceAtto: chain.Number(c.CPUPriceAtto), MemoryPriceAtto: chain.Number(c.MemoryPriceAtto), NetworkPriceAtto: chain.Number(c.NetworkPriceAtto),
		GPUPriceAtto: chain.Number(c.GPUPriceAtto), ProofPriceNHyper: chain.Number(c.ProofPriceNHyper),
	}
}

// of returns the price of a resource.
func (p *PriceAnswer) of(r chain.Resource) *chain.Number {
	switch r {
	case chain.CPU:
		return &p.CPUPriceAtto
	case chain.Memory:
		return &p.MemoryPriceAtto
	case chain.Network:
		return &p.NetworkPriceAtto
	case chain.GPU:
		return &p.GPUPriceAtto
	case chain.Storage: // no bid has it
	}
	return new(chain.Number)
}

// askProgram has price_program price an offer that the table has priced. The
// answer's prices are at least the table's without surcharge. An error says why
// there is no bid; the session goes on meanwhile.
func (a *Agent) askProgram(ctx context.Context, o *offer, bid *chain.Bid) error {
	select {
	case a.programs <- struct{}{}:
		defer func() { <-a.programs }()
	default:
		return fmt.Errorf("the price program is busy with %d other offers", maxPrograms)
	}
	request := a.priceRequest(o, bid)
	answer, err := a.runProgram(ctx, &request, o.CloseMs)
	if err != nil {
		a.log.Warn("agent: the price program gave no price", "order", request.Order.Short(), "error", err)
		a.metrics.programs.WithLabelValues("failed").Inc()
		return fmt.Errorf("the price program failed: %w", err)
	}
	if answer.Decline != "" {
		a.metrics.programs.WithLabelValues("declined").Inc()
		return errors.New(answer.Decline)
	}
	a.metrics.programs.WithLabelValues("priced").Inc()
	return a.adopt(o, bid, &answer)
}

func (a *Agent) priceRequest(o *offer, bid *chain.Bid) PriceRequest {
	r := PriceRequest{
		Order: o.Order.ID(), Consumer: chain.AddressOf(o.Order.Consumer), Cluster: o.Order.Cluster, Policy: o.Order.Policy.String(),
		Label: o.Spec.Label, Class: o.Spec.Scheduling.Class, Preemptible: o.Spec.Scheduling.Preemptible, Resources: o.Spec.Resources,
		Limits: o.Spec.Limits, InputBytes: o.Spec.InputBytes, DeadlineMs: o.Order.Deadline, MaxCost: o.Order.MaxCost,
		Floor: a.floor(), LoadPermille: a.capacity.load(),
	}
	r.Table.ProofPriceNHyper, r.Caps.ProofPriceNHyper = chain.Number(bid.Fixed.Nano()), chain.Number(proofCap(&o.Order).Nano())
	for _, p := range bid.Prices {
		*r.Table.of(p.Resource) = chain.Number(p.Price)
	}
	for _, p := range o.Order.Caps {
		*r.Caps.of(p.Resource) = chain.Number(o.Order.PriorityBps.Below(p.Price))
	}
	return r
}

// adopt puts the program's prices into the bid, within floor and caps.
func (a *Agent) adopt(o *offer, bid *chain.Bid, answer *PriceAnswer) error {
	floor := a.floor()
	if len(bid.Prices) == 0 {
		price := answer.ProofPriceNHyper
		if price < floor.ProofPriceNHyper {
			return fmt.Errorf("the price program asks %d for a proof, below the floor %d", price, floor.ProofPriceNHyper)
		}
		if limit := proofCap(&o.Order); limit.Less(chain.Nano(uint64(price))) {
			return fmt.Errorf("a proof costs %s here, the order's cap is %s", chain.Nano(uint64(price)), limit)
		}
		bid.Fixed = chain.Nano(uint64(price))
		return nil
	}
	for i, p := range bid.Prices {
		price, least := *answer.of(p.Resource), *floor.of(p.Resource)
		limit, _ := o.Order.Cap(p.Resource) // the table has found it
		switch {
		case price < least:
			return fmt.Errorf("the price program asks %d for %s, below the floor %d", price, p.Resource, least)
		case uint64(price) > limit:
			return fmt.Errorf("%s costs %d here, the order's cap is %d", p.Resource, price, limit)
		}
		bid.Prices[i].Price = uint64(price)
	}
	if why := affordable(&o.Order, o.Spec, bid.Prices); why != "" {
		return errors.New(why)
	}
	return nil
}

// runProgram runs price_program once, in a process group of its own that is
// killed when the time is over, with all that it started.
func (a *Agent) runProgram(ctx context.Context, request *PriceRequest, closeMs uint64) (answer PriceAnswer, err error) {
	limit := a.config.PriceTimeout
	if closes := time.Duration(min(closeMs, uint64(maxPriceTime.Milliseconds()))) * time.Millisecond; closes > 0 {
		limit = min(limit, closes)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %v", limit))
	defer cancel()
	input, err := json.Marshal(request)
	if err != nil {
		panic("agent: a price request does not encode: " + err.Error())
	}
	stdout, stderr := &bounded{limit: maxAnswerBytes}, &bounded{limit: maxComplaint, lossy: true}
	cmd := exec.CommandContext(ctx, a.config.PriceProgram[0], a.config.PriceProgram[1:]...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = a.config.Home, bytes.NewReader(input), stdout, stderr
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LANG=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	kill := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel = kill
	cmd.WaitDelay = 2 * time.Second // a busy machine takes its time to read what was written
	err = cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil { // it has ended, and what it started has not
		err = errors.Join(errors.New("it left processes behind"), kill())
	}
	switch {
	case ctx.Err() != nil:
		return answer, context.Cause(ctx)
	case stdout.over:
		return answer, fmt.Errorf("its answer is larger than %d bytes", maxAnswerBytes)
	case err != nil && stderr.buf.Len() > 0:
		return answer, fmt.Errorf("%w: %s", err, line(stderr.buf.String()))
	case err != nil:
		return answer, err
	}
	decoder := json.NewDecoder(&stdout.buf)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&answer); err != nil {
		return answer, fmt.Errorf("its answer is not what is asked for: %w", err)
	}
	return answer, nil
}

// bounded takes up to limit bytes. What is beyond fails the writer, or is lost.
type bounded struct {
	buf   bytes.Buffer
	limit int
	lossy bool
	over  bool
}

func (b *bounded) Write(p []byte) (int, error) {
	take := min(len(p), b.limit-b.buf.Len())
	b.buf.Write(p[:take])
	if take == len(p) || b.lossy {
		return len(p), nil
	}
	b.over = true
	return take, errors.New("agent: too much output")
}
