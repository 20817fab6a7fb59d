package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

func jobCommand() *cli.Command {
	return &cli.Command{
		Name:  "job",
		Usage: "run programs and kernels on a network",
		Subcommands: []*cli.Command{
			{
				Name:      "run",
				Usage:     "run a WASI program, a container or a zk kernel, from quote to settlement",
				ArgsUsage: "PROG.wasm|IMAGE.tar [-- ARGS]",
				Description: "Prints a quote before, progress during, and a receipt after; exits with 0 only if the job settled.\n\n" +
					"Example: hypermesh job run prog.wasm --in data --out result --verify replicate=2/3 --config net.json -- --fast\n" +
					"Example: hypermesh job run --container --out result --config net.json image.tar -- /bin/work --fast\n" +
					"Example: hypermesh job run --kernel matmul --a A.csv --b B.csv --verify zk --out result --config net.json\n" +
					"Example: hypermesh job run --kernel merkle-update-16 --input tree.csv --input updates.csv --verify zk --out result --config net.json",
				Flags:  runFlags(),
				Action: jobRun,
			},
			quoteCommand(),
			{
				Name: "status", Usage: "show a job", ArgsUsage: "JOB",
				Description: "Example: hypermesh job status 5f3a… --config net.json --json",
				Flags:       append(networkFlags(), jsonFlag()),
				Action:      jobStatus,
			},
			{
				Name: "cancel", Usage: "end a job that has not settled", ArgsUsage: "JOB",
				Description: "Example: hypermesh job cancel 5f3a… --config net.json",
				Flags:       append(networkFlags(), jsonFlag()),
				Action:      jobCancel,
			},
			jobOutputCommand(),
			jobCountersignCommand(),
			jobLogsCommand(),
			jobExecCommand(),
		},
	}
}

// runFlags are those of run and quote.
func runFlags() []cli.Flag {
	return append(append(append(networkFlags(),
		&cli.StringFlag{Name: "in", Usage: "`DIR` that the program sees as /in"},
		&cli.StringFlag{Name: "out", Usage: "`DIR`, new or empty, for the output"},
		&cli.StringSliceFlag{Name: "encrypt-to", Usage: "age `RECIPIENT`, age1…, to whom the provider encrypts the output; may be given several times"},
		&cli.StringFlag{Name: "identity", Usage: "key `FILE` that opens the encrypted output, for --out"},
		&cli.BoolFlag{Name: "fair-exchange", Usage: "the output travels sealed, and who is paid for it tells the key; for --verify none and zk"},
		&cli.BoolFlag{Name: "countersignable", Usage: "you may have the job paid without its cluster, late in the claim window, with job countersign; for --verify none and zk"},
		&cli.StringFlag{Name: "verify", Value: "none", Usage: "`POLICY`: none, replicate=K/N, optimistic=WINDOW,BOND or zk"},
		&cli.Uint64Flag{Name: "stake", Usage: "`N` nHYPER of its bond that each run under replicate stakes, 1 HYPER at least, and its cluster as much; the more, the less often a good node is checked; 0: 19 times max-cost, at most a quarter of the least bond"},
		&cli.DurationFlag{Name: "window", Usage: "for a node that is drawn to run the job under replicate; 0: twice the time limit and 30 s"},
		&cli.Uint64Flag{Name: "max-cost", Usage: "`N` nHYPER at most, all replicas and fees included; 0: twice what the quote says, under replicate what it says"},
		&cli.DurationFlag{Name: "patience", Value: 10 * time.Minute, Usage: "until the order's deadline; under optimistic a job whose claim is refuted before that runs again elsewhere"},
		&cli.StringFlag{Name: "kernel", Usage: "`NAME` of a zk kernel: matmul with --a and --b, any other with its size, such as hashchain-256"},
		&cli.StringSliceFlag{Name: "input", Usage: "input `FILE` of the kernel, in its order; may be given several times"},
		&cli.StringFlag{Name: "a", Usage: "CSV `FILE` of the left matrix"},
		&cli.StringFlag{Name: "b", Usage: "CSV `FILE` of the right matrix"},
		&cli.DurationFlag{Name: "time-limit", Value: 2 * time.Minute, Usage: "wall-clock limit of the program; under replicate and optimistic at most, and by default if that is less, a quarter of the chain's commit_ms, in which jurors run it again: 15s on a devnet"},
		&cli.Uint64Flag{Name: "fuel", Value: job.DefaultLimits().Fuel, Usage: "limit of instructions, about"},
		&cli.Uint64Flag{Name: "memory-mib", Value: job.DefaultLimits().MemoryBytes >> 20, Usage: "limit of memory"},
		jsonFlag()), containerFlags()...), placementFlags()...)
}

func jobRun(c *cli.Context) error {
	run, closeBlobs, err := jobFromFlags(c)
	if err != nil {
		return err
	}
	defer closeBlobs()
	if out := c.String("out"); out != "" {
		if err := checkOutDir(out); err != nil {
			return usagef(c, "--out: %v", err)
		}
	}
	key, err := outputKey(c, &run)
	if err != nil {
		return err
	}
	t, err := openTarget(c)
	if err != nil {
		return err
	}
	if err := bindKernel(&run, t.genesis); err != nil {
		return err
	}
	limitTime(c, &run, t.genesis)
	run.Consumer, run.Fair, run.Countersignable = t.account, c.Bool("fair-exchange"), c.Bool("countersignable")
	if err := checkExchange(c, &run); err != nil {
		return err
	}
	run.Progress = progressLines(c.App.ErrWriter)
	done, err := t.client.RunJob(c.Context, run)
	if errors.Is(err, sdk.ErrNotSettled) && !done.ID.IsZero() {
		return errors.Join(err, printReport(c, done.Report(), t))
	}
	if err != nil && c.Context.Err() != nil && !done.ID.IsZero() {
		return fmt.Errorf("%w; the job goes on: hypermesh job status shows it, job logs what it writes, and job cancel ends %s", err, done.ID)
	}
	if err != nil {
		return err
	}
	report := done.Report()
	if out := c.String("out"); out != "" {
		if err := fetchOutput(c.Context, t.client, &done, output{dir: out, key: key}); err != nil {
			return err
		}
		report.Output = out
	}
	return printReport(c, report, t)
}

// limitTime lowers a time limit that nobody named to what jurors of the chain can judge.
func limitTime(c *cli.Context, run *sdk.JobRun, g *chain.Genesis) {
	if !c.IsSet("time-limit") && job.Judged(run.Policy) {
		run.Spec.Limits.WallMs = min(run.Spec.Limits.WallMs, job.MaxJudgedMs(&g.Params))
	}
}

// jobFromFlags reads what the command line says of the job.
func jobFromFlags(c *cli.Context) (run sdk.JobRun, closeBlobs func(), err error) {
	var opened []io.Closer
	closeBlobs = func() {
		for _, f := range opened {
			if err := f.Close(); err != nil {
				fmt.Fprintln(c.App.ErrWriter, "closing an input:", err)
			}
		}
	}
	defer func() {
		if err != nil {
			closeBlobs()
		}
	}()
	limits := job.DefaultLimits()
	limits.Fuel, limits.MemoryBytes = c.Uint64("fuel"), c.Uint64("memory-mib")<<20
	limits.WallMs = uint64(max(c.Duration("time-limit").Milliseconds(), 0))
	run = sdk.JobRun{
		MaxCost: chain.Nano(c.Uint64("max-cost")), Patience: c.Duration("patience"),
		Spec: job.Spec{Resources: job.Resources{Millicores: 1_000, MemoryMiB: c.Uint64("memory-mib")}, Limits: limits},
	}
	if run.Patience < time.Millisecond {
		return run, closeBlobs, usagef(c, "--patience: want a time, got %v", run.Patience)
	}
	if err := placementFromFlags(c, &run); err != nil {
		return run, closeBlobs, err
	}
	if err := strayFlags(c); err != nil {
		return run, closeBlobs, err
	}
	if c.String("kernel") != "" {
		return run, closeBlobs, kernelFromFlags(c, &run)
	}
	if c.NArg() < 1 {
		return run, closeBlobs, usagef(c, "want a program (PROG.wasm) or --kernel")
	}
	if run.Policy, err = parseVerify(c.String("verify")); err != nil {
		return run, closeBlobs, usagef(c, "--verify: %v", err)
	}
	if p, ok := run.Policy.(chain.PolicyReplicate); ok {
		p.Stake, p.WindowMs = chain.Nano(c.Uint64("stake")), uint64(max(c.Duration("window").Milliseconds(), 0))
		run.Policy = p
	}
	program, err := programFromFlags(c, &run)
	if program != nil {
		opened = append(opened, program)
	}
	return run, closeBlobs, err
}

// programFromFlags opens the program that the command line names, and makes it the work.
func programFromFlags(c *cli.Context, run *sdk.JobRun) (io.Closer, error) {
	program, err := os.Open(c.Args().First())
	if err != nil {
		return nil, fmt.Errorf("opening the program: %w", err)
	}
	if err := checkProgram(c, program); err != nil {
		return program, err
	}
	run.Spec.Label = clip(filepath.Base(c.Args().First()), job.MaxLabel)
	run.Blobs = append(run.Blobs, program)
	if dir := c.String("in"); dir != "" {
		packed, err := packDir(dir)
		if err != nil {
			return program, err
		}
		run.Blobs = append(run.Blobs, packed)
	}
	if c.Bool("container") {
		return program, containerFromFlags(c, run)
	}
	args, deterministic := c.Args().Tail(), !isNone(run.Policy)
	run.Bind = func(ids []crypto.Digest) job.Work {
		w := job.Wasm{Module: ids[0], Args: args, Deterministic: deterministic}
		if len(ids) > 1 {
			w.Input = ids[1]
		}
		return w
	}
	return program, nil
}

func isNone(p chain.Policy) bool {
	_, ok := p.(chain.PolicyNone)
	return ok
}

func clip(s string, limit int) string { return strings.ToValidUTF8(s[:min(len(s), limit)], "") }

// parseVerify reads none, replicate=K/N or optimistic(WINDOW,BOND).
func parseVerify(s string) (chain.Policy, error) {
	if s == "none" {
		return chain.PolicyNone{}, nil
	}
	if terms, ok := strings.CutPrefix(s, "optimistic"); ok {
		return parseOptimistic(terms)
	}
	kn, ok := strings.CutPrefix(s, "replicate=")
	if !ok {
		return nil, fmt.Errorf("%q: want none, replicate=K/N, optimistic=WINDOW,BOND, or zk with --kernel", s)
	}
	left, right, ok := strings.Cut(kn, "/")
	k, errK := strconv.ParseUint(left, 10, 8)
	n, errN := strconv.ParseUint(right, 10, 8)
	if !ok || errK != nil || errN != nil || k < 2 || k > n || n > chain.MaxReplicas {
		return nil, fmt.Errorf("%q: want replicate=K/N with 2 ≤ K ≤ N ≤ %d", s, chain.MaxReplicas)
	}
	return chain.PolicyReplicate{K: uint8(k), N: uint8(n)}, nil
}

// parseOptimistic reads (WINDOW,BOND), as the policy is written, or =WINDOW,BOND, which no
// shell takes for its own: a duration, and HYPER.
func parseOptimistic(s string) (chain.Policy, error) {
	inside, ok := strings.CutPrefix(s, "=")
	if !ok {
		inside, ok = strings.CutPrefix(s, "(")
		if ok {
			inside, ok = strings.CutSuffix(inside, ")")
		}
	}
	left, right, both := strings.Cut(inside, ",")
	window, errWindow := time.ParseDuration(strings.TrimSpace(left))
	bond, errBond := parseHyper(strings.TrimSpace(right))
	if !ok || !both || errWindow != nil || errBond != nil || window < 0 {
		return nil, fmt.Errorf("optimistic%s: want optimistic=WINDOW,BOND, such as optimistic=1h,10", s)
	}
	return chain.PolicyOptimistic{WindowMs: uint64(window.Milliseconds()), Bond: bond}, nil
}

// bindKernel fills in the verifying key that the chain pins for a zk run.
func bindKernel(run *sdk.JobRun, g *chain.Genesis) error {
	policy, ok := run.Policy.(chain.PolicyZK)
	if !ok {
		return nil
	}
	for _, k := range g.Kernels {
		if k.Name == policy.Kernel {
			policy.VerifyingKey = k.VerifyingKey
			run.Policy = policy
			return nil
		}
	}
	return fmt.Errorf("this chain verifies no kernel %s", policy.Kernel)
}

// Bounds of a packed directory.
var packLimits = blob.Limits{MaxEntries: 10_000, MaxFileBytes: 1 << 30, MaxBytes: 1 << 30}

// packDir packs a directory into memory.
func packDir(dir string) (*bytes.Reader, error) {
	packed, _, err := blob.Pack(dir, packLimits)
	if err != nil {
		return nil, fmt.Errorf("packing %s: %w", dir, err)
	}
	data, err := io.ReadAll(packed)
	if err := errors.Join(err, packed.Close()); err != nil {
		return nil, fmt.Errorf("packing %s: %w", dir, err)
	}
	return bytes.NewReader(data), nil
}

// checkOutDir says whether output may be put into a directory: it is new or
// empty.
func checkOutDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty", dir)
	}
	return err
}

// fetchOutput fetches and unpacks a job's output, checking it against the id
// that its providers signed. A sealed one is opened with the key that was paid for.
func fetchOutput(ctx context.Context, client *sdk.Client, j *api.Job, to output) error {
	if j.Output.IsZero() {
		return os.MkdirAll(to.dir, 0o755)
	}
	r, err := client.JobOutput(ctx, j, blob.SealedBytes(packLimits.MaxBytes))
	if err != nil {
		return fmt.Errorf("fetching the output: %w", err)
	}
	if err := errors.Join(to.unpack(r), r.Close()); err != nil {
		return fmt.Errorf("unpacking the output: %w", err)
	}
	return nil
}

// output says where a job's output goes, and what opens it.
type output struct {
	dir string
	key *blob.Identities // nil: it is not encrypted
}

// unpack puts what r gives into the directory.
func (o output) unpack(r io.Reader) error {
	if o.key == nil {
		return blob.Unpack(r, o.dir, packLimits)
	}
	opened, err := blob.Unseal(r, *o.key)
	if err != nil {
		return err
	}
	return blob.Unpack(opened, o.dir, packLimits)
}

// outputKey has the job's output encrypted as the command line says, and returns
// what opens it.
func outputKey(c *cli.Context, run *sdk.JobRun) (*blob.Identities, error) {
	to, file := c.StringSlice("encrypt-to"), c.String("identity")
	switch {
	case len(to) == 0 && file == "":
		return nil, nil
	case len(to) == 0:
		return nil, usagef(c, "--identity opens what --encrypt-to encrypts, which is missing")
	case !isNone(run.Policy):
		return nil, usagef(c, "--encrypt-to is for --verify none: encrypted outputs differ, and nobody can compare them")
	case file == "" && c.String("out") != "":
		return nil, usagef(c, "--out needs --identity to open what --encrypt-to encrypts; without --out, hypermesh blob get fetches it later")
	}
	if err := blob.CheckRecipients(to); err != nil {
		return nil, usagef(c, "--encrypt-to: %v", err)
	}
	run.Spec.OutputTo = to
	if file == "" {
		return nil, nil
	}
	key, err := readIdentities(file)
	return &key, err
}

// progressLines prints a line for every change of a job.
func progressLines(w io.Writer) func(string, *api.Job) {
	last, told := "", false
	return func(stage string, j *api.Job) {
		line := stage
		if j != nil {
			if !told { // whole, once: who leaves now asks for its status by it
				fmt.Fprintf(w, "job %s\n", j.ID)
			}
			told = true
			line = fmt.Sprintf("job %s  %s", j.ID.Short(), stage)
			if j.Reason != "" {
				line += ": " + j.Reason
			}
			for _, r := range j.Runs {
				line += fmt.Sprintf("  [%s %s]", r.Node.Short(), r.Stage)
			}
		}
		if line != last {
			fmt.Fprintln(w, line)
		}
		last = line
	}
}

func parseJobID(c *cli.Context) (crypto.Digest, error) {
	if c.NArg() != 1 {
		return crypto.Digest{}, usagef(c, "want one JOB, got %d arguments", c.NArg())
	}
	id, err := crypto.ParseDigest(c.Args().First())
	if err != nil {
		return crypto.Digest{}, wrongJobID(c, err)
	}
	return id, nil
}

func wrongJobID(c *cli.Context, err error) error {
	return usagef(c, "JOB: %v, as job run prints it when the job is submitted, and the explorer lists it", err)
}

func jobStatus(c *cli.Context) error {
	id, err := parseJobID(c)
	if err != nil {
		return err
	}
	t, err := openTarget(c)
	if err != nil {
		return err
	}
	j, err := t.client.Job(c.Context, id)
	if err != nil {
		return err
	}
	return printReport(c, j.Report(), t)
}

func jobCancel(c *cli.Context) error {
	id, err := parseJobID(c)
	if err != nil {
		return err
	}
	t, err := openTarget(c)
	if err != nil {
		return err
	}
	j, err := t.client.CancelJob(c.Context, id, t.account, t.genesis.ChainID)
	if err != nil {
		refused := notCancelled(id, err)
		if j, err := t.client.Job(c.Context, id); err == nil {
			refused = errors.Join(refused, closeInstead(&j))
		}
		return refused
	}
	return printReport(c, j.Report(), t)
}

// notCancelled says in words that it is too late to cancel a job, if that is why it was
// refused.
func notCancelled(id crypto.Digest, refused error) error {
	p, ok := errors.AsType[*api.Problem](refused)
	if !ok || p.Status != http.StatusConflict {
		return refused
	}
	return fmt.Errorf("job %s is not cancelled: %s", id, p.Detail)
}

// closeInstead says how a lease that is open is ended; nil: the job is none.
func closeInstead(j *api.Job) error {
	if !j.Leased || j.Status.Final() || j.Deal == nil || j.Order.Term == nil {
		return nil
	}
	lease := j.ID
	if of := j.Order.Term.Resizes; !of.IsZero() {
		lease = of
	}
	return fmt.Errorf("give notice of it: hypermesh lease close --node %s --order %s", j.Deal.Bid.Node, lease)
}

// printReport prints a job's receipt.
func printReport(c *cli.Context, r api.JobReport, t *target) error {
	if c.Bool("json") {
		return printJSON(c, r)
	}
	title := "Receipt"
	if !r.Status.Final() {
		title = "Job"
	}
	writeReceipt(c.App.Writer, title, r, t.description.Explorer)
	return nil
}

// writeReceipt writes a job for a person.
func writeReceipt(w io.Writer, title string, r api.JobReport, explorer string) {
	fmt.Fprintf(w, "\n  %s\n  %s\n  job        %s\n  status     %s\n", title, strings.Repeat("─", utf8.RuneCountInString(title)), r.ID, r.Status)
	if r.Reason != "" {
		fmt.Fprintf(w, "  reason     %s\n", r.Reason)
	}
	switch {
	case r.Exit == chain.ExitFailed:
		fmt.Fprintf(w, "  ended      with exit code %d\n", r.ExitCode)
	case r.Exit != 0 && r.Exit != chain.ExitOK:
		fmt.Fprintf(w, "  ended      %s: %q\n", r.Exit, r.Detail)
	}
	fmt.Fprintf(w, "  verified   %s", r.Policy)
	switch {
	case r.ProofVerified:
		fmt.Fprint(w, ": the chain checked the proof in the block")
	case strings.HasPrefix(r.Policy, "replicate") && r.Status == job.Settled:
		fmt.Fprintf(w, ": %d providers of different owners agreed", len(r.Providers))
	}
	fmt.Fprintln(w)
	for _, p := range r.Refuted {
		fmt.Fprintf(w, "  refuted    the claim of %s\n", p)
	}
	for _, p := range r.Running {
		fmt.Fprintf(w, "  runs on    %s\n", p)
	}
	for _, p := range r.Providers {
		fmt.Fprintf(w, "  ran on     %s\n", p)
	}
	if !r.Result.IsZero() {
		fmt.Fprintf(w, "  result     %s\n", r.Result)
	}
	if r.Status == job.Settled {
		priority := ""
		if !r.Priority.IsZero() {
			priority = fmt.Sprintf("; the priority fee in it is %s", r.Priority)
		}
		fmt.Fprintf(w, "  cost       %s, of which %s burned%s\n", r.Cost, r.Burned, priority)
	}
	for _, tx := range r.SettlementTx {
		fmt.Fprintf(w, "  settled    block %d, transaction %s\n", r.Height, tx)
	}
	if r.Output != "" {
		fmt.Fprintf(w, "  output     %s\n", r.Output)
	}
	if explorer != "" {
		fmt.Fprintf(w, "  explorer   %s/jobs/%s\n", explorer, r.ID)
	}
	fmt.Fprintln(w)
}
