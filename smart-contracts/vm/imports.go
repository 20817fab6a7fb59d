package vm

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
)

// imports are what contracts may call, by name. Each takes i32 and gives one
// number, which is dropped where the import has no result. An error means that
// the contract is stopped, or the call failed; it is noted in the run.
var imports = map[string]func(r *run, args [maxArgs]int32) (int64, error){
	"abort":                      (*run).abort,
	"addr_canonicalize":          (*run).canonicalize,
	"addr_humanize":              (*run).humanize,
	"addr_validate":              (*run).validate,
	"bls12_381_aggregate_g1":     (*run).aggregateG1,
	"bls12_381_aggregate_g2":     (*run).aggregateG2,
	"bls12_381_hash_to_g1":       (*run).hashToG1,
	"bls12_381_hash_to_g2":       (*run).hashToG2,
	"bls12_381_pairing_equality": (*run).pairingEquality,
	"db_next":                    (*run).next,
	"db_next_key":                (*run).nextKey,
	"db_next_value":              (*run).nextValue,
	"db_read":                    (*run).read,
	"db_remove":                  (*run).remove,
	"db_scan":                    (*run).scan,
	"db_write":                   (*run).write,
	"debug":                      (*run).debug,
	"ed25519_batch_verify":       (*run).ed25519Batch,
	"ed25519_verify":             (*run).ed25519,
	"query_chain":                (*run).query,
	"secp256k1_recover_pubkey":   (*run).recoverK1,
	"secp256k1_verify":           (*run).verifyK1,
	"secp256r1_recover_pubkey":   (*run).recoverR1,
	"secp256r1_verify":           (*run).verifyR1,
}

// byNumber are the imports in the order of meter.HostCalls.
var byNumber = numbered()

func numbered() (out []func(r *run, args [maxArgs]int32) (int64, error)) {
	for _, call := range meter.HostCalls() {
		do, there := imports[call.Name]
		if !there || len(imports) != len(meter.HostCalls()) {
			panic("vm: the imports are not those that are offered: " + call.Name)
		}
		out = append(out, do)
	}
	return out
}

// maxReentries is how many imports may run in each other: one that gives the
// contract bytes calls its allocate, which may call another. Each takes native
// stack that no module can count.
const maxReentries = 4

// imported runs an import. The contract is stopped if it does not go on.
func (r *run) imported(number int, args [maxArgs]int32) (value int64, goesOn bool) {
	defer func() {
		if raised := recover(); raised != nil {
			r.raised, goesOn = raised, false
		}
	}()
	r.nested++
	defer func() { r.nested-- }()
	if r.nested > maxReentries {
		return 0, r.misused("%d imports run in each other", r.nested) == nil
	}
	if !r.charge(priceCall) {
		return 0, false
	}
	value, err := byNumber[number](r, args)
	return value, err == nil
}

// abort is how a contract's panic says why.
func (r *run) abort(args [maxArgs]int32) (int64, error) {
	text, err := r.take(args[0], maxAbort, "the reason of an abort")
	if err != nil {
		return 0, err
	}
	return 0, r.stop(Aborted, string(text))
}

// debug is for people who test contracts; a chain has nowhere to write it.
func (r *run) debug(args [maxArgs]int32) (int64, error) {
	_, err := r.take(args[0], maxDebug, "a debug message")
	return 0, err
}

// paid notes what the host did: its fault, or its price.
func (r *run) paid(points uint64, err error) error {
	if misuse, ok := errors.AsType[*contract.Misuse](err); ok {
		return r.misused("%s", misuse.Why)
	}
	if err != nil {
		return r.failed(fmt.Errorf("vm: the host failed: %w", err))
	}
	if !r.charge(points) {
		return errStopped
	}
	return nil
}

// hand gives the contract bytes, and returns where they are.
func (r *run) hand(data []byte) (int64, error) {
	at, err := r.give(data)
	return int64(at), err
}

func (r *run) read(args [maxArgs]int32) (int64, error) {
	key, err := r.take(args[0], maxKey, "a key")
	if err != nil {
		return 0, err
	}
	value, points, err := r.host.Read(key)
	if err := r.paid(points, err); err != nil || value == nil {
		return 0, err
	}
	return r.hand(value)
}

// writes refuses what a query may not do.
func (r *run) writes() error {
	if r.call.Entry == meter.Query {
		return r.misused("a query writes")
	}
	return nil
}

func (r *run) write(args [maxArgs]int32) (int64, error) {
	if err := r.writes(); err != nil {
		return 0, err
	}
	key, err := r.take(args[0], maxKey, "a key")
	if err != nil {
		return 0, err
	}
	value, err := r.take(args[1], maxValue, "a value")
	if err != nil {
		return 0, err
	}
	if len(value) == 0 {
		return 0, r.misused("an empty value is written")
	}
	return 0, r.paid(r.host.Write(key, value))
}

func (r *run) remove(args [maxArgs]int32) (int64, error) {
	if err := r.writes(); err != nil {
		return 0, err
	}
	key, err := r.take(args[0], maxKey, "a key")
	if err != nil {
		return 0, err
	}
	return 0, r.paid(r.host.Remove(key))
}

// bound reads where a walk begins or ends; 0 is no bound.
func (r *run) bound(at int32) ([]byte, error) {
	if at == 0 {
		return nil, nil
	}
	return r.take(at, maxKey, "a bound")
}

func (r *run) scan(args [maxArgs]int32) (int64, error) {
	start, err := r.bound(args[0])
	if err != nil {
		return 0, err
	}
	end, err := r.bound(args[1])
	if err != nil {
		return 0, err
	}
	order := Order(args[2])
	if order != Ascending && order != Descending {
		return 0, r.misused("order %d of a walk", order)
	}
	if len(r.walks) == maxIterators {
		return 0, r.misused("more than %d walks", maxIterators)
	}
	walk, points, err := r.host.Scan(start, end, order, uint64(max(r.native.points(), 0)))
	if err == nil {
		r.walks = append(r.walks, walk)
	}
	return int64(len(r.walks)), r.paid(points, err)
}

// step goes on with a walk.
func (r *run) step(number int32) (key, value []byte, err error) {
	n := uint32(number)
	if n == 0 || uint64(n) > uint64(len(r.walks)) {
		return nil, nil, r.misused("walk %d of %d", n, len(r.walks))
	}
	key, value, points, err := r.walks[n-1].Next()
	return key, value, r.paid(points, err)
}

// next gives key and value as two sections, both empty at the end.
func (r *run) next(args [maxArgs]int32) (int64, error) {
	key, value, err := r.step(args[0])
	if err != nil {
		return 0, err
	}
	return r.hand(sections(key, value))
}

func (r *run) nextKey(args [maxArgs]int32) (int64, error) {
	key, _, err := r.step(args[0])
	if err != nil || key == nil {
		return 0, err
	}
	return r.hand(key)
}

func (r *run) nextValue(args [maxArgs]int32) (int64, error) {
	key, value, err := r.step(args[0])
	if err != nil || key == nil {
		return 0, err
	}
	return r.hand(value)
}

// What is wrong with an address, as contracts read it. Part of what they see,
// and so of consensus.
const (
	addressEmpty   = "Input is empty"
	addressUTF8    = "Input is not valid UTF-8"
	addressInvalid = "invalid address"
	addressNormal  = "Address is not normalized"
)

// address reads an address; why says what is wrong with it.
func (r *run) address(at int32) (address string, canonical []byte, why string, err error) {
	text, err := r.take(at, maxAddress, "an address")
	if err != nil || !r.charge(priceAddress) {
		return "", nil, "", errStopped
	}
	switch {
	case len(text) == 0:
		return "", nil, addressEmpty, nil
	case !utf8.Valid(text):
		return "", nil, addressUTF8, nil
	}
	canonical, ok := r.host.Canonical(string(text))
	if !ok {
		return "", nil, addressInvalid, nil
	}
	return string(text), canonical, "", nil
}

func (r *run) validate(args [maxArgs]int32) (int64, error) {
	text, canonical, why, err := r.address(args[0])
	if err != nil {
		return 0, err
	}
	if why == "" {
		if human, ok := r.host.Human(canonical); !ok || human != text {
			why = addressNormal
		}
	}
	return r.complain(why)
}

// complain gives the contract what is wrong, 0 if nothing is.
func (r *run) complain(why string) (int64, error) {
	if why == "" {
		return 0, nil
	}
	return r.hand([]byte(why))
}

func (r *run) canonicalize(args [maxArgs]int32) (int64, error) {
	_, canonical, why, err := r.address(args[0])
	if err != nil {
		return 0, err
	}
	if why != "" {
		return r.complain(why)
	}
	return 0, r.put(args[1], canonical, "an address")
}

func (r *run) humanize(args [maxArgs]int32) (int64, error) {
	canonical, err := r.take(args[0], maxCanonical, "an address")
	if err != nil || !r.charge(priceAddress) {
		return 0, errStopped
	}
	human, ok := r.host.Human(canonical)
	if !ok {
		return r.complain(addressInvalid)
	}
	return 0, r.put(args[1], []byte(human), "an address")
}

func (r *run) query(args [maxArgs]int32) (int64, error) {
	request, err := r.take(args[0], maxQuery, "a query")
	if err != nil {
		return 0, err
	}
	answer, points, err := r.host.Query(request, uint64(max(r.native.points(), 0)))
	if err := r.paid(points, err); err != nil {
		return 0, err
	}
	return r.hand(answer)
}
