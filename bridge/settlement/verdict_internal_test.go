package settlement

import "testing"

// TestQuiet: whether too few voted is said by the first panel, and once the larger one judges
// unasked by that alone; never by a panel of appeal, whose silence leaves what the first found.
func TestQuiet(t *testing.T) {
	silent, voted := &Panel{Quiet: true}, &Panel{}
	for name, c := range map[string]struct {
		raised        bool
		first, appeal *Panel
		quiet         bool
	}{
		"nobody challenged":                         {},
		"the first voted":                           {first: voted},
		"the first was silent":                      {first: silent, quiet: true},
		"an appeal's was silent":                    {first: voted, appeal: silent},
		"the first was silent, the larger one not":  {raised: true, first: silent, appeal: voted},
		"the first was silent, the larger one also": {raised: true, first: silent, appeal: silent, quiet: true},
	} {
		v := &verdict{OpenClaim: &OpenClaim{Raised: c.raised}, first: c.first, appeal: c.appeal}
		if v.quiet() != c.quiet {
			t.Errorf("%s: quiet is %v", name, !c.quiet)
		}
	}
}
