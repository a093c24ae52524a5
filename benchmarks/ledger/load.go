package main

import (
	"context"
	"slices"
	"sync"
	"time"
)

// measured is one cell: how many calls a second succeeded, and how long the slowest of a hundred took.
type measured struct {
	perSecond float64
	p50, p99  time.Duration
}

// drive has clients call for as long as a run lasts, each one call after the other, and gives the median of
// runs by rate.
func drive(ctx context.Context, runs int, each time.Duration, clients int, call func(ctx context.Context, client int) error) (measured, error) {
	results := make([]measured, 0, runs)
	for range runs {
		m, err := driveOnce(ctx, each, clients, call)
		if err != nil {
			return measured{}, err
		}
		results = append(results, m)
	}
	slices.SortFunc(results, func(a, b measured) int {
		if a.perSecond < b.perSecond {
			return -1
		}
		return 1
	})
	return results[len(results)/2], nil
}

func driveOnce(ctx context.Context, each time.Duration, clients int, call func(ctx context.Context, client int) error) (measured, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		wait   sync.WaitGroup
		mu     sync.Mutex
		took   []time.Duration
		failed error
	)
	begin := time.Now()
	for client := range clients {
		wait.Go(func() {
			var own []time.Duration
			for time.Since(begin) < each && ctx.Err() == nil {
				start := time.Now()
				if err := call(ctx, client); err != nil {
					mu.Lock()
					if failed == nil {
						failed = err
					}
					mu.Unlock()
					cancel()
					return
				}
				own = append(own, time.Since(start))
			}
			mu.Lock()
			took = append(took, own...)
			mu.Unlock()
		})
	}
	wait.Wait()
	elapsed := time.Since(begin)
	if failed != nil {
		return measured{}, failed
	}
	slices.Sort(took)
	at := func(share float64) time.Duration { return took[min(len(took)-1, int(share*float64(len(took))))] }
	return measured{perSecond: float64(len(took)) / elapsed.Seconds(), p50: at(0.5), p99: at(0.99)}, nil
}
