package light_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

func key(n int) crypto.PrivateKey { return crypto.PrivateKeyFromSeed([32]byte{byte(n), 9}) }

func owner(n int) chain.Address {
	return chain.AddressOf(crypto.AccountKeyOf(key(n).Public()))
}

// genesis has four validators of equal stake.
func genesis(t testing.TB) *chain.Genesis {
	t.Helper()
	g := &chain.Genesis{ChainID: "light-test", TimeMs: 1, Params: chain.DefaultParams()}
	bucket := func(percent uint64) chain.Amount {
		share, ok := chain.TotalSupply.ShareFloor(percent, 100)
		if !ok {
			t.Fatal("share")
		}
		return share
	}
	staked := bucket(10)
	each, _ := staked.ShareFloor(1, 4)
	for i := range 4 {
		g.Validators = append(g.Validators, chain.GenesisValidator{
			Name: "v", ConsensusKey: key(i).Public(), NodeKey: key(100 + i).Public(), Owner: owner(i), Stake: each,
		})
	}
	for _, d := range chain.Distribution {
		a := chain.Allocation{Bucket: d.Bucket, Address: owner(50), Amount: bucket(d.Percent)}
		if d.Bucket == chain.BucketTeam {
			a.Vesting = &chain.Vesting{StartMs: 1, CliffMs: chain.TeamCliffMs, DurationMs: chain.TeamDurationMs}
		}
		if d.Bucket != chain.BucketValidators {
			g.Allocations = append(g.Allocations, a)
		}
	}
	return g
}

// testChain makes finalized blocks over a real tree.
type testChain struct {
	t         testing.TB
	genesis   *chain.Genesis
	verifier  *light.Verifier
	committee *consensus.Committee
	tree      *state.Tree
	headers   []chain.Header
	blocks    [][]byte
	receipts  [][]byte
}

func newChain(t testing.TB) *testChain {
	t.Helper()
	g := genesis(t)
	v, err := light.New(g)
	if err != nil {
		t.Fatal(err)
	}
	committee, _ := v.Committee(light.FirstEpoch)
	return &testChain{t: t, genesis: g, verifier: v, committee: committee, tree: state.NewTree(state.NewMemoryBackend(), 1000)}
}

// grow adds a block whose parent's execution made the changes.
func (c *testChain) grow(changes ...state.Change) {
	c.t.Helper()
	height := chain.Height(len(c.headers) + 1)
	next, err := c.tree.Next(uint64(height), changes, 1)
	if err != nil {
		c.t.Fatal(err)
	}
	c.tree = next
	before := chain.BlockReceipts{Txs: []chain.Receipt{{TxID: crypto.Digest{byte(height)}, GasUsed: chain.GasUnits(7)}}}
	parent := c.genesis.Digest()
	if height > 1 {
		parent = c.headers[height-2].Digest()
	}
	block := chain.Block{Header: chain.Header{
		Version: chain.BlockVersion, ChainID: "light-test", Height: height, Epoch: 1, View: 2 * uint64(height), Parent: parent, TimeMs: chain.TimeMs(height),
		TxRoot: chain.ListRoot(crypto.DomainTxRoot, nil), StateRoot: c.tree.Root(), ReceiptRoot: before.Root(),
		Committee: c.committee.Digest(), NextCommittee: c.committee.Digest(),
	}}
	block.Header.ExtraRoot = block.Body.ExtraRoot()
	c.headers = append(c.headers, block.Header)
	c.blocks = append(c.blocks, block.Encode())
	c.receipts = append(c.receipts, before.Encode())
}

func (c *testChain) signer(i int) crypto.PrivateKey {
	for n := range 4 {
		if key(n).Public() == c.committee.Validator(consensus.Signer(i)).Key {
			return key(n)
		}
	}
	c.t.Fatal("no such signer")
	return crypto.PrivateKey{}
}

func (c *testChain) certify(kind consensus.Kind, p consensus.Proposal, chainID string, signers ...int) []byte {
	s := consensus.Statement{Kind: kind, Proposal: p}
	var votes []consensus.Vote
	for _, i := range signers {
		votes = append(votes, consensus.SignVote(c.signer(i), consensus.Signer(i), chainID, s))
	}
	return consensus.EncodeCertificate(consensus.Assemble(c.committee, s, votes))
}

func (c *testChain) proposal(height int) consensus.Proposal {
	h := c.headers[height-1]
	return consensus.Proposal{Round: consensus.Round{Epoch: 1, View: consensus.View(h.View)}, Digest: h.Digest()}
}

// evidence shows block height by the certificate of block certified.
func (c *testChain) evidence(height, certified int) light.Evidence {
	e := light.Evidence{Header: c.headers[height-1].Encode()}
	for i := height + 1; i <= certified; i++ {
		e.Path = append(e.Path, c.headers[i-1].Encode())
	}
	e.Certificate = c.certify(consensus.KindFinalize, c.proposal(certified), "light-test", 0, 1, 2)
	return e
}

func (c *testChain) verified(height int) light.Header {
	c.t.Helper()
	h, err := c.verifier.VerifyHeader(c.evidence(height, height))
	if err != nil {
		c.t.Fatal(err)
	}
	return h
}

func TestHeaderByItsOwnOrADescendantsCertificate(t *testing.T) {
	c := newChain(t)
	for range 5 {
		c.grow()
	}
	for certified := 2; certified <= 5; certified++ {
		h, err := c.verifier.VerifyHeader(c.evidence(2, certified))
		if err != nil {
			t.Fatal(err)
		}
		if h.Height() != 2 || h.Digest() != c.headers[1].Digest() || h.TimeMs() != 2 {
			t.Fatalf("%+v", h)
		}
	}
	if h := c.verified(1); h.Height() != 1 {
		t.Fatalf("%+v", h)
	}
}

func TestHeadersAreRefusedByName(t *testing.T) {
	c := newChain(t)
	for range 4 {
		c.grow()
	}
	other := newChain(t)
	other.genesis.TimeMs = 77
	other.grow()
	changed := func(change func(h *chain.Header)) light.Evidence {
		kept := c.headers[1]
		defer func() { c.headers[1] = kept }()
		change(&c.headers[1])
		return c.evidence(2, 2)
	}
	with := func(change func(e *light.Evidence)) light.Evidence {
		e := c.evidence(2, 4)
		e.Path = slices.Clone(e.Path)
		change(&e)
		return e
	}
	p := c.proposal(4)
	later := p
	later.Round.View, later.Round.Epoch = 1, 1
	again := p
	again.Round.View++
	wrongEpoch := p
	wrongEpoch.Round.Epoch = 2
	cases := map[string]light.Evidence{
		"header version 2":                             changed(func(h *chain.Header) { h.Version = 2 }),
		"header of chain \"other-test\"":               changed(func(h *chain.Header) { h.ChainID = "other-test" }),
		"height 0":                                     changed(func(h *chain.Header) { h.Height = 0 }),
		"header of epoch 3":                            changed(func(h *chain.Header) { h.Epoch = 3 }),
		"header of epoch 0":                            changed(func(h *chain.Header) { h.Epoch = 0 }),
		"names committee":                              changed(func(h *chain.Header) { h.Committee = crypto.Digest{1} }),
		"not genesis":                                  other.evidence(1, 1),
		"path header 0 is no child of block 2":         with(func(e *light.Evidence) { e.Path = e.Path[1:] }),
		"the certificate finalizes":                    with(func(e *light.Evidence) { e.Path = e.Path[:1] }),
		"path header 1: light: refused: chain: header": with(func(e *light.Evidence) { e.Path[1] = []byte{1} }),
		"path of 257 headers, limit 256":               with(func(e *light.Evidence) { e.Path = make([][]byte, 257) }),
		"chain: header: codec":                         with(func(e *light.Evidence) { e.Header = make([]byte, 1<<20) }),
		"consensus: certificate: codec":                with(func(e *light.Evidence) { e.Certificate = make([]byte, 1<<20) }),
		"of kind notarize": with(func(e *light.Evidence) {
			e.Certificate = c.certify(consensus.KindNotarize, p, "light-test", 0, 1, 2)
		}),
		"weight": with(func(e *light.Evidence) { e.Certificate = c.certify(consensus.KindFinalize, p, "light-test", 0, 1) }),
		"does not hold": with(func(e *light.Evidence) {
			e.Certificate = c.certify(consensus.KindFinalize, p, "other-test", 0, 1, 2)
		}),
		"the certificate is of view 1": with(func(e *light.Evidence) {
			e.Certificate = c.certify(consensus.KindFinalize, later, "light-test", 0, 1, 2)
		}),
		"the certificate is of view 9, the block of view 8": with(func(e *light.Evidence) {
			e.Certificate = c.certify(consensus.KindFinalize, again, "light-test", 0, 1, 2)
		}),
		"certificate of epoch 2": with(func(e *light.Evidence) {
			e.Certificate = c.certify(consensus.KindFinalize, wrongEpoch, "light-test", 0, 1, 2)
		}),
	}
	for want, e := range cases {
		h, err := c.verifier.VerifyHeader(e)
		if !errors.Is(err, light.ErrRefused) || !strings.Contains(err.Error(), want) || h != (light.Header{}) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// Any changed byte of a header, a path or a certificate is refused.
func TestAnyChangedByteIsRefused(t *testing.T) {
	c := newChain(t)
	c.grow()
	c.grow()
	for part := range 3 {
		whole := c.evidence(1, 2)
		size := len([][]byte{whole.Header, whole.Path[0], whole.Certificate}[part])
		for i := range size {
			e := c.evidence(1, 2)
			piece := [][]byte{e.Header, e.Path[0], e.Certificate}[part]
			piece[i] ^= 0x40
			if _, err := c.verifier.VerifyHeader(e); err == nil {
				t.Fatalf("part %d: byte %d changed, and nobody saw it", part, i)
			}
		}
	}
}

func TestValues(t *testing.T) {
	c := newChain(t)
	c.grow(state.Change{Key: []byte("a"), Value: []byte("1")}, state.Change{Key: []byte("b"), Value: []byte("2")})
	proofA, err := c.tree.Prove([]byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	proofC, err := c.tree.Prove([]byte("c"))
	if err != nil {
		t.Fatal(err)
	}
	old := c.verified(1)
	c.grow(state.Change{Key: []byte("a"), Value: []byte("3")})
	h := c.verified(2)
	v, err := old.VerifyValue([]byte("a"), []byte("1"), true, proofA.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := v.Get(); !ok || string(got) != "1" || v.Height() != 0 || string(v.Key()) != "a" || v.Header() != old {
		t.Fatalf("%q %t at %d", got, ok, v.Height())
	}
	absent, err := old.VerifyValue([]byte("c"), []byte{}, false, proofC.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := absent.Get(); ok || got != nil {
		t.Fatalf("%q %t", got, ok)
	}
	for name, try := range map[string]func() (light.Value, error){
		"another value":  func() (light.Value, error) { return old.VerifyValue([]byte("a"), []byte("2"), true, proofA.Encode()) },
		"another key":    func() (light.Value, error) { return old.VerifyValue([]byte("b"), []byte("1"), true, proofA.Encode()) },
		"said absent":    func() (light.Value, error) { return old.VerifyValue([]byte("a"), nil, false, proofA.Encode()) },
		"another header": func() (light.Value, error) { return h.VerifyValue([]byte("a"), []byte("1"), true, proofA.Encode()) },
		"no proof":       func() (light.Value, error) { return old.VerifyValue([]byte("a"), []byte("1"), true, nil) },
		"huge proof": func() (light.Value, error) {
			return old.VerifyValue([]byte("a"), []byte("1"), true, make([]byte, 1<<20))
		},
		"no key": func() (light.Value, error) { return old.VerifyValue(nil, []byte("1"), true, proofA.Encode()) },
		"zero header": func() (light.Value, error) {
			return light.Header{}.VerifyValue([]byte("a"), []byte("1"), true, proofA.Encode())
		},
	} {
		if v, err := try(); !errors.Is(err, light.ErrRefused) || v.Height() != 0 || v.Key() != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBlocksAndReceipts(t *testing.T) {
	c := newChain(t)
	c.grow()
	c.grow()
	one, two := c.verified(1), c.verified(2)
	block, err := one.VerifyBlock(c.blocks[0])
	if err != nil || block.Header() != one || len(block.Txs()) != 0 {
		t.Fatal(err)
	}
	receipts, err := two.VerifyReceipts(c.receipts[1])
	if err != nil || receipts.Height() != 1 || receipts.Block() != one.Digest() || len(receipts.All().Txs) != 1 {
		t.Fatal(err)
	}
	if r, ok := receipts.Tx(crypto.Digest{2}); !ok || r.GasUsed != chain.GasUnits(7) {
		t.Fatalf("%+v %t", r, ok)
	}
	if _, ok := receipts.Tx(crypto.Digest{3}); ok {
		t.Fatal("a receipt out of nothing")
	}
	for name, err := range map[string]error{
		"another block":    second(one.VerifyBlock(c.blocks[1])),
		"no block":         second(one.VerifyBlock(nil)),
		"another receipt":  second(two.VerifyReceipts(c.receipts[0])),
		"huge receipts":    second(two.VerifyReceipts(make([]byte, light.MaxReceiptsBytes+1))),
		"zero for block":   second(light.Header{}.VerifyBlock(c.blocks[0])),
		"zero for receipt": second(light.Header{}.VerifyReceipts(c.receipts[0])),
	} {
		if !errors.Is(err, light.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (light.Header{}).Header(); !errors.Is(err, light.ErrUnverified) {
		t.Error(err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestGenesisIsChecked(t *testing.T) {
	g := genesis(t)
	g.Allocations = g.Allocations[1:]
	if _, err := light.New(g); err == nil {
		t.Fatal("a genesis that does not add up was trusted")
	}
	g = genesis(t)
	slices.Reverse(g.Validators)
	reversed, err := light.GenesisCommittee(g, light.FirstEpoch)
	if err != nil {
		t.Fatal(err)
	}
	straight, err := light.GenesisCommittee(genesis(t), light.FirstEpoch)
	if err != nil || reversed.Digest() != straight.Digest() || straight.Epoch() != light.FirstEpoch {
		t.Fatalf("the committee depends on the order of the file: %v", err)
	}
}

func FuzzVerifyHeader(f *testing.F) {
	c := newChain(f)
	c.grow()
	c.grow()
	e := c.evidence(1, 2)
	f.Add(e.Header, e.Path[0], e.Certificate)
	f.Fuzz(func(t *testing.T, header, path, certificate []byte) {
		h, err := c.verifier.VerifyHeader(light.Evidence{Header: header, Path: [][]byte{path}, Certificate: certificate})
		if err == nil && h.Digest() != c.headers[0].Digest() {
			t.Fatal("somebody forged a header")
		}
	})
}
