package policyfile

import (
	"fmt"
	"math/bits"
	"regexp"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/accounting"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// maxCapEpsilon is the largest cap: beyond it mechanisms cannot be computed, and nothing is protected.
const maxCapEpsilon = 700

// maxPopulation keeps ten times the population within 64 bits. There are fewer people.
const maxPopulation = 1_000_000_000_000

const (
	writeBlock    = "write block: month, quarter, year or all, the period within which a customer's rows are protected together"
	writeTimezone = "write the IANA name of the zone whose calendar you report in, such as Europe/Berlin or UTC"
	writeWhole    = "write a whole number of at least 1"
)

// policy reads the whole file. What it gives is to be used only if no problem was noted.
func (r *reader) policy(root *node) dp.Policy {
	var p dp.Policy
	o, ok := r.object(root, "", "name", "kind", "population", "unit", "time", "dimensions", "measures", "metrics",
		"bounds", "cap", "default", "purposes", "audiences", "link", "two_person", "retain")
	if !ok {
		return p
	}
	p.Name = r.name(o)
	if o.require("kind", "write engagement, transactions or custom") {
		kind, _ := o.choice("kind", string(dp.Engagement), string(dp.Transactions), string(dp.Custom))
		p.Kind = dp.Kind(kind)
	}
	p.Population = r.population(o)
	p.Time = r.time(o)
	p.Unit = r.unit(o, p.Time != nil || o.has("time"))
	names := r.dimensions(o, &p)
	r.measures(o, &p, names)
	r.metrics(o, &p, names)
	p.Bounds = r.bounds(o, p.Unit.Row)
	r.budgets(o, &p)
	p.Purposes = r.purposes(o)
	p.Audiences = r.audiences(o)
	p.Link = r.link(o, p.Unit, p.Time)
	p.TwoPerson = r.twoPerson(o)
	p.RetainMonths = r.retain(o, p.Unit)
	r.checkBlanks()
	if r.count == 0 {
		r.checkScales(o, &p) // computes with everything above
	}
	return p
}

var datasetName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)

func (r *reader) name(o object) string {
	const instead = "write lower-case letters, digits, _ and -, beginning with a letter, at most 63 characters"
	if !o.require("name", instead) {
		return ""
	}
	name, ok := o.text("name", instead)
	if ok && !datasetName.MatchString(name) {
		o.problem("name", "not a name: %s", instead)
	}
	return name
}

func (r *reader) population(o object) int64 {
	const instead = "write how many customers the dataset is about, a whole number, rounded down; it bounds delta"
	if !o.require("population", instead) {
		return 0
	}
	n, ok := o.integer("population", 1, instead)
	if ok && n > maxPopulation {
		o.problem("population", "more than %d customers: %s", maxPopulation, instead)
		return 0
	}
	return n
}

func (r *reader) time(o object) *dp.TimeColumn {
	if !o.has("time") {
		return nil
	}
	t, ok := r.object(o.values["time"], "time", "column", "timezone", "format")
	if !ok {
		return nil
	}
	out := &dp.TimeColumn{Format: rows.RFC3339Format}
	if t.require("column", "write the header of the column that holds a row's time") {
		out.Column, _ = t.header("column")
	}
	if t.require("timezone", writeTimezone) {
		if out.Timezone, ok = t.text("timezone", writeTimezone); ok {
			if _, err := rows.LoadZone(out.Timezone); err != nil {
				t.problem("timezone", "unknown time zone: %s", writeTimezone)
			}
		}
	}
	if text, ok := t.text("format", "write rfc3339, date, unix, unix_ms or a layout of YYYY MM DD hh mm ss"); ok {
		out.Format = text
		if _, err := rows.CompileTimeFormat(text); err != nil {
			t.problem("format", "%v", err)
		}
	}
	return out
}

func (r *reader) unit(o object, hasTime bool) dp.Unit {
	if !o.require("unit", "write {column, block} naming the customer's column, or {row: true} where every row is its own customer") {
		return dp.Unit{}
	}
	u, ok := r.object(o.values["unit"], "unit", "column", "row", "block")
	if !ok {
		return dp.Unit{}
	}
	var unit dp.Unit
	if text, ok := u.text("row", "write row: true, or leave it out"); ok {
		if text != "true" || u.values["row"].quoted {
			u.problem("row", "write row: true where every row is its own customer; otherwise leave it out and name the customer's column")
		}
		unit.Row = true
	}
	switch {
	case unit.Row && u.has("column"):
		u.problem("column", "both column and row: keep column where rows name their customer, row: true where each row is one")
	case unit.Row:
	case u.require("column", "write the header of the column that names a row's customer, or row: true where every row is its own customer"):
		unit.Column, _ = u.header("column")
	}
	block, ok := u.choice("block", string(dp.Month), string(dp.Quarter), string(dp.Year), string(dp.All))
	unit.Block = dp.Block(block)
	switch {
	case ok && !hasTime && unit.Block != dp.All:
		u.problem("block", "rows without time have no periods: write block: all, or add time: {column, timezone}")
	case u.has("block"):
	case !hasTime || unit.Row:
		unit.Block = dp.All // there is no other, or every row is protected by itself
	default:
		u.require("block", writeBlock)
	}
	return unit
}

func (r *reader) bounds(o object, row bool) dp.Bounds {
	bounds := dp.Bounds{MaxPartitions: 1, MaxRows: 1}
	const instead = "write {max_partitions, max_rows}: how many groups one customer may count in within a block, and with how many rows in each"
	if !o.has("bounds") {
		if !row {
			o.require("bounds", instead)
		}
		return bounds
	}
	b, ok := r.object(o.values["bounds"], "bounds", "max_partitions", "max_rows")
	if !ok {
		return bounds
	}
	read := func(key string, into *int64) {
		if !row && !b.require(key, writeWhole) {
			return
		}
		if n, ok := b.integer(key, 1, writeWhole); ok {
			*into = n
			if row && n != 1 {
				b.problem(key, "every row is its own customer (unit: {row: true}), so write 1 or leave bounds out")
			}
		}
	}
	read("max_partitions", &bounds.MaxPartitions)
	read("max_rows", &bounds.MaxRows)
	return bounds
}

// budgets reads cap and default and holds them against each other and the population.
func (r *reader) budgets(o object, p *dp.Policy) {
	var capOK, defaultOK bool
	p.Cap, capOK = r.budget(o, "cap", "write {epsilon, delta}: the most that anyone can ever learn of one customer within one block")
	p.Default, defaultOK = r.budget(o, "default", "write {epsilon, delta}: what a question costs that names neither an exactness nor a price")
	if capOK && p.Cap.Epsilon > maxCapEpsilon*dp.EpsilonOne {
		c := object{r: r, at: o.where("cap"), field: "cap", values: keysOf(o.values["cap"])}
		c.problem("epsilon", "must be at most %d, and should be below 20: larger ones protect nobody", maxCapEpsilon)
	}
	if capOK && p.Population > 0 {
		c := object{r: r, at: o.where("cap"), field: "cap", values: keysOf(o.values["cap"])}
		// delta <= 1/(10*population), in integers.
		if high, low := bits.Mul64(uint64(p.Cap.Delta), 10*uint64(p.Population)); high > 0 || low > uint64(dp.DeltaOne) {
			c.problem("delta", "must be at most 1/(10*population), which is %s: lower delta", dp.DeltaOne/dp.Delta(10*p.Population))
		}
	}
	if capOK && defaultOK {
		d := object{r: r, at: o.where("default"), field: "default", values: keysOf(o.values["default"])}
		if p.Default.Epsilon > p.Cap.Epsilon {
			d.problem("epsilon", "above cap.epsilon: no question at this price could ever be answered; write at most a tenth of the cap")
		}
		// Deltas of charges may add up to a quarter of the cap's (see dp/accounting).
		if p.Default.Delta > p.Cap.Delta/4 {
			d.problem("delta", "above a quarter of cap.delta, which is %s: no question at this price could ever be answered; write at most a hundredth of the cap, or 0", p.Cap.Delta/4)
		}
	}
}

func (r *reader) budget(o object, key, instead string) (dp.Budget, bool) {
	var budget dp.Budget
	if !o.require(key, instead) {
		return budget, false
	}
	b, ok := r.object(o.values[key], key, "epsilon", "delta")
	if !ok {
		return budget, false
	}
	const writeEpsilon = "write a number above 0 such as 1 or 0.1"
	epsilonOK := b.require("epsilon", writeEpsilon)
	if epsilonOK {
		var text string
		if text, epsilonOK = b.number("epsilon", "such as 1 or 0.1"); epsilonOK {
			var err error
			if budget.Epsilon, err = accounting.ParseEpsilon(text, accounting.Down); err != nil {
				b.problem("epsilon", "%v", err)
				epsilonOK = false
			} else if budget.Epsilon == 0 {
				b.problem("epsilon", "0, or less than 1e-12: %s", writeEpsilon)
				epsilonOK = false
			}
		}
	}
	deltaOK := true
	if b.has("delta") {
		var text string
		if text, deltaOK = b.number("delta", "such as 1e-9, or 0"); deltaOK {
			var err error
			if budget.Delta, err = accounting.ParseDelta(text, accounting.Down); err != nil {
				b.problem("delta", "%v", err)
				deltaOK = false
			}
		}
	}
	return budget, epsilonOK && deltaOK
}

// keysOf gives the values of a mapping that was read before, for their places.
func keysOf(n *node) map[string]*node {
	values := map[string]*node{}
	for _, e := range n.entries {
		values[e.key] = e.value
	}
	return values
}

var purposeName = datasetName

func (r *reader) purposes(o object) []string {
	const instead = "write the purposes for which questions may be asked, such as [product-analytics]"
	var purposes []string
	if !o.require("purposes", instead) {
		return nil
	}
	for i, item := range o.list("purposes", r.limits.Purposes, instead) {
		field := fmt.Sprintf("purposes[%d]", i)
		text, ok := r.text(item, field, "write a name such as product-analytics")
		switch {
		case !ok:
		case !purposeName.MatchString(text):
			r.problem(item.at, field, "not a name: write lower-case letters, digits, _ and -, beginning with a letter, at most 63 characters")
		case contains(purposes, text):
			r.problem(item.at, field, "listed twice: keep one of them")
		default:
			purposes = append(purposes, text)
		}
	}
	if n := o.values["purposes"]; n.kind == list && len(n.items) == 0 {
		o.problem("purposes", "empty: %s", instead)
	}
	return purposes
}

func (r *reader) audiences(o object) []dp.Audience {
	if !o.has("audiences") {
		return []dp.Audience{dp.Internal}
	}
	const instead = "write [internal], [third-party] or both"
	offered := []string{string(dp.Internal), string(dp.ThirdParty)}
	var audiences []dp.Audience
	for i, item := range o.list("audiences", len(offered), instead) {
		field := fmt.Sprintf("audiences[%d]", i)
		text, ok := r.text(item, field, instead)
		if ok && !contains(offered, text) {
			r.problem(item.at, field, "not a choice: %s", suggestion(text, offered))
		}
		for _, before := range audiences {
			if string(before) == text {
				r.problem(item.at, field, "listed twice: keep one of them")
			}
		}
		audiences = append(audiences, dp.Audience(text))
	}
	if n := o.values["audiences"]; n.kind == list && len(n.items) == 0 {
		o.problem("audiences", "empty: %s, or leave it out for [internal]", instead)
	}
	return audiences
}

func (r *reader) twoPerson(o object) bool {
	const instead = "write true to have changes that could let more be learned wait for a second officer; otherwise leave it out"
	text, ok := o.text("two_person", instead)
	if ok && (text != "true" && text != "false" || o.values["two_person"].quoted) {
		o.problem("two_person", "neither true nor false: %s", instead)
	}
	return ok && text == "true"
}

func (r *reader) link(o object, unit dp.Unit, times *dp.TimeColumn) *dp.Link {
	if !o.has("link") {
		return nil
	}
	l, ok := r.object(o.values["link"], "link", "consent")
	if !ok || !l.require("consent", "write the header of the column that holds a row's consent, or leave link out") {
		return nil
	}
	consent, _ := l.header("consent")
	if unit.Row {
		l.problem("consent", "rows that are customers of their own (unit: {row: true}) cannot be joined: leave link out")
	}
	if consent != "" && consent == unit.Column {
		l.problem("consent", "is the customer's column: write the header of the column that holds the consent")
	}
	if times != nil && consent != "" && consent == times.Column {
		l.problem("consent", "is the time's column, which every row has: write the header of the column that holds the consent")
	}
	return &dp.Link{Consent: consent}
}
