package crypto

import "sync"

// ForkJoin calls task(0) … task(n−1), up to parallelism of them at a time, and
// returns when all have returned: no goroutine outlives the call. It is the
// one fork of the pure packages (architecture.md, rule 3); tasks write to
// places of their own, so that the result is the same at parallelism 1 and N.
// A panic in a task is raised again in the caller.
func ForkJoin(n, parallelism int, task func(i int)) {
	if n <= 1 || parallelism <= 1 {
		for i := range n {
			task(i)
		}
		return
	}
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		next  int
		fault any
	)
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		if next == n || fault != nil {
			return 0, false
		}
		next++
		return next - 1, true
	}
	worker := func() {
		defer wg.Done()
		defer func() {
			if p := recover(); p != nil {
				mu.Lock()
				fault = p
				mu.Unlock()
			}
		}()
		for i, ok := take(); ok; i, ok = take() {
			task(i)
		}
	}
	for range min(n, parallelism) {
		wg.Add(1)
		go worker()
	}
	wg.Wait()
	if fault != nil {
		panic(fault)
	}
}
