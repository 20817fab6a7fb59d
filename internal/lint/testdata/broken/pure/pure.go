// Package pure holds what a pure room may not.
package pure

import (
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

var (
	mu    sync.Mutex
	count atomic.Int64
	limit = 3 * time.Second
)

// Effects has a clock, the system, randomness, goroutines and chance.
func Effects(in, out chan int64) {
	mu.Lock()
	defer mu.Unlock()
	go func() { out <- time.Now().Unix() + int64(os.Getpid()) + rand.Int64() + count.Load() }()
	select {
	case <-in:
	case out <- time.UnixMilli(0).Unix() + int64(limit):
	}
}

// First shows the order of a map.
func First(m map[string]int) string {
	for k := range m {
		return k
	}
	return ""
}

// Collected sorts too late.
func Collected(m map[string]int) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	keys = append(keys, "last")
	slices.Sort(keys)
	return keys
}

// Silent gives no reason.
func Silent(m map[string]int) (sum int) {
	// order-free:
	for _, v := range maps.All(m) {
		sum += v
	}
	return sum
}

// Fine breaks no rule.
func Fine(m map[string]int) ([]string, int) {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	sum := 0
	// order-free: addition commutes
	for _, v := range m {
		sum += v
	}
	for range m {
		sum++
	}
	return append(keys, slices.Sorted(maps.Keys(m))...), sum
}
