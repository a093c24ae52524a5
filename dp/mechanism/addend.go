package mechanism

import "math"

// Addend is a noise that a figure holds: that of a draw, each Times drawn anew and multiplied by Weight.
type Addend struct {
	Draw   Draw
	Weight float64
	Times  int
}

// SumSD is the standard deviation of the sum of independent noises; infinite where a draw is invalid.
func SumSD(noises ...Addend) float64 {
	variance := 0.0
	for _, a := range noises {
		law, err := a.Draw.law()
		if err != nil {
			return math.Inf(1)
		}
		variance += float64(a.Times) * a.Weight * a.Weight * law.sd() * law.sd()
	}
	return math.Sqrt(variance)
}

// SumHalfWidth is a w with P(|sum of independent noises| <= w) >= confidence, close to the least: of a single draw the
// least integer; infinite where a draw is invalid. Where all weights are whole numbers, so is w.
func SumHalfWidth(c Confidence, noises ...Addend) float64 {
	var terms []term
	whole, known := true, make(map[Addend]int) // alike but for Times: their tails are then found at once
	for _, a := range noises {
		times := a.Times
		a.Times = 0
		if at, ok := known[a]; ok {
			terms[at].times += times
			continue
		}
		law, err := a.Draw.law()
		if err != nil {
			return math.Inf(1)
		}
		known[a] = len(terms)
		terms = append(terms, term{law, a.Weight, times})
		whole = whole && a.Weight == math.Trunc(a.Weight)
	}
	if len(terms) == 1 && terms[0].times == 1 && math.Abs(terms[0].weight) == 1 {
		return float64(terms[0].law.halfWidth(c.Miss()))
	}
	at := quantile(terms, c.Miss())
	if whole { // beyond w is at least w+1
		return max(0, math.Ceil(at)-1)
	}
	return at
}

// quantile is a t with tail(t, terms) <= miss, found to a part in 10^12.
func quantile(terms []term, miss float64) float64 {
	beyond := 1.0
	for tail(beyond, terms) > miss {
		beyond *= 2
	}
	within := 0.0
	for range 40 {
		if middle := (within + beyond) / 2; tail(middle, terms) > miss {
			within = middle
		} else {
			beyond = middle
		}
	}
	return beyond
}
