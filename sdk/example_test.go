package sdk_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// loud ends an example that cannot be set up.
type loud struct{ testing.TB }

func (loud) Helper()           {}
func (loud) Fatal(args ...any) { log.Fatal(args...) }
func (loud) Error(args ...any) { log.Fatal(args...) }

// network starts a chain of two blocks for an example.
func network() (url string, genesis *chain.Genesis, close func()) {
	t := loud{}
	c := newFakeChain(t)
	c.seal(transferTx(t, 0, chain.Nano(1)))
	c.seal()
	s := httptest.NewServer(c)
	return s.URL, c.genesis, s.Close
}

// A balance that no server can lie about: it is proven against a header that a
// quorum of the trusted genesis' validators finalized.
func ExampleClient_VerifiedAccount() {
	url, genesis, stop := network()
	defer stop()
	client, err := sdk.New(sdk.Config{Nodes: []string{url}, Genesis: genesis})
	if err != nil {
		log.Fatal(err)
	}
	account, err := client.VerifiedAccount(context.Background(), address(2))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(account.Balance(), "after block", account.Height())
	// Output: 0.000000007 HYPER after block 1
}

// Every finalized event from the beginning on, in order and each once.
func ExampleClient_Events() {
	url, _, stop := network()
	defer stop()
	client, err := sdk.New(sdk.Config{Nodes: []string{url}})
	if err != nil {
		log.Fatal(err)
	}
	start := api.CursorAfter(0)
	for event, err := range client.Events(context.Background(), sdk.EventFilter{Cursor: &start}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(event.Cursor, event.Type)
		if event.Height == 2 {
			break
		}
	}
	// Output:
	// 1.0 block
	// 1.1 tx
	// 1.2 transferred
	// 2.0 block
}

// A Builder counts nonces and sets fees; the signer keeps its key.
func ExampleBuilder() {
	url, genesis, stop := network()
	defer stop()
	client, err := sdk.New(sdk.Config{Nodes: []string{url}, Genesis: genesis})
	if err != nil {
		log.Fatal(err)
	}
	builder := client.NewBuilder(testKey(1), sdk.BuilderOptions{Memo: "rent"})
	tx, err := builder.Build(context.Background(), chain.Transfer{To: address(2), Amount: chain.Hyper(3)})
	if err != nil {
		log.Fatal(err)
	}
	verdicts, err := client.SubmitTxs(context.Background(), tx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("nonce", tx.Body.Nonce, "accepted", verdicts[0].Accepted)
	// Output: nonce 1 accepted true
}
