package api

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/discreet-analytics/discreet/dp"
)

// rates bound how many requests each consumer makes. There is one limiter for each consumer who called, and consumers are
// an officer's to make.
type rates struct {
	perSecond rate.Limit
	burst     int
	clock     func() time.Time

	mu sync.Mutex
	of map[string]*rate.Limiter
}

// burstSeconds is for how many seconds' worth of requests a consumer may be saving up.
const burstSeconds = 10

// newRates allows so many requests a second of each consumer; 0: any number.
func newRates(perSecond float64, clock func() time.Time) *rates {
	return &rates{perSecond: rate.Limit(perSecond), burst: max(1, int(burstSeconds*perSecond)), clock: clock, of: make(map[string]*rate.Limiter)}
}

// admit counts a request, or refuses it until there is room for it.
func (r *rates) admit(consumer string) error {
	if r.perSecond <= 0 {
		return nil
	}
	now := r.clock()
	r.mu.Lock()
	limiter := r.of[consumer]
	if limiter == nil {
		limiter = rate.NewLimiter(r.perSecond, r.burst)
		r.of[consumer] = limiter
	}
	r.mu.Unlock()
	if limiter.AllowN(now, 1) {
		return nil
	}
	next := limiter.ReserveN(now, 1)
	wait := next.DelayFrom(now)
	next.CancelAt(now)
	return &dp.Error{Code: dp.CodeRateLimited, RetryAfter: wait, Message: "You are asking faster than one consumer may here: wait as long as Retry-After says, and send fewer requests at once. Nothing was charged."}
}
