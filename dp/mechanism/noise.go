package mechanism

import (
	"fmt"
	"math"
	"sync"

	"github.com/google/differential-privacy/go/v3/noise"
)

// Noise adds noise to exact integers. It is the seam of the noise-free double.
type Noise interface {
	// Add gives x with one fresh draw of noise, independent of all others. It fails, adding none,
	// exactly when the draw is invalid. A sum that does not fit in 64 bits stays at the nearest number that does.
	Add(x int64, d Draw) (int64, error)
}

// Secure is the noise of google/differential-privacy from the system's random numbers. It is safe for
// concurrent use.
func Secure() Noise { return &secure{prepared: make(map[Draw]sampler)} }

type secure struct {
	lock     sync.Mutex
	prepared map[Draw]sampler // draws come in runs of one per group: their sigma is found once
}

// maxPrepared bounds the memory of secure.prepared. A query has far fewer kinds of draw.
const maxPrepared = 256

func (s *secure) Add(x int64, d Draw) (int64, error) {
	from, err := s.sampler(d)
	if err != nil {
		return 0, fmt.Errorf("adding noise: %w", err)
	}
	n, err := from.sample()
	if err != nil {
		return 0, fmt.Errorf("adding noise: %w", err)
	}
	return saturatingAdd(x, n), nil
}

func (s *secure) sampler(d Draw) (sampler, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if known, ok := s.prepared[d]; ok {
		return known, nil
	}
	law, err := d.law()
	if err != nil {
		return sampler{}, err
	}
	made := newSampler(d, law)
	if len(s.prepared) >= maxPrepared {
		clear(s.prepared)
	}
	s.prepared[d] = made
	return made, nil
}

// sampler draws the noise of one valid draw.
//
// AddNoiseInt64 draws on a grid of 2^-m and rounds to integers itself, as a float64 and with halves away
// from zero. Neither commutes with adding x: where the grid is coarse, the one value that noise 0 gives
// is rarer than its neighbours, and Gaussian noise beyond 2^53 keeps the low bits of x. So the library is
// asked for noise on 0 at 2^m times the bound, where its grid is exactly 1 and nothing is rounded, and the
// sample is rounded here with halves up, which does commute: x + round(s) = round(x + s). The noise is
// thus a function of x + s alone, and what is proved of x + s holds for it. Scaling by powers of two is
// exact, so that the law is the one of the unscaled call.
type sampler struct {
	with           noise.Noise
	l0, bound      int64
	epsilon, delta float64
	m              uint
}

func newSampler(d Draw, l law) sampler {
	s := sampler{l0: d.L0, bound: d.Bound << l.shift(), epsilon: epsilonFloat(d.Epsilon), m: l.shift()}
	if d.Kind == Laplace {
		s.with = noise.Laplace()
	} else {
		s.with, s.delta = noise.Gaussian(), deltaFloat(d.Delta)
	}
	return s
}

func (s sampler) sample() (int64, error) {
	fine, err := s.with.AddNoiseInt64(0, s.l0, s.bound, s.epsilon, s.delta)
	if err != nil {
		return 0, err
	}
	return roundHalfUp(fine, s.m), nil
}

// roundHalfUp is floor(fine/2^m + 1/2) without overflow: shifts of signed integers round down.
func roundHalfUp(fine int64, m uint) int64 {
	if m == 0 {
		return fine
	}
	half := fine >> (m - 1)
	return half>>1 + half&1
}

func saturatingAdd(a, b int64) int64 {
	switch {
	case b > 0 && a > math.MaxInt64-b:
		return math.MaxInt64
	case b < 0 && a < math.MinInt64-b:
		return math.MinInt64
	}
	return a + b
}
