package mechanism

import "math"

// RatioInterval is the quotient of two noised integers of which each is drawn by coordinate 0 of its vector.
//
// The interval is Fieller's (MeanInterval) at half the miss, cut to what is possible where a denominator of 1 to the
// numerator's largest size is, at the other half: a true denominator below 1 has no quotient. Where the noised
// denominator is not positive the value is that of a denominator of 1. sd is the first-order standard deviation of the
// noise at the value.
func RatioInterval(num, den int64, of, by Vector, c Confidence) (value, low, high, sd float64) {
	x, errX := of.Draw(0).law()
	y, errY := by.Draw(0).law()
	if errX != nil || errY != nil {
		return 0, math.Inf(-1), math.Inf(1), math.Inf(1)
	}
	sum, rows := float64(num), float64(den)
	miss := c.Miss() / 2
	reach := math.Abs(sum) + float64(x.halfWidth(miss))
	value = min(max(sum/max(rows, 1), -reach), reach)
	terms := func(r float64) []term { return []term{{x, 1, 1}, {y, r, 1}} }
	beyond := func(r float64) float64 { return tail(math.Abs(sum-r*rows), terms(r)) }
	sd = min(math.Hypot(x.sd(), value*y.sd())/max(rows, 1), reach)
	if rows <= 0 || beyond(value) < miss {
		return value, -reach, reach, sd
	}
	return value, edge(value, -reach, miss, beyond), edge(value, reach, miss, beyond), sd
}

// ShareInterval is the share of one of several noised integers in their sum, all drawn by coordinate 0 of one vector;
// exactly, they are not negative. Fieller's test of a share s is of (1-s) of the one less s of the others.
func ShareInterval(one, sum int64, groups int, vec Vector, c Confidence) (value, low, high, sd float64) {
	noise, err := vec.Draw(0).law()
	if err != nil || sum <= 0 {
		return 1 / float64(max(groups, 1)), 0, 1, 0.5
	}
	terms := func(s float64) []term { return []term{{noise, 1 - s, 1}, {noise, s, groups - 1}} }
	beyond := func(s float64) float64 { return tail(math.Abs(float64(one)-s*float64(sum)), terms(s)) }
	value = min(max(float64(one)/float64(sum), 0), 1)
	sd = min(noise.sd()*math.Sqrt((1-value)*(1-value)+value*value*float64(groups-1))/float64(sum), 0.5)
	if beyond(value) < c.Miss() {
		return value, 0, 1, sd
	}
	return value, edge(value, 0, c.Miss(), beyond), edge(value, 1, c.Miss(), beyond), sd
}
