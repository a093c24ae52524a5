package verify

import (
	"maps"
	"slices"
)

// report tells what the entries so far lead to.
func (c *chain) report() Report {
	r := Report{Counts: c.count, Head: c.head, Root: c.tree.root(), Last: c.last, Witness: c.witness}
	r.Open = len(c.open)
	byName := map[string]*Dataset{}
	for name, d := range c.datasets {
		byName[name] = &Dataset{Name: name, PolicyVersion: d.record.PolicyVersion}
	}
	for _, id := range slices.SortedFunc(maps.Keys(c.accounts), accountID.compare) {
		d, b := byName[id.dataset], c.datasets[id.dataset].record.Cap
		largest := &d.Cap
		if id.consumer != "" {
			b, largest = c.allotments[allotmentID{id.consumer, id.dataset}].Budget, &d.Allotment
		}
		d.Accounts++
		if s := (Share{id.String(), c.certificates.share(b, c.spent(id))}); *largest == nil || s.Spent > (*largest).Spent {
			*largest = &s
		}
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		r.Datasets = append(r.Datasets, *byName[name])
	}
	return r
}
