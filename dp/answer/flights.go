package answer

import (
	"context"
	"sync"
)

// flights lets one call at a time through for each name; the others wait for it to end.
type flights struct {
	mu    sync.Mutex
	gates map[string]*gate
}

// gate is a name that somebody is in or waits for.
type gate struct {
	free  chan struct{} // holds one token while nobody is in
	users int
}

// enter waits until nobody else is in under this name, or the context ends. The caller must call leave.
func (f *flights) enter(ctx context.Context, name string) (leave func(), err error) {
	f.mu.Lock()
	if f.gates == nil {
		f.gates = make(map[string]*gate)
	}
	g := f.gates[name]
	if g == nil {
		g = &gate{free: make(chan struct{}, 1)}
		g.free <- struct{}{}
		f.gates[name] = g
	}
	g.users++
	f.mu.Unlock()

	quit := func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if g.users--; g.users == 0 {
			delete(f.gates, name)
		}
	}
	select {
	case <-g.free:
		return func() { g.free <- struct{}{}; quit() }, nil
	case <-ctx.Done():
		quit()
		return nil, ctx.Err()
	}
}
