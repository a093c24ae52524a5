package policyfile

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// names are the names of dimensions, measures and metrics with the place of the first.
type names map[string]position

var fieldName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

const writeFieldName = "write lower-case letters, digits and _, beginning with a letter, at most 63 characters; column holds a header that is spelled otherwise"

// fieldName reads the name of a dimension, measure or metric, which no other has.
func (r *reader) fieldName(o object, taken names) string {
	if !o.require("name", writeFieldName) {
		return ""
	}
	name, ok := o.text("name", writeFieldName)
	if !ok {
		return ""
	}
	first, found := taken[name]
	switch {
	case !fieldName.MatchString(name):
		o.problem("name", "not a name: %s", writeFieldName)
	case name == "time":
		o.problem("name", "reserved for time.hour, time.day and so on: write another name")
	case found:
		o.problem("name", "same name as at %s: dimensions, measures and metrics each need their own", first)
	default:
		taken[name] = o.where("name")
	}
	return name
}

// columnOf reads the header of a dimension or measure, its name where the file gives none.
func (r *reader) columnOf(o object, name, unit string) string {
	column := name
	if header, ok := o.header("column"); ok {
		column = header
	}
	if column != "" && column == unit {
		key := "column"
		if !o.has(key) {
			key = "name"
		}
		o.problem(key, "is the customer's column, which is never stored nor asked for: leave it out")
	}
	return column
}

// dimensions reads them into the policy and gives the names that are taken.
func (r *reader) dimensions(o object, p *dp.Policy) names {
	taken := names{}
	list := o.objects("dimensions", r.limits.Dimensions,
		"name", "column", "type", "bin", "values", "selection", "parent", "other", "missing", "of", "groups")
	var stored, derived []object
	for _, item := range list {
		name := r.fieldName(item, taken)
		if item.has("of") || item.has("groups") {
			derived = append(derived, item)
			p.Derived = append(p.Derived, dp.Derived{Name: name})
			continue
		}
		stored = append(stored, item)
		p.Dimensions = append(p.Dimensions, r.dimension(item, name, p.Unit.Column))
	}
	r.checkParents(stored, p.Dimensions)
	for i, item := range derived {
		r.derived(item, p, i)
	}
	return taken
}

func (r *reader) dimension(o object, name, unit string) dp.Dimension {
	d := dp.Dimension{Name: name, Column: r.columnOf(o, name, unit), Type: dp.StringDimension}
	if kind, ok := o.choice("type", string(dp.StringDimension), string(dp.IntDimension)); ok {
		d.Type = dp.DimensionType(kind)
	}
	d.Bin = r.bin(o, d.Type)
	d.Parent, _ = o.text("parent", "write the name of a dimension one step coarser")
	d.Other = r.labelOf(o, "other")
	d.Missing = r.labelOf(o, "missing")
	const declare = "declare the domain with values: [...], or write selection: private where it is not public knowledge"
	if text, ok := o.text("selection", "write selection: private"); ok {
		if text != "private" {
			o.problem("selection", "the only selection is private: write selection: private, or leave it out and declare values")
		}
		d.Private = true
	}
	switch {
	case d.Private && o.has("values"):
		o.problem("values", "both values and selection: keep values where the domain is public knowledge, selection: private where it is not")
	case d.Private && d.Other != "":
		o.problem("other", "a private dimension has no values to be other than: leave it out")
	case d.Private:
	case !o.has("values"):
		o.r.problem(o.where("values"), o.path("selection"), "a dimension without values needs selection: %s", declare)
	default:
		d.Values = r.values(o, &d)
	}
	return d
}

func (r *reader) labelOf(o object, key string) string {
	if text, ok := o.text(key, "write a label"); ok && r.label(o.values[key], o.path(key), text) {
		return text
	}
	return ""
}

func (r *reader) bin(o object, kind dp.DimensionType) *dp.Bin {
	if !o.has("bin") {
		return nil
	}
	b, ok := r.object(o.values["bin"], o.path("bin"), "step", "round")
	if !ok {
		return nil
	}
	if kind != dp.IntDimension {
		o.problem("bin", "only numbers have bins: add type: int, or leave bin out")
	}
	bin := &dp.Bin{Step: 1}
	if b.require("step", writeWhole) {
		if step, ok := b.integer("step", 1, writeWhole); ok {
			bin.Step = step
		}
	}
	if round, ok := b.choice("round", "up", "down"); ok {
		bin.Up = round == "up"
	}
	return bin
}

// values reads the public domain: a list, or for ints a range, and then the labels of other and missing.
func (r *reader) values(o object, d *dp.Dimension) []string {
	var values []string
	if n := o.values["values"]; n.kind == mapping {
		values = r.valueRange(n, o.path("values"), d)
	} else {
		values = r.valueList(o, d)
	}
	for _, label := range []string{d.Other, d.Missing} {
		if label != "" && !slices.Contains(values, label) {
			values = append(values, label)
		}
	}
	if len(values) > r.limits.Values {
		o.problem("values", "more than %d values with the labels of other and missing: shorten the list", r.limits.Values)
	}
	return values
}

func (r *reader) valueList(o object, d *dp.Dimension) []string {
	const instead = "write the values in brackets, such as [a, b]"
	items := o.list("values", r.limits.Values, instead+", or {from, to, step} for a range of ints")
	if n := o.values["values"]; len(n.items) == 0 && n.kind == list {
		o.problem("values", "empty domain: %s, or write selection: private where it is not public knowledge", instead)
	}
	values := make([]string, 0, len(items))
	seen := make(map[string]bool, len(items))
	for i, item := range items {
		field := fmt.Sprintf("%s[%d]", o.path("values"), i)
		text, ok := r.text(item, field, "write a value, in quotes where it is empty or null")
		if !ok || !r.label(item, field, text) {
			continue
		}
		if d.Type == dp.IntDimension && text != d.Other && text != d.Missing {
			if text, ok = r.intValue(item, field, text, d.Bin); !ok {
				continue
			}
		}
		if seen[text] {
			r.problem(item.at, field, "listed twice: keep one of them")
			continue
		}
		seen[text] = true
		values = append(values, text)
	}
	return values
}

// intValue gives the canonical text of a value that rows of an int dimension can have.
func (r *reader) intValue(n *node, field, text string, bin *dp.Bin) (string, bool) {
	v, err := rows.ParseInt(text)
	if err != nil {
		r.problem(n.at, field, "%v; or leave type: int out", err)
		return "", false
	}
	if bin != nil && v%bin.Step != 0 {
		r.problem(n.at, field, "not a multiple of bin.step, so no row can have it: write multiples of %d", bin.Step)
		return "", false
	}
	return strconv.FormatInt(v, 10), true
}

func (r *reader) valueRange(n *node, field string, d *dp.Dimension) []string {
	o, ok := r.object(n, field, "from", "to", "step")
	if !ok {
		return nil
	}
	if d.Type != dp.IntDimension {
		r.problem(n.at, field, "only ints have ranges: add type: int, or list the values")
		return nil
	}
	const lowest = -1 << 63
	const instead = "write whole numbers such as {from: 10, to: 180, step: 10}"
	step, stepOK := int64(1), true
	if d.Bin != nil {
		step = d.Bin.Step
	}
	if o.has("step") {
		step, stepOK = o.integer("step", 1, instead)
	}
	fromOK, toOK := o.require("from", instead), o.require("to", instead)
	var from, to int64
	if fromOK {
		from, fromOK = o.integer("from", lowest, instead)
	}
	if toOK {
		to, toOK = o.integer("to", lowest, instead)
	}
	if !fromOK || !toOK || !stepOK {
		return nil
	}
	span := uint64(to) - uint64(from) // right where to >= from, whatever their signs
	switch {
	case to < from:
		o.problem("to", "below from: write the smaller number as from")
		return nil
	case span%uint64(step) != 0:
		o.problem("to", "not reached in steps of %d: write from plus a multiple of step", step)
		return nil
	case span/uint64(step) >= uint64(r.limits.Values):
		o.problem("to", "range of more than %d values: write a larger step", r.limits.Values)
		return nil
	case d.Bin != nil && (from%d.Bin.Step != 0 || step%d.Bin.Step != 0):
		o.problem("from", "range of values that no row can have: from and step must be multiples of bin.step, which is %d", d.Bin.Step)
		return nil
	}
	var values []string
	for i := uint64(0); i <= span/uint64(step); i++ {
		values = append(values, strconv.FormatInt(from+int64(i)*step, 10))
	}
	return values
}

// checkParents follows each dimension upwards: parents exist and never lead back.
func (r *reader) checkParents(list []object, dimensions []dp.Dimension) {
	parents := map[string]string{}
	for _, d := range dimensions {
		parents[d.Name] = d.Parent
	}
	for i, d := range dimensions {
		if d.Parent == "" {
			continue
		}
		if _, found := parents[d.Parent]; !found {
			list[i].problem("parent", "no such dimension: write the name of another one of this policy, or leave parent out")
			continue
		}
		steps := 0
		for name := d.Parent; name != "" && name != d.Name && steps <= len(dimensions); name = parents[name] {
			steps++
			if parents[name] == d.Name {
				list[i].problem("parent", "leads back to the dimension itself: the coarsest of them has no parent")
			}
		}
		if d.Parent == d.Name {
			list[i].problem("parent", "is the dimension itself: write one that is coarser, or leave parent out")
		}
	}
}

// unknownScale stands for a scale that was refused: nothing is read at it.
const unknownScale = -1

func (r *reader) measures(o object, p *dp.Policy, taken names) {
	for _, item := range o.objects("measures", r.limits.Measures, "name", "column", "scale", "lower", "upper", "kind") {
		name := r.fieldName(item, taken)
		m := dp.Measure{Name: name, Column: r.columnOf(item, name, p.Unit.Column)}
		const writeScale = "write how many decimal places count, 0 to 9: 0 for whole numbers, 2 for cents"
		scaleOK := item.require("scale", writeScale)
		if scaleOK {
			var scale int64
			if scale, scaleOK = item.integer("scale", 0, writeScale); scaleOK && scale > rows.MaxScale {
				item.problem("scale", "more than %d decimal places: %s", rows.MaxScale, writeScale)
				scaleOK = false
			}
			m.Scale = int(scale)
		}
		if !scaleOK {
			m.Scale = unknownScale
		}
		const writeClamp = "write the smallest and the largest value that a row may count with, in the measure's unit"
		lowerThere, upperThere := item.require("lower", writeClamp), item.require("upper", writeClamp)
		if scaleOK {
			lower, lowerOK := r.clamp(item, "lower", m.Scale)
			upper, upperOK := r.clamp(item, "upper", m.Scale)
			m.Lower, m.Upper = lower, upper
			if lowerThere && upperThere && lowerOK && upperOK && lower >= upper {
				item.problem("upper", "inverted bounds: write an upper above lower")
			}
		}
		if kind, ok := item.choice("kind", "flow", "level"); ok {
			m.Level = kind == "level"
		}
		p.Measures = append(p.Measures, m)
	}
}

// clamp reads a bound in the measure's unit as units of 10^-scale, without rounding.
func (r *reader) clamp(o object, key string, scale int) (int64, bool) {
	text, ok := o.number(key, "in the measure's unit, such as 0 or 99.5")
	if !ok {
		return 0, false
	}
	v, err := rows.ParseExact(text, scale)
	if err != nil {
		o.problem(key, "%v: write fewer digits, or change the measure's scale", err)
		return 0, false
	}
	return v, true
}
