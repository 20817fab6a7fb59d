package audit

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Format is how records are written.
type Format string

// The formats: CSV as spreadsheets read it (RFC 4180, but lines end in LF), and a
// JSON array with a record on each line.
const (
	CSV  Format = "csv"
	JSON Format = "json"
)

// row is a record and where the chain has it.
type row struct {
	height            chain.Height
	block             crypto.Digest
	item, event, line int // in the block's receipts, the item's events, the event's records
	tx                chain.TxID
	kind              string // claim or lease
	order             crypto.Digest
	sequence          uint64 // of a claim
	cluster           crypto.PublicKey
	record            chain.ResourceTransaction
	cost, paid        chain.Amount // of the whole claim or payment
	priority          chain.Amount // of cost, the priority fee
}

// column is a field of a record. Plain ones are numbers below 2⁵³.
type column struct {
	name  string
	plain bool
	text  func(*row) string
}

// placeColumns are the first ones, which say where the chain has the record and order the file.
const placeColumns = 4

func number[T ~uint64 | ~int](n T) string { return strconv.FormatUint(uint64(n), 10) }

var columns = []column{
	{"height", true, func(r *row) string { return number(r.height) }},
	{"item", true, func(r *row) string { return number(r.item) }},
	{"event", true, func(r *row) string { return number(r.event) }},
	{"line", true, func(r *row) string { return number(r.line) }},
	{"block", false, func(r *row) string { return r.block.String() }},
	{"tx_id", false, func(r *row) string {
		if r.tx.IsZero() {
			return ""
		}
		return r.tx.String()
	}},
	{"kind", false, func(r *row) string { return r.kind }},
	{"order", false, func(r *row) string { return r.order.String() }},
	{"sequence", false, func(r *row) string { return number(r.sequence) }},
	{"cluster", false, func(r *row) string { return r.cluster.String() }},
	{"node_id", false, func(r *row) string { return r.record.NodeID.String() }},
	{"resource_type", false, func(r *row) string { return r.record.ResourceType.String() }},
	{"amount", true, func(r *row) string { return number(r.record.Amount) }},
	{"duration_ms", true, func(r *row) string { return number(r.record.DurationMs) }},
	{"price_per_unit", false, func(r *row) string { return number(uint64(r.record.PricePerUnit)) }},
	{"consumer", false, func(r *row) string { return r.record.Consumer.String() }},
	{"provider", false, func(r *row) string { return r.record.Provider.String() }},
	{"timestamp_ms", true, func(r *row) string { return number(r.record.Timestamp) }},
	{"time", false, func(r *row) string { return timeText(r.record.Timestamp) }},
	{"payment_cost_nhyper", false, func(r *row) string { return number(r.cost.Nano()) }},
	{"payment_paid_nhyper", false, func(r *row) string { return number(r.paid.Nano()) }},
	{"payment_priority_nhyper", false, func(r *row) string { return number(r.priority.Nano()) }},
}

func timeText(ms chain.TimeMs) string {
	return time.UnixMilli(int64(ms)).UTC().Format("2006-01-02T15:04:05.000Z")
}

// String names what the filter asks for; empty: everything passes.
func (f *Filter) String() string {
	var parts []string
	add := func(name, value string, set bool) {
		if set {
			parts = append(parts, name+"="+value)
		}
	}
	add("node", f.Node.String(), !f.Node.IsZero())
	add("consumer", f.Consumer.String(), f.Consumer != chain.Address{})
	add("provider", f.Provider.String(), f.Provider != chain.Address{})
	add("resource", f.Resource.String(), f.Resource != 0)
	add("since", timeText(f.Since), f.Since != 0)
	add("until", timeText(f.Until), f.Until != 0)
	return strings.Join(parts, " ")
}

// rowsOf calls yield with each record of an item of a block's receipts that the
// filter lets through, and stops at its first error.
func rowsOf(at row, part *chain.ReceiptsPart, filter *Filter, yield func(*row) error) error {
	if part.Receipt != nil {
		at.tx = part.Receipt.TxID
	}
	for i, event := range part.Events {
		r := at
		r.event = i
		var records []chain.ResourceTransaction
		if e, ok := event.(chain.ClaimSettled); ok {
			r.kind, r.order, r.sequence, r.cluster, r.cost, r.paid, r.priority, records = "claim", e.Order, uint64(e.Sequence), e.Cluster, e.Cost, e.Paid, e.Priority(), e.Records
		} else if e, ok := event.(chain.LeasePaid); ok {
			r.kind, r.order, r.cluster, r.cost, r.paid, r.priority, records = "lease", e.Lease.Order, e.Cluster, e.Cost, e.Paid, e.Priority(), e.Records
		}
		for line := range records {
			if !filter.lets(&records[line]) {
				continue
			}
			r.line, r.record = line, records[line]
			if err := yield(&r); err != nil {
				return err
			}
		}
	}
	return nil
}

// batchesOf counts the batches that an item of a block's receipts settled and the filter
// lets through.
func batchesOf(part *chain.ReceiptsPart, filter *Filter) (n uint64) {
	for _, event := range part.Events {
		if e, ok := event.(chain.BatchSettled); ok && filter.letsBatch(&e) {
			n++
		}
	}
	return n
}

// partsOf returns a block's receipts item by item.
func partsOf(receipts *chain.BlockReceipts) []chain.ReceiptsPart {
	parts := []chain.ReceiptsPart{{Events: receipts.Begin}}
	for i := range receipts.Txs {
		parts = append(parts, chain.ReceiptsPart{Receipt: &receipts.Txs[i], Events: receipts.Txs[i].Events})
	}
	return append(parts, chain.ReceiptsPart{Events: receipts.End})
}

// opening, closing and lineOf are what a records file is made of, line by line,
// without the line's end.
func (f Format) opening() string {
	if f == JSON {
		return "["
	}
	names := make([]string, len(columns))
	for i := range columns {
		names[i] = columns[i].name
	}
	return strings.Join(names, ",")
}

func (f Format) closing() []string {
	if f == JSON {
		return []string{"]"}
	}
	return nil
}

func (f Format) lineOf(r *row, first bool) string {
	var b strings.Builder
	for i := range columns {
		c := &columns[i]
		text := c.text(r) // hexadecimal, bech32m, a number or a name: nothing to escape
		switch {
		case f == CSV && i > 0:
			b.WriteByte(',')
		case f == JSON && i > 0:
			b.WriteString(",")
		case f == JSON && !first:
			b.WriteString(",{")
		case f == JSON:
			b.WriteByte('{')
		}
		if f == CSV {
			b.WriteString(text)
			continue
		}
		if !c.plain {
			text = strconv.Quote(text)
		}
		b.WriteString(strconv.Quote(c.name) + ":" + text)
	}
	if f == JSON {
		b.WriteByte('}')
	}
	return b.String()
}

// cells returns a line's fields by column; false if it is no such line.
func (f Format) cells(line string) ([]string, bool) {
	if f == CSV {
		out := strings.Split(strings.TrimSuffix(line, "\r"), ",")
		return out, len(out) == len(columns)
	}
	decoder := json.NewDecoder(strings.NewReader(strings.TrimPrefix(line, ",")))
	decoder.UseNumber()
	var fields map[string]any
	if err := decoder.Decode(&fields); err != nil || len(fields) != len(columns) {
		return nil, false
	}
	out := make([]string, len(columns))
	for i := range columns {
		out[i] = fmt.Sprint(fields[columns[i].name])
	}
	return out, true
}

// difference names what is wrong with the line that stands where the record
// belongs.
func (f Format) difference(n uint64, got string, want *row) error {
	where := fmt.Sprintf("record %d, of block %d", n, want.height)
	cells, ok := f.cells(got)
	if !ok {
		return fmt.Errorf("%w: %s is no record: %.80q", ErrRecord, where, got)
	}
	for i := range columns {
		text := columns[i].text(want)
		switch {
		case cells[i] == text:
		case i < placeColumns:
			return fmt.Errorf("%w: where %s belongs the file has one of %s %.20q, the chain one of %s", ErrOrder, where, columns[i].name, cells[i], text)
		default:
			return fmt.Errorf("%w: %s: %s is %.80q, the chain says %s", ErrRecord, where, columns[i].name, cells[i], text)
		}
	}
	return fmt.Errorf("%w: %s has the right values, written in another way", ErrRecord, where)
}

// recordsWriter writes a records file.
type recordsWriter struct {
	to     io.Writer
	format Format
	rows   uint64
}

func (w *recordsWriter) line(text string) error {
	_, err := io.WriteString(w.to, text+"\n")
	return err
}

func (w *recordsWriter) begin() error { return w.line(w.format.opening()) }

func (w *recordsWriter) row(r *row) error {
	w.rows++
	return w.line(w.format.lineOf(r, w.rows == 1))
}

func (w *recordsWriter) end() error {
	for _, text := range w.format.closing() {
		if err := w.line(text); err != nil {
			return err
		}
	}
	return nil
}
