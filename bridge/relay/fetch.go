package relay

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// FetchPayload is what a party of an order signs, under DomainUsageFetch, to be given the
// records of a node's work under it.
func FetchPayload(id chain.ChainID, order crypto.Digest, node crypto.PublicKey, at chain.TimeMs) []byte {
	return codec.Marshal(struct {
		_       struct{} `cbor:",toarray"`
		ChainID chain.ChainID
		Order   crypto.Digest
		Node    crypto.PublicKey
		At      chain.TimeMs
	}{ChainID: id, Order: order, Node: node, At: at})
}

// fetchWindow is how far the time of a request may be from now.
const fetchWindow = 5 * time.Minute

var errNoParty = errors.New("the request is not signed by a party of the order, a few minutes ago at most")

// answerUsage gives a party of an order what is kept of a node's work under it. Whoever is
// none is not told whether there is anything.
func (r *Relay) answerUsage(w http.ResponseWriter, request *http.Request) {
	kept, err := r.fetch(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "application/cbor")
	if _, err := w.Write(kept.Encode()); err != nil {
		r.Log.Debug("relay: an answer was not sent", "error", err)
	}
}

func (r *Relay) fetch(request *http.Request) (*Kept, error) {
	query := request.URL.Query()
	var order crypto.Digest
	if err := order.UnmarshalText([]byte(request.PathValue("order"))); err != nil {
		return nil, fmt.Errorf("order: %w", err)
	}
	node, err := crypto.ParsePublicKey(request.PathValue("node"))
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	key, err := crypto.ParsePublicKey(query.Get("key"))
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	var signature crypto.Signature
	if err := signature.UnmarshalText([]byte(query.Get("signature"))); err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	at, err := strconv.ParseInt(query.Get("at"), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("at: %w", err)
	}
	if age := time.Since(time.UnixMilli(at)); age > fetchWindow || age < -fetchWindow {
		return nil, errNoParty
	}
	if !key.Verify(crypto.DomainUsageFetch, FetchPayload(r.Genesis.ChainID, order, node, chain.TimeMs(at)), signature) {
		return nil, errNoParty
	}
	kept, ok, err := r.private.vault.get(order, node)
	if err != nil {
		r.Log.Error("relay: usage records cannot be read", "order", order.Short(), "error", err)
	}
	if err != nil || !ok {
		return nil, errNoParty
	}
	consumer, err := kept.Batch.Order.Consumer.Ed25519()
	if err != nil || key != consumer && key != kept.Batch.Order.Cluster && key != node {
		return nil, errNoParty
	}
	return &kept, nil
}
