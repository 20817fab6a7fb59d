package chain_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// eachPart walks over all that a message is made of, and calls change with each part and its name: what has no parts of its own; a list also
// as a whole, and so what may be there or not.
func eachPart(name string, v reflect.Value, change func(name string, v reflect.Value)) {
	switch {
	case v.Type() == reflect.TypeFor[chain.Amount]():
		change(name, v)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				eachPart(strings.TrimPrefix(name+"."+f.Name, "."), v.Field(i), change)
			} else if f.Name != "_" {
				panic("a part that is hidden: " + name + "." + f.Name)
			}
		}
	case v.Kind() == reflect.Interface:
		inside := reflect.New(v.Elem().Type()).Elem()
		inside.Set(v.Elem())
		eachPart(name, inside, func(name string, part reflect.Value) {
			change(name, part)
			v.Set(inside)
		})
	case v.Kind() == reflect.Pointer:
		change(name, v)
		if !v.IsNil() {
			eachPart(name, v.Elem(), change)
		}
	case (v.Kind() == reflect.Slice || v.Kind() == reflect.Array) && v.Type().Elem().Kind() != reflect.Uint8:
		if v.Kind() == reflect.Slice {
			change(name, v)
		}
		for i := range v.Len() {
			eachPart(fmt.Sprintf("%s[%d]", name, i), v.Index(i), change)
		}
	default:
		change(name, v)
	}
}

// altered makes another of a part.
func altered(name string, v reflect.Value) {
	switch {
	case v.Type() == reflect.TypeFor[chain.Amount]():
		v.Set(reflect.ValueOf(chain.Nano(v.Interface().(chain.Amount).Nano() + 1)))
	case v.Kind() == reflect.Pointer && v.IsNil():
		v.Set(reflect.New(v.Type().Elem()))
	case v.Kind() == reflect.Pointer:
		v.SetZero()
	case v.Kind() == reflect.Slice && v.Len() > 0 && v.Type().Elem().Kind() != reflect.Uint8:
		v.Set(reflect.AppendSlice(reflect.MakeSlice(v.Type(), 0, v.Len()), v.Slice(0, v.Len()-1)))
	case v.Kind() == reflect.Slice && v.Len() > 0:
		v.Set(reflect.AppendSlice(reflect.MakeSlice(v.Type(), 0, v.Len()), v))
		last := v.Index(v.Len() - 1)
		last.SetUint(last.Uint() ^ 1)
	case v.Kind() == reflect.Slice:
		v.Set(reflect.Append(v, reflect.New(v.Type().Elem()).Elem()))
	case v.Kind() == reflect.Array && v.Type().Elem().Kind() == reflect.Uint8:
		last := v.Index(v.Len() - 1)
		last.SetUint(last.Uint() ^ 1)
	case v.Kind() == reflect.Bool:
		v.SetBool(!v.Bool())
	case v.CanUint():
		v.SetUint(v.Uint() + 1)
	case v.CanInt():
		v.SetInt(v.Int() + 1)
	case v.Kind() == reflect.String:
		v.SetString(v.String() + "x")
	default:
		panic(fmt.Sprintf("a part of a kind that is new: %s, %s", name, v.Type()))
	}
}

// alteredAt alters part n of a message, and returns its name; empty: there are no so many.
func alteredAt(v reflect.Value, n int) (name string) {
	at := 0
	eachPart("", v, func(part string, v reflect.Value) {
		if at == n {
			name = part
			altered(part, v)
		}
		at++
	})
	return name
}

// unsignedParts alters each part of a message, one at a time in one of its own, and lists those that nobody's signature covers and that no limit
// keeps as they are. look is told what was found of the others.
func unsignedParts(t *testing.T, sample func() reflect.Value, look func(part string, found chain.Signing)) (free []string) {
	t.Helper()
	for n := 0; ; n++ {
		v := sample()
		part := alteredAt(v, n)
		if part == "" {
			return free
		}
		m, ok := v.Interface().(chain.Msg)
		if c, claim := v.Interface().(chain.Claim); claim {
			m, ok = chain.Settle{Claims: chain.Claims{c}}, true
		}
		if !ok {
			t.Fatalf("%s is no message", v.Type())
		}
		tx, err := chain.DecodeTx(signedTx(t, chain.Msgs{m}).Encode())
		if err != nil {
			continue // it is outside its limits, which DecodeTx names
		}
		verified := chain.VerifyTxs([]chain.DecodedTx{tx}, 1)[0]
		if verified == nil {
			t.Fatal("the transaction's own signature was not taken")
		}
		switch found := verified.ClaimsSigned(0)[0]; {
		case found == chain.AllSigned && slices.Contains(free, part):
		case found == chain.AllSigned:
			free = append(free, part)
		default:
			look(part, found)
		}
	}
}

func addressable[T any](m T) reflect.Value { return reflect.ValueOf(&m).Elem() }

// sampled makes claims none of whose parts are also of another.
func sampled(claim func() chain.Claim) func() reflect.Value {
	return func() reflect.Value {
		c := claim()
		c.Bid.Prices = slices.Clone(c.Bid.Prices)
		return addressable(c)
	}
}

// TestEveryPartIsSigned changes each part that a claim, a deal, a batch or a message of a run is made of, in turn, whatever parts they get: each is
// signed by somebody, of a claim by the party whose form it is, but for proofs, keys and salts, which are checked against what is signed.
func TestEveryPartIsSigned(t *testing.T) {
	forms := map[string]string{
		"Order": "the order", "OrderSig": "the order", "Acceptance": "the acceptance", "AcceptanceSig": "the acceptance",
		"Bid": "the bid", "BidSig": "the bid", "Receipt": "the receipt", "ReceiptSig": "the receipt",
	}
	under := func(policy func() chain.Policy) func() reflect.Value {
		return sampled(func() chain.Claim { return sampleClaim(policy()) })
	}
	zk := func() chain.Policy {
		return chain.PolicyZK{Kernel: "matmul-16", VerifyingKey: crypto.Digest{1}, Inputs: []chain.FieldBytes{{31: 3}, {31: 4}}}
	}
	shown := []string{"Proof", "OutputKey"}
	run := func(i int) func() reflect.Value {
		return func() reflect.Value {
			m := reflect.New(reflect.TypeOf(runMessages()[i])).Elem()
			m.Set(reflect.ValueOf(runMessages()[i]))
			return m
		}
	}
	for name, c := range map[string]struct {
		sample func() reflect.Value
		free   []string
	}{
		"a claim under none":       {under(func() chain.Policy { return chain.PolicyNone{} }), shown},
		"a claim under optimistic": {under(func() chain.Policy { return chain.PolicyOptimistic{WindowMs: 60_000, Bond: chain.Hyper(8)} }), shown},
		"a claim with a proof":     {under(zk), shown},
		"a claim with a key":       {sampled(fairClaim), shown},
		"a deal":                   {func() reflect.Value { return addressable(chain.OpenLease{Deal: sampleDeal()}) }, nil},
		"a batch":                  {func() reflect.Value { return addressable(chain.SettleBatch{Batch: sampleBatch()}) }, []string{"Batch.Kernel", "Batch.Proof"}},
		"a run that begins":        {run(0), nil},
		"a run's commitment":       {run(1), nil},
		"a run's receipt":          {run(2), []string{"Salt"}},
	} {
		t.Run(name, func(t *testing.T) {
			claim, isClaim := c.sample().Interface().(chain.Claim)
			parts := 0
			free := unsignedParts(t, c.sample, func(part string, found chain.Signing) {
				parts++
				if !isClaim {
					return
				}
				form, _, _ := strings.Cut(part, ".")
				changed, want := claim, forms[form]
				if form == "Countersigned" {
					changed.Countersigned = !claim.Countersigned
				}
				if want == "" {
					want = changed.Unsigned(lastForm)
				}
				if says := changed.Unsigned(found); says != want {
					t.Errorf("%s is changed, and it says that %s is badly signed", part, says)
				}
			})
			if !slices.Equal(free, c.free) || parts < 5 {
				t.Errorf("nobody signs %q, want %q; %d others", free, c.free, parts)
			}
		})
	}
}

// lastForm is what is found of a claim whose attestation or countersignature is bad.
const lastForm = chain.AllSigned + 5
