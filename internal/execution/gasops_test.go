package execution_test

import (
	"maps"
	"slices"
	"strings"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
)

// operation is one way to fill a block.
type operation struct {
	name string
	want verdict
	cold bool // each block is another one
	txs  func(w *gasWorld) []*chain.VerifiedTx
	on   func(w *gasWorld, kv *state.Overlay) // what the state has beside, if not nil
	says string                               // an event of each transaction, if not empty
}

// verdict is what is expected of an operation's transactions.
type verdict uint8

const (
	accepted verdict = iota
	refused
	either
)

// prepared is what operations need to find in the state.
type prepared struct {
	nodes, affiliated []key // registered by the users in their order
	clusters          []key
	leases            []chain.LeaseID   // of the users in their order, each on its own node
	channels          []chain.ChannelID // of the users in their order
	contracts         contracts
}

// prepare gives every user something to end: a delegation that earned, a
// provider, a cluster, an escrow.
func (w *gasWorld) prepare() prepared {
	var p prepared
	w.run(day)
	w.deepen(0)
	w.run(day)
	w.deepen(gasDeep)
	w.run(1_000, w.each(gasUsers, func(i int, _ key) chain.Msg {
		return chain.Delegate{Validator: validatorKey(1 + i%(gasValidators-1)).Public(), Amount: chain.Hyper(10)}
	})...)
	w.run(1_000, w.each(gasUsers, func(int, key) chain.Msg {
		return chain.Delegate{Validator: validatorKey(0).Public(), Amount: chain.Hyper(10_000)}
	})...)
	for range 4 {
		w.run(day)
	}
	for _, list := range []*[]key{&p.nodes, &p.affiliated} {
		w.run(1_000, w.each(gasUsers, func(_ int, from key) chain.Msg {
			m, node := w.providerOf(from)
			*list = append(*list, node)
			return m
		})...)
	}
	w.run(1_000, w.each(gasUsers, func(_ int, from key) chain.Msg {
		m, c := w.clusterOf(from)
		p.clusters = append(p.clusters, c)
		return m
	})...)
	w.run(1_000, w.each(gasUsers, func(i int, _ key) chain.Msg {
		return chain.Deposit{Cluster: p.clusters[i].Public(), Amount: chain.Hyper(10)}
	})...)
	w.run(1_000, w.each(gasValidators, func(i int, _ key) chain.Msg { return w.affiliation(i, p.affiliated[i]) })...)
	w.run(1_000, w.txOf(operator, w.registerCluster()), w.txOf(ownerA, w.registerProvider(ownerA, nodeA)),
		w.txOf(ownerB, w.registerProvider(ownerB, nodeB)), w.txOf(consumer, chain.Deposit{Cluster: cluster.Public(), Amount: chain.Hyper(500_000)}))
	w.openLeases(&p)
	w.openChannels(&p)
	w.registerMeters(&p)
	w.openPanels(&p)
	w.openClaims(&p)
	w.openContracts(&p)
	for n := gasValidators / 2; n < gasValidators; n++ {
		v, _ := staking.ValidatorOf(w.state, validatorKey(n).Public())
		v.JailedUntil = 1
		state.Save(w.state, staking.ValidatorKey(v.ID), v)
	}
	w.state.Delete(append([]byte{staking.Prefix, 'h'}, 0, 0, 0, 0, 0, 0, 0, ripe+1)) // as if long ago: stake that moved before is not liable any more
	w.settleDown()
	return p
}

// ripe is the epoch in which the stake moved that is liable for its new place alone.
const ripe = 2

// deepen gives accounts as many redelegations to one validator as one may have
// positions, but for one.
func (w *gasWorld) deepen(first int) {
	var txs []*chain.VerifiedTx
	for _, message := range []func(v int) chain.Msg{
		func(v int) chain.Msg {
			return chain.Delegate{Validator: validatorKey(v).Public(), Amount: chain.Hyper(10)}
		},
		func(v int) chain.Msg {
			return chain.Redelegate{From: validatorKey(v).Public(), To: deepAt(), Amount: chain.Amount{}}
		},
	} {
		for n := range gasDeep {
			var messages []chain.Msg
			for v := range staking.MaxPositions - 1 {
				messages = append(messages, message(64+v))
			}
			for part := range slices.Chunk(messages, chain.MaxMessages) {
				txs = append(txs, w.txOf(deepKey(first+n), part...))
			}
		}
	}
	for n := range gasDeep {
		txs = append(txs, w.txOf(deepKey(first+n), chain.Delegate{Validator: deepAt(), Amount: chain.Hyper(10)}))
	}
	w.run(1_000, txs...)
}

// deepAt is the validator that stake moved to.
func deepAt() crypto.PublicKey { return validatorKey(0).Public() }

func (w *gasWorld) affiliation(i int, node key) chain.Affiliate {
	v := validatorKey(i).Public()
	return chain.Affiliate{Validator: v, Node: node.Public(), Consent: node.PrivateKey.Sign(crypto.DomainAffiliation, chain.AffiliationPayload(testChain, v))}
}

// recentClaim is a claim of today.
func (w *gasWorld) recentClaim(policy chain.Policy, nonce uint64, node key) chain.Claim {
	c := w.claim(policy, nonce, node)
	c.Order.Deadline = w.now + 7_200_000
	c.Receipt.Started, c.Receipt.Ended, c.Bid.Expiry = w.now-3_600_000, w.now, w.now+7_200_000
	if _, ok := policy.(chain.PolicyZK); ok {
		w.prove(&c)
	}
	w.resign(&c, node)
	return c
}

// oneOf makes an operation of n transactions with one message each.
func oneOf(name string, n int, message func(w *gasWorld, i int, from key) chain.Msg) operation {
	return operation{name: name, txs: func(w *gasWorld) []*chain.VerifiedTx {
		return w.each(n, func(i int, from key) chain.Msg { return message(w, i, from) })
	}}
}

// transferTo is the plain transfer: between accounts that exist.
func transferTo(i int) chain.Msg {
	return chain.Transfer{To: crowdOf(i * 37 % warm), Amount: chain.Nano(1)}
}

// basics are operations of which the table's first entries are derived.
func basics() []operation {
	return []operation{
		oneOf("transfer", gasUsers, func(_ *gasWorld, i int, _ key) chain.Msg { return transferTo(i) }),
		{name: "transfer/16", txs: func(w *gasWorld) []*chain.VerifiedTx {
			txs := make([]*chain.VerifiedTx, gasUsers)
			for i := range txs {
				messages := make([]chain.Msg, chain.MaxMessages)
				for j := range messages {
					messages[j] = transferTo(16*i + j)
				}
				txs[i] = w.txOf(w.users[i], messages...)
			}
			return txs
		}},
		{name: "transfer/memo", txs: func(w *gasWorld) []*chain.VerifiedTx {
			txs := make([]*chain.VerifiedTx, gasUsers)
			for i := range txs {
				body := w.body(w.users[i], transferTo(i))
				body.Memo = strings.Repeat("m", chain.MaxMemo)
				txs[i] = w.sign(body, w.users[i])
			}
			return txs
		}},
	}
}

// variants are other ways to fill a block with transfers, in hope of paying less
// for them than they take.
func variants() []operation {
	return []operation{
		oneOf("transfer/new account", gasUsers, func(w *gasWorld, _ int, _ key) chain.Msg {
			w.more++
			return chain.Transfer{To: crowdOf(2*gasCrowd + w.more), Amount: chain.Nano(1)}
		}),
		{name: "transfer/paid for", txs: func(w *gasWorld) []*chain.VerifiedTx {
			txs := make([]*chain.VerifiedTx, gasUsers)
			for i := range txs {
				from, payer := w.users[i], w.users[(i+1)%gasUsers]
				body, a := w.body(from, transferTo(i)), payer.address()
				body.FeePayer = &a
				txs[i] = w.sign(body, from, payer)
			}
			return txs
		}},
		{name: "transfer/rejected", want: refused, txs: func(w *gasWorld) []*chain.VerifiedTx {
			return w.each(gasUsers, func(i int, _ key) chain.Msg { return chain.Transfer{To: crowdOf(i), Amount: chain.Hyper(1 << 30)} })
		}},
		{name: "transfer/16, the last rejected", want: refused, txs: func(w *gasWorld) []*chain.VerifiedTx {
			txs := make([]*chain.VerifiedTx, gasUsers)
			for i := range txs {
				messages := make([]chain.Msg, chain.MaxMessages)
				for j := range messages {
					messages[j] = transferTo(16*i + j)
				}
				messages[chain.MaxMessages-1] = chain.Transfer{To: crowdOf(i), Amount: chain.Hyper(1 << 30)}
				txs[i] = w.txOf(w.users[i], messages...)
			}
			return txs
		}},
		rejected("withdraw_rewards/nothing", func(i int) chain.Msg { return chain.WithdrawRewards{Validator: noStakeOf(i)} }),
		rejected("undelegate/nothing", func(i int) chain.Msg { return chain.Undelegate{Validator: noStakeOf(i), Amount: chain.Hyper(5)} }),
		rejected("redelegate/nothing", func(i int) chain.Msg {
			return chain.Redelegate{From: noStakeOf(i), To: validatorKey(0).Public(), Amount: chain.Hyper(5)}
		}),
		outOfGas("transfer", transferTo),
		outOfGas("redelegate", func(i int) chain.Msg {
			return chain.Redelegate{From: validatorKey(1 + i%(gasValidators-1)).Public(), To: validatorKey(1 + (i+7)%(gasValidators-1)).Public(), Amount: chain.Hyper(5)}
		}),
	}
}

// noStakeOf is a validator that a user has no stake at.
func noStakeOf(i int) crypto.PublicKey {
	return validatorKey(1 + (i+100)%(gasValidators-1)).Public()
}

// rejected has messages look for something that is not there.
func rejected(name string, message func(i int) chain.Msg) operation {
	o := oneOf(name, gasUsers, func(_ *gasWorld, i int, _ key) chain.Msg { return message(i) })
	o.want = refused
	return o
}

// outOfGas has messages begin that have gas for nothing but that.
func outOfGas(name string, message func(i int) chain.Msg) operation {
	return operation{name: name + "/out of gas", want: refused, txs: func(w *gasWorld) []*chain.VerifiedTx {
		txs := make([]*chain.VerifiedTx, gasUsers)
		for i := range txs {
			body := w.body(w.users[i], message(i))
			body.GasLimit = chain.GasUnits(1e9) // as many bytes as what is needed
			body.GasLimit = chain.GasUnits(execution.IntrinsicGas(&w.sign(body, w.users[i]).DecodedTx))
			txs[i] = w.sign(body, w.users[i])
		}
		return txs
	}}
}

// ofStaking are the messages of staking, an operation each, named as in the table.
func ofStaking(p prepared) []operation {
	own := func(name string, message func(w *gasWorld, i int, v crypto.PublicKey) chain.Msg) operation {
		return oneOf(name, gasValidators/2, func(w *gasWorld, i int, _ key) chain.Msg { return message(w, i, validatorKey(i).Public()) })
	}
	return []operation{
		oneOf("bond", gasUsers, func(w *gasWorld, _ int, from key) chain.Msg { return w.bondOf(from) }),
		oneOf("delegate", gasUsers, func(_ *gasWorld, i int, _ key) chain.Msg {
			return chain.Delegate{Validator: validatorKey(1 + (i+50)%(gasValidators-1)).Public(), Amount: chain.Hyper(5)}
		}),
		oneOf("undelegate", gasUsers, func(_ *gasWorld, i int, _ key) chain.Msg {
			return chain.Undelegate{Validator: validatorKey(1 + i%(gasValidators-1)).Public(), Amount: chain.Hyper(5)}
		}),
		oneOf("redelegate", gasUsers, func(_ *gasWorld, i int, _ key) chain.Msg {
			return chain.Redelegate{From: validatorKey(1 + i%(gasValidators-1)).Public(), To: validatorKey(1 + (i+7)%(gasValidators-1)).Public(), Amount: chain.Hyper(5)}
		}),
		oneOf("withdraw_rewards", gasUsers, func(*gasWorld, int, key) chain.Msg {
			return chain.WithdrawRewards{Validator: validatorKey(0).Public()}
		}),
		own("set_commission", func(_ *gasWorld, _ int, v crypto.PublicKey) chain.Msg {
			return chain.SetCommission{Validator: v, Bps: 50}
		}),
		own("rotate_keys", func(w *gasWorld, i int, v crypto.PublicKey) chain.Msg {
			b := w.bondOf(w.users[i])
			return chain.RotateKeys{
				Validator: v, ConsensusKey: b.ConsensusKey, Possession: b.Possession, NodeKey: b.NodeKey, NodePossession: b.NodePossession, Endpoint: "127.0.0.1:2",
			}
		}),
		{name: "unjail", txs: func(w *gasWorld) []*chain.VerifiedTx {
			txs := make([]*chain.VerifiedTx, gasValidators/2)
			for i := range txs {
				n := gasValidators/2 + i
				txs[i] = w.txOf(w.users[n], chain.Unjail{Validator: validatorKey(n).Public()})
			}
			return txs
		}},
		own("affiliate", func(w *gasWorld, i int, _ crypto.PublicKey) chain.Msg { return w.affiliation(i, p.nodes[i]) }),
		own("unaffiliate", func(_ *gasWorld, i int, _ crypto.PublicKey) chain.Msg {
			return chain.Unaffiliate{Node: p.affiliated[i].Public()}
		}),
		oneOf("report_evidence", 8, func(w *gasWorld, i int, _ key) chain.Msg {
			return chain.ReportEvidence{Evidence: consensus.EncodeEvidence(w.doubleVotes(i, 7))}
		}),
	}
}

// ofSettlement are the messages of settlement, an operation each, named as in
// the table.
func ofSettlement(p prepared) []operation {
	claims := func(n int, policy chain.Policy) func(w *gasWorld, i int, _ key) chain.Msg {
		return func(w *gasWorld, i int, _ key) chain.Msg {
			var m chain.Settle
			for j := range n {
				m.Claims = append(m.Claims, w.recentClaim(policy, uint64(100*i+j+1), nodeA))
			}
			return m
		}
	}
	return []operation{
		oneOf("register_provider", gasUsers, func(w *gasWorld, _ int, from key) chain.Msg { m, _ := w.providerOf(from); return m }),
		oneOf("unbond_provider", gasUsers, func(_ *gasWorld, i int, _ key) chain.Msg { return chain.UnbondProvider{Node: p.nodes[i].Public()} }),
		oneOf("register_cluster", gasUsers, func(w *gasWorld, _ int, from key) chain.Msg { m, _ := w.clusterOf(from); return m }),
		oneOf("unbond_cluster", gasUsers, func(_ *gasWorld, i int, _ key) chain.Msg { return chain.UnbondCluster{Cluster: p.clusters[i].Public()} }),
		oneOf("deposit", gasUsers, func(_ *gasWorld, i int, _ key) chain.Msg {
			return chain.Deposit{Cluster: p.clusters[i].Public(), Amount: chain.Hyper(1)}
		}),
		oneOf("withdraw", gasUsers, func(_ *gasWorld, i int, _ key) chain.Msg {
			return chain.Withdraw{Cluster: p.clusters[i].Public(), Amount: chain.Hyper(1)}
		}),
		oneOf("claim", 32, claims(1, attested)),
		oneOf("claim/16", 8, claims(16, attested)),
		oneOf("claim/one of 32 forged", 32, func(w *gasWorld, i int, _ key) chain.Msg {
			c := w.recentClaim(attested, uint64(i+1), nodeA)
			if i == 31 {
				c.ReceiptSig[0] ^= 1 // and all of their signatures are verified one by one
			}
			return chain.Settle{Claims: []chain.Claim{c}}
		}),
		oneOf("claim/16 one of 192 forged", 12, func(w *gasWorld, i int, from key) chain.Msg {
			m := claims(16, attested)(w, i, from).(chain.Settle)
			if i == 11 {
				m.Claims[15].ReceiptSig[0] ^= 1
			}
			return m
		}),
		oneOf("claim/2 one of 64 forged", 32, func(w *gasWorld, i int, from key) chain.Msg {
			m := claims(2, attested)(w, i, from).(chain.Settle)
			if i == 31 {
				m.Claims[1].ReceiptSig[0] ^= 1
			}
			return m
		}),
		oneOf("claim/16 one of each forged", 12, func(w *gasWorld, i int, from key) chain.Msg {
			m := claims(16, attested)(w, i, from).(chain.Settle)
			m.Claims[15].ReceiptSig[0] ^= 1
			return m
		}),
		oneOf("claim/16 forged", 12, func(w *gasWorld, i int, from key) chain.Msg {
			m := claims(16, attested)(w, i, from).(chain.Settle)
			for j := range m.Claims {
				m.Claims[j].Attestation[0] ^= 1
			}
			return m
		}),
		oneOf("claim/forged", 32, func(w *gasWorld, i int, _ key) chain.Msg {
			c := w.recentClaim(attested, uint64(i+1), nodeA)
			c.Attestation[0] ^= 1 // the last of the five that are verified one by one
			return chain.Settle{Claims: []chain.Claim{c}}
		}),
		oneOf("report_evidence/certificates", 1, func(w *gasWorld, _ int, _ key) chain.Msg {
			return chain.ReportEvidence{Evidence: consensus.EncodeEvidence(w.doubleCertificates(9))}
		}),
	}
}

// forgeries are messages that are refused when their signatures have been
// verified: they pay for nothing that they do to the state.
func forgeries(p prepared) []operation {
	forged := func(name string, n int, message func(w *gasWorld, i int, from key) chain.Msg) operation {
		o := oneOf(name+"/forged", n, message)
		o.want = refused
		return o
	}
	return []operation{
		forged("bond", gasUsers, func(w *gasWorld, _ int, from key) chain.Msg {
			m := w.bondOf(from)
			m.NodePossession[0] ^= 1
			return m
		}),
		forged("rotate_keys", gasUsers, func(w *gasWorld, i int, from key) chain.Msg {
			b := w.bondOf(from)
			b.NodePossession[0] ^= 1
			return chain.RotateKeys{
				Validator: validatorKey(i).Public(), ConsensusKey: b.ConsensusKey, Possession: b.Possession,
				NodeKey: b.NodeKey, NodePossession: b.NodePossession, Endpoint: "127.0.0.1:2",
			}
		}),
		forged("affiliate", gasUsers, func(w *gasWorld, i int, _ key) chain.Msg {
			m := w.affiliation(i, p.nodes[i])
			m.Consent[0] ^= 1
			return m
		}),
		forged("register_provider", gasUsers, func(w *gasWorld, _ int, from key) chain.Msg {
			m, _ := w.providerOf(from)
			m.Possession[0] ^= 1
			return m
		}),
		forged("register_cluster", gasUsers, func(w *gasWorld, _ int, from key) chain.Msg {
			m, _ := w.clusterOf(from)
			m.Possession[0] ^= 1
			return m
		}),
		forged("report_evidence", 16, func(w *gasWorld, i int, _ key) chain.Msg {
			return chain.ReportEvidence{Evidence: consensus.EncodeEvidence(w.forgedVotes(i, 7))}
		}),
		forged("report_evidence/certificates", 2, func(w *gasWorld, i int, _ key) chain.Msg {
			e := w.doubleCertificates(consensus.View(9 + i))
			last := len(e.Certificates[1].Signatures) - 1
			e.Certificates[1].Signatures[last] = e.Certificates[0].Signatures[last]
			return chain.ReportEvidence{Evidence: consensus.EncodeEvidence(e)}
		}),
	}
}

// take measures an operation on a state that stays as it is.
func (w *gasWorld) take(o operation) work {
	w.Helper()
	if o.on != nil {
		base := w.parent()
		before := w.reader
		kv := state.NewOverlay(base)
		o.on(w, kv)
		w.reader = kv
		defer func() { w.reader = before }()
	}
	nonces := maps.Clone(w.nonces)
	build := func() []*chain.VerifiedTx {
		w.nonces = maps.Clone(nonces)
		return o.txs(w)
	}
	defer func() { w.nonces = nonces }()
	if !o.cold || w.patience == 0 {
		return w.measure(build(), o.want, 1<<30)
	}
	least := w.measure(build(), o.want, 1)
	for range 15 {
		if k := w.measure(build(), o.want, 1); k.cpu < least.cpu {
			least = k
		}
	}
	return least
}
