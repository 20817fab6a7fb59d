package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/devnet"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

func demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "the main job, end to end, on a local network of real processes",
		Description: "Starts 4 validators, 3 Nexus servers, 3 agents of different owners, a relay and an explorer; deposits escrow; runs a program on two\n" +
			"providers that must agree and a matrix product that the chain verifies by a zk proof; and shows how both were paid.\n\n" +
			"Example: hypermesh demo --exit --json",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "exit", Usage: "check everything against the chain by proofs, tear down, and exit"},
			&cli.StringFlag{Name: "program", Value: besideProgram("fractal.wasm"), Usage: "the WASI program `FILE`"},
			&cli.StringFlag{Name: "keys", Value: devnet.DefaultKeysDir(), Usage: "`DIR` of proving keys, made once"},
			&cli.StringFlag{Name: "out", Usage: "`DIR` for the results; left out: a temporary one"},
			jsonFlag(),
		},
		Action: demo,
	}
}

// besideProgram names a file in the directory of this program.
func besideProgram(name string) string {
	self, err := os.Executable()
	if err != nil {
		return name
	}
	return filepath.Join(filepath.Dir(self), name)
}

// demoSupply is the chain's supply after the demo.
type demoSupply struct {
	Minted chain.Amount `json:"minted"`
	Burned chain.Amount `json:"burned"`
	Total  chain.Amount `json:"total"`
}

// demoResult is what demo --json prints.
type demoResult struct {
	ChainID   chain.ChainID   `json:"chain_id"`
	RPC       []string        `json:"rpc"`
	Nexus     []string        `json:"nexus"`
	Explorer  string          `json:"explorer"`
	Jobs      []api.JobReport `json:"jobs"`
	Supply    demoSupply      `json:"supply"`
	SetupMs   int64           `json:"setup_ms"`
	ElapsedMs int64           `json:"elapsed_ms"`
}

// demoSize is the size of the demo's matrices.
const demoSize = 32

// demoParams are the fractal's parameters.
const demoParams = "width = 512\nheight = 512\n"

// demoTitles head the receipts.
var demoTitles = [...]string{
	"A fractal of 512 × 512, rendered by a Go program on two providers that had to agree",
	"A product of two 32 × 32 matrices, with a zero-knowledge proof",
}

// demoEscrow is what the consumer deposits.
var demoEscrow = chain.Hyper(1_000)

// demoRun is one run of the demo.
type demoRun struct {
	c       *cli.Context
	began   time.Time
	target  *target
	dir     string // of inputs and results
	cluster crypto.PublicKey
	jobs    []api.Job
	left    zk.Matrix
	right   zk.Matrix
}

func demo(c *cli.Context) (err error) {
	if _, err := os.Stat(c.String("program")); err != nil {
		return usagef(c, "--program: %v (make build makes it)", err)
	}
	dir, err := os.MkdirTemp("", "hypermesh-demo-")
	if err != nil {
		return fmt.Errorf("making a directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	d := &demoRun{c: c, began: time.Now(), dir: c.String("out")}
	if d.dir == "" {
		d.dir = filepath.Join(dir, "results")
	}
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return fmt.Errorf("making the directory of results: %w", err)
	}
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	setup, err := d.makeKeys()
	if err != nil {
		return err
	}
	d.say("starting 4 validators, 3 Nexus servers, 3 agents, a relay and an explorer")
	log := slog.New(slog.NewTextHandler(c.App.ErrWriter, &slog.HandlerOptions{Level: slog.LevelWarn}))
	network, err := devnet.Up(c.Context, devnet.Options{
		Dir: filepath.Join(dir, "network"), KeysDir: c.String("keys"), Binary: binary, Validators: 4, Servers: 3, Agents: 3, Progress: func(string, float64) {},
	}, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, network.Down()) }()
	d.say("all healthy")
	healthy := time.Now()
	result, err := d.show(c.Context, network.Description())
	if err != nil {
		return err
	}
	result.SetupMs, result.ElapsedMs = setup.Milliseconds(), time.Since(healthy).Milliseconds()
	if err := d.print(result); err != nil {
		return err
	}
	if !c.Bool("exit") {
		fmt.Fprintf(c.App.ErrWriter, "The network stays up: explorer %s, results in %s. Ctrl-C ends it.\n", result.Explorer, d.dir)
		<-c.Context.Done()
	}
	return nil
}

// makeKeys makes the proving keys, unless they are cached.
func (d *demoRun) makeKeys() (time.Duration, error) {
	began := time.Now()
	scratch, err := os.MkdirTemp("", "hypermesh-keys-")
	if err != nil {
		return 0, fmt.Errorf("making a directory: %w", err)
	}
	err = devnet.AddKernels(&chain.Genesis{}, scratch, d.c.String("keys"), []string{devnet.Kernel}, func(stage string, fraction float64) {
		d.say(fmt.Sprintf("proving keys: %s (%.0f %%)", stage, 100*fraction))
	})
	return time.Since(began), errors.Join(err, os.RemoveAll(scratch))
}

// say writes one line of progress with the time since the start.
func (d *demoRun) say(line string) {
	fmt.Fprintf(d.c.App.ErrWriter, "%6.1f s  %s\n", time.Since(d.began).Seconds(), line)
}

// show runs the jobs and checks what they did.
func (d *demoRun) show(ctx context.Context, description devnet.Description) (demoResult, error) {
	var err error
	if d.target, err = newTarget(description, "alice"); err != nil {
		return demoResult{}, err
	}
	d.cluster = description.Cluster
	if err := d.target.client.EnsureEscrow(ctx, d.target.account, d.cluster, demoEscrow); err != nil {
		return demoResult{}, err
	}
	d.say(fmt.Sprintf("alice deposited %s as escrow", demoEscrow))
	if err := d.fractal(ctx); err != nil {
		return demoResult{}, fmt.Errorf("the fractal: %w", err)
	}
	if err := d.matmul(ctx); err != nil {
		return demoResult{}, fmt.Errorf("the matrix product: %w", err)
	}
	supply, err := d.check(ctx)
	if err != nil {
		return demoResult{}, fmt.Errorf("checking against the chain: %w", err)
	}
	d.say("checked against the chain: certificates, Merkle proofs, payments, supply")
	result := demoResult{ChainID: description.ChainID, RPC: description.RPC, Nexus: description.Nexus, Explorer: description.Explorer, Supply: supply}
	for i := range d.jobs {
		report := d.jobs[i].Report()
		report.Output = d.output(i)
		result.Jobs = append(result.Jobs, report)
	}
	return result, nil
}

// output is where the files of job i are.
func (d *demoRun) output(i int) string {
	return filepath.Join(d.dir, [...]string{"fractal", "product"}[i])
}

func (d *demoRun) run(ctx context.Context, r sdk.JobRun) error {
	last := ""
	r.Consumer = d.target.account
	r.Progress = func(stage string, j *api.Job) {
		line := r.Spec.Label + ": " + stage
		if j != nil && len(j.Runs) > 0 {
			var nodes []string
			for _, run := range j.Runs {
				nodes = append(nodes, run.Node.Short())
			}
			line += " on " + strings.Join(nodes, " and ")
		}
		if line != last {
			d.say(line)
		}
		last = line
	}
	done, err := d.target.client.RunJob(ctx, r)
	if err != nil {
		return err
	}
	d.jobs = append(d.jobs, done)
	return fetchOutput(ctx, d.target.client, &done, output{dir: d.output(len(d.jobs) - 1)})
}

// fractal runs a Go program, compiled to WASI, on two providers that must agree.
func (d *demoRun) fractal(ctx context.Context) (err error) {
	program, err := os.Open(d.c.String("program"))
	if err != nil {
		return fmt.Errorf("opening the program: %w", err)
	}
	defer func() { err = errors.Join(err, program.Close()) }()
	input := filepath.Join(d.dir, "parameters")
	if err := writeFile(input, "params.txt", []byte(demoParams)); err != nil {
		return err
	}
	packed, err := packDir(input)
	if err != nil {
		return err
	}
	policy := chain.PolicyReplicate{K: 2, N: 3}
	limits := job.LimitsUnder(policy, &d.target.genesis.Params)
	return d.run(ctx, sdk.JobRun{
		Spec:   job.Spec{Label: "fractal", Resources: job.Resources{Millicores: 1_000, MemoryMiB: limits.MemoryBytes >> 20}, Limits: limits},
		Blobs:  []io.ReadSeeker{program, packed},
		Policy: policy,
		Bind: func(ids []crypto.Digest) job.Work {
			return job.Wasm{Module: ids[0], Input: ids[1], Deterministic: true}
		},
	})
}

func writeFile(dir, name string, data []byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name), data, 0o644)
}

// matmul has two matrices multiplied, proven, and the proof checked by the block.
func (d *demoRun) matmul(ctx context.Context) error {
	r, err := d.matmulJob()
	if err != nil {
		return err
	}
	return d.run(ctx, r)
}

// matmulJob writes two random matrices and returns the job that multiplies them.
func (d *demoRun) matmulJob() (sdk.JobRun, error) {
	var blobs []io.ReadSeeker
	var matrices [2]zk.Matrix
	for i, name := range []string{"a.csv", "b.csv"} {
		cells := make([]int16, demoSize*demoSize)
		for k := range cells {
			cells[k] = int16(rand.Uint32())
		}
		m, err := zk.NewMatrix(demoSize, cells)
		if err != nil {
			return sdk.JobRun{}, err
		}
		if err := writeFile(filepath.Join(d.dir, "matrices"), name, m.CSV()); err != nil {
			return sdk.JobRun{}, err
		}
		matrices[i] = m
		blobs = append(blobs, bytes.NewReader(m.CSV()))
	}
	d.left, d.right = matrices[0], matrices[1]
	limits := job.DefaultLimits()
	r := sdk.JobRun{
		Spec:  job.Spec{Label: devnet.Kernel, Resources: job.Resources{Millicores: 1_000, MemoryMiB: limits.MemoryBytes >> 20}, Limits: limits},
		Blobs: blobs,
		Policy: chain.PolicyZK{Kernel: devnet.Kernel, Inputs: []chain.FieldBytes{
			chain.FieldBytes(zk.LeftDigest(d.left)), chain.FieldBytes(zk.RightDigest(d.right)),
		}},
		Bind: func(ids []crypto.Digest) job.Work { return job.Kernel{Name: devnet.Kernel, Inputs: ids} },
	}
	return r, bindKernel(&r, d.target.genesis)
}

// print shows the receipts, or the JSON.
func (d *demoRun) print(r demoResult) error {
	if d.c.Bool("json") {
		return printJSON(d.c, r)
	}
	for i, report := range r.Jobs {
		writeReceipt(d.c.App.Writer, demoTitles[i], report, r.Explorer)
	}
	fmt.Fprintf(d.c.App.Writer, "  supply     %s minted − %s burned = %s\n  time       %.1f s from a healthy network to the end\n\n",
		r.Supply.Minted, r.Supply.Burned, r.Supply.Total, float64(r.ElapsedMs)/1_000)
	return nil
}
