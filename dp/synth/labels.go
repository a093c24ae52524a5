package synth

import (
	"math"
	"slices"
	"strconv"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// labels are the values of one dimension.
type labels struct {
	dimension *dp.Dimension
	labeler   *rows.Labeler
	values    []string // of a public dimension, its domain; of a private one, those that its policy mentions
	usual     law      // of values
	madeUp    law      // of made-up ones, by rank
}

const (
	// madeUpValues is how many different values of a private dimension are made up, under each value of its parent; they
	// follow Zipf's law with this exponent and offset (Mandelbrot's).
	madeUpValues   = 2000
	madeUpExponent = 1.2
	madeUpOffset   = 3.0

	// missingShare and otherShare are how many rows lack a value, or have one outside of the domain, where the policy says
	// what such rows count as; mentionedShare is how many have one that the policy mentions of a private dimension.
	missingShare   = 0.06
	otherShare     = 0.04
	mentionedShare = 0.7
)

func newLabels(p *dp.Policy, d *dp.Dimension) *labels {
	l := &labels{dimension: d, labeler: rows.NewLabeler(d)}
	given := d.Values
	if d.Private {
		given = mentioned(p, d)
		l.madeUp = falling(madeUpValues, madeUpExponent, madeUpOffset)
	}
	for _, value := range given {
		canonical, err := rows.CanonicalInt(value)
		if value == d.Other || value == d.Missing || slices.Contains(l.values, value) || d.Type == dp.IntDimension && (err != nil || canonical != value) {
			continue
		}
		l.values = append(l.values, value)
	}
	switch n := len(l.values); {
	case d.Type == dp.IntDimension && n > 2: // a quantity, with a hump
		weights := make([]float64, n)
		for i := range weights {
			z := (float64(i)/float64(n-1) - 0.35) / 0.25
			weights[i] = math.Exp(-z * z / 2)
		}
		l.usual = newLaw(weights)
	case n > 0: // those that are declared first are the usual ones
		l.usual = falling(n, 0.8, 1)
	}
	return l
}

// falling is Zipf's law, by rank from 0.
func falling(n int, exponent, offset float64) law {
	weights := make([]float64, n)
	for rank := range weights {
		weights[rank] = math.Pow(float64(rank)+offset, -exponent)
	}
	return newLaw(weights)
}

// mentioned are values of a private dimension that its policy names: in groups of derived dimensions, and in conditions
// of metrics.
func mentioned(p *dp.Policy, d *dp.Dimension) (values []string) {
	for _, derived := range p.Derived {
		if derived.Of != d.Name {
			continue
		}
		for _, g := range derived.Groups {
			values = append(values, g.Values...)
		}
	}
	for _, m := range p.Metrics {
		for _, w := range m.Where {
			if w.Field != d.Name {
				continue
			}
			if w.Eq != nil {
				values = append(values, *w.Eq)
			}
			values = append(values, w.In...)
		}
	}
	return values
}

// draw gives a value by a number in [0, 1), and which of the labels it is. under is which of its parent's labels the row
// has: a city is in one country.
func (l *labels) draw(m *maker, u float64, parent *seen, under int, of string) (text string, rank int) {
	d := l.dimension
	if d.Missing != "" {
		if u < missingShare {
			return "", -1
		}
		u = (u - missingShare) / (1 - missingShare)
	}
	if d.Private {
		// What the policy mentions is under the usual one of the parent's.
		if len(l.values) > 0 && under <= 0 {
			if u < mentionedShare {
				rank = l.usual.at(u / mentionedShare)
				return l.raw(m, l.values[rank]), rank
			}
			u = (u - mentionedShare) / (1 - mentionedShare)
		}
		rank = l.madeUp.at(min(u, almostOne))
		return l.raw(m, l.invented(rank, parent, under, of)), len(l.values) + rank
	}
	if d.Other != "" {
		if u < otherShare || len(l.values) == 0 {
			const different = 9
			return l.outside(int(u/otherShare*different) % different), -1
		}
		u = (u - otherShare) / (1 - otherShare)
	}
	if len(l.values) == 0 { // only missing is declared
		return "", -1
	}
	rank = l.usual.at(min(u, almostOne))
	if parent != nil && parent.lead != nil && !parent.lead.dimension.Private && under >= 0 {
		rank = moved(rank, len(l.values), under, len(parent.lead.values))
	}
	return l.raw(m, l.values[rank]), rank
}

// almostOne is the largest number below 1.
const almostOne = 1 - 1.0/(1<<53)

// moved is the nearest of n labels that belongs to a parent's label, of so many: every so many-th one does.
func moved(rank, n, under, parents int) int {
	if n < parents {
		return under % n
	}
	rank += under - rank%parents
	if rank >= n {
		rank -= parents
	}
	return rank
}

// outside is a value that is not in the domain.
func (l *labels) outside(n int) string {
	if l.dimension.Type != dp.IntDimension {
		return "another " + l.dimension.Name + " " + strconv.Itoa(n+1)
	}
	largest, step := int64(0), int64(1)
	for _, value := range l.values {
		v, _ := strconv.ParseInt(value, 10, 64) // a label of ints
		largest = max(largest, v)
	}
	if l.dimension.Bin != nil {
		step = l.dimension.Bin.Step
	}
	if beyond := largest + int64(n+2)*step; beyond > largest && beyond/step < math.MaxInt32 {
		return strconv.FormatInt(beyond, 10)
	}
	return strconv.FormatInt(largest, 10)
}

// invented is a value of a private dimension.
func (l *labels) invented(rank int, parent *seen, under int, of string) string {
	d := l.dimension
	if d.Type == dp.IntDimension {
		if parent != nil {
			rank += max(under, 0) * madeUpValues
		}
		value := int64(rank + 1)
		if d.Bin != nil {
			if value > math.MaxInt64/d.Bin.Step/2 {
				value = 0
			}
			value *= d.Bin.Step
		}
		return strconv.FormatInt(value, 10)
	}
	text := d.Name + " " + strconv.Itoa(rank+1)
	if parent != nil && of != "" {
		text = of + " " + text
	}
	return text
}

// raw is a value that has a label: with bins, any number of its bin.
func (l *labels) raw(m *maker, label string) string {
	bin := l.dimension.Bin
	if bin == nil || bin.Step < 2 {
		return label
	}
	v, err := strconv.ParseInt(label, 10, 64)
	if err != nil || v > math.MaxInt64-bin.Step || v < math.MinInt64+bin.Step {
		return label
	}
	if within := m.Int64N(bin.Step); bin.Up {
		v -= within
	} else {
		v += within
	}
	return strconv.FormatInt(v, 10)
}
