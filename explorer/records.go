package explorer

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk/api"
)

const (
	recordRows    = 100   // of an answer, unless asked
	maxRecordRows = 1_000 // of an answer
	// maxRecordScan bounds the rows that a query looks at for one answer: those that
	// have the first value that is asked for, in the order of time.
	maxRecordScan = 10_000
)

// recordCursor is a record's place in the order of queries: by its timestamp,
// then by where the chain has it.
type recordCursor struct {
	time   chain.TimeMs
	place  place
	number int
	line   int
}

// endOfRecords is after every record.
var endOfRecords = recordCursor{time: math.MaxInt64, place: endOfTime, number: math.MaxInt, line: math.MaxInt}

// String is the text form: TIME_MS-PLACE-NUMBER-LINE.
func (c recordCursor) String() string {
	return fmt.Sprintf("%d-%d-%d-%d", c.time, c.place, c.number, c.line)
}

func parseRecordCursor(text string) (recordCursor, error) {
	parts := strings.Split(text, "-")
	var numbers [4]int64
	if len(parts) != len(numbers) {
		return recordCursor{}, errors.New("is no cursor of an answer before")
	}
	for i, part := range parts {
		n, err := strconv.ParseInt(part, 10, 64)
		if err != nil || n < 0 {
			return recordCursor{}, errors.New("is no cursor of an answer before")
		}
		numbers[i] = n
	}
	return recordCursor{time: chain.TimeMs(numbers[0]), place: place(numbers[1]), number: int(numbers[2]), line: int(numbers[3])}, nil
}

// recordQuery asks for records, the latest first. What is zero is not asked for.
type recordQuery struct {
	node, consumer, provider []byte
	resource                 chain.Resource
	since, until             chain.TimeMs // until excluded
	limit                    int
	before                   recordCursor
}

// parseRecordQuery names the first parameter that makes no sense.
func parseRecordQuery(values url.Values) (recordQuery, error) {
	q := recordQuery{until: math.MaxInt64, limit: recordRows, before: endOfRecords}
	readers := map[string]func(text string) error{
		"node":     func(text string) error { return parseInto(text, crypto.ParsePublicKey, &q.node) },
		"consumer": func(text string) error { return parseInto(text, chain.ParseAddress, &q.consumer) },
		"provider": func(text string) error { return parseInto(text, chain.ParseAddress, &q.provider) },
		"resource": func(text string) error { return q.resource.UnmarshalText([]byte(text)) },
		"since":    func(text string) (err error) { q.since, err = parseTime(text); return err },
		"until":    func(text string) (err error) { q.until, err = parseTime(text); return err },
		"limit": func(text string) (err error) {
			if q.limit, err = strconv.Atoi(text); err == nil && (q.limit < 1 || q.limit > maxRecordRows) {
				err = fmt.Errorf("is %d, want 1 to %d", q.limit, maxRecordRows)
			}
			return err
		},
		"cursor": func(text string) (err error) { q.before, err = parseRecordCursor(text); return err },
	}
	for name, list := range values {
		read, ok := readers[name]
		switch {
		case !ok:
			return q, fmt.Errorf("%.20q is no parameter", name)
		case len(list) != 1 || len(list[0]) > maxQuery:
			return q, fmt.Errorf("%s is wanted once, of at most %d bytes", name, maxQuery)
		}
		if err := read(list[0]); err != nil {
			return q, fmt.Errorf("%s %.80q: %w", name, list[0], err)
		}
	}
	return q, nil
}

// parseInto parses a key or address and keeps its bytes.
func parseInto[T ~[32]byte](text string, parse func(string) (T, error), into *[]byte) error {
	v, err := parse(text)
	raw := [32]byte(v)
	*into = raw[:]
	return err
}

// parseTime reads milliseconds since 1970 or RFC 3339.
func parseTime(text string) (chain.TimeMs, error) {
	if ms, err := strconv.ParseUint(text, 10, 63); err == nil {
		return chain.TimeMs(ms), nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || at.UnixMilli() < 0 {
		return 0, errors.New("is neither milliseconds since 1970 nor a time as 2026-01-02T15:04:05Z")
	}
	return chain.TimeMs(at.UnixMilli()), nil
}

// foundRecord is a record with its place and whose it is.
type foundRecord struct {
	recordRow
	ofLease bool
}

func (r *foundRecord) cursor() recordCursor {
	return recordCursor{time: r.Record.Timestamp, place: r.Place, number: r.Number, line: r.Line}
}

// passes reports whether a record has every value that is asked for.
func (q *recordQuery) passes(r *chain.ResourceTransaction) bool {
	return (q.node == nil || string(q.node) == string(r.NodeID[:])) && (q.consumer == nil || string(q.consumer) == string(r.Consumer[:])) &&
		(q.provider == nil || string(q.provider) == string(r.Provider[:])) && (q.resource == 0 || q.resource == r.ResourceType)
}

// index returns the condition that the query's index answers, and its value.
func (q *recordQuery) index() (condition string, values []any) {
	switch {
	case q.node != nil:
		return "node = ? AND ", []any{q.node}
	case q.consumer != nil:
		return "consumer = ? AND ", []any{q.consumer}
	case q.provider != nil:
		return "provider = ? AND ", []any{q.provider}
	case q.resource != 0:
		return "resource = ? AND ", []any{uint8(q.resource)}
	}
	return "", nil
}

// records returns what a query asks for, and where to go on; no place if that was
// all. It looks at maxRecordScan rows at most, and may then return fewer than
// asked for, or none, with a place to go on.
func (v *view) records(q *recordQuery) (list []foundRecord, next *recordCursor, err error) {
	condition, values := q.index()
	values = append(values, q.before.time, q.before.place, q.before.number, q.before.line, q.since, q.until, maxRecordScan)
	rows, err := v.tx.QueryContext(v.ctx, `SELECT place, number, line, order_id, record, lease FROM records WHERE `+condition+`
		(time_ms, place, number, line) < (?, ?, ?, ?) AND time_ms >= ? AND time_ms < ?
		ORDER BY time_ms DESC, place DESC, number DESC, line DESC LIMIT ?`, values...)
	if err != nil {
		return nil, nil, fmt.Errorf("explorer: reading the index: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for scanned := 1; rows.Next(); scanned++ {
		var r foundRecord
		var raw []byte
		if err := rows.Scan(&r.Place, &r.Number, &r.Line, fixed(r.Order[:]), &raw, &r.ofLease); err != nil {
			return nil, nil, err
		}
		if err := decodeStored(raw, &r.Record); err != nil {
			return nil, nil, err
		}
		if q.passes(&r.Record) {
			list = append(list, r)
		}
		if len(list) == q.limit || scanned == maxRecordScan {
			at := r.cursor()
			return list, &at, rows.Err()
		}
	}
	return list, nil, rows.Err()
}

// recordAnswer is a record in an answer.
type recordAnswer struct {
	Height chain.Height  `json:"height"`
	Index  int           `json:"tx_index"` // −1: the block's own event
	Kind   string        `json:"kind"`     // claim or lease
	Order  crypto.Digest `json:"order"`
	chain.ResourceTransaction
}

// recordsAnswer is GET /api/records.
type recordsAnswer struct {
	Height  chain.Height   `json:"height"` // that the index has reached
	Records []recordAnswer `json:"records"`
	Next    string         `json:"next,omitempty"` // cursor; left out: that was all
}

// apiRecords answers GET /api/records?node=&consumer=&provider=&resource=&since=&until=&limit=&cursor=.
func (s *site) apiRecords(w http.ResponseWriter, r *http.Request) {
	q, err := parseRecordQuery(r.URL.Query())
	if err != nil {
		s.writeJSON(w, r, http.StatusBadRequest, &api.Problem{Status: http.StatusBadRequest, Title: "Bad Request", Type: api.ProblemInvalid, Detail: err.Error()})
		return
	}
	out := recordsAnswer{Records: []recordAnswer{}}
	err = s.index.view(r.Context(), func(v *view) error {
		t, err := v.tip()
		if err != nil {
			return err
		}
		list, next, err := v.records(&q)
		if err != nil {
			return err
		}
		out.Height = t.Height
		for i := range list {
			kind := "claim"
			if list[i].ofLease {
				kind = "lease"
			}
			out.Records = append(out.Records, recordAnswer{
				Height: list[i].Place.Height(), Index: list[i].Place.Index(), Kind: kind, Order: list[i].Order, ResourceTransaction: list[i].Record,
			})
		}
		if next != nil {
			out.Next = next.String()
		}
		return nil
	})
	s.answerJSON(w, r, out, err)
}
