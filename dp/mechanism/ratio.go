package mechanism

import "math"

// RatioInterval is the quotient of two noised integers with independent noises, whose weights count as 1.
//
// The interval is Fieller's (MeanInterval) at half the miss, cut to what is possible where a denominator of 1 to the
// numerator's largest size is, at the other half: a true denominator below 1 has no quotient. Where the noised
// denominator is not positive the value is that of a denominator of 1. sd is the first-order standard deviation of the
// noise at the value.
func RatioInterval(num, den int64, of, by Addend, c Confidence) (value, low, high, sd float64) {
	x, errX := of.Draw.law()
	y, errY := by.Draw.law()
	if errX != nil || errY != nil {
		return 0, math.Inf(-1), math.Inf(1), math.Inf(1)
	}
	of.Weight, by.Weight = 1, 1
	sum, rows := float64(num), float64(den)
	miss := c.Miss() / 2
	reach := math.Abs(sum) + SumHalfWidth(Confidence(1-miss), of)
	value = min(max(sum/max(rows, 1), -reach), reach)
	terms := func(r float64) []term { return []term{{x, 1, of.Times}, {y, r, by.Times}} }
	beyond := func(r float64) float64 { return tail(math.Abs(sum-r*rows), terms(r)) }
	sd = min(math.Hypot(SumSD(of), value*SumSD(by))/max(rows, 1), reach)
	if rows <= 0 || beyond(value) < miss {
		return value, -reach, reach, sd
	}
	return value, edge(value, -reach, miss, beyond), edge(value, reach, miss, beyond), sd
}

// ShareInterval is the share of one noised integer in a sum that it is part of; exactly, no part is negative. Of the
// draws in the sum, all alike, the one has noise.Times. Fieller's test of a share s is of (1-s) of the one less s of the
// others.
func ShareInterval(one, sum int64, noise Addend, draws int, c Confidence) (value, low, high, sd float64) {
	law, err := noise.Draw.law()
	own, others := noise.Times, draws-noise.Times
	if err != nil || sum <= 0 {
		return float64(own) / float64(max(draws, 1)), 0, 1, 0.5
	}
	terms := func(s float64) []term { return []term{{law, 1 - s, own}, {law, s, others}} }
	beyond := func(s float64) float64 { return tail(math.Abs(float64(one)-s*float64(sum)), terms(s)) }
	value = min(max(float64(one)/float64(sum), 0), 1)
	sd = min(law.sd()*math.Sqrt((1-value)*(1-value)*float64(own)+value*value*float64(others))/float64(sum), 0.5)
	if beyond(value) < c.Miss() {
		return value, 0, 1, sd
	}
	return value, edge(value, 0, c.Miss(), beyond), edge(value, 1, c.Miss(), beyond), sd
}
