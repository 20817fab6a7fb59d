package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/devnet"
	"github.com/hypermesh/hypermesh/internal/node"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// TestSendSaysThatATransactionWasDropped at once, by name, and does not wait for the
// expiry: the node here takes each transaction and drops it.
func TestSendSaysThatATransactionWasDropped(t *testing.T) {
	const chainID chain.ChainID = "dropping-1"
	answer := func(w http.ResponseWriter, body any) {
		w.Header().Set("Content-Type", api.ContentJSON)
		if err := json.NewEncoder(w).Encode(body); err != nil {
			t.Error(err)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, api.Status{ChainID: chainID, Height: 7, BaseFee: chain.PricePerGas(3)})
	})
	mux.HandleFunc("GET /v1/accounts/{address}", func(w http.ResponseWriter, r *http.Request) {
		address, err := chain.ParseAddress(r.PathValue("address"))
		if err != nil {
			t.Error(err)
		}
		answer(w, api.Account{Address: address, Balance: chain.Hyper(9), Spendable: chain.Hyper(9)})
	})
	mux.HandleFunc("POST /v1/txs", func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		list, err := api.DecodeSubmission(r.Header.Get("Content-Type"), data)
		if err != nil || len(list) != 1 {
			t.Error(len(list), err)
			return
		}
		answer(w, api.SubmitResponse{Verdicts: []api.Verdict{{TxID: list[0].ID, Accepted: true}}})
	})
	mux.HandleFunc("GET /v1/txs/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, err := crypto.ParseDigest(r.PathValue("id"))
		if err != nil {
			t.Error(err)
		}
		answer(w, api.TxLookup{TxID: id, Status: api.TxDropped, Dropped: &api.Dropped{Reason: api.DropFunds, Height: 8}})
	})
	server := httptest.NewServer(mux)
	defer server.Close()

	dir := t.TempDir()
	keyFile, genesisFile, key := filepath.Join(dir, "account.key"), filepath.Join(dir, "genesis.json"), crypto.GenerateKey()
	if err := node.WriteKey(keyFile, key); err != nil {
		t.Fatal(err)
	}
	rest := chain.ModuleAddress("rest")
	g := chain.NewGenesis(chainID, 1, devnet.Params(time.Second), chain.Holders{Community: rest, Team: rest, Foundation: rest, Validators: rest, Sale: rest})
	if err := g.AddValidator(chain.GenesisValidator{
		Name: "a", ConsensusKey: crypto.GenerateKey().Public(), NodeKey: crypto.GenerateKey().Public(), Owner: rest, Stake: chain.Hyper(1_000_000), Endpoint: "127.0.0.1:1",
	}); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(genesisFile, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := invoke(t, "wallet", "send", "--key-file", keyFile, "--to", rest.String(), "--amount", "1", "--yes", "--rpc", server.URL, "--genesis", genesisFile)
	if want := "was dropped from the mempool after block 8: insufficient_funds"; code != exitFailed || !strings.Contains(stderr, want) {
		t.Errorf("exit code %d, %q, want %q", code, stderr, want)
	}
}
