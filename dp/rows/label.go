package rows

import (
	"math"
	"strconv"

	"github.com/discreet-analytics/discreet/dp"
)

// Labeler maps raw values of one dimension to its domain. It is compiled once; an engine asks it once per
// dictionary entry, not once per row.
type Labeler struct {
	dimension *dp.Dimension
	domain    map[string]struct{} // nil when private
}

// NewLabeler compiles a dimension. It keeps d, which must not change.
func NewLabeler(d *dp.Dimension) *Labeler {
	l := &Labeler{dimension: d}
	if !d.Private {
		l.domain = make(map[string]struct{}, len(d.Values))
		for _, value := range d.Values {
			l.domain[value] = struct{}{}
		}
	}
	return l
}

// Label gives the label under which a raw value counts; where ok is false it counts in no partition.
// Ints are binned first. A public dimension then has the value itself where the domain holds it, else
// Other, else nothing; a private one has the value itself. An absent value has Missing, else Other, else
// nothing.
func (l *Labeler) Label(raw Text) (label string, ok bool) {
	d := l.dimension
	if !raw.Valid {
		if d.Missing != "" {
			return d.Missing, true
		}
		return d.Other, d.Other != ""
	}
	value, ok := binned(d, raw.Value)
	if _, declared := l.domain[value]; ok && (d.Private || declared) {
		return value, true
	}
	return d.Other, d.Other != ""
}

// binned is the text of the bin of a raw value, or the value where the dimension has no bin.
func binned(d *dp.Dimension, raw string) (string, bool) {
	if d.Bin == nil {
		return raw, true
	}
	v, err := strconv.ParseInt(raw, 10, 64)
	if err != nil {
		return "", false
	}
	label, ok := BinLabel(v, *d.Bin)
	return strconv.FormatInt(label, 10), ok
}

// BinLabel is the multiple of bin.Step that v belongs to: the next one at or above v where bin.Up, at or
// below it otherwise, for negative numbers too (with step 10, -3 belongs to -10, or up to 0). ok is false
// where that multiple does not fit into 64 bits or the step is not positive.
func BinLabel(v int64, bin dp.Bin) (label int64, ok bool) {
	if bin.Step <= 0 {
		return 0, false
	}
	above := v % bin.Step // distance from the multiple below, 0 to Step-1
	if above < 0 {
		above += bin.Step
	}
	if above == 0 {
		return v, true
	}
	if bin.Up {
		up := bin.Step - above
		return v + up, v <= math.MaxInt64-up
	}
	return v - above, v >= math.MinInt64+above
}
