package simulation

import "testing"

// TestAHurryWithOneselfOnlyCosts has a hand order from its own nodes, at a cluster of its own, with the largest priority fee and without: what
// the fee burns is lost with each order, whatever the policy, and nothing that the hand earns by its trades makes up for it.
func TestAHurryWithOneselfOnlyCosts(t *testing.T) {
	cast := NewCast(MaxNodes)
	attack, ok := Find("self-dealing")
	if !ok {
		t.Fatal("there is no such attack")
	}
	attack.cluster = true
	for _, policy := range Policies {
		var profit [3]float64
		for i, priority := range []int{0, 2_500, 10_000} {
			terms := Defaults(policy)
			terms.Jobs, terms.Priority = 12, priority
			if err := terms.Check(); err != nil {
				t.Fatal(err)
			}
			for seed := range uint64(3) {
				o := Market{Cast: cast, Attack: &attack, Terms: terms, Seed: seed + 1}.Play()
				if o.Tries == 0 {
					t.Fatalf("%s: nothing was tried", policy)
				}
				profit[i] += o.Profit / 3
			}
		}
		t.Logf("%s: %.3f of a job's worth a trade, with 2,500 bps %.3f, with 10,000 %.3f", policy, profit[0], profit[1], profit[2])
		if profit[0] >= 0 || profit[1] >= -0.1 || profit[2] >= -0.45 { // an eighth and a half of the work's price are burned, less what audits get of that
			t.Errorf("%s: %.3f of a job's worth a trade, with 2,500 bps %.3f, with 10,000 %.3f", policy, profit[0], profit[1], profit[2])
		}
	}
}
