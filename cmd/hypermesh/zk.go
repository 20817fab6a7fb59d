package main

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/internal/zk/groth16"
)

// zkCommand groups what is done about keys of zk kernels.
func zkCommand() *cli.Command {
	dir := &cli.StringFlag{Name: "dir", Usage: "`FOLDER` that holds the ceremony's files", Required: true}
	return &cli.Command{
		Name: "zk", Usage: "keys of zk kernels",
		Subcommands: []*cli.Command{{
			Name: "ceremony", Usage: "make a kernel's keys so that nobody knows their secret",
			Description: "A ceremony is a folder of files that contributors pass on, described in docs/CEREMONY.md. Phase 1 and then phase 2 take\n" +
				"contributions; each is ended by a seal with a public random value. One honest contributor in each phase is enough.",
			Subcommands: []*cli.Command{
				{
					Name: "init", Usage: "begin a ceremony for a kernel",
					Description: "Example: hypermesh zk ceremony init --dir ceremony --kernel matmul-64\n" +
						"Example: hypermesh zk ceremony init --dir second --kernel usage-batch-32 --phase1 first",
					Flags: []cli.Flag{
						dir, &cli.StringFlag{Name: "kernel", Usage: "`NAME` of the kernel", Required: true},
						&cli.StringFlag{Name: "phase1", Usage: "`FOLDER` of a ceremony whose sealed phase 1 it goes on from, for a kernel of the same domain"},
					},
					Action: ceremonyInit,
				},
				{
					Name: "contribute", Usage: "mix own randomness into the phase that is open",
					Description: "Takes every processor and, for large kernels, many minutes. Interrupted, it leaves nothing behind.\n" +
						"Example: hypermesh zk ceremony contribute --dir ceremony",
					Flags:  []cli.Flag{dir, jsonFlag()},
					Action: ceremonyContribute,
				},
				{
					Name: "verify", Usage: "verify every file from the first and print what they are",
					Description: "Example: hypermesh zk ceremony verify --dir ceremony",
					Flags:       []cli.Flag{dir, jsonFlag()},
					Action:      ceremonyVerify,
				},
				{
					Name: "seal", Usage: "end the phase that is open with a public random value",
					Description: "The value must have been unknown when the last contribution was made: a later block's hash, a public beacon. Sealing\n" +
						"phase 2 writes the keys and prints the digest for genesis.\n" +
						"Example: hypermesh zk ceremony seal --dir ceremony --beacon 5f0c1be0a6f1fd8d2a2f0a6ef2ad7a4f5e2f3d7c6b1a09182736455463728190",
					Flags: []cli.Flag{dir, &cli.StringFlag{
						Name: "beacon", Usage: fmt.Sprintf("the value as `HEX` digits, %d to %d bytes", groth16.MinBeacon, groth16.MaxBeacon), Required: true,
					}, jsonFlag()},
					Action: ceremonySeal,
				},
			},
		}},
	}
}

// ceremonyResult is what a step prints as JSON.
type ceremonyResult struct {
	Step         string         `json:"step"`
	Digest       crypto.Digest  `json:"digest"`
	Kernel       zk.Kernel      `json:"kernel"`
	VerifyingKey *crypto.Digest `json:"verifying_key,omitempty"`
}

func ceremonyInit(c *cli.Context) error {
	if c.NArg() > 0 {
		return usagef(c, "want no arguments, got %d", c.NArg())
	}
	kernel := zk.Kernel(c.String("kernel"))
	if _, _, ok := kernel.Of(); !ok {
		return usagef(c, "kernel %q is unknown, there are %v", string(kernel), zk.Kernels())
	}
	z, err := unlessInterrupted(c.Context, func() (*groth16.Ceremony, error) {
		if phase1 := c.String("phase1"); phase1 != "" {
			return groth16.InitCeremonyFrom(c.String("dir"), kernel, phase1, ceremonyProgress(c))
		}
		return groth16.InitCeremony(c.String("dir"), kernel)
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(c.App.ErrWriter, "a ceremony for %s begins in %s\n", z.Kernel(), c.String("dir"))
	return nil
}

func ceremonyContribute(c *cli.Context) error {
	return ceremonyStep(c, func(z *groth16.Ceremony) (*groth16.Pending, error) { return z.Contribute(ceremonyProgress(c)) })
}

func ceremonySeal(c *cli.Context) error {
	beacon, err := hex.DecodeString(c.String("beacon"))
	if err != nil || len(beacon) < groth16.MinBeacon || len(beacon) > groth16.MaxBeacon {
		return usagef(c, "beacon %.80q is not %d to %d bytes as hexadecimal digits", c.String("beacon"), groth16.MinBeacon, groth16.MaxBeacon)
	}
	return ceremonyStep(c, func(z *groth16.Ceremony) (*groth16.Pending, error) { return z.Seal(beacon, ceremonyProgress(c)) })
}

// ceremonyStep computes a step and, unless it was interrupted, writes it. The
// writing itself is short and is not interrupted.
func ceremonyStep(c *cli.Context, compute func(*groth16.Ceremony) (*groth16.Pending, error)) error {
	if c.NArg() > 0 {
		return usagef(c, "want no arguments, got %d", c.NArg())
	}
	type computed struct {
		step   *groth16.Pending
		kernel zk.Kernel
	}
	done, err := unlessInterrupted(c.Context, func() (computed, error) {
		z, err := groth16.OpenCeremony(c.String("dir"))
		if err != nil {
			return computed{}, err
		}
		step, err := compute(z)
		return computed{step: step, kernel: z.Kernel()}, err
	})
	if err != nil {
		return err
	}
	if err := done.step.Write(); err != nil {
		return err
	}
	result := ceremonyResult{Step: done.step.Name, Digest: done.step.Digest, Kernel: done.kernel}
	if keys := done.step.Keys(); keys != nil {
		digest := keys.Digest()
		result.VerifyingKey = &digest
	}
	if c.Bool("json") {
		return printJSON(c, result)
	}
	fmt.Fprintf(c.App.Writer, "%s %s\n", result.Step, result.Digest)
	if result.VerifyingKey != nil {
		fmt.Fprintf(c.App.Writer, "verifying key of %s: %s\n", result.Kernel, result.VerifyingKey)
	}
	return nil
}

func ceremonyVerify(c *cli.Context) error {
	if c.NArg() > 0 {
		return usagef(c, "want no arguments, got %d", c.NArg())
	}
	t, err := unlessInterrupted(c.Context, func() (groth16.Transcript, error) {
		z, err := groth16.OpenCeremony(c.String("dir"))
		if err != nil {
			return groth16.Transcript{}, err
		}
		return z.Verify(ceremonyProgress(c))
	})
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c, t)
	}
	fmt.Fprintf(c.App.Writer, "kernel %s, circuit %s\n", t.Kernel, t.Circuit)
	if t.Phase1Of != "" {
		fmt.Fprintf(c.App.Writer, "phase 1 is that of the ceremony for %s\n", t.Phase1Of)
	}
	for _, step := range t.Steps {
		fmt.Fprintf(c.App.Writer, "%s %s", step.Name, step.Digest)
		if step.Beacon != "" {
			fmt.Fprintf(c.App.Writer, " beacon %s", step.Beacon)
		}
		fmt.Fprintln(c.App.Writer)
	}
	if t.Sealed {
		fmt.Fprintf(c.App.Writer, "verifying key %s\n", t.VerifyingKey)
	}
	return nil
}

func ceremonyProgress(c *cli.Context) groth16.Progress {
	return func(stage string, fraction float64) {
		fmt.Fprintf(c.App.ErrWriter, "%3.0f %% %s\n", 100*fraction, stage)
	}
}

// unlessInterrupted runs work that cannot be stopped, and leaves it behind when ctx
// ends: the process ends next, and work has written nothing by then.
func unlessInterrupted[T any](ctx context.Context, work func() (T, error)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		value, err := work()
		done <- outcome{value, err}
	}()
	select {
	case o := <-done:
		return o.value, o.err
	case <-ctx.Done():
		var none T
		return none, fmt.Errorf("interrupted: %w", context.Cause(ctx))
	}
}
