package rpc_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/rpc"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// sse reads a stream of server-sent events.
type sse struct {
	t        testing.TB
	response *http.Response
	lines    *bufio.Reader
	lastID   string
}

func (s *served) subscribe(query, lastEventID string) *sse {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), "GET", s.url+"/v1/events"+query, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if lastEventID != "" {
		request.Header.Set("Last-Event-ID", lastEventID)
	}
	response, err := http.DefaultClient.Do(request) //nolint:bodyclose // the sse's close does
	if err != nil {
		s.t.Fatal(err)
	}
	if response.StatusCode != 200 || response.Header.Get("Content-Type") != api.ContentEventStream {
		s.t.Fatalf("%d %s", response.StatusCode, response.Header.Get("Content-Type"))
	}
	return &sse{t: s.t, response: response, lines: bufio.NewReader(response.Body)}
}

func (e *sse) close() {
	e.t.Helper()
	if err := e.response.Body.Close(); err != nil {
		e.t.Fatal(err)
	}
}

// next returns the next event's name and data; comments and bare ids are
// skipped.
func (e *sse) next() (name, data string) {
	e.t.Helper()
	for {
		line, err := e.lines.ReadString('\n')
		if err != nil {
			e.t.Fatalf("stream ended after %q: %v", e.lastID, err)
		}
		line = strings.TrimSuffix(line, "\n")
		switch field, value, _ := strings.Cut(line, ": "); field {
		case "id":
			e.lastID = value
		case "event":
			name = value
		case "data":
			data = value
		case "":
			if data != "" {
				return name, data
			}
		}
	}
}

func (e *sse) event() api.StreamEvent {
	e.t.Helper()
	name, data := e.next()
	var event api.StreamEvent
	if err := api.DecodeJSON([]byte(data), &event); err != nil {
		e.t.Fatalf("%v in %s", err, data)
	}
	if event.Type != name || event.Cursor.String() != e.lastID {
		e.t.Fatalf("event %s with id %s is %+v", name, e.lastID, event)
	}
	return event
}

func (e *sse) take(n int) []string {
	e.t.Helper()
	var out []string
	for range n {
		event := e.event()
		out = append(out, event.Cursor.String()+" "+event.Type)
	}
	return out
}

func TestEventsComeInOrder(t *testing.T) {
	s := serve(t, devnetConfig())
	s.node.seal() // before: not seen
	stream := s.subscribe("", "")
	defer stream.close()
	a, b := transfer(t, 0), transfer(t, 1)
	s.node.seal(a, b)
	s.node.seal()
	got := fmt.Sprint(stream.take(7))
	want := "[2.0 block 2.1 matured 2.2 tx 2.3 transferred 2.4 tx 3.0 block 3.1 matured]"
	if got != want {
		t.Fatalf("%s, want %s", got, want)
	}
}

func TestEventsCarryWhatTheySay(t *testing.T) {
	s := serve(t, devnetConfig())
	a, b := transfer(t, 0), transfer(t, 1)
	s.node.seal(a, b)
	stream := s.subscribe("?cursor=0&types=block,tx,transferred", "")
	defer stream.close()
	var block api.BlockEvent
	if err := api.DecodeJSON(stream.event().Data, &block); err != nil || block.TxCount != 2 || block.GasUsed.Units() != 20 || block.Burned != chain.Nano(40) {
		t.Fatalf("%+v %v", block, err)
	}
	var first, second api.TxEvent
	event := stream.event()
	if err := api.DecodeJSON(event.Data, &first); err != nil || !first.Accepted || event.TxID != a.ID() || event.TimeMs != 1000 {
		t.Fatalf("%+v %v", event, err)
	}
	event = stream.event()
	moved, err := event.ChainEvent()
	if err != nil || event.TxID != a.ID() || moved.(chain.Transferred).To != address(2) {
		t.Fatalf("%+v %v", event, err)
	}
	if err := api.DecodeJSON(stream.event().Data, &second); err != nil || second.Accepted || second.Rejection == "" || second.Index != 1 {
		t.Fatalf("%+v %v", second, err)
	}
	only := s.subscribe("?cursor=0&tx_id="+b.ID().String(), "")
	defer only.close()
	if event := only.event(); event.Type != api.EventTx || event.TxID != b.ID() {
		t.Fatalf("%+v", event)
	}
}

// However a client is cut off, resuming at its last id gives the same sequence
// as one unbroken stream.
func TestResumeLosesAndRepeatsNothing(t *testing.T) {
	s := serve(t, devnetConfig())
	const heights, perHeight = 6, 5
	for i := range heights {
		s.node.seal(transfer(t, uint64(2*i)), transfer(t, uint64(2*i+1)))
	}
	whole := s.subscribe("?cursor=0", "")
	want := whole.take(heights * perHeight)
	whole.close()
	for _, step := range []int{1, 2, 3, 7} {
		var got []string
		last := ""
		for len(got) < len(want) {
			stream := s.subscribe("?cursor=0", last) // as EventSource does: the old address, the new id
			got = append(got, stream.take(min(step, len(want)-len(got)))...)
			last = stream.lastID
			stream.close()
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("steps of %d: %v, want %v", step, got, want)
		}
	}
	after := s.subscribe("?cursor=3", "")
	defer after.close()
	if got := after.take(1); got[0] != "4.0 block" {
		t.Fatalf("after height 3: %v", got)
	}
}

func TestFilteredStreamMovesItsCursor(t *testing.T) {
	s := serve(t, rpc.Config{Heartbeat: 5 * time.Millisecond})
	stream := s.subscribe("?types=claim_settled", "")
	defer stream.close()
	s.node.seal()
	s.node.seal()
	for {
		line, err := stream.lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "id: 2\n" {
			return
		}
	}
}

func TestStreamEndsWithItsReason(t *testing.T) {
	s := serve(t, devnetConfig())
	s.node.seal()
	stream := s.subscribe("?cursor=0&types=block", "")
	defer stream.close()
	stream.take(1)
	s.node.mu.Lock()
	s.node.pruned = 9
	s.node.mu.Unlock()
	s.node.seal()
	name, data := stream.next()
	if name != "error" || !strings.Contains(data, api.ProblemPruned) {
		t.Fatalf("%s %s", name, data)
	}
	if _, err := stream.lines.ReadString('\n'); !errors.Is(err, io.EOF) {
		t.Fatalf("the stream goes on: %v", err)
	}
}

func TestSubscribersAreBounded(t *testing.T) {
	s := serve(t, rpc.Config{MaxSubscribers: 2})
	one, two := s.subscribe("", ""), s.subscribe("", "")
	defer one.close()
	defer two.close()
	if p := problem(t, s.get("/v1/events"), 503); !strings.Contains(p.Detail, "limit 2") {
		t.Fatalf("%+v", p)
	}
	into[api.ChainParams](t, s.get("/v1/params")) // others are served
}

// A client that stops reading is cut off; its slot is free again.
func TestSlowSubscriberIsDropped(t *testing.T) {
	node := newFakeNode(t)
	txs := make([]chain.DecodedTx, 400)
	for i := range txs {
		txs[i] = transfer(t, uint64(i))
	}
	for range 40 {
		node.seal(txs...) // some 10 MB of events: more than the sockets hold
	}
	server, err := rpc.Listen(rpc.Config{Listen: "127.0.0.1:0", MaxSubscribers: 1, WriteTimeout: 50 * time.Millisecond}, node, nil, discard())
	if err != nil {
		t.Fatal(err)
	}
	ended := run(t, server)
	slow, err := net.Dial("tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := slow.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := io.WriteString(slow, "GET /v1/events?cursor=0 HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	// Until it is dropped, the only slot is taken; then somebody else gets it.
	s := &served{t: t, node: node, url: "http://" + server.Addr().String()}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		response, err := http.DefaultClient.Do(mustRequest(t, ctx, s.url+"/v1/events"))
		if err != nil {
			t.Fatalf("the slow client was not dropped: %v", err)
		}
		status := response.StatusCode
		if err := response.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if status == http.StatusOK {
			break
		}
	}
	ended()
}

// An event stream outlives the time that other answers have.
func TestStreamOutlivesTheWriteTimeout(t *testing.T) {
	node := newFakeNode(t)
	server, err := rpc.Listen(rpc.Config{Listen: "127.0.0.1:0", WriteTimeout: 20 * time.Millisecond, ReadTimeout: 20 * time.Millisecond, Heartbeat: 15 * time.Millisecond}, node, nil, discard())
	if err != nil {
		t.Fatal(err)
	}
	ended := run(t, server)
	s := &served{t: t, node: node, url: "http://" + server.Addr().String()}
	stream := s.subscribe("", "")
	defer stream.close()
	for beats := 0; beats < 8; { // 120 ms: three times as long as an answer may take
		line, err := stream.lines.ReadString('\n')
		if err != nil {
			t.Fatalf("cut after %d heartbeats: %v", beats, err)
		}
		if strings.HasPrefix(line, ": still here") {
			beats++
		}
	}
	node.seal()
	if got := stream.take(1); got[0] != "1.0 block" {
		t.Fatal(got)
	}
	ended() // and shutting down does not wait for it
}

// TestADroppedTransactionIsTold to the stream that is about it, once, and to no other.
func TestADroppedTransactionIsTold(t *testing.T) {
	s := serve(t, rpc.Config{})
	tx, other := transfer(t, 1), transfer(t, 2)
	s.node.seal()
	stream, all := s.subscribe("?cursor=0&tx_id="+tx.ID().String(), ""), s.subscribe("?cursor=0", "")
	defer stream.close()
	defer all.close()
	s.node.drop(tx.ID(), api.Dropped{Reason: api.DropReplaced, Height: 1, By: other.ID()})
	s.node.seal()
	name, data := stream.next()
	if want := `"data":{"reason":"replaced","height":1,"by":"` + other.ID().String() + `"}`; name != api.EventDropped || !strings.Contains(data, want) {
		t.Fatalf("%s %s, want %s", name, data, want)
	}
	if stream.lastID != "" {
		t.Errorf("it moved the cursor to %s", stream.lastID)
	}
	if got := into[api.TxLookup](t, s.get("/v1/txs/"+tx.ID().String())); got.Status != api.TxDropped || got.Dropped == nil || got.Dropped.Reason != api.DropReplaced {
		t.Errorf("the lookup says %+v", got)
	}
	s.node.seal(tx) // another node had it all the same
	for {
		name, _ := stream.next()
		if name == api.EventDropped {
			t.Error("it is told twice")
		}
		if name == api.EventTx {
			break
		}
	}
	for heights := 0; heights < 3; {
		name, _ := all.next()
		if name == api.EventDropped {
			t.Error("it is told to everybody")
		}
		if name == api.EventBlock {
			heights++
		}
	}
}
