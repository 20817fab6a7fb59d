package devnet

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/internal/zk/groth16"
)

// proofGas is the gas of verifying one Groth16 proof: it takes some 1.1
// milliseconds, and a unit stands for five nanoseconds at least (ADR 8).
const proofGas = 250_000

// hardwareStepNs is the slowest pace that there is: all agents share the cores of one machine, with
// whatever else it does.
const hardwareStepNs = 1_000_000

// DefaultEpoch is how long an epoch of a devnet takes.
const DefaultEpoch = time.Minute

// Params are a devnet's: delays of minutes, or of some epochs, where a main
// network has days, bonds that its accounts can afford, and a target that no load
// reaches: a bench measures nodes, not what gas costs when there is too little.
func Params(epoch time.Duration) chain.Params {
	const minute = 60 * 1000
	p := chain.DefaultParams()
	p.WithdrawalDelayMs, p.ClaimWindowMs = 60*minute, 30*minute
	p.TargetGasPerSec = chain.GasUnits(1_000_000_000)
	p.EpochMs = uint64(epoch.Milliseconds())
	p.EvidenceWindowMs, p.JailMs = 4*p.EpochMs, p.EpochMs
	p.CommitMs, p.RevealMs = minute, minute/2
	p.UnbondDelayMs = min(5*minute, 32*p.EpochMs)
	p.HardwareMs, p.HardwareStepNs, p.HardwareLaneMiB = minute/3, 200_000, 16 // nodes share a machine
	return p
}

// DefaultKeysDir is where proving keys are cached, by circuit.
func DefaultKeysDir() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "hypermesh", "keys")
}

// Progress is told what a long work does, and which part of it is done.
type Progress func(stage string, fraction float64)

// PlainProgress writes a line for each stage.
func PlainProgress(w io.Writer) Progress {
	return func(stage string, fraction float64) { fmt.Fprintf(w, "%3.0f %% %s\n", 100*fraction, stage) }
}

// AddKernels makes or loads the keys of kernels in keysDir, pins them in the
// genesis as insecure, and writes the verifying keys into a home.
func AddKernels(g *chain.Genesis, home, keysDir string, kernels []string, progress Progress) error {
	slices.Sort(kernels)
	for _, name := range slices.Compact(kernels) {
		kernel := zk.Kernel(name)
		if _, _, ok := kernel.Of(); !ok {
			return fmt.Errorf("devnet: kernel %q is unknown", name)
		}
		keys, err := groth16.LoadOrSetup(keysDir, kernel, groth16.Progress(progress))
		if err != nil {
			return fmt.Errorf("devnet: keys of %s: %w", name, err)
		}
		if err := node.WriteVerifyingKey(home, name, keys.VerifyingKey()); err != nil {
			return err
		}
		g.Kernels = append(g.Kernels, chain.GenesisKernel{Name: name, VerifyingKey: keys.Digest(), FixedGas: chain.GasUnits(proofGas)})
		g.InsecureKeys = true
	}
	return nil
}

// AddCeremonies verifies sealed ceremonies from their folders, pins their keys in the genesis, writes the verifying keys
// into a home and, if keysDir is not empty, all keys there. It returns the kernels.
func AddCeremonies(g *chain.Genesis, home, keysDir string, folders []string, progress Progress) ([]string, error) {
	var kernels []string
	for _, folder := range folders {
		z, err := groth16.OpenCeremony(folder)
		if err != nil {
			return nil, fmt.Errorf("ceremony in %s: %w", folder, err)
		}
		name := string(z.Kernel())
		if slices.Contains(kernels, name) {
			return nil, fmt.Errorf("ceremony in %s: another is of %s as well", folder, name)
		}
		keys, err := z.SealedKeys(groth16.Progress(progress))
		if err != nil {
			return nil, fmt.Errorf("ceremony in %s: %w", folder, err)
		}
		if err := node.WriteVerifyingKey(home, name, keys.VerifyingKey()); err != nil {
			return nil, err
		}
		if keysDir != "" {
			if err := keys.Store(keysDir); err != nil {
				return nil, err
			}
		}
		g.Kernels = append(g.Kernels, chain.GenesisKernel{Name: name, VerifyingKey: keys.Digest(), FixedGas: chain.GasUnits(proofGas)})
		kernels = append(kernels, name)
	}
	return kernels, nil
}
