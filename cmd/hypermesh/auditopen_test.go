package main

import (
	"slices"
	"testing"
)

// TestRelayPrivateRunsTheRelay: the short form is the long one, and no other is changed.
func TestRelayPrivateRunsTheRelay(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ given, want []string }{
		{[]string{"hypermesh", "relay", "--private", "--home", "h"}, []string{"hypermesh", "relay", "run", "--private", "--home", "h"}},
		{[]string{"hypermesh", "relay", "--home", "h", "--private"}, []string{"hypermesh", "relay", "run", "--home", "h", "--private"}},
		{[]string{"hypermesh", "relay", "run", "--private"}, []string{"hypermesh", "relay", "run", "--private"}},
		{[]string{"hypermesh", "relay", "--help"}, []string{"hypermesh", "relay", "--help"}},
		{[]string{"hypermesh", "relay"}, []string{"hypermesh", "relay"}},
	} {
		if got := runsRelay(c.given); !slices.Equal(got, c.want) {
			t.Errorf("%v became %v, want %v", c.given, got, c.want)
		}
	}
}
