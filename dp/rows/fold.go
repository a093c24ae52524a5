package rows

import (
	"fmt"
	"slices"

	"github.com/discreet-analytics/discreet/dp"
)

// Fold gives the label of a derived dimension by the label of the dimension that is stored.
type Fold struct {
	// Base is the position of the stored dimension in the policy.
	Base int
	// Labels are all that there can be, as the policy declares them.
	Labels []string

	labels  map[string]string // by the base's label
	rest    string            // of all others
	hasRest bool
}

// NewFold compiles the derived dimension at a position of the policy, through those that it is derived from.
func NewFold(p *dp.Policy, derived int) (*Fold, error) {
	if derived < 0 || derived >= len(p.Derived) {
		return nil, fmt.Errorf("the policy has no such derived dimension")
	}
	d := &p.Derived[derived]
	own := &Fold{labels: make(map[string]string)}
	for _, g := range d.Groups {
		own.Labels = append(own.Labels, g.Label)
		for _, v := range g.Values {
			own.labels[v] = g.Label
		}
	}
	if own.rest, own.hasRest = d.Other, d.Other != ""; own.hasRest && !slices.Contains(own.Labels, d.Other) {
		own.Labels = append(own.Labels, d.Other)
	}
	if own.Base = slices.IndexFunc(p.Dimensions, func(of dp.Dimension) bool { return of.Name == d.Of }); own.Base >= 0 {
		return own, nil
	}
	earlier := slices.IndexFunc(p.Derived[:derived], func(of dp.Derived) bool { return of.Name == d.Of })
	if earlier < 0 {
		return nil, fmt.Errorf("derived dimension %s: the policy has no dimension that it is derived from", d.Name)
	}
	finer, err := NewFold(p, earlier)
	if err != nil {
		return nil, err
	}
	through := &Fold{Base: finer.Base, Labels: own.Labels, labels: make(map[string]string)}
	for base, label := range finer.labels {
		if to, ok := own.Label(label); ok {
			through.labels[base] = to
		}
	}
	if finer.hasRest {
		through.rest, through.hasRest = own.Label(finer.rest)
	}
	return through, nil
}

// Label is that of a row whose stored dimension has a label; ok is false where it has none.
func (f *Fold) Label(base string) (label string, ok bool) {
	if label, ok = f.labels[base]; ok {
		return label, true
	}
	return f.rest, f.hasRest
}

// Listed are the labels of the stored dimension that the policy names, sorted; all others have one label or none.
func (f *Fold) Listed() []string {
	listed := make([]string, 0, len(f.labels))
	for label := range f.labels {
		listed = append(listed, label)
	}
	slices.Sort(listed)
	return listed
}
