package mempool_test

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/internal/mempool"
)

// TestTranscripts runs the scripts under testdata: commands, each followed by
// "----" and what came of it; -update rewrites that. A transaction is
// USER/NONCE, of whom the pool's answer speaks; the ledger knows each user's next
// nonce.
//
//	config bytes=B sender=N sender-bytes=B payer=N
//	add USER/NONCE[..NONCE] tip=T max=M expiry=H payer=USER memo=BYTES
//	state USER/NEXT …                what the latest state says, before final
//	final HEIGHT base=FEE USER/NONCE …
//	drop USER/NONCE                  for want of funds in the finalized state
//	park USER/NONCE
//	select [without USER/NONCE …] [small]    the first ten; small: none with a memo
//
// After each block of commands it says who left without being in a finalized block,
// and why.
func TestTranscripts(t *testing.T) {
	golden.Scripts(t, "testdata/*.txt", runScript)
}

// script is one run of a transcript.
type script struct {
	*testing.T
	pool   *mempool.Pool
	ledger ledger
	made   map[string]*chain.VerifiedTx // by USER/NONCE, the latest
	names  map[chain.TxID]string
	left   map[chain.TxID]bool // of whom it was said
}

func runScript(t *testing.T, text string) string {
	s := &script{T: t, pool: mempool.New(mempool.DefaultConfig()), ledger: ledger{}, made: map[string]*chain.VerifiedTx{}, names: map[chain.TxID]string{}, left: map[chain.TxID]bool{}}
	var out strings.Builder
	for _, block := range strings.Split(text, "\n\n") {
		command, _, _ := strings.Cut(block, "\n----")
		fmt.Fprintf(&out, "%s\n----\n", strings.TrimSuffix(command, "\n"))
		for line := range strings.Lines(command) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				out.WriteString(s.run(strings.Fields(line)))
			}
		}
		out.WriteString(s.departures())
		fmt.Fprintf(&out, "%d pending, %d ready, %d bytes, of which %d wait\n\n", s.pool.Len(), s.pool.Ready(), s.pool.Bytes(), s.pool.WaitingBytes())
	}
	return strings.TrimSuffix(out.String(), "\n")
}

// options reads key=value words.
func (s *script) options(words []string) map[string]int {
	out := map[string]int{}
	for _, w := range words {
		if key, value, ok := strings.Cut(w, "="); ok {
			out[key] = s.number(value)
		}
	}
	return out
}

func (s *script) number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		s.Fatal(err)
	}
	return n
}

func (s *script) pair(text string) (user int, nonce uint64) {
	a, b, _ := strings.Cut(text, "/")
	return s.number(a), uint64(s.number(b))
}

func (s *script) run(words []string) string {
	switch words[0] {
	case "config":
		o := s.options(words[1:])
		s.pool = mempool.New(mempool.Config{MaxBytes: o["bytes"], MaxPerSender: o["sender"], MaxSenderBytes: o["sender-bytes"], MaxPerPayer: o["payer"]})
		return ""
	case "add":
		return s.add(words)
	case "state":
		for _, w := range words[1:] {
			who, next := s.pair(w)
			s.ledger[user(who).address()] = next
		}
		return ""
	case "final":
		var txs []chain.DecodedTx
		for _, w := range words[2:] {
			if s.made[w] != nil {
				txs = append(txs, s.made[w].DecodedTx)
				body := &s.made[w].Tx().Body
				s.ledger[body.Sender] = body.Nonce + 1
			}
		}
		s.pool.Finalize(chain.Height(s.number(words[1])), chain.PricePerGas(uint64(s.options(words)["base"])), txs)
		return ""
	case "drop":
		s.pool.Drop(s.made[words[1]].ID(), mempool.Funds)
		return ""
	case "park":
		s.pool.Park(s.made[words[1]].ID())
		return ""
	case "select":
		return s.selection(words[1:])
	}
	s.Fatalf("unknown command %q", words)
	return ""
}

func (s *script) add(words []string) string {
	first, last, many := strings.Cut(words[1], "..")
	who, nonce := s.pair(first)
	end := nonce
	if many {
		end = uint64(s.number(last))
	}
	o := s.options(words[2:])
	if o["expiry"] == 0 {
		o["expiry"] = 1_000
	}
	refused := map[string]int{}
	var order []string
	for ; nonce <= end; nonce++ {
		tx := makeTx(draft{user: who, nonce: nonce, tip: uint64(o["tip"]), max: uint64(o["max"]), expiry: chain.Height(o["expiry"]), payer: o["payer"], memo: o["memo"]})
		name := fmt.Sprintf("%d/%d", who, nonce)
		foretold := s.pool.Refuses(&tx.DecodedTx)
		if err := s.pool.Add(tx, mempool.Standing{Next: s.ledger[tx.Tx().Body.Sender], Funds: plenty}); err != nil {
			if refused[err.Error()]++; refused[err.Error()] == 1 {
				order = append(order, err.Error())
			}
			continue
		}
		if foretold != nil {
			s.Errorf("%s was taken, foretold was: %v", name, foretold)
		}
		if s.made[name] != nil && s.made[name] != tx {
			s.names[s.made[name].ID()] = name + " (the old one)"
		}
		s.made[name], s.names[tx.ID()] = tx, name
	}
	var out strings.Builder
	for _, reason := range order {
		if fmt.Fprint(&out, reason); refused[reason] > 1 {
			fmt.Fprintf(&out, " (%d times)", refused[reason])
		}
		out.WriteByte('\n')
	}
	return out.String()
}

// departures lists those that left since the last time.
func (s *script) departures() string {
	var lines []string
	for id, name := range s.names { // order-free: sorted below
		why, ok := s.pool.Dropped(id)
		if ok && !s.left[id] {
			line := fmt.Sprintf("%s left: %s after block %d", name, why.Reason, why.Height)
			if !why.By.IsZero() {
				line += ", by " + s.names[why.By]
			}
			lines = append(lines, line)
		}
		s.left[id] = ok
	}
	slices.SortFunc(lines, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b)) })
	if len(lines) > 6 {
		lines = append(lines[:5], fmt.Sprintf("and %d more", len(lines)-5))
	}
	return strings.Join(append(lines, ""), "\n")
}

func (s *script) selection(words []string) string {
	without := map[chain.TxID]bool{}
	for _, w := range words {
		if s.made[w] != nil {
			without[s.made[w].ID()] = true
		}
	}
	next := s.pool.Select(func(id chain.TxID) bool { return without[id] }, func(tx *chain.VerifiedTx) bool {
		return !slices.Contains(words, "small") || tx.Tx().Body.Memo == ""
	})
	var names []string
	for len(names) < 10 {
		tx, ok := next()
		if !ok {
			break
		}
		names = append(names, s.names[tx.ID()])
	}
	if len(names) == 0 {
		return "nothing\n"
	}
	return strings.Join(names, " ") + "\n"
}
