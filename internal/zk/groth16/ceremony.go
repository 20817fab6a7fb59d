package groth16

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/consensys/gnark-crypto/ecc"
	backend "github.com/consensys/gnark/backend/groth16/bn254"
	"github.com/consensys/gnark/backend/groth16/bn254/mpcsetup"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
)

// Why a ceremony goes no further.
var (
	// ErrCeremonyFile says that a file of a ceremony is damaged, of another
	// ceremony or phase, or not what a contribution looks like.
	ErrCeremonyFile = errors.New("groth16: ceremony file refused")
	// ErrContribution says that a contribution does not follow from the one
	// before it.
	ErrContribution = errors.New("groth16: contribution refused")
	// ErrCeremonyOrder says that a step comes too early or too late.
	ErrCeremonyOrder = errors.New("groth16: not at this point of the ceremony")
)

// The sizes of a ceremony's files.
const (
	ceremonyFormat = "hypermesh ceremony 1"
	// MaxBeacon is the longest beacon, in bytes; MinBeacon the shortest.
	MinBeacon, MaxBeacon = 16, 256
	challengeSize        = 32
	updateProofSize      = g1Size + g2Size
	maxCeremonyHead      = 1024
	maxContributions     = 1000
)

// A file of a ceremony is
//
//	digest (32 bytes, DomainCeremony, of all that follows)
//	length of the head (4 bytes, big-endian), head
//	gnark's encoding of the state after this step, to the end
//
// and holds the digest of the file before it, so the files are one chain.
type ceremonyHead struct {
	_        struct{} `cbor:",toarray"`
	Format   string
	Kernel   zk.Kernel
	Circuit  crypto.Digest
	Step     string        // the file's name
	Previous crypto.Digest // of the file before; of the first, the sealed phase 1 that it goes on from, if any
	Beacon   []byte        // of a sealed phase
}

// Ceremony makes the keys of one kernel so that nobody knows their secret
// unless every contributor keeps theirs (Bowe, Gabizon and Miers, eprint
// 2017/1050): phase 1 makes powers of τ for a domain, phase 2 the kernel's keys.
// It is a folder of files; who has them verifies all of it.
//
// Files are only ever added, whole or not at all. Not safe for concurrent use of
// one folder.
type Ceremony struct {
	dir     string
	circuit *circuit
	origin  *ceremonyHead // of the ceremony whose phase 1 this one shares; nil: none
}

// The names of a ceremony's files.
const (
	ceremonyStart  = "ceremony"
	ceremonyOrigin = "origin" // beginning of the ceremony whose phase 1 is shared
	phase1Sealed   = "phase1-sealed"
	phase2Sealed   = "phase2-sealed"
	ceremonySuffix = ".ceremony"
)

func contributionName(phase, index int) string { return fmt.Sprintf("phase%d-%03d", phase, index) }

// InitCeremony begins a ceremony for a kernel in a folder, which it creates if
// need be and which must hold none yet.
func InitCeremony(dir string, kernel zk.Kernel) (*Ceremony, error) {
	c, err := compile(kernel)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { // nothing here is secret
		return nil, fmt.Errorf("groth16: folder of the ceremony: %w", err)
	}
	z := &Ceremony{dir: dir, circuit: c}
	if z.has(ceremonyStart) || z.has(ceremonyOrigin) {
		return nil, fmt.Errorf("%w: %s holds a ceremony already", ErrCeremonyOrder, dir)
	}
	step := z.pending(ceremonyStart, crypto.Digest{}, nil, nil)
	return z, step.Write()
}

// OpenCeremony returns the ceremony that a folder holds.
func OpenCeremony(dir string) (*Ceremony, error) {
	z := &Ceremony{dir: dir}
	head, _, _, err := z.read(ceremonyStart)
	if err != nil {
		return nil, err
	}
	if z.circuit, err = compile(head.Kernel); err != nil {
		return nil, err
	}
	if head.Circuit != z.circuit.digest {
		return nil, fmt.Errorf("%w: %s is for circuit %s of %s, this program has %s",
			ErrCeremonyFile, ceremonyStart, head.Circuit.Short(), head.Kernel, z.circuit.digest.Short())
	}
	return z, z.openOrigin(&head)
}

// Kernel returns the kernel whose keys are made.
func (z *Ceremony) Kernel() zk.Kernel { return z.circuit.kernel }

// domain is the number of powers of τ.
func (z *Ceremony) domain() uint64 {
	return ecc.NextPowerOfTwo(uint64(z.circuit.system.GetNbConstraints())) // a count
}

func (z *Ceremony) path(step string) string { return filepath.Join(z.dir, step+ceremonySuffix) }

func (z *Ceremony) has(step string) bool {
	_, err := os.Stat(z.path(step))
	return err == nil
}

// count returns the number of contributions to a phase.
func (z *Ceremony) count(phase int) int {
	n := 0
	for n < maxContributions && z.has(contributionName(phase, n+1)) {
		n++
	}
	return n
}

// read returns a file's head, its payload and its digest. Its own name, kernel
// and circuit must be the ceremony's.
func (z *Ceremony) read(step string) (head ceremonyHead, payload []byte, digest crypto.Digest, err error) {
	refuse := func(why error) (ceremonyHead, []byte, crypto.Digest, error) {
		return ceremonyHead{}, nil, crypto.Digest{}, fmt.Errorf("%w: %s: %w", ErrCeremonyFile, step, why)
	}
	data, err := z.readFile(step)
	if err != nil {
		return refuse(err)
	}
	inside := step
	if step == ceremonyOrigin {
		inside = ceremonyStart
	}
	if len(data) < crypto.DigestSize+4 {
		return refuse(fmt.Errorf("%d bytes", len(data)))
	}
	digest = crypto.DomainCeremony.Hash(data[crypto.DigestSize:])
	if !bytes.Equal(digest[:], data[:crypto.DigestSize]) {
		return refuse(errors.New("damaged: its digest differs"))
	}
	data = data[crypto.DigestSize:]
	size := binary.BigEndian.Uint32(data)
	data = data[4:]
	if size > maxCeremonyHead || int(size) > len(data) {
		return refuse(fmt.Errorf("head of %d bytes, limit %d", size, maxCeremonyHead))
	}
	if err := codec.Unmarshal(data[:size], &head, maxCeremonyHead); err != nil {
		return refuse(err)
	}
	switch {
	case head.Format != ceremonyFormat:
		return refuse(fmt.Errorf("format %.40q, want %q", head.Format, ceremonyFormat))
	case head.Step != inside:
		return refuse(fmt.Errorf("it is %.40q under another name", head.Step))
	}
	if kernel, circuit, known := z.owner(step); known && (head.Kernel != kernel || head.Circuit != circuit) {
		return refuse(fmt.Errorf("of kernel %.40q and circuit %s, not this ceremony's", string(head.Kernel), head.Circuit.Short()))
	}
	if step == phase1Sealed || step == phase2Sealed {
		if err := checkBeacon(head.Beacon); err != nil {
			return refuse(err)
		}
	}
	return head, data[size:], digest, nil
}

// readFile reads a file that is no longer than the longest step there can be.
func (z *Ceremony) readFile(step string) (data []byte, err error) {
	limit := int64(maxCeremonyHead + 4096)
	if z.circuit != nil {
		limit += int64(z.phase1Size()) + int64(z.phase2Size()) // bytes
	}
	f, err := os.Open(z.path(step))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data, err = io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("longer than %d bytes", limit)
	}
	return data, err
}

// Pending is a step that is computed and not yet on the disk.
type Pending struct {
	path    string
	Name    string        // of the step
	Digest  crypto.Digest // of its file
	content []byte
	keys    *Keys  // of the last step alone
	dir     string // where they go
}

func (z *Ceremony) pending(step string, previous crypto.Digest, beacon, payload []byte) *Pending {
	kernel, circuit, _ := z.owner(step)
	head := codec.Marshal(ceremonyHead{Format: ceremonyFormat, Kernel: kernel, Circuit: circuit, Step: step, Previous: previous, Beacon: beacon})
	body := append(appendBlock(nil, head), payload...)
	digest := crypto.DomainCeremony.Hash(body)
	return &Pending{path: z.path(step), Name: step, Digest: digest, content: append(digest[:], body...), dir: z.dir}
}

// Keys returns the keys that the last step made, nil for every other.
func (p *Pending) Keys() *Keys { return p.keys }

// Write adds the step's file, whole or not at all; after the last step the keys
// as well, in the form that Load reads, and the verifying key by itself.
func (p *Pending) Write() error {
	if p.keys != nil {
		if err := writeKeys(cachePath(p.dir, p.keys.circuit), p.keys); err != nil {
			return fmt.Errorf("groth16: storing sealed keys: %w", err)
		}
		name := filepath.Join(p.dir, string(p.keys.Kernel())+".vk")
		if err := writeWhole(name, p.keys.encoding); err != nil {
			return fmt.Errorf("groth16: storing the verifying key: %w", err)
		}
	}
	if err := writeWhole(p.path, p.content); err != nil {
		return fmt.Errorf("groth16: storing step %s: %w", p.Name, err)
	}
	return nil
}

// writeWhole writes a file that is synced before it has its name. It replaces
// none that is there and differs.
func writeWhole(path string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeIfThere(f.Name())) }()
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Chmod(0o644), f.Close()); err != nil { // nothing here is secret
		return err
	}
	err = os.Link(f.Name(), path)
	if errors.Is(err, fs.ErrExist) {
		if there, readErr := os.ReadFile(path); readErr == nil && bytes.Equal(there, content) {
			err = nil
		}
	}
	return errors.Join(err, syncDir(filepath.Dir(path)))
}

// Contribute mixes new secrets from the system's randomness into the phase that
// is open, and forgets them. It checks the form of the contribution before its
// own and not what it proves: call Verify first. It takes every processor and minutes for large
// kernels: 40 s for 2¹⁵ constraints.
func (z *Ceremony) Contribute(progress Progress) (*Pending, error) {
	switch {
	case z.has(phase2Sealed):
		return nil, fmt.Errorf("%w: it is sealed", ErrCeremonyOrder)
	case z.has(phase1Sealed):
		return z.contribute2(progress)
	}
	n := z.count(1)
	progress.report("reading phase 1", 0)
	state, previous, err := z.last1(n)
	if err != nil {
		return nil, err
	}
	progress.report("contributing to phase 1", 0.2)
	state.Contribute()
	return z.pendingState(contributionName(1, n+1), previous, nil, state)
}

func (z *Ceremony) contribute2(progress Progress) (*Pending, error) {
	n := z.count(2)
	if z.count(1) == 0 {
		return nil, nobody(1)
	}
	progress.report("reading phase 2", 0)
	var state *mpcsetup.Phase2
	var previous crypto.Digest
	var err error
	if n == 0 {
		var commons *mpcsetup.SrsCommons
		if commons, previous, err = z.commons(); err != nil {
			return nil, err
		}
		state = new(mpcsetup.Phase2)
		state.Initialize(z.circuit.system, commons)
	} else if state, previous, err = z.read2(n); err != nil {
		return nil, err
	}
	progress.report("contributing to phase 2", 0.5)
	state.Contribute()
	return z.pendingState(contributionName(2, n+1), previous, nil, state)
}

func (z *Ceremony) pendingState(step string, previous crypto.Digest, beacon []byte, state io.WriterTo) (*Pending, error) {
	var payload bytes.Buffer
	if _, err := state.WriteTo(&payload); err != nil {
		return nil, fmt.Errorf("groth16: encoding step %s: %w", step, err)
	}
	return z.pending(step, previous, beacon, payload.Bytes()), nil
}

// last1 returns the state after n contributions to phase 1 and the digest of
// its file.
func (z *Ceremony) last1(n int) (*mpcsetup.Phase1, crypto.Digest, error) {
	if n == 0 {
		_, _, digest, err := z.read(z.beginning())
		return mpcsetup.NewPhase1(z.domain()), digest, err
	}
	return z.read1(n)
}

// Seal ends the phase that is open with a public value that nobody could know
// when its last contribution was made, MinBeacon to MaxBeacon bytes. It verifies
// every contribution of the phase. Sealing phase 2 makes the keys.
func (z *Ceremony) Seal(beacon []byte, progress Progress) (*Pending, error) {
	if err := checkBeacon(beacon); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCeremonyOrder, err)
	}
	if z.has(phase2Sealed) {
		return nil, fmt.Errorf("%w: it is sealed", ErrCeremonyOrder)
	}
	phase := 1
	if z.has(phase1Sealed) {
		phase = 2
	}
	if z.count(phase) == 0 {
		return nil, nobody(phase)
	}
	if phase == 1 {
		commons, previous, _, err := z.verify1(beacon, progress)
		if err != nil {
			return nil, err
		}
		return z.pendingState(phase1Sealed, previous, beacon, commons)
	}
	commons, digest, err := z.commons()
	if err != nil {
		return nil, err
	}
	keys, previous, _, err := z.verify2(commons, digest, beacon, progress)
	if err != nil {
		return nil, err
	}
	p := z.pending(phase2Sealed, previous, beacon, keys.encoding)
	p.keys = keys
	return p, nil
}

// nobody says that a phase is sealed, or is to be, without a contribution: its beacon is
// public, so everybody would know its secrets.
func nobody(phase int) error {
	return fmt.Errorf("%w: nobody has contributed to phase %d", ErrCeremonyOrder, phase)
}

func checkBeacon(beacon []byte) error {
	if len(beacon) < MinBeacon || len(beacon) > MaxBeacon {
		return fmt.Errorf("beacon of %d bytes, want %d to %d", len(beacon), MinBeacon, MaxBeacon)
	}
	return nil
}

// Step is a verified step of a ceremony.
type Step struct {
	Name   string        `json:"name"`
	Digest crypto.Digest `json:"digest"`
	Beacon string        `json:"beacon,omitempty"` // hexadecimal, of a sealed phase
}

// SealedKeys verifies the ceremony and returns the keys that it ended with.
func (z *Ceremony) SealedKeys(progress Progress) (*Keys, error) {
	transcript, err := z.Verify(progress)
	if err != nil {
		return nil, err
	}
	if !transcript.Sealed {
		return nil, fmt.Errorf("%w: the ceremony of %s is not sealed", ErrCeremonyOrder, z.Kernel())
	}
	keys, err := readKeys(cachePath(z.dir, z.circuit), z.circuit)
	if err != nil {
		return nil, err
	}
	if keys.Digest() != transcript.VerifyingKey {
		return nil, fmt.Errorf("%w: the keys of %s are %s, the ceremony ended with %s", ErrCeremonyFile, z.Kernel(), keys.Digest().Short(), transcript.VerifyingKey.Short())
	}
	return keys, nil
}

// Transcript is a verified ceremony.
type Transcript struct {
	Kernel       zk.Kernel     `json:"kernel"`
	Circuit      crypto.Digest `json:"circuit"`
	Phase1Of     zk.Kernel     `json:"phase1_of,omitempty"` // whose phase 1 it shares; empty: it has its own
	Steps        []Step        `json:"steps"`
	Sealed       bool          `json:"sealed"`
	VerifyingKey crypto.Digest `json:"verifying_key"` // zero unless sealed
}

// Verify checks every file from the first: that each contribution follows from
// the one before, that the seals are what their beacons make of them, and that
// the sealed verifying key is the one that comes out.
func (z *Ceremony) Verify(progress Progress) (Transcript, error) {
	_, _, start, err := z.read(ceremonyStart)
	if err != nil {
		return Transcript{}, err
	}
	t := Transcript{Kernel: z.circuit.kernel, Circuit: z.circuit.digest, Steps: []Step{{Name: ceremonyStart, Digest: start}}}
	if z.origin != nil {
		t.Phase1Of = z.origin.Kernel
	}
	if !z.has(phase1Sealed) {
		if z.has(phase2Sealed) || z.count(2) > 0 {
			return Transcript{}, fmt.Errorf("%w: phase 2 without a sealed phase 1", ErrCeremonyOrder)
		}
		_, _, steps, err := z.verify1(nil, progress)
		t.Steps = append(t.Steps, steps...)
		return t, err
	}
	commons, digest, steps, err := z.verifySealed1(progress)
	if err != nil {
		return Transcript{}, err
	}
	t.Steps = append(t.Steps, steps...)
	return z.verifyKeys(t, commons, digest, progress)
}

// verifySealed1 verifies phase 1 and that its seal is what its beacon makes of it. The digest is
// of the sealed file.
func (z *Ceremony) verifySealed1(progress Progress) (*mpcsetup.SrsCommons, crypto.Digest, []Step, error) {
	refuse := func(err error) (*mpcsetup.SrsCommons, crypto.Digest, []Step, error) {
		return nil, crypto.Digest{}, nil, err
	}
	if z.count(1) == 0 {
		return refuse(nobody(1))
	}
	seal, payload, digest, err := z.read(phase1Sealed)
	if err != nil {
		return refuse(err)
	}
	commons, previous, steps, err := z.verify1(seal.Beacon, progress)
	if err != nil {
		return refuse(err)
	}
	again, err := z.pendingState(phase1Sealed, previous, seal.Beacon, commons)
	if err != nil {
		return refuse(err)
	}
	if again.Digest != digest || !bytes.HasSuffix(again.content, payload) {
		return refuse(fmt.Errorf("%w: %s is not what its contributions and beacon make", ErrContribution, phase1Sealed))
	}
	return commons, digest, append(steps, Step{phase1Sealed, digest, hex.EncodeToString(seal.Beacon)}), nil
}

// verifyKeys goes on with phase 2.
func (z *Ceremony) verifyKeys(t Transcript, commons *mpcsetup.SrsCommons, previous crypto.Digest, progress Progress) (Transcript, error) {
	var beacon []byte
	var seal ceremonyHead
	var payload []byte
	var digest crypto.Digest
	sealed := z.has(phase2Sealed)
	if sealed {
		var err error
		if seal, payload, digest, err = z.read(phase2Sealed); err != nil {
			return Transcript{}, err
		}
		beacon = seal.Beacon
	}
	if z.count(2) == 0 {
		if sealed {
			return Transcript{}, nobody(2)
		}
		return t, nil
	}
	keys, last, steps, err := z.verify2(commons, previous, beacon, progress)
	if err != nil {
		return Transcript{}, err
	}
	t.Steps = append(t.Steps, steps...)
	if !sealed {
		return t, nil
	}
	if seal.Previous != last || !bytes.Equal(payload, keys.encoding) {
		return Transcript{}, fmt.Errorf("%w: %s is not what its contributions and beacon make", ErrContribution, phase2Sealed)
	}
	t.Steps = append(t.Steps, Step{phase2Sealed, digest, hex.EncodeToString(beacon)})
	t.Sealed, t.VerifyingKey = true, keys.Digest()
	return t, nil
}

// verify1 verifies phase 1 and, given a beacon, seals it.
func (z *Ceremony) verify1(beacon []byte, progress Progress) (*mpcsetup.SrsCommons, crypto.Digest, []Step, error) {
	n := z.count(1)
	state, previous, err := z.last1(0)
	if err != nil {
		return nil, crypto.Digest{}, nil, err
	}
	var steps []Step
	for i := 1; i <= n; i++ {
		progress.report(fmt.Sprintf("verifying contribution %d of %d to phase 1", i, n), float64(i-1)/float64(2*n))
		next, digest, err := z.read1(i)
		if err == nil {
			err = z.follows(contributionName(1, i), previous, func() error { return state.Verify(next) })
		}
		if err != nil {
			return nil, crypto.Digest{}, nil, err
		}
		state, previous = next, digest
		steps = append(steps, Step{Name: contributionName(1, i), Digest: digest})
	}
	if beacon == nil {
		return nil, previous, steps, nil
	}
	commons := state.Seal(beacon)
	return &commons, previous, steps, nil
}

// verify2 verifies phase 2 and, given a beacon, seals it.
func (z *Ceremony) verify2(commons *mpcsetup.SrsCommons, previous crypto.Digest, beacon []byte, progress Progress) (*Keys, crypto.Digest, []Step, error) {
	n := z.count(2)
	progress.report("computing where phase 2 begins", 0.5)
	state := new(mpcsetup.Phase2)
	evaluations := state.Initialize(z.circuit.system, commons)
	var steps []Step
	for i := 1; i <= n; i++ {
		progress.report(fmt.Sprintf("verifying contribution %d of %d to phase 2", i, n), 0.6+0.4*float64(i-1)/float64(n))
		next, digest, err := z.read2(i)
		if err == nil {
			err = z.follows(contributionName(2, i), previous, func() error { return state.Verify(next) })
		}
		if err != nil {
			return nil, crypto.Digest{}, nil, err
		}
		state, previous = next, digest
		steps = append(steps, Step{Name: contributionName(2, i), Digest: digest})
	}
	if beacon == nil {
		return nil, previous, steps, nil
	}
	pk, vk := state.Seal(commons, &evaluations, beacon)
	proving, isProving := pk.(*backend.ProvingKey)
	verifying, isVerifying := vk.(*backend.VerifyingKey)
	if !isProving || !isVerifying {
		panic(fmt.Sprintf("groth16: a ceremony sealed keys of type %T and %T", pk, vk))
	}
	keys, err := newKeys(z.circuit, proving, encodeVerifyingKey(z.circuit, verifying))
	return keys, previous, steps, err
}

// follows checks that a step names the file before it and proves its update.
func (z *Ceremony) follows(step string, previous crypto.Digest, update func() error) error {
	head, _, _, err := z.read(step)
	if err != nil {
		return err
	}
	if head.Previous != previous {
		return fmt.Errorf("%w: %s follows %s, the file before it is %s", ErrContribution, step, head.Previous.Short(), previous.Short())
	}
	if err := update(); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrContribution, step, err)
	}
	return nil
}
