package policyfile

import (
	"fmt"
	"slices"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// derived reads a dimension that follows from another, once all that are stored are known, and those derived before it.
func (r *reader) derived(o object, p *dp.Policy, at int) {
	for _, key := range []string{"column", "type", "bin", "values", "selection", "parent", "missing"} {
		if o.has(key) {
			o.problem(key, "a dimension that is made of another has name, of, groups and other: leave it out")
		}
	}
	d := &p.Derived[at]
	const writeOf = "write the name of the dimension that it is made of"
	const writeGroups = "write each label with its values, such as {south: [munich, stuttgart], north: [hamburg]}"
	d.Other = r.labelOf(o, "other")
	ofOK, groupsOK := o.require("of", writeOf), o.require("groups", writeGroups)
	if !ofOK || !groupsOK {
		return
	}
	if d.Of, ofOK = o.text("of", writeOf); !ofOK {
		return
	}
	values, private, known := r.valuesOf(p, d.Of, at)
	if !known {
		o.problem("of", "no such dimension: %s, which this policy declares, or which is made of another one and stands before", writeOf)
		return
	}
	n := o.values["groups"]
	if n.kind != mapping || len(n.entries) == 0 {
		o.problem("groups", "%s", writeGroups)
		return
	}
	declared, seen := make(map[string]bool, len(values)), make(map[string]bool)
	for _, v := range values {
		declared[v] = true
	}
	for _, e := range n.entries {
		field := join(o.path("groups"), e.key)
		if !r.label(&node{kind: scalar, at: e.at}, field, e.key) {
			continue
		}
		d.Groups = append(d.Groups, dp.LabelGroup{Label: e.key, Values: r.group(e, field, declared, private, seen)})
	}
	if len(seen) > r.limits.Values || len(d.Groups) > r.limits.Values {
		o.problem("groups", "more than %d values or labels: shorten them", r.limits.Values)
	}
	if left := slices.IndexFunc(values, func(v string) bool { return !seen[v] }); d.Other == "" && (private || left >= 0) {
		o.r.problem(o.where("groups"), o.path("other"), "missing: write a label for the values that are in no group")
	}
}

// group reads the values of one label.
func (r *reader) group(e entry, field string, declared map[string]bool, private bool, seen map[string]bool) (group []string) {
	const instead = "write its values in brackets, such as [a, b]"
	if e.value.kind != list || len(e.value.items) == 0 {
		r.problem(e.value.at, field, "%s", instead)
		e.value.noted = true
		return nil
	}
	for i, item := range e.value.items {
		field := fmt.Sprintf("%s[%d]", field, i)
		text, ok := r.text(item, field, "write a value")
		switch {
		case !ok || !r.label(item, field, text):
		case !private && !declared[text]:
			r.problem(item.at, field, "no value of that dimension: write one that it declares, or leave it out")
		case seen[text]:
			r.problem(item.at, field, "listed twice: a value has one label")
		default:
			seen[text] = true
			group = append(group, text)
		}
	}
	return group
}

// valuesOf are the labels that a dimension can have, by its name: of those derived, one that stands before.
func (r *reader) valuesOf(p *dp.Policy, name string, before int) (values []string, private, known bool) {
	for _, d := range p.Dimensions {
		if d.Name == name && name != "" {
			return d.Values, d.Private, true
		}
	}
	for i, d := range p.Derived[:before] {
		if d.Name == name && name != "" {
			fold, err := rows.NewFold(p, i)
			if err != nil { // noted already
				return nil, true, true
			}
			return fold.Labels, false, true
		}
	}
	return nil, false, false
}
