package mempool

import "github.com/hypermesh/hypermesh/internal/chain"

// WaitingBytes returns the bytes of transactions that wait for an earlier nonce.
func (p *Pool) WaitingBytes() int { return p.waiting }

// HeapEntries returns how many entries the larger heap holds, removed ones included.
func (p *Pool) HeapEntries() int { return max(p.cheapest.Len(), p.expiring.Len()) }

// Record notes that a transaction left.
func (p *Pool) Record(id chain.TxID, why Reason) { p.dropped.add(id, Dropped{Reason: why}) }

// Remembered returns how many that left are remembered.
func (p *Pool) Remembered() int { return len(p.dropped.byID) }

// Miscounted returns what is charged to an account beside what its pending transactions,
// looked through one by one, may cost it.
func (p *Pool) Miscounted(payer chain.Address) (charged, want chain.Amount) {
	for _, e := range p.byID { // order-free: a sum
		if e.body().Payer() == payer {
			want = sound(want.Add(e.most))
		}
	}
	return p.owedBy(payer), want
}

// Charged returns of how many accounts is kept what they owe.
func (p *Pool) Charged() int { return len(p.senders) + len(p.payers) }
