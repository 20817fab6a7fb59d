package relay

import (
	"errors"
	"fmt"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
)

// maxClaimBytes bounds an encoded claim, so that one always fits a transaction.
const maxClaimBytes = 32 << 10

// inspector says whether a claim is worth a fee: it checks what the chain will
// check and what the claim alone decides.
type inspector struct {
	genesis  *chain.Genesis
	verifier zk.Verifier
	signer   chain.Signer
}

// inspect decodes a claim and returns it, or why the chain must refuse it. What
// it says follows from the claim's bytes and the time alone.
func (i *inspector) inspect(raw []byte, now time.Time) (*chain.Claim, error) {
	c := &chain.Claim{}
	if err := codec.Unmarshal(raw, c, maxClaimBytes); err != nil {
		return nil, err
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	if err := i.checkParts(c); err != nil {
		return nil, err
	}
	if end := c.Order.Deadline + chain.TimeMs(i.genesis.Params.ClaimWindowMs); end < chain.TimeMs(now.UnixMilli()) {
		return nil, fmt.Errorf("its claim window ended at %d ms", end)
	}
	if err := checkExchange(c); err != nil {
		return nil, err
	}
	if err := i.checkSigned(c); err != nil {
		return nil, err
	}
	return c, i.checkPolicy(c)
}

// checkParts demands that the signed forms are of this chain, of one order and
// of one node.
func (i *inspector) checkParts(c *chain.Claim) error {
	id, order := i.genesis.ChainID, c.Order.ID()
	switch {
	case c.Order.ChainID != id || c.Acceptance.ChainID != id || c.Bid.ChainID != id || c.Receipt.ChainID != id:
		return fmt.Errorf("not all of its parts are of chain %s", id)
	case c.Acceptance.Order != order || c.Bid.Order != order || c.Receipt.Order != order:
		return fmt.Errorf("not all of its parts are of order %s", order.Short())
	case c.Acceptance.Cluster != c.Order.Cluster:
		return errors.New("the acceptance is not by the order's cluster")
	case c.Bid.Node != c.Receipt.Node:
		return errors.New("bid and receipt are of different nodes")
	case c.Receipt.Ended > c.Order.Deadline:
		return fmt.Errorf("the work ended at %d ms, the deadline was %d", c.Receipt.Ended, c.Order.Deadline)
	case c.Receipt.Started > c.Bid.Expiry:
		return fmt.Errorf("the work started at %d ms, the bid expired at %d", c.Receipt.Started, c.Bid.Expiry)
	}
	return nil
}

// checkSigned asks what every node will ask of the transaction: whether each
// party signed the claim.
func (i *inspector) checkSigned(c *chain.Claim) error {
	verified, err := i.verified(chain.Settle{Claims: []chain.Claim{*c}})
	if err != nil {
		return err
	}
	if found := verified.ClaimsSigned(0)[0]; found != chain.AllSigned {
		return fmt.Errorf("the signature of %s does not verify", c.Unsigned(found))
	}
	return nil
}

// verified returns a transaction with a message as a node sees it. It is made for the
// question alone.
func (i *inspector) verified(m chain.Msg) (*chain.VerifiedTx, error) {
	body := chain.TxBody{ChainID: i.genesis.ChainID, Sender: chain.AddressOf(i.signer.AccountKey()), Messages: chain.Msgs{m}}
	tx, err := chain.SignTx(body, i.signer)
	if err != nil {
		return nil, err
	}
	decoded, err := chain.DecodeTx(tx.Encode())
	if err != nil {
		return nil, err
	}
	verified := chain.VerifyTxs([]chain.DecodedTx{decoded}, 1)[0]
	if verified == nil {
		return nil, errors.New("the relay's own signature does not verify")
	}
	return verified, nil
}

// checkPolicy demands what the order's policy asks of one claim: a proof, or
// else the cluster's attestation. Countersigned claims are in no outbox: whoever has one posts
// it when its time has come.
func (i *inspector) checkPolicy(c *chain.Claim) error {
	if c.Countersigned {
		return errors.New("it is countersigned, in place of its cluster's attestation")
	}
	switch p := c.Order.Policy.Policy.(type) {
	case chain.PolicyReplicate:
		return errors.New("it is of an order under replicate, which is not claimed")
	case chain.PolicyNone, chain.PolicyOptimistic:
		return checkWord(c)
	case chain.PolicyZK:
		if c.Order.Fair {
			if err := checkWord(c); err != nil {
				return err
			}
		}
		return i.checkProof(c, &p)
	}
	return fmt.Errorf("policy of type %T", c.Order.Policy.Policy)
}

// checkWord demands the cluster's attestation.
func checkWord(c *chain.Claim) error {
	if c.Attestation == (crypto.Signature{}) {
		return errors.New("it has no attestation of its cluster")
	}
	return nil
}

// checkExchange demands a sealed output and its key of an order that asks for a fair exchange,
// and neither of any other.
func checkExchange(c *chain.Claim) error {
	if sealed := c.Receipt.Sealed != nil; sealed != c.Order.Fair {
		return fmt.Errorf("fair exchange is asked for: %t, the output is sealed: %t", c.Order.Fair, sealed)
	}
	return c.Receipt.CheckKey(c.OutputKey)
}

func (i *inspector) checkProof(c *chain.Claim, p *chain.PolicyZK) error {
	if c.Receipt.Exit != chain.ExitOK {
		return fmt.Errorf("the work ended with %q: only a proven result is paid", c.Receipt.Exit)
	}
	if err := i.verifier.Verify(settlement.Statement(p, &c.Receipt), c.Proof); err != nil {
		return fmt.Errorf("its proof: %w", err)
	}
	return nil
}
