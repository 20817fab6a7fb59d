package sdk

import (
	"context"
	"fmt"
	"net/url"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/sdk/api"
	"github.com/hypermesh/hypermesh/tokens"
)

// VerifyHeader checks a header and the certificate that a server showed. If the
// header is of a later epoch than was seen before, the ends of the epochs up to it
// are fetched and verified first.
func (c *Client) VerifyHeader(ctx context.Context, header api.Header, certificate api.Certificate) (light.Header, error) {
	verifier, err := c.follow(ctx, consensus.Epoch(header.Epoch))
	if err != nil {
		return light.Header{}, err
	}
	h := api.HeaderFromJSON(header)
	return verifier.VerifyHeader(light.Evidence{Header: h.Encode(), Path: certificate.Path, Certificate: certificate.Bytes})
}

// VerifyState checks a proof that a server showed, for a key of one's own
// choice.
func (c *Client) VerifyState(ctx context.Context, key []byte, p *api.StateProof) (light.Value, error) {
	if p == nil {
		return light.Value{}, fmt.Errorf("%w: the server showed no proof", light.ErrRefused)
	}
	header, err := c.VerifyHeader(ctx, p.Header, p.Certificate)
	if err != nil {
		return light.Value{}, err
	}
	return header.VerifyValue(key, p.Value, p.Present, p.Proof)
}

// VerifiedState returns what a finalized state has under a key. A node that shows no proof of it is not the last
// that is asked.
func (c *Client) VerifiedState(ctx context.Context, key []byte) (light.Value, error) {
	return c.stateThat(ctx, key, func(light.Value) error { return nil })
}

// stateThat is VerifiedState of the first node whose state serves.
func (c *Client) stateThat(ctx context.Context, key []byte, serves func(light.Value) error) (value light.Value, err error) {
	if c.config.Genesis == nil {
		return light.Value{}, ErrNoTrust
	}
	r := get(c.nodes, "/v1/state/"+api.Hex(key).String(), url.Values{"proof": {"true"}})
	err = believed(ctx, c, r, func(said api.State) error {
		shown, err := c.VerifyState(ctx, key, said.Proof)
		if err == nil {
			err = serves(shown)
		}
		value = shown
		return err
	})
	if err != nil {
		return light.Value{}, err
	}
	return value, nil
}

// VerifiedAccount is an account that a finalized state has.
type VerifiedAccount struct {
	address chain.Address
	account tokens.Account
	value   light.Value
}

// VerifiedAccount returns an account that a finalized state has. An address
// that the chain has never seen has an empty account, which is proven as well.
func (c *Client) VerifiedAccount(ctx context.Context, address chain.Address) (VerifiedAccount, error) {
	if c.config.Genesis == nil {
		return VerifiedAccount{}, ErrNoTrust
	}
	var value light.Value
	r := get(c.nodes, "/v1/accounts/"+address.String(), url.Values{"proof": {"true"}})
	err := believed(ctx, c, r, func(said api.Account) (err error) {
		value, err = c.VerifyState(ctx, tokens.AccountKey(address), said.Proof)
		return err
	})
	if err != nil {
		return VerifiedAccount{}, fmt.Errorf("sdk: account %s: %w", address.Short(), err)
	}
	out := VerifiedAccount{address: address, value: value}
	if record, ok := value.Get(); ok {
		if out.account, err = tokens.DecodeAccount(record); err != nil {
			return VerifiedAccount{}, fmt.Errorf("sdk: account %s: %w: %w", address.Short(), light.ErrRefused, err)
		}
	}
	return out, nil
}

// Address returns whose account it is.
func (a VerifiedAccount) Address() chain.Address { return a.address }

// Balance returns all that the account has.
func (a VerifiedAccount) Balance() chain.Amount { return a.account.Balance }

// Spendable returns the balance less what vesting holds back at the time of the
// header that the account was proven against.
func (a VerifiedAccount) Spendable() chain.Amount {
	return a.account.Spendable(a.value.Header().TimeMs())
}

// Nonce returns the count of the account's included transactions.
func (a VerifiedAccount) Nonce() uint64 { return a.account.Nonce }

// Height returns the height after which the account is so.
func (a VerifiedAccount) Height() chain.Height { return a.value.Height() }

// Header returns the header that the account was proven against.
func (a VerifiedAccount) Header() light.Header { return a.value.Header() }

// VerifiedHeader returns the finalized header of a height.
func (c *Client) VerifiedHeader(ctx context.Context, height chain.Height) (light.Header, error) {
	header, _, err := c.verifiedBlock(ctx, height, api.BlockHeader)
	return header, err
}

func (c *Client) verifiedBlock(ctx context.Context, height chain.Height, detail string) (light.Header, api.Block, error) {
	if c.config.Genesis == nil {
		return light.Header{}, api.Block{}, ErrNoTrust
	}
	said, err := c.Block(ctx, height, detail)
	if err != nil {
		return light.Header{}, said, err
	}
	header, err := c.VerifyHeader(ctx, said.Header, said.Certificate)
	if err != nil {
		return light.Header{}, said, fmt.Errorf("sdk: block %d: %w", height, err)
	}
	if header.Height() != height {
		return light.Header{}, said, fmt.Errorf("sdk: %w: block %d was asked for, the server showed %d", light.ErrRefused, height, header.Height())
	}
	return header, said, nil
}

// VerifiedBlock returns a finalized block with its transactions.
func (c *Client) VerifiedBlock(ctx context.Context, height chain.Height) (light.Block, error) {
	header, said, err := c.verifiedBlock(ctx, height, api.BlockEncoded)
	if err != nil {
		return light.Block{}, err
	}
	return header.VerifyBlock(said.Raw)
}

// VerifiedReceipts returns what the execution of a finalized block made. The
// next block commits to it: VerifiedReceipts waits for that one.
func (c *Client) VerifiedReceipts(ctx context.Context, height chain.Height) (light.Receipts, error) {
	if c.config.Genesis == nil {
		return light.Receipts{}, ErrNoTrust
	}
	if err := c.WaitHeight(ctx, height+1); err != nil {
		return light.Receipts{}, err
	}
	said, err := c.Block(ctx, height, api.BlockEncoded)
	if err != nil {
		return light.Receipts{}, err
	}
	next, err := c.VerifiedHeader(ctx, height+1)
	if err != nil {
		return light.Receipts{}, err
	}
	return next.VerifyReceipts(said.RawReceipts)
}

// VerifiedReceipt returns the receipt of an included transaction and the height
// of its block. It believes the node only as to where to look.
func (c *Client) VerifiedReceipt(ctx context.Context, id chain.TxID) (chain.Receipt, chain.Height, error) {
	found, err := c.Tx(ctx, id)
	if err != nil {
		return chain.Receipt{}, 0, err
	}
	if _, err := found.Outcome(); err != nil {
		return chain.Receipt{}, 0, err
	}
	receipts, err := c.VerifiedReceipts(ctx, found.Height)
	if err != nil {
		return chain.Receipt{}, 0, err
	}
	receipt, ok := receipts.Tx(id)
	if !ok {
		return chain.Receipt{}, 0, fmt.Errorf("sdk: %w: block %d has no receipt of transaction %s", light.ErrRefused, found.Height, id.Short())
	}
	return receipt, found.Height, nil
}

// WaitHeight waits until a node has finalized a height.
func (c *Client) WaitHeight(ctx context.Context, height chain.Height) error {
	status, err := c.Status(ctx)
	if err != nil || status.Height >= height {
		return err
	}
	cursor := api.CursorAfter(status.Height)
	for event, err := range c.Events(ctx, EventFilter{Cursor: &cursor, Types: []string{api.EventBlock}}) {
		if err != nil {
			return err
		}
		if event.Height >= height {
			return nil
		}
	}
	return context.Cause(ctx)
}
