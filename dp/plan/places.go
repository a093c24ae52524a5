package plan

import (
	"slices"
	"strings"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// folds are the derived dimensions of a policy, each compiled once it is asked for: they can have thousands of values.
type folds struct {
	policy *dp.Policy
	known  map[int]*rows.Fold // by Field.Derived
}

func newFolds(p *dp.Policy) *folds { return &folds{p, make(map[int]*rows.Fold)} }

// of is nil for fields that are not derived. A policy that is in force has no derived dimension that cannot be compiled.
func (s *folds) of(f Field) *rows.Fold {
	if f.Kind != DimensionField || f.Derived == 0 {
		return nil
	}
	if s.known[f.Derived] == nil {
		s.known[f.Derived], _ = rows.NewFold(s.policy, f.Derived-1)
	}
	return s.known[f.Derived]
}

// dimension is what a field reads: a derived one is as public as one whose values are declared.
func (s *folds) dimension(f Field) dp.Dimension {
	fold := s.of(f)
	if fold == nil {
		return s.policy.Dimensions[f.Index]
	}
	d := &s.policy.Derived[f.Derived-1]
	return dp.Dimension{Name: d.Name, Type: dp.StringDimension, Values: fold.Labels, Other: d.Other}
}

// label is that of a field which reads a stored dimension with this label.
func (s *folds) label(f Field, base string) (string, bool) {
	if fold := s.of(f); fold != nil {
		return fold.Label(base)
	}
	return base, true
}

// place is several keys that read one stored dimension of one row, as a city and its region: they occur only in tuples that
// agree.
type place struct {
	keys   []int // positions
	tuples [][]string
	first  bool // of the first appearance, of which a customer has one
}

// places finds keys that read one dimension, where there are several and one is derived. Where the finest is private, there
// are no tuples to know of.
func (q question) places() (all []place) {
	taken := make([]bool, len(q.keys))
	for i, k := range q.keys {
		if taken[i] || k.Field.Kind != DimensionField {
			continue
		}
		one := place{first: k.Field.Moment == AtFirst}
		for j := i; j < len(q.keys); j++ {
			if f := q.keys[j].Field; f.Kind == DimensionField && f.Index == k.Field.Index && f.Moment == k.Field.Moment {
				one.keys, taken[j] = append(one.keys, j), true
			}
		}
		if len(one.keys) > 1 {
			one.tuples = q.placeTuples(one.keys)
			all = append(all, one)
		}
	}
	return all
}

// placeTuples are those of every label of the stored dimension that passes the conditions on it; of a private one those of
// the labels that the policy names, and of any other.
func (q question) placeTuples(keys []int) (tuples [][]string) {
	field := q.keys[keys[0]].Field
	base := q.folds.policy.Dimensions[field.Index]
	labels := base.Values
	if base.Private {
		const other = "\x00other" // a label that no row has: labels hold no zero byte
		labels = []string{other}
		for _, k := range keys {
			if fold := q.folds.of(q.keys[k].Field); fold != nil {
				labels = append(labels, fold.Listed()...)
			} else {
				return nil
			}
		}
	}
	domains := make([]map[string]bool, len(keys))
	for i, k := range keys {
		domains[i] = make(map[string]bool)
		for _, label := range q.keys[k].Domain {
			domains[i][label] = true
		}
	}
	seen := make(map[string]bool)
	for _, label := range labels {
		tuple, there := make([]string, len(keys)), q.placePasses(field, label)
		for i, k := range keys {
			own, ok := q.folds.label(q.keys[k].Field, label)
			tuple[i] = own
			there = there && ok && domains[i][own]
		}
		if name := strings.Join(tuple, "\x00"); there && !seen[name] {
			seen[name] = true
			tuples = append(tuples, tuple)
		}
	}
	return tuples
}

// placePasses tells whether a label of a stored dimension passes the conditions on it and on what is derived from it, at one
// moment. Those on a private one are left to rows: which labels it has nobody knows.
func (q question) placePasses(of Field, label string) bool {
	for i := range q.tests {
		t := &q.tests[i]
		if t.Field.Kind != DimensionField || t.Field.Index != of.Index || t.Field.Moment != of.Moment || t.Field.Derived == 0 && q.folds.policy.Dimensions[of.Index].Private {
			continue
		}
		if own, ok := q.folds.label(t.Field, label); !ok || !t.PassesLabel(own) {
			return false
		}
	}
	return true
}

// narrowedByPlaces is a key's public domain without the labels that conditions on what is derived from its dimension exclude,
// or on the dimension that it is derived from.
func (q question) narrowedByPlaces(k Key) []string {
	base := dp.Dimension{}
	if k.Field.Kind == DimensionField {
		base = q.folds.policy.Dimensions[k.Field.Index]
	}
	if k.Domain == nil || base.Private || base.Name == "" {
		return k.Domain
	}
	left := make(map[string]bool)
	for _, label := range base.Values {
		if own, ok := q.folds.label(k.Field, label); ok && q.placePasses(k.Field, label) {
			left[own] = true
		}
	}
	return slices.DeleteFunc(k.Domain, func(label string) bool { return !left[label] })
}

// inPlace tells whether a key is one of several of a dimension.
func (s shape) inPlace(key int) bool {
	return slices.ContainsFunc(s.places, func(p place) bool { return slices.Contains(p.keys, key) })
}

// fold is how many tuples agree in the keys that a level keeps, at most.
func (p place) fold(level []int) (most int64) {
	count := make(map[string]int64)
	for _, tuple := range p.tuples {
		name := ""
		for i, k := range p.keys {
			if slices.Contains(level, k) {
				name += tuple[i] + "\x00"
			}
		}
		count[name]++
		most = max(most, count[name])
	}
	return most
}

// tells says that the groups of a source tell the labels of a field apart: it has a key of the field, or of the stored
// dimension that the field is derived from.
func (q question) tells(f Field) bool {
	return slices.ContainsFunc(q.keys, func(k Key) bool { return k.Field == f || f.derivesFrom(k.Field) })
}

// derivesFrom tells whether a field follows from another, which is a stored dimension.
func (f Field) derivesFrom(of Field) bool {
	return f.Kind == DimensionField && f.Derived > 0 && of.Kind == DimensionField && of.Derived == 0 && f.Index == of.Index && f.Moment == of.Moment
}

// foldedPart is a key of a plan that follows from a part of a source's key.
type foldedPart struct {
	plan int
	fold *rows.Fold
}

// foldedParts are those of a stored dimension that the source's key reads, where the source has no key of their own.
func (p *Plan) foldedParts(k Key, source question) (parts []foldedPart) {
	for i, own := range p.keys() {
		if _, told := source.key(own.Name); !told && own.Field.derivesFrom(k.Field) {
			parts = append(parts, foldedPart{i, p.asked.folds.of(own.Field)})
		}
	}
	return parts
}

// takesPlace tells whether a label of a source's key passes the plan's conditions on it and on what is derived from it, and
// has a label in each of the plan's keys that follow from it.
func (p *Plan) takesPlace(k Key, label string, folded []foldedPart) bool {
	for i := range p.asked.tests {
		t := &p.asked.tests[i]
		own, ok := label, true
		switch {
		case t.Field == k.Field:
		case t.Field.derivesFrom(k.Field):
			own, ok = p.asked.folds.label(t.Field, label)
		default:
			continue
		}
		if !ok || !t.PassesLabel(own) {
			return false
		}
	}
	for _, f := range folded {
		if _, ok := f.fold.Label(label); !ok {
			return false
		}
	}
	return true
}

// mostFolded is how many labels that are taken have the same labels in the keys that follow from them, at most.
func mostFolded(takes map[string]bool, folded []foldedPart) (most int) {
	count := make(map[string]int)
	for label := range takes {
		name := ""
		for _, f := range folded {
			own, _ := f.fold.Label(label)
			name += own + "\x00"
		}
		count[name]++
		most = max(most, count[name])
	}
	return most
}
