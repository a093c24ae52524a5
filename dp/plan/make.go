package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/mechanism"
	"github.com/discreet-analytics/discreet/dp/rows"
)

// Make validates and prices a query. ceilings are the budgets in force that the charge will be admitted
// against (the dataset's cap, the asker's allotment): static numbers of which only the size matters here,
// never what is spent of them. Refusals are *dp.Error: CodeInvalidQuery with every location that is wrong,
// CodeAccuracyUnattainable, or CodeConflict where the price is above what the asker said to spend.
//
// others are the policies of the datasets that the query joins, as far as the asker may ask them; ceilings hold theirs too.
func Make(q dp.Query, policy dp.VersionedPolicy, ceilings []dp.Budget, limits Limits, others ...dp.VersionedPolicy) (*Plan, error) {
	location, err := rows.Location(&policy.Policy)
	if err != nil {
		return nil, fmt.Errorf("finding the time zone of dataset %s: %w", policy.Name, err)
	}
	r := &reader{query: q, policy: &policy.Policy, limits: limits, location: location, version: policy.Version, others: others}
	question := r.read()
	if err := r.refusal(); err != nil {
		return nil, err
	}
	shape := question.shape(policy.Policy)
	if !question.private() && slices.ContainsFunc(shape.places, func(p place) bool { return len(p.tuples) == 0 }) {
		r.refuse("by", "has no combination that the conditions in where leave: widen them")
		return nil, r.refusal()
	}
	if shape.groups > int64(limits.Groups) {
		r.refuse("by", "gives %d groups, more than the %d of one answer: use fewer keys, a shorter range or conditions on the keys", shape.groups, limits.Groups)
		return nil, r.refusal()
	}

	p := &Plan{
		Policy:            policy,
		Purpose:           q.Purpose,
		Blocks:            question.blocks,
		SelectedBy:        -1,
		Confidence:        question.confidence,
		GroupsMayBeHidden: question.private(),
		groups:            shape,
		asked:             question,
	}
	p.Tree = tree(question, shape, location)
	if err := p.reach(question, limits.Blocks); err != nil {
		return nil, err
	}
	p.addMetrics(question)
	if draws := times(shape.groups, p.draws()); draws > int64(limits.Draws) {
		r.refuse("metrics", "give %d noised numbers in all groups (a mean takes two, a variance three, quantiles up to 1364), more than the %d of one answer: ask for fewer metrics or groups", draws, limits.Draws)
		return nil, r.refusal()
	}
	if draws := times(times(shape.groups, p.draws()), int64(len(question.levels)+1)); draws > int64(limits.Draws) {
		r.refuse("reconcile", "gives up to %d noised numbers at all levels, more than the %d of one answer: use fewer levels or groups", draws, limits.Draws)
		return nil, r.refusal()
	}
	if err := p.addLevels(question); err != nil {
		return nil, err
	}
	if err := p.price(question, ceilings); err != nil {
		return nil, err
	}
	if err := p.checkPrice(question); err != nil {
		return nil, err
	}
	p.Totals, p.Top = q.Totals, q.Top
	p.Notes = notes(p)
	if err := p.identify(question); err != nil {
		return nil, fmt.Errorf("naming a plan of dataset %s: %w", policy.Name, err)
	}
	if len(p.Canonical) > limits.Text {
		r.refuse("where", "makes a question of more than %d bytes: use fewer or shorter values, or several queries", limits.Text)
		return nil, r.refusal()
	}
	return p, nil
}

// tree arranges the question as operators.
func tree(q question, s shape, location *time.Location) Aggregate {
	own := q.tests
	if q.profile != nil && len(q.profile.Tests) > 0 {
		own = slices.DeleteFunc(slices.Clone(own), func(t Test) bool { return t.Field.NeedsProfile() })
	}
	return Aggregate{Input: Bound{
		Input:      Group{Input: Filter{Input: scanOf(q, location), Tests: own}, Keys: q.keys, Profile: q.profile},
		Partitions: s.partitions,
		Rows:       q.rows,
	}}
}

// scanOf reads the question's blocks and range.
func scanOf(q question, location *time.Location) Scan {
	scan := Scan{Dataset: q.dataset, Blocks: q.blocks}
	if q.ranged {
		scan.Bounded = true
		scan.From, scan.To = rows.Span(q.from, q.to, location)
	}
	return scan
}

// addMetrics gives every metric its columns, sharing those that several metrics need.
func (p *Plan) addMetrics(q question) {
	for i, asked := range q.metrics {
		own := asked.tests
		m := Metric{Name: asked.name, Tests: own, Aggregate: asked.aggregate, Measure: asked.measure, Scale: asked.scale, Lower: asked.lower, Upper: asked.upper, Drawn: i, Last: asked.last, PerDay: asked.perDay, Of: asked.of}
		of := func(count Count) int {
			return p.column(Column{Count: count, Measure: max(asked.measure, 0), Lower: asked.lower, Upper: asked.upper, Last: asked.last, Of: asked.of, Distinct: asked.distinct, Tests: own})
		}
		measured := func() int {
			return p.column(Column{Count: CountMeasured, Measure: max(asked.measure, 0), Last: asked.last, Of: asked.of, Distinct: asked.distinct, Tests: own})
		}
		switch asked.aggregate {
		case dp.Customers:
			m.Columns = []int{p.column(Column{Count: CountCustomers, Tests: own})}
		case dp.Rows:
			m.Columns = []int{p.column(Column{Count: CountRows, Tests: own})}
		case dp.Days:
			m.Upper = q.mostDays()
			m.Columns = []int{p.column(Column{Count: CountDays, Upper: m.Upper, Tests: own})}
		case dp.Sessions:
			m.Upper = q.mostSessions()
			m.Columns = []int{p.column(Column{Count: CountSessions, Upper: m.Upper, Tests: own})}
		case dp.Sum:
			m.Columns = []int{of(Total)}
		case dp.Mean:
			m.Columns = []int{of(Centred), measured()}
		case dp.Variance, dp.StdDev:
			m.Columns = []int{measured(), of(Centred), of(Squared)}
		case dp.Quantile, dp.Min, dp.Max:
			m.Rank, _ = strconv.ParseFloat(asked.rank, 64) // canonical text
			bins := p.histogram(asked)
			m.Tree = mechanism.Tree{Leaves: bins.Bins}
			m.Columns = []int{p.column(bins)}
		case dp.Ratio, dp.Share:
			m.Drawn = -1
			for _, name := range asked.parts {
				m.Parts = append(m.Parts, slices.IndexFunc(q.metrics, func(a askedMetric) bool { return a.name == name }))
			}
		}
		// What is read from the same exact numbers is drawn once: all quantiles of a measure, variance and stddev, and
		// metrics that only have different names, as customers and active users.
		if m.Drawn == i {
			for earlier, have := range p.Metrics {
				if have.Drawn == earlier && slices.Equal(have.Columns, m.Columns) {
					m.Drawn = earlier
				}
			}
		}
		p.Metrics = append(p.Metrics, m)
	}
	if p.GroupsMayBeHidden {
		p.selectionColumn = p.column(Column{Count: CountCustomers})
	}
}

// hiddenLeaves is how many bins quantiles have where keys are private: how many groups get noise is not known before.
const hiddenLeaves = 256

// histogram cuts a clamp into bins: as many as a tree may have, and no narrower than one unit.
func (p *Plan) histogram(m askedMetric) Column {
	most := uint64(mechanism.MaxLeaves)
	if p.GroupsMayBeHidden {
		most = hiddenLeaves
	}
	values := uint64(m.upper) - uint64(m.lower) // less 1, which may not fit
	wide := values/most + 1
	return Column{Count: Histogram, Measure: max(m.measure, 0), Lower: m.lower, Upper: m.upper, Last: m.last, Of: m.of, Distinct: m.distinct, Tests: m.tests, Bins: int(values/wide) + 1, BinWidth: int64(wide)}
}

// draws is how many integers of each group are noised.
func (p *Plan) draws() (n int64) {
	for i, m := range p.Metrics {
		if m.Drawn == i {
			n += int64(m.Draws())
		}
	}
	return n
}

// column returns the position of a column, adding it where no metric asked for it before.
func (p *Plan) column(c Column) int {
	for i, have := range p.Tree.Columns {
		if reflect.DeepEqual(have, c) {
			return i
		}
	}
	p.Tree.Columns = append(p.Tree.Columns, c)
	return len(p.Tree.Columns) - 1
}

// bounds are the sensitivities of a metric's coordinates: how much one (customer, block) can change each of
// them in one partition (dp/PRIVACY.md, bounding lemma).
//
// Most blocks are those in which one that is left out changes most (reach).
func (p *Plan) bounds(m Metric) mechanism.Vector { return p.boundsOver(m, p.mostTimes()) }

// boundsOver are the same where what changes is what so many blocks add.
func (p *Plan) boundsOver(m Metric, times int64) mechanism.Vector {
	partitions := p.Tree.Input.Partitions
	switch {
	case m.Aggregate == dp.Customers:
		return mechanism.Vector{Partitions: p.counted(times), Bounds: []int64{1}}
	case p.apart:
		return p.boundsIn(product(partitions, times), 1, m)
	}
	v := p.boundsIn(partitions, times, m)
	if times > 1 { // each block's part may lie elsewhere, and each number that changes pays for its cut
		v.Spread = product(times, max(1, p.boundsIn(partitions, 1, m).Spread))
	}
	return v
}

// boundsIn are those of a metric that changes so many partitions by so many times what one block adds.
func (p *Plan) boundsIn(partitions, times int64, m Metric) mechanism.Vector {
	linf := p.Tree.Input.Rows
	if m.Last || m.Of != ValueRow {
		linf = 1
	}
	linf = product(times, linf)
	switch m.Aggregate {
	case dp.Days, dp.Sessions:
		return mechanism.Vector{Partitions: partitions, Bounds: []int64{product(times, m.Upper)}}
	case dp.Rows:
		return mechanism.Vector{Partitions: partitions, Bounds: []int64{linf}}
	case dp.Sum:
		return mechanism.Vector{Partitions: partitions, Bounds: []int64{product(times, max(difference(m.Upper, 0), difference(0, m.Upper), difference(m.Lower, 0), difference(0, m.Lower)))}}
	case dp.Mean: // the centred sum and the count; a midpoint rounds to no noise
		return mechanism.Vector{Partitions: partitions, Bounds: []int64{product(linf, difference(m.Upper, m.Lower)), linf}}
	case dp.Variance, dp.StdDev:
		return mechanism.VarianceBounds(partitions, linf, m.Lower, m.Upper)
	default:
		return mechanism.QuantileBounds(m.Tree, partitions, linf)
	}
}

// identify derives the plan's identity and canonical text.
func (p *Plan) identify(q question) error {
	canonical, err := json.Marshal(q.canonical(&p.Policy.Policy))
	if err != nil {
		return fmt.Errorf("writing the canonical question: %w", err)
	}
	p.Canonical = canonical
	if p.Question, err = json.Marshal(q.drawn(&p.Policy.Policy)); err != nil {
		return fmt.Errorf("writing what is drawn: %w", err)
	}

	type pricedMetric struct {
		Name   string
		Vector mechanism.Vector
		Drawn  int // whose numbers it is read from
	}
	draw := struct {
		Question      json.RawMessage
		PolicyVersion uint64
		Partitions    int64
		Rows          int64
		Metrics       []pricedMetric
		Selection     *mechanism.Selection
		Levels        []Level `json:",omitempty"`
	}{p.Question, p.Policy.Version, p.Tree.Input.Partitions, p.Tree.Input.Rows, nil, p.Selection, p.Levels}
	for _, m := range p.Metrics {
		draw.Metrics = append(draw.Metrics, pricedMetric{m.Name, m.Vector, m.Drawn})
	}
	text, err := json.Marshal(draw)
	if err != nil {
		return fmt.Errorf("writing the draw's parameters: %w", err)
	}
	sum := sha256.Sum256(text)
	p.ID = "plan_" + hex.EncodeToString(sum[:16])
	return nil
}

// notes says in words what bounding does to the figures.
func notes(p *Plan) []string {
	bound := p.Tree.Input
	per := "customer"
	if p.Policy.Unit.Row {
		per = "row"
	} else if p.Policy.Unit.Block != dp.All {
		per = "customer and " + string(p.Policy.Unit.Block)
	}
	var lines []string
	lines = append(lines, p.levelNotes(per)...)
	lines = append(lines, p.profileNotes()...)
	profile := bound.Input.Profile
	if len(bound.Input.Keys) > 0 && !p.Policy.Unit.Row && (profile == nil || profile.Funnel == nil) {
		lines = append(lines, fmt.Sprintf("Each %s counts in at most %d of the groups.", per, bound.Partitions))
	}
	for _, m := range p.Metrics {
		switch m.Aggregate {
		case dp.Rows:
			lines = append(lines, fmt.Sprintf("%s counts at most %d rows of each %s in a group.", m.Name, bound.Rows, per))
		case dp.Days:
			lines = append(lines, fmt.Sprintf("%s counts at most %d days of each %s in a group.", m.Name, m.Upper, per))
		case dp.Sessions:
			lines = append(lines, fmt.Sprintf("%s counts at most %d sessions of each %s in a group; a pause of more than 30 minutes ends one, and so does the end of a %s.", m.Name, m.Upper, per, p.Policy.Unit.Block))
		case dp.Sum:
			lines = append(lines, fmt.Sprintf("%s clamps the total of each %s in a group to %s..%s.", m.Name, per, rows.FormatDecimal(m.Lower, m.Scale), rows.FormatDecimal(m.Upper, m.Scale)))
		case dp.Mean, dp.Variance, dp.StdDev, dp.Quantile, dp.Min, dp.Max:
			line := fmt.Sprintf("%s clamps each row to %s..%s and reads at most %d rows of each %s in a group; its expected error is stated for the declared population spread over the public groups", m.Name, rows.FormatDecimal(m.Lower, m.Scale), rows.FormatDecimal(m.Upper, m.Scale), bound.Rows, per)
			if m.Aggregate != dp.Mean {
				line += ", with values spread evenly over the clamp"
			}
			switch m.Aggregate {
			case dp.Min:
				line += "; it is the quantile of rank " + minRank + ", not the smallest value, which would give its owner away"
			case dp.Max:
				line += "; it is the quantile of rank " + maxRank + ", not the largest value, which would give its owner away"
			}
			lines = append(lines, line+".")
		case dp.Ratio:
			of, by := p.Metrics[m.Parts[0]].Name, p.Metrics[m.Parts[1]].Name
			lines = append(lines, fmt.Sprintf("%s is read from %s and %s, which are answered and paid for beside it.", m.Name, of, by))
		case dp.Share:
			whole := "the groups"
			if p.GroupsMayBeHidden {
				whole = "the groups shown"
			}
			lines = append(lines, fmt.Sprintf("%s is the share of what %s add up to in %s, which is answered and paid for beside it.", m.Name, whole, p.Metrics[m.Parts[0]].Name))
		}
	}
	for _, m := range p.Metrics {
		if len(m.Tests) > 0 {
			lines = append(lines, fmt.Sprintf("%s reads only the rows that meet its own conditions, on %s; in which groups a customer counts is decided without them.", m.Name, namesOf(m.Tests)))
		}
		if m.Of != ValueRow {
			lines = append(lines, fmt.Sprintf("%s reads one number of each %s in a group.", m.Name, per))
		}
		if m.Last {
			lines = append(lines, fmt.Sprintf("%s reads the last known value of each %s in a group.", m.Name, per))
		}
	}
	if p.GroupsMayBeHidden {
		lines = append(lines, "Groups with few customers are left out.")
	}
	return lines
}

// namesOf lists the fields of tests.
func namesOf(tests []Test) string {
	var names []string
	for _, t := range tests {
		names = append(names, t.Name)
	}
	return strings.Join(names, ", ")
}

// difference and product stay at the largest number where they do not fit, for which dp/mechanism makes no noise: a
// bound that wrapped would be noised too little.
func difference(a, b int64) int64 {
	if b < 0 && a > math.MaxInt64+b {
		return math.MaxInt64
	}
	if b > 0 && a < math.MinInt64+b {
		return math.MinInt64
	}
	return a - b
}

// product is of numbers of which the first is positive.
func product(a, b int64) int64 {
	if b > math.MaxInt64/a {
		return math.MaxInt64
	}
	return a * max(b, 0)
}
