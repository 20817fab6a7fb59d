package scheduler_test

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// disturb changes one or more fields, however deep, to what no server would send:
// the ends of what numbers can be, nothing, twice the same, another's name.
func (h *history) disturb(v reflect.Value) {
	switch kind := v.Kind(); { // what commands are made of
	case kind == reflect.Struct:
		var open []int
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				open = append(open, i)
			}
		}
		if len(open) > 0 {
			h.disturb(v.Field(open[h.number(0, len(open)-1, "field")]))
		}
	case v.CanUint():
		most := uint64(math.MaxUint64) >> (64 - v.Type().Bits())
		v.SetUint(rapid.SampledFrom([]uint64{0, 1, 2, most, most - 1, most / 2, v.Uint() + 1, v.Uint() - 1, uint64(h.now)}).Draw(h.t, "number") & most)
	case v.CanInt():
		v.SetInt(rapid.SampledFrom([]int64{0, 1, -1, math.MaxInt64, math.MinInt64}).Draw(h.t, "signed"))
	case kind == reflect.Bool:
		v.SetBool(!v.Bool())
	case kind == reflect.String:
		v.SetString(rapid.SampledFrom([]string{"", "x", strings.Repeat("y", 300), "matmul-32", "container"}).Draw(h.t, "text"))
	case kind == reflect.Slice:
		h.disturbList(v)
	case kind == reflect.Array:
		h.disturbName(v)
	case kind == reflect.Interface || kind == reflect.Pointer:
		if v.IsNil() {
			return
		}
		inside := reflect.New(v.Elem().Type()).Elem()
		inside.Set(v.Elem())
		h.disturb(inside)
		if v.Kind() == reflect.Interface {
			v.Set(inside)
		} else {
			v.Set(inside.Addr())
		}
	}
}

func (h *history) disturbList(v reflect.Value) {
	switch n := v.Len(); {
	case n == 0:
		v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
	case h.number(0, 3, "list") == 0:
		v.Set(reflect.Zero(v.Type()))
	case h.number(0, 1, "twice") == 0:
		copied := reflect.MakeSlice(v.Type(), n, 2*n)
		reflect.Copy(copied, v)
		v.Set(reflect.AppendSlice(copied, v))
	default:
		copied := reflect.MakeSlice(v.Type(), n, n)
		reflect.Copy(copied, v)
		v.Set(copied)
		h.disturb(v.Index(h.number(0, n-1, "element")))
	}
}

// disturbName puts another name in: of nobody, a job's, a node's.
func (h *history) disturbName(v reflect.Value) {
	switch v.Addr().Interface().(type) {
	case *crypto.Digest:
		v.Set(reflect.ValueOf(rapid.SampledFrom(append([]crypto.Digest{{}, {1}, {2}}, h.ids...)).Draw(h.t, "digest")))
	case *crypto.PublicKey:
		v.Set(reflect.ValueOf(key(h.number(1, 7, "node")).Public()))
	default:
		if v.Len() > 0 && v.Index(0).Kind() == reflect.Uint8 {
			v.Index(h.number(0, v.Len()-1, "byte")).SetUint(uint64(h.number(0, 255, "value")))
		}
	}
}

// TestDisturbedCommandsBreakNoInvariant holds the state against commands that were
// right until some of their fields were changed, and that still decode: each is
// carried out or refused by a rule, and the state is sound after it, however
// wrong what a server let through, or another server sent, may be.
func TestDisturbedCommandsBreakNoInvariant(t *testing.T) {
	applied, ruled := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		h := &history{world: worldWith(historyConfig()), t: t, open: map[crypto.Digest]uint64{}}
		h.leased = h.number(0, 2, "leases") == 0
		h.disputed = !h.leased && h.number(0, 1, "disputes") == 0
		for n := 1; n <= 3; n++ {
			h.mustRule(h.hello(n))
		}
		for range rapid.IntRange(10, 80).Draw(t, "steps") {
			h.now += chain.TimeMs(rapid.SampledFrom([]int{0, 0, 1, 1_000, 30_000, 400_000}).Draw(t, "ms"))
			c := h.command()
			if h.number(0, 1, "disturb") == 0 {
				v := reflect.New(reflect.TypeOf(c)).Elem()
				v.Set(reflect.ValueOf(c))
				for range h.number(1, 3, "changes") {
					h.disturb(v)
				}
				c = v.Interface().(scheduler.Command)
				if s, ok := c.(scheduler.Submit); ok && h.number(0, 3, "rename") > 0 { // the order names its specification
					s.Order.Spec = s.Spec.Digest()
					c = s
					h.ids = append(h.ids, s.Order.ID())
				}
				decoded, err := scheduler.DecodeCommand(scheduler.EncodeCommand(c))
				if err != nil {
					continue
				}
				c = decoded
				if err := h.apply(c); err != nil {
					mustBeRuled(t, err)
					ruled++
				} else {
					applied++
				}
			} else {
				h.mustRule(c)
			}
			for _, e := range h.effects {
				if a, ok := e.(scheduler.OpenAuction); ok {
					h.open[a.Order] = a.Auction
				}
			}
		}
		h.state.Pending()
		if _, err := scheduler.Restore(historyConfig(), h.state.Encode()); err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("%d disturbed commands were carried out, %d refused", applied, ruled)
	if applied == 0 || ruled == 0 {
		t.Error("the disturbed commands are all of one kind")
	}
}
