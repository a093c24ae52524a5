package plan

import (
	"fmt"
	"slices"
	"sort"
	"strconv"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// readTests reads the conditions and merges those on one field: a row must pass all of them, so lists
// intersect and ranges narrow. What excludes nothing and what was said twice leaves no trace.
func (r *reader) readTests() []Test {
	if len(r.query.Where) > r.limits.Conditions {
		r.refuse("where", "has more than %d conditions: use in and not_in with several values", r.limits.Conditions)
		return nil
	}
	merged := make(map[string]*Test)
	for i, c := range r.query.Where {
		path := fmt.Sprintf("where[%d]", i)
		field, ok := r.field(path+".field", c.Field)
		if !ok {
			continue
		}
		if c.Eq == nil && c.In == nil && c.NotIn == nil && c.Gte == nil && c.Lte == nil {
			r.refuse(path, "needs one of eq, in, not_in, gte, lte")
			continue
		}
		if len(c.In) > r.limits.Values || len(c.NotIn) > r.limits.Values {
			r.refuse(path, "has more than %d values: use a range or several queries", r.limits.Values)
			continue
		}
		t := merged[c.Field]
		if t == nil {
			t = &Test{Name: c.Field, Field: field}
			merged[c.Field] = t
		}
		if field.Kind == MeasureField {
			r.addNumbers(t, c, path)
		} else {
			r.addLabels(t, c, path)
		}
	}
	tests := make([]Test, 0, len(merged))
	for _, t := range merged {
		if !t.excludesNothing() {
			tests = append(tests, *t)
		}
	}
	sort.Slice(tests, func(a, b int) bool { return tests[a].Name < tests[b].Name })
	return tests
}

// excludesNothing says that no row can fail the test, as when all it has is a list of no values to leave out.
func (t *Test) excludesNothing() bool {
	return t.In == nil && len(t.NotIn) == 0 && t.From == "" && t.To == "" &&
		t.Least == nil && t.Most == nil && t.InNumbers == nil && len(t.NotInNumbers) == 0
}

// addLabels merges a condition on a dimension or a time key.
func (r *reader) addLabels(t *Test, c dp.Condition, path string) {
	label := func(path, text string) (string, bool) { return r.label(t.Field, path, text) }
	if c.Eq != nil {
		if v, ok := label(path+".eq", *c.Eq); ok {
			t.In = intersect(t.In, []string{v})
		}
	}
	if c.In != nil {
		t.In = intersect(t.In, readList(path+".in", c.In, label))
	}
	if c.NotIn != nil {
		t.NotIn = union(t.NotIn, readList(path+".not_in", c.NotIn, label))
	}
	if c.Gte == nil && c.Lte == nil {
		return
	}
	if t.Field.isNumber() {
		r.addRange(t, c, path, rows.ParseInt, "a whole number")
		return
	}
	if t.Field.Kind == TimeField {
		r.addTimeRange(t, c, path)
		return
	}
	d := r.folded().dimension(t.Field)
	switch {
	case d.Type != dp.IntDimension:
		r.refuse(path, "gte and lte apply to int dimensions, measures and time keys: use eq, in or not_in")
	case d.Bin != nil:
		r.refuse(path, "a binned dimension is filtered by its labels: use eq, in or not_in")
	default:
		r.addRange(t, c, path, rows.ParseInt, "a whole number")
	}
}

// addTimeRange narrows a range of time keys, which sort as time does within one unit.
func (r *reader) addTimeRange(t *Test, c dp.Condition, path string) {
	if c.Gte != nil {
		if v, ok := r.label(t.Field, path+".gte", *c.Gte); ok && v > t.From {
			t.From = v
		}
	}
	if c.Lte != nil {
		if v, ok := r.label(t.Field, path+".lte", *c.Lte); ok && (t.To == "" || v < t.To) {
			t.To = v
		}
	}
}

// addNumbers merges a condition on a measure. Values are read at the measure's scale, as rows were.
func (r *reader) addNumbers(t *Test, c dp.Condition, path string) {
	scale := r.policy.Measures[t.Field.Index].Scale
	parse := func(text string) (int64, error) { return rows.ParseDecimal(text, scale) }
	number := func(path, text string) (int64, bool) {
		v, err := parse(text)
		if err != nil {
			r.refuse(path, "must be a number")
		}
		return v, err == nil
	}
	if c.Eq != nil {
		if v, ok := number(path+".eq", *c.Eq); ok {
			t.InNumbers = intersect(t.InNumbers, []int64{v})
		}
	}
	if c.In != nil {
		t.InNumbers = intersect(t.InNumbers, readList(path+".in", c.In, number))
	}
	if c.NotIn != nil {
		t.NotInNumbers = union(t.NotInNumbers, readList(path+".not_in", c.NotIn, number))
	}
	r.addRange(t, c, path, parse, "a number")
}

// addRange narrows a numeric range.
func (r *reader) addRange(t *Test, c dp.Condition, path string, parse func(string) (int64, error), what string) {
	if c.Gte != nil {
		if v, err := parse(*c.Gte); err != nil {
			r.refuse(path+".gte", "must be %s", what)
		} else if t.Least == nil || v > *t.Least {
			t.Least = &v
		}
	}
	if c.Lte != nil {
		if v, err := parse(*c.Lte); err != nil {
			r.refuse(path+".lte", "must be %s", what)
		} else if t.Most == nil || v < *t.Most {
			t.Most = &v
		}
	}
}

// label gives a value its canonical form. A value outside a public domain is refused, because the domain is
// public; one of a private dimension is not looked up, because nobody may learn whether it exists.
func (r *reader) label(f Field, path, text string) (string, bool) {
	if len(text) > maxValueLength {
		r.refuse(path, "is longer than %d bytes", maxValueLength)
		return "", false
	}
	if f.isNumber() {
		n, err := rows.ParseInt(text)
		if err != nil || n < 0 {
			r.refuse(path, "must be a whole number of 0 or more")
			return "", false
		}
		return strconv.FormatInt(n, 10), true
	}
	if f.Kind == TimeField {
		if !rows.ValidTimeKey(f.Unit, text) {
			r.refuse(path, "is not a key of %s, such as %s", f.Unit.Field(), timeExample(f.Unit))
			return "", false
		}
		return text, true
	}
	d := r.folded().dimension(f)
	if d.Type == dp.IntDimension && text != d.Other && text != d.Missing {
		canonical, err := rows.CanonicalInt(text)
		if err != nil {
			r.refuse(path, "must be a whole number")
			return "", false
		}
		text = canonical
	}
	if !d.Private && !slices.Contains(d.Values, text) {
		r.refuse(path, "is not a value of %s: the dataset's description lists them", d.Name)
		return "", false
	}
	return text, true
}

func timeExample(u rows.TimeUnit) string {
	switch u {
	case rows.Hour:
		return "09"
	case rows.Day:
		return "2026-01-31"
	case rows.Week:
		return "2026-W05"
	case rows.Month:
		return "2026-01"
	case rows.Quarter:
		return "2026-Q1"
	default:
		return "2026"
	}
}

// PassesLabel says whether a label passes the test, where the test is one over labels: a dimension's or a
// time key's. Ranges over int dimensions compare the number that the label is; a label that is none passes no range.
func (t *Test) PassesLabel(label string) bool {
	if t.In != nil && !contains(t.In, label) {
		return false
	}
	if t.NotIn != nil && contains(t.NotIn, label) {
		return false
	}
	if t.From != "" && label < t.From || t.To != "" && label > t.To {
		return false
	}
	if t.Least == nil && t.Most == nil {
		return true
	}
	v, err := rows.ParseInt(label)
	return err == nil && t.passesRange(v)
}

// PassesNumber says whether a measure's value passes the test.
func (t *Test) PassesNumber(v int64) bool {
	if t.InNumbers != nil && !contains(t.InNumbers, v) {
		return false
	}
	if t.NotInNumbers != nil && contains(t.NotInNumbers, v) {
		return false
	}
	return t.passesRange(v)
}

func (t *Test) passesRange(v int64) bool {
	return (t.Least == nil || v >= *t.Least) && (t.Most == nil || v <= *t.Most)
}

// readList reads a list of values into sorted, distinct ones. It is never nil: an empty list matches nothing.
func readList[V string | int64](path string, texts []string, read func(path, text string) (V, bool)) []V {
	list := []V{}
	for i, text := range texts {
		if v, ok := read(fmt.Sprintf("%s[%d]", path, i), text); ok {
			list = append(list, v)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// intersect gives what both sorted lists hold; nil stands for everything.
func intersect[V string | int64](a, b []V) []V {
	if a == nil {
		return b
	}
	both := []V{}
	for _, v := range a {
		if contains(b, v) {
			both = append(both, v)
		}
	}
	return both
}

// union gives what either sorted list holds.
func union[V string | int64](a, b []V) []V {
	if len(a)+len(b) == 0 {
		return nil
	}
	all := append(append([]V{}, a...), b...)
	slices.Sort(all)
	return slices.Compact(all)
}

func contains[V string | int64](sorted []V, v V) bool {
	_, found := slices.BinarySearch(sorted, v)
	return found
}
