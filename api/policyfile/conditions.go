package policyfile

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/plan"
)

// own reads whose values a metric is about, and its own conditions. They are looked at together where the metric has had no
// problem, of which there were so many before it.
func (r *reader) own(o object, m *dp.Metric, p *dp.Policy, before int) {
	if per, ok := o.choice("per", string(dp.PerCustomer)); ok {
		m.Per = dp.Per(per)
	}
	limits := plan.DefaultLimits()
	for i, item := range o.list("distinct", limits.Keys, "write names of dimensions and time keys in brackets, such as [merchant_category]") {
		if name, ok := r.text(item, fmt.Sprintf("%s[%d]", o.path("distinct"), i), "write the name of a dimension or of a time key"); ok {
			m.Distinct = append(m.Distinct, name)
		}
	}
	for _, item := range o.objects("where", limits.Conditions, "field", "eq", "in", "not_in", "gte", "lte") {
		if item.require("field", "write the name of a dimension, a measure or a time key") {
			m.Where = append(m.Where, r.condition(item, limits))
		}
	}
	if o.has("where") && len(m.Where) == 0 && r.count == before {
		o.problem("where", "no condition: write some, such as [{field: event, in: [message_sent]}], or leave it out")
	}
	if r.count > before || m.Per == "" && len(m.Distinct)+len(m.Where) == 0 {
		return
	}
	for _, l := range plan.CheckMetric(p, *m) {
		at, field := o.at, o.field
		if l.Path != "" {
			at, field = locate(o, l.Path), o.path(l.Path)
		}
		r.problem(at, field, "%s", l.Message)
	}
}

func (r *reader) condition(o object, limits plan.Limits) dp.Condition {
	const instead = "write a value"
	var c dp.Condition
	c.Field, _ = o.text("field", "write the name of a dimension, a measure or a time key")
	for key, into := range map[string]**string{"eq": &c.Eq, "gte": &c.Gte, "lte": &c.Lte} {
		if text, ok := o.text(key, instead); ok {
			*into = &text
		}
	}
	for key, into := range map[string]*[]string{"in": &c.In, "not_in": &c.NotIn} {
		if !o.has(key) {
			continue
		}
		*into = []string{}
		for i, item := range o.list(key, limits.Values, "write the values in brackets, such as [a, b]") {
			if text, ok := r.text(item, fmt.Sprintf("%s[%d]", o.path(key), i), instead); ok {
				*into = append(*into, text)
			}
		}
	}
	return c
}

// locate finds the place of a path such as where[0].in[2] below a mapping; what is not there has the place of what holds it.
func locate(o object, path string) position {
	at := &node{kind: mapping, at: o.at}
	for key, value := range o.values {
		at.entries = append(at.entries, entry{key: key, value: value})
	}
	for _, step := range strings.FieldsFunc(path, func(c rune) bool { return strings.ContainsRune(".[]", c) }) {
		next := at.child(step)
		if next == nil {
			break
		}
		at = next
	}
	return at.at
}

func (n *node) child(step string) *node {
	if n.kind == list {
		if i, err := strconv.Atoi(step); err == nil && i < len(n.items) {
			return n.items[i]
		}
		return nil
	}
	for _, e := range n.entries {
		if e.key == step {
			return e.value
		}
	}
	return nil
}
