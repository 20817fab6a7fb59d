package mempool

// WaitingBytes returns the size of the transactions that wait for an earlier
// nonce.
func (p *Pool) WaitingBytes() int { return p.waiting }
