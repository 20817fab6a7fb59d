package groth16

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
)

const ceremonyKernel = zk.Kernel("hashchain-1")

var (
	firstBeacon  = []byte("a beacon of the first phase")
	secondBeacon = []byte("a beacon of the second phase")
)

// must writes a step of a ceremony.
func must(t *testing.T, step *Pending, err error) *Pending {
	t.Helper()
	if err == nil {
		err = step.Write()
	}
	if err != nil {
		t.Fatal(err)
	}
	return step
}

// TestThreeContributorsAndATamperer holds a whole ceremony, then lets a tamperer
// at its files: a stranger who has only them finds every change.
func TestThreeContributorsAndATamperer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ceremony")
	if _, err := OpenCeremony(dir); !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, ErrCeremonyFile) {
		t.Errorf("a ceremony in no folder: %v", err)
	}
	z, err := InitCeremony(dir, ceremonyKernel)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := InitCeremony(dir, ceremonyKernel); !errors.Is(err, ErrCeremonyOrder) {
		t.Errorf("a second beginning: %v", err)
	}
	if _, err := z.Seal(firstBeacon, nil); !errors.Is(err, ErrCeremonyOrder) || !strings.Contains(err.Error(), "nobody has contributed") {
		t.Errorf("sealed without a contribution: %v", err)
	}
	for range 3 {
		step, err := z.Contribute(nil)
		must(t, step, err)
	}
	if _, err := z.Seal([]byte("short"), nil); !errors.Is(err, ErrCeremonyOrder) {
		t.Errorf("a short beacon: %v", err)
	}
	step, err := z.Seal(firstBeacon, nil)
	must(t, step, err)
	for range 3 {
		if z, err = OpenCeremony(dir); err != nil { // each on a machine of their own
			t.Fatal(err)
		}
		step, err := z.Contribute(nil)
		must(t, step, err)
	}
	step, err = z.Seal(secondBeacon, nil)
	sealed := must(t, step, err)
	for name, late := range map[string]func() (*Pending, error){
		"contributed": func() (*Pending, error) { return z.Contribute(nil) },
		"sealed":      func() (*Pending, error) { return z.Seal(secondBeacon, nil) },
	} {
		if _, err := late(); !errors.Is(err, ErrCeremonyOrder) {
			t.Errorf("%s after the end: %v", name, err)
		}
	}
	transcript, err := z.Verify(nil)
	if err != nil || !transcript.Sealed || len(transcript.Steps) != 9 || transcript.VerifyingKey != sealed.Keys().Digest() {
		t.Fatalf("transcript %+v, %v", transcript, err)
	}
	sealedKeysProve(t, dir, transcript)
	tamper(t, dir)
}

// sealedKeysProve loads the keys as an agent does and the verifying key as a
// node does.
func sealedKeysProve(t *testing.T, dir string, transcript Transcript) {
	t.Helper()
	keys, err := Load(dir, ceremonyKernel)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := os.ReadFile(filepath.Join(dir, string(ceremonyKernel)+".vk"))
	if err != nil {
		t.Fatal(err)
	}
	if VerifyingKeyDigest(encoded) != transcript.VerifyingKey || keys.Digest() != transcript.VerifyingKey {
		t.Errorf("keys %s, file %s, transcript %s", keys.Digest(), VerifyingKeyDigest(encoded), transcript.VerifyingKey)
	}
	result, err := NewProver(keys).Prove(randomWork(t, seeded(t), ceremonyKernel), zk.Field{31: 3})
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := NewVerifier(map[zk.Kernel][]byte{ceremonyKernel: encoded})
	if err != nil {
		t.Fatal(err)
	}
	if err := verifier.Verify(result.Statement, result.Proof); err != nil {
		t.Error(err)
	}
}

// rewrite changes a file's head and payload and gives it the digest that it
// then has, as somebody does who knows the format.
func rewrite(t *testing.T, path string, edit func(head *ceremonyHead, payload []byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data = data[crypto.DigestSize:]
	size := binary.BigEndian.Uint32(data)
	var head ceremonyHead
	if err := codec.Unmarshal(data[4:4+size], &head, maxCeremonyHead); err != nil {
		t.Fatal(err)
	}
	payload := edit(&head, slices.Clone(data[4+size:]))
	body := append(appendBlock(nil, codec.Marshal(head)), payload...)
	digest := crypto.DomainCeremony.Hash(body)
	if err := os.WriteFile(path, append(digest[:], body...), 0o600); err != nil {
		t.Fatal(err)
	}
}

// tampering is a change of one file and what it is refused as.
type tampering struct {
	name, step string
	change     func(t *testing.T, path string)
	want       error
}

// inPayload changes what gnark wrote, inHead what we wrote before it.
func inPayload(edit func(p []byte) []byte) func(t *testing.T, path string) {
	return func(t *testing.T, path string) {
		rewrite(t, path, func(_ *ceremonyHead, p []byte) []byte { return edit(p) })
	}
}

func inHead(edit func(h *ceremonyHead)) func(t *testing.T, path string) {
	return func(t *testing.T, path string) {
		rewrite(t, path, func(h *ceremonyHead, p []byte) []byte { edit(h); return p })
	}
}

func copyPoint(from, to int) func(p []byte) []byte {
	return func(p []byte) []byte { copy(p[to:to+g1Size], p[from:from+g1Size]); return p }
}

func phase1Tamperings() []tampering {
	const tau = 3*updateProofSize + 8 + g2Size
	return []tampering{
		{"a flipped bit", "phase1-002", func(t *testing.T, path string) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			data[len(data)/2] ^= 1
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}, ErrCeremonyFile},
		{"a power of τ replaced", "phase1-002", inPayload(copyPoint(tau, tau+g1Size)), ErrContribution},
		{"a proof replaced", "phase1-003", inPayload(copyPoint(updateProofSize, 0)), ErrContribution},
		{"another challenge", "phase1-001", inPayload(func(p []byte) []byte { p[len(p)-1] ^= 1; return p }), ErrContribution},
		{"a contribution left out", "phase1-003", func(t *testing.T, path string) {
			if err := os.Rename(path, strings.Replace(path, "003", "002", 1)); err != nil {
				t.Fatal(err)
			}
		}, ErrCeremonyFile},
		{"a contribution left out, renamed inside", "phase1-003", func(t *testing.T, path string) {
			rewrite(t, path, func(h *ceremonyHead, p []byte) []byte { h.Step = "phase1-002"; return p })
			if err := os.Rename(path, strings.Replace(path, "003", "002", 1)); err != nil {
				t.Fatal(err)
			}
		}, ErrContribution},
		{"a hostile domain", "phase1-001", inPayload(func(p []byte) []byte {
			copy(p[3*updateProofSize:], bytes.Repeat([]byte{0x7f}, 8))
			return p
		}), ErrCeremonyFile},
	}
}

func phase2Tamperings() []tampering {
	return []tampering{
		{"a hostile list", "phase2-001", inPayload(func(p []byte) []byte {
			copy(p[2+g1Size:], bytes.Repeat([]byte{0x7f}, 4))
			return p
		}), ErrCeremonyFile},
		{"no point", "phase2-002", inPayload(func(p []byte) []byte { clear(p[2 : 2+g1Size]); return p }), ErrCeremonyFile},
		{"a byte more", "phase2-002", inPayload(func(p []byte) []byte { return append(p, 0) }), ErrCeremonyFile},
		{"a key's point replaced", "phase2-002", inPayload(copyPoint(2+g1Size+4, 2+g1Size+4+g1Size)), ErrContribution},
		{"δ replaced", "phase2-003", inPayload(copyPoint(2+g1Size+4, 2)), ErrContribution},
		{"another beacon", "phase1-sealed", inHead(func(h *ceremonyHead) { h.Beacon[0] ^= 1 }), ErrContribution},
		{"another last beacon", "phase2-sealed", inHead(func(h *ceremonyHead) { h.Beacon[0] ^= 1 }), ErrContribution},
		{"a short beacon", "phase1-sealed", inHead(func(h *ceremonyHead) { h.Beacon = h.Beacon[:1] }), ErrCeremonyFile},
		{"no beacon", "phase2-sealed", inHead(func(h *ceremonyHead) { h.Beacon = nil }), ErrCeremonyFile},
		{"another verifying key", "phase2-sealed", inPayload(func(p []byte) []byte { p[len(p)-1] ^= 1; return p }), ErrContribution},
		{"another kernel", "phase2-001", inHead(func(h *ceremonyHead) { h.Kernel = "matmul-4" }), ErrCeremonyFile},
		{"another format", "phase2-001", inHead(func(h *ceremonyHead) { h.Format = "x" }), ErrCeremonyFile},
		{"another circuit", "ceremony", inHead(func(h *ceremonyHead) { h.Circuit[0] ^= 1 }), ErrCeremonyFile},
		{"an empty file", "phase1-001", func(t *testing.T, path string) {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, ErrCeremonyFile},
		{"an endless file", "phase1-001", func(t *testing.T, path string) {
			if err := os.Truncate(path, 1<<30); err != nil {
				t.Fatal(err)
			}
		}, ErrCeremonyFile},
	}
}

func tamper(t *testing.T, dir string) {
	for i, c := range append(phase1Tamperings(), phase2Tamperings()...) {
		if testing.Short() && i%5 != 1 {
			continue // each verifies the ceremony anew
		}
		t.Run(c.name, func(t *testing.T) {
			theirs := t.TempDir()
			if err := os.CopyFS(theirs, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			c.change(t, filepath.Join(theirs, c.step+ceremonySuffix))
			z, err := OpenCeremony(theirs)
			if err == nil {
				_, err = z.Verify(nil)
			}
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.step[:6]) {
				t.Errorf("%v, want it to name %s: %v", err, c.step, c.want)
			}
		})
	}
}

// TestACeremonyWithoutHandsIsRefused: who begins a ceremony may seal a phase by the beacon
// alone, and would know its secrets.
func TestACeremonyWithoutHandsIsRefused(t *testing.T) {
	dir := t.TempDir()
	z, err := InitCeremony(dir, ceremonyKernel)
	if err != nil {
		t.Fatal(err)
	}
	commons, previous, _, err := z.verify1(firstBeacon, nil)
	if err != nil {
		t.Fatal(err)
	}
	step, err := z.pendingState(phase1Sealed, previous, firstBeacon, commons)
	must(t, step, err)
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ErrCeremonyOrder) || !strings.Contains(err.Error(), "nobody has contributed to phase 1") {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err = z.Verify(nil)
	refused("verified", err)
	_, err = z.Contribute(nil)
	refused("contributed", err)
}

// TestAContributionIsWholeOrNotThere: what could not be written leaves nothing,
// and what is there is never replaced.
func TestAContributionIsWholeOrNotThere(t *testing.T) {
	dir := t.TempDir()
	z, err := InitCeremony(dir, ceremonyKernel)
	if err != nil {
		t.Fatal(err)
	}
	first, err := z.Contribute(nil)
	if err != nil {
		t.Fatal(err)
	}
	second, err := z.Contribute(nil) // at the same time, elsewhere
	if err != nil {
		t.Fatal(err)
	}
	must(t, first, nil)
	if err := second.Write(); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a contribution was replaced: %v", err)
	}
	must(t, first, nil)
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 2 {
		t.Errorf("the folder holds %q, %v", files, err)
	}
}

// TestASharedPhase1 has two kernels of one domain use the phase 1 of three contributors, and lets
// a tamperer at the files of the one that shares it.
func TestASharedPhase1(t *testing.T) {
	if testing.Short() {
		t.Skip("contributions to a domain of 2048 take seconds each: make e2e runs it")
	}
	const first, second = zk.Kernel("mlp-8"), zk.Kernel("matmul-4")
	base := t.TempDir()
	own, shared := filepath.Join(base, "own"), filepath.Join(base, "shared")
	z, err := InitCeremony(own, first)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, kernel zk.Kernel, want error, part string) {
		t.Helper()
		_, err := InitCeremonyFrom(filepath.Join(base, "refused"), kernel, own, nil)
		if !errors.Is(err, want) || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := os.Stat(filepath.Join(base, "refused", ceremonyStart+ceremonySuffix)); err == nil {
			t.Errorf("%s: a ceremony began", what)
		}
	}
	for range 3 {
		step, err := z.Contribute(nil)
		must(t, step, err)
	}
	refused("not sealed", second, ErrCeremonyOrder, "not sealed")
	step, err := z.Seal(firstBeacon, nil)
	must(t, step, err)
	refused("another domain", ceremonyKernel, ErrCeremonyOrder, "domain of 2048")
	if z, err = InitCeremonyFrom(shared, second, own, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := InitCeremony(shared, second); !errors.Is(err, ErrCeremonyOrder) {
		t.Errorf("a second beginning: %v", err)
	}
	for range 3 {
		if z, err = OpenCeremony(shared); err != nil {
			t.Fatal(err)
		}
		step, err := z.Contribute(nil)
		if must(t, step, err); !strings.HasPrefix(step.Name, "phase2-") {
			t.Errorf("contributed %s", step.Name)
		}
	}
	step, err = z.Seal(secondBeacon, nil)
	sealed := must(t, step, err)
	transcript, err := z.Verify(nil)
	if err != nil || !transcript.Sealed || len(transcript.Steps) != 9 || transcript.Phase1Of != first || transcript.VerifyingKey != sealed.Keys().Digest() {
		t.Fatalf("transcript %+v, %v", transcript, err)
	}
	keys, err := Load(shared, second)
	if err != nil {
		t.Fatal(err)
	}
	result := mustProve(t, keys)
	if err := verifierOf(t, keys).Verify(result.Statement, result.Proof); err != nil {
		t.Error(err)
	}
	third, err := InitCeremonyFrom(filepath.Join(base, "third"), second, shared, nil) // of one that shares it
	if err != nil || third.origin.Kernel != first {
		t.Errorf("shared once more: %v", err)
	}
	tamperShared(t, own, shared)
	rewrite(t, filepath.Join(own, "phase1-002"+ceremonySuffix), func(_ *ceremonyHead, p []byte) []byte {
		const tau = 3*updateProofSize + 8 + g2Size
		return copyPoint(tau, tau+g1Size)(p)
	})
	refused("a phase 1 that was changed", second, ErrContribution, "phase1-002")
}

func tamperShared(t *testing.T, own, shared string) {
	tau := 3*updateProofSize + 8 + g2Size
	for _, c := range []tampering{
		{"a power of τ replaced", "phase1-002", inPayload(copyPoint(tau, tau+g1Size)), ErrContribution},
		{"another sealed phase 1", "phase1-sealed", inPayload(func(p []byte) []byte { return copyPoint(8+g2Size, 8+g2Size+g1Size)(p) }), ErrCeremonyFile},
		{"another beacon", "phase1-sealed", inHead(func(h *ceremonyHead) { h.Beacon[0] ^= 1 }), ErrCeremonyFile},
		{"another origin", "origin", inHead(func(h *ceremonyHead) { h.Circuit[0] ^= 1 }), ErrCeremonyFile},
		{"an origin that shares", "origin", inHead(func(h *ceremonyHead) { h.Previous[0] ^= 1 }), ErrCeremonyFile},
		{"no origin", "origin", func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, ErrCeremonyFile},
		{"a phase 1 of its own", "ceremony", inHead(func(h *ceremonyHead) { h.Previous = crypto.Digest{} }), ErrCeremonyFile},
		{"another phase 1", "ceremony", inHead(func(h *ceremonyHead) { h.Previous[0] ^= 1 }), ErrCeremonyFile},
		{"the other's keys", "phase2-001", inHead(func(h *ceremonyHead) { h.Kernel = "mlp-8" }), ErrCeremonyFile},
	} {
		t.Run(c.name, func(t *testing.T) {
			theirs := t.TempDir()
			if err := os.CopyFS(theirs, os.DirFS(shared)); err != nil {
				t.Fatal(err)
			}
			c.change(t, filepath.Join(theirs, c.step+ceremonySuffix))
			z, err := OpenCeremony(theirs)
			if err == nil {
				_, err = z.Verify(nil)
			}
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
	if z, err := OpenCeremony(own); err != nil {
		t.Error(err)
	} else if _, err := z.Verify(nil); err != nil {
		t.Errorf("the ceremony that was shared: %v", err)
	}
}
