package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// contestant is one of those whose times are compared.
type contestant struct {
	name string
	do   func(context.Context) error
}

// contest has all contestants do their work in turn, once to warm up and then runs times, so that whatever else the
// machine does meets all of them alike. It gives their medians.
func contest(ctx context.Context, runs int, all []contestant) ([]time.Duration, error) {
	times := make([][]time.Duration, len(all))
	for n := range runs + 1 {
		for i, c := range all {
			begin := time.Now()
			if err := c.do(ctx); err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			if n > 0 {
				times[i] = append(times[i], time.Since(begin))
			}
		}
	}
	medians := make([]time.Duration, len(all))
	for i := range times {
		medians[i] = median(times[i])
	}
	return medians, nil
}

func median[T int64 | time.Duration | float64](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// calls is what clients did together.
type calls struct {
	perSecond float64
	p50, p99  time.Duration
}

// drive has clients call one after the other until the time is over or stop is closed.
func drive(ctx context.Context, clients int, each time.Duration, stop <-chan struct{}, call func(context.Context) error) (calls, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		wait sync.WaitGroup
		mu   sync.Mutex
		took []time.Duration
	)
	begin := time.Now()
	over := func() bool {
		select {
		case <-stop:
			return true
		case <-ctx.Done():
			return true
		default:
			return stop == nil && time.Since(begin) >= each
		}
	}
	for range clients {
		wait.Go(func() {
			for first := true; first || !over(); first = false {
				start := time.Now()
				if err := call(ctx); err != nil {
					cancel(err)
					return
				}
				mu.Lock()
				took = append(took, time.Since(start))
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	elapsed := time.Since(begin)
	if err := context.Cause(ctx); err != nil {
		return calls{}, err
	}
	slices.Sort(took)
	at := func(share float64) time.Duration { return took[min(len(took)-1, int(share*float64(len(took))))] }
	return calls{perSecond: float64(len(took)) / elapsed.Seconds(), p50: at(0.5), p99: at(0.99)}, nil
}

// onDisk is how many bytes the files below a path, or the file, take up on disk.
func onDisk(path string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(path, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if s, ok := info.Sys().(*syscall.Stat_t); ok {
			sum += s.Blocks * 512
		} else {
			sum += info.Size()
		}
		return nil
	})
	return sum, err
}

// memory is this process's resident memory as Linux counts it (proc(5)): VmRSS now, VmHWM at its highest.
func memory(name string) (int64, error) {
	kilobytes, err := strconv.ParseInt(strings.TrimSuffix(field("/proc/self/status", name), " kB"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading %s, which Linux has: %w", name, err)
	}
	return kilobytes << 10, nil
}

// watchOwn looks at this process's anonymous resident memory, RssAnon, twenty times a second until it is asked how high
// that was; 0 where it cannot be read.
func watchOwn() (highest func() int64) {
	stop, done := make(chan struct{}), make(chan int64)
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		most := int64(0)
		for {
			if now, err := memory("RssAnon"); err == nil {
				most = max(most, now)
			}
			select {
			case <-tick.C:
			case <-stop:
				done <- most
				return
			}
		}
	}()
	return func() int64 {
		close(stop)
		return <-done
	}
}

// forgetPeak makes VmHWM begin anew at VmRSS.
func forgetPeak() error { return os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }
