package main

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk"
)

// kernelFromFlags reads a kernel and its inputs, and computes, so that what no executor would take
// is refused before anything is paid. The verifying key comes from the genesis (bindKernel).
func kernelFromFlags(c *cli.Context, run *sdk.JobRun) error {
	_, _, sized := zk.Kernel(c.String("kernel")).Of()
	switch {
	case !sized && c.String("kernel") != string(zk.Matmul):
		return usagef(c, "--kernel %.40q is unknown: want matmul, or one of %v", c.String("kernel"), zk.Kernels())
	case c.String("verify") != "zk":
		return usagef(c, "--kernel needs --verify zk")
	case c.NArg() > 0:
		return usagef(c, "--kernel takes no program")
	}
	kernel, files, err := kernelFiles(c)
	if err != nil {
		return err
	}
	family, _, _ := kernel.Of()
	if family == zk.UsageBatch {
		return usagef(c, "%s is what hypermesh relay --private proves, not a job", kernel)
	}
	inputs := make([][]byte, len(files))
	for i, path := range files {
		data, err := readInput(path)
		if err == nil && family == zk.MerkleState {
			data, err = treeInput(i, data)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		inputs[i] = data
	}
	work, err := zk.Read(kernel, inputs)
	if err != nil {
		return err
	}
	policy := chain.PolicyZK{Kernel: string(kernel)}
	for _, digest := range work.Inputs() {
		policy.Inputs = append(policy.Inputs, chain.FieldBytes(digest))
	}
	for _, data := range inputs {
		run.Blobs = append(run.Blobs, bytes.NewReader(data))
	}
	run.Spec.Label, run.Policy = string(kernel), policy
	run.Bind = func(ids []crypto.Digest) job.Work { return job.Kernel{Name: kernel, Inputs: ids} }
	return nil
}

// kernelFiles returns the kernel that the command line names and its files. A matmul of the files'
// size may be named without it.
func kernelFiles(c *cli.Context) (kernel zk.Kernel, files []string, err error) {
	kernel, files = zk.Kernel(c.String("kernel")), c.StringSlice("input")
	if kernel == zk.Kernel(zk.Matmul) {
		if c.String("a") == "" || c.String("b") == "" || len(files) > 0 {
			return "", nil, usagef(c, "--kernel matmul needs --a and --b, and no --input")
		}
		data, err := readInput(c.String("a"))
		if err != nil {
			return "", nil, fmt.Errorf("%s: %w", c.String("a"), err)
		}
		left, err := zk.ParseMatrixCSV(data)
		if err != nil {
			return "", nil, fmt.Errorf("%s: %w", c.String("a"), err)
		}
		kernel, err = zk.MatmulKernel(left.Size())
		return kernel, []string{c.String("a"), c.String("b")}, err
	}
	switch {
	case c.String("a") != "" || c.String("b") != "":
		return "", nil, usagef(c, "--a and --b go with --kernel matmul, others take --input")
	case len(files) == 0:
		return "", nil, usagef(c, "--kernel %s needs --input", kernel)
	}
	return kernel, files, nil
}

// readInput reads a file that is not too long for any kernel.
func readInput(path string) (data []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading an input: %w", err)
	}
	data, err = io.ReadAll(io.LimitReader(f, zk.MaxInputSize+1))
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil && len(data) > zk.MaxInputSize {
		err = fmt.Errorf("longer than %d bytes", zk.MaxInputSize)
	}
	return data, err
}

// treeInput returns the encoding of a tree (file 0) or of updates that are written as text, and any
// other data as it is.
func treeInput(file int, data []byte) ([]byte, error) {
	if len(data) > 0 && (data[0] < '0' || data[0] > '9') { // of an encoding, the first byte is 0x80 or more
		return data, nil
	}
	if file > 0 {
		updates, err := zk.ParseTreeUpdatesCSV(data)
		return zk.EncodeTreeUpdates(updates), err
	}
	tree, err := zk.ParseTreeCSV(data)
	return tree.Encode(), err
}
