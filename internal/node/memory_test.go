package node

import (
	"strings"
	"testing"
)

func TestTreeMemoryIsBounded(t *testing.T) {
	for mib, ok := range map[int]bool{-1: false, 0: false, 1: true, 128: true, 64 << 10: true, 64<<10 + 1: false} {
		c := DefaultConfig()
		c.TreeMiB = mib
		if err := c.Check(); (err == nil) != ok || err != nil && !strings.HasPrefix(err.Error(), "tree_mib is ") {
			t.Errorf("tree_mib = %d: %v", mib, err)
		}
	}
}
