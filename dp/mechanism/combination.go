package mechanism

import (
	"math"
	"slices"
)

// combination is the noise of numbers that are drawn independently, of which weighted sums are read.
type combination []law

// newCombination gives the noise of one partition's coordinates, which must be so many.
func newCombination(vec Vector, coordinates int) (combination, error) {
	if len(vec.Bounds) != coordinates {
		return nil, errCoordinates
	}
	laws := make(combination, coordinates)
	for i := range laws {
		var err error
		if laws[i], err = vec.Draw(i).law(); err != nil {
			return nil, err
		}
	}
	return laws, nil
}

// sd is the standard deviation of the weighted sum.
func (n combination) sd(weights ...float64) float64 {
	variance := 0.0
	for i, w := range weights {
		variance += w * w * n[i].sd() * n[i].sd()
	}
	return math.Sqrt(variance)
}

// tail bounds P(|weighted sum| >= t) from above.
func (n combination) tail(t float64, weights ...float64) float64 {
	terms := make([]term, len(weights))
	for i, w := range weights {
		terms[i] = term{law: n[i], weight: w, times: 1}
	}
	return tail(t, terms)
}

// term is a noise that a sum has some times, drawn anew each time.
type term struct {
	law    law
	weight float64
	times  int
}

// tail bounds P(|sum of terms| >= t) from above: that of the samples before rounding, at t less what rounding can add.
// That is at most half a weight for each; of many, whose roundings are independent and 0 on average, hardly ever more than
// Hoeffding's inequality says ("Probability Inequalities for Sums of Bounded Random Variables", 1963).
func tail(t float64, terms []term) float64 {
	variance, count := 0.0, 0
	rounding, squares := 0.0, 0.0
	var scales []scale
	for _, of := range terms {
		if of.weight == 0 || of.times == 0 {
			continue
		}
		w := math.Abs(of.weight)
		rounding += w * float64(of.times) / 2
		squares += w * w * float64(of.times)
		switch l := of.law.(type) {
		case gaussianLaw:
			variance += float64(of.times) * w * w * l.sigma * l.sigma
		case laplaceLaw:
			scales = append(scales, scale{w * l.scale, of.times})
			count += of.times
		}
	}
	more := 0.0 // of probability
	if most := math.Sqrt(squares * math.Log(2/negligible) / 2); most < rounding {
		rounding, more = most, negligible
	}
	t -= rounding
	switch {
	case t <= 0:
		return 1
	case variance > 0 && count == 0:
		return min(1, math.Erfc(t/math.Sqrt(2*variance))+more)
	case count == 0:
		return 0
	}
	return min(1, laplaceTail(scales, variance, t)+more)
}

// scale is that of a Laplace variable, of which a sum has some.
type scale struct {
	of    float64
	times int
}

// laplaceSumTail is P(|X+Y| > t) for independent Laplace variables of scales a and b, not both 0:
// (a^2 exp(-t/a) - b^2 exp(-t/b)) / (a^2 - b^2), written so that nothing cancels where a and b are close.
func laplaceSumTail(a, b, t float64) float64 {
	if a < b {
		a, b = b, a
	}
	if b == 0 {
		return math.Exp(-t / a)
	}
	mean := 1.0 // (1-exp(-spread))/spread
	if spread := t * (a - b) / a / b; spread > 0 {
		mean = -math.Expm1(-spread) / spread
	}
	return math.Exp(-t/a) * (1 + mean*b/(a+b)*(t/a))
}

// negligible is a probability that no interval shows: misses are at least 0.001.
const negligible = 1e-6

// laplaceTail bounds P(|sum| > t) from above for independent Laplace variables and a normal one of the given variance.
//
// Scales far below the largest are added to it: of two sums of symmetric log-concave variables with the same total
// weight, the one with the less equal weights has the larger tails (Proschan, "Peakedness of Distributions of Convex
// Combinations", 1965).
func laplaceTail(scales []scale, variance, t float64) float64 {
	if p, ok := closedTail(scales, variance, t); ok {
		return p
	}
	at := 0
	for i, s := range scales {
		if s.of > scales[at].of {
			at = i
		}
	}
	largest := scales[at].of
	var room [5]scale
	near, merged := room[:0], largest
	for _, s := range scales {
		if s.of < largest/64 && s.times < 4 {
			merged += s.of * float64(s.times)
		} else {
			near = append(near, s)
		}
	}
	if merged > largest {
		at = slices.Index(near, scales[at])
		near[at].times--
		near = append(near, scale{merged, 1})
		if p, ok := closedTail(near, variance, t); ok {
			return p
		}
	}
	return invertedTail(near, variance, merged, t)
}

// closedTail has a formula for one or two Laplace variables.
func closedTail(scales []scale, variance, t float64) (tail float64, ok bool) {
	var of [2]float64
	count := 0
	for _, s := range scales {
		for range min(s.times, 3) {
			if count == len(of) {
				return 0, false
			}
			of[count] = s.of
			count++
		}
	}
	return laplaceSumTail(of[0], of[1], t), variance == 0
}

// invertedTail inverts the characteristic function, the product of 1/(1+(b u)^2) over the scales and of
// exp(-variance u^2/2), with the trapezoidal rule. By Poisson's summation the rule's error is what the sum has beyond far,
// which is negligible by Bernstein's inequality; what is left out after the last step is added.
func invertedTail(scales []scale, variance, largest, t float64) float64 {
	whole := variance
	for _, s := range scales {
		whole += 2 * float64(s.times) * s.of * s.of
	}
	// P(|sum| > far) <= 2 exp(-far^2/(2 whole + 2 largest far)) <= 2 exp(-15)
	far := math.Sqrt(30*whole) + 30*largest
	if t >= far {
		return negligible
	}
	step := 2 * math.Pi / (t + far)
	// P(|sum| <= t) = step*t/pi + sum over k of 2/pi * sin(k*step*t)/k * f(k*step).
	within := step * t / math.Pi
	for k := 1; ; k++ {
		u := float64(k) * step
		f := math.Exp(-variance * u * u / 2)
		for _, s := range scales {
			if s.times < 3 {
				for range s.times {
					f /= 1 + s.of*s.of*u*u
				}
			} else {
				f *= math.Exp(-float64(s.times) * math.Log1p(s.of*s.of*u*u))
			}
		}
		within += 2 / math.Pi * math.Sin(u*t) / float64(k) * f
		// Beyond u the product falls at least as 1/(1+(largest u)^2).
		beyond := largest * largest * u * u
		if left := f * (1 + beyond) / (math.Pi * beyond); left < negligible || k == 1<<14 {
			return min(1, max(0, 1-within)+left+negligible)
		}
	}
}
