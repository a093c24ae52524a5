package accounting

import (
	"math"

	"github.com/discreet-analytics/discreet/dp"
)

// FromRho is an epsilon for which rho-zCDP implies (epsilon, delta) differential privacy, rounded up to the
// next unit: Proposition 12 of Canonne, Kamath and Steinke, "The Discrete Gaussian for Differential
// Privacy" (NeurIPS 2020, arXiv 2004.00010v6). With t = alpha - 1 it reads
//
//	epsilon = inf over t > 0 of (1+t)*rho + (log(1/delta) - log(1+t))/t - log(1+1/t).
//
// It is the largest number, which no budget admits, where rho is dp.RhoUnknown or delta is not positive,
// and 0 where delta is 1 or more.
func FromRho(rho dp.Rho, delta dp.Delta) dp.Epsilon {
	switch {
	case rho < 0 || rho == dp.RhoUnknown || delta <= 0:
		return unbounded
	case rho == 0 || delta >= dp.DeltaOne:
		return 0
	}
	r := math.Nextafter(float64(rho), math.Inf(1)) / float64(dp.RhoOne)
	l := -math.Log(math.Nextafter(float64(delta), 0) / float64(dp.DeltaOne))
	t := bestOrder(r, l)

	// Every t gives a true bound, so only the evaluation at this one t can be wrong: by less than 2^-48 of
	// the sum of the terms' sizes (PRIVACY.md, "Rounding").
	linear, tail, rest := (1+t)*r, (l+math.Log1p(t))/t, math.Log1p(1/t)
	epsilon := linear + (l-math.Log1p(t))/t - rest + 0x1p-47*(linear+tail+rest)
	return dp.Epsilon(roundUp(epsilon * float64(dp.EpsilonOne)))
}

// bestOrder is close to the t at which the bound of FromRho is least. The bound's derivative in t is
// rho - (l - log(1+t))/t^2, so that the least is where rho*t^2 + log(1+t) = l: the left side grows with t,
// there is one solution, and it lies below sqrt(l/rho).
func bestOrder(rho, l float64) float64 {
	low, high := 0.0, math.Sqrt(l/rho)
	t := high
	for range 64 {
		excess := rho*t*t + math.Log1p(t) - l
		if excess > 0 {
			high = t
		} else {
			low = t
		}
		next := t - excess/(2*rho*t+1/(1+t)) // Newton's step, kept inside what is known
		if !(next > low && next < high) {
			next = low + (high-low)/2
		}
		if math.Abs(next-t) <= 1e-12*t {
			break
		}
		t = next
	}
	if t > 0 {
		return t
	}
	return 1e-300 // delta is 1 but for rounding
}

// PureRho is the rho of Laplace noise on one coordinate. Not every epsilon-differentially private release has
// it: randomised response needs epsilon*tanh(epsilon/2).
func PureRho(e dp.Epsilon) dp.Rho { return LaplaceRho(e, 1) }

// LaplaceRho is the rho of Laplace noise that spreads epsilon evenly over coordinates: coordinates *
// f(epsilon/coordinates) with f(x) = x + exp(-x) - 1, rounded up to the next unit. PRIVACY.md, "Laplace
// noise", proves it for the sampler in use. Coordinates below 1 count as 1.
func LaplaceRho(e dp.Epsilon, coordinates int64) dp.Rho {
	if e <= 0 {
		return 0
	}
	n := float64(max(coordinates, 1))
	x := float64(e) / float64(dp.EpsilonOne) / n
	// f's relative error is below 2^-47 in either form (see laplaceDivergence); five more roundings follow.
	units := n * laplaceDivergence(x) * (1 + 0x1p-46) * float64(dp.RhoOne)
	// f(x) < x, so epsilon itself is a bound that no rounding can exceed.
	return dp.Rho(min(roundUp(units), int64(e)))
}

// laplaceDivergence is f(x) = x + exp(-x) - 1 for x >= 0: the Kullback-Leibler divergence between two
// Laplace distributions of scale 1 whose centres are x apart.
func laplaceDivergence(x float64) float64 {
	if x >= 0.5 {
		// x and 1-exp(-x) are at most five times their difference here: three bits are lost, no more.
		return x + math.Expm1(-x)
	}
	// f(x) = x^2/2 * (1 - x/3*(1 - x/4*(1 - ...))): alternating and falling, so the first term left out,
	// below 0.5^18*2/20!, bounds the truncation.
	series := 1.0
	for k := 20; k >= 3; k-- {
		series = 1 - x/float64(k)*series
	}
	return x * x / 2 * series
}

// roundUp is the least integer not below x, or the largest where x does not fit. It is never negative.
func roundUp(x float64) int64 {
	switch c := math.Ceil(x); {
	case c <= 0:
		return 0
	case c < 0x1p63:
		return int64(c)
	}
	return unbounded // NaN ends here, too
}
