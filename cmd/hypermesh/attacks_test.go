package main

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/sdk"
)

// contractAttacks are how many ways there are in which testdata/attacks.wasm of smart-contracts/vm takes what it can: of
// the processor, of memory, of the stack, of the host, of storage.
const contractAttacks = 15

const (
	attackGas       = 8_000_000 // an attack's limit: an eighth of a block's
	attackedLatency = time.Second
	attackedWindow  = 3  // rounds of all attacks
	attackedWindows = 6  // after one of them at the latest no validator has
	attackedGrowth  = 16 // MiB more than before it: until then its garbage is what the collector leaves
)

// attacked is a network with a contract that attacks it.
type attacked struct {
	*testing.T
	n              *network
	attacker, user *target
	contract       chain.Address
	sink           chain.Address
}

// sent is a message that somebody has sent: how long it took until it was final, and what it came to.
type sent struct {
	took    time.Duration
	receipt chain.Receipt
}

func (a *attacked) send(by *target, gas uint64, m chain.Msg) (out sent, err error) {
	began := time.Now()
	done, err := by.client.NewBuilder(by.account, sdk.BuilderOptions{GasLimit: chain.GasUnits(gas)}).SendAndWait(a.Context(), m)
	if _, rejected := errors.AsType[*sdk.RejectedError](err); rejected && done.Receipt != nil {
		err = nil
	}
	if err != nil {
		return out, err
	}
	return sent{time.Since(began), *done.Receipt}, nil
}

// attack sends every attack, one after the other: each is stopped at its limit, and has changed nothing.
func (a *attacked) attack() {
	for i := range byte(contractAttacks) {
		out, err := a.send(a.attacker, attackGas, chain.ExecuteContract{Contract: a.contract, Msg: []byte{i}, MaxDeposit: chain.Hyper(1)})
		if err != nil {
			a.Errorf("attack %d: %v", i, err)
			return
		}
		r := &out.receipt
		if stopped := strings.Contains(r.Rejection, "out of gas") || strings.Contains(r.Rejection, "wasm 5: "); !stopped || r.GasUsed.Units() > attackGas || len(r.Events) > 0 {
			a.Errorf("attack %d: %q, %d gas, %d events", i, r.Rejection, r.GasUsed.Units(), len(r.Events))
		}
	}
}

// latency is the median of how long transfers take, while something else is done until they are.
func (a *attacked) latency(beside func(done <-chan struct{})) time.Duration {
	a.Helper()
	var took []time.Duration
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		beside(done)
	}()
	defer func() {
		close(done)
		<-ended
	}()
	for range 40 {
		out, err := a.send(a.user, 0, chain.Transfer{To: a.sink, Amount: chain.Nano(1)})
		if err != nil || !out.receipt.Accepted() {
			a.Fatalf("a transfer: %v %s", err, out.receipt.Rejection)
		}
		took = append(took, out.took)
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// memory is the most that each validator has had, in MiB: what it has goes down when its garbage is collected.
func (a *attacked) memory() (out []float64) {
	for _, p := range a.n.describe(a.T).Processes {
		out = append(out, usageOf(a.T, p.PID).most)
	}
	return out
}

// TestContractsThatAttack: contracts that loop, take all memory, recurse, answer gigantically, call the host and store
// without end are each stopped at their limit; what others wait for stays what it is, and the memory of validators does not
// grow with how often they are called.
func TestContractsThatAttack(t *testing.T) {
	endToEnd(t)
	n := startDevnet(t, "--servers", "0", "--agents", "0", "--no-explorer")
	a := &attacked{T: t, n: n, sink: chain.ModuleAddress("sink")}
	var err error
	if a.attacker, err = newTarget(n.describe(t), "carol"); err != nil {
		t.Fatal(err)
	}
	if a.user, err = newTarget(n.describe(t), "bob"); err != nil {
		t.Fatal(err)
	}
	const module = "../../smart-contracts/vm/testdata/attacks.wasm"
	if _, err := os.Stat(module); err != nil {
		t.Fatal(err)
	}
	if out, err := hypermesh(t, "contract", "store", module, "--config", n.path, "--yes"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	made, err := a.send(a.attacker, 2_000_000, chain.InstantiateContract{Code: 1, Label: "attacks", Msg: []byte("{}"), MaxDeposit: chain.Hyper(1)})
	if err != nil {
		t.Fatal(err)
	}
	event, ok := eventOf[chain.ContractInstantiated](made.receipt.Events)
	if !ok {
		t.Fatal(made.receipt.Rejection)
	}
	a.contract = event.Contract
	alone := a.latency(func(<-chan struct{}) {})
	beside := a.latency(func(done <-chan struct{}) {
		for {
			a.attack()
			select {
			case <-done:
				return
			default:
			}
		}
	})
	t.Logf("transfers take %s alone, %s beside attacks", alone, beside)
	if beside > alone+attackedLatency {
		t.Errorf("transfers take %s, and %s beside attacks", alone, beside)
	}
	for window := 0; ; window++ {
		before := a.memory()
		for range attackedWindow {
			a.attack()
		}
		after := a.memory()
		t.Logf("MiB of validators at most: %.0f before, %.0f after %d rounds of %d attacks", before, after, attackedWindow, contractAttacks)
		grew := false
		for i := range before {
			grew = grew || after[i] > before[i]+attackedGrowth
		}
		if !grew {
			break
		}
		if window == attackedWindows {
			t.Fatalf("validators have %.0f MiB, and go on to grow", after)
		}
	}
}
